"""The modes: each turns a target and what a call names into an `Outcome`.

A mode is a module with one function ``measure(target, request)``; a new one is a new file and
a line in the registry. Exposure types that are not listed are imaging or spectroscopy, in which
the background is the average of background exposures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from webbkg.errors import ReferenceUnavailableError
from webbkg.files.associations import Input
from webbkg.files.exposures import ExposureInfo
from webbkg.files.windows import DetectorWindow, Place
from webbkg.options import ImageOptions, SossOptions, WfssOptions
from webbkg.results import Outcome

_REGISTRY = {
    "NIS_WFSS": "wfss",
    "NRC_WFSS": "wfss",
    "MIR_WFSS": "wfss",
    "NIS_SOSS": "soss",
}
_DEFAULT = "image"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The exposure to subtract from: what a mode may know of it. It is never changed here.

    Attributes
    ----------
    name : str
        For messages.
    model : data model
        Opened.
    info : ExposureInfo
        What its metadata say.
    """

    name: str
    model: Any
    info: ExposureInfo

    @property
    def place(self) -> Place:
        """Its shape, and where it lies on the detector: found, or an InputError, when asked for."""
        return Place(self.name, self.info, self.model.data.shape[-2:])

    @property
    def window(self) -> DetectorWindow:
        """Where it lies on the detector; InputError where that is unknown."""
        return self.place.window


def _no_references(kind: str) -> NoReturn:
    raise ReferenceUnavailableError(
        f"the {kind} reference is needed and none was given; give it as override_{kind}"
    )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a call asks for, besides the target.

    Attributes
    ----------
    backgrounds : tuple of Path or data model
        Background exposures.
    image : ImageOptions
        How they are averaged.
    wfss : WfssOptions
        How a grism sky is scaled.
    soss : SossOptions
        How a SOSS template is chosen and scaled.
    segments : tuple of data model or Path
        All segments of a SOSS exposure, the target among them, that are fitted together; a Path
        is read from its file. Empty where the target is fitted alone, from its model.
    find_reference : callable
        Takes a reference type, gives its Path or open model, or None where the mission has none
        (N/A).
    source_catalog : Path, str, table or None
        Sources of a grism exposure, if not as the target itself says.
    folders : tuple of Path
        Where files that the target names are looked for.
    progress : callable or None
        Called with the parts done and their number.
    warn : callable
        Takes a warning for the user.
    measure_medians : bool
        Whether the outcome is to tell the median of SCI before and after.
    keep_background : bool
        Whether the outcome is to hold what was subtracted. If not, its memory is free before
        the result is copied from the target.
    """

    backgrounds: tuple[Input, ...] = ()
    image: ImageOptions = field(default_factory=ImageOptions)
    wfss: WfssOptions = field(default_factory=WfssOptions)
    soss: SossOptions = field(default_factory=SossOptions)
    segments: tuple[Any, ...] = ()
    find_reference: Callable[[str], Any] = field(default=_no_references)
    source_catalog: Any = None
    folders: tuple[Path, ...] = (Path(),)
    progress: Callable[[int, int], None] | None = None
    warn: Callable[[str], None] = field(default=lambda _: None)
    measure_medians: bool = False
    keep_background: bool = True


def find_mode(exposure_type: str | None) -> Callable[[Target, Request], Outcome]:
    """Return the ``measure`` function for an exposure type (EXP_TYPE)."""
    module = import_module(f"webbkg.{_REGISTRY.get(exposure_type or '', _DEFAULT)}.measure")
    measure: Callable[[Target, Request], Outcome] = module.measure
    return measure


def is_soss(exposure_type: str | None) -> bool:
    """Tell whether exposures of a type are fitted by segments."""
    return _REGISTRY.get(exposure_type or "") == "soss"


def share(part: int, whole: int) -> str:
    """Tell a number and what share of a whole it is.

    Examples
    --------
    >>> share(1200, 48000)
    '1,200 (2.5 %)'
    """
    return f"{part:,} ({100 * part / whole:.3g} %)" if whole else f"{part:,} of none"


def plain_number(value: float) -> float | str:
    """Write what is not finite as a word: JSON and YAML have no common spelling for it."""
    return float(value) if math.isfinite(value) else str(value)
