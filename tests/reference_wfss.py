"""The WFSS fit and mask again, plainly: slow, readable, and what the fast ones must equal."""

from __future__ import annotations

import numpy as np


def fit_pixels(sci, err, dq, template, template_dq, sky):
    variance = err.astype(float) ** 2
    return (
        sky.astype(bool)
        & ((dq & 1) == 0)
        & ((template_dq & 1) == 0)
        & np.isfinite(sci)
        & np.isfinite(template)
        & np.isfinite(variance)
        & (variance > 0)
    )


def least_squares(sci, err, template, used):
    """Scale, its standard error, and chi-square per degree of freedom."""
    s, b = sci[used].astype(float), template[used].astype(float)
    weight = 1 / err[used].astype(float) ** 2
    scale = np.sum(s * b * weight) / np.sum(b * b * weight)
    chi2 = np.sum(weight * (s - scale * b) ** 2)
    return scale, np.sum(b * b * weight) ** -0.5, chi2 / (used.sum() - 1)


def residual(sci, template, scale):
    return (sci.astype(float) - scale * template.astype(float)).astype(np.float32)


def profile_rms(sci, template, scale, used, dispersion_axis):
    image = np.where(used, residual(sci, template, scale), np.nan)
    lines = image.T if dispersion_axis == 1 else image
    medians = [np.median(line[~np.isnan(line)]) for line in lines if not np.isnan(line).all()]
    return np.sqrt(np.mean(np.array(medians, dtype=float) ** 2))


def fit(planes, *, maxiter, percent, rms_stop=0.0, dispersion_axis=None):
    """Fit as often as asked; returns the scales, the masks of used pixels, and the RMSs."""
    sci, err, _, template, *_ = planes
    used = fit_pixels(*planes)
    scales, masks, rmses = [], [], []
    while True:
        scales.append(least_squares(sci, err, template, used)[0])
        masks.append(used)
        if rms_stop:
            rmses.append(profile_rms(sci, template, scales[-1], used, dispersion_axis))
            if len(rmses) > 1 and rmses[-2] - rmses[-1] < rmses[-2] * rms_stop / 100:
                break
        if len(scales) > maxiter:
            break
        left = residual(sci, template, scales[-1])
        low, high = np.percentile(left[used], np.array([percent, 100 - percent]))
        used = used & (left >= low) & (left <= high)
    return scales, masks, rmses


def sky_mask(transform, ra, dec, orders, shape, dispersion_axis):
    """One source, one order and one point at a time."""
    rows, columns = shape
    sky = np.ones(shape, bool)
    for order, shortest, longest in orders:
        for source in range(ra.shape[1]):
            xs, ys = [], []
            for wavelength in (shortest, longest):
                for corner in range(4):
                    x, y = transform(ra[corner, source], dec[corner, source], wavelength, order)[:2]
                    if np.isfinite(x) and np.isfinite(y):
                        xs.append(float(x))
                        ys.append(float(y))
            if not xs:
                continue
            left, right = (int(np.floor(f(xs) + 0.5)) for f in (min, max))
            bottom, top = (int(np.floor(f(ys) + 0.5)) for f in (min, max))
            if dispersion_axis == 1:
                counts = right >= 1 and left <= columns - 2 and top >= 0 and bottom <= rows - 1
            else:
                counts = top >= 1 and bottom <= rows - 2 and right >= 0 and left <= columns - 1
            for y in range(max(bottom, 0), min(top, rows - 1) + 1) if counts else ():
                for x in range(max(left, 0), min(right, columns - 1) + 1):
                    sky[y, x] = False
    return sky
