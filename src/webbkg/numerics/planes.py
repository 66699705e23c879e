"""Planes of an exposure (SCI, ERR, DQ, VAR_...), read by row; what every method reads from.

A method knows a `PlaneSource` and nothing of where its planes are: in arrays (`ArrayPlanes`), or
in a FITS file (`webbkg.files.planes.FitsPlanes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

PLANES = ("SCI", "ERR", "DQ")
"""Those that every exposure has."""

VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
"""The parts of its variance, which it may have."""

Words = npt.NDArray[np.uint32]
Rows = npt.NDArray[Any]


def plane_type(name: str) -> type[np.float32] | type[np.uint32]:
    """Return what the pixels of a plane are computed on as: flags uint32, all else float32."""
    return np.uint32 if name == "DQ" else np.float32


class PlaneSource(Protocol):
    """Planes of one exposure, all of one shape; read by several threads at a time."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations (1 for a 2-D product), rows, columns."""

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` (planes, stop - start, columns) with rows of the planes of these names.

        A word holds a float32, or the uint32 of DQ. Returns True if they are as FITS stores
        them: big-endian, DQ offset by 2**31; False if they are native.
        """

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, room: Words
    ) -> list[Rows]:
        """Return rows `start` to `stop` of planes, (stop - start, columns), to look at only.

        Native and contiguous float32, or uint32 for DQ; a view where the plane allows it, else
        they may lie in `room` (planes, stop - start, columns): new memory for each read costs
        as much as the reading.
        """


@dataclass(frozen=True)
class ArrayPlanes:
    """Planes in memory by their names, each (integrations, rows, columns), SCI among them.

    They may be of any type, byte order and layout, and are never copied as a whole.
    """

    planes: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def of(cls, **planes: npt.NDArray[Any]) -> ArrayPlanes:
        """Wrap planes, ([integrations,] rows, columns): ``ArrayPlanes.of(SCI=sci, DQ=dq)``."""
        return cls({name: p if p.ndim == 3 else p[np.newaxis] for name, p in planes.items()})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations (1 for a 2-D product), rows, columns."""
        integrations, rows, columns = self.planes["SCI"].shape
        return integrations, rows, columns

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""
        return name in self.planes

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` with native rows of the planes."""
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and so left out
            for name, of_plane in zip(names, words, strict=True):
                of_plane.view(plane_type(name))[...] = self.planes[name][integration, start:stop]
        return False

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, _room: Words
    ) -> list[Rows]:
        """Return rows of the planes, converted only where that is needed."""
        with np.errstate(over="ignore"):
            return [
                np.ascontiguousarray(self.planes[name][integration, start:stop], plane_type(name))
                for name in names
            ]


@dataclass(frozen=True)
class PartOfRows:
    """Rows `start` to `stop` of planes, as planes of their own."""

    whole: PlaneSource
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations, rows, columns."""
        integrations, _, columns = self.whole.shape
        return integrations, self.stop - self.start, columns

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""
        return self.whole.has(name)

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` with rows of the planes, counted from the part's first."""
        return self.whole.read(names, integration, self.start + start, self.start + stop, words)

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, room: Words
    ) -> list[Rows]:
        """Return rows of the planes, counted from the part's first."""
        return self.whole.rows(names, integration, self.start + start, self.start + stop, room)


@dataclass(frozen=True)
class LinesOfRows:
    """Rows `lines` of planes, evenly apart, as planes of their own."""

    whole: PlaneSource
    lines: range

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations, rows, columns."""
        integrations, _, columns = self.whole.shape
        return integrations, len(self.lines), columns

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""
        return self.whole.has(name)

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` with the lines of the planes, row by row."""
        as_in_fits = False
        for i, line in enumerate(self.lines[start:stop]):
            room = words[:, i : i + 1]
            as_in_fits = self.whole.read(names, integration, line, line + 1, room)
        return as_in_fits

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, room: Words
    ) -> list[Rows]:
        """Put the lines of the planes into `room`."""
        for i, line in enumerate(self.lines[start:stop]):
            found = self.whole.rows(names, integration, line, line + 1, room[:, i : i + 1])
            for words, values in zip(room, found, strict=True):
                words.view(values.dtype)[i] = values[0]
        return [words.view(plane_type(name)) for name, words in zip(names, room, strict=True)]


@dataclass(frozen=True)
class Overlap:
    """Where two images share pixels: (start, stop) on the one and on the other."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    other_rows: tuple[int, int]
    other_columns: tuple[int, int]

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Overlap:
        """Let images of one shape (rows, columns) lie on each other."""
        rows, columns = (0, shape[0]), (0, shape[1])
        return cls(rows, columns, rows, columns)


@dataclass(frozen=True)
class Placed:
    """An exposure that lies on a target: `overlap` tells where, on the target and on its planes."""

    planes: PlaneSource
    overlap: Overlap
