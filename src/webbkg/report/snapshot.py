"""What the pictures of a subtraction are drawn from: planes averaged into few pixels, profiles.

Taken while the target is as it was and the background is at hand; a few hundred kilobytes, which
outlive both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbkg.numerics.order import median
from webbkg.numerics.planes import PlaneSource
from webbkg.options import DO_NOT_USE, SOSS_LAST_COLUMN
from webbkg.report.sample import Sample, draw, robust_level, scatter_about
from webbkg.results import (
    Background,
    CombinedBackground,
    FloatImage,
    Frozen,
    Outcome,
    SossResult,
    UnkeptBackground,
)

MOST_PIXELS = 384
"""Rows and columns of a picture: about twice what is shown of it, for fine screens."""

MOST_INTEGRATIONS = 4
"""So many integrations of a cube are averaged, evenly in time."""

PARTS = 64
"""Parts of a profile."""

TIMES, TIME_PIXELS = 16, 2**19
"""SOSS: so many integrations tell how the sky changes in time, with so many pixels together."""

SIDE_WIDTH = 16
"""Columns of a part of the profile across the jump of a SOSS template."""

BAND_ROWS = 128
"""About so many rows are read at a time."""

LEVEL_ROWS = 64
"""So many rows of a background exposure tell the level of its sky."""

FAR = 5.0
"""What is further from the background (ERR) does not tell how the sky changes in time."""

MEDIAN_ERROR = 1.2533
"""Standard error of a median in those of a mean: sqrt(pi / 2), for Gaussian noise."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Picture(Frozen):
    """A plane, averaged into few pixels.

    Attributes
    ----------
    pixels : (rows, columns) float32
        Means of the usable pixels of each block; NaN where there is none.
    shape : tuple of int
        Rows and columns of the plane itself.
    """

    pixels: FloatImage
    shape: tuple[int, int]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges left, right, bottom, top in pixels of the plane, as Matplotlib takes them."""
        return -0.5, self.shape[1] - 0.5, -0.5, self.shape[0] - 0.5


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Profile(Frozen):
    """Medians along rows or columns, with their standard errors.

    Attributes
    ----------
    place, value, error : (parts,) float64
        Middle of each part (pixels); median and its standard error (unit of the target).
    """

    place: Values
    value: Values
    error: Values


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Histogram(Frozen):
    """How the sky pixels that are left scatter, in units of their ERR.

    Attributes
    ----------
    edges : (bins + 1,) float64
        In ERR.
    counts : (bins,) int64
        Pixels of each bin.
    pixels : int
        All of them, those beyond the edges too.
    center, scatter : float
        Median, and robust standard deviation.
    """

    edges: Values
    counts: npt.NDArray[np.int64]
    pixels: int
    center: float
    scatter: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sides(Frozen):
    """The sky on the two sides of the jump of a SOSS template, in the rows with the least starlight.

    Attributes
    ----------
    place, before, background : (parts,) float64
        Middle of each part (columns); medians of the target and of the background there.
    jump : tuple of int
        First and last of the columns, over the rows, in which the right side begins.
    """

    place: Values
    before: Values
    background: Values
    jump: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Times(Frozen):
    """How the scale of the sky changes in time.

    Attributes
    ----------
    integration : (n,) float64
        Number of the integration, the first 1.
    scale, error : (n,) float64
        The sky of it over the background that was subtracted, and its standard error.
    """

    integration: Values
    scale: Values
    error: Values


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Snapshot(Frozen):
    """What the pictures of one target are drawn from.

    Attributes
    ----------
    before : Picture
        SCI of the target; of a cube, of some integrations.
    background, after : Picture or None
        What was subtracted, and what that left; None where nothing was.
    sky : Picture or None
        Share of the pixels that the mask of a grism exposure takes for sky.
    counts : Picture or None
        Image mode: samples that a pixel of the background comes of.
    rows, columns : Profile or None
        What is left, along rows (by row) and along columns (by column).
    histogram : Histogram or None
        How it scatters.
    sides : Sides or None
        SOSS: the two sides of the jump.
    times : Times or None
        SOSS: the scale in time.
    levels : dict of str to float
        Image mode: the sky of each background exposure that was averaged.
    """

    before: Picture
    background: Picture | None = None
    after: Picture | None = None
    sky: Picture | None = None
    counts: Picture | None = None
    rows: Profile | None = None
    columns: Profile | None = None
    histogram: Histogram | None = None
    sides: Sides | None = None
    times: Times | None = None
    levels: dict[str, float] | None = None

    @property
    def stretch(self) -> tuple[float, float]:
        """Values from which on all three pictures are darkest and brightest: the sky of each fits."""
        return sky_range(one.pixels for one in (self.before, self.background, self.after) if one)

    @property
    def fine_stretch(self) -> tuple[float, float]:
        """The same for what is left alone: as far below zero as above."""
        if self.after is None:
            return self.stretch
        far = max(map(abs, sky_range([self.after.pixels])))
        return -far, far


def take(
    planes: PlaneSource,
    outcome: Outcome,
    exposures: Iterable[tuple[str, PlaneSource]] = (),
) -> Snapshot:
    """Take what the pictures of a subtraction are drawn from.

    Parameters
    ----------
    planes : PlaneSource
        SCI, and ERR and DQ where it has them, of the target before the subtraction.
    outcome : Outcome
        With its background, if there is one.
    exposures : iterable of (str, PlaneSource)
        Image mode: the background exposures, by their names.

    Returns
    -------
    Snapshot
        The same for planes in memory and in files.
    """
    background = outcome.background
    before, after = _before_and_after(planes, background)
    sky = None if outcome.sky_mask is None else shrink(outcome.sky_mask)
    if background is None:
        return Snapshot(before=before, sky=sky)
    is_soss = isinstance(outcome.result, SossResult)
    sample = draw(planes, background, outcome, *((TIMES, TIME_PIXELS) if is_soss else ()))
    return Snapshot(
        before=before,
        after=after,
        background=shrink(background.sci),
        sky=sky,
        counts=_counts(background),
        rows=_profile(sample, sample.row, planes.shape[1]),
        columns=_profile(sample, sample.column, planes.shape[2]),
        histogram=_histogram(sample),
        sides=_sides(sample, outcome) if is_soss else None,
        times=_times(sample) if is_soss else None,
        levels={name: sky_level(one) for name, one in exposures},
    )


def _counts(background: Background) -> Picture | None:
    """Average how many exposures are in a pixel; None where that is not known."""
    if not isinstance(background, CombinedBackground | UnkeptBackground):
        return None
    return None if background.counts is None else shrink(background.counts)


def sky_range(images: Iterable[FloatImage]) -> tuple[float, float]:
    """Tell from where to where the sky of some images goes; from 0 to 1 if there is none."""
    ends = []
    for image in images:
        level, scatter = robust_level(image[np.isfinite(image)])
        if math.isfinite(level):
            ends += [level - 3 * scatter, level + 5 * scatter]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _step(length: int) -> int:
    return max(1, -(-length // MOST_PIXELS))


def _sums(values: npt.NDArray[np.float32], steps: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Add up the pixels of blocks; the last ones may be smaller."""
    for axis, step in enumerate(steps):
        if step > 1:
            values = np.add.reduceat(values, np.arange(0, values.shape[axis], step), axis=axis)
    return values


def _means(total: FloatImage, number: FloatImage) -> FloatImage:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / number).astype(np.float32)


def shrink(plane: npt.NDArray[np.generic]) -> Picture:
    """Average a plane, (rows, columns), into few pixels; what is not finite is left out."""
    steps = _step(plane.shape[0]), _step(plane.shape[1])
    pieces = [_block(plane[start:stop], steps) for start, stop in _bands(plane.shape[0], steps[0])]
    totals, numbers = (np.concatenate(one) for one in zip(*pieces, strict=True))
    return Picture(pixels=_means(totals, numbers), shape=(plane.shape[0], plane.shape[1]))


def _block(plane: npt.NDArray[np.generic], steps: tuple[int, int]) -> tuple[FloatImage, FloatImage]:
    values = plane.astype(np.float32)
    usable = np.isfinite(values)
    values[~usable] = 0
    return _sums(values, steps), _sums(usable.astype(np.float32), steps)


def _bands(rows: int, step: int) -> Iterator[tuple[int, int]]:
    height = step * max(1, BAND_ROWS // step)
    for start in range(0, rows, height):
        yield start, min(start + height, rows)


def _before_and_after(
    planes: PlaneSource, background: Background | None
) -> tuple[Picture, Picture | None]:
    """Average SCI, as it is and with the background taken off, over blocks and integrations."""
    number, rows, columns = planes.shape
    steps = _step(rows), _step(columns)
    chosen = np.unique(np.linspace(0, number - 1, min(number, MOST_INTEGRATIONS)).round())
    size = -(-rows // steps[0]), -(-columns // steps[1])
    sums = np.zeros((4, *size), np.float32)
    for integration in chosen.astype(int):
        for start, stop in _bands(rows, steps[0]):
            sci = _usable_rows(planes, integration, start, stop)
            part = sums[:, start // steps[0] : -(-stop // steps[0])]
            part[:2] += _block(sci, steps)
            if background is not None:
                sky = background.sky(int(integration), slice(start, stop))
                covered = background.covered[start:stop]
                part[2:] += _block(sci - np.where(covered, sky, np.float32(0)), steps)
    shape = rows, columns
    after = None if background is None else Picture(pixels=_means(*sums[2:]), shape=shape)
    return Picture(pixels=_means(*sums[:2]), shape=shape), after


def _usable_rows(planes: PlaneSource, integration: int, start: int, stop: int) -> FloatImage:
    """Read rows of SCI; NaN where they are not to be used."""
    names = ["SCI", "DQ"] if planes.has("DQ") else ["SCI"]
    room = np.empty((len(names), stop - start, planes.shape[2]), np.uint32)
    sci, *flags = planes.rows(names, integration, start, stop, room)
    usable = np.isfinite(sci)
    for dq in flags:
        usable &= (dq & DO_NOT_USE) == 0
    return np.where(usable, sci, np.float32(np.nan))


def sky_level(planes: PlaneSource) -> float:
    """Tell the level of the sky of an exposure, roughly: some rows of its first integration."""
    step = max(1, planes.shape[1] // LEVEL_ROWS) | 1
    lines = range(min(step // 2, planes.shape[1] - 1), planes.shape[1], step)
    rows = np.concatenate([_usable_rows(planes, 0, line, line + 1) for line in lines])
    return robust_level(rows[np.isfinite(rows)])[0]


# Profiles and scatter.


def _by_part(
    part: npt.NDArray[np.integer], values: npt.NDArray[np.float32]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Give the values of each part that has any."""
    order = np.argsort(part, kind="stable")
    found, starts = np.unique(part[order], return_index=True)
    yield from zip(found.tolist(), np.split(values[order], starts[1:]), strict=True)


def _profile(sample: Sample, place: npt.NDArray[np.int32], length: int) -> Profile | None:
    """Take the medians of the parts of a profile."""
    if len(sample) == 0:
        return None
    width = max(1, -(-length // PARTS))
    told = []
    for part, values in _by_part(place // width, sample.residual):
        middle = median(values)
        scatter = scatter_about(middle, values)
        center = min((part + 0.5) * width, (part * width + length) / 2) - 0.5
        told.append((center, middle, MEDIAN_ERROR * scatter / math.sqrt(len(values))))
    places, medians, errors = np.array(told).T
    return Profile(place=places, value=medians, error=errors)


def _histogram(sample: Sample) -> Histogram | None:
    if len(sample) == 0:
        return None
    ratio = sample.residual / sample.err
    counts, edges = np.histogram(ratio, np.linspace(-5, 5, 81))
    center = median(ratio)
    return Histogram(
        edges=edges,
        counts=counts,
        pixels=len(sample),
        center=center,
        scatter=scatter_about(center, ratio),
    )


# SOSS.


def _sides(sample: Sample, outcome: Outcome) -> Sides | None:
    assert isinstance(outcome.result, SossResult)
    jump = outcome.result.fit.jump
    if len(sample) == 0 or jump.size == 0:
        return None
    part = sample.column // SIDE_WIDTH
    before = _by_part(part, sample.residual + sample.background)
    background = _by_part(part, sample.background)
    told = [
        ((number + 0.5) * SIDE_WIDTH - 0.5, median(one), median(other))
        for (number, one), (_, other) in zip(before, background, strict=True)
    ]
    places, befores, backgrounds = np.array(told).T
    ends = int(jump.min()), int(min(jump.max(), SOSS_LAST_COLUMN))
    return Sides(place=places, before=befores, background=backgrounds, jump=ends)


def _times(sample: Sample) -> Times | None:
    """Fit what is left of each integration to the background: how the scale differs in time."""
    near = np.abs(sample.residual) < FAR * sample.err
    sky = np.where(near, sample.background, np.float32(0)).astype(np.float64)
    weight, size = 1 / sample.err.astype(np.float64) ** 2, sample.shape[0]
    norm = np.bincount(sample.integration, weight * sky**2, minlength=size)
    total = np.bincount(sample.integration, weight * sky * sample.residual, minlength=size)
    known = np.flatnonzero(norm > 0)
    if len(known) < 2:
        return None
    sizes, lefts = norm[known].astype(np.float64), total[known].astype(np.float64)
    return Times(
        integration=known.astype(np.float64) + 1, scale=1 + lefts / sizes, error=1 / np.sqrt(sizes)
    )
