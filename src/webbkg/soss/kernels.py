"""Loops of the SOSS fit: which samples are sky, and sums of them over the integrations."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled

Samples = tuple[Array, Array, Array]
Sums = tuple[Array, Array, Array, Array]

INFINITY = np.float32(np.inf)


@compiled
def gather_sky(
    sci: Array,
    dq: Array,
    unusable_bits: np.uint32,
    threshold: np.float32,
    last_column: int,
    samples: Samples,
) -> None:
    """Collect the finite samples below `threshold` (float32) up to `last_column`, row by row.

    `sci` (float32) and `dq` (uint32) are (rows, columns) of one integration; a sample with one
    of `unusable_bits` is left out. `samples` are filled: values (float32), columns (int32) and
    starts (int64); those of row r lie from ``starts[r]`` to ``starts[r + 1]``. They need one
    place more than there are samples.
    """
    values, columns, starts = samples
    width = last_column + 1
    usable = np.empty(width, np.bool_)
    size = 0
    for row in range(sci.shape[0]):
        starts[row] = size
        sample = sci[row, :width]
        flags = dq[row, :width]
        for column in range(width):
            inside = (sample[column] > -INFINITY) & (sample[column] < threshold)
            usable[column] = inside & ((flags[column] & unusable_bits) == 0)
        places = columns[size:]
        found = 0
        for column in range(width):  # without a branch: which samples are sky is random
            places[found] = column
            found += usable[column]
        kept = values[size:]
        for i in range(found):
            kept[i] = sample[places[i]]
        size += found
    starts[sci.shape[0]] = size


@compiled
def add_sums(samples: Samples, first_row: int, sums: Sums) -> None:
    """Add what `gather_sky` collected to sums over the integrations, pixel by pixel.

    `sums`, each (rows, columns), are the number of samples (int64), the first of them
    (float32), and the sums of (sample - first) and its square (float64). About the first sample
    no digits are lost, however small the scatter is.
    """
    values, columns, starts = samples
    counts, first, total, squares = sums
    for r in range(starts.size - 1):
        row = first_row + r
        count_row, first_row_values = counts[row], first[row]
        total_row, squares_row = total[row], squares[row]
        for i in range(starts[r], starts[r + 1]):
            column = columns[i]
            if count_row[column] == 0:
                first_row_values[column] = values[i]
            offset = np.float64(values[i]) - np.float64(first_row_values[column])
            count_row[column] += 1
            total_row[column] += offset
            squares_row[column] += offset * offset


@compiled
def sum_residuals(
    template: Array,
    splits: Array,
    scales: Array,
    sums: Sums,
    result: Array,
) -> None:
    """Sum (sample - scale * template)² on the two sides, from the sums over the integrations.

    `template` (rows, columns; float32), `splits` (rows) the first column of the right side,
    `scales` (2) and `sums` those of `add_sums`. `result` (2, 2; float64) takes for each side the
    sum and the number of samples. Pixels whose template is zero or not finite are left out.
    """
    counts, first, total, squares = sums
    result[:] = 0.0
    for row in range(counts.shape[0]):
        for column in range(counts.shape[1]):
            sky = np.float64(template[row, column])
            number = counts[row, column]
            if number > 0 and sky != 0 and abs(sky) < np.inf:
                side = 1 if column >= splits[row] else 0
                offset = np.float64(first[row, column]) - scales[side] * sky
                result[side, 0] += (
                    squares[row, column]
                    + 2.0 * offset * total[row, column]
                    + number * offset * offset
                )
                result[side, 1] += number
