"""Exact order statistics of values in memory, bit for bit NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from webbkg.numerics import order

KINDS = [np.float32, np.float64]


def floats(kind, *, nan):
    width = 8 * np.dtype(kind).itemsize
    # Half the range, so that the difference of two neighbours is finite.
    limit = float(np.finfo(kind).max / 4)
    return st.floats(-limit, limit, width=width) | (st.just(np.nan) if nan else st.nothing())


def arrays(kind, most, *, nan):
    elements = floats(kind, nan=nan)
    return hnp.arrays(kind, st.integers(1, most), elements=elements, fill=st.nothing())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [0, order.FEW])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_percentiles_are_those_of_numpy(kind, few, data):
    values = data.draw(arrays(kind, 300, nan=True))
    percent = data.draw(st.lists(st.floats(0, 100), min_size=1, max_size=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "FEW", few)
        found = order.percentiles(values, percent)
    if np.isnan(values).all():
        assert np.isnan(found).all()
        return
    np.testing.assert_array_equal(found, np.nanpercentile(values, np.array(percent)))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_medians_are_those_of_numpy(kind, data):
    values = data.draw(arrays(kind, 40, nan=False))
    before = values.copy()
    # Halves of the smallest numbers are rounded.
    smallest = float(np.finfo(kind).smallest_subnormal)
    expected = pytest.approx(float(np.median(values)), rel=0, abs=smallest)
    assert order.median(values) == expected
    np.testing.assert_array_equal(values, before)
    assert order.median_of_sorted(np.sort(values)) == expected
    assert order.median(values, overwrite=True) == expected


def test_medians_of_nothing_and_of_the_largest_numbers():
    assert np.isnan(order.median(np.empty(0, np.float32)))
    assert np.isnan(order.median_of_sorted(np.empty(0, np.float32)))
    largest = np.finfo(np.float32).max
    assert order.median(np.array([0, largest, largest, largest], np.float32)) == largest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda rng, n: rng.standard_normal(n),
        lambda rng, n: np.sort(rng.standard_normal(n)),
        lambda rng, n: rng.integers(-3, 4, n),  # ties
        lambda rng, n: np.full(n, 0.25),
        lambda rng, n: np.where(rng.random(n) < 0.3, np.nan, rng.standard_cauchy(n)),
        lambda rng, n: np.where(np.arange(n) % 17, 5.0, np.nan),  # the sample has no value
        lambda rng, n: np.where(np.arange(n) % 17, rng.standard_normal(n), 5.0),  # or a wrong one
    ],
)
def test_large_arrays(kind, make):
    values = make(np.random.default_rng(3), 200_000).astype(kind)
    percent = np.array([0, 0.1, 1, 5, 50, 99.9, 100])
    found = order.percentiles(values, percent)
    np.testing.assert_array_equal(found, np.nanpercentile(values, percent))


def test_a_sample_saves_looking_at_everything_again(monkeypatch):
    values = np.random.default_rng(1).standard_normal(300_000)
    sizes = []
    inside = order.Inside.value

    def value(self, rank):
        sizes.append(self.values.size)
        return inside(self, rank)

    monkeypatch.setattr(order.Inside, "value", value)
    order.percentiles(values, [1, 50, 99])
    assert len(sizes) == 6
    assert max(sizes) < 0.05 * values.size


@given(st.data(), st.sampled_from([0.0, 1.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_a_guess_is_a_bracket_around_the_samples_own_percentile(data, sigmas):
    sample = data.draw(arrays(np.float32, 300, nan=False))
    percent = data.draw(st.lists(st.floats(0, 100), min_size=1, max_size=3))
    brackets = order.guess(sample, percent, sigmas)
    for (low, high), own in zip(brackets, np.percentile(sample, np.array(percent)), strict=True):
        assert low <= own <= high
        assert low in sample or low == -np.inf
        assert high in sample or high == np.inf


def test_a_guess_holds_the_percentile_of_all():
    """With half a standard deviation it often does not."""
    rng = np.random.default_rng(6)
    caught = {5.0: 0, 0.5: 0}
    for _ in range(100):
        values = rng.standard_normal(20_000)
        exact = np.percentile(values, 10)
        for sigmas in caught:
            ((low, high),) = order.guess(values[::20], [10], sigmas)
            caught[sigmas] += low <= exact <= high
    assert caught[5.0] == 100
    assert caught[0.5] < 80


def test_what_lies_inside_a_bracket_is_known_by_rank():
    inside = order.Inside(10, np.array([3.0, 1.0, 2.0]))
    assert [inside.value(rank) for rank in range(9, 14)] == [None, 1.0, 2.0, 3.0, None]
    assert order.percentile(101, 10.5, inside.value) == 1.5
    assert order.percentile(101, 12.5, inside.value) is None
    assert order.percentile(101, 9.5, inside.value) is None


def test_between_two_infinities():
    values = np.array([-np.inf] * 3 + [1.0, 2.0, np.inf, np.inf], np.float32)
    assert order.percentiles(values, [20, 50, 95]) == [-np.inf, 1, np.inf]


def test_percentile_of_nothing_is_unknown():
    for size in (0, 3, 2 * order.FEW):
        assert np.isnan(order.percentiles(np.full(size, np.nan, np.float32), [1, 99])).all()


def test_arguments_stay_as_they_are():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values.flags.writeable = False
    before = values.copy()
    order.percentiles(values, [1, 99])
    order.guess(values, [1, 99], 5.0)
    np.testing.assert_array_equal(values, before)
