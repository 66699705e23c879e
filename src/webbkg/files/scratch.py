"""What is kept for a while: in memory, or, if it is much, in a file without a name."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OutputError
from webbkg.files.disk import allocate, read_exactly, write_exactly

Words = npt.NDArray[np.uint32]

_ALIGNED = 64
"""Bytes to whose multiples planes begin."""

IN_MEMORY = 640 * 2**20
"""Bytes up to which they are kept in memory: new pages of a file cost ten times as much."""

LISTS_IN_MEMORY = 64 * 2**20
"""Bytes of lists up to which they are kept in memory."""


class Scratch:
    """Sets of planes of one shape, written and read by rows, by several threads at a time.

    What is returned of what is in memory is that itself, to look at only.

    Parameters
    ----------
    number : int
        Sets.
    shape : (rows, columns)
        Of each plane.
    planes : mapping of str to dtype
        The planes of a set.

    Raises
    ------
    OutputError
        If there is no space for them.
    """

    def __init__(
        self, number: int, shape: tuple[int, int], planes: Mapping[str, npt.DTypeLike]
    ) -> None:
        self._shape = shape
        self._types = {name: np.dtype(kind) for name, kind in planes.items()}
        pixels, size = shape[0] * shape[1], 0
        self._starts: dict[str, int] = {}
        for name, kind in self._types.items():
            self._starts[name] = size
            size += -(-pixels * kind.itemsize // _ALIGNED) * _ALIGNED
        self._size = size
        self._memory: npt.NDArray[np.uint8] | None = None
        if number * size <= IN_MEMORY:
            self._memory = np.empty(number * size, np.uint8)
            return
        self._stream = _nameless()
        with _told():
            allocate(self._stream, number * size)

    def put(self, number: int, start: int, **rows: npt.NDArray[Any]) -> None:
        """Keep rows of planes of a set, from row `start` on."""
        for name, values in rows.items():
            if self._memory is not None:
                self._in_memory(self._memory, number, name)[start : start + len(values)] = values
                continue
            whole = np.ascontiguousarray(values, self._types[name])
            place = self._place(number, name) + start * self._shape[1] * whole.itemsize
            with _told():
                write_exactly(self._stream, _bytes_of(whole), place)

    def get(self, number: int, name: str) -> npt.NDArray[Any]:
        """Return a plane of a set."""
        if self._memory is not None:
            return self._in_memory(self._memory, number, name)
        plane = np.empty(self._shape, self._types[name])
        read_exactly(self._stream, _bytes_of(plane), self._place(number, name))
        return plane

    def close(self) -> None:
        """Give the space back."""
        if self._memory is None:
            self._stream.close()
        self._memory = None

    def _in_memory(self, memory: npt.NDArray[np.uint8], number: int, name: str) -> npt.NDArray[Any]:
        start, kind = self._place(number, name), self._types[name]
        length = self._shape[0] * self._shape[1] * kind.itemsize
        return memory[start : start + length].view(kind).reshape(self._shape)

    def _place(self, number: int, name: str) -> int:
        return number * self._size + self._starts[name]


class Lists:
    """Lists of uint32 in sets, put by several threads at a time; the last, if many, in a file.

    Parameters
    ----------
    number : int
        Sets.

    Raises
    ------
    OutputError
        If there is no space for one that is put.
    """

    def __init__(self, number: int) -> None:
        self._sets: list[list[tuple[int, Words | tuple[int, tuple[int, ...]]]]]
        self._sets = [[] for _ in range(number)]
        self._size = 0
        self._stream: IO[bytes] | None = None
        self._lock = Lock()

    def put(self, number: int, start: int, values: Words) -> None:
        """Keep a copy of a list, of any shape, in a set, with a number that says where it begins."""
        with self._lock:
            place = self._size
            self._size += values.nbytes
            if self._size > LISTS_IN_MEMORY and self._stream is None:
                self._stream = _nameless()
        if place + values.nbytes <= LISTS_IN_MEMORY:
            self._sets[number].append((start, values.copy()))
            return
        assert self._stream is not None
        with _told():
            write_exactly(self._stream, _bytes_of(np.ascontiguousarray(values)), place)
        self._sets[number].append((start, (place, values.shape)))

    def get(self, number: int) -> Iterator[tuple[int, Words]]:
        """Give the lists of a set, and where each begins, in no order."""
        for start, kept in self._sets[number]:
            if isinstance(kept, np.ndarray):
                yield start, kept
                continue
            assert self._stream is not None
            place, shape = kept
            values = np.empty(shape, np.uint32)
            read_exactly(self._stream, _bytes_of(values), place)
            yield start, values

    def close(self) -> None:
        """Give the space back."""
        if self._stream is not None:
            self._stream.close()
        self._sets = []


def _nameless() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="webbkg-")


def _bytes_of(values: npt.NDArray[Any]) -> memoryview:
    return memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the system says of the scratch file into an error that tells a way out."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: cannot hold what is kept for a while "
            f"({error.strerror}); set TMPDIR to a folder with space"
        ) from error
