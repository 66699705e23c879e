"""A background onto the planes of a target: the one place where its pixels change.

Bands of rows in the byte order of this machine, whether they belong to a model in memory or go
from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import VARIANCES
from webbkg.results import Background, FloatImage, Propagated, Variances

Rows = npt.NDArray[Any]
Change = Callable[[Rows, int, int], None]
"""Changes rows (rows, columns) of a plane in place; takes them, the first one's number, and that of
the integration."""

INTEGRATIONS_A_BAND = 4

UNCERTAINTIES = ("ERR", *VARIANCES)
"""Planes of a target that a background's variance enters."""


def changes(background: Background, uncertainties: Collection[str] = ()) -> dict[str, Change]:
    """Tell what becomes of the planes of a target, by their names; the others do not change.

    Where the background is unknown SCI becomes NaN, and DQ has DO_NOT_USE as the background's
    has. Where nothing was observed (not `covered`) the target stays as it is.

    Of a background with `variances`, ERR becomes sqrt(ERR² + err²), and each variance grows by
    its part of err²; an ERR that is negative, and so none, stays. The background's VAR_FLAT goes
    to VAR_POISSON where the target has no VAR_FLAT. Where err is NaN, so is what it enters.

    Parameters
    ----------
    background : Background
        On the target's window.
    uncertainties : collection of str
        Which of `UNCERTAINTIES` the target has.

    Returns
    -------
    dict of str to callable
        For SCI, for DQ where the background has any flag, and for `uncertainties` where it has
        variances.
    """
    everywhere = background.is_everywhere

    def where(start: int, stop: int) -> Any:
        return True if everywhere else background.covered[start:stop]

    def subtract(rows: Rows, start: int, integration: int = 0) -> None:
        stop = start + len(rows)
        sky = background.sky(integration, slice(start, stop))
        with np.errstate(over="ignore"):
            np.subtract(rows, sky, out=rows, where=where(start, stop))

    def flag(rows: Rows, start: int, _integration: int = 0) -> None:
        stop = start + len(rows)
        np.bitwise_or(rows, background.dq[start:stop], out=rows, where=where(start, stop))

    def widen(rows: Rows, start: int, integration: int = 0) -> None:
        stop = start + len(rows)
        valid = ~(rows < 0) & where(start, stop)
        err = background.times(background.err, integration, slice(start, stop))
        with np.errstate(over="ignore"):
            if background.drift is not None:
                err = np.hypot(err, background.drift_err(integration, slice(start, stop)))
            np.hypot(rows, err, out=rows, where=valid)

    def grow(part: FloatImage, drifting: bool) -> Change:
        def add(rows: Rows, start: int, integration: int = 0) -> None:
            stop = start + len(rows)
            grown = background.times(part, integration, slice(start, stop), 2)
            with np.errstate(over="ignore"):
                if drifting:
                    err = background.drift_err(integration, slice(start, stop))
                    grown = grown + np.square(err)
                np.add(rows, grown, out=rows, where=where(start, stop))

        return add

    changed: dict[str, Change] = {"SCI": subtract}
    if background.dq.any():
        changed["DQ"] = flag
    if background.variances is not None:
        has_flat = "VAR_FLAT" in uncertainties
        parts = _parts(background.variances, has_flat)
        common = "VAR_FLAT" if has_flat else "VAR_POISSON"  # takes what moves all pixels
        grown: dict[str, Change] = {"ERR": widen}
        for name, part in parts.items():
            grown[name] = grow(part, background.drift is not None and name == common)
        changed |= {name: grown[name] for name in uncertainties if name in grown}
    return changed


def _parts(variances: Variances, has_flat: bool) -> dict[str, FloatImage]:
    """Tell what is added to each variance of a target, with or without a VAR_FLAT."""
    parts = {"VAR_POISSON": variances.poisson}
    if variances.rnoise is not None:
        parts["VAR_RNOISE"] = variances.rnoise
    if variances.flat is not None and has_flat:
        parts["VAR_FLAT"] = variances.flat
    elif variances.flat is not None:
        parts["VAR_POISSON"] = variances.poisson + variances.flat
    return parts


def apply(background: Background, planes: Mapping[str, npt.NDArray[Any]]) -> None:
    """Change the planes of a target in memory, in place.

    Parameters
    ----------
    background : Background
        On the target's window.
    planes : mapping of str to ([integrations,] rows, columns) ndarray
        SCI and DQ, and those of `UNCERTAINTIES` that it has, writable.
    """
    uncertainties = [name for name in planes if name in UNCERTAINTIES]
    for name, change in changes(background, uncertainties).items():
        plane = planes[name]
        cube = plane if plane.ndim == 3 else plane[np.newaxis]
        _change_all(cube, change)


def _change_all(cube: npt.NDArray[Any], change: Change) -> None:
    def work(start: int, stop: int) -> None:
        for integration in range(start, stop):
            change(cube[integration], 0, integration)

    bands = split(len(cube), INTEGRATIONS_A_BAND)
    over_bands(bands, lambda: work, threads=available_threads())


def variance_of_sum(
    err: npt.ArrayLike,
    weights: npt.ArrayLike,
    background: npt.ArrayLike,
    propagated: Propagated,
) -> float:
    """Compute the variance of a weighted sum over pixels of a subtracted image.

    Each pixel's own error is independent of the others'; the error of a scale moves all pixels
    that it scales together, by c_i = common · background_i. ERR holds both, so that

        variance = sum w_i² ERR_i² + sum over the scales of [(sum w_i c_i)² - sum w_i² c_i²].

    Parameters
    ----------
    err : (rows, columns) array_like
        ERR of a product made with ``propagate_errors``; of a cube, of one integration.
    weights : (rows, columns) array_like
        1 in the pixels of a plain sum and 0 elsewhere, a bool image too; or those of an optimal
        extraction. Pixels of weight 0 do not matter, whatever their ERR.
    background : (rows, columns) array_like
        What was subtracted: SCI of the file that ``save_background`` saves.
    propagated : Propagated
        As in the outcome, or ``Propagated(**tree["propagated"])`` of the product's tree.

    Returns
    -------
    float
        In the square of the unit of `err`.

    Examples
    --------
    >>> told = Propagated(common={"scale": 0.01})
    >>> round(variance_of_sum(np.full((2, 2), 0.1), np.ones((2, 2)), np.ones((2, 2)), told), 4)
    0.0412
    """
    weights = np.asarray(weights, np.float64)
    inside = weights != 0
    right = np.arange(inside.shape[1]) >= np.reshape(propagated.jump or np.inf, (-1, 1))
    total = np.square(weights[inside] * np.asarray(err, np.float64)[inside]).sum()
    for name, error in propagated.common.items():
        part = inside & {"left": ~right, "right": right}.get(name, True)
        common = weights[part] * error * np.asarray(background, np.float64)[part]
        total += common.sum() ** 2 - np.square(common).sum()
    return float(total)
