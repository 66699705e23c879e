"""Slow and readable twins of the kernels and of the averaging, in plain NumPy."""

import warnings
from dataclasses import dataclass

import astropy
import numpy as np
from astropy.stats import sigma_clip
from packaging.version import Version

DO_NOT_USE = 1

# Before, it kept every sample where every one of them goes: its limits were NaN then.
ASTROPY_CLIPS_ALL = Version(astropy.__version__) >= Version("8.0.2")


def clip_mask(values, sigma, maxiters):
    """Tell which of `values` (1-D) survive: the clip rule, step by step."""
    values = np.asarray(values, dtype=np.float64)
    survivors = values[np.isfinite(values)]
    low = high = np.nan
    iteration, maxiters = 0, maxiters or 0
    while survivors.size:
        centre, width = np.median(survivors), np.std(survivors)
        reach = sigma * width if sigma < np.inf else np.inf
        low, high = centre - reach, centre + reach
        inside = (survivors >= low) & (survivors <= high)
        iteration += 1
        if inside.all() or iteration == maxiters or maxiters < -1:
            break
        survivors = survivors[inside]
    return np.isfinite(values) & (values >= low) & (values <= high)


def astropy_mask(stack, sigma, maxiters):
    """Tell which samples survive according to astropy, along the first axis."""
    stack = np.asarray(stack, dtype=np.float64)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        clipped = sigma_clip(stack, sigma=sigma, maxiters=maxiters or None, axis=0)
    keep = ~np.ma.getmaskarray(clipped)
    if not ASTROPY_CLIPS_ALL:
        with np.errstate(all="ignore"):
            for at in np.argwhere((keep == np.isfinite(stack)).all(axis=0)):
                column = (slice(None), *at)
                keep[column] = clip_mask(stack[column], sigma, maxiters)
    return keep


def average_samples(sci, err, sigma, maxiters):
    """Clip and average along the first axis; NaN in `sci` is a missing sample.

    Returns the mean and its uncertainty, rounded to float32, the number of samples kept, and
    how many were usable.
    """
    keep = astropy_mask(sci, sigma, maxiters)
    kept = keep.sum(axis=0)
    total = np.where(keep, sci.astype(np.float64), 0).sum(axis=0)
    valid = np.isfinite(err) & (err >= 0)
    squares = np.where(valid, err.astype(np.float64), np.nan) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / kept
        uncertainty = np.sqrt(np.where(keep, squares, 0).sum(axis=0)) / kept
    uncertainty[kept == 0] = np.nan
    return mean.astype(np.float32), uncertainty.astype(np.float32), kept, np.isfinite(sci).sum()


@dataclass
class Placed:
    """One exposure, 2-D or 3-D, whose first pixel lies at (row, column) of the target."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    row: int = 0
    column: int = 0


@dataclass
class Average:
    """What `webbkg.results.CombinedBackground` holds; counts are (offered, usable, clipped)."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    covered: np.ndarray
    counts: np.ndarray
    exposures: tuple
    integrations: tuple


def usable_samples(sci, dq):
    """Replace the samples that are not finite or flagged DO_NOT_USE by NaN."""
    usable = np.isfinite(sci) & (dq & DO_NOT_USE == 0)
    return np.where(usable, sci, np.float32(np.nan))


def exposure_image(sci, err, dq, sigma, maxiters):
    """Turn one exposure into an image; also what became of its integrations."""
    samples = usable_samples(sci, dq)
    if sci.ndim == 2:
        return samples, err, np.zeros(3, int)
    if len(sci) == 1:
        return samples[0], err[0], np.zeros(3, int)
    mean, uncertainty, kept, usable = average_samples(samples, err, sigma, maxiters)
    return mean, uncertainty, np.array([sci.size, usable, usable - kept.sum()])


def average(exposures, shape, sigma=3.0, maxiters=None):
    """Average exposures (`Placed`) on a target of `shape`, all at once."""
    sci = np.full((len(exposures), *shape), np.nan, np.float32)
    err = np.zeros((len(exposures), *shape), np.float32)
    dq = np.zeros(shape, np.uint32)
    covered = np.zeros(shape, bool)
    integrations = np.zeros(3, int)
    offered = 0
    for index, one in enumerate(exposures):
        rows, columns = one.sci.shape[-2:]
        to_rows = slice(max(one.row, 0), max(min(one.row + rows, shape[0]), 0))
        to_columns = slice(max(one.column, 0), max(min(one.column + columns, shape[1]), 0))
        from_rows = slice(to_rows.start - one.row, to_rows.stop - one.row)
        from_columns = slice(to_columns.start - one.column, to_columns.stop - one.column)
        part = (..., from_rows, from_columns)
        place = (to_rows, to_columns)
        sci[(index, *place)], err[(index, *place)], counts = exposure_image(
            one.sci[part], one.err[part], one.dq[part], sigma, maxiters
        )
        flags = one.dq[part].reshape(-1, *dq[place].shape)
        dq[place] |= np.bitwise_or.reduce(flags, axis=0)
        covered[place] = True
        integrations += counts
        offered += dq[place].size
    mean, uncertainty, kept, usable = average_samples(sci, err, sigma, maxiters)
    dq[kept == 0] |= DO_NOT_USE
    return Average(
        sci=mean,
        err=uncertainty,
        dq=dq,
        covered=covered,
        counts=kept,
        exposures=(offered, usable, usable - kept.sum()),
        integrations=tuple(integrations),
    )


def deviation(values):
    """Distance of the last of `values` from their median, in standard deviations (last axis)."""
    width = values.std(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = (values[..., -1] - np.median(values, axis=-1)) / width
    return np.where(width > 0, distance, 0.0)


def largest_deviation(samples, levels=4001):
    """Search for the largest possible `deviation` of one of `samples` values, by brute force.

    Shift and scale do not change it, so the median is 0 and the one that stands apart is 1. All
    ways are tried of giving some of the others the median's value and the rest a common level.
    """
    best = 0.0
    for at_zero in range(samples):
        values = np.repeat(np.linspace(-1, 1, levels)[:, np.newaxis], samples, axis=1)
        values[:, :at_zero] = 0.0
        values[:, -1] = 1.0
        best = max(best, deviation(values).max())
    return best
