"""The modes: which wing measures an exposure, and what it is told.

A wing has a function ``measure(target, request, services)`` that returns an `Outcome`; a new one
is a folder and a line in the registry. Exposure types that are not listed are imaging or
spectroscopy, in which the background is the average of background exposures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import finalize, ref

import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.files.associations import Input
from webbkg.files.exposures import ExposureInfo
from webbkg.files.windows import DetectorWindow, Place
from webbkg.numerics.planes import PlaneSource
from webbkg.options import ImageOptions, Options, SossOptions, TemplateOptions, WfssOptions
from webbkg.results import Outcome

Chosen = TypeVar("Chosen", bound=Options)
Made = TypeVar("Made")


class Mode(NamedTuple):
    """A way of subtracting a background: its wing, and the options that it takes."""

    name: str
    options: type[Options]

    @property
    def measure(self) -> Callable[[Target, Request, Services], Outcome]:
        """The function that turns a target and a request into an outcome."""
        module = import_module(f"webbkg.{self.name}.measure")
        found: Callable[[Target, Request, Services], Outcome] = module.measure
        return found


IMAGE = Mode("image", ImageOptions)
WFSS = Mode("wfss", WfssOptions)
SOSS = Mode("soss", SossOptions)
TEMPLATE = Mode("template", TemplateOptions)

_REGISTRY = {"NIS_WFSS": WFSS, "NRC_WFSS": WFSS, "MIR_WFSS": WFSS, "NIS_SOSS": SOSS}


def find_mode(exposure_type: str | None, *, template: bool = False) -> Mode:
    """Return the mode of an exposure type (EXP_TYPE), for which a `template` may be given."""
    return _REGISTRY.get(exposure_type or "", TEMPLATE if template else IMAGE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The exposure to subtract from: what a mode may know of it. It is never changed here.

    Attributes
    ----------
    name : str
        For messages.
    info : ExposureInfo
        What its metadata say.
    shape : ([integrations,] rows, columns)
        Of its SCI.
    plane : callable
        Takes SCI, ERR, DQ, VAR_RNOISE or VAR_POISSON, gives that plane, to look at only; None if
        there is none.
    read : callable
        Takes a dotted path, gives that metadata; None if there are none.
    open : callable
        Gives the data model; a target from a file is opened as one for that.
    wcs : callable
        Gives the WCS; None if there is none.
    model : data model or None
        The model, if it is open.
    path : Path or None
        Its file, where it comes from one.
    planes : PlaneSource or None
        Its SCI, ERR and DQ by row, where its file is open already.
    """

    name: str
    info: ExposureInfo
    shape: tuple[int, ...]
    plane: Callable[[str], npt.NDArray[Any] | None]
    read: Callable[[str], Any]
    open: Callable[[], Any]
    wcs: Callable[[], Any]
    model: Any = None
    path: Path | None = None
    planes: PlaneSource | None = None

    @property
    def place(self) -> Place:
        """Its shape, and where it lies on the detector: found, or an InputError, when asked for."""
        return Place(self.name, self.info, (self.shape[-2], self.shape[-1]))

    @property
    def window(self) -> DetectorWindow:
        """Where it lies on the detector; InputError where that is unknown."""
        return self.place.window

    def part(self, options: TemplateOptions | None) -> tuple[slice, slice] | None:
        """Find its rows and columns that `template_region` names; None for all of them.

        Raises
        ------
        OptionError
            If it has none of them.
        """
        if options is None or options.template_region is None:
            return None
        window, (x1, x2, y1, y2) = self.window, options.template_region
        columns = max(x1 - 1 - window.x, 0), min(x2 - window.x, window.columns)
        rows = max(y1 - 1 - window.y, 0), min(y2 - window.y, window.rows)
        if columns[0] >= columns[1] or rows[0] >= rows[1]:
            raise OptionError(
                f"template_region must have pixels in common with the target {self.name}, {window} "
                f"(got {x1},{x2},{y1},{y2}, x1,x2,y1,y2 on the detector from 1)"
            )
        return slice(*rows), slice(*columns)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a call asks for, besides the target. It pickles if its models do.

    Attributes
    ----------
    backgrounds : tuple of Path or data model
        Background exposures.
    options : ImageOptions, WfssOptions, SossOptions, TemplateOptions or None
        Those of the target's mode; None for the defaults.
    template : TemplateOptions or None
        Templates of the user's own, and what is known of the flat field; where it names any, they
        are what is subtracted.
    segments : tuple of data model or Path
        All segments of a SOSS exposure, the target among them, that are fitted together; a Path
        is read from its file. Empty where the target is fitted alone, from its model.
    source_catalog : Path, str, table or None
        Sources of a grism exposure, if not as the target itself says.
    references : mapping of str to path or data model
        By their type, for who calls without a step.
    folders : tuple of Path
        Where files that the target or an association names are looked for; what the user names
        is looked for in the current folder first.
    propagate_errors : bool
        Whether the background's variance is to enter the target's uncertainties.
    measure_medians : bool
        Whether the outcome is to tell the median of SCI before and after.
    metrics : bool
        Whether the outcome is to tell how good the subtraction is.
    metric_limits : tuple of str
        Limits of metrics in place of the table's, see `webbkg.report.limits.set_limits`.
    keep_background : bool
        Whether the outcome is to hold what was subtracted, with its ERR. If not, its memory is
        free before the result is copied from the target, and of an average of exposures there is
        only what subtracting it and looking at it needs.
    report : bool
        Whether pictures will be drawn of the outcome, background and all.
    """

    backgrounds: tuple[Input, ...] = ()
    options: Options | None = None
    template: TemplateOptions | None = None
    segments: tuple[Any, ...] = ()
    source_catalog: Any = None
    references: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[Path, ...] = (Path(),)
    propagate_errors: bool = False
    measure_medians: bool = False
    metrics: bool = True
    metric_limits: tuple[str, ...] = ()
    keep_background: bool = True
    report: bool = False

    def mode(self, exposure_type: str | None) -> Mode:
        """Return the mode of an exposure of this type, with what is asked for."""
        named = self.template is not None and self.template.template is not None
        return find_mode(exposure_type, template=named)

    def options_as(self, kind: type[Chosen]) -> Chosen:
        """Return the options, which must be of a mode.

        Raises
        ------
        OptionError
            If they are those of another mode.
        """
        if self.options is None:
            return kind()
        if not isinstance(self.options, kind):
            raise OptionError(
                f"options must be {kind.__name__} for this target (got {self.options!r})"
            )
        return self.options


class Closable(Protocol):
    """What must be closed in the end."""

    def close(self) -> None:
        """Close it."""


Closed = TypeVar("Closed", bound=Closable)


class Shared:
    """What the latest target of a run has made, for the next one if it wants the same."""

    def __init__(self) -> None:
        self._ones: dict[type[Any], Any] = {}
        self._closing = ExitStack()
        finalize(self, self._closing.close)
        self._key: Any = None
        self._made: Any = None
        self._thing: Callable[[], Any] = lambda: None
        self._of_thing: Any = None

    @property
    def key(self) -> Any:
        """What the latest was made of; None before there is one."""
        return self._key

    def get(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return what was made of the same `key`, or make it, and forget what was made before."""
        if self._made is None or key != self._key:
            self._made = None  # its memory, before there is another
            self._key, self._made = key, make()
        made: Made = self._made
        return made

    def one(self, kind: type[Closed]) -> Closed:
        """Return the one object of its kind that all targets have, and that is closed in the end."""
        if kind not in self._ones:
            self._ones[kind] = self._closing.enter_context(closing(kind()))
        made: Closed = self._ones[kind]
        return made

    def close(self) -> None:
        """Close what is open; who forgets to has it closed when nobody knows this any more."""
        self._ones.clear()
        self._closing.close()

    def of(self, thing: Any, make: Callable[[], Made]) -> Made:
        """Return what was made of the latest `thing`, if it is this very one, or make it.

        The thing is not kept alive by that.
        """
        if self._thing() is not thing:
            self._of_thing = make()
            self._thing = ref(thing)
        made: Made = self._of_thing
        return made


@dataclass(frozen=True, kw_only=True)
class Services:
    """What a mode may ask for while it measures.

    Attributes
    ----------
    find_reference : callable
        Takes a reference type, gives its Path or open model, or None where the mission has none
        (N/A).
    progress : callable or None
        Called with the parts done and their number.
    shared : Shared or None
        What the targets of a run have in common; None where there is one target.
    """

    find_reference: Callable[[str], Any]
    shared: Shared | None = None
    progress: Callable[[int, int], None] | None = None
