"""The modes: each turns a target and what a call names into an `Outcome`.

A mode is a module with one function ``measure(target, request)``; a new one is a new file and
a line in the registry. Exposure types that are not listed are imaging or spectroscopy, in which
the background is the average of background exposures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from webbkg.associations import Input
from webbkg.exposures import DetectorWindow, ExposureInfo
from webbkg.options import ImageOptions
from webbkg.results import Outcome

_REGISTRY = {
    "NIS_WFSS": "unavailable",
    "NRC_WFSS": "unavailable",
    "MIR_WFSS": "unavailable",
    "NIS_SOSS": "unavailable",
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
    window : DetectorWindow
        Where it lies on the detector.
    """

    name: str
    model: Any
    info: ExposureInfo
    window: DetectorWindow


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a call asks for, besides the target.

    Attributes
    ----------
    backgrounds : tuple of Path or data model
        Background exposures.
    image : ImageOptions
        How they are averaged.
    progress : callable or None
        Called with the parts done and their number.
    warn : callable
        Takes a warning for the user.
    measure_medians : bool
        Whether the outcome is to tell the median of SCI before and after.
    """

    backgrounds: tuple[Input, ...] = ()
    image: ImageOptions = field(default_factory=ImageOptions)
    progress: Callable[[int, int], None] | None = None
    warn: Callable[[str], None] = field(default=lambda _: None)
    measure_medians: bool = False


def find_mode(exposure_type: str | None) -> Callable[[Target, Request], Outcome]:
    """Return the ``measure`` function for an exposure type (EXP_TYPE)."""
    module = import_module(f"webbkg.modes.{_REGISTRY.get(exposure_type or '', _DEFAULT)}")
    measure: Callable[[Target, Request], Outcome] = module.measure
    return measure
