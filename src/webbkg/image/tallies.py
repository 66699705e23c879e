"""Loops that tally what the samples of a stack say beside their values: variances and flags."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled

CHUNK = 64  # pixels that are looked at together


@compiled
def add_shares(
    poisson: Array,
    rnoise: Array,
    flat: Array,
    first_column: int,
    sums: Array,
    row: int,
    column: int,
    width: int,
) -> None:
    """Add the shares of the kinds in the variance of one exposure's pixels.

    `poisson`, `rnoise` and `flat` are rows of its variances (float32), of which `width` columns
    from `first_column` go to (`row`, `column`) of `sums` (3, rows, columns; float32): the number
    of pixels whose variances are finite, not negative and not all 0, and their shares of `rnoise`
    and of `flat`.
    """
    here = slice(first_column, first_column + width)
    there = slice(column, column + width)
    for i in range(poisson.shape[0]):
        photons, read, of_flat = poisson[i, here], rnoise[i, here], flat[i, here]
        count, share, flat_share = (
            sums[0, row + i, there],
            sums[1, row + i, there],
            sums[2, row + i, there],
        )
        for j in range(width):
            total = photons[j] + read[j] + of_flat[j]
            known = (photons[j] >= 0) & (read[j] >= 0) & (of_flat[j] >= 0)
            known &= (total > 0) & (total < np.inf)
            one = np.float32(1) if known else np.float32(0)
            part = one / (total if known else np.float32(1))
            count[j] += one
            share[j] += (read[j] if known else np.float32(0)) * part
            flat_share[j] += (of_flat[j] if known else np.float32(0)) * part


@compiled
def count_flags(flags: Array, start: int, stop: int, digits: Array) -> None:
    """Count the flags (1-D, uint32) of one sample in the pixels from `start` to `stop`.

    `digits` (digits, pixels; uint32) hold the counts of all 32 flags side by side: bit b of
    ``digits[k]`` is the binary digit k of the count of flag b.
    """
    for p in range(start, stop):
        carry = flags[p]
        k = 0
        while carry != 0:
            before = digits[k, p]
            digits[k, p] = before ^ carry
            carry = before & carry
            k += 1


@compiled
def add_frequent(digits: Array, covering: Array, needed: Array, flags: Array) -> None:
    """Add to `flags` (1-D, uint32) those whose count in `digits` is large enough.

    At a pixel that n samples cover, as `covering` (uint32) tells, it must be ``needed[n]``.
    """
    for p in range(flags.size):
        least = needed[covering[p]]
        more = np.uint32(0)
        equal = ~np.uint32(0)
        for k in range(digits.shape[0] - 1, -1, -1):
            digit = ~np.uint32(0) if (least >> np.uint32(k)) & np.uint32(1) else np.uint32(0)
            more |= equal & digits[k, p] & ~digit
            equal &= ~(digits[k, p] ^ digit)
        flags[p] |= more | equal


@compiled
def note_carried(flags: Array, once: Array, twice: Array) -> None:
    """Note the flags (1-D, uint32) of one sample: those carried by any, and by two or more."""
    for p in range(flags.size):
        twice[p] |= once[p] & flags[p]
        once[p] |= flags[p]


@compiled
def list_differences(
    every: Array, lost: Array, flags: Array, counts: Array, unknown: int, differences: Array
) -> int:
    """List the pixels whose flags without one sample are not `every` (1-D, uint32).

    They lack what the sample carries, `flags`, of what goes with any one that does, `lost`; where
    no sample is left, as `counts` (uint32) tells, they have the flag `unknown`. Returns how many
    are listed in `differences` (2, pixels; uint32): their place, and the bits that differ.
    """
    listed = 0
    bit = np.uint32(unknown)
    for start in range(0, every.size, CHUNK):
        size = min(CHUNK, every.size - start)
        here = slice(start, start + size)
        flags_of_all, going, own, number = every[here], lost[here], flags[here], counts[here]
        differ = np.uint32(0)
        for p in range(size):  # all at once: in most chunks there are none
            none_left = bit if number[p] == 0 else np.uint32(0)
            differ |= (going[p] & own[p]) | (~flags_of_all[p] & none_left)
        for p in range(size if differ else 0):
            none_left = bit if number[p] == 0 else np.uint32(0)
            bits = flags_of_all[p] ^ ((flags_of_all[p] & ~(going[p] & own[p])) | none_left)
            if bits != 0:
                differences[0, listed] = start + p
                differences[1, listed] = bits
                listed += 1
    return listed
