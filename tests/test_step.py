"""The stpipe step: ways in, status, names, provenance, and what it leaves alone."""

import json
import logging
import subprocess
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE, NIRSPEC, checksum, make_model, ramp, save
from webbkg import BackgroundStep
from webbkg.errors import (
    InputError,
    MismatchError,
    OptionError,
    OutputError,
)

SHAPE = (6, 8)


@pytest.fixture
def exposures(tmp_path, monkeypatch):
    """Write a target and two backgrounds, of which the second is twice the first; go there."""
    monkeypatch.chdir(tmp_path)
    sky = ramp(SHAPE) / 64
    save(make_model(3 * sky), tmp_path / "t_rate.fits")
    save(make_model(sky), tmp_path / "b1_rate.fits")
    save(make_model(2 * sky), tmp_path / "b2_rate.fits")
    return tmp_path


def expected():
    return 1.5 * ramp(SHAPE) / 64


def write_association(folder, **more):
    members = [
        {"expname": "t_rate.fits", "exptype": "science"},
        {"expname": "b1_rate.fits", "exptype": "background"},
        {"expname": "b2_rate.fits", "exptype": "background"},
    ]
    path = folder / "set_asn.json"
    path.write_text(json.dumps({"products": [{"name": "p", "members": members}], **more}))
    return path


def call_with_paths(folder):
    return BackgroundStep.call(folder / "t_rate.fits", ["b1_rate.fits", folder / "b2_rate.fits"])


def call_with_strings(folder):
    return BackgroundStep.call("t_rate.fits", "b1_rate.fits,b2_rate.fits,")


def call_with_list_parameter(folder):
    return BackgroundStep.call("t_rate.fits", bkg_list=["b1_rate.fits", "b2_rate.fits"])


def call_with_models(folder):
    backgrounds = [datamodels.open(folder / f"b{i}_rate.fits") for i in (1, 2)]
    return BackgroundStep.call(datamodels.open(folder / "t_rate.fits"), backgrounds)


def call_with_association_file(folder):
    return BackgroundStep.call(write_association(folder))


def call_with_association_dict(folder):
    return BackgroundStep.call(json.loads(write_association(folder).read_text()))


def run_as_a_pipeline_does(folder):
    step = BackgroundStep(sigma=3.0, name="bkg_subtract")
    return step.run(datamodels.open(folder / "t_rate.fits"), ["b1_rate.fits", "b2_rate.fits"])


@pytest.mark.parametrize(
    "way_in",
    [
        call_with_paths,
        call_with_strings,
        call_with_list_parameter,
        call_with_models,
        call_with_association_file,
        call_with_association_dict,
        run_as_a_pipeline_does,
    ],
)
def test_every_way_in_gives_the_same_answer(exposures, way_in):
    result = way_in(exposures)
    assert isinstance(result, datamodels.ImageModel)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, expected())


def test_the_established_parameters_keep_their_names_and_defaults():
    pars = BackgroundStep().get_pars()
    established = {
        "bkg_list": None,
        "save_combined_background": False,
        "sigma": 3.0,
        "maxiters": None,
        "soss_source_percentile": 35.0,
        "soss_bkg_percentile": None,
        "wfss_mmag_extract": None,
        "wfss_mask": None,
        "wfss_maxiter": 5,
        "wfss_rms_stop": 0.0,
        "wfss_outlier_percent": 1.0,
        "allow_repeat": False,
        "save_background": False,
    }
    assert {name: pars[name] for name in established} == established
    assert BackgroundStep.reference_file_types == ["bkg", "wavelengthrange"]
    assert BackgroundStep.bkg_suffix == "combinedbackground"


def test_no_backgrounds_means_skipped_and_untouched(exposures):
    for backgrounds in (None, [], ""):
        result = BackgroundStep.call("t_rate.fits", backgrounds)
        assert result.meta.cal_step.bkg_subtract == "SKIPPED"
        np.testing.assert_array_equal(result.data, 3 * ramp(SHAPE) / 64)


def test_sigma_and_maxiters_reach_the_clipping(exposures):
    for index in range(3, 12):
        save(make_model(ramp(SHAPE) / 64), exposures / f"b{index}_rate.fits")
    names = [f"b{index}_rate.fits" for index in range(1, 12)]
    clipped = BackgroundStep.call("t_rate.fits", names, sigma=3.0)
    kept = BackgroundStep.call("t_rate.fits", names, sigma=10.0)
    sky = ramp(SHAPE) / 64
    np.testing.assert_allclose(clipped.data, 2 * sky, rtol=1e-6)
    np.testing.assert_allclose(kept.data, (3 - 12 / 11) * sky, rtol=1e-5)
    with pytest.raises(OptionError, match=r"sigma must be a number of at least 0 \(got -1\)"):
        BackgroundStep.call("t_rate.fits", names, sigma=-1)


def test_products_are_named_as_stpipe_names_them(exposures):
    backgrounds = ["b1_rate.fits", "b2_rate.fits"]
    BackgroundStep.call("t_rate.fits", backgrounds, save_results=True)
    BackgroundStep.call("t_rate.fits", backgrounds, save_results=True, output_dir="out")
    BackgroundStep.call("t_rate.fits", backgrounds, save_results=True, suffix="bsub")
    BackgroundStep.call("t_rate.fits", backgrounds, output_file="mine.fits")
    BackgroundStep.call("t_rate.fits", backgrounds, save_results=True, name="bkg_subtract")
    BackgroundStep.call(write_association(exposures), save_results=True)
    made = {str(path.relative_to(exposures)) for path in exposures.rglob("*.fits")}
    made -= {"t_rate.fits", "b1_rate.fits", "b2_rate.fits"}
    assert made == {
        "t_backgroundstep.fits",
        "out/t_backgroundstep.fits",
        "t_bsub.fits",
        "mine_backgroundstep.fits",
        "t_bkg_subtract.fits",
        "set_asn_backgroundstep.fits",
    }
    assert datamodels.open("out/t_backgroundstep.fits").meta.filename == "t_backgroundstep.fits"


def test_gzip_is_read_and_not_written(exposures):
    subprocess.run(["gzip", "t_rate.fits", "b1_rate.fits"], check=True)
    result = BackgroundStep.call(
        "t_rate.fits.gz", ["b1_rate.fits.gz", "b2_rate.fits"], save_results=True
    )
    np.testing.assert_array_equal(result.data, expected())
    assert (exposures / "t_backgroundstep.fits").read_bytes()[:6] == b"SIMPLE"


def test_the_averaged_background_is_saved_with_its_uncertainty(exposures):
    BackgroundStep.call(
        "t_rate.fits",
        ["b1_rate.fits", "b2_rate.fits"],
        save_combined_background=True,
        save_background=True,
        output_dir="out",
    )
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "t_background.fits",
        "t_combinedbackground.fits",
    ]
    for name in ("t_background.fits", "t_combinedbackground.fits"):
        saved = datamodels.open(f"out/{name}")
        np.testing.assert_array_equal(saved.data, expected())
        np.testing.assert_allclose(saved.err, np.hypot(0.25, 0.25) / 2, rtol=1e-7)
        assert saved.meta.instrument.detector == "NIS"
        assert saved.meta.filename == name
        assert saved.meta.cal_step.bkg_subtract is None


def test_an_uncovered_pixel_is_nan_and_flagged_in_the_saved_background(exposures):
    save(make_model(ramp((6, 3)) / 64, at=(2, 0)), exposures / "part_rate.fits")
    result = BackgroundStep.call("t_rate.fits", "part_rate.fits", save_background=True)
    saved = datamodels.open("t_background.fits")
    covered = np.zeros(SHAPE, bool)
    covered[:, 2:5] = True
    np.testing.assert_array_equal(np.isnan(saved.data), ~covered)
    np.testing.assert_array_equal(saved.dq == DO_NOT_USE, ~covered)
    np.testing.assert_array_equal(result.dq, 0)
    np.testing.assert_array_equal(result.data[~covered], (3 * ramp(SHAPE) / 64)[~covered])
    np.testing.assert_array_equal(
        result.data[covered], (3 * ramp(SHAPE)[:, 2:5] / 64 - ramp((6, 3)) / 64).ravel()
    )


def test_each_of_several_targets_is_named_after_its_own_file(exposures):
    save(make_model(4 * ramp(SHAPE) / 64), exposures / "u_rate.fits")
    results = BackgroundStep.call(
        ["t_rate.fits", "u_rate.fits"],
        ["b1_rate.fits"],
        save_results=True,
        save_background=True,
        output_dir="out",
    )
    np.testing.assert_array_equal(results[1].data, 3 * ramp(SHAPE) / 64)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "t_background.fits",
        "t_backgroundstep.fits",
        "u_background.fits",
        "u_backgroundstep.fits",
    ]


def test_the_provenance_survives_the_file(exposures):
    BackgroundStep.call("t_rate.fits", ["b1_rate.fits", "b2_rate.fits"], save_results=True)
    saved = datamodels.open("t_backgroundstep.fits")
    tree = saved.meta.background.webbkg.instance
    assert tree["status"] == "COMPLETE"
    assert tree["backgrounds"] == ["b1_rate.fits", "b2_rate.fits"]
    assert tree["sigma"] == 3.0
    assert tree["maxiters"] == "None"
    assert tree["exposure_samples"] == {"offered": 96, "usable": 96, "clipped": 0}
    history = "".join(entry["description"] for entry in saved._instance["history"]["entries"])
    assert history.startswith("webbkg ")
    assert "b2_rate.fits" in history


def test_the_calibration_version_of_the_pipeline_stays(exposures):
    target = datamodels.open("t_rate.fits")
    target.meta.calibration_software_version = "1.23.4"
    result = BackgroundStep.call(target, "b1_rate.fits")
    assert result.meta.calibration_software_version == "1.23.4"


def test_inputs_are_never_changed(exposures):
    before = {path: checksum(path) for path in exposures.glob("*.fits")}
    target, background = datamodels.open("t_rate.fits"), datamodels.open("b1_rate.fits")
    trees = [(model, model.copy()) for model in (target, background)]
    result = BackgroundStep.call(target, [background, "b2_rate.fits"], save_results=True)
    assert result is not target
    for model, copy in trees:
        assert model.meta.instance == copy.meta.instance
        for plane in ("data", "err", "dq"):
            np.testing.assert_array_equal(getattr(model, plane), getattr(copy, plane))
    assert {path: checksum(path) for path in before} == before


def test_a_target_that_is_complete_comes_back_unchanged(exposures, caplog):
    target = make_model(3 * ramp(SHAPE) / 64, meta__cal_step__bkg_subtract="COMPLETE")
    with caplog.at_level(logging.WARNING):
        result = BackgroundStep.call(target, "b1_rate.fits", configure_log=False)
    np.testing.assert_array_equal(result.data, target.data)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert "background-subtracted already" in caplog.text
    again = BackgroundStep.call(target, "b1_rate.fits", allow_repeat=True)
    np.testing.assert_array_equal(again.data, 2 * ramp(SHAPE) / 64)


def test_a_file_that_is_complete_can_be_run_again_over_itself(exposures):
    save(
        make_model(ramp(SHAPE), meta__cal_step__bkg_subtract="COMPLETE"),
        exposures / "t_backgroundstep.fits",
    )
    before = checksum(exposures / "t_backgroundstep.fits")
    BackgroundStep.call("t_backgroundstep.fits", "b1_rate.fits", save_results=True)
    assert checksum(exposures / "t_backgroundstep.fits") == before


@pytest.mark.parametrize("status", ["SKIPPED", "FAILED"])
def test_an_earlier_status_does_not_survive(exposures, status):
    target = make_model(3 * ramp(SHAPE) / 64, meta__cal_step__bkg_subtract=status)
    result = BackgroundStep.call(target, "b1_rate.fits")
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE) / 64)


def test_a_background_that_is_complete_is_used_with_a_warning(exposures, caplog):
    background = make_model(
        ramp(SHAPE) / 64, meta__cal_step__bkg_subtract="COMPLETE", meta__filename="old_bsub.fits"
    )
    with caplog.at_level(logging.WARNING):
        result = BackgroundStep.call("t_rate.fits", [background], configure_log=False)
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE) / 64)
    assert "old_bsub.fits: this background is itself background-subtracted" in caplog.text


def test_a_background_of_another_detector_is_refused(exposures):
    def nircam(detector, name):
        meta = {"meta.instrument.name": "NIRCAM", "meta.instrument.detector": detector}
        return make_model(ramp(SHAPE), meta=meta, meta__filename=name)

    target, other = nircam("NRCA1", "t_rate.fits"), nircam("NRCA2", "o_rate.fits")
    with pytest.raises(MismatchError, match=r"o_rate.fits: its detector is NRCA2, .*t_rate.*NRCA1"):
        BackgroundStep.call(target, [other])
    with pytest.raises(MismatchError, match=r"t_rate.fits: its instrument is NIRISS, .*NIRCAM"):
        BackgroundStep.call(target, "t_rate.fits")


def test_another_filter_is_a_warning(exposures, caplog):
    other = make_model(ramp(SHAPE) / 64, meta__instrument__filter="F090W", meta__filename="o.fits")
    with caplog.at_level(logging.WARNING):
        result = BackgroundStep.call("t_rate.fits", [other], configure_log=False)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert "o.fits: its filter is F090W, that of the target t_rate.fits is F200W" in caplog.text


def test_no_overlap_means_skipped(exposures):
    far = make_model(ramp((4, 4)), at=(100, 100))
    result = BackgroundStep.call("t_rate.fits", [far])
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "shares a pixel" in result.meta.background.webbkg.reason
    np.testing.assert_array_equal(result.data, 3 * ramp(SHAPE) / 64)


@pytest.mark.parametrize(
    ("tilt", "status"),
    [
        (0.3618, "COMPLETE"),
        (0.3618 + 0.9e-8, "COMPLETE"),
        (0.3618 - 0.9e-8, "COMPLETE"),
        (0.3618 + 1.2e-8, "SKIPPED"),
        (float("nan"), "SKIPPED"),
        (None, "SKIPPED"),
    ],
)
def test_the_grating_tilt_of_nirspec_must_agree(exposures, tilt, status):
    target = make_model(3 * ramp(SHAPE), meta=NIRSPEC, kind=datamodels.IFUImageModel)
    background = make_model(ramp(SHAPE), meta=NIRSPEC, kind=datamodels.IFUImageModel)
    background.meta.instrument.gwa_xtilt = tilt
    background.meta.filename = "tilted_rate.fits"
    result = BackgroundStep.call(target, [background])
    assert isinstance(result, datamodels.IFUImageModel)
    assert result.meta.cal_step.bkg_subtract == status
    if status == "SKIPPED":
        assert "tilted_rate.fits" in result.meta.background.webbkg.reason
        np.testing.assert_array_equal(result.data, target.data)


def test_the_sky_is_taken_from_every_integration(exposures):
    cube = np.stack([ramp(SHAPE), 2 * ramp(SHAPE), 5 * ramp(SHAPE)])
    target = make_model(cube)
    result = BackgroundStep.call(target, [make_model(ramp(SHAPE))])
    assert isinstance(result, datamodels.CubeModel)
    np.testing.assert_array_equal(result.data, cube - ramp(SHAPE))


def test_unknown_sky_is_nan_and_flagged_in_every_integration(exposures):
    sky = ramp(SHAPE)
    sky[2, 3] = np.nan
    target = make_model(np.stack([2 * ramp(SHAPE), 3 * ramp(SHAPE)]))
    result = BackgroundStep.call(target, [make_model(sky)])
    unknown = np.zeros(SHAPE, bool)
    unknown[2, 3] = True
    for plane, dq in zip(result.data, result.dq, strict=True):
        np.testing.assert_array_equal(np.isnan(plane), unknown)
        np.testing.assert_array_equal(dq, np.where(unknown, DO_NOT_USE, 0))


def test_err_and_variances_stay(exposures):
    target = make_model(3 * ramp(SHAPE))
    target.var_poisson = ramp(SHAPE) + 1
    result = BackgroundStep.call(target, "b1_rate.fits")
    np.testing.assert_array_equal(result.err, target.err)
    np.testing.assert_array_equal(result.var_poisson, ramp(SHAPE) + 1)


def test_an_output_over_an_input_is_refused(exposures):
    before = checksum(exposures / "b1_rate.fits")
    for product in ("t_rate.fits", "b1_rate.fits"):
        with pytest.raises(OutputError, match=f"{product}: would overwrite an input"):
            BackgroundStep.call("t_rate.fits", "b1_rate.fits", output_file=product, suffix="rate")
    assert checksum(exposures / "b1_rate.fits") == before


def test_a_target_needs_sci_and_no_other_plane():
    with pytest.raises(InputError, match=r"the ImageModel has no SCI plane; set model\.data"):
        BackgroundStep.call(datamodels.ImageModel(), [make_model(ramp(SHAPE))])
    bare, background = (datamodels.ImageModel(data=n * ramp(SHAPE)) for n in (3, 1))
    result = BackgroundStep.call(bare, [background])
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE))
    np.testing.assert_array_equal(result.dq, 0)
