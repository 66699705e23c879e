"""Clipping of a stack by the scatter that its ERR leads to expect: suspects are found and clipped.

What the arrays hold is said in noise_kernels.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from webbkg.image.noise_kernels import (
    AROUND,
    EXCESS,
    EXPECTED,
    FLOOR,
    LEVEL,
    NOISE,
    TRUSTED,
    WEIGHT,
    WIDTH,
)
from webbkg.numerics.compiled import Array, compiled, inlined

SPREAD = 2.0
"""The ERR of a sample speaks for others between 1/this and this times the reference."""

MARGIN = 1e-5
"""Relative; more than float32 rounding changes the smallest error of a pixel."""

TIE = 1e-9
"""Relative; of two samples whose squared distances are as near as this, the higher one goes."""

ROUNDING = 5e-7
"""Relative; more than float32 rounding changes a deviation, in units of the mean and the level."""

HUGE = 3e38
"""Nearly the largest float32."""


@inlined
def _shift(samples: Array, pixel: int, of_sample: Array) -> float:
    """Mean level of the samples of a pixel; 0 if there is none."""
    total, present = 0.0, 0
    for i in range(samples.shape[0]):
        if samples[i, pixel] == samples[i, pixel]:
            total += of_sample[LEVEL, i]
            present += 1
    return total / max(present, 1)


@inlined
def _shift_means(
    samples: Array, first: int, mean: Array, count: Array, of_sample: Array
) -> tuple[float, float]:
    """Bring the means of a segment to the common level.

    Returns the largest level, up or down, and the least noise.
    """
    number = samples.shape[0]
    of_all, largest, quietest = 0.0, 0.0, np.inf
    for i in range(number):
        of_all += of_sample[LEVEL, i]
        largest = max(largest, abs(of_sample[LEVEL, i]))
        quietest = min(quietest, of_sample[NOISE, i])
    of_all /= number
    for p in range(mean.size):
        if count[p] < number:
            mean[p] -= _shift(samples, first + p, of_sample)
        else:
            mean[p] -= of_all
    return largest, quietest


@inlined
def _reach_out(row: Array, middle: Array, level: Any, share: Any, far: Array) -> None:
    """Let `far` be the largest deviation, in units of its width."""
    for p in range(row.size):
        off = abs(row[p] - (middle[p] + level)) * share
        far[p] = off if off > far[p] else far[p]


@inlined
def _find_least(row: Array, err: Array, weight: Any, usual: Any, least: Any, low: Array) -> None:
    """Let `low` be the smallest believed error; what is not believed is usual."""
    for p in range(row.size):
        scaled = err[p] * weight
        scaled = scaled if scaled >= least else usual
        low[p] = scaled if (row[p] == row[p]) & (scaled < low[p]) else low[p]


@inlined
def _draw_in(
    far: Array, low: Array, middle: Array, count: Array, reach: Any, rounding: Any, level: Any
) -> None:
    """Take from `far` what it may be.

    n/(n-1) times the deviation from the mean of all is that from the mean of the others.
    """
    for p in range(far.size):
        some = np.float32(count[p])
        least_off = reach * low[p] * ((some - np.float32(1)) / some)
        far[p] -= least_off - rounding * (abs(middle[p]) + level)


@compiled
def find_suspects(
    samples: Array,
    errors: Array,
    first: int,
    edges: Array,
    means: Array,
    counts: Array,
    of_segments: tuple[Array, Array],
    sigma: float,
    rows: Array,
    listing: tuple[Array, Array],
) -> Any:
    """List the pixels in which a sample may be too far from the mean of the others.

    In float32, and drawn in by more than its rounding. The scatter is at least what the smallest
    believed error of the pixel says, and the mean of the others is at least as uncertain as if all
    had the noise of the least noisy sample. `means` are brought to the common level. `rows`
    (3, pixels of a segment) float32 is a buffer. Returns how many are listed.
    """
    number = samples.shape[0]
    (measured, typical), (suspects, facts) = of_segments, listing
    listed: Any = np.int64(0)
    for segment in range(typical.size):
        start, stop = edges[segment], edges[segment + 1]
        size, at = stop - start, first + start
        mean, count, of_sample = means[start:stop], counts[start:stop], measured[segment]
        largest, quietest = _shift_means(samples, at, mean, count, of_sample)
        low, far, middle = rows[0, :size], rows[1, :size], rows[2, :size]
        low[:], far[:] = np.float32(HUGE), np.float32(0)
        for p in range(size):
            middle[p] = mean[p]
        usual, least = np.float32(typical[segment]), np.float32(TRUSTED * typical[segment])
        narrowest = np.inf
        for i in range(number):
            row, err = samples[i, at : at + size], errors[i, at : at + size]
            level, weight = np.float32(of_sample[LEVEL, i]), np.float32(of_sample[WEIGHT, i])
            width = math.sqrt(of_sample[NOISE, i] ** 2 + quietest**2 / max(number - 1, 1))
            narrowest = min(narrowest, width)
            share = np.float32(1 / width)
            _reach_out(row, middle, level, share, far)
            _find_least(row, err, weight, usual, least, low)
        reach, rounding = np.float32(sigma * (1 - MARGIN)), np.float32(ROUNDING / narrowest)
        _draw_in(far, low, middle, count, reach, rounding, np.float32(largest))
        for p in range(size):
            if count[p] > 1 and not far[p] <= 0:
                suspects[0, listed] = start + p
                suspects[1, listed] = segment
                facts[EXCESS, listed], facts[FLOOR, listed] = 0.0, 0.0
                facts[AROUND, listed], facts[WIDTH, listed] = np.inf, 0.0
                listed += 1
    return listed


@inlined
def _gather_column(
    samples: Array, errors: Array, pixel: int, of_sample: Array, least: float, column: Array
) -> int:
    """Collect a pixel's samples and their errors, free of level and noise; return how many.

    The rows of `column` are value, error (0 if it is not believed), noise, err² confined, and
    which sample of the stack it is.
    """
    size = 0
    for i in range(samples.shape[0]):
        value = samples[i, pixel]
        if value == value:
            error = np.float64(errors[i, pixel]) * of_sample[WEIGHT, i]
            column[0, size] = np.float64(value) - of_sample[LEVEL, i]
            column[1, size] = error if error > 0 and error >= least else 0.0
            column[2, size] = of_sample[NOISE, i]
            column[4, size] = i
            size += 1
    return size


@inlined
def _confine(column: Array, size: int) -> tuple[float, int]:
    """Square the errors, none far from the second smallest (of two: the smallest).

    A cosmic ray adds to the error of the sample that it hits. Returns their sum and number.
    """
    smallest, second = np.inf, np.inf
    believed = 0
    for i in range(size):
        if column[1, i] > 0:
            believed += 1
            second = min(second, max(smallest, column[1, i]))
            smallest = min(smallest, column[1, i])
    reference = second if believed > 2 else smallest
    total = 0.0
    for i in range(size):
        column[3, i] = 0.0
        if column[1, i] > 0:
            confined = min(max(column[1, i], reference / SPREAD), reference * SPREAD)
            column[3, i] = confined**2
        total += column[3, i]
    return total, believed


@inlined
def _find_worst(
    column: Array, size: int, typical: float, excess: float, floor: float, sigma: float
) -> tuple[int, float]:
    """Find the sample that is furthest from the mean of the others; -1 if none is too far.

    What is expected of it is the mean err² of the others; of two samples, that of both. Also
    returned is the standard deviation that is expected, for a noise of 1.
    """
    squares, believed = _confine(column, size)
    total, noises = 0.0, 0.0
    for i in range(size):
        total += column[0, i]
        noises += column[2, i] ** 2
    of_all = squares / believed if believed else typical**2
    others = 1 / (believed - 1) if believed > 1 else 0.0
    share = 1 / (size - 1)
    found, furthest, width = -1, sigma**2, 0.0
    for i in range(size):
        variance = of_all
        if size > 2 and column[1, i] > 0:
            variance = (squares - column[3, i]) * others if believed > 1 else typical**2
        variance = max(variance * excess**2, floor**2)
        of_sample = column[2, i] ** 2
        deviation = (size * column[0, i] - total) * share
        spread = variance * (of_sample + (noises - of_sample) * share**2)
        limit = furthest * spread
        is_tie = found >= 0 and deviation**2 > limit * (1 - TIE)
        if deviation**2 > limit * (1 + TIE) or (is_tie and column[0, i] > column[0, found]):
            found, furthest, width = i, deviation**2 / spread, variance
    return found, math.sqrt(width)


@inlined
def _move(table: Array, source: int, target: int) -> None:
    for j in range(table.shape[0]):
        table[j, target] = table[j, source]


@inlined
def _take_out(column: Array, worst: int, left: int) -> None:
    """Take a sample out; the others stay in their order."""
    for i in range(worst, left):
        _move(column, i + 1, i)


@inlined
def _choose(column: Array, size: int, worst: int, level: float, reach: float) -> int:
    """Choose which of two or three samples goes: it need not be the one furthest from the rest.

    Cosmic rays add. So it is the highest, unless the neighbours say that the lowest lies too low
    and the highest does not lie too high; of three, the lowest also if they say neither.
    """
    lowest, highest = 0, 0
    for i in range(1, size):
        lowest = i if column[0, i] < column[0, lowest] else lowest
        highest = i if column[0, i] > column[0, highest] else highest
    is_low = column[0, lowest] < level - reach
    is_high = column[0, highest] > level + reach
    if size == 2:
        return lowest if is_low and not is_high else highest
    return highest if worst == lowest and is_high and not is_low else worst


@inlined
def _average_column(
    samples: Array, errors: Array, pixel: int, of_sample: Array, column: Array, left: int
) -> tuple[float, float]:
    """Average what is left of a pixel, at the level that it has; and its uncertainty."""
    total, variance = 0.0, 0.0
    for k in range(left):
        total += column[0, k]
        variance += np.float64(errors[int(column[4, k]), pixel]) ** 2
    average = total / left + _shift(samples, pixel, of_sample)
    return average, math.sqrt(variance) / left


@compiled
def clip_suspects(
    samples: Array,
    errors: Array,
    first: int,
    suspects: Array,
    listed: int,
    of_segments: tuple[Array, Array],
    sigma: float,
    maxiters: int,
    facts: Array,
    column: Array,
    result: tuple[Array, Array, Array],
) -> tuple[int, int]:
    """Remove the worst sample of a suspect until none is too far, and average the others.

    `maxiters` 0 means until stable. At least one sample is kept. A suspect of which a fact is
    needed that is not known yet is listed anew, and nothing is done. `column` (5, samples) float64
    is a buffer. Returns how many samples were clipped, and how many suspects are listed.
    """
    (measured, typical), (mean, uncertainty, counts) = of_segments, result
    clipped: Any = np.int64(0)
    again: Any = np.int64(0)
    for k in range(listed):
        pixel, segment = suspects[0, k], suspects[1, k]
        of_sample, usual, at = measured[segment], typical[segment], first + pixel
        usable = _gather_column(samples, errors, at, of_sample, TRUSTED * usual, column)
        left, fewest = usable, max(usable - maxiters, 1) if maxiters else 1
        known = facts[EXCESS, k] > 0
        excess, floor = max(facts[EXCESS, k], 1.0), facts[FLOOR, k]
        while left > fewest:
            worst, expected = _find_worst(column, left, usual, excess, floor, sigma)
            if worst < 0:
                break
            if left <= 3:
                known = known and facts[AROUND, k] != np.inf
                reach = sigma * max(facts[WIDTH, k], expected)
                worst = _choose(column, left, worst, facts[AROUND, k], reach)
            if not known:
                left = 0
                _move(suspects, k, again)
                _move(facts, k, again)
                facts[EXPECTED, again] = expected
                again += 1
                break
            left -= 1
            _take_out(column, worst, left)
        if 0 < left < usable:
            average, error = _average_column(samples, errors, at, of_sample, column, left)
            mean[at], uncertainty[at], counts[at] = average, error, left
            clipped += usable - left
    return clipped, again
