"""From an outcome to what is told of it: keywords, ASDF tree, HISTORY, log line, summary, JSON.

The one place where results become words.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webbkg import __version__
from webbkg.files.associations import Job
from webbkg.files.naming import plain_ascii
from webbkg.files.tables import Column, Table
from webbkg.options import ImageOptions, TemplateOptions
from webbkg.results import (
    ImageResult,
    Metric,
    Metrics,
    Outcome,
    Propagated,
    RobustFit,
    SampleCounts,
    ScaleFit,
    SideFit,
    SkyLevels,
    SkyModel,
    SossResult,
    SossRobust,
    SossTime,
    Status,
    TemplateResult,
    TemplatesFit,
    Verdict,
    WfssResult,
)

SOFTWARE = {"name": "webbkg", "version": __version__}

HISTORY_WIDTH = 72
"""Characters of a HISTORY card (FITS standard 4.0, section 4.4.2.4): a longer entry would be cut
there into cards, wherever that falls."""

VERDICT_KEYWORD = "BKGVERD"
"""Of the primary header of a product: the verdict of its metrics."""

Details = dict[str, Any]
Summary = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a product tells of its subtraction, whoever writes it.

    Attributes
    ----------
    meta : mapping of str to object
        Metadata by their dotted path, such as ``meta.cal_step.bkg_subtract``.
    tree : mapping
        All numbers of the result, plain values only, for ``meta.background.webbkg``.
    history : tuple of str
        Entries of at most `HISTORY_WIDTH` ASCII characters.
    cards : tuple of (str, str, str)
        Keyword, value and comment of cards that no schema knows.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)
    tree: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    cards: tuple[tuple[str, str, str], ...] = ()


def record(outcome: Outcome, target: str = "") -> Record:
    """Say what the product of an outcome is to tell; nothing where it was subtracted before.

    `target` is the name of the target's file; a report that is made afterwards looks for it.
    """
    if outcome.already_done:
        return Record()
    meta: Details = {"meta.cal_step.bkg_subtract": str(outcome.status)}
    if isinstance(outcome.result, WfssResult):
        meta["meta.background.scaling_factor"] = outcome.result.fit.scale
    if isinstance(outcome.result, TemplateResult) and len(outcome.result.fit.scales) == 1:
        meta["meta.background.scaling_factor"] = outcome.result.fit.scales[0].scale
    return Record(
        meta=meta,
        tree={
            "version": __version__,
            **({"target": plain_ascii(target)} if target else {}),
            "status": str(outcome.status),
            "reason": outcome.reason or "None",
            **details(outcome),
            **({} if outcome.metrics is None else {"metrics": _metrics(outcome.metrics)}),
        },
        history=_history(outcome) if outcome.status is Status.COMPLETE else (),
        cards=_verdict_card(outcome.metrics),
    )


def details(outcome: Outcome) -> Details:
    """Give the numbers of an outcome, plain values only; None and what is not finite as words."""
    told = {} if outcome.result is None else _of_kind(outcome.result)[0](outcome.result)
    if outcome.verdicts:
        told["verdicts"] = [_verdict(one) for one in outcome.verdicts]
    if outcome.propagated is not None:
        told["propagated"] = _propagated_details(outcome.propagated)
    return told


def summary(outcome: Outcome) -> Summary:
    """Tell an outcome to a person in a few lines, a label and a value each."""
    result = outcome.result
    told = () if result is None else tuple(_of_kind(result)[1](result, outcome.unit))
    more = () if outcome.propagated is None else tuple(_propagated_summary(outcome.propagated))
    return (*told, *map(_verdict_line, outcome.verdicts), *more)


def log_line(outcome: Outcome, name: str) -> str:
    """Say in one line what became of a target."""
    if outcome.already_done:
        return outcome.reason
    if outcome.status is not Status.COMPLETE:
        return f"{name}: background subtraction {outcome.status}: {outcome.reason}"
    as_expected = [_verdict_line(one) for one in outcome.verdicts if not one.reason]
    shown = (line for line in summary(outcome) if line not in as_expected)
    told = "; ".join(f"{label}: {value}" for label, value in shown)
    if outcome.metrics is not None:
        told = "; ".join([told, f"verdict: {outcome.metrics.verdict}", *outcome.metrics.reasons])
    return f"{name}: background subtracted; {told}"


def as_json(
    outcome: Outcome | None,
    target: str,
    *,
    product: Path | None = None,
    report: Path | None = None,
    warnings: Sequence[str] = (),
    error: Exception | None = None,
) -> Details:
    """Give what a script may want to know of a target, as plain values."""
    told: Details = {"target": target, "status": "ERROR", "reason": str(error)}
    if error is None and outcome is not None:
        told |= {
            "status": str(outcome.status),
            "reason": outcome.reason,
            "already_done": outcome.already_done,
            "unit": outcome.unit,
            "median_before": outcome.median_before,
            "median_after": outcome.median_after,
            "details": details(outcome),
            "metrics": None if outcome.metrics is None else _metrics(outcome.metrics),
        }
    written = {"output": product, "report": report}
    named = {what: None if path is None else str(path) for what, path in written.items()}
    return {**told, **named, "warnings": list(warnings)}


def lines(
    outcome: Outcome, product: Path | None = None, report: Path | None = None
) -> Iterator[tuple[str, str]]:
    """Tell a person what became of a target, a label and a value each."""
    if outcome.reason:
        yield "because", outcome.reason
    yield from summary(outcome)
    if outcome.metrics is not None:
        yield from _metrics_lines(outcome.metrics, outcome.unit)
    if outcome.median_before is not None and outcome.median_after is not None:
        medians = f"{outcome.median_before:.6g}, {outcome.median_after:.6g}"
        yield "median before, after", _in_unit(medians, outcome.unit)
    if product is not None:
        yield "product", str(product)
    if report is not None:
        yield "report", str(report)


def totals(counts: Mapping[str, int]) -> str:
    """Count targets by what became of them.

    Examples
    --------
    >>> totals({"COMPLETE": 13, "FAILED": 1})
    '14 targets: 13 COMPLETE, 1 FAILED'
    """
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    total = sum(counts.values())
    return f"{total} target{'' if total == 1 else 's'}{': ' if told else ''}{told}"


def members(job: Job, catalog: Any) -> Details:
    """Say what a product tells of its association: the base names of its members.

    `catalog` is what the target itself names. What the user set stays as it was set; only of a
    table, which no header can hold, it is told that it is one.
    """
    named = {
        "meta.source_catalog": job.source_catalog,
        "meta.segmentation_map": job.segmentation_map,
        "meta.direct_image": job.direct_image,
    }
    told = {path: plain_ascii(one.name) for path, one in named.items() if isinstance(one, Path)}
    if job.association is not None:
        told["meta.asn.table_name"] = plain_ascii(job.association)
    if "meta.source_catalog" not in told and not isinstance(catalog, str | None):
        told["meta.source_catalog"] = "a table"
    return told


def _history(outcome: Outcome) -> tuple[str, ...]:
    """Write the parameters, the files and the scales in readable lines."""
    told = [f"{name} {_words(value)}" for name, value in _for_history(details(outcome)).items()]
    text = f"webbkg {__version__} subtracted the background: {'; '.join(told)}"
    lines = textwrap.wrap(
        plain_ascii(text), HISTORY_WIDTH, subsequent_indent="  ", break_on_hyphens=False
    )
    return tuple(lines)


def _for_history(told: Details) -> Details:
    """Leave out what is a number for each row, and of the exposures what was as expected."""
    told["verdicts"] = [one for one in told.pop("verdicts", []) if one["reason"] != "None"]
    if not told["verdicts"]:
        del told["verdicts"]
    if "time" in told:
        told["time"] = {k: v for k, v in told["time"].items() if k != "knots"}
    if "propagated" in told:
        told["propagated"] = {k: v for k, v in told["propagated"].items() if k != "jump"}
    return told


def _words(value: Any) -> str:
    """Write a plain value for a person to read."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_words, value))}]"
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _in_unit(value: str, unit: str) -> str:
    return f"{value} {unit}".rstrip()


def share(part: int, whole: int) -> str:
    """Tell a number and what share of a whole it is.

    Examples
    --------
    >>> share(1200, 48000)
    '1,200 (2.5 %)'
    """
    return f"{part:,} ({100 * part / whole:.3g} %)" if whole else f"{part:,} of none"


def _plain(value: Any) -> Any:
    """Write None and what is not finite as a word: YAML would drop the one and JSON the other."""
    if value is None:
        return "None"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _plain_values(**values: Any) -> Details:
    return {name: _plain(value) for name, value in values.items()}


# What every mode has.


def _verdict_card(metrics: Metrics | None) -> tuple[tuple[str, str, str], ...]:
    if metrics is None:
        return ()
    return ((VERDICT_KEYWORD, str(metrics.verdict), "webbkg: good, look or bad"),)


def _metrics(metrics: Metrics) -> Details:
    """Give metrics as plain values."""
    return {
        "verdict": str(metrics.verdict),
        "reasons": list(metrics.reasons),
        **_plain_values(
            level=metrics.level,
            scatter=metrics.scatter,
            background=metrics.background,
            pixels=metrics.pixels,
        ),
        "values": {one.name: _metric(one) for one in metrics.values},
    }


def _metric(one: Metric) -> Details:
    told = _plain_values(value=one.value, error=one.error, grade=str(one.grade))
    if one.unit:
        told["unit"] = one.unit
    return told if math.isnan(one.share) else {**told, "share": _plain(one.share)}


def _metrics_lines(metrics: Metrics, unit: str) -> Iterator[tuple[str, str]]:
    level, scatter = metrics.find("sky_level"), metrics.find("scatter")
    if level is not None:
        share_left = f", {100 * level.share:+.2g} % of it" if math.isfinite(level.share) else ""
        left = _in_unit(f"{metrics.level:+.3g}", unit)
        yield "sky left", f"{left}, {level.value:+.2g} {level.unit}{share_left}"
    if scatter is not None:
        told = _in_unit(f"{metrics.scatter:.3g}", unit)
        yield "sky scatter", f"{told}, {scatter.value:.3g} times what ERR says"
    yield "verdict", str(metrics.verdict)
    for reason in metrics.reasons:
        yield "", reason


def _verdict(one: Verdict) -> Details:
    return {"name": one.name, "used": one.used, "reason": one.reason or "None"}


def _verdict_line(one: Verdict) -> tuple[str, str]:
    label = "used" if one.used else "left out"
    return label, f"{one.name}: {one.reason}" if one.reason else one.name


def _propagated_details(propagated: Propagated) -> Details:
    common = {name: _plain(error) for name, error in propagated.common.items()}
    jump = {"jump": list(propagated.jump)} if propagated.jump else {}
    return {"planes": list(propagated.planes), "common": common, **jump}


def _propagated_summary(propagated: Propagated) -> Iterator[tuple[str, str]]:
    yield "errors grown", ", ".join(propagated.planes) or "none: the target has none"
    for name, error in propagated.common.items():
        yield f"common error, {name}", f"{100 * error:.3g} % of the background"


# Image from image.


def _image_details(result: ImageResult) -> Details:
    return _plain_values(
        mode="image",
        sigma=result.options.sigma,
        maxiters=result.options.maxiters,
        clip_noise=result.options.clip_noise,
        dq_threshold=result.options.dq_threshold,
        drop_mismatched=result.options.drop_mismatched,
        backgrounds=list(result.backgrounds),
        exposure_samples=_counts(result.exposures),
        integration_samples=_counts(result.integrations),
        pixels=result.pixels,
        pixels_uncovered=result.pixels_uncovered,
        pixels_unknown=result.pixels_unknown,
        **({} if result.levels is None else _levels(result.levels)),
        **({"masked_shares": list(result.masked)} if result.masked else {}),
        **_asked_masks(result.options),
    )


def _asked_masks(options: ImageOptions) -> Details:
    """Tell what was asked to be left out, where anything was."""
    files = [plain_ascii(Path(one).name) for one in options.source_mask or ()]
    asked = {"mask_sources": options.mask_sources, "source_mask": files}
    return {name: value for name, value in asked.items() if value}


def _levels(levels: SkyLevels) -> Details:
    return {
        "match_background": levels.kind,
        "background_levels": [_plain(one) for one in levels.backgrounds],
        "background_corrections": [_plain(one) for one in levels.corrections],
        "target_level": levels.target,
        "combined_level": levels.combined,
        "target_correction": levels.target_correction,
    }


def _counts(counts: SampleCounts) -> Details:
    return {"offered": counts.offered, "usable": counts.usable, "clipped": counts.clipped}


def _image_summary(result: ImageResult, unit: str) -> Iterator[tuple[str, str]]:
    counts = result.exposures + result.integrations
    number = len(result.backgrounds)
    yield "backgrounds", f"{number} exposure{'s' if number != 1 else ''}"
    yield "samples used", f"{counts.used:,} of {counts.usable:,} usable"
    yield "samples clipped", share(counts.clipped, counts.usable)
    if result.masked:
        yield "masked as sources", f"{_range(result.masked, 100)} % of each background"
    if result.levels is not None:
        yield from _told_levels(result.levels, unit)
    yield "pixels, sky unknown", share(result.pixels_unknown, result.pixels)
    yield "pixels not covered", share(result.pixels_uncovered, result.pixels)


def _told_levels(levels: SkyLevels, unit: str) -> Iterator[tuple[str, str]]:
    change, sky = levels.target_correction, _in_unit(_range(levels.backgrounds), unit)
    scaled = levels.kind == "scale"
    changed = f"× {change:.5g}" if scaled else _in_unit(f"+ {change:.5g}", unit)
    told = "not matched" if math.isnan(change) else f"their average {changed}"
    yield "background sky", f"{sky}, matched by {levels.kind}"
    yield "target sky", f"{_in_unit(f'{levels.target:.5g}', unit)}, {told}"


def _range(values: Sequence[float], times: float = 1) -> str:
    """Tell the least and the largest of some values, if they differ."""
    known = [value * times for value in values if math.isfinite(value)] or [math.nan]
    ends = dict.fromkeys(f"{end:.4g}" for end in (min(known), max(known)))
    return " to ".join(ends)


# Grism skies.


def _wfss_details(result: WfssResult) -> Details:
    options, fit = result.options, result.fit
    return _plain_values(
        mode="wfss",
        template=result.template,
        mask=result.mask,
        mask_sources=result.mask_sources,
        mmag_extract=options.mmag_extract,
        maxiter=options.maxiter,
        rms_stop=options.rms_stop,
        outlier_percent=options.outlier_percent,
        scale=fit.scale,
        scale_err=fit.scale_err,
        chi2_dof=fit.chi2_dof,
        pixels=result.pixels,
        pixels_sky=fit.sky_pixels,
        pixels_offered=fit.offered,
        pixels_used=fit.used,
        iterations=_iterations(fit),
        stopped=str(fit.stopped),
        **({"flat_err": fit.flat_err} if fit.flat_err else {}),
    ) | _robust_details(result)


def _robust_details(result: WfssResult) -> Details:
    """Give what the robust method tells besides; the standard one, nothing."""
    robust = result.fit.robust
    if result.options.method == "standard":
        return {}
    told = _plain_values(method=result.options.method, mask_from=result.mask_from)
    told |= _model_details(result.fit.model)
    if robust is None:
        return told
    return told | _plain_values(
        white_err=robust.white_err,
        block_err=robust.block_err,
        strips_marked=robust.marked,
        strip_scatters=list(robust.scatters),
        noise=robust.noise,
        variance_per_signal=robust.per_signal,
        cleanest_share=robust.share,
        light=robust.light,
        light_err=robust.light_err,
        tail_share=robust.tail_share,
        tail_light=robust.tail_light,
    )


def _model_details(model: SkyModel | None) -> Details:
    """Give what more than a scaled template was fitted, where that was asked for."""
    if model is None:
        return {}
    trials = [
        _plain_values(name=one.name, pieces=one.pieces, gain=one.gain, gain_err=one.gain_err)
        for one in model.trials
    ]
    told = _plain_values(model=model.name, model_trials=trials)
    if model.reason:
        told["model_reason"] = model.reason
    if model.fit is None:
        return told
    return told | _plain_values(
        model_pieces=model.pieces,
        model_change=model.change,
        scales=list(model.fit.scales),
        scale_errs=list(model.fit.scale_errs),
        profile=model.fit.free.tolist(),
    )


def _iterations(fit: ScaleFit) -> list[Details]:
    return [
        _plain_values(offered=one.offered, rejected=one.rejected, scale=one.scale, rms=one.rms)
        for one in fit.iterations
    ]


def _wfss_summary(result: WfssResult, _unit: str) -> Iterator[tuple[str, str]]:
    fit = result.fit
    if fit.status is not Status.COMPLETE:
        return
    masked = f"{result.mask_sources} of {result.mask}" if result.mask_sources else result.mask
    yield "template", result.template
    yield "scale", f"{_times(fit)} (chi²/dof {fit.chi2_dof:.3g})"
    yield "sky pixels", share(fit.sky_pixels, result.pixels)
    yield "sources masked", masked
    yield "fit pixels", f"{fit.used:,} of {fit.offered:,}, {len(fit.iterations)} fits"
    yield "stopped because", str(fit.stopped)
    if fit.robust is not None:
        white, block = fit.robust.white_err, fit.robust.block_err
        yield "error, white and by blocks", f"{white:.2g}, {block:.2g} of the scale"
        yield "left out by strips", f"{100 * fit.robust.marked:.3g} % of the weight"
        yield from _light_summary(result, fit.robust)
    if fit.model is not None:
        yield from _model_summary(fit.model)


def _light_summary(result: WfssResult, robust: RobustFit) -> Iterator[tuple[str, str]]:
    if result.mask_from == "traces":
        yield "fitted", f"the {100 * robust.share:g} % with the least predicted light"
    if robust.light:
        light = f"{robust.light:.2g} ± {robust.light_err:.2g}"
        yield "taken off for light", f"{light} of the scale"
    if robust.tail_share:
        told = f"{100 * robust.tail_share:.2g} % of them, {robust.tail_light:.2g} of the scale"
        yield "light in single pixels", told


def _model_summary(model: SkyModel) -> Iterator[tuple[str, str]]:
    """Tell what more than a scaled template was fitted, and what that changed."""
    pieces = f" of {model.pieces} pieces" if model.pieces else ""
    yield "model", f"{model.name}{pieces}"
    if model.fit is not None:
        others = zip(model.fit.scales[1:], model.fit.scale_errs[1:], strict=True)
        for number, (scale, error) in enumerate(others, 2):
            yield f"scale of template {number}", f"{scale:.6g} ± {error:.2g}"
        yield "changed by the model", f"{100 * model.change:.2g} % of the sky (RMS)"
    for one in model.trials[1:]:
        gain = f"{one.gain:+.3g} ± {one.gain_err:.2g}"
        name = f"{one.name} of {one.pieces} pieces" if one.pieces else one.name
        yield f"held-out gain of {name}", f"{gain} in log-likelihood"
    if model.reason:
        yield "why no other model", model.reason


def _times(fit: ScaleFit | SideFit) -> str:
    return f"{fit.scale:.6g} ± {fit.scale_err:.2g} times the template"


# SOSS.


def _soss_details(result: SossResult) -> Details:
    if result.fit.robust is not None:
        return _robust_soss_details(result, result.fit.robust)
    options, fit = result.options, result.fit
    return _plain_values(
        mode="soss",
        library=result.reference,
        source_percentile=options.source_percentile,
        bkg_percentile=list(options.bkg_percentile),
        template=fit.template,
        left=_side(fit.left),
        right=_side(fit.right),
        rmse=[[_plain(value) for value in sides] for sides in fit.rmse.tolist()],
        source_threshold=fit.source_threshold,
        integrations=fit.n_integrations,
        segments=result.segments,
    )


def _robust_soss_details(result: SossResult, robust: SossRobust) -> Details:
    fit = result.fit
    return _plain_values(
        mode="soss",
        method=result.options.method,
        model=robust.model,
        library=result.reference,
        template=fit.template,
        **_mixture_details(robust),
        left=_robust_side(fit.left),
        right=_robust_side(fit.right),
        scales=[[_plain(value) for value in sides] for sides in robust.scales.tolist()],
        log_likelihood=[_plain(value) for value in robust.log_likelihood.tolist()],
        pixels_used=list(robust.used),
        starlight=list(robust.starlight),
        chi2_dof=robust.chi2_dof,
        level_chi2=robust.level_chi2,
        jump_left=robust.jump_left,
        wings=list(robust.wings),
        stray_light=robust.stray_light,
        noise=_plain_values(**vars(robust.noise)),
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
        **_plain_values(
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


def _mixture_details(robust: SossRobust) -> Details:
    """Tell the weights of a mixture, and what held-out columns say of it."""
    told: Details = {}
    if robust.mixture is not None:
        told["weights"] = {
            str(index): _plain_values(
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
    return None if side is None else _plain_values(**vars(side))


def _soss_summary(result: SossResult, unit: str) -> Iterator[tuple[str, str]]:
    fit = result.fit
    if fit.left is None or fit.right is None:
        return
    together = f", {result.segments} segments together" if result.segments > 1 else ""
    yield "template", f"{fit.template} of {len(fit.rmse)} in {result.reference}"
    yield "scale, left", _times(fit.left)
    yield "scale, right", _times(fit.right)
    if fit.robust is not None:
        yield from _robust_summary(fit.robust)
    if fit.time is not None:
        yield "in time", _time_summary(fit.time)
    rmse = f"{fit.left.rmse:.4g}, {fit.right.rmse:.4g}"
    yield "RMSE, left and right", _in_unit(rmse, unit)
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


# Templates of the user's own.


def _template_details(result: TemplateResult) -> Details:
    options, fit = result.options, result.fit
    region = {} if options.template_region is None else {"region": list(options.template_region)}
    return _plain_values(
        mode="template",
        templates=[plain_ascii(name) for name in result.templates],
        **region,
        scales=[_plain_values(**vars(one)) for one in fit.scales],
        sky=options.template_sky,
        sky_coefficients=list(fit.sky),
        sky_level=fit.level,
        sky_subtracted=options.template_subtract_sky,
        chi2_dof=fit.chi2_dof,
        pixels=result.pixels,
        pixels_unknown=result.pixels_unknown,
        pixels_offered=fit.offered,
        pixels_used=fit.used,
        sources=fit.sources,
        rounds=fit.rounds,
        **_flat_details(options),
    )


def _flat_details(options: TemplateOptions) -> Details:
    """Tell the stated error of the flat field, where one is."""
    if options.flat_error == 0:
        return {}
    return {"flat_error": options.flat_error, "flat_length": options.flat_length}


def _template_summary(result: TemplateResult, unit: str) -> Iterator[tuple[str, str]]:
    fit = result.fit
    if fit.status is not Status.COMPLETE:
        return
    for name, one in zip(result.templates, fit.scales, strict=True):
        yield "template", name
        yield "scale", f"{one.scale:.6g} ± {one.scale_err:.2g} times the template"
    if fit.sky:
        kept = "subtracted" if result.options.template_subtract_sky else "which stays"
        yield "sky beside it", f"{_in_unit(f'{fit.level:.5g}', unit)}, {kept}"
    yield from _where_fitted(result, fit)


def _where_fitted(result: TemplateResult, fit: TemplatesFit) -> Iterator[tuple[str, str]]:
    if result.options.template_region is not None:
        x1, x2, y1, y2 = result.options.template_region
        yield "fitted in", f"columns {x1} to {x2}, rows {y1} to {y2} of the detector"
    yield "fit pixels", f"{fit.used:,} of {fit.offered:,} (chi²/dof {fit.chi2_dof:.3g})"
    yield "left out as source", f"{100 * fit.sources:.3g} %"


Renderers = tuple[Callable[[Any], Details], Callable[[Any, str], Iterator[tuple[str, str]]]]
_RENDERERS: dict[type, Renderers] = {
    ImageResult: (_image_details, _image_summary),
    WfssResult: (_wfss_details, _wfss_summary),
    SossResult: (_soss_details, _soss_summary),
    TemplateResult: (_template_details, _template_summary),
}


def _of_kind(result: Any) -> Renderers:
    return _RENDERERS[type(result)]
