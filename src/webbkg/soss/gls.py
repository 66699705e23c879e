"""SOSS, robust fit: generalised least squares from sufficient statistics, column by column.

The data of a column are sky, wings, a level of its own, and independent noise. The levels are
Gaussian with the covariance of the 1/f noise and are integrated out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, linalg, optimize  # type: ignore[import-untyped]

from webbkg.numerics.parallel import over_bands, split
from webbkg.soss import kernels
from webbkg.soss.flicker import Flicker
from webbkg.soss.wings import BIN

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

COLUMNS_A_BAND = 64
SLOW = 64
DRAW_SEED = 12
RIDGE = 1e-10  # of the scaled matrix, whose diagonal is 1


@dataclass(frozen=True)
class Layout:
    """What the parameters are: each template left and right, then those of the wings.

    The wings have a strength for each kernel with each hat, in this order, some of which may be
    tied together.

    Attributes
    ----------
    templates, wings : int
        How many templates and kernels there are.
    right : (columns,) bool
        Where the right side is.
    hats : (hats, columns) float64
        Along dispersion.
    tie : (wings * hats, n) float64
        What makes the strengths of n parameters.
    """

    templates: int
    wings: int
    right: npt.NDArray[np.bool_]
    hats: Values
    tie: Values

    @property
    def transform(self) -> Values:
        """What makes the scales and strengths of the parameters."""
        return np.asarray(linalg.block_diag(np.eye(2 * self.templates), self.tie))

    @property
    def sources(self) -> Numbers:
        """For each scale and strength, and last the data, its place in the moments."""
        template = np.repeat(np.arange(self.templates), 2)
        wing = self.templates + np.repeat(np.arange(self.wings), len(self.hats))
        return np.concatenate([template, wing, [self.templates + self.wings]])

    @property
    def kinds(self) -> Values:
        """The different factors along the columns: left, right, each hat, and 1."""
        sides = np.stack([~self.right, self.right]).astype(np.float64)
        return np.concatenate([sides, self.hats, np.ones((1, len(self.right)))])

    @property
    def kind(self) -> Numbers:
        """For each scale and strength, and last the data, which of these it has."""
        hats = 2 + np.arange(len(self.hats))
        return np.concatenate(
            [np.tile([0, 1], self.templates), np.tile(hats, self.wings), [2 + len(hats)]]
        )

    @property
    def factors(self) -> Values:
        """Factors along the columns, for each scale and strength, and 1 for the data: (columns, n)."""
        return np.ascontiguousarray(self.kinds[self.kind].T)

    def of_template(self, index: int) -> Numbers:
        """Parameters of a template and of all wings."""
        wings = 2 * self.templates + np.arange(self.tie.shape[1])
        return np.concatenate([[2 * index, 2 * index + 1], wings])


@dataclass(frozen=True)
class Normal:
    """Normal equations: `matrix` @ parameters = `vector`, and the square of the data."""

    matrix: Values
    vector: Values
    square: float

    def chi2(self, parameters: Values, chosen: Numbers) -> float:
        """Chi-square with these parameters, and all others 0."""
        matrix = self.matrix[np.ix_(chosen, chosen)]
        half = self.vector[chosen]
        return float(self.square - 2 * parameters @ half + parameters @ matrix @ parameters)


def find_moments(
    data: Values, weights: Values, templates: Values, wings: Values, threads: int
) -> Values:
    """Products of templates, wings, data and 1 in each column: (columns, q, q) float64."""
    columns = len(data)
    q = len(templates) + len(wings) + 2
    moments = np.zeros((columns, q, q))

    def make_worker() -> Callable[[int, int], None]:
        room = np.empty(q)

        def work(start: int, stop: int) -> None:
            kernels.column_moments(start, stop, data, weights, templates, wings, BIN, room, moments)

        return work

    over_bands(split(columns, COLUMNS_A_BAND), make_worker, threads=threads)
    return moments


def add_reference(moments: Values, level: Values, weight: Values) -> Values:
    """Let the reference pixels tell of the level of each column too, with a weight each.

    In place: the moments may be large, and nobody needs those without.
    """
    moments[:, -2, -2] += weight * level**2
    moments[:, -2, -1] += weight * level
    moments[:, -1, -2] += weight * level
    moments[:, -1, -1] += weight
    return moments


def normal_equations(
    moments: Values,
    layout: Layout,
    flicker: Flicker,
    columns: npt.NDArray[np.bool_] | None = None,
) -> Normal:
    """Integrate the column levels out, of some columns or all.

    In each column the moments about the column's mean stay, and the means have the covariance
    of the levels plus that of their measurement.
    """
    weight = moments[:, -1, -1]
    seen = weight > 0 if columns is None else (weight > 0) & columns
    safe = np.where(seen, weight, 1.0)
    sums = np.where(seen[:, np.newaxis], moments[:, :-1, -1], 0.0)

    def within(here: slice) -> Values:
        part = moments[here, :-1, :-1] * seen[here, np.newaxis, np.newaxis]
        mean = sums[here] / safe[here, np.newaxis]
        part -= mean[:, :, np.newaxis] * sums[here, np.newaxis]
        return np.asarray(part)

    full = _summed(within, layout)
    means = sums[:, layout.sources] * layout.factors / safe[:, np.newaxis]
    solver = flicker.solver(np.where(seen, 1 / safe, np.inf))
    white = solver.whiten(means)
    full += np.einsum("cp,cq->pq", white, white)
    transform = linalg.block_diag(layout.transform, 1.0)
    full = transform.T @ ((full + full.T) / 2) @ transform
    return Normal(full[:-1, :-1], full[:-1, -1], float(full[-1, -1]))


def _summed(products: Callable[[slice], Values], layout: Layout) -> Values:
    """Sum products (columns, q, q) over the columns, for each pair of parameters and the data."""
    kinds, kind = layout.kinds, layout.kind
    one, other = np.triu_indices(len(kinds))
    place = np.empty((len(kinds), len(kinds)), np.int64)
    place[one, other] = place[other, one] = np.arange(len(one))
    pairs = kinds[one] * kinds[other]
    q = layout.templates + layout.wings + 1
    sums = np.zeros((len(pairs), q * q))
    for start, stop in split(kinds.shape[1], 4 * COLUMNS_A_BAND):
        part = products(slice(start, stop)).reshape(stop - start, q * q)
        sums += np.einsum("kc,cp->kp", pairs[:, start:stop], part)
    source = layout.sources
    return np.asarray(
        sums.reshape(len(pairs), q, q)[
            place[kind[:, np.newaxis], kind], source[:, np.newaxis], source
        ]
    )


def column_levels(
    moments: Values, layout: Layout, flicker: Flicker, parameters: Values, chosen: Numbers
) -> tuple[Values, float]:
    """Most likely column levels, given the parameters, and how odd they are.

    Returns
    -------
    levels : (columns,) float64
    oddness : float
        Chi-square of the slowest `SLOW` modes of the residual's column means, over their number,
        with the covariance that the levels and their measurement should have: 1 is right, and a
        sky that no template has makes more.
    """
    weight = moments[:, -1, -1]
    seen = weight > 0
    safe = np.where(seen, weight, 1.0)
    model = np.append(-layout.transform[:, chosen] @ parameters, 1.0)
    sums = moments[:, :-1, -1]
    residual = (sums[:, layout.sources] * layout.factors) @ model / safe
    residual = np.where(seen, residual, 0.0)
    if not seen.any():
        return np.zeros(len(seen)), 1.0
    solver = flicker.solver(np.where(seen, 1 / safe, np.inf))
    modes = fft.dct(solver.whiten(residual[:, np.newaxis])[seen, 0], norm="ortho")[:SLOW]
    return solver.levels(residual), float(np.mean(modes**2))


def held_out(halves: list[Normal], layout: Layout) -> float:
    """Chi-square of each half of the data with all parameters as the other one gives them.

    The halves are normal equations of all scales and strengths, none of them tied.
    """
    transform = layout.transform
    chosen = np.arange(transform.shape[1])
    tied = [
        Normal(transform.T @ one.matrix @ transform, transform.T @ one.vector, one.square)
        for one in halves
    ]
    return sum(
        other.chi2(_Scaled.of(one.matrix).solve(one.vector), chosen)
        for one, other in zip(tied, reversed(tied), strict=True)
    )


@dataclass(frozen=True)
class _Scaled:
    """A normal matrix with a diagonal of 1, in the form that a non-negative solver takes."""

    unit: Values  #: what parameters are multiplied by to be of one size
    present: npt.NDArray[np.bool_]  #: False for a parameter that the data do not know
    matrix: Values
    lower: Values  #: its Cholesky factor

    @classmethod
    def of(cls, matrix: Values) -> _Scaled:
        size = np.sqrt(np.maximum(np.diag(matrix), 0.0))
        present = size > 1e-12 * max(size.max(), 1e-300)
        unit = np.where(present, size, 1.0)
        scaled = matrix / unit[:, np.newaxis] / unit
        scaled = np.where(np.outer(present, present), scaled, 0.0)
        scaled[np.diag_indices(len(unit))] = 1.0 + RIDGE
        return cls(unit, present, scaled, np.asarray(np.linalg.cholesky(scaled), np.float64))

    def solve(self, vector: Values) -> Values:
        """Find the parameters, none of them negative."""
        right = np.where(self.present, vector / self.unit, 0.0)
        target = linalg.solve_triangular(self.lower, right, lower=True)
        found, _ = optimize.nnls(self.lower.T, target, maxiter=50 * len(right))
        return np.asarray(found / self.unit)


def solve(normal: Normal, chosen: Numbers, free: int = 2) -> tuple[Values, Values]:
    """Solve for some of the parameters, none of them negative.

    Returns
    -------
    parameters : (n,) float64
    covariance : (n, n) float64
        Over the first `free` parameters and those that are not 0; 0 for all others.
    """
    scaled = _Scaled.of(normal.matrix[np.ix_(chosen, chosen)])
    found = scaled.solve(normal.vector[chosen])
    active = found > 0
    active[:free] = True
    active &= scaled.present
    covariance = np.zeros_like(scaled.matrix)
    covariance[np.ix_(active, active)] = np.linalg.inv(scaled.matrix[np.ix_(active, active)])
    return found, covariance / scaled.unit[:, np.newaxis] / scaled.unit


def draw(normal: Normal, chosen: Numbers, found: Values, change: Values, number: int) -> Values:
    """Solve again with other noise, so many times: (number, n) float64.

    Parameters
    ----------
    normal, chosen
        As in `solve`, whose parameters are `found`, taken for the truth.
    change : (n, n) float64
        What `scatter` found: the noise of the vector is that matrix and the normal one.
    number : int
        How many.
    """
    matrix = normal.matrix[np.ix_(chosen, chosen)]
    scaled = _Scaled.of(matrix)
    noise = (matrix + change) / scaled.unit[:, np.newaxis] / scaled.unit
    values, vectors = np.linalg.eigh((noise + noise.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    expected = matrix @ found
    # The same noise for each exposure: the result is a function of the data.
    unit_noise = np.random.default_rng(DRAW_SEED).standard_normal((number // 2, len(chosen)))
    drawn = np.concatenate([unit_noise, -unit_noise]) @ root.T
    return np.stack([scaled.solve(expected + one * scaled.unit) for one in drawn])


def scatter(moments: Values, beyond: Values, layout: Layout, flicker: Flicker) -> Values:
    """What a change of the pixels' variance does to M' S**-1 M, the inverse of the covariance.

    With weights that are not those of the noise the covariance of the solution is
    C + C Q C, where C is that of `solve` and Q this matrix; that of the vector is C**-1 + Q.

    Parameters
    ----------
    moments : (columns, q, q) float64
        With the weights w.
    beyond : (columns, q, q) float64
        With w**2 (variance - 1 / w) for weights.
    layout, flicker
        As they were solved with.

    Returns
    -------
    (n, n) float64
    """
    weight = moments[:, -1, -1]
    seen = weight > 0
    safe = np.where(seen, weight, 1.0)
    source, factor = layout.sources[:-1], layout.factors[:, :-1]
    means = moments[:, source, -1] * factor / safe[:, np.newaxis]
    solver = flicker.solver(np.where(seen, 1 / safe, np.inf))
    levels = np.stack([solver.levels(one) for one in means.T], axis=1)
    products = _summed(lambda here: beyond[here, :-1, :-1], layout)[:-1, :-1]
    cross = np.einsum("cp,cq->pq", levels, beyond[:, source, -1] * factor)
    square = np.einsum("cp,cq->pq", levels * beyond[:, -1, -1][:, np.newaxis], levels)
    change = products - cross - cross.T + square
    return np.asarray(layout.transform.T @ change @ layout.transform)
