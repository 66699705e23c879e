"""What a plan is made from: the headers of exposures, read once and kept in a cache."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webbkg.batch.cache import HeaderCache
from webbkg.errors import InputError
from webbkg.files import door
from webbkg.files.exposures import KEYWORDS, ExposureInfo
from webbkg.files.fits import leading_headers
from webbkg.files.suffixes import strip_suffix
from webbkg.run import BACKGROUND_SUFFIX, COMBINED_SUFFIX

PRIMARY = (
    *KEYWORDS,
    *("TARGPROP", "TARGNAME", "TARGTYPE", "BKGDTARG", "IS_IMPRT", "EXPSTART", "EXSEGTOT"),
    *("BAND", "FXD_SLIT", "READPATT", "MSAMETFL", "MSAMETID", "S_RESAMP", "REFTYPE"),
    *("PATTTYPE", "PATT_NUM", "NUMDTHPT", "NOD_TYPE", "SUBPXPTS", "XOFFSET", "YOFFSET"),
    *("SCATFILE", "SEGMFILE", "DIRIMAGE"),
)
"""Keywords of the primary header that are kept."""

POINTING = ("S_REGION", "RA_V1", "DEC_V1", "RA_REF", "DEC_REF")
SCIENCE = ("NAXIS", "ZNAXIS", "BUNIT", *POINTING)
"""Keywords of the SCI header that are kept; the pointing's may be in the primary one."""

FORM = zlib.crc32(" ".join([*PRIMARY, "SCI", *SCIENCE]).encode()) >> 1
"""Tells caches of other keywords apart."""

Sky = tuple[float, float]
"""Right ascension and declination (degrees); of an offset, x and y (arcsec)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What the headers of one file say of its exposure; None where they are silent.

    Attributes
    ----------
    path : Path
        The file, absolute.
    info : ExposureInfo
        Instrument, window and identity.
    axes : int
        Of its SCI; 0 without one.
    targets : tuple of str
        The names of what it looks at (TARGPROP, TARGNAME).
    is_background : bool
        Whether it was taken as a background (BKGDTARG).
    start : float or None
        When it began (EXPSTART, MJD in days).
    positions : mapping of str to (float, float)
        Where it points, by the keyword that tells.
    values : mapping of str to object
        Everything else, by keyword.
    """

    path: Path
    info: ExposureInfo
    axes: int
    targets: tuple[str, ...]
    is_background: bool
    start: float | None
    positions: Mapping[str, Sky]
    values: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """The file's name without its ending and the suffix of its product."""
        return split_name(self.path)[0]

    @property
    def product(self) -> str:
        """The suffix of its product, such as rate; empty where the name has none that is known."""
        return split_name(self.path)[1]

    def number(self, keyword: str) -> int | None:
        """Return an integer of the headers; None if it is none."""
        value = self.values.get(keyword)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, keyword: str) -> str | None:
        """Return a text of the headers; None if there is none, or it says so."""
        value = self.values.get(keyword)
        empty = value is None or str(value).strip().upper() in (
            "",
            "N/A",
            "NONE",
            "NULL",
            "UNKNOWN",
        )
        return None if empty else str(value).strip()


def split_name(path: Path) -> tuple[str, str]:
    """Split a file's name into its stem and the suffix of its product, without the ending.

    Examples
    --------
    >>> split_name(Path("data/jw01093020001_03102_00001_nis_rate.fits.gz"))
    ('jw01093020001_03102_00001_nis', 'rate')
    """
    name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    for saved in (BACKGROUND_SUFFIX, COMBINED_SUFFIX):  # by webbkg, beside its products
        if name.endswith(f"_{saved}"):
            return name.removesuffix(f"_{saved}"), saved
    stem, separator = strip_suffix(name)
    return stem, name[len(stem) + len(separator) :]


def read_facts(
    paths: Iterable[Path],
    cache: HeaderCache,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Facts], dict[Path, str]]:
    """Read the headers of files, those that the cache does not know.

    Parameters
    ----------
    paths : iterable of Path
        FITS files, absolute.
    cache : HeaderCache
        What was read before.
    progress : callable, optional
        Called with the files done and their number.

    Returns
    -------
    facts : list of Facts
        In the order of the files.
    unreadable : dict of Path to str
        Why a file has none.
    """
    facts, unreadable = [], {}
    paths = list(paths)
    with cache:
        for done, path in enumerate(paths, 1):
            try:
                values = cache.get(path) or cache.keep(path, _read(path))
                facts.append(_facts(path, values))
            except InputError as error:
                unreadable[path] = door.brief(error)
            if progress is not None:
                progress(done, len(paths))
    return facts, unreadable


def _read(path: Path) -> dict[str, Any]:
    """Read what is kept of a file's headers, as JSON can hold it."""
    primary, science = leading_headers(path, "SCI")
    values = {word: primary.get(word) for word in (*PRIMARY, *POINTING)}
    if science is not None:
        values |= {word: science.get(word, values.get(word)) for word in SCIENCE}
    return {word: _plain(value) for word, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else str(value)


def _facts(path: Path, values: Mapping[str, Any]) -> Facts:
    named = [values.get(word) for word in ("TARGPROP", "TARGNAME")]
    return Facts(
        path=path,
        info=ExposureInfo.from_header(values, path.name),
        axes=_count(values.get("ZNAXIS", values.get("NAXIS"))),
        targets=tuple(dict.fromkeys(str(name) for name in named if name)),
        is_background=values.get("BKGDTARG") is True,
        start=_number(values.get("EXPSTART")),
        positions=_positions(values),
        values=values,
    )


def _positions(values: Mapping[str, Any]) -> dict[str, Sky]:
    """Find where an exposure points, by what tells it best first."""
    found = {
        "RA_V1": _pair(values, "RA_V1", "DEC_V1"),
        "S_REGION": _centre(values.get("S_REGION")),
        "RA_REF": _pair(values, "RA_REF", "DEC_REF"),
        "XOFFSET": _pair(values, "XOFFSET", "YOFFSET"),
    }
    return {keyword: position for keyword, position in found.items() if position is not None}


def _pair(values: Mapping[str, Any], first: str, second: str) -> Sky | None:
    x, y = _number(values.get(first)), _number(values.get(second))
    return None if x is None or y is None else (x, y)


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _centre(region: Any) -> Sky | None:
    """Return the mean corner of a footprint such as ``POLYGON ICRS  ra dec ra dec …`` (degrees)."""
    if not isinstance(region, str) or not region.upper().startswith("POLYGON"):
        return None
    try:
        numbers = [float(word) for word in region.split()[1:] if word[0] in "+-.0123456789"]
    except ValueError:
        return None
    ra, dec = numbers[0::2], numbers[1::2]
    if len(ra) != len(dec) or len(ra) < 3 or not all(map(math.isfinite, numbers)):
        return None
    near = [ra[0] + (one - ra[0] + 180) % 360 - 180 for one in ra]  # across 0 h, too
    return sum(near) / len(near) % 360, sum(dec) / len(dec)
