"""When the integrations of an exposure were made: INT_TIMES, or what the headers lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.files import door
from webbkg.files.fits import checked_hdus, read_header
from webbkg.files.models import read_meta

Values = npt.NDArray[np.float64]

TABLE = "INT_TIMES"
NUMBER, MIDDLE = "integration_number", "int_mid_MJD_UTC"
"""Columns of INT_TIMES (JWST pipeline documentation, "Science products: INT_TIMES table")."""

_KEYWORDS = {
    "start": ("INTSTART", "meta.exposure.integration_start"),
    "groups": ("NGROUPS", "meta.exposure.ngroups"),
    "group_time": ("TGROUP", "meta.exposure.group_time"),
    "frame_time": ("TFRAME", "meta.exposure.frame_time"),
    "integration_time": ("EFFINTTM", "meta.exposure.integration_time"),
}


@dataclass(frozen=True)
class Clock:
    """What a product, or a segment of one, tells of the times of its integrations.

    Attributes
    ----------
    start : int or None
        Number of its first integration in the exposure, from 1.
    seconds : float or None
        From one integration to the next.
    table : (numbers, days) or None
        Of INT_TIMES: integrations, from 1, and their middles (MJD).
    """

    start: int | None = None
    seconds: float | None = None
    table: tuple[Values, Values] | None = None

    def days(self, integrations: int) -> Values | None:
        """Look the middles of its integrations up in its table; None if they are not there."""
        if self.table is None:
            return None
        numbers, middles = self.table
        if len(numbers) == integrations:
            return middles
        wanted = (self.start or 1) + np.arange(integrations)
        order = np.argsort(numbers, kind="stable")
        at = np.minimum(np.searchsorted(numbers[order], wanted), max(len(numbers) - 1, 0))
        found = len(numbers) > 0 and np.array_equal(numbers[order][at], wanted)
        return middles[order][at] if found else None


def read_clock(source: Any) -> Clock:
    """Read what a product tells of its times.

    Parameters
    ----------
    source : Path or data model
        A rate or rateints product.

    Raises
    ------
    InputError
        If a keyword is no number, or the file cannot be read.
    """
    if isinstance(source, Path):
        header, name = read_header(source), source.name
        told = {one: header.get(keyword) for one, (keyword, _) in _KEYWORDS.items()}
        table = _table_of_file(source)
    else:
        name = str(read_meta(source, "meta.filename") or f"<{type(source).__name__}>")
        told = {one: read_meta(source, path) for one, (_, path) in _KEYWORDS.items()}
        table = read_meta(source, "int_times")
    values = {one: door.as_number(value, name, _KEYWORDS[one][0]) for one, value in told.items()}
    start = values["start"]
    return Clock(
        start=None if start is None or not np.isfinite(start) else int(start),
        seconds=_seconds(values),
        table=_columns(table),
    )


def _seconds(values: dict[str, float | None]) -> float | None:
    """Tell how long an integration takes: its groups, and a frame for the reset."""
    groups, group_time = values["groups"], values["group_time"]
    if groups and group_time:
        seconds = groups * group_time + (values["frame_time"] or 0.0)
    else:
        seconds = values["integration_time"] or 0.0
    return seconds if np.isfinite(seconds) and seconds > 0 else None


def _table_of_file(path: Path) -> Any:
    from astropy.io import fits

    with (
        door.reading(path, f"its {TABLE} table cannot be read"),
        checked_hdus(path) as stream,
        fits.open(stream, memmap=False) as hdus,
    ):
        return np.array(hdus[TABLE].data) if TABLE in hdus else None


def _columns(table: Any) -> tuple[Values, Values] | None:
    """Take the two columns of a table; None if it has them not, or not as numbers."""
    names = getattr(getattr(table, "dtype", None), "names", None) or ()
    if NUMBER not in names or MIDDLE not in names:
        return None
    columns = np.ravel(table[NUMBER]), np.ravel(table[MIDDLE])
    if any(one.dtype.kind not in "iuf" for one in columns):
        return None
    return columns[0].astype(np.float64), columns[1].astype(np.float64)


def hours_of(clocks: Sequence[Clock], lengths: Sequence[int]) -> tuple[Values, str]:
    """Tell the hours of all integrations since the first one in time, and where they are from.

    Parameters
    ----------
    clocks : sequence of Clock
        Of the segments.
    lengths : sequence of int
        Integrations of each.

    Returns
    -------
    hours : (integrations,) float64
        Of the segments one after another; no two are the same.
    source : str
        ``INT_TIMES`` where all tables have finite and different times; ``integration time``:
        numbers of integrations times that; ``order``: the numbers themselves.
    """
    days = [clock.days(length) for clock, length in zip(clocks, lengths, strict=True)]
    known = [one for one in days if one is not None]
    if len(known) == len(days) and _differ(np.concatenate(known)):
        together = np.concatenate(known)
        return 24 * (together - together.min()), TABLE
    starts = [clock.start for clock in clocks]
    numbers = np.concatenate(
        [(start or 0) + np.arange(n) for start, n in zip(starts, lengths, strict=True)]
    ).astype(np.float64)
    if not _differ(numbers):
        numbers = np.arange(sum(lengths), dtype=np.float64)
    numbers -= numbers.min()
    seconds = next((clock.seconds for clock in clocks if clock.seconds), None)
    return (numbers, "order") if seconds is None else (numbers * seconds / 3600, "integration time")


def _differ(values: Values) -> bool:
    return bool(np.isfinite(values).all()) and len(np.unique(values)) == len(values)
