"""Images kept on disk for a while, in a file without a name that goes with the process."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OutputError
from webbkg.files.disk import allocate, read_exactly, write_exactly


class Scratch:
    """Sets of planes of one shape, written and read by rows, by several threads at a time.

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
        pixels, self._starts, size = shape[0] * shape[1], {}, 0
        for name, kind in self._types.items():
            self._starts[name] = size
            size += pixels * kind.itemsize
        self._size = size
        self._stream: IO[bytes] = tempfile.TemporaryFile(prefix="webbkg-")  # noqa: SIM115
        with _told():
            allocate(self._stream, number * size)

    def put(self, number: int, start: int, **rows: npt.NDArray[Any]) -> None:
        """Keep rows of planes of a set, from row `start` on."""
        with _told():
            for name, values in rows.items():
                whole = np.ascontiguousarray(values, self._types[name])
                place = self._place(number, name) + start * self._shape[1] * whole.itemsize
                write_exactly(self._stream, _bytes_of(whole), place)

    def get(self, number: int, name: str) -> npt.NDArray[Any]:
        """Return a plane of a set."""
        plane = np.empty(self._shape, self._types[name])
        read_exactly(self._stream, _bytes_of(plane), self._place(number, name))
        return plane

    def close(self) -> None:
        """Give the space back."""
        self._stream.close()

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
