"""Loops over images in blocks: means, order statistics of few exposures, graded sources."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

UNKNOWN = np.float32(np.nan)

CHUNK = 1024  # pixels that are sorted side by side

WIDE = 4
"""Bins on a side of the blocks in which faint and wide light is looked for; a constant, so that
kernels divide by it fast."""


@compiled
def add_usable(
    values: Array,
    flags: Array,
    bits: int,
    first_column: int,
    width: int,
    column: int,
    total: Array,
    ends: Array,
    count: Array,
) -> None:
    """Add the usable samples of one integration to sums, pixel by pixel.

    `values` (rows, columns; float32) count where they are finite and `flags` (uint32) have none of
    `bits`. Their `width` columns from `first_column` go to those from `column` of `total`,
    `ends` (rows, 2: smallest and largest, columns; float32) and `count` (int32).
    """
    unusable = np.uint32(bits)
    for i in range(values.shape[0]):
        for j in range(width):
            value = values[i, first_column + j]
            if (flags[i, first_column + j] & unusable) == 0 and abs(value) < np.inf:
                total[i, column + j] += value
                ends[i, 0, column + j] = min(ends[i, 0, column + j], value)
                ends[i, 1, column + j] = max(ends[i, 1, column + j], value)
                count[i, column + j] += np.int32(1)


@compiled
def mean_of_integrations(total: Array, ends: Array, count: Array) -> None:
    """Turn the sums of `add_usable` into means, in place; of three and more without the two `ends`.

    A cosmic ray in one integration would make a source of it; the largest sample alone left out
    would make the mean too small, by a third of the noise of four. NaN where there is no sample.
    """
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            number = count[i, j]
            if number > 2:
                total[i, j] = (total[i, j] - ends[i, 1, j] - ends[i, 0, j]) / (number - 2)
            else:
                total[i, j] = total[i, j] / number if number else UNKNOWN


@inlined
def _add_row(values: Array, flags: Array, unusable: np.uint32, sums: Array, counts: Array) -> None:
    for j in range(values.size):
        usable = ((flags[j] & unusable) == 0) & (abs(values[j]) < np.inf)
        sums[j] += values[j] if usable else np.float32(0)
        counts[j] += np.float32(1) if usable else np.float32(0)


@compiled
def bin_usable(
    values: Array,
    flags: Array,
    bits: int,
    first_column: int,
    width: int,
    row: int,
    column: int,
    height: int,
    size: int,
    rows: Array,
    means: Array,
) -> None:
    """Average the usable pixels of an image in blocks of `size` x `size`.

    `values` (rows, columns; float32) count where they are finite and `flags` (uint32) have none of
    `bits`. Their `width` columns from `first_column` lie at (`row`, `column`) of a band of `height`
    rows and as many columns as `rows` (2, columns; float32), a buffer, has. `means` (rows, columns;
    float32) has a pixel for each block of the band, those that stick out included. A block with
    less than half of its pixels is NaN.
    """
    unusable = np.uint32(bits)
    source = slice(first_column, first_column + width)
    target = slice(column, column + width)
    columns = rows.shape[1]
    for i in range(means.shape[0]):
        bottom, top = i * size, min((i + 1) * size, height)
        sums, counts = rows[0], rows[1]
        sums[:] = np.float32(0)
        counts[:] = np.float32(0)
        for y in range(max(bottom - row, 0), min(top - row, values.shape[0])):
            _add_row(values[y, source], flags[y, source], unusable, sums[target], counts[target])
        for j in range(means.shape[1]):
            right = min((j + 1) * size, columns)
            total = np.float32(0)
            count = np.float32(0)
            for x in range(j * size, right):
                total += sums[x]
                count += counts[x]
            enough = 2 * count >= (top - bottom) * (right - j * size)
            means[i, j] = total / count if enough else UNKNOWN


@compiled
def block_means(image: Array, means: Array) -> None:
    """Average the pixels of `image` (float32) that are not NaN in blocks of `WIDE` x `WIDE`.

    See `bin_usable`.
    """
    rows, columns = image.shape
    for i in range(means.shape[0]):
        bottom, top = i * WIDE, min((i + 1) * WIDE, rows)
        for j in range(means.shape[1]):
            left, right = j * WIDE, min((j + 1) * WIDE, columns)
            total = np.float32(0)
            count = np.int64(0)
            for y in range(bottom, top):
                for x in range(left, right):
                    value = image[y, x]
                    if value == value:
                        total += value
                        count += 1
            enough = 2 * count >= (top - bottom) * (right - left)
            means[i, j] = total / count if enough else UNKNOWN


@compiled
def lower_middle(stack: Array, sizes: Array, low: Array, high: Array) -> None:
    """Find between which samples the lower median of the *others* lies, for every member.

    `stack` (samples, pixels) float32, NaN where missing, is sorted on the way. With m samples at a
    pixel, the lower median of the m - 1 others is `low`, the sorted sample of rank (m - 2) // 2,
    for a member above that, and `high`, the next one, for the others. Both are NaN for m < 2.
    `sizes` (CHUNK,) int32 is a buffer.
    """
    samples, pixels = stack.shape
    for start in range(0, pixels, CHUNK):
        width = min(CHUNK, pixels - start)
        sizes[:width] = 0
        for i in range(samples):
            row = stack[i, start : start + width]
            for p in range(width):
                present = row[p] == row[p]
                sizes[p] += np.int32(1) if present else np.int32(0)
                row[p] = row[p] if present else np.float32(np.inf)
        for i in range(1, samples):  # sorting by insertion, side by side
            for k in range(i, 0, -1):
                first = stack[k - 1, start : start + width]
                second = stack[k, start : start + width]
                for p in range(width):
                    a = first[p]
                    b = second[p]
                    first[p] = a if a < b else b
                    second[p] = b if a < b else a
        for p in range(width):
            rank = (sizes[p] - 2) // 2
            known = sizes[p] > 1
            low[start + p] = stack[rank, start + p] if known else UNKNOWN
            high[start + p] = stack[rank + 1, start + p] if known else UNKNOWN


@compiled
def subtract_others(image: Array, low: Array, high: Array) -> None:
    """Subtract from `image` (pixels; float32), in place, the lower median of the others."""
    for pixel in range(image.size):
        value = image[pixel]
        image[pixel] = value - (high[pixel] if value <= low[pixel] else low[pixel])


@compiled
def smooth(image: Array, rows: Array, smoothed: Array) -> None:
    """Average each pixel of `image` (float32) with the eight around it that are not NaN.

    A pixel with less than half of them is NaN in `smoothed`. `rows` (2, columns + 2) float32 is a
    buffer.
    """
    sums, counts = rows[0], rows[1]
    columns = image.shape[1]
    for i in range(image.shape[0]):
        sums[:] = np.float32(0)
        counts[:] = np.float32(0)
        for y in range(max(i - 1, 0), min(i + 2, image.shape[0])):
            row = image[y]
            for j in range(columns):
                known = row[j] == row[j]
                sums[j + 1] += row[j] if known else np.float32(0)
                counts[j + 1] += np.float32(1) if known else np.float32(0)
        out = smoothed[i]
        for j in range(columns):
            total = sums[j] + sums[j + 1] + sums[j + 2]
            count = counts[j] + counts[j + 1] + counts[j + 2]
            out[j] = total / count if count >= 5 else UNKNOWN


@compiled
def mark_connected(image: Array, threshold: float, neighbours: int, marked: Array) -> None:
    """Mark (bool) the pixels above a threshold that have so many `neighbours` of 8 above it too."""
    rows, columns = image.shape
    limit = np.float32(threshold)
    for i in range(rows):
        for j in range(columns):
            found = np.int64(0)
            if image[i, j] > limit:
                for y in range(max(i - 1, 0), min(i + 2, rows)):
                    for x in range(max(j - 1, 0), min(j + 2, columns)):
                        found += 1 if image[y, x] > limit else 0
            marked[i, j] = found > neighbours


@compiled
def block_peaks(image: Array, marked: Array, peaks: Array) -> None:
    """Find the largest marked value of each block of `WIDE` x `WIDE`, 0 where none is marked."""
    peaks[:] = np.float32(0)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if marked[i, j] and image[i, j] > peaks[i // WIDE, j // WIDE]:
                peaks[i // WIDE, j // WIDE] = image[i, j]


@compiled
def grade_pixels(
    image: Array,
    marked: Array,
    wide: Array,
    peaks: Array,
    least: int,
    step: float,
    threshold: float,
    core_share: float,
    core: int,
    grades: Array,
) -> None:
    """Grade the light of sources in `image` (float32): 0 for none, `core` for too much.

    Grade 1 is a pixel of a block that is marked in `wide`; from `least` on those that are `marked`
    themselves, one more for each `step`, a factor, above `threshold`. Those with more than
    `core_share` of the highest of `peaks` in their block or the eight around it are `core`.
    """
    rows, columns = image.shape
    for i in range(rows):
        for j in range(columns):
            y, x = i // WIDE, j // WIDE
            grade = np.int64(1) if wide[y, x] else np.int64(0)
            if marked[i, j]:
                peak = np.float32(0)
                for v in range(max(y - 1, 0), min(y + 2, peaks.shape[0])):
                    for u in range(max(x - 1, 0), min(x + 2, peaks.shape[1])):
                        peak = max(peak, peaks[v, u])
                grade = np.int64(least)
                limit = threshold * step
                while image[i, j] > limit and grade < core - 1:
                    grade += 1
                    limit *= step
                if image[i, j] > core_share * peak:
                    grade = np.int64(core)
            grades[i, j] = grade


@compiled
def grow_grades(grades: Array, least: int, distances: Array, grown: Array) -> None:
    """Grow graded pixels, (rows, columns) uint8, to pixels around them.

    Those of `least` and more grow to their neighbours with their grade, and beyond that with a
    grade one lower for each pixel of distance: from ``least - 1`` on, and at least 1. Those below
    `least` grow with grade 1. `grown` is filled with the largest grade that reaches a pixel, its own
    included. `distances` (2 far + 1, 2 far + 1; uint8) are those of the pixels around, rounded
    upwards; those that are more than far are not reached.
    """
    rows, columns = grades.shape
    far = distances.shape[0] // 2
    grown[:] = grades
    for i in range(rows):
        for j in range(columns):
            grade = np.int64(grades[i, j])
            if grade == 0:
                continue
            inner = (
                0 < i < rows - 1
                and 0 < j < columns - 1
                and grades[i - 1, j] >= grade
                and grades[i + 1, j] >= grade
                and grades[i, j - 1] >= grade
                and grades[i, j + 1] >= grade
            )
            if inner:  # what it reaches, its neighbours reach with as much
                continue
            reach = far
            if (
                0 < i < rows - 1
                and 0 < j < columns - 1
                and grades[i - 1, j] >= least
                and grades[i + 1, j] >= least
                and grades[i, j - 1] >= least
                and grades[i, j + 1] >= least
            ):  # beyond its neighbours, these reach with as much
                reach = 1
            for y in range(max(i - reach, 0), min(i + reach + 1, rows)):
                for x in range(max(j - reach, 0), min(j + reach + 1, columns)):
                    distance = np.int64(distances[y - i + far, x - j + far])
                    if distance > far:
                        continue
                    reached = max(least + 1 - distance, 1) if grade >= least else np.int64(1)
                    reached = grade if distance <= 1 else reached
                    if grown[y, x] < reached:
                        grown[y, x] = reached
