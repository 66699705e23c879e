"""How webbkg compiles: serial, without the GIL, cached on disk where a disk can be had.

Why at the first use, and not ahead of time: see "Why kernels are compiled at first use" in
docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numba
import numpy.typing as npt
from numba.core import event

Array = npt.NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""Division by zero gives what NumPy's does, without a branch; nobody calls kernels from C."""


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call.

    Numba keeps the machine code beside the module, or else in the user's cache folder. Where
    neither can be written it raises RuntimeError while decorating; the kernel is then compiled
    anew in each process. So it is where the disk is full when the code is to be kept.
    """
    try:
        kernel: Any = numba.njit(**OPTIONS, cache=True)(function)
    except RuntimeError:
        kernel = numba.njit(**OPTIONS)(function)
    else:
        kernel._cache.save_overload = _where_possible(kernel._cache.save_overload)
    found: Kernel = kernel
    return found


def _where_possible(save: Callable[..., None]) -> Callable[..., None]:
    """Let a kernel be used whose machine code cannot be written: it has been compiled by then."""

    def save_or_not(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    return save_or_not


def inlined(function: Kernel) -> Kernel:
    """Make `function` part of the kernels that call it.

    It is compiled with each of them, and not apart, nor once more at each level between. A large
    part of several kernels is better `compiled`.
    """
    part: Kernel = numba.njit(**OPTIONS, inline="always")(function)
    return part


@contextmanager
def told_of_compiling(tell: Callable[[bool], object]) -> Iterator[None]:
    """Call `tell` when the compilation of a kernel begins inside, in whatever thread.

    Parameters
    ----------
    tell : callable
        Takes whether the machine code is kept on disk, so that no later run compiles it.
    """
    with event.install_listener("numba:compile", _Listener(tell)):
        yield


class _Listener(event.Listener):
    """Hears of what numba compiles, and tells of our kernels: not of the parts of numba's own."""

    def __init__(self, tell: Callable[[bool], object]) -> None:
        self._tell = tell

    def on_start(self, event: Any) -> None:
        kernel = event.data["dispatcher"]
        if kernel.py_func.__module__.startswith("webbkg."):
            self._tell(kernel.stats.cache_path is not None)

    def on_end(self, event: Any) -> None:
        """Nobody asks when it ends."""
