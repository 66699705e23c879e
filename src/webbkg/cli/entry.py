"""The command ``webbkg``: how it begins, and its commands."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from webbkg import __version__
from webbkg.cli import demo, plan, report, run, subtract, template
from webbkg.cli.names import repeat_background_flag
from webbkg.cli.terminal import GroupHelpInPanels, HelpInPanels
from webbkg.startup import own_process

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


_IN_PANELS: dict[str, Any] = {"cls": HelpInPanels}
_TAKING: dict[str, Any] = {**_IN_PANELS, "no_args_is_help": True}

# In the order of the help.
app.command(epilog=subtract.EXAMPLES, **_TAKING)(subtract.subtract)
app.command(epilog=report.EXAMPLES, **_TAKING)(report.report)
app.command(**_IN_PANELS)(demo.demo)
app.command(name="make-template", **_IN_PANELS)(template.make_template_command)
app.command(epilog=plan.EXAMPLES, **_TAKING)(plan.plan)
app.command(epilog=run.EXAMPLES, **_TAKING)(run.run)
