"""Sphinx configuration; the tables of parameters are made of the options themselves."""

from pathlib import Path

import webbkg
from webbkg import options
from webbkg.options import ImageOptions, Options, RunOptions, SossOptions, WfssOptions

project = "webbkg"
author = "The webbkg developers"
copyright = "2026, The webbkg developers"
release = version = webbkg.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "_tables"]
html_theme = "alabaster"
html_title = f"webbkg {release}"
numpydoc_show_class_members = False
autodoc_typehints = "none"
myst_heading_anchors = 3

TABLES = {"run": RunOptions, "image": ImageOptions, "wfss": WfssOptions, "soss": SossOptions}


def table(kind: type[Options]) -> str:
    """Write the parameters of a mode as a table."""
    rows = ["| name | default | meaning |", "| --- | --- | --- |"]
    for one in kind.parameters().values():
        default = one.stands_for if one.presets else one.default
        rows.append(f"| `{one.name}` | {default} | {one.text} |")
    return "\n".join(rows) + "\n"


def preset_table() -> str:
    """Write what the presets set, mode by mode."""
    rows = ["| mode | parameter | default | `robust` |", "| --- | --- | --- | --- |"]
    for one in options.parameters().values():
        if one.presets:
            rows.append(
                f"| {one.mode} | `{one.name}` | {one.stands_for} | {one.presets['robust']} |"
            )
    return "\n".join(rows) + "\n"


def setup(app):
    """Write a file for each mode, which the pages include."""
    folder = Path(app.srcdir) / "_tables"
    folder.mkdir(exist_ok=True)
    for name, kind in TABLES.items():
        (folder / f"{name}.md").write_text(table(kind))
    (folder / "preset.md").write_text(preset_table())
