"""A run: a list of records, each opened, measured, applied, recorded and written once.

Whoever subtracts (the step, the command, a batch) makes items, groups them, and walks the groups:
`process`, then `write`. What a run knows of a target is on its item, and nowhere else.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from webbkg import record
from webbkg.apply import UNCERTAINTIES, apply, changes
from webbkg.errors import InputError, OptionError, OutputError, WebbkgError
from webbkg.files import door
from webbkg.files.associations import Input, Job, find_file
from webbkg.files.background import MODELS as IMAGE_MODELS
from webbkg.files.background import BackgroundDraft
from webbkg.files.crds import Crds
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.fits import axes, read_header
from webbkg.files.models import (
    attribute_of,
    background_model,
    copy_with,
    is_model,
    open_model,
    path_of,
    put_cards,
    read_meta,
)
from webbkg.files.naming import plain_ascii
from webbkg.files.output import TABLE, Sealed, check_outputs, save_all, write_model
from webbkg.files.product import Draft, Survey, survey
from webbkg.files.streaming import drop_stand_ins, is_streamable, open_standing_in, write_streamed
from webbkg.files.tables import Table
from webbkg.modes import (
    SOSS,
    TEMPLATE,
    WFSS,
    Mode,
    Request,
    Services,
    Shared,
    Target,
    find_mode,
)
from webbkg.numerics.planes import VARIANCES
from webbkg.numerics.summary import finite_median
from webbkg.options import ImageOptions, RunOptions, TemplateOptions, as_names
from webbkg.results import Background, CombinedBackground, Outcome, Status
from webbkg.soss.segments import check_segments, exposure_of

if TYPE_CHECKING:
    from webbkg.report.index import Row
    from webbkg.report.snapshot import Snapshot

log = logging.getLogger(__name__)

BACKGROUND_SUFFIX = "background"
COMBINED_SUFFIX = "combinedbackground"
TIME_SUFFIX = "backgroundtime"

LARGEST_MEDIAN = 2**24
"""Pixels of a target up to which its medians are told, where it goes from file to file."""


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


def check_products(items: Iterable[Item], setting: Setting) -> None:
    """Refuse products that would overwrite each other or an input, before any is written.

    Raises
    ------
    OutputError
        Naming the product and the targets.
    """
    items = [item for item in items if item.error is None]
    planned: dict[Path, Item] = {}
    for item in items:
        path = setting.name_product(item, None)
        other = planned.setdefault(path.absolute(), item)
        if other is not item:
            raise OutputError(
                f"{path}: would be the product of both {other.source} and {item.source}; run them "
                "apart, with another output_dir or suffix for one of them"
            )
        if not _is_itself(item, path):
            check_outputs([path], _inputs(item, setting))


def check_report(setting: Setting) -> None:
    """Make sure that reports can be made where they are asked for, before any work is done.

    Raises
    ------
    MissingExtraError
        If they cannot.
    """
    if setting.options.save_report:
        from webbkg.report.page import check_extra

        check_extra()


def process(group: Sequence[Item], setting: Setting) -> None:
    """Open, measure, apply and record the items of a group, those of one exposure together.

    Raises
    ------
    WebbkgError
        If a target or a background cannot be used; nothing has been changed then.
    """
    for item in group:
        _open(item, setting)
    together = tuple(_as_segment(item) for item in group) if len(group) > 1 else ()
    if together:
        segments = [(item.name, item.info) for item in group]
        check_segments(segments, setting.options.allow_repeat)
    measured: Outcome | None = None
    for item in group:
        _subtract(item, _request(item, setting, together), setting, measured)
        measured = item.outcome if together else None
        item.references = item.references or list(group[0].references)  # looked up once for all


def _as_segment(item: Item) -> Any:
    return item.path if item.streamed or item.survey else item.model


def _open(item: Item, setting: Setting) -> None:
    """Open a target, after a look at its headers; an open model stays the caller's."""
    if item.path is None:
        item.model = item.source
        return
    if item.path.suffix.lower() != ".asdf":
        looked_at = UNCERTAINTIES if setting.options.propagate_errors else ()
        with Exposure.from_file(item.path, needed=("SCI", "DQ"), also=looked_at) as exposure:
            item.survey = _survey(item.path, exposure.info, setting)
            item.streamed = setting.product_only and item.survey is None and is_streamable(exposure)
    if item.survey is None:
        item.model = open_standing_in(item.path) if item.streamed else open_model(item.path)
    item.owned = True


def _survey(path: Path, info: ExposureInfo, setting: Setting) -> Survey | None:
    """Look whether a target's product can be made from its file; its model is needed otherwise."""
    if not setting.without_models:
        return None
    options = setting.options
    saved = options.save_background or options.save_combined_background
    found = survey(
        path,
        masked=setting.mode_of(info) in (WFSS, TEMPLATE),
        changing=UNCERTAINTIES if options.propagate_errors else (),
    )
    if saved and isinstance(found, Survey) and found.header["DATAMODL"] not in IMAGE_MODELS:
        found = "its backgrounds are to be saved"
    if isinstance(found, str):
        log.debug("%s is opened as a data model: %s", path, found)
        return None
    return found


def _request(item: Item, setting: Setting, together: tuple[Any, ...]) -> Request:
    """Gather what a mode may want to know."""
    info = ExposureInfo.from_model(item.model) if item.model is not None else item.info
    mode = setting.mode_of(info)
    options, template = setting.options, setting.template
    _check_template(template, mode, item)
    saved = options.save_background or options.save_combined_background
    kept = saved or setting.keep_backgrounds or bool(together)
    named = [item.job.folder, setting.input_dir, item.path and item.path.parent]
    segment = (item.path,) if item.streamed or item.survey else ()
    return Request(
        backgrounds=item.job.backgrounds,
        options=mode.options.of(setting.parameters),
        template=template,
        segments=together or segment,
        source_catalog=item.job.source_catalog,
        folders=(*(Path(folder) for folder in named if folder), Path()),
        propagate_errors=options.propagate_errors,
        measure_medians=setting.measure_medians,
        metrics=not options.skip_metrics,
        metric_limits=as_names(options.metric_limits, "metric_limits") or (),
        keep_background=kept or item.streamed,
        report=options.save_report,
    )


def _check_template(template: TemplateOptions, mode: Mode, item: Item) -> None:
    """Refuse templates of the user's own where something else is to be subtracted.

    Raises
    ------
    OptionError
        For SOSS, or together with background exposures.
    """
    if template.template is None:
        return
    named = ", ".join(template.template)
    if mode is SOSS:
        raise OptionError(
            f"template must not be given for {item.name}, a SOSS exposure (got {named}); give a "
            "library of its skies as override_bkg"
        )
    if mode is TEMPLATE and item.job.backgrounds:
        raise OptionError(
            "template must not be given together with background exposures (got "
            f"{named} and {len(item.job.backgrounds)} backgrounds of {item.name}); leave one out"
        )


def subtract_background(
    target: Input | str,
    request: Request | None = None,
    *,
    allow_repeat: bool = False,
    in_place: bool = False,
) -> tuple[Any, Outcome]:
    """Subtract the background of one exposure, and write nothing.

    Parameters
    ----------
    target : path or data model
        2-D or 3-D; not changed unless `in_place`.
    request : Request, optional
        The backgrounds, the references and the options.
    allow_repeat : bool
        Subtract from a target that is COMPLETE already.
    in_place : bool
        The caller gives an open target away: change it instead of a copy. If an error is raised
        it is as it was.

    Returns
    -------
    model : data model
        Of the target's class, with ``meta.cal_step.bkg_subtract`` set. Unless that is COMPLETE
        its SCI, ERR and DQ are those of the target.
    outcome : Outcome
        What was done.

    Raises
    ------
    WebbkgError
        If the target or a background cannot be used.
    """
    request = request or Request()
    source = find_file(target, [Path()], "target")
    item = Item(source=source, job=Job(targets=(source,)))
    setting = Setting(
        parameters={"allow_repeat": allow_repeat},
        name_product=lambda item, _: Path(item.name),
    )
    _open(item, setting)
    item.owned = item.owned or in_place
    _subtract(item, request, setting)
    assert item.outcome is not None
    return item.result, item.outcome


def _subtract(
    item: Item, request: Request, setting: Setting, measured: Outcome | None = None
) -> None:
    """Measure the background of an open item, apply and record it.

    `measured` is what another segment of the same exposure was measured to need. No name here
    may hold the background: its memory is free before the result is copied.
    """
    with ExitStack() as opened:
        target = _as_target(item) if item.survey is None else _unopened_target(item, opened)
        if target.info.bkg_subtract == Status.COMPLETE and not setting.options.allow_repeat:
            item.outcome = _done_already(target.name)
        elif measured is None or measured.already_done:
            services = Services(
                find_reference=lambda kind: _find_reference(kind, target, item, request, setting),
                shared=setting.shared,
                progress=setting.progress,
            )
            mode = request.mode(target.info.exposure_type)
            item.outcome = mode.measure(target, request, services)
        else:
            item.outcome = measured.of_next_segment()
        item.outcome = replace(item.outcome, unit=target.info.unit or "")
        if request.metrics or setting.options.save_report:
            _look_at(item, target, request, setting)
        if item.survey is None:
            _make_result(item, request)
        else:
            _make_draft(item, item.survey, target, request)
    _record(item)


def _look_at(item: Item, target: Target, request: Request, setting: Setting) -> None:
    """Measure how good the subtraction of a target will be, and what a report is drawn from.

    The target is still as it was.
    """
    assert item.outcome is not None
    measured = request.metrics and item.outcome.background is not None
    if not measured and not setting.options.save_report:
        return
    if item.path is not None and (item.survey is not None or item.streamed):
        exposure = Exposure.from_file(item.path, needed=("SCI", "DQ"))
    else:
        exposure = Exposure.from_model(target.model)
    with exposure:
        if measured:
            item.outcome = _with_metrics(item.outcome, exposure, request)
        if setting.options.save_report:
            from webbkg.reporting import take_snapshot

            item.snapshot = take_snapshot(item, exposure, item.outcome)


def _with_metrics(outcome: Outcome, exposure: Exposure, request: Request) -> Outcome:
    from webbkg.report.limits import set_limits
    from webbkg.report.metrics import measure_metrics

    limits = set_limits(request.metric_limits)
    return replace(outcome, metrics=measure_metrics(exposure.planes, outcome, limits))


def _done_already(name: str) -> Outcome:
    reason = (
        f"{name} is background-subtracted already (S_BKDSUB = COMPLETE); "
        "it is returned unchanged (allow_repeat subtracts again)"
    )
    return Outcome(status=Status.COMPLETE, reason=reason, already_done=True)


def _find_reference(
    kind: str, target: Target, item: Item, request: Request, setting: Setting
) -> Any:
    """Find a reference and note it on the item; None where the mission has none (N/A)."""
    if kind in request.references:
        return request.references[kind]
    override = setting.parameters.get(f"override_{kind}")
    found, recorded = setting.crds.find_reference(
        kind, override, lambda: target.open().get_crds_parameters()
    )
    if recorded is not None:
        item.references.append((kind, recorded))
    return found


def _as_target(item: Item) -> Target:
    model, name = item.model, item.name
    if read_meta(model, "data") is None:
        raise InputError(f"{name}: the {type(model).__name__} has no SCI plane; set model.data")
    shape, dq = model.data.shape, read_meta(model, "dq")
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name}: SCI must be 2-D or 3-D and not empty (got shape {shape}); "
            "a rate, rateints or cal product is needed"
        )
    for plane, values in (("SCI", model.data), ("DQ", dq)):
        if values is not None and values.dtype.kind not in "biuf":
            raise InputError(f"{name}: {plane} must hold real numbers (got {values.dtype})")
    if dq is not None and dq.shape != shape:
        raise InputError(f"{name}: SCI and DQ must have one shape (got {shape}, {dq.shape})")
    return Target(
        name=name,
        info=ExposureInfo.from_model(model),
        shape=shape,
        plane=lambda plane: read_meta(model, attribute_of(plane)),
        read=lambda path: read_meta(model, path),
        open=lambda: model,
        wcs=lambda: read_meta(model, "meta.wcs"),
        model=model,
        path=item.path,
    )


def _unopened_target(item: Item, opened: ExitStack) -> Target:
    """Take a target from its file; its model is opened if a mode asks for that."""
    assert item.path is not None
    assert item.survey is not None
    exposure = opened.enter_context(Exposure.from_file(item.path))
    shape, path = item.survey.shape, item.path

    def plane(name: str) -> Any:
        if name not in VARIANCES:
            return exposure.plane(name).reshape(shape)
        with Exposure.from_file(path, needed=("SCI",), also=VARIANCES) as again:
            return again.plane(name).reshape(shape) if again.planes.has(name) else None

    return Target(
        name=item.name,
        info=exposure.info,
        shape=shape,
        plane=plane,
        read=item.survey.read,
        open=cache(partial(open_model, item.path)),
        wcs=item.survey.wcs,
        path=item.path,
    )


def _make_draft(item: Item, found: Survey, target: Target, request: Request) -> None:
    """Note what takes the background off, for when the product is written."""
    outcome = item.outcome
    assert outcome is not None
    background = outcome.background
    item.result = draft = Draft(target=found)
    if background is not None:
        names = _uncertainties(found)
        draft.changes = changes(background, names)
        outcome = _told_of(outcome, names)
        if request.measure_medians and math.prod(target.shape) <= LARGEST_MEDIAN:
            sci = target.plane("SCI")
            assert sci is not None
            before = finite_median(sci)
            for integration, image in enumerate(sci.reshape(-1, *sci.shape[-2:])):
                draft.changes["SCI"](image, 0, integration)
            outcome = replace(outcome, median_before=before, median_after=finite_median(sci))
    item.outcome = outcome if request.keep_background else replace(outcome, background=None)


def _make_result(item: Item, request: Request) -> None:
    """Take the background off: from the item's own model, or from a copy of the caller's."""
    model, item.model, outcome = item.model, None, item.outcome
    assert outcome is not None
    background = None if item.streamed else outcome.background
    if not request.keep_background:
        item.outcome = outcome = replace(outcome, background=None)
    if background is None:
        if item.streamed and outcome.background is not None:
            item.outcome = _told_of(outcome, _uncertainties(model))
        item.result = model if item.owned else model.copy()
        return
    before = finite_median(model.data) if request.measure_medians else None
    planes = {
        name: plane if item.owned and plane.flags.writeable else plane.copy()
        for name, plane in _changing(model, background).items()
    }
    apply(background, planes)
    del background  # its memory, before the other planes are copied
    changed = {attribute_of(name): plane for name, plane in planes.items()}
    item.result = model if item.owned else copy_with(model, changed)
    for name, plane in changed.items():
        item.result[name] = plane
    item.outcome = outcome = _told_of(outcome, tuple(planes))
    if request.measure_medians:
        after = finite_median(item.result.data)
        item.outcome = replace(outcome, median_before=before, median_after=after)


def _changing(model: Any, background: Background) -> dict[str, npt.NDArray[Any]]:
    """Return the planes of a model that a background changes, floating point where they must be."""
    dq = read_meta(model, "dq")
    planes = {"SCI": model.data, "DQ": np.zeros(model.data.shape, np.uint32) if dq is None else dq}
    if background.variances is not None:
        for name in _uncertainties(model):
            plane = np.asarray(read_meta(model, name.lower()))
            planes[name] = plane if plane.dtype.kind == "f" else plane.astype(np.float32)
    return planes


def _uncertainties(target: Any) -> tuple[str, ...]:
    """Tell which planes of uncertainty a model or a surveyed file has, of the shape of its SCI."""
    if isinstance(target, Survey):
        hdus = {hdu.name: tuple(axes(hdu.header)) for hdu in target.hdus if hdu.is_image}
        return tuple(name for name in UNCERTAINTIES if hdus.get(name) == target.shape)
    shape = np.shape(read_meta(target, "data"))
    planes = {name: read_meta(target, name.lower()) for name in UNCERTAINTIES}
    return tuple(name for name, plane in planes.items() if np.shape(plane) == shape)


def _told_of(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """Note which uncertainties the background's variance entered."""
    if outcome.propagated is None:
        return outcome
    entered = tuple(name for name in UNCERTAINTIES if name in names)
    return replace(outcome, propagated=replace(outcome.propagated, planes=entered))


def _record(item: Item) -> None:
    """Write down in the result what was done, and tell it."""
    outcome, result = item.outcome, item.result
    if outcome is None:
        return
    name = item.name
    told = record.record(outcome, name)
    if isinstance(result, Draft):
        values = {**told.meta, **record.members(item.job, None)}
        result.values |= {**values, "meta.background.webbkg": told.tree} if told.tree else values
        result.history, result.software = told.history, record.SOFTWARE
        result.cards = told.cards
        result.mask = outcome.sky_mask
    else:
        _record_in_model(item, told, outcome.sky_mask)
    for warning in outcome.warnings:
        log.warning(warning)
    complete = outcome.status is Status.COMPLETE and not outcome.already_done
    log.log(logging.INFO if complete else logging.WARNING, record.log_line(outcome, name))


def _record_in_model(item: Item, told: record.Record, sky_mask: Any) -> None:
    model = item.result
    for path, value in told.meta.items():
        model[path] = value
    if told.tree:
        model.meta.background.webbkg = dict(told.tree)
    if told.cards:
        put_cards(model, told.cards)
    if sky_mask is not None:
        model.mask = sky_mask.astype("uint32")
    with door.reading(item.name, "its metadata cannot be added to"):  # asdf looks at all of them
        for entry in told.history:
            model.add_history_entry(entry, software=record.SOFTWARE)
    for path, value in record.members(item.job, read_meta(model, "meta.source_catalog")).items():
        model[path] = value


class LineFormatter(logging.Formatter):
    """Writes the lines of a product's ``cal_logs``; the times are UTC."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03d - %(name)s - %(levelname)s - %(message)s", "%Y-%m-%dT%H:%M:%S"
        )


def finish(
    result: Any,
    references: Iterable[tuple[str, str]],
    log_lines: Mapping[str, list[str]],
    crds: Crds,
) -> None:
    """Note in a result the references, the CRDS context where CRDS can tell it, and the log.

    Parameters
    ----------
    result : data model or Draft
        That of an item.
    references : iterable of (str, str)
        Types and names of those that were used.
    log_lines : mapping of str to list of str
        For ``cal_logs``, by the alias of the step or pipeline that was called.
    crds : Crds
        As the run met it.
    """
    values = {f"meta.ref_file.{kind}.name": name for kind, name in references}
    context = crds.context_used()
    if context is not None:
        path = "meta.ref_file.crds"
        values[f"{path}.context_used"], values[f"{path}.sw_version"] = context
    if isinstance(result, Draft):
        result.values |= values
        result.values |= {f"cal_logs.{alias}": lines for alias, lines in log_lines.items()}
        return
    result.cal_logs = {**(read_meta(result, "cal_logs") or {}), **log_lines}
    for path, value in values.items():
        result[path] = value


# Writing.


def write(group: Sequence[Item], setting: Setting) -> None:
    """Write the products of a group, with the backgrounds that are to be kept: all, or none.

    Their reports follow, where they are asked for.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    models, paths = [], []
    for item in group:
        path = setting.name_product(item, None)
        item.product = path
        if _is_itself(item, path) and item.outcome is not None and item.outcome.already_done:
            log.info("%s is left as it is", path)
        else:
            models.append(item.result)
            paths.append(path)
            table = None if item.outcome is None else record.time_table(item.outcome)
            if table is not None:
                models.append(table)
                paths.append(time_path(item, setting))
                item.saved.append(paths[-1])
    _save(group, models, paths, setting)
    for item in group:
        if item.streamed:
            drop_stand_ins(item.result)
    _write_reports(group, setting)


def time_path(item: Item, setting: Setting) -> Path:
    """Name the table of an item's scales in time, which lies beside its product."""
    return setting.name_product(item, TIME_SUFFIX).with_suffix(TABLE)


def write_backgrounds(group: Sequence[Item], setting: Setting) -> None:
    """Write the backgrounds of a group that are to be kept, its reports, and no products."""
    _save(group, [], [], setting)
    _write_reports(group, setting)


def _write_reports(group: Sequence[Item], setting: Setting) -> None:
    if setting.options.save_report:
        from webbkg.reporting import write_reports

        write_reports(group, setting)


def _save(group: Sequence[Item], models: list[Any], paths: list[Path], setting: Setting) -> None:
    for item in group:
        for suffix, background in _backgrounds(item, setting).items():
            models.append(_saved_background(item, background))
            paths.append(setting.name_product(item, suffix))
            item.saved.append(paths[-1])
    if not models:
        return
    inputs = [path for item in group for path in _inputs(item, setting)]

    def write_one(model: Any, stream: IO[bytes], path: Path) -> None:
        if isinstance(model, Draft | BackgroundDraft):
            model.write(stream, plain_ascii(path.name))
            return
        if isinstance(model, Table):
            model.write(stream)
            return
        item = next((one for one in group if one.result is model), None)
        if item is None or not item.streamed or item.path is None or item.outcome is None:
            write_model(model, stream, path)
            return
        background = item.outcome.background
        model.meta.filename = plain_ascii(path.name)
        changed = changes(background, _uncertainties(model)) if background else {}
        write_streamed(model, item.path, changed, stream)

    for path in save_all(models, paths, inputs, write_one, setting.sealed):
        log.info("Saved %s", path)


def _saved_background(item: Item, background: Background) -> Any:
    result = item.result
    if isinstance(result, Draft):
        return BackgroundDraft(target=result.target, values=result.values, background=background)
    return background_model(background, result)


def _backgrounds(item: Item, setting: Setting) -> dict[str, Background]:
    """Tell which backgrounds of an item are to be kept, by their suffix."""
    background = None if item.outcome is None else item.outcome.background
    if background is None:
        return {}
    options, kept = setting.options, {}
    if options.save_background:
        kept[BACKGROUND_SUFFIX] = background.bare()
    if options.save_combined_background and isinstance(background, CombinedBackground):
        kept[COMBINED_SUFFIX] = background
    return kept


def _is_itself(item: Item, path: Path) -> bool:
    """Tell whether a product is the very file that its target came from."""
    own = _files_of(item.source, path.parent)
    return door.exists(path) and any(door.exists(one) and path.samefile(one) for one in own)


def _files_of(given: Any, folder: Path) -> list[Path]:
    """List the files that something given may be; of an open model what it knows of them."""
    if not is_model(given):
        return [Path(given)] if isinstance(given, (str, Path)) and str(given) else []
    opened, name = path_of(given), read_meta(given, "meta.filename")
    return [*([opened] if opened else []), *([folder / name] if name else [])]


def _inputs(item: Item, setting: Setting) -> list[Path]:
    """List the files that no product of an item may overwrite."""
    job = item.job
    given = [*job.targets, *job.backgrounds, job.source_catalog, *given_files(setting.parameters)]
    folder = setting.name_product(item, None).parent
    return [path for one in given for path in _files_of(one, folder)]


def given_files(parameters: Mapping[str, Any]) -> list[Any]:
    """List the files, or open models, that parameters name."""
    given = [
        value
        for name, value in parameters.items()
        if name == "wfss_mask" or name.startswith("override_")
    ]
    given += ImageOptions(source_mask=parameters.get("source_mask")).source_mask or ()
    given += TemplateOptions.of(parameters).template or ()
    return given
