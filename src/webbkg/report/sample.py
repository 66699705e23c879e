"""Pixels of a subtraction that its metrics look at: rows of the target, background taken off.

Not every row (see `webbkg.numerics.lines`), and no plane is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.numerics.lines import MOST_INTEGRATIONS, SAMPLE_PIXELS, sampled_lines
from webbkg.numerics.planes import PLANES, PlaneSource
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SOSS_LAST_COLUMN
from webbkg.results import Background, BoolImage, Outcome, SossResult, TemplateResult

Values = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]

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
class Sample:
    """Sky pixels of the result, and what they were taken from.

    Attributes
    ----------
    residual, err, expected, background : (n,) float32
        SCI of the result; ERR of the target; that together with the background's own err; the
        background. In the target's unit. Where the target quotes no ERR, `err` is the scatter.
    row, column, integration : (n,) int32
        Where they are.
    shape : (integrations, rows, columns)
        Of the target.
    looked_at : int
        Pixels of the sample, sky or not, that see light.
    newly_flagged : int
        Those of them that got DO_NOT_USE.
    quoted : bool
        Whether the target quotes an ERR.
    lift : float
        SOSS: by how much the star's wings may lift the sky, in the target's unit; infinite where
        no row is far enough from the star to say.
    """

    residual: Values
    err: Values
    expected: Values
    background: Values
    row: Places
    column: Places
    integration: Places
    shape: tuple[int, int, int]
    looked_at: int
    newly_flagged: int
    quoted: bool = True
    lift: float = 0.0

    def where(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        """Take some of its pixels."""
        names = ("residual", "err", "expected", "background", "row", "column", "integration")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

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
    whole = _read(planes, background, integrations, pixels)
    if isinstance(outcome.result, TemplateResult):
        whole = replace(whole, residual=whole.residual - np.float32(outcome.result.level_left))
    if outcome.sky_mask is not None:
        return whole.where(_masked(whole, outcome.sky_mask))
    if isinstance(outcome.result, SossResult):
        return _away_from_star(whole.where(whole.column <= SOSS_LAST_COLUMN))
    return whole.where(_unclipped(whole.residual))


def _read(planes: PlaneSource, background: Background, most: int, pixels: int) -> Sample:
    """Read every usable pixel of the sampled rows."""
    number, _, columns = shape = planes.shape
    chosen = np.unique(np.linspace(0, number - 1, min(number, most)).round())
    lines = sampled_lines(shape, most, pixels)
    names = [name for name in PLANES if name == "SCI" or planes.has(name)]
    stack = np.zeros((3, len(chosen), len(lines), columns), np.uint32)
    stack.view(np.float32)[1] = np.nan
    room = np.empty((len(names), 1, columns), np.uint32)
    for i, integration in enumerate(chosen.astype(int)):
        for j, line in enumerate(lines):
            found = planes.rows(names, integration, line, line + 1, room)
            for name, values in zip(names, found, strict=True):
                stack[PLANES.index(name), i, j] = values.reshape(-1).view(np.uint32)
    sci, err = stack[:2].view(np.float32)
    return _usable(sci, err, stack[2], background, (chosen.astype(np.int32), lines), shape)


def _usable(
    sci: Values,
    err: Values,
    dq: npt.NDArray[np.uint32],
    background: Background,
    places: tuple[npt.NDArray[np.int32], range],
    shape: tuple[int, int, int],
) -> Sample:
    """Take the background off, and keep what can be used."""
    integrations, sampled = places
    lines = np.array(sampled)
    sky = np.stack([background.sky(one, lines) for one in integrations.tolist()])
    own, flags, covered = (
        background.err_of(sampled),
        background.dq[lines],
        background.covered[lines],
    )
    with np.errstate(invalid="ignore", over="ignore"):
        residual = sci - sky
        lit = (dq & REFERENCE_PIXEL) == 0
        before = lit & ((dq & DO_NOT_USE) == 0) & np.isfinite(sci)
        usable = before & covered & np.isfinite(residual) & ((flags & DO_NOT_USE) == 0)
        valid = np.isfinite(err) & (err > 0)
        quoted = bool(np.count_nonzero(usable & valid) * 2 >= np.count_nonzero(usable))
        usable &= valid | (not quoted)
        err = err if quoted else np.full_like(err, _scatter(residual[usable]))
        expected = np.hypot(err, np.where(np.isfinite(own), own, 0))
    integration, line, column = np.nonzero(usable)
    return Sample(
        residual=residual[usable],
        err=err[usable],
        expected=expected[usable],
        background=sky[usable],
        row=lines[line].astype(np.int32),
        column=column.astype(np.int32),
        integration=integrations[integration],
        shape=shape,
        looked_at=int(np.count_nonzero(lit)),
        newly_flagged=int(np.count_nonzero(before & covered & ((flags & DO_NOT_USE) != 0))),
        quoted=quoted,
    )


def _masked(sample: Sample, sky_mask: BoolImage) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = sky_mask[sample.row, sample.column]
    return chosen


def _away_from_star(sample: Sample) -> Sample:
    """Take the rows of each block of columns in which least is left, for the background's size.

    It is judged by averages over the block, so that hardly any noise decides. How much more is
    left in as many rows that come next tells how much starlight there may be in them.
    """
    rank = _ranks(sample)
    dark = sample.where(rank < DARK_SHARE)
    following = sample.residual[(rank >= DARK_SHARE) & (rank < 2 * DARK_SHARE)]
    if len(dark) == 0 or following.size == 0:
        return dark
    if sample.shape[1] < FREE_ROWS:
        return replace(dark, lift=np.inf)
    return replace(dark, lift=float(np.median(following)) - float(np.median(dark.residual)))


def _ranks(sample: Sample) -> npt.NDArray[np.floating]:
    """Give each pixel the rank, from 0 to 1, of its row in its block of columns; 2 for none."""
    _, rows, columns = sample.shape
    blocks = -(-columns // DARK_COLUMNS)
    place = sample.column // DARK_COLUMNS * rows + sample.row
    size = blocks * rows
    number = np.bincount(place, minlength=size)
    left = np.bincount(place, sample.residual, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = left / np.bincount(place, np.abs(sample.background), minlength=size)
    ratio = np.where(number >= DARK_COLUMNS // 4, ratio, np.nan).reshape(blocks, rows)
    known = np.isfinite(ratio)
    order = np.argsort(np.argsort(np.where(known, ratio, np.inf), axis=1), axis=1)
    rank = np.where(known, order / np.maximum(known.sum(axis=1, keepdims=True), 1), 2)
    found: npt.NDArray[np.floating] = rank.reshape(-1)[place]
    return found


def robust_level(values: Values) -> tuple[float, float]:
    """Tell the level of the sky among finite values, and its robust scatter; NaN of none.

    Sources and defects are clipped.
    """
    sky = values[_unclipped(values)]
    return (float(np.median(sky)), _scatter(sky)) if sky.size else (float("nan"), float("nan"))


def _unclipped(values: Values) -> npt.NDArray[np.bool_]:
    """Take what no robust clipping takes for a source or a defect."""
    low, high = -np.inf, np.inf
    # The bounds of the clip come of every fourth pixel: their error is small against its width.
    part = values[::4] if len(values) > SAMPLE_PIXELS // 8 else values
    kept = part
    for _ in range(CLIP_ROUNDS):
        if kept.size == 0:
            break
        centre = float(np.median(kept))
        width = CLIP * _scatter(kept)
        low, high = centre - width, centre + width
        kept = part[(part >= low) & (part <= high)]
    chosen: npt.NDArray[np.bool_] = (values >= low) & (values <= high)
    return chosen


def _scatter(values: Values) -> float:
    if values.size == 0:
        return float("nan")
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
