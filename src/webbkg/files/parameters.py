"""The door of parameter files, ASDF or INI, which stpipe reads."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stpipe.exceptions import ValidationError

from webbkg.errors import InputError, OptionError
from webbkg.files import door
from webbkg.files.asdf import check_asdf
from webbkg.options import parameters

LONGEST = 2**20
"""Bytes of a parameter file; those of a whole pipeline have some 20 000."""


def check_parameter_file(named: Any) -> None:
    """Make sure that stpipe can read a parameter file; an open file is left to it.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it cannot be read, or is no parameter file.
    """
    if not isinstance(named, str | os.PathLike):
        return
    path = door.regular_file(named, "config_file", "a parameter file")
    with door.reading(path, "cannot be read as a parameter file"):
        with path.open("rb") as stream:
            is_asdf = stream.read(5) == b"#ASDF"
            length = stream.seek(0, io.SEEK_END)
            if length > LONGEST:
                raise InputError(f"{path}: has more than {LONGEST} bytes; it holds no parameters")
            if is_asdf:
                check_asdf(stream, 0, length, str(path))
        from stpipe.config_parser import load_config_file

        _check_no_mapping(load_config_file(str(path)), str(path))


def _check_no_mapping(told: Mapping[str, Any], name: str) -> None:
    """Refuse a mapping in the place of a value: stpipe takes it for a section of its own."""
    for parameter, value in told.items():
        if not isinstance(value, Mapping):
            continue
        if parameter != "steps":
            raise InputError(f"{name}: {parameter} must be a value (got the mapping {value!r:.60})")
        for step in filter(lambda one: isinstance(one, Mapping), value.values()):
            _check_no_mapping(step, name)


def with_plain_names(told: Mapping[str, Any]) -> dict[str, Any]:
    """Make the texts in lists plain: stpipe's own, from the command line, cannot be saved."""
    return {name: _plain(value) if type(value) is list else value for name, value in told.items()}


def _plain(values: list[Any]) -> list[Any]:
    return [str(one) if isinstance(one, str) else one for one in values]


class ParameterError(OptionError, ValidationError):
    """A parameter of another type or name: stpipe's error and webbkg's in one."""


@contextmanager
def judging() -> Iterator[None]:
    """Turn what stpipe raises for a parameter of another type or name into a ParameterError."""
    try:
        yield
    # SyntaxError: the base of configobj's own, which stpipe has from different places.
    except (ValidationError, SyntaxError, UnicodeError) as error:
        raise ParameterError(_with_choices(door.brief(error))) from error


def _with_choices(told: str) -> str:
    """Add what a parameter that is named in an error may be, where that is one of a few words."""
    for one in parameters().values():
        if one.choices and f"'{one.name}'" in told:
            return f"{told.rstrip('.')}; it must be one of {', '.join(one.choices)}"
    return told
