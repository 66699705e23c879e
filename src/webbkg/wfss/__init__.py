"""Grism skies: a reference sky, scaled to the source-free pixels."""
