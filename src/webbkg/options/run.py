"""Parameters of every mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webbkg.options.presets import PRESETS
from webbkg.options.table import Options, declare


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What holds in every mode."""

    preset: str | None = declare(
        None,
        f"option({', '.join(map(repr, PRESETS))})",
        "Switch on what the figures recommend; what you give yourself wins over it",
    )
    bkg_list: Any = declare(
        None,
        "force_list",
        "Background exposures; an association's members and a second argument win over it",
    )
    save_combined_background: bool = declare(
        False, "boolean", "Save the averaged background exposures"
    )
    allow_repeat: bool = declare(False, "boolean", "Subtract again from what is already subtracted")
    save_background: bool = declare(
        False, "boolean", "Save what was subtracted, with its uncertainty"
    )
    propagate_errors: bool = declare(
        False, "boolean", "Add the background's variance to the target's ERR and variances"
    )
    save_report: bool = declare(
        False, "boolean", "Write a page with pictures and numbers of each subtraction"
    )
    skip_metrics: bool = declare(
        False, "boolean", "Do not measure how good each subtraction is: good, look or bad"
    )
    metric_limits: Any = declare(
        None,
        "force_list",
        "Limits of metrics that differ from the table's, such as sky_level=0.2:1",
    )
