"""Many files read in turn through few descriptors, at any position, by several threads."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import IO

from webbkg.errors import InputError
from webbkg.files.disk import seeking

MOST_OPEN = 256
"""Files that are open at a time, at most; a quarter of what the process may open if that is less."""


@dataclass
class _Opened:
    stream: IO[bytes]
    users: int = 0


class FilePool:
    """Files that are opened when they are read, the least recently used closed for the next.

    What cannot be read where it is (gzipped, tile-compressed) is kept unpacked in one scratch
    file for all, which has no name and goes with the pool.

    Parameters
    ----------
    most : int, optional
        Files that are open at a time. Default: `MOST_OPEN`, or less where the process may not
        open many.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most or _share_of_descriptors()
        self._opened: OrderedDict[Path, _Opened] = OrderedDict()
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._released = Condition()
        self._keeping = Lock()
        self._scratch: IO[bytes] | None = None
        self._scratch_size = 0

    @contextmanager
    def use(self, path: Path | None) -> Iterator[int]:
        """Give the descriptor of a file, or that of the scratch file for None, to read from."""
        if path is None:
            yield self._scratch_file().fileno()
            return
        with self._released:
            while path not in self._opened and not self._make_room():
                self._released.wait()
            if path not in self._opened:
                self._opened[path] = _Opened(self._open(path))
            self._opened.move_to_end(path)
            opened = self._opened[path]
            opened.users += 1
        try:
            yield opened.stream.fileno()
        finally:
            with self._released:
                opened.users -= 1
                self._released.notify()

    def _make_room(self) -> bool:
        """Close the file that was not used for longest, if there are too many; False: all are."""
        if len(self._opened) < self._most:
            return True
        idle = next((path for path, one in self._opened.items() if not one.users), None)
        if idle is None:
            return False
        self._opened.pop(idle).stream.close()
        return True

    def _open(self, path: Path) -> IO[bytes]:
        try:
            stream = path.open("rb", buffering=0)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        status = os.fstat(stream.fileno())
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(path, identity) != identity:
            stream.close()
            raise InputError(f"{path}: was changed while it was being read; run again")
        return stream

    def keep(self, chunks: Iterable[bytes]) -> int:
        """Write chunks of bytes to the scratch file; returns where they begin.

        Raises
        ------
        InputError
            If there is no space for them.
        """
        with self._keeping:
            start = self._scratch_size
            for chunk in chunks:
                try:
                    self._append(memoryview(chunk))
                except OSError as error:
                    raise InputError(
                        f"{tempfile.gettempdir()}: cannot hold what is unpacked "
                        f"({error.strerror}); set TMPDIR to a folder with space"
                    ) from error
        return start

    def _append(self, view: memoryview) -> None:
        scratch = self._scratch_file()
        while len(view):
            with seeking:
                scratch.seek(self._scratch_size)
                count = scratch.write(view)
            view = view[count:]
            self._scratch_size += count

    def _scratch_file(self) -> IO[bytes]:
        if self._scratch is None:  # it lives as long as the pool
            self._scratch = tempfile.TemporaryFile(prefix="webbkg-", buffering=0)  # noqa: SIM115
        return self._scratch

    def close(self) -> None:
        """Close every file."""
        for opened in self._opened.values():
            opened.stream.close()
        self._opened.clear()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def __enter__(self) -> FilePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _share_of_descriptors() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return MOST_OPEN
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN if allowed < 0 else max(1, min(MOST_OPEN, allowed // 4))
