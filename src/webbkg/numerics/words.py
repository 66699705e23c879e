"""Loops over raw planes: byte order, and samples into a stack."""

from __future__ import annotations

import numpy as np

from webbkg.numerics.compiled import Array, compiled, inlined

SIGN_BIT = np.uint32(1 << 31)
SWAPPED_SIGN_BIT = np.uint32(1 << 7)
NO_BIT = np.uint32(0)


@inlined
def _swap_bytes(words: Array, flipped: np.uint32) -> None:
    """Reverse the byte order of uint32 `words` (1-D) in place; then flip some of their bits."""
    for i in range(words.size):
        word = words[i]
        words[i] = flipped ^ (
            (word >> np.uint32(24))
            | ((word >> np.uint32(8)) & np.uint32(0x0000FF00))
            | ((word << np.uint32(8)) & np.uint32(0x00FF0000))
            | (word << np.uint32(24))
        )


@inlined
def _copy_usable(
    values: Array,
    errors: Array,
    flags: Array,
    unusable_bits: np.uint32,
    values_out: Array,
    errors_out: Array,
) -> None:
    for j in range(values.size):
        usable = ((flags[j] & unusable_bits) == 0) & (abs(values[j]) < np.inf)
        values_out[j] = values[j] if usable else np.float32(np.nan)
        valid = (errors[j] >= 0) & (errors[j] < np.inf)
        err = errors[j] if valid else np.float32(np.nan)
        errors_out[j] = err if usable else np.float32(0)


@inlined
def _copy_usable_values(
    values: Array, flags: Array, unusable_bits: np.uint32, values_out: Array
) -> None:
    for j in range(values.size):
        usable = ((flags[j] & unusable_bits) == 0) & (abs(values[j]) < np.inf)
        values_out[j] = values[j] if usable else np.float32(np.nan)


@inlined
def _collect_flags(flags: Array, out: Array) -> None:
    for j in range(flags.size):
        out[j] |= flags[j]


@compiled
def place_samples(
    words: Array,
    values: Array,
    as_in_fits: bool,
    first_column: int,
    unusable_bits: int,
    sci_out: Array,
    err_out: Array,
    dq_out: Array,
    row: int,
    column: int,
    width: int,
) -> None:
    """Copy the rows of one exposure to where they lie in a stack.

    `words` (planes, rows, columns) are the uint32 words of SCI, ERR if it is wanted, and DQ,
    `values` the same memory as float32; `as_in_fits` says that they are big-endian and that DQ is
    offset by 2**31 (they are then put right in place). The rectangle of `width` columns from `first_column` goes to (`row`, `column`) of the outputs. A
    sample that is not finite, or has one of `unusable_bits`, becomes NaN in `sci_out` and 0 in
    `err_out`; an ERR that is negative or not finite becomes NaN, and without one `err_out` is left
    alone. Flags are OR-ed into `dq_out`.
    """
    source = slice(first_column, first_column + width)
    target = slice(column, column + width)
    bits = np.uint32(unusable_bits)
    last = words.shape[0] - 1
    for i in range(words.shape[1]):
        if as_in_fits:
            for plane in range(last + 1):
                _swap_bytes(words[plane, i, source], SIGN_BIT if plane == last else NO_BIT)
        flags, sci_row = words[last, i, source], sci_out[row + i, target]
        if last == 2:
            err_row = err_out[row + i, target]
            _copy_usable(values[0, i, source], values[1, i, source], flags, bits, sci_row, err_row)
        else:
            _copy_usable_values(values[0, i, source], flags, bits, sci_row)
        _collect_flags(flags, dq_out[row + i, target])


@compiled
def make_native(words: Array, is_offset: bool) -> None:
    """Put big-endian `words` (1-D, uint32) right in place; `is_offset`: by 2**31, as DQ is."""
    _swap_bytes(words, SIGN_BIT if is_offset else NO_BIT)


@compiled
def make_stored(words: Array, is_offset: bool) -> None:
    """Undo `make_native`."""
    _swap_bytes(words, SWAPPED_SIGN_BIT if is_offset else NO_BIT)
