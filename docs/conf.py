"""Sphinx configuration; the tables of parameters are made of the options themselves."""

from pathlib import Path

import webbkg
from webbkg import options
from webbkg.options import (
    ImageOptions,
    Options,
    RunOptions,
    SossOptions,
    TemplateOptions,
    WfssOptions,
)
from webbkg.report.limits import LIMITS

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

TABLES = {
    "run": RunOptions,
    "image": ImageOptions,
    "wfss": WfssOptions,
    "soss": SossOptions,
    "template": TemplateOptions,
}


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


def limits_table() -> str:
    """Write the limits of the metrics, and why they are where they are."""
    rows = ["| metric | look | bad | and, % of the background | why |", "| --- |" + " --- |" * 4]
    for name, one in LIMITS.items():
        sign = "below " if one.least else "above "
        shares = f"{100 * one.look_share:g}, {100 * one.bad_share:g}" if one.bad_share else ""
        ends = (f"{sign}{one.look:g}", f"{sign}{one.bad:g}") if one.look or one.bad else ("–",) * 2
        rows.append(f"| `{name}` | {ends[0]} | {ends[1]} | {shares} | {one.why} |")
    return "\n".join(rows) + "\n"


def setup(app):
    """Write a file for each mode, which the pages include."""
    folder = Path(app.srcdir) / "_tables"
    folder.mkdir(exist_ok=True)
    for name, kind in TABLES.items():
        (folder / f"{name}.md").write_text(table(kind))
    (folder / "limits.md").write_text(limits_table())
    (folder / "preset.md").write_text(preset_table())
