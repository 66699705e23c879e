"""Exposures: the planes of a rate, rateints or cal product, read lazily, and where they lie.

SCI, ERR and DQ are read by row, from a FITS file (gzipped or not) or from an open data model;
the rest of the product is never touched. Of gzipped files those three planes, and no more, are
unpacked, into one scratch file for all that are open: gzip gives no way to a row but through all
that stand before it, so a bound below that would mean to unpack every file again for each band.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.fits import Header, axes, data_length, open_bytes, read_headers
from webbkg.files.models import open_model, read_meta
from webbkg.files.planes import FitsPlanes, StoredPlane
from webbkg.files.pool import FilePool
from webbkg.files.windows import FULL_FRAME, DetectorWindow, Place, window_of
from webbkg.numerics.parallel import split
from webbkg.numerics.planes import PLANES, ArrayPlanes, Placed, PlaneSource, plane_type

__all__ = [
    "FULL_FRAME",
    "DetectorWindow",
    "Exposure",
    "ExposureInfo",
    "read_meta",
    "window_of",
]


@dataclass(frozen=True, kw_only=True)
class ExposureInfo:
    """What the headers say of an exposure; None where they are silent."""

    filename: str | None = None
    instrument: str | None = None
    detector: str | None = None
    exposure_type: str | None = None
    filter: str | None = None
    pupil: str | None = None
    grating: str | None = None
    gwa_xtilt: float | None = None
    gwa_ytilt: float | None = None
    subarray_xstart: int | None = None
    subarray_ystart: int | None = None
    subarray_xsize: int | None = None
    subarray_ysize: int | None = None
    bkg_subtract: str | None = None
    unit: str | None = None
    product: str | None = None
    program: str | None = None
    observation: str | None = None
    visit: str | None = None
    visit_group: str | None = None
    sequence: str | None = None
    activity: str | None = None
    exposure_number: str | None = None
    segment: int | None = None

    @property
    def exposure(self) -> tuple[str | None, ...]:
        """What all products and segments of one exposure have in common."""
        where = (self.program, self.observation, self.visit, self.visit_group, self.sequence)
        return (*where, self.activity, self.exposure_number, self.detector)

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What no other exposure, and no other segment, has; None if the headers do not say."""
        if None in (self.observation, self.visit, self.exposure_number):
            return None
        return (*self.exposure, self.segment)

    @classmethod
    def from_header(cls, header: Mapping[str, Any], name: str = "the header") -> ExposureInfo:
        """Read the keywords of a primary header; `name` is the file, for errors."""
        return cls._of({keyword: header.get(keyword) for keyword, _, _ in _METADATA.values()}, name)

    @classmethod
    def from_model(cls, model: Any) -> ExposureInfo:
        """Read the metadata of an open data model."""
        name = str(read_meta(model, "meta.filename") or f"<{type(model).__name__}>")
        return cls._of({word: read_meta(model, path) for word, path, _ in _METADATA.values()}, name)

    @classmethod
    def _of(cls, values: Mapping[str, Any], name: str) -> ExposureInfo:
        """Check the types of what was read, by keyword."""
        return cls(
            **{
                attribute: check(values[keyword], name, keyword)
                for attribute, (keyword, _, check) in _METADATA.items()
            }
        )


_METADATA: dict[str, tuple[str, str, Callable[[Any, str, str], Any]]] = {
    "filename": ("FILENAME", "meta.filename", door.as_label),
    "instrument": ("INSTRUME", "meta.instrument.name", door.as_text),
    "detector": ("DETECTOR", "meta.instrument.detector", door.as_text),
    "exposure_type": ("EXP_TYPE", "meta.exposure.type", door.as_text),
    "filter": ("FILTER", "meta.instrument.filter", door.as_text),
    "pupil": ("PUPIL", "meta.instrument.pupil", door.as_text),
    "grating": ("GRATING", "meta.instrument.grating", door.as_text),
    "gwa_xtilt": ("GWA_XTIL", "meta.instrument.gwa_xtilt", door.as_number),
    "gwa_ytilt": ("GWA_YTIL", "meta.instrument.gwa_ytilt", door.as_number),
    "subarray_xstart": ("SUBSTRT1", "meta.subarray.xstart", door.as_integer),
    "subarray_ystart": ("SUBSTRT2", "meta.subarray.ystart", door.as_integer),
    "subarray_xsize": ("SUBSIZE1", "meta.subarray.xsize", door.as_integer),
    "subarray_ysize": ("SUBSIZE2", "meta.subarray.ysize", door.as_integer),
    "bkg_subtract": ("S_BKDSUB", "meta.cal_step.bkg_subtract", door.as_text),
    "unit": ("BUNIT", "meta.bunit_data", door.as_label),
    "product": ("DATAMODL", "meta.model_type", door.as_label),
    "program": ("PROGRAM", "meta.observation.program_number", door.as_label),
    "observation": ("OBSERVTN", "meta.observation.observation_number", door.as_label),
    "visit": ("VISIT", "meta.observation.visit_number", door.as_label),
    "visit_group": ("VISITGRP", "meta.observation.visit_group", door.as_label),
    "sequence": ("SEQ_ID", "meta.observation.sequence_id", door.as_label),
    "activity": ("ACT_ID", "meta.observation.activity_id", door.as_label),
    "exposure_number": ("EXPOSURE", "meta.observation.exposure_number", door.as_label),
    "segment": ("EXSEGNUM", "meta.exposure.segment_number", door.as_integer),
}
"""Keyword, metadata, and how a value is checked."""

KEYWORDS = tuple(keyword for keyword, _, _ in _METADATA.values())
"""What `ExposureInfo.from_header` looks at."""


class Exposure:
    """The planes and metadata of one exposure; open it with `from_file` or `from_model`.

    Attributes
    ----------
    name : str
        File name for messages.
    path : Path or None
        Where it was read from.
    model : data model or None
        What it was taken from, if that was open.
    info : ExposureInfo
        What its headers say.
    planes : PlaneSource
        SCI and DQ, and ERR if it has one.
    n_integrations : int
        1 for a 2-D product.
    shape : (rows, columns)
        Of its image.
    """

    def __init__(
        self,
        name: str,
        info: ExposureInfo,
        planes: PlaneSource,
        *,
        path: Path | None = None,
        model: Any = None,
    ) -> None:
        self.name = name
        self.path = path
        self.model = model
        self.info = info
        self.planes = planes
        self.n_integrations, *shape = planes.shape
        if 0 in planes.shape:
            raise InputError(f"{name}: its image is empty {planes.shape}")
        self.shape = shape[0], shape[1]
        self._opened = ExitStack()

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        pool: FilePool | None = None,
        *,
        needed: Sequence[str] = PLANES,
        also: Sequence[str] = (),
    ) -> Exposure:
        """Open a FITS product; ASDF products are opened as data models.

        Parameters
        ----------
        path : path
            The file.
        pool : FilePool, optional
            Through which its planes are read; by default one of its own, closed with it.
        needed : sequence of str
            Planes that it must have.
        also : sequence of str
            Planes, besides SCI, ERR and DQ, that are wanted where it has them of SCI's shape.

        Raises
        ------
        MissingFileError
            If there is no such file.
        InputError
            If it is not a readable FITS file with those planes.
        """
        path = Path(path)
        if path.suffix.lower() == ".asdf":
            return cls._from_asdf(path, also)
        with ExitStack() as own:
            pool = pool or own.enter_context(FilePool())
            header, planes = _find_planes(path, pool, needed, (*PLANES, *also))
            info = ExposureInfo.from_header(header, path.name)
            exposure = cls(path.name, info, planes, path=path)
            exposure._opened = own.pop_all()
        return exposure

    @classmethod
    def _from_asdf(cls, path: Path, also: Sequence[str]) -> Exposure:
        exposure = cls.from_model(open_model(path), also=also)
        exposure.path = path
        return exposure

    @classmethod
    def from_model(cls, model: Any, *, also: Sequence[str] = ()) -> Exposure:
        """Take the planes of an open data model, which is neither copied nor changed.

        One without ERR has unknown uncertainties (NaN), one without DQ has no flags. `also` is
        as for `from_file`.

        Raises
        ------
        InputError
            If it lacks SCI, or is neither 2-D nor 3-D.
        """
        name = read_meta(model, "meta.filename") or f"<{type(model).__name__}>"
        sci = read_meta(model, "data")
        if sci is None:
            raise InputError(f"{name}: the {type(model).__name__} has no SCI plane; set model.data")
        cubes = {"SCI": _as_cube(np.asarray(sci), name, "SCI")}
        for plane, attribute, unknown in (("ERR", "err", np.float32(np.nan)), ("DQ", "dq", 0)):
            values = read_meta(model, attribute)
            cubes[plane] = (
                np.broadcast_to(unknown, cubes["SCI"].shape)
                if values is None
                else _as_cube(np.asarray(values), name, plane)
            )
        _check_shapes({plane: cube.shape for plane, cube in cubes.items()}, name)
        for plane in also:
            values = np.asarray(read_meta(model, plane.lower()))
            if values.shape == np.shape(sci) and values.dtype.kind in "iuf":
                cubes.setdefault(plane, _as_cube(values, name, plane))
        return cls(name, ExposureInfo.from_model(model), ArrayPlanes(cubes), model=model)

    @property
    def place(self) -> Place:
        """What its headers say of where it lies."""
        return Place(self.name, self.info, self.shape)

    @property
    def window(self) -> DetectorWindow:
        """Where it lies on the detector; InputError where that is unknown."""
        return self.place.window

    def plane(self, name: str) -> npt.NDArray[Any]:
        """Read a whole plane, (integrations, rows, columns), in the machine's byte order."""
        whole = np.empty(self.planes.shape, plane_type(name))
        words = whole.view(np.uint32)
        for integration, image in enumerate(whole):
            room = words[integration : integration + 1]
            (rows,) = self.planes.rows([name], integration, 0, len(image), room)
            if not np.may_share_memory(rows, image):
                image[...] = rows
        return whole

    def placed_on(self, target: Place) -> Placed | None:
        """Place the exposure on a target; None if they share no pixel."""
        overlap = target.overlap(self.place)
        return None if overlap is None else Placed(self.planes, overlap)

    def close(self) -> None:
        """Close the file, unless it is in a pool that others use too."""
        self._opened.close()

    def __enter__(self) -> Exposure:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"{name}: SCI, ERR and DQ must have one shape (got "
            + ", ".join(f"{plane} {shape}" for plane, shape in shapes.items())
            + ")"
        )


def _as_cube(values: npt.NDArray[Any], name: str, plane: str) -> npt.NDArray[Any]:
    if values.ndim == 2:
        return values[np.newaxis]
    if values.ndim == 3:
        return values
    raise InputError(f"{name}: {plane} must be 2-D or 3-D (got shape {values.shape})")


def _find_planes(
    path: Path, pool: FilePool, needed: Sequence[str], wanted: Sequence[str]
) -> tuple[Mapping[str, Any], FitsPlanes]:
    """Read the headers: the primary one, and where the planes that are wanted lie."""
    primary: Mapping[str, Any] = {}
    found: dict[str, StoredPlane] = {}
    shapes: dict[str, tuple[int, int, int]] = {}
    with open_bytes(path) as stream:
        for number, (header, offset) in enumerate(read_headers(stream, path.name)):
            primary = primary or header
            plane = str(header.get("EXTNAME", "")).upper()
            if plane == "SCI" and "BUNIT" in header:
                unit = {"BUNIT": header["BUNIT"]}
                primary = ChainMap(unit, primary)  # type: ignore[arg-type]
            if plane not in wanted or plane in found:
                continue
            if plane not in PLANES and header.get("NAXIS") not in (2, 3):
                continue
            shapes[plane] = _cube_shape(header, path.name, plane)
            if _is_compressed(header):
                found[plane] = StoredPlane.compressed(plane, number)
            elif Path(stream.name) == path:
                found[plane] = StoredPlane.from_header(header, path, offset, plane)
            else:
                offset = pool.keep(_chunks(stream, offset, data_length(header)))
                found[plane] = StoredPlane.from_header(header, None, offset, plane)
            if len(found) == len(set(wanted)):
                break
    missing = next((plane for plane in needed if plane not in found), None)
    if missing is not None:
        raise InputError(
            f"{path.name}: has no {missing} plane; a JWST rate, rateints or cal product with "
            "SCI, ERR and DQ is needed"
        )
    _check_shapes({name: shapes[name] for name in PLANES if name in found}, path.name)
    found = {name: one for name, one in found.items() if shapes[name] == shapes["SCI"]}
    return primary, FitsPlanes(path.name, path, pool, found, shapes["SCI"])


def _chunks(stream: IO[bytes], offset: int, length: int) -> Iterator[bytes]:
    """Read part of an unpacked file: no more than that is kept, as many may be in use."""
    stream.seek(offset)
    for start, stop in split(length, 2**20):
        yield stream.read(stop - start)


def _is_compressed(header: Header) -> bool:
    return header.get("ZIMAGE") is True


def _cube_shape(header: Header, name: str, plane: str) -> tuple[int, int, int]:
    """Return integrations (1 for a 2-D image), rows and columns of an image."""
    if not _is_compressed(header) and header.text("XTENSION", "IMAGE").strip() != "IMAGE":
        raise InputError(f"{name}: {plane} must be an image, not a table")
    lengths = axes(header, "Z" if _is_compressed(header) else "")
    if len(lengths) not in (2, 3):
        raise InputError(f"{name}: {plane} must be a 2-D or 3-D image (got axes {lengths})")
    return lengths[0] if len(lengths) == 3 else 1, lengths[-2], lengths[-1]
