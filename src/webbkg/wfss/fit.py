"""WFSS: the scale of a reference sky, fitted to the sky pixels of a grism exposure.

The scale is sum(sci·template/err²) / sum(template²/err²), in float64, over the fit pixels: sky,
with finite sci, template and err², err² > 0, and without DO_NOT_USE in target or template.
Then, up to `WfssOptions.maxiter` times, pixels whose residual sci - scale·template (computed in
float64, rounded to float32) lies below the `outlier_percent` percentile or above its counterpart
are rejected for good, and the scale is fitted again. With `rms_stop`, the residuals' median
across dispersion is taken after each fit; once the root mean square of this profile has
improved by less than that percentage, no more is rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.numerics.parallel import available_threads, split
from webbkg.options import DO_NOT_USE, MINIMUM_SKY_PERCENT, WfssOptions
from webbkg.results import (
    Background,
    FitIteration,
    FlagImage,
    FloatImage,
    ScaleFit,
    Status,
    StopReason,
    Variances,
)
from webbkg.wfss import kernels
from webbkg.wfss.blind import fit_blind
from webbkg.wfss.cleanest import cleanest, fit_cleanest
from webbkg.wfss.composite import Composite
from webbkg.wfss.fit_pixels import LINES, FitPixels, Planes
from webbkg.wfss.noise import Noise, noise_from_err, noise_from_planes, sample_places
from webbkg.wfss.robust import Common, Pixels, fit_robust
from webbkg.wfss.shapes import fit_sky

Scalar = TypeVar("Scalar", bound=np.generic)


def fit_scale(
    sci: npt.ArrayLike,
    err: npt.ArrayLike,
    dq: npt.ArrayLike,
    template: npt.ArrayLike,
    template_dq: npt.ArrayLike | None = None,
    sky_mask: npt.ArrayLike | None = None,
    options: WfssOptions | None = None,
    *,
    user_mask: bool = False,
    dispersion_axis: int | None = None,
    threads: int | None = None,
    var_rnoise: npt.ArrayLike | None = None,
    var_poisson: npt.ArrayLike | None = None,
    source_light: npt.ArrayLike | None = None,
    more_templates: Sequence[npt.ArrayLike] = (),
) -> ScaleFit:
    """Fit the scale of a template to the sky of a grism exposure.

    By weighted least squares with rejection of outliers; see the module, and for the method
    robust `webbkg.wfss.robust`. The result does not depend on the number of threads, and no
    argument is changed.

    Parameters
    ----------
    sci, err : (rows, columns) array_like, float32
        The target and its standard uncertainty, in one unit.
    dq : (rows, columns) array_like, uint32
        Its data-quality flags.
    template : (rows, columns) array_like, float32
        Reference sky, cut to the target's window.
    template_dq : (rows, columns) array_like, uint32, optional
        Its data-quality flags; none by default.
    sky_mask : (rows, columns) array_like, bool, optional
        True where sky, False where dispersed light of a source falls; all sky by default.
    options : WfssOptions, optional
        Iterations and thresholds; its `mask` and `mmag_extract` do not matter here.
    user_mask : bool
        The sky mask is the user's own: any sky pixel is enough. Otherwise sky without
        DO_NOT_USE and with a template that is not 0 must exceed 5 % of all pixels.
    dispersion_axis : int, optional
        1 if light is dispersed along x, anything else along y (DISPAXIS); for `rms_stop`, and
        for the method robust.
    threads : int, optional
        Default: as many as this task may use.
    var_rnoise, var_poisson : (rows, columns) array_like, float32, optional
        Variances of the target by read noise and by photons, in its unit squared. The method
        robust models the noise with both or, without them, with `err`; the other does not look
        at them.
    source_light : (rows, columns) array_like, float32, optional
        Predicted light of sources, in any unit, as of `webbkg.wfss.predict`. The method robust
        then fits the pixels with the least of it; for `mask_from` traces and auto.
    more_templates : sequence of (rows, columns) array_like, float32
        Further skies, for `model` templates, +offset, +profile and auto.

    Returns
    -------
    ScaleFit
        FAILED, with scale 0, where there is too little sky or the scale is not finite.

    Raises
    ------
    OptionError
        If the shapes differ or are not 2-D, what needs a dispersion axis lacks it, or there are
        more templates than the model takes.

    Examples
    --------
    >>> import numpy as np
    >>> sky = 1 + np.arange(12.0).reshape(3, 4)
    >>> fit = fit_scale(0.5 * sky, np.ones((3, 4)), np.zeros((3, 4)), sky)
    >>> round(fit.scale, 6), fit.used
    (0.5, 12)
    """
    options = options or WfssOptions()
    _check_axis(options, dispersion_axis)
    planes = _planes(sci, err, dq, template, template_dq, sky_mask)
    more = _more(more_templates, planes, options)
    threads = available_threads() if threads is None else threads
    pixels = FitPixels(planes, threads)
    if options.method == "robust":
        noise = _noise(pixels, planes, var_rnoise, var_poisson)
        images = Pixels(pixels.values.reshape(planes.sci.shape), planes.template, noise)
        common = Common(pixels.sums.pixels, pixels.usable_sky, dispersion_axis == 1, threads)
        light = _light(source_light, planes, options)
        return _fit_robust(images, more, light, common, options)
    reason = _too_little_sky(pixels, user_mask=user_mask)
    if reason:
        return ScaleFit(status=Status.FAILED, reason=reason, sky_pixels=pixels.usable_sky)
    return _fit(pixels, options, dispersion_axis)


def scaled_background(
    template: npt.ArrayLike,
    template_err: npt.ArrayLike | None,
    template_dq: npt.ArrayLike | None,
    fit: ScaleFit,
    *,
    overwrite: bool = False,
    more_templates: Sequence[npt.ArrayLike] = (),
    more_errs: Sequence[npt.ArrayLike | None] = (),
) -> Background:
    """Multiply a template by its fitted scale, and add what more the sky was fitted with.

    sci = scale·template; err = sqrt((scale·template_err)² + (scale_err·template)²), the
    template's own uncertainty and that of the scale taken as independent. Where the template is
    not finite, sci and err are NaN and dq has DO_NOT_USE; else dq is the template's. With a model
    (`ScaleFit.model`) sci is the sum of what was fitted, and in err the covariance of all
    coefficients takes the place of scale_err².

    Parameters
    ----------
    template : (rows, columns) array_like, float32
        Reference sky on the target's window.
    template_err : (rows, columns) array_like, float32, or None
        Its standard uncertainty; None for 0. Where it is NaN, so is the result's.
    template_dq : (rows, columns) array_like, uint32, or None
        Its data-quality flags; None for none.
    fit : ScaleFit
        A COMPLETE one.
    overwrite : bool
        The caller gives the arrays away: those of the dtype above, in C order, are overwritten
        and become the result's.
    more_templates : sequence of (rows, columns) array_like, float32
        Those that `fit_scale` was given.
    more_errs : sequence of (rows, columns) array_like, float32, or None
        Their standard uncertainties; 0 by default.

    Returns
    -------
    Background
        On the same window, float32, covered everywhere.

    Raises
    ------
    OptionError
        If the fit is not COMPLETE, or the shapes differ.
    """
    if fit.status is not Status.COMPLETE:
        raise OptionError(f"fit must be COMPLETE to be applied (got {fit.status}: {fit.reason})")
    level = _image(template, np.float32, own=not overwrite)
    own = _or_filled(template_err, 0, np.float32, level.shape, own=not overwrite)
    flags = _or_filled(template_dq, 0, np.uint32, level.shape, own=not overwrite)
    _check_shapes({"template": level, "template_err": own, "template_dq": flags})
    composite = _composite(level, own, fit, more_templates, more_errs)
    if composite is not None:
        _write_composite(composite, level, own, flags)
        return Background(sci=level, err=own, dq=flags, covered=np.ones(level.shape, np.bool_))
    kernels.scale_template(
        level.reshape(-1),
        own.reshape(-1),
        flags.reshape(-1),
        fit.scale,
        fit.scale_err,
        np.uint32(DO_NOT_USE),
    )
    return Background(sci=level, err=own, dq=flags, covered=np.ones(level.shape, np.bool_))


def _composite(
    template: FloatImage,
    template_err: FloatImage,
    fit: ScaleFit,
    more: Sequence[npt.ArrayLike],
    more_errs: Sequence[npt.ArrayLike | None],
) -> Composite | None:
    """Take what a fit with a model is made of; None of one scale alone."""
    if fit.model is None or fit.model.fit is None:
        return None
    number = len(fit.model.fit.scales)
    templates = [template, *(_image(one, np.float32) for one in more)][:number]
    if len(templates) < number:
        raise OptionError(
            f"more_templates must be the {number - 1} that were fitted (got {len(templates) - 1})"
        )
    given = [*more_errs, *[None] * len(more)]
    errs = [None if one is None else _image(one, np.float32) for one in given]
    planes = {f"template {n}": one for n, one in enumerate(templates, 1)}
    _check_shapes(planes | {f"err of {n}": one for n, one in enumerate(errs, 2) if one is not None})
    return Composite(fit.model.fit, templates, [template_err, *errs][:number])


def _write_composite(
    composite: Composite, level: FloatImage, err: FloatImage, flags: FlagImage
) -> None:
    """Write a sky over its first template's planes, some lines at a time."""
    for start, stop in split(len(level), LINES):
        lines = slice(start, stop)
        band = composite.band(lines)
        unknown = np.isnan(band.level)
        level[lines] = band.level
        err[lines] = np.where(unknown, np.nan, np.sqrt(band.own + band.fitted))
        flags[lines][unknown] |= np.uint32(DO_NOT_USE)


def scaled_variances(
    template: npt.ArrayLike,
    template_err: npt.ArrayLike | None,
    fit: ScaleFit,
    *,
    more_templates: Sequence[npt.ArrayLike] = (),
    more_errs: Sequence[npt.ArrayLike | None] = (),
) -> Variances:
    """Tell apart what the uncertainty of a scaled template is made of.

    The template's own, (scale·template_err)², independent from pixel to pixel, is in `poisson`;
    that of the scale, (scale_err·template)², which moves all pixels together, in `flat`. With a
    model (`ScaleFit.model`) likewise, of all its coefficients.

    Parameters
    ----------
    template : (rows, columns) array_like, float32
        Reference sky on the target's window.
    template_err : (rows, columns) array_like, float32, or None
        Its standard uncertainty; None for 0.
    fit : ScaleFit
        A COMPLETE one.
    more_templates, more_errs
        As of `scaled_background`.

    Returns
    -------
    Variances
        Their sum is the square of the err of `scaled_background`; NaN where that is NaN.
    """
    level = _image(template, np.float32)
    own = _or_filled(template_err, 0, np.float32, level.shape)
    _check_shapes({"template": level, "template_err": own})
    composite = _composite(level, own, fit, more_templates, more_errs)
    if composite is not None:
        bands = [composite.band(slice(*ends)) for ends in split(len(level), LINES)]
        poisson, flat = (
            np.concatenate([np.where(np.isnan(one.level), np.nan, one[part]) for one in bands])
            for part in (1, 2)
        )
        poisson, flat = poisson.astype(np.float32), flat.astype(np.float32)
        return Variances(poisson=poisson, flat=flat)
    known = np.isfinite(level)

    def squared(factor: float, of: FloatImage) -> FloatImage:
        with np.errstate(over="ignore"):
            return np.square(np.where(known, of, np.float32(np.nan)) * np.float32(factor))

    return Variances(poisson=squared(fit.scale, own), flat=squared(fit.scale_err, level))


def _image(values: npt.ArrayLike, dtype: type[Scalar], *, own: bool = False) -> npt.NDArray[Scalar]:
    """Take `values` as a C array of a dtype; a copy of its `own` where they must stay as they are."""
    return np.array(values, dtype, order="C") if own else np.ascontiguousarray(values, dtype)


def _or_filled(
    values: npt.ArrayLike | None,
    fill: float,
    dtype: type[Scalar],
    shape: tuple[int, ...],
    *,
    own: bool = False,
) -> npt.NDArray[Scalar]:
    """Take `values`, or else an image of `fill`."""
    return np.full(shape, fill, dtype) if values is None else _image(values, dtype, own=own)


def _check_shapes(planes: Mapping[str, npt.NDArray[Any]]) -> None:
    shapes = {name: plane.shape for name, plane in planes.items()}
    first, *others = shapes.values()
    if len(first) != 2 or 0 in first or any(other != first for other in others):
        met = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise OptionError(f"the planes must be images of one shape, (rows, columns) (got {met})")


def _planes(
    sci: npt.ArrayLike,
    err: npt.ArrayLike,
    dq: npt.ArrayLike,
    template: npt.ArrayLike,
    template_dq: npt.ArrayLike | None,
    sky_mask: npt.ArrayLike | None,
) -> Planes:
    level = _image(template, np.float32)
    planes = Planes(
        sci=_image(sci, np.float32),
        err=_image(err, np.float32),
        dq=_image(dq, np.uint32),
        template=level,
        template_dq=_or_filled(template_dq, 0, np.uint32, level.shape),
        sky=_or_filled(sky_mask, True, np.bool_, level.shape),
    )
    _check_shapes(vars(planes))
    return planes


def _check_axis(options: WfssOptions, dispersion_axis: int | None) -> None:
    """Refuse what needs a dispersion axis that is not known."""
    if dispersion_axis is not None:
        return
    if options.method == "robust":
        needs, instead = "wfss_method robust", "set wfss_method to standard"
    elif options.rms_stop > 0:
        needs, instead = "wfss_rms_stop", "set wfss_rms_stop to 0"
    else:
        return
    raise OptionError(
        f"{needs} needs the dispersion axis (keyword DISPAXIS, 1 or 2), which is not known (got "
        f"None); give it or {instead}"
    )


def _more(
    templates: Sequence[npt.ArrayLike], planes: Planes, options: WfssOptions
) -> list[FloatImage]:
    """Take further templates, if the model has a place for them."""
    more = [_image(one, np.float32) for one in templates]
    _check_shapes({"sci": planes.sci, **{f"template {n}": m for n, m in enumerate(more, 2)}})
    if more and options.model == "template":
        raise OptionError(
            f"wfss_model template takes one template (got {1 + len(more)}); set wfss_model to "
            "templates or auto, with wfss_method robust"
        )
    return more


def _light(
    source_light: npt.ArrayLike | None, planes: Planes, options: WfssOptions
) -> FloatImage | None:
    """Take the predicted light of sources, if it is to be looked at."""
    if source_light is None or options.mask_from not in ("traces", "auto"):
        return None
    light = _image(source_light, np.float32)
    _check_shapes({"sci": planes.sci, "source_light": light})
    return light


def _fit_robust(
    images: Pixels,
    more: Sequence[FloatImage],
    light: FloatImage | None,
    common: Common,
    options: WfssOptions,
) -> ScaleFit:
    """Fit what the options and what is known of sources allow."""

    def fit_scale_of(images: Pixels) -> ScaleFit:
        if light is not None:
            return fit_cleanest(images, light, common)
        if options.mask_from in ("image", "auto"):
            return fit_blind(images, common)
        return fit_robust(images, common, tails=True)

    if options.model == "template":
        return fit_scale_of(images)
    blind = light is None and options.mask_from in ("image", "auto")
    shown = images if light is None else cleanest(images, light)
    return fit_sky(
        images,
        more,
        common,
        options.model,
        shown=shown,
        again=fit_scale_of,
        corrected=blind or light is not None,
        blind=blind,
    )


def _noise(
    pixels: FitPixels,
    planes: Planes,
    var_rnoise: npt.ArrayLike | None,
    var_poisson: npt.ArrayLike | None,
) -> Noise:
    """Model the noise with what there is."""
    places = sample_places(pixels.values)
    noise = None
    if var_rnoise is not None and var_poisson is not None:
        read, photons = _image(var_rnoise, np.float32), _image(var_poisson, np.float32)
        _check_shapes({"sci": planes.sci, "var_rnoise": read, "var_poisson": photons})
        noise = noise_from_planes(read, photons, pixels.values, places)
    return noise or noise_from_err(planes.err, planes.template, pixels.values, places)


def _too_little_sky(pixels: FitPixels, *, user_mask: bool) -> str:
    """Say why there is too little sky; an empty string if there is enough."""
    if user_mask:
        enough = pixels.usable_sky > 0
        return "" if enough else "the sky mask leaves no pixel without DO_NOT_USE"
    percent = 100 * pixels.lit_sky / max(pixels.size, 1)
    if 100 * pixels.lit_sky > MINIMUM_SKY_PERCENT * pixels.size:
        return ""
    return (
        f"only {percent:.2f} % of the pixels are usable sky, "
        f"more than {MINIMUM_SKY_PERCENT:g} % are needed"
    )


def _fit(pixels: FitPixels, options: WfssOptions, dispersion_axis: int | None) -> ScaleFit:
    """Fit, reject and fit again."""
    rejected, offered = 0, pixels.sums.pixels
    iterations: list[FitIteration] = []
    while True:
        rms = math.nan
        if options.rms_stop > 0 and dispersion_axis is not None:
            rms = pixels.profile_rms(dispersion_axis)
        iterations.append(
            FitIteration(offered=offered, rejected=rejected, scale=pixels.sums.scale, rms=rms)
        )
        stopped = _why_stop(iterations, options)
        if stopped or not math.isfinite(pixels.sums.scale):
            break
        offered = pixels.sums.pixels
        rejected = pixels.reject(options.outlier_percent)
    return _result(pixels, tuple(iterations), stopped or StopReason.NOT_FITTED)


def _why_stop(iterations: Sequence[FitIteration], options: WfssOptions) -> StopReason | None:
    """Tell why a fit is the last; None if another rejection is due."""
    done = len(iterations) - 1
    if options.maxiter <= 0:
        return StopReason.NO_ITERATIONS
    if done == options.maxiter:
        return StopReason.MOST_ITERATIONS
    if done and iterations[-1].rejected == 0:
        return StopReason.NOTHING_REJECTED
    if done and options.rms_stop > 0:
        least = iterations[-2].rms * options.rms_stop / 100
        if iterations[-2].rms - iterations[-1].rms < least:
            return StopReason.RMS
    return None


def _result(
    pixels: FitPixels, iterations: tuple[FitIteration, ...], stopped: StopReason
) -> ScaleFit:
    sums = pixels.sums
    failed = ScaleFit(
        status=Status.FAILED,
        sky_pixels=pixels.usable_sky,
        iterations=iterations,
        stopped=stopped,
    )
    if math.isfinite(sums.scale):
        return replace(
            failed,
            status=Status.COMPLETE,
            scale=sums.scale,
            scale_err=sums.scale_err,
            chi2_dof=sums.chi2_dof,
        )
    if iterations[0].offered == 0:
        reason = "no sky pixel has a finite SCI and template and an ERR that is finite and not 0"
    elif sums.pixels == 0:
        reason = "the rejection of outliers left no pixel"
    else:
        reason = "the template is 0 in every pixel of the fit"
    return replace(failed, reason=reason)
