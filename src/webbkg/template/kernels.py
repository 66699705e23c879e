"""Loops over an image, its templates and the even sky: what is fitted, residuals, sums of cells."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

BIN = 2
"""Pixels on a side of a bin, in which sources are looked for; a constant, as `CELL`."""

CELL = 16
"""Pixels on a side of a cell, over which sums are taken."""

PLAIN_TERMS = 4
"""Sums of a cell besides those of templates: of 1, w, w·r and w·r²."""

SKY_TERMS = 6
"""Coefficients of the even sky: of 1, u, v, u², uv and v²."""


def number_of_terms(templates: int) -> int:
    """Tell the sums of a cell; see `sum_cells`."""
    return PLAIN_TERMS + 2 * templates + templates * (templates + 1) // 2


@compiled
def choose_pixels(
    sci: Array, flags: Array, bits: int, templates: Array, read: Array, values: Array
) -> np.int64:
    """Fill `values` with `sci` where it can be fitted, NaN elsewhere; return how many can.

    All are (rows, columns) bands, float32 but for `flags` (uint32), of which none of `bits` may be
    set; `templates` has one more axis before. Templates must be finite, and `read` at least 0.
    """
    unusable = np.uint32(bits)
    chosen = np.int64(0)
    for i in range(sci.shape[0]):
        for j in range(sci.shape[1]):
            usable = (flags[i, j] & unusable) == 0 and abs(sci[i, j]) < np.inf
            usable = usable and 0 <= read[i, j] < np.inf
            for k in range(templates.shape[0]):
                usable = usable and abs(templates[k, i, j]) < np.inf
            values[i, j] = sci[i, j] if usable else np.float32(np.nan)
            chosen += 1 if usable else 0
    return chosen


@inlined
def _expect(
    templates: Array, row: int, scales: Array, sky: Array, u: Array, v: float, expected: Array
) -> None:
    """Fill a row of what is expected: even sky and scaled templates."""
    level = sky[0] + (sky[2] + sky[5] * v) * v
    slope = sky[1] + sky[4] * v
    for j in range(expected.size):
        expected[j] = level + (slope + sky[3] * u[j]) * u[j]
    for k in range(templates.shape[0]):
        scale = scales[k]
        for j in range(expected.size):
            expected[j] += scale * templates[k, row, j]


@compiled
def bin_residuals(
    values: Array,
    templates: Array,
    read: Array,
    model: tuple[Array, Array, Array],
    place: tuple[Array, Array],
    limit: float,
    room: Array,
    binned: Array,
) -> None:
    """Average residuals in units of their noise in bins of `BIN` x `BIN`, each within ±`limit`.

    `values`, `templates` and `read` are bands as of `choose_pixels`. `model` is (scales, sky,
    noise), float64: a pixel's variance is read + max(noise[0] + noise[1]·expected, 0). `place` are
    u of the columns and v of the rows. `room` (3, columns) float64 is a buffer. A bin with less than
    half of its pixels is NaN in `binned` (float32).
    """
    scales, sky, noise = model
    rows, columns = values.shape
    expected, totals, counts = room[0], room[1], room[2]
    for top in range(binned.shape[0]):
        totals[:] = 0.0
        counts[:] = 0.0
        last = min((top + 1) * BIN, rows)
        for i in range(top * BIN, last):
            _expect(templates, i, scales, sky, place[0], place[1][i], expected)
            for j in range(columns):
                variance = read[i, j] + max(noise[0] + noise[1] * expected[j], 0.0)
                z = (values[i, j] - expected[j]) / np.sqrt(variance)
                known = z == z
                totals[j] += min(max(z, -limit), limit) if known else 0.0
                counts[j] += 1.0 if known else 0.0
        for b in range(binned.shape[1]):
            left, right = b * BIN, min((b + 1) * BIN, columns)
            total = 0.0
            count = 0.0
            for j in range(left, right):
                total += totals[j]
                count += counts[j]
            enough = 2 * count >= (last - top * BIN) * (right - left)
            binned[top, b] = np.float32(total / count if enough else np.nan)


@compiled
def sum_cells(
    values: Array,
    templates: Array,
    read: Array,
    masked: Array,
    model: tuple[Array, Array, Array],
    place: tuple[Array, Array],
    clip: float,
    room: Array,
    lanes: Array,
    sums: Array,
) -> None:
    """Sum over the pixels of each cell that are not masked, nor far off, what a fit needs.

    `masked` (bool) is on bins; pixels further than `clip` standard deviations from what is expected
    are left out. With weights w = 1/variance, residuals r and templates t, `sums` (rows of cells,
    terms, columns of cells) float64 becomes the sums of 1, w, w·r, w·r², of w·t of each template, of
    w·t·r of each, and of w·t·t' of each pair, (0, 0), (1, 0), (1, 1), (2, 0) and so on. The other
    arguments are those of `bin_residuals`; `room` (4, columns) and `lanes` (terms, columns) are
    buffers.
    """
    scales, sky, noise = model
    rows, columns = values.shape
    expected, kept, weights, residuals = room[0], room[1], room[2], room[3]
    for i in range(rows):
        if i % CELL == 0:
            lanes[:] = 0.0
        if i % BIN == 0:
            for j in range(columns):
                kept[j] = 0.0 if masked[i // BIN, j // BIN] else 1.0
        _expect(templates, i, scales, sky, place[0], place[1][i], expected)
        for j in range(columns):
            variance = read[i, j] + max(noise[0] + noise[1] * expected[j], 0.0)
            r = values[i, j] - expected[j]
            inside = r * r <= clip * clip * variance and variance > 0
            weights[j] = kept[j] / variance if inside else 0.0
            residuals[j] = r if inside else 0.0
        _add_plain(weights, residuals, lanes)
        _add_templates(templates, i, weights, residuals, lanes)
        if i % CELL == CELL - 1 or i == rows - 1:
            _gather(lanes, sums[i // CELL])


@inlined
def _add_plain(weights: Array, residuals: Array, lanes: Array) -> None:
    """Add the terms of a row without templates."""
    for j in range(weights.size):
        w, r = weights[j], residuals[j]
        lanes[0, j] += 1.0 if w > 0 else 0.0
        lanes[1, j] += w
        lanes[2, j] += w * r
        lanes[3, j] += w * r * r


@inlined
def _add_templates(
    templates: Array, row: int, weights: Array, residuals: Array, lanes: Array
) -> None:
    """Add the terms of a row with templates."""
    number = templates.shape[0]
    pair = PLAIN_TERMS + 2 * number
    for k in range(number):
        for j in range(weights.size):
            w = weights[j]
            wt = w * templates[k, row, j] if w > 0 else 0.0
            lanes[PLAIN_TERMS + k, j] += wt
            lanes[PLAIN_TERMS + number + k, j] += wt * residuals[j]
        for other in range(k + 1):
            for j in range(weights.size):
                w = weights[j]
                square = templates[k, row, j] * np.float64(templates[other, row, j])
                lanes[pair, j] += w * square if w > 0 else 0.0
            pair += 1


@inlined
def _gather(lanes: Array, cells: Array) -> None:
    """Add the columns of each cell."""
    for term in range(lanes.shape[0]):
        for c in range(cells.shape[1]):
            total = 0.0
            for j in range(c * CELL, min((c + 1) * CELL, lanes.shape[1])):
                total += lanes[term, j]
            cells[term, c] = total
