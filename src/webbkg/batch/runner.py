"""A programme from its plan to its products: what is to be done, handed to an engine, looked after.

What a run knows is in the ledger of its output folder; this process may be killed at any moment,
and the next run takes up what it left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webbkg.batch.engines import Engine, make_engine, share_cores
from webbkg.batch.groups import AVERAGED, Group, Kind, Member, Plan
from webbkg.batch.identity import Identities
from webbkg.batch.ledger import LEASE, Ledger, State
from webbkg.batch.orders import make_order
from webbkg.batch.work import (
    Fate,
    Order,
    Report,
    Result,
    entry_of,
    kept,
    product_of,
    run_group,
    units,
)
from webbkg.errors import OptionError, OutputError, WebbkgError
from webbkg.files.naming import product_path
from webbkg.files.output import remove_left_behind

if TYPE_CHECKING:
    from astropy.table import Table

FEWEST_TARGETS, MOST_TARGETS = 8, 32
"""Targets of one task, where a group of so many is divided: each part combines its backgrounds
anew, which is little beside eight targets."""

TICK = 0.5
"""How often is looked how far the work has come (seconds)."""

RETRY_AFTER = 2.0
"""After what time a target is asked for again that another run is at (seconds)."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come.

    Attributes
    ----------
    total, done, kept, failed, running : int
        Targets: of this run; done by it; done before; failed; under way now.
    seconds : float
        Since it began.
    workers : int
        Tasks at a time.
    dashboard : str
        Where the engine's own view of it is; empty if it has none.
    """

    total: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    running: int = 0
    seconds: float = 0.0
    workers: int = 1
    dashboard: str = ""

    @property
    def rate(self) -> float:
        """Targets a second, of those that this run has done."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds that are left at this rate; None where nothing can be said yet."""
        left = self.total - self.done - self.kept - self.failed
        return left / self.rate if self.rate else None


Watch = Callable[[Progress], None]
"""Is told how far a run has come, some times a second."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a programme is run.

    Attributes
    ----------
    engine : str
        One of `webbkg.batch.engines.ENGINES`.
    workers : int or None
        Processes; None for one a core.
    memory_limit : str or None
        Of each, with Dask.
    scheduler : str or None
        Address of a Dask scheduler that is there.
    client : distributed.Client or None
        Of a Dask cluster that is there.
    shard : (int, int)
        Which part of how many: (1, 1) is everything.
    fail_fast : bool
        End at the first target that fails.
    lease : float
        See `webbkg.batch.work.Order`.
    """

    engine: str = "auto"
    workers: int | None = None
    memory_limit: str | None = None
    scheduler: str | None = None
    client: Any = None
    shard: tuple[int, int] = (1, 1)
    fail_fast: bool = False
    lease: float = LEASE

    def __post_init__(self) -> None:
        part, parts = self.shard
        if not isinstance(part * parts, int) or not 1 <= part <= parts:
            raise OptionError(f"shard must be i/n, with i from 1 to n (got {part}/{parts})")
        own = {"workers": self.workers, "memory_limit": self.memory_limit}
        given = [f"{name} = {value}" for name, value in own.items() if value is not None]
        if given and self.has_cluster:
            raise OptionError(
                "workers and memory_limit must not be given with a scheduler or a client, whose "
                f"cluster has its own (got {', '.join(given)}); set them where it is begun"
            )

    @property
    def has_cluster(self) -> bool:
        """Whether a cluster does it that is there already."""
        return bool(self.scheduler) or self.client is not None


def as_shard(text: str) -> tuple[int, int]:
    """Read which part of how many is meant.

    Raises
    ------
    OptionError
        If that is not what it says.

    Examples
    --------
    >>> as_shard("3/8")
    (3, 8)
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise OptionError(f"shard must be i/n, such as 3/8 (got {text!r})")
    return int(part), int(parts)


def run(
    plan: Plan,
    output_dir: str | os.PathLike[str] = "",
    *,
    suffix: str | None = None,
    overwrite: bool = False,
    watch: Watch | None = None,
    engine: str = "auto",
    workers: int | None = None,
    memory_limit: str | None = None,
    scheduler: str | None = None,
    client: Any = None,
    shard: tuple[int, int] | str = (1, 1),
    fail_fast: bool = False,
    robust: bool = False,
    **parameters: Any,
) -> Table:
    """Run a programme, or what is left of it.

    Parameters
    ----------
    plan : Plan
        What is subtracted from what.
    output_dir : path
        Folder of the products and of the ledger; made if need be.
    suffix : str, optional
        Of the products, in place of ``backgroundstep``.
    overwrite : bool
        Overwrite files that are no products of webbkg's, too; inputs never.
    watch : callable, optional
        Is told how far the run has come.
    engine : str
        ``auto``: Dask where it is installed. ``dask``, ``processes``, or ``none``: this process.
        With processes the script that calls this needs its ``if __name__ == "__main__":``.
    workers : int, optional
        Processes, at most one a core; the threads of each are what is left of the cores.
    memory_limit : str, optional
        Of a worker, with Dask: one that has more is ended, and what it was at fails.
    scheduler, client : str, distributed.Client, optional
        A Dask cluster that is there, by its address or by its client.
    shard : (int, int), or str
        Which part of how many is to be run: ``(3, 8)`` or ``"3/8"``.
    fail_fast : bool
        End at the first target that fails.
    robust : bool
        The same as ``preset="robust"``.
    **parameters
        Of the step, by their names, and `override_bkg` and `override_wavelengthrange`; files by
        their names.

    Returns
    -------
    astropy.table.Table
        A row for each target: see `webbkg.batch.outcomes.as_table`.

    Raises
    ------
    OptionError
        If there is no such parameter, or its value lies outside its range.
    OutputError
        If products would overwrite each other or an input, or the ledger cannot be used; nothing
        is written then.
    """
    from webbkg.batch.outcomes import as_table

    manner = Manner(
        engine=engine,
        workers=workers,
        memory_limit=memory_limit,
        scheduler=scheduler,
        client=client,
        shard=as_shard(shard) if isinstance(shard, str) else shard,
        fail_fast=fail_fast,
    )
    if robust:
        parameters["preset"] = "robust"
    order = make_order(plan, output_dir, parameters, suffix=suffix, overwritten=overwrite)
    return as_table(Run(plan, order, manner, watch).go())


@dataclass(eq=False)
class Run:
    """A run of a programme, or of a part of it.

    Parameters
    ----------
    plan : Plan
        What is subtracted from what.
    order : Order
        What is asked of every group.
    manner : Manner
        How it is run.
    watch : callable, optional
        Is told how far it has come.

    Attributes
    ----------
    results : dict of str to Result
        What became of the targets so far, by their names.
    reports : list of Report
        Of the groups that came back.
    total : int
        Targets of this run.
    """

    plan: Plan
    order: Order
    manner: Manner = field(default_factory=Manner)
    watch: Watch | None = None
    results: dict[str, Result] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    total: int = 0

    def go(self) -> list[Result]:
        """Do what is to be done; return what became of each target, in the order of the plan.

        An interrupt, and the first failure if the manner is so, end it: then `results` has what
        was done until then.
        """
        groups = list(_part(self.plan.groups, self.manner.shard))
        _check_templates(self.plan.groups, self.order)
        _check_products(self.plan.groups, self.order)
        folder = Path(self.order.output_dir)
        begun = time.monotonic()
        with Ledger(folder) as ledger:
            ledger.recover()
            remove_left_behind(folder)
            since = time.time()
            left = self._leave_out_done(groups, ledger)
            try:
                if left:
                    self._drive(left, ledger, begun)
            finally:
                self._take_up(left, ledger, since)
        remove_left_behind(folder)
        self._tell(None, begun)
        return self.in_order()

    def in_order(self) -> list[Result]:
        """Give what became of the targets so far, in the order of the plan."""
        targets = [m.target for g in self.plan.groups for m in g.members]
        return [self.results[one] for one in targets if one in self.results]

    def _leave_out_done(self, groups: Sequence[Group], ledger: Ledger) -> list[Group]:
        """Note what was done before; return the groups with what is left of them."""
        self.total = sum(len(group.members) for group in groups)
        if not ledger.counts():
            return list(groups)
        known, left = Identities(), []
        for group in groups:
            members = [one for unit in units(group) for one in self._left_of(unit, ledger, known)]
            left_over = {one.target for one in members}
            done = [one for one in group.members if one.target not in left_over]
            for one in done:
                result = kept(group, one, self.order, ledger, Fate.KEPT)
                self.results[one.target] = result
            if members:
                left.append(replace(group, members=tuple(members)))
        return left

    def _left_of(
        self, unit: tuple[Member, ...], ledger: Ledger, known: Identities
    ) -> tuple[Member, ...]:
        with suppress(WebbkgError):  # it is told when its turn comes
            if ledger.is_done([entry_of(one, self.order, known) for one in unit]):
                return ()
        return unit

    def _take_up(self, groups: Sequence[Group], ledger: Ledger, since: float) -> None:
        """Note what became of targets whose groups have not come back: the ledger knows it."""
        out = [(g, m) for g in groups for m in g.members if m.target not in self.results]
        if out:
            ledger.recover()
        fates = {State.DONE: Fate.DONE, State.FAILED: Fate.FAILED}
        for group, member in out:
            state = ledger.state(product_of(member, self.order).name, since)
            if state in fates:
                result = kept(group, member, self.order, ledger, fates[state])
                if (result.status == "ERROR") == (state is State.FAILED):  # or its files were lost
                    self.results[member.target] = result

    # Driving the engine.

    def _drive(self, groups: Sequence[Group], ledger: Ledger, begun: float) -> None:
        """Hand groups to the engine until all are done, or one failed that must not."""
        manner = self.manner
        workers, threads = share_cores(manner.workers)
        if manner.has_cluster:
            threads = 1  # a cluster's worker has its share of a machine, and a task is one thread
        order = replace(self.order, threads=threads, lease=manner.lease)
        made = make_engine(
            manner.engine,
            workers,
            memory_limit=manner.memory_limit,
            scheduler=manner.scheduler,
            client=manner.client,
        )
        with made as engine, suppress(_FailedFastError):
            queue = _Queue(engine, order, LEAST_PLACES if manner.has_cluster else 1)
            size = min(max(-(-self.total // queue.places), FEWEST_TARGETS), MOST_TARGETS)
            size = self.total if queue.places == 1 else size
            parts = [part for one in groups for part in _divided(one, size)]
            queue.put(parts[::-1], [])  # the last one is the next
            while queue:
                for group, came_to in queue.turn(TICK):
                    queue.put(*self._take(group, came_to))
                self._tell(engine, begun, ledger, queue.under_way)

    def _take(self, group: Group, came_to: Any) -> tuple[list[Group], list[Group]]:
        """Note what became of a group; tell what is to be run again, at once and later."""
        again, later = [], []
        if isinstance(came_to, Report):
            self.reports.append(came_to)
            results = [one for one in came_to.results if one.fate is not Fate.ELSEWHERE]
            busy = {one.target for one in came_to.results if one.fate is Fate.ELSEWHERE}
            members = tuple(one for one in group.members if one.target in busy)
            later = [replace(group, members=members)] if members else []
        elif len(units(group)) > 1:  # one of its targets is at fault: which one?
            again, results = [replace(group, members=unit) for unit in units(group)], []
        else:
            results = [_failed(group, one, came_to) for one in group.members]
        self.results |= {one.target: one for one in results}
        if self.manner.fail_fast and any(one.fate is Fate.FAILED for one in results):
            raise _FailedFastError
        return again, later

    def _tell(
        self,
        engine: Engine | None,
        begun: float,
        ledger: Ledger | None = None,
        under_way: Sequence[Group] = (),
    ) -> None:
        if self.watch is None:
            return
        fates = [one.fate for one in self.results.values()]
        names = [product_of(m, self.order).name for g in under_way for m in g.members]
        since = time.time() - (time.monotonic() - begun)
        live = ledger.states(names, since) if ledger is not None else {}
        self.watch(
            Progress(
                total=self.total,
                done=fates.count(Fate.DONE) + live.get("done", 0),
                kept=fates.count(Fate.KEPT),
                failed=fates.count(Fate.FAILED) + live.get("failed", 0),
                running=live.get("claimed", 0) + live.get("sealed", 0),
                seconds=time.monotonic() - begun,
                workers=engine.workers if engine else 1,
                dashboard=engine.dashboard if engine else "",
            )
        )


DEPTH = 4
"""Tasks for each worker that the engine has at a time: none waits for the next."""

LEAST_PLACES = 16
"""Workers of a cluster that there is work for, however few it has: it may grow by what waits."""


class _FailedFastError(Exception):
    """A target has failed, and that was to be the end."""


class _Queue:
    """The groups that are to be run: before, in, and after the engine."""

    def __init__(self, engine: Engine, order: Order, least_places: int) -> None:
        self._engine, self._order, self._least_places = engine, order, least_places
        self._waiting: list[Group] = []
        self._running: dict[int, Group] = {}
        self._later: list[tuple[float, Group]] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running or self._later)

    @property
    def places(self) -> int:
        """Workers that there is to be work for."""
        return max(self._engine.workers, self._least_places)

    @property
    def under_way(self) -> list[Group]:
        """What the engine has."""
        return list(self._running.values())

    def put(self, groups: Sequence[Group], later: Sequence[Group]) -> None:
        """Take groups that are to be run next, and those that are to be run after a while."""
        self._waiting += groups
        self._later += [(time.monotonic() + RETRY_AFTER, group) for group in later]

    def turn(self, seconds: float) -> Iterator[tuple[Group, Any]]:
        """Give the engine what there is for it, and return what it has done."""
        now = time.monotonic()
        self._waiting += [group for due, group in self._later if due <= now]
        self._later = [one for one in self._later if one[0] > now]
        while self._waiting and len(self._running) < DEPTH * self.places:
            self._number += 1
            group = self._running[self._number] = self._waiting.pop()
            self._engine.submit(self._number, run_group, group, self._order)
        if not self._running:
            time.sleep(seconds)
        for key, came_to in self._engine.wait(seconds):
            assert isinstance(key, int)
            yield self._running.pop(key), came_to


def _failed(group: Group, member: Member, error: Any) -> Result:
    """Tell of a target whose group did not come back."""
    reason = str(error) if isinstance(error, WebbkgError) else f"{type(error).__name__}: {error}"
    told = {"target": member.target, "status": "ERROR", "reason": reason}
    return Result(
        target=member.target,
        group=group.name,
        kind=group.kind,
        fate=Fate.FAILED,
        told={**told, "output": None, "warnings": []},
        backgrounds=len(member.backgrounds),
    )


def _divided(group: Group, most: int) -> Iterator[Group]:
    """Divide a group whose targets need each other not at all, into parts of about one size."""
    number = len(group.members)
    if group.kind is not Kind.DEDICATED or number <= most:
        yield group
        return
    parts = -(-number // most)
    for i in range(parts):
        start, stop = number * i // parts, number * (i + 1) // parts
        yield replace(group, members=group.members[start:stop])


def _part(groups: Sequence[Group], shard: tuple[int, int]) -> list[Group]:
    """Give one of so many parts of a plan: the same for the same plan."""
    part, parts = shard
    if parts == 1:
        return list(groups)
    pieces = [piece for group in groups for piece in _divided(group, MOST_TARGETS)]
    return pieces[part - 1 :: parts]


def _check_templates(groups: Sequence[Group], order: Order) -> None:
    """Refuse templates with a plan that is made for backgrounds, and the reverse."""
    given = order.parameters.get("template")
    for group in groups:
        if given and group.kind in AVERAGED:
            raise OptionError(
                f"template must not be given with a plan of background exposures (got {given}, and "
                f"{group.name}, whose kind is {group.kind}); plan with templates=True "
                "(`webbkg plan --templates`)"
            )
        if not given and group.kind is Kind.TEMPLATE:
            raise OptionError(
                f"template must be given: {group.name} is planned for one (its kind is {group.kind})"
            )


def _check_products(groups: Sequence[Group], order: Order) -> None:
    """Refuse products that would overwrite each other or an input, before any work is done."""
    folder, output = Path(os.path.realpath(order.folder)), Path(os.path.realpath(order.output_dir))
    members = [member for group in groups for member in group.members]
    inputs = {os.path.normpath(folder / n) for m in members for n in (m.target, *m.backgrounds)}
    made: dict[str, str] = {}
    for member in members:
        product = product_path(Path(member.target).name, order.suffix).name
        other = made.setdefault(product, member.target)
        if other != member.target:
            raise OutputError(
                f"{product}: would be the product of both {other} and {member.target}; run them "
                "apart, with another output_dir or suffix for one of them"
            )
        if os.path.normpath(output / product) in inputs:
            raise OutputError(
                f"{output / product}: would overwrite an input of this run; choose another suffix "
                "or output_dir"
            )
