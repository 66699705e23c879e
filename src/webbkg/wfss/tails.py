"""Light in single pixels: what is left of it below the clip, and what the scale is without.

Cosmic rays, and sources without shape, leave no mark in strips; where they add less than the
clip they stay in the fit. What they add beyond it tells how much that is: the residuals of the pixels that
the strips have left, in units of the model's noise and not clipped, are taken as a mixture of sky and of
sky with light. The score of the fitted mixture is then what each
pixel says of the scale. It is made independent of the tail's weights and of the width, which the same pixels
have to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import over_bands, split
from webbkg.results import BoolImage, FloatImage
from webbkg.wfss import tail_kernels as kernels
from webbkg.wfss.fit_pixels import LINES
from webbkg.wfss.kernels import STRIP
from webbkg.wfss.mixture import components_of
from webbkg.wfss.noise import Noise

KNOTS = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Light of cosmic rays: a density with straight pieces between these, in units of the noise, that is
0 at 0."""

MEANS = (2.0, 4.0, 8.0, 16.0)
"""Light of faint sources: exponentials with these means. With shorter ones a tail would be like a shift
of the sky, and the scale's error half as large again."""

LOW, BIN, BINS = -5.0, 0.1, 650
"""Where the histogram begins, width and number of its bins, in units of the noise."""

WIDTHS = (0.9, 1.3)
"""Limits of the width of the sky's distribution."""

FIRST_STEPS, MOST_STEPS = 200, 40
"""Of EM in the weights, whose beginning is rough, and then of Newton; and of Newton in the width."""

NEARLY = 0.99
"""Part of Newton's step that is taken at most: a weight of 0 could not grow again."""

HIGH = 4.5
"""Standard deviations beyond which a pixel is taken to hold light: the clip of the fit."""

LEAST_SHARE = 2e-4
"""Share of the pixels beyond `HIGH` from where on the tail is looked at. Of a sky alone they are
3e-6."""

LEAST_WEIGHT = 1e-4
"""Components of less weight have no part in the score."""

LEAST_EXPECTED = 1e-15
"""Share of the pixels below which no bin is taken to lie."""

STEP = 1e-3
"""By which place and width are moved to differentiate."""

MOST_ROUNDS = 4
TOLERANCE = 0.1  # of the scale's standard error

Doubles = npt.NDArray[np.float64]

CENTRES = LOW + BIN * (np.arange(BINS, dtype=np.float64) + 0.5)


class Tail(NamedTuple):
    """A scale that single pixels with light have no part in."""

    scale: float
    error: float  #: its standard error, of independent noise
    share: float  #: of the pixels that hold light


def correct(
    images: tuple[FloatImage, FloatImage, Noise],
    scale: float,
    skewness: float,
    left_out: BoolImage,
    *,
    along_x: bool,
    threads: int,
) -> Tail | None:
    """Find the scale of a template among pixels some of which hold light.

    Parameters
    ----------
    images : (values, template, noise)
        (rows, columns) float32 each, NaN in the values where not fitted; and the noise.
    scale : float
        From a fit that clips.
    skewness : float
        Of one pixel's noise.
    left_out : (lines, strips) ndarray of bool
        Strips that the fit has left out: lines across dispersion, strips along it.
    along_x : bool
        Whether light is dispersed along x.
    threads : int
        How many to use; the result does not depend on it.

    Returns
    -------
    Tail or None
        None where too few pixels hold light to matter, or the mixture does not tell.
    """
    marks = np.ascontiguousarray(left_out if along_x else left_out.T)
    found = None
    for _ in range(MOST_ROUNDS):
        counts, slopes, squares = _histogram(images, scale, marks, along_x=along_x, threads=threads)
        if not np.sum(counts[CENTRES > HIGH]) > LEAST_SHARE * counts.sum():
            return found
        weights, width = _fit(counts, skewness)
        score, information = _efficient(0, width, weights, skewness)
        precision = information * float(squares.sum())
        if not precision > 0:
            return None
        step = float(score @ slopes) / precision
        scale += step
        found = Tail(scale, 1 / math.sqrt(precision), 1 - float(weights[0]))
        if abs(step) < TOLERANCE * found.error:
            break
    return found


def _histogram(
    images: tuple[FloatImage, FloatImage, Noise],
    scale: float,
    marks: BoolImage,
    *,
    along_x: bool,
    threads: int,
) -> Doubles:
    """Return what `kernels.count_residuals` finds in the whole image, (PARTS, bins)."""
    values, template, noise = images
    rows = len(values)
    found = np.empty((-(-rows // kernels.LINES), kernels.PARTS, BINS))
    model, bins = (scale, float(noise.per_signal)), (LOW, BIN)
    step = 1 if along_x else STRIP

    def run(start: int, stop: int) -> None:
        planes = values[start:stop], template[start:stop], noise.read[start:stop]
        part = marks[start // step : -(-stop // step)]
        lines = found[start // kernels.LINES : -(-stop // kernels.LINES)]
        kernels.count_residuals(planes, part, model, along_x, bins, lines)

    def worker() -> Callable[[int, int], None]:
        return run

    over_bands(split(rows, LINES), worker, threads=threads)
    whole: Doubles = found.sum(axis=0)
    return whole


def _components(width: float, skewness: float, place: float = 0.0) -> Doubles:
    """Return the share of each component in each bin, (components, bins), of unit sum.

    The first is the sky, with noise that is skew as Edgeworth's first term has it; in an exponent, so that it
    is nowhere below 0. The others are it and light: around
    each knot, as much as straight lines between them make, and the exponentials.
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]

    x = (CENTRES - place) / width
    normal = np.exp(-(x**2) / 2)
    near = np.clip(x, -HIGH, HIGH)
    sky = normal * np.exp(skewness / 6 * (near**3 - 3 * near))

    def ramp(knot: float) -> Doubles:
        """Convolve the noise with what rises from a knot on with slope 1."""
        y = (CENTRES - place - knot) / width
        rising: Doubles = width * (y * ndtr(y) + np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi))
        return rising

    ramps = [ramp(knot) for knot in KNOTS]
    pieces = [
        (one - other) / (high - low)
        for (one, other), (low, high) in zip(pairwise(ramps), pairwise(KNOTS), strict=True)
    ]
    hats = [*(one - other for one, other in pairwise(pieces)), pieces[-1]]
    falling = components_of(CENTRES, place, width, np.array(MEANS))[1:]
    shares = np.maximum(np.array([sky, *hats, *falling]), 0)
    components: Doubles = shares / shares.sum(axis=1, keepdims=True)
    return components


def _fit(counts: Doubles, skewness: float) -> tuple[Doubles, float]:
    """Find the weights and the width of the greatest likelihood, of a sky that lies at 0."""
    width, share = 1.0, counts / counts.sum()
    components = _components(width, skewness)
    weights: Doubles = np.full(len(components), 1 / len(components))
    for _ in range(FIRST_STEPS):
        weights = weights * (
            components @ (share / np.maximum(weights @ components, LEAST_EXPECTED))
        )
    for _ in range(MOST_STEPS):
        weights = _weigh(share, _components(width, skewness), weights)
        score, information = _efficient(1, width, weights, skewness)
        step = float(score @ share) / information
        before, width = width, float(np.clip(width + step, *WIDTHS))
        if abs(width - before) < 1e-5:
            break
    return weights, width


def _weigh(share: Doubles, components: Doubles, weights: Doubles) -> Doubles:
    """Find the weights of the greatest likelihood, none below 0, by Newton's method.

    It is that of sum(w·components) - share·log: its least is where the weights' sum is 1.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    for _ in range(MOST_STEPS):
        expected = np.maximum(weights @ components, LEAST_EXPECTED)
        gradient = 1 - components @ (share / expected)
        curvature = (components * (share / expected**2)) @ components.T
        ridge = 1e-9 * np.diagonal(curvature).max()
        root = np.linalg.cholesky(curvature + ridge * np.eye(len(weights)))
        aim = nnls(root.T, np.linalg.solve(root, curvature @ weights - gradient))[0]
        best = _along(share, components, weights, aim)
        if np.abs(best - weights).max() < 1e-8:
            break
        weights = best
    total = float(weights.sum())
    return weights / total


def _along(share: Doubles, components: Doubles, weights: Doubles, aim: Doubles) -> Doubles:
    """Go from weights towards others as far as the likelihood gains."""

    def loss(one: Doubles) -> float:
        return float(one.sum() - share @ np.log(np.maximum(one @ components, LEAST_EXPECTED)))

    part, least = NEARLY, loss(weights)
    while part > 1e-3:
        tried: Doubles = weights + part * (aim - weights)
        if loss(tried) <= least:
            return tried
        part /= 2
    return weights


def _efficient(
    which: int, width: float, weights: Doubles, skewness: float
) -> tuple[Doubles, float]:
    """Return the efficient score of the sky's place (0) or width (1) in each bin, and its information.

    What is left of the score when its regression on the scores of the other and of the weights is taken off
    (van der Vaart 1998, Asymptotic Statistics, section 25.4); the information is that of one pixel.
    """
    components = _components(width, skewness)
    shares = np.maximum(weights @ components, LEAST_EXPECTED)
    ends = [
        (_components(width, skewness, -STEP), _components(width, skewness, STEP)),
        (_components(width - STEP, skewness), _components(width + STEP, skewness)),
    ]
    scores = [weights @ (high - low) / (2 * STEP) for low, high in ends]
    scores += [one - components[0] for one in components[1:][weights[1:] > LEAST_WEIGHT]]
    of_bins = np.array(scores) / shares
    information = (of_bins * shares) @ of_bins.T
    others = [one for one in range(len(scores)) if one != which]
    regressed = np.linalg.pinv(information[np.ix_(others, others)]) @ information[others, which]
    efficient: Doubles = of_bins[which] - regressed @ of_bins[others]
    return efficient, float(efficient**2 @ shares)
