"""The pictures of a page, by the part of it that they stand in, each with its caption and words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from webbkg.files.naming import plain_ascii
from webbkg.report import figures
from webbkg.report.content import Content
from webbkg.report.drawing import Drawn, draw
from webbkg.report.limits import toward_limit
from webbkg.report.snapshot import Picture, Profile, Snapshot
from webbkg.report.tables import as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Into = Callable[["Axes"], Any]

PLANE, STRIP, CHART = (3.9, 3.1), (5.2, 1.65), (4.2, 2.7)
"""Sizes of pictures (inches): of an image, of a long one, of a plot."""


def planes(content: Content) -> Iterator[Drawn]:
    """Draw before, background and after with one stretch, and what is left with its own."""
    shot = content.snapshot
    if shot is None:
        return
    low, high = shot.stretch
    unit = plain_ascii(content.unit)
    told = f"{low:.3g} to {high:.3g} {content.unit}".rstrip()
    sky = _sky(content)
    captions = {
        "before": (shot.before, "Before: the target", f"{sky[0]}"),
        "background": (shot.background, "Background that was subtracted", f"{sky[1]}"),
        "after": (shot.after, "After: the product", f"{sky[2]}"),
    }
    for name, (picture, caption, level) in captions.items():
        if picture is not None:
            into = partial(figures.draw_image, picture=picture, stretch=(low, high), unit=unit)
            yield _plane(name, picture, into, caption, f"{caption}; colours {told}{level}")
    if shot.after is not None:
        low, high = shot.fine_stretch
        into = partial(
            figures.draw_image,
            picture=shot.after,
            stretch=(low, high),
            unit=unit,
            colors=figures.RESIDUALS,
        )
        caption = "After, in a stretch of its own around zero"
        alt = f"The product again; colours {low:.3g} to {high:.3g} {content.unit}".rstrip()
        yield _plane("left", shot.after, into, caption, alt)


def _sky(content: Content) -> tuple[str, str, str]:
    """Tell the level of the sky in words, before, of the background, and after."""
    level, background = content.measured("level"), content.measured("background")
    values = (level + background, background, level)
    if math.isnan(values[0]):
        return "", "", ""
    one, other, left = (f"; sky about {value:.4g} {content.unit}".rstrip() for value in values)
    return one, other, left


def _plane(name: str, picture: Picture, into: Into, caption: str, alt: str) -> Drawn:
    rows, columns = picture.shape
    long = columns > 3 * rows
    size = STRIP if long else PLANE
    return Drawn(svg=draw(into, size, name), caption=caption, alt=f"{alt}.", wide=long)


def left(content: Content) -> Iterator[Drawn]:
    """Draw what is left of the sky: its profiles, and how it scatters."""
    shot = content.snapshot
    if shot is None:
        return
    unit = plain_ascii(content.unit)
    for name, profile in (("row", shot.rows), ("column", shot.columns)):
        if profile is not None:
            into = partial(figures.draw_profile, profile=profile, along=name, unit=unit)
            caption = f"Sky that is left, by {name}: median ± its standard error"
            alt = f"{caption}; {_range(profile)} {content.unit}".rstrip()
            yield _chart(f"profile-{name}", into, caption, alt)
    if shot.histogram is not None:
        one = shot.histogram
        alt = (
            f"Histogram of {one.pixels:,} sky pixels in ERR: median {one.center:+.2g}, robust "
            f"scatter {one.scatter:.3g}; the unit normal would have 0 and 1"
        )
        caption = "Sky pixels that are left, over their ERR, and the unit normal"
        yield _chart("histogram", partial(figures.draw_histogram, histogram=one), caption, alt)


def _range(profile: Profile) -> str:
    low, high = float(np.min(profile.value)), float(np.max(profile.value))
    return f"from {low:+.3g} to {high:+.3g}"


def of_mode(content: Content) -> Iterator[Drawn]:
    """Draw what only the target's mode has."""
    drawn = {"image": _image, "wfss": _wfss, "soss": _soss}.get(content.mode)
    if drawn is not None:
        yield from drawn(content, content.snapshot)


def metrics(content: Content) -> Iterator[Drawn]:
    """Draw how near each metric comes to what is worth a look."""
    shown = [one for one in content.metrics if math.isfinite(one.value)]
    if shown:
        far = {one.name: toward_limit(one, content.limits) for one in shown}
        size = CHART[0], 0.9 + 0.19 * len(shown)
        caption = (
            "Each metric over its first limit; beyond 1 its uncertainty and its share of the "
            "background decide too"
        )
        told = ", ".join(f"{name.replace('_', ' ')} {grade}" for name, (_, grade) in far.items())
        into = partial(figures.draw_metrics, metrics=far)
        yield Drawn(svg=draw(into, size, "metrics"), caption=caption, alt=f"{caption}: {told}.")


# Of each mode.


def _image(content: Content, shot: Snapshot | None) -> Iterator[Drawn]:
    if shot is not None and shot.counts is not None:
        known = shot.counts.pixels[np.isfinite(shot.counts.pixels)]
        told = f"{known.min(initial=math.inf):.3g} to {known.max(initial=0):.3g}"
        caption = "Samples that each pixel of the background comes of"
        into = partial(figures.draw_counts, counts=shot.counts)
        yield _plane("counts", shot.counts, into, caption, f"{caption}: {told}")
    levels = dict((shot and shot.levels) or {})
    matched = content.told.get("background_levels")
    names = content.told.get("backgrounds", ())
    if not levels and matched and len(matched) == len(names):
        levels = dict(zip(names, map(as_number, matched), strict=True))
    if levels:
        combined = content.measured("background")
        told = "; ".join(f"{name} {level:.4g}" for name, level in levels.items())
        caption = "Level of the sky of each background exposure, and what was subtracted"
        shown = dict(zip(_differing(list(levels)), levels.values(), strict=True))
        into = partial(
            figures.draw_levels, levels=shown, combined=combined, unit=plain_ascii(content.unit)
        )
        yield _chart("levels", into, caption, f"{caption} ({combined:.4g}): {told}")


def _wfss(content: Content, shot: Snapshot | None) -> Iterator[Drawn]:
    if shot is not None and shot.sky is not None:
        from webbkg.report.snapshot import sky_range

        stretch = sky_range([shot.before.pixels])
        into = partial(figures.draw_mask, picture=shot.before, sky=shot.sky, stretch=stretch)
        alt = f"{_mask_words(content)}; {100 * float(np.nanmean(shot.sky.pixels)):.3g} % are sky"
        yield _plane("mask", shot.before, into, _mask_words(content), alt)
    iterations = content.told.get("iterations", ())
    if iterations:
        scales = [as_number(one.get("scale")) for one in iterations]
        rejected = [int(as_number(one.get("rejected"))) for one in iterations]
        error = as_number(content.told.get("scale_err"))
        caption = "Scale of the template by iteration, and the pixels that each rejected"
        pairs = zip(scales, rejected, strict=True)
        told = "; ".join(f"{scale:.5g}, {number:,} rejected" for scale, number in pairs)
        into = partial(figures.draw_iterations, scales=scales, rejected=rejected, error=error)
        yield _chart("iterations", into, caption, f"{caption}: {told}")


def _mask_words(content: Content) -> str:
    told = content.told
    number, origin = told.get("mask_sources"), told.get("mask")
    if told.get("mask_from") == "traces":
        return f"Left out of the fit (orange): the light of {number} sources of {origin}, predicted"
    if number:
        return f"Not taken for sky (orange): the traces of {number} sources of {origin}"
    return f"Not taken for sky (orange): {origin}"


def _soss(content: Content, shot: Snapshot | None) -> Iterator[Drawn]:
    yield from _templates(content)
    if shot is not None and shot.sides is not None:
        first, last = shot.sides.jump
        caption = "The two sides of the jump, in the rows with the least starlight"
        alt = f"{caption}; the jump lies in columns {first} to {last}"
        into = partial(figures.draw_sides, sides=shot.sides, unit=plain_ascii(content.unit))
        yield _chart("sides", into, caption, alt)
    if content.times:
        shown = dict(zip(_differing(list(content.times)), content.times.values(), strict=True))
        caption = "Sky of each integration over the background that was subtracted"
        ends = [float(f(times.scale)) for f in (np.min, np.max) for times in shown.values()]
        alt = f"{caption}: {min(ends):.4g} to {max(ends):.4g}"
        into = partial(figures.draw_times, segments=shown)
        yield _chart("times", into, caption, alt)
    knots = (content.told.get("time") or {}).get("knots", ())
    if knots:
        hours = np.array([as_number(one["hour"]) for one in knots])
        scales, errors = (
            np.array([[as_number(side) for side in one[what]] for one in knots])
            for what in ("scales", "errors")
        )
        caption = "Change of the scales in time that was subtracted: the knots of its spline"
        alt = f"{caption}; {np.nanmin(scales):.4g} to {np.nanmax(scales):.4g}"
        into = partial(figures.draw_knots, hours=hours, scales=scales, errors=errors)
        yield _chart("knots", into, caption, alt)


def _templates(content: Content) -> Iterator[Drawn]:
    likelihood, rmse = content.told.get("log_likelihood"), content.told.get("rmse")
    number = as_number(content.told.get("template"))
    chosen = None if math.isnan(number) else int(number)
    values, label, caption = rmse, "RMSE", "RMSE of each template, left and right of the jump"
    if likelihood:
        values = [[one] for one in likelihood]
        label, caption = "log-likelihood below the best", "Log-likelihood of each template"
    if values:
        numbers = np.array([[as_number(one) for one in sides] for sides in values])
        into = partial(figures.draw_templates, sides=numbers, chosen=chosen, label=label)
        yield _chart("templates", into, caption, f"{caption}; chosen: {chosen}")


# What they share.


def _differing(names: Sequence[str]) -> list[str]:
    """Call exposures by the parts of their names in which they differ, if that tells them apart."""
    parts = [plain_ascii(name).rpartition(".")[0].split("_") for name in names]
    if len({len(one) for one in parts}) == 1:
        kept = [i for i, column in enumerate(zip(*parts, strict=True)) if len({*column}) > 1]
        short = ["_".join(one[i] for i in kept) for one in parts]
        if len({*short}) == len(names) > 1:
            return short
    return list(map(plain_ascii, names))


def _chart(name: str, into: Into, caption: str, alt: str) -> Drawn:
    return Drawn(svg=draw(into, CHART, name), caption=caption, alt=f"{alt}.")
