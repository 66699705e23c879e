"""A run made of records: what is whose, what is refused before anything is written, what stays."""

import gc
import json
import logging
import math
import os
import pickle
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.table import Table
from stdatamodels.jwst import datamodels
from stpipe import Step
from typer.testing import CliRunner

import webbkg
import webbkg.image.measure
from factories import (
    GRISM,
    checksum,
    grism_template,
    make_model,
    ramp,
    save,
    save_multiples,
    write_mask,
)
from webbkg import BackgroundStep, ImageOptions, SossOptions, WfssOptions, subtract_background
from webbkg.cli import app
from webbkg.cli.names import repeat_background_flag
from webbkg.errors import InputError, MismatchError, OptionError, OutputError
from webbkg.files.naming import product_path
from webbkg.modes import Request
from webbkg.numerics.parallel import available_threads
from webbkg.options import parameters
from webbkg.results import Outcome, Propagated, ScaleFit, SkyLevels, Status

SHAPE = (6, 8)
SKY = ramp(SHAPE) / 64
OBSERVED = {
    "meta__observation__observation_number": "001",
    "meta__observation__visit_number": "002",
    "meta__observation__exposure_number": "3",
}

IMAGE_OF_NIRCAM = {**GRISM, "meta.exposure.type": "NRC_IMAGE"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target, three times the sky, and two backgrounds, once and twice; go there."""
    monkeypatch.chdir(tmp_path)
    save_multiples(SKY, tmp_path, t=3, b1=1, b2=2)
    return tmp_path


def webbkg_subtract(*arguments):
    return CliRunner().invoke(app, repeat_background_flag(["subtract", *map(str, arguments)]))


def reports(result):
    return json.loads(result.stdout)


# Which exposures are averaged.


def test_a_glob_may_hold_the_target(folder):
    result = webbkg_subtract("t_rate.fits", "--background", "*_rate.fits", "--json")
    (report,) = reports(result)
    assert report["details"]["backgrounds"] == ["b1_rate.fits", "b2_rate.fits"]
    assert any("t_rate.fits: is the target itself" in text for text in report["warnings"])
    product = datamodels.open("t_backgroundstep.fits")
    np.testing.assert_array_equal(product.data, 1.5 * SKY)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_the_target_under_another_name_is_no_background(folder, link):
    link(folder / "t_rate.fits", folder / "same_rate.fits")
    result = BackgroundStep.call("t_rate.fits", ["same_rate.fits"])
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "same_rate.fits: is the target itself" in result.meta.background.webbkg.reason
    np.testing.assert_array_equal(result.data, 3 * SKY)


def test_an_open_target_is_not_its_own_background(folder):
    target = make_model(3 * SKY)
    assert BackgroundStep.call(target, [target]).meta.cal_step.bkg_subtract == "SKIPPED"


def test_the_same_exposure_by_its_keywords_is_no_background_and_counts_once(folder):
    save(make_model(3 * SKY, **OBSERVED), folder / "t_rate.fits")
    save(make_model(np.stack([3 * SKY] * 2), **OBSERVED), folder / "t_rateints.fits")
    other = {**OBSERVED, "meta__observation__exposure_number": "4"}
    save(make_model(SKY, **other), folder / "b1_rate.fits")
    save(make_model(5 * SKY, **other), folder / "b1_cal.fits")
    names = ["t_rateints.fits", "b1_rate.fits", "b1_cal.fits", "b2_rate.fits"]
    result = BackgroundStep.call("t_rate.fits", names)
    assert result.meta.background.webbkg.backgrounds == ["b1_rate.fits", "b2_rate.fits"]
    np.testing.assert_array_equal(result.data, 1.5 * SKY)


def test_no_file_counts_twice(folder):
    result = BackgroundStep.call("t_rate.fits", ["b1_rate.fits", "./b1_rate.fits", "b2_rate.fits"])
    np.testing.assert_array_equal(result.data, 1.5 * SKY)


def test_another_unit_is_refused(folder):
    target = make_model(3 * SKY, meta__bunit_data="MJy/sr")
    save(make_model(SKY, meta__bunit_data="DN/s"), folder / "b1_rate.fits")
    with pytest.raises(MismatchError, match=r"b1_rate.fits: its unit is DN/s, that .* is MJy/sr"):
        BackgroundStep.call(target, ["b1_rate.fits"])
    save(target, folder / "t_rate.fits")
    assert webbkg_subtract("t_rate.fits", "-b", "b1_rate.fits").exit_code == 1


# Whose is what.


def test_each_target_records_its_own_references_and_log(folder):
    """Two filters, two templates, given as models are: one call, two products."""
    masks = write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    del masks
    for number in (1, 2):
        target = make_model((number + 1) * (1 + SKY), meta=GRISM)
        save(target, folder / f"g{number}_rate.fits")
    template = grism_template(1 + SKY, (0, 0))
    template.save("bkg.fits")
    results = BackgroundStep.call(
        ["g1_rate.fits", "g2_rate.fits"], override_bkg="bkg.fits", wfss_mask="mask.fits"
    )
    for number, result in enumerate(results, start=1):
        lines = "\n".join(result.cal_logs.instance["bkg_subtract"])
        assert f"g{number}_rate.fits: background subtracted" in lines
        assert f"g{3 - number}_rate.fits: background" not in lines
        assert result.meta.ref_file.bkg.name.endswith("bkg.fits")


def test_a_reference_is_recorded_only_where_it_was_used(folder):
    """A list of a grism exposure and an image: the image needs none."""
    save(make_model(2 * (1 + SKY), meta=GRISM), folder / "g_rate.fits")
    save(make_model(3 * SKY, meta=IMAGE_OF_NIRCAM), folder / "i_rate.fits")
    save(make_model(SKY, meta=IMAGE_OF_NIRCAM), folder / "sky_rate.fits")
    grism_template(1 + SKY, (0, 0)).save("bkg.fits")
    write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    given = {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits"}
    grism, image = BackgroundStep.call(["g_rate.fits", "i_rate.fits"], "sky_rate.fits", **given)
    assert grism.meta.cal_step.bkg_subtract == image.meta.cal_step.bkg_subtract == "COMPLETE"
    assert grism.meta.ref_file.bkg.name == str(folder / "bkg.fits")
    assert image.meta.ref_file.bkg.name is None


def test_a_run_leaves_nothing_on_the_step(folder):
    gc.collect()  # files that earlier tests left open would be told of now, with this frame
    step = BackgroundStep()
    result = step.run("t_rate.fits", ["b1_rate.fits"])
    held = weakref.ref(result)
    del result
    gc.collect()
    assert held() is None


def test_a_step_from_the_command_line_can_be_run_again(folder):
    save(make_model(np.stack([3 * SKY, 4 * SKY])), folder / "t_rateints.fits")
    step = Step.from_cmdline(["webbkg", "t_rateints.fits", "--bkg_list=b1_rate.fits"])
    again = step.run("t_rateints.fits", ["b1_rate.fits"])
    np.testing.assert_array_equal(again.data, [2 * SKY, 3 * SKY])


def test_requests_outcomes_and_options_pickle_compare_and_print(folder):
    request = Request(backgrounds=(Path("b1_rate.fits"),), options=ImageOptions(sigma=2.0))
    assert pickle.loads(pickle.dumps(request)) == request
    model, outcome = subtract_background("t_rate.fits", request)
    np.testing.assert_array_equal(model.data, 2 * SKY)
    copy = pickle.loads(pickle.dumps(outcome))
    assert copy == outcome
    assert copy is not outcome
    assert outcome != subtract_background("t_rate.fits", Request())[1]
    assert "sci=<float32 6x8>" in repr(outcome.background)
    assert "background=CombinedBackground(...)" in repr(outcome)
    assert len(repr(outcome)) < 1000
    assert ScaleFit(status=Status.FAILED) == ScaleFit(status=Status.FAILED)  # NaN is NaN
    levels = SkyLevels(kind="scale", backgrounds=(3.0, math.nan), corrections=(1.0, 1.0))
    assert pickle.loads(pickle.dumps(levels)) == levels
    assert levels != replace(levels, backgrounds=(3.0,))
    common = Propagated(common={"scale": math.nan})
    assert pickle.loads(pickle.dumps(common)) == common
    assert common != Propagated(common={"left": math.nan})
    assert Outcome(status=Status.FAILED) != ScaleFit(status=Status.FAILED)


def test_subtract_background_takes_paths_and_says_what_else_is_needed(folder):
    model, outcome = webbkg.subtract_background("t_rate.fits")
    assert outcome.status == "SKIPPED"
    np.testing.assert_array_equal(model.data, 3 * SKY)
    with pytest.raises(InputError, match=r"target: must be a file or an open data model"):
        webbkg.subtract_background(np.zeros((3, 3)))
    request = Request(backgrounds=(Path("b1_rate.fits"),), options=SossOptions())
    with pytest.raises(OptionError, match="options must be ImageOptions"):
        webbkg.subtract_background("t_rate.fits", request)


def counted_averages(monkeypatch):
    made = []
    average = webbkg.image.measure.average_unkept

    def count(*args, **kwargs):
        made.append(len(args[0]))
        return average(*args, **kwargs)

    monkeypatch.setattr(webbkg.image.measure, "average_unkept", count)
    return made


@pytest.mark.parametrize("way", ["call", "command"])
def test_targets_of_the_same_backgrounds_share_one_combination(folder, monkeypatch, way):
    """Another window, or another set of backgrounds, is averaged for itself; the bits are alike."""
    names = [f"{name}_rate.fits" for name in ("t", "u", "v", "b1")]
    save(make_model(5 * SKY), folder / names[1])
    save(make_model(7 * SKY[1:], at=(0, 1)), folder / names[2])
    alone = [BackgroundStep.call(name, ["b1_rate.fits", "b2_rate.fits"]).data for name in names]
    made = counted_averages(monkeypatch)
    if way == "call":
        results = BackgroundStep.call(names, ["b1_rate.fits", "b2_rate.fits"])
    else:
        given = ["-b", "b1_rate.fits", "b2_rate.fits", "-o", "out"]
        assert webbkg_subtract(*names, *given).exit_code == 0
        products = [product_path(name, output_dir="out") for name in names]
        results = [datamodels.open(product) for product in products]
    for result, expected in zip(results, alone, strict=True):
        np.testing.assert_array_equal(result.data, expected)
    assert made == [2, 2, 1]


# Products.


@pytest.mark.parametrize(
    "names", [("e0_rate.fits", "e0_rateints.fits"), ("a/x_rate.fits", "b/x_rate.fits")]
)
def test_products_of_one_name_are_refused_before_anything_is_written(folder, names):
    for name, planes in zip(names, (SKY, np.stack([SKY, SKY])), strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        save(make_model(planes), folder / name)
    with pytest.raises(OutputError, match=r"would be the product of both .* output_dir or suffix"):
        BackgroundStep.call(list(names), ["b1_rate.fits"], save_results=True, output_dir="out")
    assert list((folder / "out").iterdir()) == []
    result = webbkg_subtract(*names, "-b", "b1_rate.fits", "-o", "cli")
    assert result.exit_code == 1
    assert "would be the product of both" in result.stderr
    assert not (folder / "cli").exists()
    first, second = BackgroundStep.call(list(names), ["b1_rate.fits"])
    assert first.meta.cal_step.bkg_subtract == second.meta.cal_step.bkg_subtract == "COMPLETE"


def test_one_name_for_several_targets_is_an_error(folder):
    with pytest.raises(OptionError, match=r"output_file names one product, and there are 2"):
        BackgroundStep.call(["b1_rate.fits", "b2_rate.fits"], "t_rate.fits", output_file="x.fits")
    assert not list(folder.glob("x*"))


def test_the_product_of_an_open_model_does_not_overwrite_its_file(folder):
    before = checksum(folder / "t_rate.fits")
    target = datamodels.open("t_rate.fits")
    with pytest.raises(OutputError, match=r"t_rate.fits: would overwrite an input"):
        BackgroundStep.call(target, "b1_rate.fits", suffix="rate", save_results=True)
    memory = make_model(3 * SKY, meta__filename="t_rate.fits")
    with pytest.raises(OutputError, match=r"t_rate.fits: would overwrite an input"):
        BackgroundStep.call(memory, "b1_rate.fits", suffix="rate", save_results=True)
    background = datamodels.open("b1_rate.fits")
    with pytest.raises(OutputError, match=r"b1_rate.fits: would overwrite an input"):
        BackgroundStep.call(target, [background], output_file="b1.fits", suffix="rate")
    assert checksum(folder / "t_rate.fits") == before


@pytest.mark.parametrize(
    "name", ["../up_rate.fits", "/tmp/absolute_rate.fits", "-rf_rate.fits", "..", "a\nb_rate.fits"]
)
def test_a_name_from_a_header_stays_in_the_output_folder(folder, name):
    target = make_model(3 * SKY, meta__filename=name)
    outside = set(folder.parent.glob("*")) | set(Path("/tmp").glob("absolute*"))
    BackgroundStep.call(target, ["b1_rate.fits"], save_results=True, output_dir="out")
    (product,) = (folder / "out").iterdir()
    assert datamodels.open(product).meta.cal_step.bkg_subtract == "COMPLETE"
    assert set(folder.parent.glob("*")) | set(Path("/tmp").glob("absolute*")) == outside


def test_names_are_those_of_stpipe():
    step = BackgroundStep()
    for basis in ("a/jw_nis_rate.fits", "x_asn.json", "x.fits.gz", "odd.name_rateints.fits", "-x"):
        step._input_filename = basis
        assert Path(step.make_output_path()) == product_path(basis)
    step.output_dir = "$HOME/out"
    assert Path(step.make_output_path(suffix="bsub")) == product_path(
        basis, "bsub", output_dir="$HOME/out"
    )


@pytest.mark.parametrize("name", ["[red]x_rate.fits", "a\x1b[31m_rate.fits"])
def test_a_file_name_steers_no_terminal(folder, name):
    (folder / "t_rate.fits").rename(folder / name)
    result = webbkg_subtract(name, "-b", "b1_rate.fits")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert name.replace("\x1b", "\\x1b") in result.output


# What is looked for where.


def test_what_the_user_names_is_looked_for_where_the_user_stands(folder):
    """Files of the same names lie beside the target and the association."""
    (folder / "data").mkdir()
    for name, level in (("t", 9), ("b1", 4), ("b2", 8)):
        save(make_model(level * SKY), folder / "data" / f"{name}_rate.fits")
    members = [{"expname": "t_rate.fits", "exptype": "science"}]
    Path("data/x_asn.json").write_text(json.dumps({"products": [{"members": members}]}))
    for backgrounds in ({"bkg_list": ["b1_rate.fits"]}, "b1_rate.fits"):
        given = backgrounds if isinstance(backgrounds, dict) else {}
        second = [] if given else [backgrounds]
        beside = BackgroundStep.call("data/x_asn.json", *second, **given)
        np.testing.assert_array_equal(beside.data, 8 * SKY)
    members.append({"expname": "b1_rate.fits", "exptype": "background"})
    Path("data/x_asn.json").write_text(json.dumps({"products": [{"members": members}]}))
    np.testing.assert_array_equal(BackgroundStep.call("data/x_asn.json").data, 5 * SKY)


def test_the_mask_that_the_user_names_is_the_one_in_the_current_folder(folder):
    (folder / "data").mkdir()
    sky = 1 + SKY
    target = make_model(np.where(np.arange(8) < 4, 0.7 * sky, 1.5 * sky), meta=GRISM)
    save(target, folder / "data" / "g_rate.fits")
    left = (np.arange(8) < 4) * np.ones(SHAPE, np.uint32)
    write_mask(folder / "mask.fits", left)
    write_mask(folder / "data" / "mask.fits", 1 - left)
    grism_template(sky, (0, 0)).save("bkg.fits")
    result = BackgroundStep.call("data/g_rate.fits", override_bkg="bkg.fits", wfss_mask="mask.fits")
    assert result.meta.background.scaling_factor == pytest.approx(0.7, rel=1e-6)


# What is recorded.


def test_the_catalogue_that_the_user_set_stays_as_it_was(folder):
    grism_template(1 + SKY, (0, 0)).save("bkg.fits")
    write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    target = make_model(2 * (1 + SKY), meta=GRISM, meta__source_catalog="some/where/cat.ecsv")
    result = BackgroundStep.call(target, override_bkg="bkg.fits", wfss_mask="mask.fits")
    assert result.meta.source_catalog == "some/where/cat.ecsv"


def test_a_table_as_catalogue_goes_into_the_tree_and_is_told(folder):
    """stdatamodels drops a table that is assigned; put into the tree it works."""
    target = make_model(2 * (1 + SKY), meta=GRISM)
    target.meta.instance["source_catalog"] = Table({"label": [1]})
    grism_template(1 + SKY, (0, 0)).save("bkg.fits")
    with pytest.raises(InputError, match=r"has no WCS"):
        BackgroundStep.call(target, override_bkg="bkg.fits")
    write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    result = BackgroundStep.call(
        target, override_bkg="bkg.fits", wfss_mask="mask.fits", save_results=True, output_file="x"
    )
    assert result.meta.source_catalog == "a table"


def test_history_is_readable_lines_that_no_card_cuts(folder):
    names = [f"a_rather_long_name_of_a_background_{n}_rate.fits" for n in range(4)]
    for name in names:
        save(make_model(SKY), folder / name)
    BackgroundStep.call("t_rate.fits", names, save_results=True)
    with datamodels.open("t_backgroundstep.fits") as product:
        lines = [one["description"] for one in product.instance["history"]["entries"]]
    told = " ".join(line.strip() for line in lines)
    assert told.startswith(f"webbkg {webbkg.__version__} subtracted the background: mode image; ")
    assert "sigma 3; maxiters None" in told
    assert all(name in told for name in names)
    assert max(map(len, lines)) <= 72
    assert "{" not in told


def test_an_association_of_any_name_is_recorded(folder):
    members = [{"expname": "t_rate.fits", "exptype": "science"}]
    members += [{"expname": "b1_rate.fits", "exptype": "background"}]
    Path("höhe_asn.json").write_text(json.dumps({"products": [{"members": members}]}))
    result = BackgroundStep.call("höhe_asn.json", save_results=True)
    assert result.meta.asn.table_name == "h\\xf6he_asn.json"
    (product,) = folder.glob("h*backgroundstep.fits")
    assert datamodels.open(product).meta.asn.table_name == "h\\xf6he_asn.json"


def test_a_parameter_file_of_the_reference_implementation_is_taken(folder):
    tree = {"class": "jwst.background.background_step.BackgroundStep", "name": "bkg_subtract"}
    asdf.AsdfFile({**tree, "parameters": {"sigma": 2.5}}).write_to("pars.asdf")
    step = BackgroundStep.from_config_file("pars.asdf")
    assert type(step) is BackgroundStep
    assert step.sigma == 2.5


# Options.


def test_only_the_options_of_the_mode_in_use_are_judged(folder):
    result = BackgroundStep.call("t_rate.fits", "b1_rate.fits", wfss_outlier_percent=101)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    with pytest.raises(OptionError, match=r"wfss_outlier_percent must be a number from 0 to 100"):
        WfssOptions(outlier_percent=101)
    result = webbkg_subtract("t_rate.fits", "-b", "b1_rate.fits", "--sigma", "nan")
    assert result.exit_code == 2
    assert "sigma must be a number of at least 0 (got nan)" in result.stderr


@pytest.mark.parametrize(
    "given",
    [
        ["--sigma", "inf"],
        ["--sigma", "0"],
        ["--maxiters", "-1"],
        ["--wfss-maxiter", "-1"],
        ["--wfss-rms-stop", "150"],
        ["--wfss-outlier-percent", "50"],
    ],
)
def test_values_that_the_reference_takes_are_taken(folder, given):
    assert webbkg_subtract("t_rate.fits", "-b", "b1_rate.fits", *given).exit_code == 0


def test_one_table_makes_specification_options_and_defaults():
    table = parameters()
    spec = BackgroundStep.load_spec_file()
    told = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["subtract", "--help"]).output
    for name, one in table.items():
        assert f"default={one.default}" in spec[name].replace('"', "")
        assert one.text in spec.inline_comments[name]
        if name != "bkg_list":
            assert f"--{name.replace('_', '-')}" in told
            assert one.text.removeprefix(f"{one.mode.upper()}: ").split(";")[0][1:40] in told


def test_an_equals_sign_takes_further_names_too():
    given = ["subtract", "t.fits", "--background=a.fits", "b.fits", "--json"]
    assert repeat_background_flag(given) == [
        "subtract",
        "t.fits",
        "--background=a.fits",
        "--background",
        "b.fits",
        "--json",
    ]
    assert repeat_background_flag(["-b", "a.fits", "--", "t.fits"])[2:] == ["--", "t.fits"]


def test_the_command_leaves_crds_parameters_in_force(folder, tmp_path):
    """What the user does not give is not the command's own default."""
    from crds_cache import Cache, environment

    dated = {"meta__observation__date": "2026-01-01", "meta__observation__time": "00:00:00"}
    save(make_model(3 * SKY, **dated), folder / "t_rate.fits")
    cache, name = Cache(folder / "crds"), "jwst_niriss_pars-backgroundstep_0001.asdf"
    tree = {"class": "jwst.background.BackgroundStep", "name": "BackgroundStep"}
    meta = {"author": "a test", "description": "for a test", "reftype": "pars"}
    pars = {"sigma": 2.9, "maxiters": 7}
    asdf.AsdfFile({**tree, "parameters": pars, "meta": meta}).write_to(cache.path("niriss", name))
    cache.add("niriss", "pars-backgroundstep", {"NIS_IMAGE": name})
    command = [Path(sys.executable).parent / "webbkg", "subtract", "t_rate.fits", "-b"]
    for given, expected in (([], (2.9, 7)), (["--sigma", "2.7"], (2.7, 7))):
        done = subprocess.run(
            [*command, "b1_rate.fits", "--json", *given],
            env=environment(cache),
            capture_output=True,
            text=True,
            check=True,
        )
        details = json.loads(done.stdout)[0]["details"]
        assert (details["sigma"], details["maxiters"]) == expected


def test_threads_are_those_of_the_option(folder, monkeypatch):
    granted = []
    average = webbkg.image.measure.average_unkept

    def note(*args, **kwargs):
        granted.append(available_threads())
        return average(*args, **kwargs)

    monkeypatch.setattr(webbkg.image.measure, "average_unkept", note)
    assert webbkg_subtract("t_rate.fits", "-b", "b1_rate.fits", "--threads", "3").exit_code == 0
    assert granted == [3]
    assert webbkg_subtract("t_rate.fits", "-b", "b1_rate.fits", "--threads", "0").exit_code == 2


def test_a_warning_is_told_once_for_its_target_alone(folder, caplog):
    save(make_model(SKY, meta__instrument__filter="F090W"), folder / "b1_rate.fits")
    with caplog.at_level(logging.WARNING):
        BackgroundStep.call("t_rate.fits", ["b1_rate.fits"], configure_log=False)
    assert caplog.text.count("its filter is F090W") == 1
