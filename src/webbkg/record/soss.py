"""SOSS: what is told of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from webbkg import __version__
from webbkg.files.tables import Column, Table
from webbkg.record.words import Details, in_unit, plain, plain_values, scale_of
from webbkg.results import Outcome, SideFit, SossResult, SossRobust, SossTime


def details(result: SossResult) -> Details:
    """Give its numbers, plain values only."""
    if result.fit.robust is not None:
        return _robust_soss_details(result, result.fit.robust)
    options, fit = result.options, result.fit
    return plain_values(
        mode="soss",
        library=result.reference,
        source_percentile=options.source_percentile,
        bkg_percentile=list(options.bkg_percentile),
        template=fit.template,
        left=_side(fit.left),
        right=_side(fit.right),
        rmse=[[plain(value) for value in sides] for sides in fit.rmse.tolist()],
        source_threshold=fit.source_threshold,
        integrations=fit.n_integrations,
        segments=result.segments,
    )


def _robust_soss_details(result: SossResult, robust: SossRobust) -> Details:
    fit = result.fit
    return plain_values(
        mode="soss",
        method=result.options.method,
        model=robust.model,
        library=result.reference,
        template=fit.template,
        **_mixture_details(robust),
        left=_robust_side(fit.left),
        right=_robust_side(fit.right),
        scales=[[plain(value) for value in sides] for sides in robust.scales.tolist()],
        log_likelihood=[plain(value) for value in robust.log_likelihood.tolist()],
        pixels_used=list(robust.used),
        starlight=list(robust.starlight),
        chi2_dof=robust.chi2_dof,
        level_chi2=robust.level_chi2,
        jump_left=robust.jump_left,
        wings=list(robust.wings),
        stray_light=robust.stray_light,
        noise=plain_values(**vars(robust.noise)),
        look=list(robust.look),
        integrations=fit.n_integrations,
        segments=result.segments,
        **({} if fit.time is None else {"time": _time_details(fit.time)}),
    )


def _time_details(time: SossTime) -> Details:
    """Give the scales at the knots, which make the spline, and how good it is."""
    knots = [
        {"hour": hour, "scales": scales, "errors": errors}
        for hour, scales, errors in zip(
            time.knots.tolist(), time.knot_scales.tolist(), time.knot_errs.tolist(), strict=True
        )
    ]
    return {
        **plain_values(
            clock=time.clock,
            change=time.change,
            change_err=time.change_err,
            chi2_constant=time.chi2[0],
            chi2=time.chi2[1],
            noise=time.noise,
            outliers=time.outliers,
            together=time.together,
            constant=time.reason or "None",
        ),
        "knots": [] if time.is_constant else knots,
    }


def _mixture_details(robust: SossRobust) -> Details:
    """Tell the weights of a mixture, and what held-out columns say of it."""
    told: Details = {}
    if robust.mixture is not None:
        told["weights"] = {
            str(index): plain_values(
                left=robust.mixture.weights[index, 0].tolist(),
                right=robust.mixture.weights[index, 1].tolist(),
            )
            for index in robust.mixture.templates
        }
        told["changed_by_mixture"] = list(robust.mixture.changed)
    if math.isfinite(robust.gain):
        told["held_out_gain"] = [robust.gain, robust.gain_err]
    return told


def _robust_side(side: SideFit | None) -> Details:
    told = _side(side) or {}
    return {name: told[name] for name in ("scale", "scale_err", "rmse", "n_sky") if name in told}


def _side(side: SideFit | None) -> Details | None:
    return None if side is None else plain_values(**vars(side))


def summary(result: SossResult, unit: str) -> Iterator[tuple[str, str]]:
    """Tell it to a person, a label and a value each."""
    fit = result.fit
    if fit.left is None or fit.right is None:
        return
    together = f", {result.segments} segments together" if result.segments > 1 else ""
    yield "template", f"{fit.template} of {len(fit.rmse)} in {result.reference}"
    yield "scale, left", scale_of(fit.left)
    yield "scale, right", scale_of(fit.right)
    if fit.robust is not None:
        yield from _robust_summary(fit.robust)
    if fit.time is not None:
        yield "in time", _time_summary(fit.time)
    rmse = f"{fit.left.rmse:.4g}, {fit.right.rmse:.4g}"
    yield "RMSE, left and right", in_unit(rmse, unit)
    yield "sky samples, left and right", f"{fit.left.n_sky:,}, {fit.right.n_sky:,}"
    yield "integrations", f"{fit.n_integrations}{together}"


def _robust_summary(robust: SossRobust) -> Iterator[tuple[str, str]]:
    yield from _mixture_summary(robust)
    if math.isfinite(robust.margin) and robust.mixture is None:
        yield "log-likelihood over the next template", f"{robust.margin:.3g}"
    shares = ", ".join(f"{100 * part:.3g} %" for part in robust.used)
    yield "pixels used, left and right", shares
    light = ", ".join(f"{100 * part:.2g} %" for part in robust.starlight)
    yield "star's wings over sky in them", light
    yield "verdict", f"look: {'; '.join(robust.look)}" if robust.look else "no reason to doubt"


def _time_summary(time: SossTime) -> str:
    change = f"change from begin to end {100 * time.change:+.2g} ± {100 * time.change_err:.2g} %"
    if time.is_constant:
        return f"constant: {time.reason}" + (f"; {change}" if math.isfinite(time.change) else "")
    sides = "both sides together" if time.together else "the two sides singly"
    low, high = 100 * (time.scales.min() - 1), 100 * (time.scales.max() - 1)
    return f"{len(time.knots)} knots, {sides}, {low:+.2g} to {high:+.2g} %; {change}"


def _mixture_summary(robust: SossRobust) -> Iterator[tuple[str, str]]:
    if robust.mixture is not None:
        yield "sky", f"a mixture of templates {', '.join(map(str, robust.mixture.templates))}"
        changed = ", ".join(f"{100 * part:.2g} %" for part in robust.mixture.changed)
        yield "changed by mixture", f"{changed}, left and right"
    if math.isfinite(robust.gain):
        gain = f"{robust.gain:+.3g} ± {robust.gain_err:.2g} in log-likelihood of held-out columns"
        yield "gain by a mixture", gain


def time_table(outcome: Outcome) -> Table | None:
    """Give the scales of the target's integrations; None where nobody asked how they change."""
    result = outcome.result
    time = result.fit.time if isinstance(result, SossResult) else None
    if time is None or not isinstance(result, SossResult):
        return None
    first = sum(time.segments[: result.segment])
    number = time.segments[result.segment]
    here = slice(first, first + number)
    columns = [
        Column("integration", list(range(1, number + 1)), "of the product, from 1"),
        Column(
            "hour", time.hours[here].tolist(), f"middle, from the first one's ({time.clock})", "h"
        ),
    ]
    told = (
        ("scale", time.scales, "over the constant scale, as subtracted"),
        ("scale_err", time.scale_errs, "standard error of that"),
        ("measured", time.measured, "of the integration by itself, over the constant scale"),
        ("measured_err", time.measured_errs, "standard error of that"),
    )
    for index, side in enumerate(("left", "right")):
        for name, values, text in told:
            columns.append(Column(f"{side}_{name}", values[here, index].tolist(), text))
    return Table(columns, {"software": f"webbkg {__version__}", **_time_details(time)})
