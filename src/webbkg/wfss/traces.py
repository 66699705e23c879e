"""Traces: from a source catalogue and a grism WCS to where dispersed light falls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.results import BoolImage, SourceCatalog

_FARTHEST = 2.0**31  # pixels; far off any detector, and still an integer

Doubles = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.int64]
GrismTransform = Callable[..., Sequence[Any]]
"""From ra, dec (degrees), wavelength (µm) and order to x and y of the grism image (pixels from
0), and perhaps more: the ``backward_transform`` of a grism WCS."""


class OrderLimits(NamedTuple):
    """A spectral order, and the wavelengths (µm) between which it is masked."""

    order: int
    shortest: float
    longest: float


def blocking_filter(instrument: str | None, filter_name: str, pupil_name: str) -> str:
    """Return the element that limits the wavelengths: NIRISS has it in PUPIL, others in FILTER."""
    return pupil_name if instrument == "NIRISS" else filter_name


def orders_and_limits(
    extract_orders: Iterable[Sequence[Any]],
    wavelengthrange: Iterable[Sequence[Any]],
    filter_name: str,
) -> tuple[OrderLimits, ...]:
    """Look up the orders of a filter and their wavelengths in a WAVELENGTHRANGE reference.

    Parameters
    ----------
    extract_orders : iterable of (filter, orders)
        The last row of the filter counts.
    wavelengthrange : iterable of (order, filter, shortest, longest)
        The first row of an order and the filter counts (µm).
    filter_name : str
        The blocking filter.

    Returns
    -------
    tuple of OrderLimits
        In the reference's order.

    Raises
    ------
    InputError
        If the reference has no such filter, or no wavelengths for one of its orders.
    """
    rows = {str(row[0]): row[1] for row in extract_orders}
    if filter_name not in rows:
        raise InputError(
            f"the wavelengthrange reference extracts no orders for the filter {filter_name} "
            f"(it knows {', '.join(rows) or 'none'}); override it with one for this mode"
        )
    limits: dict[int, OrderLimits] = {}
    for order, name, shortest, longest in wavelengthrange:
        if name == filter_name:
            limits.setdefault(int(order), OrderLimits(int(order), float(shortest), float(longest)))
    missing = [str(order) for order in rows[filter_name] if int(order) not in limits]
    if missing:
        raise InputError(
            f"the wavelengthrange reference has no wavelengths for order {', '.join(missing)} "
            f"of the filter {filter_name}; override it with a complete one"
        )
    return tuple(limits[int(order)] for order in rows[filter_name])


def catalog_sky_mask(
    catalog: SourceCatalog,
    transform: GrismTransform,
    orders: Iterable[OrderLimits],
    shape: tuple[int, int],
    *,
    magnitude_limit: float | None = None,
    dispersion_axis: int | None = None,
) -> BoolImage:
    """Mask the dispersed light of the sources of a catalogue.

    Parameters
    ----------
    catalog : SourceCatalog
        The sources.
    transform : callable
        ``(ra, dec, wavelength, order) -> x, y, ...``; see `GrismTransform`.
    orders : iterable of OrderLimits
        The orders that are masked.
    shape : (rows, columns)
        Of the target.
    magnitude_limit : float, optional
        Sources of this AB magnitude and fainter are not masked; None masks all.
    dispersion_axis : int, optional
        1 if light is dispersed along x, anything else along y (DISPAXIS).

    Returns
    -------
    (rows, columns) ndarray of bool
        True where sky.
    """
    sources = catalog.brighter_than(magnitude_limit)
    boxes = [
        trace_boxes(transform, sources.ra, sources.dec, order.order, order[1:]) for order in orders
    ]
    return sky_mask_from_boxes(shape, boxes, dispersion_axis=dispersion_axis)


def trace_boxes(
    transform: GrismTransform,
    ra: Doubles,
    dec: Doubles,
    order: int,
    wavelengths: Sequence[float],
) -> Boxes:
    """Box the light of sources in one order, on the pixels of the grism image.

    Parameters
    ----------
    transform : callable
        ``(ra, dec, wavelength, order) -> x, y, ...``, called once per wavelength with all
        corners. Wavelength and order are scalars: as arrays some transforms would make a grid
        of every source with every wavelength.
    ra, dec : (corners, sources) ndarray
        Corners of the sources' boxes on the sky (degrees).
    order : int
        Spectral order.
    wavelengths : sequence of float
        Usually the two limits of the order (µm).

    Returns
    -------
    (boxes, 4) ndarray of int64
        First and last column, first and last row, all of them inside: the range of a source's
        finite points, rounded by floor(x + 0.5). A source without a finite point has no box.
    """
    corners, sources = ra.shape
    if sources == 0:  # which some transforms do not take
        return np.empty((0, 4), np.int64)
    points = np.empty((2, len(wavelengths) * corners, sources))
    for i, wavelength in enumerate(wavelengths):
        # Points off the sky or far outside the polynomials' range are sorted out below.
        with np.errstate(all="ignore"):
            x, y = transform(ra.ravel(), dec.ravel(), wavelength, order)[:2]
        of_limit = slice(i * corners, (i + 1) * corners)
        points[0, of_limit] = np.reshape(x, ra.shape)
        points[1, of_limit] = np.reshape(y, ra.shape)
    finite = np.isfinite(points).all(axis=0)
    lowest = np.where(finite, points, np.inf).min(axis=1)
    highest = np.where(finite, points, -np.inf).max(axis=1)
    edges = np.stack([lowest[0], highest[0], lowest[1], highest[1]], axis=-1)
    edges = edges[finite.any(axis=0)]
    rounded: Boxes = np.floor(np.clip(edges, -_FARTHEST, _FARTHEST) + 0.5).astype(np.int64)
    return rounded


def sky_mask_from_boxes(
    shape: tuple[int, int], boxes: Iterable[Boxes], *, dispersion_axis: int | None = None
) -> BoolImage:
    """Mask the boxes of all orders that count.

    A box counts if it reaches beyond the outermost line of pixels along dispersion (last >= 1
    and first <= n - 2) and touches the array across (last >= 0 and first <= n - 1). It is
    masked where it falls on the array.

    Parameters
    ----------
    shape : (rows, columns)
        Of the target.
    boxes : iterable of (boxes, 4) ndarray of int
        First and last column, first and last row, per order, as `trace_boxes` returns them.
    dispersion_axis : int, optional
        1 if light is dispersed along x, anything else along y (DISPAXIS).

    Returns
    -------
    (rows, columns) ndarray of bool
        True where sky.
    """
    rows, columns = shape
    margin_x, margin_y = (1, 0) if dispersion_axis == 1 else (0, 1)
    sky = np.ones(shape, dtype=np.bool_)
    for of_order in boxes:
        left, right, bottom, top = np.asarray(of_order).reshape(-1, 4).T
        counts = (right >= margin_x) & (left <= columns - 1 - margin_x)
        counts &= (top >= margin_y) & (bottom <= rows - 1 - margin_y)
        inside = np.stack([left.clip(0), right + 1, bottom.clip(0), top + 1], axis=-1)
        for x0, x1, y0, y1 in inside[counts].tolist():
            sky[y0:y1, x0:x1] = False
    return sky
