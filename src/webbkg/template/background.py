"""Scaled templates as the background to subtract, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import split
from webbkg.options import DO_NOT_USE
from webbkg.results import Background, BoolImage, FloatImage, TemplatesFit, Variances

ROWS_A_BAND = 64

Doubles = npt.NDArray[np.float64]


def scaled_templates(
    templates: FloatImage,
    errors: Sequence[FloatImage | None],
    fit: TemplatesFit,
    *,
    with_sky: bool = False,
    with_variances: bool = False,
) -> Background:
    """Add scaled templates up, with the even sky or without it.

    err² = c·C·c, with the columns c of the templates (and of the sky's shapes) and the covariance C of
    their coefficients, and to it (scale·template_err)² of each template.

    Parameters
    ----------
    templates : (templates, rows, columns) float32
        NaN where unknown: there the result is not `covered`, so that a target stays as it is.
    errors : sequence of (rows, columns) float32, or None
        Standard uncertainties of the templates; None for 0.
    fit : TemplatesFit
        A COMPLETE one.
    with_sky : bool
        Whether the even sky is part of the background.
    with_variances : bool
        Whether `variances` are told: those of the templates themselves as `poisson`, those of the
        coefficients, which move all pixels together, as `flat`.
    """
    shape = templates.shape[1:]
    sci, common, own = (np.empty(shape, np.float32) for _ in range(3))
    coefficients, covariance = _used(fit, with_sky)
    scales = [one.scale for one in fit.scales]
    v, u = (np.linspace(-1, 1, length) for length in shape)
    sky_terms = len(coefficients) - len(scales)
    for start, stop in split(shape[0], ROWS_A_BAND):
        part = slice(start, stop)
        columns = np.concatenate([templates[:, part], _even(u, v[part], sky_terms)])
        flat = columns.reshape(len(columns), -1)
        sci[part] = (coefficients @ flat).reshape(columns.shape[1:])
        variance = np.sum((covariance @ flat) * flat, axis=0)
        common[part] = np.maximum(variance, 0).reshape(columns.shape[1:])
        own[part] = 0
        for scale, error in zip(scales, errors, strict=True):
            own[part] += 0 if error is None else np.square(scale * error[part])
    covered: BoolImage = np.isfinite(sci)
    for plane in (sci, common, own):
        plane[~covered] = np.nan
    return Background(
        sci=sci,
        err=np.sqrt(common + own),
        dq=np.where(covered, 0, DO_NOT_USE).astype(np.uint32),
        covered=covered,
        variances=Variances(poisson=own, flat=common) if with_variances else None,
    )


def common_error(fit: TemplatesFit, *, with_sky: bool = False) -> float:
    """Tell the relative error of the scales; of several templates that of their sum, equally bright.

    NaN where nothing is subtracted.
    """
    coefficients, covariance = _used(fit, with_sky)
    number = len(fit.scales)
    total = float(coefficients[:number].sum())
    variance = float(covariance[:number, :number].sum())
    return math.sqrt(max(variance, 0.0)) / total if total else math.nan


def _used(fit: TemplatesFit, with_sky: bool) -> tuple[Doubles, Doubles]:
    """Give the coefficients of what is subtracted, and their covariance."""
    scales = [one.scale for one in fit.scales]
    coefficients = np.array([*scales, *(fit.sky if with_sky else ())])
    return coefficients, fit.covariance[: len(coefficients), : len(coefficients)]


def _even(u: Doubles, v: Doubles, terms: int) -> Doubles:
    """Shapes of the even sky on rows v: (terms, rows, columns)."""
    x, y = np.broadcast_arrays(u, v[:, np.newaxis])
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])[:terms]
