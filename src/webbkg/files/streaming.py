"""Products of large cubes, written without ever holding a cube in memory.

The data model is opened with stand-ins for its large planes: zeros of their shape that the
operating system has not given memory yet. stdatamodels' own FITS writer makes the headers and
the ASDF extension from them; the planes themselves go from file to file, those that do not
change by the kernel's own copying, SCI and DQ through a small buffer.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.disk import COPY_CHUNK, allocate, copy_exactly, write_exactly
from webbkg.files.exposures import Exposure
from webbkg.files.fits import FITS_BLOCK, data_length, is_gzipped, padded, read_headers
from webbkg.files.models import check_tree
from webbkg.files.planes import FitsPlanes
from webbkg.files.product import Change, stream_plane

SMALLEST = 64 * 2**20
"""Bytes of SCI from which a target is streamed; below, reading it whole is as fast."""


def is_streamable(exposure: Exposure) -> bool:
    """Tell whether a target is a plain FITS file with a cube that is worth streaming."""
    path = exposure.path
    if path is None or path.suffix.lower() != ".fits" or is_gzipped(path):
        return False
    size = 4 * math.prod(exposure.planes.shape)
    is_plain = isinstance(exposure.planes, FitsPlanes) and exposure.planes.is_plain
    return exposure.n_integrations > 1 and size >= SMALLEST and is_plain


def drop_stand_ins(model: Any) -> None:
    """Take the planes of a streamed model away: better none than zeros that look like data."""
    for name in [name for name, value in model.instance.items() if np.ndim(value) > 1]:
        del model.instance[name]


def open_standing_in(path: Path) -> Any:
    """Open a product as its data model, with stand-ins for its float32 and uint32 images."""
    from stdatamodels.jwst import datamodels

    check_product(path)
    with door.reading(path, "cannot be opened as a data model"):
        hdus = standing_in_hdus(path)
        kind = hdus[0].header.get("DATAMODL", "CubeModel")
        model = getattr(datamodels, kind, datamodels.CubeModel)(hdus)
        check_tree(model.instance, path)
        model.meta.filename = path.name
        return model


def standing_in_hdus(path: Path) -> Any:
    """Read a product's HDUs, with stand-ins for its large images."""
    from astropy.io import fits

    with fits.open(path, memmap=True) as stored:
        return fits.HDUList([_stand_in(hdu) for hdu in stored])


def _stand_in(hdu: Any) -> Any:
    """Replace an image by zeros that occupy no memory until they are touched."""
    from astropy.io import fits

    if not isinstance(hdu, fits.ImageHDU) or not is_large(hdu.header):
        return hdu.copy() if hdu.size else hdu
    return fits.ImageHDU(np.zeros(hdu.shape, _plain_type(hdu.header)), header=hdu.header)


def is_large(header: Any) -> bool:
    """Tell by its header an image extension of which a stand-in is worth making."""
    image = str(header.get("XTENSION", "")).strip() == "IMAGE"
    return image and _plain_type(header) is not None and data_length(header) >= COPY_CHUNK


def _plain_type(header: Any) -> type[np.float32] | type[np.uint32] | None:
    scaling = header.get("BSCALE", 1), header.get("BZERO", 0)
    if header["BITPIX"] == -32 and scaling == (1, 0):
        return np.float32
    if header["BITPIX"] == 32 and scaling == (1, 2**31):
        return np.uint32
    return None


@dataclass(frozen=True)
class _Part:
    """One HDU of the product, and where it begins."""

    hdu: Any
    header: bytes
    position: int

    @property
    def data_position(self) -> int:
        return self.position + len(self.header)

    @property
    def length(self) -> int:
        return data_length(self.hdu.header)

    @property
    def key(self) -> tuple[str, int]:
        return self.hdu.name, self.hdu.ver


def write_streamed(
    model: Any, source: Path, changes: Mapping[str, Change], stream: IO[bytes]
) -> None:
    """Write a model that was opened with stand-ins, its planes taken from `source`.

    Parameters
    ----------
    model : data model
        From `open_standing_in`; its metadata are those of the product.
    source : Path
        The file that it was opened from.
    changes : mapping of str to callable
        What becomes of the rows of a plane, in the byte order of this machine; the others stay.
    stream : binary file
        Open for writing, empty.
    """
    from stdatamodels import fits_support

    with door.reading(source, "its metadata cannot be written", passing=(OSError,)):
        model.on_save(None)
        hdus = fits_support.to_fits(model.instance, model.schema)
        parts = list(_lay_out(hdus))
    last = parts[-1]
    total = last.data_position + padded(last.length)
    allocate(stream, total)
    with source.open("rb") as stored:
        places = _places(stored, source.name)
        for part in parts:
            place = places.get(part.key)
            if place is None or not _is_standing_in(part.hdu):
                _write_hdu(part, stream)
                continue
            write_exactly(stream, part.header, part.position)
            change = changes.get(part.key[0]) if part.key[1] == 1 else None
            if change is None:
                copy_exactly(stored, place, stream, part.data_position, part.length)
            else:
                header = part.hdu.header
                plane = part.hdu.shape, _plain_type(header) or np.float32
                stream_plane(stored, place, stream, part.data_position, plane, change)


def _lay_out(hdus: Any) -> Iterator[_Part]:
    position = 0
    for hdu in hdus:
        part = _Part(hdu, hdu.header.tostring().encode("ascii"), position)
        yield part
        position = part.data_position + padded(part.length)


def _places(stored: IO[bytes], name: str) -> dict[tuple[str, int], int]:
    """Find where the data of each extension lie."""
    return {
        (str(header.get("EXTNAME", "")), header.integer("EXTVER", 1)): offset
        for header, offset in read_headers(stored, name)
    }


def _is_standing_in(hdu: Any) -> bool:
    from astropy.io import fits

    return (
        isinstance(hdu, fits.ImageHDU)
        and _plain_type(hdu.header) is not None
        and data_length(hdu.header) >= COPY_CHUNK
    )


def _write_hdu(part: _Part, stream: IO[bytes]) -> None:
    """Write an HDU that is held in memory, with astropy's own writer."""
    from astropy.io import fits

    buffer = io.BytesIO()
    if isinstance(part.hdu, fits.PrimaryHDU):
        content = part.header
    else:
        fits.HDUList([fits.PrimaryHDU(), part.hdu]).writeto(buffer)
        content = buffer.getvalue()[FITS_BLOCK:]
    write_exactly(stream, content, part.position)
