"""Grism exposures of a flight sky, with the mission's references and a real catalogue."""

from functools import lru_cache
from os import environ
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

import factories

DATA = Path(environ.get("WEBBKG_REAL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
REFERENCES = DATA / "crds_cache" / "references" / "jwst"
CATALOG = DATA / "catalogs" / "test_cat.ecsv"

MARKS = [
    pytest.mark.peer,
    pytest.mark.real,
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
WAVELENGTHRANGE = {
    "NIRCAM": REFERENCES / "nircam" / "jwst_nircam_wavelengthrange_0003.asdf",
    "NIRISS": REFERENCES / "niriss" / "jwst_niriss_wavelengthrange_0002.asdf",
}
FULL = (1, 1, 2048, 2048)
SCALE = 0.83


def _wcs_references(instrument, blocking, grism):
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


def _describe(meta, instrument, blocking, grism):
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
    meta.wcsinfo.wcsaxes = 2


@lru_cache(maxsize=1)
def sky_template():
    """Return a flight sky image, NaN in its border."""
    archive = DATA / "nircam_wfss" / "median_bkg_F356W_modA_GRISMR.fits.zip"
    return fits.getdata(archive).astype(np.float32)


def cut(image, window):
    """Cut a window (first column, first row, from 1; columns, rows) out of a full frame."""
    x, y, columns, rows = window
    return image[y - 1 : y - 1 + rows, x - 1 : x - 1 + columns]


def observe(instrument, blocking, grism, window=FULL):
    """Return a target that shows the sky times `SCALE`, with noise, outliers and a grism WCS."""
    return _observe(instrument, blocking, grism, window).copy()


@lru_cache(maxsize=3)
def _observe(instrument, blocking, grism, window):
    from jwst.assign_wcs import AssignWcsStep

    model = bare_target(instrument, blocking, grism, window)
    not_needed = {f"override_{name}": "N/A" for name in AssignWcsStep.reference_file_types}
    references = not_needed | _wcs_references(instrument, blocking, grism)
    model = AssignWcsStep.call(model, sip_approx=False, **references)
    model.meta.source_catalog = str(CATALOG)
    return model


def bare_target(instrument, blocking, grism, window=FULL):
    """Return a target that has no WCS yet."""
    rng = np.random.default_rng(0)
    sky = SCALE * np.nan_to_num(cut(sky_template(), window))
    model = datamodels.ImageModel(sky.shape)
    model.err = rng.uniform(0.03, 0.06, sky.shape).astype(np.float32)
    model.data = (sky + model.err * rng.standard_normal(sky.shape)).astype(np.float32)
    hits = rng.random(sky.shape) < 0.01
    model.data[hits] += rng.exponential(2, hits.sum()).astype(np.float32)
    model.dq = np.zeros(sky.shape, np.uint32)
    _describe(model.meta, instrument, blocking, grism)
    _set_window(model.meta.subarray, window)
    return model


def _set_window(subarray, window):
    subarray.xstart, subarray.ystart, subarray.xsize, subarray.ysize = window
    subarray.name = "FULL" if window == FULL else "SUB256"


def template_model(instrument, window=FULL):
    """Wrap the sky image, or a window of it, as a reference."""
    image = cut(sky_template(), window)
    model = datamodels.WfssBkgModel(
        data=image, err=np.zeros_like(image), dq=np.zeros(image.shape, np.uint32)
    )
    model.meta.instrument.name = instrument
    _set_window(model.meta.subarray, window)
    return model


def write_mask(path, sky):
    """Write a user's mask, 1 for sky."""
    return str(factories.write_mask(path, sky))


def stop_asking_crds(monkeypatch):
    """Let jwst's own step, that assigns the WCS, live without CRDS."""
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    monkeypatch.setattr("stpipe.crds_client.get_context_used", lambda *_: "jwst_0000.pmap")
