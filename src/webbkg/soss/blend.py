"""SOSS: the templates of a mixture, added up to a sky."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from webbkg.results import FloatImage, SossMixture
from webbkg.soss.library import Library, Splits

Values = npt.NDArray[np.float64]

LEAST_SHARE = 1e-12  # of the largest eigenvalue of a covariance


def add_up(
    mixture: SossMixture, library: Library, jump: Splits, errors: Library | None = None
) -> tuple[FloatImage, FloatImage, FloatImage | None]:
    """Add the templates of a mixture up.

    Parameters
    ----------
    mixture : SossMixture
    library : (templates, rows, columns) float32
        On the target's rows.
    jump : (rows,) int64
        First column of the right side.
    errors : like `library`, optional
        Uncertainties of its pixels, independent of each other.

    Returns
    -------
    sky : (rows, columns) float32
        NaN where a template that has a part in it is not finite.
    err : (rows, columns) float32
        Its standard error by that of the weights.
    own : (rows, columns) float32 or None
        By `errors`.
    """
    shape = library.shape[1:]
    right = np.arange(shape[1]) >= jump[:, np.newaxis]
    sky, variance, of_pixels = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for index in mixture.templates:
        weight = _along_rows(mixture.weights[index], right)
        sky += weight * np.where(np.isfinite(library[index]), library[index], np.nan)
        if errors is not None:
            of_pixels += np.square(weight * errors[index])
    unknown = np.isnan(sky)
    for factors in _factors(mixture):
        part = np.zeros(shape)
        for factor, template in zip(factors, library, strict=True):
            part += _along_rows(factor, right) * np.where(np.isfinite(template), template, 0.0)
        variance += np.square(part)
    err, own = (
        np.where(unknown, np.nan, np.sqrt(one)).astype(np.float32) for one in (variance, of_pixels)
    )
    return sky.astype(np.float32), err, None if errors is None else own


def _along_rows(weights: Values, right: npt.NDArray[np.bool_]) -> Values:
    """Spread the weights of a template, (sides, ends), over the pixels."""
    rise = np.linspace(0, 1, len(right))[:, np.newaxis]
    left_of, right_of = ((1 - rise) * first + rise * last for first, last in weights)
    return np.asarray(np.where(right, right_of, left_of))


def _factors(mixture: SossMixture) -> Iterator[Values]:
    """Give what moves all weights together, one independent thing after the other.

    Each is (templates, sides, ends), of one side: with these for weights the squares of the skies
    add up to the variance.
    """
    templates = len(mixture.weights)
    for side, covariance in enumerate(mixture.covariances):
        values, vectors = np.linalg.eigh(covariance)
        for value, vector in zip(values, vectors.T, strict=True):
            if value > LEAST_SHARE * values[-1]:
                factors = np.zeros((templates, 2, 2))
                factors[:, side] = np.sqrt(value) * vector.reshape(2, templates).T
                yield factors
