"""Image from image: the average of exposures that nobody keeps, to be subtracted and judged.

Nobody looks at its uncertainty then, but for the metrics, in some rows; and nobody at how many
exposures are in a pixel, but for a report. So ERR of the exposures, a third of their bytes, is
read in these rows alone, and what is not looked at takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from webbkg.image.average import Held, average_exposures, average_into, coverage
from webbkg.numerics.lines import lines_above
from webbkg.numerics.planes import LinesOfRows, Overlap, Placed
from webbkg.options import ImageOptions
from webbkg.results import BoolImage, UnkeptBackground

NO_LINES = range(0)

FEW_LINES = 0.1
"""Up to this share of the rows it takes less to average them once more, with errors, than to read
the errors of all rows."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an average, besides what is subtracted.

    Attributes
    ----------
    whole : bool
        It is kept or saved, or its variance propagated: a `CombinedBackground`, with ERR and
        counts of every pixel. Else an `UnkeptBackground`.
    variances : bool
        Whether its variance is split, of one that is whole.
    counts : bool
        Whether somebody looks at the exposures in each pixel, of one that is not.
    lines : range
        Rows of which somebody looks at ERR, of one that is not; empty for none.
    """

    whole: bool = False
    variances: bool = False
    counts: bool = False
    lines: range = NO_LINES

    def __or__(self, other: Wanted) -> Wanted:
        """Want what serves both: of two choices of lines, the whole."""
        choices = {one.lines for one in (self, other) if one.lines}
        if self.whole or other.whole or len(choices) > 1:
            return Wanted(whole=True, variances=self.variances or other.variances)
        return Wanted(counts=self.counts or other.counts, lines=next(iter(choices), NO_LINES))


def average_unkept(
    sources: Sequence[Placed],
    shape: tuple[int, int],
    options: ImageOptions,
    wanted: Wanted,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UnkeptBackground:
    """Average exposures as `webbkg.image.average.average_exposures` does: the same bits, fewer.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, placed on the target.
    shape : (rows, columns)
        The target's window.
    options : ImageOptions
        How they are averaged.
    wanted : Wanted
        Which `counts` and `lines`.
    threads, progress
        As there.
    """
    counts = np.empty(shape, counts_type(len(sources))) if wanted.counts else None
    lines, errors = wanted.lines, np.empty((len(wanted.lines), shape[1]), np.float32)
    apart = are_apart(lines, shape[0], options)
    sci, dq = np.empty(shape, np.float32), np.zeros(shape, np.uint32)
    held = Held(sci, dq, counts=counts, lines=lines, errors=None if apart else errors)
    told = average_into(held, sources, options, threads=threads, progress=progress)
    if lines and apart:
        placed = [on_lines(source, lines) for source in sources]
        errors = average_exposures(placed, errors.shape, options, threads=threads).err
    return UnkeptBackground(
        sci=sci,
        dq=dq,
        covered=_covered(sources, shape),
        lines=lines,
        errors=errors,
        counts=counts,
        unknown=told.unknown,
        exposures=told.exposures,
        integrations=told.integrations,
    )


def counts_type(exposures: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type that can count so many exposures."""
    return np.min_scalar_type(exposures)


def are_apart(lines: range, rows: int, options: ImageOptions) -> bool:
    """Tell whether some of a target's rows are averaged apart, with errors: all the others without.

    If not, the errors of all rows are read, of which those of the lines are kept.
    """
    return options.clip_noise != "model" and len(lines) <= FEW_LINES * rows


def on_lines(source: Placed, lines: range) -> Placed:
    """Place an exposure on a target of which there are some rows alone, evenly apart."""
    first, stop = (lines_above(lines, row) for row in source.overlap.rows)
    shift = source.overlap.other_rows[0] - source.overlap.rows[0]
    ours = lines[first:stop]
    theirs = range(ours.start + shift, ours.stop + shift, ours.step)
    overlap = replace(source.overlap, rows=(first, stop), other_rows=(0, len(theirs)))
    return Placed(LinesOfRows(source.planes, theirs), overlap)


def _covered(sources: Sequence[Placed], shape: tuple[int, int]) -> BoolImage:
    """Tell which pixels are covered; where all are, with one value that stands for them."""
    whole = Overlap.whole(shape)
    ours = [(source.overlap.rows, source.overlap.columns) for source in sources]
    if (whole.rows, whole.columns) in ours:
        return np.broadcast_to(np.True_, shape)
    return coverage(sources, shape)
