"""Numbers and plain values as they are written down, whatever they are of."""

from __future__ import annotations

import math
from typing import Any

from webbkg.results import ScaleFit, SideFit

Details = dict[str, Any]


def in_unit(value: str, unit: str) -> str:
    """Put a unit behind a value, if it has one."""
    return f"{value} {unit}".rstrip()


def share(part: int, whole: int) -> str:
    """Tell a number and what share of a whole it is.

    Examples
    --------
    >>> share(1200, 48000)
    '1,200 (2.5 %)'
    """
    return f"{part:,} ({100 * part / whole:.3g} %)" if whole else f"{part:,} of none"


def scale_of(fit: ScaleFit | SideFit) -> str:
    """Tell the scale of a template."""
    return f"{fit.scale:.6g} ± {fit.scale_err:.2g} times the template"


def plain(value: Any) -> Any:
    """Write None and what is not finite as a word: YAML would drop the one and JSON the other."""
    if value is None:
        return "None"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def plain_values(**values: Any) -> Details:
    """Make each value `plain`."""
    return {name: plain(value) for name, value in values.items()}
