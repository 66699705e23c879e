"""``webbkg report``: pages of products that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from webbkg.cli.names import expand_globs
from webbkg.cli.options import INPUTS, OUTPUT, Quiet
from webbkg.cli.status import Exit, told_errors
from webbkg.cli.terminal import say

if TYPE_CHECKING:
    from webbkg.report.afterwards import Report

EXAMPLES = """\
webbkg report exp_001_backgroundstep.fits
webbkg report "products/*_backgroundstep.fits" --input exposures"""


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
    quiet: Quiet = False,
) -> None:
    """Write a page with pictures and numbers for each product, from it and its inputs.

    Exit status: 0 if every product has its page, 1 if one has none.
    """
    from webbkg.report import afterwards

    done = []
    with told_errors():
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
