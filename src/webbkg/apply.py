"""A background onto the planes of a target: the one place where its pixels change.

Bands of rows in the byte order of this machine, whether they belong to a model in memory or go
from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.results import Background

Rows = npt.NDArray[Any]
Change = Callable[[Rows, int], None]
"""Changes rows (rows, columns) of a plane in place; takes them and the first one's number."""

INTEGRATIONS_A_BAND = 4


def changes(background: Background) -> dict[str, Change]:
    """Tell what becomes of the planes of a target, by their names; the others do not change.

    Where the background is unknown SCI becomes NaN, and DQ has DO_NOT_USE as the background's
    has. Where nothing was observed (not `covered`) the target stays as it is.

    Parameters
    ----------
    background : Background
        On the target's window.

    Returns
    -------
    dict of str to callable
        For SCI, and for DQ where the background has any flag.
    """
    everywhere = bool(background.covered.all())

    def where(start: int, stop: int) -> Any:
        return True if everywhere else background.covered[start:stop]

    def subtract(rows: Rows, start: int) -> None:
        stop = start + len(rows)
        np.subtract(rows, background.sci[start:stop], out=rows, where=where(start, stop))

    def flag(rows: Rows, start: int) -> None:
        stop = start + len(rows)
        np.bitwise_or(rows, background.dq[start:stop], out=rows, where=where(start, stop))

    return {"SCI": subtract, "DQ": flag} if background.dq.any() else {"SCI": subtract}


def apply(background: Background, planes: Mapping[str, npt.NDArray[Any]]) -> None:
    """Change the planes of a target in memory, in place.

    Parameters
    ----------
    background : Background
        On the target's window.
    planes : mapping of str to ([integrations,] rows, columns) ndarray
        SCI and DQ, writable.
    """
    for name, change in changes(background).items():
        plane = planes[name]
        cube = plane if plane.ndim == 3 else plane[np.newaxis]
        _change_all(cube, change)


def _change_all(cube: npt.NDArray[Any], change: Change) -> None:
    def work(start: int, stop: int) -> None:
        for image in cube[start:stop]:
            change(image, 0)

    bands = split(len(cube), INTEGRATIONS_A_BAND)
    over_bands(bands, lambda: work, threads=available_threads())
