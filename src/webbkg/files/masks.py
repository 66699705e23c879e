"""Sky masks of one's own: the MASK extension of a FITS file, or the mask of an ASDF model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.fits import checked_hdus
from webbkg.results import BoolImage


def read_mask(
    path: str | os.PathLike[str], shape: tuple[int, int], target: str, role: str = "wfss_mask"
) -> BoolImage:
    """Read a sky mask for a target.

    Parameters
    ----------
    path : path
        FITS (gzipped or tile-compressed too) with a MASK extension, or an ASDF data model with
        a ``mask``; 0 where source, any other value where sky.
    shape : (rows, columns)
        Of the target.
    target : str
        Its name, for errors.
    role : str
        The parameter that named the file, for errors.

    Returns
    -------
    (rows, columns) ndarray of bool
        True where sky.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it cannot be read, has no mask, or one of another shape or without numbers.
    """
    path = door.regular_file(path, role, "a file with a MASK extension")
    with door.reading(path, f"the {role} is neither a FITS nor an ASDF file"):
        mask = _of_model(path) if path.suffix.lower() == ".asdf" else _of_fits(path)
    if mask is None:
        raise InputError(
            f"{path}: has no MASK extension (1 where sky, 0 where source); "
            f"name a file with one as {role}"
        )
    if mask.shape != shape:
        raise InputError(
            f"{path}: the shape of {role} must be that of {target}, {shape} (got {mask.shape})"
        )
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{path}: a {role} must hold numbers (got {mask.dtype})")
    return np.ascontiguousarray(mask != 0)


def _of_fits(path: Path) -> Any:
    from astropy.io import fits

    with checked_hdus(path) as stream, fits.open(stream, memmap=False) as hdus:
        data = hdus["MASK"].data if "MASK" in hdus else None
        return None if data is None else np.asarray(data)


def _of_model(path: Path) -> Any:
    from webbkg.files.models import open_model, read_meta

    with open_model(path) as model:
        mask = read_meta(model, "mask")
        return None if mask is None else np.array(mask)
