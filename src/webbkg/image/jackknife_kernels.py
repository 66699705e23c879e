"""Averages of a stack without each sample in turn: what they have in common is found once.

Samples are the first axis; NaN marks a sample that is missing. The rule of clipping is that of
`webbkg.image.kernels`.
"""

from __future__ import annotations

import math

import numpy as np

from webbkg.image.kernels import CHUNK, LANES, MARGIN, ROUNDING, sort_lanes, sort_pixels
from webbkg.numerics.compiled import Array, compiled, inlined

EXACT = 2.0**29  # sums of float32 round nowhere that are below this times their smallest term


@inlined
def _sum_and_copy(
    samples: Array, start: int, size: int, count: Array, total: Array, lanes: Array, extent: Array
) -> None:
    """Count and sum the samples of `size` pixels from `start`, as `_sum` does; copy them to `lanes`.

    In `extent` (2, LANES; float32) are the smallest magnitude above 0, and the largest.
    """
    least, most = extent[0], extent[1]
    count[:size] = 0
    total[:size] = 0.0
    least[:size] = np.float32(np.inf)
    most[:size] = np.float32(0)
    for i in range(samples.shape[0]):
        row = samples[i, start : start + size]
        lane = lanes[i, :size]
        for p in range(size):
            present = row[p] == row[p]
            magnitude = abs(row[p]) if present else np.float32(0)
            count[p] += np.int32(1) if present else np.int32(0)
            total[p] += np.float64(row[p]) if present else 0.0
            lane[p] = row[p] if present else np.float32(np.inf)
            most[p] = max(most[p], magnitude)
            least[p] = min(least[p], magnitude if magnitude > 0 else np.float32(np.inf))


@inlined
def _sum_squares_of_lanes(lanes: Array, size: int, total: Array, squares: Array) -> None:
    """Sum the squares of sorted samples about their mean, none of which is missing."""
    number = lanes.shape[0]
    squares[:size] = np.float32(0)
    for i in range(number):
        lane = lanes[i, :size]
        for p in range(size):
            offset = lane[p] - np.float32(total[p] / number)
            squares[p] += offset * offset


@inlined
def _can_lose(
    number: int, squares: float, offset: float, up: float, down: float, sigma: float
) -> bool:
    """Tell whether the first iteration could reject a sample of a pixel that one is taken off.

    The one is `offset` from the mean of all, whose sum of squares about that is at least
    `squares`: without it that is less by number / (number - 1) · offset². `up` and `down` are how
    far samples are above and below the median that then holds.
    """
    rest = number - 1
    left = squares - offset * offset * (number / rest) * (1.0 + MARGIN)
    reach = sigma * sigma * max(left, 0.0) / rest
    return max(up * up, down * down) > reach


@inlined
def _find_certain(
    lanes: Array, size: int, sigma: float, total: Array, squares: Array, certain: Array
) -> None:
    """Find the pixels in which the first iteration rejects nothing, whichever sample is left out.

    Three cases of sorted samples, none of which is missing, are enough: that the lowest is left
    out, or the highest, or one between, for which the farther of the second from either end stands,
    and either of the two other cases' medians.
    """
    number = lanes.shape[0]
    middle = (number - 1) // 2
    even = (number - 1) % 2 == 0
    # Taken one by one: unpacked rows would not be known to be contiguous.
    lowest, second = lanes[0], lanes[1]
    next_to_highest, highest = lanes[number - 2], lanes[number - 1]
    before, here, after = lanes[middle - 1 if even else middle], lanes[middle], lanes[middle + 1]
    before_after = lanes[middle if even else middle + 1]
    for p in range(size):
        mean = total[p] / number
        shift = mean - np.float64(np.float32(mean))
        least = np.float64(squares[p]) * (1.0 - MARGIN) - number * shift * shift * (1.0 + MARGIN)
        low = 0.5 * (np.float64(before[p]) + np.float64(here[p]))  # without the highest
        high = 0.5 * (np.float64(before_after[p]) + np.float64(after[p]))  # without the lowest
        inner = max(mean - second[p], next_to_highest[p] - mean)
        loses = _can_lose(
            number, least, lowest[p] - mean, highest[p] - high, high - second[p], sigma
        )
        loses |= _can_lose(
            number, least, highest[p] - mean, next_to_highest[p] - low, low - lowest[p], sigma
        )
        loses |= _can_lose(number, least, inner, highest[p] - low, high - lowest[p], sigma)
        certain[p] = not loses and squares[p] < np.inf


JackknifeScratch = tuple[Array, Array, Array]


def make_jackknife_scratch(samples: int) -> JackknifeScratch:
    """Make the buffers of `sum_all`."""
    lanes = np.empty((samples, LANES), np.float32)
    return lanes, np.empty((3, LANES), np.float32), np.ones(LANES, np.bool_)


@compiled
def sum_all(
    samples: Array,
    sigma: float | None,
    network: Array,
    scratch: JackknifeScratch,
    count: Array,
    total: Array,
    doubtful: Array,
) -> int:
    """Count and sum the samples of each pixel, for `leave_out`; see `average_untouched`.

    Fills `count` (int32) and `total` (float64), each (pixels,). Returns how many pixels are listed
    in `doubtful` (int32): in all others nothing is rejected whichever sample is left out, and
    taking that off the total gives what adding the others gives, since no sum of them is rounded.
    """
    pixels = samples.shape[1]
    lanes, values, certain = scratch
    listed = 0
    for start in range(0, pixels, LANES):
        size = min(LANES, pixels - start)
        counts, totals = count[start : start + size], total[start : start + size]
        _sum_and_copy(samples, start, size, counts, totals, lanes, values)
        if sigma is not None:
            sort_lanes(lanes, size, network)
            _sum_squares_of_lanes(lanes, size, totals, values[2])
            _find_certain(lanes, size, sigma, totals, values[2], certain)
        for p in range(size):
            least, most = np.float64(values[0, p]), np.float64(values[1, p])
            is_exact = most * samples.shape[0] <= least * EXACT
            is_whole = sigma is None or counts[p] == samples.shape[0]
            if counts[p] > 0 and not (certain[p] and is_whole and is_exact):
                doubtful[listed] = start + p
                listed += 1
    return listed


@compiled
def leave_out(sample: Array, count: Array, total: Array, mean: Array, counts: Array) -> int:
    """Average, where nothing is rejected, without one sample (pixels,); see `sum_all`.

    Fills `mean` (float32) and `counts` (uint32): NaN and 0 where there is no other sample. Returns
    how many samples are left.
    """
    usable = 0
    for p in range(sample.size):
        present = sample[p] == sample[p]
        kept = count[p] - (np.int32(1) if present else np.int32(0))
        rest = total[p] - (np.float64(sample[p]) if present else 0.0)
        usable += kept
        counts[p] = kept
        mean[p] = rest / kept if kept > 0 else np.nan
    return usable


@compiled
def leave_out_errors(
    errors: Array, index: int, counts: Array, before: Array, variance: Array, uncertainty: Array
) -> None:
    """Add err² up without one sample, number `index`, in the order of the others.

    `before` (pixels,) float64 is the sum of those before it, and then with it; `variance`
    (CHUNK,) is a buffer. Fills `uncertainty` (float32): sqrt(sum err²) / counts.
    """
    for start in range(0, counts.size, CHUNK):
        size = min(CHUNK, counts.size - start)
        first = before[start : start + size]
        for p in range(size):
            variance[p] = first[p]
        for i in range(index + 1, errors.shape[0]):
            row = errors[i, start : start + size]
            for p in range(size):
                variance[p] += np.float64(row[p]) * np.float64(row[p])
        own = errors[index, start : start + size]
        for p in range(size):
            kept = counts[start + p]
            uncertainty[start + p] = math.sqrt(variance[p]) / kept if kept > 0 else np.nan
            first[p] += np.float64(own[p]) * np.float64(own[p])


ROUNDED = 2.0**-50  # relative; more than adding two float64 and taking one off again can be off


@inlined
def _add_up(lanes: Array, lane: int, size: int, sums: Array) -> bool:
    """Add up a sorted column, for sums over any run of it; tell whether no sum of it is rounded.

    `sums` (3, samples + 1) float64 are those of the samples before each: of their values, and of
    their deviations from the middle one and the squares of these.
    """
    centre = np.float64(lanes[size // 2, lane])
    least = np.inf
    sums[:, 0] = 0.0
    for i in range(size):
        value = np.float64(lanes[i, lane])
        away = value - centre
        sums[0, i + 1] = sums[0, i] + value
        sums[1, i + 1] = sums[1, i] + away
        sums[2, i + 1] = sums[2, i] + away * away
        least = min(least, abs(value) if value != 0 else np.inf)
    most = max(abs(np.float64(lanes[0, lane])), abs(np.float64(lanes[size - 1, lane])))
    return bool(most * size <= least * EXACT and sums[2, size] < np.inf)


@inlined
def _find(lanes: Array, lane: int, size: int, value: float) -> int:
    """Find a value in a sorted column that has it."""
    first = 0
    last = size - 1
    while first < last:
        middle = (first + last) // 2
        if lanes[middle, lane] < value:
            first = middle + 1
        else:
            last = middle
    return first


@inlined
def _run_limits(
    lanes: Array, lane: int, size: int, sums: Array, run: tuple[int, int], out: int, sigma: float
) -> tuple[float, float, float]:
    """Limits about a run (first, last) of a sorted column, without its element `out`.

    Where that is not in the run, it is `size`. The third is how far limits may be off.
    """
    first, last = run
    kept = last - first - (1 if out < size else 0)
    middle = first + kept // 2
    centre = np.float64(lanes[middle if middle < out else middle + 1, lane])
    if kept % 2 == 0:
        before = middle - 1
        centre = 0.5 * (centre + np.float64(lanes[before if before < out else before + 1, lane]))
    total = sums[1, last] - sums[1, first]
    squares = sums[2, last] - sums[2, first]
    if out < size:
        total -= sums[1, out + 1] - sums[1, out]
        squares -= sums[2, out + 1] - sums[2, out]
    share = 1.0 / kept
    variance = squares * share - (total * share) ** 2
    wrong = ROUNDED * sums[2, size] * size * (size * share) ** 2
    width = math.sqrt(max(variance, 0.0))
    reach = sigma * width
    off = sigma * (wrong / width if variance > wrong else math.sqrt(wrong))
    off += ROUNDING * (abs(centre) + reach)
    return centre - reach, centre + reach, off


@inlined
def _is_any_near(
    lanes: Array, lane: int, size: int, run: tuple[int, int], limits: tuple[float, float, float]
) -> bool:
    """Tell whether an element at either end of a run, in it or not, is too near to a limit."""
    first, last = run
    low, high, off = limits
    near = 0
    for i in range(max(first - 1, 0), min(first + 1, size)):
        near += 1 if abs(np.float64(lanes[i, lane]) - low) <= off else 0
    for i in range(max(last - 1, 0), min(last + 1, size)):
        near += 1 if abs(np.float64(lanes[i, lane]) - high) <= off else 0
    return near > 0


@inlined
def _clip_without(
    lanes: Array, lane: int, size: int, sums: Array, out: int, sigma: float, maxiters: int
) -> tuple[float, float, int, int]:
    """Clip a sorted column without its element `out` (`size` for none).

    Returns the limits, and the run (first, last) of the column that they hold, that element or
    not; NaN where rounding could decide.
    """
    first = 0
    last = size
    low = math.nan
    high = math.nan
    off = 0.0
    kept = size - (1 if out < size else 0)
    iteration = 0
    while kept > 0:
        inside = out if first <= out < last else size
        low, high, off = _run_limits(lanes, lane, size, sums, (first, last), inside, sigma)
        while first < last and lanes[first, lane] < low:
            first += 1
        while first < last and lanes[last - 1, lane] > high:
            last -= 1
        if _is_any_near(lanes, lane, size, (first, last), (low, high, off)):
            return math.nan, math.nan, first, last
        iteration += 1
        before = kept
        kept = last - first - (1 if first <= out < last else 0)
        if kept == before or iteration == maxiters:
            break
    run = first, last
    while kept > 0 and first > 0 and lanes[first - 1, lane] >= low:  # some come back
        first -= 1
    while kept > 0 and last < size and lanes[last, lane] <= high:
        last += 1
    if run != (first, last) and _is_any_near(lanes, lane, size, (first, last), (low, high, off)):
        return math.nan, math.nan, first, last
    return low, high, first, last


@inlined
def _error_within(
    samples: Array, errors: Array, pixel: int, index: int, low: float, high: float
) -> float:
    """Root of the sum of err² of the samples within the limits, but for sample `index`."""
    variance = 0.0
    for i in range(errors.shape[0]):
        if i != index and low <= np.float64(samples[i, pixel]) <= high:
            variance += np.float64(errors[i, pixel]) ** 2
    return math.sqrt(variance)


@inlined
def _average_each(
    samples: Array,
    errors: Array,
    pixel: int,
    column: tuple[Array, int, int, Array],
    limits: tuple[float, int],
    averages: tuple[Array, Array, Array],
    place: int,
) -> bool:
    """Clip and average one pixel without each sample in turn, from its sorted column.

    Fills `averages` (mean, error, counts; each (samples, pixels)) at `place`. Returns False where
    rounding could decide.
    """
    lanes, lane, size, sums = column
    sigma, maxiters = limits
    mean, uncertainty, counts = averages
    for index in range(samples.shape[0]):
        value = np.float64(samples[index, pixel])
        out = _find(lanes, lane, size, value) if value == value else size
        low, high, first, last = _clip_without(lanes, lane, size, sums, out, sigma, maxiters)
        if low != low and size > (1 if out < size else 0):
            return False
        inside = first <= out < last
        kept = last - first - (1 if inside else 0)
        total = sums[0, last] - sums[0, first] - (value if inside else 0.0)
        counts[index, place] = kept
        mean[index, place] = total / kept if kept > 0 else np.nan
        error = _error_within(samples, errors, pixel, index, low, high)
        uncertainty[index, place] = error / kept if kept > 0 else np.nan
    return True


@compiled
def average_each(
    samples: Array,
    errors: Array,
    listed: Array,
    counts: Array,
    limits: tuple[float, int],
    network: Array,
    lanes: Array,
    sums: Array,
    averages: tuple[Array, Array, Array],
    left: Array,
) -> tuple[int, int]:
    """Clip and average the pixels in `listed` without each sample in turn; see `sum_all`.

    `counts` (pixels,) are the usable samples, `limits` sigma and the largest number of iterations,
    `lanes` (samples, LANES) float32 and `sums` (3, samples + 1) float64 buffers. Fills the
    first columns of `averages`: mean, error (float32) and counts (uint32), each (samples, pixels),
    of the pixels that `listed` then begins with. Those that are too near to call, or whose sums
    are rounded, are listed in `left` (int32). Returns how many there are of either.
    """
    done = 0
    others = 0
    for start in range(0, listed.size, LANES):
        width = min(LANES, listed.size - start)
        sort_pixels(samples, listed[start : start + width], network, lanes)
        for p in range(width):
            pixel = listed[start + p]
            size = counts[pixel]
            column = lanes, p, size, sums
            fits = _add_up(lanes, p, size, sums)
            if fits and _average_each(samples, errors, pixel, column, limits, averages, done):
                listed[done] = pixel
                done += 1
            else:
                left[others] = pixel
                others += 1
    return done, others


@compiled
def put_averages(
    pixels: Array, averages: tuple[Array, Array, Array], result: tuple[Array, Array, Array]
) -> int:
    """Put averages of some pixels into those of all; return how many samples fewer they have.

    Mean, error and counts: of `pixels` (int32), in their order, and of all pixels.
    """
    fewer = np.int64(0)
    for i in range(pixels.size):
        pixel = pixels[i]
        fewer += np.int64(result[2][pixel]) - np.int64(averages[2][i])
        result[0][pixel] = averages[0][i]
        result[1][pixel] = averages[1][i]
        result[2][pixel] = averages[2][i]
    return int(fewer)
