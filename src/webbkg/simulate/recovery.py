"""What a subtraction recovered of a simulated set, against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from webbkg.results import BoolImage, CombinedBackground, FloatImage
from webbkg.simulate.detector import dq_flag
from webbkg.simulate.scene import Simulated

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
    ones hold no cosmic ray and no noticeable source in any background exposure. What leaks of a
    contamination is what is left of it, as a fraction of what a plain mean would leave: 1 if
    nothing was clipped, 0 if all was.
    """

    light_pixels: int
    blank_pixels: int
    sky_true: float  #: median sky of the target, on light pixels
    sky_found: float  #: median recovered background, on light pixels
    sky_error: float  #: median of recovered background minus sky, on blank pixels
    sky_scatter: float  #: its scatter there, from the median absolute deviation
    pull_median: float  #: the same in units of the ERR quoted for each pixel; 0 is right
    pull_scatter: float  #: 1 is right
    #: Fraction of the light pixels, contaminated or not, that lie within 3 ERR of the sky; 0.9973
    #: for Gaussian noise alone.
    within_3_err: float
    within_3_err_blank: float  #: the same of the blank pixels
    #: Light pixels without a noticeable source that a cosmic ray hit in a background exposure.
    struck_pixels: int
    cosmic_ray_leak: float  #: there
    cosmic_ray_excess: float  #: median of recovered background minus sky there, in units of ERR
    #: Light pixels without a cosmic ray where the sources of the backgrounds would move a plain
    #: mean by more than its ERR.
    source_pixels: int
    source_leak: float  #: there
    median_before: float  #: of the target on light pixels
    median_after: float
    #: Median of the subtracted target minus its sources and cosmic rays, on blank light pixels; 0
    #: is right.
    residual: float
    not_finite: int  #: pixels of the subtracted target that are NaN, over all its integrations
    dq_counts: Mapping[str, int]  #: those with each flag, over all its integrations

    def lines(self) -> Iterator[tuple[str, str]]:
        """Tell it in a few lines, a label and a value each."""
        yield "sky, true and recovered", f"{self.sky_true:.5g}, {self.sky_found:.5g} DN/s"
        error, scatter = f"{self.sky_error:+.2g}", f"{self.sky_scatter:.2g}"
        yield "error of the sky, blank pixels", f"{error} ± {scatter} DN/s"
        pull = f"{self.pull_median:+.3f} ± {self.pull_scatter:.3f}"
        yield "  in units of ERR (right: 0 ± 1)", pull
        yield "within 3 ERR, blank pixels", f"{100 * self.within_3_err_blank:.2f} %"
        yield "within 3 ERR, all pixels", f"{100 * self.within_3_err:.2f} %"
        yield "left of cosmic rays, of a plain mean", f"{100 * self.cosmic_ray_leak:.3g} %"
        yield "left of sources, of a plain mean", f"{100 * self.source_leak:.3g} %"
        yield "median before, after", f"{self.median_before:.5g}, {self.median_after:.2g} DN/s"


@dataclass(eq=False)
class Truth:
    """What must be known of a set to judge a result; fed one exposure at a time, target first.

    The images are (rows, columns) float32, on the target's window.
    """

    target: Simulated | None = None
    sources: FloatImage = field(
        init=False, repr=False
    )  #: what each background added to its image, summed up
    cosmic_rays: FloatImage = field(init=False, repr=False)
    coverage: FloatImage = field(init=False, repr=False)  #: how many backgrounds cover the pixel

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
        """Compare what was subtracted, and the subtracted target (a model), with the truth.

        It is a ValueError if no exposure was added.
        """
        target = self.target
        if target is None:
            raise ValueError("the truth is empty; add the target and its backgrounds first")
        light = np.isfinite(background.sci) & ~target.bad & ~target.reference
        err = np.where(light, background.err, np.float32(np.inf)) * self.coverage
        clean, hit = light & (self.sources < NEGLIGIBLE * err), self.cosmic_rays > 0
        blank, struck, crowded = clean & ~hit, clean & hit, light & (self.sources > err) & ~hit
        difference = background.sci - target.sky
        pull = difference / background.err
        sky_error, sky_scatter = _centre_and_scatter(difference[blank])
        pull_median, pull_scatter = _centre_and_scatter(pull[blank])
        before, after = np.asarray(target.model.data), np.asarray(product.data)
        return Recovery(
            light_pixels=int(np.count_nonzero(light)),
            blank_pixels=int(np.count_nonzero(blank)),
            sky_true=_median(target.sky[light]),
            sky_found=_median(background.sci[light]),
            sky_error=sky_error,
            sky_scatter=sky_scatter,
            pull_median=pull_median,
            pull_scatter=pull_scatter,
            within_3_err=_fraction(np.abs(pull[light]) <= 3),
            within_3_err_blank=_fraction(np.abs(pull[blank]) <= 3),
            struck_pixels=int(np.count_nonzero(struck)),
            cosmic_ray_leak=_leak(difference, self.cosmic_rays, self.coverage, struck),
            cosmic_ray_excess=_median(pull[struck]),
            source_pixels=int(np.count_nonzero(crowded)),
            source_leak=_leak(difference, self.sources, self.coverage, crowded),
            median_before=_median(before[..., light]),
            median_after=_median(after[..., light]),
            residual=_median((after - target.sources - target.cosmic_rays)[..., blank]),
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
