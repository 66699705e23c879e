"""Products without a data model: a target's file with what its subtraction changes.

The headers and the ASDF extension are edited, planes that change go through a buffer band by
band, and everything else is copied by the kernel. What is written is what stdatamodels would
write; a target of which that cannot be said takes the way of its data model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import WebbkgError
from webbkg.files import door
from webbkg.files.asdf import check_asdf, open_wcs
from webbkg.files.cards import Cards, format_card, header_of
from webbkg.files.disk import allocate, copy_exactly, read_exactly, write_exactly
from webbkg.files.fits import Header, axes, data_length, is_gzipped, padded, read_headers
from webbkg.files.output import TABLE
from webbkg.files.tables import is_own_table
from webbkg.files.tree import Tree
from webbkg.numerics import words as word_kernels
from webbkg.numerics.parallel import available_threads, over_bands, split

Change = Callable[[npt.NDArray[Any], int, int], None]
"""Changes rows of a plane in place; takes them, the first one's number, and the integration."""

MODELS = ("ImageModel", "CubeModel", "IFUImageModel", "SlitModel")
"""Classes whose products this has been compared with."""

_BEFORE_MASK = ("SCI", "DQ", "ERR", "ZEROFRAME", "WAVELENGTH", "AREA", "CON", "WHT")
_ARRAYS = {"data": "SCI", "err": "ERR", "dq": "DQ"}
_SIZE_CARDS = (b"NAXIS1  = ", b"TFORM1  = ")
"""Cards of the ASDF extension that tell its length."""

CARD = 80
"""Characters of a card (FITS standard 4.0, section 4.1)."""

_BAND_BYTES = 2**20
_OFFSETS = {8: -(2**7), 16: 2**15, 32: 2**31, 64: 2**63}
"""BZERO of integers that are stored with the other sign, by BITPIX."""


@dataclass(frozen=True)
class Hdu:
    """A header of a target, and where its data are."""

    header: Header
    raw: bytes = field(repr=False)
    offset: int

    @cached_property
    def name(self) -> str:
        """Its EXTNAME."""
        return str(self.header.get("EXTNAME", "")).upper()

    @cached_property
    def length(self) -> int:
        """Bytes of its data, without padding."""
        return data_length(self.header)

    @property
    def is_image(self) -> bool:
        """Whether it is an image extension."""
        return self.header.text("XTENSION").strip() == "IMAGE"

    @cached_property
    def type(self) -> type[np.float32] | type[np.uint32] | None:
        """What its words are once in native order, if they are float32 or uint32."""
        scaling = self.header.number("BSCALE", 1), self.header.number("BZERO", 0)
        if (self.header["BITPIX"], *scaling) == (-32, 1, 0):
            return np.float32
        return np.uint32 if (self.header["BITPIX"], *scaling) == (32, 1, 2**31) else None


@dataclass(frozen=True)
class Survey:
    """A target's file from which a product can be made: its headers, and its ASDF extension."""

    path: Path
    hdus: tuple[Hdu, ...]
    asdf: bytes = field(repr=False)

    def read(self, path: str) -> Any:
        """Return metadata, by their path; None if they are not a plain value."""
        return Tree(self.asdf).plain([path]).get(path)

    def wcs(self) -> Any:
        """Build the WCS of its ASDF extension; None if it has none."""
        return open_wcs(self.asdf, self.path.name)

    @property
    def header(self) -> Header:
        """The primary header."""
        return self.hdus[0].header

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its SCI: (rows, columns), or (integrations, rows, columns)."""
        sci = self.find("SCI")
        return () if sci is None else tuple(axes(sci.header))

    def find(self, name: str) -> Hdu | None:
        """Return the extension of a name."""
        return next((hdu for hdu in self.hdus if hdu.name == name), None)


def survey(path: Path, *, masked: bool = False, changing: Collection[str] = ()) -> Survey | str:
    """Look whether a product can be made from a target's file as it is.

    Parameters
    ----------
    path : Path
        The target.
    masked : bool
        Whether a sky mask is to be stored.
    changing : collection of str
        Planes that will change besides SCI and DQ, where there are such.

    Returns
    -------
    Survey or str
        Why not, where it cannot: it takes the way of its data model.

    Raises
    ------
    InputError
        If it is damaged.
    """
    if path.suffix != ".fits" or is_gzipped(path):
        return "it is no plain FITS file"
    with path.open("rb") as stream:
        found = _read_hdus(stream, path.name)
        seen = Survey(path, tuple(found), b"")
        reason = _judge_headers(seen) or _judge_mask(seen, masked) or _judge_more(seen, changing)
        if reason:
            return reason
        last = found[-1]
        check_asdf(stream, last.offset, last.offset + last.length, path.name)
        content = bytearray(last.length)
        read_exactly(stream, memoryview(content), last.offset)
    seen = replace(seen, asdf=bytes(content))
    return _judge_tree(seen) or seen


def _read_hdus(stream: IO[bytes], name: str) -> list[Hdu]:
    found, start = [], 0
    for header, offset in read_headers(stream, name):
        raw = bytearray(offset - start)
        read_exactly(stream, memoryview(raw), start)
        found.append(Hdu(header, bytes(raw), offset))
        start = offset + padded(found[-1].length)
    return found


def _judge_headers(seen: Survey) -> str:
    """Say what is unusual in a target's headers; an empty string if nothing is."""
    primary, *others = seen.hdus
    names = [hdu.name for hdu in others]
    if primary.header.get("DATAMODL") not in MODELS or primary.length:
        return f"its DATAMODL is none of {', '.join(MODELS)}"
    if any(names.count(name) != 1 for name in ("SCI", "ERR", "DQ", "ASDF")):
        return "it has not one each of SCI, ERR, DQ and ASDF"
    if any(not hdu.raw.isascii() or re.search(rb"[^ -~]", hdu.raw) for hdu in seen.hdus):
        return "its headers have characters that no header may have"
    if not all(_is_usual(hdu) for hdu in others):
        return "its planes are compressed or scaled"
    planes = [hdu for hdu in others if hdu.name in _ARRAYS.values()]
    if len({tuple(axes(hdu.header)) for hdu in planes}) > 1 or any(
        hdu.type is not (np.uint32 if hdu.name == "DQ" else np.float32) for hdu in planes
    ):
        return "SCI, ERR and DQ are not of the usual type and of one shape"
    table = others[-1].header
    shape = table.text("XTENSION").strip(), table.get("TFIELDS"), *axes(table), table.get("PCOUNT")
    in_place = all(others[-1].raw.find(card) % CARD == 0 for card in _SIZE_CARDS)
    if names[-1] != "ASDF" or shape != ("BINTABLE", 1, 1, others[-1].length, 0) or not in_place:
        return "its ASDF extension is not where, or not what, it usually is"
    return ""


def _is_usual(hdu: Hdu) -> bool:
    """Tell an extension that stdatamodels reads and writes without conversion."""
    if not hdu.is_image:
        return hdu.header.get("ZIMAGE") is not True
    offset = _OFFSETS.get(hdu.header["BITPIX"], 0)
    usual = hdu.header.number("BSCALE", 1) == 1 and hdu.header.number("BZERO", 0) in (0, offset)
    return usual and "BLANK" not in hdu.header


def _judge_mask(seen: Survey, masked: bool) -> str:
    former = seen.find("MASK")
    if not masked or (former is None and seen.header["DATAMODL"] == "ImageModel"):
        return ""
    if former is None or former.type is not np.uint32 or tuple(axes(former.header)) != seen.shape:
        return "its model has no place for a sky mask"
    return ""


def _judge_more(seen: Survey, changing: Collection[str]) -> str:
    """Say which other plane that is to change is not once there as float32."""
    names = [hdu.name for hdu in seen.hdus]
    for hdu in seen.hdus:
        if hdu.name in changing and (hdu.type is not np.float32 or names.count(hdu.name) > 1):
            return f"its {hdu.name} is not of the usual type, or is there twice"
    return ""


def _judge_tree(seen: Survey) -> str:
    """Say what is unusual in the ASDF extension; stdatamodels believes it if its hash is right."""
    try:
        tree = Tree(seen.asdf)
    except ValueError as error:
        return str(error)
    if tree.text("_fits_hash") != hash_of(hdu.raw for hdu in seen.hdus[:-1]):
        return "its headers were changed after its ASDF extension was written"
    if tree.text("meta.model_type") != seen.header["DATAMODL"]:
        return "its ASDF extension is of another model"
    if any(tree.text(f"{name}.source") != f"fits:{hdu},1" for name, hdu in _ARRAYS.items()):
        return "its ASDF extension does not lead to its planes"
    if tree.has_entries and not Cards(seen.hdus[0].raw).history:
        return "its ASDF extension has a history that its header lacks"
    return ""


def is_own_product(path: Path) -> bool:
    """Tell whether a file is a product that webbkg wrote, and nobody has worked on since.

    The log in its tree says so: the last lines are those of a run of webbkg alone. A table beside
    a product says so in its header.
    """
    if path.suffix == TABLE:
        return is_own_table(path)
    logs = _logs_of(path)
    own = next((logs[alias] for alias in OWN_ALIASES if logs.get(alias)), None)
    if own is None or not any(" - webbkg." in line for line in own):
        return False
    stamps = [_STAMP.match(lines[-1]) for lines in logs.values() if lines]
    latest = max((stamp[0] for stamp in stamps if stamp), default="")
    return own[-1].startswith(latest)


OWN_ALIASES = ("bkg_subtract", "webbkg")
"""Under which the log of webbkg's step, called by itself, is kept."""

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+")


def _logs_of(path: Path) -> dict[str, list[str]]:
    """Read the lines of a product's log, by who wrote them; nothing of what is no product."""
    try:
        door.regular_file(path)
        with path.open("rb") as stream:
            last = _read_hdus(stream, path.name)[-1]
            if last.name != "ASDF":
                return {}
            check_asdf(stream, last.offset, last.offset + last.length, path.name)
            content = bytearray(last.length)
            read_exactly(stream, memoryview(content), last.offset)
        return Tree(bytes(content)).lists("cal_logs")
    except (WebbkgError, OSError, ValueError, IndexError):
        return {}


def hash_of(headers: Iterable[bytes]) -> str:
    """Compute what tells stdatamodels that a header was changed."""
    digest = hashlib.sha256()
    for raw in headers:
        digest.update(raw)
    return digest.hexdigest()


@dataclass(frozen=True)
class Part:
    """One HDU of a product: its header, and where its data come from.

    They are those of an HDU of the target, changed or not, or bytes.
    """

    raw: bytes
    source: Hdu | None = None
    change: Change | None = None
    content: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of its data, without padding."""
        return len(self.content) if self.source is None else self.source.length


@dataclass(kw_only=True)
class Draft:
    """A product that is to be written: a target's file, and what changes.

    Attributes
    ----------
    target : Survey
        The file that it is made from.
    values : dict of str to object
        Plain values by their dotted path, for the tree, and for a card where one has a keyword.
    history : sequence of str
        Entries to add, each of which fits into a card.
    software : mapping of str to str
        Name and version of what made them.
    changes : mapping of str to callable
        What becomes of the rows of a plane, in the byte order of this machine; the others stay.
    mask : (rows, columns) bool ndarray or None
        Sky mask, True where sky, for the extension MASK; `survey` must have been told of it.
    cards : sequence of (str, str, str)
        Keyword, value and comment of cards that no schema knows.
    """

    target: Survey
    values: dict[str, Any] = field(default_factory=dict)
    history: Sequence[str] = ()
    software: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Change] = field(default_factory=dict)
    mask: npt.NDArray[np.bool_] | None = None
    cards: Sequence[tuple[str, str, str]] = ()

    def write(self, stream: IO[bytes], name: str) -> None:
        """Write the product to an open, empty file; `name` is its FILENAME.

        Raises
        ------
        OSError
            If the target cannot be read any more, or the product not be written.
        """
        now = datetime.now(UTC).replace(tzinfo=None)
        date = now.isoformat(timespec="milliseconds")
        values = {**self.values, "meta.filename": name, "meta.date": date}
        cards = Cards(self.target.hdus[0].raw)
        former = cards.history
        cards.put(values)
        cards.put_cards(self.cards)
        cards.add_history(self.history)
        parts = [Part(cards.as_bytes()), *_extensions(self.target, self.changes, self.mask)]
        tree = Tree(self.target.asdf)
        for path, value in values.items():
            tree.put(path, value)
        if self.cards:
            tree.put_cards(self.cards)
        if self.mask is not None:
            tree.put_array("mask", "dq", "fits:MASK,1")
        if former or self.history:
            time = f"{now.replace(microsecond=0)}.000"
            tree.put_history(former, self.history, self.software, time)
        tree.put("_fits_hash", hash_of(part.raw for part in parts))
        content = tree.as_bytes()
        header = table_header(self.target.hdus[-1].raw, len(content))
        write_parts([*parts, Part(header, content=content)], self.target.path, stream)


def _extensions(
    target: Survey, changes: Mapping[str, Change], mask: npt.NDArray[np.bool_] | None
) -> list[Part]:
    """Lay out the extensions between the primary header and the ASDF extension."""
    hdus = target.hdus[1:-1]
    if mask is not None:
        changes = {**changes, "MASK": _put_mask(mask)}
    parts = [Part(hdu.raw, hdu, changes.get(hdu.name)) for hdu in hdus]
    if mask is not None and target.find("MASK") is None:
        words = np.where(mask, np.uint32(2**31 + 1), np.uint32(2**31)).astype(">u4")
        places = [i for i, hdu in enumerate(hdus) if hdu.name in _BEFORE_MASK]
        named = ("EXTNAME", "MASK", "extension name"), ("EXTVER", 1, "extension value")
        parts.insert(
            places[-1] + 1, Part(words_header(mask.shape, *named), content=words.tobytes())
        )
    return parts


def _put_mask(mask: npt.NDArray[np.bool_]) -> Change:
    def put(rows: npt.NDArray[Any], start: int, _integration: int) -> None:
        rows[...] = mask[start : start + len(rows)]

    return put


def words_header(shape: tuple[int, ...], *more: tuple[str, Any, str]) -> bytes:
    """Make the header of an image of uint32, with more cards (keyword, value, comment)."""
    rows, columns = shape
    cards = [
        ("XTENSION", "IMAGE", "Image extension"),
        ("BITPIX", 32, "array data type"),
        ("NAXIS", 2, "number of array dimensions"),
        ("NAXIS1", columns, ""),
        ("NAXIS2", rows, ""),
        ("PCOUNT", 0, "number of parameters"),
        ("GCOUNT", 1, "number of groups"),
        ("BSCALE", 1, ""),
        ("BZERO", 2**31, ""),
    ]
    return header_of(card for one in (*cards, *more) for card in format_card(*one))


def table_header(raw: bytes, length: int) -> bytes:
    """Give the header of the ASDF extension its new length."""
    text = raw.decode("ascii")
    for begin, value in zip(_SIZE_CARDS, (length, f"{length}B"), strict=True):
        start = text.index(begin.decode())
        _, _, comment = text[start : start + CARD].partition(" / ")
        (card,) = format_card(begin.decode()[:8].rstrip(), value, comment.rstrip())
        text = text[:start] + card + text[start + CARD :]
    return text.encode("ascii")


def write_parts(parts: list[Part], path: Path, stream: IO[bytes]) -> None:
    """Write the parts one behind the other; the space is taken first."""
    allocate(stream, sum(len(part.raw) + padded(part.length) for part in parts))
    position = 0
    with path.open("rb") as source:
        for part in parts:
            write_exactly(stream, part.raw, position)
            position += len(part.raw)
            if part.source is None:
                write_exactly(stream, part.content, position)
            elif part.change is None:
                copy_exactly(source, part.source.offset, stream, position, part.length)
            else:
                hdu = part.source
                plane = axes(hdu.header), hdu.type or np.float32
                stream_plane(source, hdu.offset, stream, position, plane, part.change)
            position += part.length
            write_exactly(stream, bytes(padded(part.length) - part.length), position)
            position += padded(part.length) - part.length


def stream_plane(
    source: IO[bytes],
    offset: int,
    target: IO[bytes],
    position: int,
    plane: tuple[Sequence[int], type[np.float32] | type[np.uint32]],
    change: Change,
) -> None:
    """Take a plane through buffers, band by band, on several threads.

    Parameters
    ----------
    source, target : binary file
        To read from, and to write to.
    offset, position : int
        Where its data begin in `source`, and in `target`.
    plane : tuple
        Its shape, ([integrations,] rows, columns), and its type in native order.
    change : callable
        See `Draft`.
    """
    (*cube, rows, columns), dtype = plane
    height = max(1, _BAND_BYTES // (4 * columns))
    pieces = [
        (integration, *band)
        for integration in range(cube[0] if cube else 1)
        for band in split(rows, height)
    ]
    is_offset = dtype is np.uint32

    def make_worker() -> Callable[[int, int], None]:
        buffer = np.empty((height, columns), np.uint32)

        def work(first: int, last: int) -> None:
            for integration, start, stop in pieces[first:last]:
                words = buffer[: stop - start]
                view = memoryview(words.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                place = (integration * rows + start) * columns * 4
                read_exactly(source, view, offset + place)
                word_kernels.make_native(words.reshape(-1), is_offset)
                change(words.view(dtype), start, integration)
                word_kernels.make_stored(words.reshape(-1), is_offset)
                write_exactly(target, view, position + place)

        return work

    over_bands(split(len(pieces), 1), make_worker, threads=available_threads())
