"""The scale from the cleanest pixels: those with the least predicted light, however crowded it is.

The fit is repeated on fewer and fewer pixels, from all to the cleanest hundredth. How the
scale falls with the predicted light that is left among them tells what light moves it, so that
what is left can be taken off. That set counts whose scale is known best: more pixels have less
noise, fewer have less light. Of what was taken off half is doubted; where that is too much, no
estimate is trustworthy, and the fit has failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from webbkg.numerics.parallel import split
from webbkg.results import FloatImage, ScaleFit, Status
from webbkg.wfss.fit_pixels import LINES
from webbkg.wfss.noise import sample_places
from webbkg.wfss.robust import Common, Pixels, fit_robust

SHARES = (0.6, 0.3, 0.15, 0.08, 0.04, 0.02, 0.01)
"""Parts of the pixels that are fitted, the cleanest of them. Not all: where there is much light the
strips take most of it away, so that it says little of what light does where there is less."""

SHAPES = 0.3
"""Part of the pixels, the cleanest, that tell of what shape the sky is."""

LEVER = 2
"""Steps up in `SHARES` to the set that tells what light does to the scale."""

DOUBT = 0.5
"""Part of what is taken off for light that counts as its standard error."""

MOST_LIGHT = 0.003
"""Standard error of the scale by light, as a part of it, above which it is not trusted: in fields
that can be fitted it is up to 0.002, in those that cannot 0.005 to 0.04."""


@dataclass(frozen=True)
class Candidate:
    """A set of the cleanest pixels, its fit, and what light is left among them.

    Attributes
    ----------
    share : float
        Part of the pixels.
    limit : float
        Largest predicted light over template in them.
    fit : ScaleFit
        COMPLETE.
    light : float
        Mean predicted light over template.
    noise : float
        Standard error without that by light: of no larger set, which has more pixels, may it be
        larger, as an error by blocks may seem to be.
    taken : float
        What its light adds to the scale, by the sets before.
    taken_err : float
        How uncertain that is by noise.
    """

    share: float
    limit: float
    fit: ScaleFit
    light: float
    noise: float = 0.0
    taken: float = 0.0
    taken_err: float = 0.0

    @property
    def doubt(self) -> float:
        """Standard error by light."""
        return math.hypot(DOUBT * self.taken, self.taken_err)

    @property
    def error(self) -> float:
        """Standard error in all."""
        return math.hypot(self.noise, self.doubt)


def fit_cleanest(images: Pixels, light: FloatImage, common: Common) -> ScaleFit:
    """Fit the scale of a template to the pixels with the least predicted light.

    Parameters
    ----------
    images : Pixels
        The values of the fit pixels, the template, and the noise.
    light : (rows, columns) float32
        Predicted, in any unit; see `webbkg.wfss.predict`.
    common : Common
        Its counts, axis and threads.

    Returns
    -------
    ScaleFit
        FAILED, with scale 0, where too much light is left in the cleanest pixels, too.
    """
    limits = _light_limits(images, light)
    found: list[Candidate] = []
    best: Candidate | None = None
    start = None
    for share, limit, mean in limits:
        subset = _within(images, light, limit)
        fit = fit_robust(subset, common, start)
        if fit.status is not Status.COMPLETE:
            if not found:
                return fit
            break
        found.append(_corrected(Candidate(share, limit, fit, mean), found))
        start = fit.scale
        if best is None or found[-1].error < best.error:
            best = found[-1]
        if found[-1].noise > best.error:
            break
    return _result(best) if best else fit


def _light_limits(images: Pixels, light: FloatImage) -> list[tuple[float, float, float]]:
    """Return, for each share, the largest light over template and the mean up to it."""
    places = sample_places(images.values.reshape(-1))
    template = images.template.reshape(-1)[places]
    ratio = light.reshape(-1)[places].astype(np.float64)[template > 0] / template[template > 0]
    ratio.sort()
    limits: list[tuple[float, float, float]] = []
    for share in SHARES:
        count = max(math.ceil(share * ratio.size), 1)
        if count > ratio.size:
            break
        limit = float(ratio[count - 1])
        # With many pixels that have none, one set is like another.
        if not limits or limit < limits[-1][1]:
            limits.append((share, limit, float(ratio[ratio <= limit].mean())))
    return limits or [(1.0, math.inf, 0.0)]


def cleanest(images: Pixels, light: FloatImage) -> Pixels:
    """Leave out all but the cleanest pixels of `SHAPES`: enough of them to tell shapes of the sky."""
    limits = _light_limits(images, light)
    limit = next((one[1] for one in limits if one[0] <= SHAPES), limits[-1][1])
    return _within(images, light, limit)


def _within(images: Pixels, light: FloatImage, limit: float) -> Pixels:
    """Leave out the pixels with more light over template than a limit."""
    values = np.empty_like(images.values)
    for start, stop in split(len(values), LINES):
        lines = slice(start, stop)
        allowed = np.float32(limit) * images.template[lines]
        values[lines] = np.where(light[lines] <= allowed, images.values[lines], np.float32(np.nan))
    return images._replace(values=values)


def _corrected(candidate: Candidate, before: Sequence[Candidate]) -> Candidate:
    """Tell what light adds to the scale of a set, from a larger one with more of it."""
    noise = max([candidate.fit.scale_err, *(one.noise for one in before[-1:])])
    candidate = replace(candidate, noise=noise)
    if not before:
        # Nothing is known yet: the light may be all that was fitted.
        return replace(candidate, taken_err=math.inf if candidate.light > 0 else 0.0)
    larger = before[max(len(before) - LEVER, 0)]
    lever = candidate.light / (larger.light - candidate.light)
    taken = max(larger.fit.scale - candidate.fit.scale, 0.0) * lever
    # One set is a part of the other, so that the noise they share cancels.
    apart = max(candidate.noise**2 - larger.noise**2, 0.0)
    return replace(candidate, taken=taken, taken_err=math.sqrt(apart) * lever)


def _result(best: Candidate) -> ScaleFit:
    scale = best.fit.scale - best.taken
    told = best.fit.robust
    assert told is not None
    robust = replace(
        told,
        share=best.share,
        light_limit=best.limit,
        light=best.taken,
        light_err=best.doubt,
    )
    if best.doubt <= MOST_LIGHT * abs(scale):
        return replace(best.fit, scale=scale, scale_err=best.error, robust=robust)
    reason = (
        f"the light of sources is everywhere: in the cleanest {100 * best.share:g} % of the pixels "
        f"it still moves the scale by some {100 * best.taken / best.fit.scale:.2g} %, known to "
        f"{100 * best.doubt / best.fit.scale:.2g} %, of which {100 * MOST_LIGHT:g} % at most are trusted; "
        "give a mask of pixels without (wfss_mask)"
    )
    return ScaleFit(
        status=Status.FAILED,
        reason=reason,
        sky_pixels=best.fit.sky_pixels,
        iterations=best.fit.iterations,
        robust=robust,
    )
