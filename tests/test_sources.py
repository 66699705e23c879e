"""Sources in backgrounds: found as their slow twin finds them, graded, left out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_sources as twin
from webbkg import ImageOptions, average_background
from webbkg.image.adjusted import AdjustedPlanes, BitPlane, PackedPlane, adjust, on_exposure
from webbkg.image.average import average_exposures
from webbkg.image.prepare import prepare
from webbkg.image.sampling import bin_rows, new_room
from webbkg.image.sources import FoundSources, find_sources
from webbkg.numerics import source_kernels, sources
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed
from webbkg.numerics.sources import grade_difference

SHAPE = (96, 112)
MASKS = ImageOptions(mask_sources=True)
DO_NOT_USE = 1


def star(at, peak, shape=SHAPE, fwhm=2.3):
    """Draw a star: a Moffat profile of exponent 3."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    core = (fwhm / 2) ** 2 / (2 ** (1 / 3) - 1)
    return peak * (1 + ((y - at[0]) ** 2 + (x - at[1]) ** 2) / core) ** -3.0


def exposures(places, peak=60.0, seed=1, shape=SHAPE, sky=10.0):
    """Make exposures of unit noise with a star each; an empty place for none."""
    rng = np.random.default_rng(seed)
    images = [rng.normal(sky, 1, shape) + (star(at, peak, shape) if at else 0) for at in places]
    return np.array(images, np.float32)


def place(sci, dq=None, overlap=None):
    dq = np.zeros(sci.shape, np.uint32) if dq is None else dq
    planes = ArrayPlanes.of(SCI=sci, ERR=np.ones_like(sci), DQ=dq)
    return Placed(planes, overlap or Overlap.whole(sci.shape[-2:]))


def average(sci, options=MASKS, dq=None):
    dq = np.zeros(sci.shape, np.uint32) if dq is None else dq
    return average_background(sci, np.ones_like(sci), dq, options)


@pytest.mark.parametrize("integrations", [1, 2, 5])
def test_exposures_are_binned_as_by_their_twin(integrations):
    rng = np.random.default_rng(integrations)
    sci = rng.normal(5, 1, (integrations, 9, 15)).astype(np.float32)
    sci[rng.random(sci.shape) < 0.3] = np.nan
    sci[rng.random(sci.shape) < 0.1] = np.inf
    dq = rng.choice(np.array([0, 4, 1, 1 << 31], np.uint32), sci.shape, p=[0.7, 0.1, 0.1, 0.1])
    overlap = Overlap((3, 12), (1, 14), (0, 9), (2, 15))
    source = place(sci, dq, overlap)
    window = np.full((13, 14), np.nan, np.float32)
    window[3:12, 1:14] = twin.mean_image(sci, dq)[:, 2:15]
    room = new_room([source], window.shape, 8)
    for size in (1, 2, 8):
        means = np.empty([-(-length // size) for length in window.shape], np.float32)
        for start in range(0, 13, 8):
            stop = min(start + 8, 13)
            part = means[start // size : -(-stop // size)]
            bin_rows(source, (start, stop), size, room, part)
        np.testing.assert_allclose(means, twin.block_means(window, size), rtol=1e-5)


@given(st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_lower_median_of_the_others_is_that_of_the_twin(count, seed):
    rng = np.random.default_rng(seed)
    stack = rng.integers(0, 6, (count, 3, 7)).astype(np.float32)
    stack[rng.random(stack.shape) < 0.3] = np.nan
    low, high = np.empty(21, np.float32), np.empty(21, np.float32)
    sizes = np.empty(source_kernels.CHUNK, np.int32)
    source_kernels.lower_middle(stack.reshape(count, -1).copy(), sizes, low, high)
    for image, expected in zip(stack, twin.against_others(stack), strict=True):
        ours = image.reshape(-1).copy()
        source_kernels.subtract_others(ours, low, high)
        np.testing.assert_array_equal(ours.reshape(3, 7), expected)


def difference(seed, shape=(60, 70)):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, shape) + star((20, 18), 400, shape) + star((45, 50), 9, shape)
    image += star((44, 20), 3, shape, fwhm=25)
    image[rng.random(shape) < 0.05] = np.nan
    return image.astype(np.float32)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sources_are_graded_as_by_the_twin(seed):
    image = difference(seed)
    ours, theirs = grade_difference(image), twin.grades(image)
    assert np.count_nonzero(theirs == 255) > 10
    assert len(set(theirs.ravel().tolist())) > 5
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("seed", [4, 5])
def test_what_is_marked_is_what_photutils_detects(seed):
    segmentation = pytest.importorskip("photutils.segmentation")
    smoothed = twin.smooth(difference(seed)).astype(np.float32)
    marked, threshold = sources._mark(smoothed, 3.5, 1, 0.0)
    found = segmentation.detect_sources(smoothed, threshold, 2, mask=np.isnan(smoothed))
    np.testing.assert_array_equal(marked, found.data > 0)


@given(st.integers(1, 200), st.integers(1, 9), st.data())
@settings(max_examples=40, deadline=None)
def test_a_packed_plane_gives_its_rows(rows, columns, data):
    plane = np.random.default_rng(rows).integers(0, 3, (rows, columns)).astype(np.uint8)
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    np.testing.assert_array_equal(PackedPlane(plane).rows(start, stop), plane[start:stop])
    np.testing.assert_array_equal(PackedPlane(plane > 1).rows(start, stop), plane[start:stop] > 1)


@given(st.integers(1, 30), st.integers(1, 30), st.data())
@settings(max_examples=40, deadline=None)
def test_a_bit_plane_spreads_its_bins(rows, columns, data):
    mask = np.random.default_rng(rows).random((-(-rows // 2), -(-columns // 2))) < 0.5
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    expected = mask.repeat(2, axis=0).repeat(2, axis=1)[start:stop, :columns]
    np.testing.assert_array_equal(BitPlane(mask).pixels(start, stop, columns), expected)


def test_adjusted_planes_are_scaled_moved_and_masked_where_they_lie():
    sci = np.arange(2 * 5 * 6, dtype=">f4").reshape(2, 5, 6)
    err, dq = np.full(sci.shape, 0.5, ">f4"), np.full(sci.shape, 4, ">u4")
    overlap = Overlap((2, 5), (1, 4), (1, 4), (3, 6))
    on_target = np.zeros((7, 5), bool)
    on_target[3, 1], on_target[4, 3], on_target[0, 0] = True, True, True
    masked = on_exposure(lambda start, stop: on_target[start:stop], overlap, 6)
    source = Placed(ArrayPlanes.of(SCI=sci, ERR=err, DQ=dq), overlap)
    changed = adjust(adjust(source, masked=masked), scale=2.0, offset=1.0).planes
    assert isinstance(changed, AdjustedPlanes)
    expected = sci.astype(np.float32) * 2 + 1
    expected[:, 2, 3], expected[:, 3, 5] = np.nan, np.nan
    for integration in range(2):
        room = np.empty((3, 5, 6), np.uint32)
        ours = changed.rows(("ERR", "SCI", "DQ"), integration, 0, 5, room)
        np.testing.assert_array_equal(ours[1], expected[integration])
        assert (ours[0] == 1).all()
        assert (ours[2] == 4).all()
    assert adjust(source) is source


def test_a_mask_of_a_target_that_is_wider_is_cut_to_the_exposure():
    on_target = np.arange(40).reshape(4, 10) % 3 == 0
    overlap = Overlap((0, 4), (0, 6), (0, 4), (0, 6))
    masked = on_exposure(lambda start, stop: on_target[start:stop], overlap, 6)
    np.testing.assert_array_equal(masked(1, 3), on_target[1:3, :6])


def test_a_nodded_star_is_left_out_and_its_sky_stays():
    places = [(40, 30), (40, 50), (40, 70), (60, 50)]
    noise = exposures([()] * 4)
    seen = exposures(places)
    plain, masked = average(seen, ImageOptions()), average(seen)
    for at in places:
        near = np.hypot(*(np.mgrid[: SHAPE[0], : SHAPE[1]].T - at).T) < 2.3
        assert np.mean(plain.sci[near]) - 10 > 4
        assert abs(np.mean(masked.sci[near]) - 10) < 0.8  # of three samples a pixel, some 16 pixels
    assert (masked.counts[5:20] == 4).mean() > 0.97
    assert abs(masked.sci.mean() - average(noise, ImageOptions()).sci.mean()) < 0.01
    assert not (masked.dq & DO_NOT_USE).any()


@pytest.mark.parametrize(
    ("steps", "peak", "bar"),
    [
        ([(2, 0), (4, 0), (6, 0), (8, 0)], 800, 0.005),
        ([(-4, 0), (-2, 0), (2, 0), (4, 0)], 40, 0.005),
        ([(3, 0), (0, 3), (-3, 0), (0, -3)], 40, 0.005),
        ([(2, 0), (0, 2), (-2, 0), (0, -2)], 800, 0.012),
    ],
)
def test_how_much_of_a_nodded_star_is_lost(steps, peak, bar):
    """In an aperture of one FWHM; the study is in docs/masking.md."""
    middle, fwhm = (48, 56), 2.3
    shifted = [(middle[0] + fwhm * y, middle[1] + fwhm * x) for x, y in steps]
    prepared = prepare([place(one) for one in exposures(shifted, peak)], SHAPE, MASKS)
    light = [star(at, peak).astype(np.float32) for at in shifted]
    pure = [
        replace(one, planes=replace(one.planes, planes=place(of_star).planes))
        for one, of_star in zip(prepared.sources, light, strict=True)
    ]
    target, near = star(middle, peak), star(middle, 1.0) >= star((48, 56 + fwhm), 1.0)[middle]
    lost = average_exposures(pure, SHAPE, ImageOptions()).sci[near]
    assert np.isfinite(lost).all()
    assert lost.sum() / target[near].sum() < bar
    assert np.mean([one[near].sum() for one in light]) / target[near].sum() > 2 * bar or bar < 0.01


def test_what_every_exposure_has_is_unknown():
    """Three stars in one place, but for a fourth exposure that does not reach it."""
    seen = exposures([(40, 30), (40, 31), (41, 30), ()])
    dq = np.zeros(seen.shape, np.uint32)
    dq[3, 20:60, 10:50] = DO_NOT_USE
    graded = [np.zeros((48, 56), np.uint8) for _ in range(4)]
    for one in graded[:3]:
        one[18:22, 13:17] = 255
    allowed = np.zeros((48, 56), np.uint8)
    found = FoundSources.of_grades(SHAPE, tuple(map(PackedPlane, graded)), allowed)
    placed = [place(one, flags) for one, flags in zip(seen, dq, strict=True)]
    left = [
        adjust(one, masked=on_exposure(found.masked(i), one.overlap, SHAPE[1]))
        for i, one in enumerate(placed)
    ]
    result = average_exposures(left, SHAPE, MASKS)
    unknown = np.zeros(SHAPE, bool)
    unknown[36:44, 26:34] = True
    np.testing.assert_array_equal(np.isnan(result.sci), unknown)
    np.testing.assert_array_equal(result.counts == 0, unknown)
    assert (result.dq[unknown] & DO_NOT_USE).all()


def test_noise_is_no_source():
    found = find_sources([place(one) for one in exposures([()] * 5, shape=(512, 512))], (512, 512))
    assert np.mean([found.masked(i)(0, 512).mean() for i in range(5)]) < 0.01


@pytest.mark.parametrize("levels", [(10, 12, 8, 11), (0, 0, 0, 0), (-1e6, 1e6, 0, 5)])
def test_images_without_noise_hold_no_sources(levels):
    sci = np.array([np.full(SHAPE, level, np.float32) for level in levels])
    assert prepare([place(one) for one in sci], SHAPE, MASKS).masked == (0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (33, 65)])
@pytest.mark.parametrize("ruin", ["nothing", "all NaN", "one NaN", "flagged", "infinite"])
def test_odd_shapes_and_samples_are_taken(shape, ruin):
    sci = np.random.default_rng(1).normal(10, 1, (3, *shape)).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint32)
    if ruin == "all NaN":
        sci[:] = np.nan
    elif ruin == "one NaN":
        sci[1] = np.nan
    elif ruin == "flagged":
        dq[:] = DO_NOT_USE
    elif ruin == "infinite":
        sci[0], sci[2] = np.inf, -np.inf
    for match in ("none", "offset", "scale"):
        options = ImageOptions(mask_sources=True, match_background=match)
        result = average(sci, options, dq)
        assert np.isfinite(result.sci).all() == (ruin in ("nothing", "one NaN", "infinite"))


def test_integrations_are_masked_as_one_exposure():
    places = [(40, 30), (40, 60), (60, 80)]
    sci = np.stack([exposures([at] * 4, seed=i) for i, at in enumerate(places)])
    sci[0, 1, 80, 20:24] += 500  # a cosmic ray in one integration is no source
    result = average(sci)
    assert abs(result.sci[38:43, 28:33].mean() - 10) < 0.5
    found = find_sources([place(one) for one in sci], SHAPE)
    assert not found.masked(0)(78, 83)[:, 18:26].any()


def test_memory_and_threads_do_not_change_the_answer(monkeypatch):
    seen = [place(one) for one in exposures([(40, 30), (41, 60), (60, 80), (30, 90), (70, 20)])]
    first = find_sources(seen, SHAPE, threads=1)
    monkeypatch.setattr("webbkg.image.sources.KEPT_MEMORY", 0)
    monkeypatch.setattr("webbkg.image.sources.ROWS_A_BAND", 16)
    second = find_sources(seen, SHAPE, threads=3)
    for index in range(5):
        np.testing.assert_array_equal(first.masked(index)(0, 96), second.masked(index)(0, 96))
        np.testing.assert_array_equal(
            first.masked(index)(31, 42), first.masked(index)(0, 96)[31:42]
        )
    assert first.masked(0)(38, 43)[:, 28:33].all()
