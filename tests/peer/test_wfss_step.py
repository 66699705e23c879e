"""The two steps agree on grism exposures, file to file, by catalogue and by mask."""

import json

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE
from peer import grism, oracle
from webbkg import BackgroundStep

pytestmark = grism.MARKS

PART = (401, 301, 1400, 900)
IN_FULL = {("NIRCAM", "F356W", "GRISMR"), ("NIRISS", "F150W", "GR150C")}
CASES = {
    ("NIRCAM", "F356W", "GRISMR"): {},
    ("NIRCAM", "F322W2", "GRISMR"): {"wfss_mmag_extract": 19.6},
    ("NIRCAM", "F444W", "GRISMC"): {"wfss_rms_stop": 5.0, "wfss_maxiter": 3},
    ("NIRISS", "F200W", "GR150C"): {"wfss_outlier_percent": 0.1},
    ("NIRISS", "F150W", "GR150C"): {"wfss_maxiter": 0},
    ("NIRISS", "F115W", "GR150R"): {"wfss_outlier_percent": 5.0, "wfss_maxiter": 1},
    ("NIRISS", "F090W", "GR150R"): {"wfss_rms_stop": 0.5},
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Write the sky image as a full-frame reference of either instrument."""
    folder = tmp_path_factory.mktemp("templates")
    for instrument in ("NIRCAM", "NIRISS"):
        grism.template_model(instrument).save(folder / f"{instrument}.fits")
    return folder


@pytest.fixture
def write_target(tmp_path, monkeypatch):
    """Write a target, its catalogue beside it, and an association of both; go there."""
    grism.stop_asking_crds(monkeypatch)
    monkeypatch.chdir(tmp_path)

    def write(instrument, blocking, name, window=grism.FULL):
        model = grism.observe(instrument, blocking, name, window)
        model.meta.source_catalog = None
        model.save("exp_rate.fits")
        (tmp_path / "cat.ecsv").write_text(grism.CATALOG.read_text())
        named = (("exp_rate.fits", "science"), ("cat.ecsv", "sourcecat"))
        members = [{"expname": path, "exptype": kind} for path, kind in named]
        header = {"asn_type": "spec2", "asn_id": "a1", "asn_pool": "none"}
        association = {**header, "products": [{"name": "exp", "members": members}]}
        (tmp_path / "exp_asn.json").write_text(json.dumps(association))
        return model

    return write


def run_both(instrument, templates, **parameters):
    """Run both from the association to a file each; return what they wrote."""
    bkg = str(templates / f"{instrument}.fits")
    wavelengths = str(grism.WAVELENGTHRANGE[instrument])
    BackgroundStep.call(
        "exp_asn.json",
        override_bkg=bkg,
        override_wavelengthrange=wavelengths,
        output_file="ours",
        **parameters,
    )
    oracle.subtract_wfss("exp_asn.json", bkg, wavelengths, output_file="theirs", **parameters)
    return [datamodels.open(f"{name}_backgroundstep.fits") for name in ("ours", "theirs")]


def check_agreement(ours, theirs, target, window=grism.FULL):
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert ours.mask.dtype == theirs.mask.dtype
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract == "COMPLETE"
    scale = ours.meta.background.scaling_factor
    assert scale == pytest.approx(theirs.meta.background.scaling_factor, rel=1e-6)
    assert scale == pytest.approx(grism.SCALE, rel=0.15)  # outliers remain
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ours.err, target.err)
    np.testing.assert_array_equal(theirs.err, target.err)
    # The one deliberate difference that this template calls for.
    unknown = np.isnan(grism.cut(grism.sky_template(), window))
    np.testing.assert_array_equal(ours.dq, theirs.dq | np.where(unknown, DO_NOT_USE, 0))
    assert ours.meta.source_catalog == "cat.ecsv"


@pytest.mark.parametrize(("instrument", "blocking", "name"), CASES)
def test_by_catalogue(instrument, blocking, name, write_target, templates):
    """In a subarray off the corner, mask, template and target lie where it does."""
    case = (instrument, blocking, name)
    window = grism.FULL if case in IN_FULL else PART
    target = write_target(*case, window)
    ours, theirs = run_both(instrument, templates, **CASES[case])
    assert 0.3 < ours.mask.mean() < 1
    check_agreement(ours, theirs, target, window)


@pytest.mark.parametrize(("pixels", "status"), [(1000, "COMPLETE"), (0, "FAILED")])
def test_by_mask(pixels, status, write_target, templates, tmp_path):
    """1000 pixels are 0.1 %: a user's mask may be that small."""
    target = write_target("NIRISS", "F200W", "GR150C", PART)
    sky = np.zeros(target.shape, bool)
    sky[500, 300 : 300 + pixels] = True
    mask = grism.write_mask(tmp_path / "mask.fits", sky)
    ours, theirs = run_both("NIRISS", templates, wfss_mask=mask)
    np.testing.assert_array_equal(ours.mask, sky)
    if status == "COMPLETE":
        check_agreement(ours, theirs, target, PART)
        return
    np.testing.assert_array_equal(theirs.mask, sky)
    for product in (ours, theirs):
        assert product.meta.cal_step.bkg_subtract == status
        assert product.meta.background.scaling_factor == 0.0
        np.testing.assert_array_equal(product.data, target.data)
        np.testing.assert_array_equal(product.dq, target.dq)
