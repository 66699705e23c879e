"""SOSS, robust fit: how the scales change from integration to integration.

One more pass over the stream: what each integration differs by from the deep frame is fitted by
the scaled template of each side and the model of the wings, which follow the star, with column
levels as in the fit. A cubic spline goes through the scales, with as many knots as the
likelihood pays for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import over_bands, split
from webbkg.results import SossTime
from webbkg.soss import gls, kernels
from webbkg.soss.flicker import NONE
from webbkg.soss.gls import Layout
from webbkg.soss.rounds import Fit
from webbkg.soss.stack import CLIP, LIGHT_SHARE, MAD_TO_SIGMA
from webbkg.soss.stream import MOST_ROWS_A_BAND, PLANES, Stream

Values = npt.NDArray[np.float64]

APART = 1.0  # hours between knots, at least
A_KNOT = 3  # integrations, at least
UNTIMED_A_KNOT = 8  # the same where the times are unknown
PAYS = 16.0  # chi-square that each parameter must gain before the scales change at all
PAYS_MORE = (
    4.0  # and then those of both sides together; the logarithm of their number, if more (BIC)
)
ENOUGH_KNOTS = 12  # so many are tried in any case
PATIENCE = 4  # numbers of knots without a gain, after which no more is tried
OFF = 5.0  # standard deviations of an integration that is left out
LEAST_NOISE = 0.05  # scatter over errors, at least
FAR = 4.0  # in robust standard deviations, from which on a step in time is no noise
HUBER = 1.5  # standard deviations from which on a distance counts by itself, not by its square
ROUNDS_OF_WEIGHTS = 10
ENOUGH_SCATTER = 10  # integrations from which on their scatter enlarges the errors
MUCH_SCATTER = 60  # and from which on it makes them smaller, too


def follow(fit: Fit, stream: Stream, hours: Values, clock: str) -> SossTime:
    """Measure the scales of each integration relative to the constant ones, and smooth them.

    Parameters
    ----------
    fit : Fit
        That has found the constant scales.
    stream : Stream
        The integrations.
    hours : (integrations,) float64
        Their times, finite and different.
    clock : str
        Where these are from; see `SossTime`.
    """
    segments = tuple(stream.lengths)
    if len(hours) < 2:
        nothing = np.full((len(hours), 2), np.nan)
        known = Measured(hours, nothing, np.zeros((len(hours), 2, 2)))
    else:
        known = measure_each(fit, stream, hours)
    return smooth(known, clock, segments)


@dataclass(frozen=True)
class Measured:
    """The scales of each integration, less 1: what is known of them, and how well.

    Attributes
    ----------
    hours : (integrations,) float64
    values : (integrations, 2) float64
        Left and right; NaN where nothing is known.
    information : (integrations, 2, 2) float64
        Inverse of their covariance; 0 where nothing is known.
    """

    hours: Values
    values: Values
    information: Values

    @property
    def errors(self) -> Values:
        """Standard errors, (integrations, 2), each with the other side free; NaN for none."""
        left, right = self.information[:, 0, 0], self.information[:, 1, 1]
        common = self.information[:, 0, 1] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.stack([left - common / right, right - common / left], axis=1)
            alone = np.stack([left, right], axis=1)
            own = np.where(np.isfinite(own), own, alone)
            return np.where(alone > 0, 1 / np.sqrt(own), np.nan)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Integrations of which anything is known."""
        return np.asarray(np.isfinite(self.values).any(axis=1))

    def without(self, dropped: npt.NDArray[np.bool_]) -> Measured:
        """Forget what is known of some integrations."""
        values = np.where(dropped[:, np.newaxis], np.nan, self.values)
        information = np.where(dropped[:, np.newaxis, np.newaxis], 0.0, self.information)
        return replace(self, values=values, information=information)

    @property
    def of_both(self) -> npt.NDArray[np.bool_]:
        """Integrations of which both sides are known."""
        return np.asarray((np.diagonal(self.information, axis1=1, axis2=2) > 0).all(axis=1))

    def with_errors_of(self, excess: Values) -> Measured:
        """Multiply all covariances by a matrix, (2, 2), of which 1 changes nothing.

        In units of the errors: a covariance L L' becomes L `excess` L'.
        """
        own = np.diag(excess)
        information = self.information / np.sqrt(own[:, np.newaxis] * own)
        root = np.linalg.cholesky(np.linalg.inv(self.information[self.of_both]))
        information[self.of_both] = np.linalg.inv(root @ excess @ root.transpose(0, 2, 1))
        return replace(self, information=information)


# Measuring.


def measure_each(fit: Fit, stream: Stream, hours: Values) -> Measured:
    """Fit each integration's difference from the deep frame: one pass, an integration a thread."""
    images = _images(fit)
    columns = len(fit.frame.data)
    layout = Layout(1, 1, fit.frame.right, np.ones((1, columns)), np.eye(1))
    flicker = fit.state.flicker or NONE
    rows = split(stream.shape[0], MOST_ROWS_A_BAND)

    def make_worker() -> Callable[[int, int], tuple[Values, Values]]:
        room = stream.make_room(MOST_ROWS_A_BAND)
        sums = np.empty((9, columns))

        def work(number: int, _stop: int) -> tuple[Values, Values]:
            sums[...] = 0
            segment, index = stream.integrations[number]
            for start, stop in rows:
                sci, dq = segment.rows(PLANES, index, start, stop, room[:, : stop - start])
                kernels.add_products(sci, dq, images[:, start:stop], sums)
            normal = gls.normal_equations(_moments(sums), layout, flicker)
            return _solve(normal.matrix, normal.vector)

        return work

    bands = split(len(stream.integrations), 1)
    found = over_bands(bands, make_worker, threads=stream.threads)
    values, information = (np.stack(one) for one in zip(*found, strict=True))
    return Measured(hours, values, information)


def _images(fit: Fit) -> npt.NDArray[np.float32]:
    """Lay out deep frame, tolerance, weights, sky and wings, (5, rows, columns) float32.

    Reference pixels, where they follow the column levels, have weight, and neither sky nor wings.
    """
    frame, state = fit.frame, fit.state
    deep = frame.deep
    variance = deep.law.variance(state.sky + state.wings)
    light = np.maximum(frame.data, 0.0)
    spread = variance * (1 + 1 / max(deep.integrations, 1)) + deep.level_variance
    tolerance = CLIP * np.sqrt(spread + deep.law.photon * np.maximum(light - state.sky, 0))
    tolerance += LIGHT_SHARE * light
    weights = np.where(state.mask, 1 / variance, 0.0)
    if state.reference is not None:
        at = deep.reference & (deep.count > 0)
        number = np.maximum(at.sum(axis=1), 1) * deep.integrations
        weights = np.where(at, (state.reference[1] / number)[:, np.newaxis], weights)
    sky, spread_light = (np.where(state.mask, one, 0.0) for one in (state.sky, state.wings))
    turned = (one.T for one in (frame.data, tolerance, weights, sky, spread_light))
    return np.ascontiguousarray(np.stack([one.astype(np.float32) for one in turned]))


def _moments(sums: Values) -> Values:
    """Lay sums over the columns out as the moments of sky, wings, difference and 1."""
    place = np.array([[0, 1, 2, 3], [1, 4, 5, 6], [2, 5, 9, 7], [3, 6, 7, 8]])
    with_square = np.concatenate([sums, np.zeros((1, sums.shape[1]))])
    return np.ascontiguousarray(with_square[place].transpose(2, 0, 1))


def _solve(matrix: Values, vector: Values) -> tuple[Values, Values]:
    """Solve for both sides and the wings; returns the former, and their information."""
    size = np.diag(matrix)
    present = size > 1e-12 * max(float(size.max()), 1e-300)
    values, information = np.full(2, np.nan), np.zeros((2, 2))
    sides = np.flatnonzero(present[:2])
    if not len(sides):
        return values, information
    at = np.flatnonzero(present)
    covariance = np.linalg.pinv(matrix[np.ix_(at, at)], hermitian=True)
    values[sides] = (covariance @ vector[at])[: len(sides)]
    own = covariance[: len(sides), : len(sides)]
    information[np.ix_(sides, sides)] = np.linalg.inv(own)
    return values, information


# Smoothing.


def smooth(measured: Measured, clock: str, segments: tuple[int, ...]) -> SossTime:
    """Choose the spline that the likelihood pays for, constant unless it does."""
    excess = _excess(measured)
    scattered = measured.with_errors_of(_believed(excess, measured))
    kept = _without_outliers(scattered, clock)
    constant = _fit_spline(kept, np.zeros(1), together=True)
    tried = list(_candidates(kept, clock))
    best = constant
    if min((one.cost(PAYS) for one in tried), default=math.inf) < constant.chi2:
        best = min(tried, key=lambda one: one.cost(PAYS_MORE))
    line = _line(kept)
    scales, errors = best.scales(kept, measured.hours)
    knot_scales, knot_errors = best.scales(kept, best.knots)
    return SossTime(
        hours=measured.hours,
        clock=clock,
        measured=1 + measured.values,
        measured_errs=scattered.errors,
        scales=scales,
        scale_errs=errors,
        knots=best.knots,
        knot_scales=knot_scales,
        knot_errs=knot_errors,
        together=best.together,
        change=line[0],
        change_err=line[1],
        chi2=(constant.chi2, best.chi2),
        noise=math.sqrt(float(np.trace(excess)) / 2),
        outliers=int(np.count_nonzero(measured.known) - np.count_nonzero(kept.known)),
        segments=segments,
        reason=_reason(kept, clock) if best is constant else "",
    )


def _reason(kept: Measured, clock: str) -> str:
    if len(kept.hours) == 1:
        return "a single integration"
    if np.count_nonzero(kept.known) < 2:
        return "no two integrations can be measured"
    if _most_knots(kept, clock) < 2:
        return "too few integrations, or less than an hour"
    return "no change that the likelihood pays for"


def _most_knots(measured: Measured, clock: str) -> int:
    """Knots that the times and the number of integrations allow."""
    known = measured.known
    number = int(np.count_nonzero(known))
    if number < 2:
        return 1
    if clock == "order":
        return max(number // UNTIMED_A_KNOT, 1)
    span = float(np.ptp(measured.hours[known]))
    # Seconds short of a whole number of hours are no reason to take a knot less.
    return max(min(1 + int(span / APART + 0.01), number // A_KNOT), 1)


def _knots(measured: Measured, number: int) -> Values:
    hours = measured.hours[measured.known]
    return np.linspace(hours.min(), hours.max(), number)


def _candidates(measured: Measured, clock: str) -> Iterator[Spline]:
    """Try more and more knots, for both sides together and singly, until none gains."""
    least, since = math.inf, 0
    for number in range(2, _most_knots(measured, clock) + 1):
        for together in (True, False):
            spline = _fit_spline(measured, _knots(measured, number), together=together)
            yield spline
            if spline.cost(PAYS_MORE) < least:
                least, since = spline.cost(PAYS_MORE), 0
        since += 1
        if number >= ENOUGH_KNOTS and since > PATIENCE:
            return


def _line(measured: Measured) -> tuple[float, float]:
    """Tell the change from beginning to end by a straight line, and its standard error."""
    if np.count_nonzero(measured.known) < 2:
        return math.nan, math.nan
    spline = _fit_spline(measured, _knots(measured, 2), together=True)
    return float(spline.found[2]), math.sqrt(max(float(spline.covariance[2, 2]), 0.0))


def _excess(measured: Measured) -> Values:
    """Covariance of neighbours' differences in time, (2, 2), in units of the errors.

    1 where too few tell. It need not be isotropic: what the sides have in common, the columns'
    levels, may be modelled better or worse than the rest.
    """
    order = np.argsort(measured.hours, kind="stable")
    order = order[measured.of_both[order]]
    if len(order) < ENOUGH_SCATTER:
        return np.eye(2)
    covariance = np.linalg.inv(measured.information[order])
    root = np.linalg.cholesky((covariance[1:] + covariance[:-1]) / 2)
    steps = np.diff(measured.values[order], axis=0) / math.sqrt(2)
    pulls = np.linalg.solve(root, steps[:, :, np.newaxis])[:, :, 0]
    spread = MAD_TO_SIGMA * np.median(np.abs(pulls), axis=0)
    near = pulls[(np.abs(pulls) <= FAR * spread).all(axis=1)]
    return np.asarray(near.T @ near / max(len(near), 1) + LEAST_NOISE**2 * np.eye(2))


def _believed(excess: Values, measured: Measured) -> Values:
    """Tell what the covariances are to be multiplied by: a few can only enlarge them."""
    if np.count_nonzero(measured.of_both) >= MUCH_SCATTER:
        return excess
    return np.eye(2) * max(float(np.linalg.eigvalsh(excess).max()), 1.0)


def _without_outliers(measured: Measured, clock: str) -> Measured:
    """Leave integrations out that are off."""
    if np.count_nonzero(measured.known) < ENOUGH_SCATTER:
        return measured
    return measured.without(_off(measured, min(_most_knots(measured, clock), ENOUGH_KNOTS)))


def _off(measured: Measured, knots: int) -> npt.NDArray[np.bool_]:
    """Find integrations that are off a spline that hardly feels them (Huber's weights)."""
    errors, weight = measured.errors, np.ones(len(measured.hours))
    for _ in range(ROUNDS_OF_WEIGHTS):
        weighted = replace(measured, information=measured.information * weight[:, None, None])
        spline = _fit_spline(weighted, _knots(measured, knots), together=False)
        residual = measured.values - spline.design(measured.hours) @ spline.found
        pull = np.nanmax(np.abs(residual) / errors, axis=1, initial=0.0)
        weight = np.minimum(1.0, HUBER / np.maximum(pull, 1e-300))
    return np.asarray(pull > OFF)


@dataclass(frozen=True)
class Spline:
    """A cubic spline through the scales, of both sides together or singly.

    The first two parameters are the means of the two sides: the scales are relative to those of
    the deep frame, so that they tell nothing.
    """

    knots: Values
    together: bool
    found: Values
    covariance: Values
    chi2: float
    number: int  #: of integrations

    def cost(self, price: float) -> float:
        """Chi-square, and what its parameters have to gain.

        Those of one side singly have to gain `PAYS` always.
        """
        price = max(price, math.log(max(self.number, 1)))
        more = len(self.knots) - 1
        singly = 0.0 if self.together else max(PAYS, price) * more
        return self.chi2 + price * more + singly

    def design(self, hours: Values) -> Values:
        """What the parameters are times in each integration, left and right: (n, 2, p)."""
        return _design(hours, self.knots, self.together)

    def scales(self, measured: Measured, hours: Values) -> tuple[Values, Values]:
        """Scales at some times, and their standard errors: (n, 2) each.

        Their mean over the measured integrations is 1. Beyond the knots they stay as they are.
        """
        if len(self.knots) < 2:
            return np.ones((len(hours), 2)), np.zeros((len(hours), 2))
        mean = self.design(measured.hours[measured.known]).mean(axis=0)
        design = self.design(np.clip(hours, self.knots[0], self.knots[-1])) - mean
        variance = np.einsum("isp,pq,isq->is", design, self.covariance, design)
        return 1 + design @ self.found, np.sqrt(np.maximum(variance, 0.0))


def _design(hours: Values, knots: Values, together: bool) -> Values:
    shapes = _shapes(hours, knots)
    number = shapes.shape[1]
    width = number if together else 2 * number
    design = np.zeros((len(hours), 2, 2 + width))
    design[:, 0, 0] = design[:, 1, 1] = 1.0
    design[:, 0, 2 : 2 + number] = shapes
    design[:, 1, 2 + width - number :] = shapes
    return design


def _shapes(hours: Values, knots: Values) -> Values:
    """Cubic splines that are 1 at one knot and 0 at the others, but for the first knot.

    Without knots next to the ends ("not a knot"): a straight line, a parabola and a cubic of two,
    three and four knots.
    """
    if len(knots) < 2:
        return np.empty((len(hours), 0))
    number, step = len(knots), knots[1] - knots[0]
    values = np.eye(number)  # of each spline, at the knots
    bends: Values = np.zeros((number, number))  # second derivatives there
    if number > 2:
        system = 4 * np.eye(number) + np.eye(number, k=1) + np.eye(number, k=-1)
        system[[0, -1]] = 0.0
        system[0, :3] = system[-1, -3:] = 1, -2, 1
        if number == 3:
            system[-1] = 1, -1, 0
        right = np.zeros((number, number))
        right[1:-1] = 6 / step**2 * np.diff(values, 2, axis=0)
        bends = np.asarray(np.linalg.solve(system, right), np.float64)
    at = np.clip(((hours - knots[0]) / step).astype(int), 0, number - 2)
    later = ((hours - knots[at]) / step)[:, np.newaxis]
    sooner = 1 - later
    straight = sooner * values[at] + later * values[at + 1]
    bent = (sooner**3 - sooner) * bends[at] + (later**3 - later) * bends[at + 1]
    return np.asarray(straight + step**2 / 6 * bent)[:, 1:]


def _fit_spline(measured: Measured, knots: Values, *, together: bool) -> Spline:
    """Fit by least squares, with the covariance of the two sides."""
    known = measured.known
    design = _design(measured.hours[known], knots, together)
    information = measured.information[known]
    values = np.nan_to_num(measured.values[known])
    weighted = np.einsum("isp,ist->itp", design, information)
    matrix = np.einsum("itp,itq->pq", weighted, design)
    vector = np.einsum("itp,it->p", weighted, values)
    covariance = np.linalg.pinv((matrix + matrix.T) / 2, rcond=1e-10, hermitian=True)
    found = covariance @ vector
    residual = values - design @ found
    chi2 = float(np.einsum("is,ist,it->", residual, information, residual))
    return Spline(knots, together, found, covariance, chi2, int(np.count_nonzero(known)))
