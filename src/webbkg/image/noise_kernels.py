"""Clipping of a stack by the scatter that its ERR leads to expect, and the average of the rest.

What the rule is, and why, is said in docs/clipping.md. Samples are the first axis and NaN marks
one that is missing; pixels are the second, row after row. A row is judged in segments, each by
itself, so that the answer does not depend on how many rows are together.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

SEGMENT = 512
"""Least number of a row's pixels that are measured together (all, where a row has fewer)."""

FEWEST = 16
"""Least number of pixels from which an exposure's level and noise are measured."""

PROBES = 15
"""Pixels of a segment from which its noise is taken."""

LEVEL_PROBES = 9
"""Pixels of a segment from which a first value of its level is taken."""

CORE = 1.5
"""Deviations count in full for a level up to this many times the scatter, and then no more."""

TRUSTED = 0.1
"""An ERR below this fraction of what is typical of the segment is not believed."""

SPREAD = 2.0
"""The ERR of a sample speaks for others between 1/this and this times the reference."""

REACH = 12
"""Neighbours to either side, in the row, that tell the scatter around a pixel: more than the track
of a cosmic ray covers."""

NEAREST = 4
"""Neighbours to either side, in the row, that tell the level around a pixel."""

FEW_NEIGHBOURS = 4
"""Least number of values of neighbours that say anything."""

UNREST = 1.5
"""Neighbours that scatter by more than this times what is expected call for a closer look."""

GAUSSIAN = 1.4826
"""Standard deviation over median absolute deviation, of a Gaussian."""

MARGIN = 1e-5
"""Relative; more than float32 rounding changes the smallest error of a pixel."""


TIE = 1e-9
"""Relative; of two samples whose squared distances are as near as this, the higher one goes."""


class Stack(NamedTuple):
    """Samples and their errors, (samples, pixels) float32, and the part that is being judged."""

    samples: Array
    errors: Array
    start: int
    size: int


class Segment(NamedTuple):
    """What is known of each pixel of a segment."""

    mean: Array  #: of its samples; once the levels are known, of what they are without them
    variance: Array  #: sum of err²
    error: Array  #: mean of the valid errors
    shift: Array  #: mean level of its samples
    centre: Array  #: the mean where an exposure's level is measured, NaN elsewhere
    reach: Array  #: what a deviation from the mean must exceed to be suspect
    low: Array  #: the smallest error, float32
    number: Array  #: of samples, int32
    valid: Array  #: valid errors, int32
    suspect: Array  #: whether a sample may be too far off
    buffer: Array  #: for whatever is sorted


class Samples(NamedTuple):
    """What is known of each sample of the stack, in a segment."""

    level: Array  #: what it lies above the mean
    noise: Array  #: its errors in units of the mean error
    weight: Array  #: 1 over that


class Column(NamedTuple):
    """The samples of one pixel that are left."""

    value: Array  #: without the level
    error: Array  #: in units of the sample's noise; 0 if it is not believed
    noise: Array  #: that of `Samples`
    square: Array  #: of the error, confined
    place: Array  #: which sample of the stack it is


@inlined
def _select(values: Array, size: int, k: int) -> float:
    """Put ``values[:size]`` in an order in which element `k` is in its sorted place (Hoare)."""
    left = 0
    right = size - 1
    while left < right:
        pivot = values[k]
        i = left
        j = right
        while True:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
            if i > j:
                break
        if j < k:
            left = i
        if k < i:
            right = j
    selected: float = values[k]
    return selected


@compiled
def _median(values: Array, size: int) -> float:
    """Median of ``values[:size]`` (reordered), of an even number the lower of the middle two."""
    return _select(values, size, (size - 1) // 2)


@inlined
def _sum(stack: Stack, segment: Segment) -> None:
    """Take means and sums over the samples."""
    mean, variance, error = segment.mean, segment.variance, segment.error
    count, valid, size = segment.number, segment.valid, stack.size
    for sums in (mean, variance, error):
        sums[:size] = 0.0
    for numbers in (count, valid):
        numbers[:size] = 0
    for i in range(stack.samples.shape[0]):
        row = stack.samples[i, stack.start : stack.start + size]
        err = stack.errors[i, stack.start : stack.start + size]
        for p in range(size):
            present = row[p] == row[p]
            count[p] += np.int32(1) if present else np.int32(0)
            mean[p] += np.float64(row[p]) if present else 0.0
            variance[p] += np.float64(err[p]) * np.float64(err[p])
            positive = err[p] > 0
            valid[p] += np.int32(1) if positive else np.int32(0)
            error[p] += np.float64(err[p]) if positive else 0.0
    for p in range(size):
        mean[p] /= max(count[p], 1)
        error[p] /= max(valid[p], 1)


@inlined
def _gather_errors(segment: Segment, size: int, step: int) -> int:
    """Collect the mean error of each `step`-th pixel that has one."""
    found = 0
    for p in range(step // 2, size, step):
        if segment.valid[p]:
            segment.buffer[found] = segment.error[p]
            found += 1
    return found


@inlined
def _typical_error(segment: Segment, size: int) -> float:
    """Median of a segment's errors; 0 if none is valid."""
    found = _gather_errors(segment, size, max(size // PROBES, 1))
    if found < FEW_NEIGHBOURS:
        found = _gather_errors(segment, size, 1)
    return _median(segment.buffer, found) if found else 0.0


@inlined
def _choose_pixels(present: Array, segment: Segment, size: int) -> tuple[int, int]:
    """Choose the pixels with most samples, of those where `present` is not NaN.

    There all levels are measured against the mean of the same exposures. Returns how many samples
    they have, and how many pixels there are.
    """
    count, mean, centre = segment.number, segment.mean, segment.centre
    most: Any = np.int32(0)
    for p in range(size):
        most = count[p] if (present[p] == present[p]) & (count[p] > most) else most
    pixels: Any = np.int64(0)
    for p in range(size):
        is_chosen = (count[p] == most) & (present[p] == present[p])
        pixels += 1 if is_chosen else 0
        centre[p] = mean[p] if is_chosen else np.nan
    return most, pixels


@inlined
def _gather_offsets(row: Array, segment: Segment, size: int, step: int) -> int:
    """Collect the deviation of each `step`-th pixel."""
    found = 0
    for p in range(step // 2, size, step):
        off = np.float64(row[p]) - segment.centre[p]
        if off == off:
            segment.buffer[found] = off
            found += 1
    return found


@inlined
def _gather_ratios(err: Array, segment: Segment, size: int, step: int) -> int:
    """Collect the ratio of an error to the mean error of each `step`-th pixel."""
    found = 0
    for p in range(step // 2, size, step):
        if segment.centre[p] == segment.centre[p] and err[p] > 0:
            segment.buffer[found] = np.float64(err[p]) / segment.error[p]
            found += 1
    return found


@inlined
def _refine(
    row: Array, segment: Segment, size: int, pixels: int, level: float, core: float
) -> float:
    """Improve the level of a segment by a step of Huber's estimator.

    P. J. Huber (1964), Annals of Mathematical Statistics 35, 73. If less than half of the pixels
    agree with the level then it is none, but structure: 0.
    """
    centre, clamped = segment.centre, segment.buffer
    inside = np.int64(0)
    for p in range(size):
        off = np.float64(row[p]) - centre[p] - level
        inside += 1 if abs(off) < core else 0
        off = off if off < core else core
        off = off if off > -core else -core
        clamped[p] = off if centre[p] == centre[p] else 0.0
    a, b, c, d = 0.0, 0.0, 0.0, 0.0  # four sums do not wait for each other
    whole = size - size % 4
    for p in range(0, whole, 4):
        a += clamped[p]
        b += clamped[p + 1]
        c += clamped[p + 2]
        d += clamped[p + 3]
    for p in range(whole, size):
        a += clamped[p]
    return level + (a + b + c + d) / inside if 2 * inside >= pixels else 0.0


@inlined
def _measure_sample(
    row: Array, err: Array, segment: Segment, size: int, most: int, pixels: int, typical: float
) -> tuple[float, float]:
    """Level of a sample in a segment, and its noise in units of the mean error.

    Without any error the noise is measured from the samples themselves.
    """
    if pixels < FEWEST or most < 2:
        return 0.0, 1.0 if typical > 0 else np.inf
    is_full = typical > 0 and 2 * pixels > size
    step = max(size // LEVEL_PROBES, 1) if is_full else 1
    found = _gather_offsets(row, segment, size, step)
    if found < FEW_NEIGHBOURS:
        is_full = False
        found = _gather_offsets(row, segment, size, 1)
    level = _median(segment.buffer, found)
    part = math.sqrt((most - 1) / most)
    if typical == 0:
        for k in range(found):
            segment.buffer[k] = abs(segment.buffer[k] - level)
        noise = GAUSSIAN * _median(segment.buffer, found) / part
        return level, noise if noise > 0 else np.inf
    step = max(size // PROBES, 1) if is_full else 1
    found = _gather_ratios(err, segment, size, step)
    noise = _median(segment.buffer, found) if found else 1.0
    return _refine(row, segment, size, pixels, level, CORE * typical * noise * part), noise


@inlined
def _measure_samples(stack: Stack, segment: Segment, measured: Samples, typical: float) -> float:
    """Measure level and noise of every sample; return the error that is typical.

    Without any it is the mean scatter of the samples, or 1 where that is unknown too.
    """
    number, size = stack.samples.shape[0], stack.size
    most, pixels = _choose_pixels(segment.mean, segment, size)
    for i in range(number):
        row = stack.samples[i, stack.start : stack.start + size]
        err = stack.errors[i, stack.start : stack.start + size]
        if most < number:
            most, pixels = _choose_pixels(row, segment, size)
        measured.level[i], measured.noise[i] = _measure_sample(
            row, err, segment, size, most, pixels, typical
        )
    if typical == 0:
        total, known = 0.0, 0
        for i in range(number):
            if measured.noise[i] < np.inf:
                total += measured.noise[i]
                known += 1
        typical = total / known if known else 1.0
        for i in range(number):
            measured.noise[i] /= typical
    for i in range(number):
        measured.weight[i] = 1 / measured.noise[i]
    return typical


@inlined
def _shift_means(stack: Stack, segment: Segment, measured: Samples) -> None:
    """Bring the means to the common level."""
    number = stack.samples.shape[0]
    shift, mean = segment.shift, segment.mean
    of_all = 0.0
    for i in range(number):
        of_all += measured.level[i]
    shift[: stack.size] = of_all / number
    for p in range(stack.size):
        if segment.number[p] < number:
            total = 0.0
            for i in range(number):
                value = stack.samples[i, stack.start + p]
                total += measured.level[i] if value == value else 0.0
            shift[p] = total / max(segment.number[p], 1)
    for p in range(stack.size):
        mean[p] -= shift[p]


@inlined
def _set_reach(
    stack: Stack, segment: Segment, measured: Samples, typical: float, sigma: float
) -> None:
    """Set what a deviation must exceed, in units of the noise: the least that it may be.

    The scatter is at least what the smallest believed error of the pixel says.
    """
    low, size = segment.low, stack.size
    low[:size] = np.float32(np.inf)
    usual, least = np.float32(typical), np.float32(TRUSTED * typical)
    for i in range(stack.samples.shape[0]):
        row = stack.samples[i, stack.start : stack.start + size]
        err = stack.errors[i, stack.start : stack.start + size]
        inverse = np.float32(measured.weight[i])
        for p in range(size):
            scaled = err[p] * inverse
            scaled = scaled if scaled >= least else usual
            low[p] = scaled if (row[p] == row[p]) & (scaled < low[p]) else low[p]
    for p in range(size):
        # n/(n-1) times the deviation from the mean of all is that from the mean of the others.
        part = (segment.number[p] - 1) / segment.number[p] if segment.number[p] > 1 else 1.0
        segment.reach[p] = sigma * (1 - MARGIN) * part * np.float64(low[p])


@inlined
def _find_suspects(stack: Stack, segment: Segment, measured: Samples) -> None:
    """Find the pixels in which a sample may be too far from the mean of the others.

    That mean is at least as uncertain as if all had the noise of the least noisy sample.
    """
    number, size = stack.samples.shape[0], stack.size
    mean, reach, suspect = segment.mean, segment.reach, segment.suspect
    suspect[:size] = False
    quietest = np.inf
    for i in range(number):
        quietest = min(quietest, measured.noise[i])
    for i in range(number):
        row = stack.samples[i, stack.start : stack.start + size]
        level = measured.level[i]
        width = math.sqrt(measured.noise[i] ** 2 + quietest**2 / max(number - 1, 1))
        for p in range(size):
            suspect[p] |= abs(np.float64(row[p]) - level - mean[p]) > reach[p] * width


@inlined
def _gather_column(
    stack: Stack, pixel: int, measured: Samples, typical: float, column: Column
) -> int:
    """Collect a pixel's samples and their errors, free of level and noise; return how many."""
    size = 0
    for i in range(stack.samples.shape[0]):
        value = stack.samples[i, pixel]
        if value == value:
            column.value[size] = np.float64(value) - measured.level[i]
            error = np.float64(stack.errors[i, pixel]) * measured.weight[i]
            column.error[size] = error if error > 0 and error >= TRUSTED * typical else 0.0
            column.noise[size] = measured.noise[i]
            column.place[size] = i
            size += 1
    return size


@inlined
def _confine(column: Column, size: int) -> tuple[float, int]:
    """Square the errors, none far from the second smallest (of two: the smallest).

    A cosmic ray adds to the error of the sample that it hits. Returns their sum and number.
    """
    smallest, second = np.inf, np.inf
    believed = 0
    for i in range(size):
        if column.error[i] > 0:
            believed += 1
            second = min(second, max(smallest, column.error[i]))
            smallest = min(smallest, column.error[i])
    reference = second if believed > 2 else smallest
    total = 0.0
    for i in range(size):
        column.square[i] = 0.0
        if column.error[i] > 0:
            confined = min(max(column.error[i], reference / SPREAD), reference * SPREAD)
            column.square[i] = confined**2
        total += column.square[i]
    return total, believed


@inlined
def _find_worst(
    column: Column, size: int, typical: float, excess: float, floor: float, sigma: float
) -> tuple[int, float]:
    """Find the sample that is furthest from the mean of the others; -1 if none is too far.

    What is expected of it is the mean err² of the others; of two samples, that of both. Also
    returned is the standard deviation that is expected, for a noise of 1.
    """
    squares, believed = _confine(column, size)
    total, noises = 0.0, 0.0
    for i in range(size):
        total += column.value[i]
        noises += column.noise[i] ** 2
    of_all = squares / believed if believed else typical**2
    others = 1 / (believed - 1) if believed > 1 else 0.0
    share = 1 / (size - 1)
    found, furthest, width = -1, sigma**2, 0.0
    for i in range(size):
        variance = of_all
        if size > 2 and column.error[i] > 0:
            variance = (squares - column.square[i]) * others if believed > 1 else typical**2
        variance = max(variance * excess**2, floor**2)
        of_sample = column.noise[i] ** 2
        deviation = (size * column.value[i] - total) * share
        spread = variance * (of_sample + (noises - of_sample) * share**2)
        limit = furthest * spread
        is_tie = found >= 0 and deviation**2 > limit * (1 - TIE)
        if deviation**2 > limit * (1 + TIE) or (is_tie and column.value[i] > column.value[found]):
            found, furthest, width = i, deviation**2 / spread, variance
    return found, math.sqrt(width)


@compiled
def _excess_around(
    stack: Stack, segment: Segment, measured: Samples, pixel: int, typical: float
) -> float:
    """Scatter of the samples of a pixel's neighbours in units of what is expected; at least 1.

    Of each neighbour one sample is asked, in turn: of two samples the other says the same.
    """
    number = stack.samples.shape[0]
    usual = math.sqrt((number - 1) / number)
    found, calm = 0, 0
    for p in range(max(pixel - REACH, 0), min(pixel + REACH + 1, stack.size)):
        i, count = p % number, segment.number[p]
        value = np.float64(stack.samples[i, stack.start + p])
        if count < 2 or p == pixel or value != value:
            continue
        error = segment.error[p] if segment.valid[p] else typical
        part = usual if count == number else math.sqrt((count - 1) / count)
        unit = error * measured.noise[i] * part
        off = GAUSSIAN * abs(value - measured.level[i] - segment.mean[p])
        calm += 1 if off <= unit else 0
        if calm > REACH:  # more than half, however many there are
            return 1.0
        segment.buffer[found] = off / unit
        found += 1
    if found < FEW_NEIGHBOURS or calm > (found - 1) // 2:
        return 1.0
    return _median(segment.buffer, found)


@inlined
def _lower_median(stack: Stack, measured: Samples, p: int, values: Array) -> float:
    """Lower median of the samples of a pixel of the segment; NaN if there is none."""
    present = 0
    for i in range(stack.samples.shape[0]):
        value = np.float64(stack.samples[i, stack.start + p]) - measured.level[i]
        if value == value:
            values[present] = value
            present += 1
    return _median(values, present) if present else np.nan


@inlined
def _steepness(centre: Array, p: int, size: int) -> float:
    """Largest difference of a pixel from the one before and the one behind; 0 if unknown."""
    before = abs(centre[p] - centre[p - 1]) if p > 0 else 0.0
    behind = abs(centre[p] - centre[p + 1]) if p + 1 < size else 0.0
    before = before if before == before else 0.0
    return behind if behind > before else before


@compiled
def _scatter_of_structure(
    stack: Stack,
    segment: Segment,
    measured: Samples,
    pixel: int,
    typical: float,
    expected: float,
    values: Array,
) -> float:
    """Scatter that the steepness of a pixel leads to expect, as it does around it.

    Where a star is not quite at the same place in all samples they differ by what the light does
    from one pixel to the next, for which the errors know nothing.
    """
    number, size = stack.samples.shape[0], stack.size
    first, stop = max(pixel - REACH, 0), min(pixel + REACH + 1, size)
    centre = segment.centre
    for p in range(max(first - 1, 0), min(stop + 1, size)):
        centre[p] = _lower_median(stack, measured, p, values)
    found = 0
    for p in range(first, stop):
        i, count = p % number, segment.number[p]
        value = np.float64(stack.samples[i, stack.start + p])
        if count < 2 or p == pixel or value != value:
            continue
        error = segment.error[p] if segment.valid[p] else typical
        unit = math.hypot(error, _steepness(centre, p, size)) * math.sqrt((count - 1) / count)
        segment.buffer[found] = abs(value - measured.level[i] - segment.mean[p]) / unit
        found += 1
    ratio = GAUSSIAN * _median(segment.buffer, found) if found >= FEW_NEIGHBOURS else 0.0
    return ratio * math.hypot(expected, _steepness(centre, pixel, size))


@inlined
def _own_scatter(column: Column, size: int, values: Array) -> float:
    """Scatter of a pixel's own samples, from their median absolute deviation; 0 for two.

    For few samples made larger as C. Croux and P. J. Rousseeuw (1992) have it.
    """
    if size < 3:
        return 0.0
    for k in range(size):
        values[k] = column.value[k]
    centre = _median(values, size)
    for k in range(size):
        values[k] = abs(column.value[k] - centre)
    return GAUSSIAN * size / (size - 0.8) * _select(values, size, size // 2)


@compiled
def _level_around(
    stack: Stack, segment: Segment, measured: Samples, pixel: int, values: Array
) -> tuple[float, float]:
    """Level of a pixel's neighbours, of each the lower median of its samples, and its scatter."""
    found = 0
    for p in range(max(pixel - NEAREST, 0), min(pixel + NEAREST + 1, stack.size)):
        present = 0
        for i in range(stack.samples.shape[0]):
            value = np.float64(stack.samples[i, stack.start + p]) - measured.level[i]
            if value == value:
                values[present] = value
                present += 1
        if present and p != pixel:
            segment.buffer[found] = _median(values, present)
            found += 1
    if found < FEW_NEIGHBOURS:
        return np.nan, np.nan
    level = _median(segment.buffer, found)
    for k in range(found):
        segment.buffer[k] = abs(segment.buffer[k] - level)
    return level, GAUSSIAN * _median(segment.buffer, found)


@inlined
def _choose(values: Array, size: int, worst: int, level: float, reach: float) -> int:
    """Choose which of two or three samples goes: it need not be the one furthest from the rest.

    Cosmic rays add. So it is the highest, unless the neighbours say that the lowest lies too low
    and the highest does not lie too high; of three, the lowest also if they say neither.
    """
    lowest, highest = 0, 0
    for i in range(1, size):
        lowest = i if values[i] < values[lowest] else lowest
        highest = i if values[i] > values[highest] else highest
    is_low = values[lowest] < level - reach
    is_high = values[highest] > level + reach
    if size == 2:
        return lowest if is_low and not is_high else highest
    return highest if worst == lowest and is_high and not is_low else worst


@inlined
def _remove(i: int, size: int, column: Column) -> None:
    """Take sample `i` out; the others stay in their order."""
    for k in range(i, size - 1):
        column.value[k] = column.value[k + 1]
        column.error[k] = column.error[k + 1]
        column.noise[k] = column.noise[k + 1]
        column.place[k] = column.place[k + 1]


@compiled
def _clip_pixel(
    stack: Stack,
    segment: Segment,
    measured: Samples,
    pixel: int,
    typical: float,
    sigma: float,
    maxiters: int,
    column: Column,
) -> int:
    """Remove the worst sample until none is too far; return how many are left in `column`."""
    left = _gather_column(stack, stack.start + pixel, measured, typical, column)
    excess, floor, level, width = 0.0, 0.0, np.nan, np.nan
    iteration = 0
    while left > 1:
        worst, expected = _find_worst(column, left, typical, max(excess, 1.0), floor, sigma)
        if worst < 0:
            break
        if excess == 0:  # looked up only where it is needed
            excess = _excess_around(stack, segment, measured, pixel, typical)
            if excess > UNREST:
                floor = max(
                    _own_scatter(column, left, column.square),
                    _scatter_of_structure(
                        stack, segment, measured, pixel, typical, expected, column.square
                    ),
                )
            continue
        if left <= 3:
            if level != level:
                level, width = _level_around(stack, segment, measured, pixel, column.square)
            worst = _choose(column.value, left, worst, level, sigma * max(width, expected))
        _remove(worst, left, column)
        left -= 1
        iteration += 1
        if iteration == maxiters:
            break
    return left


@inlined
def _average_all(
    stack: Stack, segment: Segment, mean: Array, uncertainty: Array, counts: Array
) -> Any:
    """Average all samples; return how many there are."""
    usable: Any = np.int64(0)
    for p in range(stack.size):
        count, at = segment.number[p], stack.start + p
        usable += count
        counts[at] = count
        mean[at] = segment.mean[p] if count else np.nan
        uncertainty[at] = math.sqrt(segment.variance[p]) / count if count else np.nan
    return usable


@inlined
def _average_column(stack: Stack, pixel: int, column: Column, left: int) -> tuple[float, float]:
    """Average what is left of a pixel."""
    total, variance = 0.0, 0.0
    for k in range(left):
        total += column.value[k]
        variance += np.float64(stack.errors[column.place[k], pixel]) ** 2
    return total / left, math.sqrt(variance) / left


@inlined
def _average_segment(
    stack: Stack,
    sigma: float,
    maxiters: int,
    scratch: tuple[Segment, Samples, Column],
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> tuple[int, int]:
    segment, measured, column = scratch
    _sum(stack, segment)
    usable = _average_all(stack, segment, mean, uncertainty, counts)
    clipped: Any = np.int64(0)
    typical = _typical_error(segment, stack.size)
    typical = _measure_samples(stack, segment, measured, typical)
    _shift_means(stack, segment, measured)
    _set_reach(stack, segment, measured, typical, sigma)
    _find_suspects(stack, segment, measured)
    for p in range(stack.size):
        if segment.suspect[p]:
            left = _clip_pixel(stack, segment, measured, p, typical, sigma, maxiters, column)
            if left < segment.number[p]:
                at = stack.start + p
                average, uncertainty[at] = _average_column(stack, at, column, left)
                mean[at] = average + segment.shift[p]
                counts[at] = left
                clipped += segment.number[p] - left
    return usable, clipped


@compiled
def average_by_noise(
    samples: Array,
    errors: Array,
    columns: int,
    sigma: float,
    maxiters: int,
    scratch: tuple[Segment, Samples, Column],
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> tuple[int, int]:
    """Clip and average a stack of rows of `columns` pixels.

    `samples` and `errors` are (samples, pixels) float32. A missing sample is NaN in `samples`
    and 0 in `errors`; an error that is not valid is NaN. `maxiters` 0 means until stable. `mean`,
    `uncertainty` (float32) and `counts` (uint32), each (pixels,), are filled: NaN and 0 where there
    is no sample. Where there is one, at least one is kept. Returns how many samples were usable,
    and how many were clipped.
    """
    usable: Any = np.int64(0)
    clipped: Any = np.int64(0)
    segments = max(columns // SEGMENT, 1)
    for row in range(0, samples.shape[1], columns):
        for k in range(segments):
            start, stop = row + k * columns // segments, row + (k + 1) * columns // segments
            offered, lost = _average_segment(
                Stack(samples, errors, start, stop - start),
                sigma,
                maxiters,
                scratch,
                mean,
                uncertainty,
                counts,
            )
            usable += offered
            clipped += lost
    return usable, clipped


def make_scratch(samples: int) -> tuple[Segment, Samples, Column]:
    """Make the buffers of `average_by_noise` for so many samples."""
    most = 2 * SEGMENT
    segment = Segment(
        mean=np.empty(most),
        variance=np.empty(most),
        error=np.empty(most),
        shift=np.empty(most),
        centre=np.empty(most),
        reach=np.empty(most),
        low=np.empty(most, np.float32),
        number=np.empty(most, np.int32),
        valid=np.empty(most, np.int32),
        suspect=np.empty(most, np.bool_),
        buffer=np.empty(most),
    )
    measured = Samples(np.empty(samples), np.empty(samples), np.empty(samples))
    column = Column(
        value=np.empty(samples),
        error=np.empty(samples),
        noise=np.empty(samples),
        square=np.empty(samples),
        place=np.empty(samples, np.int64),
    )
    return segment, measured, column
