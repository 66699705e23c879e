"""Image from image: gather the background exposures and average them on the target's window."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import MismatchError
from webbkg.files.exposures import Exposure
from webbkg.files.pool import FilePool
from webbkg.image.average import average_exposures, largest_deviation
from webbkg.modes import Request, Target, share
from webbkg.options import GRATING_TILT_TOLERANCE
from webbkg.results import CombinedBackground, Outcome, SampleCounts, Status


def measure(target: Target, request: Request) -> Outcome:
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
        If one is of another instrument or detector.
    """
    if not request.backgrounds:
        return Outcome(status=Status.SKIPPED, reason="no background exposures were given")
    with FilePool() as pool:
        exposures = [_open(item, pool) for item in request.backgrounds]
        for exposure in exposures:
            _check_match(target, exposure, request)
        tilted = [e.name for e in exposures if not _same_grating_tilt(target, e)]
        if tilted:
            return Outcome(
                status=Status.SKIPPED,
                reason=f"the grating-wheel tilt (GWA_XTIL, GWA_YTIL) of {target.name} and of "
                f"{', '.join(tilted)} differs or is unknown",
            )
        placed = [exposure.placed_on(target.place) for exposure in exposures]
        outside = [e.name for e, p in zip(exposures, placed, strict=True) if p is None]
        if len(outside) == len(exposures):
            return Outcome(
                status=Status.SKIPPED,
                reason=f"no background shares a pixel with {target.name} ({target.window})",
            )
        if outside:
            request.warn(f"{', '.join(outside)}: no pixel in common with {target.name}, left out")
        background = average_exposures(
            [exposure for exposure in placed if exposure is not None],
            target.place.shape,
            request.image,
            progress=request.progress,
        )
        names = [e.name for e, p in zip(exposures, placed, strict=True) if p is not None]
    if len(names) > 1 and request.image.sigma > largest_deviation(len(names)):
        request.warn(
            f"{len(names)} backgrounds are too few to reject anything at sigma = "
            f"{request.image.sigma:g}: no sample can lie further from the median than "
            f"{largest_deviation(len(names)):.2f} standard deviations; "
            "cosmic rays and sources in them stay in their average"
        )
    return Outcome(
        status=Status.COMPLETE,
        background=background,
        details=_details(background, names, request),
        summary=_summary(background, names),
    )


def _open(item: Any, pool: FilePool) -> Exposure:
    return Exposure.from_file(item, pool) if isinstance(item, Path) else Exposure.from_model(item)


def _check_match(target: Target, exposure: Exposure, request: Request) -> None:
    """Refuse another detector; warn of another filter or of a second subtraction."""
    for name in ("instrument", "detector"):
        ours, theirs = getattr(target.info, name), getattr(exposure.info, name)
        if ours is not None and theirs is not None and ours != theirs:
            raise MismatchError(
                f"{exposure.name}: its {name} is {theirs}, that of the target {target.name} is "
                f"{ours}; leave it out"
            )
    for name in ("filter", "pupil", "grating"):
        ours, theirs = getattr(target.info, name), getattr(exposure.info, name)
        if ours != theirs:
            request.warn(
                f"{exposure.name}: its {name} is {theirs}, that of the target {target.name} is "
                f"{ours}"
            )
    if exposure.info.bkg_subtract == Status.COMPLETE:
        request.warn(f"{exposure.name}: this background is itself background-subtracted already")


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


def _details(background: CombinedBackground, names: list[str], request: Request) -> dict[str, Any]:
    unknown = background.covered & (background.counts == 0)
    return {
        "mode": "image",
        "sigma": request.image.sigma,
        "maxiters": "None" if request.image.maxiters is None else request.image.maxiters,
        "backgrounds": names,
        "exposure_samples": _counts(background.exposures),
        "integration_samples": _counts(background.integrations),
        "pixels": int(background.covered.size),
        "pixels_uncovered": int(background.covered.size - np.count_nonzero(background.covered)),
        "pixels_unknown": int(np.count_nonzero(unknown)),
    }


def _summary(background: CombinedBackground, names: list[str]) -> tuple[tuple[str, str], ...]:
    counts = background.exposures + background.integrations
    pixels = background.covered.size
    uncovered = pixels - int(np.count_nonzero(background.covered))
    unknown = int(np.count_nonzero(background.covered & (background.counts == 0)))
    return (
        ("backgrounds", str(len(names))),
        ("samples used", f"{counts.used:,} of {counts.usable:,} usable"),
        ("samples clipped", share(counts.clipped, counts.usable)),
        ("pixels, sky unknown", share(unknown, pixels)),
        ("pixels not covered", share(uncovered, pixels)),
    )


def _counts(counts: SampleCounts) -> dict[str, int]:
    return {"offered": counts.offered, "usable": counts.usable, "clipped": counts.clipped}
