"""Image from image: the averages of a group of exposures without each of them in turn.

Nods and dithers see a source in another place each, so that each exposure's background is the
average of the others. One pass over the exposures gives all of these averages: a band of each is
read once, and what the averages of its samples have in common is found once (see
`webbkg.image.jackknife`). Every average has the bits that `average_exposures` gives of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from webbkg.image.average import ImageReader, Tally, share_memory
from webbkg.image.flags import FlagsOfOthers
from webbkg.image.jackknife import make_jackknife
from webbkg.image.unkept import on_lines
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import Overlap, Placed
from webbkg.options import ImageOptions
from webbkg.results import FlagImage, FloatImage, SampleCounts

MOST_MEMORY = 16 * 2**20
"""Bytes for a band: it is gone through once for each exposure, and is to stay in the caches."""


@dataclass(frozen=True)
class Rows:
    """Rows of one average; the arrays belong to a buffer that is used again.

    Attributes
    ----------
    sci, err : (rows, columns) float32
        Mean, and its uncertainty.
    flags : (rows, columns) uint32
        Those of all exposures together, the same for each average.
    differences : (2, pixels) uint32
        In which pixels of these rows the average has others: their number, row after row, and the
        bits that differ.
    counts : (rows, columns) uint32
        Exposures in the mean.
    """

    sci: FloatImage
    err: FloatImage
    flags: FlagImage
    differences: FlagImage
    counts: FlagImage


Keep = Callable[[int, int, Rows], None]
"""Takes the exposure that is left out, the first row, and rows of the average of the others."""


def is_covered(sources: Sequence[Placed], shape: tuple[int, int], options: ImageOptions) -> bool:
    """Tell whether one pass gives the averages: of two exposures or more, on one window.

    Not where levels are matched or sources left out: what one exposure comes to there depends on
    which others there are.
    """
    whole = Overlap.whole(shape)
    return (
        len(sources) > 1
        and all(source.overlap == whole for source in sources)
        and all(source.planes.shape[1:] == shape for source in sources)
        and options.match_background == "none"
        and not options.mask_sources
        and options.source_mask is None
    )


def average_others(
    sources: Sequence[Placed],
    shape: tuple[int, int],
    options: ImageOptions,
    keep: Keep,
    *,
    errors: bool = True,
    threads: int | None = None,
) -> list[Tally]:
    """Average, for each exposure, all the others; see `is_covered` for when.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, SCI, ERR and DQ, each of which lies on the whole window.
    shape : (rows, columns)
        Of the window.
    options : ImageOptions
        Clip threshold, noise and iterations, and the memory for samples.
    keep : callable
        Called with each average, band by band, by several threads at a time.
    errors : bool
        Whether ERR is wanted; if not, that of the averages means nothing.
    threads : int, optional
        Default: as many as this task may use. The result does not depend on it.

    Returns
    -------
    list of Tally
        What became of the samples of each average.
    """
    rows, columns = shape
    errors = errors or options.clip_noise == "model"
    threads = available_threads() if threads is None else threads
    memory = min(options.band_memory, MOST_MEMORY)
    height, crew = share_memory(_bytes_a_row(sources, columns), memory, threads)

    def make_worker() -> Callable[[int, int], list[Tally]]:
        return _BandAverager(sources, columns, options, min(height, rows), errors, keep).average

    parts = over_bands(split(rows, height), make_worker, threads=crew)
    return [sum((part[index] for part in parts), Tally()) for index in range(len(sources))]


def errors_of_others(
    sources: Sequence[Placed], columns: int, options: ImageOptions, lines: range
) -> FloatImage:
    """Return ERR of each average in some rows alone: (averages, lines, columns) float32."""
    errors = np.empty((len(sources), len(lines), columns), np.float32)

    def keep(index: int, start: int, rows: Rows) -> None:
        errors[index, start : start + len(rows.err)] = rows.err

    placed = [on_lines(source, lines) for source in sources]
    average_others(placed, (len(lines), columns), options, keep)
    return errors


def _bytes_a_row(sources: Sequence[Placed], columns: int) -> int:
    """Memory of a row on one thread.

    SCI, ERR and flags of each exposure; the averages where there are outliers, and what is
    averaged one by one, which may be all; integrations; the rest.
    """
    most = max(source.planes.shape[0] for source in sources)
    return columns * (32 * (len(sources) + 4) + 8 * (most + 2))


class _BandAverager:
    """One thread's buffers, and the way of a band through them."""

    def __init__(
        self,
        sources: Sequence[Placed],
        columns: int,
        options: ImageOptions,
        height: int,
        errors: bool,
        keep: Keep,
    ) -> None:
        self._sources = sources
        self._keep = keep
        self._reader = ImageReader(sources, columns, options, height, errors)
        self._samples = make_jackknife(len(sources), height, columns, options, errors)
        self._flags = FlagsOfOthers(options.dq_threshold, len(sources), height, columns)
        self._sci, self._err = np.empty((2, height, columns), np.float32)
        self._counts = np.empty((height, columns), np.uint32)

    def average(self, start: int, stop: int) -> list[Tally]:
        """Average the others of each exposure in rows `start` to `stop`."""
        integrations = self._read(start, stop)
        every = sum(integrations, SampleCounts())
        flags = self._flags.share(stop - start)
        self._samples.begin(stop - start)
        return [
            self._average_one(index, start, flags, _without(every, own))
            for index, own in enumerate(integrations)
        ]

    def _read(self, start: int, stop: int) -> list[SampleCounts]:
        """Read the band of every exposure."""
        told, height = [], stop - start
        for index, source in enumerate(self._sources):
            sci, err = self._samples.images(index, height)
            flags = self._flags.sample(index, height)
            told.append(self._reader.read(source, (start, stop), start, sci, err, flags))
        return told

    def _average_one(
        self, index: int, start: int, flags: FlagImage, integrations: SampleCounts
    ) -> Tally:
        height = len(flags)
        sci, err, counts = self._sci[:height], self._err[:height], self._counts[:height]
        counted = self._samples.average(index, height, sci, err, counts)
        differences = self._flags.differences(index, counts)
        self._keep(index, start, Rows(sci, err, flags, differences, counts))
        return Tally(counted, integrations, counts.size - int(np.count_nonzero(counts)))


def _without(every: SampleCounts, one: SampleCounts) -> SampleCounts:
    return SampleCounts(
        offered=every.offered - one.offered,
        usable=every.usable - one.usable,
        clipped=every.clipped - one.clipped,
    )
