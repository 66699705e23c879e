"""From which value on a metric is worth a look, or bad: one table, each line with its reason.

The values of right subtractions that the reasons speak of are those of ``benchmarks.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from webbkg.errors import OptionError
from webbkg.results import Grade, Metric

SURE = 3.0
"""A value counts by how far it lies from 0, less so many of its standard errors."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """From where on a metric is not good.

    Attributes
    ----------
    look, bad : float
        From these values on, either sign.
    look_share, bad_share : float
        The metric as a share of the background must reach these too: what is large against the
        noise alone may be small against the sky, and the reverse. 0 where it need not.
    least : bool
        Small values are the bad ones: it is `look` and `bad` below those.
    words : str
        What is said of a value that is not good; ``{value}`` and ``{share}`` (percent) stand in
        it.
    why : str
        Why the limits are where they are.
    """

    look: float
    bad: float
    look_share: float = 0.0
    bad_share: float = 0.0
    least: bool = False
    words: str
    why: str


LIMITS: dict[str, Limit] = {
    "sky_level": Limit(
        look=0.1,
        bad=0.5,
        look_share=0.02,
        bad_share=0.10,
        words="the sky that is left is {value:+.2g} ERR, {share:+.2g} % of the background",
        why="half of a pixel's noise in every pixel is seen in any image; a tenth of the sky is "
        "more than its patterns differ by between exposures",
    ),
    "scatter": Limit(
        look=1.5,
        bad=3.0,
        words="the sky scatters {value:.2g} times as much as its errors say",
        why="1/f noise and faint sources make it up to 1.3; three times the noise is structure",
    ),
    "gradient_rows": Limit(
        look=0.3,
        bad=1.0,
        look_share=0.04,
        bad_share=0.15,
        words="from row to row the sky that is left varies by {value:.2g} ERR, {share:.2g} % of "
        "the background",
        why="twice the limits of the level: it is the whole range of eight parts",
    ),
    "gradient_columns": Limit(
        look=0.3,
        bad=1.0,
        look_share=0.04,
        bad_share=0.15,
        words="from column to column the sky that is left varies by {value:.2g} ERR, {share:.2g} "
        "% of the background",
        why="as along the rows",
    ),
    "split_scale": Limit(
        look=5.0,
        bad=15.0,
        look_share=0.02,
        bad_share=0.10,
        words="odd and even parts of the sky differ by {value:.2g} standard errors in its scale, "
        "{share:.2g} %",
        why="5 do not come of noise; 1/f noise adds to the standard errors, so a share of the "
        "scale itself is asked for too",
    ),
    "chi2_dof": Limit(
        look=3.0,
        bad=6.0,
        words="chi²/dof of the sky is {value:.2g}",
        why="1 if ERR is right and up to 2.3 with 1/f noise; a template of another filter gave 8",
    ),
    "sky_fraction": Limit(
        look=0.05,
        bad=0.01,
        least=True,
        words="only {value:.2g} of the pixels are sky",
        why="below 5 % the jwst package refuses to scale a grism's sky",
    ),
    "clipped": Limit(
        look=0.2,
        bad=0.5,
        words="{value:.2g} of the samples were rejected",
        why="the default rejection takes a tenth of a grism's sky, and clipping 2 % of a stack",
    ),
    "uncovered": Limit(
        look=0.02,
        bad=0.5,
        words="no background covers {value:.2g} of the pixels",
        why="a target whose larger part is as it was is not subtracted",
    ),
    "unknown": Limit(
        look=0.02,
        bad=0.1,
        words="the sky is unknown in {value:.2g} of the pixels",
        why="about 1 % of a detector's pixels are bad in every exposure",
    ),
    "newly_flagged": Limit(
        look=0.03,
        bad=0.15,
        words="{value:.2g} of the pixels got DO_NOT_USE from the background",
        why="the bad pixels and cosmic rays of a background or two",
    ),
    "light_left": Limit(
        look=0.003,
        bad=0.15,
        words="{value:.2g} of the sky has streaks of light: sources that the mask misses",
        why="faint wings of masked sources make it up to 0.005, and no mask 0.03 to 0.2",
    ),
    "source_overlap": Limit(
        look=4.0,
        bad=50.0,
        words="the result is dark, by {value:.2g} standard deviations, where the background is "
        "bright: sources of the backgrounds, or the target's own, were subtracted",
        why="above 4 in two blocks it is no noise; what is left of sources that are masked stays below",
    ),
    "background_levels": Limit(
        look=0.1,
        bad=0.5,
        words="the sky of a background differs from their combination by {share:.2g} %",
        why="the zodiacal light varies by a tenth in weeks, and by a half in a season",
    ),
    "jump_left": Limit(
        look=0.7,
        bad=2.0,
        look_share=0.05,
        bad_share=0.15,
        words="around the jump {value:.2g} ERR are left, {share:.2g} % of the background",
        why="1/f noise, which whole columns share, makes it 0.5; a jump 10 columns off leaves 2.5",
    ),
    "template_margin": Limit(
        look=0.0,
        bad=0.0,
        least=True,
        words="the second template is as good, {value:.2g} worse",
        why="templates that suit alike give the same background: for information",
    ),
    "time_scale": Limit(
        look=10.0,
        bad=30.0,
        look_share=0.05,
        bad_share=0.15,
        words="the scale changes by {value:.2g} standard errors during the exposure, {share:.2g} %",
        why="1/f noise makes it 3 % in integrations of six groups",
    ),
    "segment_scale": Limit(
        look=0.1,
        bad=0.5,
        look_share=0.02,
        bad_share=0.10,
        words="this segment's own scale differs from that of all together by {share:.2g} %",
        why="as that of the level",
    ),
}
"""The metrics, in the order in which they are told."""


def set_limits(given: Iterable[str] | None) -> dict[str, Limit]:
    """Put limits of the user's in place of the table's.

    Parameters
    ----------
    given : iterable of str or None
        ``NAME=LOOK:BAD`` or, for those that have them, ``NAME=LOOK:BAD:SHARE:SHARE``.

    Raises
    ------
    OptionError
        If one is not of that form, or there is no such metric.
    """
    return {**LIMITS, **dict(_parse(one) for one in given or ())}


def _parse(text: str) -> tuple[str, Limit]:
    name, _, numbers = (part.strip() for part in text.partition("="))
    if name not in LIMITS:
        raise OptionError(f"metric_limits: no metric {name!r}; there are {', '.join(LIMITS)}")
    try:
        look, bad, *shares = (float(one) for one in numbers.split(":"))
        look_share, bad_share = shares or (LIMITS[name].look_share, LIMITS[name].bad_share)
    except ValueError as error:
        raise OptionError(
            f"metric_limits must be NAME=LOOK:BAD or NAME=LOOK:BAD:SHARE:SHARE (got {text!r})"
        ) from error
    if any(not value >= 0 for value in (look, bad, look_share, bad_share)):
        raise OptionError(f"metric_limits must be at least 0 (got {text!r})")
    return name, replace(
        LIMITS[name], look=look, bad=bad, look_share=look_share, bad_share=bad_share
    )


def judge(metric: Metric, limits: Mapping[str, Limit] = LIMITS) -> Metric:
    """Give a metric its grade, and the reason for it."""
    limit = limits[metric.name]
    metric = replace(
        metric,
        value=float(metric.value),
        error=float(metric.error),
        share=float(metric.share),
    )
    if limit.least:
        grade = _grade(-metric.value, -limit.look, -limit.bad)
    else:
        sure = _sure(metric)
        grade = _grade(abs(metric.value) * sure, limit.look, limit.bad)
        if limit.bad_share and not math.isnan(metric.share):
            of_share = _grade(abs(metric.share) * sure, limit.look_share, limit.bad_share)
            grade = min(grade, of_share, key=lambda one: one.rank)
    if grade is Grade.GOOD:
        return replace(metric, grade=grade)
    reason = limit.words.format(value=metric.value, share=100 * metric.share)
    return replace(metric, grade=grade, reason=reason)


def toward_limit(metric: Metric, limits: Mapping[str, Limit] = LIMITS) -> tuple[float, str]:
    """Tell how far a metric goes toward its first limit, 1 on it, and its grade."""
    limit = limits[metric.name]
    if limit.least:
        far = limit.look / metric.value if metric.value else 0.0
    else:
        far = abs(metric.value) / limit.look if limit.look else 0.0
    return far, str(metric.grade)


def _sure(metric: Metric) -> float:
    """Tell which part of a value is more than its uncertainty."""
    if metric.value == 0:
        return 0.0
    return max(0.0, 1 - SURE * metric.error / abs(metric.value))


def _grade(size: float, look: float, bad: float) -> Grade:
    if size > bad:
        return Grade.BAD
    return Grade.LOOK if size > look else Grade.GOOD
