"""``webbkg run``: all targets of a plan."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webbkg.cli.names import expand_globs
from webbkg.cli.options import (
    INPUTS,
    AllCatalog,
    AsJson,
    BackgroundTarget,
    MinSeparation,
    OutputDir,
    OverrideBkg,
    OverrideWavelengthrange,
    Overwrite,
    Pairs,
    Quiet,
    Robust,
    Suffix,
    option,
    with_parameters,
)
from webbkg.cli.status import Exit, told_compiling, told_errors, worst
from webbkg.cli.terminal import Display, say
from webbkg.errors import OptionError
from webbkg.options import MIN_SEPARATION, as_options

if TYPE_CHECKING:
    from webbkg.batch.groups import Plan

EXAMPLES = """\
webbkg run data -o products
webbkg run plan.json -o products --robust --save-report
webbkg run plan.json -o products --shard 3/16
webbkg run plan.json -o products --scheduler tcp://node01:8786"""

RUNNING = "Running"
"""The panel of what drives it."""

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
    option(
        "--engine",
        panel=RUNNING,
        text="What drives the work: dask, processes of the standard library, or none.",
        metavar="auto|dask|processes|none",
        show_default="dask where it is installed",
    ),
]
_Workers = Annotated[
    int | None,
    option("--workers", panel=RUNNING, text="Processes.", metavar="N", show_default="one a core"),
]
_MemoryLimit = Annotated[
    str | None,
    option(
        "--memory-limit",
        panel=RUNNING,
        text="Of each worker (dask): one that has more is ended, and what it was at fails.",
        metavar="SIZE",
    ),
]
_Scheduler = Annotated[
    str | None,
    option(
        "--scheduler", panel=RUNNING, text="Of a Dask cluster that is there.", metavar="ADDRESS"
    ),
]
_Shard = Annotated[
    str,
    option(
        "--shard",
        panel=RUNNING,
        text="Run the i-th of n parts, for job arrays.",
        metavar="I/N",
        show_default="everything",
    ),
]
_FailFast = Annotated[
    bool, option("--fail-fast", panel=RUNNING, text="End at the first target that fails.")
]


@with_parameters
def run(
    programme: _Programme,
    *,
    catalog: AllCatalog = None,
    min_separation: MinSeparation = MIN_SEPARATION,
    background_target: BackgroundTarget = None,
    pairs: Pairs = True,
    engine: _Engine = "auto",
    workers: _Workers = None,
    memory_limit: _MemoryLimit = None,
    scheduler: _Scheduler = None,
    shard: _Shard = "1/1",
    fail_fast: _FailFast = False,
    override_bkg: OverrideBkg = None,
    override_wavelengthrange: OverrideWavelengthrange = None,
    robust: Robust = False,
    output_dir: OutputDir = None,
    suffix: Suffix = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
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
    with told_errors(), told_compiling(display):
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
    from webbkg.batch import orders, runner
    from webbkg.cli import live

    manner = runner.Manner(**{**driven, "shard": runner.as_shard(driven["shard"])})
    folder, parameters, named = asked
    order = orders.make_order(plan, folder, parameters, **named)
    results, interrupted = live.run_plan(plan, order, manner, quiet=quiet, as_json=as_json)
    if interrupted:
        return live.INTERRUPTED
    if not plan.groups:
        say("nothing is planned; `webbkg plan` tells more", err=True)
        return Exit.SKIPPED
    return worst(map(live.exit_status, results))


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
