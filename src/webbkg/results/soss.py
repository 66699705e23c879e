"""SOSS: what the choice and the scaling of a template came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from webbkg.options import SossOptions
from webbkg.results.background import Drift
from webbkg.results.frozen import Frozen, Shown
from webbkg.results.status import Status


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SideFit(Frozen):
    """The scale of a template on one side of its step.

    Attributes
    ----------
    scale : float
        Median of the ratios target/template strictly between two percentiles; a float32 value.
    scale_err : float
        Standard error of `scale`. That median is in effect the quantile q of all n ratios that
        lies midway between the percentiles a and b (as fractions), so its standard error is
        sqrt(q (1 - q) / n) / f, with the density f of the ratios taken as the average between
        the percentiles, (b - a) / (upper - lower ratio). Asymptotic (see e.g. David & Nagaraja,
        Order Statistics, section 10.2), and of the noise alone: it takes all samples as
        independent, so 1/f noise and pixel-to-pixel errors that all integrations share make it
        too small, and it knows nothing of the bias that comes of cutting the noise off at the
        source threshold and at the percentiles.
    rmse : float
        Root of the mean squared (target - scale * template) over `n_sky` samples.
    n_sky : int
        Samples with a ratio: usable, below the source threshold, template neither zero nor
        infinite nor NaN. Over all integrations.
    n_scale : int
        Those of them whose ratio lies strictly between the percentiles.
    """

    scale: float
    scale_err: float
    rmse: float
    n_sky: int
    n_scale: int


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SossNoise(Frozen):
    """The noise that a robust SOSS fit measured on the exposure itself.

    Attributes
    ----------
    read_variance : float
        Variance of a dark pixel of one integration, in the target's unit squared.
    photon_variance : float
        What a unit of light adds to it.
    shared : float
        Standard deviation of pixels that all integrations share.
    flicker_strength, flicker_exponent, flicker_white : float
        Spectrum of the column levels of one integration: strength / f**exponent + white, with f
        in cycles a column.
    reference_pixels : bool
        Reference pixels follow the column levels, and took part.
    """

    read_variance: float
    photon_variance: float
    shared: float
    flicker_strength: float
    flicker_exponent: float
    flicker_white: float
    reference_pixels: bool


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SossMixture(Frozen):
    """A sky that is a sum of templates, each with weights of its own, none of them negative.

    Attributes
    ----------
    weights : (templates, 2, 2) float64
        Of each template: left and right of the jump, in the first row and in the last, between
        which they change linearly; float32 values.
    covariances : (2, 2 * templates, 2 * templates) float64
        Of the weights of each side: those in the first row of all templates, then the others.
    changed : tuple of float
        Root of the mean squared difference to the sky of the most likely template by itself,
        over that sky, left and right.
    log_likelihood : float
        Over that template. It only grows: held-out columns tell more, see `SossRobust.gain`.
    """

    weights: npt.NDArray[np.float64]
    covariances: npt.NDArray[np.float64]
    changed: tuple[float, float]
    log_likelihood: float

    @property
    def templates(self) -> tuple[int, ...]:
        """Those that it has a part of."""
        return tuple(np.flatnonzero(self.weights.any(axis=(1, 2))).tolist())


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SossRobust(Frozen):
    """What a robust SOSS fit tells besides template and scales.

    Attributes
    ----------
    scales, scale_errs : (templates, 2) float64
        Of every template by itself, left and right, and the standard errors.
    log_likelihood : (templates,) float64
        Of every template, relative to the best one: 0 for that and negative for the others.
    used : tuple of float
        Share of the usable pixels of each side that took part, left and right.
    starlight : tuple of float
        Light of the star's wings over that of the sky in them, weighted as the fit is.
    chi2_dof : float
        Chi-square a pixel of the fit, whose noise was measured on the differences.
    level_chi2 : float
        Chi-square, a mode, of the slow part of the columns' levels with the covariance that the
        1/f noise gives them; a sky that no template has makes it large.
    jump_left : float
        Step of the residual at the jump, as a share of that of the sky.
    wings : tuple of str
        What the model of the wings has because held-out columns pay for it: "sides", "colour",
        "bent", "orders", "compact".
    stray_light : bool
        Smooth light would pay too, but is too like the templates to be told from them.
    noise : SossNoise
        Of the exposure.
    look : tuple of str
        Why the result should be looked at; empty if there is no reason.
    mixture : SossMixture or None
        The sky, if it is a mixture; None if it is one template.
    gain, gain_err : float
        Log-likelihood of held-out columns with a mixture over that with one template, and its
        jackknife error; NaN unless both were tried.
    """

    scales: npt.NDArray[np.float64]
    scale_errs: npt.NDArray[np.float64]
    log_likelihood: npt.NDArray[np.float64]
    used: tuple[float, float]
    starlight: tuple[float, float]
    chi2_dof: float
    level_chi2: float
    jump_left: float
    wings: tuple[str, ...]
    stray_light: bool
    noise: SossNoise
    look: tuple[str, ...] = ()
    mixture: SossMixture | None = None
    gain: float = math.nan
    gain_err: float = math.nan

    @property
    def model(self) -> str:
        """What the sky is: ``one`` template or a ``mixture``."""
        return "one" if self.mixture is None else "mixture"

    @property
    def margin(self) -> float:
        """Log-likelihood of the best template over the second; infinite if there is one only."""
        others = np.sort(self.log_likelihood)[:-1]
        return float(-others[-1]) if len(others) else math.inf


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SossTime(Frozen):
    """How the scales of a robust SOSS fit change in time, relative to the constant ones.

    Attributes
    ----------
    hours : (integrations,) float64
        Middle of each integration, from that of the first in time; of all segments, as given.
    clock : str
        Where the times are from: ``INT_TIMES``, ``integration time`` (the integrations' numbers
        times that) or ``given``, or ``order`` (the times are unknown,
        and `hours` are numbers).
    measured, measured_errs : (integrations, 2) float64
        Of each integration by itself, left and right, and the standard errors; NaN where there
        is nothing to measure.
    scales, scale_errs : (integrations, 2) float64
        The spline, with a mean of 1, and its standard errors; 1 and 0 where it is constant.
    knots : (knots,) float64
        Of the cubic spline (hours), "not a knot" at its ends; a single one where the scales are constant.
    knot_scales, knot_errs : (knots, 2) float64
        The scales there, which make the spline, and their standard errors.
    together : bool
        Both sides change alike.
    change, change_err : float
        From the beginning to the end, by a straight line through both sides, and its standard
        error; NaN where there is none.
    chi2 : tuple of float
        Chi-square of the constant scales, and of the spline.
    noise : float
        Scatter of neighbours in time over that which their errors would make by the model of the
        noise; the errors are multiplied by it, of fewer than 60 integrations where it is above 1.
    outliers : int
        Integrations left out because they are off.
    segments : tuple of int
        Integrations of each segment.
    reason : str
        Why the scales are constant; empty if they are not.
    """

    hours: npt.NDArray[np.float64]
    clock: str
    measured: npt.NDArray[np.float64]
    measured_errs: npt.NDArray[np.float64]
    scales: npt.NDArray[np.float64]
    scale_errs: npt.NDArray[np.float64]
    knots: npt.NDArray[np.float64]
    knot_scales: npt.NDArray[np.float64]
    knot_errs: npt.NDArray[np.float64]
    together: bool
    change: float
    change_err: float
    chi2: tuple[float, float]
    noise: float
    outliers: int
    segments: tuple[int, ...]
    reason: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether the scales are the same in all integrations."""
        return len(self.knots) < 2

    def drift(self, jump: npt.NDArray[np.int64]) -> Drift | None:
        """Tell it as a background has it, whose jump this is; None where it is constant."""
        if self.is_constant:
            return None
        return Drift(
            scales=self.scales.astype(np.float32),
            scale_errs=self.scale_errs.astype(np.float32),
            jump=jump,
            segments=self.segments,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemplateFit(Shown):
    """The template that suits a SOSS exposure best, and its two scales.

    Attributes
    ----------
    status : Status
        COMPLETE or SKIPPED.
    reason : str
        Why it was skipped.
    template : int or None
        Index of the template in its library; None unless COMPLETE. Where the sky is a mixture,
        the one that is the most likely by itself.
    left, right : SideFit or None
        The scale before the template's step, and from it on; None unless COMPLETE. Of a mixture,
        its mean over that of the template, in the pixels of the fit.
    rmse : (templates, 2) float64
        RMSE of every template, left and right; NaN where there is no scale.
    source_threshold : float
        Values at or above it were taken as source, in the target's unit; NaN if unknown.
    jump : (rows,) int64
        First column of the right side in each row, of the chosen template; empty unless COMPLETE.
    n_integrations : int
        Integrations that were fitted together.
    robust : SossRobust or None
        More of a robust fit, whose `rmse` of all templates and threshold are NaN, and whose
        sides' `scale_err` is from the posterior; None of a percentile fit.
    time : SossTime or None
        How the scales change in time, where that was asked for.
    """

    status: Status
    reason: str = ""
    template: int | None = None
    left: SideFit | None = None
    right: SideFit | None = None
    rmse: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    source_threshold: float = float("nan")
    jump: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    n_integrations: int = 0
    robust: SossRobust | None = None
    time: SossTime | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SossResult(Frozen):
    """What the choice and the scaling of a SOSS template came to.

    Attributes
    ----------
    options : SossOptions
        How it was chosen.
    reference : str
        Name of the library.
    segments : int
        Segments that were fitted together.
    fit : TemplateFit
        The template and its two scales.
    segment : int
        Index of the target's among them.
    """

    options: SossOptions
    reference: str
    segments: int
    fit: TemplateFit
    segment: int = 0
