"""Templates of the user's own, scaled to an image whose sources are found in it."""
