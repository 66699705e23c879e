"""How webbkg compiles: serial, without the GIL, cached on disk where a disk can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy.typing as npt

Array = npt.NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""Division by zero gives what NumPy's does, without a branch; nobody calls kernels from C."""


def inlined(function: Kernel) -> Kernel:
    """Make `function` part of the kernels that call it.

    It is compiled once with each of them, and neither apart nor once more at each level between.
    """
    part: Kernel = numba.njit(**OPTIONS, inline="always")(function)
    return part


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call.

    Numba keeps the machine code beside the module, or else in the user's cache folder. Where
    neither can be written it raises RuntimeError while decorating; the kernel is then compiled
    anew in each process.
    """
    try:
        kernel: Kernel = numba.njit(**OPTIONS, cache=True)(function)
    except RuntimeError:
        kernel = numba.njit(**OPTIONS)(function)
    return kernel
