"""SOSS: a library of sky templates, cut to the target, and the jump of each template."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.options import (
    SOSS_FULL_FRAME_ROWS,
    SOSS_SMOOTHING,
    SOSS_STEP_COLUMNS,
    SOSS_SUBSTRIP96_ROWS,
)
from webbkg.results import FloatImage

Library = npt.NDArray[np.float32]
Splits = npt.NDArray[np.int64]


def as_library(templates: npt.ArrayLike) -> Library:
    """See templates as a library, (templates, rows, columns) float32 in native byte order."""
    library = np.ascontiguousarray(templates, np.float32)
    if library.ndim == 2:
        library = library[np.newaxis]
    if library.ndim != 3 or 0 in library.shape:
        raise OptionError(
            "templates must be (templates, rows, columns) or (rows, columns), and not empty "
            f"(got shape {library.shape})"
        )
    return library


def cut_to_target(library: Library, shape: tuple[int, int]) -> Library | None:
    """Return the rows of a library that a target of `shape` covers; None if it does not fit."""
    rows, columns = library.shape[1:]
    if columns != shape[1] or columns < SOSS_STEP_COLUMNS[1] + 1:
        return None
    if rows == shape[0]:
        return library
    start, stop = SOSS_SUBSTRIP96_ROWS
    return library[:, start:stop] if (rows, shape[0]) == (256, stop - start) else None


def strip_of(library: Library, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Tell which rows of a full frame a library of 256 rows covers; None if it is not that."""
    start, stop = SOSS_FULL_FRAME_ROWS
    is_strip = library.shape[1:] == (stop - start, shape[1])
    return (start, stop) if is_strip and shape[0] == stop else None


def find_jump(template: npt.ArrayLike) -> Splits:
    """Find the step of a template: the first column of its right side, row by row.

    The template is smoothed by a Gaussian; the step is where its gradient along the row is
    largest, the first such column in columns 685 to 724. Pixels that are not finite are bridged
    first: within the row by linear interpolation, and a row without any finite pixel nearby by
    its nearest neighbour that has some.

    Parameters
    ----------
    template : (rows, columns) array_like, float32
        At least 726 columns.

    Returns
    -------
    (rows,) ndarray of int64
        The column of the step.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    template = np.asarray(template, np.float32)
    first, stop = SOSS_STEP_COLUMNS
    reach = math.ceil(4 * SOSS_SMOOTHING) + 1  # of the Gaussian, and one for the gradient
    start = max(first - reach, 0)
    nearby = _bridge(template[:, start : stop + reach])
    smooth = ndimage.gaussian_filter(nearby, SOSS_SMOOTHING, truncate=4.0)
    gradient = np.gradient(smooth, axis=1)[:, first - start : stop - start]
    return np.asarray(first + np.argmax(gradient, axis=1), np.int64)


def _bridge(image: FloatImage) -> FloatImage:
    """Fill in what is not finite, along the rows, and whole rows from their neighbours."""
    finite = np.isfinite(image)
    if finite.all():
        return image
    filled = np.where(finite, image, np.float32(0))
    known = np.flatnonzero(finite.any(axis=1))
    columns = np.arange(image.shape[1])
    for row in known[~finite[known].all(axis=1)]:
        at = np.flatnonzero(finite[row])
        filled[row] = np.interp(columns, at, image[row, at])
    if len(known):
        rows = np.arange(len(image))
        filled = filled[known[np.argmin(np.abs(rows[:, np.newaxis] - known), axis=1)]]
    return filled


def without_infinities(library: Library) -> Library:
    """Write NaN for what is infinite."""
    infinite = np.isinf(library)
    return np.where(infinite, np.float32(np.nan), library) if infinite.any() else library
