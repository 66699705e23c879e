"""Templates of the user's own: what is told of them."""

from __future__ import annotations

from collections.abc import Iterator

from webbkg.files.naming import plain_ascii
from webbkg.options import TemplateOptions
from webbkg.record.words import Details, in_unit, plain_values
from webbkg.results import Status, TemplateResult, TemplatesFit


def details(result: TemplateResult) -> Details:
    """Give its numbers, plain values only."""
    options, fit = result.options, result.fit
    region = {} if options.template_region is None else {"region": list(options.template_region)}
    return plain_values(
        mode="template",
        templates=[plain_ascii(name) for name in result.templates],
        **region,
        scales=[plain_values(**vars(one)) for one in fit.scales],
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


def summary(result: TemplateResult, unit: str) -> Iterator[tuple[str, str]]:
    """Tell it to a person, a label and a value each."""
    fit = result.fit
    if fit.status is not Status.COMPLETE:
        return
    for name, one in zip(result.templates, fit.scales, strict=True):
        yield "template", name
        yield "scale", f"{one.scale:.6g} ± {one.scale_err:.2g} times the template"
    if fit.sky:
        kept = "subtracted" if result.options.template_subtract_sky else "which stays"
        yield "sky beside it", f"{in_unit(f'{fit.level:.5g}', unit)}, {kept}"
    yield from _where_fitted(result, fit)


def _where_fitted(result: TemplateResult, fit: TemplatesFit) -> Iterator[tuple[str, str]]:
    if result.options.template_region is not None:
        x1, x2, y1, y2 = result.options.template_region
        yield "fitted in", f"columns {x1} to {x2}, rows {y1} to {y2} of the detector"
    yield "fit pixels", f"{fit.used:,} of {fit.offered:,} (chi²/dof {fit.chi2_dof:.3g})"
    yield "left out as source", f"{100 * fit.sources:.3g} %"
