"""The scale where nothing but the image tells sky from sources.

Strips take distinct spectra away (`webbkg.wfss.robust`), but light that lies everywhere moves
what they are compared with. So the strips' means are looked at as a mixture of sky and a
one-sided tail (`webbkg.wfss.mixture`): where most strips hold no light, the fit of the strips
stands; else the scale is the mixture's. Light that is as even as the sky remains unseen: no
image tells it from sky.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from webbkg.results import ScaleFit, Status
from webbkg.wfss import strips
from webbkg.wfss.mixture import fit_mixture
from webbkg.wfss.robust import Common, Pixels, fit_robust, sum_strips

LENGTH = 4
"""Of the strips whose means are looked at, in strips of 16 pixels."""

LOW = (0.05, 1.645)
"""The lowest twentieth of a Gaussian lies so many standard deviations below its middle: the first
guess of where the sky is."""

FEWEST = 200
"""Strips below which there is no distribution to look at."""

MOST_ROUNDS = 6
TOLERANCE = 0.02  # of a strip's standard error

MOSTLY_SKY = 0.9
"""Share of the strips without light from which the fit of the strips stands."""

WIDEST = 2.0
"""Width of the sky's distribution, in units of the noise, above which it is none: 1/f noise of 0.4
of the read noise makes 1.4."""

MOST_DOUBT = 0.02
"""Standard error of the scale by light, as a part of it, above which it is not trusted."""


class _Sky(NamedTuple):
    """Where the mixture has the sky: a scale, its error, the width, and the share without light."""

    scale: float
    error: float
    width: float
    dark: float


def fit_blind(images: Pixels, common: Common) -> ScaleFit:
    """Fit the scale of a template where no catalogue tells of sources.

    Parameters
    ----------
    images : Pixels
        The values of the fit pixels, the template, and the noise.
    common : Common
        Its counts, axis and threads.

    Returns
    -------
    ScaleFit
        FAILED, with scale 0, where there is no distribution of sky to be seen.
    """
    fit = fit_robust(images, common)
    if fit.status is not Status.COMPLETE:
        return fit
    sky = _find_sky(images, fit.scale, common)
    if sky is None or (sky.dark > MOSTLY_SKY and sky.width < WIDEST):
        return fit
    assert fit.robust is not None
    doubt = min(sky.error, abs(fit.scale - sky.scale))
    told = replace(fit.robust, light=fit.scale - sky.scale, light_err=doubt)
    if sky.width < WIDEST and doubt <= MOST_DOUBT * abs(sky.scale):
        error = math.hypot(fit.scale_err, doubt)
        return replace(fit, scale=sky.scale, scale_err=error, robust=told)
    reason = (
        "the light of sources is everywhere, and nothing but the image tells it from sky: strips "
        f"of 64 pixels scatter by {sky.width:.2g} times their noise, and the scale is known to "
        f"{100 * doubt / abs(sky.scale):.2g} %; give a source catalogue, or a mask (wfss_mask)"
    )
    return ScaleFit(
        status=Status.FAILED,
        reason=reason,
        sky_pixels=common.sky_pixels,
        iterations=fit.iterations,
        robust=told,
    )


def _find_sky(images: Pixels, scale: float, common: Common) -> _Sky | None:
    """Look for the sky in the strips' means; None of too few strips."""
    found = None
    for number in range(MOST_ROUNDS):
        sums = sum_strips(images, scale, common)
        weight, mean = strips.join(sums, LENGTH)
        known = np.isfinite(mean)
        if np.count_nonzero(known) < FEWEST:
            return None
        weight, mean = weight[known], mean[known]
        unit = 1 / math.sqrt(float(np.median(weight)))
        if number == 0:
            scale += float(np.quantile(mean, LOW[0])) + LOW[1] * unit
            continue
        mixture = fit_mixture(mean * np.sqrt(weight))
        scale += mixture.place * unit
        found = _Sky(scale, mixture.place_err * unit, mixture.width, float(mixture.weights[0]))
        if abs(mixture.place) < TOLERANCE:
            break
    return found
