"""The demonstration as a page: what is right, what the prescribed methods get wrong, what robust does.

Each set is a chapter: the target, how far the background that was subtracted is from the true sky by both
ways, and their numbers against the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from webbkg.files.naming import plain_ascii
from webbkg.report import figures
from webbkg.report.drawing import Drawn, draw
from webbkg.report.index import relative_link
from webbkg.report.page import fill
from webbkg.report.pictures import PLANE, STRIP
from webbkg.report.snapshot import Picture, sky_range
from webbkg.report.writing import write_page

STORY_NAME = "demo.html"
"""Of the page, in the folder of the demonstration."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of subtracting a set.

    Attributes
    ----------
    name : str
        What it is called: prescribed, robust.
    verdict : str
        That of its metrics, which do not know the truth.
    numbers : tuple of (str, str)
        Against the truth, the same labels in all ways.
    error : Picture
        The background that was subtracted less the true sky.
    page : Path or None
        Its report.
    """

    name: str
    verdict: str
    numbers: tuple[tuple[str, str], ...]
    error: Picture
    page: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A set of the demonstration.

    Attributes
    ----------
    title, text : str
        What was simulated, and what there is to see.
    before : Picture
        The target.
    unit : str
        Of the pictures.
    ways : tuple of Way
        How it was subtracted.
    """

    title: str
    text: str
    before: Picture
    unit: str
    ways: tuple[Way, ...]

    @property
    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """The numbers of all ways, by their label."""
        labels = dict.fromkeys(label for way in self.ways for label, _ in way.numbers)
        told = [dict(way.numbers) for way in self.ways]
        return ((label, [one.get(label, "") for one in told]) for label in labels)


def write_story(chapters: Iterable[Chapter], folder: Path, note: str) -> Path:
    """Write the page of the demonstration.

    Parameters
    ----------
    chapters : iterable of Chapter
        In their order.
    folder : Path
        Where to; the links to reports are relative to it.
    note : str
        What the page says last.

    Raises
    ------
    MissingExtraError
        Without Matplotlib and Jinja2.
    OutputError
        If it cannot be written.
    """
    told = [
        {
            "title": chapter.title,
            "text": chapter.text,
            "drawn": tuple(_pictures(chapter, f"c{number}")),
            "ways": [
                (way.name, way.verdict, way.page and relative_link(way.page, folder))
                for way in chapter.ways
            ],
            "rows": list(chapter.rows),
        }
        for number, chapter in enumerate(chapters)
    ]
    path = folder / STORY_NAME
    write_page(fill("demo.html", chapters=told, note=note), path)
    return path


def _pictures(chapter: Chapter, name: str) -> Iterator[Drawn]:
    yield _picture(
        f"{name}-before",
        chapter.before,
        sky_range([chapter.before.pixels]),
        chapter.unit,
        figures.IMAGES,
        "The target",
    )
    far = max(_far(way.error) for way in chapter.ways)
    for way in chapter.ways:
        caption = f"{way.name.capitalize()}: what was subtracted less the true sky"
        yield _picture(
            f"{name}-{way.name}", way.error, (-far, far), chapter.unit, figures.RESIDUALS, caption
        )


def _far(error: Picture) -> float:
    """Tell how far a stretch must go to show nearly all of an error, of either sign."""
    known = np.abs(error.pixels[np.isfinite(error.pixels)])
    return float(np.percentile(known, 99)) if known.size and known.any() else math.ulp(1.0)


def _picture(
    name: str,
    picture: Picture,
    stretch: tuple[float, float],
    unit: str,
    colors: str,
    caption: str,
) -> Drawn:
    into = partial(
        figures.draw_image,
        picture=picture,
        stretch=stretch,
        unit=plain_ascii(unit),
        colors=colors,
    )
    long = picture.shape[1] > 3 * picture.shape[0]
    alt = f"{caption}; colours {stretch[0]:.3g} to {stretch[1]:.3g} {unit}."
    svg = draw(into, STRIP if long else PLANE, name)
    return Drawn(svg=svg, caption=caption, alt=alt, wide=long)
