"""SOSS, robust fit: all integrations as one deep frame, and what they say of the noise.

A few integrations are held; all others stream by once. What differs between two neighbours in
time is noise alone, whatever the star does in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize  # type: ignore[import-untyped]

from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL
from webbkg.results import BoolImage, FlagImage, FloatImage
from webbkg.soss import kernels
from webbkg.soss.stream import PLANES, Look, Stream

Values = npt.NDArray[np.float64]
Cube = npt.NDArray[np.float32]

PAIRS = 4  # of neighbours in time, which are held
CLIP = 5.0  # standard deviations that a sample may be off
LIGHT_SHARE = 0.02  # that a star may vary by, and is not clipped for
ENOUGH = 1 << 20  # differences, of which no more are looked at
SMALLEST_SAMPLE = 300  # of a bin of the noise law
MAD_TO_SIGMA = 1.4826
READ_SHARE = 0.02  # of the variance of the sky, that is read noise at least


@dataclass(frozen=True)
class NoiseLaw:
    """Variance of one integration's pixel: `read` + `photon` times its light.

    Column levels, which all pixels of a column share, are no part of it.
    """

    read: float
    photon: float

    def variance(self, light: npt.NDArray[np.floating]) -> Values:
        """Evaluate it; no light below 0."""
        return np.asarray(self.read + self.photon * np.maximum(light, 0.0), np.float64)


@dataclass(frozen=True)
class Deep:
    """The deep frame; all images are (columns, rows), as the fit goes column by column.

    Attributes
    ----------
    mean : (columns, rows) float64
        Clipped mean of the samples; 0 where there is none.
    count : (columns, rows) int64
        Samples in it.
    reference : (columns, rows) bool
        True on reference pixels, which see no light.
    differences : (pairs, columns, rows) float32
        Of neighbours in time, over sqrt(2), so that they have the variance of one; NaN where
        unknown. No pairs of a single integration.
    law : NoiseLaw
        Of one integration.
    level_variance : float
        Variance of the columns' levels in one integration, roughly.
    integrations : int
        How many were stacked.
    """

    mean: Values
    count: npt.NDArray[np.int64]
    reference: BoolImage
    differences: Cube
    law: NoiseLaw
    level_variance: float
    integrations: int


def stack(stream: Stream) -> Deep:
    """Stack all integrations of a stream in one pass, after a look at a few of them."""
    number = len(stream.integrations)
    pairs = _neighbours(number)
    sample, reference = _take(stream, sorted({index for pair in pairs for index in pair} or {0}))
    places = {index: place for place, index in enumerate(sorted({i for p in pairs for i in p}))}
    if number == 2:
        return _stack_two(sample, reference)
    centre = np.empty(stream.shape, np.float32)
    kernels.median_of_few(sample, centre)
    if number == 1:
        law = fit_noise_law(_along_columns(centre), _smooth(centre))
        return _turn(centre, np.isfinite(centre).astype(np.int64), reference, sample[:0], law, 1)
    differences = np.stack([sample[places[b]] - sample[places[a]] for a, b in pairs])
    differences *= np.float32(math.sqrt(0.5))
    del sample
    law = fit_noise_law(differences, _smooth(centre))
    tolerance = _tolerance(centre, differences, law, len(places))
    mean, count = _clipped_mean(stream, centre, tolerance)
    return _turn(mean, count, reference, differences, law, number)


def _neighbours(number: int) -> list[tuple[int, int]]:
    """Choose pairs of neighbours in time: all of a few, else some spread over the exposure."""
    if number <= 2 * PAIRS:
        return [(index, index + 1) for index in range(number - 1)]
    starts = np.rint(np.linspace(0, number - 2, PAIRS)).astype(int).tolist()
    return [(start, start + 1) for start in starts]


def _take(stream: Stream, chosen: list[int]) -> tuple[Cube, BoolImage]:
    """Read integrations whole, NaN where unusable; and which pixels are reference pixels."""
    rows = stream.shape[0]
    sample = np.empty((len(chosen), *stream.shape), np.float32)
    reference = np.zeros(stream.shape, np.bool_)
    room = stream.make_room(rows)
    for image, number in zip(sample, chosen, strict=True):
        segment, index = stream.integrations[number]
        sci, dq = segment.rows(PLANES, index, 0, rows, room)
        at = (dq & np.uint32(REFERENCE_PIXEL)) != 0
        reference |= at
        usable = np.isfinite(sci) & (at | ((dq & np.uint32(DO_NOT_USE)) == 0))
        np.copyto(image, np.where(usable, sci, np.float32(np.nan)))
    return sample, reference


def _smooth(image: FloatImage) -> FloatImage:
    """Median of 3 x 3 pixels; 0 for what is unknown."""
    known = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(ndimage.median_filter(known, size=3), np.float32)


def _along_columns(image: FloatImage) -> Cube:
    """Take second differences along the columns, which 1/f noise does not reach, as one 'pair'."""
    result = np.full((1, *image.shape), np.nan, np.float32)
    if len(image) >= 3:
        second = image[2:] - 2 * image[1:-1] + image[:-2]
        result[0, 1:-1] = second * np.float32(math.sqrt(1 / 6))
    return result


def fit_noise_law(differences: Cube, light: FloatImage) -> NoiseLaw:
    """Fit the variance of differences, free of column levels, as a line over the light.

    The variance in each bin of light is that of the median absolute deviation, which cosmic
    rays hardly reach.

    Parameters
    ----------
    differences : (pairs, rows, columns) float32
        With the variance of one integration; NaN where unknown.
    light : (rows, columns) float32
        Of the pixels.

    Returns
    -------
    NoiseLaw
    """
    every = differences.size // ENOUGH | 1  # odd, so as not to keep to one kind of column
    differences, light = differences[:, :, ::every], light[:, ::every]
    levels = np.stack([column_medians(one) for one in differences])
    deviations = np.abs(differences - levels[:, np.newaxis])
    known = np.isfinite(deviations)
    values = deviations[known]
    lights = np.broadcast_to(light, differences.shape)[known]
    if not values.size:
        return NoiseLaw(1.0, 0.0)
    order = np.argsort(lights, kind="stable")
    values, lights = values[order], lights[order]
    x, variance, weight = _binned(values, lights)
    terms = np.stack([np.ones_like(x), np.maximum(x, 0)], axis=1)
    (read, photon), _ = optimize.nnls(terms * weight[:, np.newaxis], variance * weight)
    middle = max(float(np.median(lights)), 0.0)
    typical = max(read + photon * middle, 1e-30)
    if read < READ_SHARE * typical:
        read = READ_SHARE * typical
        photon = min(photon, (typical - read) / middle) if middle > 0 else photon
    return NoiseLaw(float(read), float(photon))


def _binned(values: Cube, lights: Cube) -> tuple[Values, Values, Values]:
    """Mean light, variance and the root of its weight in bins of sorted light."""
    shares = [*np.linspace(0.02, 0.9, 13), 0.95, 0.98, 0.99, 0.995]
    edges = np.unique(np.rint(len(values) * np.array(shares)).astype(int))
    bins = [(a, b) for a, b in pairwise(edges) if b - a > SMALLEST_SAMPLE]
    bins = bins or [(0, len(values))]
    x = np.array([lights[a:b].mean(dtype=np.float64) for a, b in bins])
    variance = np.array([(MAD_TO_SIGMA * float(np.median(values[a:b]))) ** 2 for a, b in bins])
    number = np.array([b - a for a, b in bins])
    return x, variance, np.sqrt(number) / np.maximum(variance, 1e-30)


def column_medians(image: FloatImage) -> FloatImage:
    """Median of the finite values of each column; 0 where there is none."""
    ordered = np.sort(image, axis=0)  # NaN last
    number = np.isfinite(ordered).sum(axis=0)
    columns = np.arange(image.shape[1])
    low, high = np.maximum(number - 1, 0) // 2, number // 2
    middle = (ordered[low, columns] + ordered[np.minimum(high, len(image) - 1), columns]) / 2
    return np.where(number > 0, middle, np.float32(0)).astype(np.float32)


def _level_variance(differences: Cube) -> float:
    """Variance of the column levels of one integration; 0 if unknown."""
    if not len(differences):
        return 0.0
    levels = np.concatenate([column_medians(one) for one in differences])
    return float((MAD_TO_SIGMA * np.median(np.abs(levels - np.median(levels)))) ** 2)


def _tolerance(centre: FloatImage, differences: Cube, law: NoiseLaw, held: int) -> FloatImage:
    """Tell how far a sample may be from the median of those held."""
    light = np.maximum(np.nan_to_num(centre), 0)
    variance = law.variance(light) + _level_variance(differences)
    variance *= 1 + math.pi / 2 / held
    return (CLIP * np.sqrt(variance) + LIGHT_SHARE * light).astype(np.float32)


def _clipped_mean(
    stream: Stream, centre: FloatImage, tolerance: FloatImage
) -> tuple[Values, npt.NDArray[np.int64]]:
    total = np.zeros(stream.shape, np.float64)
    count = np.zeros(stream.shape, np.int64)

    def make_worker() -> Look:
        def look(row: int, sci: FloatImage, dq: FlagImage) -> None:
            here = slice(row, row + len(sci))
            kernels.add_near(sci, dq, centre[here], tolerance[here], total[here], count[here])

        return look

    stream.sweep(make_worker, stream.threads)
    return total / np.maximum(count, 1), count


def _stack_two(sample: Cube, reference: BoolImage) -> Deep:
    """Of two samples that differ too much the lower one stays: cosmic rays only add."""
    both = np.isfinite(sample).all(axis=0)
    number = np.isfinite(sample).sum(axis=0)
    mean = np.nansum(sample, axis=0, dtype=np.float64) / np.maximum(number, 1)
    difference = sample[1] - sample[0]
    level = column_medians(difference)
    differences = difference[np.newaxis] * np.float32(math.sqrt(0.5))
    light = _smooth(mean.astype(np.float32))
    law = fit_noise_law(differences, light)
    hit = both & (np.abs(difference - level) > CLIP * np.sqrt(2 * law.variance(light)))
    lower = np.minimum(sample[0] + level / 2, sample[1] - level / 2)
    mean = np.where(hit, lower, mean)
    count = np.where(hit, 1, number)
    differences[0, hit] = np.nan
    return _turn(mean, count, reference, differences, law, 2)


def _turn(
    mean: npt.NDArray[np.floating],
    count: npt.NDArray[np.integer],
    reference: BoolImage,
    differences: Cube,
    law: NoiseLaw,
    number: int,
) -> Deep:
    return Deep(
        mean=np.ascontiguousarray(np.where(count > 0, mean, 0).T, np.float64),
        count=np.ascontiguousarray(count.T, np.int64),
        reference=np.ascontiguousarray(reference.T),
        differences=np.ascontiguousarray(differences.transpose(0, 2, 1)),
        law=law,
        level_variance=_level_variance(differences),
        integrations=number,
    )
