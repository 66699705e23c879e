"""Segments: a long time series comes in several files, which one fit is to serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from webbkg.errors import InputError
from webbkg.files.exposures import ExposureInfo, read_meta
from webbkg.results import Status


def exposure_of(info: ExposureInfo) -> tuple[Any, ...]:
    """Tell what all segments of one exposure, and no product of another kind, have in common."""
    return (info.product, *info.exposure)


def check_segments(models: Sequence[Any], allow_repeat: bool) -> None:
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
