"""The fit pixels of a WFSS exposure, and the passes over them.

One pass an iteration: a sparse sample tells between which residuals the percentiles must lie;
one pass over all pixels counts the residuals on either side, collects the few between, and sums
the terms of those that are certainly kept. The counts prove where the percentiles are, exactly,
and the collected pixels complete the sums. If the sample has misled, they are selected from all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from webbkg.numerics import order
from webbkg.numerics.parallel import over_bands, split
from webbkg.options import DO_NOT_USE
from webbkg.results import BoolImage, FlagImage, FloatImage
from webbkg.wfss import kernels

CHUNK = 1 << 17  # pixels that a thread takes at a time, and whose sums are taken together
LINES = 64  # lines of an image that a thread takes at a time
SAMPLE = 1 << 16  # residuals that tell where the percentiles of all of them must lie
FLAG = np.uint32(DO_NOT_USE)
INFINITY = np.float32(np.inf)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Part = TypeVar("Part")


@dataclass(frozen=True)
class Planes:
    """What a fit works on: C-ordered images of one shape, in native byte order.

    Attributes
    ----------
    sci, err, template : (rows, columns) float32
        The target, its standard uncertainty, and the reference sky.
    dq, template_dq : (rows, columns) uint32
        Data-quality flags of target and template.
    sky : (rows, columns) bool
        True where sky.
    """

    sci: FloatImage
    err: FloatImage
    dq: FlagImage
    template: FloatImage
    template_dq: FlagImage
    sky: BoolImage


class Sums(NamedTuple):
    """Over the pixels of one fit: their number and sums of sci·bkg/var, bkg²/var, sci²/var."""

    pixels: int
    cross: float
    template: float
    target: float

    @property
    def scale(self) -> float:
        """The scale with the least chi-square; NaN where it has none."""
        return self.cross / self.template if self.template > 0 else math.nan

    @property
    def scale_err(self) -> float:
        """Its standard error, by propagation of ERR."""
        return 1 / math.sqrt(self.template)

    @property
    def chi2_dof(self) -> float:
        """Chi-square per degree of freedom; NaN for fewer than two pixels."""
        if self.pixels < 2:
            return math.nan
        # The least-squares scale makes the cross terms cancel.
        return max(self.target - self.scale * self.cross, 0.0) / (self.pixels - 1)


class _Rejection(NamedTuple):
    """What is kept after a fit: residuals from `scale` within `low` to `high`, inclusive."""

    scale: float = 0.0
    low: np.float32 = -INFINITY
    high: np.float32 = INFINITY

    @classmethod
    def between(cls, scale: float, lowest: float, highest: float) -> _Rejection:
        """Express two float64 limits in float32 such that the same float32 values pass."""
        if highest < lowest:  # as beyond the median: nothing is kept
            return cls(scale, INFINITY, INFINITY)
        low, high = np.float32(lowest), np.float32(highest)
        if float(low) < lowest:
            low = np.nextafter(low, INFINITY)
        if float(high) > highest:
            high = np.nextafter(high, -INFINITY)
        return cls(scale, low, high)


class _Bracket(NamedTuple):
    """Residuals below and above it are rejected and those amid its two ends are kept.

    In the ends, limits included, the percentiles are expected.
    """

    outer_low: np.float32
    inner_low: np.float32
    inner_high: np.float32
    outer_high: np.float32

    @property
    def limits(self) -> tuple[np.float32, np.float32, np.float32, np.float32]:
        """The four as a plain tuple."""
        return self.outer_low, self.inner_low, self.inner_high, self.outer_high

    @classmethod
    def at(cls, rejection: _Rejection) -> _Bracket:
        """Make a bracket with empty ends: what it rejects is exact already."""
        return cls(
            rejection.low,
            np.nextafter(rejection.low, -INFINITY),
            np.nextafter(rejection.high, INFINITY),
            rejection.high,
        )


class _Pass(NamedTuple):
    """What one pass found: residuals outside and in the ends of a bracket, sums amid them."""

    below: int
    above: int
    residuals: Floats
    places: Places
    sums: Sums


class FitPixels:
    """The pixels of a fit, and the passes over them.

    Of the size of an image there is one array: sci with NaN where a pixel is not, or no
    longer, fitted. A rejection waits until the next pass, which carries it out on its way.
    """

    def __init__(self, planes: Planes, threads: int) -> None:
        self._rows, self._columns = planes.sci.shape
        self._threads = threads
        self._chunks = split(planes.sci.size, CHUNK)
        self._values = np.empty(planes.sci.size, np.float32)
        self._template = planes.template.reshape(-1)
        self._pixels = self._values, self._template, planes.err.reshape(-1)
        self._waiting = _Rejection()
        counts, sums = self._prepare(planes)
        self.size = planes.sci.size
        self.usable_sky, self.lit_sky, fitted = (int(count) for count in counts)
        self.sums = Sums(fitted, *sums)
        self._sample = _Sample(self._values, self._template)

    @property
    def values(self) -> Floats:
        """The target in one row, with NaN where a pixel is not fitted; to look at only."""
        return self._values

    def _prepare(self, planes: Planes) -> tuple[npt.NDArray[np.int64], list[float]]:
        flat = tuple(plane.reshape(-1) for plane in vars(planes).values())

        def prepare(start: int, stop: int) -> tuple[npt.NDArray[np.int64], list[float]]:
            counts = np.zeros(3, np.int64)
            sums = np.zeros(kernels.TERMS)
            kernels.prepare(flat, start, stop, FLAG, self._values, counts, sums)
            return counts, sums.tolist()

        parts = self._over_chunks(prepare)
        counts = sum((part[0] for part in parts), np.zeros(3, np.int64))
        return counts, _add(part[1] for part in parts)

    def _over_chunks(self, work: Callable[[int, int], Part]) -> list[Part]:
        return over_bands(self._chunks, lambda: work, threads=self._threads)

    def reject(self, percent: float) -> int:
        """Reject the residuals' outer percentiles, fit again; return how many went."""
        scale = self.sums.scale
        ends = (percent, 100 - percent)
        bracket = self._sample.bracket(scale, percent)
        rejection = None
        if bracket is not None:
            found = self._pass(scale, bracket)
            rejection = _prove(found, bracket, self.sums, ends)
        if rejection is None:
            limits = order.percentiles(self._residuals(scale), ends)
            rejection = _Rejection.between(scale, *limits)
            found = self._pass(scale, _Bracket.at(rejection))
        before = self.sums.pixels
        self._sample.reject(rejection)
        self._waiting = rejection
        self.sums = self._with_ends(found, rejection)
        return before - self.sums.pixels

    def _pass(self, scale: float, bracket: _Bracket) -> _Pass:
        """Carry out the rejection that waits; count, collect and sum for the next."""
        waiting, self._waiting = self._waiting, _Rejection()
        parts = over_bands(
            self._chunks, lambda: self._make_pass(waiting, scale, bracket), threads=self._threads
        )
        below, above = (sum(part[0][end] for part in parts) for end in (0, 1))
        residuals = np.concatenate([part[1] for part in parts])
        places = np.concatenate([part[2] for part in parts])
        amid = self.sums.pixels - int(below) - int(above) - residuals.size
        sums = Sums(amid, *_add(part[3] for part in parts))
        return _Pass(int(below), int(above), residuals, places, sums)

    def _make_pass(
        self, waiting: _Rejection, scale: float, bracket: _Bracket
    ) -> Callable[[int, int], tuple[list[int], Floats, Places, list[float]]]:
        found = np.empty(CHUNK, np.float32)
        places = np.empty(CHUNK, np.int64)

        def run(start: int, stop: int) -> tuple[list[int], Floats, Places, list[float]]:
            counts = np.zeros(2, np.int64)
            sums = np.zeros(kernels.TERMS)
            size = kernels.reject_and_sum(
                self._pixels,
                start,
                stop,
                (waiting.scale, waiting.low, waiting.high),
                scale,
                bracket.limits,
                found,
                places,
                counts,
                sums,
            )
            return counts.tolist(), found[:size].copy(), places[:size].copy(), sums.tolist()

        return run

    def _with_ends(self, found: _Pass, rejection: _Rejection) -> Sums:
        """Add to the sums of a pass those pixels in its bracket's ends that are kept."""
        kept = (found.residuals >= rejection.low) & (found.residuals <= rejection.high)
        places = found.places[kept]
        value, sky, err = (image[places].astype(np.float64) for image in self._pixels)
        weight = 1 / err**2
        terms = (value * sky * weight, sky * sky * weight, value * value * weight)
        ends = [float(term.sum()) for term in terms]
        return Sums(found.sums.pixels + places.size, *_add([list(found.sums[1:]), ends]))

    def _settle(self) -> None:
        """Carry out the rejection that waits."""
        waiting, self._waiting = self._waiting, _Rejection()

        def reject(start: int, stop: int) -> None:
            kernels.reject(self._values[start:stop], self._template[start:stop], *waiting)

        self._over_chunks(reject)

    def _residuals(self, scale: float) -> Floats:
        self._settle()
        out = np.empty(self._values.size, np.float32)

        def subtract(start: int, stop: int) -> None:
            part = slice(start, stop)
            kernels.subtract(self._values[part], self._template[part], scale, out[part])

        self._over_chunks(subtract)
        return out

    def profile_rms(self, dispersion_axis: int) -> float:
        """Root mean square of the residuals' medians across dispersion."""
        scale = self.sums.scale
        self._settle()
        values = self._values.reshape(self._rows, self._columns)
        template = self._template.reshape(self._rows, self._columns)
        if dispersion_axis == 1:
            values, template = values.T, template.T
        medians = np.empty(values.shape[0])

        def measure(start: int, stop: int) -> None:
            lines = slice(start, stop)
            residuals = np.empty(values[lines].shape, np.float32)
            planes = values[lines].reshape(-1), template[lines].reshape(-1)
            kernels.subtract(*planes, scale, residuals.reshape(-1))
            medians[lines] = _line_medians(residuals)

        over_bands(split(len(medians), LINES), lambda: measure, threads=self._threads)
        known = medians[~np.isnan(medians)]
        return math.sqrt(np.mean(known**2)) if known.size else math.nan


def scattered(size: int, step: int) -> Places:
    """Choose one place of every `step`, scattered so that no column or row is preferred."""
    index = np.arange(size // step, dtype=np.int64)
    places: Places = index * step + ((index * 2654435761) % (1 << 32) * step >> 32)
    return places


class _Sample:
    """A sparse sample of the fit pixels, the same for every call on the same images."""

    def __init__(self, values: Floats, template: Floats) -> None:
        step = values.size // SAMPLE
        # Where it is less than 4, the image is too small for a sample to pay.
        places = scattered(values.size, step) if step >= 4 else np.empty(0, np.int64)
        places = places[~np.isnan(values[places])]
        self._values = values[places].astype(np.float64)
        self._template = template[places].astype(np.float64)

    def _residuals(self, scale: float) -> Floats:
        return (self._values - scale * self._template).astype(np.float32)

    def reject(self, rejection: _Rejection) -> None:
        """Leave out what a rejection takes away."""
        residuals = self._residuals(rejection.scale)
        kept = (residuals >= rejection.low) & (residuals <= rejection.high)
        self._values = self._values[kept]
        self._template = self._template[kept]

    def bracket(self, scale: float, percent: float) -> _Bracket | None:
        """Tell between which residuals the outer percentiles must lie; None if it cannot."""
        if not self._values.size:
            return None
        low, high = order.guess(self._residuals(scale), (percent, 100 - percent), order.SIGMAS)
        bracket = _Bracket(*low, *high)
        return bracket if bracket.inner_low < bracket.inner_high else None


def _prove(
    found: _Pass, bracket: _Bracket, before: Sums, percent: Sequence[float]
) -> _Rejection | None:
    """Work the exact percentiles out of a pass; None if its counts show that it missed them."""
    at_low = found.residuals <= bracket.inner_low
    ends = found.residuals[at_low], found.residuals[~at_low]
    firsts = found.below, before.pixels - found.above - ends[1].size
    low, high = (
        order.percentile(before.pixels, one, order.Inside(first, end).value)
        for one, first, end in zip(percent, firsts, ends, strict=True)
    )
    if low is None or high is None:
        return None
    return _Rejection.between(before.scale, low, high)


def _line_medians(lines: Floats) -> npt.NDArray[np.float64]:
    """Medians of the rows of an image, which is reordered; NaN is left out."""
    lines.sort(axis=1)  # NaN to the end
    counts = np.count_nonzero(lines == lines, axis=1)
    rows = np.arange(len(lines))
    upper, lower = lines[rows, counts // 2], lines[rows, (counts - 1) // 2]
    medians: npt.NDArray[np.float64] = 0.5 * (upper.astype(np.float64) + lower)
    return medians


def _add(parts: Iterable[Sequence[float]]) -> list[float]:
    """Add sums term by term, exactly rounded and so in no particular order."""
    return [math.fsum(terms) for terms in zip(*parts, strict=True)]
