"""What the pages of the API show: signatures without addresses in memory, and members."""

import dataclasses
import enum
import inspect
import pkgutil
import re
import types
from pathlib import Path

from webbkg.options import Options

FIELDS = "__dataclass_fields__"

LONGEST = 60
"""Characters of a default."""

OVERRIDDEN = {"process"}
"""Shown although stpipe has a method of that name too: it says what the step's arguments may be."""


class Written:
    """Stands in a signature for a default that has no short repr."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def written(default: object) -> object:
    """Give a default as it may stand in a signature: what is long or has an address as dots."""
    if isinstance(default, enum.Enum):
        return Written(f"{type(default).__name__}.{default.name}")
    if isinstance(default, Options) and default == type(default)():
        return Written(f"{type(default).__name__}()")
    told = repr(default)
    return Written("...") if len(told) > LONGEST or " at 0x" in told else default


def plain(thing: object) -> str:
    """Write the signature of a function or a dataclass, without types (the list below has them)."""
    made = inspect.signature(thing)
    fresh = {one.name: one.default_factory for one in getattr(thing, FIELDS, {}).values()}
    parameters = []
    for name, one in made.parameters.items():
        factory = fresh.get(name, dataclasses.MISSING)
        default = one.default if factory is dataclasses.MISSING else factory()
        parameters.append(one.replace(annotation=one.empty, default=written(default)))
    return str(made.replace(parameters=parameters, return_annotation=made.empty))


def give(app, what, name, thing, *_):
    """Answer autodoc, which asks for the signature of each thing that it documents."""
    if dataclasses.is_dataclass(thing) or (what == "function" and inspect.isfunction(thing)):
        return plain(thing), None
    return None


def members_of(name: str) -> list[str]:
    """List what a page of a class shows of it: methods and properties of webbkg's own.

    The fields of a dataclass stand in its docstring, with their shapes and units.
    """
    kind = pkgutil.resolve_name(name)
    if issubclass(kind, enum.Enum):
        return list(kind.__members__)
    homes = [one for one in kind.__mro__ if one.__module__.startswith("webbkg")]
    others = [one for one in kind.__mro__ if one not in homes]
    found = dict.fromkeys(name for home in homes for name in vars(home) if name[0] != "_")
    return [
        name
        for name in found
        if is_way_in(inspect.getattr_static(kind, name))
        and (name in OVERRIDDEN or not any(name in vars(other) for other in others))
    ]


def is_way_in(member: object) -> bool:
    """Tell whether a member is a method or a property with a docstring."""
    kinds = (types.FunctionType, classmethod, staticmethod, property)
    return isinstance(member, kinds) and bool(member.__doc__)


def classes_in(page: Path) -> dict[str, str]:
    """Find the classes that a page lists, by the names that docstrings call them by."""
    listed = re.findall(r"^   ((?:\w+\.)*([A-Z]\w+))$", page.read_text(), re.M)
    return {short: f"webbkg.{name}" for name, short in listed}
