"""The ledger of an output folder: what was made from what, and who is making what.

One SQLite file in the folder, one row a product. A product passes through

    claimed -> sealed -> done          or failed

Claimed: somebody works on it, until a time that is put off while he lives. Sealed: its files are
whole, under the names of unfinished ones; their identities are on record, so that whoever comes
next can tell them and give them their names. Done: they have them. Every step is one transaction,
and every reader sees either all of it or nothing. So a process may be killed at any moment: what
it had claimed is free again at once on the same machine, where its end can be seen, and elsewhere
when its time is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from webbkg.errors import OutputError
from webbkg.files import owners

NAME = "webbkg-ledger.sqlite"
"""Of the file, in the folder of the products."""

LEASE = 120.0
"""For how long something is claimed, unless that is put off (seconds)."""

PATIENCE = 60.0
"""How long a transaction waits for another one (seconds)."""

SHARED_FILE_SYSTEMS = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "fhgfs", "fuse", "glusterfs", "gpfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs"),
)
"""On which several machines may write: SQLite's write-ahead log is for one machine alone
(https://sqlite.org/wal.html), so the rollback journal is used there."""

_TRIES = 20

_MOST_VARIABLES = 900
"""Of one statement: older SQLite takes 999, and newer 32 766 (https://sqlite.org/limits.html)."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS products (
    product TEXT PRIMARY KEY,  -- name, in the folder of the ledger
    target TEXT NOT NULL,
    fingerprint TEXT NOT NULL, -- of inputs, parameters and version
    described TEXT NOT NULL,   -- these, JSON
    state TEXT NOT NULL,
    owner TEXT NOT NULL,       -- machine, process, and a word of its own
    expires REAL NOT NULL,     -- until when it is claimed (seconds since 1970)
    files TEXT NOT NULL,       -- JSON: name, unfinished name, inode, size, time of change
    result TEXT NOT NULL,      -- JSON: what became of it
    changed REAL NOT NULL      -- when this row was (seconds since 1970)
)
"""


class State(StrEnum):
    """How far a product has come."""

    CLAIMED = "claimed"
    SEALED = "sealed"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is claimed: a product, and what it is made from.

    Attributes
    ----------
    product, target : str
        Names.
    fingerprint : str
        Of what it is made from.
    described : mapping
        What it is made from.
    """

    product: str
    target: str
    fingerprint: str
    described: Mapping[str, Any]


class Claim(StrEnum):
    """What a claim came to."""

    OURS = "ours"  # go ahead
    DONE = "done"  # it is made already, and nothing has changed
    BUSY = "busy"  # somebody else is making it


class ClaimLostError(OutputError):
    """Somebody else has taken over, since we seemed to be dead."""


_living: set[str] = set()
"""Who claims in this process: the others that it had are dead, though it lives."""


@contextlib.contextmanager
def owning() -> Iterator[str]:
    """Give a name for who claims something in this process; who has it is alive inside."""
    word = os.urandom(6).hex()
    _living.add(word)
    try:
        yield f"{owners.machine()} {os.getpid()} {word}"
    finally:
        _living.discard(word)


class _Database:
    """The file of a ledger, and its transactions; for one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.path = folder / NAME
        with self._told():
            self._base = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            self._base.row_factory = sqlite3.Row
            for _ in range(_TRIES):
                try:
                    self._prepare()
                    break
                except sqlite3.OperationalError:  # two runs that begin it at once do not wait
                    time.sleep(0.1)
            else:
                self._prepare()

    def _prepare(self) -> None:
        self._base.execute(f"PRAGMA journal_mode={_journal_mode(self.folder)}")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.execute(_SCHEMA)

    def close(self) -> None:
        """Close its file."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path}: the ledger cannot be used ({error}); make sure that its folder can be "
                "written to and has space, choose another output_dir, or remove it: what is done "
                "will be done anew then"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:  # that of a full disk, too, which SQLite may have rolled back
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise


class Ledger(_Database):
    """The ledger of a folder; a context, and for one thread.

    Parameters
    ----------
    folder : Path
        Of the products; it must exist.

    Raises
    ------
    OutputError
        If its file cannot be opened, or is no ledger.
    """

    def claim(self, entries: Sequence[Entry], owner: str, lease: float = LEASE) -> Claim:
        """Claim products that are made together: all of them or none.

        What a dead process has sealed gets its names, and is done.
        """
        with self._transaction() as base:
            known = [row for one in entries if (row := self._find(one.product)) is not None]
            if any(_is_held(row) for row in known):
                return Claim.BUSY
            known = [self._recovered(row) for row in known]
            if len(known) == len(entries) and all(map(self._is_done, known, entries)):
                return Claim.DONE
            expires = time.time() + lease
            base.executemany(
                "INSERT OR REPLACE INTO products VALUES (?,?,?,?,'claimed',?,?,'[]','{}',?)",
                [_values(one, owner, expires) for one in entries],
            )
        return Claim.OURS

    def renew(self, owner: str, lease: float = LEASE) -> None:
        """Put off the time until which an owner's claims hold."""
        with self._transaction() as base:
            base.execute(
                "UPDATE products SET expires=? WHERE owner=? AND state IN ('claimed','sealed')",
                (time.time() + lease, owner),
            )

    def seal(
        self, owner: str, results: Mapping[str, Any], files: Iterable[tuple[Path, Path]]
    ) -> None:
        """Note that files are whole, by their (unfinished, final) names, and what they are.

        `results` are what became of the products, by their names.

        Raises
        ------
        ClaimLostError
            If the claim is somebody else's by now.
        """
        told = json.dumps([[self._name(f), self._name(one), *_mark(one)] for one, f in files])
        with self._transaction() as base:
            for product, result in results.items():
                done = base.execute(
                    "UPDATE products SET state='sealed', files=?, result=?, changed=? "
                    "WHERE product=? AND owner=?",
                    (told, json.dumps(result), time.time(), product, owner),
                )
                if done.rowcount != 1:
                    raise ClaimLostError(
                        f"{product}: another run has taken it over, since nothing was heard of "
                        "this one; it is left to that run"
                    )

    def finish(self, owner: str, state: State, results: Mapping[str, Any]) -> None:
        """Note that products are done, or have failed."""
        with self._transaction() as base:
            base.executemany(
                "UPDATE products SET state=?, result=?, expires=0, changed=? "
                "WHERE product=? AND owner=?",
                [(state, json.dumps(r), time.time(), p, owner) for p, r in results.items()],
            )

    def fail(self, owner: str, targets: Mapping[str, str], results: Mapping[str, Any]) -> None:
        """Note that products have failed, by their names, unless somebody else is making them."""
        with self._transaction() as base:
            for product, result in results.items():
                row = self._find(product)
                if row is not None and row["owner"] != owner and _is_held(row):
                    continue
                values = product, targets[product], State.FAILED, owner, json.dumps(result)
                base.execute(
                    "INSERT OR REPLACE INTO products VALUES (?,?,'','{}',?,?,0,'[]',?,?)",
                    (*values, time.time()),
                )

    def release(self, owner: str) -> None:
        """Give up what an owner has claimed and not sealed."""
        with self._transaction() as base:
            base.execute("DELETE FROM products WHERE owner=? AND state='claimed'", (owner,))

    # What is known.

    def recover(self) -> None:
        """Give their names to files that dead processes have sealed."""
        with self._transaction() as base:
            for row in base.execute("SELECT * FROM products WHERE state='sealed'").fetchall():
                if not _is_held(row):
                    self._recovered(row)

    def is_done(self, entries: Sequence[Entry]) -> bool:
        """Tell whether products are made, from what they would be made from now."""
        with self._told():
            rows = [self._find(one.product) for one in entries]
        return all(
            r is not None and self._is_done(r, e) for r, e in zip(rows, entries, strict=True)
        )

    def result(self, product: str) -> dict[str, Any]:
        """Return what became of a product; nothing where it is not known."""
        with self._told():
            row = self._find(product)
        return {} if row is None else dict(json.loads(row["result"]))

    def state(self, product: str, since: float) -> State | None:
        """Tell how far a product has come; None where nothing has happened to it since."""
        with self._told():
            row = self._find(product)
        return None if row is None or row["changed"] < since else State(row["state"])

    def counts(self) -> dict[str, int]:
        """Count the products by their states."""
        with self._told():
            found = self._base.execute("SELECT state, count(*) FROM products GROUP BY state")
            return {str(state): int(count) for state, count in found}

    def states(self, products: Sequence[str], since: float) -> dict[str, int]:
        """Count those of some products that have changed since, by their states."""
        told: Counter[str] = Counter()
        with self._told():
            for start in range(0, len(products), _MOST_VARIABLES):
                some = products[start : start + _MOST_VARIABLES]
                marks = ",".join("?" * len(some))
                found = self._base.execute(
                    f"SELECT state, count(*) FROM products WHERE product IN ({marks}) "
                    "AND changed >= ? GROUP BY state",
                    (*some, since),
                )
                told.update({str(state): int(count) for state, count in found})
        return dict(told)

    def _find(self, product: str) -> sqlite3.Row | None:
        found = self._base.execute("SELECT * FROM products WHERE product=?", (product,))
        row: sqlite3.Row | None = found.fetchone()
        return row

    def _files(self, row: sqlite3.Row) -> list[tuple[Path, Path, list[int]]]:
        """Tell the final and the unfinished names of a product's files, and their marks."""
        found = json.loads(row["files"])
        return [(self.folder / final, self.folder / one, mark) for final, one, *mark in found]

    def _name(self, path: Path) -> str:
        within = path.is_relative_to(self.folder)
        return str(path.relative_to(self.folder) if within else path)

    def _is_done(self, row: sqlite3.Row, entry: Entry) -> bool:
        """Tell whether a product is there as it was made, and would be made of the same again."""
        return (
            row["state"] == State.DONE
            and row["fingerprint"] == entry.fingerprint
            # Not by its inode: the folder may have been copied, with its times.
            and all(_mark(final)[1:] == mark[1:] for final, _, mark in self._files(row))
            and self._has_page(json.loads(row["result"]).get("report"))
        )

    def _has_page(self, report: str | None) -> bool:
        """Tell whether the report of a product is there, if it has one; it may be remade."""
        return report is None or (self.folder / Path(report).name).exists()

    def _recovered(self, row: sqlite3.Row) -> sqlite3.Row:
        """Give sealed files their names, or forget them if they are gone; return the row anew."""
        if row["state"] != State.SEALED:
            return row
        files = self._files(row)
        whole = all(mark in (_mark(final), _mark(one)) for final, one, mark in files)
        if whole:
            for final, unfinished, mark in files:
                if _mark(final) != mark:
                    unfinished.replace(final)
        state = State.DONE if whole else State.FAILED
        self._base.execute(
            "UPDATE products SET state=?, expires=0, changed=? WHERE product=?",
            (state, time.time(), row["product"]),
        )
        return self._find(row["product"]) or row


def _values(one: Entry, owner: str, expires: float) -> tuple[Any, ...]:
    described = json.dumps(one.described)
    return one.product, one.target, one.fingerprint, described, owner, expires, time.time()


def _mark(path: Path) -> list[int]:
    """What a file is told by, whatever its name; nothing if there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _is_held(row: sqlite3.Row) -> bool:
    """Tell whether somebody alive is making a product."""
    if row["state"] not in (State.CLAIMED, State.SEALED) or row["expires"] < time.time():
        return False
    machine, pid, word = row["owner"].split(" ")
    if machine != owners.machine():
        return True  # of whom nothing is known
    return word in _living if int(pid) == os.getpid() else not owners.is_dead(int(pid))


def _journal_mode(folder: Path) -> str:
    """Choose the write-ahead log where one machine alone can write."""
    kind = file_system_of(folder)
    return "DELETE" if kind.split(".")[0] in SHARED_FILE_SYSTEMS else "WAL"


def file_system_of(folder: Path) -> str:
    """Name the kind of file system that a folder is on; empty where that cannot be told."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    place = folder.resolve()
    found = [line.split(" ")[1:3] for line in mounts]
    above = [(point, kind) for point, kind in found if place.is_relative_to(_unescaped(point))]
    return max(above, key=lambda one: len(one[0]), default=("", ""))[1]


def _unescaped(point: str) -> str:
    return point.encode().decode("unicode_escape")
