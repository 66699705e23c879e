"""The same observation many times over, and whether its uncertainties are those of its scatter.

Every realisation draws the noise of the target, of its backgrounds, and of the template anew,
subtracts, and lets the background's variance enter ERR. What is compared is ERR with the scatter
of each pixel over the realisations, and `webbkg.apply.variance_of_sum` with the scatter of sums
over 100 pixels. The noise is normal, and the inputs' ERR is its true width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.apply import apply, variance_of_sum
from webbkg.image.average import average_exposures
from webbkg.image.variance import split_variance
from webbkg.numerics.planes import PLANES, ArrayPlanes, Overlap, Placed
from webbkg.options import ImageOptions, SossOptions, WfssOptions
from webbkg.results import Background, Propagated, relative_error
from webbkg.soss.fit import fit_templates, template_background
from webbkg.wfss.fit import fit_scale, scaled_background, scaled_variances

Image = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SUM_PIXELS = 100
"""Pixels of a sum: two rows of 50."""

ROWS_OF_SUMS = 8
"""The first rows, over which sums are taken."""


@dataclass(frozen=True)
class Subtracted:
    """One realisation: the residual and its ERR, and the background with what is common to it."""

    sci: Image
    err: Image
    background: Background
    propagated: Propagated


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How ERR compares with the scatter, each as a ratio of what is quoted to what is met.

    Attributes
    ----------
    realisations : int
        How many there were.
    err : float
        ERR, against the standard deviation of the residuals.
    plain_err : float
        The target's own ERR, as it is without propagation.
    sums : float
        Variance of a sum over 100 pixels by `variance_of_sum`, against that of the sums.
    plain_sums : float
        The sum of ERR² alone, as if the pixels were independent.
    """

    realisations: int
    err: float
    plain_err: float
    sums: float
    plain_sums: float


def calibrate(make: Make, realisations: int, seed: int) -> Calibration:
    """Compare what is quoted with what is met, over many realisations.

    Parameters
    ----------
    make : callable
        One of `image`, `wfss` and `soss`, or like them: takes a random generator, gives the
        result of one realisation and the target's own ERR.
    realisations : int
        How many to draw.
    seed : int
        Of the first one.
    """
    moments, sums = _Moments(), []
    for number in range(realisations):
        done, own = make(np.random.default_rng([seed, number]))
        moments.add(done.sci, done.err, own)
        sums.append([_sum_of(done, inside) for inside in _apertures(done.sci.shape)])
    scatter, quoted, plain = moments.variances()
    values, by_recipe, by_err = np.moveaxis(np.array(sums), 2, 0)
    met = values.var(axis=0, ddof=1).mean()
    return Calibration(
        realisations=realisations,
        err=float(np.sqrt(quoted / scatter)),
        plain_err=float(np.sqrt(plain / scatter)),
        sums=float(by_recipe.mean() / met),
        plain_sums=float(by_err.mean() / met),
    )


class _Moments:
    """Sums over the realisations, pixel by pixel."""

    def __init__(self) -> None:
        self._number = 0
        self._sums: Doubles = np.zeros(4)

    def add(self, sci: Image, err: Image, own: Image) -> None:
        """Add a realisation."""
        value, quoted = sci.astype(np.float64), err.astype(np.float64)
        terms = np.stack([value, value**2, quoted**2, own.astype(np.float64) ** 2])
        self._sums = terms if self._number == 0 else self._sums + terms
        self._number += 1

    def variances(self) -> tuple[float, float, float]:
        """Return the variance met, that quoted, and the target's own, as means over the pixels."""
        first, second, quoted, own = self._sums / self._number
        met = (second - first**2) * self._number / (self._number - 1)
        return float(met.mean()), float(quoted.mean()), float(own.mean())


def _apertures(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.bool_]]:
    """Cut the first rows, which no fit uses, into apertures."""
    width = SUM_PIXELS // 2
    for row in range(0, ROWS_OF_SUMS, 2):
        for column in range(0, shape[1] - width + 1, width):
            inside = np.zeros(shape, np.bool_)
            inside[row : row + 2, column : column + width] = True
            yield inside


def _sum_of(done: Subtracted, inside: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    by_recipe = variance_of_sum(done.err, inside, done.background.sci, done.propagated)
    by_err = np.square(done.err[inside], dtype=np.float64).sum()
    return float(done.sci[inside].sum(dtype=np.float64)), by_recipe, float(by_err)


Make = Callable[[np.random.Generator], tuple[Subtracted, Image]]


def _subtract(sci: Image, err: Image, background: Background, told: Propagated) -> Subtracted:
    """Apply a background to a target of these planes; its variances are all photons'."""
    planes: dict[str, npt.NDArray[Any]] = {"SCI": sci.copy(), "ERR": err.copy()}
    planes["DQ"] = np.zeros(sci.shape, np.uint32)
    apply(background, planes)
    return Subtracted(planes["SCI"], planes["ERR"], background, told)


def _noisy(rng: np.random.Generator, sky: Doubles, err: Doubles) -> Image:
    return (sky + err * rng.standard_normal(err.shape)).astype(np.float32)


def image(
    rng: np.random.Generator, n_backgrounds: int = 5, options: ImageOptions | None = None
) -> tuple[Subtracted, Image]:
    """Observe an image of 20 x 100 and its backgrounds, the last of three integrations."""
    rows, columns = np.mgrid[:20, :100]
    sky, err = 2 + 0.01 * columns, 0.1 + 0.001 * columns + 0.002 * rows
    placed = []
    for number in range(n_backgrounds):
        integrations = 3 if number == n_backgrounds - 1 else 1
        own = np.broadcast_to(err * (1 + 0.1 * number), (integrations, *err.shape))
        planes = _noisy(rng, sky, own), own.astype(np.float32), np.zeros(own.shape, np.uint32)
        named = dict(zip(PLANES, planes, strict=True))
        read = {"VAR_POISSON": named["ERR"] ** 2 / 3, "VAR_RNOISE": named["ERR"] ** 2 / 1.5}
        placed.append(Placed(ArrayPlanes.of(**named, **read), Overlap.whole(sky.shape)))
    combined = average_exposures(placed, sky.shape, options or ImageOptions(), threads=1)
    combined = split_variance(combined, placed, threads=1)
    own_err = err.astype(np.float32)
    return _subtract(_noisy(rng, sky, err), own_err, combined, Propagated()), own_err


def wfss(rng: np.random.Generator, options: WfssOptions | None = None) -> tuple[Subtracted, Image]:
    """Observe a grism image of 20 x 100, of whose rows 12 to 19 alone are sky.

    The template errs by 0.3 of the noise in each pixel.
    """
    rows, columns = np.mgrid[:20, :100]
    level, err = 1 + 0.004 * columns + 0.01 * rows, 0.1 + 0.001 * columns
    template_err = np.full(level.shape, 0.04)
    template = _noisy(rng, level, template_err)
    source = np.where(rows < 12, 0.5, 0.0)
    sci, own_err = _noisy(rng, 0.8 * level + source, err), err.astype(np.float32)
    flags = np.zeros(level.shape, np.uint32)
    mask = rows >= 12
    fit = fit_scale(sci, own_err, flags, template, None, mask, options, user_mask=True, threads=1)
    background = replace(
        scaled_background(template, template_err, None, fit),
        variances=scaled_variances(template, template_err, fit),
    )
    told = Propagated(common={"scale": relative_error(fit.scale, fit.scale_err)})
    return _subtract(sci, own_err, background, told), own_err


def soss(rng: np.random.Generator, options: SossOptions | None = None) -> tuple[Subtracted, Image]:
    """Observe a SOSS image of 12 x 1000, of whose rows the last 3 alone are sky."""
    rows, columns = np.mgrid[:12, :1000]
    level = np.where(columns < 700, 4.0, 6.0) + 1e-4 * columns
    err = np.full(level.shape, 0.2)
    template_err = np.full(level.shape, 0.05)
    source = np.where(rows < 9, 50.0, 0.0)
    template = _noisy(rng, level, template_err)
    sci, own_err = _noisy(rng, 0.9 * level + source, err), err.astype(np.float32)
    fit = fit_templates(sci, np.zeros(level.shape, np.uint32), template, options, threads=1)
    background = template_background(fit, template, template_err)
    assert fit.left is not None
    assert fit.right is not None
    sides = {"left": fit.left, "right": fit.right}
    told = Propagated(
        common={name: relative_error(side.scale, side.scale_err) for name, side in sides.items()},
        jump=tuple(fit.jump.tolist()),
    )
    return _subtract(sci, own_err, background, told), own_err
