"""WFSS: gather template, sky mask and planes of a grism exposure, and scale the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, OptionError
from webbkg.files import door
from webbkg.files.associations import find_file
from webbkg.files.catalogs import read_catalog
from webbkg.files.masks import read_mask
from webbkg.files.references import (
    TemplateImage,
    check_detector,
    cut_template,
    open_images,
    read_wavelength_ranges,
)
from webbkg.files.templates import read_template
from webbkg.modes import Request, Services, Target
from webbkg.options import TemplateOptions, WfssOptions
from webbkg.results import (
    BoolImage,
    FloatImage,
    Outcome,
    Propagated,
    ScaleFit,
    Status,
    WfssResult,
    relative_error,
)
from webbkg.wfss import traces
from webbkg.wfss.fit import fit_scale, scaled_background, scaled_variances
from webbkg.wfss.flat import flat_response, with_flat_error
from webbkg.wfss.predict import predict_light

Image = npt.NDArray[Any]


def measure(target: Target, request: Request, services: Services) -> Outcome:
    """Scale the BKG reference to the sky pixels of a grism exposure.

    Returns
    -------
    Outcome
        SKIPPED if there is no reference, or it does not cover the target; FAILED, with the mask,
        if there is too little sky or no finite scale.

    Raises
    ------
    InputError
        If the target is not 2-D, has no ERR, or its mask or catalogue cannot be used.
    ReferenceUnavailableError
        If a reference is needed and cannot be had.
    """
    options = request.options_as(WfssOptions)
    sci, err, dq = _planes(target)
    source = _mask_source(target, request, options)
    templates = _templates(target, request, services)
    if isinstance(templates, str):
        return _skipped(templates)
    template, *more = templates
    options = _for_several(options, more)
    mask = _sky_mask(target, source, options, services)
    if mask is None:
        return _skipped(f"CRDS has no wavelengthrange reference for {target.name} (N/A)")
    mask = mask.within(target.part(request.template))
    fit = fit_scale(
        sci,
        err,
        dq,
        template.sci,
        template.dq,
        mask.sky,
        replace(options, mask_from=mask.way),
        user_mask=options.mask is not None,
        dispersion_axis=_dispersion_axis(target),
        var_rnoise=_variance(target, "VAR_RNOISE", options),
        var_poisson=_variance(target, "VAR_POISSON", options),
        source_light=mask.light,
        more_templates=[one.sci for one in more],
    )
    if request.template is not None and request.template.flat_error:
        fit = _with_flat_error(fit, (sci, err, dq), template, mask, request.template)
    return _outcome(fit, templates, mask, options, propagate=request.propagate_errors)


def _skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, reason=reason)


def _planes(target: Target) -> tuple[Image, Image, Image]:
    """Return SCI, ERR and DQ of a target that has what the fit needs."""
    if len(target.shape) != 2:
        raise InputError(
            f"{target.name}: a {target.info.exposure_type} target must be 2-D, a rate product "
            f"(got SCI of shape {target.shape})"
        )
    sci, err, dq = (target.plane(name) for name in ("SCI", "ERR", "DQ"))
    if sci is None or err is None or err.shape != target.shape:
        raise InputError(f"{target.name}: has no ERR plane of SCI's shape; it weights the fit")
    return sci, err, np.zeros(target.shape, np.uint32) if dq is None else dq


def _variance(target: Target, name: str, options: WfssOptions) -> Image | None:
    """Read a variance plane, if the method wants it and the target has it in SCI's shape."""
    plane = target.plane(name) if options.method == "robust" else None
    return plane if plane is not None and plane.shape == target.shape else None


def _dispersion_axis(target: Target) -> int | None:
    axis = target.read("meta.wcsinfo.dispersion_direction")
    return door.as_integer(axis, target.name, "DISPAXIS")


def _templates(target: Target, request: Request, services: Services) -> list[TemplateImage] | str:
    """Open the templates of the user's own, or the reference; where there is none, say why."""
    named = None if request.template is None else request.template.template
    if named is not None:
        paths = [find_file(one, [Path(), *request.folders], "template") for one in named]
        read = [read_template(path, target.place, target.info) for path in paths]
        # What is known of the first one's flags goes to the product; the others are as good as 0 there.
        return [read[0].image, *(replace(one.image, sci=one.usable) for one in read[1:])]
    reference = services.find_reference("bkg")
    if reference is None:
        return f"CRDS has no bkg reference for {target.name} (N/A)"
    template = _open_template(reference, target)
    return template if isinstance(template, str) else [template]


def _for_several(options: WfssOptions, more: Sequence[TemplateImage]) -> WfssOptions:
    """Fit several templates together, where there are more than one."""
    if not more or options.model != "template":
        return options
    if options.method != "robust":
        raise OptionError(
            f"template must name one file for wfss_method {options.method} (got {1 + len(more)}); "
            "set wfss_method to robust"
        )
    return replace(options, model="templates")


def _with_flat_error(
    fit: ScaleFit,
    planes: tuple[Image, Image, Image],
    template: TemplateImage,
    mask: _Mask,
    stated: TemplateOptions,
) -> ScaleFit:
    """Let a stated error of the flat field enter the error of a scale."""
    if fit.status is not Status.COMPLETE:
        return fit
    sky = mask.chosen(fit, template)
    given = (*planes, template.sci, template.dq, sky)
    error = stated.flat_error * flat_response(*given, stated.flat_length)
    return with_flat_error(fit, error)


def _open_template(reference: Any, target: Target) -> TemplateImage | str:
    """Cut the BKG reference to the target's window; where that fails, say why."""
    with open_images(reference, "WfssBkgModel") as images:
        check_detector(images, target.info, target.name)
        return cut_template(images, target.place)


@dataclass(frozen=True)
class _Mask:
    """A sky mask (True where sky), where it came from and the sources that it masks.

    Or, for traces, their predicted light, with a mask that leaves all to the fit; `way` is as
    `WfssOptions.mask_from`.
    """

    sky: BoolImage
    origin: str
    sources: int = 0
    warnings: tuple[str, ...] = ()
    way: str = "boxes"
    light: FloatImage | None = None

    def chosen(self, fit: ScaleFit, template: TemplateImage) -> BoolImage:
        """Tell which pixels a fit took as sky."""
        if self.light is None or fit.robust is None:
            return self.sky
        allowed = np.float32(fit.robust.light_limit) * np.asarray(template.sci, np.float32)
        clean: BoolImage = (self.light <= allowed) & self.sky
        return clean

    def within(self, region: tuple[slice, slice] | None) -> _Mask:
        """Confine it to rows and columns; None for all of them."""
        if region is None:
            return self
        sky = np.zeros_like(self.sky)
        sky[region] = self.sky[region]
        return replace(self, sky=sky)


def _mask_source(target: Target, request: Request, options: WfssOptions) -> Any:
    """Find what tells sky from sources: a user's mask, or a catalogue; None if nothing does."""
    if options.mask is not None:
        return find_file(options.mask, [Path(), *request.folders], "wfss_mask")
    catalog = request.source_catalog
    if catalog is None:
        catalog = target.read("meta.source_catalog")
    if isinstance(catalog, str) and not catalog.strip():
        return None
    if isinstance(catalog, (str, Path)):
        return find_file(catalog, list(request.folders), f"{target.name}, source catalogue")
    return catalog


def _sky_mask(
    target: Target, source: Any, options: WfssOptions, services: Services
) -> _Mask | None:
    """Read or make the sky mask; None if there is no wavelengthrange for a catalogue."""
    if options.mask is not None:
        return _Mask(read_mask(source, target.place.shape, target.name), Path(source).name)
    if options.method == "robust" and (source is None or options.mask_from == "image"):
        return _by_image(target)
    if source is None:
        return _all_sky(target)
    if options.mask_from == "auto" and target.wcs() is None:
        return _by_image(target, "there is no WCS that leads from its catalogue to its traces")
    return _by_catalog(target, source, options, services)


def _by_catalog(
    target: Target, source: Any, options: WfssOptions, services: Services
) -> _Mask | None:
    """Mask the boxes of a catalogue, or predict its light; None if that lacks a reference."""
    transform = _grism_transform(target)
    catalog = read_catalog(source)
    reference = services.find_reference("wavelengthrange")
    if reference is None:
        missing = "CRDS has no wavelengthrange reference for it (N/A)"
        return _by_image(target, missing) if options.mask_from == "auto" else None
    origin = Path(source).name if isinstance(source, (str, Path)) else "a table"
    where = (transform, _orders(reference, target), target.place.shape)
    axis = _dispersion_axis(target)
    if options.mask_from in ("traces", "auto"):
        light = predict_light(catalog, *where, dispersion_axis=axis)
        everywhere = np.ones(light.shape, np.bool_)
        return _Mask(everywhere, origin, len(catalog), way="traces", light=light)
    sky = traces.catalog_sky_mask(
        catalog, *where, magnitude_limit=options.mmag_extract, dispersion_axis=axis
    )
    return _Mask(sky, origin, len(catalog.brighter_than(options.mmag_extract)))


def _by_image(target: Target, because: str = "") -> _Mask:
    """Leave it to the fit to tell sky from sources; `because` says why the catalogue does not."""
    warning = f"{target.name}: {because}; the image itself tells its sky from its sources"
    return _Mask(
        np.ones(target.place.shape, np.bool_),
        "the image",
        warnings=(warning,) if because else (),
        way="image",
    )


def _all_sky(target: Target) -> _Mask:
    """Take every pixel as sky, as the ``jwst`` package does, and say what that means."""
    warning = (
        f"{target.name}: nothing tells its sky from its sources, so that every pixel is taken as "
        "sky and their light biases the scale; give a source catalogue (keyword SCATFILE, "
        "'sourcecat' in an association, --catalog of the command, or a file name as "
        "meta.source_catalog: a table set there is dropped by the data model), or a mask file "
        "(wfss_mask)"
    )
    return _Mask(np.ones(target.place.shape, np.bool_), "all sky", warnings=(warning,))


def _grism_transform(target: Target) -> traces.GrismTransform:
    wcs = target.wcs()
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
    name, extracted, ranges = read_wavelength_ranges(reference)
    with door.reading(name, "cannot be read as a wavelengthrange reference"):
        return traces.orders_and_limits(extracted, ranges, element)


def _outcome(
    fit: ScaleFit,
    templates: Sequence[TemplateImage],
    mask: _Mask,
    options: WfssOptions,
    *,
    propagate: bool,
) -> Outcome:
    background = propagated = None
    template, *others = templates
    more: dict[str, Any] = {
        "more_templates": [one.sci for one in others],
        "more_errs": [one.err for one in others],
    }
    sky = mask.chosen(fit, template)
    if fit.status is Status.COMPLETE:  # overwrites the template
        own = template.sci, template.err
        variances = scaled_variances(*own, fit, **more) if propagate else None
        background = scaled_background(*own, template.dq, fit, overwrite=True, **more)
        background = replace(background, variances=variances)
    if background is not None and propagate:
        propagated = Propagated(common={"scale": _relative_error(fit)})
    return Outcome(
        status=fit.status,
        reason=fit.reason,
        background=background,
        sky_mask=sky,
        propagated=propagated,
        warnings=mask.warnings,
        result=WfssResult(
            options=options,
            template=", ".join(one.name for one in templates),
            mask=mask.origin,
            mask_sources=mask.sources,
            mask_from=mask.way,
            pixels=int(sky.size),
            fit=fit,
        ),
    )


def _relative_error(fit: ScaleFit) -> float:
    """Give the relative standard error of what is subtracted, as it moves all pixels together."""
    if fit.model is None or fit.model.fit is None:
        return relative_error(fit.scale, fit.scale_err)
    return relative_error(fit.model.fit.level, fit.model.fit.level_err)
