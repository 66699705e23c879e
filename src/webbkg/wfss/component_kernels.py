"""One pass over the pixels of a sky with several components: residuals, and sums strip by strip.

The columns are the templates, and 1 for what is free along dispersion. Each line goes through buffers that stay
in the nearest cache, so that the loops vectorise and the order of additions is fixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from webbkg.numerics.compiled import compiled, inlined
from webbkg.wfss.kernels import STRIP

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

RESIDUAL, WEIGHT, EXPECTED, BUFFERS = 0, 1, 2, 3


def number_of_terms(templates: int) -> int:
    """Tell how many sums there are of each strip: of pairs of columns, of columns, and two more."""
    columns = templates + 1
    return columns * (columns + 1) // 2 + columns + 2


@inlined
def _weigh(
    values: Floats,
    read_variance: Floats,
    per_signal: float,
    clip: float,
    buffers: Doubles,
) -> None:
    """Turn what is expected of a line into its residuals and weights, 0 where left out."""
    for j in range(values.size):
        model = buffers[EXPECTED, j]
        residual = np.float64(values[j]) - model
        read = np.float64(read_variance[j])
        variance = read + per_signal * (model if model > 0 else 0.0)
        # Of what is NaN none of these holds.
        kept = (read >= 0) & (variance < np.inf) & (residual * residual < clip * clip * variance)
        buffers[RESIDUAL, j] = residual if kept else 0.0
        buffers[WEIGHT, j] = 1.0 / variance if kept else 0.0


@inlined
def _fill_lanes(templates: Floats, row: int, buffers: Doubles, lanes: Doubles) -> None:
    """Fill `lanes` (terms, columns) with the terms of a line; see `sum_components`."""
    number = templates.shape[0]
    term = 0
    for one in range(number + 1):
        for other in range(one, number + 1):
            for j in range(lanes.shape[1]):
                weight = buffers[WEIGHT, j]
                first = np.float64(templates[one, row, j]) if one < number else 1.0
                second = np.float64(templates[other, row, j]) if other < number else 1.0
                lanes[term, j] = weight * first * second if weight > 0 else 0.0
            term += 1
    for one in range(number + 1):
        for j in range(lanes.shape[1]):
            weight = buffers[WEIGHT, j]
            first = np.float64(templates[one, row, j]) if one < number else 1.0
            lanes[term, j] = weight * first * buffers[RESIDUAL, j] if weight > 0 else 0.0
        term += 1
    for j in range(lanes.shape[1]):
        weight = buffers[WEIGHT, j]
        lanes[term, j] = weight * buffers[RESIDUAL, j] * buffers[RESIDUAL, j]
        lanes[term + 1, j] = 1.0 if weight > 0 else 0.0


@compiled
def sum_components(
    planes: tuple[Floats, Floats],
    templates: Floats,
    first: int,
    scales: Doubles,
    profile: Doubles,
    model: tuple[float, float],
    along_x: bool,
    room: tuple[Doubles, Doubles],
    sums: Doubles,
) -> None:
    """Clip a band of lines against the model's noise, and sum what is left strip by strip.

    `planes` are (rows, columns) bands of values and read variance, float32, from row `first` of the
    image; `templates` (templates, all rows, columns), float32, is of the whole of it. A pixel is expected at
    sum(scales·templates) + profile, with the variance read + per_signal·max(expected, 0), and
    left out where it is further than `clip` standard deviations away; `model` is (per_signal,
    clip). `profile` has a value for each place along dispersion, of the whole image.

    Strips are `STRIP` pixels along dispersion and one across. With the templates and 1 as columns,
    `sums` becomes, of each strip, those of column·column/variance for each pair (the first column with
    each from it on, then the second), column·residual/variance, residual²/variance and 1, over the
    pixels left: (rows, terms, strips) with `along_x`, else (strips, terms, columns).
    `room` is that, (terms, columns) and (BUFFERS, columns).
    """
    values, read_variance = planes
    lanes, buffers = room
    sums[:] = 0.0
    for i in range(values.shape[0]):
        row = first + i
        for j in range(values.shape[1]):
            buffers[EXPECTED, j] = profile[j] if along_x else profile[row]
        for one in range(templates.shape[0]):
            for j in range(values.shape[1]):
                buffers[EXPECTED, j] += scales[one] * np.float64(templates[one, row, j])
        _weigh(values[i], read_variance[i], model[0], model[1], buffers)
        _fill_lanes(templates, row, buffers, lanes)
        for term in range(lanes.shape[0]):
            if along_x:
                for j in range(lanes.shape[1]):
                    sums[i, term, j // STRIP] += lanes[term, j]
            else:
                for j in range(lanes.shape[1]):
                    sums[i // STRIP, term, j] += lanes[term, j]
