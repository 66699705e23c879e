"""Numbers of results as rows of tables: a label and a value each, as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Rows = Iterator[tuple[str, str]]


def leaves(tree: Mapping[str, Any], above: str = "") -> Rows:
    """Give the values of a tree by their dotted names."""
    for name, value in tree.items():
        label = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{label}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value):
                yield from leaves(one, f"{label}[{number}].")
        elif isinstance(value, list):
            yield label, ", ".join(map(in_words, value))
        else:
            yield label, in_words(value)


def in_words(value: Any) -> str:
    """Write a plain value for a person to read."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else str(value)


def as_number(value: Any) -> float:
    """Take a number that a record may have written as a word; NaN of what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
