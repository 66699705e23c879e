"""What all results are: they compare, print and show themselves."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from enum import StrEnum
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

REPR_WIDTH = 88
"""Characters of a repr beyond which each field has a line of its own."""

MOST_TOLD = 4
"""Members of a tuple that a repr tells."""


class Frozen:
    """Base of the results: they compare by value, NaN and arrays too, and print in a few lines."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(value, vars(other)[name]) for name, value in vars(self).items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = [f"{name}={_tell(value)}" for name, value in self._told().items()]
        line = f"{type(self).__name__}({', '.join(told)})"
        if len(line) <= REPR_WIDTH:
            return line
        return "\n".join([f"{type(self).__name__}(", *(f"    {one}," for one in told), ")"])

    def _told(self) -> dict[str, Any]:
        """Give what is set to something other than its default."""
        default = {one.name: one.default for one in fields(self) if one.default is not MISSING}  # type: ignore[arg-type]
        return {
            name: value
            for name, value in vars(self).items()
            if name not in default or not _same(value, default[name])
        }


class Shown(Frozen):
    """Base of the results that a notebook shows as a table, and that can be drawn."""

    def _repr_html_(self) -> str:
        return str(_display().as_html(self))

    def plot(self, axes: Any = None) -> Any:
        """Draw what there is to see of it.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to; by default a new figure's.

        Returns
        -------
        matplotlib.axes.Axes
            That was drawn on.

        Raises
        ------
        MissingExtraError
            Without Matplotlib, which the extra ``report`` installs.
        """
        return _display().plot(self, axes)


def _display() -> ModuleType:
    """Open the room that shows results; by its name, as results know of nothing above them."""
    return import_module("webbkg.report.notebook")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_array(one, other)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)


def _same_array(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one.dtype != other.dtype:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _tell(value: Any) -> str:
    """Write a value in a line: of an array its type and shape, of what is long its beginning."""
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {'x'.join(map(str, value.shape))}>"
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Frozen):
        line = repr(value)
        return line if "\n" not in line else f"{type(value).__name__}(...)"
    if isinstance(value, str) and len(value) > REPR_WIDTH:
        return repr(f"{value[:REPR_WIDTH]}...")
    if isinstance(value, tuple):
        told = ", ".join(map(_tell, value[:MOST_TOLD]))
        more = f", ... {len(value)} in all" if len(value) > MOST_TOLD else ""
        short = len(told) <= REPR_WIDTH
        return f"({told}{more})" if short else f"({len(value)} of {type(value[0]).__name__})"
    return f"{value:.7g}" if isinstance(value, float) else repr(value)
