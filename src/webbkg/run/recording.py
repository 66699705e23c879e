"""What was done is written down in the result, and told in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from webbkg import record
from webbkg.files import door
from webbkg.files.crds import Crds
from webbkg.files.models import put_cards, read_meta
from webbkg.files.product import Draft
from webbkg.results import Status
from webbkg.run.items import Item

log = logging.getLogger(__package__)


def record_outcome(item: Item) -> None:
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
