"""Products of large cubes, written without ever holding a cube in memory.

The data model is opened with stand-ins for its large planes: zeros of their shape that the
operating system has not given memory yet. stdatamodels' own FITS writer makes the headers and
the ASDF extension from them; the planes themselves go from file to file, those that do not
change by the kernel's own copying, SCI and DQ through a small buffer.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.exposures import Exposure
from webbkg.files.fits import FITS_BLOCK, data_length, is_gzipped, padded, read_headers
from webbkg.files.models import check_tree
from webbkg.numerics import words as word_kernels
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.results import Background, FlagImage, FloatImage
from webbkg.startup import quick_start

SMALLEST = 64 * 2**20
"""Bytes of SCI from which a target is streamed; below, reading it whole is as fast."""

COPY_CHUNK = 8 * 2**20

_NOT_SUPPORTED = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def is_streamable(path: Path) -> bool:
    """Tell whether a target is a plain FITS file with a cube that is worth streaming."""
    if path.suffix.lower() != ".fits" or is_gzipped(path):
        return False
    with Exposure.from_file(path) as exposure:
        integrations = exposure.n_integrations
        size = 4 * integrations * exposure.window.rows * exposure.window.columns
        as_usual = all(plane.as_in_fits for plane in exposure.planes.values())
    return integrations > 1 and size >= SMALLEST and as_usual


def open_standing_in(path: Path) -> Any:
    """Open a product as its data model, with stand-ins for its float32 and uint32 images."""
    from astropy.io import fits

    check_product(path)
    with quick_start():
        from stdatamodels.jwst import datamodels

        with (
            door.reading(path, "cannot be opened as a data model"),
            fits.open(path, memmap=True) as stored,
        ):
            hdus = fits.HDUList([_stand_in(hdu) for hdu in stored])
            kind = stored[0].header.get("DATAMODL", "CubeModel")
            model = getattr(datamodels, kind, datamodels.CubeModel)(hdus)
            check_tree(model.instance, path)
            model.meta.filename = path.name
            return model


def _stand_in(hdu: Any) -> Any:
    """Replace an image by zeros that occupy no memory until they are touched."""
    from astropy.io import fits

    dtype = _plain_type(hdu.header)
    if not isinstance(hdu, fits.ImageHDU) or dtype is None or hdu.size < COPY_CHUNK:
        return hdu.copy() if hdu.size else hdu
    return fits.ImageHDU(np.zeros(hdu.shape, dtype), header=hdu.header)


def _plain_type(header: Any) -> type[np.float32] | type[np.uint32] | None:
    scaling = header.get("BSCALE", 1), header.get("BZERO", 0)
    if header["BITPIX"] == -32 and scaling == (1, 0):
        return np.float32
    if header["BITPIX"] == 32 and scaling == (1, 2**31):
        return np.uint32
    return None


@dataclass(frozen=True)
class FileSegment:
    """SCI and DQ of a file, for `webbkg.soss.fit`."""

    exposure: Exposure

    @property
    def n_integrations(self) -> int:
        """How many integrations there are."""
        return self.exposure.n_integrations

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of one integration."""
        return self.exposure.window.shape

    def read(self, integration: int, start: int, stop: int) -> tuple[FloatImage, FlagImage]:
        """Return rows of SCI and DQ."""
        read = []
        for name in ("SCI", "DQ"):
            words = np.empty((stop - start, self.shape[1]), np.uint32)
            self.exposure.planes[name].read(integration, start, stop, words)
            word_kernels.make_native(words.reshape(-1), name == "DQ")
            read.append(words)
        return read[0].view(np.float32), read[1]


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
    model: Any, source: Path, background: Background | None, stream: IO[bytes]
) -> None:
    """Write a model that was opened with stand-ins, its planes taken from `source`.

    Parameters
    ----------
    model : data model
        From `open_standing_in`; its metadata are those of the product.
    source : Path
        The file that it was opened from.
    background : Background or None
        What to subtract from SCI and add to DQ.
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
    _allocate(stream, total)
    with source.open("rb") as stored:
        places = _places(stored, source.name)
        for part in parts:
            place = places.get(part.key)
            if place is None or not _is_standing_in(part.hdu):
                _write_hdu(part, stream)
                continue
            os.pwrite(stream.fileno(), part.header, part.position)
            change = _change(part, background)
            if change is None:
                _copy(stored, place, stream, part.data_position, part.length)
            else:
                _stream(stored, place, stream, part, change)


def _lay_out(hdus: Any) -> Iterator[_Part]:
    position = 0
    for hdu in hdus:
        part = _Part(hdu, hdu.header.tostring().encode("ascii"), position)
        yield part
        position = part.data_position + padded(part.length)


def _allocate(stream: IO[bytes], size: int) -> None:
    """Take the disk space now, so that a full disk is met before anything is written."""
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        stream.truncate(size)


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
    os.pwrite(stream.fileno(), content, part.position)


def _change(
    part: _Part, background: Background | None
) -> Callable[[npt.NDArray[np.uint32], int, int], None] | None:
    """Return what is to be done to rows of a plane's words; None if it does not change."""
    if background is None or part.key[1] != 1:
        return None
    covered = background.covered
    if part.key[0] == "SCI":
        sci = background.sci
        return lambda words, start, stop: word_kernels.subtract_stored(
            words.reshape(-1), sci[start:stop].reshape(-1), covered[start:stop].reshape(-1)
        )
    if part.key[0] == "DQ" and background.dq.any():
        dq = background.dq
        return lambda words, start, stop: word_kernels.flag_stored(
            words.reshape(-1), dq[start:stop].reshape(-1), covered[start:stop].reshape(-1)
        )
    return None


def _copy(source: IO[bytes], start: int, target: IO[bytes], position: int, length: int) -> None:
    """Copy bytes from file to file, inside the operating system where it can."""
    done = 0
    while done < length:
        try:
            count = os.copy_file_range(
                source.fileno(), target.fileno(), length - done, start + done, position + done
            )
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            count = 0
        if count == 0:
            chunk = os.pread(source.fileno(), min(COPY_CHUNK, length - done), start + done)
            if not chunk:
                raise OSError(errno.EIO, "the target became shorter while it was read")
            count = os.pwrite(target.fileno(), chunk, position + done)
        done += count


def _stream(
    source: IO[bytes],
    start: int,
    target: IO[bytes],
    part: _Part,
    change: Callable[[npt.NDArray[np.uint32], int, int], None],
) -> None:
    """Take a plane through a buffer, one integration at a time, on several threads."""
    integrations, rows, columns = _cube_shape(part.hdu.header)
    size = 4 * rows * columns

    def make_worker() -> Callable[[int, int], None]:
        words = np.empty((rows, columns), np.uint32)
        view = memoryview(words.reshape(-1).view(np.uint8))  # type: ignore[arg-type]

        def work(first: int, last: int) -> None:
            for index in range(first, last):
                _read_exactly(source, view, start + index * size)
                change(words, 0, rows)
                _write_exactly(target, view, part.data_position + index * size)

        return work

    over_bands(split(integrations, 4), make_worker, threads=available_threads())


def _cube_shape(header: Any) -> tuple[int, int, int]:
    integrations = header["NAXIS3"] if header["NAXIS"] == 3 else 1
    return integrations, header["NAXIS2"], header["NAXIS1"]


def _read_exactly(source: IO[bytes], view: memoryview, position: int) -> None:
    while len(view):
        count = os.preadv(source.fileno(), [view], position)
        if count == 0:
            raise OSError(errno.EIO, "the target became shorter while it was read")
        view, position = view[count:], position + count


def _write_exactly(target: IO[bytes], view: memoryview, position: int) -> None:
    while len(view):
        count = os.pwrite(target.fileno(), view, position)
        view, position = view[count:], position + count


@contextmanager
def open_segment(path: Path) -> Iterator[FileSegment]:
    """Open a file's SCI and DQ for reading by integration."""
    with Exposure.from_file(path) as exposure:
        yield FileSegment(exposure)
