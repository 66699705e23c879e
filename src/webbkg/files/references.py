"""References: opened, compared with the target, and cut to its window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, MismatchError
from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.exposures import ExposureInfo, read_meta
from webbkg.files.models import is_model
from webbkg.files.windows import Place
from webbkg.numerics.planes import Overlap


@contextmanager
def open_reference(reference: Any, *kinds: str) -> Iterator[Any]:
    """Open a reference as the first class of `stdatamodels.jwst.datamodels` that takes it.

    A model that is open already stays open.

    Raises
    ------
    InputError
        If none of `kinds` takes it.
    """
    if is_model(reference):
        yield reference
        return
    with _open_as(reference, kinds) as model:
        try:
            yield model
        finally:
            # It is part of reference cycles, in which its planes would wait for the collector.
            model.instance.clear()


def _open_as(path: str, kinds: tuple[str, ...]) -> Any:
    check_product(Path(path))
    reason: InputError | None = None
    from stdatamodels.jwst import datamodels

    for kind in kinds:
        try:
            with door.reading(path, f"cannot be opened as a {kind}"):
                return getattr(datamodels, kind)(str(path))
        except InputError as error:
            reason = reason or error
    raise reason or InputError(f"{path}: no kind of reference was asked for")


def check_detector(model: Any, info: ExposureInfo, target: str, name: str) -> None:
    """Refuse a reference of another instrument or detector.

    Raises
    ------
    MismatchError
        If both are known and differ.
    """
    for part, path in (("instrument", "name"), ("detector", "detector")):
        theirs, ours = read_meta(model, f"meta.instrument.{path}"), getattr(info, part)
        if ours is not None and theirs not in (None, ours, "N/A", "ANY"):
            raise MismatchError(
                f"{name}: the {part} of this bkg reference is {theirs}, that of the target "
                f"{target} is {ours}; override it with one for {ours}"
            )


_DTYPES = {"data": np.float32, "err": np.float32, "dq": np.uint32}


@dataclass(frozen=True)
class TemplateImage:
    """A reference background image on the target's window: sci, err (float32), dq (uint32).

    The arrays are its own, whoever may hold the reference.
    """

    name: str
    sci: npt.NDArray[Any]
    err: npt.NDArray[Any] | None
    dq: npt.NDArray[Any] | None


def cut_template(model: Any, target: Place, name: str) -> TemplateImage | str:
    """Cut a 2-D template to a target, without changing it; or say why it cannot be.

    One of the target's shape and corner is taken as it is. Another one without window keywords
    is taken as full frame.

    Raises
    ------
    InputError
        If it is no 2-D image, or it is not known where the target lies in it.
    """
    planes = {plane: template_plane(model, plane, name) for plane in _DTYPES}
    data = planes["data"]
    if data is None or data.ndim != 2 or 0 in data.shape:
        got = "none" if data is None else f"shape {data.shape}"
        raise InputError(f"{name}: a bkg reference must have a 2-D image (got {got})")
    shape = data.shape
    own = Place(name, ExposureInfo.from_model(model), shape)
    window = None if target.matches(own) else target.window
    try:
        overlap = target.overlap(own)
    except InputError as error:  # the template's own window, as the target's is known
        return str(error)
    whole = Overlap.whole(target.shape)
    if overlap is None or (overlap.rows, overlap.columns) != (whole.rows, whole.columns):
        return f"the bkg reference {name} ({own.window}) does not cover the target ({window})"
    cut = (slice(*overlap.other_rows), slice(*overlap.other_columns))
    cuts = {
        plane: np.array(values[cut], _DTYPES[plane], order="C")
        for plane, values in planes.items()
        if values is not None and values.shape == shape
    }
    return TemplateImage(name, cuts["data"], cuts.get("err"), cuts.get("dq"))


def template_plane(model: Any, plane: str, name: str) -> npt.NDArray[Any] | None:
    """Return a plane (data, err or dq) of a reference; None where it has none.

    Raises
    ------
    InputError
        If it cannot be read, or holds no numbers.
    """
    with door.reading(name, f"its {plane} cannot be read"):
        values = read_meta(model, plane)
        values = None if values is None else np.asarray(values)
    if values is not None and values.dtype.kind not in "biuf":
        raise InputError(f"{name}: its {plane} must hold real numbers (got {values.dtype})")
    return values
