"""SOSS: its parameters and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from webbkg.errors import OptionError
from webbkg.options.checks import PERCENTAGE, Check, is_percentage
from webbkg.options.table import Options, declare

SOSS_SUBSTRIP96_ROWS = (10, 106)
"""Rows (start, stop) of a 256-row SOSS template that a target of 96 rows, SUBSTRIP96, covers.
From here on the figures for SOSS are those of the JWST pipeline's step."""

SOSS_FULL_FRAME_ROWS = (1792, 2048)
"""Rows (start, stop) of a full frame of 2048 rows in which SUBSTRIP256 lies (JWST user documentation,
"NIRISS Detector Subarrays")."""

SOSS_SMOOTHING = 3.0
"""Standard deviation of the Gaussian that smooths a SOSS template before its jump is looked for
(pixels)."""

SOSS_STEP_COLUMNS = (685, 725)
"""Columns (start, stop) in which the jump of a SOSS template lies."""

SOSS_FEW_SAMPLES = 0.01
"""Share of the samples of a side below which its scale is reported to rest on little."""

SOSS_LAST_COLUMN = 950
"""Last column that enters the SOSS fit, on the right side of the jump."""

SOSS_COUNTER_MEMORY = 96 * 2**20
"""Bytes that the counters of the SOSS fit may occupy, over all threads together."""


def _are_percentages(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) == 2 and all(map(is_percentage, values))


SOSS_MODEL: Check = (("one", "mixture", "auto").__contains__, "one, mixture or auto")
SOSS_METHOD: Check = (("percentile", "robust").__contains__, "percentile or robust")
SOSS_TIME: Check = (("constant", "smooth").__contains__, "constant or smooth")
PERCENTAGES: Check = (_are_percentages, "two numbers from 0 to 100")


@dataclass(frozen=True, kw_only=True)
class SossOptions(Options):
    """How a sky template is chosen and scaled for NIRISS SOSS.

    Attributes
    ----------
    method : {"percentile", "robust"}
        By percentiles of the ratios, as is established, or by generalised least squares on the
        deep frame, with the star's wings and the 1/f noise in the model.
    time : {"constant", "smooth"}
        One scale for all integrations, or one that may change smoothly from integration to
        integration, as far as the likelihood pays for it; the latter of the method robust alone.
    model : {"one", "mixture", "auto"}
        The sky of the robust method: one template of the library, a sum of all of them with
        weights that are not negative, or that of the two which held-out columns pay for.
    source_percentile : float
        Values at or above this percentile of all usable values are source; 0 to 100.
    bkg_percentile : tuple of float
        Ratios strictly between these two percentiles set the scale; 0 to 100.
    """

    prefix: ClassVar[str] = "soss_"
    mode: ClassVar[str] = "soss"
    method: str = declare(
        "percentile",
        "option('percentile', 'robust')",
        "SOSS: percentile, as is established, or robust, a fit of sky, star's wings and 1/f noise",
        check=SOSS_METHOD,
    )
    time: str = declare(
        "constant",
        "option('constant', 'smooth')",
        "SOSS: constant, one scale for all integrations, or smooth, where it drifts; needs robust",
        check=SOSS_TIME,
    )
    model: str = declare(
        "one",
        "option('one', 'mixture', 'auto')",
        "SOSS, robust: sky of one template, a mixture, or auto: what held-out columns pay for",
        check=SOSS_MODEL,
    )
    source_percentile: float = declare(
        35.0, "float", "SOSS: pixels at or above this percentile are source", check=PERCENTAGE
    )
    bkg_percentile: tuple[float, float] = declare(
        (25.0, 50.0),
        "float_list(min=2, max=2)",
        "SOSS: percentiles between which ratios set the scale; None: 25, 50",
        check=PERCENTAGES,
        unset=None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bkg_percentile", tuple(self.bkg_percentile))
        if self.time != "constant" and self.method != "robust":
            raise OptionError(
                f"soss_time {self.time} needs soss_method robust (got {self.method!r}); set that, "
                "or soss_time to constant"
            )
        if self.method != "robust" and self.model != "one":
            raise OptionError(
                f"soss_model={self.model} needs soss_method=robust (got {self.method}), or leave "
                "it out: the percentile method takes one template"
            )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SossOptions:
        """Take those of this class; a preset's model is none of a method that was chosen over it."""
        chosen = given.get("soss_method")
        if chosen not in (None, "robust") and given.get("soss_model") is None:
            given = {**given, "soss_model": "one"}
        return super().of(given)
