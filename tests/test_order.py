"""Exact order statistics."""

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


@pytest.fixture
def always_by_histogram(monkeypatch):
    """Let the histogram path run on small arrays too."""
    monkeypatch.setattr(order, "FEW", 0)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_percentiles_are_those_of_numpy(kind, data):
    values = data.draw(
        hnp.arrays(kind, st.integers(1, 300), elements=floats(kind, nan=True), fill=st.nothing())
    )
    percent = data.draw(st.lists(st.floats(0, 100), min_size=1, max_size=4))
    found = order.percentiles(values, percent)
    if np.isnan(values).all():
        assert np.isnan(found).all()
        return
    np.testing.assert_array_equal(found, np.nanpercentile(values, np.array(percent)))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_histogram_finds_every_rank(kind, data):
    values = data.draw(
        hnp.arrays(kind, st.integers(1, 60), elements=floats(kind, nan=True), fill=st.nothing())
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "FEW", 0)
        expected = np.sort(values[~np.isnan(values)])
        found = order.values_at_ranks(values, np.arange(expected.size))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == values.dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda rng, n: rng.standard_normal(n),
        lambda rng, n: 1000 + 1e-3 * rng.standard_normal(n),  # one bin holds them all
        lambda rng, n: rng.integers(-3, 4, n),  # ties
        lambda rng, n: np.full(n, 0.25),
        lambda rng, n: np.where(rng.random(n) < 0.3, np.nan, rng.standard_cauchy(n)),
    ],
)
def test_large_arrays(kind, make):
    values = make(np.random.default_rng(3), 200_000).astype(kind)
    percent = np.array([0.1, 1, 5, 50, 99.9])
    found = order.percentiles(values, percent)
    np.testing.assert_array_equal(found, np.nanpercentile(values, percent))


@pytest.mark.usefixtures("always_by_histogram")
def test_both_zeros_are_the_same_number():
    values = np.array([0.0, -0.0, 1.0, -1.0], np.float32)
    assert order.values_at_ranks(values, [0, 1, 2, 3]).tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_signalling_nan_is_no_infinity():
    words = np.array([0x7F800001, 0xFF800001, 0x7F800000], np.uint32)
    values = np.concatenate([words.view(np.float32), np.zeros(order.FEW, np.float32)])
    assert order.values_at_ranks(values, [order.FEW])[0] == np.inf


def test_between_two_infinities():
    values = np.array([-np.inf] * 3 + [1.0, 2.0, np.inf, np.inf], np.float32)
    assert order.percentiles(values, [20, 50, 95]).tolist() == [-np.inf, 1, np.inf]


def test_percentile_of_nothing_is_unknown():
    assert np.isnan(order.percentiles(np.full(3, np.nan, np.float32), [1, 99])).all()


@pytest.mark.parametrize("few", [0, order.FEW])
@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_is_not_there(rank, few, monkeypatch):
    monkeypatch.setattr(order, "FEW", few)
    with pytest.raises(IndexError, match=r"from 0 to 1, there being 2 values .*got (-1|2) to"):
        order.values_at_ranks(np.array([1.0, np.nan, 2.0]), [rank])


def test_arguments_stay_as_they_are():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values.flags.writeable = False
    before = values.copy()
    order.percentiles(values, [1, 99])
    np.testing.assert_array_equal(values, before)
