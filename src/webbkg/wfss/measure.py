"""WFSS: gather template, sky mask and planes of a grism exposure, and scale the template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.associations import find_file
from webbkg.files.catalogs import read_catalog
from webbkg.files.exposures import read_meta
from webbkg.files.masks import read_mask
from webbkg.files.references import TemplateImage, check_detector, cut_template, open_reference
from webbkg.modes import Request, Target, plain_number, share
from webbkg.results import BoolImage, Outcome, ScaleFit, Status
from webbkg.wfss import traces
from webbkg.wfss.fit import fit_scale, scaled_background


def measure(target: Target, request: Request) -> Outcome:
    """Scale the BKG reference to the sky pixels of a grism exposure.

    Returns
    -------
    Outcome
        SKIPPED if there is no reference, or it does not cover the target; FAILED, with the mask,
        if there is too little sky or no finite scale.

    Raises
    ------
    InputError
        If the target is not 2-D, has no ERR, or nothing tells its sky from its sources.
    ReferenceUnavailableError
        If a reference is needed and cannot be had.
    """
    _check_planes(target)
    mask_source = _mask_source(target, request)
    reference = request.find_reference("bkg")
    if reference is None:
        return _skipped(f"CRDS has no bkg reference for {target.name} (N/A)")
    template = _open_template(reference, target)
    if isinstance(template, str):
        return _skipped(template)
    mask = _sky_mask(target, request, mask_source)
    if mask is None:
        return _skipped(f"CRDS has no wavelengthrange reference for {target.name} (N/A)")
    model = target.model
    fit = fit_scale(
        model.data,
        model.err,
        model.dq,
        template.sci,
        template.dq,
        mask.sky,
        request.wfss,
        user_mask=request.wfss.mask is not None,
        dispersion_axis=_dispersion_axis(target),
    )
    return _outcome(fit, template, mask, request)


def _skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, reason=reason)


def _check_planes(target: Target) -> None:
    if target.model.data.ndim != 2:
        raise InputError(
            f"{target.name}: a {target.info.exposure_type} target must be 2-D, a rate product "
            f"(got SCI of shape {target.model.data.shape})"
        )
    err = read_meta(target.model, "err")
    if err is None or err.shape != target.model.data.shape:
        raise InputError(f"{target.name}: has no ERR plane of SCI's shape; it weights the fit")


def _dispersion_axis(target: Target) -> int | None:
    axis = read_meta(target.model, "meta.wcsinfo.dispersion_direction")
    return door.as_integer(axis, target.name, "DISPAXIS")


def _open_template(reference: Any, target: Target) -> TemplateImage | str:
    """Cut the BKG reference to the target's window; where that fails, say why."""
    with open_reference(reference, "WfssBkgModel") as model:
        name = read_meta(model, "meta.filename") or str(reference)
        check_detector(model, target.info, target.name, str(name))
        return cut_template(model, target.window, name)


@dataclass(frozen=True)
class _Mask:
    """A sky mask (True where sky), where it came from and the sources that it masks."""

    sky: BoolImage
    origin: str
    sources: int


def _mask_source(target: Target, request: Request) -> Any:
    """Find what tells sky from sources: a user's mask, or a catalogue."""
    if request.wfss.mask is not None:
        return find_file(request.wfss.mask, list(request.folders), "wfss_mask")
    catalog = request.source_catalog
    if catalog is None:
        catalog = read_meta(target.model, "meta.source_catalog")
    if catalog is None:
        raise InputError(
            f"{target.name}: nothing tells its sky from its sources; give a source catalogue "
            "(keyword SCATFILE, or 'sourcecat' in an association), or a mask file (wfss_mask)"
        )
    if isinstance(catalog, (str, Path)):
        return find_file(catalog, list(request.folders), f"{target.name}, source catalogue")
    return catalog


def _sky_mask(target: Target, request: Request, source: Any) -> _Mask | None:
    """Read or make the sky mask; None if there is no wavelengthrange for a catalogue."""
    if request.wfss.mask is not None:
        return _Mask(read_mask(source, target.window.shape, target.name), Path(source).name, 0)
    transform = _grism_transform(target)
    catalog = read_catalog(source)
    reference = request.find_reference("wavelengthrange")
    if reference is None:
        return None
    sky = traces.catalog_sky_mask(
        catalog,
        transform,
        _orders(reference, target),
        target.window.shape,
        magnitude_limit=request.wfss.mmag_extract,
        dispersion_axis=_dispersion_axis(target),
    )
    origin = Path(source).name if isinstance(source, (str, Path)) else "a table"
    return _Mask(sky, origin, len(catalog.brighter_than(request.wfss.mmag_extract)))


def _grism_transform(target: Target) -> traces.GrismTransform:
    wcs = read_meta(target.model, "meta.wcs")
    if wcs is None:
        raise InputError(
            f"{target.name}: has no WCS, which leads from its catalogue to its traces; run the "
            "assign_wcs step first, or give a mask file (wfss_mask)"
        )
    fault = "its WCS does not lead from the sky to its pixels"
    with door.reading(target.name, fault):
        transform: traces.GrismTransform = wcs.backward_transform

    def guarded(*where: Any) -> Any:
        with door.reading(target.name, fault):
            return transform(*where)

    return guarded


def _orders(reference: Any, target: Target) -> tuple[traces.OrderLimits, ...]:
    """Look up the orders of the target's blocking filter."""
    info = target.info
    element = traces.blocking_filter(info.instrument, info.filter or "", info.pupil or "")
    with open_reference(reference, "WavelengthrangeModel") as model:
        name = read_meta(model, "meta.filename") or str(reference)
        with door.reading(name, "cannot be read as a wavelengthrange reference"):
            return traces.orders_and_limits(
                [tuple(row) for row in model.extract_orders],
                [tuple(row) for row in model.wavelengthrange],
                element,
            )


def _outcome(fit: ScaleFit, template: TemplateImage, mask: _Mask, request: Request) -> Outcome:
    complete = fit.status is Status.COMPLETE
    return Outcome(
        status=fit.status,
        reason=fit.reason,
        background=(
            scaled_background(template.sci, template.err, template.dq, fit, overwrite=True)
            if complete
            else None
        ),
        sky_mask=mask.sky,
        scale=fit.scale,
        details=_details(fit, template, mask, request),
        summary=_summary(fit, template, mask) if complete else (),
    )


def _details(
    fit: ScaleFit, template: TemplateImage, mask: _Mask, request: Request
) -> dict[str, Any]:
    options = request.wfss
    return {
        "mode": "wfss",
        "template": template.name,
        "mask": mask.origin,
        "mask_sources": mask.sources,
        "mmag_extract": "None" if options.mmag_extract is None else options.mmag_extract,
        "maxiter": options.maxiter,
        "rms_stop": options.rms_stop,
        "outlier_percent": options.outlier_percent,
        "scale": fit.scale,
        "scale_err": plain_number(fit.scale_err),
        "chi2_dof": plain_number(fit.chi2_dof),
        "pixels": int(mask.sky.size),
        "pixels_sky": fit.sky_pixels,
        "pixels_offered": fit.offered,
        "pixels_used": fit.used,
        "iterations": [
            {
                "offered": step.offered,
                "rejected": step.rejected,
                "scale": plain_number(step.scale),
                "rms": plain_number(step.rms),
            }
            for step in fit.iterations
        ],
        "stopped": str(fit.stopped),
    }


def _summary(fit: ScaleFit, template: TemplateImage, mask: _Mask) -> tuple[tuple[str, str], ...]:
    return (
        ("template", template.name),
        ("scale", f"{fit.scale:.6g} ± {fit.scale_err:.2g} (chi²/dof {fit.chi2_dof:.3g})"),
        ("sky pixels", share(fit.sky_pixels, mask.sky.size)),
        ("sources masked", f"{mask.sources} of {mask.origin}" if mask.sources else mask.origin),
        ("fit pixels", f"{fit.used:,} of {fit.offered:,}, {len(fit.iterations)} fits"),
        ("stopped because", str(fit.stopped)),
    )
