"""What a subtraction recovered of a simulated set, against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from webbkg.results import BoolImage, CombinedBackground, FloatImage
from webbkg.simulate.detector import dq_flag
from webbkg.simulate.imaging import Simulated

NEGLIGIBLE = 0.1
"""Sources that would move the average by less than this many of its ERR count as none."""

FLAGS = ("DO_NOT_USE", "HOT", "DEAD", "JUMP_DET", "REFERENCE_PIXEL")
"""The data-quality flags that are counted."""

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian in median absolute deviations."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The recovered background and the subtracted target, against the truth. Rates in DN/s.

    Light pixels are those with a background that are neither bad nor reference pixels. Blank
    ones hold no cosmic ray and no noticeable source in any background exposure.

    Attributes
    ----------
    pixels, light_pixels, blank_pixels : int
        Of the target's window.
    sky_true, sky_found : float
        Median sky of the target and median recovered background, on light pixels.
    sky_error, sky_scatter : float
        Recovered background minus sky on blank pixels: its median, and its scatter (from the
        median absolute deviation).
    pull_median, pull_scatter : float
        The same in units of the ERR quoted for each pixel; 0 and 1 are right.
    within_3_err : float
        Fraction of the light pixels, contaminated or not, that lie within 3 ERR of the sky;
        0.9973 for Gaussian noise alone.
    within_3_err_blank : float
        The same of the blank pixels.
    struck_pixels : int
        Light pixels without a noticeable source that a cosmic ray hit in a background exposure.
    cosmic_ray_leak : float
        What is left of the cosmic rays there, as a fraction of what a plain mean would leave:
        1 if nothing was clipped, 0 if all was.
    cosmic_ray_excess : float
        Median of recovered background minus sky there, in units of ERR.
    source_pixels : int
        Light pixels without a cosmic ray where the sources of the backgrounds would move a
        plain mean by more than its ERR.
    source_leak : float
        What is left of the sources there, as a fraction of what a plain mean would leave.
    median_before, median_after : float
        Median of the target on light pixels, before and after.
    residual : float
        Median of the subtracted target minus its sources and cosmic rays, on blank light
        pixels; 0 is right.
    not_finite : int
        Pixels of the subtracted target that are NaN, over all its integrations.
    dq_counts : mapping of str to int
        Pixels of the subtracted target with each flag, over all its integrations.
    """

    pixels: int
    light_pixels: int
    blank_pixels: int
    sky_true: float
    sky_found: float
    sky_error: float
    sky_scatter: float
    pull_median: float
    pull_scatter: float
    within_3_err: float
    within_3_err_blank: float
    struck_pixels: int
    cosmic_ray_leak: float
    cosmic_ray_excess: float
    source_pixels: int
    source_leak: float
    median_before: float
    median_after: float
    residual: float
    not_finite: int
    dq_counts: Mapping[str, int]


@dataclass
class Truth:
    """What must be known of a set to judge a result; fed one exposure at a time, target first.

    Attributes
    ----------
    target : Simulated or None
        The target.
    sources, cosmic_rays : (rows, columns) float32
        Sums over the backgrounds of what each added to its own image, on the target's window.
    coverage : (rows, columns) float32
        How many backgrounds cover the pixel.
    """

    target: Simulated | None = None
    sources: FloatImage = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    cosmic_rays: FloatImage = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    coverage: FloatImage = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def add(self, simulated: Simulated) -> None:
        """Take the truth of the next exposure of the set."""
        if self.target is None:
            self.target = simulated
            shape = simulated.window.shape
            self.sources, self.cosmic_rays, self.coverage = np.zeros((3, *shape), np.float32)
            return
        overlap = self.target.window.overlap(simulated.window)
        if overlap is None:
            return
        here = slice(*overlap.rows), slice(*overlap.columns)
        there = slice(*overlap.other_rows), slice(*overlap.other_columns)
        rays = simulated.cosmic_rays
        self.sources[here] += simulated.sources[there]
        self.cosmic_rays[here] += (rays.mean(axis=0) if rays.ndim == 3 else rays)[there]
        self.coverage[here] += 1

    def measure(self, background: CombinedBackground, product: Any) -> Recovery:
        """Compare a result with the truth.

        Parameters
        ----------
        background : CombinedBackground
            What was subtracted.
        product : data model
            The subtracted target.

        Returns
        -------
        Recovery

        Raises
        ------
        ValueError
            If no exposure was added.
        """
        if self.target is None:
            raise ValueError("the truth is empty; add the target and its backgrounds first")
        return _compare(self, self.target, background, product)


@dataclass(frozen=True)
class _Pixels:
    """Which pixels a number is taken over."""

    light: BoolImage
    blank: BoolImage
    struck: BoolImage
    sources: BoolImage


def _classify(truth: Truth, target: Simulated, background: CombinedBackground) -> _Pixels:
    light = np.isfinite(background.sci) & ~target.bad & ~target.reference
    err = np.where(light, background.err, np.float32(np.inf)) * truth.coverage
    clean = light & (truth.sources < NEGLIGIBLE * err)
    hit = truth.cosmic_rays > 0
    return _Pixels(
        light=light,
        blank=clean & ~hit,
        struck=clean & hit,
        sources=light & (truth.sources > err) & ~hit,
    )


def _compare(
    truth: Truth, target: Simulated, background: CombinedBackground, product: Any
) -> Recovery:
    pixels = _classify(truth, target, background)
    difference = background.sci - target.sky
    pull = difference / background.err
    sky_error, sky_scatter = _centre_and_scatter(difference[pixels.blank])
    pull_median, pull_scatter = _centre_and_scatter(pull[pixels.blank])
    before = np.asarray(target.model.data)
    after = np.asarray(product.data)
    return Recovery(
        pixels=difference.size,
        light_pixels=int(np.count_nonzero(pixels.light)),
        blank_pixels=int(np.count_nonzero(pixels.blank)),
        sky_true=_median(target.sky[pixels.light]),
        sky_found=_median(background.sci[pixels.light]),
        sky_error=sky_error,
        sky_scatter=sky_scatter,
        pull_median=pull_median,
        pull_scatter=pull_scatter,
        within_3_err=_fraction(np.abs(pull[pixels.light]) <= 3),
        within_3_err_blank=_fraction(np.abs(pull[pixels.blank]) <= 3),
        struck_pixels=int(np.count_nonzero(pixels.struck)),
        cosmic_ray_leak=_leak(difference, truth.cosmic_rays, truth.coverage, pixels.struck),
        cosmic_ray_excess=_median(pull[pixels.struck]),
        source_pixels=int(np.count_nonzero(pixels.sources)),
        source_leak=_leak(difference, truth.sources, truth.coverage, pixels.sources),
        median_before=_median(before[..., pixels.light]),
        median_after=_median(after[..., pixels.light]),
        residual=_median((after - target.sources - target.cosmic_rays)[..., pixels.blank]),
        not_finite=int(np.count_nonzero(~np.isfinite(after))),
        dq_counts={name: int(np.count_nonzero(product.dq & dq_flag(name))) for name in FLAGS},
    )


def _centre_and_scatter(values: FloatImage) -> tuple[float, float]:
    centre = _median(values)
    return centre, MAD_TO_SIGMA * _median(np.abs(values - centre))


def _leak(
    difference: FloatImage, summed: FloatImage, coverage: FloatImage, where: BoolImage
) -> float:
    """Divide what is left of a contamination by what a plain mean over the coverage leaves."""
    plain = float(np.sum(summed[where] / coverage[where], dtype=np.float64))
    return float(np.sum(difference[where], dtype=np.float64)) / plain if plain else 0.0


def _median(values: FloatImage) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _fraction(passed: BoolImage) -> float:
    return float(np.mean(passed)) if passed.size else float("nan")
