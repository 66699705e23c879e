"""``webbkg plan``: what is subtracted from what, from headers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from webbkg.cli.names import expand_globs
from webbkg.cli.options import (
    INPUTS,
    OUTPUT,
    PLANNING,
    AllCatalog,
    BackgroundTarget,
    MinSeparation,
    Pairs,
    Quiet,
    option,
)
from webbkg.cli.status import Exit, told_errors
from webbkg.cli.terminal import Display, say
from webbkg.options import MIN_SEPARATION, as_options

EXAMPLES = """\
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
    option(
        "--output", "-o", panel=OUTPUT, text="Write the plan, to run or edit it.", metavar="FILE"
    ),
]
_Associations = Annotated[
    Path | None,
    option(
        "--associations",
        panel=OUTPUT,
        text="Write the plan as level-2 associations too, best into the exposures' own folder.",
        metavar="FOLDER",
    ),
]
_ReplacePlan = Annotated[
    bool, option("--overwrite", panel=OUTPUT, text="Replace plans that are there already.")
]
_Templates = Annotated[
    bool,
    option(
        "--templates",
        panel=PLANNING,
        text="Plan each image by itself, to be run with --template.",
    ),
]
_Cache = Annotated[
    bool,
    option("--cache/--no-cache", panel=PLANNING, text="Keep headers in the user's cache."),
]
_PlanAsJson = Annotated[
    bool, option("--json", panel=OUTPUT, text="Print the plan as JSON, for scripts.")
]


def plan(
    inputs: _Planned,
    *,
    catalog: AllCatalog = None,
    min_separation: MinSeparation = MIN_SEPARATION,
    background_target: BackgroundTarget = None,
    pairs: Pairs = True,
    templates: _Templates = False,
    cache: _Cache = True,
    output: _PlanFile = None,
    associations: _Associations = None,
    overwrite: _ReplacePlan = False,
    quiet: Quiet = False,
    as_json: _PlanAsJson = False,
) -> None:
    """Plan what is subtracted from what, from the headers of many exposures.

    Exit status: 0 if something is planned, 3 if nothing is, 1 on an error, 2 on bad usage.
    """
    from webbkg.batch import associations as asn
    from webbkg.batch import planfile, planner, table

    display = Display(hidden=quiet or as_json)
    with told_errors():
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
