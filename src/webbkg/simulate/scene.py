"""What the modes share: a scene, a field of it on one window, and an exposure with its truth.

A field is a scene, a seed and a setup, and nothing else: all that it shows follows from them, is
made when it is asked for, and kept.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import BoolImage, FloatImage
from webbkg.simulate.detector import (
    BadPixels,
    Detector,
    Planes,
    Readout,
    Setup,
    Subarray,
    draw_bad_pixels,
    expose,
    reference_pixels,
)


@dataclass(frozen=True, kw_only=True)
class Scene(ABC):
    """What is observed, and with what. Unless a source is named, the values are chosen."""

    detector: Detector  #: with its noise and defects
    readout: Readout  #: how an integration is sampled
    exposure_type: str  #: EXP_TYPE
    ra: float  #: where the centre of the detector points before a dither (degrees)
    dec: float

    @property
    @abstractmethod
    def elements(self) -> tuple[str, str | None]:
        """FILTER and PUPIL."""

    def set_up(self, subarray: Subarray | None = None) -> Setup:
        """Choose what is read out, by default the whole detector.

        It is an OptionError if its window leaves the detector.
        """
        full, subarray = self.detector.full.window, subarray or self.detector.full
        window = subarray.window
        right, top = window.x + window.columns, window.y + window.rows
        if min(window.x, window.y) < 0 or right > full.columns or top > full.rows:
            name = self.detector.name
            raise OptionError(f"subarray must lie on the detector {name}, {full} (got {window})")
        return Setup(self.detector, self.readout, subarray)


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """What exposures of a scene show on one window, before the noise; the truth of them."""

    scene: Scene  #: what is observed
    seed: int  #: which sources, bad pixels and noise; the same seed gives the same bits
    setup: Setup  #: the detector and how it is read; `setup.window` is where the planes lie

    @property
    @abstractmethod
    def sky(self) -> FloatImage:
        """True sky (DN/s): (rows, columns) float32, 0 on reference pixels."""

    @property
    @abstractmethod
    def sources(self) -> FloatImage:
        """What stars and galaxies add (DN/s): (rows, columns) float32, 0 on reference pixels."""

    @cached_property
    def bad(self) -> BadPixels:
        """The bad pixels of the window."""
        return draw_bad_pixels(self.setup.detector, self.seed).on(self.setup.window)

    @cached_property
    def reference(self) -> BoolImage:
        """True on reference pixels: (rows, columns) bool."""
        return reference_pixels(self.setup.detector, self.setup.window)

    @property
    def lit(self) -> FloatImage:
        """1 where there may be light, 0 on reference pixels."""
        return (~self.reference).astype(np.float32)

    def expose(
        self, light: FloatImage, exposure: int, integration: int, *, true_err: bool = False
    ) -> Planes:
        """Measure light with one integration of an exposure; see `detector.expose`."""
        setup, bad = self.setup, self.bad
        return expose(light, setup, bad, self.seed, exposure, integration, true_err=true_err)

    def measure(self, exposure: int = 0, integration: int = 0, *, true_err: bool = False) -> Planes:
        """Measure sky and sources; every integration has noise and cosmic rays of its own.

        With `true_err` ERR is that of the true rate, not of the noisy one; SCI stays the same.
        """
        return self.expose(self.sky + self.sources, exposure, integration, true_err=true_err)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """An exposure and the truth of it.

    On pixels that are not `bad`, SCI - `sky` - `sources` - `cosmic_rays` is noise alone.
    """

    model: Any = dataclasses.field(repr=False)  #: ImageModel or CubeModel
    field: Field  #: what it shows, and how it was read
    #: What cosmic rays add (DN/s), in the shape of SCI.
    cosmic_rays: FloatImage = dataclasses.field(repr=False)

    @property
    def sky(self) -> FloatImage:
        """True sky, see `Field`."""
        return self.field.sky

    @property
    def sources(self) -> FloatImage:
        """What stars and galaxies add, see `Field`."""
        return self.field.sources

    @property
    def bad(self) -> BoolImage:
        """True on hot and dead pixels: (rows, columns) bool."""
        return self.field.bad.mask(self.window.shape)

    @property
    def reference(self) -> BoolImage:
        """True on reference pixels: (rows, columns) bool."""
        return self.field.reference

    @property
    def setup(self) -> Setup:
        """The detector and how it was read."""
        return self.field.setup

    @property
    def window(self) -> DetectorWindow:
        """Where its planes lie on the detector."""
        return self.setup.window
