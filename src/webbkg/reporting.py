"""Reports of a run: from its items to pages beside their products.

A report that fails is told as a warning: it never costs the product.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from webbkg import record
from webbkg.errors import WebbkgError
from webbkg.files import door
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.models import is_model
from webbkg.numerics.planes import PlaneSource
from webbkg.options import RunOptions
from webbkg.report.content import Content, Pairs, facts_of, versions
from webbkg.report.index import INDEX_NAME, Row, write_index
from webbkg.report.limits import set_limits
from webbkg.report.page import render
from webbkg.report.snapshot import Snapshot, take
from webbkg.report.writing import report_path, write_page
from webbkg.results import Outcome

if TYPE_CHECKING:
    from webbkg.run import Item, Setting

log = logging.getLogger(__name__)


def take_snapshot(item: Item, planes: PlaneSource, outcome: Outcome) -> Snapshot | None:
    """Take what the pictures of a target are drawn from, while it is as it was."""
    try:
        with door.reading(item.name, "its pictures cannot be made"):
            return take(planes, outcome, _backgrounds(item, outcome))
    except WebbkgError as error:
        log.warning("%s; its report goes without them", error)
        return None


def _backgrounds(item: Item, outcome: Outcome) -> Iterator[tuple[str, PlaneSource]]:
    """Open the exposures that were averaged, one at a time."""
    for given, verdict in zip(item.job.backgrounds, outcome.verdicts, strict=False):
        if not verdict.used:
            continue
        opened = Exposure.from_model if is_model(given) else Exposure.from_file
        with opened(given) as exposure:
            yield verdict.name, exposure.planes


def write_reports(group: Sequence[Item], setting: Setting) -> None:
    """Write the page of each item of a group, next to its product."""
    for item in group:
        path = report_path(setting.name_product(item, None))
        try:
            with door.reading(path.name, "the report cannot be made"):
                content = content_of(item, group, setting)
                item.row = Row.of(content, path)
                page = render(content)
            write_page(page, path)
        except WebbkgError as error:
            log.warning("%s; the product is not concerned", error)
        else:
            item.report = path
            log.info("Saved %s", path)


def write_run_index(items: Sequence[Item]) -> Path | None:
    """Write the index of a run beside its first report; None where nothing has one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    reports = [item.report for item in items if item.report is not None]
    if not reports:
        return None
    return write_index(map(_row_of, items), reports[0].parent / INDEX_NAME)


def _row_of(item: Item) -> Row:
    if item.row is not None:
        return item.row
    if item.existing and item.product is not None:
        page = report_path(item.product)
        return Row(
            target=item.name, status="there already", page=page if door.exists(page) else None
        )
    outcome = item.outcome
    if item.error is not None or outcome is None:
        return Row(target=item.name, status="ERROR", reason=str(item.error))
    return Row(target=item.name, status=str(outcome.status), reason=outcome.reason)


def content_of(item: Item, group: Sequence[Item], setting: Setting) -> Content:
    """Gather what the page of an item tells.

    Parameters
    ----------
    item : Item
        With its outcome.
    group : sequence of Item
        Those that were fitted together, it among them.
    setting : Setting
        Of the run.
    """
    outcome, shot = item.outcome, item.snapshot
    assert outcome is not None
    times = {
        one.name: one.snapshot.times
        for one in group
        if one.snapshot is not None and one.snapshot.times is not None
    }
    info = item.info
    return Content(
        target=item.name,
        status="done before" if outcome.already_done else str(outcome.status),
        reason=outcome.reason,
        told=record.record(outcome).tree,
        unit=outcome.unit,
        facts=facts_of(info, () if shot is None else shot.before.shape),
        snapshot=shot,
        times=times,
        lines=tuple(record.lines(outcome)),
        parameters=_parameters(setting, info),
        references=tuple(item.references),
        versions=versions(),
        product="" if item.product is None else item.product.name,
        warnings=outcome.warnings,
        log=tuple(item.log),
        gaps=() if shot is not None else ("The pictures: they could not be made; see the log.",),
        limits=set_limits(setting.options.metric_limits),
    )


def _parameters(setting: Setting, info: ExposureInfo) -> Pairs:
    """Tell what held, given or not: what is of every mode, and of the target's own."""
    told = []
    for kind in (RunOptions, setting.mode_of(info).options):
        options = kind.of(setting.parameters)
        for field, one in kind.parameters().items():
            value = getattr(options, field)
            if one.name != "bkg_list":
                told.append((one.name, "none" if value is None else str(value)))
    return tuple(told)
