"""Stars and galaxies: drawn once for a field, rendered where a dither puts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage

Values = npt.NDArray[np.float64]

STAR_STAMP = 10.0
"""Half width of a star's stamp (FWHM); one part in ten thousand of its light falls outside."""

GALAXY_STAMP = 6.0
"""Half width of a galaxy's stamp (half-light radii); less than one part in a thousand."""

HALF_LIGHT = 1.678
"""Half-light radius of an exponential disc in scale lengths (the root of (1 + x) exp(-x) = 1/2)."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """Which sources a field holds. All is chosen; nothing is a survey's.

    Attributes
    ----------
    stars, galaxies : int
        Their number in an area as large as the detector.
    faintest, brightest : float
        Limits of the total rate of a source (DN/s).
    slope : float
        Of the cumulative counts, N(> f) ~ f**-slope; positive.
    smallest, largest : float
        Limits of the half-light radius of a galaxy (pixels).
    fwhm : float
        Full width at half maximum of the point-spread function (pixels).
    moffat : float
        Exponent of its Moffat profile; above 1.
    """

    stars: int = 500
    galaxies: int = 250
    faintest: float = 0.5
    brightest: float = 500.0
    slope: float = 0.7
    smallest: float = 2.0
    largest: float = 15.0
    fwhm: float = 2.3
    moffat: float = 3.0


@dataclass(frozen=True)
class Catalogue:
    """The sources of a field.

    Attributes
    ----------
    x, y : (n,) float64
        Undithered position, in pixels of the detector counted from 0; may lie outside it.
    flux : (n,) float64
        Total rate (DN/s).
    radius : (n,) float64
        Half-light radius (pixels); 0 for a star.
    axis_ratio, angle : (n,) float64
        Minor over major axis, and the major axis from the rows (radians).
    """

    x: Values
    y: Values
    flux: Values
    radius: Values
    axis_ratio: Values
    angle: Values


def draw_catalogue(
    population: Population, area: DetectorWindow, margin: float, rng: np.random.Generator
) -> Catalogue:
    """Scatter sources over the detector and a margin around it, as dense as in `population`.

    Parameters
    ----------
    population : Population
        What to draw from.
    area : DetectorWindow
        The whole detector.
    margin : float
        How far beyond its edges (pixels).
    rng : numpy.random.Generator
        Its numbers.

    Returns
    -------
    Catalogue
    """
    size = np.array([area.columns, area.rows]) + 2 * margin
    growth = size.prod() / (area.columns * area.rows)
    stars = round(population.stars * growth)
    count = stars + round(population.galaxies * growth)
    places = rng.random((2, count)) * size[:, np.newaxis] - margin - 0.5
    radius = rng.uniform(population.smallest, population.largest, count)
    radius[:stars] = 0
    return Catalogue(
        x=places[0],
        y=places[1],
        flux=_draw_fluxes(population, rng.random(count)),
        radius=radius,
        axis_ratio=rng.uniform(0.3, 1.0, count),
        angle=rng.uniform(0, np.pi, count),
    )


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
    core as wide as the point-spread function, without a true convolution.

    Parameters
    ----------
    catalogue, population
        The sources, and the point-spread function.
    window : DetectorWindow
        Where to draw.
    dither : (x, y)
        How far every source is moved (pixels).

    Returns
    -------
    (rows, columns) float32
        Their rate (DN/s).
    """
    image = np.zeros(window.shape, np.float32)
    x = catalogue.x + dither[0] - window.x
    y = catalogue.y + dither[1] - window.y
    reach = np.where(
        catalogue.radius > 0, GALAXY_STAMP * catalogue.radius, STAR_STAMP * population.fwhm
    )
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
