"""SOSS: the integrations of all segments as one stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from webbkg.errors import InputError
from webbkg.numerics.parallel import over_bands, split
from webbkg.numerics.planes import PlaneSource, Words
from webbkg.results import FlagImage, FloatImage

PLANES = ("SCI", "DQ")
MOST_ROWS_A_BAND = 32

Look = Callable[[int, FloatImage, FlagImage], None]
"""Takes the first row of a band, and its SCI and DQ."""


class Stream:
    """The integrations of all segments one after another, in bands of rows over threads."""

    def __init__(self, segments: Sequence[PlaneSource], threads: int) -> None:
        shapes = list(dict.fromkeys(segment.shape[1:] for segment in segments))
        if len(shapes) != 1:
            raise InputError(
                f"segments must be at least one, all of the same rows and columns (got {shapes})"
            )
        self.shape = shapes[0]
        self.threads = threads
        self.lengths = [segment.shape[0] for segment in segments]
        self.integrations = [
            (segment, index) for segment in segments for index in range(segment.shape[0])
        ]
        height = self.shape[0] // (4 * threads)
        self.bands = split(self.shape[0], min(max(height, 1), MOST_ROWS_A_BAND))

    @property
    def height(self) -> int:
        """Rows of a band, at most."""
        return self.bands[0][1]

    def make_room(self, height: int) -> Words:
        """Make room for so many rows of the planes."""
        return np.empty((len(PLANES), height, self.shape[1]), np.uint32)

    def sweep(self, make_worker: Callable[[], Look], threads: int) -> None:
        """Show every band of every integration to a thread's worker.

        A band belongs to one thread, and its integrations come in order.
        """

        def make_reader() -> Callable[[int, int], None]:
            look = make_worker()
            room = self.make_room(self.height)

            def read(start: int, stop: int) -> None:
                rows = room[:, : stop - start]
                for segment, index in self.integrations:
                    look(start, *segment.rows(PLANES, index, start, stop, rows))

            return read

        over_bands(self.bands, make_reader, threads=threads)
