"""Image from image: gather the background exposures and average them on the target's window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import MismatchError, OptionError
from webbkg.files.associations import find_file
from webbkg.files.exposures import Exposure
from webbkg.files.masks import read_mask
from webbkg.files.pool import FilePool
from webbkg.image.adjusted import PackedPlane
from webbkg.image.average import average_exposures, largest_deviation
from webbkg.modes import Request, Services, Target
from webbkg.numerics.planes import Overlap, Placed
from webbkg.options import GRATING_TILT_TOLERANCE, ImageOptions
from webbkg.results import CombinedBackground, ImageResult, Outcome, SkyLevels, Status

UNEVEN = 0.02
"""Levels of backgrounds that are further apart, as a share, are warned of where masks are used."""


def measure(target: Target, request: Request, services: Services) -> Outcome:
    """Average the background exposures of a request on the target's window.

    Returns
    -------
    Outcome
        SKIPPED if there are none, none overlaps, or a NIRSpec grating tilt differs.

    Raises
    ------
    InputError
        If a background cannot be read.
    MismatchError
        If one is of another instrument or detector, or in another unit.
    """
    if not request.backgrounds:
        return _skipped("no background exposures were given")
    options = request.options_as(ImageOptions)
    with FilePool() as pool:
        exposures = [_open(item, pool) for item in request.backgrounds]
        gathered = _gather(target, exposures)
        if isinstance(gathered, str):
            return _skipped(gathered)
        masks = _masks(exposures, gathered.exposures, options, request)
        errors = request.keep_background
        combined = _combine(gathered, masks, target.place.shape, options, services, errors)
        combined = _match(combined, target, pool)
    return Outcome(
        status=Status.COMPLETE,
        background=combined.background,
        result=_result(combined, gathered.names, options),
        warnings=(
            *gathered.warnings,
            *_too_few(len(gathered.names), options),
            *_unmatched(combined, target.name, gathered.names, options),
        ),
    )


@dataclass(frozen=True)
class _Combined:
    """The average of exposures, and what `webbkg.image.prepare.Prepared` tells of them."""

    background: CombinedBackground
    levels: SkyLevels | None = None
    masked: tuple[float, ...] = ()
    uneven: float = 0.0


def _combine(
    gathered: _Gathered,
    masks: Masks,
    shape: tuple[int, int],
    options: ImageOptions,
    services: Services,
    errors: bool,
) -> _Combined:
    """Average the exposures, unless the target before had the same ones in the same places."""

    def average() -> _Combined:
        placed: Sequence[Placed] = gathered.placed
        told: tuple[Any, ...] = ()
        if masks or options.mask_sources or options.match_background != "none":
            from webbkg.image.prepare import prepare

            own = [_read_mask(file, exposure) for file, exposure in masks]
            prepared = prepare(placed, shape, options, own)
            placed = prepared.sources
            told = prepared.levels, prepared.masked, prepared.uneven
        background = average_exposures(
            placed, shape, options, errors=errors, progress=services.progress
        )
        return _Combined(background, *told)

    if services.shared is None:
        return average()
    places = tuple(placed.overlap for placed in gathered.placed)
    files = tuple(file for file, _ in masks)
    key = (gathered.sources, places, shape, options, errors, files)
    return services.shared.get(key, average)


Masks = Sequence[tuple[Path, Exposure]]
"""The file of each exposure's own mask; empty for none."""


def _masks(
    opened: Sequence[Exposure],
    chosen: Sequence[Exposure],
    options: ImageOptions,
    request: Request,
) -> Masks:
    """Find the files of `source_mask`: one for each background that was given, or one for all."""
    names = options.source_mask
    if names is None:
        return ()
    if len(names) not in (1, len(opened)):
        raise OptionError(
            f"source_mask must name one file, or one for each of the {len(opened)} backgrounds "
            f"(got {len(names)})"
        )
    folders = [Path(), *request.folders]
    files = [find_file(name, folders, "source_mask") for name in names]
    return [(files[opened.index(one) % len(files)], one) for one in chosen]


def _read_mask(file: Path, exposure: Exposure) -> PackedPlane:
    """Read what is to be left out, True where source."""
    return PackedPlane(~read_mask(file, exposure.shape, exposure.name, "source_mask"))


def _match(combined: _Combined, target: Target, pool: FilePool) -> _Combined:
    """Bring the average to the target's own sky, where the exposures' levels were matched."""
    if combined.levels is None:
        return combined
    from webbkg.image.prepare import match_to_target

    if target.path is not None:
        exposure = Exposure.from_file(target.path, pool, needed=("SCI", "DQ"))
    else:
        exposure = Exposure.from_model(target.model)
    placed = Placed(exposure.planes, Overlap.whole(exposure.shape))
    background, levels = match_to_target(placed, combined.background, combined.levels)
    return replace(combined, background=background, levels=levels)


def _unmatched(
    combined: _Combined, target: str, names: Sequence[str], options: ImageOptions
) -> Iterator[str]:
    """Warn of what was asked for and could not be done."""
    if options.mask_sources and len(names) < 2:
        yield (
            f"{names[0]}: sources are found against other backgrounds, and there is none: nothing "
            "is left out (mask_sources)"
        )
    if combined.uneven > UNEVEN:
        yield (
            f"the sky levels of the backgrounds are {100 * combined.uneven:.2g} % apart: what is "
            "left out as source leaves steps; match_background = scale (or offset) mends that"
        )
    if combined.levels is None:
        return
    way_out = "; offset needs none above 0" if options.match_background == "scale" else ""
    unknown = f"no sky to compare (match_background = {options.match_background}{way_out})"
    for index in combined.levels.unmatched:
        yield f"{names[index]}: its level stays as it is, it shares with the others {unknown}"
    if math.isnan(combined.levels.target_correction):
        yield f"{target}: the background is not matched to its level, they share {unknown}"


def _skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, reason=reason)


@dataclass(frozen=True)
class _Gathered:
    """The exposures that are averaged, and what the user should know of the others."""

    exposures: tuple[Exposure, ...]
    sources: tuple[Any, ...]
    placed: list[Placed]
    warnings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the exposures."""
        return tuple(exposure.name for exposure in self.exposures)


def _gather(target: Target, exposures: Sequence[Exposure]) -> _Gathered | str:
    """Choose and place the exposures that serve; where none does, say why."""
    chosen, warnings = _leave_out_repeats(target, exposures)
    if not chosen:
        return f"no background is left: {'; '.join(warnings)}"
    for exposure in chosen:
        warnings += _check_match(target, exposure)
    tilted = [exposure.name for exposure in chosen if not _same_grating_tilt(target, exposure)]
    if tilted:
        return (
            f"the grating-wheel tilt (GWA_XTIL, GWA_YTIL) of {target.name} and of "
            f"{', '.join(tilted)} differs or is unknown"
        )
    pairs = [(exposure, exposure.placed_on(target.place)) for exposure in chosen]
    placed = [(exposure, place) for exposure, place in pairs if place is not None]
    if not placed:
        return f"no background shares a pixel with {target.name} ({target.window})"
    outside = [exposure.name for exposure, place in pairs if place is None]
    if outside:
        warnings.append(f"{', '.join(outside)}: no pixel in common with {target.name}, left out")
    return _Gathered(
        tuple(exposure for exposure, _ in placed),
        tuple(exposure.path or exposure.model for exposure in chosen),
        [place for _, place in placed],
        tuple(warnings),
    )


def _leave_out_repeats(
    target: Target, exposures: Sequence[Exposure]
) -> tuple[list[Exposure], list[str]]:
    """Leave out the target itself, and what was met before; say so."""
    chosen: list[Exposure] = []
    told: list[str] = []
    for exposure in exposures:
        if _is_target(exposure, target):
            told.append(f"{exposure.name}: is the target itself, left out of its backgrounds")
            continue
        twin = next((one for one in chosen if _is_same(exposure, one)), None)
        if twin is None:
            chosen.append(exposure)
        else:
            told.append(f"{exposure.name}: is the same exposure as {twin.name}, left out")
    return chosen, told


def _is_target(exposure: Exposure, target: Target) -> bool:
    if exposure.model is not None and exposure.model is target.model:
        return True
    same_file = _is_same_file(exposure.path, target.path)
    return same_file or _is_same_exposure(exposure, target)


def _is_same(one: Exposure, other: Exposure) -> bool:
    if one.model is not None and one.model is other.model:
        return True
    return _is_same_file(one.path, other.path) or _is_same_exposure(one, other)


def _is_same_exposure(one: Any, other: Any) -> bool:
    return one.info.identity is not None and one.info.identity == other.info.identity


def _is_same_file(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.samefile(other)


def _open(item: Any, pool: FilePool) -> Exposure:
    return Exposure.from_file(item, pool) if isinstance(item, Path) else Exposure.from_model(item)


def _check_match(target: Target, exposure: Exposure) -> list[str]:
    """Refuse another detector or unit; warn of another filter or of a second subtraction."""

    def differs(name: str) -> str:
        """Say how a known value differs from the target's; an empty string if it does not."""
        ours, theirs = getattr(target.info, name), getattr(exposure.info, name)
        if ours == theirs:
            return ""
        return (
            f"{exposure.name}: its {name} is {theirs}, that of the target {target.name} is {ours}"
        )

    for name in ("instrument", "detector", "unit"):
        known = None not in (getattr(target.info, name), getattr(exposure.info, name))
        if known and differs(name):
            raise MismatchError(f"{differs(name)}; leave it out")
    warnings = [differs(name) for name in ("filter", "pupil", "grating") if differs(name)]
    if exposure.info.bkg_subtract == Status.COMPLETE:
        warnings.append(f"{exposure.name}: this background is itself background-subtracted already")
    return warnings


def _same_grating_tilt(target: Target, exposure: Exposure) -> bool:
    """Compare the tilts of NIRSpec's grating wheel; other instruments have none."""
    if target.info.instrument != "NIRSPEC":
        return True
    pairs = (
        (target.info.gwa_xtilt, exposure.info.gwa_xtilt),
        (target.info.gwa_ytilt, exposure.info.gwa_ytilt),
    )
    return all(
        ours is not None
        and theirs is not None
        and math.isfinite(ours)
        and math.isfinite(theirs)
        and abs(ours - theirs) <= GRATING_TILT_TOLERANCE
        for ours, theirs in pairs
    )


def _too_few(exposures: int, options: ImageOptions) -> Iterator[str]:
    """Warn where so few exposures cannot lose a sample by clipping."""
    most = largest_deviation(exposures)
    if exposures > 1 and options.sigma > most:
        yield (
            f"{exposures} backgrounds are too few to reject anything at sigma = "
            f"{options.sigma:g}: no sample can lie further from the median than "
            f"{most:.2f} standard deviations; "
            "cosmic rays and sources in them stay in their average"
        )


def _result(combined: _Combined, names: tuple[str, ...], options: ImageOptions) -> ImageResult:
    background = combined.background
    covered = background.covered
    return ImageResult(
        options=options,
        backgrounds=names,
        exposures=background.exposures,
        integrations=background.integrations,
        pixels=int(covered.size),
        pixels_uncovered=int(covered.size - np.count_nonzero(covered)),
        pixels_unknown=int(np.count_nonzero(covered & (background.counts == 0))),
        levels=combined.levels,
        masked=combined.masked,
    )
