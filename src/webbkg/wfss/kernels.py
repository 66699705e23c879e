"""The passes of the WFSS fit over its pixels: residuals, counts and weighted sums.

Arrays are 1-D pieces of images. A value that is NaN is not, or no longer, a fit pixel. Each
pass works in blocks that stay in the nearest cache, and sums by lanes: element j of every
block goes to lane j, so that the loops vectorise and the order of additions is fixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from webbkg.numerics.compiled import Array, compiled, inlined

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Planes = tuple[Array, ...]
Pixels = tuple[Floats, Floats, Floats]
Flags = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
Bracket = tuple[np.float32, np.float32, np.float32, np.float32]
Rejection = tuple[float, np.float32, np.float32]

BLOCK = 256
TERMS = 3  # the sums of sci·bkg/var, bkg²/var and sci²/var
STRIP = 16  # pixels of a strip along dispersion
STRIP_TERMS = 4  # see `sum_strips`


@inlined
def _add_terms(
    pixels: Pixels,
    start: int,
    residuals: Floats,
    low: np.float32,
    high: np.float32,
    lanes: Doubles,
) -> None:
    """Add to `lanes` (TERMS, BLOCK) the terms of pixels with low < residual < high.

    `pixels` are images of values, template and err; `residuals` those of a block from `start`.
    """
    part = slice(start, start + residuals.size)
    values, template, err = pixels[0][part], pixels[1][part], pixels[2][part]
    for j in range(residuals.size):
        value = np.float64(values[j])
        sky = np.float64(template[j])
        error = np.float64(err[j])
        weight = 1.0 / (error * error)  # of 0 infinite; such a pixel is never inside
        inside = (residuals[j] > low) & (residuals[j] < high)
        lanes[0, j] += value * sky * weight if inside else 0.0
        lanes[1, j] += sky * sky * weight if inside else 0.0
        lanes[2, j] += value * value * weight if inside else 0.0


@inlined
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


@inlined
def _classify(residuals: Floats, bracket: Bracket, in_ends: Bools, counts: Integers) -> None:
    """Count residuals below and above the bracket; mark in `in_ends` (bool) those in its ends."""
    outer_low, inner_low, inner_high, outer_high = bracket
    below = np.int32(0)
    above = np.int32(0)
    for j in range(residuals.size):
        r = residuals[j]
        below += np.int32(1) if r < outer_low else np.int32(0)
        above += np.int32(1) if r > outer_high else np.int32(0)
        at_low = (r >= outer_low) & (r <= inner_low)
        at_high = (r >= inner_high) & (r <= outer_high)
        in_ends[j] = at_low | at_high
    counts[0] += below
    counts[1] += above


@inlined
def _collect(
    residuals: Floats,
    in_ends: Bools,
    start: int,
    found: Floats,
    places: Places,
    collected: np.int64,
) -> np.int64:
    """Append the marked residuals and their places.

    Few are marked, so that eight marks at a time are mostly 0 and cost one look.
    """
    eights = in_ends.view(np.uint64)
    for word in range((residuals.size + 7) // 8):
        if eights[word] == 0:
            continue
        for j in range(8 * word, min(8 * word + 8, residuals.size)):
            if in_ends[j]:
                found[collected] = residuals[j]
                places[collected] = start + j
                collected += 1
    return collected


@inlined
def _select_pixels(
    planes: Planes, start: int, bits: np.uint32, values: Floats, counts: Integers
) -> None:
    """Fill `values` with sci from `start`, NaN where it is no fit pixel; see `prepare`."""
    part = slice(start, start + values.size)
    sci, err, dq = planes[0][part], planes[1][part], planes[2][part]
    template, template_dq, sky = planes[3][part], planes[4][part], planes[5][part]
    usable_sky = np.int32(0)
    lit_sky = np.int32(0)
    fit = np.int32(0)
    for j in range(values.size):
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
    planes: Planes,
    start: int,
    stop: int,
    bits: np.uint32,
    values: Floats,
    counts: Integers,
    sums: Doubles,
) -> None:
    """Select the fit pixels from `start` to `stop` and sum their terms.

    `planes` are `sci`, `err`, `dq`, `template`, `template_dq` and `sky`, each an image as one
    row, and so is `values` (float32), which becomes `sci`, with NaN where a pixel is not fitted: not `sky`, one of
    `bits` set in `dq` or `template_dq`, or without finite sci, template and positive err².
    `counts` (int64) grows by the usable sky pixels, those of them with a template that is not
    0, and the fit pixels; `sums` (TERMS,) is filled.
    """
    lanes = np.zeros((TERMS, BLOCK))
    infinity = np.float32(np.inf)
    pixels = values, planes[3], planes[1]
    for first in range(start, stop, BLOCK):
        selected = values[first : min(first + BLOCK, stop)]
        _select_pixels(planes, first, bits, selected, counts)
        _add_terms(pixels, first, selected, -infinity, infinity, lanes)
    _total(lanes, sums)


@compiled
def reject_and_sum(
    pixels: Pixels,
    start: int,
    stop: int,
    previous: Rejection,
    scale: float,
    bracket: Bracket,
    found: Floats,
    places: Places,
    counts: Integers,
    sums: Doubles,
) -> np.int64:
    """Carry out one rejection, and count, collect and sum for the next, in one pass.

    `pixels` are images of values, template and err, each as one row, of which the pass takes
    the pixels from `start` to `stop`.
    `previous` (scale, low, high): residuals outside low to high become NaN in the values.
    `bracket` (outer low, inner low, inner high, outer high; float32) is for the residuals from
    `scale`: `counts` (int64) grows by those below and above it; those in its two ends, limits
    included, go to `found` and their positions to `places`; the terms of those strictly
    between the ends go to `sums` (TERMS,). Returns how many were collected.
    """
    lanes = np.zeros((TERMS, BLOCK))
    block = np.empty(BLOCK, np.float32)
    in_ends = np.zeros(BLOCK, np.bool_)
    collected = np.int64(0)  # a plain 0 would be a type, and a compilation, of its own
    for first in range(start, stop, BLOCK):
        part = slice(first, min(first + BLOCK, stop))
        values, template = pixels[0][part], pixels[1][part]
        residuals = block[: values.size]
        reject(values, template, previous[0], previous[1], previous[2])
        subtract(values, template, scale, residuals)
        _classify(residuals, bracket, in_ends, counts)
        _add_terms(pixels, first, residuals, bracket[1], bracket[2], lanes)
        collected = _collect(residuals, in_ends, first, found, places, collected)
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


@inlined
def _strip_terms(
    pixels: Pixels,
    extra: Floats,
    scale: float,
    per_signal: float,
    clip: float,
    lanes: Doubles,
) -> None:
    """Fill `lanes` (STRIP_TERMS, columns) with the terms of a line; see `sum_strips`."""
    values, template, read_variance = pixels
    for j in range(values.size):
        sky = np.float64(template[j])
        model = scale * sky + np.float64(extra[j])
        residual = np.float64(values[j]) - model
        read = np.float64(read_variance[j])
        variance = read + per_signal * (model if model > 0 else 0.0)
        weight = 1.0 / variance
        # Of what is NaN none of these holds.
        kept = (read >= 0) & (variance < np.inf) & (residual * residual < clip * clip * variance)
        lanes[0, j] = weight * sky * sky if kept else 0.0
        lanes[1, j] = weight * sky * residual if kept else 0.0
        lanes[2, j] = weight * residual * residual if kept else 0.0
        lanes[3, j] = 1.0 if kept else 0.0


@compiled
def sum_strips(
    pixels: Pixels,
    extra: Floats,
    model: tuple[float, float, float],
    along_x: bool,
    lanes: Doubles,
    sums: Doubles,
) -> None:
    """Clip a band of lines against the model's noise, and sum what is left strip by strip.

    `pixels` are (rows, columns) bands of values, template and read variance, all float32.
    `model` is (scale, per_signal, clip): a pixel is expected at scale·template + `extra`, with the
    variance read + per_signal·max(expected, 0), and left out where it is further than `clip`
    standard deviations away. `extra` is such a band too, or one line that holds for all rows.

    Strips are `STRIP` pixels along dispersion and one across. `sums` becomes, of each, the sums
    of template²/variance, template·residual/variance, residual²/variance and 1 over the pixels
    left: (rows, STRIP_TERMS, strips) with `along_x`, else (strips, STRIP_TERMS, columns).
    `lanes` (STRIP_TERMS, columns) is room.
    """
    rows, columns = pixels[0].shape
    sums[:] = 0.0
    for i in range(rows):
        line = pixels[0][i], pixels[1][i], pixels[2][i]
        _strip_terms(line, extra[min(i, extra.shape[0] - 1)], model[0], model[1], model[2], lanes)
        for term in range(STRIP_TERMS):
            if along_x:
                for j in range(columns):
                    sums[i, term, j // STRIP] += lanes[term, j]
            else:
                for j in range(columns):
                    sums[i // STRIP, term, j] += lanes[term, j]
