"""Order statistics of streamed values against NumPy on the same values, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from packaging.version import Version

from webbkg.numerics import selection
from webbkg.numerics.selection import (
    Counts,
    Layout,
    Window,
    guess_windows,
    key_of,
    resolve,
    value_of,
)

# Before, it interpolated between float32 samples with other roundings.
NUMPY_ROUNDS_AS_NOW = Version(np.__version__) >= Version("2.4")

finite = st.floats(-(2.0**100), 2.0**100, width=32)
clustered = st.integers(-40, 40).map(lambda k: np.float32(1) + np.float32(k) * np.float32(2**-23))
few = st.sampled_from(np.array([-1.5, -0.0, 0.0, 1e-45, -1e-45, 2.0, 3.0], np.float32).tolist())
samples = st.one_of(
    *(
        arrays(np.float32, st.integers(1, 200), elements=values)
        for values in (finite, clustered.map(float), few)
    )
)
percents = st.floats(0, 100)


def count_in_parts(values, n_parts=3):
    """Count `values` as several threads would, unusable ones mixed in."""

    def count(windows):
        layout = Layout(windows, values.size)
        parts = []
        for part in np.array_split(values, n_parts):
            counts = Counts(layout)
            image = np.concatenate([part, np.float32([np.nan, np.inf, -np.inf, 7.0])])
            flags = np.zeros(image.size, np.uint32)
            flags[-1] = 1
            selection.count_usable(image[None], flags[None], np.uint32(1), counts.counters)
            parts.append(counts)
        for other in parts[1:]:
            parts[0].add(other)
        return parts[0].distributions()

    return count


def ask_all(values, ask, guess=()):
    (answer,) = resolve(count_in_parts(values), ask, [set(guess)])
    return answer


@settings(deadline=None)
@given(samples, percents)
def test_percentile_is_numpys(values, percent):
    expected = np.percentile(values, [percent])[0]
    assert ask_all(values, lambda d: d.percentile(percent)) == expected
    expected = np.percentile(values, percent)
    assert isinstance(expected, np.float32)
    single = ask_all(values, lambda d: d.percentile(percent, single=True))
    if NUMPY_ROUNDS_AS_NOW:
        assert single == expected
    else:
        assert abs(single - expected) <= 2**-23 * abs(values).max()


@settings(deadline=None)
@given(samples, percents, st.integers(0, 1000))
def test_guess_does_not_matter(values, percent, seed):
    rng = np.random.default_rng(seed)
    guess = guess_windows(rng.choice(values, 5), [rng.uniform(0, 100)])
    expected = np.percentile(values, [percent])[0]
    assert ask_all(values, lambda d: d.percentile(percent), guess) == expected


@settings(deadline=None)
@given(samples, percents, percents)
def test_median_between_is_numpys(values, one, other):
    low, high = sorted((one, other))

    def ask(distribution):
        limits = distribution.percentile(low), distribution.percentile(high)
        if None in limits:
            return None
        return distribution.median_between(*limits)

    limits = np.percentile(values, [low, high])
    between = values[(values > limits[0]) & (values < limits[1])]
    median, number = ask_all(values, ask)
    assert number == len(between)
    expected = np.median(between) if len(between) else np.float32(np.nan)
    np.testing.assert_array_equal(median, expected, strict=True)


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
@pytest.mark.parametrize("percent", [0.0, 1.0, 99.0, 100.0])
def test_infinite_values_in_the_sample_do_not_matter(infinity, percent):
    """A window that ended beyond the last number had no end at all."""
    values = np.random.default_rng(0).normal(1, 0.1, 1000).astype(np.float32)
    for number in (1, 2, 8, 400):
        sample = np.concatenate([values[::3], np.full(number, infinity, np.float32)])
        found = ask_all(values, lambda d: d.percentile(percent), guess_windows(sample, [percent]))
        assert found == np.percentile(values, [percent])[0]


def test_key_sorts_as_the_value_and_back():
    values = np.array([-np.inf, -3e38, -1.0, -1e-45, 0.0, 1e-45, 1.0, 3e38, np.inf], np.float32)
    keys = [key_of(value) for value in values]
    assert keys == sorted(set(keys))
    assert [value_of(key) for key in keys] == values.tolist()
    assert key_of(np.float32(-0.0)) == key_of(np.float32(0.0))
    assert keys[0] + 1 == selection.FIRST_KEY
    assert keys[-1] == selection.END_KEY


def test_good_guess_needs_one_pass_and_a_bad_one_few():
    values = np.random.default_rng(5).normal(1, 0.02, 400_000).astype(np.float32)
    passes = []

    def count(windows):
        passes.append(windows)
        return count_in_parts(values)(windows)

    for guess, most in ((guess_windows(values[::64].copy(), [25.0]), 1), (set(), 3)):
        passes.clear()
        (answer,) = resolve(count, lambda d: d.percentile(25.0), [guess])
        assert answer == np.percentile(values, [25.0])[0]
        assert len(passes) <= most + (not guess)


def test_percentile_of_nothing_is_nan():
    assert math.isnan(ask_all(np.empty(0, np.float32), lambda d: d.percentile(35.0)))
    assert guess_windows(np.empty(0, np.float32), [35.0]) == set()


def test_difference_of_neighbours_is_float32_as_in_numpy():
    values = np.array([-3.0e7, 1.0], np.float32)  # 30000001 is not a float32
    percent = 33.3
    exact = -3.0e7 + 0.333 * 30000001
    assert ask_all(values, lambda d: d.percentile(percent)) == np.percentile(values, [percent])[0]
    assert abs(np.percentile(values, [percent])[0] - exact) > 0.1


def test_counters_widen_where_uint32_would_overflow():
    window = {Window(selection.FIRST_KEY, selection.END_KEY)}
    for values, kind in ((2**32 - 1, np.uint32), (2**32, np.uint64)):
        layout = Layout([window], values)
        assert Counts(layout).bins.dtype == kind
        assert Counts(layout).bins.nbytes == layout.bytes_a_thread


def test_windows_have_limited_bins_that_cover_them():
    for stop in (1, 2, selection.MOST_BINS, selection.MOST_BINS + 1, 2**31):
        window = Window(selection.FIRST_KEY, selection.FIRST_KEY + stop)
        assert window.bins <= selection.MOST_BINS
        assert (window.bins - 1) << window.shift < stop <= window.bins << window.shift


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63])
def test_no_value_is_lost_at_the_end_of_the_lanes(size):
    values = np.arange(size, dtype=np.float32)
    found = [ask_all(values, lambda d, rank=rank: d.value(rank)) for rank in range(size)]
    assert found == values.tolist()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 7])
def test_windows_may_be_many_and_overlap(number):
    values = np.random.default_rng(2).normal(0, 1, 1001).astype(np.float32)
    edges = [(-0.1 * k - 0.3, 0.2 * k + 0.1) for k in range(number)]
    windows = {Window(key_of(np.float32(low)), key_of(np.float32(high))) for low, high in edges}
    (distribution,) = count_in_parts(values)([windows])
    assert len(distribution.facts) == number
    for window, below in distribution.facts.items():
        low, high = value_of(window.start), value_of(window.stop)
        assert below[0] == np.count_nonzero(values < low)
        assert below[-1] == np.count_nonzero(values < high)
