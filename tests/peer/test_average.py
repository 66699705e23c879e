"""Averages agree with jwst: SCI and ERR to float32 rounding, DQ exactly."""

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE, make_model
from peer import oracle
from webbkg import ImageOptions, average_background

pytestmark = pytest.mark.peer

SHAPE = (9, 40)
ROUNDING = 2.5e-7


def random_stack(seed, leading):
    """Samples, errors and flags in which both implementations leave out the same samples.

    Four kinds of sky side by side: normal, exact ties, outliers, and a large offset.
    """
    rng = np.random.default_rng(seed)
    shape = (*leading, *SHAPE)
    part = (*shape[:-1], 10)
    skies = [
        rng.normal(3.0, 1.0, part),
        rng.integers(-3, 4, part) / 2,
        rng.standard_cauchy(part),
        1e6 + rng.normal(0, 0.1, part),
    ]
    sci = np.concatenate(skies, axis=-1).astype(np.float32)
    dq = rng.choice(np.array([0, 0, 0, 2, 4, 2**30], np.uint32), shape)
    for value in (np.nan, np.inf, -np.inf):
        sci[rng.random(shape) < 0.02] = value
    flagged = rng.random(shape) < 0.03
    sci[flagged] = np.nan
    dq[flagged] |= DO_NOT_USE
    return sci, rng.uniform(0.1, 2.0, shape).astype(np.float32), dq


def make_models(stack):
    return [make_model(*planes) for planes in zip(*stack, strict=True)]


def average_both(stack, sigma, maxiters, models=None):
    ours = average_background(*stack, ImageOptions(sigma=sigma, maxiters=maxiters))
    target = make_model(stack[0][0])
    theirs = oracle.average(target, models or make_models(stack), sigma, maxiters)
    assert type(theirs) is datamodels.ImageModel
    return ours, theirs


@pytest.mark.parametrize("exposures", range(1, 13))
def test_stacks_of_images(exposures):
    """Where no sample is left jwst has 0, unflagged, and we NaN, flagged."""
    stack = random_stack(exposures, (exposures,))
    models = make_models(stack)
    others = [(2.0, 5), (1.5, 1), (1.0, 0), (np.inf, None)]
    for sigma, maxiters in ((3.0, None), others[exposures % 4], others[(exposures + 1) % 4]):
        ours, theirs = average_both(stack, sigma, maxiters, models)
        known = ours.counts > 0
        assert known.mean() > 0.5
        np.testing.assert_allclose(ours.sci[known], theirs.data[known], rtol=ROUNDING, atol=1e-6)
        np.testing.assert_allclose(ours.err[known], theirs.err[known], rtol=ROUNDING)
        np.testing.assert_array_equal(theirs.data[~known], 0)
        np.testing.assert_array_equal(ours.dq, theirs.dq | np.where(known, 0, DO_NOT_USE))


def in_every_exposure(stack, options):
    """Tell the pixels that have a usable integration in each exposure."""
    images = [average_background(*planes, options) for planes in zip(*stack, strict=True)]
    return np.logical_and.reduce([image.counts > 0 for image in images])


@pytest.mark.parametrize(("exposures", "integrations"), [(1, 4), (2, 3), (5, 8), (12, 2), (9, 10)])
def test_stacks_of_cubes(exposures, integrations):
    """ERR is a deliberate difference, and so are pixels with an exposure that has no sample."""
    stack = random_stack(integrations, (exposures, integrations))
    models = make_models(stack)
    for sigma, maxiters in ((3.0, None), (2.0, 1), (1.5, 5)):
        ours, theirs = average_both(stack, sigma, maxiters, models)
        options = ImageOptions(sigma=sigma, maxiters=maxiters)
        known = in_every_exposure(stack, options) & (ours.counts > 0)
        assert known.mean() > 0.5
        np.testing.assert_allclose(ours.sci[known], theirs.data[known], rtol=ROUNDING, atol=1e-6)
        np.testing.assert_array_equal(ours.dq[known], theirs.dq[known])


def test_the_clipping_matters_here():
    """Were nothing clipped in these stacks, the agreement would prove little."""
    stack = random_stack(11, (11,))
    assert average_background(*stack, ImageOptions(sigma=2.0)).exposures.clipped > 200


def test_the_same_number_of_iterations_is_meant_in_both():
    values = np.array([1.0, 2.0] * 5 + [90.0, 30.0], np.float32)
    stack = [np.broadcast_to(values[:, np.newaxis, np.newaxis], (12, 1, 2))] * 2
    stack.append(np.zeros((12, 1, 2), np.uint32))
    for maxiters, mean in ((None, 1.5), (0, 1.5), (-1, 1.5), (1, 45 / 11), (-2, 45 / 11)):
        ours, theirs = average_both(stack, 2.0, maxiters)
        assert ours.sci[0, 0] == theirs.data[0, 0] == np.float32(mean)


@pytest.mark.parametrize("sigma", [0.0, np.inf])
def test_extreme_sigmas(sigma):
    """All but the median goes, or nothing."""
    values = np.array([1.0, 2.0, 4.0, 30.0, 2.0], np.float32)
    stack = [np.broadcast_to(values[:, np.newaxis, np.newaxis], (5, 1, 2))] * 2
    stack.append(np.zeros((5, 1, 2), np.uint32))
    ours, theirs = average_both(stack, sigma, None)
    assert ours.sci[0, 0] == theirs.data[0, 0] == np.float32(2.0 if sigma == 0 else 7.8)


def test_integrations_may_differ_in_number():
    rng = np.random.default_rng(3)
    models = [make_model(rng.normal(size=(n, *SHAPE))) for n in (1, 2, 5)]
    theirs = oracle.average(make_model(np.zeros((2, *SHAPE))), models)
    images = [np.float32(model.data.mean(axis=0, dtype=np.float64)) for model in models]
    np.testing.assert_allclose(theirs.data, np.mean(images, axis=0), rtol=1e-5, atol=1e-6)
