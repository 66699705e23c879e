"""The pipeline's next steps take a product that was made without a data model."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.peer import without_crds
from stdatamodels.jwst import datamodels

from factories import (
    GRISM,
    IMAGING,
    MIRI,
    SOSS,
    grism_sky,
    grism_template,
    make_model,
    ramp,
    save,
    soss_library,
    soss_sky,
    write_mask,
)
from webbkg import BackgroundStep

flatfield = pytest.importorskip("jwst.flatfield")

SHAPE = (24, 32)


def write_target(sci, meta):
    """Write a target with the variances that the next steps change, too."""
    model = make_model(sci, meta=meta)
    for number, name in enumerate(("var_poisson", "var_rnoise", "var_flat"), 1):
        setattr(model, name, np.full(sci.shape, 0.01 * number, np.float32))
    save(model, Path("t_rate.fits"))


def image(meta, shape=SHAPE):
    """Write a target and two backgrounds."""
    write_target(np.broadcast_to(ramp(SHAPE), shape), meta)
    for name in ("a_rate.fits", "b_rate.fits"):
        save(make_model(ramp(SHAPE) / 2, meta=meta), Path(name))
    return {"bkg_list": ["a_rate.fits", "b_rate.fits"]}


def grism(meta):
    """Write a grism exposure, its template and its mask."""
    sky = grism_sky(SHAPE, (0, 0))
    write_target(2 * sky + np.indices(SHAPE).sum(axis=0) % 3, meta)
    save(grism_template(sky, (0, 0)), Path("bkg.fits"))
    write_mask("mask.fits", np.ones(SHAPE, np.uint32))
    return {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits"}


def soss(meta):
    """Write a time series of two integrations and a library."""
    sky = soss_sky(0.1)
    write_target(np.stack([sky, sky * 1.01]), meta)
    save(soss_library(0.1, 0.3), Path("bkg.fits"))
    return {"override_bkg": "bkg.fits"}


CASES = {
    "image": (image, IMAGING),
    "integrations": (lambda meta: image(meta, (3, *SHAPE)), MIRI),
    "grism": (grism, GRISM),
    "soss": (soss, SOSS),
}


@pytest.mark.parametrize("case", CASES)
def test_the_flat_field_step_makes_the_same_of_both_products(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    without_crds()
    make, meta = CASES[case]
    parameters = make(
        {**meta, "meta.observation.date": "2026-01-01", "meta.observation.time": "0:0:0"}
    )
    with_model = BackgroundStep.call("t_rate.fits", **parameters)
    assert with_model.meta.cal_step.bkg_subtract == "COMPLETE"
    BackgroundStep.call("t_rate.fits", **parameters, save_results=True)
    shape = with_model.data.shape[-2:]
    flat = datamodels.FlatModel(data=1 + ramp(shape) / 1e5, dq=np.zeros(shape, np.uint32))
    flat.update(with_model)
    flat.save("flat.fits")
    flats = {f"override_{kind}": "N/A" for kind in ("fflat", "sflat", "dflat")}
    done = [
        flatfield.FlatFieldStep.call(one, override_flat="flat.fits", **flats)
        for one in (with_model, "t_backgroundstep.fits")
    ]
    for model in done:
        assert model.meta.cal_step.flat_field == "COMPLETE"
        assert model.meta.cal_step.bkg_subtract == "COMPLETE"
    for plane in ("data", "err", "dq", "var_poisson"):
        np.testing.assert_array_equal(*(getattr(model, plane) for model in done))
    assert not np.array_equal(done[0].data, with_model.data, equal_nan=True)
