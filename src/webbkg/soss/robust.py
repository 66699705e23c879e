"""SOSS, robust fit: from a stream and a library to a template, its scales, and how good they are.

Errors are those of the posterior, inflated by what halves of the rows and of the columns disagree
by. Where the model cannot be trusted that far, the result says why it should be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.options import SossOptions
from webbkg.results import SideFit, SossNoise, SossRobust, Status, TemplateFit
from webbkg.soss import gls, timing, wings
from webbkg.soss.flicker import NONE
from webbkg.soss.library import Library
from webbkg.soss.mixture import Mixed, draw_scales, held_out_gain, make_mixture
from webbkg.soss.rounds import Fit, Frame, Solution, column_halves, make_frame
from webbkg.soss.stack import stack
from webbkg.soss.stream import Stream

Values = npt.NDArray[np.float64]
BoolColumns = npt.NDArray[np.bool_]
Times = tuple[Values, str]

CLOSE = 2.0  # log-likelihood by which the best template should lead
MUCH_STARLIGHT = 0.3  # over the sky, in the pixels of the fit
ODD_CHI2 = 1.2
ODD_LEVELS = 2.0
NEAR_JUMP = 100  # columns on either side of the jump
GAIN_SIGMA = 1.5  # that held-out columns must gain by a mixture
LEAST_GAIN = 5.0  # in log-likelihood, likewise
JUMP_LEFT = 0.01  # of the jump, that may be left over
JUMP_SIGMA = 5.0
COARSE = 0.02  # relative standard error of a scale


def fit_stream(
    stream: Stream, library: Library, options: SossOptions, times: Times | None = None
) -> TemplateFit:
    """Choose and scale the template of a library for all integrations of a stream.

    Parameters
    ----------
    stream : Stream
        SCI and DQ of the segments.
    library : (templates, rows, columns) float32
        Of the target's shape.
    options : SossOptions
        The model of the sky, and whether the scales may change in time.
    times : ((integrations,) float64, str), optional
        Hours of the integrations, finite and different, and where they are from; by default
        their numbers.

    Returns
    -------
    TemplateFit
        COMPLETE, or SKIPPED with a reason.
    """
    frame = make_frame(stack(stream), library)
    for label, side in _labelled(frame):
        if not frame.lit[side].any():
            return _skipped(f"no usable pixel on the {label} side of the jump", frame)
    fit, found = _with_model(frame, stream.threads, options.model)
    if options.time == "constant" or found.status is not Status.COMPLETE:
        return found
    hours, clock = times or (np.arange(frame.deep.integrations, dtype=np.float64), "order")
    return replace(found, time=timing.follow(fit, stream, hours, clock))


def _labelled(frame: Frame) -> tuple[tuple[str, BoolColumns], tuple[str, BoolColumns]]:
    return ("left", ~frame.right), ("right", frame.right)


def _skipped(reason: str, frame: Frame) -> TemplateFit:
    return TemplateFit(
        status=Status.SKIPPED,
        reason=reason,
        rmse=np.full((len(frame.templates), 2), np.nan),
        n_integrations=frame.deep.integrations,
    )


def _with_model(frame: Frame, threads: int, model: str) -> tuple[Fit, TemplateFit]:
    """Fit with one template, a mixture, or that of the two which held-out columns pay for."""
    one = Fit(frame, threads)
    single = one.run() if model != "mixture" else None
    if model == "one" and single is not None:
        return one, report(one, single)
    many = Fit(frame, threads, mixed=True)
    mixed = many.run()
    gain = None if single is None else held_out_gain((one, single), (many, mixed))
    if gain is not None and single is not None and not pays(*gain):
        return one, report(one, single, gain=gain)
    found = make_mixture(many, mixed)
    return many, report(many, found.single, mixed=found, gain=gain)


def pays(gain: float, gain_err: float) -> bool:
    """Tell whether a gain in held-out log-likelihood is worth the freedom of a mixture."""
    return gain > max(GAIN_SIGMA * gain_err, LEAST_GAIN)


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on."""

    errors: Values  #: of the two scales, inflated
    used: tuple[float, float]
    starlight: tuple[float, float]
    chi2: float
    oddness: float  #: of the columns' levels
    jump_left: float  #: in the residual, as a share of the jump of the sky
    jump_err: float  #: of that


def report(
    fit: Fit,
    solution: Solution,
    *,
    mixed: Mixed | None = None,
    gain: tuple[float, float] | None = None,
) -> TemplateFit:
    """Tell what the last round found.

    Of a mixture, the `solution` is that with the mixture for a template.
    """
    frame, best = fit.frame, solution.best
    for label, side in _labelled(frame):
        if not solution.weights[side].any():
            return _skipped(f"everything on the {label} side of the jump is starlight", frame)
    bias, variance = _draw_again(fit, solution)
    if mixed is not None:
        bias, variance = mixed.bias, np.maximum(variance, mixed.variance)
    variance *= max(solution.oddness, 1.0)
    variance += _between_templates(solution) + _with_stray_light(fit, solution)
    kept = 1 - bias / np.maximum(solution.scales[best], 1e-30)
    evidence = gather_evidence(fit, solution, variance)
    scale = (solution.scales[best] * kept).astype(np.float32).astype(np.float64)
    robust = _robust(fit, solution if mixed is None else mixed.singles, kept, evidence)
    if mixed is not None:
        robust = replace(robust, mixture=mixed.told(kept, evidence.errors, scale))
    if gain is not None:
        robust = replace(robust, gain=gain[0], gain_err=gain[1])
    look = tuple(_reasons(robust, scale, evidence))
    chosen = best if mixed is None else mixed.singles.best
    left, right = (
        _side(fit, side, float(one), float(err))
        for side, one, err in zip((~frame.right, frame.right), scale, evidence.errors, strict=True)
    )
    return TemplateFit(
        status=Status.COMPLETE,
        template=chosen,
        left=left,
        right=right,
        rmse=np.full((len(frame.templates), 2), np.nan),
        jump=frame.splits[best] if mixed is None else mixed.splits,
        n_integrations=frame.deep.integrations,
        robust=replace(robust, look=look),
    )


def _robust(fit: Fit, singles: Solution, kept: Values, evidence: Evidence) -> SossRobust:
    """Tell of every template by itself, and of the fit as a whole."""
    best = singles.best
    errors = np.sqrt(np.diagonal(singles.covariances, axis1=1, axis2=2))
    return SossRobust(
        scales=(singles.scales * kept).astype(np.float32).astype(np.float64),
        scale_errs=errors * (evidence.errors / errors[best]),
        log_likelihood=(singles.chi2[best] - singles.chi2) / 2,
        used=evidence.used,
        starlight=evidence.starlight,
        chi2_dof=evidence.chi2,
        level_chi2=evidence.oddness,
        jump_left=evidence.jump_left,
        wings=tuple(one for one in wings.EXTENSIONS if one in fit.state.model),
        stray_light=fit.state.stray,
        noise=_noise(fit),
    )


def _side(fit: Fit, side: npt.NDArray[np.bool_], scale: float, err: float) -> SideFit:
    used = fit.state.mask & side[:, np.newaxis]
    samples = int(fit.frame.deep.count[used].sum())
    rmse = float(np.sqrt(np.mean(fit.residual()[used] ** 2))) if used.any() else math.nan
    return SideFit(scale=scale, scale_err=err, rmse=rmse, n_sky=samples, n_scale=samples)


def _noise(fit: Fit) -> SossNoise:
    law, flicker = fit.frame.deep.law, fit.state.flicker or NONE
    return SossNoise(
        read_variance=law.read,
        photon_variance=law.photon,
        shared=fit.state.floor,
        flicker_strength=flicker.strength,
        flicker_exponent=flicker.exponent,
        flicker_white=flicker.white,
        reference_pixels=fit.state.reference is not None,
    )


def gather_evidence(fit: Fit, solution: Solution, variance: Values) -> Evidence:
    """Measure what tells of the trust that the result deserves."""
    frame, state, weights = fit.frame, fit.state, solution.weights
    sides = (~frame.right, frame.right)
    used, starlight = [], []
    for side in sides:
        here = weights[side]
        used.append(float(np.sum(here > 0) / max(int(frame.lit[side].sum()), 1)))
        light = (here * state.wings[side] * state.sky[side]).sum()
        starlight.append(float(light / max((here * state.sky[side] ** 2).sum(), 1e-300)))
    known = weights > 0
    expected = fit.variance() + (state.wing_error * state.wings) ** 2
    chi2 = float(np.mean(fit.residual()[known] ** 2 / expected[known])) if known.any() else math.nan
    jump, jump_err = _jump_left(fit, solution)
    return Evidence(
        errors=_inflated(fit, solution, variance),
        used=(used[0], used[1]),
        starlight=(starlight[0], starlight[1]),
        chi2=chi2,
        oddness=solution.oddness,
        jump_left=jump,
        jump_err=jump_err,
    )


def _inflated(fit: Fit, solution: Solution, variance: Values) -> Values:
    """Standard errors of the two scales, enlarged by what halves disagree by."""
    posterior = np.diag(solution.covariances[solution.best])
    excess = np.zeros(2)
    for halves in (_row_halves(fit, solution), _column_halves(fit, solution)):
        (one, one_variance), (other, other_variance) = halves
        expected = (one_variance + other_variance) * variance / posterior
        excess = np.maximum(excess, ((one - other) ** 2 - expected) / 4)
    return np.sqrt(variance + np.where(np.isfinite(excess), excess, 0.0))


def _draw_again(fit: Fit, solution: Solution) -> tuple[Values, Values]:
    """Bias and variance of the two scales, from solutions with other noise."""
    found, drawn = draw_scales(fit, solution, solution.template[np.newaxis])
    return drawn.mean(axis=0) - found, drawn.var(axis=0)


def _between_templates(solution: Solution) -> Values:
    """Mean square by which the scales of other templates differ, weighted by likelihood."""
    likelihood = np.exp((solution.chi2[solution.best] - solution.chi2) / 2)
    share = likelihood / likelihood.sum()
    return np.asarray(share @ (solution.scales - solution.scales[solution.best]) ** 2)


def _with_stray_light(fit: Fit, solution: Solution) -> Values:
    """Square by which the scales would change with stray light, if that would pay.

    Less what noise alone makes of it: stray light is hard to tell from the templates.
    """
    if not fit.state.stray:
        return np.zeros(2)
    model = fit.state.model | {wings.STRAY_LIGHT}
    basis, tie = wings.compress(solution.images, model, len(fit.hats))
    layout = replace(solution.layout, templates=1, wings=len(basis), tie=tie)
    template = solution.template[np.newaxis]
    moments = gls.find_moments(fit.frame.data, solution.weights, template, basis, fit.threads)
    normal = gls.normal_equations(fit.tie(moments), layout, fit.flicker)
    found, covariance = gls.solve(normal, layout.of_template(0))
    best = solution.best
    noise = np.diag(covariance)[:2] - np.diag(solution.covariances[best])
    change = (found[:2] - solution.scales[best]) ** 2
    return np.asarray(np.maximum(change - np.maximum(noise, 0.0), 0.0))


Half = tuple[Values, Values]
"""The two scales, and their variances."""


def _solve_half(fit: Fit, solution: Solution, weights: Values) -> Half:
    again = fit.solve_again(solution, solution.template[np.newaxis], weights)
    return again.scales[0], np.diag(again.covariances[0])


def _row_halves(fit: Fit, solution: Solution) -> tuple[Half, Half]:
    """Cut the rows so that both halves weigh the same."""
    total = np.cumsum(solution.weights.sum(axis=0))
    lower = np.arange(len(total)) <= np.searchsorted(total, total[-1] / 2)
    return (
        _solve_half(fit, solution, solution.weights * lower),
        _solve_half(fit, solution, solution.weights * ~lower),
    )


def _column_halves(fit: Fit, solution: Solution) -> tuple[Half, Half]:
    """Take every other block of columns."""
    one, other = column_halves(len(solution.weights))
    return (
        _solve_half(fit, solution, solution.weights * one[:, np.newaxis]),
        _solve_half(fit, solution, solution.weights * other[:, np.newaxis]),
    )


def _jump_left(fit: Fit, solution: Solution) -> tuple[float, float]:
    """Step of the residual at the jump, as a share of the sky's, and its standard error.

    Without the columns' levels: 1/f noise has steps too.
    """
    frame, state = fit.frame, fit.state
    residual = fit.residual()
    first, last = int(frame.splits.min()), int(frame.splits.max())
    weight = np.zeros(len(residual))
    step = 0.0
    for start, stop, sign in ((first - NEAR_JUMP, first, -1.0), (last, last + NEAR_JUMP, 1.0)):
        here = slice(max(start, 0), stop)
        known = solution.weights[here] > 0
        number = np.count_nonzero(known)
        if not number:
            return math.nan, math.nan
        weight[here] = sign * known.sum(axis=1) / number
        step += sign * float(np.mean(state.sky[here][known]))
    sums = np.where(solution.weights > 0, residual, 0.0).sum(axis=1)
    number = np.maximum(np.count_nonzero(solution.weights, axis=1), 1)
    left = float(weight @ (sums / number))
    pixel = np.where(solution.weights > 0, fit.variance(), 0.0).sum(axis=1) / number**2
    error = math.sqrt(float(weight**2 @ pixel))
    return left / step, error / abs(step)


def _reasons(robust: SossRobust, scales: Values, evidence: Evidence) -> Iterator[str]:
    """Say why the result should be looked at."""
    for label, light in zip(("left", "right"), robust.starlight, strict=True):
        if light > MUCH_STARLIGHT:
            yield f"the star's wings are {100 * light:.0f} % of the sky on the {label} side"
    if robust.stray_light:
        yield "there is smooth light that is neither sky nor wings"
    if robust.mixture is None and robust.margin < CLOSE:
        yield f"another template is as likely ({robust.margin:.1f} behind in log-likelihood)"
    if not robust.chi2_dof < ODD_CHI2:
        yield f"the model does not describe the frame (chi-square {robust.chi2_dof:.3g})"
    if not robust.level_chi2 < ODD_LEVELS:
        yield (
            "the columns' levels are not those of 1/f noise, as where no template is right "
            f"(chi-square {robust.level_chi2:.3g})"
        )
    if abs(evidence.jump_left) > max(JUMP_LEFT, JUMP_SIGMA * evidence.jump_err):
        yield f"{100 * evidence.jump_left:+.1f} % of the jump is left"
    for label, scale, err in zip(("left", "right"), scales, evidence.errors, strict=True):
        if not 0 < err < COARSE * scale:
            yield f"the {label} scale is known to {100 * err / max(scale, 1e-9):.1f} % only"
