"""Data models from files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.cards import merged_cards
from webbkg.files.fits import read_header
from webbkg.options import DO_NOT_USE
from webbkg.results import Background, CombinedBackground

COUNTS = "COUNTS"
"""Extension of a saved average: the number of exposures that each pixel rests on."""

Flags = npt.NDArray[np.uint32]


def is_model(thing: object) -> bool:
    """Tell an open JWST data model from anything else, without importing the models."""
    return hasattr(thing, "get_crds_parameters") and hasattr(thing, "meta")


def attribute_of(plane: str) -> str:
    """Return what the models call a plane that FITS calls SCI, ERR, VAR_..."""
    return "data" if plane == "SCI" else plane.lower()


def read_meta(model: Any, path: str) -> Any:
    """Read dotted metadata of a data model without creating what is not there; else None."""
    node = model.instance
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def open_model(path: str | os.PathLike[str]) -> Any:
    """Open a FITS or ASDF product as the data model that its header names.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it cannot be read as a data model.
    """
    path = Path(path)
    check_product(path)
    from stdatamodels.jwst import datamodels

    with door.reading(path, "cannot be opened as a data model"):
        model = datamodels.open(str(path))
        check_tree(model.instance, path)
        _make_planes_usual(model.instance, path)
    return model


_BRANCHES = ("meta", "meta.background", "meta.cal_step", "meta.ref_file", "meta.ref_file.crds",
             "meta.asn", "cal_logs")  # fmt: skip
"""Where a run writes, and so what must be a mapping if it is there."""


def check_tree(instance: dict[str, Any], path: Path) -> None:
    """Make sure of a tree that was read: what a run writes into, and its arrays.

    Raises
    ------
    InputError
        If a branch is not one.
    """
    from asdf.tags.core import NDArrayType
    from asdf.treeutil import iter_tree

    for branch in _BRANCHES:
        *stem, last = branch.split(".")
        node: Any = instance
        for part in stem:
            node = node.get(part, {})
        if node.get(last, {}) is None:
            del node[last]
        elif not isinstance(node.get(last, {}), Mapping):
            raise InputError(f"{path}: its {branch} must be a mapping (got {node[last]!r:.60})")
    for node in iter_tree(instance):
        if isinstance(node, NDArrayType):
            np.asarray(node)  # read now, inside the door, and not when a product is copied


def _make_planes_usual(instance: dict[str, Any], path: Path) -> None:
    """Give planes that were stored as other numbers the type that they are computed with."""
    for plane, dtype in (("data", np.float32), ("err", np.float32), ("dq", np.uint32)):
        values = instance.get(plane)
        if values is None or values.dtype.kind == np.dtype(dtype).kind:
            continue
        if values.dtype.kind not in "biuf":
            raise InputError(f"{path}: its {plane} must hold real numbers (got {values.dtype})")
        with np.errstate(all="ignore"):
            instance[plane] = values.astype(dtype)


def open_header(path: str | os.PathLike[str]) -> Any:
    """Open the metadata of a FITS product's primary header as a core data model, no arrays."""
    from astropy.io import fits
    from stdatamodels.jwst import datamodels

    read_header(Path(path))

    with (
        door.reading(path, "its header cannot be read"),
        fits.open(path, memmap=False, lazy_load_hdus=True) as hdus,
    ):
        return datamodels.JwstDataModel(fits.HDUList([hdus[0].copy()]))


def put_cards(model: Any, cards: Iterable[tuple[str, str, str]]) -> None:
    """Set cards (keyword, value, comment) of the primary header that no schema knows."""
    extra = model.instance.get("extra_fits") or {}
    primary = extra.get("PRIMARY") or {}
    header = merged_cards(primary.get("header") or (), cards)
    # What a copy of a model shares with it is not changed.
    model.instance["extra_fits"] = {**extra, "PRIMARY": {**primary, "header": header}}


def background_model(background: Background, target: Any) -> Any:
    """Make an ImageModel of a background, with the metadata of the target it is for."""
    from stdatamodels.jwst import datamodels

    model = datamodels.ImageModel()
    model.update(target)
    model.meta.cal_step.bkg_subtract = None  # a background is not background-subtracted
    model.data = background.sci
    model.err = background.err
    model.dq = saved_flags(background)
    if isinstance(background, CombinedBackground):
        model.instance["extra_fits"] = {COUNTS: {"data": background.counts}}
    return model


def saved_flags(background: Background) -> Flags:
    """Return the flags of a background that is saved: it is of no use where nothing was observed."""
    lacking = np.where(background.covered, np.uint32(0), np.uint32(DO_NOT_USE))
    flags: Flags = background.dq | lacking
    return flags


def copy_with(model: Any, planes: dict[str, Any]) -> Any:
    """Copy a model, but take these planes instead of copies of its own."""
    memo = {id(read_meta(model, name)): plane for name, plane in planes.items()}
    memo.pop(id(None), None)  # a model without DQ
    return model.copy(memo=memo)


def path_of(model: Any) -> Path | None:
    """Tell which file an open model came from, as far as it knows; else None."""
    for reference in getattr(model, "_file_references", ()):
        held: Any = getattr(reference, "_file", None)
        name = held.filename() if hasattr(held, "filename") else getattr(held, "uri", None)
        if name:
            return Path(str(name).removeprefix("file://"))
    return None
