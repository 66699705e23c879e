"""Stars and galaxies: drawn once for a field, rendered where a dither puts them."""

from __future__ import annotations

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
class Catalogue:
    """The sources of a field, in arrays of (n,) float64."""

    x: Values  #: position without dither, in pixels of the detector from 0; may lie outside it
    y: Values
    flux: Values  #: total rate (DN/s)
    radius: Values  #: half-light radius (pixels); 0 for a star
    axis_ratio: Values  #: minor over major axis
    angle: Values  #: from the rows to the major axis (radians)

    def reach(self, population: Population) -> Values:
        """Half width of each source's stamp (pixels)."""
        stars = STAR_STAMP * population.fwhm
        return np.where(self.radius > 0, GALAXY_STAMP * self.radius, stars)


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
    flux = _draw_fluxes(population, rng.random(count))
    return Catalogue(x, y, flux, radius, rng.uniform(0.3, 1.0, count), rng.uniform(0, np.pi, count))


def _draw_fluxes(population: Population, chance: Values) -> Values:
    """Invert the cumulative counts between their limits."""
    low, high = (f**-population.slope for f in (population.brightest, population.faintest))
    fluxes: Values = (low + chance * (high - low)) ** (-1 / population.slope)
    return fluxes


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
    x = catalogue.x + dither[0] - window.x
    y = catalogue.y + dither[1] - window.y
    reach = catalogue.reach(population)
    near = (x > -reach) & (x < window.columns + reach) & (y > -reach) & (y < window.rows + reach)
    for i in np.flatnonzero(near).tolist():
        left, right = _span(x[i], reach[i], window.columns)
        bottom, top = _span(y[i], reach[i], window.rows)
        dy, dx = np.ogrid[bottom:top, left:right]
        image[bottom:top, left:right] += _profile(catalogue, population, i, dx - x[i], dy - y[i])
    return image


def _span(centre: float, reach: float, length: int) -> tuple[int, int]:
    start = min(max(int(np.ceil(centre - reach)), 0), length)
    return start, max(start, min(int(np.floor(centre + reach)) + 1, length))


def _profile(
    catalogue: Catalogue, population: Population, index: int, dx: Values, dy: Values
) -> Values:
    flux, radius = catalogue.flux[index], catalogue.radius[index]
    if radius == 0:
        star: Values = flux * _moffat(dx**2 + dy**2, population.fwhm, population.moffat)
        return star
    cos, sin = np.cos(catalogue.angle[index]), np.sin(catalogue.angle[index])
    ratio = catalogue.axis_ratio[index]
    squared = (dx * cos + dy * sin) ** 2 + ((dy * cos - dx * sin) / ratio) ** 2
    distance = np.sqrt(squared + (population.fwhm / 2) ** 2)
    length = radius / HALF_LIGHT
    disc: Values = flux / (2 * np.pi * length**2 * ratio) * np.exp(-distance / length)
    return disc


def _moffat(squared: Values, fwhm: float, exponent: float) -> Values:
    """Moffat's profile of unit volume at a squared distance."""
    core = (fwhm / 2) ** 2 / (2 ** (1 / exponent) - 1)
    profile: Values = (exponent - 1) / (np.pi * core) * (1 + squared / core) ** -exponent
    return profile
