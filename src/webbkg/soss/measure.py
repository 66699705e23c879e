"""SOSS: gather the template library and the integrations, and choose and scale a template."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files.exposures import Exposure
from webbkg.files.references import ReferenceImages, check_detector, open_images
from webbkg.files.times import hours_of, read_clock
from webbkg.modes import Request, Services, Target
from webbkg.options import SOSS_FEW_SAMPLES, SOSS_LAST_COLUMN, SossOptions
from webbkg.results import (
    Outcome,
    Propagated,
    SossResult,
    Status,
    TemplateFit,
    relative_error,
)
from webbkg.soss.fit import fit_segments, template_background

Image = npt.NDArray[Any]


def measure(target: Target, request: Request, services: Services) -> Outcome:
    """Choose the template of the BKG library that suits a target, and its two scales.

    The segments of the request are fitted together with the target.

    Returns
    -------
    Outcome
        SKIPPED if there is no reference, its rows do not fit, or no template matches.

    Raises
    ------
    ReferenceUnavailableError
        If the reference cannot be had.
    """
    options = request.options_as(SossOptions)
    reference = services.find_reference("bkg")
    if reference is None:
        reason = f"CRDS has no bkg reference for {target.name} (N/A)"
        return Outcome(status=Status.SKIPPED, reason=reason)
    with open_images(reference, "SossBkgModel", "ReferenceImageModel", needed=["SCI"]) as images:
        name = images.name
        check_detector(images, target.info, target.name)
        templates = images.plane("SCI")
        if templates is None or templates.ndim not in (2, 3) or 0 in templates.shape:
            got = "none" if templates is None else f"shape {templates.shape}"
            raise InputError(
                f"{name}: a SOSS bkg reference must have an image or a cube of them (got {got})"
            )
        with contextlib.ExitStack() as opened:
            sources = request.segments or (target.open(),)
            segments = [_open_segment(one, opened).planes for one in sources]
            times = None
            if options.time != "constant":
                lengths = [segment.shape[0] for segment in segments]
                times = hours_of([read_clock(one) for one in sources], lengths)
            fit = fit_segments(segments, templates, options, times=times)
        result = SossResult(
            options=options, reference=name, segments=max(1, len(request.segments)), fit=fit
        )
        errors = _template_errors(images, templates) if request.propagate_errors else None
        return _outcome(result, templates, errors, target)


def _template_errors(images: ReferenceImages, templates: Image) -> Image:
    """Return the library's uncertainties; 0 where it has none."""
    errors = images.plane("ERR")
    if errors is not None and errors.shape == templates.shape:
        return errors
    return np.broadcast_to(np.float32(0), templates.shape)


def _outcome(result: SossResult, templates: Image, errors: Image | None, target: Target) -> Outcome:
    fit = result.fit
    complete = fit.status is Status.COMPLETE
    return Outcome(
        status=fit.status,
        reason=fit.reason,
        background=template_background(fit, templates, errors) if complete else None,
        propagated=None if errors is None else _propagated(fit),
        result=result,
        warnings=tuple(_warnings(fit, target)),
    )


def _warnings(fit: TemplateFit, target: Target) -> Iterator[str]:
    if fit.robust is None:
        yield from _little_evidence(fit, target)
    else:
        for reason in fit.robust.look:
            yield f"{target.name}: look at the SOSS background: {reason}"


def _propagated(fit: TemplateFit) -> Propagated | None:
    if fit.left is None or fit.right is None:
        return None
    sides = {"left": fit.left, "right": fit.right}
    return Propagated(
        common={name: relative_error(side.scale, side.scale_err) for name, side in sides.items()},
        jump=tuple(fit.jump.tolist()),
    )


def _little_evidence(fit: TemplateFit, target: Target) -> Iterator[str]:
    """Say where a scale rests on few samples, as where the source cut lies below the sky."""
    if fit.left is None or fit.right is None:
        return
    before = int(fit.jump.sum())
    after = len(fit.jump) * (SOSS_LAST_COLUMN + 1) - before
    for label, side, pixels in (("left", fit.left, before), ("right", fit.right, after)):
        share_used = side.n_sky / max(pixels * fit.n_integrations, 1)
        if share_used < SOSS_FEW_SAMPLES:
            yield (
                f"{target.name}: the {label} scale rests on {side.n_sky} samples, "
                f"{100 * share_used:.2g} % of that side: everything at or above "
                f"{fit.source_threshold:.4g} was taken as source; a higher "
                "soss_source_percentile keeps more of the sky"
            )


def _open_segment(source: Any, opened: contextlib.ExitStack) -> Exposure:
    if isinstance(source, Path):
        return opened.enter_context(Exposure.from_file(source, needed=("SCI", "DQ")))
    return Exposure.from_model(source)
