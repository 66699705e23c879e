"""Grisms: where a source's light falls, its traces, its box on the direct image, and the gwcs.

A source at (x0, y0) of the undispersed image falls at (x0 + dx, y0 + dy), where dx and dy are
polynomials in the trace parameter t, and their coefficients planes in x0 and y0. t runs from 0
to 1 between two wavelengths. This is the form of JWST's grism references; the coefficients
below are of their size, but chosen. Pixels are those of the whole detector, counted from 0.

A trace is drawn as the spectrum, gathered on pixels along dispersion and smeared by the source's
profile there, times the source's profile across, centred on the trace. For a profile that is
not the product of its two axes this is an approximation, and a good one except at the ends of
a trace. Spectra are flat in wavelength within the band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate.detector import Values
from webbkg.simulate.sources import Catalogue, Population, Source, reached

TAPER = 0.02
"""Over what part of its width a band rises from nothing to all at either end (chosen)."""

SMALLEST_BOX = 1.5
"""Half width of the box of a source that is hardly seen (FWHM; chosen)."""


Plane = tuple[float, float, float]
"""A value at the detector's first pixel, and its change per column and per row."""


@dataclass(frozen=True)
class Band:
    """A blocking filter, named as in FILTER or PUPIL.

    It begins to transmit at its shortest wavelength and ceases to at its longest (micrometres).
    """

    name: str
    shortest: float
    longest: float

    def transmitted(self, wavelength: Values) -> Values:
        """Return the fraction of a flat spectrum's light at wavelengths up to this one."""
        grid = np.linspace(0, 1, 2001)
        rate = np.clip(np.minimum(grid, 1 - grid) / TAPER, 0, 1)
        total = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
        place = (wavelength - self.shortest) / (self.longest - self.shortest)
        fraction: Values = np.interp(place, grid, total / total[-1])
        return fraction


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


def render_traces(
    catalogue: Catalogue, population: Population, grism: Grism, band: Band, window: DetectorWindow
) -> FloatImage:
    """Draw the dispersed light of all sources, in all orders, on a window of the detector.

    The catalogue's total rates are those before the grism, which disperses the light that the
    band lets through. Returned is their rate, (rows, columns) float32 in DN/s.
    """
    image = np.zeros(window.shape, np.float64)
    # Drawn with dispersion along the second axis, whichever it is.
    flat = image if grism.axis == 1 else image.T
    corner = (window.x, window.y) if grism.axis == 1 else (window.y, window.x)
    for order in grism.orders:
        for source in catalogue.sources(population):
            _draw_trace(flat, corner, source, grism, order, band)
    return image.astype(np.float32)


def _draw_trace(
    image: Values, corner: tuple[int, int], source: Source, grism: Grism, order: Order, band: Band
) -> None:
    """Add an order of a source to an image (across, along), its corner at (along, across)."""
    along, across, wavelengths = _trace(source, grism, order, band)
    along, across, reach = along - corner[0], across - corner[1], source.reach
    left, right = reached(along.min(), along.max(), reach, image.shape[1])
    bottom, top = reached(across.min(), across.max(), reach, image.shape[0])
    if left >= right or bottom >= top:
        return
    axes = (0, 1) if grism.axis == 1 else (1, 0)
    width = math.ceil(reach)
    edges = np.arange(left - width, right + width + 1) - 0.5
    light = np.abs(np.diff(band.transmitted(np.interp(edges, along, wavelengths))))
    smear = source.collapsed(axes[0], np.arange(-width, width + 1.0))
    spectrum = np.convolve(light, smear / smear.sum(), mode="valid")
    middle = np.interp(np.arange(left, right), along, across)[np.newaxis, :]
    spread = source.collapsed(axes[1], np.arange(bottom, top)[:, np.newaxis] - middle)
    image[bottom:top, left:right] += source.flux * order.share * spectrum * spread


def _trace(source: Source, grism: Grism, order: Order, band: Band) -> tuple[Values, Values, Values]:
    """Return where the middle of a trace lies along and across, and its wavelengths.

    On the detector, with the place along dispersion growing, in steps of half a pixel or less.
    """
    x0, y0 = source.x, source.y
    ends = np.array([band.shortest, band.longest])
    offsets, _ = grism.displacement(order, x0, y0, ends)
    # The steps of a prism are uneven, hence four a pixel on average.
    steps = 4 * math.ceil(abs(offsets[1] - offsets[0])) + 2
    wavelengths = np.linspace(band.shortest, band.longest, steps)
    along, across = grism.displacement(order, x0, y0, wavelengths)
    at = (x0, y0) if grism.axis == 1 else (y0, x0)
    forward = slice(None) if along[-1] > along[0] else slice(None, None, -1)
    return (along + at[0])[forward], (across + at[1])[forward], wavelengths[forward]


def half_boxes(catalogue: Catalogue, population: Population, isophote: float) -> Values:
    """Measure how far the sources reach on the direct image in x and y: (2, n), pixels.

    A source ends where its surface brightness falls below `isophote` (DN/s per pixel).
    """
    listed = catalogue.sources(population)
    boxes = [[source.isophote(axis, isophote) for source in listed] for axis in (0, 1)]
    return np.maximum(np.array(boxes, np.float64), SMALLEST_BOX * population.fwhm)


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
    from gwcs import coordinate_frames as frames

    grism_detector, detector = (
        frames.Frame2D(name=name, unit=(u.pix, u.pix)) for name in ("grism_detector", "detector")
    )
    order = {"axes_names": ("order",), "unit": (u.one,), "name": "order"}
    world = [
        frames.CelestialFrame(name="sky", reference_frame=ICRS()),
        frames.SpectralFrame(name="wavelength", unit=u.um, axes_order=(2,)),
        frames.CoordinateFrame(1, "OTHER", (3,), **order),
    ]
    on_detector = Shift(window.x) & Shift(window.y)
    dispersed = on_detector & on_detector & Identity(1) | _dispersion_transform(grism)
    steps = [(grism_detector, dispersed), (detector, sky & Identity(2))]
    return WCS([*steps, (frames.CompositeFrame(world, name="world"), None)])


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
