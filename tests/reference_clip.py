"""Slow and readable twin of clipping by the expected scatter (``clip_noise = "model"``)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SEGMENT, FEWEST, PROBES, LEVEL_PROBES, CORE, TRUSTED, SPREAD = 512, 16, 15, 9, 1.5, 0.1, 2.0
REACH, NEAREST, FEW_NEIGHBOURS, UNREST, GAUSSIAN = 12, 4, 4, 1.5, 1.4826


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


@dataclass
class Segment:
    """Part of a row: (samples, pixels) values, NaN where missing, and errors, NaN where invalid."""

    values: np.ndarray
    errors: np.ndarray

    def __post_init__(self):
        self.number, self.size = self.values.shape
        self.present = ~np.isnan(self.values)
        self.count = self.present.sum(axis=0)
        self.mean = average(self.values, self.present)
        self.valid = self.errors > 0
        self.error = average(self.errors, self.valid)
        self.typical = self.typical_error()
        measured = [self.measure(i) for i in range(self.number)]
        self.level, self.noise = (np.array(one) for one in zip(*measured, strict=True))
        if not self.typical:
            known = self.noise[np.isfinite(self.noise)]
            self.typical = known.mean() if len(known) else 1.0
            self.noise /= self.typical
        self.y = self.values - self.level[:, np.newaxis]
        self.centre = average(self.y, self.present)

    def typical_error(self):
        step = max(self.size // PROBES, 1)
        known = self.valid.any(axis=0)
        probes = self.error[step // 2 :: step][known[step // 2 :: step]]
        if len(probes) < FEW_NEIGHBOURS:
            probes = self.error[known]
        return lower_median(probes) if len(probes) else 0.0

    def measure(self, i):
        """Level of a sample against the mean, and its errors in units of the mean error."""
        chosen = self.count == self.count.max()
        if self.count.max() < self.number:
            most = self.count[self.present[i]].max(initial=0)
            chosen = self.present[i] & (self.count == most)
        pixels, most = chosen.sum(), self.count[chosen].max(initial=0)
        if pixels < FEWEST or most < 2:
            return 0.0, 1.0 if self.typical else np.inf
        off = np.where(chosen, self.values[i] - self.mean, np.nan)
        is_full = self.typical and 2 * pixels > self.size
        probes = off[self.probed(LEVEL_PROBES if is_full else self.size)]
        probes = probes[np.isfinite(probes)]
        if len(probes) < FEW_NEIGHBOURS:
            is_full, probes = False, off[np.isfinite(off)]
        level, part = lower_median(probes), np.sqrt((most - 1) / most)
        if not self.typical:
            noise = GAUSSIAN * lower_median(np.abs(probes - level)) / part
            return level, noise if noise > 0 else np.inf
        probed = self.probed(PROBES if is_full else self.size)
        rated = (chosen & self.valid[i])[probed]
        ratios = (self.errors[i][probed])[rated] / self.error[probed][rated]
        noise = lower_median(ratios) if len(ratios) else 1.0
        core = CORE * self.typical * noise * part
        rest = (off - level)[chosen]
        inside = (np.abs(rest) < core).sum()
        return (
            level + np.clip(rest, -core, core).sum() / inside if 2 * inside >= pixels else 0.0
        ), noise

    def probed(self, number):
        step = max(self.size // number, 1)
        return slice(step // 2, None, step)

    def around(self, p, reach):
        return range(max(p - reach, 0), min(p + reach + 1, self.size))

    def deviations(self, p, unit):
        """Deviations of one sample of each neighbour, in turn, in units of what is expected."""
        found = []
        for q in self.around(p, REACH):
            if q != p and self.count[q] >= 2:
                part = np.sqrt((self.count[q] - 1) / self.count[q])
                i = q % self.number
                if self.present[i, q]:
                    found.append(abs(self.y[i, q] - self.centre[q]) / (unit(q, i) * part))
        return np.array(found)

    def error_at(self, q):
        return self.error[q] if self.valid[:, q].any() else self.typical

    def middle(self, q):
        """Lower median of a pixel's samples; NaN outside and where there is none."""
        if not 0 <= q < self.size or not self.count[q]:
            return np.nan
        return lower_median(self.y[self.present[:, q], q])

    def steepness(self, q):
        steps = [abs(self.middle(q) - self.middle(other)) for other in (q - 1, q + 1)]
        return max((step for step in steps if not np.isnan(step)), default=0.0)

    def excess(self, p):
        found = self.deviations(p, lambda q, i: self.error_at(q) * self.noise[i])
        return max(1.0, GAUSSIAN * lower_median(found)) if len(found) >= FEW_NEIGHBOURS else 1.0

    def scatter_of_structure(self, p, expected):
        found = self.deviations(p, lambda q, i: np.hypot(self.error_at(q), self.steepness(q)))
        ratio = GAUSSIAN * lower_median(found) if len(found) >= FEW_NEIGHBOURS else 0.0
        return ratio * np.hypot(expected, self.steepness(p))

    def level_around(self, p):
        middles = [self.middle(q) for q in self.around(p, NEAREST) if q != p and self.count[q]]
        if len(middles) < FEW_NEIGHBOURS:
            return np.nan, np.nan
        level = lower_median(middles)
        return level, GAUSSIAN * lower_median(np.abs(middles - level))

    def clip(self, p, sigma, maxiters):
        """Tell which samples of a pixel are left."""
        left = list(np.flatnonzero(self.present[:, p]))
        excess, floor, rounds = None, 0.0, 0
        while len(left) > 1:
            worst, expected = self.worst(left, p, excess or 1.0, floor, sigma)
            if worst is None:
                break
            if excess is None:
                excess = self.excess(p)
                if excess > UNREST:
                    floor = max(
                        own_scatter(self.y[left, p]), self.scatter_of_structure(p, expected)
                    )
                continue
            if len(left) <= 3:
                worst = self.choose(left, p, worst, expected, sigma)
            left.remove(worst)
            rounds += 1
            if rounds == maxiters:
                break
        return left

    def worst(self, left, p, excess, floor, sigma):
        """The sample furthest from the mean of the others, and the scatter that is expected for a noise of 1."""
        scaled = {i: self.errors[i, p] / self.noise[i] for i in left}
        believed = sorted(e for e in scaled.values() if e > 0 and e >= TRUSTED * self.typical)
        found, furthest, width = None, sigma, np.nan
        for i in left:
            others = [j for j in left if j != i]
            asked = others if len(left) > 2 else left
            errors = np.array([scaled[j] for j in asked if scaled[j] in believed])
            expected = self.typical
            if len(errors):
                reference = believed[1 if len(believed) > 2 else 0]
                confined = np.clip(errors, reference / SPREAD, reference * SPREAD)
                expected = np.sqrt(np.mean(confined**2))
            expected = max(expected * excess, floor)
            spread = self.noise[i] ** 2 + np.sum(self.noise[others] ** 2) / len(others) ** 2
            distance = abs(self.y[i, p] - self.y[others, p].mean()) / (expected * np.sqrt(spread))
            is_tie = found is not None and distance**2 > furthest**2 * (1 - 1e-9)
            is_higher = is_tie and self.y[i, p] > self.y[found, p]
            if distance**2 > furthest**2 * (1 + 1e-9) or is_higher:
                found, furthest, width = i, distance, expected
        return found, width

    def choose(self, left, p, worst, expected, sigma):
        """Of two or three, the neighbours may name another."""
        level, width = self.level_around(p)
        reach = sigma * max(width, expected)
        lowest, highest = (left[pick(self.y[left, p])] for pick in (np.argmin, np.argmax))
        is_low = self.y[lowest, p] < level - reach
        is_high = self.y[highest, p] > level + reach
        if len(left) == 2:
            return lowest if is_low and not is_high else highest
        return highest if worst == lowest and is_high and not is_low else worst


def own_scatter(values):
    if len(values) < 3:
        return 0.0
    off = np.sort(np.abs(values - lower_median(values)))
    return GAUSSIAN * len(values) / (len(values) - 0.8) * off[len(values) // 2]


def average(values, mask):
    """Average along the first axis where the mask is True; 0 where it nowhere is."""
    return np.where(mask, values, 0).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)


def average_samples(sci, err, sigma, maxiters):
    """Clip and average along the first axis, as `reference.average_samples` does."""
    rows, columns = sci.shape[1:]
    sci, err = sci.astype(np.float64), err.astype(np.float64)
    err = np.where(np.isfinite(err) & (err >= 0), err, np.nan)
    err[np.isnan(sci)] = np.nan
    mean, uncertainty = np.full((2, rows, columns), np.nan)
    kept = np.zeros((rows, columns), int)
    parts = max(columns // SEGMENT, 1)
    edges = [k * columns // parts for k in range(parts + 1)]
    for row in range(rows):
        for start, stop in pairwise(edges):
            segment = Segment(sci[:, row, start:stop], err[:, row, start:stop])
            for p in np.flatnonzero(segment.count):
                left = segment.clip(p, sigma, maxiters or 0)
                at, present = (row, start + p), segment.present[:, p]
                shift = segment.level[present].mean()
                mean[at] = segment.y[left, p].mean() + shift
                if len(left) == present.sum():
                    mean[at] = segment.values[present, p].mean()
                uncertainty[at] = np.sqrt((segment.errors[left, p] ** 2).sum()) / len(left)
                kept[at] = len(left)
    return mean.astype(np.float32), uncertainty.astype(np.float32), kept, np.isfinite(sci).sum()
