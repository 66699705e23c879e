"""How good a subtraction is: what is told of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from webbkg.record.words import Details, in_unit, plain, plain_values
from webbkg.results import Metric, Metrics

VERDICT_KEYWORD = "BKGVERD"
"""Of the primary header of a product: the verdict of its metrics."""


def metrics_details(metrics: Metrics) -> Details:
    """Give metrics as plain values."""
    return {
        "verdict": str(metrics.verdict),
        "reasons": list(metrics.reasons),
        **plain_values(
            level=metrics.level,
            scatter=metrics.scatter,
            background=metrics.background,
            pixels=metrics.pixels,
        ),
        "values": {one.name: _metric(one) for one in metrics.values},
    }


def _metric(one: Metric) -> Details:
    told = plain_values(value=one.value, error=one.error, grade=str(one.grade))
    if one.unit:
        told["unit"] = one.unit
    return told if math.isnan(one.share) else {**told, "share": plain(one.share)}


def metrics_lines(metrics: Metrics, unit: str) -> Iterator[tuple[str, str]]:
    """Tell them to a person, a label and a value each."""
    level, scatter = metrics.find("sky_level"), metrics.find("scatter")
    if level is not None:
        share_left = f", {100 * level.share:+.2g} % of it" if math.isfinite(level.share) else ""
        left = in_unit(f"{metrics.level:+.3g}", unit)
        yield "sky left", f"{left}, {level.value:+.2g} {level.unit}{share_left}"
    if scatter is not None:
        told = in_unit(f"{metrics.scatter:.3g}", unit)
        yield "sky scatter", f"{told}, {scatter.value:.3g} times what ERR says"
    yield "verdict", str(metrics.verdict)
    for reason in metrics.reasons:
        yield "", reason


def verdict_card(metrics: Metrics | None) -> tuple[tuple[str, str, str], ...]:
    """Give the card of their verdict; none without metrics."""
    if metrics is None:
        return ()
    return ((VERDICT_KEYWORD, str(metrics.verdict), "webbkg: good, look or bad"),)
