"""``webbkg subtract``: targets to products, and what is printed of each."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webbkg import record
from webbkg.cli.names import expand_globs, split_commas
from webbkg.cli.options import (
    INPUTS,
    OUTPUT,
    AsJson,
    OutputDir,
    OverrideBkg,
    OverrideWavelengthrange,
    Overwrite,
    Quiet,
    Robust,
    Suffix,
    option,
    with_parameters,
)
from webbkg.cli.status import Exit, told_compiling, told_errors, worst
from webbkg.cli.terminal import Display, say
from webbkg.errors import OptionError
from webbkg.numerics.parallel import use_threads
from webbkg.options import as_options

if TYPE_CHECKING:
    from webbkg.run import Item

EXAMPLES = """\
webbkg subtract exp_001_rate.fits -b exp_002_rate.fits exp_003_rate.fits
webbkg subtract "exp_*_rate.fits" -b "sky_*_rate.fits" --robust -o products
webbkg subtract bkg_sub_asn.json --save-combined-background
webbkg subtract grism_rate.fits --catalog direct_cat.ecsv
webbkg subtract grism_rate.fits --override-bkg sky.npy --wfss-mask mask.fits
webbkg subtract exp_001_rate.fits --template wisps.fits --template-sky plane
webbkg subtract "*_rate.fits" -b "sky*.fits" -o products --skip-existing
webbkg subtract "*_rate.fits" -b "sky*.fits" -o products --report"""

_Target = Annotated[
    list[str],
    typer.Argument(
        help="Exposures to subtract from, or associations (.json); globs too.",
        metavar="TARGET...",
        rich_help_panel=INPUTS,
    ),
]
_Background = Annotated[
    list[str] | None,
    option(
        "--background",
        "-b",
        metavar="FILE...",
        panel=INPUTS,
        text="Background exposures; globs, and names with commas between, too.",
    ),
]
_Catalog = Annotated[
    str | None,
    option(
        "--catalog",
        panel=INPUTS,
        text="Source catalogue (ECSV) of grism exposures, instead of the "
        "association's or the header's.",
        metavar="FILE",
    ),
]
_OutputFile = Annotated[
    str | None,
    option(
        "--output-file", panel=OUTPUT, text="Name of the product, for one target.", metavar="NAME"
    ),
]
_SkipExisting = Annotated[
    bool,
    option(
        "--skip-existing", panel=OUTPUT, text="Leave out targets whose product is there already."
    ),
]
_Threads = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Threads to use; by default the cores that the process may use."
    ),
]


@with_parameters
def subtract(
    target: _Target,
    *,
    background: _Background = None,
    catalog: _Catalog = None,
    override_bkg: OverrideBkg = None,
    override_wavelengthrange: OverrideWavelengthrange = None,
    robust: Robust = False,
    output_dir: OutputDir = None,
    output_file: _OutputFile = None,
    suffix: Suffix = None,
    skip_existing: _SkipExisting = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    threads: _Threads = None,
    **given: Any,
) -> None:
    """Subtract the background of each target and write the product.

    Exit status: 0 if all are COMPLETE, 3 if one was SKIPPED, 4 if one FAILED, 1 on an error, 2
    on bad usage.
    """
    from webbkg import command

    targets = expand_globs(target)
    if output_file is not None and len(targets) > 1:
        raise typer.BadParameter("--output-file names one product: give one target")
    given |= {"output_dir": output_dir, "output_file": output_file, "suffix": suffix}
    given |= {"override_bkg": override_bkg, "override_wavelengthrange": override_wavelengthrange}
    given["preset"] = "robust" if robust else given["preset"]
    display = Display(hidden=quiet or as_json)
    with _granted(threads), told_errors(), told_compiling(display):
        done = []
        for item in command.subtract(
            targets,
            expand_globs(split_commas(background or [])),
            {name: value for name, value in given.items() if value is not None},
            catalog=catalog,
            existing=command.Existing(skipped=skip_existing, overwritten=overwrite),
            progress=display.bar,
            measure_medians=not quiet,
        ):
            done.append(item)
            if not as_json:
                _print(item, quiet)
        _tell_all(done, command.write_index(done), quiet=quiet, as_json=as_json)
    raise typer.Exit(worst(_exit_status(item) for item in done))


def _granted(threads: int | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if threads is None else use_threads(threads)


def _as_json(item: Item) -> dict[str, Any]:
    told = record.as_json(
        item.outcome,
        item.label,
        product=item.product,
        report=item.report,
        warnings=[as_options(one) for one in item.warnings],
        error=item.error,
    )
    return {**told, "reason": as_options(told["reason"])}


def _exit_status(item: Item) -> Exit:
    if item.error is not None or item.outcome is None:
        return Exit.USAGE if isinstance(item.error, OptionError) else Exit.ERROR
    if item.outcome.already_done and not item.existing:
        return Exit.SKIPPED
    return Exit[str(item.outcome.status)]


def _print(item: Item, quiet: bool) -> None:
    if item.error is not None or item.outcome is None:
        say(f"error: {as_options(str(item.error))}", err=True)
        return
    if quiet:
        return
    for warning in item.warnings:
        say(f"warning: {as_options(warning)}", err=True)
    say(f"{item.label}: {item.outcome.status}")
    for label, value in record.lines(item.outcome, item.product, item.report):
        say(f"  {label:<22}{as_options(value) if label == 'because' else value}")


def _tell_all(done: list[Item], index: Path | None, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_as_json(item) for item in done], indent=2))
    elif not quiet and len(done) > 1:
        _print_totals(done, index)


def _print_totals(done: list[Item], index: Path | None) -> None:
    """Count the targets by what became of them; repeat what is not as it was meant to be."""
    say("")
    say(record.totals(Counter(_status(item) for item in done)))
    for item in done:
        if _exit_status(item) is not Exit.COMPLETE:
            reason = str(item.error) if item.outcome is None else item.outcome.reason
            say(f"  {item.label}: {_status(item)}: {as_options(reason)}", err=True)
    if index is not None:
        say(f"index: {index}")


def _status(item: Item) -> str:
    if item.error is not None or item.outcome is None:
        return "ERROR"
    if item.outcome.already_done:
        return "there already" if item.existing else "done before"
    return str(item.outcome.status)
