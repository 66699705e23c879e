"""What makes the first opening of a data model in a process fast."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

_started = False
"""Whether a model has been opened in this process."""


class _Deferred(ModuleType):
    """Stands in for a module that is imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """Make the first opening of a model fast, and leave no trace.

    ASDF then reads some fifty YAML manifests, with PyYAML's pure Python loader; its C loader
    gives the same. GWCS imports SciPy's linear algebra and optimisation, which only a numerical
    inverse and a fit need. The many new objects, none of them garbage, make the collector run
    in vain.
    """
    if _started:
        yield
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _c_loader(), _deferred("scipy", "linalg", "optimize"):
            yield
    finally:
        if collecting:
            gc.enable()


def note_started() -> None:
    """Tell that a model is open: from now on there is nothing to make fast."""
    global _started
    _started = True


def leave_no_garbage() -> None:
    """Spare a command's process the search for garbage among what lives to its end.

    Start-up makes hundreds of thousands of objects; looking through them, most of all at exit,
    finds none and takes a quarter of a short run.
    """
    gc.freeze()
    atexit.register(gc.freeze)


@contextlib.contextmanager
def _c_loader() -> Iterator[None]:
    import yaml

    python_loader = yaml.SafeLoader
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", python_loader)
    try:
        yield
    finally:
        yaml.SafeLoader = python_loader


@contextlib.contextmanager
def _deferred(package: str, *names: str) -> Iterator[None]:
    """Let ``from package import name`` give stand-ins; who has one keeps it, and it works."""
    parent = import_module(package)
    stand_ins = {name: _Deferred(f"{package}.{name}") for name in names}
    placed = {name: stand_ins[name] for name in names if name not in vars(parent)}
    vars(parent).update(placed)
    try:
        yield
    finally:
        for name, stand_in in placed.items():
            if vars(parent).get(name) is stand_in:  # else the real one has come
                del vars(parent)[name]
