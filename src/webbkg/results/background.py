"""What is subtracted, in every mode, and what it does to the target's uncertainties."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.results.arrays import BoolImage, FlagImage, FloatImage
from webbkg.results.frozen import Frozen, Shown


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

    @property
    def is_everywhere(self) -> bool:
        """Whether every pixel was observed."""
        # Of one value that stands for all there is only that to look at.
        covered = self.covered if any(self.covered.strides) else self.covered[:1, :1]
        return bool(covered.all())

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
