"""SOSS, robust fit: generalised least squares from sufficient statistics, column by column.

The data of a column are sky, wings, a level of its own, and independent noise. The levels are
Gaussian with the covariance of the 1/f noise and are integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize  # type: ignore[import-untyped]

from webbkg.numerics.parallel import over_bands, split
from webbkg.soss import kernels
from webbkg.soss.flicker import Flicker
from webbkg.soss.wings import BIN

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

COLUMNS_A_BAND = 64
RIDGE = 1e-10  # of the scaled matrix, whose diagonal is 1


@dataclass(frozen=True)
class Layout:
    """What the parameters are: each template left and right, then each kernel with each hat.

    Attributes
    ----------
    templates, wings : int
        How many templates and kernels there are.
    right : (columns,) bool
        Where the right side is.
    hats : (hats, columns) float64
        Along dispersion.
    """

    templates: int
    wings: int
    right: npt.NDArray[np.bool_]
    hats: Values

    @property
    def sources(self) -> Numbers:
        """For each parameter, and last the data, its place in the moments."""
        template = np.repeat(np.arange(self.templates), 2)
        wing = self.templates + np.repeat(np.arange(self.wings), len(self.hats))
        return np.concatenate([template, wing, [self.templates + self.wings]])

    @property
    def factors(self) -> Values:
        """Factors along the columns, for each parameter, and 1 for the data: (columns, n)."""
        sides = np.stack([~self.right, self.right]).astype(np.float64)
        rows = [
            np.tile(sides, (self.templates, 1)),
            np.tile(self.hats, (self.wings, 1)),
            np.ones((1, len(self.right))),
        ]
        return np.ascontiguousarray(np.concatenate(rows).T)

    def of_template(self, index: int) -> Numbers:
        """Parameters of a template and of all wings."""
        wings = np.arange(2 * self.templates, 2 * self.templates + self.wings * len(self.hats))
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
    columns, rows = data.shape
    q = len(templates) + len(wings) + 2
    moments = np.zeros((columns, q, q))
    roots = np.sqrt(weights)

    def make_worker() -> object:
        room = np.empty((q, rows + 3))

        def work(start: int, stop: int) -> None:
            kernels.column_moments(
                start, stop, data, roots, templates, wings, BIN, room, moments
            )

        return work

    over_bands(split(columns, COLUMNS_A_BAND), make_worker, threads=threads)
    return moments


def add_reference(moments: Values, level: Values, weight: Values) -> Values:
    """Let the reference pixels tell of the level of each column too, with a weight each."""
    tied = moments.copy()
    tied[:, -2, -2] += weight * level**2
    tied[:, -2, -1] += weight * level
    tied[:, -1, -2] += weight * level
    tied[:, -1, -1] += weight
    return tied


def normal_equations(moments: Values, layout: Layout, flicker: Flicker) -> Normal:
    """Integrate the column levels out.

    In each column the moments about the column's mean stay, and the means have the covariance
    of the levels plus that of their measurement.
    """
    weight = moments[:, -1, -1]
    seen = weight > 0
    safe = np.where(seen, weight, 1.0)
    sums = moments[:, :-1, -1]
    within = moments[:, :-1, :-1] - sums[:, :, np.newaxis] * sums[:, np.newaxis] / safe[
        :, np.newaxis, np.newaxis
    ]
    source, factor = layout.sources, layout.factors
    full = np.zeros((len(source), len(source)))
    for start, stop in split(len(weight), 256):
        part = within[start:stop][:, source[:, np.newaxis], source]
        part *= factor[start:stop, :, np.newaxis]
        full += np.einsum("cpq,cq->pq", part, factor[start:stop])
    means = sums[:, source] * factor / safe[:, np.newaxis]
    solver = flicker.solver(np.where(seen, 1 / safe, np.inf))
    white = solver.whiten(means)
    full += np.einsum("cp,cq->pq", white, white)
    full = (full + full.T) / 2
    return Normal(full[:-1, :-1], full[:-1, -1], float(full[-1, -1]))


def column_levels(
    moments: Values, layout: Layout, flicker: Flicker, parameters: Values, chosen: Numbers
) -> Values:
    """Most likely column levels, given the parameters."""
    weight = moments[:, -1, -1]
    seen = weight > 0
    safe = np.where(seen, weight, 1.0)
    model = np.append(-parameters, 1.0)
    at = np.append(chosen, len(layout.sources) - 1)
    sums = moments[:, :-1, -1]
    residual = (sums[:, layout.sources[at]] * layout.factors[:, at]) @ model / safe
    return flicker.solver(np.where(seen, 1 / safe, np.inf)).levels(np.where(seen, residual, 0.0))


def solve(normal: Normal, chosen: Numbers, free: int = 2) -> tuple[Values, Values]:
    """Solve for some of the parameters, none of them negative.

    Returns
    -------
    parameters : (n,) float64
    covariance : (n, n) float64
        Over the first `free` parameters and those that are not 0; 0 for all others.
    """
    matrix, vector = normal.matrix[np.ix_(chosen, chosen)], normal.vector[chosen]
    size = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    present = size > 1e-12 * max(size.max(), 1e-300)
    unit = np.where(present, size, 1.0)
    scaled = matrix / unit[:, np.newaxis] / unit
    scaled = np.where(np.outer(present, present), scaled, 0.0)
    scaled[np.diag_indices(len(unit))] = 1.0
    scaled += RIDGE * np.eye(len(unit))
    lower = np.linalg.cholesky(scaled)
    target = linalg.solve_triangular(lower, np.where(present, vector / unit, 0.0), lower=True)
    found, _ = optimize.nnls(lower.T, target, maxiter=50 * len(unit))
    active = found > 0
    active[:free] = True
    active &= present
    covariance = np.zeros_like(scaled)
    inverse = np.linalg.inv(scaled[np.ix_(active, active)])
    covariance[np.ix_(active, active)] = inverse
    return found / unit, covariance / unit[:, np.newaxis] / unit
