"""SOSS through the step and the command: library, segments, status, provenance."""

import json
import logging

import numpy as np
import pytest
from stdatamodels.jwst import datamodels
from typer.testing import CliRunner

import factories
from factories import DO_NOT_USE, checksum, make_model, save, soss_library, soss_sky
from webbkg import BackgroundStep
from webbkg.cli import app
from webbkg.errors import (
    InputError,
    MismatchError,
    OptionError,
    OutputError,
    ReferenceUnavailableError,
)

SOSS = {
    **factories.SOSS,
    "meta.subarray.name": "SUBSTRIP96",
    "meta.observation.exposure_number": "4",
}
SHAPE = (96, 2048)
STEP = 700
SCALES = (0.9, 1.1)


def segment(integrations, number, light=0.0, **more):
    """Simulate a segment: the second template at two scales, noise, and a bright trace."""
    rng = np.random.default_rng(number)
    columns = np.arange(2048)
    sky = soss_sky(0.3)[10:106] * np.where(columns < STEP, *SCALES)
    cube = sky + rng.normal(0, 0.02, (integrations, *SHAPE))
    cube[:, 40:75] += 50 + light
    dq = np.zeros(cube.shape, np.uint32)
    name = f"jw01-seg{number:03d}_nis_rateints.fits"
    model = make_model(cube, np.full(cube.shape, 0.02), dq, at=(0, 1802), meta=SOSS, **more)
    model.meta.filename = name
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a library of three templates and two segments."""
    monkeypatch.chdir(tmp_path)
    soss_library(0.0, 0.3, 0.6).save("bkg.fits")
    for number in (1, 2):
        model = segment(number + 1, number)
        save(model, tmp_path / model.meta.filename)
    return tmp_path


NAMES = ["jw01-seg001_nis_rateints.fits", "jw01-seg002_nis_rateints.fits"]


def run(target=NAMES[0], **parameters):
    return BackgroundStep.call(target, **{"override_bkg": "bkg.fits", **parameters})


def test_no_window_is_asked_for(folder):
    """The rows tell how the library lies; SUBSTRT and SUBSIZE do not come into it."""
    target = segment(2, 1)
    expected = run(target)
    del target.instance["meta"]["subarray"]
    result = run(target)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, expected.data)


def details(model):
    return model.meta.background.webbkg.instance


def test_the_right_template_is_scaled_on_both_sides(folder):
    result = run(save_results=True)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    found = details(datamodels.open("jw01-seg001_nis_backgroundstep.fits"))
    assert found["template"] == 1
    # The percentile window leans to low ratios: well under the noise, 0.02 of 4.
    assert found["left"]["scale"] == pytest.approx(SCALES[0], abs=0.005)
    assert found["right"]["scale"] == pytest.approx(SCALES[1], abs=0.005)
    assert found["left"]["scale_err"] < 1e-3
    assert np.shape(found["rmse"]) == (3, 2)
    assert found["integrations"] == 2
    sky = soss_sky(0.3)[10:106] * np.where(np.arange(2048) < STEP, *SCALES)
    np.testing.assert_allclose(np.median(segment(2, 1).data - result.data - sky), 0, atol=0.03)


def test_a_rate_image_works_too(folder):
    cube = segment(2, 1)
    flat = make_model(cube.data[0], cube.err[0], cube.dq[0], at=(0, 1802), meta=SOSS)
    result = run(flat)
    assert isinstance(result, datamodels.ImageModel)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"


def test_holes_of_the_template_leave_nan_and_a_flag_in_every_integration(folder):
    reference = datamodels.open("bkg.fits")
    reference.data[:, 10 + 7, 1500] = np.nan
    before = reference.data.copy()
    result = run(override_bkg=reference)
    for plane, dq in zip(result.data, result.dq, strict=True):
        assert np.argwhere(np.isnan(plane)).tolist() == [[7, 1500]]
        assert np.argwhere(dq == DO_NOT_USE).tolist() == [[7, 1500]]
    np.testing.assert_array_equal(reference.data, before)


def test_a_library_of_other_rows_is_skipped(folder):
    reference = datamodels.SossBkgModel(data=np.ones((2, 40, 2048), np.float32))
    result = run(override_bkg=reference)
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "rows" in details(result)["reason"]
    np.testing.assert_array_equal(result.data, segment(2, 1).data)


def test_no_usable_pixel_is_skipped(folder):
    target = segment(2, 1)
    target.dq[:] = DO_NOT_USE
    result = run(target)
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "template matching failed" in details(result)["reason"]


def test_a_scale_that_rests_on_little_is_told(folder, caplog):
    with caplog.at_level(logging.WARNING):
        run(configure_log=False)
    assert "rests on" not in caplog.text
    with caplog.at_level(logging.WARNING):
        result = run(configure_log=False, soss_source_percentile=21.8)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert "the right scale rests on" in caplog.text
    assert "soss_source_percentile" in caplog.text


def test_references_that_are_absent_or_wrong(folder):
    assert run(override_bkg="N/A").meta.cal_step.bkg_subtract == "SKIPPED"
    with pytest.raises(ReferenceUnavailableError, match="override_bkg"):
        run(override_bkg=None)
    reference = datamodels.open("bkg.fits")
    reference.meta.instrument.name, reference.meta.instrument.detector = "NIRCAM", "NRCALONG"
    with pytest.raises(MismatchError, match="the instrument of this bkg reference is NIRCAM"):
        run(override_bkg=reference)


def test_a_single_template_of_two_dimensions_is_enough(folder):
    reference = datamodels.ImageModel(data=soss_sky(0.3))
    reference.save("one.fits")
    result = run(override_bkg="one.fits")
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert details(result)["template"] == 0


@pytest.mark.parametrize("percentiles", [[-1.0, 50.0], [25.0, 101.0], [25.0, float("nan")]])
def test_percentiles_lie_from_0_to_100(folder, percentiles):
    with pytest.raises(OptionError, match="soss_bkg_percentile must be two numbers from 0 to 100"):
        run(soss_bkg_percentile=percentiles)


@pytest.mark.parametrize("percentiles", [[50.0, 25.0], [25.0, 25.0]])
def test_percentiles_that_select_nothing_are_skipped(folder, percentiles):
    result = run(soss_bkg_percentile=percentiles)
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "template matching failed" in details(result)["reason"]


def test_segments_are_fitted_together(folder):
    first, second = run(NAMES, save_results=True, save_background=True)
    assert details(first)["segments"] == details(second)["segments"] == 2
    assert details(first)["integrations"] == 5
    for model in (first, second):
        assert model.meta.ref_file.bkg.name.endswith("bkg.fits")
    assert details(first)["left"] == details(second)["left"]
    both = np.concatenate([segment(2, 1).data, segment(3, 2).data])
    whole = run(make_model(both, np.ones(both.shape), at=(0, 1802), meta=SOSS))
    assert details(whole)["left"] == details(first)["left"]
    assert details(whole)["right"] == details(second)["right"]
    np.testing.assert_array_equal(np.concatenate([first.data, second.data]), whole.data)
    made = sorted(path.name for path in folder.glob("*back*"))
    assert made == [
        f"jw01-seg00{n}_nis_{kind}.fits"
        for n in (1, 2)
        for kind in ("background", "backgroundstep")
    ]


def test_open_segments_are_fitted_together_too(folder):
    models = [datamodels.open(name) for name in NAMES]
    for ours, stored in zip(run(models), run(NAMES), strict=True):
        assert ours.meta.cal_step.bkg_subtract == "COMPLETE"
        np.testing.assert_array_equal(ours.data, stored.data)


def test_targets_of_different_exposures_are_fitted_apart(folder):
    other = segment(3, 2, meta__observation__exposure_number="5")
    save(other, folder / NAMES[1])
    first, second = run(NAMES)
    assert details(first)["segments"] == details(second)["segments"] == 1
    assert details(first)["integrations"] == 2


@pytest.mark.parametrize("way", ["call", "command"])
def test_the_segments_of_two_exposures_are_fitted_two_by_two(folder, way):
    """Given together, in any order; a rate image of one of them is fitted alone."""
    names = [*NAMES]
    for number in (1, 2):
        other = segment(number + 2, number, meta__observation__exposure_number="5")
        names.append(str(save(other, folder / f"jw02-seg00{number}_nis_rateints.fits").name))
    rate = segment(2, 1)
    flat = make_model(rate.data[0], rate.err[0], rate.dq[0], at=(0, 1802), meta=SOSS)
    names.append(str(save(flat, folder / "jw01-all_nis_rate.fits").name))
    names = [names[i] for i in (0, 2, 4, 3, 1)]
    if way == "call":
        found = [details(result) for result in run(names)]
    else:
        done = CliRunner().invoke(app, ["subtract", *names, "--override-bkg", "bkg.fits", "--json"])
        told = sorted(json.loads(done.stdout), key=lambda one: names.index(one["target"]))
        found = [one["details"] for one in told]
    assert [one["segments"] for one in found] == [2, 2, 1, 2, 2]
    assert [one["integrations"] for one in found] == [5, 7, 1, 7, 5]
    assert found[0]["left"] == found[4]["left"] != found[1]["left"] == found[3]["left"]


def test_if_one_segment_cannot_be_written_none_is(folder):
    (folder / "out").mkdir()
    (folder / "out" / NAMES[1].replace("rateints", "backgroundstep")).mkdir()
    with pytest.raises(OutputError, match="seg002_nis_backgroundstep"):
        run(NAMES, save_results=True, output_dir="out")
    assert [path.name for path in (folder / "out").iterdir() if path.is_file()] == []


def test_a_segment_that_is_done_cannot_be_fitted_with_others(folder):
    save(segment(3, 2, meta__cal_step__bkg_subtract="COMPLETE"), folder / NAMES[1])
    before = [checksum(folder / name) for name in NAMES]
    with pytest.raises(InputError, match=r"seg002_nis_rateints\.fits: .* already, unlike"):
        run(NAMES, save_results=True)
    assert [checksum(folder / name) for name in NAMES] == before


def test_the_command_takes_segments(folder):
    arguments = ["subtract", *NAMES, "--override-bkg", "bkg.fits", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)
    assert [report["details"]["segments"] for report in reports] == [2, 2]
    assert [report["output"] for report in reports] == [
        "jw01-seg001_nis_backgroundstep.fits",
        "jw01-seg002_nis_backgroundstep.fits",
    ]


def test_the_robust_method_in_every_way_in(folder):
    """One file through the step, and the segments through the command, with the same numbers."""
    result = run(NAMES, soss_method="robust")
    together = details(result[0])
    assert together["method"] == "robust"
    assert together["template"] == 1
    assert together["left"]["scale"] == pytest.approx(SCALES[0], rel=0.001)
    assert together["right"]["scale"] == pytest.approx(SCALES[1], rel=0.001)
    assert together["noise"]["read_variance"] == pytest.approx(0.02**2, rel=0.1)
    assert np.shape(together["scales"]) == (3, 2)
    arguments = ["subtract", *NAMES, "--override-bkg", "bkg.fits", "--json"]
    command = CliRunner().invoke(app, [*arguments, "--soss-method", "robust"])
    assert command.exit_code == 0, command.output
    reports = json.loads(command.stdout)
    assert [report["details"]["left"] for report in reports] == [together["left"]] * 2
    assert "method" not in details(run())  # what is written by default is as it was


def test_a_robust_fit_says_why_it_should_be_looked_at(folder, caplog):
    soss_library(0.3, 0.3).save("bkg.fits")
    with caplog.at_level(logging.WARNING):
        result = run(configure_log=False, soss_method="robust")
    assert "look at the SOSS background: another template is as likely" in caplog.text
    assert len(details(result)["look"]) == 1


def test_the_command_takes_a_bare_sky_image_for_all_segments(folder):
    """And what is left out with --skip-existing is the exposure, not one segment of it."""
    np.save("sky.npy", soss_sky(0.3)[10:106])
    given = ["subtract", *NAMES, "--override-bkg", "sky.npy"]
    told = CliRunner().invoke(app, [*given, "--json"])
    assert told.exit_code == 0, told.output
    for report in json.loads(told.stdout):
        assert report["details"]["library"] == "sky.npy"
        sides = [report["details"][side]["scale"] for side in ("left", "right")]
        np.testing.assert_allclose(sides, SCALES, rtol=1e-2)
    products = sorted(folder.glob("*_backgroundstep.fits"))
    with datamodels.open(products[0]) as product:
        assert product.meta.ref_file.bkg.name == str(folder / "sky.npy")
    before = checksum(products[0])
    products[1].unlink()
    assert CliRunner().invoke(app, [*given, "--skip-existing"]).exit_code == 0
    assert products[1].exists()
    assert checksum(products[0]) != before
    before = checksum(products[0])
    assert CliRunner().invoke(app, [*given, "--skip-existing"]).exit_code == 0
    assert checksum(products[0]) == before
