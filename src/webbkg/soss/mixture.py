"""SOSS, robust fit: a sky that is a mixture of templates, and whether it is worth its freedom.

Each side of the jump has weights of its own, each with a slope along the rows, none negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.results import SossMixture
from webbkg.soss import gls
from webbkg.soss.gls import Layout, Normal, Numbers
from webbkg.soss.library import Splits
from webbkg.soss.rounds import HALF_COLUMNS, WING_BLOCK, Fit, Solution

Values = npt.NDArray[np.float64]

DRAWS = 100
FOLDS = 8  # of the columns, of which one is held out at a time


@dataclass(frozen=True)
class Mixed:
    """A mixture that was found.

    Attributes
    ----------
    single : Solution
        With the mixture for the only template, scaled to be like the most likely one.
    singles : Solution
        With each template of the library by itself, and the wings and weights of the mixture.
    weights : (2 * templates, 2) float64
        Of the sloped templates, left and right.
    covariances : (2, 2 * templates, 2 * templates) float64
        Of the weights of each side, from solutions with drawn noise.
    means : (2 * templates, 2) float64
        Mean of each sloped template over that of the most likely one, left and right: what a
        weight of 1 adds to the scale.
    bias, variance : (2,) float64
        Of the scales.
    splits : (rows,) int64
        The jump: that of the templates, weighted.
    changed : tuple of float
        See `SossMixture`.
    """

    single: Solution
    singles: Solution
    weights: Values
    covariances: Values
    means: Values
    bias: Values
    variance: Values
    splits: Splits
    changed: tuple[float, float]

    def told(self, kept: Values, errors: Values, scales: Values) -> SossMixture:
        """Tell weights, of which a share is kept, and covariances that agree with the errors."""
        templates = len(self.weights) // 2
        weights = (self.weights * kept).astype(np.float32).astype(np.float64)
        drawn = np.einsum("ps,spq,qs->s", self.means, self.covariances, self.means)
        inflation = errors**2 / np.maximum(drawn, 1e-300)
        covariances = self.covariances * inflation[:, np.newaxis, np.newaxis]
        gain = self.singles.chi2[self.singles.best] - self.single.chi2[0]
        return SossMixture(
            weights=weights.reshape(2, templates, 2).transpose(1, 2, 0),
            covariances=covariances,
            changed=self.changed,
            log_likelihood=float(gain) / 2,
        )


def make_mixture(fit: Fit, solution: Solution) -> Mixed:
    """See a mixture as a template, and compare it with each template of the library."""
    frame = fit.frame
    singles = fit.solve_again(solution, frame.templates)
    sky = solution.sky(fit.freedom, frame.right)
    means = _means(fit, solution, singles.template)
    scales = np.einsum("ps,ps->s", solution.scales, means)
    # A side without any sky has the pattern of the most likely template, and a scale of 0.
    side = np.where(frame.right, scales[1], scales[0])[:, np.newaxis]
    pattern = np.where(side > 0, sky / np.where(side > 0, side, 1.0), singles.template)
    found, drawn = draw_scales(fit, solution, fit.freedom)
    drawn = drawn.reshape(DRAWS, -1, 2)
    of_scales = np.einsum("nps,ps->ns", drawn, means)
    return Mixed(
        single=fit.solve_again(solution, pattern[np.newaxis]),
        singles=singles,
        weights=solution.scales,
        covariances=np.stack([np.cov(one, rowvar=False, ddof=0) for one in drawn.T.swapaxes(1, 2)]),
        means=means,
        bias=of_scales.mean(axis=0) - np.einsum("ps,ps->s", found.reshape(-1, 2), means),
        variance=of_scales.var(axis=0),
        splits=_jump(fit, solution),
        changed=_changed(fit, solution, sky, singles),
    )


def _means(fit: Fit, solution: Solution, template: Values) -> Values:
    """Mean of each of the fit's templates over that of one of the library, on the two sides."""
    right = fit.frame.right
    sums = np.stack(
        [
            [(solution.weights[side] * one[side]).sum() for side in (~right, right)]
            for one in (*fit.freedom, template)
        ]
    )
    return np.asarray(sums[:-1] / np.maximum(sums[-1], 1e-300))


def _jump(fit: Fit, solution: Solution) -> Splits:
    """Mean jump of the templates, by the weights of both sides in both slopes."""
    templates = len(fit.frame.templates)
    share = solution.scales.sum(axis=1).reshape(2, templates).sum(axis=0)
    if not share.any():
        return np.asarray(fit.frame.splits[0])
    return np.asarray(np.rint(share @ fit.frame.splits / share.sum()), np.int64)


def _changed(fit: Fit, solution: Solution, sky: Values, singles: Solution) -> tuple[float, float]:
    """Tell the difference between a mixture's sky and that of the most likely template."""
    one = singles.sky(fit.frame.templates, fit.frame.right)
    used = solution.weights > 0
    ratio = np.where(used, sky / np.where(one > 0, one, 1.0) - 1, 0.0)
    left, right = (
        float(np.sqrt((ratio[side] ** 2).sum() / max(np.count_nonzero(used[side]), 1)))
        for side in (~fit.frame.right, fit.frame.right)
    )
    return left, right


def draw_scales(fit: Fit, solution: Solution, templates: Values) -> tuple[Values, Values]:
    """Solve again with other noise: scales of the templates, and those drawn, (draws, scales).

    The noise is that which there is, not that of the weights, which allow the wings a larger
    error than their residual shows. That no wing is negative makes wings out of noise, and so
    takes from the sky: the mean of the draws has that bias.
    """
    frame, state, weights = fit.frame, fit.state, solution.weights
    layout = replace(solution.layout, templates=len(templates))
    noise = fit.variance() + WING_BLOCK * (state.wing_error * state.wings) ** 2
    beyond = weights * (weights * noise - 1)
    moments, more, less = (
        gls.find_moments(frame.data, one, templates, solution.basis, fit.threads)
        for one in (weights, np.maximum(beyond, 0), np.maximum(-beyond, 0))
    )
    moments = fit.tie(moments)
    normal = gls.normal_equations(moments, layout, fit.flicker)
    every = np.arange(len(normal.vector))
    found, _ = gls.solve(normal, every)
    change = gls.scatter(moments, more - less, layout, fit.flicker)
    scales = slice(2 * len(templates))
    return found[scales], gls.draw(normal, every, found, change, DRAWS)[:, scales]


def held_out_gain(one: tuple[Fit, Solution], mixed: tuple[Fit, Solution]) -> tuple[float, float]:
    """Log-likelihood of held-out columns with a mixture over that with one template.

    Each has wings of its own; weights and noise are the same. The columns are held out in
    blocks, an eighth at a time.

    Returns
    -------
    gain : float
    gain_err : float
        Its jackknife error.
    """
    fit = mixed[0]
    weights = np.minimum(one[1].weights, mixed[1].weights)
    fold = np.arange(len(weights)) // HALF_COLUMNS % FOLDS
    costs = []
    for (own, solution), choices in ((one, _of_each), (mixed, _of_all)):
        moments = fit.tie(
            gls.find_moments(fit.frame.data, weights, own.freedom, solution.basis, fit.threads)
        )
        costs.append(
            [
                _held_out_cost(
                    gls.normal_equations(moments, solution.layout, fit.flicker, fold != number),
                    gls.normal_equations(moments, solution.layout, fit.flicker, fold == number),
                    choices(solution.layout),
                )
                for number in range(FOLDS)
            ]
        )
    gains = (np.array(costs[0]) - np.array(costs[1])) / 2
    spread = FOLDS / (FOLDS - 1) * np.sum((gains - gains.mean()) ** 2)
    return float(gains.sum()), float(np.sqrt(spread))


def _of_each(layout: Layout) -> list[Numbers]:
    return [layout.of_template(index) for index in range(layout.templates)]


def _of_all(layout: Layout) -> list[Numbers]:
    return [np.arange(layout.transform.shape[1])]


def _held_out_cost(seen: Normal, held_out: Normal, choices: list[Numbers]) -> float:
    """Chi-square of what was held out, with the parameters that suit what was seen best."""
    solved = [(gls.solve(seen, chosen)[0], chosen) for chosen in choices]
    found, chosen = min(solved, key=lambda one: seen.chi2(*one))
    return held_out.chi2(found, chosen)
