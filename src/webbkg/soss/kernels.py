"""Loops of the SOSS fits: which samples are sky, and sums of them."""

from __future__ import annotations

import numpy as np

from webbkg import options
from webbkg.numerics.compiled import Array, compiled

Sums = tuple[Array, Array, Array, Array]

INFINITY = np.float32(np.inf)
NAN = np.float32(np.nan)
DO_NOT_USE = np.uint32(options.DO_NOT_USE)
REFERENCE_PIXEL = np.uint32(options.REFERENCE_PIXEL)


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


@compiled
def median_of_few(sample: Array, result: Array) -> None:
    """Take the median over the few integrations of `sample` (float32), NaN left out.

    `sample` is (integrations, rows, columns), `result` (rows, columns; float32): NaN where there
    is no value, the mean of the middle two of an even number.
    """
    room = np.empty(sample.shape[0], np.float32)
    for row in range(sample.shape[1]):
        for column in range(sample.shape[2]):
            number = np.int64(0)
            for index in range(sample.shape[0]):
                value = sample[index, row, column]
                if value == value:
                    place = number
                    while place > 0 and room[place - 1] > value:
                        room[place] = room[place - 1]
                        place -= 1
                    room[place] = value
                    number += 1
            if number == 0:
                result[row, column] = NAN
            else:
                low, high = room[(number - 1) // 2], room[number // 2]
                result[row, column] = low + (high - low) * np.float32(0.5)


@compiled
def add_near(
    sci: Array, dq: Array, centre: Array, tolerance: Array, total: Array, count: Array
) -> None:
    """Add the usable samples of one integration that lie near a centre to sums.

    `sci` (float32) and `dq` (uint32), and as large `centre` and `tolerance` (float32), `total`
    (float64) and `count` (int64). Usable is what is finite and lacks DO_NOT_USE, on reference
    pixels with it too. Where the centre is NaN every usable sample is near.
    """
    for row in range(sci.shape[0]):
        for column in range(sci.shape[1]):
            value = sci[row, column]
            flags = dq[row, column]
            usable = ((flags & DO_NOT_USE) == 0) | ((flags & REFERENCE_PIXEL) != 0)
            far = abs(value - centre[row, column]) > tolerance[row, column]
            good = usable & (abs(value) < INFINITY) & (not far)
            total[row, column] += np.float64(value) if good else 0.0
            count[row, column] += good


@compiled
def add_products(sci: Array, dq: Array, images: Array, sums: Array) -> None:
    """Add the products of one integration's rows to sums over each column, row by row.

    `sci` (float32) and `dq` (uint32) are (rows, columns). `images` (5, rows, columns; float32)
    are the deep frame, how far a sample may be from it, the weights, the sky and the wings; a
    sample that is too far or not usable (see `add_near`) has no weight. `sums` (9, columns;
    float64) takes, each times the weight, sky², sky wings, sky difference, sky, wings², wings
    difference, wings, difference, and 1; the difference is that from the deep frame.
    """
    for row in range(sci.shape[0]):
        deep, tolerance, weights = images[0, row], images[1, row], images[2, row]
        for column in range(sci.shape[1]):
            offset = sci[row, column] - deep[column]
            flags = dq[row, column]
            usable = ((flags & DO_NOT_USE) == 0) | ((flags & REFERENCE_PIXEL) != 0)
            good = usable & (abs(offset) <= tolerance[column])
            weight = np.float64(weights[column]) if good else 0.0
            difference = np.float64(offset) if good else 0.0
            sky, wings = np.float64(images[3, row, column]), np.float64(images[4, row, column])
            sums[0, column] += weight * sky * sky
            sums[1, column] += weight * sky * wings
            sums[2, column] += weight * sky * difference
            sums[3, column] += weight * sky
            sums[4, column] += weight * wings * wings
            sums[5, column] += weight * wings * difference
            sums[6, column] += weight * wings
            sums[7, column] += weight * difference
            sums[8, column] += weight


@compiled
def factor_exponentials(
    diagonal: Array, decay: Array, amplitudes: Array, pivots: Array, weights: Array
) -> None:
    """Factor a matrix with `diagonal` and sum_j amplitudes[j] decay[j]**|n - m| off it.

    It is L diag(pivots) L', with `weights` (n, terms) standing for L. The algorithm is that of
    Foreman-Mackey et al. 2017, AJ 154, 220, section 5.1.
    """
    terms = decay.size
    state = np.zeros((terms, terms))
    for n in range(diagonal.size):
        pivot = diagonal[n]
        for j in range(terms):
            total = 0.0
            for k in range(terms):
                total += amplitudes[k] * state[k, j]
            weights[n, j] = 1.0 - total
            pivot -= total * amplitudes[j]
        pivots[n] = pivot
        for j in range(terms):
            weights[n, j] /= pivot
        for j in range(terms):
            for k in range(terms):
                grown = state[j, k] + pivot * weights[n, j] * weights[n, k]
                state[j, k] = decay[j] * decay[k] * grown


@compiled
def forward_exponentials(decay: Array, amplitudes: Array, weights: Array, values: Array) -> None:
    """Solve L z = values in place, each column of `values` (n, m) for itself."""
    terms, width = decay.size, values.shape[1]
    state = np.zeros((terms, width))
    for n in range(values.shape[0]):
        for j in range(terms):
            for i in range(width):
                values[n, i] -= amplitudes[j] * state[j, i]
        for j in range(terms):
            for i in range(width):
                state[j, i] = decay[j] * (state[j, i] + weights[n, j] * values[n, i])


@compiled
def backward_exponentials(decay: Array, amplitudes: Array, weights: Array, values: Array) -> None:
    """Solve L' x = values in place, each column of `values` (n, m) for itself."""
    terms, width = decay.size, values.shape[1]
    state = np.zeros((terms, width))
    for n in range(values.shape[0] - 1, -1, -1):
        for j in range(terms):
            for i in range(width):
                values[n, i] -= weights[n, j] * state[j, i]
        for j in range(terms):
            for i in range(width):
                state[j, i] = decay[j] * (state[j, i] + amplitudes[j] * values[n, i])


@compiled
def column_moments(
    start: int,
    stop: int,
    data: Array,
    weights: Array,
    templates: Array,
    wings: Array,
    width: int,
    room: Array,
    moments: Array,
) -> None:
    """Sum the weighted products of everything with everything in columns `start` to `stop`.

    All float64. `data` and `weights` are (columns, rows), `templates` (templates, columns, rows),
    `wings` (kernels, bins of `width` columns, rows). `moments` (columns, q, q), 0 before, takes
    the products of templates, wings, data and 1, in this order; `room` is (q,).
    """
    many, few = templates.shape[0], wings.shape[0]
    q = many + few + 2
    for column in range(start, stop):
        at = column // width
        products = moments[column]
        for row in range(data.shape[1]):
            weight = weights[column, row]
            if weight > 0.0:
                for t in range(many):
                    room[t] = templates[t, column, row]
                for k in range(few):
                    room[many + k] = wings[k, at, row]
                room[q - 2] = data[column, row]
                room[q - 1] = 1.0
                for i in range(q):
                    weighted = weight * room[i]
                    for j in range(i, q):
                        products[i, j] += weighted * room[j]
        for i in range(q):
            for j in range(i):
                products[i, j] = products[j, i]
