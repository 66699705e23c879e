"""The scale of a template without the prescribed fit's bias: `WfssOptions.method` robust.

1. The variance is the model's (`webbkg.wfss.noise`), not that of each pixel's own counts.
2. In each pass, pixels further than `CLIP` standard deviations from the model are left out, and
   the rest are summed in strips along dispersion.
3. Strips that stand out leave the fit, on both sides (`webbkg.wfss.strips`).
4. What is left gives the next scale, until it changes by less than `TOLERANCE` standard errors.
5. Its error is that of the noise model or, where that is too small to be true, that of a
   jackknife over blocks.
6. Where more pixels are clipped than noise explains, light in single pixels is told from the
   sky (`webbkg.wfss.tails`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import over_bands, split
from webbkg.results import BoolImage, FitIteration, FloatImage, RobustFit, ScaleFit, Status
from webbkg.results import StopReason as Stop
from webbkg.wfss import kernels, strips
from webbkg.wfss.fit_pixels import LINES
from webbkg.wfss.noise import Noise, sample_places
from webbkg.wfss.tails import correct

CLIP = 4.5
"""Standard deviations beyond which a pixel is left out. At 3 the skewness of photon noise biases
the scale by one to four standard errors, at 4.5 by nothing that could be measured."""

TOLERANCE = 0.02
"""Change of the scale, in its standard errors, below which it stands."""

MOST_PASSES = 12

LEAST_CLIPPED = 1e-4
"""Share of the pixels that the clip leaves out, from where on light in single pixels is looked for.
Of Gaussian noise it is 7e-6."""

WHOLE = 0.75
"""Part of the usual number of pixels that a strip must have kept to tell of light in single ones: less
is left of those under a bright spectrum."""

LEARNING = (0, 1, 3)
"""Passes after which the scatter of the strips is measured anew; then it stands."""

FAINT = 0.2
"""Pixels where the template is below this part of its median do not enter the first guess."""

Doubles = npt.NDArray[np.float64]


class Common(NamedTuple):
    """What the fits of an exposure have in common besides their pixels."""

    offered: int  #: pixels that there are to fit, to be told
    sky_pixels: int  #: sky pixels, to be told
    along_x: bool  #: whether light is dispersed along x
    threads: int  #: how many to use; no result depends on it


class Pixels(NamedTuple):
    """What is fitted: images of one shape, (rows, columns) float32."""

    values: FloatImage  #: SCI; NaN where not fitted
    template: FloatImage
    noise: Noise

    def first_guess(self) -> tuple[float, float]:
        """Take from a sample the median of SCI over template, and the skewness of the noise.

        Both 0 where there is nothing to fit.
        """
        values, template = self.values.reshape(-1), self.template.reshape(-1)
        places = sample_places(values)
        sky = template[places].astype(np.float64)
        usual = float(np.median(sky)) if sky.size else 0.0
        lit = sky > FAINT * usual
        if not lit.any():
            return 0.0, 0.0
        scale = float(np.median(values[places][lit] / sky[lit]))
        return scale, self.noise.skewness(scale * usual, places)


@dataclass(frozen=True)
class StripPass:
    """One pass: the strips' sums of residuals from a scale, and what they make of it."""

    scale: float
    sums: strips.StripSums
    marked: BoolImage

    def total(self, term: Doubles) -> float:
        """Sum a term over the strips that are fitted."""
        return float(np.sum(term, where=~self.marked))

    @property
    def weight(self) -> float:
        """Inverse variance of the scale, by the noise model."""
        return self.total(self.sums.weight)

    @property
    def shift(self) -> float:
        """What the scale is off by."""
        return self.total(self.sums.cross) / self.weight

    @property
    def used(self) -> int:
        """Pixels of the fit."""
        return int(self.total(self.sums.pixels))

    @property
    def chi2_dof(self) -> float:
        """Chi-square about the shifted scale over its degrees of freedom."""
        chi2 = self.total(self.sums.chi2) - self.shift**2 * self.weight
        return max(chi2, 0.0) / (self.used - 1) if self.used > 1 else math.nan


def fit_robust(
    images: Pixels, common: Common, start: float | None = None, *, tails: bool = False
) -> ScaleFit:
    """Fit the scale of a template; see the module.

    Parameters
    ----------
    images : Pixels
        The values of the fit pixels, the template, and the noise.
    common : Common
        Its counts, axis and threads.
    start : float, optional
        First guess of the scale.
    tails : bool
        Light in single pixels is told from the sky (`webbkg.wfss.tails`).

    Returns
    -------
    ScaleFit
        FAILED, with scale 0, where nothing is left to fit.
    """
    iterations: list[FitIteration] = []
    scatters: dict[int, float] = {}
    (scale, skewness), stopped = images.first_guess(), Stop.MOST_ITERATIONS
    scale = scale if start is None else start
    for number in range(MOST_PASSES):
        sums = sum_strips(images, scale, common)
        if number in LEARNING:
            scatters = strips.measure_scatters(sums)
        found = StripPass(scale, sums, strips.mark(sums, scatters, skewness))
        if not found.weight > 0:
            return _failed(common, iterations)
        scale += found.shift
        rejected = common.offered - found.used
        iterations.append(FitIteration(offered=common.offered, rejected=rejected, scale=scale))
        if abs(found.shift) < TOLERANCE / math.sqrt(found.weight):
            stopped = Stop.CONVERGED
            break
    fit = ScaleFit(
        status=Status.COMPLETE,
        scale=scale,
        chi2_dof=found.chi2_dof,
        sky_pixels=common.sky_pixels,
        iterations=tuple(iterations),
        stopped=stopped,
    )
    fit = _with_errors(fit, found, scatters, images.noise)
    clipped = 1 - float(found.sums.pixels.sum()) / max(common.offered, 1)
    if not tails or clipped < LEAST_CLIPPED:
        return fit
    return _without_tail(fit, images, found, skewness, common)


def _without_tail(
    fit: ScaleFit, images: Pixels, found: StripPass, skewness: float, common: Common
) -> ScaleFit:
    """Take off the scale what single pixels with light leave in it."""
    pixels = found.sums.pixels
    bright = pixels < WHOLE * np.median(pixels[pixels > 0])
    tail = correct(
        (images.values, images.template, images.noise),
        fit.scale,
        skewness,
        found.marked | bright,
        along_x=common.along_x,
        threads=common.threads,
    )
    if tail is None:
        return fit
    assert fit.robust is not None
    white = strips.MARKING_COSTS * tail.error
    told = replace(
        fit.robust, white_err=white, tail_share=tail.share, tail_light=fit.scale - tail.scale
    )
    block, number = strips.block_error(found.sums, found.marked, found.shift)
    error = strips.larger_error(white, block, number)
    return replace(fit, scale=tail.scale, scale_err=error, robust=told)


def sum_strips(images: Pixels, scale: float, common: Common) -> strips.StripSums:
    """Clip against a scale, and sum what is left in strips along dispersion."""
    along_x = common.along_x
    rows, columns = images.values.shape
    step = 1 if along_x else kernels.STRIP
    size = -(-columns // kernels.STRIP) if along_x else columns
    sums = np.empty((-(-rows // step), kernels.STRIP_TERMS, size))
    planes = images.values, images.template, images.noise.read
    nothing = np.zeros((1, columns), np.float32)
    model = float(scale), float(images.noise.per_signal), CLIP

    def worker() -> Callable[[int, int], None]:
        lanes = np.empty((kernels.STRIP_TERMS, columns))

        def run(start: int, stop: int) -> None:
            values, template, read = (plane[start:stop] for plane in planes)
            part = sums[start // step : -(-stop // step)]
            kernels.sum_strips((values, template, read), nothing, model, along_x, lanes, part)

        return run

    over_bands(split(rows, LINES), worker, threads=common.threads)
    return strips.StripSums.of(sums, along_x=along_x)


def _failed(common: Common, iterations: list[FitIteration]) -> ScaleFit:
    return ScaleFit(
        status=Status.FAILED,
        reason="no sky pixel is left to fit, with a finite SCI, template and variance",
        sky_pixels=common.sky_pixels,
        iterations=tuple(iterations),
    )


def _with_errors(
    fit: ScaleFit, found: StripPass, scatters: dict[int, float], noise: Noise
) -> ScaleFit:
    white = strips.MARKING_COSTS / math.sqrt(found.weight)
    block, number = strips.block_error(found.sums, found.marked, found.shift)
    whole = float(found.sums.weight.sum())
    told = RobustFit(
        white_err=white,
        block_err=block,
        marked=1 - found.weight / whole,
        scatters=tuple(scatters.values()),
        noise=noise.origin,
        per_signal=noise.per_signal,
    )
    return replace(fit, scale_err=strips.larger_error(white, block, number), robust=told)
