"""WFSS through the step: references, masks, status, and what the product carries."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst import datamodels

from factories import (
    DO_NOT_USE,
    GRISM,
    grism_sky,
    grism_template,
    make_model,
    save,
    write_mask,
)
from webbkg import BackgroundStep
from webbkg.errors import (
    InputError,
    MismatchError,
    MissingFileError,
    OptionError,
    ReferenceUnavailableError,
)
from webbkg.files.templates import make_template
from webbkg.modes import Request
from webbkg.options import WfssOptions
from webbkg.run import subtract_background

SHAPE = (40, 50)
AT = (300, 700)
SCALE = 0.75


def grism_target(shape=SHAPE, at=AT, **more):
    rng = np.random.default_rng(3)
    sky = SCALE * grism_sky(shape, at) + 1e-4 * rng.normal(size=shape)
    return make_model(sky, np.full(shape, 1e-4), at=at, meta=GRISM, **more)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a full-frame template, a mask for the target, and the target itself."""
    monkeypatch.chdir(tmp_path)
    grism_template(grism_sky((2048, 2048), (0, 0))).save("bkg.fits")
    mask = np.ones(SHAPE, np.uint32)
    mask[:, :10] = 0
    write_mask(tmp_path / "mask.fits", mask)
    save(grism_target(), tmp_path / "g_rate.fits")
    return tmp_path


def run(target="g_rate.fits", **parameters):
    given = {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits", **parameters}
    return BackgroundStep.call(target, **given)


def test_the_template_is_cut_where_the_subarray_lies(folder):
    result = run()
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert result.meta.background.scaling_factor == pytest.approx(SCALE, abs=1e-5)
    # A slip by one column would move this by 8e-6, one by a row by 8e-3.
    scaled = result.meta.background.scaling_factor * grism_sky(SHAPE, AT).astype(float)
    np.testing.assert_allclose(result.data, grism_target().data - scaled, atol=2e-6)
    mask = result.mask
    assert mask.dtype == np.uint32
    assert mask[:, :10].sum() == 0
    assert (mask[:, 10:] == 1).all()


def test_without_windows_a_template_of_one_shape_lies_on_the_target(folder):
    template = grism_template(grism_sky(SHAPE, AT), at=None)
    target = grism_target()
    del target.instance["meta"]["subarray"]
    result = run(target, override_bkg=template)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert result.meta.background.scaling_factor == pytest.approx(SCALE, abs=1e-5)


def test_without_a_window_it_is_not_known_where_a_full_frame_is_cut(folder):
    target = grism_target()
    del target.instance["meta"]["subarray"]
    with pytest.raises(InputError, match=r"at least one is missing.*set the four keywords"):
        run(target)


def test_the_product_tells_how_the_scale_came_about(folder):
    run(save_results=True)
    saved = datamodels.open("g_backgroundstep.fits")
    tree = saved.meta.background.webbkg.instance
    assert tree["template"] == "bkg.fits"
    assert tree["mask"] == "mask.fits"
    assert tree["scale"] == saved.meta.background.scaling_factor
    assert tree["scale_err"] == pytest.approx(
        1e-4 / np.sqrt(tree["pixels_used"]) / grism_sky(SHAPE, AT).mean(), rel=0.05
    )
    assert tree["pixels_offered"] == 40 * 40
    assert len(tree["iterations"]) == 6
    assert tree["iterations"][1]["rejected"] == 2 * 16
    assert tree["stopped"] == "the largest number of iterations was reached"
    assert saved.mask.sum() == 40 * 40
    assert saved.meta.ref_file.bkg.name.endswith("bkg.fits")
    with fits.open("g_backgroundstep.fits") as hdus:
        assert hdus["MASK"].data.sum() == 40 * 40
        assert hdus[0].header["BKGD_SCL"] == saved.meta.background.scaling_factor


def test_what_was_subtracted_can_be_added_again(folder):
    result = run(save_background=True)
    saved = datamodels.open("g_background.fits")
    np.testing.assert_allclose(result.data + saved.data, grism_target().data, atol=1e-6)
    np.testing.assert_allclose(saved.err, 1e-3 * SCALE, rtol=2e-3)


def test_templates_with_holes_leave_nan_and_a_flag(folder):
    template = datamodels.open("bkg.fits")
    template.data[AT[1] + 3, AT[0] + 20] = np.nan
    result = run(override_bkg=template)
    assert np.argwhere(np.isnan(result.data)).tolist() == [[3, 20]]
    assert np.argwhere(result.dq == DO_NOT_USE).tolist() == [[3, 20]]


def test_too_little_sky_fails_and_keeps_the_mask(folder):
    write_mask(folder / "none.fits", np.zeros(SHAPE, np.uint32))
    result = run(wfss_mask="none.fits")
    assert result.meta.cal_step.bkg_subtract == "FAILED"
    assert result.meta.background.scaling_factor == 0.0
    assert result.mask.sum() == 0
    np.testing.assert_array_equal(result.data, grism_target().data)


def test_a_variance_of_zero_throughout_fails(folder):
    target = grism_target()
    target.err = np.zeros(SHAPE, np.float32)
    result = run(target)
    assert result.meta.cal_step.bkg_subtract == "FAILED"
    assert "finite" in result.meta.background.webbkg.reason


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_an_empty_template_fails(folder, value):
    template = datamodels.open("bkg.fits")
    template.data[:] = value
    result = run(override_bkg=template)
    assert result.meta.cal_step.bkg_subtract == "FAILED"
    np.testing.assert_array_equal(result.data, grism_target().data)


def test_a_template_that_does_not_cover_the_target_is_skipped(folder):
    template = datamodels.WfssBkgModel()
    template.data = grism_sky((100, 100), (0, 0))
    template.meta.subarray.xstart = template.meta.subarray.ystart = 1
    template.meta.subarray.xsize = template.meta.subarray.ysize = 100
    result = run(override_bkg=template)
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert "does not cover the target" in result.meta.background.webbkg.reason
    assert result.meta.background.scaling_factor is None
    assert "mask" not in result.instance


def test_no_reference_is_skipped_and_none_given_is_an_error(folder):
    result = run(override_bkg="N/A")
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"
    with pytest.raises(ReferenceUnavailableError, match=r"the bkg reference.*override_bkg"):
        run(override_bkg=None)
    with pytest.raises(MissingFileError, match=r"override_bkg: .*gone\.fits"):
        run(override_bkg="gone.fits")


def test_a_template_of_another_detector_is_refused(folder):
    template = datamodels.open("bkg.fits")
    template.meta.instrument.detector = "NRCBLONG"
    with pytest.raises(MismatchError, match=r"the detector of this bkg reference is NRCBLONG"):
        run(override_bkg=template)


@pytest.mark.parametrize("catalog", [None, "", "  "])
def test_without_mask_and_catalogue_all_is_sky_with_a_warning(folder, caplog, catalog):
    """As in the reference implementation, which warns too."""
    target = grism_target(meta__source_catalog=catalog)
    with caplog.at_level("WARNING"):
        result = run(target, wfss_mask=None, configure_log=False)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert (result.mask == 1).all()
    assert result.meta.background.webbkg.mask == "all sky"
    assert "every pixel is taken as sky" in caplog.text
    assert "give a source catalogue" in caplog.text


def test_a_catalogue_needs_a_wcs(folder):
    Table({"label": [1]}).write("cat.ecsv")
    target = grism_target(meta__source_catalog="cat.ecsv")
    with pytest.raises(InputError, match=r"has no WCS.*assign_wcs"):
        run(target, wfss_mask=None)
    missing = grism_target(meta__source_catalog="gone.ecsv")
    with pytest.raises(MissingFileError, match=r"source catalogue: no file gone\.ecsv"):
        run(missing, wfss_mask=None)


def test_a_mask_must_be_one(folder):
    write_mask(folder / "nameless.fits", np.ones(SHAPE, np.uint32), name="SKY")
    with pytest.raises(InputError, match=r"nameless\.fits: has no MASK extension"):
        run(wfss_mask="nameless.fits")
    write_mask(folder / "small.fits", np.ones((4, 4), np.uint32))
    with pytest.raises(
        InputError, match=r"small\.fits: the shape of wfss_mask .* \(got \(4, 4\)\)"
    ):
        run(wfss_mask="small.fits")
    (folder / "text.fits").write_text("no")
    with pytest.raises(InputError, match=r"text\.fits: not a FITS file"):
        run(wfss_mask="text.fits")


def test_rms_stop_needs_the_dispersion_axis(folder):
    target = grism_target()
    target.meta.wcsinfo.dispersion_direction = None
    assert run(target).meta.cal_step.bkg_subtract == "COMPLETE"
    with pytest.raises(OptionError, match="wfss_rms_stop needs the dispersion axis"):
        run(target, wfss_rms_stop=1.0)


def test_a_cube_is_refused(folder):
    cube = make_model(np.ones((2, *SHAPE)), at=AT, meta=GRISM)
    with pytest.raises(InputError, match=r"must be 2-D"):
        run(cube)


def test_inputs_and_references_are_untouched(folder):
    target, template = grism_target(), datamodels.open("bkg.fits")
    before = target.copy(), template.copy()
    run(target, override_bkg=template)
    for model, copy in zip((target, template), before, strict=True):
        assert model.meta.instance == copy.meta.instance
        np.testing.assert_array_equal(model.data, copy.data)
        np.testing.assert_array_equal(model.dq, copy.dq)


@pytest.mark.parametrize("keep", [True, False])
def test_a_kept_target_shares_no_memory_with_the_result(folder, keep):
    target = grism_target()
    paths = {"bkg": folder / "bkg.fits"}
    request = Request(
        options=WfssOptions(mask="mask.fits"),
        references=paths,
        keep_background=keep,
    )
    result, outcome = subtract_background(target, request)
    assert (outcome.background is not None) is keep
    for plane in ("data", "err", "dq", "var_poisson", "var_rnoise"):
        assert not np.shares_memory(getattr(target, plane), getattr(result, plane))
    np.testing.assert_array_equal(result.data, run().data)
    np.testing.assert_array_equal(target.data, grism_target().data)


def test_a_bare_image_becomes_a_template(folder):
    sky = grism_sky((2048, 2048), (0, 0)).astype(float)
    sky[0, 0] = np.nan
    np.save("sky.npy", sky)
    made = make_template("sky.npy", "g_rate.fits", "mine.fits")
    model = datamodels.open(made)
    assert isinstance(model, datamodels.WfssBkgModel)
    assert model.meta.instrument.detector == "NRCALONG"
    assert model.dq[0, 0] == DO_NOT_USE
    result = run(override_bkg="mine.fits")
    assert result.meta.background.scaling_factor == pytest.approx(SCALE, abs=1e-5)
    np.save("odd.npy", sky[:7, :9])
    with pytest.raises(InputError, match=r"odd\.npy: its shape must be .* \(got \(7, 9\)\)"):
        make_template("odd.npy", "g_rate.fits", "odd.fits")
    np.save("cube.npy", np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match=r"a 2-D sky image of real numbers is needed"):
        make_template("cube.npy", "g_rate.fits", "odd.fits")
