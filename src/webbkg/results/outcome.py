"""What a subtraction came to, whatever its mode."""

from __future__ import annotations

from dataclasses import dataclass, replace

from webbkg.results.arrays import BoolImage
from webbkg.results.background import Background, Propagated
from webbkg.results.frozen import Shown
from webbkg.results.image import ImageResult, Verdict
from webbkg.results.metrics import Metrics
from webbkg.results.soss import SossResult
from webbkg.results.status import Status
from webbkg.results.template import TemplateResult
from webbkg.results.wfss import WfssResult

Result = ImageResult | WfssResult | SossResult | TemplateResult


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
