"""SOSS, robust fit: the wings of the traces, as their own light spread across dispersion.

All images here are (columns, rows), and the light and its wings a row for each `BIN` columns:
along dispersion the light of a trace changes slowly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage  # type: ignore[import-untyped]

from webbkg.results import BoolImage

Values = npt.NDArray[np.float64]

BIN = 4  # columns
ALONG = 9  # bins; what is shorter in the direction of dispersion is no trace
ACROSS = 3  # rows that are averaged
WIDTHS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # of the kernels' cores (rows)
POWER = 2.5  # (1 + (d / width)**2)**-POWER; the six together follow any fall that is less steep
HOLE = 12  # rows from its source on which a wing begins; inside it is the trace itself
TRACE_ROWS = 35  # wider than a trace
LEAST_SIGNAL = 5.0  # standard deviations of the light of a trace
CORE_SHARE = 0.15  # of the brightest light nearby, in a core at least
OVER_WINGS = 0.5  # light over that of the wings of all else, in a core at least


def bin_columns(image: Values, known: BoolImage) -> Values:
    """Average each `BIN` columns over what is known; 0 where nothing is."""
    columns, rows = image.shape
    bins = -(-columns // BIN)
    total, number = np.zeros((2, bins * BIN, rows))
    total[:columns] = np.where(known, image, 0.0)
    number[:columns] = known
    total, number = (one.reshape(bins, BIN, rows).sum(axis=1) for one in (total, number))
    return np.asarray(total / np.maximum(number, 1))


def unbin(image: Values, columns: int) -> Values:
    """Give each column its bin's values."""
    return np.repeat(image, BIN, axis=-2)[..., :columns, :]


def trace_light(excess: Values, noise: float, wings: Values | None) -> Values:
    """Find the light of the traces' cores: long along dispersion, and above its surroundings.

    Parameters
    ----------
    excess : (bins, rows) float64
        The frame without sky.
    noise : float
        Standard deviation of a pixel of it.
    wings : (bins, rows) float64 or None
        What the last round took for wings; without them what is wider than a trace is wings.

    Returns
    -------
    (bins, rows) float64
        0 outside the cores.
    """
    light = ndimage.median_filter(excess, size=(ALONG, 1))
    light = ndimage.uniform_filter1d(light, ACROSS, axis=1)
    least = LEAST_SIGNAL * 1.25 * noise / np.sqrt(ALONG * ACROSS)
    if wings is None:
        core = light - ndimage.grey_opening(light, size=(1, TRACE_ROWS))
        brightest = ndimage.maximum_filter1d(core, TRACE_ROWS, axis=1)
        floor = np.maximum(least, CORE_SHARE * brightest)
    else:
        core = light - wings
        floor = np.maximum(least, OVER_WINGS * wings)
    return np.where(core > floor, core, 0.0)


def spread(light: Values, *, sides: bool = True) -> Values:
    """Spread light across dispersion by every kernel.

    Parameters
    ----------
    light : (bins, rows) float64
        Of the cores.
    sides : bool
        Kernels for rows above and below the source, or one for both.

    Returns
    -------
    (kernels, bins, rows) float64
        For each width, and one that is flat; those of rows above the source first.
    """
    rows = light.shape[1]
    size = fft.next_fast_len(2 * rows, real=True)
    distance = np.arange(size)
    distance = np.where(distance > size // 2, distance - size, distance)
    shapes = [(1 + (distance / width) ** 2) ** -POWER / width for width in WIDTHS]
    shapes.append(np.full(size, 1.0 / rows))
    directions = [distance > HOLE, distance < -HOLE] if sides else [np.abs(distance) > HOLE]
    spectrum = fft.rfft(light, size, axis=1)
    kernels = [np.where(where, shape, 0.0) for where in directions for shape in shapes]
    result = np.empty((len(kernels), *light.shape))
    for one, kernel in zip(result, kernels, strict=True):
        one[...] = fft.irfft(spectrum * fft.rfft(kernel), size, axis=1)[:, :rows]
    return result


MODELS = ("plain", "sides", "colour", "both")
"""Of the wings: one fall for all; other ones above and below; changing along dispersion; both."""


def tie(model: str, hats: int) -> Values:
    """Tie the strengths of `spread` with sides, times hats, for one of `MODELS`.

    Returns
    -------
    (kernels * hats, n) float64
        What makes the strengths of the n parameters of the model.
    """
    width = np.eye(len(WIDTHS) + 1)
    side = np.eye(2) if model in ("sides", "both") else np.ones((2, 1))
    hat = np.eye(hats) if model in ("colour", "both") else np.ones((hats, 1))
    return np.kron(np.kron(side, width), hat)


def slopes_along(columns: int, number: int) -> Values:
    """Hat functions, (number, columns), by which a kernel's strength changes along dispersion."""
    nodes = np.linspace(0, max(columns - 1, 1), number)
    at = np.arange(columns)
    return np.stack([np.interp(at, nodes, one) for one in np.eye(number)])
