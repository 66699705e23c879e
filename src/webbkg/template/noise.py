"""The noise of an image as its model makes it, not as each pixel's own counts suggest it.

Variances follow the counts of their own pixels, so that weights made of them prefer those that came
out low. Here a pixel's variance is its read noise, and for the photons what the exposure's own planes
say at the median, changed with the model by their slope. An image whose sky was subtracted before
keeps that sky's photons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.results import FloatImage

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class Noise(NamedTuple):
    """Variance of a pixel: `read` + max(`base` + `per_signal`·model, 0).

    Attributes
    ----------
    read : (rows, columns) float32
        Variance that does not depend on the model, in the target's unit squared.
    base, per_signal : float
        Of the photons, for a model of 0, and what one unit of signal adds.
    """

    read: FloatImage
    base: float
    per_signal: float


def model_noise(
    read: FloatImage, photons: FloatImage | None, values: FloatImage, places: Places
) -> Noise:
    """Model the noise from variances.

    Parameters
    ----------
    read, photons : (rows, columns) float32
        Variances by read noise and by photons. Where the latter is None the first holds both, and
        becomes one number.
    values : (rows, columns) float32
        SCI.
    places : (n,) int64
        Some of the pixels that are fitted, in `values` in one row; at least one.
    """
    signal = values.reshape(-1)[places].astype(np.float64)
    variance = (read if photons is None else photons).reshape(-1)[places].astype(np.float64)
    known = np.isfinite(variance) & np.isfinite(signal)
    signal, variance = signal[known], variance[known]
    if not signal.size:
        return Noise(read, 0.0, 0.0)
    middle, usual = float(np.median(signal)), float(np.median(variance))
    per_signal = max(_slope(signal - middle, variance - usual), 0.0)
    if photons is None:
        read = np.zeros_like(read)
    return Noise(read, usual - per_signal * middle, per_signal)


def _slope(signal: Values, variance: Values) -> float:
    """Median of the ratios of two deviations from their medians, of the larger half of the first."""
    size = np.abs(signal)
    far = size > np.median(size)
    return float(np.median(variance[far] / signal[far])) if far.any() else 0.0
