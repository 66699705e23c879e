"""The slow, readable twin of the robust SOSS fit's least squares: one matrix for all pixels."""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize


def level_covariance(flicker, lengths, columns):
    """Covariance of the column levels, (columns, columns)."""
    lag = np.abs(np.subtract.outer(np.arange(columns), np.arange(columns)))
    exponentials = sum(
        amplitude * np.exp(-lag / length)
        for amplitude, length in zip(flicker.amplitudes, lengths, strict=True)
    )
    return exponentials + flicker.white * np.eye(columns)


class Dense:
    """The model of a frame (columns, rows), pixel by pixel.

    `designs` are the images that the parameters multiply, (parameters, columns, rows);
    `reference` are levels and weights of the columns' reference pixels, each (columns,).
    """

    def __init__(self, data, weights, designs, levels, reference=None):
        used = weights > 0
        column = np.nonzero(used)[0]
        variance = 1 / weights[used]
        design = designs[:, used]
        observed = data[used]
        if reference is not None:
            level, weight = reference
            tied = np.flatnonzero(weight > 0)
            column = np.concatenate([column, tied])
            variance = np.concatenate([variance, 1 / weight[tied]])
            observed = np.concatenate([observed, level[tied]])
            design = np.concatenate([design, np.zeros((len(design), len(tied)))], axis=1)
        self.column, self.observed, self.design, self.levels = column, observed, design.T, levels
        self.covariance = levels[np.ix_(column, column)] + np.diag(variance)
        self.inverse = np.linalg.inv(self.covariance)

    def normal(self):
        """Matrix, vector and square of the data."""
        weighted = self.inverse @ self.design
        square = self.observed @ self.inverse @ self.observed
        return self.design.T @ weighted, weighted.T @ self.observed, square

    def solve(self):
        """Find non-negative parameters, and chi-square."""
        root = linalg.cholesky(self.covariance, lower=True)
        design = linalg.solve_triangular(root, self.design, lower=True)
        observed = linalg.solve_triangular(root, self.observed, lower=True)
        parameters, norm = optimize.nnls(design, observed)
        return parameters, norm**2

    def column_levels(self, parameters):
        """Most likely level of every column."""
        residual = self.observed - self.design @ parameters
        return self.levels[:, self.column] @ self.inverse @ residual

    def scatter(self, extra):
        """What `extra` variance of the pixels does to the noise of the vector."""
        weighted = self.inverse @ self.design
        return weighted.T @ (extra[:, np.newaxis] * weighted)
