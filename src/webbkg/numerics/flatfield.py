"""What errors of a flat field that are alike over many pixels do to a number that an image gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def flat_variance(influence: npt.ArrayLike, cell: tuple[int, int], length: float) -> float:
    """Compute the variance that a flat field's errors of unit standard deviation give to a sum.

    With f the errors and g the influence of each pixel, the sum is that of g·f. Two pixels d apart
    have the correlation exp(-(d/length)²), averaged here over the pixels of cells, exactly.

    Parameters
    ----------
    influence : (rows, columns) array_like, float
        Sums of g over cells.
    cell : (int, int)
        Rows and columns of pixels in a cell.
    length : float
        Distance at which the correlation falls to 1/e (pixels).

    Examples
    --------
    >>> round(flat_variance([[1.0, 1.0]], (1, 1), 1e9), 6), round(flat_variance([[1.0]], (8, 8), 1e-3), 6)
    (4.0, 0.015625)
    """
    cells = np.asarray(influence, np.float64)
    spread = cells
    for axis in (0, 1):
        alike = _correlation(cells.shape[axis], cell[axis], length)
        spread = alike @ spread if axis == 0 else spread @ alike
    return float(np.sum(cells * spread))


def _correlation(cells: int, size: int, length: float) -> Doubles:
    """Average the correlation over the pixels of each pair of cells in a row: (cells, cells)."""
    shift = np.arange(-size + 1, size)
    pairs = size - np.abs(shift)  # of pixels that are so far apart within their cells
    apart = np.arange(cells)[:, np.newaxis] * size + shift
    means = np.exp(-((apart / length) ** 2)) @ pairs / size**2
    index = np.abs(np.subtract.outer(np.arange(cells), np.arange(cells)))
    found: Doubles = means[index]
    return found
