"""What exposures must have in common, and how far apart they point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from webbkg.batch.headers import Facts
from webbkg.options import GRATING_TILT_TOLERANCE

Setup = tuple[tuple[str, object], ...]
"""Keyword and value of all that a target and its backgrounds have in common."""

ARCSEC = 180 * 3600 / math.pi
"""Of a radian."""

FAR = 1e6
"""Between points of which no more is known than that they are two (arcsec)."""

CROWDED = {("S1600A1", 5): 1.6 / 5}
"""Slit and points of a nod whose neighbours are near each other, and how far they are apart
(arcsec): the slit is 1.6 wide (JWST user documentation, "NIRSpec Fixed Slits"). The pipeline, too, leaves the
neighbours out (jwst.associations, `nod_background_overlap`)."""


def setup_of(facts: Facts) -> Setup:
    """Return what a background must have in common with a target.

    Instrument, detector, optics (with the tilt of NIRSpec's gratings), slit, window, readout
    pattern and unit.
    """
    info = facts.info
    window = (info.subarray_xstart, info.subarray_ystart, info.subarray_xsize, info.subarray_ysize)
    return (
        ("INSTRUME", info.instrument),
        ("DETECTOR", info.detector),
        ("EXP_TYPE", info.exposure_type),
        ("FILTER", info.filter),
        ("PUPIL", info.pupil),
        ("GRATING", info.grating),
        ("BAND", facts.text("BAND")),
        ("FXD_SLIT", facts.text("FXD_SLIT")),
        ("GWA_XTIL", _tilt(info.gwa_xtilt)),
        ("GWA_YTIL", _tilt(info.gwa_ytilt)),
        ("window", None if None in window else window),
        ("READPATT", facts.text("READPATT")),
        ("BUNIT", info.unit),
    )


def _tilt(angle: float | None) -> float | None:
    """Round a tilt, which may differ in its last digits though nothing has moved.

    The bounds of what is rounded to one value lie where no short decimal does.
    """
    if angle is None or not math.isfinite(angle):
        return angle
    return round(math.floor(angle / GRATING_TILT_TOLERANCE + 0.3141) * GRATING_TILT_TOLERANCE, 8)


def describe(facts: Facts) -> str:
    """Name instrument, detector and optics, as in ``NIRISS NIS F480M NRM``."""
    info = facts.info
    band, slit = facts.text("BAND"), facts.text("FXD_SLIT")
    words = (info.instrument, info.detector, info.filter, info.pupil, info.grating, band, slit)
    return " ".join(word for word in words if word and word != "N/A")


def difference(ours: Setup, theirs: Setup) -> str:
    """Say in what a setup differs from another one, first thing first."""
    told = [
        f"{word} {_shown(other)}, its own {_shown(own)}"
        for (word, own), (_, other) in zip(ours, theirs, strict=True)
        if own != other
    ]
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return f"{told[0]}{more}" if told else "nothing"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        x, y, columns, rows = value
        return f"{columns}x{rows} at {x},{y}"
    return "not told" if value is None else str(value)


Places = npt.NDArray[np.float64]
"""Of each exposure, its unit vector or its offset in units of arcsec: (exposures, 3 or 2)."""


def places_of(exposures: Sequence[Facts]) -> Places | None:
    """Tell where exposures point, by the first keyword that all of them have; None without one.

    RA_V1 and DEC_V1, the middle of S_REGION, RA_REF and DEC_REF; XOFFSET and YOFFSET alone for
    targets that move. Without any of them the number of the primary dither point tells points
    apart: (PATT_NUM - 1) // SUBPXPTS.
    """
    moving = any(one.text("TARGTYPE") == "MOVING" for one in exposures)
    for keyword in ("XOFFSET",) if moving else ("RA_V1", "S_REGION", "RA_REF", "XOFFSET"):
        if all(keyword in one.positions for one in exposures):
            found = np.array([one.positions[keyword] for one in exposures])
            return found if keyword == "XOFFSET" else _vectors(found) * ARCSEC
    points = [primary_point(one) for one in exposures]
    if None in points:
        return None
    step = CROWDED.get((exposures[0].text("FXD_SLIT") or "", _primary_points(exposures[0])), FAR)
    return np.array([(one * step, 0.0) for one in points if one is not None])


def _vectors(positions: Places) -> Places:
    """Turn right ascensions and declinations (degrees) into unit vectors."""
    ra, dec = np.radians(positions).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def primary_point(facts: Facts) -> int | None:
    """Number the primary dither point, from 0; None where the headers do not."""
    number = facts.number("PATT_NUM")
    return None if number is None else (number - 1) // _subpixels(facts)


def _subpixels(facts: Facts) -> int:
    return max(facts.number("SUBPXPTS") or 1, 1)


def _primary_points(facts: Facts) -> int:
    return (facts.number("NUMDTHPT") or 0) // _subpixels(facts)


def separations(places: Places, index: int) -> npt.NDArray[np.float64]:
    """Return how far each exposure points from one of them (arcsec)."""
    distance: npt.NDArray[np.float64] = np.linalg.norm(places - places[index], axis=1)
    return distance
