"""Averages without each sample in turn: what they share must not change a bit of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webbkg import ImageOptions, sigma_clip_mask
from webbkg.image import jackknife_kernels as kernels
from webbkg.image.average import sorting_network
from webbkg.image.jackknife import OneByOne, Together

HEIGHT, COLUMNS = 7, 43
KINDS = ("normal", "cauchy", "ties", "scales", "denormal", "huge", "outlier")


def draw_samples(rng, kind, samples, pixels=HEIGHT * COLUMNS):
    """Draw float32 samples that are hard in one way; some are missing."""
    shape = samples, pixels
    values = {
        "normal": lambda: rng.normal(10, 1, shape),
        "cauchy": lambda: rng.standard_cauchy(shape),
        "ties": lambda: rng.integers(-3, 4, shape) * 0.1,
        "scales": lambda: rng.normal(0, 1, shape) * 10.0 ** rng.integers(-12, 12, shape),
        "denormal": lambda: rng.integers(-5, 6, shape) * 1e-45,
        "huge": lambda: rng.normal(0, 1e38, shape),
        "outlier": lambda: np.where(rng.random(shape) < 1 / samples, 1e4, rng.normal(0, 1, shape)),
    }[kind]()
    values = values.clip(-3e38, 3e38).astype(np.float32)
    some = rng.random(pixels) < 0.3
    values[:, some] = np.where(rng.random((samples, some.sum())) < 0.3, np.nan, values[:, some])
    values[1:, rng.random(pixels) < 0.02] = np.nan  # one sample alone
    values[:, rng.random(pixels) < 0.02] = np.nan
    return values


def averages(kind, sci, err, options, errors=True):
    """Return mean, error and number without each sample in turn, and what became of the others."""
    samples, pixels = sci.shape
    height = pixels // COLUMNS
    made = kind(samples, height + 1, COLUMNS, options, errors)
    for i in range(samples):
        images = made.images(i, height)
        for image, values in zip(images, (sci, err), strict=True):
            image[...] = values[i].reshape(height, COLUMNS)
    made.begin(height)
    found = []
    for i in range(samples):
        mean, error = np.empty((2, height, COLUMNS), np.float32)
        counts = np.empty((height, COLUMNS), np.uint32)
        told = made.average(i, height, mean, error, counts)
        found.append((mean, error if errors else mean, counts, told))
    return found


def assert_same(sci, err, options, errors=True):
    pairs = zip(
        averages(Together, sci, err, options, errors),
        averages(OneByOne, sci, err, options, errors),
        strict=True,
    )
    for (*ours, told), (*theirs, told_too) in pairs:
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
        assert told == told_too


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 9, 10, 17, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_as_one_by_one(samples, kind):
    rng = np.random.default_rng(samples)
    sci = draw_samples(rng, kind, samples)
    err = rng.uniform(0.5, 1.5, sci.shape).astype(np.float32)
    err[rng.random(sci.shape) < 0.05] = np.nan
    err[np.isnan(sci)] = 0
    for sigma, maxiters in itertools.product([0.0, 1.0, 2.0, 3.0, np.inf], [None, 1]):
        assert_same(sci, err, ImageOptions(sigma=sigma, maxiters=maxiters))
    assert_same(sci, err, ImageOptions(), errors=False)


SAMPLE = st.one_of(
    st.floats(width=32, allow_infinity=False),
    st.floats(-100, 100, width=32),
    st.integers(-2, 2).map(float),
    st.sampled_from([np.nan, -0.0, 1e-45, 3e38, 2.0**30, 1 + 2.0**-23]),
)


@settings(max_examples=200)
@given(
    st.integers(2, 12).flatmap(
        lambda n: st.lists(st.lists(SAMPLE, min_size=n, max_size=n), min_size=1, max_size=COLUMNS)
    ),
    st.sampled_from([0.5, 1.0, 1.5, 2.5, 3.0]),
)
def test_the_same_bits_whatever_the_samples(columns, sigma):
    sci = np.full((len(columns[0]), COLUMNS), np.nan, np.float32)
    sci[:, : len(columns)] = np.array(columns, np.float32).T
    assert_same(sci, np.where(np.isnan(sci), 0, sci), ImageOptions(sigma=sigma))


def list_doubtful(samples, sigma):
    """Return the pixels that `sum_all` leaves to be averaged one by one."""
    pixels = samples.shape[1]
    network, scratch = sorting_network(len(samples)), kernels.make_jackknife_scratch(len(samples))
    out = np.empty(pixels, np.int32), np.empty(pixels), np.empty(pixels, np.int32)
    return out[2][: kernels.sum_all(samples, sigma, network, scratch, *out)]


def test_one_test_serves_all_averages_in_most_pixels():
    samples = np.random.default_rng(5).normal(10, 1, (10, 20000)).astype(np.float32)
    samples[3, 77] = 100
    samples[4, 78] = np.nan
    samples[0, 79] = 1e-9
    listed = list_doubtful(samples, 3.0)
    assert {77, 78, 79} <= set(listed)
    assert len(listed) < 0.02 * 20000


def test_sums_that_round_are_left_to_be_added_up():
    samples = np.random.default_rng(6).normal(10, 1, (5, 1000)).astype(np.float32)
    samples[2, ::10] = 1e-9
    np.testing.assert_array_equal(list_doubtful(samples, None), np.arange(0, 1000, 10))


def test_outliers_are_sorted_once_and_hardly_any_is_left_to_be_averaged_one_by_one():
    rng = np.random.default_rng(7)
    sci = draw_samples(rng, "outlier", 12, 43 * COLUMNS)
    made = Together(12, 43, COLUMNS, ImageOptions(), errors=False)
    for i in range(12):
        made.images(i, 43)[0][...] = sci[i].reshape(43, COLUMNS)
    made.begin(43)
    assert made._outliers._done > 0.3 * sci.shape[1]
    assert made._near._listed < 0.03 * sci.shape[1]  # such as have one sample alone


def test_outliers_that_hide_the_scatter_of_the_others_are_left_alone():
    """Sums of squares say nothing of noise that is 10^8 times as small as an outlier."""
    rng = np.random.default_rng(8)
    sci = rng.normal(1000, 0.01, (12, 2 * COLUMNS)).astype(np.float32)
    sci[3] = 1e10
    sci[5, ::2] = 1000.2
    assert_same(sci, np.ones_like(sci), ImageOptions())


def test_what_was_rejected_early_comes_back():
    values = np.array([0.0, 1.0, 2.0, 10.0, 20.0, 20.0, 30.0, 30.0])
    first, last = (sigma_clip_mask(values, sigma=1.25, maxiters=most) for most in (1, None))
    assert (last & ~first).any()
    rng = np.random.default_rng(9)
    sci = np.concatenate([values, [15.0]])[:, np.newaxis] + rng.normal(0, 0.01, (9, COLUMNS))
    for signed in (sci, -sci):  # at either end
        stack = signed.astype(np.float32)
        assert_same(stack, np.ones_like(stack), ImageOptions(sigma=1.25))
