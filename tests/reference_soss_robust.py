"""The slow, readable twin of the robust SOSS fit's least squares: one matrix for all pixels."""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize

from webbkg.soss import flicker as flickers
from webbkg.soss import gls, wings
from webbkg.soss.flicker import Flicker

COLUMNS, ROWS = 28, 11


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


class Small:
    """A frame small enough for the dense twin: two templates, four kernels of wings."""

    def __init__(self, seed=1, tie=None):
        rng = np.random.default_rng(seed)
        self.templates = rng.uniform(3, 5, (2, COLUMNS, ROWS))
        self.wings = rng.exponential(1.0, (4, -(-COLUMNS // wings.BIN), ROWS))
        self.right = np.arange(COLUMNS) >= 12
        hats = wings.slopes_along(COLUMNS, 2)
        tie = np.eye(8) if tie is None else tie
        self.layout = gls.Layout(2, 4, self.right, hats, tie)
        amplitudes = rng.uniform(0.0, 0.05, len(flickers.LENGTHS))
        self.flicker = Flicker(1.0, 1.0, 0.01, amplitudes)
        self.weights = rng.uniform(5, 20, (COLUMNS, ROWS))
        self.weights[rng.random((COLUMNS, ROWS)) < 0.3] = 0
        self.weights[5] = 0  # a column without a pixel
        self.data = rng.normal(0, 0.3, (COLUMNS, ROWS)) + self.designs()[:2].sum(axis=0)
        self.data += 0.1 * wings.unbin(self.wings.sum(axis=0), COLUMNS)
        self.reference = rng.normal(0, 0.1, COLUMNS), rng.uniform(0, 30, COLUMNS)
        self.reference[1][7] = 0

    def designs(self):
        sides = np.stack([~self.right, self.right])[:, :, np.newaxis]
        skies = [template * side for template in self.templates for side in sides]
        spread = [wings.unbin(kernel, COLUMNS) for kernel in self.wings]
        strengths = [
            one * hat[:, np.newaxis] for one in spread for hat in wings.slopes_along(COLUMNS, 2)
        ]
        tied = np.einsum("sn,scr->ncr", self.layout.tie, np.stack(strengths))
        return np.concatenate([np.stack(skies), tied])

    def dense(self, template=None, reference=True):
        chosen = self.designs()
        if template is not None:
            chosen = chosen[self.layout.of_template(template)]
        levels = level_covariance(self.flicker, flickers.LENGTHS, COLUMNS)
        tied = self.reference if reference else None
        return Dense(self.data, self.weights, chosen, levels, tied)

    def moments(self, threads=1):
        moments = gls.find_moments(self.data, self.weights, self.templates, self.wings, threads)
        return gls.add_reference(moments, *self.reference)
