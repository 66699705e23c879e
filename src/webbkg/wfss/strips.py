"""Strips along dispersion: which hold light that no one listed, and what is left without them.

A faint spectrum drowns in the noise of every pixel, but it is long along dispersion. Residuals
are therefore averaged over strips of several lengths, one pixel wide, and strips that stand out
against the scatter of all are left out of the fit. They leave it on both sides: to cut the
high ones alone would bias a pure sky.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.results import BoolImage

Doubles = npt.NDArray[np.float64]

LENGTHS = (1, 4, 16)
"""Lengths of the strips that are judged, in strips of the sums: 16, 64 and 256 pixels."""

THRESHOLD = 3.0
"""Standard deviations of the scatter beyond which a strip leaves the fit."""

SEPARATIONS = (48, 64, 80, 96)
"""Lines between the strips whose differences tell the scatter. Next neighbours would not do:
they share slow noise, and the light of one source."""

FAINTEST = 0.3
"""Share of the pairs, the faintest, that tell the scatter: those hold the least of sources. A sum
is independent of its difference, so that to choose by the one does not bias the other."""

ENOUGH = 1 << 15
"""Strips that are enough to tell the scatter."""

LEAST_WEIGHT = 0.15
"""Strips with less than this share of the mean weight are not judged at their length."""

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian in median absolute deviations."""

MARKING_COSTS = 1.04
"""Scatter of the scale over what the weights that are left promise: measured on 5000 fields of
Gaussian noise of 512 by 512 pixels (1.035 ± 0.010) and 300 of 2048 (1.05 ± 0.04). Strips that
leave the fit at a limit that moves with it cost a little more than their own weight."""

SIGNIFICANT = 2.0
"""Of its own standard errors by which a jackknife must exceed the white error to be believed."""

BLOCKS = 8
"""Blocks of a jackknife along each axis. Slow noise has no scale of its own, so that they are a
part of the image and not so many pixels."""


class StripSums(NamedTuple):
    """Sums over the pixels of each strip that a clip has left, (lines, strips) float64.

    Lines follow each other across dispersion, strips along it.
    """

    weight: Doubles  #: of template²/variance: the inverse variance of the strip's own scale
    cross: Doubles  #: of template·residual/variance
    chi2: Doubles  #: of residual²/variance
    pixels: Doubles  #: of 1

    @classmethod
    def of(cls, sums: Doubles, *, along_x: bool) -> StripSums:
        """Take them out of what `kernels.sum_strips` made, of the whole image."""
        parts = (sums[:, term] for term in range(sums.shape[1]))
        return cls(*(part if along_x else part.T for part in parts))


def measure_scatters(sums: StripSums) -> dict[int, float]:
    """Measure the scatter of the strips of each length, in units of that of white noise."""
    return {length: _scatter(*join(sums, length)) for length in LENGTHS}


def join(sums: StripSums, length: int) -> tuple[Doubles, Doubles]:
    """Return inverse variance and mean residual (NaN where not judged) of longer strips."""
    weight, cross = sums.weight, sums.cross
    if length > 1:
        starts = np.arange(0, weight.shape[1], length)
        weight, cross = (np.add.reduceat(one, starts, axis=1) for one in (weight, cross))
    least = LEAST_WEIGHT * float(weight.sum()) / max(int(np.count_nonzero(weight)), 1)
    judged = weight > least
    return weight, np.divide(cross, weight, out=np.full_like(cross, np.nan), where=judged)


def _scatter(weight: Doubles, mean: Doubles) -> float:
    """Compare differences of strips with what white noise makes of them; at least 1."""
    every = max(mean.size // ENOUGH, 1)
    weight, mean = weight[:, ::every], mean[:, ::every]
    lines = len(mean)
    apart = [step for step in SEPARATIONS if step < lines / 2] or [max(lines // 3, 1)]
    found = [_faint_differences(weight, mean, step) for step in apart]
    differences = np.abs(np.concatenate(found))
    return max(MAD_TO_SIGMA * float(np.median(differences)), 1.0) if differences.size else 1.0


def _faint_differences(weight: Doubles, mean: Doubles, step: int) -> Doubles:
    """Differences of the faintest pairs of strips `step` lines apart, in their standard errors."""
    both = np.isfinite(mean[step:]) & np.isfinite(mean[:-step])
    upper, lower = mean[step:][both], mean[:-step][both]
    if not upper.size:
        return np.empty(0)
    total = upper + lower
    faint = total <= np.quantile(total, FAINTEST)
    variance = 1 / weight[step:][both][faint] + 1 / weight[:-step][both][faint]
    difference: Doubles = (upper[faint] - lower[faint]) / np.sqrt(variance)
    return difference


def mark(sums: StripSums, scatters: dict[int, float], skewness: float = 0.0) -> BoolImage:
    """Mark the strips that leave the fit; with each go its two neighbours.

    Photon noise is skew, and limits at ±t on a skew distribution leave a mean that is not 0. The
    two limits are moved by t²/6 times the strips' skewness, which makes up for it to first order
    (Edgeworth's series: the mean within ±t is -t³ φ(t) γ/3, and moves by 2 t φ(t) times the move).

    Parameters
    ----------
    sums : StripSums
        Of residuals from a scale.
    scatters : dict of int to float
        From `measure_scatters`.
    skewness : float
        Of one pixel's noise.

    Returns
    -------
    (lines, strips) ndarray of bool
        True where a strip leaves.
    """
    pixels = float(sums.pixels.sum()) / max(int(np.count_nonzero(sums.pixels)), 1)
    columns = sums.weight.shape[1]
    marked: BoolImage = np.zeros(sums.weight.shape, np.bool_)
    for length, scatter in scatters.items():
        weight, mean = join(sums, length)
        # The skewness of what is not photon noise is none.
        skew = skewness / math.sqrt(max(pixels * length, 1)) / scatter**3
        deviation = mean * (np.sqrt(weight) / scatter) - THRESHOLD**2 / 6 * skew
        out: BoolImage = np.abs(deviation) > THRESHOLD  # False of NaN
        grown: BoolImage = out.copy()
        grown[1:] |= out[:-1]
        grown[:-1] |= out[1:]
        marked |= _stretched(grown, length)[:, :columns]
    return marked


def block_error(sums: StripSums, marked: BoolImage, shift: float) -> tuple[float, int]:
    """Return the scale's standard error by a jackknife over blocks, and their number.

    sqrt(n/(n - 1) sum w² (s - S)²)/sum w for the scales s and weights w of n blocks, S being that
    of all: the delete-one-block jackknife of a weighted mean, to first order (Busing, Meijer and
    van der Leeden 1999, Statistics and Computing 9, 3).

    Parameters
    ----------
    sums : StripSums
        Of residuals from a scale.
    marked : (lines, strips) ndarray of bool
        True where a strip is not fitted.
    shift : float
        What is still to be added to that scale.

    Returns
    -------
    error : float
        NaN of fewer than two blocks.
    number : int
        Blocks with something to fit.
    """
    weight = _blocks(np.where(marked, 0, sums.weight))
    cross = _blocks(np.where(marked, 0, sums.cross))
    used = weight > 0
    number = int(np.count_nonzero(used))
    if number < 2:
        return math.nan, number
    deviation = cross[used] - shift * weight[used]
    spread = float(np.sum(deviation**2)) * number / (number - 1)
    return math.sqrt(spread) / float(weight.sum()), number


def _stretched(marks: BoolImage, length: int) -> BoolImage:
    """Give each strip of a longer one its mark."""
    return np.repeat(marks, length, axis=1)


def larger_error(white: float, block: float, number: int) -> float:
    """Choose the white error, or that of `number` blocks if it is larger beyond chance."""
    chance = SIGNIFICANT / math.sqrt(2 * max(number - 1, 1))
    return block if block > white * (1 + chance) else white


def _blocks(values: Doubles) -> Doubles:
    for axis in (0, 1):
        length = values.shape[axis]
        values = np.add.reduceat(values, np.arange(0, length, -(-length // BLOCKS)), axis=axis)
    return values
