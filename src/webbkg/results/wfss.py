"""Grism skies: what the scaling of a reference sky came to, and the catalogue behind its mask."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from webbkg.options import FAINTEST, WfssOptions
from webbkg.results.frozen import Frozen, Shown
from webbkg.results.status import Status


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
