"""Where images lie on the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from webbkg.errors import InputError
from webbkg.numerics.planes import Overlap

if TYPE_CHECKING:
    from webbkg.files.exposures import ExposureInfo

FULL_FRAME = {"MIRI": (1024, 1032)}
"""Rows and columns of a detector; JWST's other detectors have 2048 of each."""


@dataclass(frozen=True)
class DetectorWindow:
    """A rectangle of detector pixels.

    Attributes
    ----------
    x, y : int
        First column and row, counted from 0 (SUBSTRT1 - 1, SUBSTRT2 - 1).
    columns, rows : int
        Extent (SUBSIZE1, SUBSIZE2).
    """

    x: int
    y: int
    columns: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def __str__(self) -> str:
        return (
            f"{self.columns}x{self.rows} pixels from column {self.x + 1}, row {self.y + 1} "
            "of the detector"
        )

    def overlap(self, other: DetectorWindow) -> Overlap | None:
        """Find the pixels that both windows hold; None if there are none."""
        left = max(self.x, other.x)
        right = min(self.x + self.columns, other.x + other.columns)
        bottom = max(self.y, other.y)
        top = min(self.y + self.rows, other.y + other.rows)
        if left >= right or bottom >= top:
            return None
        return Overlap(
            rows=(bottom - self.y, top - self.y),
            columns=(left - self.x, right - self.x),
            other_rows=(bottom - other.y, top - other.y),
            other_columns=(left - other.x, right - other.x),
        )


def window_of(info: ExposureInfo, shape: tuple[int, int], name: str) -> DetectorWindow:
    """Tell where an image of `shape` (rows, columns) lies on the detector.

    Parameters
    ----------
    info : ExposureInfo
        Its window keywords, if any. If one of the four is missing, all are taken as full frame.
    shape : (rows, columns)
        Shape of its image.
    name : str
        What to call it in an error.

    Raises
    ------
    InputError
        If the keywords contradict the shape, or are missing for what is not a full frame.
    """
    start = (info.subarray_xstart, info.subarray_ystart)
    size = (info.subarray_xsize, info.subarray_ysize)
    rows, columns = shape
    if start[0] is None or start[1] is None or size[0] is None or size[1] is None:
        full = FULL_FRAME.get(info.instrument or "", (2048, 2048))
        if shape != full:
            raise InputError(
                f"{name}: where its {columns}x{rows} pixels lie on the detector is unknown: of "
                "SUBSTRT1, SUBSTRT2, SUBSIZE1 and SUBSIZE2 at least one is missing, and this is "
                f"not a full frame of {full[1]}x{full[0]}; set the four keywords"
            )
        return DetectorWindow(0, 0, columns, rows)
    if (size[1], size[0]) != shape:
        raise InputError(
            f"{name}: SUBSIZE1 x SUBSIZE2 = {size[0]}x{size[1]} contradicts its image of "
            f"{columns}x{rows} pixels; correct the keywords"
        )
    if start[0] < 1 or start[1] < 1:
        raise InputError(
            f"{name}: SUBSTRT1, SUBSTRT2 = {start[0]}, {start[1]} must both be at least 1; "
            "correct the keywords"
        )
    return DetectorWindow(start[0] - 1, start[1] - 1, columns, rows)


@dataclass(frozen=True)
class Place:
    """An image, and what its headers say of where it lies; its window is found when asked for.

    Attributes
    ----------
    name : str
        What to call it in an error.
    info : ExposureInfo
        What its headers say.
    shape : (rows, columns)
        Shape of its image.
    """

    name: str
    info: ExposureInfo
    shape: tuple[int, int]

    @property
    def window(self) -> DetectorWindow:
        """Where it lies; see `window_of`, which raises InputError where that is unknown."""
        return window_of(self.info, self.shape, self.name)

    def matches(self, other: Place) -> bool:
        """Tell images of one shape and one corner, or both without a corner.

        They lie on each other, whatever their SUBSIZE says: flight products of NIRSpec's
        slitlets, for one, are cut out of a frame whose window they keep.
        """
        ours, theirs = (
            (one.shape, one.info.subarray_xstart, one.info.subarray_ystart) for one in (self, other)
        )
        return ours == theirs

    def overlap(self, other: Place) -> Overlap | None:
        """Find the pixels that both hold; None if there are none.

        Raises
        ------
        InputError
            If they do not match and a window is not known.
        """
        if self.matches(other):
            return Overlap.whole(self.shape)
        return self.window.overlap(other.window)
