"""Agreement of the WFSS fit and mask with jwst 3.0.0, on real references and a real catalogue."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from webbkg.methods.wfss import fit_scale, scaled_background
from webbkg.options import WfssOptions
from webbkg.results import Status
from webbkg.traces import (
    blocking_filter,
    catalog_sky_mask,
    orders_and_limits,
    read_catalog,
)

DATA = Path(
    os.environ.get("WEBBKG_REAL_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
)
REFERENCES = DATA / "crds_cache" / "references" / "jwst"
CATALOG = DATA / "catalogs" / "test_cat.ecsv"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.real,
    pytest.mark.skipif(find_spec("jwst") is None, reason="needs jwst (the extra 'compare')"),
    pytest.mark.skipif(not CATALOG.exists(), reason=f"needs the real data in {DATA}"),
    pytest.mark.filterwarnings("ignore"),  # the peer's own
]

SPECWCS = {
    ("NIRCAM", "F356W", "GRISMR"): "0010",
    ("NIRCAM", "F322W2", "GRISMR"): "0010",
    ("NIRCAM", "F444W", "GRISMC"): "0011",
    ("NIRISS", "F200W", "GR150C"): "0014",
    ("NIRISS", "F150W", "GR150C"): "0010",
    ("NIRISS", "F115W", "GR150R"): "0005",
    ("NIRISS", "F090W", "GR150R"): "0011",
}
DISPAXIS = {"GRISMR": 1, "GRISMC": 2, "GR150R": 2, "GR150C": 1}
WAVELENGTHRANGE = {
    "NIRCAM": REFERENCES / "nircam" / "jwst_nircam_wavelengthrange_0003.asdf",
    "NIRISS": REFERENCES / "niriss" / "jwst_niriss_wavelengthrange_0002.asdf",
}


@pytest.fixture(autouse=True)
def without_crds(monkeypatch):
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    monkeypatch.setattr("stpipe.crds_client.get_context_used", lambda *_: "jwst_0000.pmap")


def instrument_references(instrument, blocking, grism):
    name = instrument.lower()
    folder = REFERENCES / name
    if instrument == "NIRCAM":
        distortion, offset = "0090", folder / "jwst_nircam_filteroffset_0002.asdf"
    else:
        distortion, offset = "0010", "N/A"
    specwcs = SPECWCS[instrument, blocking, grism]
    return {
        "override_specwcs": str(folder / f"jwst_{name}_specwcs_{specwcs}.asdf"),
        "override_distortion": str(folder / f"jwst_{name}_distortion_{distortion}.asdf"),
        "override_filteroffset": str(offset),
        "override_wavelengthrange": str(WAVELENGTHRANGE[instrument]),
    }


def describe(model, instrument, blocking, grism):
    meta = model.meta
    meta.telescope = "JWST"
    meta.observation.date, meta.observation.time = "2022-07-01", "00:00:00"
    meta.instrument.name = instrument
    if instrument == "NIRCAM":
        meta.instrument.detector, meta.instrument.channel = "NRCALONG", "LONG"
        meta.instrument.module = "A"
        meta.instrument.filter, meta.instrument.pupil = blocking, grism
        meta.exposure.type = "NRC_WFSS"
        meta.wcsinfo.v2_ref, meta.wcsinfo.v3_ref = 86.103458, -493.227512
    else:
        meta.instrument.detector = "NIS"
        meta.instrument.filter, meta.instrument.pupil = grism, blocking
        meta.instrument.filter_position = 354.2
        meta.exposure.type = "NIS_WFSS"
        meta.wcsinfo.v2_ref, meta.wcsinfo.v3_ref = -290.1, -697.5
    meta.wcsinfo.v3yangle, meta.wcsinfo.vparity = 0.0, -1
    meta.wcsinfo.ra_ref, meta.wcsinfo.dec_ref, meta.wcsinfo.roll_ref = 53.16, -27.79, 12.0
    meta.wcsinfo.dispersion_axis = DISPAXIS[grism]
    meta.wcsinfo.wcsaxes = 2


@lru_cache(maxsize=1)
def sky_template(name="F356W"):
    """A flight sky image, and where it is not finite."""
    archive = DATA / "nircam_wfss" / f"median_bkg_{name}_modA_GRISMR.fits.zip"
    return fits.getdata(archive).astype(np.float32)


def observe(instrument, blocking, grism, window=(1, 1, 2048, 2048), seed=0):
    """A target of that sky, with noise and outliers, and its WCS from the peer's own step."""
    from jwst.assign_wcs import AssignWcsStep

    x, y, columns, rows = window
    rng = np.random.default_rng(seed)
    template = np.nan_to_num(sky_template()[y - 1 : y - 1 + rows, x - 1 : x - 1 + columns])
    model = datamodels.ImageModel((rows, columns))
    model.err = rng.uniform(0.03, 0.06, (rows, columns)).astype(np.float32)
    model.data = (0.83 * template + model.err * rng.standard_normal(template.shape)).astype("f4")
    hits = rng.random(template.shape) < 0.01
    model.dq = np.zeros((rows, columns), np.uint32)
    model.data[hits] += rng.exponential(2, hits.sum()).astype(np.float32)
    describe(model, instrument, blocking, grism)
    subarray = model.meta.subarray
    subarray.xstart, subarray.ystart, subarray.xsize, subarray.ysize = window
    subarray.name = "FULL" if rows == columns == 2048 else "SUB256"
    not_needed = {f"override_{name}": "N/A" for name in AssignWcsStep.reference_file_types}
    references = not_needed | instrument_references(instrument, blocking, grism)
    model = AssignWcsStep.call(model, sip_approx=False, **references)
    model.meta.source_catalog = str(CATALOG)
    return model


def our_mask(model, limit=None):
    meta = model.meta
    with datamodels.WavelengthrangeModel(WAVELENGTHRANGE[meta.instrument.name]) as reference:
        orders = orders_and_limits(
            reference.extract_orders,
            reference.wavelengthrange,
            blocking_filter(meta.instrument.name, meta.instrument.filter, meta.instrument.pupil),
        )
    return catalog_sky_mask(
        read_catalog(meta.source_catalog),
        meta.wcs.backward_transform,
        orders,
        model.shape,
        magnitude_limit=limit,
        dispersion_axis=meta.wcsinfo.dispersion_axis,
    )


def save_template(path):
    template = sky_template()
    model = datamodels.WfssBkgModel(
        data=template, err=np.zeros_like(template), dq=np.zeros(template.shape, np.uint32)
    )
    model.meta.subarray.xstart = model.meta.subarray.ystart = 1
    model.meta.subarray.xsize = model.meta.subarray.ysize = 2048
    model.save(path)
    return path


@pytest.fixture
def template_file(tmp_path):
    return save_template(tmp_path / "template.fits")


def their_step(model, template_file, **parameters):
    from jwst.background import BackgroundStep

    return BackgroundStep.call(
        model,
        [],
        override_bkg=str(template_file),
        override_wavelengthrange=str(WAVELENGTHRANGE[model.meta.instrument.name]),
        **parameters,
    )


def check_agreement(model, theirs, options, sky, **keywords):
    """Mask, status, scale and SCI; returns our fit."""
    x, y = model.meta.subarray.xstart - 1, model.meta.subarray.ystart - 1
    rows, columns = model.shape
    template = sky_template()[y : y + rows, x : x + columns]
    fit = fit_scale(
        model.data, model.err, model.dq, template, None, sky, options,
        dispersion_axis=model.meta.wcsinfo.dispersion_axis, **keywords,
    )  # fmt: skip
    np.testing.assert_array_equal(theirs.mask, sky)
    assert theirs.meta.cal_step.bkg_subtract == fit.status
    assert fit.scale == pytest.approx(theirs.meta.background.scaling_factor, rel=1e-6)
    if fit.status is Status.COMPLETE:
        left = model.data - scaled_background(template, None, None, fit).sci
        np.testing.assert_allclose(theirs.data, left, rtol=1e-6, atol=1e-6 * fit.scale)
    return fit


@pytest.mark.parametrize(("instrument", "blocking", "grism"), SPECWCS)
def test_every_grism_and_filter(instrument, blocking, grism, template_file):
    model = observe(instrument, blocking, grism)
    theirs = their_step(model, template_file)
    sky = our_mask(model)
    assert 0.5 < sky.mean() < 1
    fit = check_agreement(model, theirs, WfssOptions(), sky)
    assert fit.scale == pytest.approx(0.83, rel=0.01)


@pytest.mark.parametrize("limit", [18, 19.6, 30])
def test_magnitude_limit(limit, template_file):
    model = observe("NIRCAM", "F356W", "GRISMR")
    theirs = their_step(model, template_file, wfss_mmag_extract=limit)
    check_agreement(model, theirs, WfssOptions(mmag_extract=limit), our_mask(model, limit))


@pytest.mark.parametrize("maxiter", [0, 1, 5])
@pytest.mark.parametrize("percent", [0.1, 1, 5])
@pytest.mark.parametrize("rms_stop", [0, 5])
@pytest.mark.parametrize("instrument", ["NIRCAM", "NIRISS"])
def test_iterations(instrument, maxiter, percent, rms_stop, template_file):
    window = (1, 601, 2048, 256)
    if instrument == "NIRCAM":
        model = observe("NIRCAM", "F356W", "GRISMR", window)
    else:
        model = observe("NIRISS", "F115W", "GR150R", window)
    theirs = their_step(
        model,
        template_file,
        wfss_maxiter=maxiter,
        wfss_outlier_percent=percent,
        wfss_rms_stop=rms_stop,
    )
    options = WfssOptions(maxiter=maxiter, outlier_percent=percent, rms_stop=rms_stop)
    check_agreement(model, theirs, options, our_mask(model))


def test_subarray_off_the_corner(template_file):
    """Mask, template and target lie where the subarray does."""
    model = observe("NIRCAM", "F356W", "GRISMR", (401, 301, 1400, 900))
    theirs = their_step(model, template_file)
    check_agreement(model, theirs, WfssOptions(), our_mask(model))


@pytest.mark.parametrize(("pixels", "status"), [(1000, "COMPLETE"), (0, "FAILED")])
def test_user_mask(pixels, status, template_file, tmp_path):
    """1000 pixels are 0.02 %: a user's mask may be that small."""
    model = observe("NIRISS", "F200W", "GR150C")
    sky = np.zeros(model.shape, bool)
    sky[1000, 300 : 300 + pixels] = True
    with_mask = datamodels.ImageModel(model.shape)
    with_mask.mask = sky.astype(np.uint32)
    with_mask.save(tmp_path / "mask.fits")
    theirs = their_step(model, template_file, wfss_mask=str(tmp_path / "mask.fits"))
    assert theirs.meta.cal_step.bkg_subtract == status
    check_agreement(model, theirs, WfssOptions(), sky, user_mask=True)


# Deliberate differences: what they do, and what we do


def computer(**parameters):
    from jwst.background.background_sub_wfss import ScalingFactorComputer

    return ScalingFactorComputer(**parameters)


def simple(seed=0):
    rng = np.random.default_rng(seed)
    template = np.linspace(0.5, 2, 200 * 300).reshape(200, 300).astype(np.float32)
    err = np.full(template.shape, 0.1, np.float32)
    sci = (1.1 * template + err * rng.standard_normal(template.shape)).astype(np.float32)
    return sci, err, np.zeros(template.shape, np.uint32), template, rng


def test_missing_sci_where_err_is_finite():
    """Theirs stay in the denominator: 1 % of such pixels costs 1.1 % of the scale or so."""
    sci, err, dq, template, rng = simple()
    sci[rng.random(sci.shape) < 0.01] = np.nan
    theirs, _ = computer(maxiter=0)(sci.copy(), template.copy(), err**2)
    ours = fit_scale(sci, err, dq, template, options=WfssOptions(maxiter=0))
    assert theirs == pytest.approx(1.1 * 0.99, rel=2e-3)
    assert ours.scale == pytest.approx(1.1, rel=2e-3)


def test_one_infinite_pixel():
    sci, err, dq, template, _ = simple()
    sci[5, 7] = np.inf
    theirs, _ = computer()(sci.copy(), template.copy(), err**2)
    assert not np.isfinite(theirs)
    assert fit_scale(sci, err, dq, template).scale == pytest.approx(1.1, rel=2e-3)


def test_pixels_without_a_finite_err():
    """Theirs shape the percentiles: where they are bright, bright outliers are not rejected.

    (Those whose ERR is 0 they leave out, as we do.)
    """
    sci, err, dq, template, rng = simple()
    sci[rng.random(sci.shape) < 0.01] += 50
    bad = rng.random(sci.shape) < 0.02
    sci[bad], err[bad] = 900, np.nan
    theirs, _ = computer(maxiter=1)(sci.copy(), template.copy(), err**2)
    ours = fit_scale(sci, err, dq, template, options=WfssOptions(maxiter=1))
    assert theirs > 1.2
    assert ours.scale == pytest.approx(1.1, rel=3e-2)
