"""Whether a subtraction, or a fit, came to something."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The value of ``meta.cal_step.bkg_subtract`` (keyword S_BKDSUB)."""

    COMPLETE = "COMPLETE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
