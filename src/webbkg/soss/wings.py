"""SOSS, robust fit: the wings of the traces, as their own light spread across dispersion.

All images here are (columns, rows), and the light and its wings a row for each `BIN` columns:
along dispersion the light of a trace changes slowly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft, linalg, ndimage  # type: ignore[import-untyped]

from webbkg.results import BoolImage

Values = npt.NDArray[np.float64]

BIN = 4  # columns
ALONG = 9  # bins; what is shorter in the direction of dispersion is no trace
ACROSS = 3  # rows that are averaged
WIDTHS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # of the kernels' cores (rows)
POWER = 2.5  # (1 + (d / width)**2)**-POWER; the six together follow any fall that is less steep
HOLE = 12  # rows from its source on which a wing begins; inside it is the trace itself
FAINT_ROWS = 9  # that are averaged in the search for faint ones
TRACE_ROWS = 35  # wider than a trace
HALF_TRACE = 18
RIDGE_BINS = 51
COMPACT_SIGNAL = 8.0  # standard deviations of the light of a compact source
AROUND_WIDTHS = (10.0, 25.0)  # of wings all around (pixels), which fall as distance**-3
AROUND_HOLE, AROUND_REACH = 14, 250  # they begin and end so far from their source
STRAY = (4, 3)  # hat functions of stray light along columns and rows
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


def faint_traces(rest: Values, noise: float, least: float, slack: Values) -> BoolImage:
    """Tell where something long along dispersion stands out of the whole model.

    Parameters
    ----------
    rest : (bins, rows) float64
        The frame without all that is modelled.
    noise : float
        Standard deviation of a pixel of it.
    least : float
        Standard deviations that it must stand out by.
    slack : (bins, rows) float64
        What the model may be wrong by.
    """
    light = ndimage.median_filter(rest, size=(ALONG, 1))
    light = ndimage.uniform_filter1d(light, FAINT_ROWS, axis=1)
    spread = 1.25 * noise / np.sqrt(ALONG * FAINT_ROWS)
    return np.asarray(light > np.hypot(least * spread, slack))


def compact_light(excess: Values, noise: float, sky: Values) -> Values:
    """Find the light of bright compact sources, such as zeroth orders.

    Parameters
    ----------
    excess : (bins, rows) float64
        The frame without sky.
    noise : float
        Standard deviation of a pixel of it.
    sky : (bins, rows) float64

    Returns
    -------
    (bins, rows) float64
        0 outside such sources.
    """
    light = ndimage.median_filter(excess, size=(ALONG, 1))
    rest = excess - light
    found = rest > np.maximum(np.maximum(COMPACT_SIGNAL * noise, sky), light)
    found = ndimage.binary_opening(found, structure=np.ones((1, 3), np.bool_))
    return np.where(found, rest, 0.0)


def basis(traces: Values, compact: Values, *, orders: bool = True) -> Values:
    """Make the images whose non-negative sum the wings are: (images, bins, rows) float64.

    Those of `spread` with the light of the brightest order, then with that of the others (or of
    all, and none, if the `orders` are not asked for); of compact sources, all around; and smooth
    stray light.
    """
    kernels, around = 2 * (len(WIDTHS) + 1), len(AROUND_WIDTHS)
    images = np.empty((2 * kernels + around + STRAY[0] * STRAY[1], *traces.shape))
    first = _brightest_order(traces) if orders else np.ones(traces.shape, np.bool_)
    for place, where in ((0, first), (kernels, ~first)):
        images[place : place + kernels] = spread(np.where(where, traces, 0.0))
    images[2 * kernels :][:around] = _around(compact)
    images[2 * kernels + around :] = _smooth(traces.shape)
    return images


def _brightest_order(traces: Values) -> BoolImage:
    """Rows around the ridge of the brightest order."""
    ridge = np.argmax(ndimage.uniform_filter1d(traces, HALF_TRACE, axis=1), axis=1)
    ridge = ndimage.median_filter(ridge, size=RIDGE_BINS, mode="nearest")
    return np.asarray(np.abs(np.arange(traces.shape[1]) - ridge[:, np.newaxis]) <= HALF_TRACE)


def spread(light: Values) -> Values:
    """Spread light across dispersion by every kernel.

    Parameters
    ----------
    light : (bins, rows) float64
        Of the cores.

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
    kernels = [np.where(side, one, 0.0) for side in _sides(distance) for one in shapes]
    result = np.zeros((len(kernels), *light.shape))
    if light.any():
        spectrum = fft.rfft(light, size, axis=1)
        for one, kernel in zip(result, kernels, strict=True):
            one[...] = fft.irfft(spectrum * fft.rfft(kernel), size, axis=1)[:, :rows]
    return result


def _sides(distance: npt.NDArray[np.int64]) -> tuple[BoolImage, BoolImage]:
    return distance > HOLE, distance < -HOLE


def _around(compact: Values) -> Values:
    """Spread light all around by each of `AROUND_WIDTHS`: (widths, bins, rows)."""
    result = np.zeros((len(AROUND_WIDTHS), *compact.shape))
    if not compact.any():
        return result
    size = tuple(
        fft.next_fast_len(n + reach, real=True)
        for n, reach in zip(compact.shape, (AROUND_REACH // BIN, AROUND_REACH), strict=True)
    )
    bins, rows = (np.minimum(np.arange(n), n - np.arange(n)) for n in size)
    distance = np.hypot(BIN * bins[:, np.newaxis], rows)
    inside = (distance > AROUND_HOLE) & (distance < AROUND_REACH)
    spectrum = fft.rfft2(compact, size)
    for one, width in zip(result, AROUND_WIDTHS, strict=True):
        kernel = np.where(inside, BIN * (1 + (distance / width) ** 2) ** -1.5 / width**2, 0.0)
        made = fft.irfft2(spectrum * fft.rfft2(kernel), size)
        one[...] = np.maximum(made[: compact.shape[0], : compact.shape[1]], 0.0)
    return result


def _smooth(shape: tuple[int, int]) -> Values:
    """Products of `STRAY` hat functions along columns and rows, (products, bins, rows)."""
    along, across = (slopes_along(n, number) for n, number in zip(shape, STRAY, strict=True))
    return np.asarray(np.einsum("ib,jr->ijbr", along, across).reshape(-1, *shape))


EXTENSIONS = ("sides", "colour", "bent", "orders", "compact")
"""What the wings may be beyond a fall that all light shares: other ones above and below; changing
along dispersion, linearly or with a bend; others for the brightest order; wings of compact
sources."""

STRAY_LIGHT = "stray"
"""No extension, since the templates are too like it: where it would pay, that is told."""

Model = frozenset[str]
"""Some of `EXTENSIONS`, and `STRAY_LIGHT`."""


def next_extensions(model: Model) -> list[str]:
    """Extensions that a model may take next: a bend comes after colour."""
    left = [one for one in EXTENSIONS if one not in model]
    return [one for one in left if one != "bent" or "colour" in model]


def tie(model: Model, hats: int) -> Values:
    """Tie the strengths of all images of `basis`, times hats, for a model.

    Returns
    -------
    (images * hats, n) float64
        What makes the strengths of the n parameters of the model.
    """
    orders, sides = (
        np.eye(2) if name in model else np.ones((2, 1)) for name in ("orders", "sides")
    )
    hat = _along(model, hats)
    traces = np.kron(np.kron(np.kron(orders, sides), np.eye(len(WIDTHS) + 1)), hat)
    more = [
        np.eye(number)[:, : number if name in model else 0]
        for name, number in (
            ("compact", len(AROUND_WIDTHS)),
            (STRAY_LIGHT, STRAY[0] * STRAY[1]),
        )
    ]
    rest = (np.kron(one, np.ones((hats, 1))) for one in more)
    return np.asarray(linalg.block_diag(traces, *rest))


def _along(model: Model, hats: int) -> Values:
    """Tie the hats along dispersion."""
    if "bent" in model:
        return np.eye(hats)
    if "colour" in model:
        return slopes_along(hats, 2).T
    return np.ones((hats, 1))


def compress(images: Values, model: Model, hats: int) -> tuple[Values, Values]:
    """Leave out of `basis` what a model has not, and add up what it ties: images, and their tie."""
    kernels = len(WIDTHS) + 1
    traces = images[: 4 * kernels].reshape(2, 2, kernels, *images.shape[1:])
    if "orders" not in model:
        traces = traces.sum(axis=0, keepdims=True)
    if "sides" not in model:
        traces = traces.sum(axis=1, keepdims=True)
    traces = traces.reshape(-1, *images.shape[1:])
    start = 4 * kernels + len(AROUND_WIDTHS)
    around = images[4 * kernels : start] if "compact" in model else images[:0]
    stray = images[start:] if STRAY_LIGHT in model else images[:0]
    rest = np.kron(np.eye(len(around) + len(stray)), np.ones((hats, 1)))
    tied = linalg.block_diag(np.kron(np.eye(len(traces)), _along(model, hats)), rest)
    return np.concatenate([traces, around, stray]), np.asarray(tied)


def slopes_along(columns: int, number: int) -> Values:
    """Hat functions, (number, columns), by which a kernel's strength changes along dispersion."""
    nodes = np.linspace(0, max(columns - 1, 1), number)
    at = np.arange(columns)
    return np.stack([np.interp(at, nodes, one) for one in np.eye(number)])
