"""SOSS, robust fit: the level of each column that 1/f noise makes, as a Gaussian process.

Its covariance is a sum of exponentials, so that a system of all columns is solved in a time
proportional to their number (Foreman-Mackey et al. 2017, AJ 154, 220).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize  # type: ignore[import-untyped]

from webbkg.soss import kernels

Values = npt.NDArray[np.float64]

LENGTHS = 4.0 ** np.arange(7)  # of the exponentials (columns)
STEEPEST = 2.0  # exponent of the power law
LARGE = 1e6  # variance of a column without a pixel, in that of all others
FREQUENCIES = 64


@dataclass(frozen=True)
class Flicker:
    """Covariance of the column levels: exponentials of `LENGTHS` and white.

    Attributes
    ----------
    strength, exponent : float
        The power law that they follow: variance a frequency (cycles a column) at 1 is
        `strength`, and falls by `exponent`.
    white : float
        Variance of each column's own.
    amplitudes : (lengths,) float64
        Variances of the exponentials.
    """

    strength: float
    exponent: float
    white: float
    amplitudes: Values

    def over(self, integrations: int) -> Flicker:
        """Return that of the mean of so many integrations."""
        n = float(integrations)
        return Flicker(self.strength / n, self.exponent, self.white / n, self.amplitudes / n)

    def solver(self, diagonal: Values) -> Solver:
        """Factor the covariance plus a diagonal, (columns,); infinite where nothing is known."""
        known = np.isfinite(diagonal)
        usual = np.median(diagonal[known]) if known.any() else 1.0
        unknown = LARGE * (usual + self.white + self.amplitudes.sum())
        measured = np.where(known, np.minimum(diagonal, unknown), unknown)
        return Solver(measured, self)

    def variance_of(self, weight: Values) -> float:
        """Variance of a weighted sum of the column levels."""
        lags = np.arange(len(weight))
        power = (self.amplitudes * np.exp(-lags[:, np.newaxis] / LENGTHS)).sum(axis=1)
        power[0] += self.white
        overlap = np.correlate(weight, weight, "full")[len(weight) - 1 :]
        return float(2 * power @ overlap - power[0] * overlap[0])


NONE = Flicker(0.0, 0.0, 0.0, np.zeros(len(LENGTHS)))


class Solver:
    """Solves systems with the covariance of column levels plus that of their measurement."""

    def __init__(self, measured: Values, flicker: Flicker) -> None:
        self._measured = measured
        self._decay = np.exp(-1 / LENGTHS)
        self._amplitudes = np.ascontiguousarray(flicker.amplitudes, np.float64)
        self._pivots = np.empty(len(measured))
        self._weights = np.empty((len(measured), len(LENGTHS)))
        diagonal = measured + flicker.white + self._amplitudes.sum()
        kernels.factor_exponentials(
            diagonal, self._decay, self._amplitudes, self._pivots, self._weights
        )

    def whiten(self, values: Values) -> Values:
        """Make the columns of `values`, (columns, m), independent and of unit variance."""
        result = np.array(values, np.float64, order="C")
        kernels.forward_exponentials(self._decay, self._amplitudes, self._weights, result)
        return np.asarray(result / np.sqrt(self._pivots)[:, np.newaxis])

    def levels(self, values: Values) -> Values:
        """Most likely levels, given what was measured of them, (columns,); 0 where not measured."""
        solved = np.array(values[:, np.newaxis], np.float64, order="C")
        kernels.forward_exponentials(self._decay, self._amplitudes, self._weights, solved)
        solved /= self._pivots[:, np.newaxis]
        kernels.backward_exponentials(self._decay, self._amplitudes, self._weights, solved)
        return np.asarray(values - self._measured * solved[:, 0])


def fit_flicker(levels: Values, measured: Values) -> Flicker:
    """Fit a power law and white to the spectrum of column levels (Whittle's likelihood).

    Parameters
    ----------
    levels : (series, columns) float64
        Neighbouring columns, without gaps.
    measured : float
        Variance of a level that its pixels' own noise makes.

    Returns
    -------
    Flicker
        `NONE` for fewer than 32 columns.
    """
    columns = levels.shape[1]
    if columns < 32:
        return NONE
    frequency = np.arange(1, columns // 2) / columns
    spectrum = np.abs(np.fft.rfft(levels, axis=1)[:, 1 : columns // 2]) ** 2 / columns
    power = spectrum.mean(axis=0)
    floor = max(float(np.mean(measured)), 1e-30)

    def model(parameters: Values) -> Values:
        strength, exponent, white = parameters
        slope = np.clip(exponent, 0.0, STEEPEST)
        return np.asarray(np.exp(strength) * frequency**-slope + floor + np.exp(white))

    def cost(parameters: Values) -> float:
        expected = model(parameters)
        return float(np.sum(np.log(expected) + power / expected))

    starts = [_start(power, frequency, floor, exponent) for exponent in (0.3, 1.0)]
    settings = {"maxiter": 600, "xatol": 1e-3, "fatol": 1e-3}
    found = [optimize.minimize(cost, one, method="Nelder-Mead", options=settings) for one in starts]
    best = min(found, key=lambda one: float(one.fun))
    strength, exponent, white = (float(value) for value in best.x)
    exponent = float(np.clip(exponent, 0.0, STEEPEST))
    return _as_exponentials(np.exp(strength), exponent, np.exp(white), columns)


def _start(power: Values, frequency: Values, floor: float, exponent: float) -> list[float]:
    low, high = power[:20].mean() * frequency[:20].mean(), power[-len(power) // 5 :].mean()
    return [math.log(max(low, 1e-30)), exponent, math.log(max(high - floor, 1e-3 * high, 1e-30))]


def _as_exponentials(strength: float, exponent: float, white: float, columns: int) -> Flicker:
    """Follow a power law by exponentials of all lengths."""
    frequency = np.geomspace(0.5 / columns, 0.5, FREQUENCIES)
    decay = np.exp(-1 / LENGTHS)
    shapes = (1 - decay**2) / (
        1 - 2 * decay * np.cos(2 * np.pi * frequency)[:, np.newaxis] + decay**2
    )
    wanted = strength * frequency**-exponent
    amplitudes, _ = optimize.nnls(
        shapes / wanted[:, np.newaxis], np.ones(FREQUENCIES), maxiter=50 * len(LENGTHS)
    )
    return Flicker(float(strength), exponent, float(white), amplitudes)
