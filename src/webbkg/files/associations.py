"""What a call names: the targets, their backgrounds, and what an association adds to them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webbkg.errors import AssociationError, InputError, MissingFileError
from webbkg.files import door
from webbkg.files.json import read_json
from webbkg.files.models import is_model

Input = Any
"""A Path, or an open data model."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call, resolved: targets and backgrounds are existing files or open models.

    Attributes
    ----------
    targets : tuple
        Exposures to subtract from.
    backgrounds : tuple
        Background exposures.
    source_catalog, segmentation_map, direct_image : Path, data model or None
        What a grism exposure's association adds; a file need not exist.
    association : str or None
        Name of the association's file.
    folder : Path or None
        Where the association is.
    warnings : tuple of str
        What was passed over.
    """

    targets: tuple[Input, ...]
    backgrounds: tuple[Input, ...] = ()
    source_catalog: Input | None = None
    segmentation_map: Input | None = None
    direct_image: Input | None = None
    association: str | None = None
    folder: Path | None = None
    warnings: tuple[str, ...] = ()


def is_association(thing: object) -> bool:
    """Tell an association, a mapping or the name of a JSON file, from exposures."""
    if isinstance(thing, Mapping):
        return True
    return isinstance(thing, (str, os.PathLike)) and Path(thing).suffix.lower() == ".json"


def resolve(
    target: Any,
    backgrounds: Any = None,
    bkg_list: Sequence[Any] | str | None = None,
    *,
    input_dir: str | os.PathLike[str] | None = None,
) -> Job:
    """Find out what a call names.

    Parameters
    ----------
    target : path, data model, association (path or mapping), or list of paths and models
        What to subtract from.
    backgrounds : path, comma-separated string, data model, or list of these, optional
        Background exposures; an empty list means none.
    bkg_list : list of paths, optional
        Used where `backgrounds` is None. A comma-separated string may be its one item: stpipe
        makes a list of what a call gives as a string.
    input_dir : path, optional
        Where a file is looked for that is not in the current folder.

    Returns
    -------
    Job
        The background members of an association win over `backgrounds`.

    Raises
    ------
    AssociationError
        If the association cannot be read, or names no target.
    MissingFileError
        If a file does not exist.
    """
    folders = _folders(input_dir)
    named = backgrounds if backgrounds is not None else _split_only(bkg_list, folders)
    if is_association(target):
        return _resolve_association(target, named, input_dir)
    targets = _as_list(target)
    if not targets:
        raise InputError("no target was given; name an exposure or an association")
    found = tuple(find_file(item, folders, "target") for item in targets)
    beside = [item.parent for item in found if isinstance(item, Path)]
    return Job(
        targets=found,
        backgrounds=tuple(find_file(b, [*folders, *beside], "background") for b in _as_list(named)),
    )


def _resolve_association(
    association: Any, named: Any, input_dir: str | os.PathLike[str] | None
) -> Job:
    folders = _folders(input_dir)
    if isinstance(association, Mapping):
        name, content = "the association", association
        label = door.as_text(association.get("table_name"), name, "table_name")
    else:
        path = find_file(association, folders, "association")
        name, content, label = str(path), _read_json(path), path.name
        folders = [path.parent, *folders]
    members, warnings = _members(content, name)
    science = members.get("science", [])
    if not science:
        raise AssociationError(
            f"{name}: has no member with exptype 'science', so there is nothing to subtract from"
        )
    if len(science) > 1:
        warnings.append(
            f"{name}: {len(science)} science members, only the first is used ({science[0]})"
        )
    listed = members.get("background")
    if listed is None:  # what the user names is looked for where the user stands, first
        listed, beside = _as_list(named), [*_folders(input_dir), *folders]
    else:
        beside = folders
    return Job(
        targets=(find_file(science[0], folders, f"{name}, member science"),),
        backgrounds=tuple(find_file(b, beside, f"{name}, member background") for b in listed),
        source_catalog=_first(members.get("sourcecat"), folders),
        segmentation_map=_first(members.get("segmap"), folders),
        direct_image=_first(members.get("direct_image"), folders),
        association=label,
        folder=None if isinstance(association, Mapping) else folders[0],
        warnings=tuple(warnings),
    )


def _first(members: list[Any] | None, folders: list[Path]) -> Input | None:
    """Find what a target may not need; a file that does not exist is missed where it is needed."""
    if not members:
        return None
    if hasattr(members[0], "colnames"):  # a table, the catalogue itself
        return members[0]
    try:
        return find_file(members[0], folders, "member")
    except MissingFileError:
        return Path(members[0])


LONGEST = 2**24
"""Bytes of an association; a member takes some 100."""


def _read_json(path: Path) -> Any:
    return read_json(
        path,
        "association",
        "an association",
        LONGEST,
        too_long="it is no association",
        error=AssociationError,
    )


def _members(content: Any, name: str) -> tuple[dict[str, list[Any]], list[str]]:
    """Group the members of the first product by exptype, in lower case."""
    products = _products(content, name)
    warnings = []
    if len(products) > 1:
        warnings.append(f"{name}: {len(products)} products, only the first is used")
    return _by_exptype(products[0], name), warnings


def _products(content: Any, name: str) -> Sequence[Any]:
    products = content.get("products") if isinstance(content, Mapping) else None
    if not isinstance(products, Sequence) or isinstance(products, str) or not products:
        raise AssociationError(f"{name}: has no 'products', so it is no level-2 association")
    return products


def _by_exptype(product: Any, name: str) -> dict[str, list[Any]]:
    entries = product.get("members") if isinstance(product, Mapping) else None
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise AssociationError(f"{name}: its product has no 'members'")
    members: dict[str, list[Any]] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"expname", "exptype"} <= entry.keys():
            raise AssociationError(
                f"{name}: every member needs 'expname' and 'exptype' (got {reprlib.repr(entry)})"
            )
        members.setdefault(str(entry["exptype"]).lower(), []).append(entry["expname"])
    return members


def products_of(path: Path) -> list[dict[str, list[str]]]:
    """Read the members of all products of a level-2 association.

    Returns
    -------
    list of dict of str to list of str
        For each product its members' names by their exptype, in lower case.

    Raises
    ------
    AssociationError
        If it cannot be read, is of level 3, or a name is none.
    """
    content, name = _read_json(path), str(path)
    products = [_by_exptype(one, name) for one in _products(content, name)]
    kind = str(content.get("asn_type", ""))
    if kind.endswith("3"):
        raise AssociationError(
            f"{name}: is of level 3 (asn_type {kind}), it combines what was subtracted before; name "
            "those of level 2"
        )
    for members in products:
        for expname in (one for names in members.values() for one in names):
            if not isinstance(expname, str) or not expname.strip() or "\0" in expname:
                raise AssociationError(
                    f"{name}: 'expname' must be the name of a file (got {reprlib.repr(expname)})"
                )
    return products


def _as_list(named: Any) -> list[Any]:
    if named is None:
        return []
    if isinstance(named, str):
        return [part.strip() for part in named.split(",") if part.strip()]
    if isinstance(named, os.PathLike) or is_model(named):
        return [named] if not isinstance(named, Sequence) else list(named)
    if isinstance(named, bytes) or not isinstance(named, Iterable):
        return [named]  # neither a file nor a model, as `find_file` will say
    return [item for item in named if not (isinstance(item, str) and not item.strip())]


def _split_only(listed: Any, folders: list[Path]) -> Any:
    """Take the one item of a list as a comma-separated string, unless a file has that name."""
    if isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], str):
        only = listed[0]
        if not any(door.exists(folder / only) for folder in folders):
            return only
    return listed


def _folders(input_dir: str | os.PathLike[str] | None) -> list[Path]:
    return [Path()] + ([Path(input_dir)] if input_dir else [])


def find_file(item: Any, folders: list[Path], role: str) -> Input:
    """Turn a name into the path of an existing file; an open model stays what it is.

    Parameters
    ----------
    item : path or data model
        Environment variables and ``~`` are expanded.
    folders : list of Path
        Where to look, in this order.
    role : str
        What to call it in an error.

    Raises
    ------
    MissingFileError
        If it is in none of the folders.
    InputError
        If it is neither a path nor a model.
    """
    if is_model(item):
        return item
    if not isinstance(item, (str, os.PathLike)):
        raise InputError(
            f"{role}: must be a file or an open data model (got {type(item).__name__})"
        )
    name = Path(os.path.expanduser(os.path.expandvars(item)))  # noqa: PTH111 - it never raises
    tried = [folder / name for folder in folders]
    for path in tried:
        if door.exists(path):
            return path
    places = ", ".join(dict.fromkeys(str(path.parent) for path in tried))
    raise MissingFileError(
        f"{role}: no file {door.brief(ValueError(item))} (looked in {places})"
        f"{door.did_you_mean(*tried)}"
    )
