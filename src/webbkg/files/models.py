"""Data models from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import InputError, MissingFileError
from webbkg.files.exposures import read_meta
from webbkg.options import DO_NOT_USE
from webbkg.results import Background


def is_model(thing: object) -> bool:
    """Tell an open JWST data model from anything else, without importing the models."""
    return hasattr(thing, "get_crds_parameters") and hasattr(thing, "meta")


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
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; check the name and the folder")
    from stdatamodels.jwst import datamodels

    try:
        return datamodels.open(str(path))
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be opened as a data model ({error})") from error


def open_header(path: str | os.PathLike[str]) -> Any:
    """Open the metadata of a FITS product's primary header as a core data model, no arrays."""
    from astropy.io import fits
    from stdatamodels.jwst import datamodels

    with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
        return datamodels.JwstDataModel(fits.HDUList([hdus[0].copy()]))


def background_model(background: Background, target: Any) -> Any:
    """Make an ImageModel of a background, with the metadata of the target it is for."""
    from stdatamodels.jwst import datamodels

    model = datamodels.ImageModel()
    model.update(target)
    model.meta.cal_step.bkg_subtract = None  # a background is not background-subtracted
    model.data = background.sci
    model.err = background.err
    model.dq = np.where(
        background.covered, background.dq, background.dq | np.uint32(DO_NOT_USE)
    ).astype(np.uint32)
    return model


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
