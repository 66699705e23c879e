"""The table of parameters: how one is declared, judged, taken and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from webbkg.errors import OptionError
from webbkg.options.checks import Check
from webbkg.options.presets import PRESETS, preset_values

Chosen = TypeVar("Chosen", bound="Options")


def declare(
    default: Any, kind: str, text: str, *, check: Check | None = None, unset: Any = ...
) -> Any:
    """Declare a parameter: stpipe's type, one sentence of help, and what its value must fulfil.

    `unset` is the step's default where it is not the field's: it stands for the latter.
    """
    unset = default if unset is ... else unset
    return field(default=default, metadata={"parameter": (kind, text, check, unset)})


@dataclass(frozen=True)
class Parameter:
    """A parameter of the step, the command and a call.

    Attributes
    ----------
    name : str
        As the step has it.
    kind : str
        Its type in stpipe's words, such as ``float`` or ``float_list(min=2, max=2)``.
    default : object
        Of the step.
    stands_for : object
        What holds where it is not given: `default`, or what a default of None stands for.
    text : str
        What it does, in a sentence without its full stop.
    mode : str
        In which it holds: ``image``, ``wfss``, ``soss``, or ``every mode``.
    """

    name: str
    kind: str
    default: Any
    stands_for: Any
    text: str
    mode: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that a parameter of the kind ``option`` may have."""
        kind, _, limits = self.kind.rstrip(")").partition("(")
        return tuple(one.strip(" '\"") for one in limits.split(",")) if kind == "option" else ()

    @property
    def presets(self) -> dict[str, Any]:
        """What the presets set it to, by their names."""
        return {name: sets[self.name] for name, sets in PRESETS.items() if self.name in sets}

    @property
    def specification(self) -> str:
        """The line of an stpipe specification."""
        kind, _, limits = self.kind.partition("(")
        arguments = ", ".join([*filter(None, [limits.rstrip(")")]), f"default={self.default}"])
        return f"{self.name} = {kind}({arguments})  # {self.text}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the frozen options; `prefix` is what the step's names put before the fields'."""

    prefix: ClassVar[str] = ""
    mode: ClassVar[str] = "every mode"

    def __post_init__(self) -> None:
        for one in fields(self):
            self._judge(one)

    def _judge(self, one: Field[Any]) -> None:
        _, _, check, _ = one.metadata.get("parameter", (None, None, None, None))
        value = getattr(self, one.name)
        if check is not None and not check[0](value):
            name = f"{self.prefix}{one.name}"
            raise OptionError(f"{name} must be {check[1]} (got {value!r})")

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """Tell the parameters, by the names of the fields."""
        return {one.name: cls._told(one) for one in fields(cls) if "parameter" in one.metadata}

    @classmethod
    def _told(cls, one: Field[Any]) -> Parameter:
        kind, text, _, unset = one.metadata["parameter"]
        name = f"{cls.prefix}{one.name}"
        unset = None if any(name in sets for sets in PRESETS.values()) else unset
        return Parameter(name, kind, unset, one.default, text, cls.mode)

    @classmethod
    def of(cls: type[Chosen], given: Mapping[str, Any]) -> Chosen:
        """Take from a step's parameters those that are of this class.

        None: what the preset says that ``preset`` names, if there is one; else its default.

        Raises
        ------
        OptionError
            If one lies outside its range.
        """
        given = {**preset_values(given.get("preset")), **_without_none(given)}
        named = {name: given.get(one.name) for name, one in cls.parameters().items()}
        return cls(**{name: value for name, value in named.items() if value is not None})


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
