"""Sky and a one-sided tail: where the sky is, in values that are mostly sky and light.

Residuals in units of their noise are taken as drawn from N(m, t) + e, where e is 0 or one of
several exponentials with means from 0.5 to 32: light is never negative, and its faint end is
what such a family can take up. The place m, the width t and the weights are those of the greatest
likelihood of the values' histogram: the weights by EM for given m and t, these by a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

MEANS = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
"""Means of the exponentials, in units of the noise."""

WINDOW, BIN = (-6.0, 12.0), 0.1
"""What is looked at around the first guess, in units of the noise; bins a tenth as wide."""

WIDTHS = (1.0, 4.0)
"""Limits of t. Less than the noise is no noise."""

FIRST_STEPS, LAST_STEP = (0.32, 0.08), 0.004
"""Of the search in m and t, halved where no step is better; the last one in m."""

EM_STEPS, TRIAL_STEPS = 60, 15
"""Steps of EM in the weights at each m and t, and at those that are tried."""

STEP = 1e-3
"""By which place and width are moved to differentiate, in units of the noise."""

LEAST_WEIGHT = 1e-4
"""Components of less weight have no part in the standard error."""


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture.

    Attributes
    ----------
    place, width : float
        m and t, in units of the noise.
    place_err : float
        Standard error of m.
    weights : (components,) float64
        Of what has no light, and of the exponentials; their sum is 1.
    """

    place: float
    width: float
    place_err: float
    weights: Doubles


def fit_mixture(values: Doubles) -> Mixture:
    """Fit values in units of their noise, whose sky lies near 0."""
    edges = np.arange(WINDOW[0], WINDOW[1] + BIN / 2, BIN)
    centres = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(values, edges)[0].astype(np.float64)
    at, steps = np.array([0.0, 1.0]), np.array(FIRST_STEPS)
    weights = np.full(len(MEANS) + 1, 0.5 / len(MEANS))
    weights[0] = 0.5
    while steps[0] > LAST_STEP:
        weights = _improve(counts, components_of(centres, *at), weights, EM_STEPS)
        tried = _neighbours(at, steps)
        likelihoods = [_likelihood(centres, counts, weights, one) for one in tried]
        best = int(np.argmax(likelihoods))
        at = tried[best]
        steps = steps / 2 if best == 0 else steps
    place_err = _place_err(centres, counts, at, weights)
    return Mixture(float(at[0]), float(at[1]), place_err, weights)


def _neighbours(at: Doubles, steps: Doubles) -> list[Doubles]:
    """Return a place and width, and those a step away."""
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    tried = [at + steps * move for move in moves]
    limits = np.array([(WINDOW[0] / 2, WIDTHS[0]), (-WINDOW[0] / 2, WIDTHS[1])])
    return [np.clip(one, *limits) for one in tried]


def _likelihood(centres: Doubles, counts: Doubles, weights: Doubles, at: Doubles) -> float:
    """Logarithm of the likelihood, with weights that are improved by some steps."""
    components = components_of(centres, *at)
    weights = _improve(counts, components, weights, TRIAL_STEPS)
    return float(counts @ np.log(np.maximum(weights @ components, 1e-300)))


def _improve(counts: Doubles, components: Doubles, weights: Doubles, steps: int) -> Doubles:
    """Take steps of EM in the weights."""
    for _ in range(steps):
        expected = np.maximum(weights @ components, 1e-300)
        weights = weights * (components @ (counts / expected))
        weights = weights / weights.sum()
    return weights


def components_of(centres: Doubles, place: float, width: float, means: Doubles = MEANS) -> Doubles:
    """Return the share of each component in each bin, (components, bins), of unit sum.

    The first is the sky, the others are those of the exponentials with these means.
    """
    from scipy.special import erfcx  # type: ignore[import-untyped]

    x = (centres - place) / width
    a = width / means[:, np.newaxis]
    y = (a - x) / math.sqrt(2)
    # Far beyond the peak erfcx overflows, and the tail is the exponential alone.
    near = erfcx(np.maximum(y, -20)) * np.exp(-(x**2) / 2)
    far = 2 * np.exp(np.minimum(a * a / 2 - a * x, 0))
    tails = np.where(y > -20, near, far) / means[:, np.newaxis]
    shares = np.vstack([np.exp(-(x**2) / 2), tails])
    components: Doubles = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    return components


def _slopes(centres: Doubles, place: float, width: float) -> list[Doubles]:
    """Differentiate the components with respect to place and width."""
    moves = ((STEP, 0.0), (0.0, STEP))
    ends = [
        (
            components_of(centres, place - there, width - wider),
            components_of(centres, place + there, width + wider),
        )
        for there, wider in moves
    ]
    return [(high - low) / (2 * STEP) for low, high in ends]


def _place_err(centres: Doubles, counts: Doubles, at: Doubles, weights: Doubles) -> float:
    """Invert the Fisher information of place, width and weights together."""
    components = components_of(centres, *at)
    expected = np.maximum(weights @ components, 1e-300)
    slopes = [weights @ slope for slope in _slopes(centres, *at)]
    heavy = weights > LEAST_WEIGHT
    first = components[int(np.argmax(weights))]
    heavy[int(np.argmax(weights))] = False
    slopes += list(components[heavy] - first)
    matrix = np.array(slopes)
    information = counts.sum() * (matrix / expected) @ matrix.T
    variance = float(np.linalg.pinv(information)[0, 0])
    return math.sqrt(variance) if variance > 0 else math.inf
