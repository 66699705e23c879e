"""Exposures: the planes of a rate, rateints or cal product, read lazily, and where they lie.

SCI, ERR and DQ are read by row, from a FITS file (gzipped or not) or from an open data model;
the rest of the product is never touched.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, MissingFileError

FULL_FRAME = {"MIRI": (1024, 1032)}
"""Rows and columns of a detector; JWST's other detectors have 2048 of each."""

PLANE_TYPES: dict[str, type[np.float32] | type[np.uint32]] = {
    "SCI": np.float32,
    "ERR": np.float32,
    "DQ": np.uint32,
}
PLANE_NAMES = tuple(PLANE_TYPES)

Words = npt.NDArray[np.uint32]

FITS_BLOCK = 2880
_STORED_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Overlap:
    """Where two windows share pixels: (start, stop) on the one and on the other."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    other_rows: tuple[int, int]
    other_columns: tuple[int, int]


@dataclass(frozen=True)
class DetectorWindow:
    """A rectangle of detector pixels.

    Attributes
    ----------
    x, y : int
        First column and row, counted from 0 (SUBSTRT1 - 1, SUBSTRT2 - 1).
    columns, rows : int
        Extent (SUBSIZE1, SUBSIZE2).
    """

    x: int
    y: int
    columns: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def __str__(self) -> str:
        return (
            f"{self.columns}x{self.rows} pixels from column {self.x + 1}, row {self.y + 1} "
            "of the detector"
        )

    def overlap(self, other: DetectorWindow) -> Overlap | None:
        """Find the pixels that both windows hold; None if there are none."""
        left = max(self.x, other.x)
        right = min(self.x + self.columns, other.x + other.columns)
        bottom = max(self.y, other.y)
        top = min(self.y + self.rows, other.y + other.rows)
        if left >= right or bottom >= top:
            return None
        return Overlap(
            rows=(bottom - self.y, top - self.y),
            columns=(left - self.x, right - self.x),
            other_rows=(bottom - other.y, top - other.y),
            other_columns=(left - other.x, right - other.x),
        )


@dataclass(frozen=True, kw_only=True)
class ExposureInfo:
    """What the headers say of an exposure; None where they are silent."""

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
    def from_header(cls, header: Mapping[str, Any]) -> ExposureInfo:
        """Read the keywords of a primary header."""
        return cls(**{name: header.get(keyword) for name, (keyword, _) in _METADATA.items()})

    @classmethod
    def from_model(cls, model: Any) -> ExposureInfo:
        """Read the metadata of an open data model."""
        return cls(**{name: read_meta(model, path) for name, (_, path) in _METADATA.items()})


_METADATA = {
    "instrument": ("INSTRUME", "meta.instrument.name"),
    "detector": ("DETECTOR", "meta.instrument.detector"),
    "exposure_type": ("EXP_TYPE", "meta.exposure.type"),
    "filter": ("FILTER", "meta.instrument.filter"),
    "pupil": ("PUPIL", "meta.instrument.pupil"),
    "grating": ("GRATING", "meta.instrument.grating"),
    "gwa_xtilt": ("GWA_XTIL", "meta.instrument.gwa_xtilt"),
    "gwa_ytilt": ("GWA_YTIL", "meta.instrument.gwa_ytilt"),
    "subarray_xstart": ("SUBSTRT1", "meta.subarray.xstart"),
    "subarray_ystart": ("SUBSTRT2", "meta.subarray.ystart"),
    "subarray_xsize": ("SUBSIZE1", "meta.subarray.xsize"),
    "subarray_ysize": ("SUBSIZE2", "meta.subarray.ysize"),
    "bkg_subtract": ("S_BKDSUB", "meta.cal_step.bkg_subtract"),
    "unit": ("BUNIT", "meta.bunit_data"),
    "product": ("DATAMODL", "meta.model_type"),
    "program": ("PROGRAM", "meta.observation.program_number"),
    "observation": ("OBSERVTN", "meta.observation.observation_number"),
    "visit": ("VISIT", "meta.observation.visit_number"),
    "visit_group": ("VISITGRP", "meta.observation.visit_group"),
    "sequence": ("SEQ_ID", "meta.observation.sequence_id"),
    "activity": ("ACT_ID", "meta.observation.activity_id"),
    "exposure_number": ("EXPOSURE", "meta.observation.exposure_number"),
    "segment": ("EXSEGNUM", "meta.exposure.segment_number"),
}


def read_meta(model: Any, path: str) -> Any:
    """Read dotted metadata of a data model without creating what is not there; else None."""
    node = model.instance
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def window_of(info: ExposureInfo, shape: tuple[int, int], name: str) -> DetectorWindow:
    """Tell where an image of `shape` (rows, columns) lies on the detector.

    Parameters
    ----------
    info : ExposureInfo
        Its window keywords, if any. If one of the four is missing, all are taken as full frame.
    shape : (rows, columns)
        Shape of its image.
    name : str
        What to call it in an error.

    Raises
    ------
    InputError
        If the keywords contradict the shape, or are missing for what is not a full frame.
    """
    start = (info.subarray_xstart, info.subarray_ystart)
    size = (info.subarray_xsize, info.subarray_ysize)
    rows, columns = shape
    if start[0] is None or start[1] is None or size[0] is None or size[1] is None:
        full = FULL_FRAME.get(info.instrument or "", (2048, 2048))
        if shape != full:
            raise InputError(
                f"{name}: where its {columns}x{rows} pixels lie on the detector is unknown: of "
                "SUBSTRT1, SUBSTRT2, SUBSIZE1 and SUBSIZE2 at least one is missing, and this is "
                f"not a full frame of {full[1]}x{full[0]}; set the four keywords"
            )
        return DetectorWindow(0, 0, columns, rows)
    if (size[1], size[0]) != shape:
        raise InputError(
            f"{name}: SUBSIZE1 x SUBSIZE2 = {size[0]}x{size[1]} contradicts its image of "
            f"{columns}x{rows} pixels; correct the keywords"
        )
    if start[0] < 1 or start[1] < 1:
        raise InputError(
            f"{name}: SUBSTRT1, SUBSTRT2 = {start[0]}, {start[1]} must both be at least 1; "
            "correct the keywords"
        )
    return DetectorWindow(start[0] - 1, start[1] - 1, columns, rows)


class Plane(Protocol):
    """One plane of an exposure, (integrations, rows, columns)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations (1 for a 2-D plane), rows, columns."""

    @property
    def as_in_fits(self) -> bool:
        """Whether `read` gives big-endian words, unsigned ones offset by 2**31."""

    def read(self, integration: int, start: int, stop: int, words: Words) -> None:
        """Fill `words` (stop - start, columns) with those of float32 or uint32 pixels."""

    def read_native(self, integration: int, start: int, stop: int, words: Words) -> None:
        """Do the same in the byte order of this machine."""


@dataclass(frozen=True)
class ArrayPlane:
    """A plane in memory; `dtype` (float32 or uint32) is what its words are to be."""

    values: npt.NDArray[Any]
    dtype: type[np.float32] | type[np.uint32]
    as_in_fits = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations (1 for a 2-D plane), rows, columns."""
        integrations, rows, columns = self.values.shape
        return integrations, rows, columns

    def read(self, integration: int, start: int, stop: int, words: Words) -> None:
        """Fill `words` from rows of the plane."""
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and so left out
            words.view(self.dtype)[...] = self.values[integration, start:stop]

    read_native = read


@dataclass(frozen=True)
class FitsPlane:
    """A plane in an uncompressed FITS file, read with positioned reads: nothing is mapped."""

    name: str
    stream: IO[bytes]
    offset: int
    stored: np.dtype[Any]
    scale: float
    zero: float
    shape: tuple[int, int, int]
    dtype: type[np.float32] | type[np.uint32]

    @property
    def as_in_fits(self) -> bool:
        """Whether four-byte words are stored the usual way, so that `read` need not convert."""
        if self.dtype is np.float32:
            return self.stored == np.dtype(">f4") and (self.scale, self.zero) == (1, 0)
        return self.stored == np.dtype(">i4") and (self.scale, self.zero) == (1, 2**31)

    def read(self, integration: int, start: int, stop: int, words: Words) -> None:
        """Fill `words` from rows of the plane."""
        if self.as_in_fits:
            self._read_bytes(integration, start, words)
        else:
            self.read_native(integration, start, stop, words)

    def read_native(self, integration: int, start: int, stop: int, words: Words) -> None:
        """Fill `words` from rows of the plane, converted as FITS prescribes."""
        raw = np.empty(words.shape, self.stored)
        self._read_bytes(integration, start, raw)
        if self.dtype is np.uint32:
            words[...] = raw.astype(np.int64) * int(self.scale) + int(self.zero)
        else:
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and so left out
                words.view(np.float32)[...] = raw * self.scale + self.zero

    def _read_bytes(self, integration: int, start: int, out: npt.NDArray[Any]) -> None:
        _, rows, columns = self.shape
        position = self.offset + (integration * rows + start) * columns * self.stored.itemsize
        target = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        while len(target):
            count = os.preadv(self.stream.fileno(), [target], position)
            if count == 0:
                raise InputError(f"{self.name}: the file ends inside its data; fetch it again")
            position += count
            target = target[count:]


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
    window : DetectorWindow
        Where it lies on the detector.
    n_integrations : int
        1 for a 2-D product.
    """

    def __init__(
        self,
        name: str,
        info: ExposureInfo,
        planes: dict[str, Plane],
        *,
        path: Path | None = None,
        stream: IO[bytes] | None = None,
        model: Any = None,
    ) -> None:
        self.name = name
        self.path = path
        self.model = model
        self.info = info
        self.planes = planes
        self._stream = stream
        shapes = {plane: planes[plane].shape for plane in PLANE_NAMES}
        if len(set(shapes.values())) > 1:
            raise InputError(
                f"{name}: SCI, ERR and DQ must have one shape (got "
                + ", ".join(f"{plane} {shape}" for plane, shape in shapes.items())
                + ")"
            )
        self.n_integrations, rows, columns = shapes["SCI"]
        if 0 in shapes["SCI"]:
            raise InputError(f"{name}: its image is empty {shapes['SCI']}")
        self.window = window_of(info, (rows, columns), name)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Exposure:
        """Open a FITS product; ASDF products are opened as data models.

        Raises
        ------
        MissingFileError
            If there is no such file.
        InputError
            If it is not a readable FITS file with SCI, ERR and DQ planes.
        """
        path = Path(path)
        if path.suffix.lower() == ".asdf":
            return cls._from_asdf(path)
        stream = _open_bytes(path)
        try:
            header, planes = _find_planes(stream, path.name)
            return cls(
                path.name, ExposureInfo.from_header(header), planes, path=path, stream=stream
            )
        except BaseException:
            stream.close()
            raise

    @classmethod
    def _from_asdf(cls, path: Path) -> Exposure:
        from webbkg.files.models import open_model

        exposure = cls.from_model(open_model(path))
        exposure.path = path
        return exposure

    @classmethod
    def from_model(cls, model: Any) -> Exposure:
        """Take the planes of an open data model, which is neither copied nor changed.

        Raises
        ------
        InputError
            If it lacks a plane, or is neither 2-D nor 3-D.
        """
        name = read_meta(model, "meta.filename") or f"<{type(model).__name__}>"
        planes: dict[str, Plane] = {}
        for plane, attribute in (("SCI", "data"), ("ERR", "err"), ("DQ", "dq")):
            values = read_meta(model, attribute)
            if values is None:
                raise InputError(
                    f"{name}: the {type(model).__name__} has no {plane} plane; "
                    f"set model.{attribute}"
                )
            cube = _as_cube(np.asarray(values), name, plane)
            planes[plane] = ArrayPlane(cube, PLANE_TYPES[plane])
        return cls(name, ExposureInfo.from_model(model), planes, model=model)

    def placed_on(self, window: DetectorWindow) -> PlacedExposure | None:
        """Place the exposure on a target's window; None if they share no pixel."""
        overlap = window.overlap(self.window)
        if overlap is None:
            return None
        return PlacedExposure(
            planes=tuple(self.planes[name] for name in PLANE_NAMES),
            n_integrations=self.n_integrations,
            n_columns=self.window.columns,
            rows=overlap.rows,
            columns=overlap.columns,
            first_row=overlap.other_rows[0],
            first_column=overlap.other_columns[0],
        )

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Exposure:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class PlacedExposure:
    """The overlap of an exposure with a target's window; see `webbkg.image.average.Samples`."""

    planes: tuple[Plane, ...]
    n_integrations: int
    n_columns: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    first_row: int
    first_column: int

    def read(self, integration: int, start: int, stop: int, words: Words) -> bool:
        """Fill `words` (3, stop - start, n_columns) with SCI, ERR and DQ."""
        as_in_fits = all(plane.as_in_fits for plane in self.planes)
        for plane, plane_words in zip(self.planes, words, strict=True):
            read = plane.read if as_in_fits else plane.read_native
            read(integration, start, stop, plane_words)
        return as_in_fits


def _as_cube(values: npt.NDArray[Any], name: str, plane: str) -> npt.NDArray[Any]:
    if values.ndim == 2:
        return values[np.newaxis]
    if values.ndim == 3:
        return values
    raise InputError(f"{name}: {plane} must be 2-D or 3-D (got shape {values.shape})")


def _open_bytes(path: Path) -> IO[bytes]:
    """Open a file for positioned reads; a gzipped one is unpacked into an unnamed file."""
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; check the name and the folder")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a FITS product")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    magic = stream.read(2)
    stream.seek(0)
    if magic == b"":
        stream.close()
        raise InputError(f"{path}: the file is empty; fetch it again")
    if magic != _GZIP_MAGIC:
        return stream
    with stream:
        return _unpack(stream, path)


def _unpack(packed: IO[bytes], path: Path) -> IO[bytes]:
    """Unpack a gzipped file into one without a name, which goes when it is closed."""
    with tempfile.NamedTemporaryFile(prefix="webbkg-") as unpacked:
        try:
            with gzip.open(packed) as content:
                shutil.copyfileobj(content, unpacked, 2**20)
            unpacked.flush()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path}: damaged gzip file ({error}); fetch it again") from error
        except OSError as error:
            raise InputError(
                f"{path}: cannot be unpacked into {tempfile.gettempdir()} ({error.strerror}); "
                "unpack it yourself, or set TMPDIR to a folder with space"
            ) from error
        return Path(unpacked.name).open("rb")


def is_gzipped(path: Path) -> bool:
    """Tell by its first bytes whether a file is gzipped."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def read_header(path: Path) -> Mapping[str, Any]:
    """Read the primary header of a FITS file.

    Raises
    ------
    InputError
        If it is not one.
    """
    with _open_bytes(path) as stream:
        header, _ = next(read_headers(stream, path.name))
    return header


def _find_planes(stream: IO[bytes], name: str) -> tuple[Mapping[str, Any], dict[str, Plane]]:
    """Read the headers: the primary one, and where SCI, ERR and DQ lie."""
    primary: Mapping[str, Any] = {}
    planes: dict[str, Plane] = {}
    for header, offset in read_headers(stream, name):
        primary = primary or header
        plane = str(header.get("EXTNAME", "")).upper()
        if plane == "SCI" and "BUNIT" in header:
            primary = {**primary, "BUNIT": header["BUNIT"]}
        if plane in PLANE_TYPES and plane not in planes:
            planes[plane] = _fits_plane(header, offset, stream, name, plane)
        if len(planes) == len(PLANE_TYPES):
            return primary, planes
    missing = next(plane for plane in PLANE_NAMES if plane not in planes)
    raise InputError(
        f"{name}: has no {missing} plane; a JWST rate, rateints or cal product with SCI, ERR and "
        "DQ is needed"
    )


def read_headers(stream: IO[bytes], name: str) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Read one header after the other, each with the position of its data.

    Data are skipped by their size (FITS standard 4.0, equation 2): astropy's HDU list would
    warn where the file ends too early, and take three times as long.
    """
    from astropy.io import fits

    size = os.fstat(stream.fileno()).st_size
    if stream.read(9) != b"SIMPLE  =":
        raise InputError(f"{name}: not a FITS file; a JWST product in FITS is needed")
    position = 0
    while position < size:
        stream.seek(position)
        try:
            header = fits.Header.fromfile(stream, padding=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{name}: the file ends inside a header, or that is damaged ({error}); fetch it again"
            ) from error
        offset = -(-stream.tell() // FITS_BLOCK) * FITS_BLOCK
        length = data_length(header)
        if offset + length > size:
            label = header.get("EXTNAME", "its primary data")
            raise InputError(f"{name}: the file ends inside {label}; fetch it again")
        yield header, offset
        position = offset + -(-length // FITS_BLOCK) * FITS_BLOCK


def data_length(header: Mapping[str, Any]) -> int:
    """Bytes of the data that belong to a header, without padding."""
    axes = _axes(header)
    if not axes:
        return 0
    values = header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + math.prod(axes))
    return int(abs(header["BITPIX"]) // 8 * values)


def _axes(header: Mapping[str, Any]) -> list[int]:
    """Lengths of the axes, the slowest first, as NumPy counts them."""
    return [header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1)]


def _fits_plane(
    header: Mapping[str, Any], offset: int, stream: IO[bytes], name: str, plane: str
) -> FitsPlane:
    axes = _axes(header)
    if header.get("XTENSION", "IMAGE").strip() != "IMAGE":
        raise InputError(
            f"{name}: {plane} must be a plain image, not a table or a compressed image; unpack it"
        )
    if len(axes) not in (2, 3):
        raise InputError(f"{name}: {plane} must be a 2-D or 3-D image (got axes {axes})")
    return FitsPlane(
        name=name,
        stream=stream,
        offset=offset,
        stored=np.dtype(_STORED_TYPES[header["BITPIX"]]),
        scale=header.get("BSCALE", 1),
        zero=header.get("BZERO", 0),
        shape=(axes[0] if len(axes) == 3 else 1, axes[-2], axes[-1]),
        dtype=PLANE_TYPES[plane],
    )
