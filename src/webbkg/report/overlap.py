"""Sources that a background has and its target has not: compact dark spots in the result.

In blocks of 4 by 4 pixels of which the outermost row and column sums are left out, so that a hot
pixel or a cosmic ray makes no block stand out, and a star of two pixels' width does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import PlaneSource
from webbkg.report.sample import MAD_TO_SIGMA
from webbkg.results import Background, FloatImage

SIZE = 4
"""Pixels on a side of a block."""

BOX = 16
"""Blocks on a side of a box, of which the local level is the median."""

BAND = 64
"""Rows of a band: those of the blocks of a box."""

BRIGHT, DARK = 6.0, 5.0
"""How far a block of the background is above its surroundings, and one of the result below (robust
standard deviations)."""


def overlapping_pixels(planes: PlaneSource, background: Background) -> int:
    """Count the pixels in compact dark spots of a result where its background is bright.

    Parameters
    ----------
    planes : PlaneSource
        SCI of the target, of which one integration, that in the middle, is looked at.
    background : Background
        What is subtracted; only its `sci` matters.
    """
    number, rows, columns = planes.shape
    if rows < SIZE or columns < SIZE:
        return 0
    blocks = rows // SIZE, columns // SIZE
    bright, left = np.empty(blocks, np.float32), np.empty(blocks, np.float32)

    def make_worker() -> Callable[[int, int], None]:
        room = np.empty((1, BAND, columns), np.uint32)

        def work(start: int, stop: int) -> None:
            sky = background.sci[start:stop]
            (sci,) = planes.rows(["SCI"], number // 2, start, stop, room[:, : stop - start])
            here = slice(start // SIZE, stop // SIZE)
            bright[here] = _blocks(sky, np.maximum)
            with np.errstate(invalid="ignore", over="ignore"):
                left[here] = _blocks(sci - sky, np.minimum)

        return work

    over_bands(split(blocks[0] * SIZE, BAND), make_worker, threads=available_threads())
    peaks = _stand_out(bright) > BRIGHT
    if not peaks.any():
        return 0
    return int(np.count_nonzero(peaks & (_stand_out(left) < -DARK))) * SIZE**2


def _blocks(values: FloatImage, extreme: np.ufunc) -> FloatImage:
    """Sum blocks up without their outermost row and column; NaN where a pixel is."""
    number, columns = len(values) // SIZE, values.shape[1] // SIZE * SIZE
    for_rows = values[:, :columns].reshape(number, SIZE, columns)
    with np.errstate(invalid="ignore", over="ignore"):
        total = for_rows.sum(axis=1) - extreme.reduce(for_rows, axis=1)
        for_columns = [total[:, i::SIZE] for i in range(SIZE)]
        most = extreme(extreme(*for_columns[:2]), extreme(*for_columns[2:]))
        summed: FloatImage = sum(for_columns) - most
    return summed


def _stand_out(blocks: FloatImage) -> npt.NDArray[np.floating]:
    """Tell by how many standard deviations each block is above its surroundings; NaN is none."""
    out = np.zeros(blocks.shape, np.float32)
    for top in range(0, blocks.shape[0], BOX):
        for left in range(0, blocks.shape[1], BOX):
            box = blocks[top : top + BOX, left : left + BOX]
            known = box[np.isfinite(box)]
            if known.size:
                out[top : top + BOX, left : left + BOX] = box - np.median(known)
    usable = out[np.isfinite(out)]
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(usable))) if usable.size else 0.0
    with np.errstate(invalid="ignore"):
        found = out / np.float32(sigma) if sigma > 0 else np.zeros_like(out)
    return np.where(np.isfinite(found), found, np.float32(0))
