"""Segments: a long time series comes in several files, which one fit is to serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webbkg.errors import InputError
from webbkg.files.exposures import ExposureInfo, read_meta
from webbkg.files.fits import read_header
from webbkg.modes import is_soss
from webbkg.results import Status

_IDENTITY = {
    "PROGRAM": "meta.observation.program_number",
    "OBSERVTN": "meta.observation.observation_number",
    "VISIT": "meta.observation.visit_number",
    "VISITGRP": "meta.observation.visit_group",
    "ACT_ID": "meta.observation.activity_id",
    "EXPOSURE": "meta.observation.exposure_number",
    "DETECTOR": "meta.instrument.detector",
}
"""What all segments of one exposure have in common: keyword and metadata."""


def are_segments(targets: Sequence[Any]) -> bool:
    """Tell whether targets (paths or open models) are several SOSS segments of one exposure.

    What the headers do not say is taken to agree.
    """
    if len(targets) < 2:
        return False
    seen = [_describe(target) for target in targets]
    return all(is_soss(kind) for kind, _ in seen) and len({identity for _, identity in seen}) == 1


def _describe(target: Any) -> tuple[str | None, tuple[Any, ...]]:
    """Return the exposure type, and what identifies the exposure."""
    if not isinstance(target, Path) or target.suffix == ".asdf":
        if isinstance(target, Path):
            return None, ()
        kind = ExposureInfo.from_model(target).exposure_type
        return kind, tuple(read_meta(target, path) for path in _IDENTITY.values())
    header = read_header(target)
    return header.text("EXP_TYPE"), tuple(header.get(keyword) for keyword in _IDENTITY)


def check_segments(models: Sequence[Any], *, allow_repeat: bool) -> None:
    """Refuse segments of which only some are background-subtracted already.

    Raises
    ------
    InputError
        Naming them.
    """
    done = [
        str(read_meta(model, "meta.filename"))
        for model in models
        if read_meta(model, "meta.cal_step.bkg_subtract") == Status.COMPLETE
    ]
    if done and len(done) < len(models) and not allow_repeat:
        raise InputError(
            f"{', '.join(done)}: background-subtracted already, unlike the other segments, so "
            "that they cannot be fitted together; give them as they were before"
        )
