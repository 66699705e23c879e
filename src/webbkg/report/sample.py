"""Pixels of a subtraction that its metrics look at: rows of the target, background taken off.

Not every row: the error of a median falls with the root of the number of pixels, and
`SAMPLE_PIXELS` make it 0.004 of a pixel's noise, far below any limit. No plane is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.numerics.planes import PlaneSource
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SOSS_LAST_COLUMN
from webbkg.results import Background, BoolImage, Outcome, SossResult

Values = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]

PLANES = ("SCI", "ERR", "DQ")

SAMPLE_PIXELS = 2**17
"""About so many pixels are looked at, over all integrations."""

MOST_INTEGRATIONS = 8
"""So many integrations of a cube are looked at, evenly in time."""

CLIP = 3.0
"""Image mode: what is further from the sky than this is a source (robust standard deviations)."""

CLIP_ROUNDS = 5
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

    def where(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        """Take some of its pixels."""
        names = ("residual", "err", "expected", "background", "row", "column", "integration")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def __len__(self) -> int:
        return len(self.residual)


def draw(planes: PlaneSource, background: Background, outcome: Outcome) -> Sample:
    """Read the sample of a target, take its background off, and keep the sky.

    Parameters
    ----------
    planes : PlaneSource
        SCI, and ERR and DQ if it has them, of the target before the subtraction.
    background : Background
        What is subtracted.
    outcome : Outcome
        Says what is sky: the mask of a WFSS fit; in SOSS what the fit took as sky, below its
        source threshold; in image mode what is left of robust clipping.
    """
    whole = _read(planes, background)
    if outcome.sky_mask is not None:
        return whole.where(_masked(whole, outcome.sky_mask))
    if isinstance(outcome.result, SossResult):
        return whole.where(_below(whole, outcome.result.fit.source_threshold))
    return whole.where(_unclipped(whole.residual))


def _read(planes: PlaneSource, background: Background) -> Sample:
    """Read every usable pixel of the sampled rows."""
    number, rows, columns = shape = planes.shape
    chosen = np.unique(np.linspace(0, number - 1, min(number, MOST_INTEGRATIONS)).round())
    wanted = max(1, SAMPLE_PIXELS // (len(chosen) * columns))
    # An odd step, so that even and odd rows of an amplifier come alike.
    step = max(1, rows // wanted) | 1
    lines = np.arange(min(step // 2, rows - 1), rows, step)
    names = [name for name in PLANES if name == "SCI" or planes.has(name)]
    stack = np.zeros((3, len(chosen), len(lines), columns), np.uint32)
    stack.view(np.float32)[1] = np.nan
    room = np.empty((len(names), 1, columns), np.uint32)
    for i, integration in enumerate(chosen.astype(int)):
        for j, line in enumerate(lines.tolist()):
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
    places: tuple[npt.NDArray[np.int32], npt.NDArray[np.int_]],
    shape: tuple[int, int, int],
) -> Sample:
    """Take the background off, and keep what can be used."""
    integrations, lines = places
    sky, own, flags, covered = (
        getattr(background, name)[lines] for name in ("sci", "err", "dq", "covered")
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
        background=sky[line, column],
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


def _below(sample: Sample, threshold: float) -> npt.NDArray[np.bool_]:
    """Take what lies below a threshold on average over time, in the columns of the SOSS fit.

    One by one the values would be cut where their noise crosses the threshold.
    """
    _, rows, columns = sample.shape
    place = sample.row * columns + sample.column
    number = np.bincount(place, minlength=rows * columns)
    total = np.bincount(place, sample.residual + sample.background, minlength=rows * columns)
    inside: npt.NDArray[np.bool_] = total[place] < threshold * number[place]
    return inside & (sample.column <= SOSS_LAST_COLUMN)


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
