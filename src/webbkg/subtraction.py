"""One call for a notebook or a script: exposures in, products with what was done out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webbkg import command, run
from webbkg.errors import OptionError
from webbkg.files.associations import find_file, resolve
from webbkg.files.crds import one_crds
from webbkg.files.output import make_folder
from webbkg.modes import Shared
from webbkg.options import check_names
from webbkg.results import Background, Metrics, Outcome, Shown, Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Subtraction(Shown):
    """A subtraction, done.

    Attributes
    ----------
    target : str
        Name of the exposure.
    product : data model
        The exposure without its background, of the target's class; the caller's own.
    outcome : Outcome
        What was done: the numbers, the background itself, the sky mask, the metrics.
    references : tuple of (str, str)
        Types and names of the reference files that were used.
    path : Path or None
        Where the product was written; None if it was not.
    report : Path or None
        Its page, with `save_report`.
    """

    target: str
    product: Any
    outcome: Outcome
    references: tuple[tuple[str, str], ...] = ()
    path: Path | None = None
    report: Path | None = None

    @property
    def status(self) -> Status:
        """COMPLETE, SKIPPED or FAILED, as the product says."""
        return self.outcome.status

    @property
    def metrics(self) -> Metrics | None:
        """How good it is; None where nothing was subtracted."""
        return self.outcome.metrics

    @property
    def background(self) -> Background | None:
        """What was subtracted; None where nothing was."""
        return self.outcome.background


def subtract(
    target: Any,
    backgrounds: Any = None,
    *,
    catalog: Any = None,
    robust: bool = False,
    output_dir: str | os.PathLike[str] | None = None,
    output_file: str | None = None,
    suffix: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **given: Any,
) -> Subtraction | list[Subtraction]:
    """Subtract the background of an exposure, or of each of several.

    Parameters
    ----------
    target : path, data model, association (path or mapping), or list of these
        What to subtract from; never changed.
    backgrounds : path, data model, or list of these, optional
        Background exposures. An association's own win over them.
    catalog : path or table, optional
        Source catalogue of grism exposures, in place of the association's or the header's.
    robust : bool
        The same as ``preset="robust"``.
    output_dir : path, optional
        Folder in which products are written, made if need be. Without it and `output_file`
        nothing is.
    output_file : str, optional
        Name of the product of one target.
    suffix : str, optional
        Suffix of the products, in place of ``backgroundstep``.
    progress : callable, optional
        Called with the parts done and their number.
    **given
        Parameters of the step by their names, and `override_bkg` and `override_wavelengthrange`.
        What is not given is what CRDS's parameter reference says, where CRDS is set up, or else
        the default.

    Returns
    -------
    Subtraction, or list of Subtraction
        A list where the call names several targets.

    Raises
    ------
    OptionError
        If there is no such parameter, or its value lies outside its range.
    WebbkgError
        If a target or a background cannot be used, or a product cannot be written.
    """
    check_names(given)
    if robust:
        given["preset"] = "robust"
    job = resolve(target, backgrounds, given.pop("bkg_list", None))
    for warning in job.warnings:
        log.warning(warning)
    if catalog is not None:
        job = replace(job, source_catalog=_found(catalog))
    items = run.items_of(job)
    if output_file is not None and len(items) > 1:
        raise OptionError(
            f"output_file names one product, and there are {len(items)} targets "
            f"(got {output_file!r}); choose an output_dir or a suffix instead"
        )
    names = {"output_dir": output_dir, "output_file": output_file, "suffix": suffix}
    setting = run.Setting(
        parameters=command.with_absolute_overrides(given),
        name_product=lambda item, kind: command.name_product(item, kind, names),
        progress=progress,
        measure_medians=True,
        shared=Shared() if len(items) > 1 else None,
        keep_backgrounds=True,
    )
    _run(items, setting, writes=output_dir is not None or output_file is not None)
    done = [_as_subtraction(item) for item in items]
    return done[0] if len(done) == 1 else done


def _found(catalog: Any) -> Any:
    is_named = isinstance(catalog, str | os.PathLike)
    return find_file(catalog, [Path()], "catalog") if is_named else catalog


def _run(items: Sequence[run.Item], setting: run.Setting, *, writes: bool) -> None:
    """Walk the items from inputs to results, and to products if they are to be written."""
    run.check_report(setting)
    if writes:
        run.check_products(items, setting)
        make_folder(setting.name_product(items[0], None).parent)
    with one_crds(setting.crds):
        for group in run.grouped(items):
            complete = command.with_crds_parameters(group[0], setting.parameters)
            current = replace(setting, parameters=complete)
            command.process(group, current)
            for item in group:
                run.finish(item.result, item.references, {}, setting.crds)
            if writes:
                run.write(group, current)
            else:
                run.write_backgrounds(group, current)


def _as_subtraction(item: run.Item) -> Subtraction:
    assert item.outcome is not None
    return Subtraction(
        target=item.name,
        product=item.result,
        outcome=item.outcome,
        references=tuple(item.references),
        path=item.product,
        report=item.report,
    )
