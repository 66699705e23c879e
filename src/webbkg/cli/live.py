"""What ``webbkg run`` shows: a live table while a programme runs, and what came of it at the end."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from webbkg import record
from webbkg.batch import outcomes
from webbkg.batch.engines import ClusterLostError
from webbkg.batch.groups import Plan
from webbkg.batch.runner import Manner, Progress, Run
from webbkg.batch.work import Fate, Order, Result
from webbkg.cli.status import Exit
from webbkg.cli.terminal import say
from webbkg.errors import OutputError, WebbkgError
from webbkg.options import as_options

LINE_EVERY = 60.0
"""How often a line tells how far a run has come, where there is no terminal (seconds)."""

MOST_NAMED = 12
"""Targets that are named for one reason at the end; the tables name them all."""

INTERRUPTED = 130
"""Exit status of what was interrupted, as shells have it: 128 + SIGINT."""


class Live:
    """Shows how far a run has come: a table on a terminal, else a line now and then."""

    def __init__(self, *, hidden: bool = False) -> None:
        self._hidden = hidden
        self._shown: Any = None
        self._told_dashboard = False
        self._next_line = time.monotonic() + LINE_EVERY

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it inside."""
        if self._hidden or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live as Shown

        with Shown(console=Console(stderr=True), transient=True, auto_refresh=False) as self._shown:
            yield
        self._shown = None

    def __call__(self, progress: Progress) -> None:
        """Take news."""
        if self._hidden:
            return
        if progress.dashboard and not self._told_dashboard:
            self._told_dashboard = True
            say(f"dashboard: {progress.dashboard}", err=True)
        if self._shown is not None:
            self._shown.update(_table(progress), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            told = ", ".join(f"{name} {value}" for name, value in _told(progress))
            say(told, err=True)


def _told(progress: Progress) -> Iterator[tuple[str, str]]:
    """Tell how far a run has come, in pairs of a name and a value."""
    yield "done", f"{progress.done} of {progress.total}"
    if progress.kept:
        yield "there already", str(progress.kept)
    yield "running", str(progress.running)
    yield "failed", str(progress.failed)
    rate = 60 * progress.rate
    yield "rate", f"{rate:.0f} a minute" if rate >= 100 else f"{rate:.3g} a minute"
    remaining = progress.remaining
    yield "remaining", "unknown" if remaining is None else duration(remaining)
    yield "workers", str(progress.workers)


def _table(progress: Progress) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in _told(progress):
        table.add_row(name, value)
    ended = progress.done + progress.kept + progress.failed
    table.add_row("", ProgressBar(total=max(progress.total, 1), completed=ended, width=40))
    return table


def duration(seconds: float) -> str:
    """Write a time as a person does.

    Examples
    --------
    >>> [duration(s) for s in (4.2, 75, 7300)]
    ['4 s', '1 min 15 s', '2 h 01 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a request to end, as a batch system sends it, be what an interrupt is."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def run_plan(
    plan: Plan, order: Order, manner: Manner, *, quiet: bool = False, as_json: bool = False
) -> tuple[list[Result], bool]:
    """Run a programme with something to look at; write its tables, and tell what came of it.

    Returns
    -------
    list of Result
        What became of the targets, as far as it went.
    bool
        Whether it was interrupted.

    Raises
    ------
    ClusterLostError, OutputError
        If a scheduler is gone or the tables cannot be written: after all else is told.
    """
    gc.freeze()
    gc.enable()  # the command's process, which is meant to be short, does without: this one is not
    live, interrupted = Live(hidden=quiet or as_json), False
    broken: WebbkgError | None = None
    begun = time.monotonic()
    run = Run(plan, order, manner, live)
    try:
        with _ended_by_signals(), live.shown():
            run.go()
    except KeyboardInterrupt:
        interrupted = True
    except ClusterLostError as lost:
        broken = lost
    results = run.in_order()
    written, fault = _write_tables(results, Path(order.output_dir), manner.shard)
    if as_json:
        say(json.dumps([_for_scripts(one) for one in outcomes.as_lines(results)]))
    else:
        _print_end(results, written, run.total - len(results), begun, quiet=quiet)
    error = broken or fault
    if error is not None:
        raise error
    return results, interrupted


def _write_tables(
    results: Sequence[Result], folder: Path, shard: tuple[int, int]
) -> tuple[list[Path], OutputError | None]:
    """Write the tables; an error is given back, to be told after what became of the targets."""
    written: list[Path] = []
    try:
        written += outcomes.write_results(results, folder, shard)
        index = outcomes.write_index(results, folder, shard)
    except OutputError as error:
        return written, error
    return [*written, *([index] if index else [])], None


def _for_scripts(line: dict[str, Any]) -> dict[str, Any]:
    """Call the parameters in what is told by the names of the command, as `webbkg subtract` does."""
    told: dict[str, Any] = {"warnings": [as_options(one) for one in line.get("warnings", ())]}
    if "reason" in line:
        told["reason"] = as_options(line["reason"])
    return line | told


def _print_end(
    results: Sequence[Result], written: Sequence[Path], left: int, begun: float, *, quiet: bool
) -> None:
    """Count the targets by what became of them; repeat at the end what is not as it was meant."""
    if not quiet:
        seconds = time.monotonic() - begun
        say(f"{record.totals(Counter(map(_status, results)))}; {duration(seconds)}")
        verdicts = Counter(filter(None, map(_verdict, results)))
        if verdicts:
            say("verdicts: " + ", ".join(f"{count} {name}" for name, count in verdicts.items()))
        for path in written:
            say(f"  {path}")
    for line in _complaints(results, quiet=quiet):
        say(line, err=True)
    if left:
        say(f"{left} targets are left; the same command takes them up", err=True)


def _complaints(results: Sequence[Result], *, quiet: bool) -> Iterator[str]:
    """Name the targets that are bad by their metrics, and those that went wrong, each with why.

    Of many that are bad, or have one and the same reason, the first are named, the others counted.
    """
    bad = [one for one in results if _verdict(one) == "bad" and not quiet]
    for one in bad[:MOST_NAMED]:
        yield f"  {one.target}: bad: {one.told['metrics']['reasons'][0]}"
    if len(bad) > MOST_NAMED:
        yield f"  … and {len(bad) - MOST_NAMED} more: bad: the tables tell why (remarks)"
    alike: dict[tuple[str, str], list[Result]] = {}
    for one in filter(_is_amiss, results):
        reason = as_options(str(one.told.get("reason", "")))
        alike.setdefault((_status(one), reason), []).append(one)
    for (status, reason), those in alike.items():
        for one in those[:MOST_NAMED]:
            yield f"  {one.target}: {status}: {reason}"
        if len(those) > MOST_NAMED:
            yield f"  … and {len(those) - MOST_NAMED} more: {status}: {reason}"


def _is_amiss(one: Result) -> bool:
    """Tell whether a target is not what was meant; one that was subtracted before is not."""
    return one.fate is not Fate.ELSEWHERE and exit_status(one) is not Exit.COMPLETE


def exit_status(one: Result) -> Exit:
    """Tell what a target contributes to the exit status of the command."""
    if one.told.get("already_done"):
        return Exit.SKIPPED
    return Exit.__members__.get(one.status, Exit.ERROR)


def _verdict(one: Result) -> str:
    return str((one.told.get("metrics") or {}).get("verdict", ""))


def _status(one: Result) -> str:
    if one.told.get("already_done"):
        return "done before"
    return str(one.fate) if one.fate is Fate.KEPT and one.status == "COMPLETE" else one.status
