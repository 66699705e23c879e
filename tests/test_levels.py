"""The sky levels of backgrounds: found, matched to each other and to the target."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import save_multiples
from webbkg import ImageOptions, average_background, command
from webbkg.errors import OptionError
from webbkg.image import levels
from webbkg.image.average import average_exposures
from webbkg.image.levels import match_exposures, match_target, sky_blocks, sky_location
from webbkg.image.prepare import match_to_target, prepare
from webbkg.image.variance import split_variance
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed

SHAPE = (160, 200)


def slow_location(values):
    """Find the shortest interval that holds half by trying all; then clip and average."""
    values = sorted(float(value) for value in values if np.isfinite(value))
    if not values:
        return np.nan
    half = len(values) // 2 + 1
    tried = [(values[i + half - 1] - values[i], i) for i in range(len(values) - half + 1)]
    width, first = min(tried)
    centre = (values[first] + values[first + half - 1]) / 2
    for _ in range(5):
        centre = np.mean(
            [v for v in values if abs(v - centre) <= 2.5 * width / 2 / 0.6744897501960817] or centre
        )
    return centre


@given(st.lists(st.one_of(st.integers(-50, 50), st.just(np.nan), st.just(np.inf)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_location_is_that_of_the_slow_twin(values):
    ours, twin = sky_location(np.array(values, float)), slow_location(values)
    # A value on a limit may lie on either side of it by rounding.
    assert ours == pytest.approx(twin, rel=1e-9, abs=1e-9, nan_ok=True)


@given(st.integers(0, 10**6), st.integers(-10, 10), st.sampled_from([0.25, 2.0, 8.0]))
@settings(max_examples=50, deadline=None)
def test_the_location_moves_and_grows_with_the_values(seed, shift, factor):
    values = np.random.default_rng(seed).normal(0, 1, 101)
    expected = sky_location(values) * factor + shift
    assert sky_location(values[::-1] * factor + shift) == pytest.approx(expected, abs=1e-9)


def test_the_location_is_not_drawn_by_what_lies_on_one_side():
    values = np.random.default_rng(1).normal(0, 1, 4000)
    values[:1200] += np.random.default_rng(2).exponential(8, 1200)
    assert abs(sky_location(values)) < 0.3
    assert np.median(values) > 0.45


def place(sci, overlap=None, dq=None):
    dq = np.zeros(sci.shape, np.uint32) if dq is None else dq
    planes = ArrayPlanes.of(SCI=sci, ERR=np.ones_like(sci), DQ=dq)
    return Placed(planes, overlap or Overlap.whole(sci.shape[-2:]))


def sky(shape=SHAPE):
    """Slope a sky from 8 to 12."""
    rows, columns = shape
    return np.linspace(8, 12, columns) + np.linspace(-0.5, 0.5, rows)[:, np.newaxis]


def parts(change, seed=1):
    """Give three exposures on overlapping parts of a window, each with a level of its own."""
    rng = np.random.default_rng(seed)
    whole = [(change(sky(), i) + rng.normal(0, 0.3, SHAPE)).astype(np.float32) for i in range(3)]
    left, middle = Overlap((0, 160), (0, 120), (0, 160), (0, 120)), Overlap.whole(SHAPE)
    right = Overlap((20, 160), (90, 200), (0, 140), (5, 115))
    padded = np.pad(whole[2][20:, 90:], ((0, 0), (5, 0)), constant_values=99)
    return [place(whole[0][:, :120], left), place(whole[1], middle), place(padded, right)]


@pytest.mark.parametrize("kind", ["offset", "scale"])
def test_levels_are_matched_on_common_pixels_of_a_sloping_sky(kind):
    truth = np.array([-0.8, 0.3, 0.5]) if kind == "offset" else np.array([0.9, 1.0, 1.2])
    seen = parts(lambda image, i: image + truth[i] if kind == "offset" else image * truth[i])
    found = match_exposures(sky_blocks(seen, SHAPE), kind)
    expected = truth.mean() - truth if kind == "offset" else np.exp(np.log(truth).mean()) / truth
    np.testing.assert_allclose(found.values, expected, atol=0.01)
    assert found.unmatched == ()
    assert found.levels[2] > 10.5  # of its own part of the sky, not of the whole window


@pytest.mark.parametrize("kind", ["offset", "scale"])
def test_the_noise_of_cubes_does_not_shift_their_levels(kind):
    # The largest sample alone was left out of three and more: 0.3 too low, of a noise of 1.
    rng = np.random.default_rng(7)
    cubes = [rng.normal(10, 1, (number, *SHAPE)).astype(np.float32) for number in (1, 2, 3, 4, 6)]
    seen = [place(cube) for cube in cubes]
    found = match_exposures(sky_blocks(seen, SHAPE), kind)
    np.testing.assert_allclose(found.levels, 10, atol=0.03)
    nothing = 0 if kind == "offset" else 1
    np.testing.assert_allclose(found.values, nothing, atol=0.03)
    flat = average_exposures([place(np.full(SHAPE, 10, np.float32))], SHAPE, ImageOptions())
    assert match_target(seen[3], flat, kind).value == pytest.approx(nothing, abs=0.03)


def test_threads_and_cubes_and_byte_order_do_not_change_the_levels():
    rng = np.random.default_rng(3)
    cube = rng.normal(10, 1, (2, *SHAPE)).astype(np.float32)
    seen = [place(cube), place(cube.astype(">f4")), place(cube[0].astype(np.float64))]
    one, two = (sky_blocks(seen, SHAPE, threads=n).means for n in (1, 3))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[0], one[1])


def test_exposures_without_a_common_pixel_stay():
    image = np.full((80, 90), 5, np.float32)
    left = place(image, Overlap((0, 80), (0, 90), (0, 80), (0, 90)))
    right = place(image * 3, Overlap((0, 80), (100, 190), (0, 80), (0, 90)))
    found = match_exposures(sky_blocks([left, right], SHAPE), "offset")
    np.testing.assert_array_equal(found.values, 0)
    assert found.unmatched == (0, 1)


@pytest.mark.parametrize("kind", ["offset", "scale"])
def test_blocks_beyond_float32_are_left_out(kind):
    images = [np.full(SHAPE, level, np.float32) for level in (4, 5)]
    for image in images:
        image[8:24, 16:32] = 3e38
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = match_exposures(sky_blocks([place(image) for image in images], SHAPE), kind)
    np.testing.assert_allclose(found.levels, [4, 5])
    matched = found.levels * found.values if kind == "scale" else found.levels + found.values
    assert matched[0] == pytest.approx(matched[1])


def test_noise_about_nothing_is_not_scaled():
    rng = np.random.default_rng(4)
    seen = [place(rng.normal(0, 1, SHAPE).astype(np.float32)) for _ in range(3)]
    found = match_exposures(sky_blocks(seen, SHAPE), "scale")
    np.testing.assert_array_equal(found.values, 1)
    assert found.unmatched == (0, 1, 2)
    assert match_exposures(sky_blocks(seen, SHAPE), "offset").unmatched == ()


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_number_of_levels_is_matched_exactly_without_noise(offsets):
    image = sky((16, 16)).astype(np.float32)
    seen = [place(image + np.float32(offset)) for offset in offsets]
    found = match_exposures(sky_blocks(seen, (16, 16)), "offset")
    np.testing.assert_allclose(found.values, np.mean(offsets) - offsets, atol=2e-4)


@pytest.mark.parametrize("kind", ["offset", "scale"])
@pytest.mark.parametrize("masks", [False, True])
def test_the_residual_sky_is_within_a_tenth_of_sigma(kind, masks):
    """Levels 20 % apart, a target with sources on a fifth of it. The study: docs/masking.md."""
    rng = np.random.default_rng(5)
    change = [0.9, 0.95, 1.05, 1.1, 0.85]

    def expose(i):
        level = sky() * change[i] if kind == "scale" else sky() + 10 * (change[i] - 1)
        return (level + rng.normal(0, 0.3, SHAPE)).astype(np.float32)

    seen, target = np.stack([expose(i) for i in range(4)]), expose(4)
    target[:80, :80] += rng.exponential(1.0, (80, 80)).astype(np.float32)
    options = ImageOptions(match_background=kind, mask_sources=masks)
    prepared = prepare([place(one) for one in seen], SHAPE, options)
    average = average_exposures(prepared.sources, SHAPE, options)
    before = average.sci.copy()
    matched, told = match_to_target(place(target), average, prepared.levels)
    np.testing.assert_array_equal(average.sci, before)
    left = (target - matched.sci)[80:]
    assert abs(np.median(left)) < 0.1 * 0.3
    assert left.std() < 1.02 * 0.3 * np.sqrt(1 + 1 / 4)
    assert told.combined == pytest.approx(10, abs=0.1)
    assert told.target < 9
    factor = told.target_correction if kind == "scale" else 1
    np.testing.assert_allclose(matched.err, average.err * np.float32(factor), rtol=1e-6)
    assert (told.target_correction < 0) == (kind == "offset")


@pytest.mark.parametrize("kind", ["offset", "scale"])
@pytest.mark.parametrize("split", [False, True])
def test_in_place_the_average_becomes_the_matched_one(kind, split):
    seen = [place((sky() * change).astype(np.float32)) for change in (0.9, 1.1)]
    options = ImageOptions(match_background=kind)
    prepared = prepare(seen, SHAPE, options)
    average = average_exposures(prepared.sources, SHAPE, options)
    if split:
        average = split_variance(average, seen)
    target = place((1.3 * sky()).astype(np.float32))
    copied, told = match_to_target(target, average, prepared.levels)
    assert told.target_correction not in (0, 1)
    changed, again = match_to_target(target, average, prepared.levels, in_place=True)
    assert again == told
    assert changed.sci is average.sci
    np.testing.assert_array_equal(changed.sci, copied.sci)
    np.testing.assert_array_equal(changed.err, copied.err)
    if split:
        np.testing.assert_array_equal(changed.variances.poisson, copied.variances.poisson)


def test_targets_that_share_an_average_are_each_matched_to_their_own_sky(tmp_path):
    save_multiples(sky(), tmp_path, t1=1.3, t2=0.7, b1=0.9, b2=1.1)
    targets, backgrounds = (
        [str(tmp_path / f"{name}_rate.fits") for name in names]
        for names in (("t1", "t2"), ("b1", "b2"))
    )
    given = {"match_background": "scale", "output_dir": str(tmp_path / "out")}

    def products(names):
        items = list(command.subtract(names, backgrounds, given, progress=lambda *_: nullcontext()))
        assert [item.outcome.status for item in items] == ["COMPLETE"] * len(names)
        return [fits.getdata(item.product, "SCI") for item in items]

    together = products(targets)
    singly = [image for name in targets for image in products([name])]
    np.testing.assert_array_equal(together, singly)
    assert np.abs(np.median(together, axis=(1, 2))).max() < 0.01


def test_a_target_without_sky_leaves_the_background():
    seen = [place(sky().astype(np.float32)) for _ in range(2)]
    options = ImageOptions(match_background="offset")
    prepared = prepare(seen, SHAPE, options)
    average = average_exposures(prepared.sources, SHAPE, options)
    target = place(np.full(SHAPE, np.nan, np.float32))
    matched, told = match_to_target(target, average, prepared.levels)
    assert np.isnan(told.target_correction)
    np.testing.assert_array_equal(matched.sci, average.sci)


def test_the_array_function_matches_too():
    sci = np.stack([sky(), sky() + 2, sky() + 4]).astype(np.float32)
    dq, err = np.zeros(sci.shape, np.uint32), np.ones_like(sci)
    sci[0, :, 100:] = np.nan
    plain = average_background(sci, err, dq)
    matched = average_background(sci, err, dq, ImageOptions(match_background="offset"))
    np.testing.assert_allclose(matched.sci, sky() + 2, atol=1e-3)
    np.testing.assert_allclose(plain.sci[:, 100:], sky()[:, 100:] + 3, atol=1e-3)


@pytest.mark.parametrize(
    "given", [{"match_background": "both"}, {"source_mask": 3}, {"source_mask": [3]}]
)
def test_wrong_options_are_told(given):
    with pytest.raises(OptionError, match=r"(match_background|source_mask) must be"):
        ImageOptions(**given)


def test_names_of_masks_are_taken_in_every_form():
    for names in ("a.fits, b.fits", ["a.fits", "b.fits"], ("a.fits,b.fits",)):
        assert ImageOptions(source_mask=names).source_mask == ("a.fits", "b.fits")
    assert ImageOptions(source_mask=[]).source_mask is None


def test_few_blocks_are_taken_where_the_window_is_small():
    assert [levels._block_size(shape) for shape in ((2048, 2048), (64, 64), (16, 16), (1, 1))] == [
        *(8, 4, 1, 1)
    ]
    assert np.isfinite(sky_blocks([place(np.ones((1, 1), np.float32))], (1, 1)).means).all()
