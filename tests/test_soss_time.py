"""SOSS scales that change in time: measured, smoothed, applied, and told."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.interpolate import CubicSpline
from stdatamodels.jwst import datamodels

import reference_soss_robust
from webbkg import BackgroundStep, subtract
from webbkg import apply as applying
from webbkg.errors import InputError, OptionError, OutputError
from webbkg.files.exposures import Exposure
from webbkg.files.times import Clock, hours_of, read_clock
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SossOptions
from webbkg.report.sample import draw
from webbkg.results import Background, Drift, Outcome, SossResult, Status, Variances
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    SUBSTRIP96,
    SossScene,
    draw_field,
    draw_series,
    make_library,
    sample_cube,
    sky_curve,
    write_series,
)
from webbkg.soss import flicker as flickers
from webbkg.soss import gls, kernels, timing
from webbkg.soss.fit import fit_segments, fit_templates, template_background
from webbkg.soss.flicker import Flicker
from webbkg.soss.gls import Layout

SMOOTH = SossOptions(method="robust", time="smooth")


# Measuring.


def test_products_are_those_of_plain_sums():
    rng = np.random.default_rng(1)
    rows, columns = 9, 12
    images = rng.uniform(0.5, 2, (5, rows, columns)).astype(np.float32)
    images[1] = 3
    sci = (images[0] + rng.normal(0, 1, (rows, columns))).astype(np.float32)
    dq = np.zeros((rows, columns), np.uint32)
    sci[2, 3], sci[4, 5], sci[5, 5] = 50, np.nan, np.inf
    dq[1, 1], dq[6, 2] = DO_NOT_USE, DO_NOT_USE | REFERENCE_PIXEL
    sums = np.zeros((9, columns))
    kernels.add_products(sci[:4], dq[:4], images[:, :4], sums)
    kernels.add_products(sci[4:], dq[4:], images[:, 4:], sums)
    weight = images[2].astype(float)
    for at in ((2, 3), (4, 5), (5, 5), (1, 1)):
        weight[at] = 0
    weight[np.abs(sci - images[0]) > 3] = 0
    difference = np.where(weight > 0, sci.astype(float) - images[0], 0)
    parts = [images[3].astype(float), images[4].astype(float), difference, np.ones(weight.shape)]
    moments = np.einsum("arc,brc,rc->cab", parts, parts, weight)
    moments[:, 2, 2] = 0  # nobody asks for it
    np.testing.assert_allclose(timing._moments(sums), moments, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wings", [True, False])
def test_scales_of_an_integration_are_those_of_the_dense_twin(wings):
    """Both sides, the wings' amplitude and the column levels, of either sign."""
    rng = np.random.default_rng(2)
    columns, rows = 24, 10
    right = np.arange(columns) >= 11
    sky, light = rng.uniform(3, 5, (2, columns, rows))
    light *= wings
    weights = rng.uniform(5, 20, (columns, rows)) * (rng.random((columns, rows)) < 0.7)
    data = sky * np.where(right, 0.02, -0.03)[:, np.newaxis] - 0.01 * light
    data += rng.normal(0, 0.3, data.shape) + rng.normal(0, 0.2, (columns, 1))
    flicker = Flicker(1.0, 1.0, 0.02, rng.uniform(0, 0.05, len(flickers.LENGTHS)))
    parts = [sky, light, data, np.ones_like(sky)]
    moments = np.einsum("acr,bcr,cr->cab", parts, parts, weights)
    layout = Layout(1, 1, right, np.ones((1, columns)), np.eye(1))
    normal = gls.normal_equations(moments, layout, flicker)
    values, information = timing._solve(normal.matrix, normal.vector)
    designs = [sky * ~right[:, np.newaxis], sky * right[:, np.newaxis], light][: 2 + wings]
    levels = reference_soss_robust.level_covariance(flicker, flickers.LENGTHS, columns)
    matrix, vector, _ = reference_soss_robust.Dense(
        data, weights, np.stack(designs), levels
    ).normal()
    np.testing.assert_allclose(values, np.linalg.solve(matrix, vector)[:2], rtol=1e-6)
    covariance = np.linalg.inv(matrix)[:2, :2]
    np.testing.assert_allclose(np.linalg.inv(information), covariance, rtol=1e-6)


# Smoothing.


def draw_measured(truth, hours, seed, errors=(0.002, 0.003), common=0.5):
    """Measure scales with errors that the two sides have partly in common."""
    rng = np.random.default_rng(seed)
    left, right = errors
    covariance = np.array([[left**2, common * left * right], [common * left * right, right**2]])
    noise = rng.multivariate_normal([0, 0], covariance, len(hours))
    information = np.broadcast_to(np.linalg.inv(covariance), (len(hours), 2, 2)).copy()
    return timing.Measured(hours, truth - truth.mean(axis=0) + noise, information)


def smooth(measured, clock="given"):
    return timing.smooth(measured, clock, (len(measured.hours),))


HOURS = np.linspace(0, 6, 100)


def test_a_constant_sky_is_left_constant_at_least_95_times_in_100():
    nothing = np.zeros((60, 2))
    constant = [
        smooth(draw_measured(nothing, np.linspace(0, 6, 60), seed)).is_constant
        for seed in range(200)
    ]
    assert np.mean(constant) >= 0.97


def test_a_drift_is_followed_within_its_error():
    truth = np.tile(0.01 * (np.sin(HOURS / 2) + HOURS / 6)[:, np.newaxis], (1, 2))
    found = smooth(draw_measured(truth, HOURS, 5, (0.001, 0.0015)))
    assert found.together
    assert 3 <= len(found.knots) <= 7
    left_over = found.scales - 1 - (truth - truth.mean(axis=0))
    assert np.abs(left_over).max() < 0.001
    assert np.abs(left_over / found.scale_errs).max() < 4
    assert found.scales.mean(axis=0) == pytest.approx(1.0, abs=1e-12)
    assert found.reason == ""


def test_quoted_errors_are_those_of_the_scatter():
    truth = np.tile(0.002 * HOURS[:, np.newaxis], (1, 2))
    found = [smooth(draw_measured(truth, HOURS, seed)) for seed in range(60)]
    found = [one for one in found if len(one.knots) == 2 and one.together]
    assert len(found) > 50
    scatter = np.std([one.scales[0, 0] for one in found])
    assert scatter == pytest.approx(found[0].scale_errs[0, 0], rel=0.25)
    changes = [(one.change - 0.012) / one.change_err for one in found]
    assert np.std(changes) == pytest.approx(1, rel=0.3)


def test_sides_that_differ_are_followed_singly():
    truth = np.stack([0.001 * HOURS, -0.002 * HOURS], axis=1)
    found = smooth(draw_measured(truth, HOURS, 6))
    assert not found.together
    np.testing.assert_allclose(found.scales - 1, truth - truth.mean(axis=0), atol=0.0015)


def test_integrations_that_are_off_or_unknown_do_not_matter():
    truth = np.tile(0.001 * HOURS[:, np.newaxis], (1, 2))
    measured = draw_measured(truth, HOURS, 7)
    measured.values[[3, 50]] += 0.2
    measured.values[60] = np.nan
    measured.information[60] = 0
    measured.values[61, 1] = np.nan
    measured.information[61] = np.diag([1 / 0.002**2, 0])
    found = smooth(measured)
    assert found.outliers == 2
    np.testing.assert_allclose(found.scales - 1, truth - truth.mean(axis=0), atol=0.001)
    assert np.isnan(found.measured[60]).all()
    assert np.isnan(found.measured_errs[60]).all()
    assert np.isfinite(found.measured_errs[61]).tolist() == [True, False]


def test_errors_that_are_too_small_are_enlarged():
    measured = draw_measured(np.zeros((100, 2)), HOURS, 8)
    small = replace(measured, information=25 * measured.information)
    found = smooth(small)
    assert found.noise == pytest.approx(5, rel=0.3)
    assert found.is_constant


@pytest.mark.parametrize(("number", "factor"), [(100, 1 / 3), (20, 1)])
def test_errors_that_are_too_large_are_made_smaller_where_many_tell(number, factor):
    measured = draw_measured(np.zeros((number, 2)), np.linspace(0, 6, number), 8)
    large = replace(measured, information=measured.information / 9)
    found = smooth(large)
    np.testing.assert_allclose(found.measured_errs, factor * large.errors, rtol=0.3)


@pytest.mark.parametrize(
    ("hours", "clock", "most"),
    [
        (np.linspace(0, 6, 100), "given", 7),
        (np.linspace(0, 5.9, 100), "given", 6),
        (np.linspace(0, 6, 12), "given", 4),  # too few integrations
        (np.linspace(0, 0.9, 100), "given", 1),
        (np.arange(100.0), "order", 12),
        (np.zeros(1), "given", 1),
    ],
)
def test_knots_are_an_hour_apart_at_least(hours, clock, most):
    measured = draw_measured(np.zeros((len(hours), 2)), hours, 9)
    assert timing._most_knots(measured, clock) == most


@pytest.mark.parametrize("number", [2, 3, 4, 5, 9])
def test_shapes_are_those_of_scipy(number):
    knots = np.linspace(1, 7, number)
    hours = np.linspace(1, 7, 40)
    expected = CubicSpline(knots, np.eye(number))(hours)[:, 1:]
    np.testing.assert_allclose(timing._shapes(hours, knots), expected, atol=1e-12)


def test_the_spline_is_made_of_its_knots():
    truth = np.tile(0.01 * np.sin(HOURS)[:, np.newaxis], (1, 2))
    found = smooth(draw_measured(truth, HOURS, 10))
    again = CubicSpline(found.knots, found.knot_scales)(HOURS)
    np.testing.assert_allclose(again, found.scales, atol=1e-12)
    assert pickle.loads(pickle.dumps(found)) == found
    assert "clock='given'" in repr(found)


# Times.


def test_times_are_those_of_int_times_or_else_of_the_numbers():
    first = Clock(1, 30.0, (np.array([1.0, 2, 3]), np.array([60000.0, 60000.5, 60001])))
    whole = np.arange(1.0, 7), 60000 + np.arange(6.0) / 2
    second = Clock(4, 30.0, whole)  # a table of the whole exposure
    hours, source = hours_of([first, second], [3, 3])
    assert (hours.tolist(), source) == ([0, 12, 24, 36, 48, 60], "INT_TIMES")
    hours, source = hours_of([second, first], [3, 3])  # in another order
    assert hours.tolist() == [36, 48, 60, 0, 12, 24]
    same = Clock(1, 30.0, (np.array([1.0, 2]), np.array([60000.0, 60000])))
    hours, source = hours_of([same], [2])
    assert (hours.tolist(), source) == ([0, 30 / 3600], "integration time")
    broken = Clock(None, None, (np.array([1.0, 2]), np.array([60000.0, np.nan])))
    hours, source = hours_of([broken, broken], [2, 2])
    assert (hours.tolist(), source) == ([0, 1, 2, 3], "order")
    assert Clock(9, None, whole).days(2) is None


# Whole fits.

BENT = (1.0, 1.012, 1.004)


@pytest.fixture(scope="module")
def series():
    """Twelve integrations over six hours of SUBSTRIP96, whose sky bends by a percent."""
    scene = replace(
        SossScene(),
        star=44.0,
        traces=(ORDER_1,),
        readout=Readout(pattern="NISRAPID", n_groups=600),
        sky_curve=BENT,
        zeroth_orders=5,
        templates=2,
        template=1,
    )
    return draw_series(draw_field(scene, 41, SUBSTRIP96), 12)


@pytest.fixture(scope="module")
def cube(series):
    return sample_cube(series)


@pytest.fixture(scope="module")
def library(series):
    return make_library(series.shown.scene, 41)


SPREAD = np.linspace(0, 6, 12)


@pytest.fixture(scope="module")
def fitted(cube, library):
    return fit_templates(*cube, library, SMOOTH, hours=SPREAD)


def relative(series):
    curve = sky_curve(series.shown.scene, series.n_integrations)
    return curve / curve.mean(axis=0)


def test_a_sky_that_bends_is_followed(series, fitted, library):
    np.testing.assert_allclose(fitted.time.scales, relative(series), atol=0.001)
    background = template_background(fitted, library)
    lit = ~series.shown.reference
    lit[:, 685:725] = False
    for integration in (0, 6, 11):
        ratio = background.sky(integration, slice(0, 96))[lit] / series.sky(integration)[lit]
        assert np.median(ratio) == pytest.approx(1, abs=0.003)


def test_constant_is_the_same_fit(cube, library, fitted):
    constant = fit_templates(*cube, library, SossOptions(method="robust"))
    assert replace(fitted, time=None) == constant
    assert template_background(constant, library).drift is None


def test_a_mixture_of_templates_is_followed_too(series, cube, library):
    options = SossOptions(method="robust", time="smooth", model="mixture")
    found = fit_templates(*cube, library, options, hours=SPREAD)
    assert found.robust.mixture is not None
    np.testing.assert_allclose(found.time.scales, relative(series), atol=0.001)
    assert template_background(found, library).drift == found.time.drift(found.jump)


def test_threads_and_segments_change_no_bit(cube, library, fitted):
    sci, dq = cube
    parts = [ArrayPlanes.of(SCI=sci[part], DQ=dq[part]) for part in (slice(0, 5), slice(5, None))]
    again = fit_segments(parts, library, SMOOTH, times=(SPREAD, "given"), threads=3)
    assert again.time.segments == (5, 7)
    assert replace(again, time=replace(again.time, segments=(12,))) == fitted


def test_cosmic_rays_and_lost_integrations_do_not_matter(series, cube, library):
    sci, dq = cube[0].copy(), cube[1].copy()
    rng = np.random.default_rng(3)
    sci[4][rng.random(sci.shape[1:]) < 0.02] += 30
    sci[7] = np.nan
    dq[9] |= DO_NOT_USE
    sci[10, :, :800] = np.nan
    found = fit_templates(sci, dq, library, SMOOTH, hours=SPREAD).time
    assert np.isnan(found.measured[[7, 9]]).all()
    assert np.isnan(found.measured[10]).tolist() == [True, False]
    np.testing.assert_allclose(found.scales, relative(series), atol=0.0015)


def test_a_single_integration_is_constant_and_says_so(cube, library):
    sci, dq = (plane[0] for plane in cube)
    fit = fit_templates(sci, dq, library, SMOOTH)
    assert fit.time.reason == "a single integration"
    assert fit.time.scales.tolist() == [[1, 1]]
    assert template_background(fit, library).drift is None


def test_wrong_times_and_methods_are_refused(cube, library):
    for hours in (np.zeros(16), SPREAD[:5], np.where(SPREAD > 5, np.nan, SPREAD)):
        with pytest.raises(InputError, match="hours must be 12 finite and different numbers"):
            fit_templates(*cube, library, SMOOTH, hours=hours)
    with pytest.raises(OptionError, match="soss_time smooth needs soss_method robust"):
        SossOptions(time="smooth")
    with pytest.raises(OptionError, match="soss_time must be constant or smooth"):
        SossOptions(method="robust", time="daily")


# Applying.


def make_drifting(rows=4, columns=6):
    rng = np.random.default_rng(4)
    sky, own, common = rng.uniform(1, 2, (3, rows, columns)).astype(np.float32)
    drift = Drift(
        scales=np.array([[1, 1], [0.9, 1.1], [1.2, 1.2]], np.float32),
        scale_errs=np.array([[0, 0], [0.1, 0.2], [0.3, 0.3]], np.float32),
        jump=np.array([3, 3, 4, 4]),
        segments=(1, 2),
        segment=1,
    )
    return Background(
        sci=sky,
        err=np.sqrt(own + common),
        dq=np.zeros((rows, columns), np.uint32),
        covered=np.ones((rows, columns), np.bool_),
        variances=Variances(poisson=own, flat=common),
        drift=drift,
    )


@pytest.mark.parametrize("has_flat", [True, False])
def test_each_integration_of_a_segment_loses_its_own_sky(has_flat):
    background = make_drifting()
    sky, drift = background.sci.astype(float), background.drift
    right = np.arange(6) >= drift.jump[:, np.newaxis]
    factor = np.stack([np.where(right, 1.1, 0.9), np.full((4, 6), 1.2)])
    error = np.stack([np.where(right, 0.2, 0.1), np.full((4, 6), 0.3)]) * sky
    names = ["SCI", "DQ", "ERR", "VAR_POISSON"] + ["VAR_FLAT"] * has_flat
    planes = {name: np.ones((2, 4, 6), np.float32) for name in names}
    planes["DQ"] = np.zeros((2, 4, 6), np.uint32)
    applying.apply(background, planes)
    np.testing.assert_allclose(planes["SCI"], 1 - factor * sky, atol=1e-6)
    own, common = background.variances.poisson, background.variances.flat
    expected = own * factor**2, common * factor**2 + error**2
    np.testing.assert_allclose(planes["ERR"] ** 2, 1 + sum(expected), rtol=1e-5)
    if has_flat:
        np.testing.assert_allclose(planes["VAR_POISSON"], 1 + expected[0], rtol=1e-5)
        np.testing.assert_allclose(planes["VAR_FLAT"], 1 + expected[1], rtol=1e-5)
    else:
        np.testing.assert_allclose(planes["VAR_POISSON"], 1 + sum(expected), rtol=1e-5)
    change = applying.changes(background)["SCI"]
    band = np.ones((2, 6), np.float32)
    change(band, 2, 0)
    np.testing.assert_array_equal(band, planes["SCI"][0, 2:])
    with pytest.raises(IndexError, match="one of the 2 of the segment"):
        change(band, 2, 2)


def test_metrics_see_the_sky_of_each_integration(fitted, library, cube):
    background = template_background(fitted, library)
    result = SossResult(options=SMOOTH, reference="bkg", segments=1, fit=fitted)
    outcome = Outcome(status=Status.COMPLETE, result=result, background=background)
    sample = draw(ArrayPlanes.of(SCI=cube[0], DQ=cube[1]), background, outcome)
    at = sample.integration, sample.row, sample.column
    expected = np.stack([background.sky(i, slice(0, 96)) for i in range(12)])[at]
    np.testing.assert_array_equal(sample.background, expected)
    np.testing.assert_array_equal(sample.residual, cube[0][at] - expected)


# Files.


@pytest.fixture(scope="module")
def files(series, tmp_path_factory):
    """The same series in two segments, with INT_TIMES."""
    return write_series(tmp_path_factory.mktemp("time"), series, segments=2, variances=False)


def run_command(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_product(path, target, fitted, number, library):
    background = template_background(fitted, library)
    background = replace(background, drift=replace(background.drift, segment=number))
    first = sum(fitted.time.segments[:number])
    with datamodels.open(path) as product, datamodels.open(target) as given:
        for integration in range(len(given.data)):
            sky = background.sky(integration, slice(0, 96))
            np.testing.assert_allclose(product.data[integration], given.data[integration] - sky)
        told = product.meta.background.webbkg.instance["time"]
    table = Table.read(
        path.with_name(path.name.replace("backgroundstep.fits", "backgroundtime.ecsv"))
    )
    here = slice(first, first + fitted.time.segments[number])
    for index, side in enumerate(("left", "right")):
        np.testing.assert_allclose(table[f"{side}_scale"], fitted.time.scales[here, index])
        np.testing.assert_allclose(
            table[f"{side}_measured_err"], fitted.time.measured_errs[here, index]
        )
    assert table["hour"].unit == "h"
    assert table.meta["knots"] == told["knots"]
    assert told["clock"] == "INT_TIMES"
    np.testing.assert_allclose([one["scales"] for one in told["knots"]], fitted.time.knot_scales)


def fit_of(files):
    clocks = [read_clock(path) for path in files.segments]
    with Exposure.from_file(files.segments[0]) as one, Exposure.from_file(files.segments[1]) as two:
        parts = [one.planes, two.planes]
        times = hours_of(clocks, [part.shape[0] for part in parts])
        with datamodels.open(files.template) as library:
            return fit_segments(parts, library.data, SMOOTH, times=times), library.data.copy()


def test_segments_from_file_to_file(files, series, tmp_path):
    fitted, library = fit_of(files)
    assert fitted.time.clock == "INT_TIMES"
    np.testing.assert_allclose(fitted.time.scales, relative(series), atol=0.001)
    named = ["--soss-method", "robust", "--soss-time", "smooth", "--output-dir", tmp_path]
    told = run_command(
        tmp_path,
        "webbkg.cli",
        "subtract",
        *files.segments,
        *named,
        "--override-bkg",
        files.template,
    )
    assert "knots, both sides together" in told
    products = sorted(tmp_path.glob("*_backgroundstep.fits"))
    for number, (product, target) in enumerate(zip(products, files.segments, strict=True)):
        check_product(product, target, fitted, number, library)


def test_strun_and_a_call_make_the_same(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = files.segments[0]
    named = ["--soss_method=robust", "--soss_time=smooth", f"--override_bkg={files.template}"]
    done = subprocess.run(
        [Path(sys.executable).parent / "strun", "webbkg", target, *named],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (product,) = tmp_path.glob("*_backgroundstep.fits")
    (table,) = tmp_path.glob("*_backgroundtime.ecsv")
    with datamodels.open(target) as given:
        result = BackgroundStep.call(
            given, soss_method="robust", soss_time="smooth", override_bkg=str(files.template)
        )
    with datamodels.open(product) as written:
        np.testing.assert_array_equal(written.data, result.data)
        told = written.meta.background.webbkg.instance["time"]
        assert told == result.meta.background.webbkg.instance["time"]
    assert len(Table.read(table)) == len(result.data)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_written_where_the_table_cannot_be(files, tmp_path):
    target = files.segments[0]
    stem = target.name.replace("_rateints.fits", "")
    (tmp_path / f"{stem}_backgroundtime.ecsv").mkdir()
    with pytest.raises(OutputError, match=r"backgroundtime\.ecsv"):
        subtract(
            target,
            soss_method="robust",
            soss_time="smooth",
            override_bkg=str(files.template),
            output_dir=tmp_path,
        )
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}_backgroundtime.ecsv"]


def test_a_foreign_table_is_not_overwritten(files, tmp_path):
    target = files.segments[0]
    table = tmp_path / target.name.replace("rateints.fits", "backgroundtime.ecsv")
    table.write_text("# %ECSV 1.0\n# ---\nmine\n1\n")
    with pytest.raises(AssertionError, match="no product of webbkg's"):
        run_command(
            tmp_path,
            *("webbkg.cli", "subtract", target, "--soss-method", "robust"),
            *("--soss-time", "smooth", "--override-bkg", files.template),
        )
    assert "mine" in table.read_text()


def test_a_rate_and_equal_time_stamps_from_models(files):
    named = {"soss_method": "robust", "soss_time": "smooth", "override_bkg": str(files.template)}
    with datamodels.open(files.rate) as rate:
        told = BackgroundStep.call(rate, **named).meta.background.webbkg.instance["time"]
        assert told["constant"] == "a single integration"
        assert told["knots"] == []
    with datamodels.open(files.segments[0]) as target:
        target.int_times["int_mid_MJD_UTC"] = 60000.0
        told = BackgroundStep.call(target, **named).meta.background.webbkg.instance["time"]
        assert told["clock"] == "integration time"
