"""Image from image: gather the background exposures and average them on the target's window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import MismatchError
from webbkg.files.exposures import Exposure
from webbkg.files.pool import FilePool
from webbkg.image.average import average_exposures, largest_deviation
from webbkg.modes import Request, Services, Target
from webbkg.numerics.planes import Placed
from webbkg.options import GRATING_TILT_TOLERANCE, ImageOptions
from webbkg.results import CombinedBackground, ImageResult, Outcome, Status


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
        errors = request.keep_background
        background = _combine(gathered, target.place.shape, options, services, errors)
    return Outcome(
        status=Status.COMPLETE,
        background=background,
        result=_result(background, gathered.names, options),
        warnings=(*gathered.warnings, *_too_few(len(gathered.names), options)),
    )


def _combine(
    gathered: _Gathered,
    shape: tuple[int, int],
    options: ImageOptions,
    services: Services,
    errors: bool,
) -> CombinedBackground:
    """Average the exposures, unless the target before had the same ones in the same places."""

    def average() -> CombinedBackground:
        return average_exposures(
            gathered.placed, shape, options, errors=errors, progress=services.progress
        )

    if services.shared is None:
        return average()
    places = tuple(placed.overlap for placed in gathered.placed)
    return services.shared.get((gathered.sources, places, shape, options, errors), average)


def _skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, reason=reason)


@dataclass(frozen=True)
class _Gathered:
    """The exposures that are averaged, and what the user should know of the others."""

    names: tuple[str, ...]
    sources: tuple[Any, ...]
    placed: list[Placed]
    warnings: tuple[str, ...]


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
    pairs = [(exposure.name, exposure.placed_on(target.place)) for exposure in chosen]
    placed = {name: place for name, place in pairs if place is not None}
    if not placed:
        return f"no background shares a pixel with {target.name} ({target.window})"
    outside = [name for name, place in pairs if place is None]
    if outside:
        warnings.append(f"{', '.join(outside)}: no pixel in common with {target.name}, left out")
    return _Gathered(
        tuple(name for name, place in pairs if place is not None),
        tuple(exposure.path or exposure.model for exposure in chosen),
        [place for _, place in pairs if place is not None],
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
    if exposures > 1 and options.sigma > most and options.clip_noise == "sample":
        yield (
            f"{exposures} backgrounds are too few to reject anything at sigma = "
            f"{options.sigma:g}: no sample can lie further from the median than "
            f"{most:.2f} standard deviations; "
            "cosmic rays and sources in them stay in their average (clip_noise = model can)"
        )


def _result(
    background: CombinedBackground, names: tuple[str, ...], options: ImageOptions
) -> ImageResult:
    covered = background.covered
    return ImageResult(
        options=options,
        backgrounds=names,
        exposures=background.exposures,
        integrations=background.integrations,
        pixels=int(covered.size),
        pixels_uncovered=int(covered.size - np.count_nonzero(covered)),
        pixels_unknown=int(np.count_nonzero(covered & (background.counts == 0))),
    )
