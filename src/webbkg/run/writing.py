"""The products of a group are written: all, or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from webbkg import record
from webbkg.apply import changes
from webbkg.files.background import BackgroundDraft
from webbkg.files.models import background_model
from webbkg.files.naming import plain_ascii
from webbkg.files.output import save_all, write_model
from webbkg.files.product import Draft
from webbkg.files.streaming import drop_stand_ins, write_streamed
from webbkg.files.tables import Table
from webbkg.results import Background, CombinedBackground
from webbkg.run.items import Item, Setting
from webbkg.run.products import BACKGROUND_SUFFIX, COMBINED_SUFFIX, inputs_of, is_itself, time_path
from webbkg.run.result import uncertainties_of

log = logging.getLogger(__package__)


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
        if is_itself(item, path) and item.outcome is not None and item.outcome.already_done:
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
    inputs = [path for item in group for path in inputs_of(item, setting)]

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
        changed = changes(background, uncertainties_of(model)) if background else {}
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
