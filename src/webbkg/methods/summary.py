"""Numbers that tell a person what happened to an exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def finite_median(values: npt.NDArray[np.floating[Any]]) -> float | None:
    """Median of the finite `values`, of any shape; None if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None
