"""Images kept for a while: in memory, or, if they are many, in a file without a name."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OutputError
from webbkg.files.disk import allocate, read_exactly, write_exactly

_ALIGNED = 64
"""Bytes to whose multiples planes begin."""

IN_MEMORY = 640 * 2**20
"""Bytes up to which they are kept in memory: new pages of a file cost ten times as much."""


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
        self._stream: IO[bytes] = tempfile.TemporaryFile(prefix="webbkg-")  # noqa: SIM115
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
