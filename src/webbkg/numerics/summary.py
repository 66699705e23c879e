"""Numbers that tell a person what happened to an exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics import order


def finite_median(values: npt.NDArray[np.floating[Any]]) -> float | None:
    """Median of the finite `values` (float32 or float64, any shape); None if there is none."""
    native = values.dtype.newbyteorder("=")  # planes come big-endian from FITS
    flat = np.ascontiguousarray(values, dtype=native).reshape(-1)
    if np.isinf(flat).any():
        flat = flat[np.isfinite(flat)]
    (median,) = order.percentiles(flat, (50.0,))
    return None if np.isnan(median) else median
