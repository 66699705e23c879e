"""Exact order statistics of float32 values that stream by: counted, never held or sorted.

A float32 is turned into a 32-bit key that sorts as the value does. Of all values those below
a window of keys are counted, and those in the window by their key, or by its upper bits where
the window is wide: then a narrower window, in another pass, tells the rest (radix selection).
A few windows, guessed from a sparse sample, mostly settle everything in one pass; the counts
prove it, and where they do not, another pass follows. Counts of parts add up, so the answer
depends neither on the guess nor on how the values were divided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from webbkg.numerics import order
from webbkg.numerics.compiled import Array, compiled, inlined

MOST_BINS = 1 << 18
FIRST_KEY = 0x00800000  # of the lowest finite value
END_KEY = 0xFF800000  # of positive infinity, above all finite values
SIGMAS = 3.5  # half width of a guessed window: a miss costs a pass, and a wide one memory

SIGN = np.uint32(1 << 31)
ALL_BITS = np.uint32(0xFFFFFFFF)
INFINITY = np.float32(np.inf)
NAN = np.float32(np.nan)
ABREAST = 3  # windows looked at in one go: a distribution's percentiles and its median
LANES = 8  # marks looked at together
EVERY_MARK = np.uint64(0x0101010101010101)
ONE = np.uint64(1)
TOP = np.uint64(56)

Answer = TypeVar("Answer")
Windows = tuple[Array, Array, Array, Array]
Counters = tuple[Windows, Array, Array, Array]
Buffers = tuple[Array, Array, Array]


@inlined
def _mark(values: Array, low: float, high: float, marks: Array) -> np.int32:
    """Mark the values (float32) from `low` to before `high`; return how many lie below."""
    under = np.int32(0)
    for i in range(values.size):
        under = np.int32(under + np.int32(values[i] < low))
        marks[i] = (values[i] >= low) & (values[i] < high)
    return under


@inlined
def _mark_abreast(values: Array, edges: Array, marks: Array) -> tuple[np.int32, np.int32, np.int32]:
    """Do the same for ABREAST windows, with a bit for each; `edges` (ABREAST, 2) are low, high."""
    low0, low1, low2 = edges[:, 0]
    high0, high1, high2 = edges[:, 1]
    under0 = under1 = under2 = np.int32(0)
    for i in range(values.size):
        value = values[i]
        under0 = np.int32(under0 + np.int32(value < low0))
        under1 = np.int32(under1 + np.int32(value < low1))
        under2 = np.int32(under2 + np.int32(value < low2))
        mark0 = np.uint8((value >= low0) & (value < high0))
        mark1 = np.uint8((value >= low1) & (value < high1))
        mark2 = np.uint8((value >= low2) & (value < high2))
        marks[i] = mark0 | (mark1 << 1) | (mark2 << 2)
    return under0, under1, under2


@inlined
def _collect(values: Array, marks: Array, window: int, lanes: Array, near: Array) -> int:
    """Copy the values that are marked for a window, few as they are; return how many.

    Without a branch: which they are is random, and a branch would be guessed wrong.
    """
    together = marks[: (values.size + LANES - 1) // LANES * LANES].view(np.uint64)
    shift = np.uint64(window)
    some = 0
    for lane in range(together.size):
        lanes[some] = lane
        some += ((together[lane] >> shift) & EVERY_MARK) != 0
    found = 0
    for j in range(some):
        marked = (together[lanes[j]] >> shift) & EVERY_MARK
        while marked != 0:
            before = (marked - ONE) & ~marked & EVERY_MARK  # a bit for each lane before the first
            near[found] = values[lanes[j] * LANES + np.int64((before * EVERY_MARK) >> TOP)]
            found += 1
            marked &= marked - ONE
    return found


@compiled
def _count(values: Array, windows: Windows, below: Array, bins: Array, buffers: Buffers) -> None:
    """Count `values`, finite or NaN, into windows of one distribution; see `count_ratios`."""
    edges, starts, shifts, offsets = windows
    marks, lanes, near = buffers
    words = near.view(np.uint32)
    marks[values.size : values.size + LANES - 1] = 0
    w = 0
    while w < starts.size:
        abreast = ABREAST if starts.size - w >= ABREAST else 1
        if abreast == ABREAST:
            under = _mark_abreast(values, edges[w : w + ABREAST], marks)
        else:
            under = _mark(values, edges[w, 0], edges[w, 1], marks), np.int32(0), np.int32(0)
        for i in range(abreast):
            below[w] += under[i]
            counters = bins[offsets[w] :]
            for j in range(_collect(values, marks, i, lanes, near)):
                word = words[j] if words[j] != SIGN else np.uint32(0)  # -0 counts as 0
                key = word ^ (ALL_BITS if word > SIGN else SIGN)
                counters[(key - starts[w]) >> shifts[w]] += 1
            w += 1


@compiled
def _make_buffers(size: int) -> Buffers:
    """Make what `_count` needs for so many values."""
    room = size + LANES
    return np.empty(room, np.uint8), np.empty(room // LANES, np.int32), np.empty(room, np.float32)


@compiled
def count_usable(
    values: Array,
    flags: Array,
    unusable_bits: np.uint32,
    counters: Counters,
) -> None:
    """Count the finite `values` (rows, columns; float32) with none of `unusable_bits` in `flags`.

    `counters` are those of `Counts`, for a single distribution.
    """
    windows, below, bins, totals = counters
    columns = values.shape[1]
    usable = np.empty(columns, np.float32)
    buffers = _make_buffers(columns)
    edges, starts, shifts, offsets = windows
    one = edges[0], starts[0], shifts[0], offsets[0]
    for row in range(values.shape[0]):
        present = np.int32(0)
        for column in range(columns):
            value = values[row, column]
            good = ((flags[row, column] & unusable_bits) == 0) & (abs(value) < INFINITY)
            usable[column] = value if good else NAN
            present = np.int32(present + np.int32(good))
        totals[0] += present
        _count(usable, one, below[0], bins, buffers)


@inlined
def _divide(values: Array, sky: Array, ratios: Array) -> np.int32:
    """Fill `ratios`, NaN where they are not finite; return how many are."""
    present = np.int32(0)
    for i in range(values.size):
        # Unlike the operator, np.divide takes a template of zero.
        ratio = np.divide(values[i], sky[i])
        good = abs(ratio) < INFINITY
        ratios[i] = ratio if good else NAN
        present = np.int32(present + np.int32(good))
    return present


@compiled
def count_ratios(
    values: Array,
    first_row: int,
    templates: Array,
    splits: Array,
    counters: Counters,
) -> None:
    """Count value/template for every template and side, one integration of a band of rows.

    `values` (rows, columns; float32) begin at row `first_row` of the templates, and at their
    first column; those that do not count are NaN. `templates` (templates, rows, columns) are
    float32, and `splits` (templates, rows; int64) the first column of the right side. `counters`
    are those of `Counts`; its distributions are template by template the left and the right
    side. Ratios that are not finite are left out.
    """
    windows, below, bins, totals = counters
    edges, keys, shifts, offsets = windows
    rows, columns = values.shape
    ratios = np.empty(values.size, np.float32)
    buffers = _make_buffers(values.size)
    for d in range(2 * templates.shape[0]):
        template, places = templates[d // 2], splits[d // 2]
        size = 0
        for r in range(rows):
            place = places[first_row + r]
            start, stop = (0, place) if d % 2 == 0 else (place, columns)
            sky = template[first_row + r, start:stop]
            totals[d] += _divide(values[r, start:stop], sky, ratios[size:])
            size += sky.size
        one = edges[d], keys[d], shifts[d], offsets[d]
        _count(ratios[:size], one, below[d], bins, buffers)


def key_of(value: np.float32) -> int:
    """Return the key of a value; those of -0 and 0 are one."""
    bits = int(np.float32(value + np.float32(0)).view(np.uint32))
    return bits ^ (0xFFFFFFFF if bits >> 31 else 1 << 31)


def value_of(key: int) -> np.float32:
    """Return the value that has a key."""
    bits = key ^ (1 << 31 if key >> 31 else 0xFFFFFFFF)
    return np.float32(np.uint32(bits).view(np.float32))


@dataclass(frozen=True, order=True)
class Window:
    """Keys from `start` to before `stop`, in at most `most_bins` bins of ``2**shift`` keys."""

    start: int
    stop: int
    most_bins: int = MOST_BINS

    @property
    def shift(self) -> int:
        """As small as the number of bins allows."""
        return max(0, math.ceil(math.log2((self.stop - self.start) / self.most_bins)))

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return -(-(self.stop - self.start) // (1 << self.shift))


class Layout:
    """Where the counters of several distributions lie; every thread's are alike.

    Attributes
    ----------
    wanted : list of list of Window
        The windows of each distribution.
    windows : tuple of arrays
        For each distribution and window: the values (first, end), the first key, the shift, and
        where its bins begin. Windows that a distribution does not have begin and end at NaN.
    bins : int
        Bins of all windows.
    counter : dtype
        Unsigned, and wide enough for the number of all values.
    """

    def __init__(self, wanted: Sequence[set[Window]], most_values: int) -> None:
        self.wanted = [sorted(windows) for windows in wanted]
        self.shape = len(wanted), max(map(len, wanted), default=0)
        edges = np.full((*self.shape, 2), np.nan, np.float32)
        starts, shifts = np.zeros(self.shape, np.uint32), np.zeros(self.shape, np.uint32)
        self.offsets = np.zeros(self.shape, np.int64)
        self.bins = 0
        for d, windows in enumerate(self.wanted):
            for w, window in enumerate(windows):
                edges[d, w] = value_of(window.start), value_of(window.stop)
                starts[d, w], shifts[d, w] = window.start, window.shift
                self.offsets[d, w] = self.bins
                self.bins += window.bins
        self.windows: Windows = edges, starts, shifts, self.offsets
        self.counter = np.dtype("u4" if most_values <= np.iinfo(np.uint32).max else "u8")

    @property
    def bytes_a_thread(self) -> int:
        """Memory of one thread's counters, but for a few bytes."""
        return self.bins * self.counter.itemsize


class Counts:
    """The counters of one thread for several distributions.

    Attributes
    ----------
    below : (distributions, windows) int64
        Finite values below each window.
    bins : (bins,) uint32 or uint64
        Values in each bin of all windows.
    totals : (distributions,) int64
        Finite values.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.below = np.zeros(layout.shape, np.int64)
        self.bins = np.zeros(layout.bins, layout.counter)
        self.totals = np.zeros(layout.shape[0], np.int64)

    @property
    def counters(self) -> Counters:
        """What the kernels take: windows, below, bins, totals."""
        return self._layout.windows, self.below, self.bins, self.totals

    def add(self, other: Counts) -> None:
        """Add the counts of another thread."""
        self.below += other.below
        np.add(self.bins, other.bins, out=self.bins)
        self.totals += other.totals

    def distributions(self) -> Iterator[Distribution]:
        """Tell what the counts say about each distribution, one at a time."""
        for d, windows in enumerate(self._layout.wanted):
            facts = {}
            places = zip(windows, self.below[d], self._layout.offsets[d], strict=False)
            for window, under, offset in places:
                facts[window] = np.empty(window.bins + 1, np.int64)
                facts[window][0] = under
                np.cumsum(self.bins[offset : offset + window.bins], out=facts[window][1:])
                facts[window][1:] += under
            yield Distribution(size=int(self.totals[d]), facts=facts)


Fact = tuple[int, int, int, int]
"""(first, end, below, up to): so many values lie below key `first`, and so many below `end`."""


@dataclass(frozen=True)
class Distribution:
    """What is known about the order of the values.

    Attributes
    ----------
    size : int
        How many values there are.
    facts : dict of Window to (bins + 1,) int64
        For each window the values below each of its bins, and below its end.
    missing : set of Window
        What an answer was found to need: windows narrower than any fact.
    """

    size: int
    facts: dict[Window, npt.NDArray[np.int64]]
    missing: set[Window] = field(default_factory=set)

    def value(self, rank: int) -> np.float32 | None:
        """Return the value of a rank, 0 being the smallest; None if it is not known."""
        first, end, _, _ = self._tightest(
            lambda fact: fact[2] <= rank < fact[3],
            lambda below, window: int(np.searchsorted(below, rank, side="right")) - 1,
        )
        if end - first == 1:
            return value_of(first)
        self.missing.add(Window(first, end))
        return None

    def count(self, key: int) -> int | None:
        """Return how many values have a smaller key; None if it is not known."""
        if not FIRST_KEY < key < END_KEY:
            return 0 if key <= FIRST_KEY else self.size
        first, end, below, up_to = self._tightest(
            lambda fact: fact[0] <= key < fact[1],
            lambda _, window: (key - window.start) >> window.shift,
        )
        if key == first or below == up_to:
            return below
        self.missing.add(Window(first, end))
        return None

    def _tightest(
        self,
        holds: Callable[[Fact], bool],
        find_bin: Callable[[npt.NDArray[np.int64], Window], int],
    ) -> Fact:
        """Find the shortest run of keys that is known to hold something."""
        known = []
        for window, below in self.facts.items():
            under, last = int(below[0]), int(below[-1])
            known.append((window.start, window.stop, under, last))
            known.append((FIRST_KEY, window.start, 0, under))
            known.append((window.stop, END_KEY, last, self.size))
            if holds(known[-3]):
                index = find_bin(below, window)
                first = window.start + (index << window.shift)
                end = min(first + (1 << window.shift), window.stop)
                known.append((first, end, int(below[index]), int(below[index + 1])))
        fits = [fact for fact in known if holds(fact)]
        first, below_first = max(((f[0], f[2]) for f in fits), default=(FIRST_KEY, 0))
        end, below_end = min(((f[1], f[3]) for f in fits), default=(END_KEY, self.size))
        return first, end, below_first, below_end

    def percentile(self, percent: float, *, single: bool = False) -> float | None:
        """Return a percentile by `webbkg.numerics.order.percentile`, or None if it is not known."""
        return order.percentile(self.size, percent, self.value, single=single)

    def median_between(self, low: float, high: float) -> tuple[np.float32, int] | None:
        """Return the median and the number of the values strictly between two limits.

        The median is a float32 as NumPy's: of an even number of values the mean of the two in
        the middle. NaN and 0 if there is none; None if it is not known.
        """
        first, last = self.count(_key_above(low)), self.count(_key_from(high))
        if first is None or last is None:
            return None
        if last <= first:
            return np.float32(np.nan), 0
        upper = self.value((first + last) // 2)
        lower = upper if (last - first) % 2 else self.value((first + last) // 2 - 1)
        if lower is None or upper is None:
            return None
        return np.float32((lower + upper) / np.float32(2)), last - first


def _key_from(limit: float) -> int:
    """Return the smallest key of a value that is at least `limit` (float64)."""
    nearest = np.float32(limit)
    return key_of(nearest) + (1 if float(nearest) < limit else 0)


def _key_above(limit: float) -> int:
    """Return the smallest key of a value above `limit` (float64)."""
    nearest = np.float32(limit)
    return key_of(nearest) + (1 if float(nearest) <= limit else 0)


def guess_windows(
    sample: npt.NDArray[np.float32], percents: Sequence[float], most_bins: int = MOST_BINS
) -> set[Window]:
    """Guess from some of the values where the percentiles of all lie.

    Parameters
    ----------
    sample : (n,) ndarray of float32
        Those that are not finite are left out.
    percents : sequence of float
        The percentiles.
    most_bins : int, optional
        Bins of each window. Where there are fewer than keys, another pass follows.

    Returns
    -------
    set of Window
        One for each percentile; none if there is no value.
    """
    sample = sample[np.isfinite(sample)]
    if len(sample) == 0:
        return set()
    brackets = order.guess(sample, percents, SIGMAS)
    keys = [(key_of(np.float32(low)), key_of(np.float32(high))) for low, high in brackets]
    return {Window(max(low, FIRST_KEY), min(high + 1, END_KEY), most_bins) for low, high in keys}


def resolve(
    count: Callable[[list[set[Window]]], Iterable[Distribution]],
    ask: Callable[[Distribution], Answer],
    windows: list[set[Window]],
) -> list[Answer]:
    """Count until every question is answered.

    Parameters
    ----------
    count : callable
        Counts all values in windows, those of each distribution.
    ask : callable
        Finds the answer for one distribution; provisional while it notes windows as missing.
    windows : list of set of Window
        A guess for each distribution. A good one saves passes; the answers do not depend on it.

    Returns
    -------
    list
        The answer for each distribution.
    """
    while True:
        answers = []
        wanted = []
        unanswered = False
        for distribution in count(windows):
            answers.append(ask(distribution))
            wanted.append(set(distribution.facts) | distribution.missing)
            unanswered = unanswered or bool(distribution.missing)
        if not unanswered:
            return answers
        windows = wanted
