"""The names of files that a command is given: globs, commas, a flag that takes several."""

from __future__ import annotations

import glob
from pathlib import Path

import typer


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
