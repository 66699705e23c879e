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


# The robust fit.


def skewness(level, read, photons):
    return photons**2 * level / (read + photons * level) ** 1.5


def robust_fit(sci, read, per_signal, template, used, *, passes=12):
    """Fit with light dispersed along rows; `read` and `per_signal` make the variance.

    Returns the scales, the last pass's marked strips, the white and the block error.
    """
    lit = used & (template > 0.2 * np.median(template[used]))
    scale = np.median(sci[lit].astype(float) / template[lit])
    level = max(scale * np.median(template[used]), 0)
    skew = skewness(level, np.median(read[used & (read >= 0)]), per_signal)
    scales, scatters = [], {}
    for number in range(passes):
        weight, cross, count = robust_strips(sci, read, per_signal, template, used, scale)
        if number in (0, 1, 3):
            scatters = {n: strip_scatter(*joined(weight, cross, n)) for n in (1, 4, 16)}
        marked = strips_marked(weight, cross, count, scatters, skew)
        total = weight[~marked].sum()
        shift = cross[~marked].sum() / total
        scale = scale + shift
        scales.append(scale)
        if abs(shift) < 0.02 / np.sqrt(total):
            break
    weight[marked], cross[marked] = 0, 0
    return scales, marked, 1.04 / np.sqrt(total), block_error(weight, cross, shift)


def robust_strips(sci, read, per_signal, template, used, scale):
    """Sum weight, weighted residual and pixels of strips of 16 pixels, one at a time."""
    rows, columns = sci.shape
    sums = np.zeros((3, rows, -(-columns // 16)))
    for row, column in np.argwhere(used):
        t = float(template[row, column])
        residual = float(sci[row, column]) - scale * t
        variance = float(read[row, column]) + per_signal * max(scale * t, 0)
        if read[row, column] >= 0 and residual**2 < 4.5**2 * variance:
            sums[:, row, column // 16] += t * t / variance, t * residual / variance, 1
    return sums


def joined(weight, cross, n):
    """Join strips n at a time; the mean residual is NaN where there is little weight."""
    parts = [slice(i, i + n) for i in range(0, weight.shape[1], n)]
    total = np.stack([weight[:, p].sum(axis=1) for p in parts], axis=1)
    mean = np.stack([cross[:, p].sum(axis=1) for p in parts], axis=1)
    little = total <= 0.15 * total[total > 0].mean()
    return total, np.where(little, np.nan, mean / np.where(little, 1, total))


def strip_scatter(weight, mean):
    found = []
    lines = len(mean)
    for step in [s for s in (48, 64, 80, 96) if s < lines / 2] or [lines // 3]:
        sums, differences = [], []
        for line in range(lines - step):
            for strip in range(mean.shape[1]):
                one, other = mean[line, strip], mean[line + step, strip]
                if np.isfinite(one) and np.isfinite(other):
                    variance = 1 / weight[line, strip] + 1 / weight[line + step, strip]
                    sums.append(one + other)
                    differences.append(abs(one - other) / np.sqrt(variance))
        faintest = np.array(sums) <= np.quantile(sums, 0.3)
        found.append(np.array(differences)[faintest])
    return max(1.4826 * np.median(np.concatenate(found)), 1)


def block_error(weight, cross, shift):
    high, wide = (-(-n // 8) for n in weight.shape)
    weights, scales = [], []
    for line in range(0, weight.shape[0], high):
        for strip in range(0, weight.shape[1], wide):
            block = slice(line, line + high), slice(strip, strip + wide)
            if weight[block].sum() > 0:
                weights.append(weight[block].sum())
                scales.append(cross[block].sum() / weights[-1] - shift)
    weights, scales, n = np.array(weights), np.array(scales), len(weights)
    return np.sqrt(n / (n - 1) * np.sum((weights * scales) ** 2)) / weights.sum()


# Several components. Light is dispersed along rows.


def splines(places, length, freedom):
    """Cubic B-splines by the recursion of de Boor; a constant for 1, nothing for 0."""
    if freedom < 2:
        return np.ones((len(places), freedom))
    knots = np.arange(-3, freedom + 4) * length / freedom

    def one(k, degree, x):
        if degree == 0:
            return float(knots[k] <= x < knots[k + 1])
        rise = (x - knots[k]) / (knots[k + degree] - knots[k]) * one(k, degree - 1, x)
        fall = (knots[k + degree + 1] - x) / (knots[k + degree + 1] - knots[k + 1])
        return rise + fall * one(k + 1, degree - 1, x)

    return np.array([[one(k, 3, x) for k in range(freedom + 3)] for x in places])


def component_fit(sci, read, per_signal, templates, used, freedom, start, skew):
    """Fit templates and what is free, from `start` on; returns each pass's coefficients.

    And the last pass's marks, the covariances by the noise model and by blocks, and the weights of the
    last pass in which the spline is taken at the strips' middles.
    """
    rows, columns = sci.shape
    strip = np.arange(columns) // 16
    middles = np.array(
        [(np.arange(columns)[strip == s] + 0.5).mean() for s in range(strip[-1] + 1)]
    )
    coarse = splines(middles, columns, freedom)[strip]
    exact = splines(np.arange(columns) + 0.5, columns, freedom)
    flat = [np.where(used, t, 0).astype(float) for t in templates]
    free = coarse.shape[1]
    wide = np.array([*flat, *np.broadcast_to(coarse.T[:, np.newaxis], (free, rows, columns))])
    found, passes, scatters, last = np.array(start, float), [], {}, None
    while True:
        along = exact if last is not None else coarse
        model = along @ found[len(flat) :] + sum(s * t for s, t in zip(found, flat, strict=False))
        variance = read + per_signal * np.maximum(model, 0)
        residual = np.where(used, sci - model, 0).astype(float)
        kept = used & (read >= 0) & (residual**2 < 4.5**2 * variance)
        inverse = np.where(kept, 1 / np.where(kept, variance, 1), 0)
        weight, cross, count = (
            np.stack([image[:, strip == s].sum(axis=1) for s in range(strip[-1] + 1)], axis=1)
            for image in (inverse, inverse * residual, kept)
        )
        if freedom > 1:
            for s in range(strip[-1] + 1):
                seen = weight[:, s] > 0
                if seen.any():
                    cross[:, s] -= weight[:, s] * np.median(cross[seen, s] / weight[seen, s])
        if len(passes) in (0, 1, 3):
            scatters = {n: strip_scatter(*joined(weight, cross, n)) for n in (1, 4, 16)}
        marked = strips_marked(weight, cross, count, scatters, skew)
        inverse[marked[:, strip]] = 0
        normal = np.einsum("aij,ij,bij->ab", wide, inverse, wide)
        right = np.einsum("aij,ij->a", wide, inverse * residual) + normal @ found
        damped = with_ridge(normal, len(flat), freedom)
        step = least_with_limits(damped, right, len(flat)) - found
        found = found + step
        passes.append(found)
        if last is not None or (freedom <= 1 and step @ normal @ step < 0.02**2 * len(found)):
            break
        if step @ normal @ step < 0.02**2 * len(found) or len(passes) == 12:
            last = inverse
    white = np.linalg.inv(damped)
    left = inverse * (residual - np.einsum("a,aij->ij", step, wide))
    high, across = -(-rows // 8), 16 * -(-len(middles) // 8)
    moves = [
        white @ (wide * left)[:, line : line + high, column : column + across].sum(axis=(1, 2))
        for line in range(0, rows, high)
        for column in range(0, columns, across)
        if inverse[line : line + high, column : column + across].any()
    ]
    block = len(moves) / (len(moves) - 1) * np.array(moves).T @ np.array(moves)
    return passes, marked, 1.04**2 * white, block, inverse if last is None else last


def with_ridge(normal, templates, freedom):
    """Add a little of the spline's own weights."""
    damped = normal.copy()
    if freedom > 1:
        damped[templates:, templates:] *= 1 + 1e-5
    return damped


def held_out(sci, inverse, templates, freedoms, length):
    """Foretell each block of pixels from those of the other quarters; chi-square of each block.

    One row for each pair in `freedoms`: number of templates, and freedom along dispersion.
    """
    rows, columns = sci.shape
    strip = np.arange(columns) // 16
    strips = strip[-1] + 1
    middles = np.array([(np.arange(columns)[strip == s] + 0.5).mean() for s in range(strips)])
    high, across = -(-rows // 8), -(-strips // 8)
    block = (
        np.add.outer(np.arange(rows) // high, 0 * strip),
        np.add.outer(np.zeros(rows, int), strip // across),
    )
    fold = (block[0] + block[1]) % 4
    found = []
    for number, freedom in freedoms:
        free = splines(middles, length, freedom)[strip]
        wide = [np.nan_to_num(t).astype(float) for t in templates[:number]]
        wide += [np.broadcast_to(one, (rows, columns)) for one in free.T]
        wide, values = np.array(wide), np.nan_to_num(sci).astype(float)
        chi2 = np.zeros(sci.shape)
        for out in range(4):
            weight = np.where(fold == out, 0, inverse)
            normal = np.einsum("aij,ij,bij->ab", wide, weight, wide)
            right = np.einsum("aij,ij->a", wide, weight * values)
            best = least_with_limits(with_ridge(normal, number, freedom), right, number)
            left = (values - np.einsum("a,aij->ij", best, wide)) ** 2 * inverse
            chi2 = np.where(fold == out, left, chi2)
        of_blocks = [
            chi2[(block[0] == i) & (block[1] == j)].sum()
            for j in range(block[1].max() + 1)
            for i in range(block[0].max() + 1)
        ]
        found.append(of_blocks)
    return np.array(found)


def strips_marked(weight, cross, count, scatters, skew):
    """Mark strips that stand out, one at a time, with their neighbours."""
    marked = np.zeros(weight.shape, bool)
    pixels = count.sum() / np.count_nonzero(count)
    for n, scatter in scatters.items():
        of_strip, mean = joined(weight, cross, n)
        for line, strip in np.ndindex(mean.shape):
            move = 1.5 * skew / np.sqrt(pixels * n) / scatter**3
            deviation = mean[line, strip] * np.sqrt(of_strip[line, strip]) / scatter - move
            if abs(deviation) > 3:
                marked[max(line - 1, 0) : line + 2, strip * n : strip * n + n] = True
    return marked


def least_with_limits(normal, right, templates):
    """Solve; of two templates, take one away whose scale would be below 0 (whichever is better)."""
    whole = np.linalg.solve(normal, right)
    if templates == 1 or (whole[:templates] >= 0).all():
        return whole
    tried = []
    for gone in range(templates):
        rest = np.delete(np.arange(len(right)), gone)
        part = np.zeros(len(right))
        part[rest] = np.linalg.solve(normal[np.ix_(rest, rest)], right[rest])
        if (part[:templates] >= 0).all():
            tried.append((part @ normal @ part / 2 - right @ part, gone, part))
    return min(tried)[2]
