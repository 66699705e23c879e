"""Sphinx configuration."""

import webbkg

project = "webbkg"
author = "The webbkg developers"
copyright = "2026, The webbkg developers"
release = version = webbkg.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_title = f"webbkg {release}"
numpydoc_show_class_members = False
autodoc_typehints = "none"
myst_heading_anchors = 3
