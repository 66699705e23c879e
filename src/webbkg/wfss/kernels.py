"""The passes of the WFSS fit over its pixels: residuals, counts and weighted sums.

Arrays are 1-D pieces of images. A value that is NaN is not, or no longer, a fit pixel. Each
pass works in blocks that stay in the nearest cache, and sums by lanes: element j of every
block goes to lane j, so that the loops vectorise and the order of additions is fixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from webbkg.numerics.compiled import compiled

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Bracket = tuple[np.float32, np.float32, np.float32, np.float32]
Rejection = tuple[float, np.float32, np.float32]

BLOCK = 256
TERMS = 3  # the sums of sci·bkg/var, bkg²/var and sci²/var


@compiled
def _add_terms(
    values: Floats,
    template: Floats,
    err: Floats,
    residuals: Floats,
    size: int,
    low: np.float32,
    high: np.float32,
    lanes: Doubles,
) -> None:
    """Add to `lanes` (TERMS, BLOCK) the terms of pixels with low < residual < high."""
    for j in range(size):
        value = np.float64(values[j])
        sky = np.float64(template[j])
        error = np.float64(err[j])
        # As a ufunc, the division does not branch on 0; such a pixel is never inside.
        weight = np.divide(1.0, error * error)
        inside = (residuals[j] > low) & (residuals[j] < high)
        lanes[0, j] += value * sky * weight if inside else 0.0
        lanes[1, j] += sky * sky * weight if inside else 0.0
        lanes[2, j] += value * value * weight if inside else 0.0


@compiled
def _total(lanes: Doubles, sums: Doubles) -> None:
    for term in range(TERMS):
        total = 0.0
        for j in range(BLOCK):
            total += lanes[term, j]
        sums[term] = total


@compiled
def subtract(values: Floats, template: Floats, scale: float, out: Floats) -> None:
    """Fill `out` with residuals, computed in float64 and rounded once to float32."""
    for j in range(values.size):
        out[j] = np.float32(np.float64(values[j]) - scale * np.float64(template[j]))


@compiled
def reject(
    values: Floats, template: Floats, scale: float, low: np.float32, high: np.float32
) -> None:
    """Put NaN in `values` where the residual is not within `low` to `high` (float32)."""
    for j in range(values.size):
        residual = np.float32(np.float64(values[j]) - scale * np.float64(template[j]))
        inside = (residual >= low) & (residual <= high)
        values[j] = values[j] if inside else np.float32(np.nan)


@compiled
def _classify(
    residuals: Floats, size: int, bracket: Bracket, in_ends: Bools, counts: Integers
) -> None:
    """Count residuals below and above the bracket; mark in `in_ends` (bool) those in its ends."""
    outer_low, inner_low, inner_high, outer_high = bracket
    below = np.int32(0)
    above = np.int32(0)
    for j in range(size):
        r = residuals[j]
        below += np.int32(1) if r < outer_low else np.int32(0)
        above += np.int32(1) if r > outer_high else np.int32(0)
        at_low = (r >= outer_low) & (r <= inner_low)
        at_high = (r >= inner_high) & (r <= outer_high)
        in_ends[j] = at_low | at_high
    counts[0] += below
    counts[1] += above


@compiled
def _collect(
    residuals: Floats,
    in_ends: Bools,
    eights: npt.NDArray[np.uint64],
    size: int,
    start: int,
    found: Floats,
    places: Places,
    collected: int,
) -> int:
    """Append the marked residuals and their places; `eights` are the marks, eight at a time.

    Few are marked, so that most words are 0 and cost one look.
    """
    for word in range((size + 7) // 8):
        if eights[word] == 0:
            continue
        for j in range(8 * word, min(8 * word + 8, size)):
            if in_ends[j]:
                found[collected] = residuals[j]
                places[collected] = start + j
                collected += 1
    return collected


@compiled
def _select_pixels(
    sci: Floats,
    err: Floats,
    dq: Flags,
    template: Floats,
    template_dq: Flags,
    sky: Bools,
    bits: np.uint32,
    size: int,
    values: Floats,
    counts: Integers,
) -> None:
    """Fill `values` with sci, NaN where it is no fit pixel; count sky, and sky under template."""
    usable_sky = np.int32(0)
    lit_sky = np.int32(0)
    fit = np.int32(0)
    for j in range(size):
        usable = sky[j] & ((dq[j] & bits) == 0)
        lit = template[j] != 0
        variance = np.float64(err[j]) * np.float64(err[j])
        valid = (abs(sci[j]) < np.inf) & (abs(template[j]) < np.inf)
        valid &= (variance > 0) & (variance < np.inf) & ((template_dq[j] & bits) == 0)
        usable_sky += np.int32(1) if usable else np.int32(0)
        lit_sky += np.int32(1) if usable & lit else np.int32(0)
        fit += np.int32(1) if usable & valid else np.int32(0)
        values[j] = sci[j] if usable & valid else np.float32(np.nan)
    counts[0] += usable_sky
    counts[1] += lit_sky
    counts[2] += fit


@compiled
def prepare(
    sci: Floats,
    err: Floats,
    dq: Flags,
    template: Floats,
    template_dq: Flags,
    sky: Bools,
    bits: np.uint32,
    values: Floats,
    counts: Integers,
    sums: Doubles,
) -> None:
    """Select the fit pixels and sum their terms.

    `values` (float32) becomes `sci`, with NaN where a pixel is not fitted: not `sky`, one of
    `bits` set in `dq` or `template_dq`, or without finite sci, template and positive err².
    `counts` (int64) grows by the usable sky pixels, those of them with a template that is not
    0, and the fit pixels; `sums` (TERMS,) is filled.
    """
    lanes = np.zeros((TERMS, BLOCK))
    infinity = np.float32(np.inf)
    for start in range(0, sci.size, BLOCK):
        size = min(BLOCK, sci.size - start)
        part = slice(start, start + size)
        _select_pixels(
            sci[part], err[part], dq[part], template[part], template_dq[part], sky[part],
            bits, size, values[part], counts,
        )  # fmt: skip
        _add_terms(
            values[part], template[part], err[part], values[part], size,
            -infinity, infinity, lanes,
        )  # fmt: skip
    _total(lanes, sums)


@compiled
def reject_and_sum(
    values: Floats,
    template: Floats,
    err: Floats,
    previous: Rejection,
    scale: float,
    bracket: Bracket,
    found: Floats,
    places: Places,
    counts: Integers,
    sums: Doubles,
) -> int:
    """Carry out one rejection, and count, collect and sum for the next, in one pass.

    `previous` (scale, low, high): residuals outside low to high become NaN in `values`.
    `bracket` (outer low, inner low, inner high, outer high; float32) is for the residuals from
    `scale`: `counts` (int64) grows by those below and above it; those in its two ends, limits
    included, go to `found` and their positions to `places`; the terms of those strictly
    between the ends go to `sums` (TERMS,). Returns how many were collected.
    """
    lanes = np.zeros((TERMS, BLOCK))
    residuals = np.empty(BLOCK, np.float32)
    in_ends = np.zeros(BLOCK, np.bool_)
    eights = in_ends.view(np.uint64)
    collected = 0
    for start in range(0, values.size, BLOCK):
        size = min(BLOCK, values.size - start)
        part = slice(start, start + size)
        reject(values[part], template[part], previous[0], previous[1], previous[2])
        subtract(values[part], template[part], scale, residuals[:size])
        _classify(residuals, size, bracket, in_ends, counts)
        _add_terms(
            values[part], template[part], err[part], residuals, size,
            bracket[1], bracket[2], lanes,
        )  # fmt: skip
        collected = _collect(residuals, in_ends, eights, size, start, found, places, collected)
    _total(lanes, sums)
    return collected


@compiled
def scale_template(
    template: Floats,
    template_err: Floats,
    template_dq: Flags,
    scale: float,
    scale_err: float,
    bits: np.uint32,
) -> None:
    """Scale the planes of a template in place; where it is not finite they are NaN, with `bits`."""
    for j in range(template.size):
        level = np.float64(template[j])
        known = abs(level) < np.inf
        own = scale * np.float64(template_err[j])
        fitted = scale_err * level
        template[j] = scale * level if known else np.nan
        template_err[j] = np.sqrt(own * own + fitted * fitted) if known else np.nan
        template_dq[j] = template_dq[j] if known else template_dq[j] | bits
