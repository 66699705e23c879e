"""Many targets on one page: a table to sort and to filter, with a small picture of each."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from webbkg.report import figures, png
from webbkg.report.content import Content
from webbkg.report.page import MODES, check_extra, fill
from webbkg.report.snapshot import Picture, Snapshot, sky_range
from webbkg.report.writing import write_page
from webbkg.results import FloatImage, Metric

INDEX_NAME = "webbkg_index.html"
"""Of the index of a run, in the folder of its products."""

SMALL, LEAST = 64, 20
"""Pixels of the longer and, of what is very long, of the shorter side of a small picture."""

SMALL_SHADES = 16


@dataclass(frozen=True, kw_only=True)
class Row:
    """What an index tells of a target; it pickles.

    Attributes
    ----------
    target : str
        Name of the exposure.
    status : str
        COMPLETE, SKIPPED, FAILED or ERROR; or why there is none.
    verdict : str
        good, look, bad; empty where nothing was measured.
    mode : str
        ``image``, ``wfss``, ``soss``; empty where that is not known.
    seen_with : str
        Instrument, detector and filters.
    left, share, scatter, chi2 : float
        Sky that is left (ERR; as a share of the background), how it scatters over ERR, chi²/dof;
        NaN where they are not known.
    reason : str
        Why the verdict or the status is what it is.
    page : Path or None
        Where more is told.
    picture : bytes
        A small PNG image; empty for none.
    """

    target: str
    status: str
    verdict: str = ""
    mode: str = ""
    seen_with: str = ""
    left: float = math.nan
    share: float = math.nan
    scatter: float = math.nan
    chi2: float = math.nan
    reason: str = ""
    page: Path | None = None
    picture: bytes = b""

    @classmethod
    def of(cls, content: Content, page: Path | None = None) -> Row:
        """Take from what a page tells what the index does."""
        metrics = {one.name: one for one in content.metrics}
        unknown = Metric(name="", value=math.nan)
        level = metrics.get("sky_level", unknown)
        told = [value for label, value in content.facts if label in ("instrument", "elements")]
        return cls(
            target=content.target,
            status=content.status,
            verdict=content.verdict,
            mode=content.mode,
            seen_with=", ".join(told),
            left=level.value,
            share=level.share,
            scatter=metrics.get("scatter", unknown).value,
            chi2=metrics.get("chi2_dof", unknown).value,
            reason="; ".join(filter(None, (content.reason, *content.reasons))),
            page=page,
            picture=b"" if content.snapshot is None else small_picture(content.snapshot),
        )


def small_picture(shot: Snapshot) -> bytes:
    """Draw the product, or the target where there is none, as a small PNG image."""
    from matplotlib import colormaps

    picture = shot.after or shot.before
    pixels = _reduced(picture)[::-1]
    low, high = sky_range([pixels])
    shade = (pixels - low) / (high - low) * SMALL_SHADES
    known = np.isfinite(shade)
    index = np.where(known, np.clip(shade, 0, SMALL_SHADES - 1), SMALL_SHADES).astype(np.uint8)
    colors = colormaps[figures.IMAGES](np.linspace(0, 1, SMALL_SHADES), bytes=True)
    return png.encode(index, np.vstack([colors, np.zeros((1, 4), np.uint8)]))


def _reduced(picture: Picture) -> FloatImage:
    """Average a picture into still fewer pixels; what is unknown is left out."""
    rows, columns = picture.shape
    longest = max(rows, columns)
    values = picture.pixels
    for axis, length in enumerate((rows, columns)):
        wanted = max(min(LEAST, length), SMALL * length // longest)
        starts = np.arange(0, values.shape[axis], max(1, -(-values.shape[axis] // wanted)))
        known = np.isfinite(values)
        total = np.add.reduceat(np.where(known, values, np.float32(0)), starts, axis=axis)
        number = np.add.reduceat(known.astype(np.float32), starts, axis=axis)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (total / number).astype(np.float32)
    return values


def write_index(rows: Iterable[Row], path: str | os.PathLike[str]) -> Path:
    """Write the index of many targets: one page that is complete in itself.

    Parameters
    ----------
    rows : iterable of Row
        In the order in which they are shown at first.
    path : path
        Of the index; links to the pages are relative to its folder.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    MissingExtraError
        Without Matplotlib and Jinja2.
    OutputError
        If it cannot be written, or the name is that of a file that is no page of ours.
    """
    check_extra()
    path = Path(path)
    write_page(render_index(list(rows), path.parent), path)
    return path


def render_index(rows: Sequence[Row], folder: Path) -> str:
    """Make the index, whose links are relative to a folder."""
    judged = Counter(row.verdict or row.status for row in rows)
    order = {"bad": 0, "look": 1, "good": 2}
    counts = sorted(judged.items(), key=lambda one: order.get(one[0], -1))
    return fill(
        "index.html",
        rows=[_Shown.of(row, folder) for row in rows],
        counts=counts,
        modes=[(mode, MODES[mode]) for mode in sorted({r.mode for r in rows}) if mode in MODES],
    )


@dataclass(frozen=True)
class _Shown:
    """A row as its template takes it."""

    row: Row
    judged: str
    rank: int
    link: str
    picture: str
    numbers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: Row, folder: Path) -> _Shown:
        judged = row.verdict or row.status
        ranks = ("good", "look", "bad")
        numbers = (
            (row.left, f"{row.left:+.2g}"),
            (100 * row.share, f"{100 * row.share:+.2g}"),
            (row.scatter, f"{row.scatter:.3g}"),
            (row.chi2, f"{row.chi2:.3g}"),
        )
        return cls(
            row=row,
            judged=judged,
            rank=ranks.index(judged) if judged in ranks else len(ranks),
            link="" if row.page is None else relative_link(row.page, folder),
            picture=png.as_uri(row.picture) if row.picture else "",
            numbers=tuple(
                (f"{value:.6g}", text) if math.isfinite(value) else ("", "")
                for value, text in numbers
            ),
        )


def relative_link(page: Path, folder: Path) -> str:
    """Write the way from a folder to a page as the reference of a link."""
    way = Path(os.path.relpath(page, folder)).as_posix()
    return "./" + quote(os.fsencode(way))
