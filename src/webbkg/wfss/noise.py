"""The noise of a grism exposure as its sky makes it, not as each pixel's own counts suggest it.

ERR of a rate follows the same noisy counts as SCI, so that inverse-variance weights prefer the
pixels that came out low. Here the variance is that of the fitted model:
VAR_RNOISE + k·max(model, 0), with k from the exposure itself, the median of VAR_POISSON over that
of SCI. Both rise with the pixel's own counts alike, so that their medians belong together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import split
from webbkg.results import FloatImage
from webbkg.wfss.fit_pixels import LINES, scattered

BINS = 32
"""Bins of the template, of equally many pixels, in which the median of ERR² is taken."""

LEAST_KNOWN = 0.5
"""Share of the pixels that must have a VAR_RNOISE above 0."""

SAMPLE = 1 << 17  # pixels that medians are taken of

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Noise:
    """The variance of a pixel: `read` + `per_signal`·max(model, 0).

    Attributes
    ----------
    read : (rows, columns) float32
        Variance that does not depend on the model, in the target's unit squared.
    per_signal : float
        Variance of the photons for a signal of one unit: 1/(gain × time). Where `read` holds all
        the variance, 0.
    photons : float
        The same, for the skewness of the noise, wherever their variance is.
    origin : str
        What it was taken from.
    """

    read: FloatImage
    per_signal: float
    photons: float
    origin: str

    def skewness(self, level: float, places: Places) -> float:
        """Skewness of a pixel with photon noise of a level: k² level/variance^1.5."""
        level = max(level, 0.0)
        read = self.read.reshape(-1)[places]
        variance = _median(read[read >= 0]) + self.per_signal * level
        return self.photons**2 * level / variance**1.5 if variance > 0 else 0.0


def sample_places(values: Floats) -> Places:
    """Choose up to twice `SAMPLE` of the pixels that are not NaN, the same in every call."""
    places = scattered(values.size, max(values.size // SAMPLE, 1))
    chosen: Places = places[~np.isnan(values[places])]
    return chosen


def noise_from_planes(
    var_rnoise: FloatImage, var_poisson: FloatImage, values: Floats, places: Places
) -> Noise | None:
    """Model the noise from the variance planes.

    Parameters
    ----------
    var_rnoise, var_poisson : (rows, columns) float32
        Variances by read noise and photons.
    values : (pixels,) float32
        SCI in one row.
    places : (n,) int64
        Some of the pixels that are fitted.

    Returns
    -------
    Noise or None
        None where the planes hold nothing, as those of a product that lacks them.
    """
    counts, photons = values[places], var_poisson.reshape(-1)[places]
    known = np.isfinite(photons)
    if not known.any() or not np.mean(var_rnoise.reshape(-1)[places] > 0) > LEAST_KNOWN:
        return None
    signal = _median(counts[known])
    per_signal = _median(photons[known]) / signal if signal > 0 else 0.0
    # Of a sky that is not above 0 the photons are nobody's.
    per_signal = per_signal if math.isfinite(per_signal) and per_signal > 0 else 0.0
    return Noise(var_rnoise, per_signal, per_signal, "VAR_RNOISE and VAR_POISSON")


def noise_from_err(err: FloatImage, template: FloatImage, values: Floats, places: Places) -> Noise:
    """Model the noise by the median of ERR² as a function of the template; see the other one."""
    level = template.reshape(-1)[places].astype(np.float64)
    variance = err.reshape(-1)[places].astype(np.float64) ** 2
    signal = values[places].astype(np.float64)
    order = np.argsort(level, kind="stable")
    bins = [one for one in np.array_split(order, BINS) if one.size]
    levels, variances, signals = (
        np.array([np.median(of[one]) for one in bins]) for of in (level, variance, signal)
    )
    read = np.full(template.shape, np.nan, np.float32)
    for start, stop in split(len(template), LINES) if bins else ():
        read[start:stop] = np.interp(template[start:stop], levels, variances)
    if not bins:
        return Noise(read, 0.0, 0.0, "ERR")
    # Where ERR² follows the counts it does so with the photons' slope.
    above = signal - np.interp(level, levels, signals)
    slopes = (variance - np.interp(level, levels, variances))[above != 0] / above[above != 0]
    photons = float(np.median(slopes)) if slopes.size else 0.0
    return Noise(read, 0.0, max(photons, 0.0), "ERR")


def _median(values: Floats) -> float:
    return float(np.median(values)) if values.size else math.nan
