"""What files and products are known by: whether anything changed since a product was made.

A file is what it was if its size, its time of change (to the nanosecond) and a digest of its
content are what they were. The digest is of samples of it: its first and last 32 KiB, where a JWST
product has its headers and its metadata, DATE among them, and 16 blocks of 4 KiB in between. That
takes a fraction of a millisecond; a digest of the whole would take as long as the subtraction. So
pixels that are changed in place by something that sets the time back to what it was may pass
unseen; and what is copied without its times is taken for changed, and done anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webbkg import __version__
from webbkg.errors import InputError, MissingFileError
from webbkg.files.disk import read_at

ENDS = 32 * 2**10
"""Bytes of a file's beginning and of its end that are looked at."""

BLOCKS, BLOCK = 16, 4 * 2**10
"""Blocks in between, and their bytes."""


@dataclass(frozen=True)
class FileIdentity:
    """What a file is known by.

    Attributes
    ----------
    size : int
        Bytes.
    changed : int
        Time of its last change (ns).
    digest : str
        Of samples of its content.
    """

    size: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Look at a file.

        Raises
        ------
        MissingFileError
            If there is none.
        InputError
            If it cannot be read.
        """
        try:
            with path.open("rb", buffering=0) as stream:
                status = os.fstat(stream.fileno())
                digest = hashlib.blake2b(digest_size=16)
                for start, stop in _samples(status.st_size):
                    block = bytearray(stop - start)
                    read_at(stream.fileno(), memoryview(block), start)
                    digest.update(block)
        except FileNotFoundError as error:
            raise MissingFileError(
                f"{path}: no such file; check the name and the folder"
            ) from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        return cls(status.st_size, status.st_mtime_ns, digest.hexdigest())


def _samples(size: int) -> list[tuple[int, int]]:
    """Tell which bytes of a file of so many are looked at: (start, stop)."""
    if size <= 2 * ENDS + BLOCKS * BLOCK:
        return [(0, size)]
    step = (size - 2 * ENDS) // BLOCKS
    between = [(ENDS + i * step, ENDS + i * step + BLOCK) for i in range(BLOCKS)]
    return [(0, ENDS), *between, (size - ENDS, size)]


class Identities:
    """The identities of files, each of which is looked at once."""

    def __init__(self) -> None:
        self._known: dict[Path, FileIdentity] = {}

    def of(self, path: Path) -> FileIdentity:
        """Return the identity of a file; see `FileIdentity.of`."""
        if path not in self._known:
            self._known[path] = FileIdentity.of(path)
        return self._known[path]


@dataclass(frozen=True)
class Inputs:
    """What a product is made from.

    Attributes
    ----------
    files : tuple of (str, str, Path)
        What each is to it, what it is called in the plan, and where it is.
    parameters : mapping of str to object
        By the step's names.
    """

    files: tuple[tuple[str, str, Path], ...]
    parameters: Mapping[str, Any]

    def describe(self, known: Identities) -> dict[str, Any]:
        """Tell all that a product depends on, as plain values."""
        files = [[role, name, *vars(known.of(path)).values()] for role, name, path in self.files]
        given = {name: _plain(self.parameters[name]) for name in sorted(self.parameters)}
        return {"version": __version__, "parameters": given, "inputs": files}


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return [_plain(one) for one in value] if isinstance(value, Iterable) else str(value)


def fingerprint(told: Mapping[str, Any]) -> str:
    """Digest of what `Inputs.describe` tells: the same only if nothing changed."""
    content = json.dumps(told, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=20).hexdigest()
