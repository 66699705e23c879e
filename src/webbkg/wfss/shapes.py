"""What more than one scaled template a sky needs: `WfssOptions.model`.

The freest model is fitted first, and its pixels serve to compare all: a poorer one would throw out
strips that it does not fit. The image is cut into 8 by 8 blocks. Each quarter of them is foretold
by each model as fitted to the rest, and a freer model is better than a simpler one if the
gain in log-likelihood is large and beyond its own standard error, by a jackknife over the blocks.
Of all models the simplest is taken than which none is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.numerics.parallel import split
from webbkg.results import (
    ComponentFit,
    FloatImage,
    ModelTrial,
    RobustFit,
    ScaleFit,
    SkyModel,
    Status,
)
from webbkg.wfss.components import (
    CONSTANT,
    Blocks,
    Design,
    Fitting,
    Sky,
    fit_components,
    solve,
    why_alike,
)
from webbkg.wfss.composite import Composite
from webbkg.wfss.fit_pixels import LINES
from webbkg.wfss.kernels import STRIP
from webbkg.wfss.robust import Common, Pixels

PIECES = (4, 8, 16, 32)
"""Pieces of the splines that are tried."""

STRIPS_OF_PIECE = 4
"""Fewest strips of 16 pixels along dispersion in a piece."""

FEWEST_LINES = 256
"""Pixels across dispersion below which no spline is fitted: each spectrum would be a large part of
what it is fitted to."""

FOLDS = 4

FEWEST_BLOCKS = 16

LEAST_GAIN = 12.5
"""Gain in log-likelihood that makes a freer model better; 5 standard deviations of one number."""

SIGNIFICANT = 3.0
"""Standard errors of a gain that it must exceed."""

LIGHT_EVERYWHERE = "the light of sources is everywhere, and the image alone does not tell it from a sky of another shape"

Doubles = npt.NDArray[np.float64]


class Candidate(NamedTuple):
    """A model: its name, the number of its templates, and its freedom along dispersion."""

    name: str
    templates: int
    freedom: int

    @property
    def pieces(self) -> int:
        """Pieces of its spline."""
        return self.freedom if self.freedom > CONSTANT else 0

    def of_strips(self, templates: int, length: int) -> Doubles:
        """As of `Design`, with columns for as many templates as there are."""
        design = self.design(length).of_strips
        wider = np.zeros((len(design), templates + 1, design.shape[2]))
        wider[:, : self.templates] = design[:, :-1]
        wider[:, -1] = design[:, -1]
        return wider

    def design(self, length: int) -> Design:
        """Give its own."""
        return Design(self.templates, self.freedom, length)

    def sky(self, sky: Sky) -> Sky:
        """Take its templates alone."""
        return sky._replace(templates=sky.templates[: self.templates])


def fit_sky(
    images: Pixels,
    more: Sequence[FloatImage],
    common: Common,
    model: str,
    *,
    shown: Pixels,
    again: Callable[[Pixels], ScaleFit],
    corrected: bool,
    blind: bool = False,
) -> ScaleFit:
    """Fit the scale of a template and what more the sky needs.

    Parameters
    ----------
    images : Pixels
        The values of the fit pixels, the template, and the noise.
    more : sequence of (rows, columns) float32
        Further templates.
    common : Common
        Their counts, axis and threads.
    model : str
        As `WfssOptions.model`, but not template.
    shown : Pixels
        Those that tell of what shape the sky is: `images`, or with what is clean of them.
    again : callable
        How one template alone is fitted.
    corrected : bool
        `again` knows of light of sources: what it says of the scale, once all else is taken off,
        holds.
    blind : bool
        It knows of it from the image alone. Where it finds light everywhere, that cannot be told from
        a sky of another shape, and the template is fitted alone.

    Returns
    -------
    ScaleFit
        That of `again` where one template alone is best, with a `model` that says so.
    """
    found = fit_model(Sky.of(shown, *more), common, model)
    if found.fit is None:
        return replace(again(images), model=found)
    if not corrected:
        return _as_scale_fit(found, found.fit)
    templates = [images.template, *more][: len(found.fit.scales)]
    fit = again(_without(images, Composite(found.fit, templates, [None] * len(templates))))
    if blind and fit.robust is not None and fit.robust.light:
        alone = SkyModel(name="template", trials=found.trials, reason=LIGHT_EVERYWHERE)
        return replace(again(images), model=alone)
    if fit.status is not Status.COMPLETE:
        return replace(fit, model=replace(found, fit=None))
    return _with_scale(fit, found, found.fit)


def _without(images: Pixels, composite: Composite) -> Pixels:
    """Take off what a model has besides the first template."""
    values = np.empty_like(images.values)
    for start, stop in split(len(values), LINES):
        lines = slice(start, stop)
        values[lines] = images.values[lines] - composite.besides(lines)
    return images._replace(values=values)


def _with_scale(fit: ScaleFit, found: SkyModel, components: ComponentFit) -> ScaleFit:
    """Put the scale of a fit of the first template into a model, and what is uncertain of it."""
    covariance = components.covariance.copy()
    light = 0.0 if fit.robust is None else fit.robust.light_err
    covariance[0, 0] += light**2
    error = max(fit.scale_err, math.sqrt(covariance[0, 0]))
    components = replace(
        components, scales=(fit.scale, *components.scales[1:]), covariance=covariance
    )
    return replace(fit, scale_err=error, model=replace(found, fit=components))


def _as_scale_fit(found: SkyModel, fit: ComponentFit) -> ScaleFit:
    told = RobustFit(
        white_err=fit.white_errs[0],
        block_err=fit.block_errs[0],
        marked=fit.marked,
        scatters=fit.scatters,
        noise=fit.noise,
        per_signal=fit.per_signal,
    )
    return ScaleFit(
        status=Status.COMPLETE,
        scale=fit.scales[0],
        scale_err=fit.scale_errs[0],
        chi2_dof=fit.chi2_dof,
        sky_pixels=fit.sky_pixels,
        iterations=fit.iterations,
        stopped=fit.stopped,
        robust=told,
        model=found,
    )


def fit_model(sky: Sky, common: Common, model: str) -> SkyModel:
    """Fit a model of a sky, or choose one.

    Parameters
    ----------
    sky : Sky
        The values of the fit pixels, the templates, and the noise.
    common : Common
        Their counts, axis and threads.
    model : str
        As `WfssOptions.model`: ``+profile`` chooses the pieces of its spline alone, and ``auto``
        all.

    Returns
    -------
    SkyModel
        With no fit where one template alone is best, or nothing else can be fitted; `reason` says
        why that is not what was asked for.
    """
    tried, reasons = candidates(sky, common, model)
    freest = None
    while tried and freest is None:
        freest, reason = _try(sky, common, tried[-1])
        if freest is None:
            reasons.append(f"{tried.pop().name}: {reason}")
    if freest is None:
        return SkyModel(name="template", reason=_joined(reasons))
    comparison = Comparison.of(freest, tried, sky, common)
    best, trials, why = comparison.choose()
    reasons += [why] if why and model == "auto" else []
    if model == "auto" and best.name == "template":
        return SkyModel(name="template", trials=trials, reason=_joined(reasons))
    fit = fit_components(best.sky(sky), common, best.freedom, start=comparison.solution(best))
    if fit.status is not Status.COMPLETE:
        reasons.append(f"{best.name}: {fit.reason}")
        return SkyModel(name="template", trials=trials, reason=_joined(reasons))
    return SkyModel(
        name=best.name,
        pieces=best.pieces,
        fit=fit,
        trials=trials,
        change=comparison.change(best),
        reason=_joined(reasons),
    )


def _joined(reasons: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))


def candidates(sky: Sky, common: Common, model: str) -> tuple[list[Candidate], list[str]]:
    """List the models to be tried, the simplest first; and say why others are not."""
    number = len(sky.templates)
    lines, length = (sky.length(along_x=x) for x in (not common.along_x, common.along_x))
    most = length // (STRIP * STRIPS_OF_PIECE)
    pieces = [one for one in PIECES if one <= most] if lines >= FEWEST_LINES else []
    all_of_them = [
        Candidate("template", 1, 0),
        *([Candidate("templates", number, 0)] if number > 1 else []),
        Candidate("+offset", number, CONSTANT),
        *(Candidate("+profile", number, one) for one in pieces),
    ]
    wanted = [one for one in all_of_them if model in (one.name, "auto")]
    if not wanted:
        return [], [_why_none(model, lines, length)]
    reasons = [f"{one.name}: {why_alike(one.sky(sky), common, one.freedom)}" for one in wanted]
    apart = [one for one, why in zip(wanted, reasons, strict=True) if why.endswith(": ")]
    return apart, [why for why in reasons if not why.endswith(": ")]


def _why_none(model: str, lines: int, length: int) -> str:
    """Say why a model is none that can be tried."""
    if model == "templates":
        return "there is one template alone"
    along = PIECES[0] * STRIP * STRIPS_OF_PIECE
    return (
        f"a profile needs {FEWEST_LINES} pixels across dispersion and {along} along it (got {lines} "
        f"and {length})"
    )


def _try(sky: Sky, common: Common, candidate: Candidate) -> tuple[Fitting | None, str]:
    """Fit a candidate; None, and the reason, where that fails."""
    fitting = Fitting(candidate.sky(sky), common, candidate.freedom, strips_leave=True)
    fit = fitting.run()
    return (fitting, "") if fit.status is Status.COMPLETE else (None, fit.reason)


@dataclass(frozen=True)
class Comparison:
    """Models on the same pixels: for each its design, and its equations block by block.

    Attributes
    ----------
    tried : sequence of Candidate
        The simplest first; the last is the freest.
    designs : list of Design
        Theirs.
    equations : list of (normals, rights)
        Theirs, for the whole of the coefficients.
    totals : (blocks,) float64
        Chi-square of each block with no sky taken off.
    folds : (blocks,) int
        Which quarter a block belongs to.
    blocks : Blocks
        What all that is made of.
    """

    tried: Sequence[Candidate]
    designs: list[Design]
    equations: list[tuple[Doubles, Doubles]]
    totals: Doubles
    folds: npt.NDArray[np.int64]
    blocks: Blocks

    @classmethod
    def of(
        cls, freest: Fitting, tried: Sequence[Candidate], sky: Sky, common: Common
    ) -> Comparison:
        """Compare models on the pixels of a fit of the freest of them."""
        blocks = freest.total_blocks()
        columns, length = blocks.right.shape[-1], sky.length(along_x=common.along_x)
        equations = [blocks.equations(one.of_strips(columns - 1, length)) for one in tried]
        lines, parts = len(blocks.chi2), blocks.parts
        totals = np.concatenate([blocks.chi2[:, part].sum(axis=1) for part in parts])
        row, column = np.arange(lines), np.arange(len(parts))
        folds = (row + column[:, np.newaxis]).reshape(-1) % FOLDS
        designs = [one.design(length) for one in tried]
        return cls(tried, designs, equations, totals, folds, blocks)

    def choose(self) -> tuple[Candidate, tuple[ModelTrial, ...], str]:
        """Return the simplest model than which none is better, what was tried, and why not."""
        if len(self.tried) == 1:
            return self.tried[0], (), ""
        used = np.flatnonzero(np.einsum("bkk->b", self.equations[0][0]))
        if len(used) < FEWEST_BLOCKS:
            why = (
                f"{FEWEST_BLOCKS} blocks with pixels are needed to compare models (got {len(used)})"
            )
            return self.tried[0], (), why
        chi2 = np.array([self._held_out(number)[used] for number in range(len(self.tried))])
        gains = (chi2[0] - chi2) / 2
        trials = tuple(
            ModelTrial(
                name=one.name,
                pieces=one.pieces,
                gain=float(gain.sum()),
                gain_err=_error_of_sum(gain),
            )
            for one, gain in zip(self.tried, gains, strict=True)
        )
        for number, one in enumerate(self.tried):
            more = gains[number + 1 :] - gains[number]
            if not any(_is_better(gain) for gain in more):
                return one, trials, ""
        raise AssertionError  # nothing is freer than the last one

    def _held_out(self, number: int) -> Doubles:
        """Return the chi-square of each block about what the blocks of other folds make of it."""
        (normals, rights), design = self.equations[number], self.designs[number]
        found = np.empty(len(self.totals))
        for fold in range(FOLDS):
            out = self.folds == fold
            normal = normals[~out].sum(axis=0)
            if not (np.diagonal(normal)[: design.templates] > 0).all():
                found[out] = math.inf
                continue
            best = solve(normal, rights[~out].sum(axis=0), design)
            found[out] = self.totals[out] - 2 * rights[out] @ best + (normals[out] @ best) @ best
        return found

    def solution(self, candidate: Candidate) -> Doubles:
        """Return the coefficients of a model."""
        number = self.tried.index(candidate)
        normals, rights = self.equations[number]
        return solve(normals.sum(axis=0), rights.sum(axis=0), self.designs[number])

    def change(self, candidate: Candidate) -> float:
        """Tell by how much a model differs from the first template alone; see `SkyModel`."""
        columns, length = self.blocks.right.shape[-1], self.designs[0].length
        alone = Candidate("template", 1, 0)
        of_alone = alone.of_strips(columns - 1, length)
        normals, rights = self.blocks.equations(of_alone)
        scale = solve(normals.sum(axis=0), rights.sum(axis=0), alone.design(length))
        model = candidate.of_strips(columns - 1, length) @ self.solution(candidate)
        less = model - of_alone @ scale
        normal = self.blocks.normal.sum(axis=0)
        weight = float(normal[:, -1, -1].sum())
        square = float(np.einsum("sc,scd,sd->", less, normal, less)) / weight
        level = float(np.einsum("sc,sc->", normal[:, -1], model)) / weight
        return math.sqrt(max(square, 0.0)) / abs(level) if level else math.nan


def _is_better(gain: Doubles) -> bool:
    """Tell whether blocks gain so much that it is neither small nor chance."""
    return float(gain.sum()) > max(LEAST_GAIN, SIGNIFICANT * _error_of_sum(gain))


def _error_of_sum(values: Doubles) -> float:
    """Standard error of the sum of what blocks have, by a jackknife over them."""
    return math.sqrt(len(values) * float(np.var(values, ddof=1)))
