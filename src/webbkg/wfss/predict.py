"""Predicted light: how much of the sources falls on which pixel, as far as a catalogue tells.

The boxes of `webbkg.wfss.traces` say where light may fall; in a crowded field that is everywhere.
Here each source's light is spread along its trace and across it, roughly, so that pixels can be
ranked: those with the least predicted light are fitted. Nothing needs to be exact for that, and
no spectrum is known: spectra are taken as flat, profiles as nested boxes.

Light is laid out as rectangles in an array of differences (each adds at two corners and takes
away at two), of which two cumulative sums make the image: a source costs the same however far
it spreads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.results import FloatImage, SourceCatalog
from webbkg.wfss.traces import Doubles, GrismTransform, OrderLimits

SEGMENTS = 8
"""Pieces of a trace, each along dispersion; a curved trace is followed in steps."""

PROFILE = ((0.3, 0.5), (0.7, 0.3), (1.0, 0.17), (2.5, 0.03))
"""A source across dispersion: half widths in those of its catalogue box, and shares of its light."""

SMALLEST = 1.5
"""Least half width of a source (pixels): no point is sharper than the point-spread function."""

SHARES = {1: 1.0, 0: 0.1, 2: 0.1, 3: 0.02, -1: 0.02}
"""Light of an order relative to the first, in round numbers; of others, the least of them. That they
are far off matters little, that an order is left out does."""

_FARTHEST = 1e6  # pixels; far off any detector


class _Trace(NamedTuple):
    """Where the light of sources lies: along and across dispersion, (3, sources) pixels.

    At the shortest wavelength of an order, halfway, and at the longest.
    """

    along: Doubles
    across: Doubles
    half_along: Doubles  #: half widths of the sources, (sources,)
    half_across: Doubles

    def at(self, share: float) -> tuple[Doubles, Doubles]:
        """Place it at a share of the order's wavelengths, on a parabola."""
        weights = np.array(
            [(1 - share) * (1 - 2 * share), 4 * share * (1 - share), share * (2 * share - 1)]
        )
        return weights @ self.along, weights @ self.across


def predict_light(
    catalog: SourceCatalog,
    transform: GrismTransform,
    orders: Iterable[OrderLimits],
    shape: tuple[int, int],
    *,
    dispersion_axis: int | None = None,
) -> FloatImage:
    """Predict the dispersed light of the sources of a catalogue.

    Parameters
    ----------
    catalog : SourceCatalog
        The sources. Those without a magnitude count as the brightest.
    transform : callable
        ``(ra, dec, wavelength, order) -> x, y, ...``; see `GrismTransform`.
    orders : iterable of OrderLimits
        The orders that disperse light onto the detector.
    shape : (rows, columns)
        Of the target.
    dispersion_axis : int, optional
        1 if light is dispersed along x, anything else along y (DISPAXIS).

    Returns
    -------
    (rows, columns) ndarray of float32
        Light of a pixel, at least 0, in units of that of a source of magnitude 27.5 in all.
    """
    along_x = dispersion_axis == 1
    size = shape if along_x else shape[::-1]  # across, along
    differences = np.zeros((size[0] + 1) * (size[1] + 1))
    flux = _fluxes(catalog.magnitude)
    for order in orders if len(catalog) else ():
        trace, seen = _find_trace(catalog, transform, order, along_x=along_x)
        share = SHARES.get(order.order, min(SHARES.values()))
        for segment in range(SEGMENTS):
            _lay_segment(differences, trace, share * flux[seen] / SEGMENTS, segment, size)
    light = differences.reshape(size[0] + 1, size[1] + 1)
    np.cumsum(light, axis=0, out=light)
    np.cumsum(light, axis=1, out=light)
    light = light[:-1, :-1] if along_x else light[:-1, :-1].T
    # What the sums' rounding leaves below 0 is none.
    image: FloatImage = np.maximum(light, 0, dtype=np.float32, casting="same_kind", order="C")
    return image


def _fluxes(magnitude: Doubles) -> Doubles:
    known = np.isfinite(magnitude)
    brightest = float(magnitude[known].min()) if known.any() else 27.5
    filled = np.where(known, magnitude, brightest)
    fluxes: Doubles = 10 ** (-0.4 * (filled - 27.5))
    return fluxes


def _find_trace(
    catalog: SourceCatalog, transform: GrismTransform, order: OrderLimits, *, along_x: bool
) -> tuple[_Trace, npt.NDArray[np.bool_]]:
    """Follow the sources of an order, and tell which of them have a trace at all."""
    middle = (order.shortest + order.longest) / 2
    centres, halves = np.empty((2, 3, len(catalog))), np.empty((2, 3, len(catalog)))
    for step, wavelength in enumerate((order.shortest, middle, order.longest)):
        # Points off the sky or far outside the polynomials' range are left out below.
        with np.errstate(all="ignore"):
            where = transform(catalog.ra.ravel(), catalog.dec.ravel(), wavelength, order.order)[:2]
            corners = [np.reshape(points, catalog.ra.shape) for points in where]
            centres[:, step] = [points.mean(axis=0) for points in corners]
            halves[:, step] = [np.ptp(points, axis=0) / 2 for points in corners]
    seen: npt.NDArray[np.bool_] = np.abs(centres).max(axis=(0, 1)) < _FARTHEST  # False of NaN
    along, across = (0, 1) if along_x else (1, 0)
    half = halves[:, 1][:, seen]
    trace = _Trace(centres[along][:, seen], centres[across][:, seen], half[along], half[across])
    return trace, seen


def _lay_segment(
    differences: Doubles, trace: _Trace, flux: Doubles, segment: int, size: tuple[int, int]
) -> None:
    """Add one piece of every trace to the differences of an image (across, along)."""
    (first, near), (last, far) = (trace.at((segment + end) / SEGMENTS) for end in (0, 1))
    # A trace ends as wide as its source.
    padding = np.maximum(trace.half_along, 2 * SMALLEST)
    ahead = last >= first
    at_low = np.where(ahead, segment == 0, segment == SEGMENTS - 1)
    at_high = np.where(ahead, segment == SEGMENTS - 1, segment == 0)
    left = np.round(np.minimum(first, last) - padding * at_low)
    right = np.maximum(np.round(np.maximum(first, last) + padding * at_high), left + 1)
    middle = (near + far) / 2
    for part, share in PROFILE:
        half = np.maximum(trace.half_across * part, SMALLEST * np.sqrt(part))
        low = np.round(middle - half)
        high = np.maximum(np.round(middle + half), low) + 1
        density = share * flux / ((right - left) * (high - low))
        _add_boxes(differences, (low, high, left, right), density, size)


def _add_boxes(
    differences: Doubles,
    edges: tuple[Doubles, ...],
    density: Doubles,
    size: tuple[int, int],
) -> None:
    """Add boxes of a constant density; `edges` are first and last + 1, across and along."""
    low, high = (np.clip(edge, 0, size[0]).astype(np.int64) for edge in edges[:2])
    left, right = (np.clip(edge, 0, size[1]).astype(np.int64) for edge in edges[2:])
    inside = (low < high) & (left < right)
    low, high, left, right = (edge[inside] * 1 for edge in (low, high, left, right))
    stride, value = size[1] + 1, density[inside]
    for line, column, sign in (
        (low, left, 1),
        (low, right, -1),
        (high, left, -1),
        (high, right, 1),
    ):
        np.add.at(differences, line * stride + column, sign * value)
