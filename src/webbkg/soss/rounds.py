"""SOSS, robust fit: sky, wings of the star and 1/f noise together, on one deep frame.

The frame is fitted by generalised least squares over and over, as what is known of the star
decides what is masked: at first with the average of the library, in the last rounds with all
of it. The template is chosen by likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # type: ignore[import-untyped]

from webbkg.results import BoolImage
from webbkg.soss import gls, wings
from webbkg.soss.flicker import NONE, Flicker, fit_flicker
from webbkg.soss.gls import Layout, Normal
from webbkg.soss.library import Library, Splits, find_jump, without_infinities
from webbkg.soss.stack import CLIP, MAD_TO_SIGMA, Deep

Values = npt.NDArray[np.float64]

ROUNDS = 5
FULL_ROUNDS = 2  # the last of them, with the whole library
ROUNDS_BY_SHAPE = 2  # the first, which tell a trace from its wings by its width alone
GUARD = 2  # columns on either side of the jump
HATS = 3  # the wings' strength changes along dispersion, linearly between so many columns
CHOICES = (2, 3)  # rounds in which the model of the wings is chosen
WING_ERROR = 0.05  # share of the wings' light that their model may be wrong by, at first
LEAST_WING_ERROR = 0.01
CAUTION = 2.0  # times the wings' error that the residual shows, in the weights
WING_SIDE = 16  # rows and columns over which it is wrong alike
WING_BLOCK = WING_SIDE**2
BRIGHTEST_WINGS = 1.0  # in skies; brighter ones are masked
STANDS_OUT = 4.0  # standard deviations of a mean of 5 x 5 pixels
GROWN = 3  # pixels around what is masked
SHARED_FROM = 1.02  # chi-square from which on there is noise that all integrations share
BLOCK = (32, 16)  # columns, rows of the blocks for a first guess
FAINT_BLOCKS = 0.1  # quantile of them
HALF_COLUMNS = 64  # the halves of the columns are made of blocks so wide
STRAY_PAYS = 12.0
PAYS = 20.0  # chi-square of held-out columns, that more freedom must gain
FOLLOWS = (0.8, 1.25)  # reference pixels move with the lit ones by such a factor
SMOOTHED = 64  # columns over which that is judged


@dataclass(frozen=True)
class Frame:
    """The deep frame and the library, (columns, rows).

    Attributes
    ----------
    deep : Deep
    templates : (templates, columns, rows) float64
        0 where any of them is not usable.
    splits : (templates, rows) int64
        First column of the right side.
    lit : (columns, rows) bool
        Usable for the fit.
    right : (columns,) bool
        The side of a column; columns of the jump belong to none and are not `lit`.
    """

    deep: Deep
    templates: Values
    splits: Splits
    lit: BoolImage
    right: npt.NDArray[np.bool_]

    @property
    def data(self) -> Values:
        """The deep frame's light."""
        return self.deep.mean


@dataclass
class State:
    """What is known so far."""

    sky: Values
    wings: Values
    levels: Values
    floor: float = 0.0
    model: frozenset[str] = frozenset()  # of the wings
    stray: bool = False  # light that no model of the wings has
    wing_error: float = WING_ERROR  # that the residual shows
    wing_share: float = WING_ERROR  # that the weights allow for
    flicker: Flicker | None = None
    reference: Values | None = None
    light: Values | None = None
    mask: BoolImage = field(default_factory=lambda: np.empty((0, 0), np.bool_))


def make_frame(deep: Deep, library: Library) -> Frame:
    """Lay the library under the deep frame."""
    finite = without_infinities(library)
    splits = np.stack([find_jump(template) for template in finite])
    turned = np.ascontiguousarray(finite.transpose(0, 2, 1), np.float64)
    usable = (turned > 0).all(axis=0)
    turned[:, ~usable] = 0.0
    columns = np.arange(turned.shape[1])
    jump = (columns >= splits.min() - GUARD) & (columns < splits.max() + GUARD)
    lit = usable & (deep.count > 0) & ~deep.reference & ~jump[:, np.newaxis]
    return Frame(deep, turned, splits, lit, columns >= splits.max())


class Fit:
    """One fit, round by round."""

    def __init__(self, frame: Frame, threads: int, *, mixed: bool = False) -> None:
        self.frame = frame
        self.threads = threads
        self.mixed = mixed
        self.freedom = sloped(frame.templates) if mixed else frame.templates
        self.pattern: Values = frame.templates.mean(axis=0)[np.newaxis]
        columns, _ = frame.data.shape
        self.hats = wings.slopes_along(columns, HATS)
        lit = frame.lit.astype(np.float64)
        self.lit_in_box = {
            size: np.maximum(
                np.rint(ndimage.uniform_filter(lit, size, mode="constant") * size**2), 1
            )
            for size in (3, 5)
        }
        sky = self._first_guess()
        self.state = State(sky, np.zeros_like(sky), np.zeros(columns))

    def run(self) -> Solution:
        """Go through all rounds; the solution is that of the last."""
        for number in range(ROUNDS - 1):
            self._next(number)  # what it found is in the state; its images are not kept
        return self._next(ROUNDS - 1)

    def _next(self, number: int) -> Solution:
        full = number >= ROUNDS - FULL_ROUNDS
        solve = mix if full and self.mixed else choose
        return self._round(number, self.freedom if full else self.pattern, solve)

    def solve_again(
        self, solution: Solution, templates: Values, weights: Values | None = None
    ) -> Solution:
        """Solve with each of other templates, or with other weights, and all else as it was."""
        weights = solution.weights if weights is None else weights
        moments = gls.find_moments(
            self.frame.data, weights, templates, solution.basis, self.threads
        )
        layout = replace(solution.layout, templates=len(templates))
        again = choose(self.tie(moments), layout, self.flicker)
        return solution.beside(again, weights, templates)

    def _first_guess(self) -> Values:
        """Take the sky from the faintest blocks of each side."""
        frame, pattern = self.frame, self.pattern[0]
        ratio = np.where(frame.lit, frame.data / np.where(pattern > 0, pattern, 1.0), np.nan)
        sides = (~frame.right, frame.right)
        left, right = (_faintest(ratio[side]) for side in sides)
        return np.asarray(np.where(frame.right[:, np.newaxis], right, left) * pattern)

    def variance(self) -> Values:
        """Independent noise of the deep frame's pixels."""
        state, deep = self.state, self.frame.deep
        single = deep.law.variance(state.sky + state.wings)
        return np.asarray(single / np.maximum(deep.count, 1) + state.floor**2)

    def _round(self, number: int, templates: Values, solve: Solve) -> Solution:
        frame, state = self.frame, self.state
        excess = frame.data - state.sky - state.levels[:, np.newaxis]
        variance = self.variance()
        state.light = self._find_light(number, excess, variance)
        choosing = number in CHOICES
        compact = np.zeros_like(state.light)
        if choosing or "compact" in state.model:
            compact = self._find_compact(excess, variance)
        images = wings.basis(state.light, compact, orders=choosing or "orders" in state.model)
        state.mask = self._find_mask(number, excess, variance)
        weights = np.where(
            state.mask, 1 / (variance + WING_BLOCK * (state.wing_share * state.wings) ** 2), 0.0
        )
        if state.flicker is None and len(frame.deep.differences):
            state.flicker, state.reference = measure_flicker(frame, state)
        if choosing:
            state.model, state.stray = self._choose_model(weights, images)
        basis, tie = wings.compress(images, state.model, HATS)
        moments = gls.find_moments(frame.data, weights, templates, basis, self.threads)
        layout = Layout(len(templates), len(basis), frame.right, self.hats, tie)
        solution = solve(self.tie(moments), layout, self.flicker)
        self._adopt(solution, templates, basis)
        self._look_at_residual(number, variance)
        template = templates[solution.best]
        return replace(solution, weights=weights, basis=basis, images=images, template=template)

    def _choose_model(self, weights: Values, images: Values) -> tuple[wings.Model, bool]:
        """Give the wings the freedom that held-out columns pay for."""
        frame = self.frame
        moments = self.tie(
            gls.find_moments(frame.data, weights, self.freedom, images, self.threads)
        )
        free = np.eye(len(images) * HATS)
        layout = Layout(len(self.freedom), len(images), frame.right, self.hats, free)
        return what_pays(moments, layout, self.flicker)

    def _find_compact(self, excess: Values, variance: Values) -> Values:
        frame, state = self.frame, self.state
        known = (frame.deep.count > 0) & ~frame.deep.reference
        rest, sky = (wings.bin_columns(one, known) for one in (excess, state.sky))
        noise = math.sqrt(float(np.median(variance[frame.lit])) / wings.BIN)
        return wings.compact_light(rest, noise, sky)

    @property
    def flicker(self) -> Flicker:
        """Covariance of the deep frame's column levels."""
        return (self.state.flicker or NONE).over(self.frame.deep.integrations)

    def tie(self, moments: Values) -> Values:
        """Let reference pixels tell of the column levels, where they follow."""
        if self.state.reference is None:
            return moments
        level, weight = self.state.reference
        return gls.add_reference(moments, level, weight)

    def _find_light(self, number: int, excess: Values, variance: Values) -> Values:
        frame, state = self.frame, self.state
        known = (frame.deep.count > 0) & ~frame.deep.reference
        binned = wings.bin_columns(excess, known)
        noise = math.sqrt(float(np.median(variance[frame.lit])) / wings.BIN)
        before = None
        if number >= ROUNDS_BY_SHAPE:
            before = wings.bin_columns(state.wings, known)
        return wings.trace_light(binned, noise, before)

    def _find_mask(self, number: int, excess: Values, variance: Values) -> BoolImage:
        """Pixels that are sky, or wings that are fainter than it."""
        frame, state = self.frame, self.state
        lit = frame.lit
        rest = np.where(lit, excess - state.wings, 0.0)
        coarse, noise = self._box(rest, variance, 5)
        if number == 0:
            bad = coarse > np.maximum(3 * noise, 0.2 * state.sky)
        else:
            fine, fine_noise = self._box(rest, variance, 3)
            slack = 2 * state.wing_share * state.wings
            bad = coarse > np.hypot(STANDS_OUT * noise, slack)
            bad |= fine > np.hypot((STANDS_OUT + 0.5) * fine_noise, slack)
            bad |= np.abs(rest) > 5 * np.sqrt(variance + slack**2)
            bad |= state.wings > BRIGHTEST_WINGS * state.sky
            bad |= self._faint_traces(rest, variance, slack)
            cores = ndimage.maximum_filter1d(state.light, 9, axis=1) > 0
            bad |= np.repeat(cores, wings.BIN, axis=0)[: len(bad)]
        grown = ndimage.binary_dilation(bad & lit, iterations=GROWN)
        return np.asarray(lit & ~grown)

    def _faint_traces(self, rest: Values, variance: Values, slack: Values) -> BoolImage:
        lit = self.frame.lit
        noise = math.sqrt(float(np.median(variance[lit])) / wings.BIN)
        binned, slack = (wings.bin_columns(one, lit) for one in (rest, slack))
        found = wings.faint_traces(binned, noise, STANDS_OUT, slack)
        return np.repeat(found, wings.BIN, axis=0)[: len(rest)]

    def _box(self, image: Values, variance: Values, size: int) -> tuple[Values, Values]:
        """Mean of the lit pixels in boxes, and its standard deviation."""
        number = self.lit_in_box[size]
        total = ndimage.uniform_filter(image, size, mode="constant") * size**2
        return total / number, np.sqrt(variance / number)

    def _adopt(self, solution: Solution, templates: Values, basis: Values) -> None:
        state, frame = self.state, self.frame
        state.sky = solution.sky(templates, frame.right)
        state.levels = solution.levels
        strength = (solution.layout.tie @ solution.strength).reshape(len(basis), len(self.hats))
        columns = len(frame.data)
        total = np.zeros_like(state.sky)
        for hat, along in zip(strength.T, self.hats, strict=True):
            if hat.any():
                total += along[:, np.newaxis] * wings.unbin(
                    np.einsum("k,kbr->br", hat, basis), columns
                )
        state.wings = total

    def residual(self) -> Values:
        """The deep frame without all that is modelled."""
        state = self.state
        return self.frame.data - state.sky - state.wings - state.levels[:, np.newaxis]

    def _look_at_residual(self, number: int, variance: Values) -> None:
        """Measure noise that all integrations share; of one alone, its column levels too."""
        state, frame = self.state, self.frame
        dark = state.mask & (state.wings < 0.1 * state.sky)
        if number == 0 or np.count_nonzero(dark) < 1000:
            return
        residual = self.residual()
        known = variance - state.floor**2
        pull = np.median(np.abs(residual[dark]) / np.sqrt(known[dark]))
        excess = (MAD_TO_SIGMA * float(pull)) ** 2 - SHARED_FROM
        state.floor = math.sqrt(max(excess, 0.0) * float(np.median(known[dark])))
        state.wing_error = measure_wing_error(residual, state, self.variance())
        state.wing_share = max(CAUTION * state.wing_error, LEAST_WING_ERROR)
        if not len(frame.deep.differences):
            state.flicker = _flicker_of_one(residual + state.levels[:, np.newaxis], state, variance)


@dataclass(frozen=True)
class Solution:
    """What one round found.

    Attributes
    ----------
    best : int
        The template of the least chi-square.
    scales : (templates, 2) float64
    covariances : (templates, 2, 2) float64
    chi2 : (templates,) float64
    strength : (n,) float64
        Of the wings, with the best template.
    levels : (columns,) float64
        Of the columns, with the best template.
    oddness : float
        Of these; see `column_levels`.
    mixed : bool
        The scales are weights, and the sky is the sum of all templates. There is one chi-square.
    template : (columns, rows) float64
        The best one.
    """

    best: int
    scales: Values
    covariances: Values
    chi2: Values
    strength: Values
    levels: Values
    oddness: float
    normal: Normal
    layout: Layout
    weights: Values = field(default_factory=lambda: np.empty(0))
    basis: Values = field(default_factory=lambda: np.empty(0))
    images: Values = field(default_factory=lambda: np.empty(0))
    template: Values = field(default_factory=lambda: np.empty(0))
    mixed: bool = False

    def sky(self, templates: Values, right: npt.NDArray[np.bool_]) -> Values:
        """Scale the best of the templates it was made with, or add all of a mixture up."""
        if not self.mixed:
            return _on_sides(self.scales[self.best], templates[self.best], right)
        total: Values = np.zeros_like(templates[0])
        for weights, template in zip(self.scales, templates, strict=True):
            if weights.any():
                total += _on_sides(weights, template, right)
        return total

    def beside(self, other: Solution, weights: Values, templates: Values) -> Solution:
        """Return another one, of these templates with these weights and the wings of this one."""
        return replace(
            other,
            weights=weights,
            basis=self.basis,
            images=self.images,
            template=templates[other.best],
        )


def _on_sides(scales: Values, template: Values, right: npt.NDArray[np.bool_]) -> Values:
    """Scale a template on the left and the right side."""
    return np.asarray(np.where(right, scales[1], scales[0])[:, np.newaxis] * template)


Solve = Callable[[Values, Layout, Flicker], Solution]


def choose(moments: Values, layout: Layout, flicker: Flicker) -> Solution:
    """Solve with each template, and take the most likely one, the first of equals."""
    normal = gls.normal_equations(moments, layout, flicker)
    chosen = [layout.of_template(index) for index in range(layout.templates)]
    solved = [gls.solve(normal, one) for one in chosen]
    chi2 = np.array(
        [normal.chi2(found, one) for (found, _), one in zip(solved, chosen, strict=True)]
    )
    best = int(np.argmin(chi2))
    found = solved[best][0]
    levels, oddness = gls.column_levels(moments, layout, flicker, found, chosen[best])
    return Solution(
        best=best,
        scales=np.stack([one[:2] for one, _ in solved]),
        covariances=np.stack([one[:2, :2] for _, one in solved]),
        chi2=chi2,
        strength=found[2:],
        levels=levels,
        oddness=oddness,
        normal=normal,
        layout=layout,
    )


def mix(moments: Values, layout: Layout, flicker: Flicker) -> Solution:
    """Solve with all templates at once, none of them negative."""
    normal = gls.normal_equations(moments, layout, flicker)
    every = np.arange(len(normal.vector))
    found, covariance = gls.solve(normal, every, free=0)
    levels, oddness = gls.column_levels(moments, layout, flicker, found, every)
    many = 2 * layout.templates
    blocks = covariance[:many, :many].reshape(layout.templates, 2, layout.templates, 2)
    return Solution(
        best=0,
        scales=found[:many].reshape(-1, 2),
        covariances=np.einsum("tatb->tab", blocks),
        chi2=np.array([normal.chi2(found, every)]),
        strength=found[many:],
        levels=levels,
        oddness=oddness,
        normal=normal,
        layout=layout,
        mixed=True,
    )


def sloped(templates: Values) -> Values:
    """Give each template's two slopes along the rows, whose sum it is: (2 * templates, ...).

    The first fall from 1 in the first row to 0 in the last, the others rise.
    """
    rise = np.linspace(0, 1, templates.shape[2])
    return np.concatenate([templates * (1 - rise), templates * rise])


def column_halves(columns: int) -> list[npt.NDArray[np.bool_]]:
    """Cut the columns in two halves, every other block of `HALF_COLUMNS`."""
    even = np.arange(columns) // HALF_COLUMNS % 2 == 0
    return [even, ~even]


def what_pays(moments: Values, layout: Layout, flicker: Flicker) -> tuple[wings.Model, bool]:
    """Choose the model of the wings that predicts each half of the columns best from the other.

    One extension after the other, as long as one pays. The sky may meanwhile be any mixture of
    the templates, lest the wings make up for a template. The second tells whether stray light
    would pay as well.
    """
    halves = [
        gls.normal_equations(moments, layout, flicker, half) for half in column_halves(len(moments))
    ]

    def cost(model: wings.Model) -> float:
        tied = replace(layout, tie=wings.tie(model, len(layout.hats)))
        return gls.held_out(halves, tied)

    model: wings.Model = frozenset()
    best = cost(model)
    while more := wings.next_extensions(model):
        costs = {one: cost(model | {one}) for one in more}
        cheapest = min(costs, key=costs.__getitem__)
        if costs[cheapest] > best - PAYS:
            break
        model, best = model | {cheapest}, costs[cheapest]
    return model, cost(model | {wings.STRAY_LIGHT}) < best - STRAY_PAYS


def _faintest(ratio: Values) -> float:
    """Take a low quantile of the medians of blocks; NaN is unknown."""
    height, width = (min(size, part) for size, part in zip(ratio.shape, BLOCK, strict=True))
    down, across = ratio.shape[0] // height, ratio.shape[1] // width
    cut = ratio[: down * height, : across * width].reshape(down, height, across, width)
    blocks = np.sort(cut.transpose(0, 2, 1, 3).reshape(down * across, height * width), axis=1)
    number = np.isfinite(blocks).sum(axis=1)
    enough = number > 0.25 * blocks.shape[1]
    if not enough.any():
        return float(np.median(ratio[np.isfinite(ratio)]))
    medians = blocks[enough, number[enough] // 2]
    return float(np.quantile(medians, FAINT_BLOCKS))


def _in_blocks(image: Values) -> Values:
    """Sum an image over blocks of `WING_SIDE` columns and rows; what is left at the ends is not."""
    columns, rows = (size // WING_SIDE for size in image.shape)
    cut = image[: columns * WING_SIDE, : rows * WING_SIDE]
    return np.asarray(cut.reshape(columns, WING_SIDE, rows, WING_SIDE).sum(axis=(1, 3)))


def measure_wing_error(residual: Values, state: State, variance: Values) -> float:
    """Share of the wings' light that blocks of the residual scatter by, beyond their noise."""
    number = _in_blocks(state.mask.astype(np.float64))
    enough = number > WING_BLOCK / 4
    if not enough.any():
        return WING_ERROR
    mean, noise, light = (
        _in_blocks(np.where(state.mask, one, 0.0))[enough] / number[enough]
        for one in (residual, variance, state.wings)
    )
    noise = noise / number[enough]
    weight = (light / (noise + (WING_ERROR * light) ** 2)) ** 2
    excess = float(weight @ (mean**2 - noise)) / max(float(weight @ light**2), 1e-300)
    return math.sqrt(max(excess, 0.0))


def measure_flicker(frame: Frame, state: State) -> tuple[Flicker, Values | None]:
    """Column noise of one integration, from the differences; reference levels if they follow."""
    deep = frame.deep
    variance = deep.law.variance(state.sky)
    limit = CLIP * np.sqrt(variance + deep.level_variance)
    levels, number = [], []
    for difference in deep.differences:
        good = state.mask & (np.abs(difference) < limit)
        number.append(good.sum(axis=1))
        levels.append(np.where(good, difference, 0).sum(axis=1, dtype=np.float64))
    counts = np.array(number)
    level = np.array(levels) / np.maximum(counts, 1)
    seen = np.asarray((counts >= 8).all(axis=0))
    if np.count_nonzero(seen) < 32:
        return NONE, None
    usual = np.where(state.mask, variance, 0).sum(axis=1) / np.maximum(state.mask.sum(axis=1), 1)
    white = (usual / np.maximum(counts.mean(axis=0), 1))[seen]
    flicker = fit_flicker(level[:, seen], white)
    return flicker, _reference_levels(frame, level, seen)


def _reference_levels(frame: Frame, level: Values, seen: BoolImage) -> Values | None:
    """Tell level and weight of the reference pixels of each column, if they move as others do."""
    deep = frame.deep
    at = deep.reference & (deep.count > 0)
    number = at.sum(axis=1)
    of_reference = np.array(
        [np.where(at, one, 0).sum(axis=1) / np.maximum(number, 1) for one in deep.differences]
    )
    both = seen & (number > 0) & np.isfinite(of_reference).all(axis=0)
    if np.count_nonzero(both) < 4 * SMOOTHED:
        return None
    slow, slow_reference = (
        ndimage.uniform_filter1d(one[:, both], SMOOTHED, axis=1) for one in (level, of_reference)
    )
    factor = float((slow * slow_reference).sum() / max((slow**2).sum(), 1e-300))
    if not FOLLOWS[0] < factor < FOLLOWS[1]:
        return None
    scatter = float(np.var(of_reference[:, both] - level[:, both]))
    usual = number[both].mean()
    weight = number / usual / max(scatter, 1e-300) * deep.integrations
    mean = np.where(at, frame.data, 0).sum(axis=1) / np.maximum(number, 1)
    return np.stack([mean, weight])


def _flicker_of_one(residual: Values, state: State, variance: Values) -> Flicker | None:
    """Column noise of a single integration, from what its columns are left with."""
    number = state.mask.sum(axis=1)
    seen = number >= 8
    if np.count_nonzero(seen) < 32:
        return None
    level = np.where(state.mask, residual, 0).sum(axis=1)[seen] / number[seen]
    white = np.where(state.mask, variance, 0).sum(axis=1)[seen] / number[seen] ** 2
    return fit_flicker((level - level.mean())[np.newaxis], white)
