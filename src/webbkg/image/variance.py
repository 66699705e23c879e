"""Image from image: the variance of the combined background, split by its kinds.

How much of it is photon noise, read noise and flat field is told by the exposures' own variance
planes: the share of each kind is the mean of its shares in the samples, so that a cosmic ray,
whose photon noise is huge, weighs no more than the others. What is split is err² of the average,
which rests on the very samples that clipping kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from webbkg.image import tallies
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import VARIANCES, Placed
from webbkg.results import CombinedBackground, FloatImage, Variances

ROWS_A_BAND = 16


def split_variance(
    background: CombinedBackground, sources: Sequence[Placed], *, threads: int | None = None
) -> CombinedBackground:
    """Split the variance of a combined background by the variance planes of its exposures.

    Samples tell of it whose variances are finite, not negative and not all 0. Where no sample
    does, all of err² is taken as the photons' (`poisson`): what weights by VAR_RNOISE stays
    unaffected then.

    Parameters
    ----------
    background : CombinedBackground
        The average of the exposures.
    sources : sequence of Placed
        The exposures, placed on the same target.
    threads : int, optional
        Default: as many as this task may use. The result does not depend on it.

    Returns
    -------
    CombinedBackground
        With `variances`, which add up to err²; `flat` is None if no exposure has a VAR_FLAT.
    """
    rows, columns = background.sci.shape
    has_flat = any(source.planes.has("VAR_FLAT") for source in sources)
    variances = [np.empty((rows, columns), np.float32) for _ in range(2 + has_flat)]

    def make_worker() -> Callable[[int, int], None]:
        work = _Splitter(sources, columns)

        def of_band(start: int, stop: int) -> None:
            work.split(start, background.err[start:stop], [one[start:stop] for one in variances])

        return of_band

    threads = available_threads() if threads is None else threads
    over_bands(split(rows, ROWS_A_BAND), make_worker, threads=threads)
    return replace(background, variances=Variances(**dict(zip(_KINDS, variances, strict=False))))


_KINDS = ("poisson", "rnoise", "flat")


class _Splitter:
    """One thread's buffers, and the way of a band through them."""

    def __init__(self, sources: Sequence[Placed], columns: int) -> None:
        self._sources = [one for one in sources if one.planes.has("VAR_POISSON")]
        widest = max((one.planes.shape[2] for one in sources), default=0)
        self._room = np.empty(len(VARIANCES) * ROWS_A_BAND * widest, np.uint32)
        self._none = np.zeros(ROWS_A_BAND * widest, np.float32)
        self._sums = np.empty((3, ROWS_A_BAND, columns), np.float32)

    def split(self, start: int, err: FloatImage, variances: Sequence[FloatImage]) -> None:
        """Split the variance of a band that begins at target row `start`."""
        self._sums.fill(0)
        for source in self._sources:
            self._add(source, start, len(err))
        samples, rnoise, flat = self._sums[:, : len(err)]
        for share in (rnoise, flat):
            np.divide(share, samples, out=share, where=samples > 0)
        with np.errstate(over="ignore"):
            # Not err² first: where that is infinite, a share of 0 would be NaN of it.
            shares = np.maximum(1 - rnoise - flat, 0), rnoise, flat
            for variance, share in zip(variances, shares, strict=False):
                np.multiply(share * err, err, out=variance)

    def _add(self, source: Placed, start: int, height: int) -> None:
        """Add the shares of one exposure's samples, integration by integration."""
        overlap, planes = source.overlap, source.planes
        first, last = max(start, overlap.rows[0]), min(start + height, overlap.rows[1])
        if first >= last:
            return
        names = [name for name in VARIANCES if planes.has(name)]
        shape = len(names), last - first, planes.shape[2]
        room = self._room[: math.prod(shape)].reshape(shape)
        none = self._none[: math.prod(shape[1:])].reshape(shape[1:])
        row = overlap.other_rows[0] + first - overlap.rows[0]
        width = overlap.columns[1] - overlap.columns[0]
        for integration in range(planes.shape[0]):
            found = planes.rows(names, integration, row, row + last - first, room)
            given = dict(zip(names, found, strict=True))
            poisson, rnoise, flat = (given.get(name, none) for name in VARIANCES)
            of_kinds = poisson, rnoise, flat, overlap.other_columns[0]
            tallies.add_shares(*of_kinds, self._sums, first - start, overlap.columns[0], width)
