"""NIRISS SOSS: the best of a library of sky templates, scaled on the two sides of its step."""
