"""The averaging: against its slow twin, and case by case."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from webbkg import ImageOptions, average_background
from webbkg.errors import OptionError
from webbkg.image import kernels
from webbkg.image.average import average_exposures, sigma_clip_mask
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed

DO_NOT_USE = 1
SHAPE = (6, 11)


def assert_same(ours, twin, rtol=2.5e-7, atol=0.0):
    """SCI and ERR to float32 rounding; counts, flags, coverage and totals exactly."""
    np.testing.assert_array_equal(ours.counts, twin.counts)
    np.testing.assert_array_equal(ours.dq, twin.dq)
    np.testing.assert_array_equal(ours.covered, twin.covered)
    np.testing.assert_allclose(ours.sci, twin.sci, rtol=rtol, atol=atol)
    np.testing.assert_allclose(ours.err, twin.err, rtol=rtol)
    for counted, expected in (
        (ours.exposures, twin.exposures),
        (ours.integrations, twin.integrations),
    ):
        assert (counted.offered, counted.usable, counted.clipped) == expected
        assert counted.used == expected[1] - expected[2]


def compare(sci, err=None, dq=None, *, sigma=3.0, maxiters=None, **tolerance):
    """Average a stack both ways, require the same, and return ours."""
    sci = np.asarray(sci, np.float32)
    err = np.full(sci.shape, 0.25, np.float32) if err is None else np.asarray(err, np.float32)
    dq = np.zeros(sci.shape, np.uint32) if dq is None else np.asarray(dq, np.uint32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = average_background(sci, err, dq, ImageOptions(sigma=sigma, maxiters=maxiters))
    placed = [reference.Placed(*planes) for planes in zip(sci, err, dq, strict=True)]
    twin = reference.average(placed, sci.shape[-2:], sigma, maxiters)
    assert_same(ours, twin, **tolerance)
    return ours


def ruin(rng, sci, err, dq, share=0.08):
    """Give a share of the samples each of the things that can be wrong with one."""
    sci = np.array(sci, np.float32)
    err = np.array(err, np.float32)
    for value in (np.nan, np.inf, -np.inf, 300.0, -1e4):
        sci[rng.random(sci.shape) < share / 4] = value
    for value in (np.nan, np.inf, -1.0):
        err[rng.random(err.shape) < share / 6] = value
    for flags in (DO_NOT_USE, DO_NOT_USE | 4, 2, 1 << 31, (1 << 30) | DO_NOT_USE):
        dq[rng.random(dq.shape) < share / 4] |= np.uint32(flags)
    return sci, err, dq


def random_stack(seed, shape):
    rng = np.random.default_rng(seed)
    slope = 0.01 * np.arange(shape[-1]) + 0.1 * np.arange(shape[-2])[:, np.newaxis]
    sci = rng.normal(10 + slope, 1.0, size=shape)
    return ruin(rng, sci, rng.uniform(0.1, 2, shape), np.zeros(shape, np.uint32))


# Against the twin.


@pytest.mark.parametrize("exposures", [1, 2, 3, 5, 6, 7, 8, 9, 12, 33, 200])
@pytest.mark.parametrize(("sigma", "maxiters"), [(3.0, None), (2.0, 1), (1.0, 5), (0.5, 0)])
def test_stack_of_images(exposures, sigma, maxiters):
    compare(*random_stack(exposures, (exposures, *SHAPE)), sigma=sigma, maxiters=maxiters)


@pytest.mark.parametrize(
    ("exposures", "integrations"), [(1, 2), (1, 9), (3, 1), (2, 3), (4, 10), (9, 7), (12, 20)]
)
@pytest.mark.parametrize(("sigma", "maxiters"), [(3.0, None), (1.5, 1), (0.5, None)])
def test_stack_of_cubes(exposures, integrations, sigma, maxiters):
    stack = random_stack(integrations, (exposures, integrations, *SHAPE))
    compare(*stack, sigma=sigma, maxiters=maxiters)


def place(one, shape):
    """Wrap a `reference.Placed` as the averaging wants it."""
    size = one.sci.shape[-2:]
    first, stop = (max(one.row, 0), max(one.column, 0)), (one.row + size[0], one.column + size[1])
    rows, columns = ((first[axis], min(stop[axis], shape[axis])) for axis in (0, 1))
    own_rows, own_columns = (
        (start - corner, end - corner)
        for (start, end), corner in ((rows, one.row), (columns, one.column))
    )
    planes = ArrayPlanes.of(SCI=one.sci, ERR=one.err, DQ=one.dq)
    return Placed(planes, Overlap(rows, columns, own_rows, own_columns))


@st.composite
def mixed_exposures(draw):
    """Images and cubes of any size, somewhere on a target, with all that can be wrong."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exposures = []
    for _ in range(draw(st.integers(1, 10))):
        rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 12))
        row = draw(st.integers(1 - rows, shape[0] - 1))
        column = draw(st.integers(1 - columns, shape[1] - 1))
        size = (*([draw(st.integers(1, 9))] if draw(st.booleans()) else []), rows, columns)
        values = rng.integers(-4, 5, size) / 2 if draw(st.booleans()) else rng.normal(size=size)
        planes = ruin(rng, values, rng.uniform(0, 1, size), np.zeros(size, np.uint32), share=0.2)
        exposures.append(reference.Placed(*planes, row=row, column=column))
    return shape, exposures


@settings(max_examples=200)
@given(mixed_exposures(), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([None, 1, 5]))
def test_images_and_cubes_anywhere_on_the_target(mixed, sigma, maxiters):
    shape, exposures = mixed
    options = ImageOptions(sigma=sigma, maxiters=maxiters)
    ours = average_exposures([place(one, shape) for one in exposures], shape, options, threads=1)
    assert_same(ours, reference.average(exposures, shape, sigma, maxiters), atol=1e-5)


@pytest.mark.parametrize("samples", [4, 7, 8, 9, 15, 16, 40])
@pytest.mark.parametrize("step", [1.0, 0.5, 0.1])
def test_ties_are_decided_as_astropy_decides_them(samples, step):
    rng = np.random.default_rng(samples)
    sci = (rng.integers(-3, 4, size=(samples, 20, 50)) * step).astype(np.float32)
    sci[rng.random(sci.shape) < 0.03] = 9.0
    for sigma in (0.5, 1.0, 1.5, 2.0, 3.0):
        ours = compare(sci, sigma=sigma, atol=1e-7)
        kept = sigma_clip_mask(sci, sigma=sigma).sum(axis=0)
        np.testing.assert_array_equal(ours.counts, kept)


@pytest.mark.parametrize("samples", [2, 5, 7, 8, 9, 20, 200])
@pytest.mark.parametrize("offset", [1e6, -3e4])
def test_small_scatter_on_a_large_offset(samples, offset):
    rng = np.random.default_rng(samples)
    sci = offset + rng.normal(scale=0.1, size=(samples, *SHAPE))
    sci[0, 0, :4] += 50.0
    ours = compare(sci)
    assert (ours.counts[0, :4] < samples).all() == (samples > 7)
    assert (abs(ours.sci - offset)[0, :4] < 0.5).all() == (samples > 7)


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 8, 11, 200])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1.2345678e-20, 3e38])
def test_identical_values_are_all_kept(samples, value):
    ours = compare(np.full((samples, 3, 4), value), sigma=0.5)
    assert (ours.counts == samples).all()
    assert (ours.sci == np.float32(value)).all()


@pytest.mark.parametrize("outlier", [1e3, 1e10, -1e20, 1e25, 3e38, -3e38])
def test_an_outlier_of_any_size_is_clipped(outlier):
    sci = np.random.default_rng(1).normal(5.0, 1.0, size=(20, *SHAPE))
    expected = np.delete(sci, 4, axis=0)
    sci[4] = outlier
    ours = compare(sci)
    assert (ours.counts <= 19).all()
    assert abs(np.median(ours.sci) - np.median(expected.mean(axis=0))) < 0.05


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-12, 1e12, 1e20, 1e30])
def test_clipping_does_not_depend_on_the_unit(scale):
    sci = np.random.default_rng(2).standard_cauchy(size=(15, *SHAPE)).astype(np.float32)
    power = np.float32(2.0 ** np.round(np.log2(scale)))
    np.testing.assert_array_equal(compare(sci * power).counts, compare(sci).counts)


def test_hot_and_cold_columns_side_by_side():
    """Pixels that need sorting, and their neighbours that do not, keep apart."""
    rng = np.random.default_rng(3)
    sci = rng.normal(100.0, 1.0, size=(30, 30, 40))
    sci[5, ::2, ::3] = 1e5
    sci[7, 1::5, :] = -1e5
    ours = compare(sci)
    assert (ours.counts[::2, ::3] <= 29).all()
    assert np.abs(ours.sci - 100).max() < 2


# Case by case.


def stack_of(*samples, err=1.0, dq=0):
    """One pixel, twice: as a stack of images."""
    sci = np.array(samples, np.float32)[:, np.newaxis, np.newaxis]
    sci = np.broadcast_to(sci, (len(samples), 1, 2)).copy()
    err = np.broadcast_to(np.reshape(err, (-1, 1, 1)), sci.shape).astype(np.float32)
    dq = np.broadcast_to(np.reshape(dq, (-1, 1, 1)), sci.shape).astype(np.uint32)
    return sci, err, dq


def test_one_background_is_itself():
    sci, err, dq = random_stack(5, (1, *SHAPE))
    ours = compare(sci, err, dq)
    usable = np.isfinite(sci[0]) & (dq[0] & DO_NOT_USE == 0)
    np.testing.assert_array_equal(ours.sci[usable], sci[0][usable])
    np.testing.assert_array_equal(ours.counts, usable)


def test_error_is_the_uncertainty_in_the_mean():
    ours = compare(*stack_of(1.0, 2.0, 6.0, err=[3.0, 4.0, 12.0]))
    assert ours.sci[0, 0] == 3.0
    assert ours.err[0, 0] == np.float32(13.0 / 3.0)


def test_error_of_a_cube_counts_its_integrations():
    sci = np.zeros((2, 4, 1, 1)) + np.arange(4).reshape(1, 4, 1, 1)
    ours = compare(sci, np.full(sci.shape, 2.0))
    # Each exposure: sqrt(4 x 2²)/4 = 1; both: sqrt(1 + 1)/2.
    assert ours.err.item() == np.float32(np.sqrt(0.5))


def test_error_is_of_the_samples_that_were_kept():
    samples = [1.0] * 5 + [1.5] * 5 + [900.0]
    ours = compare(*stack_of(*samples, err=[3.0] * 10 + [1e6]))
    assert ours.counts[0, 0] == 10
    assert ours.err[0, 0] == np.float32(3.0 * np.sqrt(10) / 10)


@pytest.mark.parametrize("bad", [-1.0, -1e-30, np.nan, np.inf, -np.inf])
def test_invalid_error_of_a_kept_sample_spoils_the_error_alone(bad):
    ours = compare(*stack_of(1.0, 2.0, 3.0, err=[1.0, bad, 1.0]))
    assert ours.sci[0, 0] == 2.0
    assert np.isnan(ours.err[0, 0])
    assert ours.counts[0, 0] == 3
    assert ours.dq[0, 0] == 0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_invalid_error_of_a_clipped_sample_does_not_matter(bad):
    samples = [1.0] * 5 + [1.5] * 5 + [900.0]
    ours = compare(*stack_of(*samples, err=[2.0] * 10 + [bad]))
    assert ours.err[0, 0] == np.float32(2.0 / np.sqrt(10))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize(("value", "flags"), [(np.nan, 0), (np.inf, 0), (7.0, DO_NOT_USE)])
def test_invalid_error_of_an_unusable_sample_does_not_matter(bad, value, flags):
    ours = compare(*stack_of(1.0, 3.0, value, err=[2.0, 2.0, bad], dq=[0, 0, flags]))
    assert ours.sci[0, 0] == 2.0
    assert ours.err[0, 0] == np.float32(np.sqrt(2.0))
    assert ours.counts[0, 0] == 2
    assert ours.dq[0, 0] == flags


def test_no_usable_sample_leaves_the_sky_unknown():
    sci = np.zeros((3, 1, 4)) + np.arange(1.0, 4.0).reshape(3, 1, 1)
    dq = np.zeros(sci.shape, np.uint32)
    sci[:, 0, 1] = np.nan
    dq[:, 0, 2] = DO_NOT_USE | 8
    sci[0, 0, 3], sci[1, 0, 3], dq[2, 0, 3] = np.inf, np.nan, DO_NOT_USE
    ours = compare(sci, dq=dq)
    np.testing.assert_array_equal(ours.sci[0], [2.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(ours.err[0, 1:], np.nan)
    np.testing.assert_array_equal(ours.counts[0], [3, 0, 0, 0])
    np.testing.assert_array_equal(ours.dq[0], [0, 1, 9, 1])
    assert ours.covered.all()


def test_every_sample_clipped_leaves_the_sky_unknown():
    ours = compare(*stack_of(1.0, 2.0), sigma=0.5)
    assert np.isnan(ours.sci).all()
    assert np.isnan(ours.err).all()
    assert (ours.counts == 0).all()
    assert (ours.dq == DO_NOT_USE).all()
    assert (ours.exposures.usable, ours.exposures.clipped, ours.exposures.used) == (4, 4, 0)


def test_exposure_without_a_valid_integration_is_left_out():
    sci = np.array([[2.0, 4.0], [np.nan, np.nan], [5.0, 5.0]]).reshape(3, 2, 1, 1)
    ours = compare(sci, np.full(sci.shape, 2.0))
    assert ours.sci.item() == 4.0
    assert ours.counts.item() == 2
    assert ours.err.item() == np.float32(1.0)  # sqrt(2 x 2²)/2 each; sqrt(2 x 2)/2


def test_exposure_with_every_integration_clipped_is_left_out():
    sci = np.array([[1.0, 2.0], [5.0, 5.0], [5.0, 5.0]]).reshape(3, 2, 1, 1)
    ours = compare(sci, np.full(sci.shape, 2.0), sigma=0.5)
    assert ours.sci.item() == 5.0
    assert ours.counts.item() == 2
    assert np.isfinite(ours.err.item())


def test_average_of_integrations_is_rounded_to_float32():
    third = np.float32(1.0) / np.float32(3.0)
    sci = np.array([[0.0, 0.0, 1.0], [2**24, 2**24, 2**24]]).reshape(2, 3, 1, 1)
    ours = compare(sci)
    assert ours.sci.item() == np.float32((np.float64(third) + 2**24) / 2)


def test_flags_of_every_sample_are_collected():
    sci = np.zeros((3, 2, 1, 2)) + np.arange(3).reshape(3, 1, 1, 1)
    sci[1, :, 0, 0] = np.nan
    dq = np.zeros(sci.shape, np.uint32)
    dq[0, 0], dq[0, 1], dq[1, 0, 0, 0], dq[2, 1, 0, 1] = 2, 4, DO_NOT_USE, 1 << 31
    ours = compare(sci, dq=dq)
    np.testing.assert_array_equal(ours.dq, [[2 | 4 | 1, (1 << 31) | 2 | 4]])
    assert ours.dq.dtype == np.uint32


def test_a_gap_in_the_coverage_is_not_covered():
    sci = np.ones((1, 2, 3), np.float32)
    source = reference.Placed(sci[0], sci[0], np.zeros((2, 3), np.uint32), row=1, column=2)
    ours = average_exposures([place(source, (4, 6))], (4, 6), ImageOptions())
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = True
    np.testing.assert_array_equal(ours.covered, expected)
    np.testing.assert_array_equal(np.isfinite(ours.sci), expected)
    np.testing.assert_array_equal(ours.dq, np.where(expected, 0, DO_NOT_USE))
    assert ours.exposures.offered == 6


def test_one_pixel():
    ours = compare(np.array([[[3.0]], [[5.0]]]))
    assert (ours.sci.item(), ours.counts.item()) == (4.0, 2)


def test_dtypes_of_the_result():
    ours = average_background(np.ones((2, 3, 4)), np.ones((2, 3, 4)), np.zeros((2, 3, 4), int))
    assert (ours.sci.dtype, ours.err.dtype) == (np.float32, np.float32)
    assert (ours.dq.dtype, ours.counts.dtype, ours.covered.dtype) == (np.uint32, np.uint32, bool)


@pytest.mark.parametrize("layout", ["big-endian", "float64", "read-only", "strided", "lists"])
def test_input_in_any_layout_stays_as_it_is(layout):
    sci, err, dq = random_stack(8, (9, *SHAPE))
    expected = average_background(sci, err, dq)
    convert = {
        "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
        "float64": lambda a: a.astype(np.float64 if a.dtype.kind == "f" else np.int64),
        "read-only": np.copy,
        "strided": lambda a: np.asfortranarray(np.repeat(a, 2, axis=2))[:, :, ::2],
        "lists": lambda a: a.tolist(),
    }[layout]
    given = [convert(a) for a in (sci, err, dq)]
    if layout == "read-only":
        for array in given:
            array.flags.writeable = False
    before = [np.array(a, copy=True) for a in given]
    ours = average_background(*given)
    np.testing.assert_array_equal(ours.sci, expected.sci)
    np.testing.assert_array_equal(ours.err, expected.err)
    np.testing.assert_array_equal(ours.dq, expected.dq)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_values_beyond_float32_are_not_finite_there():
    """A float64 sample that float32 cannot hold is infinite, so it is left out, quietly."""
    sci, err, dq = stack_of(1.0, 3.0, 5.0)
    sci = sci.astype(np.float64)
    sci[2] = 1e300
    ours = average_background(sci, err, dq)
    assert (ours.sci[0, 0], ours.counts[0, 0]) == (2.0, 2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 4), (2, 3, 5), (2, 3, 4)), r"\(2, 3, 4\) and \(2, 3, 5\)"),
        (((2, 3, 4), (2, 3, 4), (3, 4)), r"and \(3, 4\)"),
        (((3, 4), (3, 4), (3, 4)), r"one shape, \(exposures"),
        (((1, 2, 3, 4, 5),) * 3, r"one shape, \(exposures"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(OptionError, match=message):
        average_background(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("frozen", ["sci", "counts", "exposures"])
def test_the_result_is_frozen(frozen):
    ours = average_background(*stack_of(1.0, 2.0))
    with pytest.raises(AttributeError):
        setattr(ours, frozen, None)


def test_kernels_are_compiled_once_also_for_a_last_band_of_fewer_rows():
    """They once were for a second layout of the samples, which took seconds."""
    planes = np.random.default_rng(2).normal(1, 0.1, (12, 1, 5, 9)).astype(np.float32)
    flags = np.zeros(planes[0].shape, np.uint32)
    placed = [
        Placed(ArrayPlanes({"SCI": one, "ERR": abs(one), "DQ": flags}), Overlap.whole((5, 9)))
        for one in planes
    ]
    two_rows = ImageOptions(sigma=1.5, band_memory=2 * 8 * 9 * 14 + 500)
    average_exposures(placed, (5, 9), two_rows, threads=1)
    found = [
        *kernels.average_untouched.signatures,
        *kernels.average_touched.signatures,
        *kernels.average_near.signatures,
    ]
    assert {kind.layout for one in found for kind in one if hasattr(kind, "layout")} == {"C"}


def test_samples_too_near_to_call_are_clipped_in_the_order_of_additions(monkeypatch):
    """Quantised, so that samples lie on a limit; the kernel for these is one of its own."""
    called = []
    near = kernels.average_near
    monkeypatch.setattr(
        kernels, "average_near", lambda *given: called.append(given[2].size) or near(*given)
    )
    stack = np.random.default_rng(4).integers(0, 4, (9, 6, 40))
    averaged = compare(stack, sigma=1.5)
    assert 0 < sum(called) < averaged.counts.size
