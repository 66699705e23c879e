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
from webbkg.simulate.dispersion import Grism, Order
from webbkg.simulate.sources import (
    GALAXY_STAMP,
    HALF_LIGHT,
    STAR_STAMP,
    Catalogue,
    Population,
    Values,
)

TAPER = 0.02
"""Over what part of its width a band rises from nothing to all at either end (chosen)."""

SMALLEST_BOX = 1.5
"""Half width of the box of a source that is hardly seen (FWHM; chosen)."""


@dataclass(frozen=True)
class Band:
    """A blocking filter.

    Attributes
    ----------
    name : str
        As in FILTER or PUPIL.
    shortest, longest : float
        Where it begins and ceases to transmit (micrometres).
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


def render_traces(
    catalogue: Catalogue, population: Population, grism: Grism, band: Band, window: DetectorWindow
) -> FloatImage:
    """Draw the dispersed light of all sources, in all orders, on a window of the detector.

    Parameters
    ----------
    catalogue, population
        The sources, with the total rate of each before the grism, and the point-spread function.
    grism, band
        What disperses the light, and what limits it.
    window : DetectorWindow
        Where to draw.

    Returns
    -------
    (rows, columns) float32
        Their rate (DN/s).
    """
    image = np.zeros(window.shape, np.float64)
    # Drawn with dispersion along the second axis, whichever it is.
    flat = image if grism.axis == 1 else image.T
    corner = (window.x, window.y) if grism.axis == 1 else (window.y, window.x)
    for order in grism.orders:
        for index in range(len(catalogue.flux)):
            _draw_trace(flat, corner, catalogue, population, index, grism, order, band)
    return image.astype(np.float32)


def _draw_trace(
    image: Values,
    corner: tuple[int, int],
    catalogue: Catalogue,
    population: Population,
    index: int,
    grism: Grism,
    order: Order,
    band: Band,
) -> None:
    """Add an order of a source to an image (across, along), its corner at (along, across)."""
    along, across, wavelengths = _trace(catalogue, index, grism, order, band)
    along, across = along - corner[0], across - corner[1]
    reach = _reach(catalogue, population, index)
    columns = _pixels(along, reach, image.shape[1])
    rows = _pixels(across, reach, image.shape[0])
    if len(columns) == 0 or len(rows) == 0:
        return
    axes = (0, 1) if grism.axis == 1 else (1, 0)
    width = math.ceil(reach)
    edges = np.arange(columns[0] - width, columns[-1] + width + 2) - 0.5
    light = np.abs(np.diff(band.transmitted(np.interp(edges, along, wavelengths))))
    smear = _profile(catalogue, population, index, axes[0], np.arange(-width, width + 1.0))
    spectrum = np.convolve(light, smear / smear.sum(), mode="valid")
    distance = rows[:, np.newaxis] - np.interp(columns, along, across)[np.newaxis, :]
    spread = _profile(catalogue, population, index, axes[1], distance)
    flux = catalogue.flux[index] * order.share
    image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += flux * spectrum * spread


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


def _reach(catalogue: Catalogue, population: Population, index: int) -> float:
    radius = float(catalogue.radius[index])
    return GALAXY_STAMP * radius if radius > 0 else STAR_STAMP * population.fwhm


def _pixels(positions: Values, reach: float, length: int) -> Values:
    """Return the pixels of an axis that a trace and its profile reach, none if it is off."""
    first = max(math.ceil(positions.min() - reach), 0)
    last = min(math.floor(positions.max() + reach), length - 1)
    return np.arange(first, last + 1)


def _profile(
    catalogue: Catalogue, population: Population, index: int, axis: int, distance: Values
) -> Values:
    """Collapse a source onto an axis (0 for x): its density at a distance, of unit sum."""
    radius = catalogue.radius[index]
    if radius == 0:
        exponent = population.moffat
        core = _moffat_core(population)
        peak = math.gamma(exponent - 0.5) / (math.sqrt(math.pi) * core * math.gamma(exponent - 1))
        star: Values = peak * (1 + (distance / core) ** 2) ** (0.5 - exponent)
        return star
    # A collapsed disc falls nearly exponentially; the core is as wide as a star's.
    length = _projected(catalogue, index, axis) * radius / HALF_LIGHT
    grid = np.arange(-math.ceil(20 * length + 5 * population.fwhm), 0.0)
    core = population.fwhm / 2
    wing = np.exp((core - np.hypot(grid, core)) / length).sum()
    galaxy: Values = np.exp((core - np.hypot(distance, core)) / length) / (2 * wing + 1)
    return galaxy


def _moffat_core(population: Population) -> float:
    return population.fwhm / 2 / math.sqrt(2 ** (1 / population.moffat) - 1)


def _projected(catalogue: Catalogue, index: int, axis: int) -> float:
    """Half extent along an axis of an ellipse of unit semi-major axis."""
    cos, sin = math.cos(catalogue.angle[index]), math.sin(catalogue.angle[index])
    major, minor = (cos, sin) if axis == 0 else (sin, cos)
    return math.hypot(major, float(catalogue.axis_ratio[index]) * minor)


def half_boxes(catalogue: Catalogue, population: Population, isophote: float) -> Values:
    """Measure how far the sources reach on the direct image.

    Parameters
    ----------
    catalogue, population
        The sources.
    isophote : float
        Surface brightness at which a source ends (DN/s per pixel).

    Returns
    -------
    (2, n) float64
        Half extent in x and y (pixels).
    """
    boxes = np.full((2, len(catalogue.flux)), SMALLEST_BOX * population.fwhm)
    for index, flux in enumerate(catalogue.flux.tolist()):
        for axis in (0, 1):
            size = _isophote_radius(catalogue, population, index, axis, flux / isophote)
            boxes[axis, index] = max(boxes[axis, index], size)
    return boxes


def _isophote_radius(
    catalogue: Catalogue, population: Population, index: int, axis: int, contrast: float
) -> float:
    """Half extent along an axis of the isophote 1/`contrast` of the total rate."""
    radius = float(catalogue.radius[index])
    if radius == 0:
        core, exponent = _moffat_core(population), population.moffat
        peak = contrast * (exponent - 1) / (math.pi * core**2)
        return core * math.sqrt(max(peak ** (1 / exponent) - 1, 0))
    length = radius / HALF_LIGHT
    peak = contrast / (2 * math.pi * length**2 * float(catalogue.axis_ratio[index]))
    return _projected(catalogue, index, axis) * length * math.log(max(peak, 1))
