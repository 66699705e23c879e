"""Image from image: gather the background exposures and average them on the target's window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import InputError, MismatchError, OptionError
from webbkg.files.associations import find_file
from webbkg.files.exposures import Exposure
from webbkg.files.masks import read_mask
from webbkg.files.opened import OpenExposures
from webbkg.image.adjusted import PackedPlane
from webbkg.image.average import average_exposures, largest_deviation
from webbkg.image.unkept import NO_LINES, Wanted, average_unkept
from webbkg.image.variance import split_variance
from webbkg.modes import Request, Services, Target
from webbkg.numerics.lines import sampled_lines
from webbkg.numerics.planes import VARIANCES, Overlap, Placed
from webbkg.options import GRATING_TILT_TOLERANCE, ImageOptions
from webbkg.results import (
    Background,
    CombinedBackground,
    ImageResult,
    Outcome,
    Propagated,
    SkyLevels,
    Status,
    UnkeptBackground,
    Verdict,
)

NONE_LEFT = "no background is left"

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
    with ExitStack() as own:
        opened = services.shared.one(OpenExposures) if services.shared else None
        opened = opened or own.enter_context(closing(OpenExposures()))
        exposures = opened.get(request.backgrounds, VARIANCES if request.propagate_errors else ())
        gathered = _gather(target, exposures, drop=options.drop_mismatched)
        if gathered.reason:
            return _skipped(gathered.reason, gathered.verdicts)
        masks = _masks(exposures, gathered.exposures, options, request)
        combined = _combine(gathered, masks, target, options, services, _wanted(target, request))
        combined = _match(combined, target, in_place=services.shared is None)
    return Outcome(
        status=Status.COMPLETE,
        background=combined.background,
        result=_result(combined, gathered.names, options),
        verdicts=gathered.verdicts,
        propagated=Propagated() if request.propagate_errors else None,
        warnings=(
            *gathered.warnings,
            *_too_few(len(gathered.names), options),
            *_unmatched(combined, target.name, gathered.names, options),
            *_unknown_errors(combined.background),
        ),
    )


def _wanted(target: Target, request: Request) -> Wanted:
    """Tell what of the average a request has a use for."""
    if request.keep_background or request.propagate_errors:
        return Wanted(whole=True, variances=request.propagate_errors)
    *integrations, rows, columns = target.shape
    lines = sampled_lines((math.prod(integrations), rows, columns))
    looked_at = request.metrics or request.report
    return Wanted(counts=request.report, lines=lines if looked_at else NO_LINES)


@dataclass(frozen=True)
class Combination:
    """What an average depends on: of two that are equal the averages are the same.

    Attributes
    ----------
    sources : tuple of Path or data model
        The exposures.
    places : tuple of Overlap
        Where each lies on the target.
    shape : (rows, columns)
        Of the target.
    options : ImageOptions
        How they are averaged.
    wanted : Wanted
        What of the average somebody has a use for: it serves nobody who wants more.
    masks : tuple of Path
        Files of what is left out of them.
    """

    sources: tuple[Any, ...]
    places: tuple[Overlap, ...]
    shape: tuple[int, int]
    options: ImageOptions
    wanted: Wanted
    masks: tuple[Path, ...] = ()

    def serving(self, before: Any) -> Combination:
        """Want what the target before wanted too, if else this is its combination.

        Targets of which one looks at other rows than the next then share one average after all.
        """
        if isinstance(before, Combination) and replace(before, wanted=self.wanted) == self:
            return replace(self, wanted=self.wanted | before.wanted)
        return self


@dataclass(frozen=True)
class Combined:
    """The average of exposures, and what `webbkg.image.prepare.Prepared` tells of them."""

    background: CombinedBackground | UnkeptBackground
    levels: SkyLevels | None = None
    masked: tuple[float, ...] = ()
    uneven: float = 0.0


def _combine(
    gathered: _Gathered,
    masks: Masks,
    target: Target,
    options: ImageOptions,
    services: Services,
    wanted: Wanted,
) -> Combined:
    """Average the exposures, unless the target before had the same ones in the same places."""
    shape, shared = target.place.shape, services.shared
    combination = Combination(
        sources=gathered.sources,
        places=tuple(placed.overlap for placed in gathered.placed),
        shape=shape,
        options=options,
        wanted=wanted,
        masks=tuple(file for file, _ in masks),
    )
    if shared is None:
        return _average(gathered.placed, masks, combination, services)
    combination = combination.serving(shared.key)
    return shared.get(combination, lambda: _average(gathered.placed, masks, combination, services))


def _average(
    exposures: Sequence[Placed], masks: Masks, combination: Combination, services: Services
) -> Combined:
    """Match and mask the exposures as is asked for, and average them."""
    shape, options, wanted = combination.shape, combination.options, combination.wanted
    placed = exposures
    told: tuple[Any, ...] = ()
    if masks or options.mask_sources or options.match_background != "none":
        from webbkg.image.prepare import prepare

        own = [_read_mask(file, exposure) for file, exposure in masks]
        prepared = prepare(placed, shape, options, own)
        placed = prepared.sources
        told = prepared.levels, prepared.masked, prepared.uneven
    if not wanted.whole:
        unkept = average_unkept(placed, shape, options, wanted, progress=services.progress)
        return Combined(unkept, *told)
    combined = average_exposures(placed, shape, options, progress=services.progress)
    if wanted.variances:
        combined = split_variance(combined, exposures)
    return Combined(combined, *told)


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


def _match(combined: Combined, target: Target, *, in_place: bool) -> Combined:
    """Bring the average to the target's own sky, where the exposures' levels were matched.

    `in_place` where no other target may want the average as it is.
    """
    if combined.levels is None:
        return combined
    from webbkg.image.prepare import match_to_target

    with ExitStack() as own:
        planes = target.planes or own.enter_context(_exposure_of(target)).planes
        _, rows, columns = planes.shape
        placed = Placed(planes, Overlap.whole((rows, columns)))
        average, told = combined.background, combined.levels
        background, levels = match_to_target(placed, average, told, in_place=in_place)
    return replace(combined, background=background, levels=levels)


def _exposure_of(target: Target) -> Exposure:
    if target.path is None:
        return Exposure.from_model(target.model)
    return Exposure.from_file(target.path, needed=("SCI", "DQ"))


def _unmatched(
    combined: Combined, target: str, names: Sequence[str], options: ImageOptions
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


def _skipped(reason: str, verdicts: tuple[Verdict, ...] = ()) -> Outcome:
    return Outcome(status=Status.SKIPPED, reason=reason, verdicts=verdicts)


@dataclass(frozen=True)
class _Gathered:
    """The exposures that are averaged, and what the user should know of the others.

    There are none where `reason` says why.
    """

    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    sources: tuple[Any, ...] = ()
    placed: tuple[Placed, ...] = ()
    reason: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the exposures that are averaged."""
        return tuple(one.name for one in self.verdicts if one.used)


@dataclass
class _Candidate:
    """A background exposure on its way through the judgement."""

    exposure: Exposure
    placed: Placed | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What became of it; a note says what is odd about one that is used all the same."""
        told = self.reason or "; ".join(self.notes)
        return Verdict(name=self.exposure.name, used=self.placed is not None, reason=told)

    @property
    def warnings(self) -> list[str]:
        """What the user should know of it."""
        left_out = [f"{self.reason}, left out"] if self.reason else []
        return [f"{self.exposure.name}: {text}" for text in (*self.notes, *left_out)]


def _gather(target: Target, exposures: Sequence[Exposure], *, drop: bool) -> _Gathered:
    """Choose and place the exposures that serve; `drop` those singly that do not fit."""
    candidates = [_Candidate(exposure) for exposure in exposures]
    _leave_out_repeats(target, candidates)
    chosen = [one for one in candidates if not one.reason]
    reason = "" if chosen else NONE_LEFT
    for one in chosen:
        _check_match(target, one, drop=drop)
    tilted = [one for one in chosen if not _same_grating_tilt(target, one.exposure)]
    for one in tilted:
        one.reason = one.reason or (
            "its grating-wheel tilt (GWA_XTIL, GWA_YTIL) differs from the target's or is unknown"
        )
    if tilted and not drop:
        reason = (
            f"the grating-wheel tilt (GWA_XTIL, GWA_YTIL) of {target.name} and of "
            f"{', '.join(one.exposure.name for one in tilted)} differs or is unknown"
        )
    elif chosen:
        reason = _place(target, chosen, drop=drop)
    return _gathered(candidates, reason)


def _gathered(candidates: Sequence[_Candidate], reason: str) -> _Gathered:
    """Put together what was found; a `reason` says why nothing is averaged."""
    if reason:
        for one in candidates:
            one.placed = None
            one.reason = one.reason or "another background does not fit"
    warnings = tuple(text for one in candidates for text in one.warnings)
    verdicts = tuple(one.verdict for one in candidates)
    if reason:
        told = "; ".join(warnings) if reason == NONE_LEFT else ""
        return _Gathered(verdicts, reason=f"{reason}: {told}" if told else reason)
    used = [(one.exposure, one.placed) for one in candidates if one.placed is not None]
    sources = tuple(exposure.path or exposure.model for exposure, _ in used)
    return _Gathered(
        verdicts,
        warnings,
        tuple(exposure for exposure, _ in used),
        sources,
        tuple(placed for _, placed in used),
    )


def _place(target: Target, chosen: Sequence[_Candidate], *, drop: bool) -> str:
    """Place the exposures on the target; say why none is left, if so."""
    left = [one for one in chosen if not one.reason]
    for one in left:
        try:
            one.placed = one.exposure.placed_on(target.place)
        except InputError as error:
            assert target.window is not None  # an unknown window of the target's is an error
            if not drop:
                raise
            one.reason = str(error).removeprefix(f"{one.exposure.name}: ")
            continue
        if one.placed is None:
            one.reason = f"no pixel in common with {target.name}"
    if any(one.placed is not None for one in left):
        return ""
    outside = left and all(one.reason.startswith("no pixel") for one in left)
    return (
        f"no background shares a pixel with {target.name} ({target.window})"
        if outside
        else NONE_LEFT
    )


def _leave_out_repeats(target: Target, candidates: Sequence[_Candidate]) -> None:
    """Leave out the target itself, and what was met before; say so."""
    chosen: list[Exposure] = []
    for one in candidates:
        if _is_target(one.exposure, target):
            one.reason = "is the target itself"
            continue
        twin = next((other for other in chosen if _is_same(one.exposure, other)), None)
        if twin is None:
            chosen.append(one.exposure)
        else:
            one.reason = f"is the same exposure as {twin.name}"


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


def _check_match(target: Target, candidate: _Candidate, *, drop: bool) -> None:
    """Refuse another detector or unit; note another filter or a second subtraction."""
    info = candidate.exposure.info

    def differs(name: str) -> str:
        """Say how a known value differs from the target's; an empty string if it does not."""
        ours, theirs = getattr(target.info, name), getattr(info, name)
        if ours == theirs:
            return ""
        return f"its {name} is {theirs}, that of the target {target.name} is {ours}"

    for name in ("instrument", "detector", "unit"):
        known = None not in (getattr(target.info, name), getattr(info, name))
        if not known or not differs(name):
            continue
        if not drop:
            raise MismatchError(
                f"{candidate.exposure.name}: {differs(name)}; leave it out, or let "
                "drop_mismatched do so"
            )
        candidate.reason = candidate.reason or differs(name)
    for name in ("filter", "pupil", "grating"):
        candidate.notes += filter(None, [differs(name)])
    if info.bkg_subtract == Status.COMPLETE:
        candidate.notes.append("this background is itself background-subtracted already")


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


def _unknown_errors(background: Background) -> Iterator[str]:
    """Warn where the target's uncertainty becomes unknown although its sky is known."""
    if background.variances is None:
        return
    unknown = np.count_nonzero(np.isnan(background.err) & ~np.isnan(background.sci))
    if unknown:
        yield (
            f"in {unknown} pixels a background has no valid ERR, so that the ERR and variances "
            "of the product are NaN there"
        )


def _result(combined: Combined, names: tuple[str, ...], options: ImageOptions) -> ImageResult:
    background = combined.background
    pixels, covered = background.sci.size, background.covered
    uncovered = 0 if background.is_everywhere else pixels - int(np.count_nonzero(covered))
    return ImageResult(
        options=options,
        backgrounds=names,
        exposures=background.exposures,
        integrations=background.integrations,
        pixels=pixels,
        pixels_uncovered=uncovered,
        pixels_unknown=_unknown(background) - uncovered,
        levels=combined.levels,
        masked=combined.masked,
    )


def _unknown(background: CombinedBackground | UnkeptBackground) -> int:
    """Count the pixels without a usable sample, covered or not."""
    if isinstance(background, UnkeptBackground):
        return background.unknown
    return background.counts.size - int(np.count_nonzero(background.counts))
