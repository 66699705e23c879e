"""Agreement of the arrays' functions, fit and mask, with jwst 3.0.0 on a flight sky."""

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from peer import grism, oracle
from webbkg.files.catalogs import read_catalog
from webbkg.options import WfssOptions
from webbkg.wfss.fit import fit_scale, scaled_background
from webbkg.wfss.traces import blocking_filter, catalog_sky_mask, orders_and_limits

pytestmark = grism.MARKS

WINDOW = (1, 601, 2048, 256)


@pytest.fixture(autouse=True)
def _without_crds(monkeypatch):
    grism.stop_asking_crds(monkeypatch)


def our_mask(model, limit=None):
    meta = model.meta
    with datamodels.WavelengthrangeModel(grism.WAVELENGTHRANGE[meta.instrument.name]) as reference:
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
        dispersion_axis=meta.wcsinfo.dispersion_direction,
    )


def check_agreement(model, theirs, options, sky, window, **keywords):
    """Mask, status, scale and SCI."""
    template = grism.cut(grism.sky_template(), window)
    fit = fit_scale(
        model.data,
        model.err,
        model.dq,
        template,
        None,
        sky,
        options,
        dispersion_axis=model.meta.wcsinfo.dispersion_direction,
        **keywords,
    )
    np.testing.assert_array_equal(theirs.mask, sky)
    assert theirs.meta.cal_step.bkg_subtract == fit.status == "COMPLETE"
    assert fit.scale == pytest.approx(theirs.meta.background.scaling_factor, rel=1e-6)
    left = model.data - scaled_background(template, None, None, fit).sci
    np.testing.assert_allclose(theirs.data, left, rtol=1e-6, atol=1e-6 * fit.scale)
    return fit


@pytest.mark.parametrize("limit", [18, 19.6, 30])
def test_magnitude_limit(limit):
    window = (401, 301, 1400, 900)
    model = grism.observe("NIRCAM", "F356W", "GRISMR", window)
    theirs = oracle.subtract_wfss(
        model.copy(),
        grism.template_model("NIRCAM", window),
        str(grism.WAVELENGTHRANGE["NIRCAM"]),
        wfss_mmag_extract=limit,
    )
    options = WfssOptions(mmag_extract=limit)
    fit = check_agreement(model, theirs, options, our_mask(model, limit), window)
    assert fit.scale == pytest.approx(grism.SCALE, rel=0.01)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Write the catalogue's mask of either instrument, so that jwst need not make it each time."""
    folder = tmp_path_factory.mktemp("masks")
    with pytest.MonkeyPatch.context() as patch:
        grism.stop_asking_crds(patch)
        models = {
            "NIRCAM": grism.observe("NIRCAM", "F356W", "GRISMR", WINDOW),
            "NIRISS": grism.observe("NIRISS", "F115W", "GR150R", WINDOW),
        }
    skies = {name: our_mask(model) for name, model in models.items()}
    return {
        name: (models[name], sky, grism.write_mask(folder / f"{name}.fits", sky))
        for name, sky in skies.items()
    }


@pytest.mark.parametrize("maxiter", [0, 1, 5])
@pytest.mark.parametrize("percent", [0.1, 1, 5])
@pytest.mark.parametrize("rms_stop", [0, 5])
@pytest.mark.parametrize("instrument", ["NIRCAM", "NIRISS"])
def test_iterations(instrument, maxiter, percent, rms_stop, masks):
    model, sky, mask_file = masks[instrument]
    theirs = oracle.subtract_wfss(
        model.copy(),
        grism.template_model(instrument, WINDOW),
        wfss_mask=mask_file,
        wfss_maxiter=maxiter,
        wfss_outlier_percent=percent,
        wfss_rms_stop=rms_stop,
    )
    options = WfssOptions(maxiter=maxiter, outlier_percent=percent, rms_stop=rms_stop)
    assert 0.3 < sky.mean() < 1
    check_agreement(model, theirs, options, sky, WINDOW, user_mask=True)
