"""The door of JSON files: of bounded length, every fault told with the file and the place in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webbkg.errors import InputError
from webbkg.files import door


def read_json(
    path: Path,
    role: str,
    kind: str,
    longest: int,
    *,
    wanted: str = "a JSON file",
    too_long: str = "",
    error: type[InputError] = InputError,
    unique: bool = False,
) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        Its name.
    role, wanted : str
        What named it and what it should be, for a file that is not there or is no file.
    kind : str
        What it is read as, with its article.
    longest : int
        Most bytes.
    too_long : str
        What to make of a longer one.
    error : type
        Of the error that is raised.
    unique : bool
        Whether a name must not stand twice in one object.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        As `error`, if it cannot be read, with line and column where it is no JSON.
    """
    door.regular_file(path, role, wanted)
    try:
        with path.open("rb") as stream:
            content = stream.read(longest + 1)
        if len(content) > longest:
            raise error(f"{path}: has more than {longest} bytes; {too_long}")
        pairs = _without_doubles if unique else None
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=pairs)
    except json.JSONDecodeError as fault:
        raise error(
            f"{path}: not valid JSON at line {fault.lineno}, column {fault.colno}: {fault.msg}; "
            "correct it there"
        ) from fault
    except UnicodeDecodeError as fault:
        raise error(f"{path}: not a text file ({fault})") from fault
    except RecursionError as fault:
        raise error(f"{path}: is nested too deep to be {kind}") from fault
    except (OSError, ValueError) as fault:  # ValueError: a number of over 4300 digits, too
        raise error(f"{path}: cannot be read as {kind} ({door.brief(fault)})") from fault


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{door.brief(ValueError(repr(twice)))} stands twice in one object")
    return content
