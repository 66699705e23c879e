"""Sources in the result: dark spots where a background has them, streaks where no mask has.

In blocks of 4 by 4 pixels of which the outermost row and column sums are left out, so that a hot
pixel or a cosmic ray makes no block stand out, and a star of two pixels' width does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import PlaneSource
from webbkg.report.sample import MAD_TO_SIGMA
from webbkg.results import Background, BoolImage, FloatImage

SIZE = 4
"""Pixels on a side of a block."""

BOX = 16
"""Blocks on a side of a box, of which the local level is the median."""

BAND = 64
"""Rows of a band: those of the blocks of a box."""

STRIP = 16
"""Blocks of a strip, in which light of traces is looked for."""

LIGHT = 5.0
"""How far a strip with light is above its surroundings (robust standard deviations)."""

BRIGHT = 6.0
"""How far a block of the background with a source is above its surroundings (robust standard
deviations)."""


def darkest_spot(planes: PlaneSource, background: Background) -> float:
    """Find the darkest compact spot of a result where its background is bright.

    Parameters
    ----------
    planes : PlaneSource
        SCI of the target, of which one integration, that in the middle, is looked at.
    background : Background
        What is subtracted; only its `sci` matters.

    Returns
    -------
    float
        How far a block, and one beside it, are both below their surroundings, in robust standard
        deviations of blocks; 0 if there is none. A cosmic ray seldom fills two.
    """
    number, rows, columns = planes.shape
    if rows < SIZE or columns < SIZE:
        return 0.0
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
        return 0.0
    depth = np.where(peaks, -_stand_out(left), 0)
    pairs = [
        np.minimum(depth[:-1], depth[1:]),
        np.minimum(depth[:, :-1], depth[:, 1:]),
        np.minimum(depth[:-1, :-1], depth[1:, 1:]),
        np.minimum(depth[1:, :-1], depth[:-1, 1:]),
    ]
    return float(max(0.0, *(pair.max(initial=0.0) for pair in pairs)))


def lit_share(
    planes: PlaneSource, background: Background, sky_mask: BoolImage
) -> tuple[float, float]:
    """Tell which share of the sky has streaks of light, less that with dark ones.

    Traces are long and narrow: blocks are averaged in strips along the rows, and along the
    columns, and the larger share of the two is told.

    Parameters
    ----------
    planes : PlaneSource
        SCI of the target.
    background : Background
        What is subtracted.
    sky_mask : (rows, columns) bool ndarray
        True where sky.

    Returns
    -------
    share, error : float
        The error is that of counting.
    """
    _, rows, columns = planes.shape
    blocks = rows // SIZE, columns // SIZE
    if min(blocks) < STRIP:
        return 0.0, 0.0
    left = np.empty(blocks, np.float32)

    def make_worker() -> Callable[[int, int], None]:
        room = np.empty((1, BAND, columns), np.uint32)

        def work(start: int, stop: int) -> None:
            (sci,) = planes.rows(["SCI"], 0, start, stop, room[:, : stop - start])
            with np.errstate(invalid="ignore", over="ignore"):
                residual = sci - background.sci[start:stop]
                residual[~sky_mask[start:stop]] = np.nan
                left[start // SIZE : stop // SIZE] = _blocks(residual, np.minimum, np.maximum)

        return work

    over_bands(split(blocks[0] * SIZE, BAND), make_worker, threads=available_threads())
    return max(_streaks(left), _streaks(np.ascontiguousarray(left.T)))


def _streaks(blocks: FloatImage) -> tuple[float, float]:
    """Average blocks in strips along a row; tell the share that stands out in light."""
    number = blocks.shape[1] // STRIP
    strips = blocks[:, : number * STRIP].reshape(len(blocks), number, STRIP)
    known = np.isfinite(strips)
    count = known.sum(axis=2)
    enough = count >= STRIP // 4
    mean = np.where(known, strips, 0).sum(axis=2) / np.maximum(count, 1)
    # A mean of fewer blocks scatters more.
    away = _stand_out(np.where(enough, mean, np.nan).astype(np.float32))
    away = away * np.sqrt(count / STRIP)
    total = max(int(np.count_nonzero(enough)), 1)
    above, below = np.count_nonzero(away > LIGHT), np.count_nonzero(away < -LIGHT)
    return (above - below) / total, math.sqrt(above + below) / total


def _blocks(values: FloatImage, *extremes: np.ufunc) -> FloatImage:
    """Sum blocks up without their outermost row and column; NaN where a pixel is.

    `extremes` tell which are outermost: `np.minimum`, `np.maximum`, or both.
    """
    number, columns = len(values) // SIZE, values.shape[1] // SIZE * SIZE
    for_rows = values[:, :columns].reshape(number, SIZE, columns)
    with np.errstate(invalid="ignore", over="ignore"):
        total = for_rows.sum(axis=1)
        for extreme in extremes:
            total -= extreme.reduce(for_rows, axis=1)
        parts = [total[:, i::SIZE] for i in range(SIZE)]
        summed: FloatImage = sum(parts)
        for extreme in extremes:
            summed = summed - extreme(extreme(*parts[:2]), extreme(*parts[2:]))
    return summed


def _stand_out(blocks: FloatImage) -> npt.NDArray[np.floating]:
    """Tell by how many standard deviations each block is above its surroundings; NaN is none."""
    rows, columns = blocks.shape
    high, wide = -(-rows // BOX), -(-columns // BOX)
    padded = np.full((high * BOX, wide * BOX), np.nan, np.float32)
    padded[:rows, :columns] = np.where(np.isfinite(blocks), blocks, np.nan)
    boxes = padded.reshape(high, BOX, wide, BOX).swapaxes(1, 2).reshape(high, wide, BOX**2)
    number = np.isfinite(boxes).sum(axis=2, keepdims=True)
    middle = np.maximum(number - 1, 0) // 2
    level = np.take_along_axis(np.sort(boxes, axis=2), middle, axis=2)  # NaN comes last
    out = (boxes - level).reshape(high, wide, BOX, BOX).swapaxes(1, 2).reshape(padded.shape)
    out = out[:rows, :columns]
    usable = out[np.isfinite(out)]
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(usable))) if usable.size else 0.0
    with np.errstate(invalid="ignore"):
        found = out / np.float32(sigma) if sigma > 0 else np.zeros_like(out)
    return np.where(np.isfinite(found), found, np.float32(0))
