"""`webbkg.subtract`: one call for notebooks, whose result has the product and what was done."""

import logging

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

import webbkg
from factories import GRISM, grism_sky, grism_template, make_model, ramp, save, save_multiples
from webbkg.errors import InputError, MissingFileError, OptionError, OutputError

SHAPE = (6, 8)
SKY = ramp(SHAPE) / 64


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target, three times the sky, and two backgrounds, once and twice; go there."""
    monkeypatch.chdir(tmp_path)
    save_multiples(SKY, tmp_path, t=3, b1=1, b2=2)
    return tmp_path


BACKGROUNDS = ["b1_rate.fits", "b2_rate.fits"]


def test_files_in_model_out_and_nothing_written(folder):
    before = sorted(folder.iterdir())
    done = webbkg.subtract("t_rate.fits", BACKGROUNDS)
    assert isinstance(done, webbkg.Subtraction)
    np.testing.assert_allclose(done.product.data, 1.5 * SKY, rtol=1e-6)
    np.testing.assert_allclose(done.background.sci, 1.5 * SKY, rtol=1e-6)
    assert done.status == "COMPLETE"
    assert done.metrics is done.outcome.metrics
    assert done.path is None
    assert done.target == "t_rate.fits"
    assert isinstance(done.product, datamodels.ImageModel)
    assert done.product.meta.cal_step.bkg_subtract == "COMPLETE"
    assert sorted(folder.iterdir()) == before


def test_it_equals_the_step_bit_for_bit(folder):
    expected = webbkg.BackgroundStep.call("t_rate.fits", BACKGROUNDS, sigma=2.0)
    product = webbkg.subtract("t_rate.fits", BACKGROUNDS, sigma=2.0).product
    for plane in ("data", "err", "dq"):
        np.testing.assert_array_equal(getattr(product, plane), getattr(expected, plane))
    told, step = (
        {key: value for key, value in one.to_flat_dict().items() if "background" in key}
        for one in (product, expected)
    )
    assert told
    assert told == step


def test_models_in_and_the_caller_s_stay_as_they_are(folder):
    target, background = make_model(3 * SKY), make_model(2 * SKY)
    done = webbkg.subtract(target, background)
    np.testing.assert_array_equal(target.data, 3 * SKY)
    np.testing.assert_array_equal(background.data, 2 * SKY)
    np.testing.assert_array_equal(done.product.data, SKY)
    assert target.meta.cal_step.bkg_subtract is None


def test_products_are_written_where_the_caller_says(folder):
    done = webbkg.subtract(
        ["t_rate.fits", "b1_rate.fits"], "b2_rate.fits", output_dir="new/products", suffix="mine"
    )
    assert [one.path.as_posix() for one in done] == [
        "new/products/t_mine.fits",
        "new/products/b1_mine.fits",
    ]
    with datamodels.open(done[0].path) as saved:
        np.testing.assert_array_equal(saved.data, done[0].product.data)


def test_robust_is_the_preset(folder):
    told = webbkg.subtract("t_rate.fits", BACKGROUNDS, robust=True)
    assert told.outcome.result.options.clip_noise == "model"
    same = webbkg.subtract("t_rate.fits", BACKGROUNDS, preset="robust")
    np.testing.assert_array_equal(told.product.err, same.product.err)


def test_a_grism_exposure_with_a_template_that_is_a_model_a_file_or_bare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sky = grism_sky((40, 50), (0, 0))
    template, target = grism_template(sky, (0, 0)), make_model(2 * sky, meta=GRISM)
    save(template, tmp_path / "sky_bkg.fits")
    save(target, tmp_path / "t_rate.fits")
    np.save("sky.npy", template.data)
    for given in (template, "sky_bkg.fits", tmp_path / "sky_bkg.fits", "sky.npy"):
        done = webbkg.subtract("t_rate.fits", override_bkg=given)
        assert done.outcome.result.fit.scale == pytest.approx(2, rel=1e-3)
        assert done.outcome.sky_mask.shape == target.data.shape
    assert done.references == (("bkg", str(tmp_path / "sky.npy")),)


def test_an_association_says_what_goes_with_it(folder):
    named = [{"expname": "t_rate.fits", "exptype": "science"}]
    named += [{"expname": name, "exptype": "background"} for name in BACKGROUNDS]
    done = webbkg.subtract({"products": [{"name": "mine", "members": named}]})
    np.testing.assert_allclose(done.product.data, 1.5 * SKY, rtol=1e-6)


def test_warnings_are_logged_as_by_the_step(folder, caplog):
    with caplog.at_level(logging.WARNING, "webbkg"):
        done = webbkg.subtract("t_rate.fits")
    assert done.status == "SKIPPED"
    assert done.metrics is None
    assert done.background is None
    assert any("SKIPPED" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"sigmas": 3}, OptionError, "did you mean sigma?"),
        ({"quite_another": 3}, OptionError, "there are"),
        ({"sigma": -1.0}, OptionError, "sigma must be"),
        ({"preset": "best"}, OptionError, "robust"),
        ({"catalog": "missing.ecsv"}, MissingFileError, "missing.ecsv"),
        ({"output_dir": "t_rate.fits"}, OutputError, "t_rate.fits"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(folder, given, error, told):
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=told):
        webbkg.subtract("t_rate.fits", BACKGROUNDS, **given)
    assert sorted(folder.iterdir()) == before


def test_what_is_no_exposure_is_an_input_error(folder):
    with pytest.raises(InputError, match="nowhere"):
        webbkg.subtract("nowhere.fits", BACKGROUNDS)
    with pytest.raises(OptionError, match="output_file names one product"):
        webbkg.subtract(BACKGROUNDS, "t_rate.fits", output_file="one")
