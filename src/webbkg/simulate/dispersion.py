"""Grisms: where a source's light falls, and the gwcs that says so.

A source at (x0, y0) of the undispersed image falls at (x0 + dx, y0 + dy), where dx and dy are
polynomials in the trace parameter t, and their coefficients planes in x0 and y0. t runs from 0
to 1 between two wavelengths. This is the form of JWST's grism references; the coefficients
below are of their size, but chosen. Pixels are those of the whole detector, counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.detector import Values

Plane = tuple[float, float, float]
"""A value at the detector's first pixel, and its change per column and per row."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A spectral order."""

    number: int  #: of the order
    share: float  #: fraction of a source's light that goes there
    #: Coefficients of 1, t, t**2... of the displacement along and across dispersion (pixels).
    along: tuple[Plane, ...]
    across: tuple[Plane, ...]


@dataclass(frozen=True, kw_only=True)
class Grism:
    """A grism, or a prism."""

    name: str  #: as in FILTER or PUPIL
    instrument: str  #: INSTRUME
    axis: int  #: 1 if it disperses along x, 2 if along y (DISPAXIS)
    shortest: float  #: wavelengths of t = 0 and t = 1 (micrometres)
    longest: float
    orders: tuple[Order, ...]  #: those that fall on the detector

    def displacement(
        self, order: Order, x0: float | Values, y0: float | Values, wavelength: float | Values
    ) -> tuple[Values, Values]:
        """Tell how far light is moved along and across dispersion (pixels)."""
        t = (np.asarray(wavelength) - self.shortest) / (self.longest - self.shortest)
        along, across = (
            sum((c[0] + c[1] * x0 + c[2] * y0) * t**k for k, c in enumerate(terms)) + 0 * t
            for terms in (order.along, order.across)
        )
        return along, across


def _nircam(name: str, axis: int) -> Grism:
    first = Order(
        number=1,
        share=0.6,
        along=((-1543.0, 0.0041, -0.0018), (2598.0, 0.0052, 0.0036), (3.5, -0.0012, 0.0007)),
        across=((-1.6, 0.0013, 0.0006), (2.2, -0.0021, 0.0009), (-0.4, 0.0003, 0.0)),
    )
    second = Order(
        number=2,
        share=0.05,
        along=((846.0, 0.0063, -0.0022), (5187.0, 0.0081, 0.0049)),
        across=((-2.1, 0.0017, 0.0008), (3.1, -0.0027, 0.0011)),
    )
    return Grism(
        name=name, instrument="NIRCAM", axis=axis, shortest=2.4, longest=5.0, orders=(first, second)
    )


def _niriss(name: str, axis: int) -> Grism:
    bend: Plane = (-0.9, 0.0005, -0.0004)
    lines = {
        0: (0.08, 213.0, -8.7),
        1: (0.6, 58.5, -332.0),
        2: (0.05, -97.0, -651.0),
        3: (0.008, -251.0, -968.0),
        -1: (0.01, 371.0, 315.0),
    }
    orders = tuple(
        Order(
            number=number,
            share=share,
            along=((start, 0.0002, -0.0001), (length, 0.0004, 0.0002)),
            across=(bend, (0.4 * number, -0.0012, 0.0006)),
        )
        for number, (share, start, length) in lines.items()
    )
    return Grism(
        name=name, instrument="NIRISS", axis=axis, shortest=0.75, longest=2.3, orders=orders
    )


GRISMR = _nircam("GRISMR", 1)
GRISMC = _nircam("GRISMC", 2)
"""NIRCam's grisms: about 1000 pixels per micrometre in the first order, undeviated at 3.95
micrometres (JWST user documentation, "NIRCam Grisms"); no zeroth order falls on the detector."""

GR150C = _niriss("GR150C", 1)
GR150R = _niriss("GR150R", 2)
"""NIRISS's grisms: C disperses along the rows, R along the columns of JWST's images."""

P750L = Grism(
    name="P750L",
    instrument="MIRI",
    axis=2,
    shortest=4.5,
    longest=14.0,
    orders=(
        Order(
            number=1,
            share=0.6,
            along=((212.0, 0.0009, -0.0006), (-61.0, 0.0004, 0.0011), (-308.0, 0.0008, -0.0003)),
            across=((-0.6, 0.0008, 0.0003), (1.1, -0.0013, 0.0007)),
        ),
    ),
)
"""MIRI's prism, whose dispersion grows with the wavelength."""


def sky_transform(full: DetectorWindow, pixel_scale: float, ra: float, dec: float) -> Any:
    """Make the astropy model from pixels of the whole detector to ra and dec (degrees).

    The sky is undistorted, east to the left and north up, as in `webbkg.simulate.products`; a
    pixel has so many arcsec, and `ra` and `dec` are those of the detector's centre.
    """
    from astropy.modeling import models

    scale = pixel_scale / 3600
    centre = models.Shift(-(full.columns - 1) / 2) & models.Shift(-(full.rows - 1) / 2)
    return (
        centre
        | models.Scale(-scale) & models.Scale(scale)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(ra, dec, 180)
    )


def grism_wcs(grism: Grism, window: DetectorWindow, sky: Any) -> Any:
    """Make the WCS of a dispersed image of a window of the detector, whose first pixel is (0, 0).

    From x, y, x0, y0, order to ra, dec, wavelength (micrometres), order; and backward from ra,
    dec, wavelength, order to x, y, x0, y0, order. `sky` is from `sky_transform`.
    """
    from astropy import units as u
    from astropy.coordinates import ICRS
    from astropy.modeling.models import Identity, Shift
    from gwcs import WCS
    from gwcs.coordinate_frames import (
        CelestialFrame,
        CompositeFrame,
        CoordinateFrame,
        Frame2D,
        SpectralFrame,
    )

    grism_detector, detector = (
        Frame2D(name=name, unit=(u.pix, u.pix)) for name in ("grism_detector", "detector")
    )
    order = {"axes_names": ("order",), "unit": (u.one,), "name": "order"}
    world = [
        CelestialFrame(name="sky", reference_frame=ICRS()),
        SpectralFrame(name="wavelength", unit=u.um, axes_order=(2,)),
        CoordinateFrame(1, "OTHER", (3,), **order),
    ]
    on_detector = Shift(window.x) & Shift(window.y)
    dispersed = on_detector & on_detector & Identity(1) | _dispersion_transform(grism)
    steps = [(grism_detector, dispersed), (detector, sky & Identity(2))]
    return WCS([*steps, (CompositeFrame(world, name="world"), None)])


def _dispersion_transform(grism: Grism) -> Any:
    """Make the forward transform of a grism, with the backward one as its inverse."""
    from astropy.modeling.models import Polynomial1D
    from stdatamodels.jwst.transforms import models as m

    # The forward transforms differ in the axis they read the wavelength from. NIRISS's are
    # chosen by that, whatever the grism's letter.
    forward_class, backward = {
        ("NIRCAM", 1): (m.NIRCAMForwardRowGrismDispersion, m.NIRCAMBackwardGrismDispersion),
        ("NIRCAM", 2): (m.NIRCAMForwardColumnGrismDispersion, m.NIRCAMBackwardGrismDispersion),
        ("NIRISS", 1): (m.NIRISSForwardRowGrismDispersion, m.NIRISSBackwardGrismDispersion),
        ("NIRISS", 2): (m.NIRISSForwardColumnGrismDispersion, m.NIRISSBackwardGrismDispersion),
        ("MIRI", 2): (m.MIRIWFSSForwardDispersion, m.MIRIWFSSBackwardDispersion),
    }[grism.instrument, grism.axis]
    numbers = [order.number for order in grism.orders]
    along = [_polynomials(order.along) for order in grism.orders]
    across = [_polynomials(order.across) for order in grism.orders]
    x, y = (along, across) if grism.axis == 1 else (across, along)
    span = grism.longest - grism.shortest
    to_wavelength = [Polynomial1D(1, c0=grism.shortest, c1=span) for _ in numbers]
    to_t = [Polynomial1D(1, c0=-grism.shortest / span, c1=1 / span) for _ in numbers]
    inverse, turned = to_t, {"theta": 0.0} if grism.instrument == "NIRISS" else {}
    if grism.instrument == "NIRCAM":
        # Its files keep neither inverse polynomials nor the sampling, so that both are left at
        # what a file gives; a polynomial in t alone, and of degree 1, is inverted exactly.
        inverse = to_wavelength = [[polynomial] for polynomial in to_wavelength]
    forward = forward_class(numbers, lmodels=to_wavelength, xmodels=x, ymodels=y, **turned)
    forward.inverse = backward(numbers, lmodels=inverse, xmodels=x, ymodels=y, **turned)
    return forward


def _polynomials(terms: Sequence[Plane]) -> list[Any]:
    from astropy.modeling.models import Polynomial2D

    return [
        Polynomial2D(1, c0_0=c, c1_0=per_column, c0_1=per_row) for c, per_column, per_row in terms
    ]
