"""Sources in the result: dark spots where a background has them, streaks where no mask has.

In blocks of 4 by 4 pixels of which the outermost row and column sums are left out, so that a hot
pixel or a cosmic ray makes no block stand out, and a star of two pixels' width does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import PlaneSource
from webbkg.report.sample import scatter_about
from webbkg.results import Background, BoolImage, FloatImage

SIZE = 4
"""Pixels on a side of a block."""

BOX = 16
"""Blocks on a side of a box, of which the local level is the median."""

BAND = 64
"""Rows of a band, which stays in the cache of a processor."""

STRIP = 16
"""Blocks of a strip, in which light of traces is looked for."""

LIGHT = 5.0
"""How far a strip with light is above its surroundings (robust standard deviations)."""

BRIGHT = 6.0
"""How far a block of the background with a source is above its surroundings (robust standard
deviations)."""


def darkest_spot(planes: PlaneSource, background: Background, bright: BoolImage) -> float:
    """Find the darkest compact spot of a result where its background is bright.

    Parameters
    ----------
    planes : PlaneSource
        SCI of the target, of which one integration, that in the middle, is looked at; it is not
        read where nothing is bright.
    background : Background
        What is subtracted; only its `sci` matters.
    bright : (blocks high, blocks wide) bool ndarray
        Its `bright_blocks`.

    Returns
    -------
    float
        How far a block, and one beside it, are both below their surroundings, in robust standard
        deviations of blocks; 0 if there is none. A cosmic ray seldom fills two.
    """
    if not _of_pairs(bright):
        return 0.0
    number, _, columns = planes.shape
    left = np.empty(bright.shape, np.float32)

    def make_worker() -> Callable[[int, int], None]:
        take_off, sum_up = _Difference(planes, background, number // 2), _Blocks(columns)

        def work(start: int, stop: int) -> None:
            sum_up(take_off(start, stop), left[start // SIZE : stop // SIZE], np.minimum)

        return work

    _over_blocks(left, make_worker)
    depth = np.zeros_like(left)
    depth[bright] = np.fmax(-_stand_out(left)[bright], 0)
    return float(_of_pairs(depth))


def bright_blocks(background: Background) -> BoolImage:
    """Tell in which blocks the `sci` of a background stands out: (blocks high, blocks wide)."""
    rows, columns = background.sci.shape
    blocks = np.empty((rows // SIZE, columns // SIZE), np.float32)

    def make_worker() -> Callable[[int, int], None]:
        sum_up = _Blocks(columns)

        def work(start: int, stop: int) -> None:
            here = blocks[start // SIZE : stop // SIZE]
            sum_up(background.sci[start:stop], here, np.maximum)

        return work

    _over_blocks(blocks, make_worker)
    return _stand_out(blocks) > BRIGHT


def _over_blocks(blocks: FloatImage, make_worker: Callable[[], Callable[[int, int], None]]) -> None:
    """Let workers fill blocks from bands of rows."""
    if blocks.size:
        over_bands(split(len(blocks) * SIZE, BAND), make_worker, threads=available_threads())


def _of_pairs(values: npt.NDArray[Any]) -> Any:
    """Find the largest value, at least 0, that a block and one beside it both reach."""
    pairs = [
        np.minimum(values[:-1], values[1:]),
        np.minimum(values[:, :-1], values[:, 1:]),
        np.minimum(values[:-1, :-1], values[1:, 1:]),
        np.minimum(values[1:, :-1], values[:-1, 1:]),
    ]
    return max(pair.max(initial=0) for pair in pairs)


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
        take_off, sum_up = _Difference(planes, background, 0), _Blocks(columns)

        def work(start: int, stop: int) -> None:
            residual = take_off(start, stop)
            residual[~sky_mask[start:stop]] = np.nan
            sum_up(residual, left[start // SIZE : stop // SIZE], np.minimum, np.maximum)

        return work

    _over_blocks(left, make_worker)
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


class _Difference:
    """Takes the background off bands of a target, in memory of its own."""

    def __init__(self, planes: PlaneSource, background: Background, integration: int) -> None:
        self._planes, self._background, self._integration = planes, background, integration
        self._room = np.empty((1, BAND, planes.shape[2]), np.uint32)

    def __call__(self, start: int, stop: int) -> FloatImage:
        """Return rows of the result, which hold until the next are asked for."""
        room = self._room[:, : stop - start]
        (sci,) = self._planes.rows(["SCI"], self._integration, start, stop, room)
        found: FloatImage = room[0].view(np.float32)  # SCI may be there already
        with np.errstate(invalid="ignore", over="ignore"):
            np.subtract(sci, self._background.sci[start:stop], out=found)
        return found


class _Blocks:
    """Sums blocks up without their outermost row and column, in memory of its own."""

    def __init__(self, columns: int) -> None:
        self._wide = columns // SIZE
        self._rows = np.empty((2, BAND // SIZE, self._wide * SIZE), np.float32)
        self._columns = np.empty((BAND // SIZE, SIZE, self._wide), np.float32)
        self._found = np.empty((BAND // SIZE, self._wide), np.float32)

    def __call__(self, values: FloatImage, out: FloatImage, *extremes: np.ufunc) -> None:
        """Put the blocks of a band into `out`; NaN where a pixel is.

        `extremes` tell which are outermost: `np.minimum`, `np.maximum`, or both.
        """
        high = len(out)
        total, found = self._rows[:, :high]
        columns = self._columns[:high]
        _trim(values[:, : self._wide * SIZE].reshape(high, SIZE, -1), extremes, total, found)
        columns[...] = total.reshape(high, self._wide, SIZE).swapaxes(1, 2)
        _trim(columns, extremes, out, self._found[:high])


def _trim(
    values: FloatImage, extremes: tuple[np.ufunc, ...], total: FloatImage, found: FloatImage
) -> None:
    """Put sums of (n, SIZE, m) values, without their extremes, into `total`; `found` is overwritten."""
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.reduce(values, axis=1, out=total)
        for extreme in extremes:
            extreme.reduce(values, axis=1, out=found)
            total -= found


def _stand_out(blocks: FloatImage) -> FloatImage:
    """Tell by how many standard deviations each block is above its surroundings; NaN of no block."""
    boxes = _boxes(blocks)
    boxes[np.isinf(boxes)] = np.nan
    unknown = np.isnan(boxes)
    number = BOX**2 - unknown.sum(axis=2, keepdims=True, dtype=np.uint16).astype(np.int_)
    middle = np.maximum(number - 1, 0) // 2
    boxes -= np.take_along_axis(np.sort(boxes, axis=2), middle, axis=2)  # NaN comes last
    sigma = scatter_about(0.0, boxes[~unknown])
    if sigma > 0:
        boxes /= np.float32(sigma)
    else:
        boxes[...] = 0
    return _image(boxes, blocks.shape)


def _boxes(blocks: FloatImage) -> FloatImage:
    """Put the blocks of each box side by side: (high, wide, BOX**2), NaN where there is none."""
    rows, columns = blocks.shape
    high, wide = -(-rows // BOX), -(-columns // BOX)
    padded = np.full((high * BOX, wide * BOX), np.nan, np.float32)
    padded[:rows, :columns] = blocks
    return padded.reshape(high, BOX, wide, BOX).swapaxes(1, 2).reshape(high, wide, BOX**2)


def _image(boxes: FloatImage, shape: tuple[int, ...]) -> FloatImage:
    """Undo `_boxes`."""
    high, wide, _ = boxes.shape
    whole = boxes.reshape(high, wide, BOX, BOX).swapaxes(1, 2).reshape(high * BOX, wide * BOX)
    return whole[: shape[0], : shape[1]]
