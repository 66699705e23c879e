"""The deliberate differences from jwst on grism exposures, both behaviours side by side."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

import factories
from crds_cache import Cache, environment
from factories import (
    DO_NOT_USE,
    grism_sky,
    grism_template,
    make_model,
    write_mask,
)
from peer import oracle
from webbkg import BackgroundStep
from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.detector import nircam_subarray
from webbkg.simulate.grism_scene import NIRCAM_R
from webbkg.simulate.sources import Population
from webbkg.simulate.wfss import draw_field, observe, write_field

pytestmark = pytest.mark.peer

SHAPE = (40, 50)
AT = (300, 700)
SCALE = 0.75
GRISM = {
    **factories.GRISM,
    "meta.observation.date": "2023-01-01",
    "meta.observation.time": "00:00:00",
    # Without one jwst's step stops, user mask or not; none of these tests reads it.
    "meta.source_catalog": "cat.ecsv",
}


def template(shape=SHAPE, at=AT, sci=None):
    """Make a reference, different in each pixel of the detector; `at` None: no window keywords."""
    sky = grism_sky(shape, at or (0, 0)) if sci is None else sci
    return grism_template(sky, at)


def target(**more):
    """Make an exposure of that sky, 6 DN/s, with noise of 0.01 DN/s."""
    rng = np.random.default_rng(3)
    sci = SCALE * template().data + 0.01 * rng.normal(size=SHAPE)
    return make_model(sci, np.full(SHAPE, 0.01), at=AT, meta=GRISM, **more)


@pytest.fixture(autouse=True)
def mask(tmp_path, monkeypatch):
    """Write a user's mask, all sky, and go there."""
    monkeypatch.chdir(tmp_path)
    write_mask("mask.fits", np.ones(SHAPE, np.uint32))
    return "mask.fits"


def ours(exposure, bkg, **parameters):
    given = {"wfss_mask": "mask.fits", **parameters}
    return BackgroundStep.call(exposure, override_bkg=bkg, **given)


def theirs(exposure, bkg, **parameters):
    given = {"wfss_mask": "mask.fits", **parameters}
    return oracle.subtract_wfss(exposure.copy(), bkg.copy(), **given)


def subtract_both(exposure=None, bkg=None, **parameters):
    exposure, bkg = exposure or target(), bkg or template()
    return ours(exposure, bkg, **parameters), theirs(exposure, bkg, **parameters)


def scale(model):
    return model.meta.background.scaling_factor


def status(model):
    return model.meta.cal_step.bkg_subtract


def test_without_a_difference_they_agree():
    mine, other = subtract_both()
    assert scale(mine) == pytest.approx(scale(other), rel=1e-6)
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    np.testing.assert_allclose(mine.data, other.data, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(mine.dq, other.dq)


@pytest.mark.parametrize("before", ["SKIPPED", "FAILED"])
def test_target_that_arrives_without_a_subtraction(before):
    mine, other = subtract_both(target(meta__cal_step__bkg_subtract=before))
    np.testing.assert_allclose(mine.data, other.data, rtol=1e-6, atol=1e-6)
    assert np.median(other.data) < 0.01
    assert (status(mine), status(other)) == ("COMPLETE", before)


def test_target_already_complete():
    exposure = target(meta__cal_step__bkg_subtract="COMPLETE")
    mine, other = subtract_both(exposure)
    assert status(mine) == status(other) == "COMPLETE"
    np.testing.assert_array_equal(mine.data, exposure.data)
    assert np.median(exposure.data) > 6
    assert np.median(other.data) < 0.01


def test_finite_do_not_use_pixels_in_the_target():
    exposure = target()
    exposure.data[10], exposure.dq[10] = 9.0, DO_NOT_USE
    mine, other = subtract_both(exposure, wfss_maxiter=0)
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    # One row of 40 at 9 where 6.1 is expected.
    assert scale(other) == pytest.approx(SCALE * (1 + (9 / 6.15 - 1) / 40), rel=1e-3)
    assert mine.mask[10].all()  # they are sky all the same
    np.testing.assert_array_equal(mine.mask, other.mask)


def test_finite_do_not_use_pixels_in_the_template():
    bkg = template()
    bkg.data[10], bkg.dq[10] = 12.0, DO_NOT_USE
    mine, other = subtract_both(bkg=bkg, wfss_maxiter=0)
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    ratio = 12 / 8.2
    assert scale(other) == pytest.approx(SCALE * (39 + ratio) / (39 + ratio**2), rel=1e-3)
    for product in (mine, other):
        assert np.flatnonzero(product.dq.any(axis=1)).tolist() == [10]


def test_missing_sci_where_err_is_finite():
    """1 % of such pixels stay in jwst's denominator: they cost 1 % of the scale or so."""
    exposure = target()
    rng = np.random.default_rng(5)
    exposure.data[rng.random(SHAPE) < 0.01] = np.nan
    share = np.isnan(exposure.data).mean()
    assert 0.005 < share < 0.02
    mine, other = subtract_both(exposure, wfss_maxiter=0)
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    assert scale(other) == pytest.approx(SCALE * (1 - share), rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_pixels_without_a_valid_err_shape_the_percentiles(bad):
    """Where they are bright, jwst rejects them, and bright outliers with a valid ERR stay."""
    exposure = target()
    rng = np.random.default_rng(5)
    outlying, invalid = rng.random((2, *SHAPE)) < [[[0.008]], [[0.03]]]
    exposure.data[outlying] += 50
    exposure.data[invalid], exposure.err[invalid] = 900, bad
    mine, other = subtract_both(exposure, wfss_maxiter=1)
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    if np.isnan(bad):
        assert scale(other) > 1.05 * SCALE
    else:  # those of ERR 0 it leaves out, as we do
        assert scale(other) == pytest.approx(scale(mine), rel=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_one_infinite_sky_pixel(value):
    exposure = target()
    exposure.data[10, 20] = value
    mine, other = subtract_both(exposure)
    assert (status(mine), status(other)) == ("COMPLETE", "FAILED")
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)
    assert scale(other) == 0.0
    np.testing.assert_array_equal(other.data, exposure.data)


def test_template_pixel_that_is_not_finite():
    bkg = template()
    bkg.data[10, 20] = np.nan
    mine, other = subtract_both(bkg=bkg)
    for product in (mine, other):
        assert np.argwhere(np.isnan(product.data)).tolist() == [[10, 20]]
    assert np.argwhere(mine.dq == DO_NOT_USE).tolist() == [[10, 20]]
    assert not other.dq.any()


def test_template_without_a_window():
    exposure = target()
    bkg = template((2048, 2048), None)
    mine = ours(exposure, bkg)
    assert status(mine) == "COMPLETE"
    assert scale(mine) == pytest.approx(SCALE, rel=1e-3)  # a slip by one row: 1e-2
    assert "subarray" not in bkg.instance["meta"]
    with pytest.raises(TypeError, match="unsupported operand"):
        theirs(exposure, bkg)


@pytest.mark.parametrize(
    ("shape", "at"), [((20, 50), AT), ((40, 25), AT), (SHAPE, (301, 700)), (SHAPE, (900, 900))]
)
def test_template_that_does_not_cover_the_target(shape, at):
    exposure, bkg = target(), template(shape, at)
    mine = ours(exposure, bkg)
    assert status(mine) == "SKIPPED"
    np.testing.assert_array_equal(mine.data, exposure.data)
    with pytest.raises(ValueError, match="Bad reference file slice"):
        theirs(exposure, bkg)


def test_user_mask_and_no_catalogue():
    exposure = target(meta__source_catalog=None)
    assert scale(ours(exposure, template())) == pytest.approx(SCALE, rel=1e-3)
    with pytest.raises(IndexError, match="No source catalog"):
        theirs(exposure, template())


RUN = """
import sys
if sys.argv[1] == "jwst":
    from jwst.background import BackgroundStep
else:
    from webbkg import BackgroundStep
result = BackgroundStep.call("t_rate.fits", wfss_mask="mask.fits")
print("REACHED", result.meta.cal_step.bkg_subtract)
"""


def test_user_mask_and_no_wavelengthrange(tmp_path):
    """CRDS knows a template for the mode, and no wavelengthrange."""
    factories.save(target(), tmp_path / "t_rate.fits")
    cache = Cache(tmp_path / "cache")
    cache.add("nircam", "bkg", {"NRC_WFSS": "jwst_nircam_bkg_0001.fits"})
    factories.save(template(), cache.path("nircam", "jwst_nircam_bkg_0001.fits"))
    crds = environment(cache)
    runs = {
        package: subprocess.run(
            [sys.executable, "-c", RUN, package],
            env=crds,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        for package in ("webbkg", "jwst")
    }
    assert runs["webbkg"].returncode == 0, runs["webbkg"].stderr
    assert runs["webbkg"].stdout.strip() == "REACHED COMPLETE"
    assert runs["jwst"].returncode != 0
    assert "wavelengthrange" in runs["jwst"].stderr
    assert "REACHED" not in runs["jwst"].stdout


def test_neither_mask_nor_catalogue(caplog):
    """Its step says no, though what it calls takes every pixel as sky; ours does, and says so."""
    exposure = target(meta__source_catalog=None)
    with pytest.raises(IndexError, match="No source catalog"):
        theirs(exposure, template(), wfss_mask=None)
    with caplog.at_level(logging.WARNING):
        result = ours(exposure, template(), wfss_mask=None, configure_log=False)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert (result.mask == 1).all()
    assert "every pixel is taken as sky" in caplog.text


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Write a small field and its catalogue."""
    few = Population(stars=40, galaxies=20, faintest=100.0, brightest=20000.0)
    scene = replace(NIRCAM_R, population=few, margin=100.0)
    window = DetectorWindow(900, 900, 500, 120)
    simulated = observe(draw_field(scene, 3, nircam_subarray(window)))
    return write_field(tmp_path_factory.mktemp("field"), simulated, template_window=window)


def ours_of_field(name, field):
    ranges = str(field.wavelengthrange)
    return BackgroundStep.call(
        str(name), override_bkg=str(field.template), override_wavelengthrange=ranges
    )


def theirs_of_field(name, field):
    return oracle.subtract_wfss(str(name), str(field.template), str(field.wavelengthrange))


def test_warning_that_there_is_no_catalogue(field, caplog, monkeypatch):
    monkeypatch.chdir(field.target.parent)
    masks = {}
    for name, run in (("ours", ours_of_field), ("theirs", theirs_of_field)):
        caplog.clear()
        masks[name] = run(field.association.name, field).mask
        warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert any("No source_catalog found" in line for line in warned) == (name == "theirs")
        assert name == "theirs" or not warned
    assert 0.2 < masks["ours"].mean() < 0.95
    np.testing.assert_array_equal(masks["ours"], masks["theirs"])


@pytest.mark.parametrize("named_by", ["association", "target"])
def test_catalogue_in_another_folder(field, named_by):
    """Beside what names it; jwst looks in the current folder."""
    assert not Path("cat.ecsv").exists()
    name = getattr(field, named_by)
    mine = ours_of_field(name, field)
    assert status(mine) == "COMPLETE"
    assert 0.2 < mine.mask.mean() < 0.95
    assert mine.meta.source_catalog == "cat.ecsv"
    with pytest.raises(FileNotFoundError):
        theirs_of_field(name, field)


@pytest.mark.parametrize("kind", ["plain", "tiles", "gzip", "asdf"])
def test_no_difference_in_masks(kind):
    """What is not 0 is sky, in any file that holds a mask."""
    values = np.ones(SHAPE, np.int32)
    values[:, :9], values[0], values[1], values[2] = 0, 2, -1, 70_000
    names = {"plain": "m.fits", "tiles": "m.fits", "gzip": "m.fits.gz", "asdf": "m.asdf"}
    if kind == "asdf":
        model = datamodels.ImageModel(values.astype(np.float32))
        model.mask = values.astype(np.uint32)
        model.save("m.asdf")
    else:
        image = fits.CompImageHDU if kind == "tiles" else fits.ImageHDU
        hdus = fits.HDUList([fits.PrimaryHDU(), image(values, name="MASK")])
        hdus.writeto(names[kind])  # gzipped if so named
    mine, other = subtract_both(wfss_mask=names[kind])
    np.testing.assert_array_equal(mine.mask, values != 0)
    np.testing.assert_array_equal(mine.mask, other.mask)
    assert scale(mine) == pytest.approx(scale(other), rel=1e-6)
