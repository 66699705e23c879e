"""The presets: what one word sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webbkg.errors import OptionError

PRESETS: dict[str, dict[str, Any]] = {
    "robust": {
        "propagate_errors": True,
        "dq_threshold": 0.51,  # the majority: of two backgrounds both
        "drop_mismatched": True,
        "clip_noise": "model",
        "match_background": "scale",
        "mask_sources": True,
        "wfss_method": "robust",
        "wfss_mask_from": "auto",
        "soss_method": "robust",
        "soss_model": "auto",
    },
}
"""What each preset sets, by the names of the parameters; a line is all that a new one needs.

A parameter that stands here is None in the step unless the user gives it, so that what is given
wins over the preset; without a preset the default of its field holds.
"""


def preset_values(name: str | None) -> Mapping[str, Any]:
    """Tell what a preset sets, by the names of the parameters; None sets nothing.

    Raises
    ------
    OptionError
        If there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise OptionError(f"preset must be one of {', '.join(PRESETS)} (got {name!r})")
    return {} if name is None else PRESETS[name]
