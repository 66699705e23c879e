"""Planes of a FITS file, read by row from where they lie; nothing is mapped, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.disk import read_at
from webbkg.files.fits import Header, checked_hdus
from webbkg.files.pool import FilePool
from webbkg.numerics.planes import Rows, Words, plane_type
from webbkg.numerics.words import SIGN_BIT, make_native

_STORED_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class StoredPlane:
    """How one plane is stored, and where.

    Attributes
    ----------
    path : Path or None
        The file; None where it is unpacked in the pool's scratch file.
    offset : int
        Where its data begin (bytes).
    stored : dtype
        Of the pixels in the file.
    dtype : type
        What they are computed on as, float32 or uint32.
    scale, zero : float
        BSCALE and BZERO.
    blank : int or None
        BLANK, the stored integer of pixels that have no value.
    compressed_hdu : int or None
        Number of the HDU, where its pixels are tile-compressed.
    """

    path: Path | None
    offset: int
    stored: np.dtype[Any]
    dtype: type[np.float32] | type[np.uint32]
    scale: float = 1
    zero: float = 0
    blank: int | None = None
    compressed_hdu: int | None = None

    @classmethod
    def from_header(cls, header: Header, path: Path | None, offset: int, name: str) -> StoredPlane:
        """Take what an image's header says of it.

        Raises
        ------
        InputError
            If DQ is scaled by what is no whole number.
        """
        scale, zero = header.number("BSCALE", 1), header.number("BZERO", 0)
        if name == "DQ" and not (_is_whole(scale) and _is_whole(zero)):
            raise InputError(
                f"{header.name}: BSCALE and BZERO of DQ must be whole numbers "
                f"(got {scale} and {zero})"
            )
        return cls(
            path=path,
            offset=offset,
            stored=np.dtype(_STORED_TYPES[header["BITPIX"]]),
            dtype=plane_type(name),
            scale=scale,
            zero=zero,
            blank=header.integer("BLANK") if _has_blank(header) else None,
        )

    @classmethod
    def compressed(cls, name: str, number: int) -> StoredPlane:
        """Note that HDU `number` is tile-compressed: it is unpacked when it is first read."""
        return cls(None, 0, np.dtype("V"), plane_type(name), compressed_hdu=number)

    @cached_property
    def is_usual(self) -> bool:
        """Whether its words are big-endian float32, or uint32 offset by 2**31: no conversion."""
        if self.dtype is np.float32:
            return self.stored == np.dtype(">f4") and (self.scale, self.zero) == (1, 0)
        return self.stored == np.dtype(">i4") and (self.scale, self.zero) == (1, 2**31)

    def convert(self, raw: npt.NDArray[Any], words: Words) -> None:
        """Turn stored pixels into native words, as the FITS standard (4.0, 4.4.2.5) has it."""
        if self.dtype is np.uint32:
            # Modulo 2**32, as the words are: BZERO of 64 bits does not fit an int64.
            words[...] = raw.astype(np.int64) * int(self.scale) + int(self.zero) % 2**32
            return
        is_scaled = (self.scale, self.zero) != (1, 0)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and so left out
            words.view(np.float32)[...] = (
                raw * np.float64(self.scale) + self.zero if is_scaled else raw
            )
        if self.blank is not None:
            words.view(np.float32)[raw == self.blank] = np.nan


class FitsPlanes:
    """Planes of one FITS product, (integrations, rows, columns); a `PlaneSource`.

    Parameters
    ----------
    name : str
        What to call the file in an error.
    path : Path
        The file.
    pool : FilePool
        Through which it is read.
    stored : mapping of str to StoredPlane
        The planes by their names.
    shape : (integrations, rows, columns)
        Of each.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        pool: FilePool,
        stored: Mapping[str, StoredPlane],
        shape: tuple[int, int, int],
    ) -> None:
        self.name = name
        self.path = path
        self.shape = shape
        self._pool = pool
        self._stored = dict(stored)
        self._unpacking = Lock()

    @property
    def is_plain(self) -> bool:
        """Whether every plane lies in the file itself, as `read` gives it without conversion."""
        return all(plane.path is self.path and plane.is_usual for plane in self._stored.values())

    def has(self, name: str) -> bool:
        """Tell whether there is a plane of a name."""
        return name in self._stored

    def read(
        self, names: Sequence[str], integration: int, start: int, stop: int, words: Words
    ) -> bool:
        """Fill `words` with rows of the planes; they are converted unless all are as usual."""
        planes = [self._plane(name) for name in names]
        as_in_fits = all(plane.is_usual for plane in planes)
        for path in {plane.path for plane in planes}:
            with self._pool.use(path) as descriptor:
                for plane, of_plane in zip(planes, words, strict=True):
                    if plane.path is not path:
                        continue
                    if as_in_fits:
                        self._read_raw(descriptor, plane, integration, start, memoryview(of_plane))
                    else:
                        raw = np.empty(of_plane.shape, plane.stored)
                        view = memoryview(raw.view(np.uint8))  # type: ignore[arg-type]
                        self._read_raw(descriptor, plane, integration, start, view)
                        plane.convert(raw, of_plane)
        return as_in_fits

    def rows(
        self, names: Sequence[str], integration: int, start: int, stop: int, room: Words
    ) -> list[Rows]:
        """Put rows of the planes into `room`, in the byte order of this machine."""
        if self.read(names, integration, start, stop, room):
            for name, words in zip(names, room, strict=True):
                make_native(words.reshape(-1), name == "DQ")
        return [
            words if name == "DQ" else words.view(np.float32)
            for name, words in zip(names, room, strict=True)
        ]

    def _read_raw(
        self, descriptor: int, plane: StoredPlane, integration: int, start: int, out: memoryview
    ) -> None:
        _, rows, columns = self.shape
        position = plane.offset + (integration * rows + start) * columns * plane.stored.itemsize
        if read_at(descriptor, out.cast("B"), position) < out.nbytes:
            raise InputError(f"{self.name}: the file ends inside its data; fetch it again")

    def _plane(self, name: str) -> StoredPlane:
        """Return where a plane is, which is unpacked first if it is tile-compressed."""
        plane = self._stored[name]
        if plane.compressed_hdu is None:
            return plane
        with self._unpacking:
            plane = self._stored[name]
            if plane.compressed_hdu is not None:
                plane = self._stored[name] = self._unpack(plane, plane.compressed_hdu)
        return plane

    def _unpack(self, plane: StoredPlane, number: int) -> StoredPlane:
        """Let astropy decompress a plane, one integration at a time, into the scratch file."""
        from astropy.io import fits

        with (
            checked_hdus(self.path) as stream,
            door.reading(self.name, "a compressed image cannot be unpacked"),
            fits.open(stream, memmap=False) as hdus,
        ):
            offset = self._pool.keep(_as_stored(hdus[number], self.shape[0], plane.dtype))
        stored, zero = (">f4", 0) if plane.dtype is np.float32 else (">i4", 2**31)
        return StoredPlane(None, offset, np.dtype(stored), plane.dtype, zero=zero)


def _has_blank(header: Header) -> bool:
    return header["BITPIX"] > 0 and header.get("BLANK") is not None


def _is_whole(value: float) -> bool:
    return value == round(value) and abs(value) <= 2**53


def _as_stored(
    hdu: Any, integrations: int, dtype: type[np.float32] | type[np.uint32]
) -> Iterator[bytes]:
    """Give the pixels of a compressed image as an image that is not would store them."""
    cube = len(hdu.shape) == 3
    for index in range(integrations):
        pixels = hdu.section[index] if cube else hdu.section[:]
        with np.errstate(over="ignore"):
            words = np.ascontiguousarray(pixels, dtype).view(np.uint32)
        yield (words ^ SIGN_BIT if dtype is np.uint32 else words).astype(">u4").tobytes()
