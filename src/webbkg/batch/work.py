"""The work of a programme, one group at a time: what a worker does, whatever engine drives it.

`run_group` is the whole of it. It keeps nothing between calls, takes and returns plain values that
pickle, and may be called again with the same group at any time, by anybody: what is done already
is told from the ledger, and what somebody else is at is left to him.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from webbkg import command, record, run
from webbkg.batch.groups import Group, Kind, Member
from webbkg.batch.identity import Identities, Inputs, fingerprint
from webbkg.batch.ledger import (
    LEASE,
    Claim,
    ClaimLostError,
    Entry,
    Ledger,
    State,
    owning,
)
from webbkg.errors import InputError, MismatchError, WebbkgError
from webbkg.files import door
from webbkg.files.associations import Job
from webbkg.files.disk import drop_pages
from webbkg.modes import Shared
from webbkg.numerics.parallel import use_threads


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run asks of every group.

    Attributes
    ----------
    folder : str
        Where the names in the plan count from.
    output_dir : str
        Folder of the products and of the ledger, which is there.
    parameters : mapping of str to object
        By the step's names; what is not in it has its default.
    suffix : str or None
        Of the products; None for the step's own.
    overwritten : bool
        A product may take the place of a file that is none of webbkg's.
    threads : int
        That a group may use.
    lease : float
        For how long a worker of which nothing is heard keeps what it has claimed (seconds).
    """

    folder: str
    output_dir: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    suffix: str | None = None
    overwritten: bool = False
    threads: int = 1
    lease: float = LEASE


class Fate(StrEnum):
    """What became of a target in a run."""

    DONE = "done"
    KEPT = "there already"  # done by a run before, and nothing has changed
    FAILED = "failed"
    ELSEWHERE = "elsewhere"  # another run is at it


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one target.

    Attributes
    ----------
    target, group : str
        As in the plan.
    kind : Kind
        Of the group.
    fate : Fate
        Whether it was done.
    told : mapping
        As ``webbkg subtract --json`` tells it.
    backgrounds : int
        How many were given.
    seconds, cpu : float
        That it took, and that of a processor. What a group shares counts for its first target.
    row : mapping
        What the index of reports tells of it, as plain values; empty where it has no report.
    """

    target: str
    group: str
    kind: Kind
    fate: Fate
    told: Mapping[str, Any]
    backgrounds: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """COMPLETE, SKIPPED, FAILED or ERROR; empty where another run is at it."""
        return str(self.told.get("status", ""))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a group.

    Attributes
    ----------
    group : str
        Its name.
    results : tuple of Result
        One for each target.
    seconds, cpu : float
        That it took.
    peak : int
        The most memory that its process has held so far (bytes).
    process : int
        Its number.
    """

    group: str
    results: tuple[Result, ...]
    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    process: int = 0


_alone = threading.Lock()
"""Held by the group that this process is at: its log is the process's."""


def run_group(group: Group, order: Order) -> Report:
    """Take the targets of a group from their files to their products.

    What fails fails for its own target, and is told in its result. A process does one group at a
    time, whatever number of threads ask for it.

    Parameters
    ----------
    group : Group
        What is subtracted from what.
    order : Order
        How, and where to.

    Returns
    -------
    Report
        With a result for each target.

    Raises
    ------
    OutputError
        If the ledger cannot be used.
    """
    results = []
    with (
        _alone,
        owning() as owner,
        use_threads(order.threads),
        Ledger(Path(order.output_dir)) as ledger,
        _sharing(group, order) as shared,
        _staying_alive(owner, order),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            worker = _Worker(group, order, ledger, owner, shared)
            for members in units(group):
                results += worker.do(members)
        finally:
            ledger.release(owner)
    return Report(
        group=group.name,
        results=tuple(results),
        seconds=time.perf_counter() - wall,
        cpu=time.process_time() - cpu,
        peak=peak_memory(),
        process=os.getpid(),
    )


def peak_memory() -> int:
    """Tell the most memory that this process has held (bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def units(group: Group) -> list[tuple[Member, ...]]:
    """Tell which targets of a group are made together: the segments of a SOSS exposure, all."""
    together = group.kind is Kind.SOSS
    return [group.members] if together else [(member,) for member in group.members]


@contextlib.contextmanager
def _sharing(group: Group, order: Order) -> Iterator[Shared]:
    """Make what the targets of a group have in common.

    One pass gives the averages for all dithers; for less than half of them, which are left of a
    run that was ended, they are made one by one.
    """
    exposures = 1 + len(group.members[0].backgrounds)
    if group.kind is not Kind.DITHERS or 2 * len(group.members) < exposures:
        shared = Shared()
    else:
        from webbkg.image.group import Others

        shared = Others(_in_order(group, Path(order.folder)))
    with contextlib.closing(shared):
        yield shared


def _in_order(group: Group, folder: Path) -> list[Path]:
    """List the exposures of a group of dithers in the order in which each has the others."""
    first, *_ = group.members
    for place in range(len(first.backgrounds) + 1):
        names = (*first.backgrounds[:place], first.target, *first.backgrounds[place:])
        if all(_without(names, one.target) == one.backgrounds for one in group.members):
            break
    return [folder / name for name in names]


def _without(names: tuple[str, ...], left_out: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != left_out)


@contextlib.contextmanager
def _staying_alive(owner: str, order: Order) -> Iterator[None]:
    """Put off the time until which an owner's claims hold, again and again."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(order.lease / 4):
            with contextlib.suppress(WebbkgError), Ledger(Path(order.output_dir)) as ledger:
                ledger.renew(owner, order.lease)

    thread = threading.Thread(target=renew, name="webbkg-claims", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def inputs_of(member: Member, order: Order) -> Inputs:
    """List the files that a product is made from: the plan's, and those that parameters name."""
    folder = Path(order.folder)
    named = [("target", member.target), *(("background", one) for one in member.backgrounds)]
    more = {"catalog": member.catalog, "direct image": member.direct_image}
    named += [(role, name) for role, name in more.items() if name]
    if member.segmentation:
        named.append(("segmentation", member.segmentation))
    files = [(role, name, folder / name) for role, name in named]
    needed = ("target", "background")  # what else there is may be missing, and not be needed
    files = [one for one in files if one[0] in needed or door.exists(one[2])]
    beside = (folder / member.target).parent
    for given in run.given_files(order.parameters):
        if isinstance(given, str | os.PathLike):
            found = [path for path in (Path(given), beside / given) if path.is_file()]
            files += [("parameter", str(given), path) for path in found[:1]]
    return Inputs(tuple(files), {**order.parameters, "suffix": order.suffix})


def entry_of(member: Member, order: Order, known: Identities) -> Entry:
    """Tell a product and what it is made from.

    Raises
    ------
    InputError
        If a file is missing, or cannot be read.
    """
    described = inputs_of(member, order).describe(known)
    return Entry(
        product=product_of(member, order).name,
        target=member.target,
        fingerprint=fingerprint(described),
        described=described,
    )


def product_of(member: Member, order: Order) -> Path:
    """Name the product of a target."""
    return command.name_product(_bare_item(member, order), None, _names(order))


def _bare_item(member: Member, order: Order) -> run.Item:
    return run.Item(source=Path(order.folder) / member.target, job=Job(targets=()))


def _names(order: Order) -> dict[str, Any]:
    return {"output_dir": order.output_dir, "suffix": order.suffix}


class _Worker:
    """What the targets of a group go through, in turn."""

    def __init__(
        self, group: Group, order: Order, ledger: Ledger, owner: str, shared: Shared
    ) -> None:
        self._group, self._order = group, order
        self._ledger, self._owner = ledger, owner
        self._identities = Identities()
        self._setting = run.Setting(
            parameters=command.with_absolute_overrides({**order.parameters, **_names(order)}),
            name_product=lambda item, suffix: command.name_product(item, suffix, _names(order)),
            shared=shared,
            product_only=True,
            without_models=True,
        )

    def do(self, members: Sequence[Member]) -> list[Result]:
        """Make the products of targets that are made together, unless they are made."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            entries = [entry_of(member, self._order, self._identities) for member in members]
            claimed = self._ledger.claim(entries, self._owner, self._order.lease)
            if claimed is not Claim.OURS:
                return [self._left(member, claimed) for member in members]
            items = self._make(members)
        except WebbkgError as error:
            items = [self._item(member, error) for member in members]
        first = (time.perf_counter() - wall, time.process_time() - cpu)
        taken = [first, *[(0.0, 0.0)] * (len(members) - 1)]
        results = [
            self._result(member, item, *times)
            for member, item, times in zip(members, items, taken, strict=True)
        ]
        self._note(members, results)
        return results

    def _make(self, members: Sequence[Member]) -> list[run.Item]:
        items = [self._item(member) for member in members]

        def seal(unfinished: Sequence[Path], places: Sequence[Path]) -> None:
            results = [self._result(m, i) for m, i in zip(members, items, strict=True)]
            told = self._by_product(members, results)
            self._ledger.seal(self._owner, told, zip(unfinished, places, strict=True))
            for path in unfinished:
                drop_pages(path)

        setting = replace(self._setting, sealed=seal)
        existing = command.Existing(overwritten=self._order.overwritten)
        run.check_products(items, setting)
        command.check_existing([items], setting, existing)
        command.run_group(items, setting)
        for item in items:
            item.result = None
        return items

    def _item(self, member: Member, error: WebbkgError | None = None) -> run.Item:
        folder = Path(self._order.folder)
        path, *backgrounds = (folder / name for name in (member.target, *member.backgrounds))
        given = (member.catalog, member.segmentation, member.direct_image)
        catalog, segmentation, direct = (name and folder / name for name in given)
        job = Job(
            targets=(path,),
            backgrounds=tuple(backgrounds),
            source_catalog=catalog,
            segmentation_map=segmentation,
            direct_image=direct,
        )
        return run.Item(source=path, job=job, label=member.target, error=error)

    def _left(self, member: Member, claimed: Claim) -> Result:
        """Tell of a target that is made already, or by somebody else."""
        fate = Fate.KEPT if claimed is Claim.DONE else Fate.ELSEWHERE
        return kept(self._group, member, self._order, self._ledger, fate)

    def _result(
        self, member: Member, item: run.Item, seconds: float = 0.0, cpu: float = 0.0
    ) -> Result:
        told = record.as_json(
            item.outcome,
            member.target,
            product=item.product,
            report=item.report,
            warnings=item.warnings,
            error=item.error and _with_way_out(item.error, member),
        )
        fate = Fate.DONE if item.error is None else Fate.FAILED
        return Result(
            target=member.target,
            group=self._group.name,
            kind=self._group.kind,
            fate=Fate.ELSEWHERE if isinstance(item.error, ClaimLostError) else fate,
            told=told,
            backgrounds=len(member.backgrounds),
            seconds=seconds,
            cpu=cpu,
            row=_plain_row(item.row),
        )

    def _by_product(
        self, members: Sequence[Member], results: Sequence[Result]
    ) -> dict[str, dict[str, Any]]:
        """Name what the ledger keeps of results."""
        names = [product_of(member, self._order).name for member in members]
        more = [{"seconds": r.seconds, "cpu": r.cpu, "row": r.row} for r in results]
        told = [dict(r.told) | added for r, added in zip(results, more, strict=True)]
        return dict(zip(names, told, strict=True))

    def _note(self, members: Sequence[Member], results: Sequence[Result]) -> None:
        told = self._by_product(members, results)
        if all(one.fate is Fate.DONE for one in results):
            self._ledger.finish(self._owner, State.DONE, told)
        elif all(one.fate is Fate.FAILED for one in results):
            targets = [member.target for member in members]
            self._ledger.fail(self._owner, dict(zip(told, targets, strict=True)), told)


def _with_way_out(error: WebbkgError, member: Member) -> WebbkgError:
    """Say how a target goes on without a background that cannot be read."""
    at_fault = Path(str(error).partition(": ")[0]).name
    if (
        isinstance(error, InputError)
        and not isinstance(error, MismatchError)
        and at_fault in {Path(one).name for one in member.backgrounds}
    ):
        return InputError(
            f"{error}; or take it out of the backgrounds in the plan, to go on without it"
        )
    return error


def _plain_row(row: Any) -> dict[str, Any]:
    """Turn what an index tells of a target into what JSON can hold."""
    if row is None:
        return {}
    page = None if row.page is None else str(row.page)
    return {**vars(row), "page": page, "picture": b64encode(row.picture).decode()}


def _here(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Name files as they lie in a folder, which may have been moved since."""

    def moved(path: str | None) -> str | None:
        return path and str(folder / Path(path).name)

    files = {name: moved(told[name]) for name in ("output", "report") if name in told}
    row = told.get("row")
    return told | files | ({"row": row | {"page": moved(row["page"])}} if row else {})


def kept(group: Group, member: Member, order: Order, ledger: Ledger, fate: Fate) -> Result:
    """Tell of a target that was made by others, or before, what the ledger knows of it."""
    known = {} if fate is Fate.ELSEWHERE else ledger.result(product_of(member, order).name)
    told = _here(known, Path(order.output_dir))
    return Result(
        target=member.target,
        group=group.name,
        kind=group.kind,
        fate=fate,
        seconds=float(told.pop("seconds", 0.0)),
        cpu=float(told.pop("cpu", 0.0)),
        row=told.pop("row", {}),
        told=told or {"target": member.target},
        backgrounds=len(member.backgrounds),
    )
