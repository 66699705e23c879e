"""What the command ``webbkg subtract`` does below its parsing: targets to reports, without stpipe.

It runs in a process of its own: it sets the loggers up as it likes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from webbkg import run
from webbkg.errors import WebbkgError
from webbkg.files.associations import Job, resolve
from webbkg.files.crds import NOT_APPLICABLE, crds_is_configured, one_crds
from webbkg.files.naming import product_path
from webbkg.files.output import make_folder
from webbkg.modes import Shared

Progress = Callable[[int, int], None]
ALIAS = "bkg_subtract"
"""Under which the log of a run is kept in a product, as that of the pipeline's step."""


class _Journal(logging.Handler):
    """Keeps the log lines and the warnings of a group."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(run.LineFormatter())
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


@contextlib.contextmanager
def _journal() -> Iterator[_Journal]:
    """Take the lines of webbkg's logger, which the user sees as a summary instead."""
    logger, journal = logging.getLogger("webbkg"), _Journal()
    former = logger.level, logger.propagate
    logger.addHandler(journal)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield journal
    finally:
        logger.removeHandler(journal)
        logger.setLevel(former[0])
        logger.propagate = former[1]


def subtract(
    targets: Sequence[str],
    backgrounds: Sequence[str],
    given: Mapping[str, Any],
    *,
    progress: Callable[[str], contextlib.AbstractContextManager[Progress | None]],
    measure_medians: bool = True,
) -> Iterator[run.Item]:
    """Subtract the background of each target and write the products, one group at a time.

    Parameters
    ----------
    targets : sequence of str
        Exposures, or associations.
    backgrounds : sequence of str
        Background exposures.
    given : mapping of str to object
        Parameters that the user gave; and ``output_dir``, ``output_file``, ``suffix``.
    progress : callable
        Takes the name of a target; gives a context, in which its parts done are told.
    measure_medians : bool
        Whether the outcomes are to tell the median before and after.

    Yields
    ------
    Item
        One for each target. An error is noted on its item, and the next target is done.

    Raises
    ------
    OutputError
        If products would overwrite each other or an input; nothing is written then.
    """
    items = [item for target in targets for item in _items(target, backgrounds)]
    setting = run.Setting(
        parameters=_absolute(given),
        name_product=lambda item, suffix: _name_product(item, suffix, given),
        measure_medians=measure_medians,
        shared=Shared() if len(items) > 1 else None,
        product_only=True,
        without_models=True,
    )
    run.check_products(items, setting)
    for number, group in enumerate(run.grouped(items)):
        if number:
            # The libraries that write a product leave its planes in reference cycles, and the
            # collector does not run by itself in the command's process.
            gc.collect()
        if all(item.error is None for item in group):
            with progress(group[0].label) as tell, _journal() as journal, one_crds(setting.crds):
                _run_group(group, replace(setting, progress=tell), journal)
        for item in group:
            item.result = None
            yield item


def _items(target: str, backgrounds: Sequence[str]) -> list[run.Item]:
    try:
        items = run.items_of(resolve(target, list(backgrounds) or None))
    except WebbkgError as error:
        items = [run.Item(source=Path(target), job=Job(targets=()), error=error)]
    for item in items:
        item.label = target
    return items


def _absolute(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths of overrides absolute, as a step does: so they are recorded."""
    return {
        name: os.path.abspath(value)  # noqa: PTH100 - links stay as the user named them
        if name.startswith("override_") and value not in (None, "", NOT_APPLICABLE)
        else value
        for name, value in given.items()
    }


def _name_product(item: run.Item, suffix: str | None, given: Mapping[str, Any]) -> Path:
    basis = given.get("output_file") or item.job.association or item.name
    suffix = suffix or given.get("suffix")
    return product_path(basis, suffix, output_dir=given.get("output_dir"))


def _run_group(group: list[run.Item], setting: run.Setting, journal: _Journal) -> None:
    """Take a group from its files to its products; an error is noted on its items."""
    try:
        if setting.parameters.get("output_dir"):
            make_folder(setting.parameters["output_dir"])
        setting = replace(setting, parameters=_resolve(group[0], setting.parameters))
        run.process(group, setting)
        for item in group:
            run.finish(item.result, item.references, {ALIAS: journal.lines}, setting.crds)
        run.write(group, setting)
    except WebbkgError as error:
        for item in group:
            item.error = error
    for item in group:
        reason = item.outcome.reason if item.outcome else ""
        item.warnings = [w for w in journal.warnings if not (reason and reason in w)]


def _resolve(item: run.Item, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete the parameters: CRDS's come first, where it is set up, then those given."""
    if item.error is not None or not crds_is_configured():
        return given
    from webbkg.step import BackgroundStep

    named = {name: value for name, value in given.items() if value is not None}
    config, file = BackgroundStep.build_config(str(item.source), **named)
    step = BackgroundStep.from_config_section(config, config_file=file)
    return {**step.get_pars(), **named}
