"""How a command ends: its exit status, and errors that end it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from webbkg.cli.terminal import Display, say
from webbkg.errors import OptionError, WebbkgError
from webbkg.options import as_options


class Exit(IntEnum):
    """What the command's exit status means."""

    COMPLETE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    FAILED = 4


def worst(statuses: Iterator[Exit]) -> int:
    """Tell the exit status of a command that came to all of these."""
    order = [Exit.COMPLETE, Exit.SKIPPED, Exit.FAILED, Exit.ERROR, Exit.USAGE]
    return int(max(statuses, key=order.index, default=Exit.COMPLETE))


@contextmanager
def told_errors() -> Iterator[None]:
    """Print an error that ends the command, and leave with its status."""
    try:
        yield
    except WebbkgError as error:
        say(f"error: {as_options(str(error))}", err=True)
        raise typer.Exit(Exit.USAGE if isinstance(error, OptionError) else Exit.ERROR) from error


def told_compiling(display: Display) -> contextlib.AbstractContextManager[None]:
    """Let a display tell that a kernel is compiled."""
    from webbkg.numerics.compiled import told_of_compiling

    return told_of_compiling(display.compiling)
