"""``webbkg demo``: simulated exposures, their backgrounds, and the truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from webbkg.cli.status import Exit, told_compiling, told_errors, worst
from webbkg.cli.terminal import Display, say
from webbkg.errors import MissingExtraError


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
    with told_errors(), told_compiling(Display()):
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
    raise typer.Exit(worst(Exit[result.status] for result in results))
