"""Image from image: which flags of the samples reach the combined background.

Every one that any sample carries, or those that enough of them carry. All 32 flags of a pixel are
counted at once, in words that each hold one binary digit of the 32 counts.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from webbkg.image import tallies
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
