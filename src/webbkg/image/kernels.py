"""Iterative sigma clipping of a stack, and the average of what survives.

The rule is that of ``astropy.stats.sigma_clip(..., axis=0)``: centre = median, width =
population standard deviation, limits included, and the last limits applied to all samples.
Samples are the first axis; NaN marks a sample that is missing.
"""

from __future__ import annotations

import math

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

CHUNK = 256  # pixels whose samples and sums stay in the nearest caches
LANES = 64  # pixels that are sorted side by side
MARGIN = 1e-4  # relative; more than float32 sums of a thousand samples can be off
ROUNDING = 1e-9  # relative; nearer to a limit than this, the order of operations may decide


@inlined
def _kth_smallest(values: Array, size: int, k: int) -> float:
    """Partition ``values[:size]`` in place until element `k` is in its sorted place (Hoare).

    The order in which the elements end up matters: sums over the buffer depend on it in the
    last digit, and ties at a limit depend on that digit.
    """
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
                kept = values[i]
                values[i] = values[j]
                values[j] = kept
                i += 1
                j -= 1
            if i > j:
                break
        if j < k:
            left = i
        if k < i:
            right = j
    smallest: float = values[k]
    return smallest


@inlined
def _median(values: Array, size: int) -> float:
    upper = _kth_smallest(values, size, size // 2)
    if size % 2 == 1:
        return upper
    return 0.5 * (upper + _kth_smallest(values, size, size // 2 - 1))


@inlined
def _standard_deviation(values: Array, size: int) -> float:
    total = 0.0
    for i in range(size):
        total += values[i]
    mean = total / size
    squares = 0.0
    for i in range(size):
        squares += (mean - values[i]) ** 2
    return math.sqrt(squares / size)


@inlined
def _clip_limits(values: Array, size: int, sigma: float, maxiters: int) -> tuple[float, float]:
    """Limits after clipping ``values[:size]`` (float64, reordered); `maxiters` 0: until stable."""
    low = math.nan
    high = math.nan
    iteration = 0
    while size > 0:
        centre = _median(values, size)
        width = _standard_deviation(values, size)
        reach = sigma * width if sigma < np.inf else np.inf  # though the width be 0
        low = centre - reach
        high = centre + reach
        kept = 0
        for i in range(size):
            if low <= values[i] <= high:
                values[kept] = values[i]
                kept += 1
        iteration += 1
        if kept == size or iteration == maxiters:
            break
        size = kept
    return low, high


@compiled
def clip_mask(stack: Array, sigma: float, maxiters: int, keep: Array) -> None:
    """Mark in `keep` (samples, pixels; bool) the samples of `stack` (float64) that survive."""
    samples, pixels = stack.shape
    buffer = np.empty(samples)
    for pixel in range(pixels):
        size = 0
        for i in range(samples):
            value = stack[i, pixel]
            if abs(value) < np.inf:
                buffer[size] = value
                size += 1
        low, high = _clip_limits(buffer, size, sigma, maxiters)
        for i in range(samples):
            value = stack[i, pixel]
            keep[i, pixel] = abs(value) < np.inf and low <= value <= high


@inlined
def _sum(
    samples: Array,
    errors: Array,
    start: int,
    size: int,
    count: Array,
    total: Array,
    variance: Array,
) -> None:
    """Count and sum the samples of `size` pixels from `start`, and their err²."""
    count[:size] = 0
    total[:size] = 0.0
    variance[:size] = 0.0
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        for p in range(size):
            present = row[p] == row[p]
            count[p] += np.int32(1) if present else np.int32(0)
            total[p] += np.float64(row[p]) if present else 0.0
    for i in range(errors.shape[0]):
        row = errors[i, start : start + size]
        for p in range(size):
            variance[p] += np.float64(row[p]) * np.float64(row[p])


@inlined
def _measure_range(samples: Array, start: int, size: int, smallest: Array, largest: Array) -> None:
    smallest[:size] = np.float32(np.inf)
    largest[:size] = np.float32(-np.inf)
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        for p in range(size):
            smallest[p] = row[p] if row[p] < smallest[p] else smallest[p]
            largest[p] = row[p] if row[p] > largest[p] else largest[p]


@inlined
def _sum_squares(samples: Array, start: int, size: int, centre: Array, squares: Array) -> None:
    squares[:size] = np.float32(0)
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        for p in range(size):
            offset = row[p] - centre[p]
            squares[p] += offset * offset if offset == offset else np.float32(0)


@inlined
def _rank(
    samples: Array, start: int, size: int, floor: Array, ceiling: Array, below: Array, above: Array
) -> None:
    """Count the samples under `floor` and over `ceiling`."""
    below[:size] = 0
    above[:size] = 0
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        for p in range(size):
            below[p] += np.int32(1) if row[p] < floor[p] else np.int32(0)
            above[p] += np.int32(1) if row[p] > ceiling[p] else np.int32(0)


@inlined
def _lower_limit_of_width(total: float, count: float, centre: float, squares: float) -> float:
    """Least standard deviation that float32 sums of squares about `centre` allow."""
    shift = total / count - np.float64(centre)
    variance = np.float64(squares) / count * (1.0 - MARGIN) - shift * shift * (1.0 + MARGIN)
    return math.sqrt(max(variance, 0.0))


@inlined
def _find_untouched(
    samples: Array,
    start: int,
    size: int,
    sigma: float,
    count: Array,
    total: Array,
    scratch: Array,
    ranks: Array,
    untouched: Array,
) -> None:
    """Find the pixels in which the first iteration certainly rejects nothing.

    The largest sample survives if the median is at least largest − sigma·width, so if no more
    than half of the samples lie below that; likewise the smallest. No sorting is needed. All in
    float32, and drawn in by more than its rounding: what is too near to call is not untouched.
    """
    # Taken one by one: unpacked rows would not be known to be contiguous.
    smallest, largest, centre = scratch[0], scratch[1], scratch[2]
    squares, floor, ceiling = scratch[3], scratch[4], scratch[5]
    below, above = ranks[0], ranks[1]
    _measure_range(samples, start, size, smallest, largest)
    for p in range(size):
        centre[p] = total[p] / max(count[p], 1)
    _sum_squares(samples, start, size, centre, squares)
    for p in range(size):
        width = _lower_limit_of_width(total[p], max(count[p], 1), centre[p], squares[p])
        needed = np.float64(largest[p]) - sigma * width
        floor[p] = needed + MARGIN * abs(needed)
        needed = np.float64(smallest[p]) + sigma * width
        ceiling[p] = needed - MARGIN * abs(needed)
    _rank(samples, start, size, floor, ceiling, below, above)
    for p in range(size):
        half = (count[p] - 1) // 2
        fits = below[p] <= half and above[p] <= half and squares[p] < np.inf
        untouched[p] = fits or smallest[p] == largest[p]


@inlined
def sort_lanes(lanes: Array, width: int, network: Array) -> None:
    """Sort each of the first `width` columns of `lanes` by a network of comparators."""
    for k in range(network.shape[0]):
        first = lanes[network[k, 0], :width]
        second = lanes[network[k, 1], :width]
        for p in range(width):
            a = first[p]
            b = second[p]
            first[p] = a if a < b else b
            second[p] = b if a < b else a


@inlined
def sort_pixels(samples: Array, pixels: Array, network: Array, lanes: Array) -> None:
    """Put pixels of `samples` side by side into `lanes`, a column each, sorted; NaN comes last."""
    for i in range(samples.shape[0]):
        for p in range(pixels.size):
            value = samples[i, pixels[p]]
            lanes[i, p] = value if value == value else np.float32(np.inf)
    sort_lanes(lanes, pixels.size, network)


@inlined
def _is_near(value: float, limit: float, scale: float) -> bool:
    return abs(value - limit) <= ROUNDING * scale


@inlined
def _sorted_limits(
    lanes: Array, lane: int, size: int, sigma: float, maxiters: int
) -> tuple[float, float]:
    """Limits after clipping the sorted column `lane`; NaN where rounding could decide.

    The survivors of a sorted column are a run of it.
    """
    first = 0
    last = size
    low = math.nan
    high = math.nan
    iteration = 0
    while last > first:
        kept = last - first
        middle = first + kept // 2
        centre = np.float64(lanes[middle, lane])
        if kept % 2 == 0:
            centre = 0.5 * (centre + np.float64(lanes[middle - 1, lane]))
        total = 0.0
        for i in range(first, last):
            total += np.float64(lanes[i, lane])
        mean = total / kept
        squares = 0.0
        for i in range(first, last):
            squares += (np.float64(lanes[i, lane]) - mean) ** 2
        width = math.sqrt(squares / kept)
        low = centre - sigma * width
        high = centre + sigma * width
        scale = abs(centre) + sigma * width
        while first < last and lanes[first, lane] < low:
            first += 1
        while first < last and lanes[last - 1, lane] > high:
            last -= 1
        for i in range(max(first - 1, 0), min(first + 1, size)):
            if _is_near(np.float64(lanes[i, lane]), low, scale):
                return math.nan, math.nan
        for i in range(max(last - 1, 0), min(last + 1, size)):
            if _is_near(np.float64(lanes[i, lane]), high, scale):
                return math.nan, math.nan
        iteration += 1
        if last - first == kept or iteration == maxiters:
            break
    return low, high


@inlined
def _average_within(
    samples: Array, errors: Array, pixel: int, low: float, high: float
) -> tuple[float, float, int]:
    """Mean, its uncertainty and number of the samples of one pixel within the limits."""
    kept = 0
    total = 0.0
    variance = 0.0
    for i in range(samples.shape[0]):
        value = np.float64(samples[i, pixel])
        if low <= value <= high:
            kept += 1
            total += value
            variance += np.float64(errors[i, pixel]) ** 2 if errors.shape[0] > 0 else 0.0
    if kept == 0:
        return np.nan, np.nan, 0
    return total / kept, math.sqrt(variance) / kept, kept


@inlined
def _exact_limits(
    samples: Array, pixel: int, sigma: float, maxiters: int, buffer: Array
) -> tuple[float, float]:
    size = 0
    for i in range(samples.shape[0]):
        value = np.float64(samples[i, pixel])
        if value == value:
            buffer[size] = value
            size += 1
    return _clip_limits(buffer, size, sigma, maxiters)


Scratch = tuple[Array, Array, Array, Array, Array, Array]


def make_scratch() -> Scratch:
    """Make the buffers of `average_untouched`; made there, they would be compiled as well."""
    return (
        np.empty(CHUNK, np.int32),
        np.empty(CHUNK),
        np.empty(CHUNK),
        np.ones(CHUNK, np.bool_),
        np.empty((6, CHUNK), np.float32),
        np.empty((2, CHUNK), np.int32),
    )


@compiled
def average_untouched(
    samples: Array,
    errors: Array,
    sigma: float | None,
    scratch: Scratch,
    mean: Array,
    uncertainty: Array,
    counts: Array,
    touched: Array,
) -> tuple[int, int]:
    """Average the pixels of a stack in which clipping certainly rejects nothing.

    `samples` and `errors` are (samples, pixels) float32, or (0, pixels) for errors that nobody
    wants, and what comes of them means nothing. A missing sample is NaN in `samples`
    and 0 in `errors`; an error that is not valid is NaN. `sigma` None says that nothing can be
    rejected, and spares compiling what looks for it. `mean`, `uncertainty` (float32) and `counts`
    (uint32), each (pixels,), are filled: NaN and 0 where there is no sample. The other pixels are
    listed in `touched` (int32), and `counts` holds their usable samples. Returns how many samples
    were usable, and how many pixels are listed.
    """
    pixels = samples.shape[1]
    count, total, variance, untouched, values, ranks = scratch
    listed = 0
    usable = 0
    for start in range(0, pixels, CHUNK):
        size = min(CHUNK, pixels - start)
        _sum(samples, errors, start, size, count, total, variance)
        if sigma is not None:
            _find_untouched(samples, start, size, sigma, count, total, values, ranks, untouched)
        for p in range(size):
            kept = count[p]
            usable += kept
            counts[start + p] = kept
            if kept == 0:
                mean[start + p] = np.nan
                uncertainty[start + p] = np.nan
            elif untouched[p]:
                mean[start + p] = total[p] / kept
                uncertainty[start + p] = math.sqrt(variance[p]) / kept
            else:
                touched[listed] = start + p
                listed += 1
    return usable, listed


@compiled
def average_touched(
    samples: Array,
    errors: Array,
    touched: Array,
    sigma: float,
    maxiters: int,
    network: Array,
    lanes: Array,
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> tuple[int, int]:
    """Clip and average the pixels listed in `touched`; see `average_untouched`.

    They are sorted side by side in `lanes` (samples, LANES; float32), with the comparators of
    `network` (comparators, 2). `maxiters` 0 means until stable. Those that are too near to call
    are left to `average_near`, and listed in `touched` anew. Returns how many samples were
    clipped, and how many pixels are listed.
    """
    clipped = 0
    near = 0
    for start in range(0, touched.size, LANES):
        width = min(LANES, touched.size - start)
        sort_pixels(samples, touched[start : start + width], network, lanes)
        for p in range(width):
            pixel = touched[start + p]
            usable = counts[pixel]
            low, high = _sorted_limits(lanes, p, usable, sigma, maxiters)
            if low != low:
                touched[near] = pixel
                near += 1
                continue
            mean[pixel], uncertainty[pixel], counts[pixel] = _average_within(
                samples, errors, pixel, low, high
            )
            clipped += usable - counts[pixel]
    return clipped, near


@compiled
def average_near(
    samples: Array,
    errors: Array,
    listed: Array,
    sigma: float,
    maxiters: int,
    mean: Array,
    uncertainty: Array,
    counts: Array,
) -> int:
    """Clip and average the pixels that `average_touched` listed; return how many samples went.

    They are few, or none: only who has some compiles this.
    """
    buffer = np.empty(samples.shape[0])
    clipped = 0
    for pixel in listed:
        usable = counts[pixel]
        low, high = _exact_limits(samples, pixel, sigma, maxiters, buffer)
        mean[pixel], uncertainty[pixel], counts[pixel] = _average_within(
            samples, errors, pixel, low, high
        )
        clipped += usable - counts[pixel]
    return clipped
