"""From the sums of cells to scales and their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from webbkg.numerics.flatfield import flat_variance
from webbkg.results import TemplateScale
from webbkg.template.kernels import CELL, PLAIN_TERMS

BLOCKS = 16
"""Blocks of the jackknife along each axis."""

FEWEST = 100
"""Pixels below which nothing is fitted."""

HOLDS = 1e-10
"""Least eigenvalue of the even sky's normal matrix, its diagonal scaled to 1, for it to be told apart: on
two cells along an axis there is no curvature."""

ALIKE = 1e-6
"""Share of a template's weight that the others and the even sky must leave of it."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellSums:
    """Sums over cells of `CELL` x `CELL` pixels; see `kernels.sum_cells`.

    Within a cell the even sky's shape is taken as that at its middle: the residuals are exact, so that
    this costs nothing once the fit stays.

    Attributes
    ----------
    sums : (rows, terms, columns) float64
    templates, sky_terms : int
    shape : (rows, columns)
        Of the image.
    """

    sums: Doubles
    templates: int
    sky_terms: int
    shape: tuple[int, int]

    @cached_property
    def _flat(self) -> Doubles:
        """The sums, (terms, cells)."""
        return np.moveaxis(self.sums, 1, 0).reshape(self.sums.shape[1], -1)

    @cached_property
    def even(self) -> Doubles:
        """Shapes of the even sky at the middle of each cell: (sky terms, cells)."""
        v, u = (
            2 * np.minimum((np.arange(cells) + 0.5) * CELL - 0.5, length - 1) / max(length - 1, 1)
            - 1
            for cells, length in zip(self.sums[:, 0].shape, self.shape, strict=True)
        )
        v, u = (one.reshape(-1) for one in np.meshgrid(v, u, indexing="ij"))
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])[: self.sky_terms]

    @property
    def used(self) -> int:
        """Pixels that were summed."""
        return int(self._flat[0].sum())

    @property
    def chi2(self) -> float:
        """Of the residuals."""
        return float(self._flat[3].sum())

    @cached_property
    def columns(self) -> Doubles:
        """Weighted sums of the templates and, after them, of the even sky's shapes, by cell."""
        first = PLAIN_TERMS
        return np.concatenate(
            [self._flat[first : first + self.templates], self._flat[1] * self.even]
        )

    @cached_property
    def gradients(self) -> Doubles:
        """The same times the residuals: (coefficients, cells)."""
        first = PLAIN_TERMS + self.templates
        return np.concatenate(
            [self._flat[first : first + self.templates], self._flat[2] * self.even]
        )

    @cached_property
    def normal(self) -> Doubles:
        """Normal matrix of each cell: (coefficients, coefficients, cells)."""
        number, first = self.templates, PLAIN_TERMS + 2 * self.templates
        size = number + self.sky_terms
        matrix = np.empty((size, size, self._flat.shape[1]))
        for k in range(number):
            for other in range(k + 1):
                matrix[k, other] = matrix[other, k] = self._flat[first]
                first += 1
            matrix[k, number:] = matrix[number:, k] = self.columns[k] * self.even
        matrix[number:, number:] = self._flat[1] * self.even[:, np.newaxis] * self.even
        return matrix

    @property
    def sky_terms_that_hold(self) -> int:
        """Coefficients of the even sky that can be told apart: as many as there are, or fewer."""
        even = self.normal.sum(axis=-1)[self.templates :, self.templates :]
        if not (np.isfinite(even).all() and np.all(np.diag(even) > 0)):
            return min(self.sky_terms, 1)
        size = np.sqrt(np.diag(even))
        alike = even / np.outer(size, size)
        fits = (t for t in (6, 3, 1) if t <= self.sky_terms)
        return next((t for t in fits if np.linalg.eigvalsh(alike[:t, :t])[0] > HOLDS), 0)

    def level(self, sky: Doubles) -> float:
        """Median over the cells with pixels of the even sky with these coefficients."""
        levels = (sky @ self.even)[self._flat[0] > 0] if sky.size else np.zeros(0)
        return float(np.median(levels)) if levels.size else 0.0

    def blocks(self, values: Doubles) -> Doubles:
        """Add cells up in blocks: (..., cells) -> (..., blocks)."""
        cells = values.reshape(*values.shape[:-1], *self.sums[:, 0].shape)
        for axis in (-2, -1):
            length = cells.shape[axis]
            starts = np.arange(0, length, -(-length // BLOCKS))
            cells = np.add.reduceat(cells, starts, axis=axis)
        return cells.reshape(*values.shape[:-1], -1)

    def flat_covariance(self, coefficients: Doubles, inverse: Doubles, length: float) -> Doubles:
        """Variances of the coefficients by a flat field whose errors have unit standard deviation."""
        weight = np.maximum(self._flat[1], 1e-300)
        light = coefficients @ self.columns / weight
        shape = self.sums[:, 0].shape
        influence = (inverse @ self.columns) * light
        cell = CELL, CELL
        return np.array([flat_variance(one.reshape(shape), cell, length) for one in influence])


@dataclass(frozen=True)
class Solution:
    """Coefficients of templates and even sky, and their errors.

    Attributes
    ----------
    coefficients : (n,) float64
        The scales first.
    inverse : (n, n) float64
        Inverse of the normal matrix.
    white, block : (n,) float64
        Standard errors by the noise of pixels, and by the jackknife.
    used : int
        Pixels.
    chi2_dof : float
    own : (n,) float64
        Share of the information on a coefficient that the others leave.
    """

    coefficients: Doubles
    inverse: Doubles
    white: Doubles
    block: Doubles
    used: int
    chi2_dof: float
    own: Doubles

    @cached_property
    def errors(self) -> Doubles:
        """The larger of the two."""
        return np.maximum(self.block, self.white)

    def flat_errors(self, sums: CellSums, error: float, length: float) -> Doubles:
        """What a stated error of the flat field makes of the coefficients' errors."""
        if error == 0:
            return np.zeros_like(self.white)
        return error * np.sqrt(sums.flat_covariance(self.coefficients, self.inverse, length))

    def covariance(self, flat: Doubles) -> Doubles:
        """Covariance of the coefficients: correlated as by white noise, with the errors told."""
        grown = np.hypot(self.errors, flat) / self.white
        return self.inverse * np.outer(grown, grown)

    def scales(self, number: int, flat: Doubles) -> tuple[TemplateScale, ...]:
        """Tell the scales of the templates."""
        return tuple(
            TemplateScale(
                scale=float(self.coefficients[k]),
                scale_err=math.hypot(self.errors[k], flat[k]),
                white_err=float(self.white[k]),
                block_err=float(self.block[k]),
                flat_err=float(flat[k]),
                own=float(self.own[k]),
            )
            for k in range(number)
        )


def solve(sums: CellSums, start: Doubles, number: int) -> Solution | str:
    """Solve for the coefficients, of which the first `number` may not be negative.

    Parameters
    ----------
    sums : CellSums
        Of residuals from `start`.
    start : (n,) float64
        Coefficients.
    number : int
        Templates.

    Returns
    -------
    Solution or str
        Why there is none.
    """
    normal = sums.normal.sum(axis=-1)
    reason = _why_not(normal, number, sums.used)
    if reason:
        return reason
    gradient = sums.gradients.sum(axis=-1)
    found = non_negative(normal, normal @ start + gradient, number)
    inverse = np.linalg.inv(normal)
    move = found - start
    dof = max(sums.used - len(found), 1)
    chi2 = sums.chi2 - 2 * float(move @ gradient) + float(move @ normal @ move)
    block = _jackknife(sums, move, inverse)
    white = np.sqrt(np.diag(inverse))
    own = 1 / (np.diag(normal) * np.diag(inverse))
    return Solution(found, inverse, white, block, sums.used, max(chi2, 0.0) / dof, own)


def _why_not(normal: Doubles, number: int, used: int) -> str:
    """Say why there is no solution; an empty string if there is one."""
    if not np.isfinite(normal).all():
        return "values are too large, or variances too small, to be summed"
    if used < FEWEST:
        return f"only {used} pixels are left to fit, {FEWEST} are needed: others are source, or far off"
    for k in range(number):
        if not normal[k, k] > 0:
            return f"template {k + 1} is 0 in every pixel of the fit"
    size = np.sqrt(np.diag(normal))
    alike = normal / np.outer(size, size)
    for k in range(number):
        others = [j for j in range(len(normal)) if j >= number or j < k]
        if _left_of(alike, k, others) > ALIKE:
            continue
        if _left_of(alike, k, list(range(number, len(normal)))) <= ALIKE:
            return (
                f"template {k + 1} is as even as the sky that is fitted beside it "
                "(template_sky none fits it alone)"
            )
        return f"template {k + 1} is a combination of the templates before it; leave one out"
    return ""


def _left_of(alike: Doubles, k: int, others: list[int]) -> float:
    """Tell what part of a column of unit weight others leave."""
    if not others:
        return 1.0
    part, cross = alike[np.ix_(others, others)], alike[others, k]
    return 1 - float(cross @ np.linalg.lstsq(part, cross, rcond=None)[0])


def non_negative(normal: Doubles, cross: Doubles, number: int) -> Doubles:
    """Minimise x·normal·x - 2 cross·x with the first `number` of x at least 0.

    Of all choices of those that are 0, the one that is feasible and least: there are few templates.
    """
    size, best, least = len(cross), np.zeros(len(cross)), math.inf
    for zeros in range(number + 1):
        for left_out in combinations(range(number), zeros):
            kept = [j for j in range(size) if j not in left_out]
            found = np.zeros(size)
            if kept:
                found[kept] = np.linalg.solve(normal[np.ix_(kept, kept)], cross[kept])
            value = -float(cross @ found)
            if np.all(found[:number] >= 0) and value < least:
                best, least = found, value
    return best


def _jackknife(sums: CellSums, move: Doubles, inverse: Doubles) -> Doubles:
    """Tell the coefficients' errors by a jackknife over blocks.

    To first order the coefficients move by inverse·g as a block is left out, g being its gradient at
    the solution.
    """
    gradients = sums.blocks(sums.gradients)
    normal = sums.blocks(sums.normal)
    influence = inverse @ (gradients - np.einsum("ijb,j->ib", normal, move))
    weight = np.diagonal(normal).T
    number = max(int(np.count_nonzero(weight[-1] > 0)), 2)
    spread = np.sum(influence**2, axis=1) * number / (number - 1)
    found: Doubles = np.sqrt(spread)
    return found
