"""Image from image: the average of background exposures, by iterative sigma clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.image import kernels as clip
from webbkg.image.flags import bytes_a_pixel, flags_of
from webbkg.numerics.lines import lines_within
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import PLANES, ArrayPlanes, Overlap, Placed
from webbkg.numerics.words import place_samples
from webbkg.options import DO_NOT_USE, ImageOptions
from webbkg.results import (
    BoolImage,
    CombinedBackground,
    FlagImage,
    FloatImage,
    SampleCounts,
)

MOST_ROWS_A_BAND = 64


def largest_deviation(samples: int) -> float:
    """Largest possible distance of one of `samples` values from their median.

    In units of their population standard deviation. One value stands apart; of the rest, the
    median and those below it coincide, and those above it lie where they widen the sample
    least, which is its mean. With c = (N - 3) // 2 of these the distance is
    sqrt(N (N - c) / (N - c - 1)): 2.58 for 5 samples, 2.96 for 7, 3.10 for 8. Clipping at more
    than that can never reject anything.

    Parameters
    ----------
    samples : int
        How many values there are.

    Returns
    -------
    float
        The bound; 0 for fewer than two samples.
    """
    if samples < 2:
        return 0.0
    if samples == 2:
        return 1.0
    between = (samples - 3) // 2
    rest = samples - between
    return math.sqrt(samples * rest / (rest - 1))


@lru_cache(maxsize=32)
def sorting_network(size: int) -> npt.NDArray[np.int64]:
    """Comparators that sort `size` values, by Batcher's odd-even merge exchange.

    D. E. Knuth, The Art of Computer Programming 3, algorithm 5.2.2M.

    Returns
    -------
    (comparators, 2) ndarray of int64
        Positions to compare and exchange, in order; none for fewer than two values.
    """
    pairs = []
    largest = 1 << max(size - 1, 0).bit_length() >> 1
    span = largest
    while span:
        stride, offset, distance = largest, 0, span
        while True:
            pairs += [(i, i + distance) for i in range(size - distance) if i & span == offset]
            if stride == span:
                break
            distance = stride - span
            stride >>= 1
            offset = span
        span >>= 1
    network = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    network.flags.writeable = False
    return network


def clip_iterations(maxiters: int | None) -> int:
    """Express the largest number of iterations for the kernels: 0 means until stable.

    As ``astropy.stats.sigma_clip`` has it: so do None, 0 and -1, and less than that means one.
    """
    return 0 if maxiters is None or -1 <= maxiters <= 0 else max(maxiters, 1)


def sigma_clip_mask(
    stack: npt.ArrayLike, *, sigma: float = 3.0, maxiters: int | None = None
) -> npt.NDArray[np.bool_]:
    """Tell which samples survive iterative sigma clipping along the first axis.

    From the survivors: centre = median, width = population standard deviation; a sample
    survives if it lies within `sigma` widths of the centre, limits included. Repeated until
    nothing more would go (or everything would); the last limits then judge all finite samples,
    so that one rejected early can come back. The rule of ``astropy.stats.sigma_clip(...,
    axis=0)``, ties included.

    Parameters
    ----------
    stack : (samples, ...) array_like
        Values, computed on as float64; those that are not finite never survive.
    sigma : float
        Threshold in standard deviations; at least 0, infinite for no clipping.
    maxiters : int or None
        Largest number of iterations; None, 0 and -1 mean until stable, less than that one.

    Returns
    -------
    (samples, ...) ndarray of bool
        True where the sample survives.

    Examples
    --------
    >>> sigma_clip_mask([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 90.0]).sum()
    np.int64(10)
    """
    options = ImageOptions(sigma=sigma, maxiters=maxiters)
    values = np.asarray(stack, dtype=np.float64)
    keep = np.zeros(values.shape, dtype=np.bool_)
    if values.size:
        flat = np.ascontiguousarray(values.reshape(len(values), -1))
        iterations = clip_iterations(options.maxiters)
        clip.clip_mask(flat, options.sigma, iterations, keep.reshape(len(values), -1))
    return keep


def average_background(
    sci: npt.ArrayLike,
    err: npt.ArrayLike,
    dq: npt.ArrayLike,
    options: ImageOptions | None = None,
) -> CombinedBackground:
    """Average background exposures that share one window.

    Parameters
    ----------
    sci : (exposures, [integrations,] rows, columns) array_like, float32
        Count rates; samples that are not finite are left out.
    err : array_like like `sci`, float32
        Standard uncertainties in the unit of `sci`.
    dq : array_like like `sci`, uint32
        Data-quality flags; samples with DO_NOT_USE (bit 0) are left out.
    options : ImageOptions, optional
        Clip threshold and iterations.

    Returns
    -------
    CombinedBackground
        On the same window.

    Raises
    ------
    OptionError
        If the shapes differ or are neither 3-D nor 4-D.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and so left out
        cubes = [
            np.asarray(sci, dtype=np.float32),
            np.asarray(err, dtype=np.float32),
            np.asarray(dq, dtype=np.uint32),
        ]
    shape = cubes[0].shape
    if len(shape) not in (3, 4) or any(cube.shape != shape for cube in cubes):
        raise OptionError(
            "sci, err and dq must have one shape, (exposures, [integrations,] rows, columns) "
            f"(got {' and '.join(str(cube.shape) for cube in cubes)})"
        )
    if len(shape) == 3:
        cubes = [cube[:, np.newaxis] for cube in cubes]
    whole = Overlap.whole((shape[-2], shape[-1]))
    exposures = [
        Placed(ArrayPlanes(dict(zip(PLANES, of_one, strict=True))), whole)
        for of_one in zip(*cubes, strict=True)
    ]
    options = options or ImageOptions()
    if options.mask_sources or options.match_background != "none":
        from webbkg.image.prepare import prepare

        exposures = [*prepare(exposures, (shape[-2], shape[-1]), options).sources]
    return average_exposures(exposures, (shape[-2], shape[-1]), options)


def average_exposures(
    sources: Sequence[Placed],
    shape: tuple[int, int],
    options: ImageOptions,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CombinedBackground:
    """Average background exposures, band by band, on a target window of `shape`.

    Each exposure first becomes one image: of a 3-D one the integrations are clipped and
    averaged, and rounded to float32. Then the exposures are clipped and averaged. ERR is
    sqrt(sum err²)/n over the samples that SCI kept, at both levels; DQ is the bitwise OR over
    all integrations of all exposures, or has what enough of them carry (`dq_threshold`). The
    result does not depend on the bands or the threads.

    Parameters
    ----------
    sources : sequence of Placed
        The exposures, SCI, ERR and DQ, placed on the target.
    shape : (rows, columns)
        The target's window.
    options : ImageOptions
        Clip threshold and iterations, and the memory for samples.
    threads : int, optional
        Default: as many as this task may use.
    progress : callable, optional
        Called with the bands done and their number.

    Returns
    -------
    CombinedBackground
        The average on the target's window.
    """
    err, counts = np.empty(shape, np.float32), np.empty(shape, np.uint32)
    held = Held(np.empty(shape, np.float32), np.zeros(shape, np.uint32), err, counts)
    told = average_into(held, sources, options, threads=threads, progress=progress)
    return CombinedBackground(
        sci=held.sci,
        err=err,
        dq=held.dq,
        covered=coverage(sources, shape),
        counts=counts,
        exposures=told.exposures,
        integrations=told.integrations,
    )


@dataclass(frozen=True)
class Held:
    """Planes of an average that are held; of the others no more than a band is.

    Attributes
    ----------
    sci, dq : (rows, columns) float32 and uint32
        Mean, and its flags, which are 0 before.
    err : (rows, columns) float32 or None
        Its uncertainty. Where neither it nor `errors` is held, ERR of the exposures is not even
        read, unless clipping needs it: it is a third of what there is to read.
    counts : (rows, columns) of unsigned integers, or None
        Exposures in the mean.
    lines : range
        Some rows.
    errors : (lines, columns) float32 or None
        ERR there, for which that of the exposures is read in all rows.
    """

    sci: FloatImage
    dq: FlagImage
    err: FloatImage | None = None
    counts: npt.NDArray[np.unsignedinteger[Any]] | None = None
    lines: range = range(0)
    errors: FloatImage | None = None


@dataclass(frozen=True)
class Tally:
    """What became of the samples of an average, or of a part of its rows.

    Attributes
    ----------
    exposures, integrations : SampleCounts
        Over the exposures, and over the integrations of the 3-D ones.
    unknown : int
        Pixels that no exposure tells anything of.
    """

    exposures: SampleCounts = field(default_factory=SampleCounts)
    integrations: SampleCounts = field(default_factory=SampleCounts)
    unknown: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.exposures + other.exposures,
            self.integrations + other.integrations,
            self.unknown + other.unknown,
        )


def average_into(
    held: Held,
    sources: Sequence[Placed],
    options: ImageOptions,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tally:
    """Fill the planes of an average that are held; see `average_exposures`, which holds all."""
    rows, columns = held.sci.shape
    is_held = held.err is not None or held.errors is not None
    errors = is_held or options.clip_noise == "model"
    threads = available_threads() if threads is None else threads
    a_row = _bytes_a_row(sources, columns, options)
    height, crew = share_memory(a_row, options.band_memory, threads)
    parts = over_bands(
        split(rows, height),
        lambda: _BandAverager(sources, held, options, min(height, rows), errors).average,
        threads=crew,
        progress=progress,
    )
    return sum(parts, Tally())


def coverage(sources: Sequence[Placed], shape: tuple[int, int]) -> BoolImage:
    """Tell which pixels of a target of `shape` any exposure covers, (rows, columns)."""
    covered = np.zeros(shape, np.bool_)
    for source in sources:
        covered[slice(*source.overlap.rows), slice(*source.overlap.columns)] = True
    return covered


def _bytes_a_row(sources: Sequence[Placed], columns: int, options: ImageOptions) -> int:
    """Memory of a row on one thread: SCI and ERR of every sample, the words read, the rest."""
    levels = len(sources), max((s.planes.shape[0] for s in sources), default=0)
    widest = max((s.planes.shape[2] for s in sources), default=0)
    flags = sum(bytes_a_pixel(options.dq_threshold, samples) for samples in levels)
    return columns * (8 * (sum(levels) + 2) + flags) + 12 * widest


def share_memory(bytes_a_row: int, memory: int, threads: int) -> tuple[int, int]:
    """Rows of a band, and how many threads have room for one; at least one row on one thread."""
    crew = max(1, min(threads, memory // max(bytes_a_row, 1)))
    return max(1, min(MOST_ROWS_A_BAND, memory // max(crew * bytes_a_row, 1))), crew


class Stack:
    """Samples of one band, SCI and, if wanted, ERR: of (samples, height, columns) float32.

    They lie side by side however few rows a band has: kernels are compiled for no other layout.
    """

    def __init__(
        self, samples: int, height: int, columns: int, options: ImageOptions, errors: bool
    ) -> None:
        self._errors = errors
        self._sci = np.empty(samples * height * columns, np.float32)
        # Without errors, one image for all of them, which nobody looks at.
        self._err = np.empty((samples if errors else 1) * height * columns, np.float32)
        self._scratch = clip.make_scratch()
        self._touched = np.empty(height * columns, np.int32)
        self._columns = columns
        self._sigma = options.sigma
        self._maxiters = clip_iterations(options.maxiters)

    def images(self, index: int, height: int) -> tuple[FloatImage, FloatImage]:
        """SCI and ERR of one sample as images of `height` rows."""
        shape, pixels = (height, self._columns), height * self._columns
        part = slice(index * pixels, (index + 1) * pixels)
        of_err = part if self._errors else slice(pixels)
        return self._sci[part].reshape(shape), self._err[of_err].reshape(shape)

    def average(
        self, samples: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Clip and average the first `samples`, into images of `height` rows."""
        pixels = height * self._columns
        stack = self._flat(samples, pixels)
        result = sci.reshape(-1), err.reshape(-1), counts.reshape(-1)
        can_reject = self._sigma <= largest_deviation(samples) * (1 + clip.MARGIN)
        usable, listed = clip.average_untouched(
            *stack, self._sigma if can_reject else None, self._scratch, *result, self._touched
        )
        clipped = 0
        if listed:
            limits = self._sigma, self._maxiters
            sorting = sorting_network(samples), np.empty((samples, clip.LANES), np.float32)
            touched = self._touched[:listed]
            clipped, near = clip.average_touched(*stack, touched, *limits, *sorting, *result)
            if near:
                clipped += clip.average_near(*stack, touched[:near], *limits, *result)
        return SampleCounts(offered=samples * pixels, usable=usable, clipped=clipped)

    def _flat(self, samples: int, pixels: int) -> tuple[FloatImage, FloatImage]:
        """SCI and, if wanted, ERR of the first `samples`, (samples, pixels)."""
        known = samples if self._errors else 0
        return (
            self._sci[: samples * pixels].reshape(samples, pixels),
            self._err[: known * pixels].reshape(known, pixels),
        )


class _NoiseStack(Stack):
    """A stack that is clipped by the scatter that its ERR leads to expect."""

    def __init__(self, samples: int, height: int, columns: int, options: ImageOptions) -> None:
        super().__init__(samples, height, columns, options, errors=True)
        from webbkg.image.noise import NoiseClipper  # what few want takes time to import

        self._clipper = NoiseClipper(samples, columns, self._sigma, self._maxiters)

    def average(
        self, samples: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Clip and average the first `samples`, into images of `height` rows."""
        pixels = height * self._columns
        usable, clipped = self._clipper.average(
            *self._flat(samples, pixels), sci.reshape(-1), err.reshape(-1), counts.reshape(-1)
        )
        return SampleCounts(offered=samples * pixels, usable=usable, clipped=clipped)


def make_stack(
    samples: int, height: int, columns: int, options: ImageOptions, errors: bool
) -> Stack:
    """Make a stack that is clipped as options ask."""
    if options.clip_noise == "model":
        return _NoiseStack(samples, height, columns, options)
    return Stack(samples, height, columns, options, errors)


class ImageReader:
    """One thread's way from an exposure to its image: rows of it, its integrations averaged.

    Parameters
    ----------
    sources : sequence of Placed
        All exposures that it will read.
    columns : int
        Of the target's window.
    options : ImageOptions
        How integrations are clipped.
    height : int
        Most rows of a band.
    errors : bool
        Whether ERR is wanted.
    """

    def __init__(
        self,
        sources: Sequence[Placed],
        columns: int,
        options: ImageOptions,
        height: int,
        errors: bool,
    ) -> None:
        self._planes = PLANES if errors else ("SCI", "DQ")
        most = max((s.planes.shape[0] for s in sources), default=1)
        self._integrations = make_stack(most if most > 1 else 0, height, columns, options, errors)
        widest = max((s.planes.shape[2] for s in sources), default=0)
        self._words = np.empty(3 * height * widest, np.uint32)
        self._counts = np.empty((height, columns), np.uint32)
        self._flags = flags_of(options.dq_threshold, most, height, columns)

    def read(
        self,
        source: Placed,
        rows: tuple[int, int],
        start: int,
        sci: FloatImage,
        err: FloatImage,
        dq: FlagImage,
    ) -> SampleCounts:
        """Fill `sci` and `err`, which begin at target row `start`, from target rows `rows`.

        Flags are added to `dq`. Returns what became of the integrations.
        """
        if source.planes.shape[0] == 1:
            self._load(source, 0, rows, start, sci, err, dq)
            return SampleCounts()
        return self._average_integrations(source, rows, start, sci, err, dq)

    def _average_integrations(
        self,
        source: Placed,
        rows: tuple[int, int],
        start: int,
        sci: FloatImage,
        err: FloatImage,
        dq: FlagImage,
    ) -> SampleCounts:
        """Turn the integrations of one exposure into its image."""
        height, (count, *_), columns = len(sci), source.planes.shape, source.overlap.columns
        for integration in range(count):
            one_sci, one_err = self._integrations.images(integration, height)
            flags = self._flags.sample(dq)
            self._load(source, integration, rows, start, one_sci, one_err, flags)
            self._flags.count((rows[0] - start, rows[1] - start), columns)
        self._flags.put(dq)
        counted = self._integrations.average(count, height, sci, err, self._counts[:height])
        err[self._counts[:height] == 0] = 0  # a missing sample has no error, not an unknown one
        pixels = (rows[1] - rows[0]) * (columns[1] - columns[0])
        return SampleCounts(offered=count * pixels, usable=counted.usable, clipped=counted.clipped)

    def _load(
        self,
        source: Placed,
        integration: int,
        rows: tuple[int, int],
        start: int,
        sci: FloatImage,
        err: FloatImage,
        dq: FlagImage,
    ) -> None:
        """Read one integration's overlap with a band that begins at target row `start`."""
        overlap, n_columns = source.overlap, source.planes.shape[2]
        height, width = rows[1] - rows[0], overlap.columns[1] - overlap.columns[0]
        n_planes = len(self._planes)
        words = self._words[: n_planes * height * n_columns].reshape(n_planes, height, n_columns)
        first = overlap.other_rows[0] + rows[0] - overlap.rows[0]
        as_in_fits = source.planes.read(self._planes, integration, first, first + height, words)
        if (height, width) != sci.shape:
            sci.fill(np.nan)
            err.fill(0)
        place_samples(
            words,
            words.view(np.float32),
            as_in_fits,
            overlap.other_columns[0],
            DO_NOT_USE,
            sci,
            err,
            dq,
            rows[0] - start,
            overlap.columns[0],
            width,
        )


class _BandAverager:
    """One thread's buffers, and the way of a band through them."""

    def __init__(
        self,
        sources: Sequence[Placed],
        held: Held,
        options: ImageOptions,
        height: int,
        errors: bool,
    ) -> None:
        columns = held.sci.shape[1]
        self._sources = sources
        self._held = held
        self._is_direct = held.counts is not None and held.counts.dtype == np.uint32
        self._err = np.empty((height if held.err is None else 0, columns), np.float32)
        self._counts = np.empty((0 if self._is_direct else height, columns), np.uint32)
        self._exposures = make_stack(len(sources), height, columns, options, errors)
        self._flags = flags_of(options.dq_threshold, len(sources), height, columns)
        self._reader = ImageReader(sources, columns, options, height, errors)

    def average(self, start: int, stop: int) -> Tally:
        """Average target rows `start` to `stop`, and keep of them what is held."""
        held, height = self._held, stop - start
        dq = held.dq[start:stop]
        offered, integrations = self._read(start, stop, dq)
        err = self._err[:height] if held.err is None else held.err[start:stop]
        plane = held.counts if self._is_direct else None
        counts = self._counts[:height] if plane is None else plane[start:stop]
        sci = held.sci[start:stop]
        counted = self._exposures.average(len(self._sources), height, sci, err, counts)
        if plane is None and held.counts is not None:
            held.counts[start:stop] = counts
        if held.errors is not None:
            ours, rows = lines_within(held.lines, start, stop)
            held.errors[ours] = err[rows]
        self._flags.put(dq)
        unknown = counts == 0
        np.bitwise_or(dq, np.uint32(DO_NOT_USE), out=dq, where=unknown)
        exposures = SampleCounts(offered=offered, usable=counted.usable, clipped=counted.clipped)
        return Tally(exposures, integrations, int(np.count_nonzero(unknown)))

    def _read(self, start: int, stop: int, dq: FlagImage) -> tuple[int, SampleCounts]:
        """Read a band of every exposure; count the samples, and what became of integrations."""
        integrations = SampleCounts()
        offered = 0
        for index, source in enumerate(self._sources):
            sci, err = self._exposures.images(index, stop - start)
            covered, columns = source.overlap.rows, source.overlap.columns
            rows = (max(start, covered[0]), min(stop, covered[1]))
            if rows[0] >= rows[1]:
                sci.fill(np.nan)
                err.fill(0)
                continue
            flags = self._flags.sample(dq)
            integrations += self._reader.read(source, rows, start, sci, err, flags)
            self._flags.count((rows[0] - start, rows[1] - start), columns)
            offered += max(0, rows[1] - rows[0]) * (columns[1] - columns[0])
        return offered, integrations
