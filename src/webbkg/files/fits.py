"""The door of FITS files: headers walked and checked against the file's length, gzip unpacked.

What the headers claim is compared with what the file holds before any memory is taken for it.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from webbkg.errors import InputError
from webbkg.files import door

FITS_BLOCK = 2880
CARD = 80
LONGEST_HEADER = 2000
"""Blocks (72 000 cards) in which a header must come to its END."""

LONGEST_FILLING = 10 * FITS_BLOCK
"""Bytes of blanks after the last extension, as a tape's record may leave; astropy takes each block
for another extension."""

MOST_AXES = MOST_FIELDS = 999
"""Of an image and of a table (FITS standard 4.0, sections 4.4.1 and 7.3.1)."""

LARGEST_EXPANSION = 2000
"""Bytes that a byte of a compressed image may stand for; gzip reaches 1032."""

_RICE = {"BLOCKSIZE": (16, 32), "BYTEPIX": (1, 2, 4, 8)}
"""Parameters of Rice compression and their values (FITS standard 4.0, section 10.4.1), which astropy
does not check before it decompresses, so that others can end the process."""

LARGEST_ZEROS = 2**31
LARGEST_GAIN = 100
"""A gzip file may unpack to so many bytes, and so many times its size besides."""

_BITS = (8, 16, 32, 64, -32, -64)
_GZIP_MAGIC = b"\x1f\x8b"
_COPY = 2**20


_NAME = re.compile(r"[A-Z0-9_-]{1,8}")
_RECORD = re.compile(r"= *'[^']*: +[+-]?[\d.]")
"""A card that astropy takes for one of several of its keyword, as distortion tables have them."""

_VALUE = re.compile(
    r" *(?:'(?P<text>[^']*)'|(?P<truth>[TF])|(?P<integer>[+-]?\d+)"
    r"|(?P<number>[+-]?(?:\.\d+|\d+(?:\.\d*)?)(?:[DE][+-]?\d+)?)|) *(?:/[ -~]*)?"
)


class _PlainCards(Mapping[str, Any]):
    """The cards of a header that has none out of the ordinary; a value is read when it is asked for.

    What is in doubt (a text that goes on in the next card, or has a quote in it) is left to
    astropy, whose import takes longer than all reading of headers.
    """

    def __init__(self, text: str, places: dict[str, int]) -> None:
        self._text = text
        self._places = places

    def __getitem__(self, keyword: str) -> Any:
        start = self._places[keyword]
        match = _VALUE.fullmatch(self._text, start + 10, start + CARD)
        if match is None or self._text.startswith("CONTINUE", start + CARD):
            return _any_cards(self._text)[keyword]
        kind, value = match.lastgroup, match[match.lastgroup or 0]
        if kind == "text":
            return value.rstrip()
        if kind == "truth":
            return value == "T"
        if kind == "integer":
            return int(value)
        return float(value.replace("D", "E")) if kind == "number" else None

    def __contains__(self, keyword: object) -> bool:
        return keyword in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _plain_cards(text: str) -> _PlainCards | None:
    """Find the cards of a header; None if astropy is to look at one."""
    places: dict[str, int] = {}
    for start in range(0, len(text), CARD):
        card = text[start : start + CARD]
        name = card[:8].rstrip()
        if card.rstrip() == "END":
            return _PlainCards(text, places)
        if name in ("", "COMMENT", "HISTORY", "CONTINUE"):
            continue
        if card[8:10] != "= " or not _NAME.fullmatch(name) or _RECORD.search(card):
            return None
        places.setdefault(name, start)
    return None


def _any_cards(text: str) -> Mapping[str, Any]:
    from astropy.io import fits

    header: Mapping[str, Any] = fits.Header.fromstring(text)
    return header


class Header(Mapping[str, Any]):
    """The cards of one header; a value is parsed when it is asked for.

    Parameters
    ----------
    cards : mapping
        As they were read; one of astropy's, or of this module.
    name : str
        The file, for errors.
    """

    def __init__(self, cards: Mapping[str, Any], name: str) -> None:
        self.cards = cards
        self.name = name
        self._values: dict[str, Any] = {}

    def __getitem__(self, keyword: str) -> Any:
        """Return a value, None if it is blank.

        Raises
        ------
        InputError
            If the card is damaged.
        """
        if keyword not in self._values:
            self._values[keyword] = self._parsed(keyword)
        return self._values[keyword]

    def _parsed(self, keyword: str) -> Any:
        if keyword not in self.cards:
            raise KeyError(keyword)
        with door.reading(self.name, f"the card {keyword} is damaged"):
            value = self.cards[keyword]
        return None if type(value).__name__ == "Undefined" else value

    def __contains__(self, keyword: object) -> bool:
        return keyword in self.cards

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def text(self, keyword: str, default: str = "") -> str:
        """Return a keyword's text; another type is an InputError."""
        value = door.as_text(self.get(keyword), self.name, keyword)
        return default if value is None else value

    def number(self, keyword: str, default: float) -> float:
        """Return a keyword's finite number; another value is an InputError."""
        value = door.as_number(self.get(keyword), self.name, keyword)
        if value is not None and not math.isfinite(value):
            raise InputError(f"{self.name}: {keyword} must be finite (got {value}); correct it")
        return default if value is None else value

    def integer(self, keyword: str, default: int | None = None) -> int:
        """Return a keyword's integer; another type, or none without a default, is an InputError."""
        value = door.as_integer(self.get(keyword), self.name, keyword)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{self.name}: a header lacks {keyword}; fetch it again")
        return value

    def integer_within(
        self, keyword: str, lowest: int, highest: int, default: int | None = None
    ) -> int:
        """Return a keyword's integer, an InputError if it is out of range."""
        value = self.integer(keyword, default)
        if not lowest <= value <= highest:
            raise InputError(
                f"{self.name}: {keyword} must be from {lowest} to {highest} (got {value}); "
                "fetch it again"
            )
        return value


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for positioned reads; a packed one is unpacked into an unnamed file.

    Packed is by gzip, or as the one member of a zip archive.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is no regular file, empty, damaged, or unpacks to more than its headers tell of.
    """
    door.regular_file(path, wanted="a FITS product")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    magic = stream.read(2)
    stream.seek(0)
    if magic == b"":
        stream.close()
        raise InputError(f"{path}: the file is empty; fetch it again")
    if magic not in _UNPACKERS:
        return stream
    with stream:
        return _unpack(stream, path, *_UNPACKERS[magic])


def _unpack(
    packed: IO[bytes], path: Path, kind: str, content_of: Callable[[IO[bytes]], Any]
) -> IO[bytes]:
    """Unpack a file into one without a name, which goes when it is closed."""
    with tempfile.NamedTemporaryFile(prefix="webbkg-") as unpacked:
        try:
            with content_of(packed) as content:
                _copy_hdus(content, unpacked, path)
            unpacked.flush()
        except _DAMAGED as error:
            raise InputError(f"{path}: damaged {kind} file ({error}); fetch it again") from error
        except OSError as error:
            raise InputError(
                f"{path}: cannot be unpacked into {tempfile.gettempdir()} ({error.strerror}); "
                "unpack it yourself, or set TMPDIR to a folder with space"
            ) from error
        return Path(unpacked.name).open("rb")


def _only_member(packed: IO[bytes]) -> Any:
    archive = zipfile.ZipFile(packed)
    if len(archive.namelist()) != 1:
        raise zipfile.BadZipFile("one file is to be in it")
    return archive.open(archive.namelist()[0])


_UNPACKERS: dict[bytes, tuple[str, Callable[[IO[bytes]], Any]]] = {
    _GZIP_MAGIC: ("gzip", gzip.open),
    b"PK": ("zip", _only_member),
}
"""By a file's first two bytes."""

_DAMAGED = (
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    NotImplementedError,  # a compression, or a version of the format, that zipfile does not know
    RuntimeError,  # a password is needed
)


def _copy_hdus(content: Any, unpacked: IO[bytes], path: Path) -> None:
    """Copy header after header with its data: no more than they tell of, whatever follows."""
    allowed = LARGEST_ZEROS + LARGEST_GAIN * path.stat().st_size
    while raw := _read_header(content, path.name):
        unpacked.write(raw)
        left = padded(data_length(_checked(raw, path.name)))
        allowed -= len(raw) + left
        if allowed < 0:
            raise InputError(
                f"{path}: its headers tell of more than such a small gzip file can hold; unpack it"
            )
        while left and (chunk := content.read(min(left, _COPY))):
            unpacked.write(chunk)
            left -= len(chunk)


def is_gzipped(path: Path) -> bool:
    """Tell by its first bytes whether a file is gzipped."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def read_header(path: Path) -> Header:
    """Read the primary header of a FITS file, gzipped or not, and nothing else.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is not one.
    """
    door.regular_file(path, wanted="a FITS product")
    with (
        door.reading(path, "its header cannot be read"),
        gzip.open(path) if is_gzipped(path) else path.open("rb") as content,
    ):
        return _checked(_read_header(content, path.name), path.name)


def leading_headers(path: Path, extension: str) -> tuple[Header, Header | None]:
    """Read the primary header and that of one extension, and nothing behind it.

    Parameters
    ----------
    path : Path
        A FITS file, gzipped or not; of a gzipped one no more is unpacked than stands before.
    extension : str
        Its EXTNAME, in capitals.

    Returns
    -------
    primary : Header
        The first.
    found : Header or None
        That of the extension, if there is one.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If a header is damaged, or the file ends inside the data of the extension.
    """
    door.regular_file(path, wanted="a FITS product")
    size = path.stat().st_size
    with door.reading(path, "its headers cannot be read"):
        packed = is_gzipped(path)
        most = LARGEST_ZEROS + LARGEST_GAIN * size if packed else size
        with gzip.open(path) if packed else path.open("rb") as content:
            primary = header = _checked(_read_header(content, path.name), path.name)
            while str(header.get("EXTNAME", "")).strip().upper() != extension:
                end = content.tell() + padded(data_length(header))
                raw = b"" if end >= most else _header_at(content, end, path.name)
                if not raw:
                    return primary, None
                header = _checked(raw, path.name)
            if content.tell() + data_length(header) > most:
                raise InputError(f"{path.name}: the file ends inside {extension}; fetch it again")
    return primary, header


def _header_at(content: Any, position: int, name: str) -> bytes:
    content.seek(position)
    return _read_header(content, name)


def read_headers(stream: IO[bytes], name: str) -> Iterator[tuple[Header, int]]:
    """Read one header after the other, each with the position of its data.

    Data are skipped by their size (FITS standard 4.0, equation 2): astropy's HDU list would
    warn where the file ends too early, and take three times as long.

    Raises
    ------
    InputError
        If a header is damaged, or tells of more data than the file holds.
    """
    size = os.fstat(stream.fileno()).st_size
    position = 0
    while position < size:
        stream.seek(position)
        raw = _read_header(stream, name)
        if not raw:
            return
        header, offset = _checked(raw, name), position + len(raw)
        length = data_length(header)
        if offset + length > size:
            label = header.get("EXTNAME", "its primary data")
            raise InputError(f"{name}: the file ends inside {label}; fetch it again")
        yield header, offset
        position = offset + padded(length)


@contextmanager
def checked_hdus(path: Path) -> Iterator[IO[bytes]]:
    """Open a FITS file, unpacked, for a library to read, after all its headers were checked.

    Raises
    ------
    InputError
        See `open_bytes` and `read_headers`.
    """
    with open_bytes(path) as stream:
        for _ in read_headers(stream, path.name):
            pass
        stream.seek(0)
        yield stream


def _read_header(stream: Any, name: str) -> bytes:
    """Read the blocks of a header up to its END; nothing where the file's HDUs are over."""
    raw = stream.read(FITS_BLOCK)
    if stream.tell() <= FITS_BLOCK:
        if not raw.startswith(b"SIMPLE  ="):
            raise InputError(f"{name}: not a FITS file; a JWST product in FITS is needed")
    elif not raw.strip(b"\0 "):  # the filling of a tape, or nothing
        if len(stream.read(LONGEST_FILLING)) == LONGEST_FILLING:
            raise InputError(
                f"{name}: blanks of more than {LONGEST_FILLING} bytes follow its last extension; "
                "cut them off"
            )
        return b""
    elif not raw.startswith(b"XTENSION="):
        raise InputError(
            f"{name}: the file ends inside a header, or that is damaged (no XTENSION card where "
            "one is due); fetch it again"
        )
    blocks = [raw]
    while not _has_end(blocks[-1]):
        blocks.append(stream.read(FITS_BLOCK))
        if len(blocks[-1]) < FITS_BLOCK or len(blocks) > LONGEST_HEADER:
            raise InputError(
                f"{name}: the file ends inside a header, or that is damaged (no END card); "
                "fetch it again"
            )
    return b"".join(blocks)


def _has_end(block: bytes) -> bool:
    return any(
        block[start : start + CARD].rstrip() == b"END" for start in range(0, len(block), CARD)
    )


def _checked(raw: bytes, name: str) -> Header:
    """Parse a header, and check what tells of the size and kind of its data."""
    # As astropy, which warns: a character outside ASCII becomes a question mark.
    text = raw.decode("ascii", "replace").replace("\ufffd", "?")
    with door.reading(name, "a header is damaged"):
        header = Header(_plain_cards(text) or _any_cards(text), name)
    if "SIMPLE" in header and header["SIMPLE"] is not True:  # astropy may not come to its end
        raise InputError(f"{name}: SIMPLE must be T (got {header['SIMPLE']!r:.40}); fetch it again")
    if header.text("XTENSION").strip() in ("BINTABLE", "TABLE"):
        header.integer_within("TFIELDS", 0, MOST_FIELDS)
        _check_compressed(header)
    return header


def _check_compressed(header: Header) -> None:
    """Refuse a compressed image that claims more than its bytes can stand for."""
    if header.get("ZIMAGE") is not True:
        return
    claimed, stored = data_length(header, "Z"), data_length(header)
    if claimed > LARGEST_EXPANSION * stored:
        raise InputError(
            f"{header.name}: a compressed image of {claimed} bytes cannot come out of {stored}; "
            "fetch it again"
        )
    for keyword in (one for one in header if one.startswith("ZNAME")):
        name, value = header.text(keyword).strip().upper(), keyword.replace("NAME", "VAL")
        allowed = _RICE.get(name, ())
        if allowed and header.integer(value) not in allowed:
            raise InputError(
                f"{header.name}: {name} of a compressed image ({value}) must be one of {allowed} "
                f"(got {header[value]}); fetch it again"
            )


def data_length(header: Mapping[str, Any], prefix: str = "", name: str = "a header") -> int:
    """Bytes of the data that belong to a header, without padding.

    `prefix` is Z for the image that a compressed one stands for.

    Raises
    ------
    InputError
        If a keyword that tells is missing, of another type, or out of range.
    """
    header = header if isinstance(header, Header) else Header(header, name)
    bits = header.integer(f"{prefix}BITPIX")
    if bits not in _BITS:
        raise InputError(
            f"{header.name}: {prefix}BITPIX must be one of {_BITS} (got {bits}); fetch it again"
        )
    lengths = axes(header, prefix)
    if not lengths:
        return 0
    more = 0 if prefix else header.integer_within("PCOUNT", 0, 2**62, 0)
    groups = 1 if prefix else header.integer_within("GCOUNT", 0, 2**62, 1)
    return abs(bits) // 8 * groups * (more + math.prod(lengths))


def axes(header: Header, prefix: str = "") -> list[int]:
    """Lengths of the axes, the slowest first, as NumPy counts them."""
    count = header.integer_within(f"{prefix}NAXIS", 0, MOST_AXES)
    return [header.integer_within(f"{prefix}NAXIS{axis}", 0, 2**62) for axis in range(count, 0, -1)]


def padded(length: int) -> int:
    """Round a length up to whole blocks."""
    return -(-length // FITS_BLOCK) * FITS_BLOCK
