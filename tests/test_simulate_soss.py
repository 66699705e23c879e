"""The simulated SOSS time series: sky and step, traces, noise, transit, files, and a fit of it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from webbkg.errors import OptionError
from webbkg.files.models import open_model
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SossOptions
from webbkg.simulate.detector import (
    NIRCAM_LONG,
    Readout,
    Setup,
    Stream,
    Subarray,
    draw_flicker,
    generator,
)
from webbkg.simulate.soss import (
    ORDER_1,
    ORDER_2,
    SUBSTRIP96,
    SUBSTRIP256,
    SossScene,
    draw_field,
    draw_series,
    jump_columns,
    light_curve,
    make_library,
    rate_model,
    sample_cube,
    segment_model,
    split_series,
    write_series,
)
from webbkg.soss.fit import find_jump, fit_templates

SCENE = SossScene()


def with_noise(scene, factor):
    """Multiply all noise of a scene's detector by a factor, and nothing else.

    An imagined detector of another gain: photon noise goes as the root of the electrons.
    """
    detector, electrons = scene.detector, factor**-2
    changed = replace(
        detector,
        gain=detector.gain * electrons,
        read_noise=detector.read_noise * factor * electrons,
        flicker_noise=detector.flicker_noise * factor * electrons,
        cosmic_ray_charge=detector.cosmic_ray_charge * electrons,
    )
    return replace(scene, detector=changed)


@pytest.fixture(scope="module")
def strip():
    return draw_field(seed=3)


@pytest.fixture(scope="module")
def narrow():
    return draw_field(seed=3, subarray=SUBSTRIP96)


@pytest.fixture(scope="module")
def library():
    return make_library(SCENE, 3)


@pytest.fixture(scope="module")
def series(strip):
    return draw_series(strip, 5)


def test_the_sky_is_one_template_scaled_on_either_side_of_a_tilted_jump(strip, library):
    ratio = strip.sky[:252, 4:-4] / library[3, :252, 4:-4]
    jump = np.rint(jump_columns(SCENE))[:252, np.newaxis]
    right = np.arange(4, 2044) >= jump
    np.testing.assert_allclose(ratio[~right], 0.93, rtol=1e-6)
    np.testing.assert_allclose(ratio[right], 0.88, rtol=1e-6)
    assert jump[0, 0] == 697
    assert jump[-1, 0] == 705


@pytest.mark.parametrize("index", [0, 3, 7])
def test_every_template_jumps_where_the_fit_looks_for_it(library, index):
    template = library[index]
    assert template.shape == (256, 2048)
    found = find_jump(template)
    assert np.abs(found - jump_columns(SCENE))[:240].max() <= 1
    assert 685 <= found.min() < found.max() < 725
    levels = template[128, 670], template[128, 732]
    assert levels[0] == pytest.approx(4.68, abs=0.16)
    assert levels[1] / levels[0] == pytest.approx(1.5, abs=0.08)


def test_templates_differ_and_have_noise_only_where_asked(library):
    assert len(library) == 8
    shapes = library[:, 100, 20:600] / library[:, 100, 20:21]
    assert np.ptp(shapes[:, -1]) > 0.04
    noisy = make_library(replace(SCENE, template_noise=0.01), 3) - library
    assert noisy[:, :252, 4:-4].std() == pytest.approx(0.01, rel=0.01)
    assert not noisy[:, 252:].any()


def test_traces_lie_where_their_orders_say(strip):
    for column, row in ((0, 92), (1000, 56), (1500, 48), (2047, 76)):
        assert ORDER_1.centre(column) == pytest.approx(row, abs=1e-6)
    star = strip.star
    assert star.max() == pytest.approx(440)
    rows = np.arange(256)
    for column in (200, 1000, 1700):
        near = np.abs(rows - ORDER_1.centre(column)) < 20
        middle = np.average(rows[near], weights=star[near, column])
        assert middle == pytest.approx(float(ORDER_1.centre(column)), abs=1)
    second = int(ORDER_2.centre(1450))
    assert star[second, 1450] > 20 * star[second + 40, 1450]
    assert star[240, 300] < 0.1  # far from all orders


def test_reference_pixels_border_the_strips(strip, narrow):
    expected = np.zeros((256, 2048), bool)
    expected[:, :4] = expected[:, -4:] = expected[-4:] = True
    planes = draw_series(strip, 1).measure(0)
    np.testing.assert_array_equal(planes.dq & REFERENCE_PIXEL > 0, expected)
    assert not strip.star[expected].any()
    assert not strip.zeroth[expected].any()
    assert abs(planes.sci[expected].mean()) < 0.05
    assert planes.sci[expected].std() < 0.6
    np.testing.assert_array_equal(narrow.reference, expected[10:106])
    np.testing.assert_array_equal(narrow.sky, strip.sky[10:106])
    np.testing.assert_array_equal(narrow.star, strip.star[10:106])
    assert (SUBSTRIP96.window.y, SUBSTRIP256.window.y) == (1802, 1792)
    assert SUBSTRIP256.frame_time == pytest.approx(5.494)


def test_flicker_runs_along_the_columns(strip):
    setup = strip.setup
    noise = draw_flicker(setup, generator(1, Stream.FLICKER))
    assert noise.shape == (256, 2048)
    expected = setup.slope_variance(5.0) ** 0.5
    assert noise.std() == pytest.approx(expected, rel=0.05)
    # White noise would leave 1/16 of it in the means of columns, and 1/45 in those of rows.
    assert noise.mean(axis=0).std() > 0.5 * expected
    assert noise.mean(axis=1).std() < 0.06 * expected
    smooth = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert 0.7 < smooth < 1


def test_flicker_follows_the_fast_axis_of_the_detector(strip):
    window = replace(strip.setup.window, columns=300, rows=200)
    part = Subarray(name="GENERIC", window=window, frame_time=1.0)
    detector = replace(NIRCAM_LONG, flicker_noise=4.0)
    setup = Setup(detector, Readout(pattern="RAPID", n_groups=5), part)
    noise = draw_flicker(setup, generator(1, Stream.FLICKER))
    assert noise.shape == (200, 300)
    assert noise.mean(axis=1).std() > 8 * noise.mean(axis=0).std()


def test_noise_is_as_large_as_the_detector_makes_it(strip):
    setup = replace(strip.setup, detector=_without_flicker(SCENE.detector))
    quiet = replace(strip, setup=setup)
    one = draw_series(quiet, 3)
    planes = one.measure(1)
    light = one.light(1)
    variance = quiet.setup.poisson_variance(light) + quiet.setup.read_variance
    good = (planes.dq & (DO_NOT_USE | REFERENCE_PIXEL)) == 0
    pull = ((planes.sci - planes.cosmic_rays - light) / np.sqrt(variance))[good]
    assert pull.mean() == pytest.approx(0, abs=0.01)
    assert pull.std() == pytest.approx(1, abs=0.01)
    assert np.count_nonzero(planes.cosmic_rays) > 50


def _without_flicker(detector):
    return replace(detector, flicker_noise=0.0)


def test_with_noise_scales_noise_alone(strip):
    loud = draw_series(strip, 1)
    scene = with_noise(SCENE, 0.1)
    setup = replace(strip.setup, detector=scene.detector)
    soft = draw_series(replace(strip, scene=scene, setup=setup), 1)
    good = ~strip.bad.mask((256, 2048))
    measured = ((s, s.measure(0)) for s in (loud, soft))
    one, other = ((p.sci - p.cosmic_rays - s.light(0))[good] for s, p in measured)
    np.testing.assert_allclose(other, 0.1 * one, atol=2e-4)


def test_transit_dims_the_star_alone(strip):
    curve = light_curve(SCENE, 21)
    assert curve[10] == pytest.approx(0.98)
    assert (curve[:6] == 1).all()
    assert (curve[15:] == 1).all()
    assert curve.argmin() == 10
    assert (np.diff(curve[5:11]) < 0).all()
    np.testing.assert_allclose(curve, curve[::-1])
    series = draw_series(strip, 21)
    lost = series.light(0) - series.light(10)
    np.testing.assert_allclose(lost, 0.02 * strip.star, atol=1e-3)
    assert (light_curve(replace(SCENE, transit_depth=0.0), 4) == 1).all()


def test_same_seed_same_bits_whatever_is_made_before(strip, series):
    again = draw_series(draw_field(seed=3), 5)
    np.testing.assert_array_equal(again.measure(3).sci, series.measure(3).sci)
    sci, dq = sample_cube(series, 2, 4)
    assert sci.shape == dq.shape == (2, 256, 2048)
    np.testing.assert_array_equal(sci[1], series.measure(3).sci)
    assert (sci[0] != sci[1]).mean() > 0.99
    other = draw_field(seed=4)
    assert (other.zeroth != strip.zeroth).any()


def test_segments_hold_the_exposure_and_say_which_part(narrow):
    series = draw_series(narrow, 5)
    parts = split_series(series, 2)
    models = [segment_model(series, part) for part in parts]
    sci, dq = sample_cube(series)
    np.testing.assert_array_equal(np.concatenate([m.data for m in models]), sci)
    np.testing.assert_array_equal(np.concatenate([m.dq for m in models]), dq)
    found = [
        (
            m.meta.exposure.segment_number,
            m.meta.exposure.total_segments,
            m.meta.exposure.integration_start,
            m.meta.exposure.integration_end,
            m.meta.exposure.nints,
            m.meta.filename,
        )
        for m in models
    ]
    stem = "jw99999001001_02101_00001-seg00"
    assert found == [
        (1, 2, 1, 2, 5, f"{stem}1_nis_rateints.fits"),
        (2, 2, 3, 5, 5, f"{stem}2_nis_rateints.fits"),
    ]
    times = np.concatenate([m.int_times for m in models])
    assert times["integration_number"].tolist() == [1, 2, 3, 4, 5]
    assert np.diff(times["int_mid_MJD_UTC"]) * 86400 == pytest.approx(7 * 2.214, rel=1e-3)
    assert models[0].meta.exposure.type == "NIS_SOSS"
    assert models[0].meta.subarray.name == "SUBSTRIP96"


def test_a_segment_is_held_once(narrow):
    series = draw_series(narrow, 24)
    segment = split_series(series, 2)[1]
    segment_model(series, segment)  # what is imported and cached on the way is not counted
    tracemalloc.start()
    model = segment_model(series, segment)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * 5 * model.data.nbytes


def test_rate_is_the_average(narrow):
    series = draw_series(narrow, 3)
    model = rate_model(series)
    sci, dq = sample_cube(series)
    np.testing.assert_allclose(model.data, sci.mean(axis=0, dtype=float), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.dq, np.bitwise_or.reduce(dq))
    errs = [series.measure(i).err for i in range(3)]
    expected = np.sqrt(np.sum(np.square(errs, dtype=float), axis=0)) / 3
    np.testing.assert_allclose(model.err, expected, rtol=1e-5)


def test_written_set_reads_back_with_its_truth(tmp_path, narrow):
    series = draw_series(narrow, 2)
    files = write_series(tmp_path / "new", series, segments=2, variances=False)
    assert [path.name[-24:-14] for path in files.segments] == ["seg001_nis", "seg002_nis"]
    with open_model(files.segments[1]) as model:
        np.testing.assert_array_equal(model.data[0], series.measure(1).sci)
        assert not model.hasattr("var_poisson") or model.var_poisson is None
        assert model.meta.exposure.integration_start == 2
    with open_model(files.template) as model:
        assert type(model).__name__ == "SossBkgModel"
        np.testing.assert_array_equal(model.data, make_library(narrow.scene, narrow.seed))
    with open_model(files.rate) as model:
        assert model.data.shape == (96, 2048)
    with np.load(files.truth) as truth:
        assert (truth["template"], truth["scale_left"], truth["scale_right"]) == (3, 0.93, 0.88)
        np.testing.assert_array_equal(truth["sky"], narrow.sky)
        np.testing.assert_array_equal(truth["light_curve"], series.curve)


def test_fit_finds_template_and_scales_at_low_noise(library):
    """Half a percent, with noise of 0.5 % a sample and hardly any star; docs/soss_recovery.md."""
    shown = draw_field(replace(with_noise(SCENE, 0.05), star=0.5), seed=3)
    fit = fit_templates(
        *sample_cube(draw_series(shown, 2)), library, SossOptions(source_percentile=75.0)
    )
    assert fit.template == 3
    assert fit.left.scale == pytest.approx(0.93, rel=0.005)
    assert fit.right.scale == pytest.approx(0.88, rel=0.005)


def test_the_percentile_window_biases_by_a_third_of_the_noise(library):
    """The quantile 0.375 of a Gaussian lies 0.3186 sigma below its middle."""
    scene = replace(SCENE, star=0.0, zeroth_orders=0)
    detector = replace(_without_flicker(scene.detector), cosmic_ray_left=0.0)
    shown = draw_field(replace(scene, detector=detector), seed=3)
    cube = sample_cube(draw_series(shown, 2))
    fit = fit_templates(*cube, library[3], SossOptions(source_percentile=100.0))
    sky = np.median(shown.sky[:252, 10:690])
    noise = np.sqrt(shown.setup.poisson_variance(sky) + shown.setup.read_variance) / sky
    assert fit.left.scale / 0.93 - 1 == pytest.approx(-0.3186 * noise, rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda shown: SossScene(template=8), r"one of the 8 .* \(got 8\)"),
        (lambda shown: draw_series(shown, 0), r"at least 1 \(got 0\)"),
        (lambda shown: split_series(draw_series(shown, 3), 4), r"between 1 and 3.*got 4"),
        (lambda shown: draw_field(subarray=NIRCAM_LONG.full), "within the rows"),
    ],
)
def test_impossible_requests_are_refused(narrow, make, message):
    with pytest.raises(OptionError, match=message):
        make(narrow)


@pytest.mark.parametrize(
    ("changes", "above", "below"),
    [
        ({"wing_below": 0.0}, 1.0, 0.0),
        ({"wing": 2 * SossScene().wing}, 2.0, 2.0),
        ({"wing_orders": (3.0, 1.0, 1.0)}, 3.0, 3.0),
    ],
)
def test_wings_are_those_asked_for(changes, above, below):
    """At 40 rows from the only order, where a trace has no light of its own but its wings."""
    scene = SossScene(traces=(ORDER_1,), zeroth_orders=0)
    plain, other = (draw_field(one).star for one in (scene, replace(scene, **changes)))
    centre = round(float(ORDER_1.centre(1500)))
    peak = (
        plain[centre - 12 : centre + 12, 1500].max() / other[centre - 12 : centre + 12, 1500].max()
    )
    for row, factor in ((centre + 40, above), (centre - 40, below)):
        assert peak * other[row, 1500] / plain[row, 1500] == pytest.approx(
            factor, rel=0.12, abs=0.02
        )


def test_stray_light_is_a_share_of_the_star():
    scene = SossScene(traces=(ORDER_1,), zeroth_orders=0)
    plain, other = (draw_field(one).star for one in (scene, replace(scene, stray=0.01)))
    assert (other - plain).max() == pytest.approx(0.01 * scene.star, rel=0.01)
