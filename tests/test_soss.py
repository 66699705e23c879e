"""The SOSS fit in memory: against its slow twin, joint segments, odd templates, flight data."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_soss
from webbkg.errors import InputError, OptionError
from webbkg.numerics.parallel import use_threads
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import SOSS_COUNTER_MEMORY, SossOptions
from webbkg.results import Status
from webbkg.soss import fit as soss
from webbkg.soss import stream
from webbkg.soss.fit import (
    find_jump,
    fit_segments,
    fit_templates,
    template_background,
)

DO_NOT_USE = 1
REFERENCE_PIXEL = 1 << 31
COLUMNS = 1000


def make_templates(number=3, rows=96, step=700, columns=COLUMNS):
    """Skies with a step at column `step` (one further each third of the rows), and a tilt."""
    x = np.arange(columns)
    steps = step + np.arange(rows)[:, np.newaxis] * 3 // rows
    sky = np.where(x < steps, 4.0 + 1e-4 * x, 6.0 - 0.012 * (x - step))
    tilt = np.linspace(0, 1, rows)[:, np.newaxis]
    return np.array([sky + 0.2 * k * tilt for k in range(number)], np.float32)


def make_cube(template, integrations=3, scales=(0.9, 1.1), noise=0.1, seed=1, step=700):
    """Scaled sky with noise, bright traces, and unusable samples; SCI and DQ."""
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(template.shape[1]) < step, *scales)
    shape = integrations, *template.shape
    sci = (template * scale + rng.normal(0, noise, shape)).astype(np.float32)
    sci[:, 20:35] += rng.exponential(30, sci[:, 20:35].shape).astype(np.float32)
    dq = rng.choice(np.array([0, 4, DO_NOT_USE], np.uint32), shape, p=[0.9, 0.08, 0.02])
    dq[:, :, :4] |= np.uint32(REFERENCE_PIXEL)
    sci[:, :, :4] = 0
    for value in (np.nan, np.inf, -np.inf):
        sci[rng.random(shape) < 0.01] = value
    return sci, dq


def assert_same(one, other):
    """Compare fits bit for bit."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray | float):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def assert_as_reference(fit, sci, dq, templates, options=None):
    """Order statistics and counts exactly, RMSE to rounding."""
    options = options or SossOptions()
    splits = [find_jump(np.asarray(template)) for template in templates]
    threshold, best, sides = reference_soss.fit(
        sci, dq, templates, splits, options.source_percentile, options.bkg_percentile
    )
    np.testing.assert_array_equal(fit.source_threshold, threshold)
    assert fit.template == best
    rmse = np.array([[side[1] for side in pair] for pair in sides])
    np.testing.assert_allclose(fit.rmse, rmse, rtol=1e-9, atol=1e-9)
    if best is not None:
        for ours, (scale, _, samples, between) in zip(
            (fit.left, fit.right), sides[best], strict=True
        ):
            assert (ours.scale, ours.n_sky, ours.n_scale) == (scale, samples, between)


@pytest.mark.parametrize("integrations", [1, 2, 7])
@pytest.mark.parametrize("rows", [96, 256])
def test_agrees_with_slow_twin(rows, integrations):
    templates = make_templates(4, rows)
    sci, dq = make_cube(templates[2], integrations)
    fit = fit_templates(sci, dq, templates)
    assert fit.status is Status.COMPLETE
    assert fit.n_integrations == integrations
    assert fit.left.scale == pytest.approx(0.9, abs=0.02)
    assert fit.right.scale == pytest.approx(1.1, abs=0.02)
    assert_as_reference(fit, sci, dq, templates)


@settings(max_examples=12)
@given(
    st.floats(1, 100),
    st.floats(0, 98),
    st.floats(0.5, 90),
    st.sampled_from([0.0, 0.05, 3.0]),
    st.booleans(),
    st.integers(0, 99),
)
def test_percentiles_noise_and_ties(source, low, width, noise, quantised, seed):
    templates = make_templates(2)
    sci, dq = make_cube(templates[1], 1, noise=noise, seed=seed)
    if quantised:
        templates = np.round(templates)
        sci = np.round(sci)
    options = SossOptions(source_percentile=source, bkg_percentile=(low, min(low + width, 100.0)))
    fit = fit_templates(sci, dq, templates, options)
    assert_as_reference(fit, sci, dq, templates, options)


def test_wrong_guess_changes_nothing(monkeypatch):
    templates = make_templates(2)
    sci, dq = make_cube(templates[1], 4)
    expected = fit_templates(sci, dq, templates)
    monkeypatch.setattr(soss, "SAMPLED_VALUES", 3)
    assert_same(fit_templates(sci, dq, templates), expected)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_and_passes_change_nothing(threads, monkeypatch):
    templates = make_templates(5)
    sci, dq = make_cube(templates[3], 3)
    expected = fit_templates(sci, dq, templates, threads=1)
    monkeypatch.setattr(soss, "MOST_TEMPLATES_A_PASS", 2)
    assert_same(fit_templates(sci, dq, templates, threads=threads), expected)


@dataclasses.dataclass(frozen=True)
class CountedPlanes(ArrayPlanes):
    """Notes how many rows are read of them."""

    counted: list = dataclasses.field(default_factory=list)

    def rows(self, names, integration, start, stop, room):
        self.counted.append(stop - start)
        return super().rows(names, integration, start, stop, room)


def test_many_threads_read_no_more_and_keep_to_the_memory():
    """Their counters once made it a pass for each template, and 132 MB."""
    templates = make_templates(8)
    sci, dq = make_cube(templates[3], 2)
    fits, rows, peaks = [], [], []
    for threads in (1, 128):
        segment = CountedPlanes({"SCI": sci, "DQ": dq})
        tracemalloc.start()
        with use_threads(threads):
            fits.append(fit_segments([segment], templates))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        rows.append(sum(segment.counted))
    assert_same(*fits)
    assert rows[0] == rows[1]
    assert peaks[1] < SOSS_COUNTER_MEMORY + 1.5 * peaks[0]


def test_target_is_read_once_for_the_threshold_and_once_for_the_ratios():
    """A threshold where values are sparse once took two passes: its window had too few bins."""
    templates = make_templates(2)
    sci, dq = make_cube(templates[1], 20)
    segment = CountedPlanes({"SCI": sci, "DQ": dq})
    fit = fit_segments([segment], templates, SossOptions(source_percentile=90.0))
    assert fit.status is Status.COMPLETE
    sampled = 7 * 96
    assert sum(segment.counted) == 2 * sampled + 2 * 20 * 96


def test_counters_too_large_for_two_threads_are_those_of_one(monkeypatch):
    templates = make_templates(2)
    sci, dq = make_cube(templates[1], 1)
    expected = fit_templates(sci, dq, templates)
    monkeypatch.setattr(soss, "SOSS_COUNTER_MEMORY", 1)
    crews = []
    sweep = stream.over_bands

    def over_bands(*bands, threads):
        crews.append(threads)
        return sweep(*bands, threads=threads)

    monkeypatch.setattr(stream, "over_bands", over_bands)
    assert_same(fit_templates(sci, dq, templates, threads=9), expected)
    assert set(crews) == {1}


def test_joint_segments_are_the_concatenated_cube():
    templates = make_templates(3)
    sci, dq = make_cube(templates[1], 7)
    parts = np.split(np.arange(7), [1, 5])
    segments = [ArrayPlanes.of(SCI=sci[part], DQ=dq[part]) for part in parts]
    assert_same(fit_segments(segments, templates), fit_templates(sci, dq, templates))
    alone = fit_segments(segments[:1], templates)
    assert alone.left.scale != fit_templates(sci, dq, templates).left.scale


def test_image_is_a_cube_of_one():
    templates = make_templates(2)
    sci, dq = make_cube(templates[0], 1)
    assert_same(fit_templates(sci[0], dq[0], templates), fit_templates(sci, dq, templates))


def test_single_template_may_be_two_dimensional():
    templates = make_templates(1)
    sci, dq = make_cube(templates[0])
    assert_same(fit_templates(sci, dq, templates[0]), fit_templates(sci, dq, templates))


def test_byte_order_and_type_do_not_matter():
    templates = make_templates(2)
    sci, dq = make_cube(templates[0])
    swapped = fit_templates(sci.astype(">f4"), dq.astype(">u4"), templates.astype(">f4"))
    expected = fit_templates(sci, dq, templates)
    assert_same(swapped, expected)
    double = fit_templates(sci.astype(np.float64), dq.astype(np.int64), templates.astype("f8"))
    assert_same(double, expected)


def test_inputs_are_not_changed():
    templates = make_templates(2, 256)
    templates[:, 50, 600:900] = np.nan
    sci, dq = make_cube(templates[0, 10:106])
    before = [array.tobytes() for array in (sci, dq, templates)]
    fit = fit_templates(sci, dq, templates)
    template_background(fit, templates)
    assert [array.tobytes() for array in (sci, dq, templates)] == before


def test_substrip96_takes_rows_10_to_105():
    templates = make_templates(3, 256)
    sci, dq = make_cube(templates[2, 10:106], noise=0.01)
    fit = fit_templates(sci, dq, templates)
    assert fit.template == 2
    assert_same(fit, fit_templates(sci, dq, templates[:, 10:106]))
    background = template_background(fit, templates)
    expected = np.float32(fit.left.scale) * templates[2, 10:106, :600]
    np.testing.assert_array_equal(background.sci[:, :600], expected)


@pytest.mark.parametrize(
    ("template_shape", "target_shape"),
    [((96, 1000), (256, 1000)), ((256, 1000), (128, 1000)), ((96, 900), (96, 1000))],
)
def test_template_that_does_not_fit_is_skipped(template_shape, target_shape):
    fit = fit_templates(
        np.ones(target_shape, np.float32),
        np.zeros(target_shape, np.uint32),
        np.ones((2, *template_shape), np.float32),
    )
    assert fit.status is Status.SKIPPED
    assert f"{template_shape[0]} rows" in fit.reason
    assert f"{target_shape[0]} rows" in fit.reason
    assert fit.template is None


def test_fewer_columns_than_the_step_needs_are_skipped():
    image = np.ones((96, 725), np.float32)
    fit = fit_templates(image, np.zeros(image.shape, np.uint32), image)
    assert fit.status is Status.SKIPPED


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_odd_template_pixels_are_left_out(value):
    templates = make_templates(2)
    sci, dq = make_cube(templates[1])
    hole = np.zeros(templates.shape[1:], bool)
    hole[40:60, 100:300] = True
    hole[::7, 800:900] = True
    odd = np.where(hole, np.float32(value), templates)
    flagged = dq | np.where(hole, np.uint32(2), np.uint32(0))
    fit = fit_templates(sci, flagged, odd)
    assert_as_reference(fit, sci, flagged, odd)
    background = template_background(fit, odd)
    unknown = hole & (value != 0)
    np.testing.assert_array_equal(np.isnan(background.sci), unknown)
    np.testing.assert_array_equal(np.isnan(background.err), unknown)
    np.testing.assert_array_equal(background.dq, np.where(unknown, DO_NOT_USE, 0))
    assert background.covered.all()


def test_template_without_sky_on_a_side_is_out():
    templates = make_templates(3)
    sci, dq = make_cube(templates[0])
    templates[0, :, 685:951] = np.nan
    templates[2, :, :700] = 0
    fit = fit_templates(sci, dq, templates)
    assert fit.template == 1
    assert np.isnan(fit.rmse).tolist() == [[False, True], [False, False], [True, False]]


@pytest.mark.parametrize("side", [slice(None, 730), slice(680, 951)])
def test_target_without_sky_on_a_side_is_skipped(side):
    templates = make_templates(2)
    sci, dq = make_cube(templates[0])
    sci[:, :, side] = np.nan
    fit = fit_templates(sci, dq, templates)
    assert fit.status is Status.SKIPPED
    assert "template matching failed" in fit.reason
    assert fit.rmse.shape == (2, 2)
    with pytest.raises(OptionError, match="must be COMPLETE"):
        template_background(fit, templates)


def test_target_without_a_usable_pixel_is_skipped():
    templates = make_templates(1)
    sci, dq = make_cube(templates[0])
    for values, flags in ((np.full_like(sci, np.nan), dq), (sci, dq | np.uint32(DO_NOT_USE))):
        fit = fit_templates(values, flags, templates)
        assert fit.status is Status.SKIPPED
        assert math.isnan(fit.source_threshold)
        assert "no usable pixel" in fit.reason


def test_equal_ratios_leave_nothing_between_the_percentiles():
    templates = make_templates(1)
    sci = np.repeat(2 * templates, 3, axis=0)
    fit = fit_templates(sci, np.zeros(sci.shape, np.uint32), templates)
    assert fit.status is Status.SKIPPED


@pytest.mark.parametrize(
    "options",
    [
        SossOptions(bkg_percentile=(50.0, 25.0)),
        SossOptions(bkg_percentile=(50.0, 50.0)),
        SossOptions(bkg_percentile=(0.0, 0.0)),
        SossOptions(bkg_percentile=(100.0, 100.0)),
        SossOptions(source_percentile=0.0),
        SossOptions(source_percentile=1e-9),
    ],
    ids=str,
)
def test_percentiles_that_select_nothing_are_skipped(options):
    """An answer, as in jwst, and no error."""
    templates = make_templates(2)
    sci, dq = make_cube(templates[0])
    fit = fit_templates(sci, dq, templates, options)
    assert fit.status is Status.SKIPPED
    assert fit.reason.startswith("template matching failed")
    assert np.isnan(fit.rmse).all()
    assert_as_reference(fit, sci, dq, templates, options)


@pytest.mark.parametrize("between", [(0.0, 100.0), (0.0, 50.0), (50.0, 100.0)])
def test_percentiles_to_the_ends(between):
    templates = make_templates(2)
    sci, dq = make_cube(templates[1])
    options = SossOptions(source_percentile=100.0, bkg_percentile=between)
    assert_as_reference(fit_templates(sci, dq, templates, options), sci, dq, templates, options)


def test_ratios_beyond_float32_are_left_out():
    """Of tiny template pixels; in the sample that guesses they made windows without an end."""
    templates = make_templates(2)
    sci, dq = make_cube(templates[1])
    templates[:, 40:90:9, 300] = 1e-38  # as few as the percentile leaves above it
    options = SossOptions(source_percentile=95.0, bkg_percentile=(25.0, 99.99))
    with np.errstate(over="ignore"):
        fit = fit_templates(sci, dq, templates, options)
    assert fit.status is Status.COMPLETE
    assert fit.left.scale == pytest.approx(0.9, abs=0.05)
    assert np.isfinite(fit.left.scale_err)


def test_lowest_index_wins_a_tie():
    worse, template = make_templates(12)[[11, 1]]
    sci, dq = make_cube(template, noise=0.01)
    fit = fit_templates(sci, dq, np.stack([worse, template, 2 * template, template, template / 4]))
    assert fit.template == 1
    np.testing.assert_array_equal(fit.rmse[1], fit.rmse[[2, 3, 4]][0])
    assert len(np.unique(fit.rmse[1:], axis=0)) == 1


def test_residuals_of_little_noise_on_a_bright_sky_keep_their_digits():
    templates = make_templates(2) * 1e4
    sci, dq = make_cube(templates[1], 5, noise=0.02)
    fit = fit_templates(sci, dq, templates)
    assert_as_reference(fit, sci, dq, templates)


def test_step_is_found_row_by_row_on_the_smoothed_template():
    columns = np.arange(COLUMNS)
    rng = np.random.default_rng(2)
    for step in (690, 705, 720):
        template = 5 + 1.0 * (columns >= step) + rng.normal(0, 0.02, (96, COLUMNS))
        found = find_jump(template)
        assert found.shape == (96,)
        assert np.abs(found - step + 0.5).max() <= 1.5
    outside = 5 + 3.0 * (columns >= 600) + 0.5 * (columns >= 700) + np.zeros((96, 1))
    assert abs(find_jump(outside)[50] - 699.5) <= 0.5


def test_flat_template_breaks_at_the_first_column_of_the_search():
    assert (find_jump(np.ones((96, COLUMNS))) == 685).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unknown_pixels_do_not_drag_the_step(value):
    template = make_templates(1)[0]
    expected = find_jump(template)
    holes = template.copy()
    holes[10, 686] = holes[20:22, 690:694] = holes[40, 715:] = holes[60, 600:699] = value
    found = find_jump(holes)
    assert np.abs(found - expected).max() <= 1
    rows = template.copy()
    rows[:5] = rows[50] = rows[-4:] = value
    assert np.abs(find_jump(rows) - expected).max() <= 1
    np.testing.assert_array_equal(find_jump(np.full_like(template, value)), 685)


def test_background_is_split_at_the_step_to_the_last_column():
    templates = make_templates(2)
    sci, dq = make_cube(templates[1])
    fit = fit_templates(sci, dq, templates)
    background = template_background(fit, templates)
    right = np.arange(COLUMNS) >= fit.jump[:, np.newaxis]
    scale = np.where(right, np.float32(fit.right.scale), np.float32(fit.left.scale))
    np.testing.assert_array_equal(background.sci, scale * templates[1])
    assert right[:, -1].all()
    assert len(np.unique(fit.jump)) > 1
    assert background.sci.dtype == background.err.dtype == np.float32
    np.testing.assert_allclose(
        background.err[:, 0], fit.left.scale_err * templates[1][:, 0], rtol=1e-6
    )


def test_standard_error_is_the_scatter_of_the_scale():
    template = make_templates(1)
    fits = [
        fit_templates(
            template + np.random.default_rng(seed).normal(0, 0.3, template.shape),
            np.zeros(template.shape),
            template,
            SossOptions(source_percentile=100.0),
        )
        for seed in range(150)
    ]
    for side in ("left", "right"):
        scales = [getattr(fit, side).scale for fit in fits]
        stated = np.median([getattr(fit, side).scale_err for fit in fits])
        assert np.std(scales) == pytest.approx(stated, rel=0.2)


def test_bad_shapes_are_named():
    image = np.ones((96, COLUMNS), np.float32)
    with pytest.raises(InputError, match="one shape"):
        fit_templates(image, np.zeros((96, 999), np.uint32), image)
    with pytest.raises(InputError, match="segments must be"):
        fit_segments([], image)
    shorter = ArrayPlanes.of(SCI=np.ones((90, COLUMNS)), DQ=np.zeros((90, COLUMNS), int))
    with pytest.raises(InputError, match="segments must be"):
        fit_segments([shorter, ArrayPlanes.of(SCI=image, DQ=image)], image)
    with pytest.raises(OptionError, match="templates must be"):
        fit_templates(image, np.zeros(image.shape), np.ones((0, 96, COLUMNS)))
    with pytest.raises(OptionError, match="templates must be"):
        fit_templates(image, np.zeros(image.shape), np.ones(COLUMNS))


@pytest.mark.parametrize(
    "percentiles", [(-1.0, 50.0), (25.0, 101.0), (math.nan, 50.0), (25.0, math.inf), (1,)]
)
def test_background_percentiles_are_checked(percentiles):
    with pytest.raises(OptionError, match="soss_bkg_percentile must be two numbers from 0"):
        SossOptions(bkg_percentile=percentiles)


@pytest.mark.parametrize("percentile", [-0.1, 100.1, math.nan])
def test_source_percentile_is_checked(percentile):
    with pytest.raises(OptionError, match="soss_source_percentile must be"):
        SossOptions(source_percentile=percentile)


@pytest.mark.real
@pytest.mark.parametrize(("flag", "right"), [(REFERENCE_PIXEL, 0.9715), (0, 0.9706)])
def test_flight_data(real_data, flag, right):
    folder = real_data / "niriss_soss"
    sci = np.load(folder / "wasp39b_substrip256_medframe.npy")[10:106]
    template = np.load(folder / "model_background96.npy")
    dq = np.zeros(sci.shape, np.uint32)
    dq[:, :4] = dq[:, -4:] = flag
    fit = fit_templates(sci, dq, template)
    assert round(fit.left.scale, 4) == 0.9389
    assert round(fit.right.scale, 4) == right
    assert set(fit.jump.tolist()) <= set(range(696, 700))
