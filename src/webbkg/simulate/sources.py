"""Stars and galaxies: drawn once for a field, rendered where a dither puts them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate.detector import Values

STAR_STAMP = 10.0
"""Half width of a star's stamp (FWHM); one part in ten thousand of its light falls outside."""

GALAXY_STAMP = 6.0
"""Half width of a galaxy's stamp (half-light radii); less than one part in a thousand."""

HALF_LIGHT = 1.678
"""Half-light radius of an exponential disc in scale lengths (the root of (1 + x) exp(-x) = 1/2)."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """Which sources a field holds. All is chosen; nothing is a survey's."""

    stars: int = 500  #: in an area as large as the detector
    galaxies: int = 250
    faintest: float = 0.5  #: limits of the total rate of a source (DN/s)
    brightest: float = 500.0
    slope: float = 0.7  #: of the cumulative counts, N(> f) ~ f**-slope; positive
    smallest: float = 2.0  #: limits of the half-light radius of a galaxy (pixels)
    largest: float = 15.0
    fwhm: float = 2.3  #: full width at half maximum of the point-spread function (pixels)
    moffat: float = 3.0  #: exponent of its Moffat profile; above 1


@dataclass(frozen=True)
class Source:
    """One source of a catalogue, behind a point-spread function."""

    seeing: Population
    x: float
    y: float
    flux: float
    radius: float
    axis_ratio: float
    angle: float

    @property
    def reach(self) -> float:
        """Half width of its stamp (pixels)."""
        stamp = STAR_STAMP * self.seeing.fwhm
        return GALAXY_STAMP * self.radius if self.radius > 0 else stamp

    @property
    def core(self) -> float:
        """Core radius of a star's Moffat profile (pixels)."""
        return self.seeing.fwhm / 2 / math.sqrt(2 ** (1 / self.seeing.moffat) - 1)

    @property
    def length(self) -> float:
        """Scale length of a galaxy's disc (pixels)."""
        return self.radius / HALF_LIGHT

    def profile(self, dx: Values, dy: Values) -> Values:
        """Evaluate its rate per pixel at an offset; a disc has a core as wide as a star's."""
        power, core = self.seeing.moffat, (self.seeing.fwhm / 2) ** 2
        if self.radius == 0:
            core /= 2 ** (1 / power) - 1
            star = (power - 1) / (np.pi * core) * (1 + (dx**2 + dy**2) / core) ** -power
            return self.flux * star
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        squared = (dx * cos + dy * sin) ** 2 + ((dy * cos - dx * sin) / self.axis_ratio) ** 2
        peak = self.flux / (2 * np.pi * self.length**2 * self.axis_ratio)
        disc: Values = peak * np.exp(-np.sqrt(squared + core) / self.length)
        return disc

    def collapsed(self, axis: int, distance: Values) -> Values:
        """Collapse its profile onto an axis (0 for x): its density at a distance, of unit sum."""
        if self.radius == 0:
            core, power = self.core, self.seeing.moffat
            peak = math.gamma(power - 0.5) / (math.sqrt(math.pi) * core * math.gamma(power - 1))
            star: Values = peak * (1 + (distance / core) ** 2) ** (0.5 - power)
            return star
        # A collapsed disc falls nearly exponentially; the core is as wide as a star's.
        length, core = self.projected(axis) * self.radius / HALF_LIGHT, self.seeing.fwhm / 2
        grid = np.arange(-math.ceil(20 * length + 5 * self.seeing.fwhm), 0.0)
        wing = np.exp((core - np.hypot(grid, core)) / length).sum()
        galaxy: Values = np.exp((core - np.hypot(distance, core)) / length) / (2 * wing + 1)
        return galaxy

    def projected(self, axis: int) -> float:
        """Half extent along an axis of an ellipse of its shape and unit semi-major axis."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        major, minor = (cos, sin) if axis == 0 else (sin, cos)
        return math.hypot(major, self.axis_ratio * minor)

    def isophote(self, axis: int, level: float) -> float:
        """Half extent along an axis of where its rate per pixel falls below a level (pixels)."""
        contrast = self.flux / level
        if self.radius == 0:
            power = self.seeing.moffat
            peak = contrast * (power - 1) / (math.pi * self.core**2)
            return self.core * math.sqrt(max(peak ** (1 / power) - 1, 0))
        peak = contrast / (2 * math.pi * self.length**2 * self.axis_ratio)
        return self.projected(axis) * self.length * math.log(max(peak, 1))


@dataclass(frozen=True)
class Catalogue:
    """The sources of a field, in arrays of (n,) float64."""

    x: Values  #: position without dither, in pixels of the detector from 0; may lie outside it
    y: Values
    flux: Values  #: total rate (DN/s)
    radius: Values  #: half-light radius (pixels); 0 for a star
    axis_ratio: Values  #: minor over major axis
    angle: Values  #: from the rows to the major axis (radians)

    def sources(self, population: Population) -> list[Source]:
        """Take them one by one, behind the population's point-spread function."""
        table = np.transpose(list(vars(self).values())).tolist()
        return [Source(population, *values) for values in table]


def draw_catalogue(
    population: Population, area: DetectorWindow, margin: float, rng: np.random.Generator
) -> Catalogue:
    """Scatter sources over the detector and a margin around it, as dense as in `population`.

    `area` is the whole detector, `margin` how far they lie beyond its edges (pixels).
    """
    size = np.array([area.columns, area.rows]) + 2 * margin
    growth = size.prod() / (area.columns * area.rows)
    stars = round(population.stars * growth)
    count = stars + round(population.galaxies * growth)
    x, y = rng.random((2, count)) * size[:, np.newaxis] - margin - 0.5
    radius = rng.uniform(population.smallest, population.largest, count)
    radius[:stars] = 0
    # The cumulative counts, inverted between their limits.
    low, high = (f**-population.slope for f in (population.brightest, population.faintest))
    flux = (low + rng.random(count) * (high - low)) ** (-1 / population.slope)
    return Catalogue(x, y, flux, radius, rng.uniform(0.3, 1.0, count), rng.uniform(0, np.pi, count))


def reached(low: float, high: float, reach: float, length: int) -> tuple[int, int]:
    """Tell which pixels of an axis a source reaches that lies from `low` to `high`: start, stop."""
    start = min(max(math.ceil(low - reach), 0), length)
    return start, max(start, min(math.floor(high + reach) + 1, length))


def render(
    catalogue: Catalogue,
    population: Population,
    window: DetectorWindow,
    dither: tuple[float, float],
) -> FloatImage:
    """Draw the sources on a window of the detector.

    Profiles are evaluated at the centres of the pixels; the light of a galaxy is spread by a
    core as wide as the point-spread function, without a true convolution. Every source is moved
    by the dither in x and y (pixels). Returned is their rate, (rows, columns) float32 in DN/s.
    """
    image = np.zeros(window.shape, np.float32)
    for source in catalogue.sources(population):
        x, y = source.x + dither[0] - window.x, source.y + dither[1] - window.y
        left, right = reached(x, x, source.reach, window.columns)
        bottom, top = reached(y, y, source.reach, window.rows)
        if left < right and bottom < top:
            dy, dx = np.ogrid[bottom:top, left:right]
            image[bottom:top, left:right] += source.profile(dx - x, dy - y)
    return image
