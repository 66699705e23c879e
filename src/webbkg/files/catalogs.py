"""The door of source catalogues: the sky boxes and magnitudes of an ECSV table."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.asdf import check_yaml
from webbkg.files.fits import is_gzipped
from webbkg.results import SourceCatalog

CORNERS = ("sky_bbox_ll", "sky_bbox_lr", "sky_bbox_ul", "sky_bbox_ur")
MAGNITUDE = "isophotal_abmag"

LARGEST = 2**28
"""Bytes of a catalogue, unpacked; a source takes some 600."""

LONGEST_HEADER = 2**18
"""Bytes of its YAML header; that of the pipeline's catalogues has some 20 000. It is read at
100 000 bytes a second."""

Doubles = npt.NDArray[np.float64]


def read_catalog(source: str | os.PathLike[str] | Any) -> SourceCatalog:
    """Read the sky boxes and magnitudes of a source catalogue.

    Parameters
    ----------
    source : path or astropy Table
        An ECSV file (gzipped or not), or a table; with the sky-coordinate columns ``sky_bbox_ll``, ``_lr``,
        ``_ul``, ``_ur`` in any frame that leads to ICRS, and ``isophotal_abmag``.

    Returns
    -------
    SourceCatalog
        In the catalogue's order; without sources, of length 0.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it cannot be read, lacks a column, or its coordinates do not lead to ICRS.
    """
    if not isinstance(source, str | os.PathLike):
        with door.reading("the source catalogue"):
            return _from_table(source, "the source catalogue")
    path = door.regular_file(source, "source catalogue", "an ECSV table")
    with door.reading(path, "cannot be read as an ECSV table, such as the pipeline's step writes"):
        lines = _read_text(path).lstrip().splitlines()
        header = _check_header(lines, path)
        return _read_plain(lines, header) or _from_table(_read_table(lines), str(path))


def _read_text(path: Path) -> str:
    """Read a text of bounded length, gzipped or not."""
    with path.open("rb") as plain, gzip.open(plain) if is_gzipped(path) else plain as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{path}: has more than {LARGEST} bytes; this is no source catalogue")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; a catalogue is an ECSV table") from error


def _check_header(lines: list[str], path: Path) -> list[str]:
    """Return the lines of the YAML header, after a look at what they would build."""
    if not lines or not lines[0].startswith("# %ECSV"):
        raise InputError(
            f"{path}: does not begin with '# %ECSV'; give the catalogue that the pipeline's "
            "source_catalog step wrote"
        )
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = [line[2:] for line in lines[1:comments]]
    text = "\n".join(header)
    if len(text) > LONGEST_HEADER:
        raise InputError(f"{path}: its YAML header has more than {LONGEST_HEADER} characters")
    check_yaml(text, str(path), array_bytes=LONGEST_HEADER)
    return header


def _read_table(lines: list[str]) -> Any:
    """Read any ECSV table, with all that its columns may be."""
    from astropy.table import QTable

    return QTable.read(lines, format="ascii.ecsv")


def _read_plain(lines: list[str], yaml_header: list[str]) -> SourceCatalog | None:
    """Read the usual catalogue, with ICRS coordinates in degrees; None if it is not like that.

    Of its two dozen columns nine are needed; that takes a tenth of a table's time.
    """
    comments = 1 + len(yaml_header)
    if comments + 1 >= len(lines):
        return None
    header = _header(yaml_header)
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
    if len(table) == 0:  # nothing to mask: all is sky
        return SourceCatalog(np.empty((4, 0)), np.empty((4, 0)), np.empty(0))
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
