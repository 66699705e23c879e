"""Clipping of a stack by the scatter that its ERR leads to expect, and the average of the rest.

What the rule is, and why, is said in docs/clipping.md. Samples are the first axis and NaN marks
one that is missing; pixels are the second, row after row. A row is judged in segments, each by
itself, so that the answer does not depend on how many rows are together.
"""

from __future__ import annotations

import math

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

SEGMENT = 256
"""Least number of a row's pixels that are measured together (all, where a row has fewer)."""

FEWEST = 16
"""Least number of pixels from which an exposure's level and noise are measured."""

PROBES = 15
"""Pixels of a segment from which a first value of its level and noise is taken."""

CORE = 1.5
"""Deviations count in full for a level up to this many times the scatter, and then no more."""

TRUSTED = 0.1
"""An ERR below this fraction of what is typical of the segment is not believed."""

SPREAD = 2.0
"""The ERR of a sample speaks for others between 1/this and this times the reference."""

REACH = 8
"""Neighbours to either side, in the row, that tell the scatter around a pixel."""

NEAREST = 4
"""Neighbours to either side, in the row, that tell the level around a pixel."""

VOICES = 12
"""Most samples a neighbour that are asked for the scatter."""

FEW_NEIGHBOURS = 4
"""Least number of values of neighbours that say anything."""

GAUSSIAN = 1.4826
"""Standard deviation over median absolute deviation, of a Gaussian."""

ROUNDING = 1e-9
"""Relative; what is nearer to its limit than this is judged by the slow and full rule."""


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
def _sum(samples: Array, errors: Array, start: int, size: int, sums: Array, numbers: Array) -> None:
    """Sum samples, err² and valid errors of `size` pixels; count samples and valid errors."""
    total, variance, error = sums[0], sums[1], sums[2]
    count, valid = numbers[0], numbers[1]
    total[:size] = 0.0
    variance[:size] = 0.0
    error[:size] = 0.0
    count[:size] = 0
    valid[:size] = 0
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        err = errors[i, start : start + size]
        for p in range(size):
            present = row[p] == row[p]
            count[p] += np.int32(1) if present else np.int32(0)
            total[p] += np.float64(row[p]) if present else 0.0
            variance[p] += np.float64(err[p]) * np.float64(err[p])
            positive = err[p] > 0
            valid[p] += np.int32(1) if positive else np.int32(0)
            error[p] += np.float64(err[p]) if positive else 0.0
    for p in range(size):
        total[p] /= max(count[p], 1)
        error[p] /= max(valid[p], 1)


@inlined
def _typical_error(error: Array, valid: Array, size: int, buffer: Array) -> float:
    """Median of a segment's mean errors, from a few; 0 if none is valid."""
    found = 0
    step = max(size // PROBES, 1)
    for p in range(step // 2, size, step):
        if valid[p]:
            buffer[found] = error[p]
            found += 1
    if found < FEW_NEIGHBOURS:
        found = 0
        for p in range(size):
            if valid[p]:
                buffer[found] = error[p]
                found += 1
    return _median(buffer, found) if found else 0.0


@inlined
def _fullest(row: Array, count: Array, size: int) -> tuple[int, int]:
    """Most samples that a pixel with this one has, at least 2; and how many pixels have so many."""
    most = np.int32(2)
    for p in range(size):
        most = max(most, count[p] if row[p] == row[p] else np.int32(0))
    pixels = np.int64(0)
    for p in range(size):
        pixels += 1 if (count[p] == most) & (row[p] == row[p]) else 0
    return most, pixels


@inlined
def _gather(
    row: Array,
    err: Array,
    sums: Array,
    numbers: Array,
    size: int,
    step: int,
    most: int,
    ratio: bool,
    buffer: Array,
) -> int:
    """Collect each `step`-th pixel's deviation from the mean, or ERR over the mean ERR."""
    found = 0
    for p in range(step // 2, size, step):
        if numbers[0, p] == most and row[p] == row[p]:
            if not ratio:
                buffer[found] = np.float64(row[p]) - sums[0, p]
                found += 1
            elif err[p] > 0:
                buffer[found] = np.float64(err[p]) / sums[2, p]
                found += 1
    return found


@compiled
def _refine(
    row: Array,
    mean: Array,
    count: Array,
    size: int,
    most: int,
    level: float,
    core: float,
    clamped: Array,
) -> float:
    """Improve the level of a segment by a step of Huber's estimator."""
    inside = np.int64(0)
    for p in range(size):
        off = np.float64(row[p]) - mean[p] - level
        used = (count[p] == most) & (off == off)
        off = off if used else 0.0
        inside += 1 if used & (abs(off) < core) else 0
        clamped[p] = min(max(off, -core), core)
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = size - size % 4
    for p in range(0, whole, 4):
        a += clamped[p]
        b += clamped[p + 1]
        c += clamped[p + 2]
        d += clamped[p + 3]
    for p in range(whole, size):
        a += clamped[p]
    return level + (a + b + c + d) / inside if 2 * inside >= FEWEST else level


@compiled
def _measure_sample(
    row: Array, err: Array, sums: Array, numbers: Array, size: int, typical: float, buffer: Array
) -> tuple[float, float]:
    """Level of a sample in a segment against the mean, and its noise in units of the errors."""
    most, pixels = _fullest(row, numbers[0], size)
    if pixels < FEWEST:
        return 0.0, 1.0 if typical > 0 else np.inf
    step = max(size // PROBES, 1) if typical > 0 and 2 * pixels > size else 1
    found = _gather(row, err, sums, numbers, size, step, most, False, buffer)
    if found < FEW_NEIGHBOURS:
        step = 1
        found = _gather(row, err, sums, numbers, size, step, most, False, buffer)
    level = _median(buffer, found)
    part = math.sqrt((most - 1) / most)
    if typical == 0:
        for k in range(found):
            buffer[k] = abs(buffer[k] - level)
        return level, GAUSSIAN * _median(buffer, found) / part
    found = _gather(row, err, sums, numbers, size, step, most, True, buffer)
    noise = _median(buffer, found) if found else 1.0
    core = CORE * typical * noise * part
    return _refine(row, sums[0], numbers[0], size, most, level, core, buffer), noise


@inlined
def _measure_samples(
    samples: Array,
    errors: Array,
    start: int,
    size: int,
    sums: Array,
    numbers: Array,
    typical: float,
    levels: Array,
    noises: Array,
    buffer: Array,
) -> None:
    """Measure level and noise of every sample; shift the means to the common level."""
    shift = sums[3]
    shift[:size] = 0.0
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        err = errors[i, start : start + size]
        levels[i], noises[i] = _measure_sample(row, err, sums, numbers, size, typical, buffer)
        if not noises[i] > 0:  # nothing tells the scatter: nothing is too far
            noises[i] = np.inf
        for p in range(size):
            shift[p] += levels[i] if row[p] == row[p] else 0.0
    for p in range(size):
        shift[p] /= max(numbers[0, p], 1)


@inlined
def _find_suspects(
    samples: Array,
    errors: Array,
    start: int,
    size: int,
    sums: Array,
    count: Array,
    typical: float,
    sigma: float,
    levels: Array,
    noises: Array,
    low: Array,
    suspect: Array,
) -> None:
    """Find the pixels in which a sample may be too far from the mean of the others.

    The scatter is at least what the smallest believed error of the pixel says, and the mean of
    the others at least as uncertain as if all had the noise of the least noisy exposure.
    """
    mean, shift = sums[0], sums[3]
    number = samples.shape[0]
    low[:size] = np.inf
    suspect[:size] = False
    for i in range(number):
        row = samples[i, start : start + size]
        err = errors[i, start : start + size]
        inverse, least = 1 / noises[i], TRUSTED * typical
        for p in range(size):
            scaled = np.float64(err[p]) * inverse
            trusted = (scaled > 0) & (scaled >= least)
            scaled = scaled if trusted else typical
            low[p] = min(low[p], scaled) if row[p] == row[p] else low[p]
    for p in range(size):
        # n/(n-1) times the deviation from the mean of all is that from the mean of the others.
        part = (count[p] - 1) / count[p] if count[p] > 1 else 1.0
        low[p] = sigma * (1 - ROUNDING) * part * (low[p] if low[p] < np.inf else typical)
        mean[p] -= shift[p]
    quietest = noises[:number].min()
    for i in range(number):
        row = samples[i, start : start + size]
        reach = math.sqrt(noises[i] ** 2 + quietest**2 / (number - 1))
        for p in range(size):
            off = abs(np.float64(row[p]) - levels[i] - mean[p])
            suspect[p] |= off > low[p] * reach


@inlined
def _gather_pixel(
    samples: Array,
    errors: Array,
    pixel: int,
    typical: float,
    levels: Array,
    noises: Array,
    values: Array,
    scaled: Array,
    noise: Array,
    place: Array,
) -> int:
    """Collect a pixel's samples at the common level, and their errors in units of the noise.

    An error that is not believed is 0.
    """
    size = 0
    for i in range(samples.shape[0]):
        value = samples[i, pixel]
        if value == value:
            values[size] = np.float64(value) - levels[i]
            error = np.float64(errors[i, pixel]) / noises[i]
            scaled[size] = error if error > 0 and error >= TRUSTED * typical else 0.0
            noise[size] = noises[i]
            place[size] = i
            size += 1
    return size


@inlined
def _confine(scaled: Array, size: int, confined: Array) -> tuple[float, int]:
    """Square the errors, none far from the second smallest (of two: the smallest), and sum them."""
    smallest, second = np.inf, np.inf
    trusted = 0
    for i in range(size):
        if scaled[i] > 0:
            trusted += 1
            second = min(second, max(smallest, scaled[i]))
            smallest = min(smallest, scaled[i])
    reference = second if trusted > 2 else smallest
    total = 0.0
    for i in range(size):
        confined[i] = 0.0
        if scaled[i] > 0:
            confined[i] = min(max(scaled[i], reference / SPREAD), reference * SPREAD) ** 2
        total += confined[i]
    return total, trusted


@inlined
def _expected(
    i: int, size: int, scaled: Array, confined: Array, total: float, trusted: int, typical: float
) -> float:
    """Variance that the errors of the others lead to expect of a sample; of two, that of both."""
    if size > 2 and scaled[i] > 0:
        total -= confined[i]
        trusted -= 1
    return total / trusted if trusted else typical**2


@inlined
def _worst(
    values: Array,
    noise: Array,
    scaled: Array,
    confined: Array,
    size: int,
    typical: float,
    excess: float,
    sigma: float,
) -> tuple[int, float]:
    """Find the sample that is furthest from the mean of the others; -1 if none is too far.

    Also the standard deviation that is expected of it.
    """
    variance, trusted = _confine(scaled, size, confined)
    total, noises = 0.0, 0.0
    for i in range(size):
        total += values[i]
        noises += noise[i] ** 2
    found, furthest, width = -1, sigma, 0.0
    for i in range(size):
        expected = excess * math.sqrt(
            _expected(i, size, scaled, confined, variance, trusted, typical)
        )
        of_others = (noises - noise[i] ** 2) / (size - 1) ** 2
        deviation = values[i] - (total - values[i]) / (size - 1)
        distance = abs(deviation) / (expected * math.sqrt(noise[i] ** 2 + of_others))
        if distance > furthest:
            found, furthest, width = i, distance, expected * noise[i]
    return found, width


@compiled
def _excess_around(
    samples: Array,
    start: int,
    size: int,
    pixel: int,
    sums: Array,
    numbers: Array,
    typical: float,
    levels: Array,
    noises: Array,
    buffer: Array,
) -> float:
    """Scatter of the samples of a pixel's neighbours in units of that expected; at least 1."""
    step = max(samples.shape[0] // VOICES, 1)
    found = 0
    for p in range(max(pixel - REACH, 0), min(pixel + REACH + 1, size)):
        count = numbers[0, p]
        if count < 2 or p == pixel:
            continue
        error = sums[2, p] if numbers[1, p] else typical
        unit = error * math.sqrt((count - 1) / count)
        for i in range(0, samples.shape[0], step):
            off = abs(np.float64(samples[i, start + p]) - levels[i] - sums[0, p])
            if off == off:
                buffer[found] = off / (unit * noises[i])
                found += 1
    return max(GAUSSIAN * _median(buffer, found), 1.0) if found >= FEW_NEIGHBOURS else 1.0


@compiled
def _level_around(
    samples: Array, start: int, size: int, pixel: int, levels: Array, values: Array, buffer: Array
) -> tuple[float, float]:
    """Level of a pixel's neighbours, of each the lower median of its samples, and its scatter."""
    found = 0
    for p in range(max(pixel - NEAREST, 0), min(pixel + NEAREST + 1, size)):
        present = 0
        for i in range(samples.shape[0]):
            value = np.float64(samples[i, start + p]) - levels[i]
            if value == value:
                values[present] = value
                present += 1
        if present and p != pixel:
            buffer[found] = _median(values, present)
            found += 1
    if found < FEW_NEIGHBOURS:
        return np.nan, np.nan
    level = _median(buffer, found)
    for k in range(found):
        buffer[k] = abs(buffer[k] - level)
    return level, GAUSSIAN * _median(buffer, found)


@inlined
def _extremes(values: Array, size: int) -> tuple[int, int]:
    lowest, highest = 0, 0
    for i in range(1, size):
        lowest = i if values[i] < values[lowest] else lowest
        highest = i if values[i] > values[highest] else highest
    return lowest, highest


@inlined
def _choose(values: Array, size: int, worst: int, level: float, reach: float) -> int:
    """Choose which of two or three samples goes: it need not be the one furthest from the rest.

    Cosmic rays add. So it is the highest, unless the neighbours say that the lowest lies too low
    and the highest does not lie too high; of three, the lowest also if they say neither.
    """
    lowest, highest = _extremes(values, size)
    is_low = values[lowest] < level - reach
    is_high = values[highest] > level + reach
    if size == 2:
        return lowest if is_low and not is_high else highest
    return highest if worst == lowest and is_high and not is_low else worst


@inlined
def _remove(i: int, size: int, values: Array, scaled: Array, noise: Array, place: Array) -> None:
    """Take sample `i` out; the others stay in their order."""
    for k in range(i, size - 1):
        values[k] = values[k + 1]
        scaled[k] = scaled[k + 1]
        noise[k] = noise[k + 1]
        place[k] = place[k + 1]


@compiled
def _clip_pixel(
    samples: Array,
    errors: Array,
    start: int,
    size: int,
    pixel: int,
    sigma: float,
    maxiters: int,
    sums: Array,
    numbers: Array,
    typical: float,
    levels: Array,
    noises: Array,
    buffer: Array,
    lists: Array,
    place: Array,
) -> int:
    """Remove the worst sample until none is too far; return how many are left.

    They are left in
    `lists` and `place`.
    """
    values, scaled, noise, confined = lists[0], lists[1], lists[2], lists[3]
    left = _gather_pixel(
        samples, errors, start + pixel, typical, levels, noises, values, scaled, noise, place
    )
    excess = 0.0
    level, width = np.nan, np.nan
    iteration = 0
    while left > 1:
        worst, expected = _worst(
            values, noise, scaled, confined, left, typical, max(excess, 1.0), sigma
        )
        if worst < 0:
            break
        if excess == 0:
            excess = _excess_around(
                samples, start, size, pixel, sums, numbers, typical, levels, noises, buffer
            )
            if excess > 1:
                continue
        if left <= 3:
            if level != level:
                level, width = _level_around(samples, start, size, pixel, levels, confined, buffer)
            worst = _choose(values, left, worst, level, sigma * max(width, expected))
        _remove(worst, left, values, scaled, noise, place)
        left -= 1
        iteration += 1
        if iteration == maxiters:
            break
    return left


@inlined
def _average_segment(
    samples: Array,
    errors: Array,
    start: int,
    size: int,
    sigma: float,
    maxiters: int,
    scratch: tuple[Array, ...],
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> tuple[int, int]:
    sums, numbers, low, suspect, buffer, levels, noises, lists, place = scratch
    _sum(samples, errors, start, size, sums, numbers)
    usable, clipped = np.int64(0), np.int64(0)
    for p in range(size):
        count = numbers[0, p]
        usable += count
        counts[start + p] = count
        mean[start + p] = sums[0, p] if count else np.nan
        uncertainty[start + p] = math.sqrt(sums[1, p]) / count if count else np.nan
    typical = _typical_error(sums[2], numbers[1], size, buffer)
    _measure_samples(samples, errors, start, size, sums, numbers, typical, levels, noises, buffer)
    typical = typical if typical > 0 else 1.0
    _find_suspects(
        samples, errors, start, size, sums, numbers[0], typical, sigma, levels, noises, low, suspect
    )
    for p in range(size):
        if not suspect[p]:
            continue
        left = _clip_pixel(
            samples,
            errors,
            start,
            size,
            p,
            sigma,
            maxiters,
            sums,
            numbers,
            typical,
            levels,
            noises,
            buffer,
            lists,
            place,
        )
        if left == numbers[0, p]:
            continue
        total, variance = 0.0, 0.0
        for k in range(left):
            total += lists[0, k]
            variance += np.float64(errors[place[k], start + p]) ** 2
        mean[start + p] = total / left + sums[3, p]
        uncertainty[start + p] = math.sqrt(variance) / left
        clipped += counts[start + p] - left
        counts[start + p] = left
    return usable, clipped


@compiled
def average_by_noise(
    samples: Array,
    errors: Array,
    columns: int,
    sigma: float,
    maxiters: int,
    scratch: tuple[Array, ...],
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> tuple[int, int]:
    """Clip and average a stack."""
    usable, clipped = np.int64(0), np.int64(0)
    segments = max(columns // SEGMENT, 1)
    for row in range(0, samples.shape[1], columns):
        for k in range(segments):
            start, stop = row + k * columns // segments, row + (k + 1) * columns // segments
            offered, lost = _average_segment(
                samples,
                errors,
                start,
                stop - start,
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


def make_scratch(samples: int) -> tuple[Array, ...]:
    """Make the buffers of `average_by_noise` for so many samples."""
    most = 2 * SEGMENT
    return (
        np.empty((4, most)),
        np.empty((2, most), np.int32),
        np.empty(most),
        np.empty(most, np.bool_),
        np.empty(max(most, 4 * REACH * VOICES)),
        np.empty(samples),
        np.empty(samples),
        np.empty((4, samples)),
        np.empty(samples, np.int64),
    )
