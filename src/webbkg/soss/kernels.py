"""Loops of the SOSS fit: which samples are sky, and sums of them over the integrations."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled

Sums = tuple[Array, Array, Array, Array]

INFINITY = np.float32(np.inf)
NAN = np.float32(np.nan)


@compiled
def keep_sky(
    sci: Array,
    dq: Array,
    unusable_bits: np.uint32,
    threshold: np.float32,
    sky: Array,
) -> None:
    """Copy to `sky` the finite samples below `threshold` (float32), and NaN for all others.

    `sci` (float32) and `dq` (uint32) are (rows, columns) of one integration; a sample with one
    of `unusable_bits` does not count. `sky` (float32) may have fewer columns.
    """
    for row in range(sky.shape[0]):
        for column in range(sky.shape[1]):
            value = sci[row, column]
            inside = (value > -INFINITY) & (value < threshold)
            usable = inside & ((dq[row, column] & unusable_bits) == 0)
            sky[row, column] = value if usable else NAN


@compiled
def add_sums(sky: Array, first_row: int, sums: Sums) -> None:
    """Add what `keep_sky` kept to sums over the integrations, pixel by pixel.

    `sums`, each (rows, columns), are the number of samples (int64), the first of them
    (float32), and the sums of (sample - first) and its square (float64). About the first sample
    no digits are lost, however small the scatter is.
    """
    for r in range(sky.shape[0]):
        row = first_row + r
        values = sky[r]
        counts, first, total, squares = sums[0][row], sums[1][row], sums[2][row], sums[3][row]
        for i in range(values.size):
            good = values[i] == values[i]
            first[i] = values[i] if good & (counts[i] == 0) else first[i]
            counts[i] += good
            offset = np.float64(values[i]) - np.float64(first[i]) if good else 0.0
            total[i] += offset
            squares[i] += offset * offset


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
