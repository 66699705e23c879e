"""A cache of headers: what was read of a file, until its size or its time of change is another.

It is one SQLite file, which any number of processes may use at once. Whatever is wrong with it
(no folder to write to, damage, a lock that another one holds for long) means no cache, not an
error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Self

MOST_ENTRIES = 200_000
"""Of which each has some 1000 bytes; the oldest go."""

SETTLED = 2.0
"""Seconds that a file must have been as it is: within the clock's resolution it might change again
and show the same time."""

PATIENCE = 1.0
"""Seconds to wait for another process to have written."""


def cache_file() -> Path | None:
    """Return where the user's cache is, or the one in the folder that WEBBKG_CACHE_DIR names.

    None where the home folder is not known.
    """
    named = os.environ.get("WEBBKG_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if named or base:
        return (Path(named) if named else Path(str(base), "webbkg")) / "headers.sqlite"
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    try:
        return Path(usual).expanduser() / "webbkg" / "headers.sqlite"
    except RuntimeError:
        return None


class HeaderCache:
    """What is known of files; use it as a context, at whose end the news are written.

    Parameters
    ----------
    file : Path or None
        Where it is; None for no cache.
    form : int
        What is kept, as a number below 2^31: of another one nothing is read.
    """

    def __init__(self, file: Path | None, form: int = 1) -> None:
        self.file = file
        self.form = form
        self._database: sqlite3.Connection | None = None
        self._news: dict[str, tuple[int, int, str]] = {}

    def __enter__(self) -> Self:
        """Open the cache, if it can be; a damaged one makes room for a new one."""
        self._news = {}
        if self.file is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._database = self._open(self.file)
                except sqlite3.OperationalError:  # a lock, a full disk, no right to write
                    pass
                except sqlite3.DatabaseError:
                    self.file.unlink()
                    self._database = self._open(self.file)
        return self

    def __exit__(self, *_: object) -> None:
        """Write the news, and close."""
        database, self._database = self._database, None
        if database is None:
            return
        with contextlib.suppress(sqlite3.Error), contextlib.closing(database):
            rows = [(path, *found) for path, found in self._news.items()]
            if rows:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", rows)
                database.execute(
                    "DELETE FROM headers WHERE rowid <= (SELECT max(rowid) FROM headers) - ?",
                    (MOST_ENTRIES,),
                )
                database.execute("COMMIT")

    def get(self, path: Path) -> dict[str, Any] | None:
        """Return what is known of a file as it is now; None if nothing is."""
        if self._database is None:
            return None
        query = "SELECT size, time, told FROM headers WHERE path = ?"
        try:
            found = self._database.execute(query, (str(path),)).fetchone()
            values = json.loads(found[2]) if found and found[:2] == _state(path) else None
        except (sqlite3.Error, ValueError, TypeError):  # ValueError: no JSON, or no name in UTF-8
            return None
        return values if isinstance(values, dict) else None

    def keep(self, path: Path, values: dict[str, Any]) -> dict[str, Any]:
        """Note what was read of a file, and return it."""
        state = _state(path)
        settled = state is not None and time.time() - state[1] / 1e9 > SETTLED
        if self._database is not None and state and settled and _is_text(path):
            self._news[str(path)] = (*state, json.dumps(values, separators=(",", ":")))
        return values

    def _open(self, file: Path) -> sqlite3.Connection:
        database = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] != self.form:
                self._make(database)
        except BaseException:
            database.close()
            raise
        return database

    def _make(self, database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone()[0] != self.form:
            database.execute("DROP TABLE IF EXISTS headers")
            database.execute(
                "CREATE TABLE headers (path TEXT PRIMARY KEY, size INT, time INT, told TEXT)"
            )
            database.execute(f"PRAGMA user_version = {self.form}")
        database.execute("COMMIT")


def _is_text(path: Path) -> bool:
    """Tell a name that a database can hold from one in bytes that are no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
