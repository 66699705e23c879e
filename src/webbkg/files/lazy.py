"""A data model of a product whose large planes are read when they are first asked for.

stdatamodels opens a product whole. For a large cube that a caller may only want to know the path
of, this opens the metadata alone; a plane that is asked for is mapped (copy on write) or, where
FITS stores it with an offset, read. The file stays open, so that a product which is moved, replaced
or removed meanwhile still gives the planes that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from asdf.tags.core import AsdfObject

from webbkg.files.disk import read_exactly
from webbkg.files.fits import Header, axes, read_headers
from webbkg.files.models import open_model
from webbkg.files.streaming import is_large, open_standing_in

Make = Callable[[], npt.NDArray[Any]]

_ATTRIBUTES = {"SCI": "data"}
"""Names of planes that the models call otherwise than FITS does, in lower case."""


class LazyTree(AsdfObject):  # type: ignore[misc]
    """A model's tree, some planes of which are made when they are first asked for.

    Copies and pickles of it are plain trees, with all planes.
    """

    def __init__(self, tree: AsdfObject, pending: dict[str, Make]) -> None:
        super().__init__({**tree.data, **dict.fromkeys(pending)})
        self._pending = pending

    def __getitem__(self, name: str) -> Any:
        self._make(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        getattr(self, "_pending", {}).pop(name, None)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._pending.pop(name, None)
        super().__delitem__(name)

    def _make(self, name: str) -> None:
        make = getattr(self, "_pending", {}).pop(name, None)
        if make is not None:
            self.data[name] = make()

    def plain(self) -> AsdfObject:
        """Return an ordinary tree with every plane."""
        for name in list(self._pending):
            self._make(name)
        return AsdfObject(dict(self.data))

    # asdf looks for the schema of an object by its class.
    __class__ = property(lambda _: AsdfObject)

    def copy(self) -> AsdfObject:
        """Return an ordinary tree with the same values."""
        return self.plain()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> AsdfObject:
        return deepcopy(self.plain(), memo)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return AsdfObject, (dict(self.plain().data),)


def open_product(path: Path) -> Any:
    """Open a product that was just written: one with large planes without them.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    stream = path.open("rb")
    pending = dict(_pending(stream, path))
    if not pending:
        stream.close()
        return open_model(path)
    model = open_standing_in(path)
    tree = LazyTree(model.instance, pending)
    model._instance = model._asdf._tree = tree
    return model


def _pending(stream: IO[bytes], path: Path) -> Iterator[tuple[str, Make]]:
    """Tell how the large planes of a file are made, by their names in the tree."""
    for header, offset in read_headers(stream, path.name):
        name = header.text("EXTNAME")
        if is_large(header) and header.integer("EXTVER", 1) == 1:
            yield _ATTRIBUTES.get(name, name.lower()), _maker(stream, header, offset)


def _maker(stream: IO[bytes], header: Header, offset: int) -> Make:
    shape = tuple(axes(header))
    if header["BITPIX"] == -32:

        def map_plane() -> npt.NDArray[Any]:
            # The type that stdatamodels gives, and writable without a change to the file.
            mapped = np.memmap(stream, ">f4", "c", offset, shape)
            return np.asarray(mapped)

        return map_plane

    def read_flags() -> npt.NDArray[Any]:
        words = np.empty(shape, ">u4")
        read_exactly(stream, memoryview(words.reshape(-1).view(np.uint8)), offset)  # type: ignore[arg-type]
        words ^= np.uint32(1 << 31)
        return words.astype(np.uint32)

    return read_flags
