"""The slow, readable twin of the SOSS fit: everything held, everything sorted."""

from __future__ import annotations

import math
import warnings

import numpy as np

UNUSABLE = np.uint32(1 | 1 << 31)


def fit(sci, dq, templates, splits, source_percentile=35.0, bkg_percentile=(25.0, 50.0)):
    """Fit a cube (integrations, rows, columns) with templates that have its rows.

    Returns the source threshold, the index of the best template (or None), and for every
    template the (scale, rmse, samples, samples between the percentiles) of its two sides.
    """
    sci = np.asarray(sci, np.float32)
    usable = np.isfinite(sci) & ((np.asarray(dq, np.uint32) & UNUSABLE) == 0)
    if not usable.any():
        return math.nan, None, []
    threshold = np.percentile(sci[usable], float(source_percentile))  # a float32
    sky = usable & (sci < threshold)
    columns = np.arange(sci.shape[2])
    sides = []
    for template, split in zip(np.asarray(templates, np.float32), splits, strict=True):
        left = columns < split[:, np.newaxis]
        right = ~left & (columns <= 950)
        sides.append(
            [_fit_side(sci, sky & side, template, bkg_percentile) for side in (left, right)]
        )
    total = [left[1] + right[1] for left, right in sides]
    best = None if np.isnan(total).all() else int(np.nanargmin(total))
    return threshold, best, sides


def _fit_side(sci, chosen, template, bkg_percentile):
    template = np.broadcast_to(template, sci.shape)
    chosen = chosen & np.isfinite(template) & (template != 0)
    data, sky = sci[chosen], template[chosen]
    ratios = data / sky
    if not len(ratios):
        return math.nan, math.nan, 0, 0
    low, high = np.percentile(ratios, bkg_percentile)
    between = ratios[(ratios > low) & (ratios < high)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale = np.float32(np.median(between)) if len(between) else np.float32(np.nan)
    residuals = data.astype(np.float64) - np.float64(scale) * sky
    return float(scale), float(np.sqrt(np.mean(residuals**2))), len(ratios), len(between)
