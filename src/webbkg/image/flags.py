"""Image from image: which flags of the samples reach the combined background.

Every one that any sample carries, or those that enough of them carry. All 32 flags of a pixel are
counted at once, in words that each hold one binary digit of the 32 counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from webbkg.image import tallies
from webbkg.options import DO_NOT_USE
from webbkg.results import FlagImage

ROUNDING = 1e-9  # relative; 0.07 of 100 samples are 7, whatever their product rounds to

Span = tuple[int, int]


def samples_needed(threshold: float, samples: int) -> int:
    """Tell how many of so many samples must carry a flag: that fraction, at least one.

    Examples
    --------
    >>> [samples_needed(0.5, samples) for samples in (1, 2, 3, 4)]
    [1, 1, 2, 2]
    """
    return max(1, math.ceil(threshold * samples * (1 - ROUNDING)))


class Flags(Protocol):
    """Gathers the flags of the samples of a band."""

    def sample(self, flags: FlagImage) -> FlagImage:
        """Give an image for the flags of the next sample, of which `flags` will be the result."""

    def count(self, rows: Span, columns: Span) -> None:
        """Count that sample, which covers these rows and columns (start, stop) of the band."""

    def put(self, flags: FlagImage) -> None:
        """Add the result to `flags`, and begin anew."""


class AnyFlags:
    """Every flag of any sample: each is OR-ed to the result as it comes."""

    def sample(self, flags: FlagImage) -> FlagImage:
        """Give the result itself."""
        return flags

    def count(self, _rows: Span, _columns: Span) -> None:
        """It is in the result already."""

    def put(self, _flags: FlagImage) -> None:
        """It is in the result already."""


class FlagVote:
    """The flags that at least a fraction of the samples carry, of those that cover the pixel.

    Parameters
    ----------
    threshold : float
        The fraction; at least one sample must carry a flag.
    samples : int
        Most samples.
    height, columns : int
        Most rows of a band, and its columns.
    """

    def __init__(self, threshold: float, samples: int, height: int, columns: int) -> None:
        needed = [1, *(samples_needed(threshold, count) for count in range(1, samples + 1))]
        self._needed = np.array(needed, np.uint32)
        self._columns = columns
        self._digits = np.zeros((samples.bit_length(), height * columns), np.uint32)
        self._covering = np.zeros((height, columns), np.uint32)
        self._flags = np.empty((height, columns), np.uint32)

    def sample(self, flags: FlagImage) -> FlagImage:
        """Give an image without flags."""
        image = self._flags[: len(flags)]
        image.fill(0)
        return image

    def count(self, rows: Span, columns: Span) -> None:
        """Count the flags of the sample."""
        self._covering[slice(*rows), slice(*columns)] += np.uint32(1)
        first, last = rows[0] * self._columns, rows[1] * self._columns
        tallies.count_flags(self._flags.reshape(-1), first, last, self._digits)

    def put(self, flags: FlagImage) -> None:
        """Add the flags that enough samples carry to `flags`."""
        covering = self._covering.reshape(-1)
        tallies.add_frequent(self._digits, covering, self._needed, flags.reshape(-1))
        self._covering.fill(0)
        self._digits.fill(0)


def flags_of(threshold: float, samples: int, height: int, columns: int) -> Flags:
    """Make what gathers the flags of so many samples; a threshold of 0 stands for any."""
    return FlagVote(threshold, samples, height, columns) if threshold > 0 else AnyFlags()


def bytes_a_pixel(threshold: float, samples: int) -> int:
    """Tell the memory that `flags_of` takes."""
    return 4 * (samples.bit_length() + 2) if threshold > 0 else 0


class FlagsOfOthers:
    """The flags of the samples of a band without each of them in turn, which all cover it.

    They hardly differ from those of all samples together: by what one of these alone carries, or,
    where it takes more to be kept, by what would lose its majority.

    Parameters
    ----------
    threshold : float
        The fraction of the others that must carry a flag; at least one.
    samples : int
        How many there are, all told.
    height, columns : int
        Most rows of a band, and its columns.
    """

    def __init__(self, threshold: float, samples: int, height: int, columns: int) -> None:
        self._needed = samples_needed(threshold, samples - 1)
        self._flags = np.empty((samples, height, columns), np.uint32)
        self._every, self._lost, self._twice = np.empty((3, height, columns), np.uint32)
        digits = 0 if self._needed == 1 else samples.bit_length()
        self._digits = np.empty((digits, height * columns), np.uint32)
        self._covering = np.zeros(height * columns, np.uint8)
        self._differences = np.empty((2, height * columns), np.uint32)

    def sample(self, index: int, height: int) -> FlagImage:
        """Give an image of `height` rows, without flags, for those of a sample."""
        image = self._flags[index, :height]
        image.fill(0)
        return image

    def share(self, height: int) -> FlagImage:
        """Return, when all samples are there, the flags that the others are told against.

        They are those of all samples, (height, columns), until the next band.
        """
        every, lost, twice = (one[:height] for one in (self._every, self._lost, self._twice))
        every.fill(0)
        twice.fill(0)
        flags = [image[:height].reshape(-1) for image in self._flags]
        if self._needed == 1:
            for image in flags:
                tallies.note_carried(image, every.reshape(-1), twice.reshape(-1))
        else:
            self._count(flags, every.reshape(-1), twice.reshape(-1))
        np.bitwise_and(every, ~twice, out=lost)
        return every

    def _count(self, flags: Sequence[FlagImage], every: FlagImage, more: FlagImage) -> None:
        """Find the flags that as many samples carry as are needed, and those that more carry."""
        self._digits.fill(0)
        for image in flags:
            tallies.count_flags(image, 0, image.size, self._digits)
        for found, needed in ((every, self._needed), (more, self._needed + 1)):
            least = np.array([needed], np.uint32)
            tallies.add_frequent(self._digits, self._covering, least, found)

    def differences(self, index: int, counts: FlagImage) -> FlagImage:
        """Tell where the flags of the others of a sample are not those of all.

        Parameters
        ----------
        index : int
            Of the sample.
        counts : (height, columns) uint32
            The others that can be used; where there is none, DO_NOT_USE is set.

        Returns
        -------
        (2, pixels) uint32
            Places in the band, row after row, and bits that are to be inverted.
        """
        height = len(counts)
        every, lost = self._every[:height].reshape(-1), self._lost[:height].reshape(-1)
        own = self._flags[index, :height].reshape(-1)
        listed = tallies.list_differences(
            every, lost, own, counts.reshape(-1), DO_NOT_USE, self._differences
        )
        return self._differences[:, :listed]
