"""Rows of a cube that stand for all of it: what metrics and pictures look at.

Not every row: the error of a median falls with the root of the number of pixels, and
`SAMPLE_PIXELS` make it 0.003 of a pixel's noise, far below any limit.
"""

from __future__ import annotations

SAMPLE_PIXELS = 2**18
"""About so many pixels are looked at, over all integrations."""

MOST_INTEGRATIONS = 4
"""So many integrations of a cube are looked at, evenly in time."""


def sampled_lines(
    shape: tuple[int, int, int],
    integrations: int = MOST_INTEGRATIONS,
    pixels: int = SAMPLE_PIXELS,
) -> range:
    """Tell which rows are looked at, of a target of (integrations, rows, columns).

    Known from the shape alone, so that what they need can be made for them, and for them only.
    At most so many integrations, and about so many pixels of all of them, are looked at.
    """
    number, rows, columns = shape
    wanted = max(1, pixels // (min(number, integrations) * columns))
    # An odd step, so that even and odd rows of an amplifier come alike.
    step = max(1, rows // wanted) | 1
    return range(min(step // 2, rows - 1), rows, step)


def lines_above(lines: range, row: int) -> int:
    """Count the lines, in rising order, that come before a row."""
    return len(range(lines.start, min(row, lines.stop), lines.step))


def lines_within(lines: range, start: int, stop: int) -> tuple[slice, slice]:
    """Tell which of the lines lie in rows `start` to `stop`, and which of these rows they are."""
    first, last = lines_above(lines, start), lines_above(lines, stop)
    inside = lines[first:last]
    return slice(first, last), slice(inside.start - start, inside.stop - start, inside.step)
