"""What the command ``webbkg subtract`` does below its parsing: targets to reports, without stpipe.

It runs in a process of its own: it sets the loggers up as it likes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from webbkg import run
from webbkg.errors import OutputError, WebbkgError
from webbkg.files import door
from webbkg.files.associations import Job, find_file, resolve
from webbkg.files.crds import NOT_APPLICABLE, crds_is_configured, one_crds
from webbkg.files.fits import read_header
from webbkg.files.naming import product_path
from webbkg.files.output import make_folder
from webbkg.files.product import is_own_product
from webbkg.modes import IMAGE, TEMPLATE, Mode, Shared
from webbkg.options import SossOptions
from webbkg.results import Outcome, Status

ALIAS = "bkg_subtract"
"""Under which the log of a run is kept in a product, as that of the pipeline's step."""


class Progress(Protocol):
    """What shows how far a run has come."""

    def phase(self, name: str) -> None:
        """Tell what is done now."""

    def __call__(self, done: int, total: int) -> None:
        """Tell the parts done, and their number."""


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What becomes of files that are there already under the names of products.

    Attributes
    ----------
    skipped : bool
        A target whose product is there is left out.
    overwritten : bool
        A product may take the place of a file that is none of webbkg's.
    """

    skipped: bool = False
    overwritten: bool = False


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
    progress: Callable[[str, int, int], contextlib.AbstractContextManager[Progress | None]],
    catalog: str | None = None,
    existing: Existing = Existing(),
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
        Takes the name of a target, its number, and how many there are; gives a context, in which
        the phases and the parts done are told.
    catalog : str, optional
        Source catalogue of grism exposures, instead of an association's or a header's.
    existing : Existing
        What becomes of files that are there already.
    measure_medians : bool
        Whether the outcomes are to tell the median before and after.

    Yields
    ------
    Item
        One for each target. An error is noted on its item, and the next target is done.

    Raises
    ------
    OutputError
        If products would overwrite each other, an input, or what is none of webbkg's products;
        nothing is written then.
    MissingFileError
        If there is no such catalogue.
    """
    items = [item for target in targets for item in _items(target, backgrounds)]
    if catalog is not None:
        found = find_file(catalog, [Path()], "--catalog")
        for item in items:
            item.job = replace(item.job, source_catalog=found)
    setting = run.Setting(
        parameters=with_absolute_overrides(given),
        name_product=lambda item, suffix: name_product(item, suffix, given),
        measure_medians=measure_medians,
        shared=Shared() if len(items) > 1 else None,
        product_only=True,
        without_models=True,
    )
    run.check_report(setting)
    run.check_products(items, setting)
    groups = run.grouped(items)
    check_existing(groups, setting, existing)
    for number, group in enumerate(groups):
        if number:
            # The libraries that write a product leave its planes in reference cycles, and the
            # collector does not run by itself in the command's process.
            gc.collect()
        if all(item.error is None and not item.existing for item in group):
            with progress(group[0].label, number + 1, len(groups)) as tell:
                run_group(group, replace(setting, progress=tell), tell)
        for item in group:
            item.result = None
            yield item


def write_index(items: Sequence[run.Item]) -> Path | None:
    """Write the index of the reports of several targets; None where there is nothing to write."""
    if len(items) < 2 or all(item.report is None for item in items):
        return None
    from webbkg.reporting import write_run_index

    return write_run_index(items)


def _items(target: str, backgrounds: Sequence[str]) -> list[run.Item]:
    try:
        items = run.items_of(resolve(target, list(backgrounds) or None))
    except WebbkgError as error:
        items = [run.Item(source=Path(target), job=Job(targets=()), error=error)]
    for item in items:
        item.label = target
    return items


def check_existing(
    groups: Sequence[Sequence[run.Item]], setting: run.Setting, existing: Existing
) -> None:
    """Look at files that are there under the names of products, before anything is written.

    A group is left out as a whole or not at all: its members are fitted together.
    """
    foreign = []
    for group in groups:
        left = [item for item in group if item.error is None]
        if existing.skipped and left and all(map(is_own_product, _products(left, setting))):
            for item in left:
                _leave_out(item, setting)
        elif not existing.overwritten:
            planned = [path for item in left for path in _planned(item, setting)]
            foreign += [p for p in planned if door.exists(p) and not is_own_product(p)]
            if setting.options.save_report:
                foreign += _foreign_pages(_products(left, setting))
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise OutputError(
            f"{foreign[0]}{more}: is there already, and is no product of webbkg's; choose another "
            "output_dir or suffix, or overwrite it with --overwrite"
        )


def _products(items: Sequence[run.Item], setting: run.Setting) -> list[Path]:
    return [setting.name_product(item, None) for item in items]


def _planned(item: run.Item, setting: run.Setting) -> list[Path]:
    """Name all that is to be written for an item; not the target itself, which other checks meet."""
    options, suffixes = setting.options, [None, run.BACKGROUND_SUFFIX, run.COMBINED_SUFFIX]
    wanted = [True, options.save_background, options.save_combined_background]
    named = zip(suffixes, wanted, strict=True)
    paths = [setting.name_product(item, suffix) for suffix, is_wanted in named if is_wanted]
    if setting.parameters.get("soss_time") not in (None, SossOptions.time):
        paths.append(run.time_path(item, setting))
    itself = [p for p in paths if item.path and door.exists(p) and p.samefile(item.path)]
    return [path for path in paths if path not in itself]


def _foreign_pages(products: Sequence[Path]) -> list[Path]:
    """List what stands under the names of the reports of products, and is none."""
    from webbkg.report.writing import may_be_written, report_path

    return [page for page in map(report_path, products) if not may_be_written(page)]


def _leave_out(item: run.Item, setting: run.Setting) -> None:
    """Take over what an existing product says became of its target."""
    item.product = setting.name_product(item, None)
    item.existing = True
    told = str(read_header(item.product).get("S_BKDSUB"))
    status = Status(told) if told in tuple(Status) else Status.COMPLETE
    reason = "its product is there already (--skip-existing)"
    item.outcome = Outcome(status=status, reason=reason, already_done=True)


def with_absolute_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths of overrides absolute, as a step does: so they are recorded."""
    return {
        name: os.path.abspath(value)  # noqa: PTH100 - links stay as the user named them
        if name.startswith("override_")
        and isinstance(value, str | os.PathLike)
        and value not in ("", NOT_APPLICABLE)
        else value
        for name, value in given.items()
    }


def name_product(item: run.Item, suffix: str | None, given: Mapping[str, Any]) -> Path:
    """Name a product of an item, by what the user gave and else by what the item is called."""
    basis = given.get("output_file") or item.job.association or item.name
    suffix = suffix or given.get("suffix")
    return product_path(basis, suffix, output_dir=given.get("output_dir"))


def run_group(group: list[run.Item], setting: run.Setting, tell: Progress | None = None) -> None:
    """Take a group from its files to its products; an error is noted on its items."""
    with _journal() as journal, one_crds(setting.crds):
        _run_group(group, setting, journal, tell)


def _run_group(
    group: list[run.Item], setting: run.Setting, journal: _Journal, tell: Progress | None
) -> None:
    """Take a group from its files to its products; an error is noted on its items."""
    try:
        if setting.parameters.get("output_dir"):
            make_folder(setting.parameters["output_dir"])
        setting = replace(setting, parameters=with_crds_parameters(group[0], setting.parameters))
        if tell is not None:
            tell.phase("reading" if _mode_of(group[0], setting) is IMAGE else "reading and fitting")
        process(group, setting)
        if tell is not None:
            tell.phase("saving")
        for item in group:
            run.finish(item.result, item.references, {ALIAS: journal.lines}, setting.crds)
            item.log = journal.lines
        run.write(group, setting)
    except WebbkgError as error:
        for item in group:
            item.error = error
    for item in group:
        reason = item.outcome.reason if item.outcome else ""
        item.warnings = [w for w in journal.warnings if not (reason and reason in w)]


def _mode_of(item: run.Item, setting: run.Setting) -> Mode:
    return setting.mode_of(item.info)


def process(group: list[run.Item], setting: run.Setting) -> None:
    """Process a group; a bare sky image is wrapped as the template that overrides CRDS's choice."""
    given, path = setting.parameters.get("override_bkg") or NOT_APPLICABLE, group[0].path
    if (
        not isinstance(given, str)
        or given == NOT_APPLICABLE
        or path is None
        or _mode_of(group[0], setting) in (IMAGE, TEMPLATE)
        or not _is_bare(given)
    ):
        run.process(group, setting)
        return
    from webbkg.files.templates import template_model

    wrapped = {**setting.parameters, "override_bkg": template_model(given, path)}
    run.process(group, replace(setting, parameters=wrapped))
    for item in group:
        item.references = [(k, given if k == "bkg" else name) for k, name in item.references]


def _is_bare(path: str) -> bool:
    from webbkg.files.templates import is_bare_image

    return is_bare_image(path)


def with_crds_parameters(item: run.Item, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete the parameters: CRDS's come first, where it is set up, then those given."""
    if item.error is not None or not crds_is_configured():
        return given
    from webbkg.step import BackgroundStep

    named = {name: value for name, value in given.items() if value is not None}
    config, file = BackgroundStep.build_config(
        str(item.path) if item.path else item.source, **named
    )
    step = BackgroundStep.from_config_section(config, config_file=file)
    return {**step.get_pars(), **named}
