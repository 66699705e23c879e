"""Frozen results: what was measured, as data. Nothing here reads, writes or logs."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.options import FAINTEST, ImageOptions, SossOptions, TemplateOptions, WfssOptions

FloatImage = npt.NDArray[np.float32]
FlagImage = npt.NDArray[np.uint32]
CountImage = npt.NDArray[np.uint32]
BoolImage = npt.NDArray[np.bool_]

REPR_WIDTH = 88
"""Characters of a repr beyond which each field has a line of its own."""

MOST_TOLD = 4
"""Members of a tuple that a repr tells."""


class Frozen:
    """Base of the results: they compare by value, NaN and arrays too, and print in a few lines."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(value, vars(other)[name]) for name, value in vars(self).items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = [f"{name}={_tell(value)}" for name, value in self._told().items()]
        line = f"{type(self).__name__}({', '.join(told)})"
        if len(line) <= REPR_WIDTH:
            return line
        return "\n".join([f"{type(self).__name__}(", *(f"    {one}," for one in told), ")"])

    def _told(self) -> dict[str, Any]:
        """Give what is set to something other than its default."""
        default = {one.name: one.default for one in fields(self) if one.default is not MISSING}  # type: ignore[arg-type]
        return {
            name: value
            for name, value in vars(self).items()
            if name not in default or not _same(value, default[name])
        }


class Shown(Frozen):
    """Base of the results that a notebook shows as a table, and that can be drawn."""

    def _repr_html_(self) -> str:
        return str(_display().as_html(self))

    def plot(self, axes: Any = None) -> Any:
        """Draw what there is to see of it.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to; by default a new figure's.

        Returns
        -------
        matplotlib.axes.Axes
            That was drawn on.

        Raises
        ------
        MissingExtraError
            Without Matplotlib, which the extra ``report`` installs.
        """
        return _display().plot(self, axes)


def _display() -> ModuleType:
    """Open the room that shows results; by its name, as results know of nothing above them."""
    return import_module("webbkg.report.notebook")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_array(one, other)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)


def _same_array(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one.dtype != other.dtype:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _tell(value: Any) -> str:
    """Write a value in a line: of an array its type and shape, of what is long its beginning."""
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {'x'.join(map(str, value.shape))}>"
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Frozen):
        line = repr(value)
        return line if "\n" not in line else f"{type(value).__name__}(...)"
    if isinstance(value, str) and len(value) > REPR_WIDTH:
        return repr(f"{value[:REPR_WIDTH]}...")
    if isinstance(value, tuple):
        told = ", ".join(map(_tell, value[:MOST_TOLD]))
        more = f", ... {len(value)} in all" if len(value) > MOST_TOLD else ""
        short = len(told) <= REPR_WIDTH
        return f"({told}{more})" if short else f"({len(value)} of {type(value[0]).__name__})"
    return f"{value:.7g}" if isinstance(value, float) else repr(value)


class Status(StrEnum):
    """The value of ``meta.cal_step.bkg_subtract`` (keyword S_BKDSUB)."""

    COMPLETE = "COMPLETE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SampleCounts(Frozen):
    """What became of the samples of a stack.

    Attributes
    ----------
    offered : int
        Samples inside the target's window.
    usable : int
        Those with a finite SCI and without DO_NOT_USE.
    clipped : int
        Usable samples that the clipping rejected.
    """

    offered: int = 0
    usable: int = 0
    clipped: int = 0

    def __add__(self, other: SampleCounts) -> SampleCounts:
        return SampleCounts(
            offered=self.offered + other.offered,
            usable=self.usable + other.usable,
            clipped=self.clipped + other.clipped,
        )

    @property
    def used(self) -> int:
        """Samples that entered an average."""
        return self.usable - self.clipped


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Variances(Frozen):
    """The variance of a background by its kinds, whose sum is err²; where err is NaN, so are they.

    Attributes
    ----------
    poisson : (rows, columns) float32
        What enters the target's VAR_POISSON, in the square of its unit.
    rnoise : (rows, columns) float32 or None
        What enters its VAR_RNOISE; None for 0.
    flat : (rows, columns) float32 or None
        What enters its VAR_FLAT where it has one, and else its VAR_POISSON; None for 0.
    """

    poisson: FloatImage
    rnoise: FloatImage | None = None
    flat: FloatImage | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Propagated(Frozen):
    """What became of a target's uncertainties.

    Attributes
    ----------
    planes : tuple of str
        Those of its planes that the background's variance entered.
    common : dict of str to float
        Relative standard errors of the background that move all of its pixels together, those
        of the scales by their names; independent of each other. Empty in image mode.
    jump : tuple of int
        SOSS: first column of the right side in each row, from which on the right scale holds.
    """

    planes: tuple[str, ...] = ()
    common: dict[str, float] = field(default_factory=dict)
    jump: tuple[int, ...] = ()


def relative_error(scale: float, scale_err: float) -> float:
    """Tell the standard error of a scale as a fraction of it; NaN of a scale of 0."""
    return abs(scale_err / scale) if scale else math.nan


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Drift(Frozen):
    """How a background changes from integration to integration, on the two sides of its jump.

    Attributes
    ----------
    scales, scale_errs : (integrations, 2) float32
        What it is times in each integration, left and right, and the standard errors of that;
        those of all segments one after another.
    jump : (rows,) int64
        First column of the right side in each row.
    segments : tuple of int
        Integrations of each segment.
    segment : int
        Index of the one that the background is for.
    """

    scales: FloatImage
    scale_errs: FloatImage
    jump: npt.NDArray[np.int64]
    segments: tuple[int, ...]
    segment: int = 0

    def factor(self, values: FloatImage, integration: int, rows: Any, columns: int) -> Any:
        """Tell what of `values`, (integrations, 2), holds in rows of an integration, counted from 0.

        A number where both sides have the same, else (rows, columns).

        Raises
        ------
        IndexError
            If the segment has fewer integrations.
        """
        if not 0 <= integration < self.segments[self.segment]:
            raise IndexError(
                f"integration must be one of the {self.segments[self.segment]} of the segment "
                f"(got {integration})"
            )
        left, right = values[sum(self.segments[: self.segment]) + integration]
        if left == right:
            return left
        return np.where(np.arange(columns) >= self.jump[rows][:, np.newaxis], right, left)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Background(Shown):
    """The background to subtract, on the target's window; every mode ends in one.

    Attributes
    ----------
    sci : (rows, columns) float32
        Background in the target's unit; NaN where it is unknown.
    err : (rows, columns) float32
        Its standard uncertainty in the same unit; NaN where it is unknown.
    dq : (rows, columns) uint32
        Data-quality flags; DO_NOT_USE is set wherever `sci` is NaN.
    covered : (rows, columns) bool
        True where the background was observed at all; elsewhere the target stays as it is.
    variances : Variances or None
        How `err` enters the target's uncertainties; None if it does not.
    drift : Drift or None
        What it is times in each integration; None if it is the same in all.
    """

    sci: FloatImage
    err: FloatImage
    dq: FlagImage
    covered: BoolImage
    variances: Variances | None = None
    drift: Drift | None = None

    def sky(self, integration: int, rows: Any) -> FloatImage:
        """Return `sci` in rows (a slice, or their numbers) of an integration: (rows, columns)."""
        return self.times(self.sci, integration, rows)

    def times(self, part: FloatImage, integration: int, rows: Any, power: int = 1) -> FloatImage:
        """Return rows of its err (or with power 2 of a variance) as they are in an integration."""
        here: FloatImage = part[rows]
        if self.drift is None:
            return here
        factor = self.drift.factor(self.drift.scales, integration, rows, here.shape[1])
        return np.asarray(factor**power * here, np.float32)

    def err_of(self, rows: range) -> FloatImage:
        """Return `err` of some rows: (rows, columns)."""
        return self.err[rows.start : rows.stop : rows.step]

    def drift_err(self, integration: int, rows: Any) -> FloatImage:
        """Return the standard error of `sky` that the change in time has, for rows as there."""
        sky: FloatImage = self.sci[rows]
        if self.drift is None:
            return np.zeros_like(sky)
        factor = self.drift.factor(self.drift.scale_errs, integration, rows, sky.shape[1])
        return np.asarray(np.abs(factor * sky), np.float32)

    def bare(self) -> Background:
        """Return it without what only a mode's own background has."""
        return Background(**{one.name: getattr(self, one.name) for one in fields(Background)})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CombinedBackground(Background):
    """The average of background exposures.

    Attributes
    ----------
    counts : (rows, columns) uint32
        Exposures that entered the average of each pixel.
    exposures : SampleCounts
        Over the exposures: samples offered, usable, clipped.
    integrations : SampleCounts
        The same over the integrations of the 3-D exposures.
    """

    counts: CountImage
    exposures: SampleCounts
    integrations: SampleCounts


class StopReason(StrEnum):
    """Why the outlier rejection of a fit came to its end."""

    NOT_FITTED = "not fitted"
    NO_ITERATIONS = "no rejection was asked for"
    MOST_ITERATIONS = "the largest number of iterations was reached"
    RMS = "the RMS improved too little"
    NOTHING_REJECTED = "nothing more was rejected"
    CONVERGED = "the scale no longer changed"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitIteration(Frozen):
    """One fit of a template's scale, and the rejection that went before it.

    Attributes
    ----------
    offered : int
        Pixels before the rejection.
    rejected : int
        Pixels that it took away; 0 in the first fit.
    scale : float
        From the pixels that were left.
    rms : float
        Of the residuals' profile along dispersion, in the target's unit; NaN where it was not
        asked for.
    """

    offered: int
    rejected: int
    scale: float
    rms: float = math.nan

    @property
    def used(self) -> int:
        """Pixels that this fit used."""
        return self.offered - self.rejected


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RobustFit(Frozen):
    """What the robust fit of a scale tells besides; see `webbkg.wfss.robust`.

    Attributes
    ----------
    white_err : float
        Standard error of the scale by the noise model, of noise that is independent from pixel
        to pixel.
    block_err : float
        The same by a jackknife over blocks of 64 by 64 pixels, correlated noise included; NaN
        where there is one block alone.
    marked : float
        Share of the fit, by weight, that the strips took away, 0 to 1.
    scatters : tuple of float
        Scatter of the strips of 16, 64 and 256 pixels among the faintest, in units of that of
        independent noise; at least 1.
    noise : str
        What the variance was modelled from.
    per_signal : float
        Variance that photons add for one unit of signal, in the target's unit: one over the
        electrons that one unit collects. 0 where `noise` is ERR.
    share : float
        Part of the fit pixels that was chosen as the cleanest, 0 to 1.
    light_limit : float
        Largest predicted light over template among them; infinite where none was predicted.
    light : float
        What was taken off the scale for light that is left in them.
    light_err : float
        Its standard error, which is part of that of the scale.
    tail_share : float
        Share of the pixels that hold light of cosmic rays or sources without shape, as the
        distribution of the residuals tells; 0 where it was not looked at.
    tail_light : float
        What was taken off the scale for it.
    """

    white_err: float
    block_err: float
    marked: float
    scatters: tuple[float, ...]
    noise: str
    per_signal: float
    share: float = 1.0
    light_limit: float = math.inf
    light: float = 0.0
    light_err: float = 0.0
    tail_share: float = 0.0
    tail_light: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ComponentFit(Frozen):
    """Scales of templates, and what is free along dispersion; see `webbkg.wfss.components`.

    Attributes
    ----------
    status : Status
        COMPLETE, or FAILED where the components cannot be fitted.
    reason : str
        Why it failed.
    freedom : int
        0: templates alone; 1: a constant too; n > 1: a cubic spline of n pieces along dispersion.
    along_x : bool
        Whether light is dispersed along x.
    scales : tuple of float
        What each template is to be multiplied by.
    white_errs, block_errs : tuple of float
        Their standard errors by the noise model, and by a jackknife over blocks; NaN of fewer
        than two blocks.
    free : (coefficients,) float64
        Coefficients of what is free: none, a constant, or those of the spline.
    profile : (length,) float64
        What they come to at each pixel along dispersion, in the target's unit.
    covariance : (n, n) float64
        Of scales and coefficients of what is free, in this order: by the noise model, or by the
        jackknife where that makes `level` more uncertain beyond chance.
    level, level_err : float
        Mean of the model over the fit pixels, by their weight, in the target's unit, and its
        standard error.
    chi2_dof : float
        Chi-square of the last pass over its degrees of freedom.
    offered : int
        Pixels that there were to fit.
    sky_pixels : int
        Sky pixels of the target without DO_NOT_USE.
    marked : float
        Share of the weight that the strips took away, 0 to 1.
    scatters : tuple of float
        As of `RobustFit`.
    noise : str
        What the variance was modelled from.
    per_signal : float
        As of `RobustFit`.
    iterations : tuple of FitIteration
        The passes over the pixels; `scale` is that of the first template.
    stopped : StopReason
        Why there were no more.
    """

    status: Status
    reason: str = ""
    freedom: int = 0
    along_x: bool = True
    scales: tuple[float, ...] = ()
    white_errs: tuple[float, ...] = ()
    block_errs: tuple[float, ...] = ()
    free: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    profile: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    covariance: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    level: float = math.nan
    level_err: float = math.nan
    chi2_dof: float = math.nan
    offered: int = 0
    sky_pixels: int = 0
    marked: float = 0.0
    scatters: tuple[float, ...] = ()
    noise: str = ""
    per_signal: float = 0.0
    iterations: tuple[FitIteration, ...] = ()
    stopped: StopReason = StopReason.NOT_FITTED

    @property
    def scale_errs(self) -> tuple[float, ...]:
        """Standard errors of the scales."""
        errors = np.sqrt(np.diagonal(self.covariance)[: len(self.scales)])
        return tuple(errors.tolist())

    @property
    def used(self) -> int:
        """Pixels of the last pass."""
        return self.iterations[-1].used if self.iterations else 0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelTrial(Frozen):
    """A model of the sky that was tried, and how well it foretells pixels that it was not fitted to.

    Attributes
    ----------
    name : str
        As of `WfssOptions.model`.
    pieces : int
        Of its spline; 0 where it has none.
    gain, gain_err : float
        Log-likelihood of the held-out blocks over that by the simplest model tried, and its
        standard error by a jackknife over the blocks.
    """

    name: str
    pieces: int = 0
    gain: float = 0.0
    gain_err: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SkyModel(Frozen):
    """The model of a sky that a fit of its scale settled for; see `webbkg.wfss.shapes`.

    Attributes
    ----------
    name : str
        ``template``, ``templates``, ``+offset`` or ``+profile``.
    pieces : int
        Of its spline; 0 where it has none.
    fit : ComponentFit or None
        Its components; None of one template alone.
    trials : tuple of ModelTrial
        What it was chosen from; empty where it was not chosen.
    change : float
        Root mean square of the difference from the best single scale of the first template, over
        the fit pixels, by their weight, as a part of the sky's mean.
    reason : str
        Why it is not what was asked for, where it is not.
    """

    name: str
    pieces: int = 0
    fit: ComponentFit | None = None
    trials: tuple[ModelTrial, ...] = ()
    change: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ScaleFit(Shown):
    """The scale of a template, by weighted least squares with outlier rejection.

    Attributes
    ----------
    status : Status
        COMPLETE, or FAILED where there is no trustworthy scale.
    reason : str
        Why it failed.
    scale : float
        What the template is to be multiplied by; 0.0 if FAILED.
    scale_err : float
        Its standard error, 1/sqrt(sum template²/ERR²) over the pixels of the last fit; NaN if
        FAILED. It holds if ERR does: where `chi2_dof` is well above 1, it is too small.
    chi2_dof : float
        Chi-square of the last fit over its pixels less one; NaN if FAILED or of one pixel.
        Rejection trims it: with 5 iterations of 1 % at each end, perfect noise gives 0.63.
    sky_pixels : int
        Sky pixels of the target without DO_NOT_USE.
    iterations : tuple of FitIteration
        The fits, the one before any rejection first; empty if none was tried.
    stopped : StopReason
        Why there are no more of them.
    robust : RobustFit or None
        What the robust method tells besides; None of the standard one. There each iteration is
        one pass over all fit pixels: `rejected` of it are those that the clip and the strips
        left out.
    model : SkyModel or None
        What more the sky was fitted with, where `WfssOptions.model` is not template. `scale` is
        that of the first template then.
    flat_err : float
        The part of `scale_err` that a stated error of the flat field makes; 0 where none is stated.
    """

    status: Status
    reason: str = ""
    scale: float = 0.0
    scale_err: float = math.nan
    chi2_dof: float = math.nan
    sky_pixels: int = 0
    iterations: tuple[FitIteration, ...] = ()
    stopped: StopReason = StopReason.NOT_FITTED
    robust: RobustFit | None = None
    model: SkyModel | None = None
    flat_err: float = 0.0

    @property
    def offered(self) -> int:
        """Pixels of the fit before any rejection."""
        return self.iterations[0].offered if self.iterations else 0

    @property
    def used(self) -> int:
        """Pixels of the last fit."""
        return self.iterations[-1].used if self.iterations else 0

    @property
    def rejected(self) -> int:
        """Pixels that all the rejections together took away."""
        return self.offered - self.used


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
class SkyLevels(Frozen):
    """The sky levels of background exposures, and how they were matched.

    Attributes
    ----------
    kind : str
        ``offset`` or ``scale``.
    backgrounds : tuple of float
        The level of each as it was, in the target's unit; NaN where none could be found.
    corrections : tuple of float
        What was added to each, or what it was multiplied by.
    unmatched : tuple of int
        Indices of those that share no sky with the others: nothing was done to them.
    target, combined : float
        The levels of the target and of the average of the matched exposures; NaN if unknown.
    target_correction : float
        What was added to that average to match the target, or what it was multiplied by; NaN if
        nothing was done.
    """

    kind: str
    backgrounds: tuple[float, ...]
    corrections: tuple[float, ...]
    unmatched: tuple[int, ...] = ()
    target: float = math.nan
    combined: float = math.nan
    target_correction: float = math.nan


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Verdict(Frozen):
    """What became of a background exposure.

    Attributes
    ----------
    name : str
        The exposure.
    used : bool
        Whether it was averaged.
    reason : str
        Why it was left out, or what is odd about one that was used; empty if nothing is.
    """

    name: str
    used: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageResult(Frozen):
    """What the averaging of background exposures came to.

    Attributes
    ----------
    options : ImageOptions
        How they were averaged.
    backgrounds : tuple of str
        The exposures that were averaged.
    exposures, integrations : SampleCounts
        Samples over the exposures, and over the integrations of the 3-D ones.
    pixels : int
        Pixels of the target's window.
    pixels_uncovered : int
        Those that no background covers.
    pixels_unknown : int
        Those that are covered, and have no usable sample.
    levels : SkyLevels or None
        Where levels were matched.
    masked : tuple of float
        Where sources were left out: the share of each exposure's pixels that was.
    """

    options: ImageOptions
    backgrounds: tuple[str, ...]
    exposures: SampleCounts
    integrations: SampleCounts
    pixels: int
    pixels_uncovered: int
    pixels_unknown: int
    levels: SkyLevels | None = None
    masked: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WfssResult(Frozen):
    """What the scaling of a reference sky to a grism exposure came to.

    Attributes
    ----------
    options : WfssOptions
        How it was scaled.
    template : str
        Name of the reference.
    mask : str
        Where the sky mask is from.
    mask_sources : int
        Sources of a catalogue that it masks.
    mask_from : str
        What told sky from sources: as `WfssOptions.mask_from`, where that is auto what it came
        to; boxes for a mask of the user's too.
    pixels : int
        Pixels of the target's window.
    fit : ScaleFit
        The scale and how it came about.
    """

    options: WfssOptions
    template: str
    mask: str
    mask_sources: int
    pixels: int
    fit: ScaleFit
    mask_from: str = "boxes"


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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemplateScale(Frozen):
    """The scale of one of the templates that were fitted together.

    Attributes
    ----------
    scale : float
        What the template is multiplied by; at least 0.
    scale_err : float
        Its standard error: the larger of the next two, together with the third. Of a scale of 0
        that of the fit that may be negative.
    white_err, block_err : float
        By the noise of the pixels; and by a jackknife over blocks, correlated noise and the light of
        unseen sources included.
    flat_err : float
        By the stated error of the flat field; 0 where none is stated.
    own : float
        Share of what tells the scale that other templates and the even sky leave, 0 to 1.
    """

    scale: float
    scale_err: float
    white_err: float
    block_err: float
    flat_err: float = 0.0
    own: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemplatesFit(Frozen):
    """Templates fitted together to an image, with an even sky beside them.

    Attributes
    ----------
    status : Status
        COMPLETE, or FAILED where there are no trustworthy scales.
    reason : str
        Why it failed.
    scales : tuple of TemplateScale
        In the order of the templates; empty if FAILED.
    sky : tuple of float
        Coefficients of the even sky, in the target's unit: of 1, u, v, u², uv and v², with u and v
        from -1 to 1 over the image's columns and rows; as many as were fitted.
    level : float
        Median of that sky over the pixels of the fit; 0 where none was fitted.
    covariance : (n, n) float64 ndarray
        Of the scales and, after them, of `sky`.
    chi2_dof : float
        Chi-square over the degrees of freedom; NaN if FAILED.
    offered, used : int
        Pixels that there were to fit, and of the last fit: without sources and outliers.
    rounds : int
        How often sources were looked for.
    sources : float
        Share of the pixels offered that was left out as source.
    """

    status: Status
    reason: str = ""
    scales: tuple[TemplateScale, ...] = ()
    sky: tuple[float, ...] = ()
    level: float = 0.0
    covariance: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    chi2_dof: float = math.nan
    offered: int = 0
    used: int = 0
    rounds: int = 0
    sources: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemplateResult(Frozen):
    """What the scaling of templates of the user's own came to.

    Attributes
    ----------
    options : TemplateOptions
        How they were scaled.
    templates : tuple of str
        Names of their files.
    pixels, pixels_unknown : int
        Pixels of the target's window; and those where a template is not finite, which stay as
        they are.
    fit : TemplatesFit
        The scales and how they came about.
    """

    options: TemplateOptions
    templates: tuple[str, ...]
    pixels: int
    pixels_unknown: int
    fit: TemplatesFit

    @property
    def level_left(self) -> float:
        """Level of the sky that was fitted and stays, in the target's unit."""
        return 0.0 if self.options.template_subtract_sky else self.fit.level


Result = ImageResult | WfssResult | SossResult | TemplateResult


class Grade(StrEnum):
    """How a metric, or a subtraction, is to be taken; from good to bad."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"

    @property
    def rank(self) -> int:
        """0 for good, 1 for look, 2 for bad."""
        return tuple(Grade).index(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Metric(Frozen):
    """One number that tells of the quality of a subtraction.

    Attributes
    ----------
    name : str
        Such as ``sky_level``.
    value : float
        In `unit`.
    unit : str
        ``ERR`` for the target's uncertainty of a pixel, ``sigma`` for standard errors; empty for
        plain ratios and shares.
    error : float
        Standard error of `value`; 0 where it is exact.
    share : float
        The same as a share of the background that was subtracted; NaN where that says nothing.
    grade : Grade
        What its limits make of it.
    reason : str
        Why it is not good, in words; empty if it is.
    """

    name: str
    value: float
    unit: str = ""
    error: float = 0.0
    share: float = math.nan
    grade: Grade = Grade.GOOD
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Metrics(Shown):
    """How good a subtraction is, measured on the sky pixels of the result.

    Attributes
    ----------
    values : tuple of Metric
        Those that could be measured.
    level, scatter, background : float
        Median and robust standard deviation of the result on sky pixels, and the median of what
        was subtracted there, in the target's unit; NaN where there is no sky.
    pixels : int
        Sky pixels that were looked at.
    """

    values: tuple[Metric, ...]
    level: float = math.nan
    scatter: float = math.nan
    background: float = math.nan
    pixels: int = 0

    @property
    def verdict(self) -> Grade:
        """The worst grade of a metric."""
        return max((one.grade for one in self.values), key=lambda g: g.rank, default=Grade.GOOD)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not good, in words, the worst first."""
        told = [one for one in self.values if one.reason]
        return tuple(one.reason for one in sorted(told, key=lambda one: -one.grade.rank))

    def __repr__(self) -> str:
        odd = [one.name for one in self.values if one.reason]
        return f"Metrics({self.verdict}{': ' if odd else ''}{', '.join(odd)})"

    def find(self, name: str) -> Metric | None:
        """Return a metric by its name; None if it was not measured."""
        return next((one for one in self.values if one.name == name), None)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Outcome(Shown):
    """What a subtraction came to.

    Attributes
    ----------
    status : Status
        COMPLETE only if something was subtracted.
    reason : str
        Why the status is what it is, for a human.
    already_done : bool
        The target had been subtracted before and came back unchanged.
    result : ImageResult, WfssResult, SossResult, TemplateResult or None
        The numbers; None where nothing was measured.
    background : Background or None
        What was subtracted, if that was to be kept.
    sky_mask : (rows, columns) bool or None
        Of a WFSS fit, or of templates: True where sky.
    verdicts : tuple of Verdict
        Of every background exposure that was given, in their order.
    propagated : Propagated or None
        What became of the target's uncertainties; None where they stay.
    warnings : tuple of str
        What the user should know.
    median_before, median_after : float or None
        Median of the finite SCI of the target and of the result, where that was asked for.
    metrics : Metrics or None
        How good the subtraction is, where that was asked for and something was subtracted.
    unit : str
        Of the target's SCI (keyword BUNIT); empty where that is not known.
    """

    status: Status
    reason: str = ""
    already_done: bool = False
    result: Result | None = None
    background: Background | None = None
    sky_mask: BoolImage | None = None
    verdicts: tuple[Verdict, ...] = ()
    propagated: Propagated | None = None
    warnings: tuple[str, ...] = ()
    median_before: float | None = None
    median_after: float | None = None
    metrics: Metrics | None = None
    unit: str = ""

    def of_next_segment(self) -> Outcome:
        """Return that of the next segment of the same exposure, which was measured with it."""
        result, background = self.result, self.background
        if isinstance(result, SossResult):
            result = replace(result, segment=result.segment + 1)
        if background is not None and background.drift is not None:
            drift = replace(background.drift, segment=background.drift.segment + 1)
            background = replace(background, drift=drift)
        return replace(self, result=result, background=background)


@dataclass(frozen=True)
class SourceCatalog:
    """What the masking of sources needs of a catalogue; the arrays are read-only.

    Attributes
    ----------
    ra, dec : (4, sources) float64
        Corners of the sources' boxes on the sky (ICRS, degrees).
    magnitude : (sources,) float64
        Isophotal AB magnitudes; NaN where missing.
    """

    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    magnitude: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for values in (self.ra, self.dec, self.magnitude):
            values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.magnitude)

    def brighter_than(self, limit: float | None) -> SourceCatalog:
        """Leave out the sources whose magnitude is `limit` or fainter; NaN stays.

        None stands for `webbkg.options.FAINTEST`.
        """
        faint = self.magnitude >= (FAINTEST if limit is None else limit)
        return SourceCatalog(
            self.ra[:, ~faint].copy(), self.dec[:, ~faint].copy(), self.magnitude[~faint].copy()
        )
