"""Exact order statistics by selection: nothing is sorted.

The bits of a float, with all of them flipped where the sign is set and only the sign bit
otherwise, order as unsigned integers in the way that the numbers do. A histogram of the
leading 16 bits tells in which bin a rank lies; only the members of that bin are looked at
again, by their next 16 bits. NaN is left out throughout, and -0.0 counts as 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.numerics.compiled import compiled

KEY_BITS = 16
BINS = 1 << KEY_BITS
FEW = 1 << 15  # values; up to here NumPy's partition costs less than a histogram

Floats = npt.NDArray[np.floating[Any]]
Words = npt.NDArray[np.unsignedinteger[Any]]
Doubles = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]


@compiled
def _count_keys(values: Floats, words: Words, shift: int, counts: Ranks) -> None:
    """Count in `counts` (BINS,) the 16 key bits above `shift`; `words` are the bits of `values`."""
    sign = words.dtype.type(1) << words.dtype.type(8 * words.itemsize - 1)
    every = ~words.dtype.type(0)
    mask = words.dtype.type(BINS - 1)
    right = words.dtype.type(shift)
    for i in range(values.size):
        if values[i] == values[i]:
            word = words[i]
            key = word ^ (every if word & sign else sign)
            counts[(key >> right) & mask] += 1


@compiled
def _collect_bin(values: Floats, words: Words, shift: int, wanted: int, members: Floats) -> None:
    """Copy to `members` the values whose 16 key bits above `shift` are `wanted`, in order."""
    sign = words.dtype.type(1) << words.dtype.type(8 * words.itemsize - 1)
    every = ~words.dtype.type(0)
    mask = words.dtype.type(BINS - 1)
    right = words.dtype.type(shift)
    bin_ = words.dtype.type(wanted)
    found = 0
    for i in range(values.size):
        word = words[i]
        key = word ^ (every if word & sign else sign)
        if (key >> right) & mask == bin_ and values[i] == values[i]:
            members[found] = values[i]
            found += 1


class Interpolation(NamedTuple):
    """Which order statistics make a percentile, and how.

    Attributes
    ----------
    lower, upper : (percentiles,) int64
        Ranks from 0 of the two neighbours.
    fraction : (percentiles,) float64
        Where between the two the percentile lies, 0 to 1.
    """

    lower: Ranks
    upper: Ranks
    fraction: Doubles


def interpolation(count: int, percent: Sequence[float]) -> Interpolation:
    """Find the ranks between which percentiles of `count` values lie (``method="linear"``).

    The percentile q lies at the fractional rank (count - 1)·q/100, computed in float64.
    """
    position = (count - 1) * (np.asarray(percent, dtype=np.float64) / 100)
    lower = np.floor(position)
    upper = np.minimum(lower + 1, count - 1)
    return Interpolation(lower.astype(np.int64), upper.astype(np.int64), position - lower)


def interpolate(lower: Floats, upper: Floats, fraction: Doubles) -> Doubles:
    """Interpolate between two order statistics, from the nearer one, as NumPy does.

    The difference is taken in the values' own type and the rest in float64.
    """
    step = np.zeros_like(lower)
    np.subtract(upper, lower, out=step, where=lower != upper)  # infinities may be neighbours
    return np.where(fraction < 0.5, lower + step * fraction, upper - step * (1 - fraction))


def values_at_ranks(values: Floats, ranks: Sequence[int] | Ranks) -> Floats:
    """Return the order statistics of some ranks.

    Parameters
    ----------
    values : ndarray of float32 or float64
        In native byte order; NaN is left out.
    ranks : sequence of int
        From 0, the smallest, to the number of values that are not NaN, less one.

    Returns
    -------
    (ranks,) ndarray
        In the values' type.

    Raises
    ------
    IndexError
        If a rank lies outside that range.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    return _select(flat, np.asarray(ranks, dtype=np.int64), 8 * flat.itemsize - KEY_BITS)


def percentiles(values: Floats, percent: Sequence[float]) -> Doubles:
    """Return percentiles of the values that are not NaN, with linear interpolation.

    Bit for bit ``numpy.nanpercentile(values, numpy.array(percent, dtype=float))``: order
    statistics in the values' own type, interpolated in float64. (Between two equal infinities
    it is that infinity, not NaN.)

    Parameters
    ----------
    values : ndarray of float32 or float64
        In native byte order.
    percent : sequence of float
        From 0 to 100.

    Returns
    -------
    (percent,) ndarray of float64
        NaN where there is no value.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    count = flat.size - int(np.count_nonzero(np.isnan(flat)))
    if count == 0:
        return np.full(len(percent), np.nan)
    between = interpolation(count, percent)
    found = values_at_ranks(flat, np.concatenate([between.lower, between.upper]))
    return interpolate(found[: len(percent)], found[len(percent) :], between.fraction)


def _select(values: Floats, ranks: Ranks, shift: int) -> Floats:
    """Order statistics of `values` (1-D), which agree in all key bits above `shift` + 16."""
    if values.size <= FEW or shift < 0:
        present = values[~np.isnan(values)]
        _check_ranks(ranks, present.size)
        return np.partition(present, np.unique(ranks))[ranks]
    words: Words = values.view(np.uint32 if values.itemsize == 4 else np.uint64)
    counts = np.zeros(BINS, np.int64)
    _count_keys(values, words, shift, counts)
    ends = np.cumsum(counts)
    _check_ranks(ranks, int(ends[-1]))
    bins = np.searchsorted(ends, ranks, side="right")
    found = np.empty(ranks.shape, values.dtype)
    for index in np.unique(bins):
        members = np.empty(counts[index], values.dtype)
        _collect_bin(values, words, shift, int(index), members)
        inside = bins == index
        first = ends[index] - counts[index]
        found[inside] = _select(members, ranks[inside] - first, shift - KEY_BITS)
    return found


def _check_ranks(ranks: Ranks, count: int) -> None:
    if ranks.size and (ranks.min() < 0 or ranks.max() >= count):
        raise IndexError(
            f"ranks must lie from 0 to {count - 1}, there being {count} values that are not NaN "
            f"(got {ranks.min()} to {ranks.max()})"
        )
