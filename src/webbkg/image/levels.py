"""The sky levels of exposures, and what brings them together.

Sky is compared in blocks of pixels that exposures have in common: the mean of a block knows its
level eight times as well as a pixel, so that what a faint source adds stands out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbkg.image.sampling import bin_rows, new_room
from webbkg.numerics.parallel import available_threads, over_bands
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed
from webbkg.results import Background, FloatImage

Values = npt.NDArray[np.float64]

OFFSET, SCALE = "offset", "scale"

BLOCK_SIZES = (8, 4, 2)
"""Pixels on a side of a block; the first with `ENOUGH_BLOCKS` in the window is taken, else 1."""

ENOUGH_BLOCKS = 256

MOST_BLOCK_ROWS = 32
"""Rows of blocks that are looked at, evenly over the window: 8,000 blocks of a whole detector tell
its level to 0.003 of a pixel's noise."""

MOST_INTEGRATIONS = 4
"""Integrations of a cube that are looked at, evenly."""

NEIGHBOURS = 6
"""Exposures are compared with so many of those after them, in a ring: up to 13 each with each."""

SIGNAL = 3.0
"""A sky that is to be scaled is so many times as bright as its blocks scatter: most pixels of a
spectrum see none, and the ratio of their noise says nothing."""

CLIP, CLIP_ROUNDS = 2.5, 5

NORMAL_HALF = 0.6744897501960817
"""Half of the normal distribution lies within so many standard deviations of its mean."""


def sky_location(values: npt.ArrayLike) -> float:
    """Find where most values lie, though nearly half be far off on one side.

    Half of the values lie in the shortest interval that holds half (the shorth: Rousseeuw & Leroy
    1988, Statistica Neerlandica 42, 103). From its middle and width (as of a normal distribution)
    on, values within 2.5 standard deviations are averaged, and the standard deviation is kept,
    until the mean stays.

    Parameters
    ----------
    values : (n,) array_like of float
        NaN and infinities are left out.

    Returns
    -------
    float
        NaN where there is none.

    Examples
    --------
    >>> round(sky_location([1.0, 1.1, 0.9, 1.0, 7.0, 9.0, 25.0]), 3)
    1.0
    """
    flat = np.asarray(values, np.float64).ravel()
    ordered = np.sort(flat[np.isfinite(flat)])
    if not ordered.size:
        return math.nan
    half = ordered.size // 2 + 1
    widths = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
    first = int(np.argmin(widths))
    centre = 0.5 * (ordered[first] + ordered[first + half - 1])
    reach = CLIP * 0.5 * widths[first] / NORMAL_HALF
    for _ in range(CLIP_ROUNDS):
        start = np.searchsorted(ordered, centre - reach, "left")
        stop = np.searchsorted(ordered, centre + reach, "right")
        former, centre = centre, ordered[start:stop].mean() if stop > start else centre
        if centre == former:
            break
    return float(centre)


@dataclass(frozen=True)
class SkyBlocks:
    """The sky of exposures in blocks of one target window.

    Attributes
    ----------
    means : (exposures, blocks) float32
        NaN where less than half of a block is usable.
    size : int
        Pixels on a side of a block.
    """

    means: FloatImage
    size: int


def sky_blocks(
    sources: Sequence[Placed], shape: tuple[int, int], threads: int | None = None
) -> SkyBlocks:
    """Average the usable pixels of exposures in blocks, evenly over a target window.

    Usable are finite samples without DO_NOT_USE that are no reference pixels.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, SCI and DQ.
    shape : (rows, columns)
        The target's window.
    threads : int, optional
        Default: as many as this task may use.
    """
    rows, columns = shape
    size = _block_size(shape)
    bands = _sampled_bands(rows, size)
    across = -(-columns // size)
    means = np.full((len(sources), len(bands), across), np.nan, np.float32)
    whole = list(enumerate(bands))

    def work(first: int, last: int) -> None:
        room = new_room(sources, shape, size)
        for index, source in enumerate(sources[first:last], first):
            for number, band in whole:
                blocks = means[index, number : number + 1]
                bin_rows(source, band, size, room, blocks, MOST_INTEGRATIONS)

    each = [(index, index + 1) for index in range(len(sources))]
    over_bands(each, lambda: work, threads=threads or available_threads())
    np.putmask(means, np.isinf(means), np.nan)  # sums beyond float32
    return SkyBlocks(means.reshape(len(sources), -1), size)


def _block_size(shape: tuple[int, int]) -> int:
    sizes = (s for s in BLOCK_SIZES if (shape[0] // s) * (shape[1] // s) >= ENOUGH_BLOCKS)
    return next(sizes, 1)


def _sampled_bands(rows: int, size: int) -> list[tuple[int, int]]:
    """Choose rows of blocks, all or evenly; what is less than a block at the end is left out."""
    number = max(rows // size, 1)
    chosen = np.linspace(0, number - 1, min(number, MOST_BLOCK_ROWS)).round().astype(int)
    return [(int(i) * size, min((int(i) + 1) * size, rows)) for i in chosen]


@dataclass(frozen=True)
class Corrections:
    """What brings exposures to their common level.

    Attributes
    ----------
    levels : (exposures,) float64
        The sky level of each as it is; NaN where it has no usable block.
    values : (exposures,) float64
        What is added to each, or what it is multiplied by.
    unmatched : tuple of int
        Those that could not be compared with the others; nothing is done to them.
    """

    levels: Values
    values: Values
    unmatched: tuple[int, ...]


def match_exposures(blocks: SkyBlocks, kind: str) -> Corrections:
    """Find offsets, or factors, that bring exposures to one level on the sky that they share.

    The differences (of the logarithms, for factors) of all pairs are measured on common blocks,
    and the levels that fit them best by least squares, weighted by the number of blocks, are
    taken: exposures on different parts of a sloping sky are not mistaken for different levels.
    The mean level (the geometric mean) of those that hang together stays.

    Parameters
    ----------
    blocks : SkyBlocks
        Of all exposures.
    kind : str
        ``offset`` or ``scale``.
    """
    means = blocks.means.astype(np.float64)
    levels = np.array([sky_location(one) for one in means])
    compared = _logarithms(means, levels) if kind == SCALE else means
    count = len(means)
    matrix, right = np.zeros((count, count)), np.zeros(count)
    pairs = {tuple(sorted((i, (i + k) % count))) for i in range(count) for k in _steps(count)}
    for i, j in sorted(pairs):
        difference = compared[i] - compared[j]
        weight = np.count_nonzero(np.isfinite(difference))
        if weight:
            apart = weight * sky_location(difference)
            matrix[[i, j], [i, j]] += weight
            matrix[[i, j], [j, i]] -= weight
            right[[i, j]] += apart, -apart
    alone = np.flatnonzero(np.diag(matrix) == 0) if count > 1 else np.array([], int)
    found = np.linalg.lstsq(matrix, right, rcond=1e-10)[0]  # the shortest solution: their mean is 0
    values = np.asarray(np.exp(-found) if kind == SCALE else -found, np.float64)
    return Corrections(levels, values, tuple(int(i) for i in alone))


def _spread(values: Values) -> float:
    """Tell the scatter of most values, as that of a normal distribution; NaN where there is none."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [25, 50]) if known.size else (np.nan, np.nan)
    return float(high - low) / NORMAL_HALF


def _steps(count: int) -> range:
    return range(1, min(NEIGHBOURS, count - 1) + 1)


def _logarithms(means: Values, levels: Values) -> Values:
    """Take logarithms of the blocks of exposures whose sky stands out; NaN for the others."""
    bright = levels > SIGNAL * np.array([_spread(one) for one in means])
    usable = (means > 0) & bright[:, np.newaxis]
    return np.log(means, where=usable, out=np.full_like(means, np.nan))


@dataclass(frozen=True)
class TargetMatch:
    """How a combined background is brought to its target's sky.

    Attributes
    ----------
    target, combined : float
        The sky levels of both, as they are.
    value : float
        What is added to the background, or what it is multiplied by; NaN where they have no sky
        that can be compared.
    """

    target: float
    combined: float
    value: float


def match_target(target: Placed, background: Background, kind: str) -> TargetMatch:
    """Compare a combined background with the sky of the target itself, on common blocks.

    Sources of the target are positive, as any excess over the background is; where they fill less
    than nearly half of the blocks, `sky_location` is not drawn by them.

    Parameters
    ----------
    target : Placed
        The target on its own window, SCI and DQ.
    background : Background
        On the same window.
    kind : str
        ``offset`` or ``scale``.
    """
    shape = background.sci.shape
    window = shape[0], shape[1]
    planes = ArrayPlanes.of(SCI=background.sci, DQ=background.dq)
    combined = Placed(planes, Overlap.whole(window))
    means = sky_blocks([target, combined], window).means.astype(np.float64)
    levels = np.array([sky_location(one) for one in means])
    ours, theirs = _logarithms(means, levels) if kind == SCALE else means
    apart = sky_location(ours - theirs)
    return TargetMatch(
        target=float(levels[0]),
        combined=float(levels[1]),
        value=math.exp(apart) if kind == SCALE else apart,
    )
