"""A data model of a product that is opened, and its large planes read, when they are asked for.

stdatamodels opens a product whole, which takes longer than its subtraction; many callers never
look at what they get. Here the first look opens it, and leaves out the large planes: one that is
asked for is mapped (copy on write) or, where FITS stores it with an offset, read. The file is held
open, so that a product which is moved, replaced or removed meanwhile still gives what it had.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from asdf.tags.core import AsdfObject

from webbkg.files import door
from webbkg.files.disk import copy_exactly, read_exactly
from webbkg.files.fits import Header, axes, read_header, read_headers
from webbkg.files.models import attribute_of
from webbkg.files.naming import plain_ascii
from webbkg.files.streaming import is_large, standing_in_hdus

Make = Callable[[], npt.NDArray[Any]]


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
        To `isinstance` one of that class, and from the first look on nothing else.

    Raises
    ------
    InputError
        If it cannot be read: of the header now, of the rest at the first look.
    """
    name = read_header(path).text("DATAMODL")
    model = DeferredModel()
    vars(model)[_PRODUCT] = path.absolute(), path.open("rb"), name
    return model


_PRODUCT = "_webbkg_product"
_MODELS = "stdatamodels.jwst.datamodels"


class DeferredModel:
    """A product that nobody has looked at; the first look makes it the model that it is of.

    To import the classes of models takes longer than a subtraction. While nobody has done so,
    nobody can compare an instance with them, and its class is this one: stpipe takes it for a
    model by what it can do.
    """

    crds_observatory = "jwst"

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            return object.__getattribute__(self, name)
        if name == "__class__":
            return _kind_of(self) if _MODELS in sys.modules else DeferredModel
        _open(self)
        return getattr(self, name)

    def __del__(self) -> None:
        vars(self)[_PRODUCT][1].close()


def _looking(name: str) -> Callable[..., Any]:
    """Make a special method, which Python looks up in the class and not in the instance."""

    def look(model: Any, *arguments: Any) -> Any:
        if _PRODUCT in vars(model):  # else `with`, which looks for the end at the beginning
            _open(model)
        return getattr(model, name)(*arguments)

    return look


for _name in (
    *("get_crds_parameters", "save"),  # by these stpipe knows a model
    *("__getitem__", "__setitem__", "__iter__", "__setattr__", "__delattr__"),
    *("__eq__", "__enter__", "__exit__", "__reduce_ex__", "__repr__", "__str__", "__dir__"),
):
    setattr(DeferredModel, _name, _looking(_name))


def _kind_of(model: DeferredModel) -> Any:
    return getattr(import_module(_MODELS), vars(model)[_PRODUCT][-1])


def _open(model: Any) -> None:
    """Open what an instance is the model of."""
    kind = _kind_of(model)
    path, stream, _ = vars(model).pop(_PRODUCT)
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
            yield attribute_of(name), _maker(stream, header, offset)


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
