"""Grism skies: what is told of them."""

from __future__ import annotations

from collections.abc import Iterator

from webbkg.record.words import Details, plain_values, scale_of, share
from webbkg.results import RobustFit, ScaleFit, SkyModel, Status, WfssResult


def details(result: WfssResult) -> Details:
    """Give its numbers, plain values only."""
    options, fit = result.options, result.fit
    return plain_values(
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
    told = plain_values(method=result.options.method, mask_from=result.mask_from)
    told |= _model_details(result.fit.model)
    if robust is None:
        return told
    return told | plain_values(
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
        plain_values(name=one.name, pieces=one.pieces, gain=one.gain, gain_err=one.gain_err)
        for one in model.trials
    ]
    told = plain_values(model=model.name, model_trials=trials)
    if model.reason:
        told["model_reason"] = model.reason
    if model.fit is None:
        return told
    return told | plain_values(
        model_pieces=model.pieces,
        model_change=model.change,
        scales=list(model.fit.scales),
        scale_errs=list(model.fit.scale_errs),
        profile=model.fit.free.tolist(),
    )


def _iterations(fit: ScaleFit) -> list[Details]:
    return [
        plain_values(offered=one.offered, rejected=one.rejected, scale=one.scale, rms=one.rms)
        for one in fit.iterations
    ]


def summary(result: WfssResult, _unit: str) -> Iterator[tuple[str, str]]:
    """Tell it to a person, a label and a value each."""
    fit = result.fit
    if fit.status is not Status.COMPLETE:
        return
    masked = f"{result.mask_sources} of {result.mask}" if result.mask_sources else result.mask
    yield "template", result.template
    yield "scale", f"{scale_of(fit)} (chi²/dof {fit.chi2_dof:.3g})"
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
