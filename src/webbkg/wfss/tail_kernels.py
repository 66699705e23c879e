"""One pass over the pixels of a fit: how their residuals are distributed, in units of their noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from webbkg.numerics.compiled import compiled
from webbkg.wfss.kernels import STRIP

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LINES = 16
"""Lines of the image whose histogram is one: sums do not depend on how many a thread takes."""

COUNTS, SLOPES, SQUARES, PARTS = 0, 1, 2, 3


@compiled
def count_residuals(
    planes: tuple[Floats, Floats, Floats],
    left_out: Bools,
    model: tuple[float, float],
    along_x: bool,
    bins: tuple[float, float],
    found: Doubles,
) -> None:
    """Make histograms of the residuals of a band, one of each 16 lines.

    `planes` are (rows, columns) bands of values, template and read variance, float32, and
    `left_out` tells for each strip of 16 pixels along dispersion whether it is not looked at:
    (rows, strips) with `along_x`, else (strips, columns). `model` is (scale, per_signal), `bins`
    (lowest, width) in units of the noise. `found` (lines / 16, PARTS, bins) becomes, of each bin, the
    number of pixels and the sums of template/noise and of its square.
    """
    values, template, read_variance = planes
    scale, per_signal = model
    low, width = bins
    number = found.shape[2]
    found[:] = 0.0
    for i in range(values.shape[0]):
        part = found[i // LINES]
        for j in range(values.shape[1]):
            out = left_out[i, j // STRIP] if along_x else left_out[i // STRIP, j]
            sky = np.float64(template[i, j])
            expected = scale * sky
            read = np.float64(read_variance[i, j])
            variance = read + per_signal * (expected if expected > 0 else 0.0)
            residual = np.float64(values[i, j]) - expected
            # Of what is NaN none of these holds.
            if out or not (read >= 0) or not (variance < np.inf) or not (abs(residual) < np.inf):
                continue
            noise = np.sqrt(variance)
            place = np.floor((residual / noise - low) / width)
            if place >= 0 and place < number:
                slope = sky / noise
                part[COUNTS, np.int64(place)] += 1.0
                part[SLOPES, np.int64(place)] += slope
                part[SQUARES, np.int64(place)] += slope * slope
