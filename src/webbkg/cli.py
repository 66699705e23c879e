"""The command ``webbkg``: it parses, shows progress and prints a summary; no science here."""

from __future__ import annotations

import contextlib
import glob
import inspect
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from webbkg import __version__, record
from webbkg.errors import MissingExtraError, OptionError, WebbkgError
from webbkg.numerics.parallel import use_threads
from webbkg.options import MIN_SEPARATION, Parameter, as_options, option_name, parameters
from webbkg.startup import own_process
from webbkg.terminal import Display, GroupHelpInPanels, HelpInPanels, say

if TYPE_CHECKING:
    from webbkg.batch.groups import Plan
    from webbkg.report.afterwards import Report
    from webbkg.run import Item


class Exit(IntEnum):
    """What the command's exit status means."""

    COMPLETE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    FAILED = 4


app = typer.Typer(
    cls=GroupHelpInPanels,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Background subtraction for JWST exposures.",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and leave with its exit status."""
    if arguments is None:  # called as the command, not by a program that goes on afterwards
        own_process()
        arguments = sys.argv[1:]
    app(repeat_background_flag(arguments), prog_name="webbkg")


def repeat_background_flag(arguments: list[str]) -> list[str]:
    """Let ``--background`` take all names that follow it, as a shell's glob gives them.

    Examples
    --------
    >>> repeat_background_flag(["subtract", "t.fits", "--background", "a.fits", "b.fits"])
    ['subtract', 't.fits', '--background', 'a.fits', '--background', 'b.fits']
    """
    repeated: list[str] = []
    flag = None
    fresh = False
    for argument in arguments:
        name, given, _ = argument.partition("=")
        if name in ("--background", "-b"):
            flag, fresh = name, not given
        elif argument.startswith("-") and argument != "-":
            flag = None
        elif flag is not None and not fresh:
            repeated.append(flag)
        else:
            fresh = False
        repeated.append(argument)
    return repeated


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"webbkg {__version__}")
        raise typer.Exit


@app.callback()
def _webbkg(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Subtract the background of JWST exposures."""


INPUTS, EVERY_MODE, OUTPUT, PLANNING = "Inputs", "Every mode", "Output", "Planning"
PANELS = {
    "every mode": EVERY_MODE,
    "image": "Image from image",
    "wfss": "Grism exposures (WFSS)",
    "soss": "NIRISS SOSS",
    "template": "Templates of your own",
}
"""Where the help has the options of a mode."""

SHORT = {"save_report": ["--report"]}
"""Options that have another name besides the parameter's."""

ORDER = [*PANELS.values(), OUTPUT]

EXAMPLES = """\
webbkg subtract exp_001_rate.fits -b exp_002_rate.fits exp_003_rate.fits
webbkg subtract "exp_*_rate.fits" -b "sky_*_rate.fits" --robust -o products
webbkg subtract bkg_sub_asn.json --save-combined-background
webbkg subtract grism_rate.fits --catalog direct_cat.ecsv
webbkg subtract grism_rate.fits --override-bkg sky.npy --wfss-mask mask.fits
webbkg subtract exp_001_rate.fits --template wisps.fits --template-sky plane
webbkg subtract "*_rate.fits" -b "sky*.fits" -o products --skip-existing
webbkg subtract "*_rate.fits" -b "sky*.fits" -o products --report"""


def _option(*names: str, text: str, panel: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar, **more)


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
    _option(
        "--background",
        "-b",
        metavar="FILE...",
        panel=INPUTS,
        text="Background exposures; globs, and names with commas between, too.",
    ),
]
_Catalog = Annotated[
    str | None,
    _option(
        "--catalog",
        panel=INPUTS,
        text="Source catalogue (ECSV) of grism exposures, instead of the "
        "association's or the header's.",
        metavar="FILE",
    ),
]
_OverrideBkg = Annotated[
    str | None,
    _option(
        "--override-bkg",
        panel=INPUTS,
        text="Template, instead of CRDS's choice: a reference file, or a bare "
        "sky image (.fits, .fits.gz, .npy).",
        metavar="FILE",
    ),
]
_OverrideWavelengthrange = Annotated[
    str | None,
    _option(
        "--override-wavelengthrange",
        panel=INPUTS,
        text="WAVELENGTHRANGE file, instead of CRDS's choice.",
        metavar="FILE",
    ),
]
_Robust = Annotated[
    bool, _option("--robust", panel=EVERY_MODE, text="The same as --preset robust.")
]
_OutputDir = Annotated[
    str | None,
    _option(
        "--output-dir",
        "-o",
        panel=OUTPUT,
        text="Folder of the products; made if need be.",
        metavar="FOLDER",
    ),
]
_OutputFile = Annotated[
    str | None,
    _option(
        "--output-file", panel=OUTPUT, text="Name of the product, for one target.", metavar="NAME"
    ),
]
_Suffix = Annotated[
    str | None,
    _option(
        "--suffix",
        panel=OUTPUT,
        text="Suffix of the product, instead of backgroundstep.",
        metavar="TEXT",
    ),
]
_SkipExisting = Annotated[
    bool,
    _option(
        "--skip-existing", panel=OUTPUT, text="Leave out targets whose product is there already."
    ),
]
_Overwrite = Annotated[
    bool,
    _option(
        "--overwrite",
        panel=OUTPUT,
        text="Overwrite files that are no products of webbkg's, too; inputs never.",
    ),
]
_Quiet = Annotated[bool, _option("--quiet", "-q", panel=OUTPUT, text="Print errors only.")]
_AsJson = Annotated[
    bool, _option("--json", panel=OUTPUT, text="Print the outcomes as JSON, for scripts.")
]
_Threads = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Threads to use; by default the cores that the process may use."
    ),
]

_TYPES = {"float": float, "integer": int, "boolean": bool, "string": str}
_LISTS = {"force_list": "FILE,...", "int_list(min=4, max=4)": "X1,X2,Y1,Y2"}
_TYPES |= dict.fromkeys(_LISTS, str)  # with commas between
_PAIR = tuple[float, float]
_TAKEN: dict[Any, str | None] = {float: "NUMBER", int: "N", bool: None, str: "FILE"}
_TAKEN[_PAIR] = "LOW HIGH"
_METAVARS = {"metric_limits": "NAME=LOOK:BAD,..."}


def with_parameters(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the step's parameters, each None unless the user gives it.

    What is not given is left to CRDS's parameter references and to the defaults.
    """
    own = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    taken = [
        one.replace(annotation=hints[one.name])
        for one in own.parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    told = [one for one in parameters().values() if one.name != "bkg_list"]
    added = [_as_option(one) for one in sorted(told, key=lambda one: ORDER.index(_panel(one)))]
    first = next(i for i, one in enumerate(taken) if one.name == "output_dir")
    everything = [*taken[:first], *added, *taken[first:]]  # so the help has its panels in order
    function.__signature__ = own.replace(parameters=everything)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in everything}
    return function


def _panel(one: Parameter) -> str:
    return OUTPUT if one.name.startswith("save_") else PANELS[one.mode]


def _as_option(one: Parameter) -> inspect.Parameter:
    kind = str if one.choices else _TYPES.get(one.kind, _PAIR)
    default = " ".join(map(str, one.stands_for)) if kind is _PAIR else one.stands_for
    shown = False if default in (None, False) else str(default)
    name = option_name(one.name)
    # What a preset switches on can be switched off again.
    flags = [f"{name}/--no-{name[2:]}" if kind is bool and one.presets else name]
    flags += SHORT.get(one.name, [])
    text = one.text.removeprefix(f"{one.mode.upper()}: ")
    option = _option(
        *flags,
        text=f"{text[0].upper()}{text[1:]}.",
        panel=_panel(one),
        metavar=_METAVARS.get(one.name)
        or "|".join(one.choices)
        or _LISTS.get(one.kind, _TAKEN[kind]),
        show_default=shown,
    )
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


@app.command(cls=HelpInPanels, epilog=EXAMPLES, no_args_is_help=True)
@with_parameters
def subtract(
    target: _Target,
    *,
    background: _Background = None,
    catalog: _Catalog = None,
    override_bkg: _OverrideBkg = None,
    override_wavelengthrange: _OverrideWavelengthrange = None,
    robust: _Robust = False,
    output_dir: _OutputDir = None,
    output_file: _OutputFile = None,
    suffix: _Suffix = None,
    skip_existing: _SkipExisting = False,
    overwrite: _Overwrite = False,
    quiet: _Quiet = False,
    as_json: _AsJson = False,
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
    with _granted(threads), _told_errors(), _told_compiling(display):
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
    raise typer.Exit(_worst(_exit_status(item) for item in done))


@contextmanager
def _told_errors() -> Iterator[None]:
    """Print an error that ends the command, and leave with its status."""
    try:
        yield
    except WebbkgError as error:
        say(f"error: {as_options(str(error))}", err=True)
        raise typer.Exit(Exit.USAGE if isinstance(error, OptionError) else Exit.ERROR) from error


def _told_compiling(display: Display) -> contextlib.AbstractContextManager[None]:
    from webbkg.numerics.compiled import told_of_compiling

    return told_of_compiling(display.compiling)


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


REPORT_EXAMPLES = """\
webbkg report exp_001_backgroundstep.fits
webbkg report "products/*_backgroundstep.fits" --input exposures"""


@app.command(cls=HelpInPanels, epilog=REPORT_EXAMPLES, no_args_is_help=True)
def report(
    product: Annotated[
        list[str],
        typer.Argument(
            help="Products of webbkg's; globs too.",
            metavar="PRODUCT...",
            rich_help_panel=INPUTS,
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            help="Targets and backgrounds, or their folders, if they lie neither beside the "
            "products nor here; globs too.",
            metavar="FILE|FOLDER",
            rich_help_panel=INPUTS,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Folder of the pages; by default each lies beside its product.",
            metavar="FOLDER",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Write a page with pictures and numbers for each product, from it and its inputs.

    Exit status: 0 if every product has its page, 1 if one has none.
    """
    from webbkg.report import afterwards

    done = []
    with _told_errors():
        products, given = (list(map(Path, expand_globs(one))) for one in (product, inputs or []))
        for one in afterwards.write_reports(products, given, output_dir):
            done.append(one)
            _print_report(one, quiet)
        index = afterwards.write_reports_index(done)
    if index is not None and not quiet:
        say(f"index: {index}")
    raise typer.Exit(Exit.ERROR if any(one.error for one in done) else Exit.COMPLETE)


def _print_report(one: Report, quiet: bool) -> None:
    if one.error is not None:
        say(f"error: {one.error}", err=True)
    elif not quiet:
        say(f"{one.product.name}: {one.row.verdict or one.row.status}")
        for gap in one.gaps:
            say(f"  not on the page       {gap}")
        say(f"  report                {one.page}")


@app.command(cls=HelpInPanels)
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where to write the exposures and products.", metavar="[FOLDER]")
    ] = Path("webbkg-demo"),
    size: Annotated[
        int,
        typer.Option(
            help="Rows and columns of the imaging exposures, 128 to 2048; of the others accordingly. "
            "The files take 300 MB at 512, and a gigabyte at 2048.",
            metavar="N",
            show_default="512",
        ),
    ] = 512,
) -> None:
    """Simulate exposures, subtract their backgrounds, and compare with the truth."""
    from webbkg.simulate.demo import run_demo, run_template_demos, write_story_of

    logging.getLogger("webbkg").setLevel(logging.ERROR)
    logging.getLogger("stpipe").setLevel(logging.ERROR)
    with _told_errors(), _told_compiling(Display()):
        results = run_demo(folder, size=size, tell=typer.echo)
        results += run_template_demos(folder, size=size, tell=typer.echo)
    for result in results:
        typer.echo(f"\n{result.name}: {result.status} {result.reason}".rstrip())
        for label, value in result.lines():
            typer.echo(f"  {label:<42}{value}")
    say("")
    say(f"exposures, products and reports are in {folder}")
    try:
        say(f"open {write_story_of(results, folder)} to see them")
    except MissingExtraError as error:
        say(f"no pictures: {error}")
    raise typer.Exit(_worst(Exit[result.status] for result in results))


@app.command(name="make-template", cls=HelpInPanels)
def make_template_command(
    image: Annotated[
        Path, typer.Argument(help="Sky image: FITS (zipped too) or .npy.", metavar="IMAGE")
    ],
    like: Annotated[
        Path, typer.Option(help="A target of the exposures that it is for.", metavar="FILE")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.fits).", metavar="FILE")
    ],
) -> None:
    """Wrap a bare sky image into a reference file, for --override-bkg."""
    from webbkg.files.templates import make_template

    with _told_errors():
        made = make_template(image, like, output)
    say(f"{made}: template of {image.name}, for exposures like {like.name}")


PLAN_EXAMPLES = """\
webbkg plan data -o plan.json
webbkg plan "data/*_rate.fits" --background-target SKY-NORTH
webbkg plan bkg_sub_asn.json
webbkg plan data --min-separation 1.5 --associations data"""


_Planned = Annotated[
    list[str],
    typer.Argument(
        help="Folders, with all below them; exposures; catalogues; associations (.json).",
        metavar="FOLDER|FILE...",
        rich_help_panel=INPUTS,
    ),
]
_PlanFile = Annotated[
    Path | None,
    _option(
        "--output", "-o", panel=OUTPUT, text="Write the plan, to run or edit it.", metavar="FILE"
    ),
]
_Associations = Annotated[
    Path | None,
    _option(
        "--associations",
        panel=OUTPUT,
        text="Write the plan as level-2 associations too, best into the exposures' own folder.",
        metavar="FOLDER",
    ),
]
_ReplacePlan = Annotated[
    bool, _option("--overwrite", panel=OUTPUT, text="Replace plans that are there already.")
]
_MinSeparation = Annotated[
    float,
    _option(
        "--min-separation",
        panel=PLANNING,
        text="How far a dither must point from its target to be its background.",
        metavar="ARCSEC",
        show_default=f"{MIN_SEPARATION:g}",
    ),
]
_BackgroundTarget = Annotated[
    list[str] | None,
    _option(
        "--background-target",
        panel=PLANNING,
        text="A target (TARGPROP, TARGNAME) whose exposures are backgrounds; may come again.",
        metavar="NAME",
    ),
]
_Pairs = Annotated[
    bool,
    _option(
        "--pairs/--no-pairs", panel=PLANNING, text="Take repeats of a two-point nod pair by pair."
    ),
]
_AllCatalog = Annotated[
    str | None,
    _option(
        "--catalog",
        panel=INPUTS,
        text="Source catalogue (ECSV) of all grism exposures.",
        metavar="FILE",
    ),
]
_Templates = Annotated[
    bool,
    _option(
        "--templates",
        panel=PLANNING,
        text="Plan each image by itself, to be run with --template.",
    ),
]
_Cache = Annotated[
    bool,
    _option("--cache/--no-cache", panel=PLANNING, text="Keep headers in the user's cache."),
]
_PlanAsJson = Annotated[
    bool, _option("--json", panel=OUTPUT, text="Print the plan as JSON, for scripts.")
]


@app.command(cls=HelpInPanels, epilog=PLAN_EXAMPLES, no_args_is_help=True)
def plan(
    inputs: _Planned,
    *,
    catalog: _AllCatalog = None,
    min_separation: _MinSeparation = MIN_SEPARATION,
    background_target: _BackgroundTarget = None,
    pairs: _Pairs = True,
    templates: _Templates = False,
    cache: _Cache = True,
    output: _PlanFile = None,
    associations: _Associations = None,
    overwrite: _ReplacePlan = False,
    quiet: _Quiet = False,
    as_json: _PlanAsJson = False,
) -> None:
    """Plan what is subtracted from what, from the headers of many exposures.

    Exit status: 0 if something is planned, 3 if nothing is, 1 on an error, 2 on bad usage.
    """
    from webbkg.batch import associations as asn
    from webbkg.batch import planfile, planner, table

    display = Display(hidden=quiet or as_json)
    with _told_errors():
        with display.bar(inputs[0]) as bar:
            made = planner.plan(
                expand_globs(inputs),
                min_separation=min_separation,
                background_target=background_target or (),
                pairs=pairs,
                catalog=catalog,
                templates=templates,
                cache=cache,
                progress=None if bar is None else partial(bar.count, "reading headers"),
            )
        if output is not None:
            planfile.write_plan(made, output, overwrite=overwrite)
        if associations is not None:
            asn.write_associations(made, associations, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(planfile.as_json(made), indent=1))
    elif not quiet:
        for line in table.lines(made):
            say(as_options(line))
        for written in (output, associations):
            if written is not None:
                say(f"written: {written}")
    raise typer.Exit(Exit.COMPLETE if made.groups else Exit.SKIPPED)


RUN_EXAMPLES = """\
webbkg run data -o products
webbkg run plan.json -o products --robust --save-report
webbkg run plan.json -o products --shard 3/16
webbkg run plan.json -o products --scheduler tcp://node01:8786"""

RUNNING = "Running"
_Programme = Annotated[
    list[str],
    typer.Argument(
        help="A plan (.json); or what is to be planned, as for `webbkg plan`.",
        metavar="PLAN|FOLDER|FILE...",
        rich_help_panel=INPUTS,
    ),
]
_Engine = Annotated[
    str,
    _option(
        "--engine",
        panel=RUNNING,
        text="What drives the work: dask, processes of the standard library, or none.",
        metavar="auto|dask|processes|none",
        show_default="dask where it is installed",
    ),
]
_Workers = Annotated[
    int | None,
    _option("--workers", panel=RUNNING, text="Processes.", metavar="N", show_default="one a core"),
]
_MemoryLimit = Annotated[
    str | None,
    _option(
        "--memory-limit",
        panel=RUNNING,
        text="Of each worker (dask): one that has more is ended, and what it was at fails.",
        metavar="SIZE",
    ),
]
_Scheduler = Annotated[
    str | None,
    _option(
        "--scheduler", panel=RUNNING, text="Of a Dask cluster that is there.", metavar="ADDRESS"
    ),
]
_Shard = Annotated[
    str,
    _option(
        "--shard",
        panel=RUNNING,
        text="Run the i-th of n parts, for job arrays.",
        metavar="I/N",
        show_default="everything",
    ),
]
_FailFast = Annotated[
    bool, _option("--fail-fast", panel=RUNNING, text="End at the first target that fails.")
]


@app.command(name="run", cls=HelpInPanels, epilog=RUN_EXAMPLES, no_args_is_help=True)
@with_parameters
def run_command(
    programme: _Programme,
    *,
    catalog: _AllCatalog = None,
    min_separation: _MinSeparation = MIN_SEPARATION,
    background_target: _BackgroundTarget = None,
    pairs: _Pairs = True,
    engine: _Engine = "auto",
    workers: _Workers = None,
    memory_limit: _MemoryLimit = None,
    scheduler: _Scheduler = None,
    shard: _Shard = "1/1",
    fail_fast: _FailFast = False,
    override_bkg: _OverrideBkg = None,
    override_wavelengthrange: _OverrideWavelengthrange = None,
    robust: _Robust = False,
    output_dir: _OutputDir = None,
    suffix: _Suffix = None,
    overwrite: _Overwrite = False,
    quiet: _Quiet = False,
    as_json: _AsJson = False,
    **given: Any,
) -> None:
    """Run a programme, or what is left of it: the products of all targets of a plan.

    What is done already is kept: run the same command again after an interruption or a change.
    Exit status: 0 if all are COMPLETE, 3 if one was SKIPPED, 4 if one FAILED, 1 on an error, 2
    on bad usage, 130 where it was interrupted.
    """
    given |= {"override_bkg": override_bkg, "override_wavelengthrange": override_wavelengthrange}
    given["preset"] = "robust" if robust else given["preset"]
    rules: dict[str, Any] = {"min_separation": min_separation, "pairs": pairs}
    rules |= {"background_target": background_target or (), "catalog": catalog}
    driven = {"engine": engine, "workers": workers, "memory_limit": memory_limit}
    driven |= {"scheduler": scheduler, "shard": shard, "fail_fast": fail_fast}
    named = {"suffix": suffix, "overwritten": overwrite}
    display = Display(hidden=quiet or as_json)
    with _told_errors(), _told_compiling(display):
        plan = _read_or_plan(expand_globs(programme), rules, given["template"], display)
        status = _run(plan, driven, (output_dir or "", given, named), quiet=quiet, as_json=as_json)
    raise typer.Exit(status)


def _run(
    plan: Plan,
    driven: dict[str, Any],
    asked: tuple[str, dict[str, Any], dict[str, Any]],
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run a plan; return the exit status."""
    from webbkg import running
    from webbkg.batch import runner

    manner = runner.Manner(**{**driven, "shard": runner.as_shard(driven["shard"])})
    folder, parameters, named = asked
    order = runner.make_order(plan, folder, parameters, **named)
    results, interrupted = running.run_plan(plan, order, manner, quiet=quiet, as_json=as_json)
    if interrupted:
        return running.INTERRUPTED
    if not plan.groups:
        say("nothing is planned; `webbkg plan` tells more", err=True)
        return Exit.SKIPPED
    return _worst(Exit.__members__.get(one.status, Exit.ERROR) for one in results)


def _read_or_plan(
    names: list[str], rules: dict[str, Any], template: str | None, display: Display
) -> Plan:
    """Read the plan that is named, or plan what is."""
    from webbkg.batch import planfile, planner, table

    plans = [name for name in names if planfile.is_plan(name)]
    if not plans:
        with display.bar(names[0]) as bar:
            tell = None if bar is None else partial(bar.count, "reading headers")
            made = planner.plan(names, **rules, templates=template is not None, progress=tell)
        if not display.hidden:
            for line in table.lines(made) if not made.groups else [table.first_line(made)]:
                say(as_options(line), err=True)
        return made
    _refuse_beside_plan([name for name in names if name not in plans[:1]], rules)
    return planfile.read_plan(plans[0])


def _refuse_beside_plan(others: list[str], rules: dict[str, Any]) -> None:
    """Refuse what a plan, which is made already, would not heed."""
    defaults = {"min_separation": MIN_SEPARATION, "background_target": (), "pairs": True}
    given = [name for name, value in rules.items() if value != defaults.get(name)]
    told = ["no-pairs" if name == "pairs" else name.replace("_", "-") for name in given]
    beside = [*others, *(f"--{name}" for name in told)]
    if beside:
        raise OptionError(
            f"a plan is run by itself, as it was made (got {', '.join(beside)} besides); leave that "
            "out, or plan anew with it"
        )


def split_commas(names: list[str]) -> list[str]:
    """Take names with commas between them apart; a name that exists is itself.

    Examples
    --------
    >>> split_commas(["a.fits,b.fits", "c.fits,"])
    ['a.fits', 'b.fits', 'c.fits']
    """
    split = []
    for name in names:
        parts = [name] if Path(name).exists() else [part.strip() for part in name.split(",")]
        split += [part for part in parts if part]
    return split


def expand_globs(names: list[str]) -> list[str]:
    """Expand ``*``, ``?`` and ``[]`` where the shell has not; a name that exists is itself."""
    expanded = []
    for name in names:
        if Path(name).exists() or not glob.has_magic(name):
            expanded.append(name)
            continue
        found = sorted(glob.glob(name))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise typer.BadParameter(f"no file matches {name}")
        expanded += found
    return expanded


def _worst(statuses: Iterator[Exit]) -> int:
    order = [Exit.COMPLETE, Exit.SKIPPED, Exit.FAILED, Exit.ERROR, Exit.USAGE]
    return int(max(statuses, key=order.index, default=Exit.COMPLETE))


if __name__ == "__main__":
    main()
