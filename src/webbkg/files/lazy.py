"""A data model of a product that is opened, and its large planes read, when they are asked for.

stdatamodels opens a product whole, which takes longer than its subtraction; many callers never
look at what they get. Here the first look opens it, and leaves out the large planes: one that is
asked for is mapped (copy on write) or, where FITS stores it with an offset, read. The file is held
open, so that a product which is moved, replaced or removed meanwhile still gives what it had.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from asdf.tags.core import AsdfObject

from webbkg.files import door
from webbkg.files.disk import copy_exactly, read_exactly
from webbkg.files.fits import Header, axes, read_header, read_headers
from webbkg.files.naming import plain_ascii
from webbkg.files.streaming import is_large, standing_in_hdus

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
    """Give the data model of a product that was just written, to be opened at the first look.

    Parameters
    ----------
    path : Path
        FITS, of a model class that its DATAMODL names.

    Returns
    -------
    data model
        An instance of that class, and from the first look on nothing else.

    Raises
    ------
    InputError
        If it cannot be read: of the header now, of the rest at the first look.
    """
    from stdatamodels.jwst import datamodels

    kind = getattr(datamodels, read_header(path).text("DATAMODL"))
    model = object.__new__(_deferring(kind))
    vars(model)[_PRODUCT] = path.absolute(), path.open("rb")
    return model


_PRODUCT = "_webbkg_product"


@cache
def _deferring(kind: type[Any]) -> type[Any]:
    """Make a class of model whose instances become those of `kind` at the first look."""

    def look(model: Any, name: str) -> Any:
        if name == "__class__":
            return kind
        if name == "__dict__":
            return object.__getattribute__(model, name)
        _open(model, kind)
        return getattr(model, name)

    def reduce(model: Any, protocol: Any) -> Any:
        _open(model, kind)
        return model.__reduce_ex__(protocol)

    def close(model: Any) -> None:
        vars(model)[_PRODUCT][1].close()

    methods = {"__getattribute__": look, "__reduce_ex__": reduce, "__del__": close}
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__})


def _open(model: Any, kind: type[Any]) -> None:
    """Open what an instance is the model of."""
    path, stream = vars(model).pop(_PRODUCT)
    object.__setattr__(model, "__class__", kind)
    with _still_there(path, stream) as found, door.reading(path, "cannot be opened again"):
        pending = dict(_pending(stream, path))
        kind.__init__(model, standing_in_hdus(found) if pending else str(found))
        model.meta.filename = plain_ascii(path.name)
        if pending:
            model._instance = model._asdf._tree = LazyTree(model.instance, pending)


@contextmanager
def _still_there(path: Path, stream: IO[bytes]) -> Iterator[Path]:
    """Give the path of an open file; where another file, or none, is there now, of a copy."""
    own = os.fstat(stream.fileno())
    if door.exists(path) and os.path.samestat(path.stat(), own):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="webbkg-", suffix=path.suffix) as copy:
        copy_exactly(stream, 0, copy.file, 0, own.st_size)
        yield Path(copy.name)


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
