"""The command ``webbkg``: it parses, shows progress and prints a summary; no science here."""

from __future__ import annotations

import contextlib
import glob
import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from webbkg import __version__, record
from webbkg.errors import OptionError, WebbkgError
from webbkg.numerics.parallel import use_threads
from webbkg.options import Parameter, parameters
from webbkg.startup import own_process

if TYPE_CHECKING:
    from webbkg.run import Item


class Exit(IntEnum):
    """What the command's exit status means."""

    COMPLETE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    FAILED = 4


NOT_KEPT = (
    "compiling, as every run must: the machine code can be kept nowhere; set NUMBA_CACHE_DIR to a "
    "folder that can be written, and the first run alone compiles"
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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


_Target = Annotated[
    list[str],
    typer.Argument(help="Exposures to subtract from, or an association (.json); globs too."),
]
_Background = Annotated[
    list[str] | None,
    typer.Option("--background", "-b", metavar="FILE...", help="Background exposures; globs too."),
]
_OutputDir = Annotated[
    str | None, typer.Option("--output-dir", "-o", help="Folder of the products.")
]
_OutputFile = Annotated[str | None, typer.Option(help="Name of the product, for one target.")]
_Suffix = Annotated[str | None, typer.Option(help="Suffix of the product.")]
_OverrideBkg = Annotated[str | None, typer.Option(help="Template file, instead of CRDS's choice.")]
_OverrideWavelengthrange = Annotated[
    str | None, typer.Option(help="WAVELENGTHRANGE file, instead of CRDS's choice.")
]
_Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads to use; by default the cores that the process may use."),
]
_Robust = Annotated[bool, typer.Option("--robust", help="The same as --preset robust.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, for scripts.")]

_TYPES = {"float": float, "integer": int, "boolean": bool, "string": str}
_TYPES["force_list"] = str  # with commas between
_PAIR = tuple[float, float]


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
    added = [_as_option(one) for one in parameters().values() if one.name != "bkg_list"]
    function.__signature__ = own.replace(parameters=[*taken, *added])  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in [*taken, *added]}
    return function


def _as_option(one: Parameter) -> inspect.Parameter:
    kind = str if one.choices else _TYPES.get(one.kind, _PAIR)
    default = " ".join(map(str, one.stands_for)) if kind is _PAIR else one.stands_for
    shown = False if default in (None, False) else str(default)
    dashed = one.name.replace("_", "-")
    # What a preset switches on can be switched off again.
    flag = f"--{dashed}/--no-{dashed}" if kind is bool and one.presets else f"--{dashed}"
    metavar = "|".join(one.choices) or None
    option = typer.Option(flag, help=f"{one.text}.", show_default=shown, metavar=metavar)
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


@app.command(no_args_is_help=True)
@with_parameters
def subtract(
    target: _Target,
    *,
    background: _Background = None,
    output_dir: _OutputDir = None,
    output_file: _OutputFile = None,
    suffix: _Suffix = None,
    override_bkg: _OverrideBkg = None,
    override_wavelengthrange: _OverrideWavelengthrange = None,
    threads: _Threads = None,
    robust: _Robust = False,
    quiet: _Quiet = False,
    as_json: _AsJson = False,
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
    done = []
    with _granted(threads), _told_errors(), _told_compiling(quiet or as_json):
        for item in command.subtract(
            targets,
            expand_globs(background or []),
            {name: value for name, value in given.items() if value is not None},
            progress=lambda label: _progress(label, quiet or as_json),
            measure_medians=not quiet,
        ):
            done.append(item)
            if not as_json:
                _print(item, quiet)
    if as_json:
        typer.echo(json.dumps([_as_json(item) for item in done], indent=2))
    raise typer.Exit(_worst(_exit_status(item) for item in done))


@contextmanager
def _told_errors() -> Iterator[None]:
    """Print an error that ends the command, and leave with its status."""
    try:
        yield
    except WebbkgError as error:
        _say(f"error: {error}", err=True)
        raise typer.Exit(Exit.USAGE if isinstance(error, OptionError) else Exit.ERROR) from error


@contextmanager
def _told_compiling(hidden: bool = False) -> Iterator[None]:
    """Say once, on standard error, that kernels are compiled; and what helps where none is kept."""
    from webbkg.numerics.compiled import told_of_compiling

    told = hidden

    def tell(kept: bool) -> None:
        nonlocal told
        if not told:
            _say("compiling (first run only)" if kept else NOT_KEPT, err=True)
        told = True

    with told_of_compiling(tell):
        yield


def _granted(threads: int | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if threads is None else use_threads(threads)


def _as_json(item: Item) -> dict[str, Any]:
    return record.as_json(
        item.outcome,
        item.label,
        product=item.product,
        warnings=item.warnings,
        error=item.error,
    )


def _exit_status(item: Item) -> Exit:
    if item.error is not None or item.outcome is None:
        return Exit.USAGE if isinstance(item.error, OptionError) else Exit.ERROR
    return Exit.SKIPPED if item.outcome.already_done else Exit[str(item.outcome.status)]


def _say(text: str, *, err: bool = False) -> None:
    """Print a line, in which nothing from a file can steer the terminal."""
    typer.echo("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), err=err)


def _print(item: Item, quiet: bool) -> None:
    if item.error is not None or item.outcome is None:
        _say(f"error: {item.error}", err=True)
        return
    if quiet:
        return
    for warning in item.warnings:
        _say(f"warning: {warning}", err=True)
    _say(f"{item.label}: {item.outcome.status}")
    for label, value in record.lines(item.outcome, item.product):
        _say(f"  {label:<22}{value}")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where to write the exposures and products.")
    ] = Path("webbkg-demo"),
    size: Annotated[int, typer.Option(help="Rows and columns of the largest exposure.")] = 2048,
) -> None:
    """Simulate exposures, subtract their backgrounds, and compare with the truth."""
    from webbkg.simulate.demo import run_demo, run_template_demos

    logging.getLogger("webbkg").setLevel(logging.ERROR)
    logging.getLogger("stpipe").setLevel(logging.ERROR)
    with _told_errors(), _told_compiling():
        results = run_demo(folder, size=size, tell=typer.echo)
        results += run_template_demos(folder, tell=typer.echo)
    for result in results:
        typer.echo(f"\n{result.name}: {result.status} {result.reason}".rstrip())
        for label, value in result.lines():
            typer.echo(f"  {label:<38}{value}")
    raise typer.Exit(_worst(Exit[result.status] for result in results))


@app.command(name="make-template")
def make_template_command(
    image: Annotated[Path, typer.Argument(help="Sky image: FITS (zipped too) or .npy.")],
    like: Annotated[Path, typer.Option(help="A target of the exposures that it is for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.fits).")],
) -> None:
    """Wrap a bare sky image into a reference file, for --override-bkg."""
    from webbkg.files.templates import make_template

    with _told_errors():
        made = make_template(image, like, output)
    _say(f"{made}: template of {image.name}, for exposures like {like.name}")


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


@contextmanager
def _progress(label: str, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error while it is a terminal."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(Path(label).name), total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


if __name__ == "__main__":
    main()
