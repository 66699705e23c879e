"""Exposures in blocks of pixels of the target's window, their integrations averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbkg.numerics import source_kernels as loops
from webbkg.numerics.planes import Placed, PlaneSource, Words
from webbkg.numerics.words import make_native
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL
from webbkg.results import FloatImage

NO_SKY = DO_NOT_USE | REFERENCE_PIXEL


@dataclass(frozen=True)
class Room:
    """Buffers of one thread for `bin_rows`."""

    words: Words
    rows: FloatImage
    total: FloatImage
    ends: FloatImage
    count: npt.NDArray[np.int32]
    no_flags: npt.NDArray[np.uint32]


def new_room(sources: Sequence[Placed], shape: tuple[int, int], height: int) -> Room:
    """Make buffers for bands of at most `height` rows of a target window of `shape`."""
    widest = max((source.planes.shape[2] for source in sources), default=0)
    cubes = any(source.planes.shape[0] > 1 for source in sources)
    band = (height if cubes else 0, shape[1])
    return Room(
        np.empty(2 * height * widest, np.uint32),
        np.empty((2, shape[1]), np.float32),
        np.empty(band, np.float32),
        np.empty((band[0], 2, band[1]), np.float32),
        np.empty(band, np.int32),
        np.zeros(band, np.uint32),
    )


def bin_rows(
    source: Placed,
    band: tuple[int, int],
    size: int,
    room: Room,
    means: FloatImage,
    most: int | None = None,
) -> None:
    """Average an exposure in blocks, on rows of the target's window.

    Usable are finite samples without DO_NOT_USE that are no reference pixels. Integrations are
    averaged first; of three and more the largest and the smallest sample of a pixel are left out.

    Parameters
    ----------
    source : Placed
        SCI and DQ.
    band : (start, stop)
        Rows of the target's window.
    size : int
        Pixels on a side of a block.
    room : Room
        Of the thread.
    means : (rows, columns) ndarray of float32
        Filled: a pixel for each block, NaN where less than half of it is usable.
    most : int, optional
        So many integrations at most are looked at, evenly.
    """
    overlap, (number, _, width) = source.overlap, source.planes.shape
    low, high = max(band[0], overlap.rows[0]), min(band[1], overlap.rows[1])
    if low >= high:
        means.fill(np.nan)
        return
    first = low + overlap.other_rows[0] - overlap.rows[0]
    words = room.words[: 2 * (high - low) * width].reshape(2, high - low, width)
    left, right = overlap.columns
    wide = right - left
    if number == 1:
        _read_native(source.planes, 0, first, words)
        sci, dq = words[0].view(np.float32), words[1]
        column, place = overlap.other_columns[0], (low - band[0], left)
    else:
        sci = _average(source, (low, high), first, words, room, most)
        dq, column, place = room.no_flags[: high - low], left, (low - band[0], left)
    height = band[1] - band[0]
    loops.bin_usable(sci, dq, NO_SKY, column, wide, *place, height, size, room.rows, means)


def _average(
    source: Placed,
    rows: tuple[int, int],
    first: int,
    words: Words,
    room: Room,
    most: int | None,
) -> FloatImage:
    """Average the integrations of a cube where it lies on target `rows`; NaN elsewhere."""
    height, overlap, number = rows[1] - rows[0], source.overlap, source.planes.shape[0]
    total, ends, count = room.total[:height], room.ends[:height], room.count[:height]
    total.fill(0)
    ends[:, 0], ends[:, 1] = np.inf, -np.inf
    count.fill(0)
    wide = overlap.columns[1] - overlap.columns[0]
    columns = overlap.other_columns[0], wide, overlap.columns[0]
    chosen = np.linspace(0, number - 1, min(number, most or number)).round()
    for integration in chosen:
        _read_native(source.planes, int(integration), first, words)
        sci, dq = words[0].view(np.float32), words[1]
        loops.add_usable(sci, dq, NO_SKY, *columns, total, ends, count)
    loops.mean_of_integrations(total, ends, count)
    return total


def _read_native(planes: PlaneSource, integration: int, first: int, words: Words) -> None:
    """Fill `words` (2, rows, columns) with SCI and DQ: always writable, one type for the loops."""
    names = ("SCI", "DQ")
    if planes.read(names, integration, first, first + words.shape[1], words):
        for name, of_plane in zip(names, words, strict=True):
            make_native(of_plane.reshape(-1), name == "DQ")
