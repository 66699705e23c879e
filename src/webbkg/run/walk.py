"""The walk of a group: each target opened, measured, looked at, changed and recorded once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from webbkg.files.associations import Input, Job, find_file
from webbkg.files.exposures import Exposure
from webbkg.modes import Request, Services, Target
from webbkg.numerics.planes import PlaneSource
from webbkg.results import Outcome, Status
from webbkg.run.items import Item, Setting
from webbkg.run.opening import as_segment, as_target, open_target, unopened_target
from webbkg.run.recording import record_outcome
from webbkg.run.request import find_reference, request_of
from webbkg.run.result import make_draft, make_result
from webbkg.soss.segments import check_segments


def process(group: Sequence[Item], setting: Setting) -> None:
    """Open, measure, apply and record the items of a group, those of one exposure together.

    Raises
    ------
    WebbkgError
        If a target or a background cannot be used; nothing has been changed then.
    """
    for item in group:
        open_target(item, setting)
    together = tuple(as_segment(item) for item in group) if len(group) > 1 else ()
    if together:
        segments = [(item.name, item.info) for item in group]
        check_segments(segments, setting.options.allow_repeat)
    measured: Outcome | None = None
    for item in group:
        _subtract(item, request_of(item, setting, together), setting, measured)
        measured = item.outcome if together else None
        item.references = item.references or list(group[0].references)  # looked up once for all


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
    open_target(item, setting)
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
        target = as_target(item) if item.survey is None else unopened_target(item, opened)
        if target.info.bkg_subtract == Status.COMPLETE and not setting.options.allow_repeat:
            item.outcome = _done_already(target.name)
        elif measured is None or measured.already_done:
            services = Services(
                find_reference=lambda kind: find_reference(kind, target, item, request, setting),
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
            make_result(item, request)
        else:
            make_draft(item, item.survey, target, request)
    record_outcome(item)


def _look_at(item: Item, target: Target, request: Request, setting: Setting) -> None:
    """Measure how good the subtraction of a target will be, and what a report is drawn from.

    The target is still as it was.
    """
    assert item.outcome is not None
    measured = request.metrics and item.outcome.background is not None
    if not measured and not setting.options.save_report:
        return
    with ExitStack() as opened:
        planes = _planes(item, target, opened)
        if measured:
            item.outcome = _with_metrics(item.outcome, planes, request, setting)
        if setting.options.save_report:
            from webbkg.reporting import take_snapshot

            item.snapshot = take_snapshot(item, planes, item.outcome)


def _planes(item: Item, target: Target, opened: ExitStack) -> PlaneSource:
    """Give the planes of a target as it was, from its file unless its model has them."""
    if target.planes is not None:
        return target.planes
    if item.path is not None and item.streamed:
        exposure = Exposure.from_file(item.path, needed=("SCI", "DQ"))
        return opened.enter_context(exposure).planes
    return Exposure.from_model(target.model).planes


def _with_metrics(
    outcome: Outcome, planes: PlaneSource, request: Request, setting: Setting
) -> Outcome:
    from webbkg.report.limits import set_limits
    from webbkg.report.metrics import measure_metrics

    limits = set_limits(request.metric_limits)
    return replace(outcome, metrics=measure_metrics(planes, outcome, limits, setting.shared))


def _done_already(name: str) -> Outcome:
    reason = (
        f"{name} is background-subtracted already (S_BKDSUB = COMPLETE); "
        "it is returned unchanged (allow_repeat subtracts again)"
    )
    return Outcome(status=Status.COMPLETE, reason=reason, already_done=True)
