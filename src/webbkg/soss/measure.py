"""SOSS: gather the template library and the integrations, and choose and scale a template."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files.exposures import Exposure, read_meta
from webbkg.files.references import check_detector, open_reference, template_plane
from webbkg.modes import Request, Target, plain_number
from webbkg.options import SOSS_FEW_SAMPLES, SOSS_LAST_COLUMN
from webbkg.results import Outcome, SideFit, Status, TemplateFit
from webbkg.soss.fit import fit_segments, template_background


def measure(target: Target, request: Request) -> Outcome:
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
    reference = request.find_reference("bkg")
    if reference is None:
        reason = f"CRDS has no bkg reference for {target.name} (N/A)"
        return Outcome(status=Status.SKIPPED, reason=reason)
    with open_reference(reference, "SossBkgModel", "ReferenceImageModel") as model:
        name = str(read_meta(model, "meta.filename") or reference)
        check_detector(model, target.info, target.name, name)
        templates = template_plane(model, "data", name)
        if templates is None or templates.ndim not in (2, 3) or 0 in templates.shape:
            got = "none" if templates is None else f"shape {templates.shape}"
            raise InputError(
                f"{name}: a SOSS bkg reference must have an image or a cube of them (got {got})"
            )
        with contextlib.ExitStack() as opened:
            segments = [
                _open_segment(one, opened).planes for one in request.segments or (target.model,)
            ]
            fit = fit_segments(segments, templates, request.soss)
        _warn_of_little_evidence(fit, target, request)
        return _outcome(fit, templates, name, request)


def _warn_of_little_evidence(fit: TemplateFit, target: Target, request: Request) -> None:
    """Say where a scale rests on few samples, as where the source cut lies below the sky."""
    if fit.left is None or fit.right is None:
        return
    before = int(fit.discontinuity.sum())
    after = len(fit.discontinuity) * (SOSS_LAST_COLUMN + 1) - before
    for label, side, pixels in (("left", fit.left, before), ("right", fit.right, after)):
        share_used = side.n_sky / max(pixels * fit.n_integrations, 1)
        if share_used < SOSS_FEW_SAMPLES:
            request.warn(
                f"{target.name}: the {label} scale rests on {side.n_sky} samples, "
                f"{100 * share_used:.2g} % of that side: everything at or above "
                f"{fit.source_threshold:.4g} was taken as source; a higher "
                "soss_source_percentile keeps more of the sky"
            )


def _open_segment(source: Any, opened: contextlib.ExitStack) -> Exposure:
    if isinstance(source, Path):
        return opened.enter_context(Exposure.from_file(source, needed=("SCI", "DQ")))
    return Exposure.from_model(source)


def _outcome(fit: TemplateFit, templates: npt.NDArray[Any], name: str, request: Request) -> Outcome:
    complete = fit.status is Status.COMPLETE
    return Outcome(
        status=fit.status,
        reason=fit.reason,
        background=template_background(fit, templates) if complete else None,
        details=_details(fit, name, request),
        summary=_summary(fit, name, len(request.segments)),
    )


def _details(fit: TemplateFit, name: str, request: Request) -> dict[str, Any]:
    options = request.soss
    return {
        "mode": "soss",
        "library": name,
        "source_percentile": options.source_percentile,
        "bkg_percentile": list(options.bkg_percentile),
        "template": "None" if fit.template is None else fit.template,
        "left": _side(fit.left),
        "right": _side(fit.right),
        "rmse": [[plain_number(value) for value in sides] for sides in fit.rmse.tolist()],
        "source_threshold": plain_number(fit.source_threshold),
        "integrations": fit.n_integrations,
        "segments": max(1, len(request.segments)),
    }


def _side(side: SideFit | None) -> dict[str, Any] | str:
    if side is None:
        return "None"
    return {
        "scale": plain_number(side.scale),
        "scale_err": plain_number(side.scale_err),
        "rmse": plain_number(side.rmse),
        "n_sky": side.n_sky,
        "n_scale": side.n_scale,
    }


def _summary(fit: TemplateFit, name: str, segments: int) -> tuple[tuple[str, str], ...]:
    if fit.left is None or fit.right is None:
        return ()
    together = f", {segments} segments together" if segments > 1 else ""
    return (
        ("template", f"{fit.template} of {len(fit.rmse)} in {name}"),
        ("scale, left", f"{fit.left.scale:.6g} ± {fit.left.scale_err:.2g}"),
        ("scale, right", f"{fit.right.scale:.6g} ± {fit.right.scale_err:.2g}"),
        ("RMSE, left and right", f"{fit.left.rmse:.4g}, {fit.right.rmse:.4g}"),
        ("sky samples, left and right", f"{fit.left.n_sky:,}, {fit.right.n_sky:,}"),
        ("integrations", f"{fit.n_integrations}{together}"),
    )
