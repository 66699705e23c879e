"""How good a subtraction is: numbers of its result, each with a grade, and a verdict.

A metric is a function of the sample (`webbkg.report.sample`) and the outcome, which returns it or
None where it does not apply; a new one is a function, its name in `MEASURES`, and a line in the
table of limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from webbkg.modes import Shared
from webbkg.numerics.order import median
from webbkg.numerics.planes import PlaneSource
from webbkg.options import SOSS_LAST_COLUMN
from webbkg.report.limits import LIMITS, SURE, Limit, judge
from webbkg.report.overlap import bright_blocks, darkest_spot, lit_share
from webbkg.report.sample import MAD_TO_SIGMA, Sample, Values, draw, scatter_about
from webbkg.results import (
    Background,
    ImageResult,
    Metric,
    Metrics,
    Outcome,
    ScaleFit,
    SossResult,
    TemplateResult,
    WfssResult,
)

PARTS = 8
"""Parts of a profile along rows or columns; and of a chequerboard, each way."""

FINE = 8
"""Into so many pieces a part is cut, to see how they scatter."""

RANGE_ERROR = 1.5
"""Three times this is above the range of `PARTS` values of unit scatter in 999 of 1000 cases."""

MEDIAN_ERROR = 1.2533
"""Standard error of a median in those of a mean: sqrt(pi / 2), for Gaussian noise."""

FAR = 5.0
"""The largest deviation that counts in chi² and in a scale (standard deviations)."""

JUMP_REACH, JUMP_WIDTH, JUMP_FLANK = 30, 6, 90
"""How far from the jump its rest is looked for, in parts of what width, and how far the sky to
compare with goes (columns)."""

FEWEST = 16
"""Pixels without which a median says nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What every metric may look at."""

    sample: Sample
    outcome: Outcome
    background: Background
    planes: PlaneSource
    shared: Shared | None
    level: float  #: median of the residual
    scatter: float  #: its robust standard deviation
    noise: float  #: median of ERR
    expected: float  #: that of ERR with the background's
    sky: float  #: that of the background, or its RMS

    @cached_property
    def deviation(self) -> Values:
        """What is left of each pixel of the sample, in its expected errors."""
        return self.sample.residual / self.sample.expected

    @cached_property
    def template(self) -> Values:
        """The background of each pixel of the sample, in its expected errors."""
        return self.sample.background / self.sample.expected

    @cached_property
    def near(self) -> npt.NDArray[np.bool_]:
        """Which pixels of the sample are no further from the level than `FAR`."""
        away = np.abs(self.sample.residual - np.float32(self.level))
        near: npt.NDArray[np.bool_] = away < FAR * self.scatter
        return near


def measure_metrics(
    planes: PlaneSource,
    outcome: Outcome,
    limits: Mapping[str, Limit] = LIMITS,
    shared: Shared | None = None,
) -> Metrics:
    """Measure how good a subtraction is.

    Parameters
    ----------
    planes : PlaneSource
        SCI, and ERR and DQ where it has them, of the target before the subtraction. Some of its
        rows are read, and in image mode SCI once, in bands.
    outcome : Outcome
        COMPLETE, with its background.
    limits : mapping of str to Limit
        See `webbkg.report.limits.set_limits`.
    shared : Shared, optional
        What the targets of a run have in common: of one background its sources are found once.

    Returns
    -------
    Metrics
        The same for any number of threads, and for planes in memory and in files.

    Raises
    ------
    ValueError
        If the outcome has no background.
    """
    background = outcome.background
    if background is None:
        raise ValueError("metrics need the background that was subtracted: outcome.background")
    sample = draw(planes, background, outcome)
    residual = sample.residual
    level = median(residual)
    seen = Seen(
        sample=sample,
        outcome=outcome,
        background=background,
        planes=planes,
        shared=shared,
        level=level,
        scatter=scatter_about(level, residual),
        noise=median(sample.err),
        expected=median(sample.expected),
        sky=_brightness(sample, outcome),
    )
    found = (measure(seen) for measure in MEASURES)
    return Metrics(
        values=tuple(judge(one, limits) for one in found if one and math.isfinite(one.value)),
        level=level,
        scatter=seen.scatter,
        background=seen.sky,
        pixels=len(sample),
    )


def _brightness(sample: Sample, outcome: Outcome) -> float:
    """Tell the median of the background; of templates, which may be faint in most pixels, the RMS."""
    if isinstance(outcome.result, TemplateResult) and len(sample):
        return float(np.sqrt(np.mean(np.square(sample.background, dtype=np.float64))))
    return median(sample.background)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _in_noise(name: str, seen: Seen, value: float, error: float) -> Metric:
    """Make a metric of something in the target's unit: in units of ERR, and of the background.

    Light that the star may have left is as good as an error.
    """
    if value > 0:
        error = max(error, min(seen.sample.lift, value) / SURE)
    return Metric(
        name=name,
        value=_ratio(value, seen.noise),
        unit="ERR" if seen.sample.lines.quoted else "scatter",
        error=_ratio(error, seen.noise),
        share=_ratio(value, abs(seen.sky)),
    )


def _error_of_median(seen: Seen, number: float) -> float:
    return MEDIAN_ERROR * seen.scatter / math.sqrt(max(number, 1))


# Of every mode.


def _sky_level(seen: Seen) -> Metric:
    error = _error_of_median(seen, len(seen.sample))
    return _in_noise("sky_level", seen, seen.level, error)


def _scatter(seen: Seen) -> Metric | None:
    if not seen.sample.lines.quoted:
        return None
    value = _ratio(seen.scatter, seen.expected)
    return Metric(name="scatter", value=value, error=value / math.sqrt(max(len(seen.sample), 1)))


def _gradient_rows(seen: Seen) -> Metric | None:
    if isinstance(seen.outcome.result, SossResult):
        return None  # the wings of the star change from row to row
    if _sky_stays(seen):
        return None
    return _profile("gradient_rows", seen, 1, 0, seen.sample.shape[1])


def _sky_stays(seen: Seen) -> bool:
    """Tell whether the sky, whatever its shape, was to stay beside a template."""
    result = seen.outcome.result
    return isinstance(result, TemplateResult) and not result.options.template_subtract_sky


def _gradient_columns(seen: Seen) -> Metric | None:
    columns = np.flatnonzero(seen.sample.sky.any(axis=(0, 1)))
    if columns.size == 0 or _sky_stays(seen):
        return None
    return _profile("gradient_columns", seen, 2, columns[0], columns[-1] - columns[0] + 1)


def _profile(name: str, seen: Seen, axis: int, first: int, length: int) -> Metric | None:
    """Measure the range of the medians of the parts of a profile."""
    fine = seen.sample.cut(axis, first, length, PARTS * FINE)
    parts = [np.concatenate(fine[i : i + FINE]) for i in range(0, len(fine), FINE)]
    medians, numbers = _medians(parts)
    if len(medians) < 2:
        return None
    rough = _roughness(_medians(fine)[0]) / math.sqrt(FINE)
    error = RANGE_ERROR * max(_error_of_median(seen, min(numbers)), rough)
    return _in_noise(name, seen, max(medians) - min(medians), error)


def _roughness(medians: list[float]) -> float:
    """Tell by how much neighbours scatter: 1/f noise is common to whole rows or columns."""
    if len(medians) < FEWEST:
        return 0.0
    return MAD_TO_SIGMA * float(np.median(np.abs(np.diff(medians)))) / math.sqrt(2)


def _medians(parts: list[Values]) -> tuple[list[float], list[int]]:
    """Return the medians of parts, which are reordered, and of how many values; not of small ones."""
    least = max(FEWEST, 0.1 * sum(map(len, parts)) / len(parts))
    enough = [one for one in parts if len(one) >= least]
    return [median(one, overwrite=True) for one in enough], [len(one) for one in enough]


def _split_scale(seen: Seen) -> Metric | None:
    _, rows, columns = seen.sample.shape
    row = seen.sample.lines.row * PARTS // rows % 2 == 1
    column = np.arange(columns) * PARTS // columns % 2 == 1
    odd = row[:, np.newaxis] ^ column
    return _difference_of_scales("split_scale", seen, seen.sample.spread(odd))


def _difference_of_scales(name: str, seen: Seen, half: npt.NDArray[np.bool_]) -> Metric | None:
    """Compare the scales of the background in two halves of the sample, by least squares."""
    one, other = _scale(seen, half), _scale(seen, ~half)
    if one is None or other is None:
        return None
    difference = one[0] - other[0]
    error = math.hypot(one[1], other[1]) * max(1.0, _ratio(seen.scatter, seen.expected))
    return Metric(name=name, value=_ratio(difference, error), unit="sigma", share=difference)


def _scale(seen: Seen, chosen: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """Fit what is left to the background: a scale, right if it is 0, and its standard error."""
    near = seen.near & chosen
    if np.count_nonzero(near) < FEWEST:
        return None
    sky = seen.template[near]
    total = float(np.sum(sky * sky, dtype=np.float64))
    if not total > 0:
        return None
    left = float(np.sum(sky * seen.deviation[near], dtype=np.float64))
    return left / total, 1 / math.sqrt(total)


def _chi2_dof(seen: Seen) -> Metric | None:
    """Take the mean square of the deviations; none counts as more than `FAR`."""
    if not seen.sample.lines.quoted or len(seen.sample) == 0:
        return None
    square = np.minimum(np.square(seen.deviation), np.float32(FAR**2))
    value = float(np.mean(square, dtype=np.float64))
    return Metric(name="chi2_dof", value=value, error=math.sqrt(2 / len(seen.sample)))


def _sky_fraction(seen: Seen) -> Metric:
    result, number = seen.outcome.result, seen.sample.shape[0]
    value = len(seen.sample) / max(seen.sample.lines.looked_at, 1)
    if isinstance(result, SossResult):
        sides = [side.n_sky for side in (result.fit.left, result.fit.right) if side]
        rows = np.count_nonzero(seen.background.covered.any(axis=1))
        columns = SOSS_LAST_COLUMN + 1 if result.fit.robust is None else seen.sample.shape[2]
        pixels = rows * columns
        value = sum(sides) / (pixels * max(result.fit.n_integrations, number))
    return Metric(name="sky_fraction", value=value)


def _newly_flagged(seen: Seen) -> Metric:
    value = seen.sample.lines.newly_flagged / max(seen.sample.lines.looked_at, 1)
    return Metric(name="newly_flagged", value=value)


def _clipped(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if isinstance(result, ImageResult):
        counts = result.exposures + result.integrations
        return Metric(name="clipped", value=_ratio(counts.clipped, counts.usable))
    if isinstance(result, WfssResult):
        return Metric(name="clipped", value=_rejected(result.fit))
    if isinstance(result, TemplateResult):
        fit = result.fit
        return Metric(name="clipped", value=1 - fit.sources - _ratio(fit.used, fit.offered))
    return None


def _rejected(fit: ScaleFit) -> float:
    """Tell the share of a grism's fit pixels that was rejected.

    Of those that were chosen, where the cleanest were: to leave the others out is no rejection.
    """
    chosen = fit.offered * (1.0 if fit.robust is None else fit.robust.share)
    return max(0.0, _ratio(chosen - fit.used, chosen))


# Image from image.


def _uncovered(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if not isinstance(result, ImageResult):
        return None
    return Metric(name="uncovered", value=_ratio(result.pixels_uncovered, result.pixels))


def _unknown(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if not isinstance(result, ImageResult):
        return None
    return Metric(name="unknown", value=_ratio(result.pixels_unknown, result.pixels))


def _background_levels(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if not isinstance(result, ImageResult) or result.levels is None or not result.levels.combined:
        return None
    whole = result.levels.combined
    shares = [level / whole - 1 for level in result.levels.backgrounds if math.isfinite(level)]
    worst = max(shares, key=abs, default=math.nan)
    return Metric(name="background_levels", value=worst, share=worst)


def _source_overlap(seen: Seen) -> Metric | None:
    if not isinstance(seen.outcome.result, ImageResult):
        return None
    find = partial(bright_blocks, seen.background)
    bright = find() if seen.shared is None else seen.shared.of(seen.background, find)
    depth = darkest_spot(seen.planes, seen.background, bright)
    return Metric(name="source_overlap", value=depth, unit="sigma")


# Grism skies.


def _light_left(seen: Seen) -> Metric | None:
    """Measure in which part of the sky there are streaks of light."""
    mask = seen.outcome.sky_mask
    if not isinstance(seen.outcome.result, WfssResult) or mask is None:
        return None
    share, error = lit_share(seen.planes, seen.background, mask)
    return Metric(name="light_left", value=share, error=error)


# SOSS.


def _jump_left(seen: Seen) -> Metric | None:
    """Find what is left at the jump: the largest difference to the sky on both sides of it."""
    result, sample = seen.outcome.result, seen.sample
    if not isinstance(result, SossResult) or not result.fit.jump.size or len(sample) == 0:
        return None
    away = sample.column - result.fit.jump[sample.row].astype(np.int32)
    flanks = [(away >= -JUMP_FLANK) & (away < -JUMP_REACH), (away >= JUMP_REACH)]
    flanks[1] &= away < JUMP_FLANK
    sides, sizes = zip(*(_of_part(sample, one) for one in flanks), strict=True)
    whole = float(np.mean(sides))
    near = (away >= -JUMP_REACH) & (away < JUMP_REACH)
    left, part = sample.residual[near], (away[near] + JUMP_REACH) // JUMP_WIDTH
    medians, numbers = _medians([left[part == i] for i in range(2 * JUMP_REACH // JUMP_WIDTH)])
    if not medians or min(sizes) < FEWEST:
        return None
    worst = max((one - whole for one in medians), key=abs)
    error = RANGE_ERROR * _error_of_median(seen, min(numbers))
    return _in_noise("jump_left", seen, worst, error)


def _of_part(sample: Sample, chosen: npt.NDArray[np.bool_]) -> tuple[float, int]:
    values = sample.residual[chosen]
    return median(values), len(values)


def _template_margin(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if not isinstance(result, SossResult):
        return None
    totals = np.sort(result.fit.rmse.sum(axis=1))  # NaN comes last
    if len(totals) < 2:
        return None
    return Metric(name="template_margin", value=float(totals[1] / totals[0] - 1))


def _time_scale(seen: Seen) -> Metric | None:
    number = seen.sample.shape[0]
    if number < 2:
        return None
    return _difference_of_scales("time_scale", seen, seen.sample.integration * 2 >= number)


def _segment_scale(seen: Seen) -> Metric | None:
    result = seen.outcome.result
    if not isinstance(result, SossResult) or result.segments < 2:
        return None
    found = _scale(seen, np.ones(len(seen.sample), np.bool_))
    if found is None:
        return None
    return _in_noise("segment_scale", seen, found[0] * seen.sky, found[1] * abs(seen.sky))


MEASURES: tuple[Callable[[Seen], Metric | None], ...] = (
    _sky_level,
    _scatter,
    _gradient_rows,
    _gradient_columns,
    _split_scale,
    _chi2_dof,
    _sky_fraction,
    _clipped,
    _uncovered,
    _unknown,
    _newly_flagged,
    _light_left,
    _source_overlap,
    _background_levels,
    _jump_left,
    _template_margin,
    _time_scale,
    _segment_scale,
)
"""The metrics, in the order in which they are told."""
