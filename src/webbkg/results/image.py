"""Image from image: what the averaging of background exposures came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.options import ImageOptions
from webbkg.results.arrays import CountImage, FloatImage
from webbkg.results.background import Background
from webbkg.results.frozen import Frozen


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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UnkeptBackground(Background):
    """The average of background exposures where nobody keeps it: to be subtracted, and judged.

    It has uncertainties in some rows alone, and only `err_of` gives them: `err` has no pixel, so
    that nobody takes it for a plane.

    Attributes
    ----------
    err : (0, 0) float32
        Nothing.
    lines : range
        Rows of which the uncertainty is known.
    errors : (lines, columns) float32
        What a `CombinedBackground` has as `err` there.
    counts : (rows, columns) of unsigned integers, or None
        Exposures that entered the average of each pixel; None where nobody asked for them.
    unknown : int
        Pixels without a usable sample, covered or not.
    exposures, integrations : SampleCounts
        As of a `CombinedBackground`.
    """

    err: FloatImage = field(default_factory=lambda: np.empty((0, 0), np.float32))
    lines: range
    errors: FloatImage
    counts: npt.NDArray[np.unsignedinteger[Any]] | None = None
    unknown: int
    exposures: SampleCounts
    integrations: SampleCounts

    def err_of(self, rows: range) -> FloatImage:
        """Return the uncertainty in some rows, (rows, columns), which must be those of `lines`."""
        if rows != self.lines:
            raise ValueError(
                f"rows must be those of which errors are known, {self.lines} (got {rows})"
            )
        return self.errors


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
