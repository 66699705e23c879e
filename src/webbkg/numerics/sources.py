"""Sources in an image that is sky and noise but for them: found, graded and grown.

The image is what is left of an exposure without its level: the difference to the stack of others, or
to a smooth model of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from webbkg.numerics import source_kernels as loops

Grades = npt.NDArray[np.uint8]
Image = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]

THRESHOLD, NEIGHBOURS = 3.5, 1
"""What is a source: means of 3 x 3 bins that are so many of their standard deviations above the
others, with so many of the eight around them; 3.5 sigma of these are 0.6 of a pixel."""

WIDE_THRESHOLD, WIDE_NEIGHBOURS = 3.0, 1
"""The same for blocks; 3 sigma of a block is 0.4 of a pixel."""

GRADE_STEP = 4.0
"""Light is graded by this factor."""

CORE, CORE_SHARE = 255, 0.1
"""The grade of what is left out in any case: more than this share of the peak of a source."""

FAR = 5
"""How far sources grow (bins), with a lower grade the farther."""

DISTANCES = np.ceil(np.hypot(*np.ogrid[-FAR : FAR + 1, -FAR : FAR + 1])).astype(np.uint8)
"""Of the bins around one (bins, rounded upwards)."""

LEAST = FAR
"""The grade of the faintest bin of a source: below are those that it grows to."""

SAMPLE_STEP = 61
"""Of so many bins one tells the level and the scatter of a difference."""

FEWEST = 50
"""Of fewer bins, or blocks, nothing is told apart."""

NORMAL_QUARTILE = 0.6744897501960817
"""Half of the normal distribution lies within so many standard deviations of its median."""


def grade_difference(image: Image, rounding: float = 0.0) -> Grades:
    """Grade the sources in the difference of an exposure and the stack of the others.

    Parameters
    ----------
    image : (rows, columns) ndarray of float32
        On bins; NaN where unknown. Not changed.
    rounding : float
        What the samples may be off by; the scatter is not taken to be less.

    Returns
    -------
    (rows, columns) ndarray of uint8
        0 for none, 255 for what is left out in any case; see `find_sources`.
    """
    image = image - np.float32(level_and_scatter(image)[0])
    blocks = np.empty([-(-length // loops.WIDE) for length in image.shape], np.float32)
    smoothed, rows = np.empty_like(image), np.empty((2, image.shape[1] + 2), np.float32)
    loops.block_means(image, blocks)
    loops.smooth(image, rows, smoothed)
    marked, threshold = _mark(smoothed, THRESHOLD, NEIGHBOURS, rounding)
    wide, _ = _mark(blocks, WIDE_THRESHOLD, WIDE_NEIGHBOURS, rounding)
    peaks = np.empty_like(blocks)
    loops.block_peaks(image, marked, peaks)
    grades, grown = np.empty(image.shape, np.uint8), np.empty(image.shape, np.uint8)
    loops.grade_pixels(
        image, marked, wide, peaks, LEAST, GRADE_STEP, threshold, CORE_SHARE, CORE, grades
    )
    loops.grow_grades(grades, LEAST, DISTANCES, grown)
    return grown


def _mark(image: Image, sigmas: float, neighbours: int, rounding: float) -> tuple[Marks, float]:
    """Mark what is so many standard deviations above the level; and tell that threshold."""
    level, scatter = level_and_scatter(image)
    threshold = level + sigmas * max(scatter, rounding)
    marked = np.empty(image.shape, np.bool_)
    loops.mark_connected(image, threshold, neighbours, marked)
    return marked, threshold


def level_and_scatter(image: Image) -> tuple[float, float]:
    """Tell the median of some pixels, and their scatter as that of a normal distribution.

    From the lower half alone, which sources do not reach. Infinite where too few are known to judge.
    """
    flat = image.reshape(-1)
    values = np.sort(flat[:: SAMPLE_STEP if flat.size > 2000 * SAMPLE_STEP else 1])
    values = values[: np.count_nonzero(~np.isnan(values))]
    if values.size < FEWEST:
        return 0.0, np.inf
    quartile, median = (float(values[int(share * (values.size - 1))]) for share in (0.25, 0.5))
    return median, (median - quartile) / NORMAL_QUARTILE
