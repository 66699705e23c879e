"""A sky of several components: templates, and a smooth vector along dispersion, fitted together.

The model of a pixel is the sum of scaled templates and, if wanted, a constant or a cubic spline in
the place along dispersion. Noise, clip, strips and passes are those of `webbkg.wfss.robust`; each
pass solves for all coefficients at once. The spline is taken at the middle of each strip of 16
pixels, and in a last pass at each pixel.

Several templates have no scale below 0: of all subsets of them, that one counts which fits best
without any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import over_bands, split
from webbkg.results import BoolImage, ComponentFit, FitIteration, FloatImage, Status
from webbkg.results import StopReason as Stop
from webbkg.wfss import component_kernels as kernels
from webbkg.wfss import strips
from webbkg.wfss.fit_pixels import LINES, scattered
from webbkg.wfss.kernels import STRIP
from webbkg.wfss.noise import Noise, sample_places
from webbkg.wfss.robust import CLIP, LEARNING, MOST_PASSES, TOLERANCE, Common, Pixels

CONSTANT = 1
"""Freedom along dispersion: 0 for none, this for a constant, n > 1 for a spline of n pieces."""

DEGREE = 3

LEAST_OWN = 1e-4
"""Share of a template's information that must be left when the other columns are fitted too. With
less its scale is known a hundred times worse than alone: the shapes are one and the same."""

SMOOTHING = 1e-9
"""Weight of the spline's squared second differences, in the mean weight of a coefficient. It
carries the spline over places without pixels, and does nothing elsewhere."""

RIDGE = 1e-5
"""Weight of what a spline comes to, squared, in the weight of the pixels. Where template and spline
can stand for each other, as with a sky that is smooth along dispersion, it leaves to the spline what
the template cannot do. It biases their sum by less than a ten-thousandth of the sky."""

ROWS = 64
"""Rows of a matrix that are multiplied at a time."""

START_PIXELS = 1 << 15
START_STEPS = 10
"""Pixels and steps of the first guess, which minimises the absolute residuals."""

Doubles = npt.NDArray[np.float64]


class Sky(NamedTuple):
    """What is fitted: images of one shape, (rows, columns) float32."""

    values: FloatImage  #: SCI; NaN where not fitted
    templates: FloatImage  #: (templates, rows, columns), C-ordered
    noise: Noise

    @classmethod
    def of(cls, images: Pixels, *more: FloatImage) -> Sky:
        """Take the pixels of a fit of one template, and more templates."""
        if more:
            return cls(images.values, np.stack([images.template, *more]), images.noise)
        return cls(images.values, images.template[np.newaxis], images.noise)

    def length(self, *, along_x: bool) -> int:
        """Pixels along dispersion."""
        length: int = self.values.shape[1 if along_x else 0]
        return length


class Design(NamedTuple):
    """What the coefficients do: scales of the templates, then those of what is free."""

    templates: int
    freedom: int
    length: int

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.templates + (self.freedom + DEGREE if self.freedom > 1 else self.freedom)

    @property
    def basis(self) -> Doubles:
        """What is free at each pixel along dispersion, (length, coefficients)."""
        return basis(np.arange(self.length) + 0.5, self.length, self.freedom)

    @property
    def of_strips(self) -> Doubles:
        """Make templates and 1 of each strip of the coefficients: (strips, columns, size)."""
        starts = np.arange(0, self.length, STRIP)
        middles = 0.5 * (starts + np.minimum(starts + STRIP, self.length))
        free = basis(middles, self.length, self.freedom)
        design = np.zeros((len(starts), self.templates + 1, self.size))
        design[:, : self.templates, : self.templates] = np.eye(self.templates)
        design[:, self.templates, self.templates :] = free
        return design

    def profile(self, free: Doubles, *, exact: bool) -> Doubles:
        """Return what is free at each pixel along dispersion, or at the middle of its strip."""
        if exact:
            return self.basis @ free
        at_strips = self.of_strips[:, -1, self.templates :] @ free
        return np.repeat(at_strips, STRIP)[: self.length]

    def penalty(self, normal: Doubles) -> Doubles:
        """Return what keeps a spline defined, where it has no pixels and beside a template."""
        matrix = np.zeros_like(normal)
        if self.freedom > 1:
            free = slice(self.templates, None)
            weights = normal[free, free]
            bends = np.diff(np.eye(len(weights)), 2, axis=0)
            matrix[free, free] = RIDGE * weights
            matrix[free, free] += SMOOTHING * np.diagonal(weights).mean() * bends.T @ bends
        return matrix


def basis(places: npt.NDArray[np.floating], length: int, freedom: int) -> Doubles:
    """Return the uniform cubic B-splines of a length cut into pieces, (places, coefficients).

    A column of ones for `CONSTANT`, none for 0. Of splines of n pieces there are n + 3, and their sum
    is 1.
    """
    if freedom <= CONSTANT:
        return np.ones((len(places), freedom))
    away = np.abs(places[:, np.newaxis] / length * freedom - np.arange(-1, freedom + 2))
    near = 2 / 3 - away**2 + away**3 / 2
    return np.where(away < 1, near, np.maximum(2 - away, 0) ** 3 / 6)


@dataclass(frozen=True)
class Blocks:
    """Sums over the pixels of a fit by lines of blocks and strips along dispersion.

    Attributes
    ----------
    normal : (lines, strips, columns, columns) float64
        Of column·column/variance; the columns are the templates and 1.
    right : (lines, strips, columns) float64
        Of column·residual/variance.
    chi2, pixels : (lines, strips) float64
        Of residual²/variance and 1.
    """

    normal: Doubles
    right: Doubles
    chi2: Doubles
    pixels: Doubles

    @classmethod
    def of(cls, sums: Doubles, left_out: BoolImage) -> Blocks:
        """Add up what `sum_strips` made, (terms, lines, strips), of strips that are not left out."""
        lines = sums.shape[1]
        starts = np.arange(0, lines, -(-lines // strips.BLOCKS))
        kept = [np.add.reduceat(np.where(left_out, 0, term), starts, axis=0) for term in sums]
        *terms, chi2, pixels = kept
        columns = _columns_of(len(sums))
        normal = np.empty((*chi2.shape, columns, columns))
        for (one, other), term in zip(_pairs(columns), terms, strict=False):
            normal[..., one, other] = normal[..., other, one] = term
        return cls(normal, np.stack(terms[-columns:], axis=-1), chi2, pixels)

    def with_model(self, model: Doubles) -> Blocks:
        """Add a model, (strips, columns), to what these are the residuals of."""
        added = np.einsum("lscd,sd->lsc", self.normal, model)
        chi2 = self.chi2 + np.einsum("lsc,sc->ls", 2 * self.right + added, model)
        return Blocks(self.normal, self.right + added, chi2, self.pixels)

    def level(self, design: Design) -> Doubles:
        """Give the weighted mean of each column: coefficients times it are the mean model."""
        of_strips = np.einsum("lsc,sck->k", self.normal[..., -1, :], design.of_strips)
        mean: Doubles = of_strips / self.normal[..., -1, -1].sum()
        return mean

    @property
    def parts(self) -> list[slice]:
        """Strips of the blocks."""
        number = self.chi2.shape[1]
        return [slice(*ends) for ends in split(number, -(-number // strips.BLOCKS))]

    def equations(self, of_strips: Doubles) -> tuple[Doubles, Doubles]:
        """Return the normal equations of each block: (blocks, size, size) and (blocks, size).

        `of_strips` are those of a `Design`.
        """
        size = of_strips.shape[-1]
        normals, rights = [], []
        for part in self.parts:
            rows = of_strips[part].reshape(-1, size)
            weighted = self.normal[:, part] @ of_strips[part]
            weighted = weighted.reshape(len(self.chi2), -1, size)
            normals.append(rows.T @ weighted)
            rights.append(self.right[:, part].reshape(len(self.chi2), -1) @ rows)
        return np.concatenate(normals), np.concatenate(rights)


def fit_components(
    sky: Sky,
    common: Common,
    freedom: int = 0,
    *,
    start: Doubles | None = None,
    strips_leave: bool = True,
) -> ComponentFit:
    """Fit scaled templates and what is free along dispersion; see the module.

    Parameters
    ----------
    sky : Sky
        The values of the fit pixels, the templates, and the noise.
    common : Common
        Their counts, axis and threads; no result depends on the threads.
    freedom : int
        0: templates alone; 1: a constant too; n > 1: a cubic spline of n pieces along dispersion.
    start : (coefficients,) float64, optional
        First guess: the scales, then constant or spline.
    strips_leave : bool
        Strips along dispersion that stand out leave the fit. Else its pixels are those that the
        clip leaves, for images without dispersion.

    Returns
    -------
    ComponentFit
        FAILED, with the reason, where nothing is left to fit, or two components have one shape.
    """
    return Fitting(sky, common, freedom, strips_leave=strips_leave).run(start)


class Fitting:
    """A fit on its way; `blocks` are those of the last pass with the spline taken by strips."""

    def __init__(self, sky: Sky, common: Common, freedom: int, *, strips_leave: bool) -> None:
        self._sky, self._common, self._strips_leave = sky, common, strips_leave
        length = sky.length(along_x=common.along_x)
        self.design = Design(len(sky.templates), freedom, length)
        self.coefficients: Doubles = np.zeros(self.design.size)
        self.blocks: Blocks | None = None
        self._scatters: dict[int, float] = {}
        self._marked = 0.0
        self.taken_off = self.coefficients
        self._iterations: list[FitIteration] = []
        self._change = math.inf

    def run(self, start: Doubles | None = None) -> ComponentFit:
        """Fit until nothing moves."""
        sky, design, stopped = self._sky, self.design, Stop.MOST_ITERATIONS
        reason = why_alike(sky, self._common, design.freedom)
        if reason:
            return self._failed(reason)
        self.coefficients = first_guess(sky, design, self._common) if start is None else start
        skewness = _skewness(sky, design, self.coefficients)
        exact, number = False, 0
        while not exact:
            number += 1
            reason = self._pass(number - 1, skewness)
            if reason:
                return self._failed(reason)
            if self._change < TOLERANCE**2 * design.size:
                stopped = Stop.CONVERGED
            exact = stopped is Stop.CONVERGED or number == MOST_PASSES
        if design.freedom > CONSTANT:
            self._pass(number, skewness, exact=True)
        return replace(self._result(), iterations=tuple(self._iterations), stopped=stopped)

    def _pass(self, number: int, skewness: float, *, exact: bool = False) -> str:
        """Go once over all pixels, and solve; say why that cannot be."""
        design, before = self.design, self.coefficients
        blocks = self._sum(number, skewness, exact=exact)
        normals, rights = blocks.equations(design.of_strips)
        normal, used = normals.sum(axis=0), int(blocks.pixels.sum())
        reason = _nothing_left(normal, used, design)
        if reason:
            return reason
        self.coefficients = solve(normal, rights.sum(axis=0) + normal @ before, design)
        step = self.coefficients - before
        self._change = float(step @ normal @ step)
        self._last = blocks, normals, rights - normals @ step
        if not exact:
            self.blocks, self.taken_off = blocks, before
        offered, scale = self._common.offered, float(self.coefficients[0])
        self._iterations.append(FitIteration(offered=offered, rejected=offered - used, scale=scale))
        return ""

    def total_blocks(self) -> Blocks:
        """Return the sums of a pass for the whole of the sky, not for residuals of it."""
        assert self.blocks is not None
        return self.blocks.with_model(self.design.of_strips @ self.taken_off)

    def _sum(self, number: int, skewness: float, *, exact: bool) -> Blocks:
        sums = sum_strips(self._sky, self.coefficients, self.design, self._common, exact=exact)
        left_out: BoolImage = np.zeros(sums.shape[1:], np.bool_)
        if self._strips_leave:
            columns = self.design.templates + 1
            one = columns * (columns + 1) // 2 - 1
            of_strips = strips.StripSums(sums[one], *sums[-3:])
            if self.design.freedom > CONSTANT:
                of_strips = _about_their_median(of_strips)
            if number in LEARNING:
                self._scatters = strips.measure_scatters(of_strips)
            left_out = strips.mark(of_strips, self._scatters, skewness)
            whole = float(of_strips.weight.sum())
            self._marked = float(of_strips.weight[left_out].sum()) / whole if whole > 0 else 0.0
        return Blocks.of(sums, left_out)

    def _failed(self, reason: str) -> ComponentFit:
        return ComponentFit(
            status=Status.FAILED,
            reason=reason,
            freedom=self.design.freedom,
            offered=self._common.offered,
            sky_pixels=self._common.sky_pixels,
            along_x=self._common.along_x,
            noise=self._sky.noise.origin,
            per_signal=self._sky.noise.per_signal,
        )

    def _result(self) -> ComponentFit:
        blocks, normals, rights = self._last
        design, normal, found = self.design, normals.sum(axis=0), self.coefficients
        inverse = np.linalg.inv(normal + design.penalty(normal))
        white = strips.MARKING_COSTS**2 * inverse if self._strips_leave else inverse
        block, number = _block_covariance(inverse, normals, rights)
        level = blocks.level(design)
        errors = math.sqrt(level @ white @ level), math.sqrt(level @ block @ level)
        larger = strips.larger_error(*errors, number)
        chi2 = float(blocks.chi2.sum()) - self._change
        freedom = float(blocks.pixels.sum()) - design.size
        return replace(
            self._failed(""),
            status=Status.COMPLETE,
            scales=tuple(found[: design.templates].tolist()),
            white_errs=_errors(white, design),
            block_errs=_errors(block, design),
            free=found[design.templates :],
            profile=design.basis @ found[design.templates :],
            covariance=white if larger == errors[0] else block,
            level=float(level @ found),
            level_err=larger,
            chi2_dof=max(chi2, 0.0) / freedom if freedom > 0 else math.nan,
            marked=self._marked,
            scatters=tuple(self._scatters.values()),
        )


def sum_strips(
    sky: Sky, coefficients: Doubles, design: Design, common: Common, *, exact: bool
) -> Doubles:
    """Clip against a model, and sum what is left in strips: (terms, lines, strips) float64.

    What is free along dispersion is taken at each pixel if `exact`, else at the middle of each strip.

    Lines follow each other across dispersion, strips along it; the terms are those of
    `component_kernels.sum_components`.
    """
    along_x, (rows, columns) = common.along_x, sky.values.shape
    terms = kernels.number_of_terms(design.templates)
    step, size = (1, -(-columns // STRIP)) if along_x else (STRIP, columns)
    sums = np.empty((-(-rows // step), terms, size))
    scales = np.ascontiguousarray(coefficients[: design.templates])
    profile = design.profile(coefficients[design.templates :], exact=exact)
    model = float(sky.noise.per_signal), CLIP

    def worker() -> Callable[[int, int], None]:
        room = np.empty((terms, columns)), np.empty((kernels.BUFFERS, columns))

        def run(start: int, stop: int) -> None:
            planes = sky.values[start:stop], sky.noise.read[start:stop]
            part = sums[start // step : -(-stop // step)]
            kernels.sum_components(
                planes, sky.templates, start, scales, profile, model, along_x, room, part
            )

        return run

    over_bands(split(rows, LINES), worker, threads=common.threads)
    return sums.transpose(1, 0, 2) if along_x else sums.transpose(1, 2, 0)


class Sample(NamedTuple):
    """Some of the pixels: their columns, at each pixel and not by strips, and their values."""

    matrix: Doubles
    values: Doubles

    @classmethod
    def of(cls, sky: Sky, design: Design, common: Common) -> Sample:
        """Take up to twice `START_PIXELS` of those that can be fitted."""
        places = scattered(sky.values.size, max(sky.values.size // START_PIXELS, 1))
        values = sky.values.reshape(-1)[places].astype(np.float64)
        templates = sky.templates.reshape(design.templates, -1)[:, places].astype(np.float64)
        columns = sky.values.shape[1]
        along = places % columns if common.along_x else places // columns
        matrix = np.hstack([templates.T, design.basis[along]])
        known = np.isfinite(matrix).all(axis=1) & np.isfinite(values)
        return cls(matrix[known], values[known])

    def own_share(self, design: Design) -> float:
        """Tell how much of what tells a template's scale no other column has, of the least so."""
        normal = _products(self.matrix, self.matrix)
        normal += design.penalty(normal)
        unit = 1 / np.sqrt(np.maximum(np.diagonal(normal), 1e-300))
        try:
            inverse = np.linalg.inv(normal * np.outer(unit, unit))
        except np.linalg.LinAlgError:
            return 0.0
        shares = 1 / np.diagonal(inverse)[: design.templates]
        return max(float(shares.min()), 0.0)


def first_guess(sky: Sky, design: Design, common: Common) -> Doubles:
    """Minimise the absolute residuals of a sample of the pixels.

    A worse guess would not do: where it is off, all strips stand out and leave the fit for good.
    """
    matrix, values = Sample.of(sky, design, common)
    found: Doubles = np.zeros(design.size)
    if not len(values):
        return found
    weight = np.ones(len(values))
    for _ in range(START_STEPS):
        weighted = matrix * weight[:, np.newaxis]
        right = np.einsum("ij,i->j", weighted, values)
        found = solve(_products(weighted, matrix), right, design)
        left = np.abs(values - np.einsum("ij,j->i", matrix, found))
        weight = 1 / np.maximum(left, 0.1 * np.median(left) + 1e-30)
    return found


def _products(one: Doubles, other: Doubles) -> Doubles:
    """Multiply the transposed of one with the other, some rows at a time.

    So few that BLAS uses no threads for them: their number would change the last bits.
    """
    padded = [np.pad(matrix, ((0, -len(matrix) % ROWS), (0, 0))) for matrix in (one, other)]
    first, second = (matrix.reshape(-1, ROWS, matrix.shape[1]) for matrix in padded)
    products: Doubles = (first.transpose(0, 2, 1) @ second).sum(axis=0)
    return products


def solve(normal: Doubles, right: Doubles, design: Design) -> Doubles:
    """Solve the normal equations; with several templates, none of their scales is below 0."""
    matrix = normal + design.penalty(normal)
    best, least = np.zeros(design.size), math.inf
    for used in _subsets(design):
        part = np.zeros(design.size)
        part[used] = _solved(matrix[np.ix_(used, used)], right[used])
        allowed = design.templates == 1 or not (part[: design.templates] < 0).any()
        value = float(part @ matrix @ part / 2 - right @ part)
        if allowed and value < least:
            best, least = part, value
    return best


def _solved(matrix: Doubles, right: Doubles) -> Doubles:
    """Solve; of what cannot be told apart, take the least."""
    try:
        return np.asarray(np.linalg.solve(matrix, right), np.float64)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], np.float64)


def _subsets(design: Design) -> Iterator[list[int]]:
    """Give the coefficients of each subset of several templates, with all that is free."""
    free = list(range(design.templates, design.size))
    fewest = 1 if design.templates == 1 else 0
    for number in range(design.templates, fewest - 1, -1):
        for chosen in combinations(range(design.templates), number):
            if chosen or free:
                yield [*chosen, *free]


def _nothing_left(normal: Doubles, used: int, design: Design) -> str:
    """Say that there is nothing to solve; an empty string if there is."""
    alone: Doubles = np.diagonal(normal)[: design.templates]
    if used and (alone > 0).all():
        return ""
    which = "" if not used else "where a template is not 0 "
    return f"no sky pixel is left to fit {which}with a finite SCI, template and variance"


def why_alike(sky: Sky, common: Common, freedom: int) -> str:
    """Say that two components have one shape; an empty string if none have.

    A spline does not count: it leaves to a template what that can do.
    """
    design = Design(len(sky.templates), freedom if freedom <= CONSTANT else 0, 1)
    if design.size == 1:
        return ""
    sample = Sample.of(sky, design._replace(length=sky.length(along_x=common.along_x)), common)
    if not sample.matrix[:, : design.templates].any(axis=0).all():
        return ""
    own = sample.own_share(design)
    if own >= LEAST_OWN:
        return ""
    others = "a constant" if design.templates == 1 else "the others"
    return (
        f"the template has the shape of {others}: only {own:.2g} of what tells its scale is its "
        f"own, {LEAST_OWN:g} is needed"
    )


def _block_covariance(inverse: Doubles, normals: Doubles, rights: Doubles) -> tuple[Doubles, int]:
    """Return the coefficients' covariance by a jackknife over blocks, and their number.

    To first order in what a block does; see `strips.block_error`.
    """
    moves = rights[np.flatnonzero(np.einsum("bkk->b", normals))] @ inverse
    number = len(moves)
    factor = number / (number - 1) if number > 1 else math.nan
    covariance: Doubles = factor * moves.T @ moves
    return covariance, number


def _about_their_median(sums: strips.StripSums) -> strips.StripSums:
    """Compare strips with those at the same place along dispersion.

    What the spline does not fit stands out in all of them, and is not to leave the fit.
    """
    known = sums.weight > 0
    mean = np.divide(sums.cross, sums.weight, out=np.full_like(sums.cross, np.nan), where=known)
    mean.sort(axis=0)  # NaN to the end
    counts, places = known.sum(axis=0), np.arange(mean.shape[1])
    middle = (mean[counts // 2 - (counts % 2 == 0), places] + mean[counts // 2, places]) / 2
    middle[counts == 0] = 0.0
    return sums._replace(cross=sums.cross - sums.weight * middle)


def _errors(covariance: Doubles, design: Design) -> tuple[float, ...]:
    """Standard errors of the scales."""
    errors = np.sqrt(np.diagonal(covariance)[: design.templates])
    return tuple(errors.tolist())


def _skewness(sky: Sky, design: Design, coefficients: Doubles) -> float:
    """Skewness of the noise at the median of a first guess."""
    places = sample_places(sky.values.reshape(-1))
    if not places.size:
        return 0.0
    templates = sky.templates.reshape(design.templates, -1)[:, places]
    level = np.median(coefficients[: design.templates] @ templates)
    free = coefficients[design.templates :]
    level += free.mean() if free.size else 0.0
    return sky.noise.skewness(float(level), places) if math.isfinite(level) else 0.0


def _columns_of(terms: int) -> int:
    """Tell how many columns so many sums are of."""
    return next(n for n in range(2, terms) if kernels.number_of_terms(n - 1) == terms)


def _pairs(columns: int) -> list[tuple[int, int]]:
    return [(one, other) for one in range(columns) for other in range(one, columns)]
