"""Image from image: what is told of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from webbkg.files.naming import plain_ascii
from webbkg.options import ImageOptions
from webbkg.record.words import Details, in_unit, plain, plain_values, share
from webbkg.results import ImageResult, SampleCounts, SkyLevels


def details(result: ImageResult) -> Details:
    """Give its numbers, plain values only."""
    return plain_values(
        mode="image",
        sigma=result.options.sigma,
        maxiters=result.options.maxiters,
        clip_noise=result.options.clip_noise,
        dq_threshold=result.options.dq_threshold,
        drop_mismatched=result.options.drop_mismatched,
        backgrounds=list(result.backgrounds),
        exposure_samples=_counts(result.exposures),
        integration_samples=_counts(result.integrations),
        pixels=result.pixels,
        pixels_uncovered=result.pixels_uncovered,
        pixels_unknown=result.pixels_unknown,
        **({} if result.levels is None else _levels(result.levels)),
        **({"masked_shares": list(result.masked)} if result.masked else {}),
        **_asked_masks(result.options),
    )


def _asked_masks(options: ImageOptions) -> Details:
    """Tell what was asked to be left out, where anything was."""
    files = [plain_ascii(Path(one).name) for one in options.source_mask or ()]
    asked = {"mask_sources": options.mask_sources, "source_mask": files}
    return {name: value for name, value in asked.items() if value}


def _levels(levels: SkyLevels) -> Details:
    return {
        "match_background": levels.kind,
        "background_levels": [plain(one) for one in levels.backgrounds],
        "background_corrections": [plain(one) for one in levels.corrections],
        "target_level": levels.target,
        "combined_level": levels.combined,
        "target_correction": levels.target_correction,
    }


def _counts(counts: SampleCounts) -> Details:
    return {"offered": counts.offered, "usable": counts.usable, "clipped": counts.clipped}


def summary(result: ImageResult, unit: str) -> Iterator[tuple[str, str]]:
    """Tell it to a person, a label and a value each."""
    counts = result.exposures + result.integrations
    number = len(result.backgrounds)
    yield "backgrounds", f"{number} exposure{'s' if number != 1 else ''}"
    yield "samples used", f"{counts.used:,} of {counts.usable:,} usable"
    yield "samples clipped", share(counts.clipped, counts.usable)
    if result.masked:
        yield "masked as sources", f"{_range(result.masked, 100)} % of each background"
    if result.levels is not None:
        yield from _told_levels(result.levels, unit)
    yield "pixels, sky unknown", share(result.pixels_unknown, result.pixels)
    yield "pixels not covered", share(result.pixels_uncovered, result.pixels)


def _told_levels(levels: SkyLevels, unit: str) -> Iterator[tuple[str, str]]:
    change, sky = levels.target_correction, in_unit(_range(levels.backgrounds), unit)
    scaled = levels.kind == "scale"
    changed = f"× {change:.5g}" if scaled else in_unit(f"+ {change:.5g}", unit)
    told = "not matched" if math.isnan(change) else f"their average {changed}"
    yield "background sky", f"{sky}, matched by {levels.kind}"
    yield "target sky", f"{in_unit(f'{levels.target:.5g}', unit)}, {told}"


def _range(values: Sequence[float], times: float = 1) -> str:
    """Tell the least and the largest of some values, if they differ."""
    known = [value * times for value in values if math.isfinite(value)] or [math.nan]
    ends = dict.fromkeys(f"{end:.4g}" for end in (min(known), max(known)))
    return " to ".join(ends)
