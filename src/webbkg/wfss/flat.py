"""What a stated error of the flat field does to the scale of a template.

Errors of a flat field multiply the sky, and are alike over many pixels: no jackknife over blocks sees
those that are wider than a block.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.flatfield import flat_variance
from webbkg.numerics.parallel import split
from webbkg.options import DO_NOT_USE
from webbkg.results import ScaleFit

CELL = 16
"""Pixels on a side of the cells in which the influence of pixels is summed."""

Image = npt.NDArray[Any]


def flat_response(
    sci: Image,
    err: Image,
    dq: Image,
    template: Image,
    template_dq: Image | None,
    sky: Image,
    length: float,
) -> float:
    """Tell the relative error of a scale for flat errors of unit standard deviation.

    A pixel with the flat's error f has f·scale·template more, and changes the scale by that times
    template/variance over the sum of template²/variance. So the relative error is the root of the
    variance of sum(w f)/sum(w), with w = template²/variance over the sky that is fitted.

    Parameters
    ----------
    sci, err : (rows, columns) float32
        The target and its uncertainty.
    dq, template_dq : (rows, columns) uint32
        Flags of target and template (None for none): DO_NOT_USE is not fitted.
    template : (rows, columns) float32
    sky : (rows, columns) bool
        True where sky.
    length : float
        Distance at which the correlation of the flat's errors falls to 1/e (pixels).

    Returns
    -------
    float
        0 to 1; 0 where there is no sky.
    """
    rows, columns = np.shape(sci)
    cells = np.zeros((-(-rows // CELL), -(-columns // CELL)))
    for start, stop in split(rows, CELL):
        part = slice(start, stop)
        level, error = template[part].astype(np.float64), err[part].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            weight = np.square(level / error)
        used = sky[part] & np.isfinite(weight) & np.isfinite(sci[part])
        used &= (dq[part] & DO_NOT_USE) == 0
        if template_dq is not None:
            used &= (template_dq[part] & DO_NOT_USE) == 0
        along = np.where(used, weight, 0).sum(axis=0)
        cells[start // CELL] = np.add.reduceat(along, np.arange(0, columns, CELL))
    total = cells.sum()
    return math.sqrt(flat_variance(cells / total, (CELL, CELL), length)) if total > 0 else 0.0


def with_flat_error(fit: ScaleFit, error: float) -> ScaleFit:
    """Let a relative error that moves the whole sky together enter a fit's errors.

    Parameters
    ----------
    fit : ScaleFit
        A COMPLETE one.
    error : float
        Of the flat field, as a fraction of the scale.
    """
    flat = abs(error * fit.scale)
    model = fit.model
    if model is not None and model.fit is not None:
        inner = model.fit
        coefficients = np.array([*inner.scales, *inner.free])
        covariance = inner.covariance + error**2 * np.outer(coefficients, coefficients)
        level_err = math.hypot(inner.level_err, error * inner.level)
        model = replace(model, fit=replace(inner, covariance=covariance, level_err=level_err))
    return replace(fit, scale_err=math.hypot(fit.scale_err, flat), flat_err=flat, model=model)
