"""Benchmarks of webbkg against the jwst package, side by side: ``make bench``."""
