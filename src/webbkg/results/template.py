"""Templates of the user's own: what their scaling came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from webbkg.options import TemplateOptions
from webbkg.results.frozen import Frozen
from webbkg.results.status import Status


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
