"""What a call of the planner names: exposures, catalogues and associations, in folders too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from webbkg.errors import InputError, MissingFileError
from webbkg.files import door
from webbkg.files.associations import is_association

Given = str | os.PathLike[str]

EXPOSURES = (".fits", ".fits.gz")
CATALOGS = ("cat.ecsv", "cat.ecsv.gz")
"""Endings of what a folder is searched for."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files by what they are, absolute, each once, in the order of their names."""

    exposures: tuple[Path, ...]
    catalogs: tuple[Path, ...]
    associations: tuple[Path, ...]


def find_inputs(given: Given | Iterable[Given]) -> Inputs:
    """Find the files that a call names.

    Parameters
    ----------
    given : path or iterable of paths
        Folders, which are searched with all below them, exposures, catalogues (``.ecsv``) and
        associations (``.json``). What is hidden is passed over, as are associations in folders.

    Raises
    ------
    MissingFileError
        If something that was named is not there.
    InputError
        If nothing was named.
    """
    listed = [given] if isinstance(given, str | os.PathLike) else list(given)
    if not listed:
        raise InputError("nothing to plan; name a folder, exposures or associations")
    found = [one for name in listed for one in _under(_absolute(name))]
    associations = [one for one in found if is_association(one)]
    tables = [one for one in found if one.name.endswith((".ecsv", ".ecsv.gz"))]
    rest = set(found) - {*associations, *tables}
    beside = {one.parent for one in (*rest, *associations)}
    tables += [one for folder in beside for one in _catalogs_in(folder)]
    return Inputs(
        exposures=_each_once(rest),
        catalogs=_each_once(tables),
        associations=_each_once(associations),
    )


def _absolute(name: Given) -> Path:
    path = Path(os.path.abspath(os.path.expanduser(os.path.expandvars(name))))  # noqa: PTH100, PTH111
    if not door.exists(path):
        raise MissingFileError(
            f"{os.fspath(name)}: no such file or folder; check the name{door.did_you_mean(path)}"
        )
    return path


def _under(path: Path) -> Iterator[Path]:
    """Give a file itself, and of a folder what it holds."""
    if not path.is_dir():
        yield path
        return
    seen = {os.path.realpath(path)}
    for folder, below, names in os.walk(path, followlinks=True):
        below[:] = [
            name
            for name in below
            if not name.startswith(".") and _is_new(os.path.join(folder, name), seen)  # noqa: PTH118
        ]
        for name in names:
            if name.lower().endswith((*EXPOSURES, *CATALOGS)) and not name.startswith("."):
                yield Path(folder, name)


def _is_new(folder: str, seen: set[str]) -> bool:
    """Tell whether a folder is to be searched: what links lead to only once, for they may go round."""
    if not os.path.islink(folder):  # noqa: PTH114 - of strings: there may be thousands
        return True
    real = os.path.realpath(folder)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _catalogs_in(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if name.endswith(CATALOGS)]  # noqa: PTH208
    except OSError:
        return []


def _each_once(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Sort files by name, and drop further names of the same file."""
    folders: dict[str, str] = {}
    kept: dict[str, Path] = {}
    for path in sorted(paths, key=lambda one: (one.name, str(one))):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        is_link = os.path.islink(path)  # noqa: PTH114 - of strings: there may be thousands
        kept.setdefault(os.path.realpath(path) if is_link else f"{folders[folder]}/{name}", path)
    return tuple(kept.values())
