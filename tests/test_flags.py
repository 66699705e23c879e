"""Which flags of the backgrounds reach the target: any, or those that enough of them carry."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_model, ramp
from webbkg import BackgroundStep
from webbkg.errors import OptionError
from webbkg.image.average import average_background, average_exposures
from webbkg.image.flags import bytes_a_pixel, samples_needed
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed
from webbkg.options import ImageOptions

SHAPE = (9, 13)
JUMP, SATURATED, HIGHEST = 4, 2, 1 << 31


def placed(dq, row=0, column=0, shape=SHAPE):
    """Place an exposure of flags at (row, column) of a target of `shape`."""
    rows = max(row, 0), min(row + dq.shape[-2], shape[0])
    columns = max(column, 0), min(column + dq.shape[-1], shape[1])
    there = [
        (start - first, stop - first) for first, (start, stop) in ((row, rows), (column, columns))
    ]
    planes = ArrayPlanes.of(SCI=np.ones(dq.shape), ERR=np.ones(dq.shape), DQ=dq)
    return Placed(planes, Overlap(rows, columns, *there))


def carried(dq, threshold, covering):
    """Tell flag by flag what enough of the samples (the first axis) carry: the plain twin."""
    result = np.zeros(dq.shape[1:], np.uint32)
    for bit in range(32):
        count = ((dq >> np.uint32(bit)) & 1).sum(axis=0)
        enough = (count >= 1) & (count >= threshold * covering * (1 - 1e-9))
        result |= np.where(enough, np.uint32(1 << bit), np.uint32(0))
    return result


@st.composite
def stacks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    exposures = []
    for _ in range(draw(st.integers(1, 9))):
        integrations = draw(st.sampled_from([0, 0, 2, 5]))
        shape = draw(st.sampled_from([SHAPE, (4, 6), (20, 30)]))
        size = (integrations, *shape) if integrations else shape
        dq = rng.integers(0, 2**32, size, np.uint32) & rng.integers(0, 2**32, size, np.uint32)
        where = draw(st.tuples(st.integers(-3, 5), st.integers(-5, 7)))
        exposures.append((dq, *where))
    return exposures


@settings(max_examples=40, deadline=None)
@given(stacks(), st.sampled_from([0.0, 0.07, 0.2, 0.5, 0.6, 2 / 3, 1.0]), st.integers(1, 3))
def test_flags_are_those_of_the_plain_twin(exposures, threshold, threads):
    sources, flags, covering = [], [], np.zeros(SHAPE, int)
    for dq, row, column in exposures:
        source = placed(dq, row, column)
        (top, bottom), (left, right) = source.overlap.rows, source.overlap.columns
        if top >= bottom or left >= right:
            continue
        sources.append(source)
        whole = np.zeros(SHAPE, np.uint32)
        cut = (..., slice(*source.overlap.other_rows), slice(*source.overlap.other_columns))
        there = dq[cut].reshape(-1, bottom - top, right - left)
        whole[top:bottom, left:right] = carried(there, threshold, len(there))
        flags.append(whole)
        covering[top:bottom, left:right] += 1
    if not sources:
        return
    options = ImageOptions(dq_threshold=threshold, band_memory=4000)
    result = average_exposures(sources, SHAPE, options, threads=threads)
    expected = carried(np.array(flags), threshold, covering)
    expected[result.counts == 0] |= 1
    np.testing.assert_array_equal(result.dq, expected)


def test_any_is_what_it_was_and_a_tiny_fraction_is_any():
    rng = np.random.default_rng(1)
    dq = rng.integers(0, 2**32, (6, *SHAPE), np.uint32)
    sci = rng.normal(0, 1, dq.shape)
    default = average_background(sci, sci**2, dq)
    np.testing.assert_array_equal(default.dq | 1, np.bitwise_or.reduce(dq, axis=0) | 1)
    tiny = average_background(sci, sci**2, dq, ImageOptions(dq_threshold=1e-6))
    assert default == tiny


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0, [1, 1, 1, 1]), (0.5, [1, 1, 2, 2]), (0.6, [1, 2, 2, 3]), (1, [1, 2, 3, 4])],
)
def test_the_number_that_is_needed(threshold, expected):
    assert [samples_needed(threshold, count) for count in (1, 2, 3, 4)] == expected
    assert samples_needed(0.07, 100) == 7


def test_a_pixel_without_a_good_sample_is_always_flagged():
    """Each of three is lost to another cause: no flag is common to two of them."""
    dq = np.zeros((3, *SHAPE), np.uint32)
    sci = np.ones(dq.shape)
    dq[0, 2, 2] = 1
    sci[1, 2, 2] = sci[2, 2, 2] = np.nan
    dq[1:, 3, 3] = 1
    dq[0, 4, 4] = 1
    result = average_background(sci, sci, dq, ImageOptions(dq_threshold=1))
    assert np.argwhere(result.dq).tolist() == [[2, 2]]
    half = average_background(sci, sci, dq, ImageOptions(dq_threshold=0.5))
    assert np.argwhere(half.dq).tolist() == [[2, 2], [3, 3]]


def test_one_bad_exposure_of_five_flags_a_pixel_no_more():
    backgrounds = [make_model(ramp(SHAPE)) for _ in range(5)]
    for number, model in enumerate(backgrounds):
        model.dq[3, 3] = HIGHEST | JUMP  # of the detector: in all of them
        model.dq[4, number] = SATURATED | 1
    target = make_model(2 * ramp(SHAPE))
    any_of_them = BackgroundStep.call(target, backgrounds)
    assert (any_of_them.dq[4, :5] == 3).all()
    result = BackgroundStep.call(target, backgrounds, dq_threshold=0.5)
    assert np.argwhere(result.dq).tolist() == [[3, 3]]
    assert result.dq[3, 3] == HIGHEST | JUMP
    np.testing.assert_array_equal(result.data, any_of_them.data)
    assert result.meta.background.webbkg.instance["dq_threshold"] == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_what_is_no_fraction_is_refused(value):
    with pytest.raises(OptionError, match="dq_threshold must be a number from 0 to 1"):
        ImageOptions(dq_threshold=value)


def test_memory_is_taken_for_counts_alone():
    assert bytes_a_pixel(0, 200) == 0
    assert bytes_a_pixel(0.5, 200) == 4 * (8 + 2)
