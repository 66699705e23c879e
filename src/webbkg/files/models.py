"""Data models in and out of files: opened fast, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from webbkg.errors import InputError, OutputError
from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.fits import read_header
from webbkg.options import DO_NOT_USE
from webbkg.results import Background
from webbkg.startup import note_started, quick_start


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
    check_product(path)
    with quick_start():
        from stdatamodels.jwst import datamodels

        with door.reading(path, "cannot be opened as a data model"):
            model = datamodels.open(str(path))
            check_tree(model.instance, path)
            _make_planes_usual(model.instance, path)
        note_started()
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

    read_header(Path(path))
    with quick_start():
        from stdatamodels.jwst import datamodels

        with (
            door.reading(path, "its header cannot be read"),
            fits.open(path, memmap=False, lazy_load_hdus=True) as hdus,
        ):
            return datamodels.JwstDataModel(fits.HDUList([hdus[0].copy()]))


def background_model(background: Background, target: Any) -> Any:
    """Make an ImageModel of a background, with the metadata of the target it is for."""
    with quick_start():
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


def save_whole(model: Any, path: str | os.PathLike[str], inputs: Iterable[Path] = ()) -> Path:
    """Write a model under its final name, completely or not at all; see `save_all`."""
    return save_all([model], [Path(path)], inputs)[0]


def save_all(
    models: Sequence[Any],
    paths: Sequence[Path],
    inputs: Iterable[Path] = (),
    write: Callable[[Any, IO[bytes], Path], None] | None = None,
) -> list[Path]:
    """Write models under their final names: all of them completely, or none.

    Parameters
    ----------
    models : sequence of data models
        The FILENAME of each becomes its final name.
    paths : sequence of Path
        Where to write; the ending, ``.fits`` or ``.asdf``, says how.
    inputs : iterable of Path
        Files that must not be overwritten.
    write : callable, optional
        Takes a model, a file open for writing and the final name; by default the model writes
        itself.

    Returns
    -------
    list of Path
        `paths`.

    Raises
    ------
    OutputError
        If a path is one of `inputs`, has another ending, or cannot be written.
    """
    inputs = list(inputs)
    for path in paths:
        _check_output(path, inputs)
    with writing_whole(list(paths)) as partials:
        for model, path, partial in zip(models, paths, partials, strict=True):
            model.meta.filename = path.name
            with partial.open("wb") as stream:
                (write or write_model)(model, stream, path)
    return list(paths)


def write_model(model: Any, stream: IO[bytes], path: Path) -> None:
    """Let a model write itself to an open file, in the format that the name's ending tells."""
    # What a damaged target says of itself may be readable and yet not writable.
    with door.reading(path, "the target's metadata cannot be written", passing=(OSError,)):
        # Given a stream, not a path, the model keeps the FILENAME that it has.
        if path.suffix == ".fits":
            model.to_fits(stream)
        else:
            model.to_asdf(stream)


def _check_output(path: Path, inputs: Iterable[Path]) -> None:
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: no file can have this name; choose another")
    if path.suffix not in (".fits", ".asdf"):
        raise OutputError(f"{path}: a product is written as .fits or .asdf; choose one of these")
    if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
        raise OutputError(
            f"{path}: would overwrite an input of this run; "
            "choose another output_file, suffix or output_dir"
        )


@contextlib.contextmanager
def writing_whole(paths: list[Path]) -> Iterator[list[Path]]:
    """Give a partial file beside each of `paths`; rename all at the end, or leave none.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    partials = [path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths]
    try:
        yield partials
        for path in paths:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        names = ", ".join(str(path) for path in paths)
        raise OutputError(
            f"{names}: cannot be written ({reason}); free some space or choose another output_dir"
        ) from error
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)
