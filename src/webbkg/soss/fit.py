"""SOSS: the template of a library that suits the sky best, scaled on the two sides of its step.

The target streams by, in bands of rows, integration by integration; what is held is
two-dimensional or smaller. Several segments of one exposure are fitted as if concatenated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.errors import InputError, OptionError
from webbkg.numerics import selection
from webbkg.numerics.parallel import available_threads, split
from webbkg.numerics.planes import ArrayPlanes, PartOfRows, PlaneSource, Rows
from webbkg.numerics.selection import Counts, Distribution, Layout, Window
from webbkg.options import (
    DO_NOT_USE,
    REFERENCE_PIXEL,
    SOSS_COUNTER_MEMORY,
    SOSS_LAST_COLUMN,
    SOSS_STEP_COLUMNS,
    SossOptions,
)
from webbkg.results import (
    Background,
    FlagImage,
    FloatImage,
    SideFit,
    Status,
    TemplateFit,
    Variances,
)
from webbkg.soss import kernels
from webbkg.soss.blend import add_up
from webbkg.soss.library import (
    Library,
    Splits,
    as_library,
    cut_to_target,
    find_jump,
    strip_of,
    without_infinities,
)
from webbkg.soss.stream import PLANES, Look, Stream

UNUSABLE = np.uint32(DO_NOT_USE | REFERENCE_PIXEL)
SAMPLED_INTEGRATIONS = 8  # enough to guess where the percentiles lie
SAMPLED_VALUES = 1 << 16
MOST_BINS_OF_THRESHOLD = 1 << 20  # one window may be wide, and so takes one pass
MOST_TEMPLATES_A_PASS = 8  # whose counters, on one thread, always fit the memory


def fit_templates(
    sci: npt.ArrayLike,
    dq: npt.ArrayLike,
    templates: npt.ArrayLike,
    options: SossOptions | None = None,
    *,
    hours: npt.ArrayLike | None = None,
    threads: int | None = None,
) -> TemplateFit:
    """Choose and scale the sky template for a SOSS exposure in memory.

    Parameters
    ----------
    sci : ([integrations,] rows, columns) array_like, float32
        Count rates.
    dq : array_like like `sci`, uint32
        Data-quality flags; DO_NOT_USE (bit 0) and REFERENCE_PIXEL (bit 31) are left out.
    templates : ([templates,] rows, columns) array_like, float32
        The library in the unit of `sci`, or a single template. Of 256 rows a target of 96 rows
        takes rows 10 to 105.
    options : SossOptions, optional
        The method, the percentiles, and whether the scales may change in time.
    hours : (integrations,) array_like, optional
        Times of the integrations, for scales that change; by default they are not known.
    threads : int, optional
        Default: as many as this task may use. The result does not depend on it.

    Returns
    -------
    TemplateFit
        COMPLETE, or SKIPPED with a reason.

    Raises
    ------
    InputError
        If `sci` and `dq` differ in shape or are neither 2-D nor 3-D, or `hours` are not finite
        and different, one for each integration.

    Examples
    --------
    >>> columns = np.arange(1000)
    >>> sky = np.where(columns < 700, 4.0, 6.0) + 0.001 * columns + np.zeros((96, 1))
    >>> noise = np.random.default_rng(1).normal(0, 0.02, sky.shape)
    >>> fit = fit_templates(0.9 * sky + noise, np.zeros(sky.shape), sky[np.newaxis])
    >>> fit.template, int(fit.jump[0])
    (0, 699)
    """
    cubes = np.asarray(sci), np.asarray(dq)
    if cubes[0].ndim not in (2, 3) or cubes[0].shape != cubes[1].shape:
        raise InputError(
            "sci and dq must have one shape, ([integrations,] rows, columns) "
            f"(got {cubes[0].shape} and {cubes[1].shape})"
        )
    planes = ArrayPlanes.of(SCI=cubes[0], DQ=cubes[1])
    times = None if hours is None else (np.asarray(hours, np.float64), "given")
    return fit_segments([planes], templates, options, times=times, threads=threads)


def fit_segments(
    segments: Sequence[PlaneSource],
    templates: npt.ArrayLike,
    options: SossOptions | None = None,
    *,
    times: tuple[npt.NDArray[np.float64], str] | None = None,
    threads: int | None = None,
) -> TemplateFit:
    """Choose and scale one sky template for all segments of a SOSS exposure.

    The result is that of the concatenated segments, bit for bit, for any number of threads.

    Parameters
    ----------
    segments : sequence of PlaneSource
        SCI and DQ of the segments, in their order in time.
    templates, options, threads
        As for `fit_templates`.
    times : ((integrations,) float64, str), optional
        Hours of all integrations, and where they are from; see `SossTime`.

    Returns
    -------
    TemplateFit
        As of `fit_templates`.

    Raises
    ------
    InputError
        If the segments differ in their rows or columns, or there is none; or if the times are
        not finite and different, one for each integration.
    OptionError
        If `templates` is neither 2-D nor 3-D, or empty.
    """
    options = options or SossOptions()
    stream = _Stream(segments, available_threads() if threads is None else threads)
    if times is not None:
        _check_hours(times[0], len(stream.integrations))
    library = as_library(templates)
    fitted = cut_to_target(library, stream.shape)
    nothing = np.full((len(library), 2), np.nan)
    strip = strip_of(library, stream.shape) if options.method == "robust" else None
    if strip is not None:
        parts = [PartOfRows(one, *strip) for one in segments]
        fit = fit_segments(parts, library, options, times=times, threads=threads)
        return _on_full_frame(fit, strip[0])
    if fitted is None:
        reason = (
            f"templates of {library.shape[1]} rows and {library.shape[2]} columns do not fit a "
            f"target of {stream.shape[0]} rows and {stream.shape[1]} columns"
        )
        return _skipped(reason, nothing, math.nan, stream)
    if options.method == "robust":
        from webbkg.soss import robust  # with much of SciPy, which no other fit needs

        return robust.fit_stream(stream, fitted, options, times)
    threshold = _find_source_threshold(stream, options)
    if math.isnan(threshold):
        reason = "template matching failed: the target has no usable pixel"
        return _skipped(reason, nothing, threshold, stream)
    return _fit_library(stream, fitted, threshold, options)


def _on_full_frame(fit: TemplateFit, first_row: int) -> TemplateFit:
    """Let the jump of the last rows go on to the first one."""
    if not fit.jump.size:
        return fit
    return replace(fit, jump=np.pad(fit.jump, (first_row, 0), mode="edge"))


def _check_hours(hours: npt.NDArray[np.float64], integrations: int) -> None:
    finite = hours.shape == (integrations,) and bool(np.isfinite(hours).all())
    if not finite or len(np.unique(hours)) < integrations:
        raise InputError(
            f"hours must be {integrations} finite and different numbers, one for each integration "
            f"(got shape {hours.shape}, {len(np.unique(hours))} different)"
        )


def template_background(
    fit: TemplateFit, templates: npt.ArrayLike, templates_err: npt.ArrayLike | None = None
) -> Background:
    """Scale the chosen template to the background of the target, or add a mixture up.

    Left of the step by the left scale, from the step on by the right one, to the last column.
    Likewise a mixture of templates, with the left weights and the right ones.

    Parameters
    ----------
    fit : TemplateFit
        A COMPLETE fit.
    templates : ([templates,] rows, columns) array_like, float32
        The library that it was made with.
    templates_err : array_like like `templates`, optional
        Its standard uncertainty; 0 by default.

    Returns
    -------
    Background
        `sci` is NaN, and `dq` DO_NOT_USE, where the template is not finite; `dq` is 0 elsewhere.
        `err` is sqrt((scale·template_err)² + (scale_err·template)²): with `templates_err`
        `variances` has the first, independent from pixel to pixel, in `poisson`, and the second,
        which moves all pixels of a side together, in `flat`. Of a mixture likewise, with the
        covariance of its weights. `drift` tells how it changes from integration to integration,
        where the fit found that it does. Of a full frame that was fitted with a library of 256
        rows, the rows of SUBSTRIP256 alone are `covered`.

    Raises
    ------
    OptionError
        If the fit is not COMPLETE.
    """
    if fit.template is None or fit.left is None or fit.right is None:
        raise OptionError(f"fit must be COMPLETE to give a background (got {fit.status})")
    library = as_library(templates)
    rows = len(fit.jump)
    strip = strip_of(library, (rows, library.shape[2]))
    if strip is not None:
        inside = replace(fit, jump=fit.jump[slice(*strip)])
        whole = _around(template_background(inside, library, templates_err), strip, rows)
        return replace(whole, drift=None if fit.time is None else fit.time.drift(fit.jump))
    cut = cut_to_target(library, (rows, library.shape[2]))
    if cut is None:
        raise OptionError(
            f"templates must be those that were fitted, to {rows} rows (got {library.shape})"
        )
    own = None if templates_err is None else _cut_errors(templates_err, library.shape, fit)
    mixture = None if fit.robust is None else fit.robust.mixture
    if mixture is not None:
        sky, err, own = add_up(mixture, cut, fit.jump, own)
    else:
        sky, err, own = _scaled(fit, cut, own)
    background = Background(
        sci=sky,
        err=err,
        dq=np.where(np.isnan(sky), np.uint32(DO_NOT_USE), np.uint32(0)),
        covered=np.ones(sky.shape, np.bool_),
        drift=None if fit.time is None else fit.time.drift(fit.jump),
    )
    return background if own is None else _with_variances(background, own)


def _around(background: Background, strip: tuple[int, int], rows: int) -> Background:
    """Put a background into a frame of which nothing else is covered; its size is 0 there."""
    beyond = (strip[0], rows - strip[1]), (0, 0)
    parts = vars(background.variances) if background.variances is not None else {}
    wide = {name: np.pad(part, beyond) for name, part in parts.items() if part is not None}
    return Background(
        sci=np.pad(background.sci, beyond),
        err=np.pad(background.err, beyond),
        dq=np.pad(background.dq, beyond),
        covered=np.pad(background.covered, beyond),
        variances=Variances(**wide) if wide else None,
    )


def _scaled(
    fit: TemplateFit, library: Library, errors: Library | None
) -> tuple[FloatImage, FloatImage, FloatImage | None]:
    """Scale one template: sky, its error by that of the scale, and by its own."""
    assert fit.template is not None
    assert fit.left is not None
    assert fit.right is not None
    template = library[fit.template]
    known = np.isfinite(template)
    right = np.arange(template.shape[1]) >= fit.jump[:, np.newaxis]
    sky = np.where(known, template, np.float32(np.nan))
    scale = np.where(right, np.float32(fit.right.scale), np.float32(fit.left.scale))
    err = np.where(right, np.float32(fit.right.scale_err), np.float32(fit.left.scale_err))
    own = None
    if errors is not None:
        own = scale * np.where(known, errors[fit.template], np.float32(np.nan))
    return scale * sky, err * np.abs(sky), own


def _cut_errors(errors: npt.ArrayLike, shape: tuple[int, ...], fit: TemplateFit) -> Library:
    """Cut the templates' uncertainties to the target."""
    own = as_library(errors)
    if own.shape != shape:
        raise OptionError(
            f"templates_err must have the shape of templates (got {own.shape} and {shape})"
        )
    cut = cut_to_target(own, (len(fit.jump), shape[2]))
    assert cut is not None
    return cut


def _with_variances(background: Background, own: FloatImage) -> Background:
    """Add the template's scaled uncertainty to a background that has its scale's alone."""
    with np.errstate(over="ignore"):
        variances = Variances(poisson=np.square(own), flat=np.square(background.err))
        return replace(background, err=np.hypot(background.err, own), variances=variances)


def _skipped(
    reason: str, rmse: npt.NDArray[np.float64], threshold: float, stream: _Stream
) -> TemplateFit:
    return TemplateFit(
        status=Status.SKIPPED,
        reason=reason,
        rmse=rmse,
        source_threshold=threshold,
        n_integrations=len(stream.integrations),
    )


class _Stream(Stream):
    """The stream, counted and sampled."""

    @property
    def most_values(self) -> int:
        """Samples in the stream."""
        return len(self.integrations) * self.shape[0] * self.shape[1]

    def count(
        self, windows: list[set[Window]], make_worker: Callable[[Counts], Look]
    ) -> Iterator[Distribution]:
        """Count with counters for each thread that has room for them, and add these up."""
        layout = Layout(windows, self.most_values)
        parts: list[Counts] = []

        def make() -> Look:
            counts = Counts(layout)
            parts.append(counts)
            return make_worker(counts)

        crew = SOSS_COUNTER_MEMORY // max(layout.bytes_a_thread, 1)
        self.sweep(make, max(1, min(crew, self.threads)))
        for part in parts[1:]:
            parts[0].add(part)
        return parts[0].distributions()

    def sample(self, threshold: float, parts: list[tuple[int, int]], size: int) -> _Sample:
        """Take some of the usable values below `threshold`, about `size` in each part.

        The parts are columns (start, stop), in order.
        """
        every = -(-len(self.integrations) // SAMPLED_INTEGRATIONS)
        chosen = self.integrations[every // 2 :: every]
        most = max(size // max(len(chosen), 1), 1)
        height = self.shape[0]
        room, buffer = self.make_room(height), np.empty((height, parts[-1][1]), np.float32)
        taken = []
        for segment, index in chosen:
            sky = _keep_sky(segment.rows(PLANES, index, 0, height, room), threshold, buffer)
            for start, stop in parts:
                part = sky[:, start:stop]
                at = np.flatnonzero(part == part)  # not NaN
                at = at[:: -(-len(at) // most) | 1]  # odd, so as not to keep to the same columns
                rows, columns = np.divmod(at, stop - start)
                taken.append((part[rows, columns], rows, start + columns))
        return _Sample(*(np.concatenate(one) for one in zip(*taken, strict=True)))


@dataclass(frozen=True)
class _Sample:
    """Some of the sky samples, and which pixels they are."""

    values: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    def guess(
        self, template: FloatImage, splits: Splits, options: SossOptions
    ) -> list[set[Window]]:
        """Guess where the percentiles of the ratios to a template lie, left and right."""
        low, high = options.bkg_percentile
        sky = template[self.rows, self.columns]
        valid = np.isfinite(sky) & (sky != 0)
        right = self.columns >= splits[self.rows]
        return [
            selection.guess_windows(self.values[side] / sky[side], [low, high, (low + high) / 2])
            for side in (valid & ~right, valid & right)
        ]


def _keep_sky(
    planes: Sequence[Rows], threshold: float, buffer: FloatImage
) -> npt.NDArray[np.float32]:
    """Copy the usable values below `threshold` to as many rows of `buffer`, and NaN for others."""
    sci, dq = planes
    sky = buffer[: len(sci)]
    kernels.keep_sky(sci, dq, UNUSABLE, np.float32(threshold), sky)
    return sky


def _find_source_threshold(stream: _Stream, options: SossOptions) -> float:
    """Percentile of all usable values of all integrations, a float32; NaN if there is none.

    That it is rounded to float32 decides, once in a while, about the value next to it.
    """

    def make_worker(counts: Counts) -> Look:
        def look(_row: int, sci: FloatImage, dq: FlagImage) -> None:
            selection.count_usable(sci, dq, UNUSABLE, counts.counters)

        return look

    percent = options.source_percentile
    sample = stream.sample(math.inf, [(0, stream.shape[1])], 4 * SAMPLED_VALUES).values
    (threshold,) = selection.resolve(
        lambda windows: stream.count(windows, make_worker),
        lambda distribution: distribution.percentile(percent, single=True),
        [selection.guess_windows(sample, [percent], MOST_BINS_OF_THRESHOLD)],
    )
    return math.nan if threshold is None else threshold


class _PixelSums:
    """Per-pixel sums of the sky samples over the integrations; see `webbkg.soss.kernels.add_sums`."""

    def __init__(self, rows: int, columns: int) -> None:
        shape = rows, columns
        self.planes = (
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float64),
            np.zeros(shape, np.float64),
        )
        self.wanted = True


@dataclass(frozen=True)
class _Scale:
    """The scale of one template on one side, before its residuals are known."""

    scale: np.float32
    scale_err: float
    n_scale: int
    n_sky: int


def _fit_library(
    stream: _Stream, library: Library, threshold: float, options: SossOptions
) -> TemplateFit:
    """Scale every template, a few at a time, and choose."""
    sums = _PixelSums(stream.shape[0], min(SOSS_LAST_COLUMN + 1, stream.shape[1]))
    fits: list[tuple[Splits, list[SideFit]]] = []
    for start, stop in split(len(library), MOST_TEMPLATES_A_PASS):
        group = without_infinities(library[start:stop])
        splits = np.stack([find_jump(template) for template in group])
        scales = _find_scales(stream, group, splits, threshold, options, sums)
        for index, template in enumerate(group):
            pair = scales[2 * index : 2 * index + 2]
            fits.append((splits[index], _measure(template, splits[index], pair, sums)))
    return _choose(fits, threshold, stream)


def _find_scales(
    stream: _Stream,
    group: Library,
    splits: Splits,
    threshold: float,
    options: SossOptions,
    sums: _PixelSums,
) -> list[_Scale]:
    """Scales of every template, left and right; the first pass fills `sums` too."""

    def make_worker(counts: Counts) -> Look:
        return _RatioCounter(stream, group, splits, threshold, counts, sums).look

    def count(windows: list[set[Window]]) -> Iterator[Distribution]:
        distributions = stream.count(windows, make_worker)
        sums.wanted = False
        return distributions

    low, high = options.bkg_percentile
    step, end = SOSS_STEP_COLUMNS[0], sums.planes[0].shape[1]
    sample = stream.sample(threshold, [(0, step), (step, end)], SAMPLED_VALUES)
    return selection.resolve(
        count,
        lambda distribution: _find_scale(distribution, low, high),
        [
            windows
            for template, columns in zip(group, splits, strict=True)
            for windows in sample.guess(template, columns, options)
        ],
    )


class _RatioCounter:
    """One thread's buffer, and the way of a band through it."""

    def __init__(
        self,
        stream: _Stream,
        group: Library,
        splits: Splits,
        threshold: float,
        counts: Counts,
        sums: _PixelSums,
    ) -> None:
        self._buffer = np.empty((stream.height, sums.planes[0].shape[1]), np.float32)
        self._templates = group, splits
        self._threshold = threshold
        self._sums = sums
        self._counts = counts

    def look(self, row: int, sci: FloatImage, dq: FlagImage) -> None:
        """Count the ratios of one integration in a band that begins at `row`."""
        sky = _keep_sky((sci, dq), self._threshold, self._buffer)
        if self._sums.wanted:
            kernels.add_sums(sky, row, self._sums.planes)
        selection.count_ratios(sky, row, *self._templates, self._counts.counters)


def _find_scale(ratios: Distribution, low: float, high: float) -> _Scale:
    """Median of the ratios strictly between two percentiles, and its standard error."""
    middle = (low + high) / 2
    nothing = _Scale(np.float32(np.nan), math.nan, 0, ratios.size)
    lower, upper = ratios.percentile(low), ratios.percentile(high)
    if lower is None or upper is None:
        ratios.percentile(middle)  # saves a pass: the median will be wanted near it
        return nothing
    between = ratios.median_between(lower, upper)
    if between is None or between[1] == 0:
        return nothing
    density = (high - low) / 100 / (upper - lower)
    quantile = middle / 100
    scale_err = math.sqrt(quantile * (1 - quantile) / ratios.size) / density
    return _Scale(between[0], scale_err, between[1], ratios.size)


def _measure(
    template: FloatImage, splits: Splits, scales: list[_Scale], sums: _PixelSums
) -> list[SideFit]:
    """Add the RMSE of a template with its scales."""
    result = np.zeros((2, 2))
    pair = np.array([float(one.scale) for one in scales])
    kernels.sum_residuals(template, splits, pair, sums.planes, result)
    return [
        SideFit(
            scale=float(one.scale),
            scale_err=one.scale_err,
            rmse=math.sqrt(max(total, 0.0) / number) if number else math.nan,
            n_sky=one.n_sky,
            n_scale=one.n_scale,
        )
        for one, (total, number) in zip(scales, result.tolist(), strict=True)
    ]


def _choose(
    fits: list[tuple[Splits, list[SideFit]]], threshold: float, stream: _Stream
) -> TemplateFit:
    """Take the template with the smallest sum of RMSEs, the first of equal ones."""
    rmse = np.array([[side.rmse for side in sides] for _, sides in fits])
    total = rmse.sum(axis=1)
    if np.isnan(total).all():
        reason = (
            "template matching failed: no template has a valid ratio on both sides; everything "
            f"at or above {threshold:.4g} was taken as source: if that lies below the sky, raise "
            "soss_source_percentile"
        )
        return _skipped(reason, rmse, threshold, stream)
    best = int(np.nanargmin(total))
    splits, (left, right) = fits[best]
    return TemplateFit(
        status=Status.COMPLETE,
        template=best,
        left=left,
        right=right,
        rmse=rmse,
        source_threshold=threshold,
        jump=splits,
        n_integrations=len(stream.integrations),
    )
