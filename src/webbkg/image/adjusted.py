"""Backgrounds as they enter the stack: levels matched, sources left out, while bands are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import split
from webbkg.numerics.planes import Overlap, Placed, PlaneSource, Rows, Words
from webbkg.numerics.words import make_native
from webbkg.results import BoolImage

Bytes = npt.NDArray[np.uint8]

ROWS_A_PIECE = 64

Masked = Callable[[int, int], BoolImage]
"""Takes the first row and the one after the last of an exposure; gives (rows, columns), True where
its pixels are left out."""


class PackedPlane:
    """A plane of small numbers, compressed in bands of rows: masks of many exposures fit in memory.

    Parameters
    ----------
    plane : (rows, columns) ndarray of uint8 or bool
        Mostly of one value, as masks are.
    """

    def __init__(self, plane: Bytes | BoolImage) -> None:
        self.shape = plane.shape
        self._dtype = plane.dtype
        self._pieces = [
            zlib.compress(np.ascontiguousarray(plane[slice(*band)]).tobytes(), 1)
            for band in split(len(plane), ROWS_A_PIECE)
        ]

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows `start` to `stop`, (stop - start, columns), of the plane's type."""
        first = start // ROWS_A_PIECE
        pieces = self._pieces[first : (stop - 1) // ROWS_A_PIECE + 1]
        whole = np.frombuffer(b"".join(map(zlib.decompress, pieces)), self._dtype)
        skipped = start - first * ROWS_A_PIECE
        return whole.reshape(-1, self.shape[1])[skipped : skipped + stop - start]


class BitPlane:
    """A mask of bins, a bit each: read often, and small enough.

    Parameters
    ----------
    mask : (rows, columns) ndarray of bool
        On bins.
    """

    def __init__(self, mask: BoolImage) -> None:
        self.columns = mask.shape[1]
        self._bits = np.packbits(mask, axis=1)

    def pixels(self, start: int, stop: int, columns: int) -> BoolImage:
        """Spread bins over 2 x 2 pixels each: rows `start` to `stop` of an image of `columns`."""
        first = start // 2
        bins = np.unpackbits(self._bits[first : -(-stop // 2)], axis=1, count=self.columns)
        pairs = bins.astype(np.uint16)
        pairs *= np.uint16(0x0101)  # both bytes of a word
        rows = pairs.view(np.bool_).repeat(2, axis=0)[start - first * 2 :]
        return rows[: stop - start, :columns]


@dataclass(frozen=True)
class AdjustedPlanes:
    """Planes of an exposure, of which SCI becomes scale x SCI + offset, and NaN where masked.

    ERR becomes scale x ERR. DQ stays: what is left out has no flag of its own.

    Attributes
    ----------
    planes : PlaneSource
        Those of the exposure.
    scale, offset : float
        In float32 arithmetic; `offset` in the unit of SCI.
    masked : callable or None
        See `Masked`.
    """

    planes: PlaneSource
    scale: float = 1.0
    offset: float = 0.0
    masked: Masked | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations (1 for a 2-D product), rows, columns."""
        return self.planes.shape

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""
        return self.planes.has(name)

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` with native rows of the planes, changed."""
        if self.planes.read(names, integration, start, stop, words):
            for name, of_plane in zip(names, words, strict=True):
                make_native(of_plane.reshape(-1), name == "DQ")
        for name, of_plane in zip(names, words, strict=True):
            self._change(name, of_plane.view(np.float32), start, stop)
        return False

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, room: Words
    ) -> list[Rows]:
        """Put rows of the planes into `room`, changed."""
        self.read(names, integration, start, stop, room)
        return [
            words if name == "DQ" else words.view(np.float32)
            for name, words in zip(names, room, strict=True)
        ]

    def _change(self, name: str, values: Rows, start: int, stop: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            if name in ("SCI", "ERR") and self.scale != 1:
                values *= np.float32(self.scale)
            if name == "SCI" and self.offset != 0:
                values += np.float32(self.offset)
        if name == "SCI" and self.masked is not None:
            np.putmask(values, self.masked(start, stop), np.float32(np.nan))


def adjust(
    source: Placed, scale: float = 1.0, offset: float = 0.0, masked: Masked | None = None
) -> Placed:
    """Let an exposure enter the stack changed; itself where nothing is to change."""
    if scale == 1 and offset == 0 and masked is None:
        return source
    return replace(source, planes=AdjustedPlanes(source.planes, scale, offset, masked))


def on_exposure(on_target: Masked, overlap: Overlap, columns: int) -> Masked:
    """Turn what is left out by rows of the target into that by rows of an exposure.

    `columns` are those of the exposure. Outside of the overlap nothing is left out.
    """
    whole = overlap.columns == overlap.other_columns == (0, columns)

    def masked(start: int, stop: int) -> BoolImage:
        if whole and overlap.other_rows[0] <= start and stop <= overlap.other_rows[1]:
            shift = overlap.rows[0] - overlap.other_rows[0]
            return on_target(start + shift, stop + shift)[:, :columns]  # it may be wider
        found = np.zeros((stop - start, columns), np.bool_)
        low, high = max(start, overlap.other_rows[0]), min(stop, overlap.other_rows[1])
        if low < high:
            shift = overlap.rows[0] - overlap.other_rows[0]
            part = on_target(low + shift, high + shift)
            found[low - start : high - start, slice(*overlap.other_columns)] = part[
                :, slice(*overlap.columns)
            ]
        return found

    return masked
