"""Sources in background exposures, found against the stack of the others.

What is in one exposure and not in the others, at the same place of the detector, is a source (or a
cosmic ray): backgrounds that were nodded or dithered hold their sources elsewhere. How bright it is
decides what is left out: see `find_sources`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from webbkg.image.adjusted import BitPlane, Masked, PackedPlane
from webbkg.image.sampling import Room, bin_rows, new_room
from webbkg.numerics import source_kernels as loops
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import Placed
from webbkg.numerics.sources import CORE, Grades, grade_difference, level_and_scatter
from webbkg.options import BAND_MEMORY
from webbkg.results import BoolImage, FloatImage

BIN = 2
"""Pixels on a side of what sources are looked for in: about the width of a point source."""

MOST_OTHERS = 7
"""Exposures at most that an exposure is compared with; of more, so many evenly."""

ROWS_A_BAND = 64

KEPT_MEMORY = BAND_MEMORY
"""Bytes that binned exposures may occupy; those that do not fit are read twice."""

ROUNDING = 1e-6
"""What matched samples may differ by without noise, as a share of their level (float32)."""


@dataclass(frozen=True)
class FoundSources:
    """What is left out of exposures as source, on bins of a target window.

    Attributes
    ----------
    shape : (rows, columns)
        The target's window.
    left_out : tuple of BitPlane
        For each exposure, on bins.
    """

    shape: tuple[int, int]
    left_out: tuple[BitPlane, ...]

    @classmethod
    def of_grades(
        cls, shape: tuple[int, int], grades: Sequence[PackedPlane], allowed: Grades
    ) -> FoundSources:
        """Leave out of each exposure what is graded above the lowest grade of any, and cores.

        `grades` are (rows, columns) of bins, uint8, 0 where there is no light; `allowed` is that
        lowest grade.
        """
        unpacked = (one.rows(0, len(allowed)) for one in grades)
        masks = ((one > allowed) | (one == CORE) for one in unpacked)
        return cls(shape, tuple(map(BitPlane, masks)))

    def masked(self, index: int) -> Masked:
        """Tell what is left out of an exposure, by rows of the target: (rows, columns) bool."""
        left_out, columns = self.left_out[index], self.shape[1]
        return lambda start, stop: left_out.pixels(start, stop, columns)


def find_sources(
    sources: Sequence[Placed], shape: tuple[int, int], threads: int | None = None
) -> FoundSources:
    """Find and grade the sources of exposures whose levels are matched.

    Each exposure, in bins of 2 x 2 pixels, is compared with the lower median of the others. What
    stands out by 3 sigma together with two neighbours is a source; and so is, in blocks of 8 x 8
    pixels, what stands out by 3 sigma of a block, which finds wings and what is wide and faint.
    Brightness is graded in factors of four; sources grow by 8 pixels with the lowest grade, and by
    2 with their own.

    Where no exposure is free of sources those with the least light are used, so that nods of two
    FWHM leave something: but never what has more than a tenth of a source's peak. If every exposure
    has, nothing is known there.

    Parameters
    ----------
    sources : sequence of Placed
        At least two exposures, SCI and DQ, on one level (see `webbkg.image.levels`).
    shape : (rows, columns)
        The target's window.
    threads : int, optional
        Default: as many as this task may use.
    """
    threads = threads or available_threads()
    others = _some(len(sources))
    images = _Images(sources, shape, others)
    low, high = np.empty(images.binned, np.float32), np.empty(images.binned, np.float32)
    over_bands(
        split(shape[0], ROWS_A_BAND),
        lambda: _Comparer(images, others, low, high).compare,
        threads=threads,
    )
    allowed = np.full(images.binned, CORE, np.uint8)
    grades: list[PackedPlane] = []
    for first, last in split(len(sources), threads):
        found = over_bands(
            [(index, index + 1) for index in range(first, last)],
            lambda: _Grader(images, low, high).grade,
            threads=threads,
        )
        for of_one, usable in found:
            np.minimum(allowed, of_one, out=allowed, where=usable)
            grades.append(PackedPlane(of_one))
    return FoundSources.of_grades(shape, grades, allowed)


def _some(count: int) -> list[int]:
    """Choose the exposures that all are compared with: all, or so many evenly."""
    chosen = np.linspace(0, count - 1, min(count, MOST_OTHERS + 1))
    return [int(index) for index in chosen.round()]


class _Images:
    """The exposures in bins: as many of those compared as memory allows are kept between passes."""

    def __init__(
        self, sources: Sequence[Placed], shape: tuple[int, int], compared: Sequence[int]
    ) -> None:
        self.sources, self.shape = sources, shape
        self.binned = -(-shape[0] // BIN), -(-shape[1] // BIN)
        most = KEPT_MEMORY // (4 * math.prod(self.binned))
        self._kept = {i: np.empty(self.binned, np.float32) for i in compared[:most]}

    def new_room(self) -> Room:
        """Make the buffers that a thread needs."""
        return new_room(self.sources, self.shape, ROWS_A_BAND)

    def read(self, index: int, band: tuple[int, int], room: Room, binned: FloatImage) -> None:
        """Bin target rows of an exposure, and keep them if there is memory."""
        bin_rows(self.sources[index], band, BIN, room, binned)
        if index in self._kept:
            self._kept[index][band[0] // BIN : -(-band[1] // BIN)] = binned

    def take(self, index: int, room: Room) -> FloatImage:
        """Return a whole exposure, which is the caller's to change, once."""
        if index in self._kept:
            return self._kept[index]
        image = np.empty(self.binned, np.float32)
        for start, stop in split(self.shape[0], ROWS_A_BAND):
            binned = image[start // BIN : -(-stop // BIN)]
            bin_rows(self.sources[index], (start, stop), BIN, room, binned)
        return image


class _Comparer:
    """One thread's buffers, and the way of a band to the lower median of the others."""

    def __init__(
        self, images: _Images, others: Sequence[int], low: FloatImage, high: FloatImage
    ) -> None:
        self._images, self._others = images, others
        self._room = images.new_room()
        self._low, self._high = low, high
        self._sizes = np.empty(loops.CHUNK, np.int32)

    def compare(self, start: int, stop: int) -> None:
        """Fill the bins of target rows `start` to `stop`."""
        part = slice(start // BIN, -(-stop // BIN))
        low, high = self._low[part], self._high[part]
        stack = np.empty((len(self._others), *low.shape), np.float32)
        for index, binned in zip(self._others, stack, strict=True):
            self._images.read(index, (start, stop), self._room, binned)
        flat = stack.reshape(len(stack), -1)
        loops.lower_middle(flat, self._sizes, low.reshape(-1), high.reshape(-1))


class _Grader:
    """One thread's buffers, and the way of an exposure to its graded sources."""

    def __init__(self, images: _Images, low: FloatImage, high: FloatImage) -> None:
        self._images = images
        self._room = images.new_room()
        self._low, self._high = low, high
        self._rounding = ROUNDING * abs(level_and_scatter(low)[0])

    def grade(self, index: int, _: int) -> tuple[Grades, BoolImage]:
        """Grade the sources of an exposure; and tell the bins with usable samples."""
        image = self._images.take(index, self._room)
        usable = ~np.isnan(image)
        loops.subtract_others(image.reshape(-1), self._low.reshape(-1), self._high.reshape(-1))
        return grade_difference(image, self._rounding), usable
