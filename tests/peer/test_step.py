"""The two steps agree, file to file."""

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

import factories
from factories import DO_NOT_USE, MIRI, NIRSPEC, make_model
from peer import oracle
from webbkg import BackgroundStep

pytestmark = pytest.mark.peer

KINDS = {
    "image": {"shape": (20, 30), "at": (100, 50)},
    "rateints": {"shape": (3, 20, 30), "at": (100, 50)},
    "nirspec ifu": {"shape": (20, 30), "meta": NIRSPEC, "kind": datamodels.IFUImageModel},
    "nirspec slit": {"shape": (20, 30), "meta": NIRSPEC, "meta__exposure__type": "NRS_FIXEDSLIT"},
    "miri subarray": {"shape": (64, 72), "meta": MIRI, "at": (0, 28)},
    "miri rateints": {"shape": (2, 32, 40), "meta": MIRI, "at": (8, 28)},
    "miri full frame": {"shape": (1024, 1032), "meta": MIRI, "at": None},
}


def write_exposures(folder, how, number=5):
    """Write one target and its backgrounds; every pixel has at least one usable sample."""
    how = dict(how)
    rng = np.random.default_rng(7)
    shape = how.pop("shape")
    slope = factories.ramp(shape[-2:]) / 1e5
    paths = []
    for index in range(number + 1):
        sci = slope + rng.normal(1.0, 0.1, shape) + 10 * (rng.random(shape) < 0.02)
        dq = rng.choice(np.array([0, 4, 2], np.uint32), shape, p=[0.9, 0.05, 0.05])
        if index in (1, 3):
            bad = rng.random(shape[-2:]) < 0.03
            if len(shape) == 2:
                sci[bad] = np.nan
                dq[bad] |= DO_NOT_USE
        err = rng.uniform(0.1, 0.2, shape)
        model = make_model(sci, err, dq, **{"at": (0, 0), **how})
        paths.append(str(factories.save(model, folder / f"exp{index}_rate.fits")))
    return paths[0], paths[1:]


def run_both(tmp_path, target, backgrounds, **parameters):
    """Run both steps into folders of their own; return what they wrote."""
    products = []
    for name, run in (("ours", BackgroundStep.call), ("theirs", oracle.subtract)):
        folder = tmp_path / name
        folder.mkdir()
        run(
            target,
            backgrounds,
            save_results=True,
            save_combined_background=True,
            output_dir=str(folder),
            **parameters,
        )
        assert sorted(path.name for path in folder.iterdir()) == [
            "exp0_backgroundstep.fits",
            "exp0_combinedbackground.fits",
        ]
        products.append(
            [
                datamodels.open(folder / f"exp0_{suffix}.fits")
                for suffix in ("backgroundstep", "combinedbackground")
            ]
        )
    return products


@pytest.mark.parametrize("kind", KINDS)
def test_products_agree(tmp_path, kind):
    target, backgrounds = write_exposures(tmp_path, KINDS[kind])
    (ours, background), (theirs, their_background) = run_both(tmp_path, target, backgrounds)
    assert type(ours) is type(theirs)
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract == "COMPLETE"
    assert ours.meta.filename == theirs.meta.filename
    np.testing.assert_allclose(ours.data, theirs.data, rtol=3e-7, atol=3e-7)
    np.testing.assert_array_equal(ours.dq, theirs.dq)
    np.testing.assert_array_equal(ours.err, theirs.err)
    np.testing.assert_allclose(background.data, their_background.data, rtol=3e-7)
    np.testing.assert_array_equal(background.dq, their_background.dq)
    if ours.data.ndim == 2:
        np.testing.assert_allclose(background.err, their_background.err, rtol=3e-7)
    with datamodels.open(target) as before:
        assert np.nanmedian(before.data - ours.data) > 0.9


@pytest.mark.parametrize(("sigma", "maxiters"), [(1.0, None), (2.0, 1), (1.5, 5), (5.0, 0)])
def test_parameters_mean_the_same(tmp_path, sigma, maxiters):
    target, backgrounds = write_exposures(tmp_path, KINDS["image"], number=12)
    (ours, background), (theirs, their_background) = run_both(
        tmp_path, target, backgrounds, sigma=sigma, maxiters=maxiters
    )
    np.testing.assert_allclose(ours.data, theirs.data, rtol=3e-7, atol=3e-7)
    np.testing.assert_allclose(background.err, their_background.err, rtol=3e-7)
    np.testing.assert_array_equal(ours.dq, theirs.dq)


@pytest.mark.parametrize(
    ("off", "status"), [(0.0, "COMPLETE"), (0.9e-8, "COMPLETE"), (2e-8, "SKIPPED")]
)
@pytest.mark.parametrize("angle", ["gwa_xtilt", "gwa_ytilt"])
def test_grating_tilts_must_agree_in_both(angle, off, status):
    models = [make_model(np.full((4, 5), 2.0 - i), meta=NIRSPEC) for i in range(2)]
    tilt = models[0].meta.instrument.instance[angle]
    setattr(models[1].meta.instrument, angle, tilt + off)
    ours = BackgroundStep.call(models[0], models[1:])
    theirs = oracle.subtract(models[0].copy(), [models[1].copy()])
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract == status
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert ours.data[0, 0] == (1.0 if status == "COMPLETE" else 2.0)


def test_no_backgrounds_are_skipped_in_both():
    target = make_model(np.ones((4, 5)))
    ours, theirs = BackgroundStep.call(target, []), oracle.subtract(target.copy(), [])
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract == "SKIPPED"


@pytest.mark.parametrize("size", [(3, 4), (30, 40)])
def test_subarrays_that_share_a_corner_agree(size):
    """The one case of unlike windows in which jwst subtracts from the right pixels."""
    target = make_model(factories.ramp((6, 8), 10, 20) + 1, at=(10, 20))
    background = make_model(factories.ramp(size, 10, 20), at=(10, 20))
    ours = BackgroundStep.call(target, [background])
    theirs = oracle.subtract(target.copy(), [background.copy()])
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.dq, theirs.dq)
    assert (ours.data == 1).sum() == min(size[0], 6) * min(size[1], 8)


@pytest.mark.parametrize("kind", ["ImageModel", "SlitModel"])
def test_cut_outs_that_keep_the_window_of_their_frame(kind):
    """Flight NIRSpec MOS products: SUBSIZE says 2048 x 2048 of slitlets."""
    target, background = (
        make_model(factories.ramp((25, 34)) + step, kind=getattr(datamodels, kind))
        for step in (3, 0)
    )
    for model in (target, background):
        model.meta.subarray.xsize = model.meta.subarray.ysize = 2048
    ours = BackgroundStep.call(target, [background])
    theirs = oracle.subtract(target.copy(), [background.copy()])
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract == "COMPLETE"


def test_a_target_without_err():
    target, background = make_model(factories.ramp((6, 8)) + 3), make_model(factories.ramp((6, 8)))
    del target.instance["err"]
    ours = BackgroundStep.call(target, [background])
    theirs = oracle.subtract(target.copy(), [background.copy()])
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert ours.err is theirs.err is None
