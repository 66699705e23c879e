"""Every default and threshold of webbkg, once, with its unit and source.

The parameters that the pipeline's step already has keep its names, types and
defaults (JWST pipeline documentation, "Background Subtraction: Step Arguments").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from webbkg.errors import OptionError

DO_NOT_USE = 1
"""The data-quality bit of a pixel that must not be used (JWST data-quality flags)."""

REFERENCE_PIXEL = 1 << 31
"""The data-quality bit of a pixel that sees no light (JWST data-quality flags)."""

SOSS_SUBSTRIP96_ROWS = (10, 106)
"""Rows (start, stop) of a 256-row SOSS template that a target of 96 rows, SUBSTRIP96, covers.
From here on the figures for SOSS are those of the JWST pipeline's step."""

SOSS_SMOOTHING = 3.0
"""Standard deviation of the Gaussian that smooths a SOSS template before its step is looked for
(pixels)."""

SOSS_STEP_COLUMNS = (685, 725)
"""Columns (start, stop) in which the step of a SOSS template lies."""

SOSS_FEW_SAMPLES = 0.01
"""Share of the samples of a side below which its scale is reported to rest on little."""

SOSS_LAST_COLUMN = 950
"""Last column that enters the SOSS fit, on the right side of the step."""

SOSS_COUNTER_MEMORY = 96 * 2**20
"""Bytes that the counters of the SOSS fit may occupy, over all threads together."""

GRATING_TILT_TOLERANCE = 1e-8
"""Largest difference, inclusive, of GWA_XTIL or GWA_YTIL between a NIRSpec target and its
backgrounds (degrees, as in the keywords)."""

BAND_MEMORY = 24 * 2**20
"""Bytes that the samples of the background stack may occupy, over all threads together."""

MINIMUM_SKY_PERCENT = 5.0
"""Share of all pixels that must be usable sky, exclusive, for a WFSS fit outside a catalogue's
boxes (percent); the same as that of the ``jwst`` package."""

PARAMETER_LOOKUP_SECONDS = 10
"""How long CRDS may take to answer for a parameter reference, unless
CRDS_CLIENT_TIMEOUT_SECONDS says otherwise (seconds)."""

REFERENCE_FETCH_SECONDS = 600
"""How long CRDS may take to choose and fetch a reference, unless CRDS_CLIENT_TIMEOUT_SECONDS
says otherwise (seconds)."""


FAINTEST = 999.0
"""Magnitude limit where none is given: every source with a real magnitude is brighter."""


def _require(condition: bool, name: str, constraint: str, value: object) -> None:
    if not condition:
        raise OptionError(f"{name} must be {constraint} (got {value!r})")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How background exposures are averaged.

    Attributes
    ----------
    sigma : float
        Clip threshold in standard deviations of the survivors; positive.
    maxiters : int or None
        Largest number of clip iterations; None and 0 mean until stable.
    band_memory : int
        Bytes that the samples held at one time may occupy.
    """

    sigma: float = 3.0
    maxiters: int | None = None
    band_memory: int = BAND_MEMORY

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.sigma) and self.sigma > 0,
            "sigma",
            "a finite number above 0",
            self.sigma,
        )
        _require(
            self.maxiters is None or self.maxiters >= 0,
            "maxiters",
            "None or a whole number of at least 0",
            self.maxiters,
        )
        _require(self.band_memory > 0, "band_memory", "above 0 bytes", self.band_memory)


@dataclass(frozen=True, kw_only=True)
class WfssOptions:
    """How a reference sky is scaled to a grism exposure.

    Attributes
    ----------
    mmag_extract : float or None
        Sources of this AB magnitude and fainter are not masked; None, and NaN, mask all.
    mask : str or None
        File whose MASK extension is 1 where sky; replaces the catalogue's mask.
    maxiter : int
        Largest number of outlier rejections; 0 for none.
    rms_stop : float
        Stop when the RMS improves by less than this (percent, at most 100); 0 for never.
    outlier_percent : float
        Share of the fit pixels rejected at each end in each iteration (percent, below 50).
    """

    mmag_extract: float | None = None
    mask: str | None = None
    maxiter: int = 5
    rms_stop: float = 0.0
    outlier_percent: float = 1.0

    def __post_init__(self) -> None:
        _require(self.maxiter >= 0, "wfss_maxiter", "a whole number of at least 0", self.maxiter)
        _require(
            0 <= self.rms_stop <= 100,
            "wfss_rms_stop",
            "a percentage from 0 to 100",
            self.rms_stop,
        )
        _require(
            0 <= self.outlier_percent < 50,
            "wfss_outlier_percent",
            "a percentage of at least 0 and below 50",
            self.outlier_percent,
        )


@dataclass(frozen=True, kw_only=True)
class SossOptions:
    """How a sky template is chosen and scaled for NIRISS SOSS.

    Attributes
    ----------
    source_percentile : float
        Values at or above this percentile of all usable values are source; 0 to 100.
    bkg_percentile : tuple of float
        Ratios strictly between these two percentiles set the scale; increasing, 0 to 100.
    """

    source_percentile: float = 35.0
    bkg_percentile: tuple[float, float] = (25.0, 50.0)

    def __post_init__(self) -> None:
        _require(
            0 <= self.source_percentile <= 100,
            "soss_source_percentile",
            "a number from 0 to 100",
            self.source_percentile,
        )
        limits = tuple(self.bkg_percentile)
        _require(
            len(limits) == 2 and 0 <= limits[0] < limits[1] <= 100,
            "soss_bkg_percentile",
            "two increasing numbers from 0 to 100",
            self.bkg_percentile,
        )
        object.__setattr__(self, "bkg_percentile", limits)
