"""What a page tells of one target: plain data, from a run or from what a product says of itself."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from webbkg import __version__
from webbkg.files.exposures import ExposureInfo
from webbkg.report.limits import LIMITS, Limit
from webbkg.report.snapshot import Snapshot, Times
from webbkg.report.tables import as_number
from webbkg.results import Grade, Metric

Pairs = tuple[tuple[str, str], ...]

PACKAGES = ("numpy", "numba", "scipy", "astropy", "asdf", "gwcs", "stdatamodels", "stpipe", "crds")
"""Whose versions a page tells, besides ours and Python's."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a page tells of one target.

    Attributes
    ----------
    target : str
        Name of the exposure.
    status : str
        COMPLETE, SKIPPED or FAILED; or why there is none.
    reason : str
        Why, for a human.
    told : mapping
        All numbers, as they stand in a product's ``meta.background.webbkg``.
    unit : str
        Of the target's SCI.
    facts : tuple of (str, str)
        What its headers say.
    snapshot : Snapshot or None
        What the pictures are drawn from.
    times : mapping of str to Times
        SOSS: the scale in time of each segment that was fitted with it, by their names.
    lines : tuple of (str, str)
        The summary that the command prints.
    parameters, references, versions : tuple of (str, str)
        By their names.
    product : str
        Name of the product.
    warnings, log : tuple of str
        Of the run.
    gaps : tuple of str
        What is not known, and why.
    limits : mapping of str to Limit
        By which the metrics were judged.
    """

    target: str
    status: str
    reason: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    facts: Pairs = ()
    snapshot: Snapshot | None = None
    times: Mapping[str, Times] = field(default_factory=dict)
    lines: Pairs = ()
    parameters: Pairs = ()
    references: Pairs = ()
    versions: Pairs = ()
    product: str = ""
    warnings: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = field(default_factory=lambda: LIMITS)

    @property
    def mode(self) -> str:
        """``image``, ``wfss``, ``soss``, or nothing where no numbers are told."""
        return str(self.told.get("mode", ""))

    @property
    def verdict(self) -> str:
        """That of the metrics; empty where nothing was measured."""
        return str(self._measured.get("verdict", ""))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not good, in words."""
        return tuple(map(str, self._measured.get("reasons", ())))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that could be measured, of those that have limits."""
        values = self._measured.get("values", {})
        return tuple(_metric(name, one) for name, one in values.items() if name in self.limits)

    def measured(self, name: str) -> float:
        """Give level, scatter or background, in the target's unit; NaN where it is unknown."""
        return as_number(self._measured.get(name))

    @property
    def _measured(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.told.get("metrics", {})
        return found


def _metric(name: str, told: Mapping[str, Any]) -> Metric:
    grade = str(told.get("grade"))
    return Metric(
        name=name,
        value=as_number(told.get("value")),
        unit=str(told.get("unit", "")),
        error=as_number(told.get("error", 0.0)),
        share=as_number(told.get("share")),
        grade=Grade(grade) if grade in tuple(Grade) else Grade.LOOK,
    )


def facts_of(info: ExposureInfo, shape: Iterable[int] = ()) -> Pairs:
    """Tell what identifies an exposure, as far as its headers say."""
    elements = (info.filter, info.pupil, info.grating)
    visit = (info.program, info.observation, info.visit)
    told = {
        "instrument": " ".join(filter(None, (info.instrument, info.detector))),
        "elements": " / ".join(filter(None, elements)),
        "exposure type": info.exposure_type,
        "program, observation, visit": ", ".join(visit) if None not in visit else "",  # type: ignore[arg-type]
        "exposure": info.exposure_number,
        "segment": None if info.segment is None else str(info.segment),
        "shape": " × ".join(map(str, shape)),
    }
    return tuple((label, value) for label, value in told.items() if value)


def versions() -> Pairs:
    """Tell the versions of what is installed here."""
    told = [("webbkg", __version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            told.append((name, version(name)))
        except PackageNotFoundError:  # pragma: no cover - they are required
            continue
    return tuple(told)
