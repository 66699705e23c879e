"""The scales of templates on an image in which nothing but the image tells sources from sky.

1. The variance is the model's (`webbkg.template.noise`).
2. A first guess: least squares on a sample, clipped.
3. In each round residuals in units of their noise are looked at in bins of 2 x 2 pixels: what
   stands out against the level of its surroundings is source, and is left out (`numerics.sources`).
4. Templates and even sky are fitted together by weighted least squares to what is left, within
   `CLIP` standard deviations of the model; no template has a negative scale. The next round begins
   there, until the scales stay.
5. The errors are the larger of those of the noise and of a jackknife over blocks; a stated error of the flat field is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.sources import grade_difference
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, TemplateOptions
from webbkg.results import BoolImage, FloatImage, Status, TemplatesFit
from webbkg.template import kernels
from webbkg.template.noise import Noise, model_noise
from webbkg.template.solve import FEWEST, CellSums, Solution, solve

CLIP = 4.5
"""Standard deviations beyond which a pixel is left out, as in the robust fit of grism skies."""

FAR = 6.0
"""Most that one pixel counts where sources are looked for (standard deviations): a hot pixel is no
source."""

TILE = 64
"""Bins on a side of a tile, whose median is the level that sources stand out from: wider than they,
narrower than what a template may lack."""

MOST_ROUNDS = 6

TOLERANCE = 0.1
"""Change of the scales, in their standard errors, below which they stand."""

SAMPLE = 1 << 16
"""Pixels of the first guess, or somewhat more."""

FIRST_CLIP, FIRST_ROUNDS = 2.5, 10

LINES = 64
"""Rows that a thread takes at a time; a multiple of a cell's."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Image:
    """What is fitted: C-ordered arrays of one window.

    Attributes
    ----------
    values : (rows, columns) float32
        SCI; NaN where not fitted.
    templates : (templates, rows, columns) float32
    noise : Noise
    offered : int
        Pixels that are fitted.
    sky_terms : int
        Coefficients of the even sky: 0, 1, 3 or 6.
    """

    values: FloatImage
    templates: FloatImage
    noise: Noise
    offered: int
    sky_terms: int

    @property
    def place(self) -> tuple[Doubles, Doubles]:
        """Coordinates u of the columns and v of the rows, from -1 to 1."""
        rows, columns = self.values.shape
        return np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)

    def model(self, coefficients: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Give scales, even sky and noise as the kernels want them."""
        number = len(self.templates)
        sky = np.zeros(kernels.SKY_TERMS)
        sky[: self.sky_terms] = coefficients[number:]
        noise = np.array([self.noise.base, self.noise.per_signal])
        return coefficients[:number].copy(), sky, noise


class Fitted(NamedTuple):
    """Scales, and the pixels that they were fitted to."""

    fit: TemplatesFit
    sky: BoolImage  #: (rows, columns); False where source, and where nothing was to be fitted


SKY_TERMS = {"none": 0, "level": 1, "plane": 3, "curved": 6}
"""Coefficients of the even sky, by `TemplateOptions.template_sky`."""


def scale_templates(
    sci: npt.ArrayLike,
    dq: npt.ArrayLike | None,
    templates: npt.ArrayLike,
    variance: npt.ArrayLike,
    photons: npt.ArrayLike | None = None,
    options: TemplateOptions | None = None,
    *,
    region: tuple[slice, slice] | None = None,
    threads: int | None = None,
) -> Fitted:
    """Scale templates to an image; see the module.

    No argument is changed, and no result depends on the number of threads.

    Parameters
    ----------
    sci : (rows, columns) array_like, float32
        The image.
    dq : (rows, columns) array_like, uint32, or None
        Its data-quality flags: DO_NOT_USE and REFERENCE_PIXEL are not fitted.
    templates : (templates, rows, columns) array_like, float32
        On the same window, in any unit. Where one is not finite nothing is fitted.
    variance : (rows, columns) array_like, float32
        VAR_RNOISE, with `photons`; else ERR².
    photons : (rows, columns) array_like, float32, optional
        VAR_POISSON.
    options : TemplateOptions, optional
        Of which `template_sky`, `flat_error` and `flat_length` matter here.
    region : (slice, slice), optional
        Rows and columns in which they are fitted; by default everywhere.
    threads : int, optional
        Default: as many as this task may use.

    Returns
    -------
    Fitted
        Its fit is FAILED, with the reason, where there are no trustworthy scales.

    Raises
    ------
    OptionError
        If the shapes differ.

    Examples
    --------
    >>> rows, columns = np.mgrid[:128, :128]
    >>> wisp = np.exp(-(((rows - 60) / 20) ** 2) - ((columns - 70) / 30) ** 2)
    >>> noise = np.random.default_rng(1).normal(0, 0.01, wisp.shape)
    >>> fit, sky = scale_templates(0.3 + 0.1 * wisp + noise, None, [wisp], np.full(wisp.shape, 1e-4))
    >>> abs(fit.scales[0].scale - 0.1) < 3 * fit.scales[0].scale_err < 0.002
    True
    """
    options = options or TemplateOptions()
    threads = available_threads() if threads is None else threads
    planes = _planes(sci, dq, templates, variance, photons)
    values, offered = _chosen(planes, region)
    places = _sample(values)
    if offered < FEWEST:
        return _failed(f"only {offered} pixels can be fitted, {FEWEST} are needed", values)
    noise = model_noise(planes.variance, planes.photons, values, places)
    terms = SKY_TERMS[options.template_sky]
    image = Image(values, planes.templates, noise, offered, terms)
    return _fit(image, places, options, threads)


class _Planes(NamedTuple):
    sci: FloatImage
    dq: npt.NDArray[np.uint32]
    templates: FloatImage
    variance: FloatImage
    photons: FloatImage | None


def _planes(sci: Any, dq: Any, templates: Any, variance: Any, photons: Any) -> _Planes:
    """Take arrays as C arrays of their dtypes and one shape."""
    image = np.ascontiguousarray(sci, np.float32)
    planes = _Planes(
        image,
        np.zeros(image.shape, np.uint32) if dq is None else np.ascontiguousarray(dq, np.uint32),
        np.ascontiguousarray(templates, np.float32),
        np.ascontiguousarray(variance, np.float32),
        None if photons is None else np.ascontiguousarray(photons, np.float32),
    )
    shapes = {name: p.shape for name, p in planes._asdict().items() if p is not None}
    stack = shapes.pop("templates")
    if {*shapes.values()} != {stack[1:]} or image.ndim != 2 or 0 in image.shape or not stack[0]:
        met = ", ".join(f"{name} {shape}" for name, shape in {**shapes, "templates": stack}.items())
        raise OptionError(f"the planes must be images of one shape, (rows, columns) (got {met})")
    return planes


def _chosen(planes: _Planes, region: tuple[slice, slice] | None) -> tuple[FloatImage, int]:
    """Copy the pixels that can be fitted, NaN elsewhere; and tell how many there are."""
    where = region or (slice(None), slice(None))
    part = np.empty(planes.sci[where].shape, np.float32)
    cut = (np.ascontiguousarray(plane[where]) for plane in (planes.sci, planes.dq, planes.variance))
    sci, dq, read = cut
    stack = np.ascontiguousarray(planes.templates[:, where[0], where[1]])
    bits = DO_NOT_USE | REFERENCE_PIXEL
    number = kernels.choose_pixels(sci, dq, bits, stack, read, part)
    if region is None:
        return part, int(number)
    values = np.full(planes.sci.shape, np.nan, np.float32)
    values[where] = part
    return values, int(number)


def _sample(values: FloatImage) -> npt.NDArray[np.int64]:
    """Choose about `SAMPLE` of the pixels that are fitted, the same in every call."""
    places = np.flatnonzero(~np.isnan(values))
    return places[:: max(places.size // SAMPLE, 1) | 1]


def _failed(reason: str, values: FloatImage, **told: Any) -> Fitted:
    return Fitted(
        TemplatesFit(status=Status.FAILED, reason=reason, **told), np.zeros(values.shape, np.bool_)
    )


def _first_guess(image: Image, places: npt.NDArray[np.int64]) -> Doubles:
    """Fit a sample by least squares, again and again without what is far off."""
    rows, columns = np.unravel_index(places, image.values.shape)
    u, v = image.place
    u, v = u[columns], v[rows]
    even = [np.ones(places.size), u, v, u * u, u * v, v * v][: image.sky_terms]
    stack = image.templates.reshape(len(image.templates), -1)[:, places]
    matrix = np.stack([*stack.astype(np.float64), *even], axis=1)
    values = image.values.reshape(-1)[places].astype(np.float64)
    kept = np.ones(places.size, np.bool_)
    found = np.zeros(matrix.shape[1])
    for _ in range(FIRST_ROUNDS):
        part = matrix[kept]
        found = np.linalg.lstsq(part.T @ part, part.T @ values[kept], rcond=None)[0]
        residual = values - matrix @ found
        middle = np.median(residual[kept])
        width = FIRST_CLIP * 1.4826 * np.median(np.abs(residual[kept] - middle))
        near = np.abs(residual - middle) <= width
        if np.count_nonzero(near) < matrix.shape[1] + 1 or np.array_equal(near, kept):
            break
        kept = near
    return found


def _fit(
    image: Image, places: npt.NDArray[np.int64], options: TemplateOptions, threads: int
) -> Fitted:
    """Find sources and fit, in turn, until the scales stay."""
    number, now = len(image.templates), _first_guess(image, places)
    for round_ in range(1, MOST_ROUNDS + 1):
        masked = find_sources(image, now, threads)
        sums = sum_cells(image, now, masked, threads)
        if sums.sky_terms_that_hold < image.sky_terms:
            simpler = replace(image, sky_terms=sums.sky_terms_that_hold)
            return _fit(simpler, places, options, threads)
        found = solve(sums, now, number)
        if isinstance(found, str):
            return _failed(found, image.values, offered=image.offered, rounds=round_)
        moved = np.abs(found.coefficients - now)[:number]
        now = found.coefficients
        if np.all(moved <= TOLERANCE * found.white[:number]):
            break
    assert isinstance(found, Solution)
    sky = _on_pixels(masked, image.values)
    sources = 1 - float(np.count_nonzero(sky)) / image.offered
    return Fitted(_told(image, found, sums, options, round_, sources), sky)


def _told(
    image: Image,
    found: Solution,
    sums: CellSums,
    options: TemplateOptions,
    rounds: int,
    sources: float,
) -> TemplatesFit:
    number = len(image.templates)
    flat = found.flat_errors(sums, options.flat_error, options.flat_length)
    return TemplatesFit(
        status=Status.COMPLETE,
        scales=found.scales(number, flat),
        sky=tuple(found.coefficients[number:].tolist()),
        level=sums.level(found.coefficients[number:]),
        covariance=found.covariance(flat),
        chi2_dof=found.chi2_dof,
        offered=image.offered,
        used=found.used,
        rounds=rounds,
        sources=sources,
    )


def find_sources(image: Image, coefficients: Doubles, threads: int) -> BoolImage:
    """Find what stands out from a model and the level around it: (rows, columns) of bins."""
    rows, columns = image.values.shape
    size = kernels.BIN
    binned = np.empty((-(-rows // size), -(-columns // size)), np.float32)
    model, (u, v) = image.model(coefficients), image.place

    def worker() -> Callable[[int, int], None]:
        room = np.empty((3, columns))

        def run(start: int, stop: int) -> None:
            part = slice(start, stop)
            planes = image.values[part], image.templates[:, part], image.noise.read[part]
            out = binned[start // size : -(-stop // size)]
            kernels.bin_residuals(*planes, model, (u, v[part]), FAR, room, out)

        return run

    over_bands(split(rows, LINES), worker, threads=threads)
    masked: BoolImage = grade_difference(binned - smooth_level(binned)) > 0
    return masked


def smooth_level(binned: FloatImage) -> FloatImage:
    """Find the level of an image in tiles of `TILE` bins: medians, drawn out linearly between them."""
    rows, columns = (max(length // TILE, 1) for length in binned.shape)
    high, wide = (-(-length // n) for length, n in zip(binned.shape, (rows, columns), strict=True))
    padded = np.full((rows * high, columns * wide), np.nan, np.float32)
    padded[: binned.shape[0], : binned.shape[1]] = binned
    tiles = padded.reshape(rows, high, columns, wide).swapaxes(1, 2)[:, :, ::2, ::2]
    ordered = np.sort(tiles.reshape(rows, columns, -1), axis=2)  # NaN comes last
    number = np.count_nonzero(ordered == ordered, axis=2)
    middle = np.maximum(number - 1, 0) // 2
    level = np.take_along_axis(ordered, middle[:, :, np.newaxis], axis=2)[:, :, 0]
    known = level == level
    level = np.where(known, level, np.median(level[known]) if known.any() else 0)
    along_y = _between(binned.shape[0], high, rows)
    along_x = _between(binned.shape[1], wide, columns)
    return (along_y @ level.astype(np.float32) @ along_x.T).astype(np.float32)


def _between(length: int, size: int, tiles: int) -> FloatImage:
    """Weights of the tiles at each place of an axis, linear between their middles."""
    middles = (np.arange(tiles) + 0.5) * size - 0.5
    each = np.eye(tiles)
    at = np.arange(length)
    weights = np.stack([np.interp(at, middles, one) for one in each], axis=1)
    return weights.astype(np.float32)


def sum_cells(image: Image, coefficients: Doubles, masked: BoolImage, threads: int) -> CellSums:
    """Take the sums of `kernels.sum_cells` over the whole image."""
    rows, columns = image.values.shape
    size, terms = kernels.CELL, kernels.number_of_terms(len(image.templates))
    sums = np.empty((-(-rows // size), terms, -(-columns // size)))
    model, (u, v) = image.model(coefficients), image.place

    def worker() -> Callable[[int, int], None]:
        room, lanes = np.empty((4, columns)), np.empty((terms, columns))

        def run(start: int, stop: int) -> None:
            part = slice(start, stop)
            planes = image.values[part], image.templates[:, part], image.noise.read[part]
            hidden = masked[start // kernels.BIN : -(-stop // kernels.BIN)]
            out = sums[start // size : -(-stop // size)]
            place = u, v[part]
            kernels.sum_cells(*planes, hidden, model, place, CLIP, room, lanes, out)

        return run

    over_bands(split(rows, LINES), worker, threads=threads)
    return CellSums(sums, len(image.templates), image.sky_terms, (rows, columns))


def _on_pixels(masked: BoolImage, values: FloatImage) -> BoolImage:
    """Tell the pixels of a fit: those to be fitted that are no source."""
    rows, columns = values.shape
    wide = np.repeat(np.repeat(~masked, kernels.BIN, axis=0), kernels.BIN, axis=1)
    sky: BoolImage = wide[:rows, :columns] & ~np.isnan(values)
    return sky
