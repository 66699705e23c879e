"""One page a target: HTML that opens from disk, fetches nothing and runs nothing.

All text is escaped where it enters the page; and the page itself tells the browser, by the digest of
its style, what it may use (Content Security Policy, https://www.w3.org/TR/CSP3/).
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from webbkg import __version__
from webbkg.errors import MissingExtraError
from webbkg.report import pictures
from webbkg.report.content import Content
from webbkg.report.drawing import Drawn
from webbkg.report.limits import Limit
from webbkg.report.tables import as_number, leaves
from webbkg.results import Metric

if TYPE_CHECKING:
    from jinja2 import Environment

GENERATOR = "webbkg report"
"""What a page says that it was made by; only such a page may be written over."""

LONGEST = 2000
"""Characters of a value in a table; what is longer is cut."""

MODES = {
    "image": "Image from image",
    "wfss": "Grism sky",
    "soss": "NIRISS SOSS",
    "": "The background",
}


def check_extra() -> None:
    """Make sure that what reports are made with is installed, before any work is done.

    Raises
    ------
    MissingExtraError
        Naming what is missing, and how to get it.
    """
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"a report needs {' and '.join(missing)}: pip install 'webbkg[report]', or leave out "
            "save_report"
        )


def render(content: Content) -> str:
    """Make the page of a target.

    Parameters
    ----------
    content : Content
        What it tells.

    Returns
    -------
    str
        HTML, to be written as UTF-8.

    Raises
    ------
    MissingExtraError
        Without Matplotlib and Jinja2.
    """
    check_extra()
    sections = [
        Section("Before and after", tuple(pictures.planes(content))),
        Section("What is left of the sky", tuple(pictures.left(content))),
        Section(MODES.get(content.mode, ""), tuple(pictures.of_mode(content))),
    ]
    return fill(
        "page.html",
        content=content,
        sections=[one for one in sections if one.drawn],
        metrics=tuple(_metric_row(one, content.limits[one.name]) for one in content.metrics),
        metrics_drawn=tuple(pictures.metrics(content)),
        tiles=tuple(_tiles(content)),
        numbers=tuple(_numbers(content)),
    )


@dataclass(frozen=True)
class Section:
    """A part of a page: a title and its pictures."""

    title: str
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True)
class MetricRow:
    """What a page tells of a metric."""

    name: str
    value: str
    share: str
    limits: str
    grade: str
    why: str


def _metric_row(one: Metric, limit: Limit) -> MetricRow:
    error = f" ± {one.error:.2g}" if one.error else ""
    sign = "below" if limit.least else "above"
    return MetricRow(
        name=one.name.replace("_", " "),
        value=f"{one.value:.3g}{error} {one.unit}".rstrip(),
        share="" if math.isnan(one.share) else f"{100 * one.share:+.2g} %",
        limits=f"{sign} {limit.look:g}, {limit.bad:g}",
        grade=str(one.grade),
        why=limit.why,
    )


def _tiles(content: Content) -> Iterator[tuple[str, str]]:
    """Tell the numbers that one looks for first."""
    told, unit = content.told, content.unit
    background, level = content.measured("background"), content.measured("level")
    if not math.isnan(background):
        yield "background", f"{background:.4g} {unit}".rstrip()
        yield "sky left", f"{level:+.3g} {unit}".rstrip()
    if content.mode == "wfss" and "scale" in told:
        yield "scale", _scale(told)
    for side in ("left", "right"):
        if isinstance(told.get(side), dict):
            yield f"scale, {side}", _scale(told[side])
    if content.mode == "soss" and told.get("template") is not None:
        yield "template", str(told["template"])
    if content.mode == "image":
        yield "exposures averaged", str(len(told.get("backgrounds", ())))


def _scale(told: Any) -> str:
    return f"{as_number(told['scale']):.5g} ± {as_number(told.get('scale_err')):.1g}"


def _numbers(content: Content) -> Iterator[tuple[str, str]]:
    """Give all numbers that a product tells, but for the metrics, which have a table."""
    told = {name: value for name, value in content.told.items() if name != "metrics"}
    for label, value in leaves(told):
        yield label, value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


# From templates to HTML.


def fill(template: str, **values: Any) -> str:
    """Fill a template; style and script stand in the page, and their digests in its policy."""
    style = _text("page.css")
    script = _text("index.js") if template == "index.html" else ""
    allowed = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'"}
    allowed |= {"form-action": "'none'", "style-src": _digest(style)}
    if script:
        allowed["script-src"] = _digest(script)
    policy = "; ".join(f"{name} {source}" for name, source in allowed.items())
    return (
        _environment()
        .get_template(template)
        .render(
            style=style,
            script=script,
            policy=policy,
            generator=f"{GENERATOR} {__version__}",
            **values,
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("webbkg.report"),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _printable(value: Any) -> Any:
    """Write out what no page shows: control characters, and bytes of names that are no text."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in value)


def _text(name: str) -> str:
    return files("webbkg.report").joinpath("templates", name).read_text("utf-8").strip()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def is_own_page(start: bytes) -> bool:
    """Tell by its first kilobyte whether a file is a page of ours."""
    return f'name="generator" content="{GENERATOR}'.encode() in start
