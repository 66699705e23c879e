"""What the values of parameters must fulfil."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from webbkg.errors import OptionError

Check = tuple[Callable[[Any], bool], str]
"""What a value must pass, and in words what that is."""


def is_number(value: Any) -> bool:
    """Tell a number, infinite perhaps, from anything else and from NaN."""
    return isinstance(value, (int, float)) and not math.isnan(value)


def is_threshold(value: Any) -> bool:
    """Tell whether it is a number of at least 0."""
    return is_number(value) and value >= 0


def is_percentage(value: Any) -> bool:
    """Tell whether it is a number from 0 to 100."""
    return is_number(value) and 0 <= value <= 100


THRESHOLD: Check = (is_threshold, "a number of at least 0")
PERCENTAGE: Check = (is_percentage, "a number from 0 to 100")
FRACTION: Check = (lambda value: is_threshold(value) and value <= 1, "a number from 0 to 1")
LENGTH: Check = (
    lambda value: is_number(value) and 0 < value < math.inf,
    "a number of pixels above 0",
)


def check_is_text(given: Any, parameter: str) -> None:
    """Refuse what is no text, an image above all where the name of its file is wanted."""
    shape = getattr(given, "shape", None)
    if shape is not None:
        raise OptionError(
            f"{parameter} must be a list of texts (got a {type(given).__name__} of shape "
            f"{tuple(shape)}); save it to a file, and give the name of that"
        )
    if not isinstance(given, str | os.PathLike):
        raise OptionError(f"{parameter} must be a list of texts (got {given!r})")


def as_names(given: Any, parameter: str) -> tuple[str, ...] | None:
    """Take names one by one, or with commas between them; None for none."""
    listed = list(given or ()) if isinstance(given, list | tuple | None) else [given]
    for one in listed:
        check_is_text(one, parameter)
    names = [name.strip() for one in listed for name in os.fspath(one).split(",")]
    return tuple(filter(None, names)) or None
