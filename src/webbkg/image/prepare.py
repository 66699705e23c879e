"""From exposures as they are to exposures as they are averaged: matched, and without sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from webbkg.image.adjusted import Masked, PackedPlane, adjust, on_exposure
from webbkg.image.levels import (
    OFFSET,
    SCALE,
    Corrections,
    match_exposures,
    match_target,
    sky_blocks,
)
from webbkg.image.sources import find_sources
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import Placed
from webbkg.options import ImageOptions
from webbkg.results import (
    BoolImage,
    CombinedBackground,
    FloatImage,
    SkyLevels,
    UnkeptBackground,
)

Average = CombinedBackground | UnkeptBackground

ROWS_A_BAND = 256


@dataclass(frozen=True)
class Prepared:
    """Exposures as they are averaged.

    Attributes
    ----------
    sources : tuple of Placed
        The exposures, changed as they are read.
    levels : SkyLevels or None
        Their sky levels, where they are matched.
    masked : tuple of float
        Share of the pixels that each has in common with the target, and that are left out; empty
        where no masks were asked for.
    uneven : float
        Where sources were looked for and levels are not matched: how far these are apart, as a
        share of the level. Masks then leave steps.
    """

    sources: tuple[Placed, ...]
    levels: SkyLevels | None = None
    masked: tuple[float, ...] = ()
    uneven: float = 0.0


def prepare(
    sources: Sequence[Placed],
    shape: tuple[int, int],
    options: ImageOptions,
    masks: Sequence[BoolImage | PackedPlane | None] = (),
    threads: int | None = None,
) -> Prepared:
    """Match the levels of exposures, and find what is to be left out of them, as options ask.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, SCI, ERR and DQ.
    shape : (rows, columns)
        The target's window.
    options : ImageOptions
        `match_background` and `mask_sources`.
    masks : sequence of (rows, columns) ndarray of bool, or PackedPlane of it, or None
        For each exposure what is left out in any case, True where source; empty for none.
    threads : int, optional
        Default: as many as this task may use.
    """
    given = [_of_plane(mask) for mask in masks] or [None] * len(sources)
    matched, finds = options.match_background != "none", _finds_sources(sources, options)
    threads = threads or available_threads()
    usable = [adjust(one, masked=mask) for one, mask in zip(sources, given, strict=True)]
    found: list[Masked | None] = list(given)
    corrections, kind = None, options.match_background if matched else OFFSET
    if matched or finds:
        corrections = match_exposures(sky_blocks(usable, shape, threads), kind)
    if finds and corrections is not None:
        leveled = [_leveled(one, corrections, i, kind) for i, one in enumerate(usable)]
        light = find_sources(leveled, shape, threads)
        found = [
            _either(on_exposure(light.masked(i), one.overlap, one.planes.shape[2]), given[i])
            for i, one in enumerate(sources)
        ]
    ready = [adjust(one, masked=mask) for one, mask in zip(sources, found, strict=True)]
    if matched and corrections is not None:
        ready = [_leveled(one, corrections, i, kind) for i, one in enumerate(ready)]
    any_masks = any(mask is not None for mask in found)
    return Prepared(
        tuple(ready),
        _told(corrections, kind) if matched and corrections is not None else None,
        tuple(_shares(sources, found, threads)) if any_masks else (),
        0.0 if matched or corrections is None else _unevenness(corrections),
    )


def _finds_sources(sources: Sequence[Placed], options: ImageOptions) -> bool:
    return options.mask_sources and len(sources) > 1


def _of_plane(mask: BoolImage | PackedPlane | None) -> Masked | None:
    if mask is None:
        return None
    packed = mask if isinstance(mask, PackedPlane) else PackedPlane(mask)
    return lambda start, stop: packed.rows(start, stop).astype(np.bool_)


def _either(one: Masked, other: Masked | None) -> Masked:
    return one if other is None else lambda start, stop: one(start, stop) | other(start, stop)


def _leveled(source: Placed, corrections: Corrections, index: int, kind: str) -> Placed:
    value = float(corrections.values[index])
    return adjust(source, scale=value) if kind == SCALE else adjust(source, offset=value)


def _unevenness(corrections: Corrections) -> float:
    known = corrections.levels[np.isfinite(corrections.levels)]
    level = abs(float(np.median(known))) if known.size else 0.0
    apart = float(np.ptp(corrections.values))
    return apart / level if level else 0.0


def _told(corrections: Corrections, kind: str) -> SkyLevels:
    return SkyLevels(
        kind=kind,
        backgrounds=tuple(corrections.levels.tolist()),
        corrections=tuple(corrections.values.tolist()),
        unmatched=corrections.unmatched,
    )


def _shares(sources: Sequence[Placed], masks: Sequence[Masked | None], threads: int) -> list[float]:
    """Count what is left out of each exposure, on the part that lies on the target."""

    def count(first: int, last: int) -> float:
        return _share(sources[first], masks[first])

    each = [(index, index + 1) for index in range(len(sources))]
    return over_bands(each, lambda: count, threads=threads)


def _share(source: Placed, masked: Masked | None) -> float:
    if masked is None:
        return 0.0
    (low, high), (left, right) = source.overlap.other_rows, source.overlap.other_columns
    bands = ((low + start, low + stop) for start, stop in split(high - low, ROWS_A_BAND))
    left_out = sum(int(np.count_nonzero(masked(*rows)[:, left:right])) for rows in bands)
    return left_out / ((high - low) * (right - left))


def match_to_target(
    target: Placed, background: Average, levels: SkyLevels, *, in_place: bool = False
) -> tuple[Average, SkyLevels]:
    """Bring a combined background to its target's own sky.

    Neither argument is changed; but with `in_place`, for who has no other use of it, the planes of
    the background are, as many as it has. Where the two have no sky that can be compared the
    background stays, and the correction is NaN.
    """
    found = match_target(target, background, levels.kind)
    told = replace(
        levels,
        target=found.target,
        combined=found.combined,
        target_correction=found.value,
    )
    if not math.isfinite(found.value):
        return background, told
    value = np.float32(found.value)
    if levels.kind == SCALE:
        return _scaled(background, value, in_place), told
    plane = background.sci
    return replace(background, sci=np.add(plane, value, out=plane if in_place else None)), told


def _scaled(background: Average, value: np.float32, in_place: bool) -> Average:
    """Multiply a background, its uncertainty and, where it has them, its variances."""

    def times(plane: FloatImage, factor: np.float32) -> FloatImage:
        return np.multiply(plane, factor, out=plane if in_place and plane.flags.writeable else None)

    sci = times(background.sci, value)
    if isinstance(background, UnkeptBackground):
        return replace(background, sci=sci, errors=times(background.errors, value))
    variances = background.variances
    if variances is not None:
        parts = {name: part for name, part in vars(variances).items() if part is not None}
        square = np.square(value)
        variances = replace(variances, **{k: times(part, square) for k, part in parts.items()})
    return replace(background, sci=sci, err=times(background.err, value), variances=variances)
