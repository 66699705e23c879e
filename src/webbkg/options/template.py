"""Templates of the user's own: their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from webbkg.errors import OptionError
from webbkg.options.checks import LENGTH, THRESHOLD, Check, as_names
from webbkg.options.table import Options, declare

TEMPLATE_SKIES = ("none", "level", "plane", "curved")
TEMPLATE_SKY: Check = (TEMPLATE_SKIES.__contains__, f"one of {', '.join(TEMPLATE_SKIES)}")


@dataclass(frozen=True, kw_only=True)
class TemplateOptions(Options):
    """Templates of the user's own, scaled and subtracted where nothing else tells the background.

    Attributes
    ----------
    template : tuple of str, or None
        Files with sky images: reference backgrounds, or bare images (FITS, NumPy); a
        comma-separated string too. Several are fitted together, none with a negative scale.
    template_region : tuple of int, or None
        Where they are fitted: first and last column and row, x1, x2, y1, y2, pixels of the detector
        from 1, all included, as SUBSTRT1 counts; a comma-separated string too. They are subtracted
        everywhere.
    template_sky : str
        The even sky that is fitted beside them: ``none``, ``level``, ``plane`` (that and its slopes)
        or ``curved`` (that and its curvature).
    template_subtract_sky : bool
        Whether it is subtracted too; else it stays.
    flat_error : float
        Standard deviation of what the flat field errs by, as a fraction of the light.
    flat_length : float
        Distance at which the correlation of these errors falls to 1/e (pixels).
    """

    mode: ClassVar[str] = "template"
    template: tuple[str, ...] | None = declare(
        None,
        "force_list",
        "Sky images to scale and subtract, such as wisps; several are fitted together",
    )
    template_region: tuple[int, int, int, int] | None = declare(
        None,
        "int_list(min=4, max=4)",
        "Fit them in x1, x2, y1, y2 alone (detector pixels from 1), and subtract everywhere",
    )
    template_sky: str = declare(
        "curved",
        "option('none', 'level', 'plane', 'curved')",
        "Even sky that is fitted beside them: none, level, plane or curved",
        check=TEMPLATE_SKY,
    )
    template_subtract_sky: bool = declare(
        False, "boolean", "Subtract that sky too; by default it stays"
    )
    flat_error: float = declare(
        0.0,
        "float",
        "WFSS too: error of the flat field (a fraction), which enters the errors of scales",
        check=THRESHOLD,
    )
    flat_length: float = declare(
        100.0,
        "float",
        "WFSS too: distance at which the flat's errors are no longer alike (pixels)",
        check=LENGTH,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = as_names(self.template, "template")
        if names is None and self.template is not None:
            raise OptionError(f"template must name at least one file (got {self.template!r})")
        object.__setattr__(self, "template", names)
        object.__setattr__(self, "template_region", _as_region(self.template_region))


def _as_region(given: Any) -> tuple[int, int, int, int] | None:
    """Take x1, x2, y1, y2 from numbers or from a text with commas."""
    if given is None:
        return None
    parts = given.split(",") if isinstance(given, str) else given
    try:
        x1, x2, y1, y2 = (int(str(part)) for part in parts)
    except (TypeError, ValueError):
        x1, x2, y1, y2 = 0, 0, 0, 0
    if not (1 <= x1 <= x2 and 1 <= y1 <= y2):
        raise OptionError(
            "template_region must be x1,x2,y1,y2: whole numbers from 1, pixels of the detector, the "
            f"first not above the second (got {given!r})"
        )
    return x1, x2, y1, y2
