"""The door of ASDF and YAML: a text is scanned before a library builds anything from it.

PyYAML and asdf build what a text says: nested a hundred thousand deep, aliased to a thousand
million nodes, with arrays of any size, read from any other file. The scan follows the events of
libyaml's parser, which builds nothing, and stops at the first that goes too far.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.fits import is_gzipped, open_bytes, read_headers

LONGEST_TREE = 64 * 2**20
"""Bytes of YAML in an ASDF file; that of a product with a hundred slits has a tenth of it."""

DEEPEST = 200
"""Levels of nesting; transforms of JWST's WCS reach thirty."""

FREE_NODES, LARGEST_EXPANSION = 20_000, 10
"""Nodes that aliases may expand to: so many, and so many times those that are written out."""

LARGEST_BLOCK = 2**31
_BLOCK_MAGIC = b"\xd3BLK"
_BLOCK_HEADER = struct.Struct(">I4sQQQ16s")
_TREE_END = re.compile(rb"\r?\n\.\.\.(\r?\n|$)")
_CHUNK = 2**20


@dataclass(slots=True)
class _Node:
    """A mapping or sequence that is being read."""

    anchor: str | None
    is_array: bool = False
    is_mapping: bool = True
    size: int = 1
    key: str | None = None
    """Of the value that comes next; None where a key comes, or in a sequence."""
    shape: list[int] = field(default_factory=list)


class _Scan:
    """Follows the events of a YAML text, and keeps count."""

    def __init__(self, name: str, array_bytes: int) -> None:
        self.name = name
        self.array_bytes = array_bytes
        self.open: list[_Node] = []
        self.sizes: dict[str, int] = {}
        self.written = 0

    def start(self, event: Any, *, is_mapping: bool) -> None:
        """Enter a mapping or sequence."""
        self.written += 1
        if len(self.open) >= DEEPEST:
            raise self.refusal(f"is nested more than {DEEPEST} levels deep", event)
        is_array = is_mapping and "core/ndarray-" in (event.tag or "")
        self.open.append(_Node(event.anchor, is_array, is_mapping))

    def end(self, event: Any) -> None:
        """Leave it."""
        node = self.open.pop()
        if node.is_array and math.prod(node.shape) > max(self.array_bytes, 1):
            raise self.refusal(f"has an array of {node.shape}, larger than the file", event)
        if node.anchor:
            self.sizes[node.anchor] = node.size
        self.add(node.size, None, event)

    def alias(self, event: Any) -> None:
        """Count what an alias stands for; one to a node that is still open is a cycle."""
        if event.anchor not in self.sizes:
            raise self.refusal(f"has an alias *{event.anchor} to nothing before it", event)
        self.add(self.sizes[event.anchor], None, event)

    def scalar(self, event: Any) -> None:
        """Count a scalar, and look at what it says where that may lead astray."""
        self.written += 1
        if event.anchor:
            self.sizes[event.anchor] = 1
        node = self.open[-1] if self.open else None
        if node is not None and node.key is not None:
            self.check_target(node, event)
        if len(self.open) > 1 and self.open[-2].is_array and self.open[-2].key == "shape":
            length = event.value
            self.open[-2].shape.append(
                int(length) if length.isdecimal() and len(length) < 20 else 1
            )
        self.add(1, event.value, event)

    def check_target(self, node: _Node, event: Any) -> None:
        """Refuse to follow a file into another one, by reference or for an array."""
        if node.is_array and node.key == "source" and event.value.startswith("fits:"):
            node.is_array = False  # its size is that of an HDU, which has been checked
        outside = (node.key == "$ref" and not event.value.startswith("#")) or (
            node.is_array and node.key == "source" and not re.fullmatch(r"-?\d+", event.value)
        )
        if outside:
            raise self.refusal(f"refers to another file, {event.value[:80]!r}", event)

    def add(self, size: int, text: str | None, event: Any) -> None:
        """Count a node as part of the one around it."""
        if not self.open:
            return
        node = self.open[-1]
        node.size += size
        if node.size > FREE_NODES + LARGEST_EXPANSION * self.written:
            raise self.refusal(f"expands, by its aliases, to over {node.size} nodes", event)
        if node.is_mapping:
            node.key = (text or "") if node.key is None else None

    def refusal(self, what: str, event: Any) -> InputError:
        """Make the error that says where."""
        line = event.start_mark.line + 1
        return InputError(f"{self.name}: its YAML {what} (line {line}); it is not opened")


def check_yaml(text: bytes | str, name: str, *, array_bytes: int = 0) -> None:
    """Refuse a YAML text that cannot be parsed, or that would take memory or time without bound.

    Parameters
    ----------
    text : bytes or str
        Of bounded length.
    name : str
        The file, for errors.
    array_bytes : int
        Bytes that the text's arrays may have.

    Raises
    ------
    InputError
        If it is no YAML, nested too deep, expands too far, or refers to another file.
    """
    import yaml

    scan = _Scan(name, array_bytes)
    with door.reading(name, "its YAML is damaged"):
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            kind = type(event)
            if kind is yaml.ScalarEvent:
                scan.scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                scan.start(event, is_mapping=kind is yaml.MappingStartEvent)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                scan.end(event)
            elif kind is yaml.AliasEvent:
                scan.alias(event)


def check_asdf(stream: IO[bytes], start: int, stop: int, name: str) -> None:
    """Check an ASDF file, or the ASDF extension of a FITS file: its tree and its blocks.

    Parameters
    ----------
    stream : binary file
        Open for reading.
    start, stop : int
        Where the ASDF bytes begin and end in it.
    name : str
        The file, for errors.

    Raises
    ------
    InputError
        If it is no ASDF, its blocks claim more than it holds, or its tree is refused by
        `check_yaml`.
    """
    stream.seek(start)
    if stream.read(5) != b"#ASDF":
        raise InputError(f"{name}: its ASDF part does not begin with #ASDF; fetch it again")
    tree, position = _read_tree(stream, start, stop, name)
    blocks = sum(_blocks(stream, position, stop, name))
    check_yaml(tree, name, array_bytes=max(blocks, stop - start, stream.seek(0, io.SEEK_END)))


def _read_tree(stream: IO[bytes], start: int, stop: int, name: str) -> tuple[bytes, int]:
    """Read the YAML text, and tell where it ends."""
    stream.seek(start)
    text = b""
    while start + len(text) < stop:
        if len(text) > LONGEST_TREE:
            raise InputError(f"{name}: its ASDF tree is longer than {LONGEST_TREE} bytes")
        seen = max(0, len(text) - 8)
        text += stream.read(min(_CHUNK, stop - start - len(text)))
        end = _TREE_END.search(text, seen)
        block = text.find(_BLOCK_MAGIC, seen)
        if end is not None and (block < 0 or end.start() < block):
            return text[: end.end()], start + end.end()
        if block >= 0:
            return text[:block], start + block
    return text, stop


def _blocks(stream: IO[bytes], position: int, stop: int, name: str) -> Iterator[int]:
    """Walk the blocks and yield the bytes that each unpacks to."""
    while True:
        stream.seek(position)
        head = stream.read(6)
        if position + 6 + _BLOCK_HEADER.size > stop or head[:4] != _BLOCK_MAGIC:
            return
        flags, compression, allocated, used, unpacked, _ = _BLOCK_HEADER.unpack(
            stream.read(_BLOCK_HEADER.size)
        )
        position += 6 + int.from_bytes(head[4:], "big")
        left = stop - position
        if flags & 1:  # streamed: to the end of the file
            yield left
            return
        packed = compression.strip(b"\0") != b""
        limit = min(LARGEST_BLOCK, 2**24 + 1100 * used) if packed else left
        if max(allocated, used) > left or unpacked > limit:
            raise InputError(
                f"{name}: an ASDF block claims {max(allocated, used, unpacked)} bytes, and "
                f"{max(left, 0)} are left in the file; fetch it again"
            )
        yield unpacked
        position += allocated


def check_product(path: Path) -> None:
    """Check a FITS or ASDF file before a library opens it.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is neither, or its headers, blocks or tree are refused.
    """
    with open_bytes_of(path) as stream:
        if stream.read(5) == b"#ASDF":
            check_asdf(stream, 0, stream.seek(0, io.SEEK_END), path.name)
            return
        for header, offset in read_headers(stream, path.name):
            if header.get("EXTNAME") == "ASDF":
                stop = offset + header.integer("NAXIS1") * header.integer("NAXIS2")
                check_asdf(stream, offset, stop, path.name)


def open_bytes_of(path: Path) -> IO[bytes]:
    """Open a FITS file, unpacked, or an ASDF file as it is."""
    door.regular_file(path, wanted="a FITS or ASDF product")
    if path.suffix.lower() == ".asdf" and not is_gzipped(path):
        return path.open("rb")
    return open_bytes(path)


def open_wcs(content: bytes, name: str) -> Any:
    """Build the WCS (``meta.wcs``) of an ASDF extension, and nothing else of it.

    Parameters
    ----------
    content : bytes
        The extension's data, which have passed `check_asdf`.
    name : str
        The file, for errors.

    Returns
    -------
    gwcs.WCS or None
        None if it has none.

    Raises
    ------
    InputError
        If it cannot be built.
    """
    import asdf

    with (
        door.reading(name, "its WCS cannot be read"),
        asdf.open(
            io.BytesIO(content), lazy_load=False, lazy_tree=True, ignore_missing_extensions=True
        ) as file,
    ):
        return file.tree.get("meta", {}).get("wcs")
