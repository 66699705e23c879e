"""Clipping by the scatter that ERR leads to expect: against its slow twin, and case by case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import reference_clip
from test_average import mixed_exposures, place, ruin
from webbkg import ImageOptions, average_background
from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.image.average import average_exposures
from webbkg.image.unkept import Wanted, average_unkept
from webbkg.simulate.detector import BadPixels, Setup, expose
from webbkg.simulate.imaging import ImagingScene, sky_on
from webbkg.simulate.sources import Population

MODEL = ImageOptions(clip_noise="model")
DO_NOT_USE = 1


def make_stack(seed, samples, columns=40, rows=4, *, noise=1.0, level=10.0):
    """Noise on a ramp, with an ERR that is right but for its own scatter."""
    rng = np.random.default_rng(seed)
    shape = (samples, rows, columns)
    sky = level + 0.1 * np.arange(rows)[:, np.newaxis] + 0.02 * np.arange(columns)
    sci = rng.normal(sky, noise, shape).astype(np.float32)
    err = (noise * rng.uniform(0.95, 1.05, shape)).astype(np.float32)
    return sci, err, np.zeros(shape, np.uint32)


def clip(sci, err=None, dq=None, **options):
    sci = np.asarray(sci, np.float32)
    err = np.ones_like(sci) if err is None else err
    dq = np.zeros(sci.shape, np.uint32) if dq is None else dq
    return average_background(sci, err, dq, ImageOptions(clip_noise="model", **options))


# Against the twin.


def unequal_noise(rng, sci, err):
    sci[0] = rng.normal(10, 3, sci.shape[1:])
    err[0] = 3


def unequal_levels(rng, sci, err):
    sci += rng.normal(0, 10, (len(sci), 1, 1))


def moving_star(rng, sci, err):
    off = np.arange(sci.shape[2]) - 20 + rng.normal(0, 0.5, (len(sci), 1, 1))
    sci += 1000 * np.exp(-((off / 2) ** 2))


def wild_errors(rng, sci, err):
    err[:] = rng.uniform(0.05, 3, err.shape)


def no_errors(rng, sci, err):
    err[:] = 0


CHANGES = [None, unequal_noise, unequal_levels, moving_star, wild_errors, no_errors]


@pytest.mark.parametrize(
    ("samples", "columns", "rows"),
    [(1, 7, 2), (2, 3, 2), (2, 40, 4), (3, 40, 4), (5, 40, 4), (12, 17, 2), (2, 1100, 1)],
)
@pytest.mark.parametrize("change", CHANGES)
def test_stack_is_clipped_as_by_the_twin(samples, columns, rows, change):
    rng = np.random.default_rng(columns)
    sci, err, dq = make_stack(samples, samples, columns, rows)
    if change is not None:
        change(rng, sci, err)
    compare(*ruin(rng, sci, err, dq))


@pytest.mark.parametrize(("sigma", "maxiters"), [(0.0, None), (1.0, 1), (2.0, 2), (5.0, -9)])
def test_sigma_and_maxiters_mean_the_same_to_the_twin(sigma, maxiters):
    sci, err, dq = make_stack(3, 6)
    compare(*ruin(np.random.default_rng(3), sci, err, dq), sigma=sigma, maxiters=maxiters)


def compare(sci, err, dq, sigma=3.0, maxiters=None):
    ours = clip(sci, err, dq, sigma=sigma, maxiters=maxiters)
    iterations = 1 if maxiters is not None and maxiters < -1 else maxiters
    mean, uncertainty, kept, usable = reference_clip.average_samples(
        reference.usable_samples(sci, dq), err, sigma, iterations
    )
    np.testing.assert_array_equal(ours.counts, kept)
    np.testing.assert_allclose(ours.sci, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.err, uncertainty, rtol=1e-6)
    assert (ours.exposures.usable, ours.exposures.clipped) == (usable, usable - kept.sum())


@settings(max_examples=60, deadline=None)
@given(mixed_exposures())
def test_images_and_cubes_anywhere_on_the_target(mixed):
    shape, exposures = mixed
    ours = average_exposures([place(one, shape) for one in exposures], shape, MODEL, threads=1)
    images = [exposure_image(one, shape) for one in exposures]
    sci, err = (np.stack(planes) for planes in zip(*images, strict=True))
    mean, uncertainty, kept, _ = reference_clip.average_samples(sci, err, 3.0, None)
    np.testing.assert_array_equal(ours.counts, kept)
    np.testing.assert_allclose(ours.sci, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.err, uncertainty, rtol=1e-5)


def exposure_image(one, shape):
    """Put an exposure on the target, NaN outside of it, and average its integrations there."""
    cubes = [np.full((*one.sci.shape[:-2], *shape), fill, np.float32) for fill in (np.nan, 0)]
    for cube, plane in zip(
        cubes, (reference.usable_samples(one.sci, one.dq), one.err), strict=True
    ):
        rows = np.arange(plane.shape[-2]) + one.row
        columns = np.arange(plane.shape[-1]) + one.column
        on_rows, on_columns = (
            (at >= 0) & (at < size) for at, size in zip((rows, columns), shape, strict=True)
        )
        part = plane[..., on_rows, :][..., on_columns]
        cube[(..., *np.ix_(rows[on_rows], columns[on_columns]))] = part
    if one.sci.ndim == 2 or len(one.sci) == 1:
        return tuple(cube.reshape(shape) for cube in cubes)
    return reference_clip.average_samples(*cubes, 3.0, None)[:2]


# Bits.


@pytest.mark.parametrize("columns", [9, 530])
def test_bits_do_not_depend_on_bands_threads_and_memory(columns):
    rng = np.random.default_rng(columns)
    shape = (23, columns)
    exposures = []
    for index in range(4):
        size = (3, *shape) if index % 2 else shape
        sci = rng.normal(10 + index, 1, size)
        planes = ruin(rng, sci, np.ones(size), np.zeros(size, np.uint32))
        exposures.append(reference.Placed(*planes, row=index, column=-index))
    placed = [place(one, shape) for one in exposures]
    first = average_exposures(placed, shape, MODEL, threads=1)
    assert first.exposures.clipped > 0
    assert first.integrations.clipped > 0
    for memory, threads in ((1, 1), (100_000, 2), (300_000, 3)):
        options = ImageOptions(clip_noise="model", band_memory=memory)
        again = average_exposures(placed, shape, options, threads=threads)
        for name in ("sci", "err", "dq", "counts"):
            assert getattr(again, name).tobytes() == getattr(first, name).tobytes(), name
        assert again.exposures == first.exposures


def test_errors_are_read_though_nobody_wants_them():
    sci, err, dq = make_stack(1, 3, rows=1)
    sci[1, 0, 11] += 30
    placed = [place(reference.Placed(*one), (1, 40)) for one in zip(sci, err, dq, strict=True)]
    ours = average_unkept(placed, (1, 40), MODEL, Wanted(counts=True))
    assert ours.counts[0, 11] == 2


def test_byte_order_and_input_do_not_change():
    sci, err, dq = ruin(np.random.default_rng(1), *make_stack(1, 4))
    swapped = [plane.astype(plane.dtype.newbyteorder(">")) for plane in (sci, err, dq)]
    before = [plane.copy() for plane in swapped]
    ours, again = clip(sci, err, dq), clip(*swapped)
    np.testing.assert_array_equal(ours.sci, again.sci)
    for plane, copy in zip(swapped, before, strict=True):
        np.testing.assert_array_equal(plane, copy)


# What holds for any stack.


@st.composite
def stacks(draw):
    samples, columns = draw(st.integers(1, 12)), draw(st.sampled_from([1, 3, 20, 60]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    sci, err, dq = make_stack(seed, samples, columns, 1)
    change = draw(st.sampled_from(CHANGES))
    if change is not None:
        change(rng, sci, err)
    return ruin(rng, sci, err, dq, share=draw(st.sampled_from([0.0, 0.1, 0.5])))


@settings(max_examples=80, deadline=None)
@given(stacks())
def test_a_pixel_that_has_a_sample_keeps_one(stack):
    sci, _, dq = stack
    usable = np.isfinite(sci) & (dq & DO_NOT_USE == 0)
    ours = clip(*stack)
    np.testing.assert_array_equal(ours.counts > 0, usable.any(axis=0))
    np.testing.assert_array_equal(np.isfinite(ours.sci), usable.any(axis=0))
    assert (ours.counts <= usable.sum(axis=0)).all()


@settings(max_examples=80, deadline=None)
@given(stacks(), st.integers(-60, 60))
def test_the_unit_does_not_matter(stack, power):
    sci, err, dq = stack
    factor = np.float32(2.0**power)
    ours, scaled = clip(sci, err, dq), clip(sci * factor, err * factor, dq)
    np.testing.assert_array_equal(ours.counts, scaled.counts)
    np.testing.assert_array_equal(ours.sci * factor, scaled.sci)


@settings(max_examples=40, deadline=None)
@given(stacks())
def test_infinite_sigma_keeps_all(stack):
    ours = clip(*stack, sigma=np.inf)
    plain = average_background(*stack, ImageOptions(sigma=np.inf))
    for name in ("sci", "err", "dq", "counts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(plain, name))


# Case by case.


@pytest.mark.parametrize("samples", range(2, 13))
@pytest.mark.parametrize("excess", [20.0, 300.0, 1e6])
def test_a_cosmic_ray_goes_alone(samples, excess):
    """Its own error has its photon noise in it."""
    sci, err, dq = make_stack(samples, samples)
    expected = np.delete(sci, 1, axis=0)[:, 2, 20].mean()
    sci[1, 2, 20] += excess
    err[1, 2, 20] = np.hypot(1, 0.5 * np.sqrt(excess))
    ours = clip(sci, err, dq)
    assert ours.counts[2, 20] == samples - 1
    assert ours.sci[2, 20] == pytest.approx(expected, abs=1.0)
    kept_by_sample = average_background(sci, err, dq).counts[2, 20]
    assert kept_by_sample == samples or samples > 7


@pytest.mark.parametrize("samples", [2, 3, 7])
@pytest.mark.parametrize("error", [0.0, -1.0, np.nan, np.inf, 1e-30, 1e30])
def test_an_error_that_means_nothing_does_not_matter(samples, error):
    sci, err, dq = make_stack(1, samples)
    sci[0, 1, 20] += 30
    err[0, 1, 20] = error
    err[:, 1, 25] = error
    err[samples - 1, 1, 10] = error
    ours = clip(sci, err, dq)
    assert ours.counts[1, 20] == samples - 1
    assert ours.counts[1, 25] == ours.counts[1, 10] == samples
    assert np.isfinite(ours.err[1, 20])


@pytest.mark.parametrize("error", [0.0, np.nan])
@pytest.mark.parametrize("samples", [2, 5])
def test_without_any_error_the_scatter_is_measured(samples, error):
    sci, err, dq = make_stack(5, samples, 300)
    err[:] = error
    sci[0, 1, 20] += 30
    ours = clip(sci, err, dq)
    assert ours.counts[1, 20] == samples - 1
    assert ours.exposures.clipped <= 0.006 * sci.size


def test_where_nothing_tells_the_scatter_all_is_kept():
    assert (clip([[[1.0, 2.0]], [[3.0, 900.0]]], np.zeros((2, 1, 2))).counts == 2).all()


@pytest.mark.parametrize("samples", [2, 3])
def test_of_two_and_three_the_neighbours_tell_a_low_sample(samples):
    sci, err, dq = make_stack(2, samples)
    sci[0, 1, 20] -= 40
    ours = clip(sci, err, dq)
    assert ours.counts[1, 20] == samples - 1
    assert ours.sci[1, 20] > 8


def test_of_three_the_two_that_were_hit_go():
    sci, err, dq = make_stack(2, 3)
    sci[:2, 1, 20] += 30, 33
    ours = clip(sci, err, dq)
    assert ours.counts[1, 20] == 1
    assert ours.sci[1, 20] < 14


@pytest.mark.parametrize("samples", [2, 3, 6])
def test_levels_apart_are_no_outliers(samples):
    """Of sky that differs by twenty times the noise; and no hole where a sample goes."""
    sci, err, dq = make_stack(6, samples, 300)
    sci += 20 * np.arange(samples)[:, np.newaxis, np.newaxis].astype(np.float32)
    sci[0, 1, 20] += 40
    ours = clip(sci, err, dq)
    assert ours.counts[1, 20] == samples - 1
    assert ours.sci[1, 20] == pytest.approx(ours.sci[1].mean(), abs=4)
    assert ours.exposures.clipped <= 0.006 * sci.size


@pytest.mark.parametrize("samples", [3, 6])
def test_a_shallow_exposure_is_as_good_as_its_error_says(samples):
    sci, err, dq = make_stack(7, samples, 500)
    sci[0] = np.random.default_rng(8).normal(10, 4, sci.shape[1:])
    err[0] = 4
    assert clip(sci, err, dq).exposures.clipped <= 0.004 * sci.size


@pytest.mark.parametrize("samples", [2, 4, 8])
def test_errors_that_are_too_small_do_not_empty_the_stack(samples):
    sci, err, dq = make_stack(9, samples, 300)
    assert clip(sci, err / 5, dq).exposures.clipped <= 0.02 * sci.size


@pytest.mark.parametrize("samples", [2, 4, 8])
def test_a_star_that_moves_a_little_stays(samples):
    sci, err, dq = make_stack(4, samples, rows=60)
    off = np.arange(40) - 20 + np.random.default_rng(4).uniform(-0.3, 0.3, (samples, 60, 1))
    sci += (3000 * np.exp(-((off / 9) ** 2))).astype(np.float32)
    ours = clip(sci, err, dq)
    assert ours.exposures.clipped <= 0.05 * sci.size


def test_each_iteration_takes_one_sample():
    sci, err, dq = make_stack(2, 6)
    sci[:2, 1, 20] += 100, 200
    for maxiters, left in ((1, 5), (2, 4), (0, 4), (None, 4)):
        assert clip(sci, err, dq, maxiters=maxiters).counts[1, 20] == left


def test_what_is_neither_is_refused():
    with pytest.raises(OptionError, match=r"clip_noise must be sample or model \(got 'both'\)"):
        ImageOptions(clip_noise="both")


@pytest.mark.parametrize("kind", ["exposures", "integrations"])
@pytest.mark.parametrize("samples", [2, 3, 5])
def test_simulated_cosmic_rays_go_and_good_samples_stay(kind, samples):
    """A small part of what benchmarks/clip_recovery.py measures, at twice its bars' width."""
    scene = ImagingScene(population=Population(stars=0, galaxies=0))
    part = scene.detector.part(DetectorWindow(600, 600, 512, 128))
    setup = Setup(scene.detector, scene.readout, part)
    light = sky_on(scene, setup.window)
    bad = BadPixels(*(np.empty(0, kind) for kind in (int, int, np.float32, bool, bool)))
    planes = [expose(light, setup, bad, 7, index, 0) for index in range(samples)]
    sci, err, dq, rays = (
        np.stack([getattr(one, name) for one in planes])
        for name in ("sci", "err", "dq", "cosmic_rays")
    )
    noise = np.sqrt(setup.poisson_variance(light) + setup.read_variance)
    if kind == "integrations":
        ours = average_background(sci[np.newaxis], err[np.newaxis], dq[np.newaxis], MODEL)
    else:
        ours = average_background(sci, err, dq, MODEL)
    high = rays > 20 * noise
    hit, clean = high.any(axis=0), ~rays.any(axis=0)
    assert hit.sum() > 30
    excess = np.where(high, rays, 0).sum(axis=0)[hit].sum() / samples
    assert (ours.sci - light)[hit].sum() <= (0.2 if samples == 2 else 0.02) * excess
    assert abs(((ours.sci - light) / noise)[clean].mean()) * samples**0.5 <= 0.02
    lost = (ours.exposures if kind == "exposures" else ours.integrations).clipped - high.sum()
    assert lost <= 0.006 * sci.size
