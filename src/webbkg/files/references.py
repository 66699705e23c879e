"""References: opened, compared with the target, and cut to its window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, MismatchError, WebbkgError
from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.models import attribute_of, is_model, read_meta
from webbkg.files.windows import Place
from webbkg.numerics.planes import PLANES, Overlap, plane_type


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


@dataclass(frozen=True)
class ReferenceImages:
    """The images of a reference, and what its headers say of them.

    Attributes
    ----------
    name : str
        What the file calls itself.
    info : ExposureInfo
        What its headers say.
    plane : callable
        Takes SCI, ERR or DQ, gives that plane as the reference has it; None if there is none.
    is_own : bool
        Whether what `plane` gives is nobody else's.
    """

    name: str
    info: ExposureInfo
    plane: Callable[[str], npt.NDArray[Any] | None]
    is_own: bool = False


@contextmanager
def open_images(
    reference: Any, *kinds: str, needed: Sequence[str] = PLANES
) -> Iterator[ReferenceImages]:
    """Open a reference background: a FITS file as it is, anything else as a data model.

    Parameters
    ----------
    reference : path or data model
        A model that is open already stays open.
    kinds : str
        Classes of `stdatamodels.jwst.datamodels`, of which the first that takes it is used.
    needed : sequence of str
        Planes that a FITS file must have to be read as it is; models fill in others.

    Raises
    ------
    InputError
        If none of `kinds` takes it.
    """
    exposure = None if is_model(reference) else _as_exposure(Path(reference), needed)
    if exposure is None:
        with open_reference(reference, *kinds) as model:
            info = ExposureInfo.from_model(model)
            name = info.filename or str(reference)
            yield ReferenceImages(name, info, lambda plane: _plane_of_model(model, plane, name))
        return
    with exposure:
        name = exposure.info.filename or str(reference)
        shape = exposure.planes.shape[exposure.n_integrations == 1 :]

        def read(plane: str) -> npt.NDArray[Any] | None:
            return exposure.plane(plane).reshape(shape) if exposure.planes.has(plane) else None

        yield ReferenceImages(name, exposure.info, read, is_own=True)


def _as_exposure(path: Path, needed: Sequence[str]) -> Exposure | None:
    """Open a FITS file; None if it is none with these planes, which its model is to judge."""
    if path.suffix.lower() == ".asdf":
        return None
    try:
        return Exposure.from_file(path, needed=needed)
    except WebbkgError:
        return None


def _plane_of_model(model: Any, plane: str, name: str) -> npt.NDArray[Any] | None:
    with door.reading(name, f"its {plane} cannot be read"):
        values = read_meta(model, attribute_of(plane))
        values = None if values is None else np.asarray(values)
    if values is not None and values.dtype.kind not in "biuf":
        raise InputError(f"{name}: its {plane} must hold real numbers (got {values.dtype})")
    return values


def check_detector(
    images: ReferenceImages, info: ExposureInfo, target: str, role: str = "bkg reference"
) -> None:
    """Refuse a reference of another instrument or detector; `role` is what to call it.

    Raises
    ------
    MismatchError
        If both are known and differ.
    """
    for part in ("instrument", "detector"):
        theirs, ours = getattr(images.info, part), getattr(info, part)
        if ours is not None and theirs not in (None, ours, "N/A", "ANY"):
            raise MismatchError(
                f"{images.name}: the {part} of this {role} is {theirs}, that of the target "
                f"{target} is {ours}; give one for {ours}"
            )


@dataclass(frozen=True)
class TemplateImage:
    """A reference background image on the target's window: sci, err (float32), dq (uint32).

    The arrays are its own, whoever may hold the reference.
    """

    name: str
    sci: npt.NDArray[Any]
    err: npt.NDArray[Any] | None
    dq: npt.NDArray[Any] | None


def cut_template(images: ReferenceImages, target: Place) -> TemplateImage | str:
    """Cut a 2-D template to a target, without changing it; or say why it cannot be.

    One of the target's shape and corner is taken as it is. Another one without window keywords
    is taken as full frame.

    Raises
    ------
    InputError
        If it is no 2-D image, or it is not known where the target lies in it.
    """
    name, sci = images.name, images.plane("SCI")
    if sci is None or sci.ndim != 2 or 0 in sci.shape:
        got = "none" if sci is None else f"shape {sci.shape}"
        raise InputError(f"{name}: a bkg reference must have a 2-D image (got {got})")
    own = Place(name, images.info, sci.shape)
    window = None if target.matches(own) else target.window
    try:
        overlap = target.overlap(own)
    except InputError as error:  # the template's own window, as the target's is known
        return str(error)
    whole = Overlap.whole(target.shape)
    if overlap is None or (overlap.rows, overlap.columns) != (whole.rows, whole.columns):
        return f"the bkg reference {name} ({own.window}) does not cover the target ({window})"
    where = (slice(*overlap.other_rows), slice(*overlap.other_columns))

    def cut(plane: str, values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        if values is None or values.shape != own.shape:
            return None
        copied = None if images.is_own else True  # else where the cut is not all of it
        return np.array(values[where], plane_type(plane), order="C", copy=copied)

    template = cut("SCI", sci)
    assert template is not None
    del sci
    err, dq = (cut(plane, images.plane(plane)) for plane in ("ERR", "DQ"))
    return TemplateImage(name, template, err, dq)


def read_wavelength_ranges(reference: Any) -> tuple[str, list[Any], list[Any]]:
    """Read a wavelengthrange reference, ASDF or an open model, as it is.

    Returns
    -------
    name : str
        What the file calls itself.
    extracted : list of (filter, orders)
        Orders that are extracted.
    ranges : list of (order, filter, shortest, longest)
        Their wavelengths.

    Raises
    ------
    InputError
        If it cannot be read as one.
    """
    if is_model(reference) or Path(reference).suffix.lower() != ".asdf":
        with open_reference(reference, "WavelengthrangeModel") as model:
            return _wavelength_ranges(model.instance, str(reference))
    path = Path(reference)
    check_product(path)
    import asdf

    with (
        door.reading(path, "cannot be opened as a wavelengthrange reference"),
        asdf.open(path) as file,
    ):
        return _wavelength_ranges(file.tree, str(reference))


def _wavelength_ranges(tree: Mapping[str, Any], reference: str) -> tuple[str, list[Any], list[Any]]:
    name = str(tree.get("meta", {}).get("filename") or reference)
    with door.reading(name, "cannot be read as a wavelengthrange reference"):
        listed = [
            [tuple(row) for row in tree[key]] for key in ("extract_orders", "wavelengthrange")
        ]
    return name, listed[0], listed[1]
