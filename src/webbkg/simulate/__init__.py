"""Realistic JWST exposures with the truth beside them, for the demo, the tests and benchmarks.

A module a mode (`webbkg.simulate.imaging`), what the modes share in `detector`, `sources` and
`products`, and the demonstration in `demo`. Nothing is imported here.
"""
