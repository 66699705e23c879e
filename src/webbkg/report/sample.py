"""Pixels of a subtraction that its metrics look at: rows of the target, background taken off.

Not every row (see `webbkg.numerics.lines`), and no plane is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.numerics.lines import MOST_INTEGRATIONS, SAMPLE_PIXELS, sampled_lines
from webbkg.numerics.order import median, median_of_sorted
from webbkg.numerics.planes import PLANES, PlaneSource
from webbkg.numerics.words import make_native
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SOSS_LAST_COLUMN
from webbkg.results import Background, Outcome, SossResult, TemplateResult

Values = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]

CLIP = 3.0
"""Image mode: what is further from the sky than this is a source (robust standard deviations)."""

CLIP_ROUNDS = 5

DARK_COLUMNS, DARK_SHARE = 32, 0.25
"""SOSS: in blocks of so many columns this share of the rows is looked at, those with the least
light of the star: its wings are everywhere, and no template has them."""

FREE_ROWS = 128
"""SOSS: a strip of fewer rows, SUBSTRIP96, has none that is free of the star's wings: 10 % of the
sky in simulations. Light that is left there is not held against the background."""

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian in median absolute deviations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Rows of a target without its background.

    Attributes
    ----------
    residual, err, expected, background : (integrations, lines, columns) float32
        SCI of the result; ERR of the target; that together with the background's own err; the
        background. In the target's unit. Where the target quotes no ERR, `err` is the scatter.
    usable : (integrations, lines, columns) bool
        True where all of them are known and no flag speaks against it.
    integration, row : (integrations,) and (lines,) int32
        Their numbers in the target.
    shape : (integrations, rows, columns)
        Of the target.
    looked_at : int
        Pixels, usable or not, that see light.
    newly_flagged : int
        Those of them that got DO_NOT_USE.
    quoted : bool
        Whether the target quotes an ERR.
    """

    residual: Values
    err: Values
    expected: Values
    background: Values
    usable: Marks
    integration: Places
    row: Places
    shape: tuple[int, int, int]
    looked_at: int
    newly_flagged: int
    quoted: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Sky pixels of the result, and what they were taken from.

    All n of them are in the order of the lines. What nobody asks for is not gathered.

    Attributes
    ----------
    lines : Lines
        Where they are from.
    sky : (integrations, lines, columns) bool
        True where sky, all of it usable.
    lift : float
        SOSS: by how much the star's wings may lift the sky, in the target's unit; infinite where
        no row is far enough from the star to say.
    """

    lines: Lines
    sky: Marks
    lift: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Integrations, rows and columns of the target."""
        return self.lines.shape

    @cached_property
    def residual(self) -> Values:
        """SCI of the result: (n,)."""
        return self.lines.residual[self.sky]

    @cached_property
    def err(self) -> Values:
        """ERR of the target: (n,)."""
        return self.lines.err[self.sky]

    @cached_property
    def expected(self) -> Values:
        """That together with the background's own err: (n,)."""
        return self.lines.expected[self.sky]

    @cached_property
    def background(self) -> Values:
        """What was subtracted: (n,)."""
        return self.lines.background[self.sky]

    @cached_property
    def integration(self) -> Places:
        """In which integration each is: (n,)."""
        return self.spread(self.lines.integration[:, np.newaxis, np.newaxis])

    @cached_property
    def row(self) -> Places:
        """In which row of the target: (n,)."""
        return self.spread(self.lines.row[:, np.newaxis])

    @cached_property
    def column(self) -> Places:
        """In which column: (n,)."""
        return self.spread(np.arange(self.shape[2], dtype=np.int32))

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give each pixel what holds for its integration, line or column: (n,)."""
        return np.broadcast_to(values, self.sky.shape)[self.sky]

    def cut(self, axis: int, first: int, length: int, parts: int) -> list[Values]:
        """Cut the residuals along rows (axis 1) or columns (2) into equal parts of a length.

        The first part begins in row or column `first` of the target.
        """
        places = self.lines.row if axis == 1 else np.arange(self.shape[2])
        ends = np.searchsorted((places - first) * parts // length, np.arange(parts + 1)).tolist()
        cuts = [(*(slice(None),) * axis, slice(*piece)) for piece in pairwise(ends)]
        return [self.lines.residual[one][self.sky[one]] for one in cuts]

    def __len__(self) -> int:
        return len(self.residual)


def draw(
    planes: PlaneSource,
    background: Background,
    outcome: Outcome,
    integrations: int = MOST_INTEGRATIONS,
    pixels: int = SAMPLE_PIXELS,
) -> Sample:
    """Read the sample of a target, take its background off, and keep the sky.

    Parameters
    ----------
    planes : PlaneSource
        SCI, and ERR and DQ if it has them, of the target before the subtraction.
    background : Background
        What is subtracted.
    outcome : Outcome
        Says what is sky, and which even sky was to stay and is no part of the residual: the mask of a
        fit; in SOSS, in the columns of the fit, the rows
        with the least light; in image mode what is left of robust clipping.
    integrations, pixels : int
        At most so many integrations, and about so many pixels of all of them, are looked at.
    """
    lines = _read(planes, background, integrations, pixels)
    if isinstance(outcome.result, TemplateResult):
        lines = replace(lines, residual=lines.residual - np.float32(outcome.result.level_left))
    if outcome.sky_mask is not None:
        return Sample(lines=lines, sky=lines.usable & outcome.sky_mask[lines.row])
    if isinstance(outcome.result, SossResult):
        return _away_from_star(lines)
    low, high = _clip(lines.residual[lines.usable])
    within = (lines.residual >= low) & (lines.residual <= high)
    return Sample(lines=lines, sky=lines.usable & within)


def _read(planes: PlaneSource, background: Background, most: int, pixels: int) -> Lines:
    """Read the sampled rows."""
    number, _, columns = shape = planes.shape
    chosen = np.unique(np.linspace(0, number - 1, min(number, most)).round()).astype(np.int32)
    lines = sampled_lines(shape, most, pixels)
    names = [name for name in PLANES if name == "SCI" or planes.has(name)]
    stack = np.empty((len(names), len(chosen), len(lines), columns), np.uint32)
    as_in_fits = False
    for i, integration in enumerate(chosen.tolist()):
        for j, line in enumerate(lines):
            words = stack[:, i, j : j + 1]
            as_in_fits = planes.read(names, integration, line, line + 1, words)
    if as_in_fits:  # then every row is
        for name, words in zip(names, stack, strict=True):
            make_native(words.reshape(-1), name == "DQ")
    found = dict(zip(names, stack, strict=True))
    sci = found["SCI"].view(np.float32)
    err = found["ERR"].view(np.float32) if "ERR" in found else np.full_like(sci, np.nan)
    dq = found.get("DQ", np.zeros_like(stack[0]))
    return _without_background((sci, err, dq), background, (chosen, lines), shape)


def _without_background(
    planes: tuple[Values, Values, npt.NDArray[np.uint32]],
    background: Background,
    places: tuple[Places, range],
    shape: tuple[int, int, int],
) -> Lines:
    """Take the background off SCI, ERR and DQ of some rows, and tell what can be used."""
    sci, err, dq = planes
    integrations, lines = places
    rows = slice(lines.start, lines.stop, lines.step)
    sky = np.stack([background.sky(one, rows) for one in integrations.tolist()])
    own, covered = background.err_of(lines), background.covered[rows]
    flagged = covered & ((background.dq[rows] & DO_NOT_USE) != 0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        residual = sci - sky
        before = np.isfinite(sci) & ((dq & (REFERENCE_PIXEL | DO_NOT_USE)) == 0)
        usable = before & (covered & ~flagged) & np.isfinite(residual)
        valid = (err > 0) & (err < np.inf)
        quoted = bool(np.count_nonzero(usable & valid) * 2 >= np.count_nonzero(usable))
        usable &= valid | (not quoted)
        if not quoted:
            left = residual[usable]
            err = np.full_like(err, scatter_about(median(left), left))
        expected = _with_own(err, own)
    return Lines(
        residual=residual,
        err=err,
        expected=expected,
        background=sky,
        usable=usable,
        integration=integrations,
        row=np.array(lines, np.int32),
        shape=shape,
        looked_at=int(np.count_nonzero((dq & REFERENCE_PIXEL) == 0)),
        newly_flagged=int(np.count_nonzero(before & flagged)),
        quoted=quoted,
    )


def _with_own(err: Values, own: Values) -> Values:
    """Add the background's own errors in quadrature, where finite, in a fifth of `hypot`'s time."""
    own = own.copy()
    own[~np.isfinite(own)] = 0
    total: Values = own / err
    total *= total
    total += 1
    np.sqrt(total, out=total)
    total *= err
    return np.fmax(total, own, out=total)  # which it is where err is 0


def _away_from_star(lines: Lines) -> Sample:
    """Take the rows of each block of columns in which least is left, for the background's size.

    It is judged by averages over the block, so that hardly any noise decides. How much more is
    left in as many rows that come next tells how much starlight there may be in them.
    """
    fitted = np.arange(lines.shape[2]) <= SOSS_LAST_COLUMN
    usable = lines.usable & fitted
    rank = _ranks(lines, usable)
    dark = Sample(lines=lines, sky=usable & (rank < DARK_SHARE))
    following = lines.residual[usable & (rank >= DARK_SHARE) & (rank < 2 * DARK_SHARE)]
    if len(dark) == 0 or following.size == 0:
        return dark
    if lines.shape[1] < FREE_ROWS:
        return replace(dark, lift=np.inf)
    return replace(dark, lift=median(following) - median(dark.residual))


def _ranks(lines: Lines, usable: Marks) -> npt.NDArray[np.floating]:
    """Give each pixel, (lines, columns), the rank, 0 to 1, of its line in its block; 2 for none."""
    starts = np.arange(0, lines.shape[2], DARK_COLUMNS)

    def sums(values: Values) -> npt.NDArray[np.float64]:
        known = np.where(usable, values, np.float32(0))
        total: npt.NDArray[np.float64] = np.add.reduceat(known, starts, axis=2, dtype=np.float64)
        return total.sum(axis=0)  # type: ignore[no-any-return]

    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = sums(lines.residual) / sums(np.abs(lines.background))
    number = np.add.reduceat(usable, starts, axis=2, dtype=np.int64).sum(axis=0)
    known = np.isfinite(ratio) & (number >= DARK_COLUMNS // 4)
    order = np.argsort(np.argsort(np.where(known, ratio, np.inf), axis=0), axis=0)
    rank = np.where(known, order / np.maximum(known.sum(axis=0), 1), 2)
    return np.repeat(rank, DARK_COLUMNS, axis=1)[:, : lines.shape[2]]


def robust_level(values: Values) -> tuple[float, float]:
    """Tell the level of the sky among finite values, (n,), and its robust scatter; NaN of none.

    Sources and defects are clipped.
    """
    low, high = _clip(values)
    sky = values[(values >= low) & (values <= high)]
    level = median(sky)
    return level, scatter_about(level, sky)


def _clip(values: Values) -> tuple[float, float]:
    """Tell the bounds of what no robust clipping takes for a source or a defect."""
    # They come of every fourth pixel: their error is small against the width of the clip.
    ordered = np.sort(values[::4] if len(values) > SAMPLE_PIXELS // 8 else values)
    low, high = -np.inf, np.inf
    first, last, before = 0, len(ordered), (-1, -1)
    for _ in range(CLIP_ROUNDS):
        if first == last or (first, last) == before:
            break
        kept, before = ordered[first:last], (first, last)
        centre = median_of_sorted(kept)
        width = CLIP * scatter_about(centre, kept)
        low, high = centre - width, centre + width
        first = int(np.searchsorted(ordered, np.float32(low)))
        last = int(np.searchsorted(ordered, np.float32(high), "right"))
    return low, high


def scatter_about(level: float, values: Values) -> float:
    """Tell the robust standard deviation of values, (n,), about their level; NaN of none."""
    away = values - np.float32(level)
    np.abs(away, out=away)
    return MAD_TO_SIGMA * median(away, overwrite=True)
