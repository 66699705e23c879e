"""Stars and galaxies behind a grism: their dispersed light, and their boxes on the direct image.

A trace is drawn as the spectrum, gathered on pixels along dispersion and smeared by the source's
profile there, times the source's profile across, centred on the trace. For a profile that is
not the product of its two axes this is an approximation, and a good one except at the ends of
a trace. Spectra are flat in wavelength within the band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate.detector import Values
from webbkg.simulate.dispersion import Grism, Order
from webbkg.simulate.sources import HALF_LIGHT, Catalogue, Population

TAPER = 0.02
"""Over what part of its width a band rises from nothing to all at either end (chosen)."""

SMALLEST_BOX = 1.5
"""Half width of the box of a source that is hardly seen (FWHM; chosen)."""


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


@dataclass(frozen=True)
class _Shape:
    """The profile of one source; lengths in pixels."""

    seeing: Population
    radius: float
    ratio: float
    angle: float

    @property
    def core(self) -> float:
        """Core radius of the Moffat profile."""
        return self.seeing.fwhm / 2 / math.sqrt(2 ** (1 / self.seeing.moffat) - 1)

    def collapsed(self, axis: int, distance: Values) -> Values:
        """Collapse it onto an axis (0 for x): its density at a distance, of unit sum."""
        if self.radius == 0:
            core, power = self.core, self.seeing.moffat
            peak = math.gamma(power - 0.5) / (math.sqrt(math.pi) * core * math.gamma(power - 1))
            star: Values = peak * (1 + (distance / core) ** 2) ** (0.5 - power)
            return star
        # A collapsed disc falls nearly exponentially; the core is as wide as a star's.
        length = self.projected(axis) * self.radius / HALF_LIGHT
        grid = np.arange(-math.ceil(20 * length + 5 * self.seeing.fwhm), 0.0)
        core = self.seeing.fwhm / 2
        wing = np.exp((core - np.hypot(grid, core)) / length).sum()
        galaxy: Values = np.exp((core - np.hypot(distance, core)) / length) / (2 * wing + 1)
        return galaxy

    def projected(self, axis: int) -> float:
        """Half extent along an axis of an ellipse of unit semi-major axis."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        major, minor = (cos, sin) if axis == 0 else (sin, cos)
        return math.hypot(major, self.ratio * minor)

    def isophote(self, axis: int, contrast: float) -> float:
        """Half extent along an axis of the isophote 1/`contrast` of the total rate."""
        if self.radius == 0:
            power = self.seeing.moffat
            peak = contrast * (power - 1) / (math.pi * self.core**2)
            return self.core * math.sqrt(max(peak ** (1 / power) - 1, 0))
        length = self.radius / HALF_LIGHT
        peak = contrast / (2 * math.pi * length**2 * self.ratio)
        return self.projected(axis) * length * math.log(max(peak, 1))


def _shapes(catalogue: Catalogue, population: Population) -> list[_Shape]:
    values = np.transpose([catalogue.radius, catalogue.axis_ratio, catalogue.angle])
    return [_Shape(population, *each) for each in values.tolist()]


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
    reaches, shapes = catalogue.reach(population).tolist(), _shapes(catalogue, population)
    for order in grism.orders:
        for index, (shape, reach) in enumerate(zip(shapes, reaches, strict=True)):
            along, across, wavelengths = _trace(catalogue, index, grism, order, band)
            along, across = along - corner[0], across - corner[1]
            columns = _pixels(along, reach, flat.shape[1])
            rows = _pixels(across, reach, flat.shape[0])
            if len(columns) == 0 or len(rows) == 0:
                continue
            first, second = (0, 1) if grism.axis == 1 else (1, 0)
            light = _spectrum(shape, first, reach, columns, band, (along, wavelengths))
            distance = rows[:, np.newaxis] - np.interp(columns, along, across)[np.newaxis, :]
            spread = shape.collapsed(second, distance)
            flux = catalogue.flux[index] * order.share
            here = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            flat[here] += flux * light * spread
    return image.astype(np.float32)


def _spectrum(
    shape: _Shape,
    axis: int,
    reach: float,
    columns: Values,
    band: Band,
    trace: tuple[Values, Values],
) -> Values:
    """Gather a trace (places along, and wavelengths) on pixels along dispersion, and smear it."""
    width = math.ceil(reach)
    edges = np.arange(columns[0] - width, columns[-1] + width + 2) - 0.5
    light = np.abs(np.diff(band.transmitted(np.interp(edges, *trace))))
    smear = shape.collapsed(axis, np.arange(-width, width + 1.0))
    return np.convolve(light, smear / smear.sum(), mode="valid")


def _trace(
    catalogue: Catalogue, index: int, grism: Grism, order: Order, band: Band
) -> tuple[Values, Values, Values]:
    """Return where the middle of a trace lies along and across, and its wavelengths.

    On the detector, with the place along dispersion growing, in steps of half a pixel or less.
    """
    x0, y0 = catalogue.x[index], catalogue.y[index]
    ends = np.array([band.shortest, band.longest])
    offsets, _ = grism.displacement(order, x0, y0, ends)
    # The steps of a prism are uneven, hence four a pixel on average.
    steps = 4 * math.ceil(abs(offsets[1] - offsets[0])) + 2
    wavelengths = np.linspace(band.shortest, band.longest, steps)
    along, across = grism.displacement(order, x0, y0, wavelengths)
    at = (x0, y0) if grism.axis == 1 else (y0, x0)
    forward = slice(None) if along[-1] > along[0] else slice(None, None, -1)
    return (along + at[0])[forward], (across + at[1])[forward], wavelengths[forward]


def _pixels(positions: Values, reach: float, length: int) -> Values:
    """Return the pixels of an axis that a trace and its profile reach, none if it is off."""
    first = max(math.ceil(positions.min() - reach), 0)
    last = min(math.floor(positions.max() + reach), length - 1)
    return np.arange(first, last + 1)


def half_boxes(catalogue: Catalogue, population: Population, isophote: float) -> Values:
    """Measure how far the sources reach on the direct image in x and y: (2, n), pixels.

    A source ends where its surface brightness falls below `isophote` (DN/s per pixel).
    """
    shapes = _shapes(catalogue, population)
    contrasts = (catalogue.flux / isophote).tolist()
    boxes = [
        [shape.isophote(axis, contrast) for shape, contrast in zip(shapes, contrasts, strict=True)]
        for axis in (0, 1)
    ]
    return np.maximum(np.array(boxes, np.float64), SMALLEST_BOX * population.fwhm)
