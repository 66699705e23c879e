"""Traces: from a source catalogue and a grism WCS to where dispersed light falls."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, MissingFileError
from webbkg.results import BoolImage

FAINTEST = 999.0
"""Magnitude limit where none is given: every source with a real magnitude is brighter."""

CORNERS = ("sky_bbox_ll", "sky_bbox_lr", "sky_bbox_ul", "sky_bbox_ur")
MAGNITUDE = "isophotal_abmag"

_FARTHEST = 2.0**31  # pixels; far off any detector, and still an integer

Doubles = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.int64]
GrismTransform = Callable[..., Sequence[Any]]
"""From ra, dec (degrees), wavelength (µm) and order to x and y of the grism image (pixels from
0), and perhaps more: the ``backward_transform`` of a grism WCS."""


@dataclass(frozen=True)
class SourceCatalog:
    """What the masking of sources needs of a catalogue; the arrays are read-only.

    Attributes
    ----------
    ra, dec : (4, sources) float64
        Corners of the sources' boxes on the sky (ICRS, degrees).
    magnitude : (sources,) float64
        Isophotal AB magnitudes; NaN where missing.
    """

    ra: Doubles
    dec: Doubles
    magnitude: Doubles

    def __post_init__(self) -> None:
        for values in (self.ra, self.dec, self.magnitude):
            values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.magnitude)

    def brighter_than(self, limit: float | None) -> SourceCatalog:
        """Leave out the sources whose magnitude is `limit` or fainter; NaN stays.

        None stands for `FAINTEST`.
        """
        faint = self.magnitude >= (FAINTEST if limit is None else limit)
        return SourceCatalog(
            self.ra[:, ~faint].copy(), self.dec[:, ~faint].copy(), self.magnitude[~faint].copy()
        )


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


def read_catalog(source: str | os.PathLike[str] | Any) -> SourceCatalog:
    """Read the sky boxes and magnitudes of a source catalogue.

    Parameters
    ----------
    source : path or astropy Table
        An ECSV file, or a table; with the sky-coordinate columns ``sky_bbox_ll``, ``_lr``,
        ``_ul``, ``_ur`` in any frame that leads to ICRS, and ``isophotal_abmag``.

    Returns
    -------
    SourceCatalog
        In the catalogue's order.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it cannot be read, holds no source, lacks a column, or its coordinates do not lead
        to ICRS.
    """
    if not isinstance(source, str | os.PathLike):
        return _from_table(source, "the source catalogue")
    path = Path(source)
    if not path.exists():
        raise MissingFileError(f"{path}: no such source catalogue; check the name and the folder")
    try:
        return _read_plain(path) or _from_table(_read_table(path), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; a catalogue is an ECSV table") from error


def _read_table(path: Path) -> Any:
    """Read any ECSV table, with all that its columns may be."""
    from astropy.table import QTable

    try:
        return QTable.read(path, format="ascii.ecsv")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as an ECSV table ({error}); give the catalogue that the "
            "pipeline's source_catalog step wrote"
        ) from error


def _read_plain(path: Path) -> SourceCatalog | None:
    """Read the usual catalogue, with ICRS coordinates in degrees; None if it is not like that.

    Of its two dozen columns nine are needed; that takes a tenth of a table's time.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if comments + 1 >= len(lines) or not lines[0].startswith("# %ECSV"):
        return None
    header = _header([line[2:] for line in lines[1:comments]])
    if header is None or not _is_plain(header):
        return None
    delimiter = header.get("delimiter", " ")
    names = next(csv.reader(lines[comments : comments + 1], delimiter=delimiter))
    needed = [f"{corner}.{axis}" for axis in ("ra", "dec") for corner in CORNERS]
    try:
        values = np.loadtxt(
            lines[comments + 1 :],
            delimiter=delimiter,
            comments=None,
            quotechar='"',
            usecols=[names.index(name) for name in (*needed, MAGNITUDE)],
            unpack=True,
            ndmin=2,
        )
    except ValueError:  # something is missing, or no number
        return None
    return SourceCatalog(values[:4].copy(), values[4:8].copy(), values[8].copy())


def _header(lines: list[str]) -> dict[str, Any] | None:
    """Read the YAML header of an ECSV file; None if it is none."""
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    try:
        header: dict[str, Any] = get_header_from_yaml(lines)
    except (YamlParseError, ValueError, KeyError, TypeError):
        return None
    return header


def _is_plain(header: dict[str, Any]) -> bool:
    """Tell whether the boxes are ICRS positions in plain columns of degrees."""
    units = {column["name"]: column.get("unit") for column in header.get("datatype", [])}
    mixins = dict(header.get("meta") or {}).get("__serialized_columns__", {})
    return MAGNITUDE not in mixins and all(
        mixins.get(corner, {}).get("frame") == "icrs"
        and mixins[corner].get("representation_type") == "spherical"
        and mixins[corner].get(axis, {}).get("value", {}).get("name") == f"{corner}.{axis}"
        and units.get(f"{corner}.{axis}") == "deg"
        for corner in CORNERS
        for axis in ("ra", "dec")
    )


def _from_table(table: Any, name: str) -> SourceCatalog:
    missing = [column for column in (*CORNERS, MAGNITUDE) if column not in table.colnames]
    if missing:
        raise InputError(
            f"{name}: lacks the column {', '.join(missing)}; give the catalogue that the "
            "pipeline's source_catalog step wrote"
        )
    if len(table) == 0:
        raise InputError(
            f"{name}: holds no source; give another catalogue, or a wfss_mask that is 1 "
            "everywhere to use all pixels as sky"
        )
    positions = [_icrs(table[corner], corner, name) for corner in CORNERS]
    magnitude = table[MAGNITUDE]
    magnitude = getattr(magnitude, "value", magnitude)
    return SourceCatalog(
        np.array([_filled(position.ra.deg) for position in positions]),
        np.array([_filled(position.dec.deg) for position in positions]),
        _filled(magnitude),
    )


def _filled(values: Any) -> Doubles:
    """Copy a column, masked in any of astropy's ways, with NaN where it is masked."""
    mask = np.asarray(getattr(values, "mask", False))
    plain = np.array(getattr(values, "unmasked", values), dtype=np.float64)
    plain[np.broadcast_to(mask, plain.shape)] = np.nan
    return plain


def _icrs(column: Any, corner: str, name: str) -> Any:
    from astropy.coordinates import ConvertError

    if not hasattr(column, "transform_to"):
        raise InputError(
            f"{name}: the column {corner} must hold sky coordinates (got "
            f"{type(column).__name__}); give the catalogue that the source_catalog step wrote"
        )
    try:
        return column.transform_to("icrs")
    except (ConvertError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: the column {corner} does not lead to ICRS (its frame is "
            f"{column.name}); convert it"
        ) from error
