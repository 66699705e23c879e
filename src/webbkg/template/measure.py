"""Templates of the user's own: gather them and an image's planes, and scale them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, OptionError
from webbkg.files.associations import find_file
from webbkg.files.templates import OwnTemplate, read_template
from webbkg.modes import Request, Services, Target
from webbkg.options import TemplateOptions
from webbkg.results import (
    FloatImage,
    Outcome,
    Propagated,
    Status,
    TemplateResult,
    TemplatesFit,
)
from webbkg.template.background import common_error, scaled_templates
from webbkg.template.fit import Fitted, scale_templates

LEAST_KNOWN = 0.5
"""Share of the pixels that must have a VAR_RNOISE above 0, or ERR is taken."""

MOSTLY_UNKNOWN = 0.05
"""Share of the pixels without a template above which that is warned of."""

LEAST_OWN = 0.01
"""Share of what tells a scale below which the even sky beside a template is too like it."""

MOST_TEMPLATES = 10


def measure(target: Target, request: Request, services: Services) -> Outcome:
    """Scale templates to an image, and tell what is to be subtracted.

    Returns
    -------
    Outcome
        FAILED, with the reason, where there are no trustworthy scales.

    Raises
    ------
    InputError
        If the target is not 2-D or has no uncertainty, or a template cannot be used.
    OptionError
        If the region lies outside the target.
    """
    options = request.template or TemplateOptions()
    _check(target, options)
    region = target.part(options)
    gathered = _gather(target, request, options)
    sci, dq, variance, photons = _planes(target)
    fitted = scale_templates(sci, dq, gathered.stack, variance, photons, options, region=region)
    fitted = _with_names(fitted, gathered.names, options)
    return _outcome(target, gathered, fitted, options, propagate=request.propagate_errors)


def _check(target: Target, options: TemplateOptions) -> None:
    if len(target.shape) != 2:
        raise InputError(
            f"{target.name}: template needs a 2-D exposure (got SCI of shape {target.shape}); take "
            "the rate product, the mean of its integrations"
        )
    number = len(options.template or ())
    if not 1 <= number <= MOST_TEMPLATES:
        raise OptionError(f"template must name 1 to {MOST_TEMPLATES} files (got {number})")


@dataclass(frozen=True)
class _Gathered:
    """Templates on the target's window."""

    names: tuple[str, ...]
    stack: FloatImage  #: (templates, rows, columns), NaN where unknown
    errors: tuple[FloatImage | None, ...]
    warnings: tuple[str, ...]


def _gather(target: Target, request: Request, options: TemplateOptions) -> _Gathered:
    """Read the templates one after the other, each onto its place."""
    files = options.template or ()
    folders = [Path(), *request.folders]
    stack = np.empty((len(files), *target.shape), np.float32)
    read = []
    for name, plane in zip(files, stack, strict=True):
        path = find_file(name, folders, "template")
        found = read_template(path, target.place, target.info)
        plane[:] = found.usable
        read.append(replace(found, image=replace(found.image, sci=plane)))
    warnings = tuple(text for one in read for text in _odd(one, target))
    return _Gathered(
        tuple(one.image.name for one in read),
        stack,
        tuple(_errors(one) for one in read),
        warnings,
    )


def _errors(one: OwnTemplate) -> FloatImage | None:
    err = one.image.err
    return err if err is not None and err.any() else None


def _odd(one: OwnTemplate, target: Target) -> Iterator[str]:
    """Warn of a template of another filter."""
    for part in ("filter", "pupil"):
        theirs, ours = getattr(one.info, part), getattr(target.info, part)
        if theirs not in (None, "N/A", "ANY", ours) and ours is not None:
            yield (
                f"{one.image.name}: the {part} of this template is {theirs}, that of "
                f"{target.name} is {ours}"
            )


def _planes(target: Target) -> tuple[Any, Any, Any, Any]:
    """Return SCI, DQ and variances of a target: of read noise and photons, or ERR² and None."""
    sci, dq = target.plane("SCI"), target.plane("DQ")
    read, photons = (_of_shape(target, name) for name in ("VAR_RNOISE", "VAR_POISSON"))
    if read is not None and photons is not None and np.mean(read > 0) > LEAST_KNOWN:
        return sci, dq, read, photons
    err = _of_shape(target, "ERR")
    if err is None:
        raise InputError(
            f"{target.name}: has neither VAR_RNOISE and VAR_POISSON nor an ERR plane of SCI's "
            "shape; one of them weights the fit of a template"
        )
    with np.errstate(over="ignore"):
        return sci, dq, np.square(np.asarray(err, np.float32)), None


def _of_shape(target: Target, name: str) -> npt.NDArray[Any] | None:
    plane = target.plane(name)
    return plane if plane is not None and plane.shape == target.shape else None


def _with_names(fitted: Fitted, names: tuple[str, ...], options: TemplateOptions) -> Fitted:
    """Call the templates in a reason by their names, and the region by its parameter."""
    fit = fitted.fit
    if fit.status is Status.COMPLETE:
        return fitted
    reason = fit.reason
    for number, name in reversed([*enumerate(names, 1)]):
        reason = reason.replace(f"template {number} ", f"template {name} ")
    if options.template_region is not None:
        reason = f"{reason} (in template_region)"
    return fitted._replace(fit=replace(fit, reason=reason))


def _outcome(
    target: Target,
    gathered: _Gathered,
    fitted: Fitted,
    options: TemplateOptions,
    *,
    propagate: bool,
) -> Outcome:
    fit, with_sky = fitted.fit, options.template_subtract_sky
    background = propagated = None
    if fit.status is Status.COMPLETE:
        background = scaled_templates(
            gathered.stack, gathered.errors, fit, with_sky=with_sky, with_variances=propagate
        )
        if propagate:
            propagated = Propagated(common={"scale": common_error(fit, with_sky=with_sky)})
    unknown = int(np.count_nonzero(np.isnan(gathered.stack).any(axis=0)))
    result = TemplateResult(
        options=options,
        templates=gathered.names,
        pixels=int(np.prod(target.shape)),
        pixels_unknown=unknown,
        fit=fit,
    )
    return Outcome(
        status=fit.status,
        reason=fit.reason,
        background=background,
        sky_mask=fitted.sky,
        propagated=propagated,
        warnings=(*gathered.warnings, *_unusual(target.name, result)),
        result=result,
    )


def _unusual(target: str, result: TemplateResult) -> Iterator[str]:
    """Warn of templates that were not found, and of pixels without one."""
    found: TemplatesFit = result.fit
    for name, one in zip(result.templates, found.scales, strict=False):
        if one.scale == 0:
            yield f"{target}: nothing of template {name} was found (scale 0 ± {one.scale_err:.2g})"
        if one.own < LEAST_OWN and result.options.template_sky != "none":
            yield (
                f"{target}: the even sky beside template {name} leaves {100 * one.own:.2g} % of what "
                "tells its scale; if that is the whole sky, fit it alone (template_sky = none)"
            )
    if result.pixels_unknown > MOSTLY_UNKNOWN * result.pixels:
        share = 100 * result.pixels_unknown / result.pixels
        yield (
            f"{target}: {share:.3g} % of its pixels stay as they are: there a template has no "
            "finite value, or DO_NOT_USE"
        )
