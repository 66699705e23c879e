"""What the command shows on a terminal: its help in panels, its progress, its lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

COMPILING = "compiling (first run only)"
NOT_KEPT = (
    "compiling, as every run must: the machine code can be kept nowhere; set NUMBA_CACHE_DIR to a "
    "folder that can be written, and the first run alone compiles"
)

WIDEST_NAME = 32
"""Columns for an option with what it takes; what it takes goes to the next line beyond that."""


def say(text: str, *, err: bool = False) -> None:
    """Print a line, in which nothing from a file can steer the terminal."""
    typer.echo("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), err=err)


class HelpInPanels(TyperCommand):
    """A command whose help has a panel for each group of options, and cuts no name at 80 columns.

    The options of a group are those of one ``rich_help_panel``; examples are the epilogue.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, as wide as the terminal is."""
        _show_help(self, ctx)


class GroupHelpInPanels(TyperGroup):
    """The like for the command that has others."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with the commands."""
        _show_help(self, ctx)


def _show_help(command: Any, ctx: Any) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.text import Text

    console = Console()

    def show(content: RenderableType, title: str = "") -> None:
        if title:
            content = Panel(content, title=title, title_align="left", border_style="dim")
        console.print(content if title else Padding(content, (1, 1, 0, 1)))

    others = [ctx.command.get_command(ctx, name) for name in _commands(command, ctx)]
    arguments = [one.metavar or "" for one in _of_kind(command, ctx, "argument")]
    taken = " ".join([*arguments, *(["COMMAND ..."] if others else [])])
    show(Text(f"Usage: {ctx.command_path} [OPTIONS] {taken}".rstrip(), "bold"))
    show(Text("\n\n".join(_paragraphs(command.help or ""))))
    console.print()
    if others:
        told = [(one.name, _paragraphs(one.help or "")[0], None) for one in others]
        show(_table(told), "Commands")
    for title, members in _panels(command, ctx).items():
        show(_table([_row(one) for one in members]), title)
    if command.epilog:
        show(Text(command.epilog, no_wrap=True, overflow="fold"), "Examples")


def _commands(command: Any, ctx: Any) -> list[str]:
    return list(command.list_commands(ctx)) if hasattr(command, "list_commands") else []


def _of_kind(command: Any, ctx: Any, kind: str) -> list[Any]:
    return [one for one in command.get_params(ctx) if one.param_type_name == kind]


def _panels(command: Any, ctx: Any) -> dict[str, list[Any]]:
    """Sort arguments and options into their panels; those without one come last."""
    found: dict[str, list[Any]] = {}
    for one in (*_of_kind(command, ctx, "argument"), *_of_kind(command, ctx, "option")):
        usual = "Arguments" if one.param_type_name == "argument" else "Options"
        panel = getattr(one, "rich_help_panel", None) or usual
        found.setdefault(panel, []).append(one)
    last = found.pop("Options", None)
    return found if last is None else {**found, "Options": last}


def _paragraphs(text: str) -> list[str]:
    return [" ".join(one.split()) for one in text.strip().split("\n\n")]


Row = tuple[str, str, str | None]
"""What it is called, in lines; what it does; its default, if that is to be told."""


def _table(rows: Sequence[Row]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for names, does, default in rows:
        text = Text(does)
        if default is not None:
            text.append(f" [default: {default}]", "dim")
        table.add_row(Text(names, "bold cyan"), text)
    return table


def _row(one: Any) -> Row:
    default = getattr(one, "show_default", None)
    told = default if isinstance(default, str) else None
    return "\n".join(_names(one)), getattr(one, "help", None) or "", told


def _names(one: Any) -> list[str]:
    """Write the names of an option and what it takes, in lines that fit."""
    taken = "" if getattr(one, "is_flag", False) else one.metavar or ""
    if one.param_type_name == "argument":
        return [taken]
    names = ", ".join(sorted(one.opts, key=len, reverse=True))
    if taken and len(f"{names} {taken}") > WIDEST_NAME:
        return [names, f"  {taken}"]
    return [f"{names} {taken}".rstrip(), *one.secondary_opts]


class Display:
    """The progress of a run, on standard error: a bar where that is a terminal.

    Parameters
    ----------
    hidden : bool
        Show nothing.
    """

    def __init__(self, *, hidden: bool = False) -> None:
        self.hidden = hidden
        self._bar: Bar | None = None
        self._told = False

    @contextmanager
    def bar(self, label: str, number: int = 1, total: int = 1) -> Iterator[Bar | None]:
        """Show a bar for a target, the `number`-th of a `total`."""
        if self.hidden or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import Progress

        counted = f"{number} of {total}: " if total > 1 else ""
        with Progress(console=Console(stderr=True), transient=True) as shown:
            self._bar = Bar(shown, f"{counted}{Path(label).name}")
            try:
                yield self._bar
            finally:
                self._bar = None

    def compiling(self, kept: bool) -> None:
        """Say that a kernel is compiled, once where there is no bar; and what helps, if not kept."""
        bar = self._bar
        if bar is not None:
            bar.phase(COMPILING if kept else "compiling")
        if not (self.hidden or self._told or (bar and kept)):
            say(COMPILING if kept else NOT_KEPT, err=True)
            self._told = True


class Bar:
    """A bar that tells what a run is at, and how far it has come."""

    def __init__(self, shown: Progress, label: str) -> None:
        self._shown, self._label, self._phase = shown, label, ""
        self._task = shown.add_task("", total=None)

    def phase(self, name: str) -> None:
        """Tell what is done now; how far that has come is not known yet."""
        self._show(name, total=None)

    def __call__(self, done: int, total: int) -> None:
        """Tell how far the averaging has come."""
        self.count("averaging", done, total)

    def count(self, phase: str, done: int, total: int) -> None:
        """Tell how far something has come."""
        self._show(phase, completed=done, total=total)

    def _show(self, phase: str, **changes: Any) -> None:
        from rich.markup import escape

        news = phase != self._phase
        self._phase = phase
        label = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in self._label)
        described = escape(f"{label}: {phase}")
        self._shown.update(self._task, description=described, refresh=news, **changes)
