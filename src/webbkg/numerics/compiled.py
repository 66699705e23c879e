"""How webbkg compiles: serial, without the GIL, cached on disk where a disk can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy.typing as npt

Array = npt.NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call.

    Numba keeps the machine code beside the module, or else in the user's cache folder. Where
    neither can be written it raises RuntimeError while decorating; the kernel is then compiled
    anew in each process.
    """
    try:
        kernel: Kernel = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        kernel = numba.njit(nogil=True)(function)
    return kernel
