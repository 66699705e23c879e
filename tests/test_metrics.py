"""Metrics: right subtractions come out good, and none of the ways to go wrong does."""

import json
import logging
import weakref
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits
from benchmarks import metrics as study
from stdatamodels.jwst import datamodels

from factories import IMAGING, make_model, save
from webbkg import BackgroundStep
from webbkg.cli import main
from webbkg.errors import OptionError
from webbkg.modes import Shared
from webbkg.numerics.parallel import use_threads
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import DO_NOT_USE, ImageOptions, WfssOptions
from webbkg.report import overlap
from webbkg.report.limits import LIMITS, judge, set_limits
from webbkg.report.metrics import measure_metrics
from webbkg.results import (
    Background,
    Grade,
    ImageResult,
    Metric,
    Metrics,
    Outcome,
    SampleCounts,
    ScaleFit,
    Status,
    WfssResult,
)

SHAPE = (120, 160)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="webbkg")


@pytest.mark.parametrize("seed", [6000, 6001, 6002, 6004])
def test_right_images_are_good(seed):
    assert study.image_right(seed).verdict == "good"


@pytest.mark.parametrize("make", [study.grism_right, study.grism_robust, study.soss_right])
def test_right_templates_are_good(make):
    assert make(6001).verdict == "good"


def test_pixels_that_were_not_chosen_for_a_grism_fit_are_not_rejected():
    """Guards the preset, which fits the cleanest pixels alone: every fit of it was called bad."""
    metrics = study.grism_robust(6002)
    assert metrics.find("clipped").value < 0.1


@pytest.mark.parametrize("name", study.WRONG)
def test_what_goes_wrong_is_not_good(name):
    metrics = study.WRONG[name](6000)
    assert metrics.verdict != "good"
    assert metrics.reasons


def test_another_unit_and_another_date_are_bad():
    assert study.image_unit(6001).find("sky_level").grade == "bad"
    assert study.image_zodiacal(6001).find("sky_level").grade == "bad"


def planes_and_outcome(level=0.0, slope=0.0, *, seed=1, noise=0.1, mask=None, **more):
    """A sky of 1 with noise, of which all but a level and a slope is taken off."""
    rng = np.random.default_rng(seed)
    sci = rng.normal(1 + level, noise, SHAPE) + slope * np.linspace(-0.5, 0.5, SHAPE[1])
    planes = {
        "SCI": sci.astype(np.float32),
        "ERR": np.full(SHAPE, noise, np.float32),
        "DQ": np.zeros(SHAPE, np.uint32),
    }
    background = Background(
        sci=np.ones(SHAPE, np.float32),
        err=np.zeros(SHAPE, np.float32),
        dq=np.zeros(SHAPE, np.uint32),
        covered=np.ones(SHAPE, np.bool_),
    )
    counts = SampleCounts(offered=10, usable=10)
    result = ImageResult(
        options=ImageOptions(),
        backgrounds=("b",),
        exposures=counts,
        integrations=SampleCounts(),
        pixels=sci.size,
        pixels_uncovered=0,
        pixels_unknown=0,
    )
    if mask is not None:
        fit = ScaleFit(status=Status.COMPLETE, scale=1.0)
        result = WfssResult(
            options=WfssOptions(), template="", mask="", mask_sources=0, pixels=sci.size, fit=fit
        )
    outcome = Outcome(
        status=Status.COMPLETE, background=background, result=result, sky_mask=mask, **more
    )
    return planes, outcome


def measured(planes, outcome, **more):
    return measure_metrics(ArrayPlanes.of(**planes), outcome, **more)


def test_level_scatter_and_gradient_are_those_that_are_there():
    metrics = measured(*planes_and_outcome(0.03, 0.05))
    level = metrics.find("sky_level")
    assert level.value == pytest.approx(0.3, abs=4 * level.error)
    assert level.share == pytest.approx(0.1 * level.value)
    assert level.unit == "ERR"
    assert metrics.level == pytest.approx(0.1 * level.value)
    assert metrics.scatter == pytest.approx(0.1, rel=0.05)
    assert metrics.find("chi2_dof").value == pytest.approx(1.11, abs=0.05)
    # Eight parts of a slope of 0.5 ERR: from the middle of the first to that of the last.
    assert metrics.find("gradient_columns").value == pytest.approx(0.5 * 7 / 8, abs=0.15)
    assert metrics.find("gradient_rows").value < 0.2
    assert metrics.verdict == "look"
    assert "0.3" in metrics.reasons[0] or "0.2" in metrics.reasons[0]


def test_neither_the_target_nor_the_background_is_changed():
    planes, outcome = planes_and_outcome()
    before = {name: plane.copy() for name, plane in planes.items()}
    sky = outcome.background.sci.copy()
    measured(planes, outcome)
    assert all(np.array_equal(before[name], planes[name]) for name in planes)
    np.testing.assert_array_equal(outcome.background.sci, sky)


@pytest.mark.parametrize("mask", [None, np.arange(160) % np.ones((120, 160)) == 0])
def test_threads_and_byte_order_change_nothing(mask):
    planes, outcome = planes_and_outcome(0.02, mask=mask)
    expected = measured(planes, outcome)
    swapped = {name: plane.astype(plane.dtype.newbyteorder(">")) for name, plane in planes.items()}
    for threads in (1, 3):
        with use_threads(threads):
            assert measured(swapped, outcome) == expected


@pytest.mark.parametrize("mask", [None, np.arange(160) % np.ones((120, 160)) == 0])
def test_bands_change_nothing(monkeypatch, mask):
    planes, outcome = planes_and_outcome(0.02, mask=mask)
    sky = np.random.default_rng(2).normal(1, 0.02, SHAPE).astype(np.float32)
    sky[40:60, 70:90] += 0.5
    sky[3, 5] = planes["SCI"][90, 11] = np.nan
    outcome = replace(outcome, background=replace(outcome.background, sci=sky))
    expected = measured(planes, outcome)
    for band in (overlap.SIZE, 200):
        monkeypatch.setattr(overlap, "BAND", band)
        assert measured(planes, outcome) == expected
    name, least = ("source_overlap", 4) if mask is None else ("light_left", -1)
    assert expected.find(name).value > least


def test_a_sky_mask_is_obeyed():
    mask = np.ones(SHAPE, np.bool_)
    mask[:, :80] = False
    planes, outcome = planes_and_outcome(mask=mask)
    planes["SCI"][:, :80] += 5
    metrics = measured(planes, outcome)
    assert metrics.find("sky_fraction").value == pytest.approx(0.5, abs=0.01)
    assert metrics.find("sky_level").grade == "good"
    assert metrics.find("light_left").grade == "good"


def test_flags_and_what_is_not_finite_are_left_out():
    planes, outcome = planes_and_outcome()
    planes["SCI"][:30] = np.nan
    planes["SCI"][30:60], planes["DQ"][30:60] = 1e6, DO_NOT_USE
    planes["ERR"][60:70] = -1
    flags = outcome.background.dq.copy()
    flags[90:105] = DO_NOT_USE
    outcome = replace(outcome, background=replace(outcome.background, dq=flags))
    metrics = measured(planes, outcome)
    assert metrics.find("newly_flagged").value == pytest.approx(15 / 120, abs=0.01)
    assert metrics.find("newly_flagged").grade == "look"
    assert 0.98 * 35 * 160 < metrics.pixels <= 35 * 160
    assert metrics.find("scatter").value == pytest.approx(1, abs=0.1)


def test_without_any_sky_it_is_bad_and_says_so():
    planes, outcome = planes_and_outcome()
    planes["SCI"][...] = np.nan
    metrics = measured(planes, outcome)
    assert metrics.verdict == "bad"
    assert metrics.reasons == ("only 0 of the pixels are sky",)
    assert metrics.find("sky_level") is None


def test_without_errors_the_scatter_stands_for_them():
    planes, outcome = planes_and_outcome(0.03)
    del planes["ERR"]
    metrics = measured(planes, outcome)
    assert metrics.find("sky_level").unit == "scatter"
    assert metrics.find("sky_level").value == pytest.approx(0.3, abs=0.05)
    assert metrics.find("chi2_dof") is metrics.find("scatter") is None


def test_what_does_not_scatter_at_all_has_metrics():
    planes, outcome = planes_and_outcome()
    del planes["ERR"]
    planes["SCI"][...] = 1.5
    outcome = replace(outcome, background=replace(outcome.background, err=planes["SCI"] / 10))
    metrics = measured(planes, outcome)
    assert (metrics.level, metrics.scatter) == (0.5, 0)
    assert metrics.find("sky_fraction").value == 1
    assert metrics.find("split_scale") is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 300)])
def test_odd_shapes_have_metrics(shape):
    planes, outcome = planes_and_outcome()
    rows, columns = shape
    planes = {name: np.resize(plane, shape) for name, plane in planes.items()}
    names = ("sci", "err", "dq", "covered")
    cut = {name: np.resize(getattr(outcome.background, name), shape) for name in names}
    outcome = replace(outcome, background=Background(**cut))
    assert measured(planes, outcome).pixels <= rows * columns


def test_a_source_in_the_background_leaves_a_dark_spot_and_a_cosmic_ray_does_not():
    planes, outcome = planes_and_outcome()
    sky = outcome.background.sci + np.random.default_rng(2).normal(0, 0.02, SHAPE)
    sky = sky.astype(np.float32)
    sky[50, 50:53] += 500
    hit = replace(outcome, background=replace(outcome.background, sci=sky))
    assert measured(planes, hit).find("source_overlap").grade == "good"
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = 3 * np.exp(-((x - 80.3) ** 2 + (y - 61.8) ** 2) / 12)
    starry = replace(
        outcome, background=replace(outcome.background, sci=(sky + star).astype(np.float32))
    )
    assert measured(planes, starry).find("source_overlap").grade != "good"


def test_of_one_background_the_sources_are_found_once(monkeypatch):
    planes, outcome = planes_and_outcome()
    other = replace(outcome, background=replace(outcome.background))
    found, bright_blocks = [], overlap.bright_blocks
    monkeypatch.setattr(
        "webbkg.report.metrics.bright_blocks", lambda one: found.append(one) or bright_blocks(one)
    )
    shared, expected = Shared(), measured(planes, outcome)
    for one in (outcome, outcome, other, other, outcome):
        assert measured(planes, one, shared=shared) == expected
    told = (outcome, outcome, other, outcome)  # the first without anything shared
    assert [id(one) for one in found] == [id(one.background) for one in told]


def test_what_is_shared_of_a_background_does_not_keep_it():
    _, outcome = planes_and_outcome()
    shared, kept = Shared(), weakref.ref(outcome.background)
    assert shared.of(outcome.background, lambda: "made") == "made"
    del outcome
    assert kept() is None


def test_where_no_source_is_in_the_background_the_target_is_not_read_for_one():
    planes, outcome = planes_and_outcome()
    nothing = np.zeros((30, 40), np.bool_)
    single = nothing.copy()
    single[[3, 9, 20], [5, 5, 39]] = True
    unread = ArrayPlanes({"SCI": planes["SCI"][np.newaxis, :0]})
    for bright in (nothing, single):
        assert overlap.darkest_spot(unread, outcome.background, bright) == 0
    single[4, 6] = True
    with pytest.raises(ValueError, match="broadcast"):
        overlap.darkest_spot(unread, outcome.background, single)


def test_what_is_large_against_the_noise_alone_or_the_sky_alone_is_good():
    of_noise = Metric(name="sky_level", value=3.0, share=0.001)
    of_sky = Metric(name="sky_level", value=0.01, share=3.0)
    of_both = Metric(name="sky_level", value=-3.0, share=-0.5)
    assert [judge(one).grade for one in (of_noise, of_sky, of_both)] == ["good", "good", "bad"]
    assert judge(replace(of_both, error=0.99)).grade == "good"  # 3 sigma from 0


def test_the_worst_is_the_verdict_and_its_reason_comes_first():
    values = (
        judge(Metric(name="scatter", value=2.0)),
        judge(Metric(name="chi2_dof", value=9.0)),
        judge(Metric(name="uncovered", value=0.0)),
    )
    metrics = Metrics(values=values)
    assert metrics.verdict is Grade.BAD
    assert metrics.reasons == ("chi²/dof of the sky is 9", values[0].reason)
    assert Metrics(values=()).verdict is Grade.GOOD


def test_limits_can_be_set():
    limits = set_limits(["chi2_dof=10:20", "sky_level = 1:2:0.5:0.6"])
    assert judge(Metric(name="chi2_dof", value=9.0), limits).grade == "good"
    assert (limits["sky_level"].look_share, limits["sky_level"].bad_share) == (0.5, 0.6)
    assert limits["scatter"] == LIMITS["scatter"]
    for wrong in ("chi2=1:2", "scatter=1", "scatter=a:b", "scatter=-1:2", "scatter"):
        with pytest.raises(OptionError, match="metric_limits"):
            set_limits([wrong])


def test_every_limit_has_its_reason_and_every_metric_a_limit():
    assert all(limit.why and limit.words for limit in LIMITS.values())
    ordered = [limit for limit in LIMITS.values() if not limit.least]
    assert all(limit.look <= limit.bad and limit.look_share <= limit.bad_share for limit in ordered)


@pytest.fixture
def exposures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for name in ("t", "b1", "b2"):
        level = 1.3 if name == "t" else 1.0
        model = make_model(rng.normal(level, 0.1, (64, 80)).astype(np.float32), **IMAGING)
        model.err = np.full((64, 80), 0.1, np.float32)
        save(model, tmp_path / f"{name}_rate.fits")


def run_json(capsys, *more):
    names = ["subtract", "t_rate.fits", "-b", "b1_rate.fits", "b2_rate.fits", "--json", *more]
    with pytest.raises(SystemExit) as exit_:
        main(names)
    return exit_.value.code, json.loads(capsys.readouterr().out)


def test_the_verdict_is_in_json_product_and_header(exposures, capsys):
    code, (told,) = run_json(capsys)
    assert code == 0
    assert told["metrics"]["verdict"] == "bad"
    assert "of the background" in told["metrics"]["reasons"][0]
    assert told["metrics"]["values"]["sky_level"]["grade"] == "bad"
    assert fits.getval(told["output"], "BKGVERD") == "bad"
    with datamodels.open(told["output"]) as model:
        tree = model.meta.background.webbkg.instance["metrics"]
    assert tree == told["metrics"]
    stepped = BackgroundStep.call("t_rate.fits", ["b1_rate.fits", "b2_rate.fits"])
    assert stepped.meta.background.webbkg.instance["metrics"] == tree
    stepped.save("saved.fits")
    assert fits.getval("saved.fits", "BKGVERD") == "bad"


def test_limits_and_leave_of_the_command(exposures, capsys):
    limits = "--metric-limits=sky_level=10:20,chi2_dof=99:100"
    _, (told,) = run_json(capsys, limits)
    assert told["metrics"]["verdict"] == "good"
    _, (told,) = run_json(capsys, "--skip-metrics")
    assert told["metrics"] is None
    assert "BKGVERD" not in fits.getheader(told["output"])


def test_the_json_follows_its_schema(exposures, capsys):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(files("webbkg.report").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    _, told = run_json(capsys)
    validator.validate(told)
    told[0]["metrics"]["verdict"] = "fine"
    assert not validator.is_valid(told)
    with pytest.raises(SystemExit):
        main(["subtract", "absent_rate.fits", "--json"])
    validator.validate(json.loads(capsys.readouterr().out))
