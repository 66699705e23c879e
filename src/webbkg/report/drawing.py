"""Pictures as they stand in a page: SVG without styles of its own, whose ink is the page's.

A page says which styles it has by their digest and allows no others, so that Matplotlib's become
attributes; and its ink turns light in the dark.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from webbkg.report import figures, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#10203a"
"""Stands for the page's ink while Matplotlib draws; no data have this colour."""

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.4,
    "image.composite_image": False,  # else images are resampled into one
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.usetex": False,
    "font.family": "sans-serif",
    "axes.grid": False,
}

_DRAWING = Lock()
"""Matplotlib's settings, which hold for a process, are ours while one picture is drawn."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture in a page.

    Attributes
    ----------
    svg : str
        Safe to stand in HTML: what comes of files is escaped in it.
    caption, alt : str
        What it shows; and the same for who does not see it, with its numbers.
    wide : bool
        Whether it needs the room of two.
    """

    svg: str
    caption: str
    alt: str
    wide: bool = False


def draw(draw_into: Callable[[Axes], Any], size: tuple[float, float], name: str) -> str:
    """Draw into an Axes of a new figure; give it as SVG for a page.

    Parameters
    ----------
    draw_into : callable
        Takes the Axes.
    size : tuple of float
        Width and height (inches).
    name : str
        No other picture of the page has this one; identifiers are made of it.
    """
    import matplotlib

    written = io.StringIO()
    settings: Any = {**STYLE, "svg.hashsalt": name}
    with _DRAWING, matplotlib.rc_context(settings):
        axes = figures.new_axes(size)
        draw_into(axes)
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _for_page(written.getvalue())


_TAG = re.compile(r"<[^<>]+>")
_ATTRIBUTE = re.compile(r'\bstyle="([^"]*)"')
_NUMBERED = re.compile(r' id="[A-Za-z]+[A-Za-z0-9.]*_\d+"')
_SIZE = re.compile(r'(<svg [^>]*?) width="[^"]*"|(<svg [^>]*?) height="[^"]*"')
_IMAGE = re.compile(r'"data:image/png;base64,([^"]*)"')


def _for_page(svg: str) -> str:
    """Leave out what only a file needs, and styles that a strict page refuses."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.S)
    svg = _IMAGE.sub(_smaller, svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = _TAG.sub(lambda met: _without_style(met[0]), svg)
    head, end, rest = svg.partition(">")
    head = re.sub(r' (?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", head)
    return f'{head} aria-hidden="true"{end}{rest}'.replace(INK, "currentColor")


def _smaller(met: re.Match[str]) -> str:
    image = base64.b64decode(met[1])
    return f'"{png.as_uri(png.with_palette(image))}"'


def _without_style(tag: str) -> str:
    """Make attributes of a tag's style; those that are none in SVG are dropped."""
    return _ATTRIBUTE.sub(_attributes, _NUMBERED.sub("", tag))


def _attributes(met: re.Match[str]) -> str:
    told = []
    for one in met[1].split(";"):
        name, _, value = (part.strip() for part in one.partition(":"))
        if name == "font":  # such as: 9px 'DejaVu Sans', sans-serif
            size = re.search(r"[\d.]+px", value)
            told += [f'font-size="{size[0]}"'] if size else []
        elif name and name not in ("font-family", "image-rendering"):
            told.append(f'{name}="{value}"')
    return " ".join(told)
