"""Clipping of a stack by the scatter that its ERR leads to expect: all that is measured for it.

What the rule is, and why, is said in docs/clipping.md. Each kernel is a step of noise.py, which
holds what they share; those that find suspects and clip them are in suspect_kernels.py.
Throughout,

- `samples` and `errors` are (samples, pixels) float32, row after row. A missing sample is NaN in
  `samples` and 0 in `errors`; an error that is not valid is NaN;
- a kernel sees the pixels from `first` on, and its own arrays begin there: `mean` and `error`
  (float64), of the samples and of the valid errors, and how many there are, `count` and `valid`
  (int32);
- a row is judged in segments, each by itself: `edges` (segments + 1,) int64 tells where they
  begin. `measured` (segments, 3, samples) float64 holds, of each sample, its level (what it lies
  above the mean), its noise (its errors in units of the mean error) and 1 over that; `typical`
  (segments,) is the error that is typical;
- `suspects` (2, pixels) int64 lists pixels and their segments, and `facts` (5, pixels) float64 what
  is known of them, as `EXPECTED` and what follows it say.
"""

from __future__ import annotations

import math
from typing import Any

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

BLOCK = 512
"""Pixels whose sums stay in the nearest cache."""

LEVEL, NOISE, WEIGHT = 0, 1, 2  # of a sample in a segment: rows of `measured`

EXPECTED = 0  # what of a suspect's scatter its own errors lead to expect
EXCESS = 1  # by how much more its neighbours scatter, at least 1; 0 until it is measured
FLOOR = 2  # what its scatter is at least
AROUND = 3  # level of its neighbours; infinite until it is measured, NaN where there are too few
WIDTH = 4  # the scatter of that


Sums = tuple[Array, Array, Array]

Numbers = tuple[Array, Array]


@compiled
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


@inlined
def _median(values: Array, size: int) -> float:
    """Median of ``values[:size]`` (reordered), of an even number the lower of the middle two."""
    return _select(values, size, (size - 1) // 2)


@inlined
def _add(
    row: Array,
    err: Array,
    mean: Array,
    error: Array,
    squares: Array,
    count: Array,
    valid: Array,
) -> None:
    """Add a sample to the sums: with few arrays in a loop, or it is not vectorised."""
    for p in range(row.size):
        present = row[p] == row[p]
        count[p] += np.int32(1) if present else np.int32(0)
        mean[p] += np.float64(row[p]) if present else 0.0
    for p in range(row.size):
        squares[p] += np.float64(err[p]) * np.float64(err[p])
    for p in range(row.size):
        positive = err[p] > 0
        valid[p] += np.int32(1) if positive else np.int32(0)
        error[p] += np.float64(err[p]) if positive else 0.0


@compiled
def sum_samples(
    samples: Array,
    errors: Array,
    first: int,
    sums: Sums,
    numbers: Numbers,
    mean_of_all: Array,
    uncertainty: Array,
    counts: Array,
) -> Any:
    """Average all samples of each pixel; return how many samples there are.

    Fills `sums`: `mean`, `error`, and a buffer for err²; and `numbers`: `count` and `valid`.
    `mean_of_all`, `uncertainty` (float32) and `counts` (uint32), (pixels,) as in `samples`, are
    NaN and 0 where there is no sample.
    """
    mean, error, squares = sums
    count, valid = numbers
    usable: Any = np.int64(0)
    for start in range(0, mean.size, BLOCK):
        size = min(BLOCK, mean.size - start)
        to_mean, to_error = mean[start : start + size], error[start : start + size]
        to_count, to_valid = count[start : start + size], valid[start : start + size]
        to_mean[:] = 0.0
        to_error[:] = 0.0
        to_count[:] = 0
        to_valid[:] = 0
        squares[:size] = 0.0
        at = first + start
        for i in range(samples.shape[0]):
            row, err = samples[i, at : at + size], errors[i, at : at + size]
            _add(row, err, to_mean, to_error, squares, to_count, to_valid)
        out, out_err = mean_of_all[at : at + size], uncertainty[at : at + size]
        number = counts[at : at + size]
        for p in range(size):
            usable += to_count[p]
            number[p] = to_count[p]
        for p in range(size):
            to_error[p] /= max(to_valid[p], 1)
        for p in range(size):
            to_mean[p] /= max(to_count[p], 1)
            out[p] = to_mean[p] if to_count[p] else np.nan
        for p in range(size):
            width = math.sqrt(squares[p]) / max(to_count[p], 1)
            out_err[p] = width if to_count[p] else np.nan
    return usable


@inlined
def _typical_error(error: Array, valid: Array, buffer: Array) -> float:
    """Median of the mean errors of a few pixels, or of all; 0 if none is valid."""
    size = error.size
    found: Any = np.int64(0)  # a plain 0 would be a type of its own, for which to compile
    for step in (max(size // PROBES, 1), 1):
        found = np.int64(0)
        for p in range(step // 2, size, step):
            if valid[p]:
                buffer[found] = error[p]
                found += 1
        if found >= FEW_NEIGHBOURS:
            break
    return _median(buffer, found) if found else 0.0


@compiled
def _choose_pixels(row: Array, mean: Array, count: Array, centre: Array) -> tuple[int, int]:
    """Choose the pixels with most samples, of those where a sample is present.

    There all levels are measured against the mean of the same exposures: `centre`, NaN elsewhere.
    Returns how many samples they have, and how many pixels there are.
    """
    most: Any = np.int32(0)
    for p in range(row.size):
        most = count[p] if (row[p] == row[p]) & (count[p] > most) else most
    pixels: Any = np.int64(0)
    for p in range(row.size):
        is_chosen = (count[p] == most) & (row[p] == row[p])
        pixels += 1 if is_chosen else 0
        centre[p] = mean[p] if is_chosen else np.nan
    return most, pixels


@compiled
def _gather_offsets(row: Array, centre: Array, step: int, buffer: Array) -> int:
    """Collect the deviation of each `step`-th pixel."""
    found = 0
    for p in range(step // 2, row.size, step):
        off = np.float64(row[p]) - centre[p]
        if off == off:
            buffer[found] = off
            found += 1
    return found


@inlined
def _refine(row: Array, centre: Array, pixels: int, level: float, core: float, off: Array) -> float:
    """Improve the level of a segment by a step of Huber's estimator.

    P. J. Huber (1964), Annals of Mathematical Statistics 35, 73. If less than half of the pixels
    agree with the level then it is none, but structure: 0.
    """
    size = row.size
    inside: Any = np.int64(0)
    for p in range(size):
        far = np.float64(row[p]) - centre[p] - level
        inside += 1 if abs(far) < core else 0
        far = far if far < core else core
        far = far if far > -core else -core
        off[p] = far if centre[p] == centre[p] else 0.0
    a, b, c, d = 0.0, 0.0, 0.0, 0.0  # four sums do not wait for each other
    whole = size - size % 4
    for p in range(0, whole, 4):
        a += off[p]
        b += off[p + 1]
        c += off[p + 2]
        d += off[p + 3]
    for p in range(whole, size):
        a += off[p]
    return level + (a + b + c + d) / inside if 2 * inside >= pixels else 0.0


@inlined
def _measure_sample(
    row: Array,
    err: Array,
    error: Array,
    most: int,
    pixels: int,
    usual: float,
    buffers: tuple[Array, Array],
) -> tuple[float, float]:
    """Level and noise of a sample in a segment in which most errors are `usual`."""
    centre, buffer = buffers
    size = row.size
    step = max(size // LEVEL_PROBES, 1) if 2 * pixels > size else 1
    spread = max(size // PROBES, 1) if 2 * pixels > size else 1
    found = _gather_offsets(row, centre, step, buffer)
    if found < FEW_NEIGHBOURS:
        spread = min(spread, 1)  # a plain 1 would be a type of its own, for which to compile
        found = _gather_offsets(row, centre, spread, buffer)
    level = _median(buffer, found)
    found -= found  # to zero, of the same type
    for p in range(spread // 2, size, spread):
        if centre[p] == centre[p] and err[p] > 0:
            buffer[found] = np.float64(err[p]) / error[p]
            found += 1
    noise = _median(buffer, found) if found else 1.0
    core = CORE * usual * noise * math.sqrt((most - 1) / most)
    return _refine(row, centre, pixels, level, core, buffer), noise


@compiled
def measure_samples(
    samples: Array,
    errors: Array,
    first: int,
    edges: Array,
    sums: Sums,
    numbers: Numbers,
    buffers: tuple[Array, Array],
    measured: Array,
    typical: Array,
) -> Any:
    """Measure level and noise of every sample in each segment; return how many have no errors."""
    number = samples.shape[0]
    centre, buffer = buffers
    unknown: Any = np.int64(0)
    for segment in range(typical.size):
        start, stop = edges[segment], edges[segment + 1]
        mean, error = sums[0][start:stop], sums[1][start:stop]
        count, valid = numbers[0][start:stop], numbers[1][start:stop]
        usual = _typical_error(error, valid, buffer)
        typical[segment] = usual
        unknown += 1 if usual == 0 else 0
        most: Any = np.int64(-1)
        pixels: Any = np.int64(0)
        for i in range(number):
            row = samples[i, first + start : first + stop]
            if most < number:
                most, pixels = _choose_pixels(row, mean, count, centre)
            level, noise = 0.0, 1.0
            if usual > 0 and pixels >= FEWEST and most > 1:
                err = errors[i, first + start : first + stop]
                level, noise = _measure_sample(row, err, error, most, pixels, usual, buffers)
            measured[segment, LEVEL, i] = level
            measured[segment, NOISE, i] = noise
            measured[segment, WEIGHT, i] = 1 / noise
    return unknown


@compiled
def measure_without_errors(
    samples: Array,
    first: int,
    edges: Array,
    mean: Array,
    count: Array,
    buffers: tuple[Array, Array],
    measured: Array,
    typical: Array,
) -> None:
    """Measure every sample, from the samples themselves, where `typical` is 0.

    Then it becomes the mean scatter of the samples, or 1 where that is unknown too.
    """
    centre, buffer = buffers
    for segment in range(typical.size):
        if typical[segment] > 0:
            continue
        start, stop = edges[segment], edges[segment + 1]
        total, known = 0.0, 0
        for i in range(samples.shape[0]):
            row = samples[i, first + start : first + stop]
            most, pixels = _choose_pixels(row, mean[start:stop], count[start:stop], centre)
            level, noise = 0.0, 0.0
            if pixels >= FEWEST and most > 1:
                found = _gather_offsets(row, centre, min(row.size, 1), buffer)
                level = _median(buffer, found)
                for k in range(found):
                    buffer[k] = abs(buffer[k] - level)
                noise = GAUSSIAN * _median(buffer, found) / math.sqrt((most - 1) / most)
            measured[segment, LEVEL, i] = level
            measured[segment, NOISE, i] = noise if noise > 0 else np.inf
            if 0 < noise < np.inf:
                total += noise
                known += 1
        typical[segment] = total / known if known else 1.0
        for i in range(samples.shape[0]):
            measured[segment, NOISE, i] /= typical[segment]
            measured[segment, WEIGHT, i] = 1 / measured[segment, NOISE, i]


@compiled
def measure_excess(
    samples: Array,
    first: int,
    edges: Array,
    sums: Sums,
    numbers: Numbers,
    suspects: Array,
    listed: int,
    measured: Array,
    typical: Array,
    facts: Array,
    buffer: Array,
) -> Any:
    """Measure the scatter of samples around suspects in units of what is expected; at least 1.

    Of each neighbour one sample is asked, in turn: of two samples the other says the same. Returns
    how many suspects call for a closer look.
    """
    number = samples.shape[0]
    mean, error, _ = sums
    count, valid = numbers
    usual = math.sqrt((number - 1) / number)
    restless: Any = np.int64(0)
    for k in range(listed):
        pixel, segment = suspects[0, k], suspects[1, k]
        start, stop = max(pixel - REACH, edges[segment]), min(pixel + REACH + 1, edges[segment + 1])
        level, noise = measured[segment, LEVEL], measured[segment, NOISE]
        i = (start - edges[segment]) % number - 1
        found, calm = 0, 0
        for p in range(start, stop):
            i = i + 1 if i + 1 < number else 0
            value = np.float64(samples[i, first + p])
            if count[p] < 2 or p == pixel or value != value:
                continue
            part = usual if count[p] == number else math.sqrt((count[p] - 1) / count[p])
            unit = (error[p] if valid[p] else typical[segment]) * noise[i] * part
            ratio = GAUSSIAN * abs(value - level[i] - mean[p]) / unit
            buffer[found - calm] = ratio
            found += 1
            calm += 1 if ratio <= 1 else 0
        excess, middle = 1.0, (found - 1) // 2
        if found >= FEW_NEIGHBOURS and calm <= middle:  # the calm ones need no order
            excess = _select(buffer, found - calm, middle - calm)
        restless += 1 if excess > UNREST and facts[EXCESS, k] == 0 else 0
        facts[EXCESS, k] = excess
    return restless


@inlined
def _lower_median(samples: Array, pixel: int, of_sample: Array, values: Array) -> float:
    """Lower median of the samples of a pixel; NaN if there is none."""
    present = 0
    for i in range(samples.shape[0]):
        value = np.float64(samples[i, pixel]) - of_sample[LEVEL, i]
        if value == value:
            values[present] = value
            present += 1
    return _median(values, present) if present else np.nan


@compiled
def measure_around(
    samples: Array,
    first: int,
    edges: Array,
    suspects: Array,
    listed: int,
    measured: Array,
    facts: Array,
    values: Array,
    buffer: Array,
) -> None:
    """Measure the level around suspects, and its scatter.

    Of each neighbour it is the lower median of its samples. `values` (samples,) is a buffer.
    """
    for k in range(listed):
        pixel, segment = suspects[0, k], suspects[1, k]
        start, stop = edges[segment], edges[segment + 1]
        found = 0
        for p in range(max(pixel - NEAREST, start), min(pixel + NEAREST + 1, stop)):
            value = _lower_median(samples, first + p, measured[segment], values)
            if p != pixel and value == value:
                buffer[found] = value
                found += 1
        facts[AROUND, k], facts[WIDTH, k] = np.nan, np.nan
        if found >= FEW_NEIGHBOURS:
            level = _median(buffer, found)
            for j in range(found):
                buffer[j] = abs(buffer[j] - level)
            facts[AROUND, k], facts[WIDTH, k] = level, GAUSSIAN * _median(buffer, found)


@inlined
def _own_scatter(samples: Array, pixel: int, of_sample: Array, values: Array) -> float:
    """Scatter of a pixel's own samples, from their median absolute deviation; 0 for two.

    For few samples made larger as C. Croux and P. J. Rousseeuw (1992) have it.
    """
    centre = _lower_median(samples, pixel, of_sample, values)
    size = 0
    for i in range(samples.shape[0]):
        value = np.float64(samples[i, pixel]) - of_sample[LEVEL, i]
        if value == value:
            values[size] = -abs(value - centre)  # negative: the upper median is to be had
            size += 1
    return -GAUSSIAN * size / (size - 0.8) * _median(values, size) if size > 2 else 0.0


@inlined
def _steepness(middle: Array, p: int) -> float:
    """Largest difference of a pixel from the one before and the one behind; 0 if unknown."""
    before, behind = abs(middle[p] - middle[p - 1]), abs(middle[p] - middle[p + 1])
    before = before if before == before else 0.0
    return behind if behind > before else before


@compiled
def measure_structure(
    samples: Array,
    first: int,
    edges: Array,
    sums: Sums,
    numbers: Numbers,
    suspects: Array,
    listed: int,
    measured: Array,
    typical: Array,
    facts: Array,
    values: Array,
    middle: Array,
    buffer: Array,
) -> None:
    """Set the floor of the scatter where that around a suspect calls for it.

    It is the scatter of its own samples, or, if larger, that which its steepness leads to expect, as
    it does around it. Where a star is not quite at the same place in all samples they differ by
    what the light does from one pixel to the next, for which the errors know nothing. `middle` and
    `buffer` (2 REACH + 3,) are buffers.
    """
    mean, error, _ = sums
    count, valid = numbers
    for k in range(listed):
        if facts[EXCESS, k] <= UNREST:
            continue
        pixel, segment = suspects[0, k], suspects[1, k]
        of_sample, begin = measured[segment], pixel - REACH - 1
        first_of, stop_of = edges[segment], edges[segment + 1]
        for j in range(2 * REACH + 3):
            middle[j] = np.nan
            if first_of <= begin + j < stop_of:
                middle[j] = _lower_median(samples, first + begin + j, of_sample, values)
        found = 0
        for p in range(max(pixel - REACH, first_of), min(pixel + REACH + 1, stop_of)):
            i = (p - first_of) % samples.shape[0]
            value = np.float64(samples[i, first + p])
            if count[p] < 2 or p == pixel or value != value:
                continue
            scatter = error[p] if valid[p] else typical[segment]
            steepness = _steepness(middle, p - begin)
            part = (count[p] - 1) / count[p]
            unit = math.sqrt((scatter**2 + steepness**2) * part)
            buffer[found] = abs(value - of_sample[LEVEL, i] - mean[p]) / unit
            found += 1
        ratio = GAUSSIAN * _median(buffer, found) if found >= FEW_NEIGHBOURS else 0.0
        steepness = _steepness(middle, pixel - begin)
        of_steepness = ratio * math.sqrt(facts[EXPECTED, k] ** 2 + steepness**2)
        own = _own_scatter(samples, first + pixel, of_sample, values)
        facts[FLOOR, k] = max(own, of_steepness)
