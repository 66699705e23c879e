"""What a run knows: of each target, on its item; and what the front decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webbkg.errors import WebbkgError
from webbkg.files.associations import Input, Job
from webbkg.files.crds import Crds
from webbkg.files.exposures import ExposureInfo
from webbkg.files.fits import read_header
from webbkg.files.models import read_meta
from webbkg.files.output import Sealed
from webbkg.files.product import Draft, Survey
from webbkg.modes import SOSS, Mode, Shared, find_mode
from webbkg.options import RunOptions, TemplateOptions
from webbkg.results import Outcome
from webbkg.soss.segments import exposure_of

if TYPE_CHECKING:
    from webbkg.report.index import Row
    from webbkg.report.snapshot import Snapshot


@dataclass(kw_only=True, eq=False)
class Item:
    """One target on its way from input to product.

    Attributes
    ----------
    source : Path or data model
        What was given.
    job : Job
        What goes with it: backgrounds, catalogue, association.
    label : str
        What it was called by who gave it.
    alone : bool
        Whether it is the only target of its call, which is named after what was given.
    model : data model or None
        The target, while it is open.
    owned : bool
        Whether the model is the run's own to change.
    survey : Survey or None
        Its file, if that is all that its product needs: it is not opened as a model then.
    streamed : bool
        Its large planes go from file to file; the model's own are stand-ins.
    outcome : Outcome or None
        What the subtraction came to.
    result : data model, Draft or None
        What the caller gets, or what its product is written from.
    references : list of (str, str)
        Types and names of the references that were used for it.
    product : Path or None
        What was written.
    saved : list of Path
        Its backgrounds that were written.
    warnings : list of str
        What the user should know.
    error : WebbkgError or None
        Why it came to nothing.
    existing : bool
        Its product was there before the run, and is left as it is.
    snapshot : Snapshot or None
        What the pictures of its report are drawn from, where one was asked for.
    log : list of str
        The lines of the log that its report tells.
    report : Path or None
        The page that was written.
    row : Row or None
        What an index tells of it, where a report was asked for.
    """

    source: Input
    job: Job
    label: str = ""
    alone: bool = True
    model: Any = None
    owned: bool = False
    survey: Survey | None = None
    streamed: bool = False
    outcome: Outcome | None = None
    result: Any = None
    references: list[tuple[str, str]] = field(default_factory=list)
    product: Path | None = None
    saved: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: WebbkgError | None = None
    existing: bool = False
    snapshot: Snapshot | None = None
    log: list[str] = field(default_factory=list)
    report: Path | None = None
    row: Row | None = None

    @property
    def path(self) -> Path | None:
        """Its file; None for an open model."""
        return self.source if isinstance(self.source, Path) else None

    @property
    def name(self) -> str:
        """What it is called in messages, and what its product is named after."""
        if self.path is not None:
            return self.path.name
        return str(read_meta(self.source, "meta.filename") or f"<{type(self.source).__name__}>")

    @property
    def is_draft(self) -> bool:
        """Whether its product is made without a data model."""
        return isinstance(self.result, Draft)

    @property
    def info(self) -> ExposureInfo:
        """What its headers say."""
        if self.path is None:
            return ExposureInfo.from_model(self.source)
        if self.path.suffix.lower() == ".asdf":
            return ExposureInfo()
        return ExposureInfo.from_header(read_header(self.path))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the front that opened a run decides.

    Attributes
    ----------
    parameters : mapping of str to object
        By the step's names; what is not in it has its default.
    name_product : callable
        Takes an item and a suffix (None: that of the product); gives the path.
    crds : Crds
        As this run meets it.
    input_dir : str or None
        Where files are looked for that are not in the current folder.
    progress : callable or None
        Called with the parts done and their number.
    measure_medians : bool
        Whether outcomes are to tell the median before and after.
    shared : Shared or None
        What the targets of the run have in common; None where there is one.
    keep_backgrounds : bool
        Whether outcomes are to hold what was subtracted, wanted as a product or not.
    product_only : bool
        Nobody wants the returned models, whose planes may then be missing.
    without_models : bool
        Nobody wants returned models at all, so that none need be opened.
    sealed : callable or None
        Called between writing and naming, see `webbkg.files.output.writing_whole`.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    name_product: Callable[[Item, str | None], Path]
    crds: Crds = field(default_factory=Crds)
    input_dir: str | None = None
    progress: Callable[[int, int], None] | None = None
    measure_medians: bool = False
    shared: Shared | None = None
    keep_backgrounds: bool = False
    product_only: bool = False
    without_models: bool = False
    sealed: Sealed | None = None

    @property
    def options(self) -> RunOptions:
        """Those that hold in every mode."""
        return RunOptions.of(self.parameters)

    @property
    def template(self) -> TemplateOptions:
        """Templates of the user's own."""
        return TemplateOptions.of(self.parameters)

    def mode_of(self, info: ExposureInfo) -> Mode:
        """Tell the mode of an exposure of which the headers say so much."""
        return find_mode(info.exposure_type, template=self.template.template is not None)


def items_of(job: Job) -> list[Item]:
    """Make the items of what a call names."""
    return [Item(source=one, job=job, alone=len(job.targets) == 1) for one in job.targets]


def grouped(items: Sequence[Item]) -> list[list[Item]]:
    """Put the segments of one SOSS exposure together; every other item is a group of its own.

    What the headers do not say is taken to agree. An item that cannot be read stays alone, and
    is judged when its turn comes.
    """
    if len(items) < 2:
        return [[item] for item in items]
    groups: dict[Any, list[Item]] = {}
    for number, item in enumerate(items):
        groups.setdefault(_segment_key(item) or number, []).append(item)
    return list(groups.values())


def _segment_key(item: Item) -> tuple[Any, ...] | None:
    if item.error is not None:
        return None
    try:
        info = item.info
    except WebbkgError:
        return None
    return exposure_of(info) if find_mode(info.exposure_type) is SOSS else None
