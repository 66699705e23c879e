"""Frozen results: what was measured, as data. Nothing here reads, writes or logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
FlagImage = npt.NDArray[np.uint32]
CountImage = npt.NDArray[np.uint32]
BoolImage = npt.NDArray[np.bool_]


class Status(StrEnum):
    """The value of ``meta.cal_step.bkg_subtract`` (keyword S_BKDSUB)."""

    COMPLETE = "COMPLETE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
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


@dataclass(frozen=True, kw_only=True)
class Background:
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
    """

    sci: FloatImage
    err: FloatImage
    dq: FlagImage
    covered: BoolImage


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a subtraction came to.

    Attributes
    ----------
    status : Status
        COMPLETE only if something was subtracted.
    reason : str
        Why the status is what it is, for a human.
    already_done : bool
        The target had been subtracted before and came back unchanged.
    background : Background or None
        What was subtracted.
    details : dict
        The mode's numbers, plain values only, as they go into ``meta.background.webbkg``.
    median_before, median_after : float or None
        Median of the finite SCI of the target and of the result, where that was asked for.
    """

    status: Status
    reason: str = ""
    already_done: bool = False
    background: Background | None = None
    details: dict[str, Any] = field(default_factory=dict)
    median_before: float | None = None
    median_after: float | None = None
