"""Sphinx configuration; tables.py makes tables of the code, signatures.py what the API shows."""

import os
import sys
from pathlib import Path

from docutils import nodes
from numpydoc import xref

import webbkg
from webbkg import errors

sys.path.insert(0, str(Path(__file__).parent))
import signatures
import tables

project = "webbkg"
author = "The webbkg developers"
copyright = "2026, The webbkg developers"
release = version = webbkg.__version__
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_tables", "_templates"]

html_theme = "pydata_sphinx_theme"
html_title = f"webbkg {release}"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["webbkg.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "webbkg"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "install": []}
copybutton_exclude = ".linenos, .gp, .go"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Tutorials meet the command that is beside this interpreter, no CRDS, and an empty cache of headers.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["WEBBKG_CACHE_DIR"] = str(Path(__file__).parent / "_build" / "cache")
for name in [name for name in os.environ if name.startswith("CRDS_")]:
    del os.environ[name]
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autosummary_generate = True
suppress_warnings = ["config.cache"]  # autosummary_context holds a function
autosummary_context = {"members_of": signatures.members_of}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
maximum_signature_line_length = 72
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # of types, webbkg's own alone are linked: others need a network
numpydoc_xref_aliases = {
    **{name: f"webbkg.errors.{name}" for name in vars(errors) if name.endswith("Error")},
    **signatures.classes_in(Path(__file__).parent / "api.md"),
}
xref.DEFAULT_LINKS.clear()


def keep_errors(app, tree):
    """Keep a number and its error on one line of a table."""
    for entry in tree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(text.replace(" ± ", "\u00a0±\u00a0")))


def setup(app):
    """Write the tables that the pages include, and take the signatures in hand."""
    tables.write(Path(app.srcdir) / "_tables")
    app.connect("autodoc-process-signature", signatures.give)
    app.connect("doctree-read", keep_errors)
