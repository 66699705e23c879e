"""How good a subtraction is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from webbkg.results.frozen import Frozen, Shown


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
