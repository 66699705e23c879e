"""The clip rule: which samples survive, and when none can be rejected."""

import itertools

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import differential_evolution

import reference
from webbkg import ImageOptions, sigma_clip_mask
from webbkg.errors import OptionError
from webbkg.image.average import average_background, largest_deviation, sorting_network

FINITE = st.floats(-1e6, 1e6)
POOLS = {
    "integers": st.integers(-3, 3).map(float),
    "halves": st.integers(-8, 8).map(lambda n: n / 2),
    "tenths": st.integers(-20, 20).map(lambda n: n / 10),
    "floats": FINITE,
    "float32": st.floats(-1e6, 1e6, width=32),
    "extremes": st.sampled_from([1e-300, -1e-300, 1e300, -1e300, 0.0, -0.0, 1.0, 5e-324]),
    "outliers": st.one_of(st.integers(0, 2).map(float), st.sampled_from([90.0, -1e3, 1e30])),
}
NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])
SIGMAS = st.one_of(st.sampled_from([0.5, 1.0, 2.0, 3.0, 5.0, np.inf]), st.floats(0.5, 5.0))
MAXITERS = st.sampled_from([None, 0, 1, 2, 5, -1, -2])


@st.composite
def columns(draw):
    values = draw(st.sampled_from(sorted(POOLS)).map(POOLS.get))
    sample = st.one_of(values, values, values, NOT_FINITE) if draw(st.booleans()) else values
    return np.array(draw(st.lists(sample, min_size=1, max_size=40)))


@settings(max_examples=500)
@given(columns(), SIGMAS, MAXITERS)
def test_mask_is_that_of_astropy(values, sigma, maxiters):
    ours = sigma_clip_mask(values[:, np.newaxis], sigma=sigma, maxiters=maxiters)
    np.testing.assert_array_equal(
        ours, reference.astropy_mask(values[:, np.newaxis], sigma, maxiters)
    )


def quantised_stack(rng, samples, pixels):
    """Few distinct values, so that samples tie with each other and with the limits."""
    step = rng.choice([1.0, 0.5, 0.1], size=pixels)
    stack = rng.integers(-4, 5, size=(samples, pixels)) * step
    stack += rng.choice([0.0, 1000.3], size=pixels)
    stack[rng.random(stack.shape) < 0.05] = 50.0
    stack[rng.random(stack.shape) < 0.05] = np.nan
    return stack


@pytest.mark.skipif(
    not reference.ASTROPY_CLIPS_ALL, reason="ties take the very roundings of astropy >= 8.0.2"
)
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 25, 40])
def test_mask_is_that_of_astropy_for_thousands_of_ties(samples):
    rng = np.random.default_rng(samples)
    stack = quantised_stack(rng, samples, 3000)
    for sigma, maxiters in itertools.product([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], [None, 1, 2]):
        ours = sigma_clip_mask(stack, sigma=sigma, maxiters=maxiters)
        np.testing.assert_array_equal(ours, reference.astropy_mask(stack, sigma, maxiters))


def test_mask_is_that_of_the_rule_written_out():
    rng = np.random.default_rng(4)
    for samples in (3, 11, 24):
        stack = rng.standard_cauchy((samples, 40))
        for maxiters in (None, 1, 3):
            ours = sigma_clip_mask(stack, sigma=1.7, maxiters=maxiters)
            twin = [reference.clip_mask(column, 1.7, maxiters) for column in stack.T]
            np.testing.assert_array_equal(ours.T, twin)


def test_one_rejected_early_comes_back():
    values = [0.0, 1.0, 2.0, 10.0, 20.0, 20.0, 30.0, 30.0]
    first = sigma_clip_mask(values, sigma=1.25, maxiters=1)
    last = sigma_clip_mask(values, sigma=1.25)
    assert (last & ~first).any()
    np.testing.assert_array_equal(last, reference.astropy_mask(values, 1.25, None))
    stack = np.reshape(values, (-1, 1, 1))
    options = ImageOptions(sigma=1.25)
    combined = average_background(stack, np.ones_like(stack), np.zeros(stack.shape), options)
    assert combined.counts.item() == last.sum()
    assert combined.sci.item() == np.float32(np.mean(np.array(values)[last]))


@pytest.mark.parametrize(
    ("maxiters", "kept"), [(None, 10), (0, 10), (-1, 10), (1, 11), (-2, 11), (-9, 11)]
)
def test_how_many_iterations_are_meant(maxiters, kept):
    """What `astropy.stats.sigma_clip` makes of negative numbers, jwst accepts."""
    values = [1.0, 2.0] * 5 + [90.0, 30.0]
    assert sigma_clip_mask(values, sigma=2.0, maxiters=maxiters).sum() == kept
    clipped = sigma_clip(values, sigma=2.0, maxiters=maxiters or None, axis=0)
    assert clipped.count() == kept


def test_no_clipping_at_all_and_all_but_the_median():
    """Of an infinite sigma, also where the width is 0, and of 0."""
    values = np.array([1.0, 2.0, 3.0, 1e30, np.nan])
    assert sigma_clip_mask(values, sigma=np.inf).tolist() == [True] * 4 + [False]
    assert sigma_clip_mask(np.full((5, 2), 7.0), sigma=np.inf).all()
    assert sigma_clip_mask(values[[0, 1, 3]], sigma=0.0).tolist() == [False, True, False]


def test_limits_are_inclusive():
    # Median 0 and standard deviation 1: -1 and 1 lie on the limits of 1 sigma.
    assert sigma_clip_mask([-1.0, 1.0], sigma=1.0).all()
    assert not sigma_clip_mask([-1.0, 1.0], sigma=np.nextafter(1.0, 0)).any()


def test_every_axis_but_the_first_is_kept():
    rng = np.random.default_rng(1)
    stack = rng.normal(size=(15, 2, 3, 4))
    stack[7, 1, 2, 3] = 1e3
    ours = sigma_clip_mask(stack)
    assert ours.shape == stack.shape
    assert not ours[7, 1, 2, 3]
    np.testing.assert_array_equal(ours, reference.astropy_mask(stack, 3.0, None))


def test_input_in_any_layout_stays_as_it_is():
    stack = np.asfortranarray(np.random.default_rng(2).normal(size=(9, 50)).astype(">f4"))
    before = stack.copy()
    stack.flags.writeable = False
    ours = sigma_clip_mask(stack[::-1], sigma=1.5)
    np.testing.assert_array_equal(stack, before)
    np.testing.assert_array_equal(ours, reference.astropy_mask(before[::-1], 1.5, None))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_nothing_in_nothing_out(shape):
    assert sigma_clip_mask(np.empty(shape)).shape == shape


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sigma": np.nan}, r"sigma must be a number of at least 0 \(got nan\)"),
        ({"sigma": -3.0}, r"sigma must be a number of at least 0 \(got -3.0\)"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(wrong, message):
    with pytest.raises(OptionError, match=message):
        sigma_clip_mask([1.0, 2.0], **wrong)


@pytest.mark.parametrize("samples", range(2, 21))
def test_largest_deviation_is_what_brute_force_finds(samples):
    assert largest_deviation(samples) == pytest.approx(
        reference.largest_deviation(samples), rel=1e-6
    )


@pytest.mark.parametrize("samples", [3, 5, 6])
def test_largest_deviation_is_what_an_optimiser_finds(samples):
    found = differential_evolution(
        lambda values: -reference.deviation(values.T),
        bounds=[(-1, 1)] * samples,
        vectorized=True,
        updating="deferred",
        rng=1,
        tol=1e-7,
        maxiter=1500,
    )
    assert -found.fun == pytest.approx(largest_deviation(samples), rel=1e-4)


@pytest.mark.parametrize("samples", [2, 4, 7, 8, 13, 200])
def test_no_sample_deviates_by_more_than_the_largest_deviation(samples):
    rng = np.random.default_rng(samples)
    for power in (1, 3, 9):
        values = rng.normal(size=(4000, samples)) ** power
        assert reference.deviation(np.sort(values)).max() <= largest_deviation(samples) + 1e-9


@pytest.mark.parametrize(("samples", "kept"), [(7, 7), (8, 7)])
def test_eight_samples_are_the_fewest_that_three_sigma_can_reject_from(samples, kept):
    values = np.zeros(samples)
    between = (samples - 3) // 2
    values[-1] = 1.0
    values[:between] = 1.0 / (samples - between)
    assert sigma_clip_mask(values).sum() == kept
    stack = values.reshape(-1, 1, 1)
    combined = average_background(stack, np.ones_like(stack), np.zeros(stack.shape, int))
    assert combined.counts.item() == kept


@pytest.mark.parametrize("size", range(1, 13))
def test_sorting_network_sorts_all_zeros_and_ones(size):
    """By the 0-1 principle it then sorts anything."""
    values = np.array(list(itertools.product([0, 1], repeat=size)))
    assert (np.diff(exchange(values)) >= 0).all()


@pytest.mark.parametrize("size", [0, 33, 64, 100, 200])
def test_sorting_network_sorts_larger_stacks(size):
    values = np.random.default_rng(size).permuted(np.tile(np.arange(size), (30, 1)), axis=1)
    np.testing.assert_array_equal(exchange(values), np.tile(np.arange(size), (30, 1)))


def exchange(values):
    values = values.copy()
    for first, second in sorting_network(values.shape[1]):
        low = np.minimum(values[:, first], values[:, second])
        values[:, second] = np.maximum(values[:, first], values[:, second])
        values[:, first] = low
    return values


def test_astropy_twin_reads_masks_the_right_way():
    assert reference.astropy_mask([0.0, 0.1, np.nan], 3.0, None).tolist() == [True, True, False]
    assert isinstance(sigma_clip([1.0, 2.0]), np.ma.MaskedArray)
