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
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.image import tallies
from webbkg.image.average import share_memory
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import VARIANCES, Placed
from webbkg.results import CombinedBackground, FloatImage, Variances

ROWS_A_BAND = 16

MOST_MEMORY = 8 * 2**20
"""Bytes for the sums of a group, which are to stay in the caches."""


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
        adder, room = _Adder(sources, columns), np.empty(3 * ROWS_A_BAND * columns, np.float32)

        def of_band(start: int, stop: int) -> None:
            here = _first(room, (3, stop - start, columns))
            here.fill(0)
            for source in sources:
                for integration in range(source.planes.shape[0]):
                    adder.add(source, integration, start, here)
            shares = _mean_shares(here)
            _split(background.err[start:stop], shares, [one[start:stop] for one in variances])

        return of_band

    threads = available_threads() if threads is None else threads
    over_bands(split(rows, ROWS_A_BAND), make_worker, threads=threads)
    return replace(background, variances=Variances(**dict(zip(_KINDS, variances, strict=False))))


_KINDS = ("poisson", "rnoise", "flat")

Keep = Callable[[int, int, FloatImage, FloatImage], None]
"""Takes the exposure that is left out, the first row, and rows of the mean shares of `rnoise` and
of `flat` in the variances of the others."""


def average_shares_of_others(
    sources: Sequence[Placed],
    shape: tuple[int, int],
    keep: Keep,
    *,
    threads: int | None = None,
) -> None:
    """Average, for each exposure, the shares in the variances of all the others.

    One pass over the exposures gives what `split_variance` finds for each average of others, which
    `variances_of` makes of them.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, each of which lies on the whole window.
    shape : (rows, columns)
        Of the window.
    keep : callable
        Called with each one's shares, band by band, by several threads at a time.
    threads : int, optional
        Default: as many as this task may use. The result does not depend on it.
    """
    rows, columns = shape
    number = len(sources) + 2
    threads = available_threads() if threads is None else threads
    height, crew = share_memory(12 * (number + 1) * columns, MOST_MEMORY, threads)
    height = min(height, ROWS_A_BAND)

    def make_worker() -> Callable[[int, int], None]:
        adder = _Adder(sources, columns)
        room = np.empty(number * 3 * height * columns, np.float32)

        def of_band(start: int, stop: int) -> None:
            *of_others, before, own = _first(room, (number, 3, stop - start, columns))
            before.fill(0)
            for index, source in enumerate(sources):
                of_others[index][...] = before  # those of the exposures after it follow
                for integration in range(source.planes.shape[0]):
                    own.fill(0)
                    adder.add(source, integration, start, own)
                    for one in (*of_others[:index], before):
                        one += own
            for index, one in enumerate(of_others):
                keep(index, start, *_mean_shares(one))

        return of_band

    over_bands(split(rows, height), make_worker, threads=crew)


def variances_of(
    err: FloatImage, rnoise: FloatImage, flat: FloatImage | None, *, has_flat: bool
) -> Variances:
    """Split err² of an average by the mean shares of its exposures, each (rows, columns).

    `has_flat` tells whether one of them has a VAR_FLAT; `flat` None stands for 0.
    """
    variances = [np.empty(err.shape, np.float32) for _ in range(2 + has_flat)]
    none = np.zeros((ROWS_A_BAND, err.shape[1]), np.float32)
    for start, stop in split(len(err), ROWS_A_BAND):
        here = slice(start, stop)
        shares = rnoise[here], none[: stop - start] if flat is None else flat[here]
        _split(err[here], shares, [one[here] for one in variances])
    return Variances(**dict(zip(_KINDS, variances, strict=False)))


class _Adder:
    """One thread's buffers, and the way of an exposure's variances to the sums of its shares."""

    def __init__(self, sources: Sequence[Placed], columns: int) -> None:
        widest = max((one.planes.shape[2] for one in sources), default=0)
        self._room = np.empty(len(VARIANCES) * ROWS_A_BAND * widest, np.uint32)
        self._none = np.zeros(ROWS_A_BAND * widest, np.float32)

    def add(self, source: Placed, integration: int, start: int, sums: FloatImage) -> None:
        """Add the shares of an integration's samples to `sums`, which begin at target row `start`.

        They are (3, rows, columns) float32: how many samples tell of their variance, and their
        shares of `rnoise` and of `flat`.
        """
        overlap, planes = source.overlap, source.planes
        first, last = max(start, overlap.rows[0]), min(start + sums.shape[1], overlap.rows[1])
        if first >= last or not planes.has("VAR_POISSON"):
            return
        names = [name for name in VARIANCES if planes.has(name)]
        shape = len(names), last - first, planes.shape[2]
        room, none = _first(self._room, shape), _first(self._none, shape[1:])
        row = overlap.other_rows[0] + first - overlap.rows[0]
        found = planes.rows(names, integration, row, row + last - first, room)
        given = dict(zip(names, found, strict=True))
        poisson, rnoise, flat = (given.get(name, none) for name in VARIANCES)
        width = overlap.columns[1] - overlap.columns[0]
        of_kinds = poisson, rnoise, flat, overlap.other_columns[0]
        tallies.add_shares(*of_kinds, sums, first - start, overlap.columns[0], width)


def _first(room: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Take the beginning of a buffer: kernels are compiled for what lies side by side alone."""
    return room[: math.prod(shape)].reshape(shape)


def _mean_shares(sums: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Turn sums of shares, see `_Adder.add`, into their means, in place: of `rnoise` and `flat`."""
    samples, rnoise, flat = sums
    for share in (rnoise, flat):
        np.divide(share, samples, out=share, where=samples > 0)
    return rnoise, flat


def _split(
    err: FloatImage, shares: tuple[FloatImage, FloatImage], variances: Sequence[FloatImage]
) -> None:
    """Fill variances, as many of the kinds as there are, with err² by the shares of the kinds."""
    rnoise, flat = shares
    with np.errstate(over="ignore"):
        # Not err² first: where that is infinite, a share of 0 would be NaN of it.
        of_kinds = np.maximum(1 - rnoise - flat, 0), rnoise, flat
        for variance, share in zip(variances, of_kinds, strict=False):
            np.multiply(share * err, err, out=variance)
