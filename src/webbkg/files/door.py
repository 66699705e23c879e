"""The door that every file passes: what it may be, and how its faults are told.

Behind a door are libraries (astropy, asdf, PyYAML, gwcs, jsonschema) whose errors on damaged or
hostile bytes are open-ended. They are met here, in `reading`, and nowhere else.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from webbkg.errors import InputError, MissingFileError, WebbkgError

_LONGEST_REASON = 300


def exists(path: Path) -> bool:
    """Tell whether a path names anything; a name that no file can have does not."""
    try:
        path.stat()
    except (OSError, ValueError):  # absent, too long, or with a null character
        return False
    return True


def regular_file(path: str | os.PathLike[str], role: str = "", wanted: str = "a file") -> Path:
    """Refuse what cannot be read as a file, before it is opened: opening a pipe may wait for ever.

    Parameters
    ----------
    path : path
        What was named.
    role : str
        What it was named as, such as ``wfss_mask``; put before the path in an error.
    wanted : str
        What should have been named.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is a folder, a device, a pipe or a socket, or cannot be looked at.
    """
    path = Path(path)
    name = f"{role}: {path}" if role else str(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            leads = os.readlink(path)  # noqa: PTH115 - as it is written
            raise MissingFileError(
                f"{name}: is a link to {leads}, which is not there; mend or remove it"
            ) from error
        raise MissingFileError(
            f"{name}: no such file; check the name and the folder{did_you_mean(path)}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be looked at ({brief(error)})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{name}: is a folder; name {wanted}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: is a device or a pipe; name {wanted}")
    return path


MOST_NAMES = 10_000
"""Names of a folder among which one like a missing file's is looked for."""


def did_you_mean(*missing: Path) -> str:
    """Suggest a file whose name is near that of a missing one, in its folder; or nothing.

    The answer is to be put behind a sentence: it is empty, or begins with a semicolon.
    """
    from difflib import get_close_matches

    for path in missing:
        try:
            with os.scandir(path.parent) as entries:
                names = [entry.name for entry in islice(entries, MOST_NAMES)]
            names = [name for name in names if name != path.name]  # a link to nothing
        except (OSError, ValueError):  # no folder either, or none that can be looked into
            continue
        for near in get_close_matches(path.name, names, n=1, cutoff=0.8):
            return f"; did you mean {brief(ValueError(path.with_name(near)))}?"
    return ""


@contextmanager
def reading(
    name: object, fault: str = "cannot be read", *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what is raised while a file is read into an InputError that names it.

    Parameters
    ----------
    name : path or str
        Of the file.
    fault : str
        What could not be done.
    passing : tuple of exception types
        What is met elsewhere.
    """
    try:
        yield
    except WebbkgError:
        raise
    # Blanket on purpose: hostile bytes make the libraries behind the door raise nearly anything,
    # MemoryError and RecursionError included.
    except Exception as error:
        if isinstance(error, passing):
            raise
        raise InputError(f"{name}: {fault} ({brief(error)})") from error


def brief(error: BaseException) -> str:
    """Say in one short line what an error says; a file's own bytes may be quoted in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter for letter in text if letter.isprintable())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"


def as_text(value: Any, name: str, keyword: str) -> str | None:
    """Return a value that is to be text; None stays None.

    Raises
    ------
    InputError
        Naming file, keyword and value, if it is something else.
    """
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    raise _wrong(name, keyword, value, "text")


def as_label(value: Any, _name: str, _keyword: str) -> str | None:
    """Return a value that only ever is compared, as text; None stays None."""
    return None if value is None else str(value)


def as_number(value: Any, name: str, keyword: str) -> float | None:
    """Return a value that is to be a real number, finite or not; see `as_text`."""
    number = getattr(value, "item", lambda: value)()  # of NumPy
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _wrong(name, keyword, value, "a number")
    if isinstance(number, int) and abs(number) >= 2**63:
        raise _wrong(name, keyword, value, "a number of at most 63 bits")
    return float(number)


def as_integer(value: Any, name: str, keyword: str) -> int | None:
    """Return a value that is to be an integer, if need be as 1.0; see `as_text`."""
    number = as_number(value, name, keyword)
    if number is None:
        return None
    if not math.isfinite(number) or number != round(number) or abs(number) >= 2**63:
        raise _wrong(name, keyword, value, "an integer")
    return int(value)


def _wrong(name: str, keyword: str, value: Any, wanted: str) -> InputError:
    shown = brief(ValueError(repr(value)))
    return InputError(f"{name}: {keyword} must be {wanted} (got {shown}); correct it")
