"""The background's variance in the target's ERR and variances: what is added, by every way in."""

import contextlib
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stdatamodels.jwst import datamodels

from factories import (
    GRISM,
    IMAGING,
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
from test_product import assert_same, both_ways
from webbkg import BackgroundStep
from webbkg.apply import UNCERTAINTIES, apply, variance_of_sum
from webbkg.command import subtract
from webbkg.files import streaming
from webbkg.image.average import average_exposures
from webbkg.image.variance import split_variance
from webbkg.modes import Request
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed
from webbkg.options import ImageOptions
from webbkg.results import Background, Propagated, ScaleFit, Status, Variances
from webbkg.run import subtract_background
from webbkg.simulate import realisations
from webbkg.wfss.fit import scaled_background, scaled_variances

SHAPE = (30, 40)
VARIANTS = ("var_poisson", "var_rnoise", "var_flat")


def exposure(seed, shape=SHAPE, *, kinds=VARIANTS, meta=IMAGING, sci=None, **more):
    """Make a model whose ERR is that of its variances."""
    rng = np.random.default_rng(seed)
    variances = {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name in kinds}
    sci = rng.normal(5, 1, shape) if sci is None else sci
    err = np.sqrt(sum(variances.values())) if kinds else np.ones(shape)
    model = make_model(sci, err, meta=meta, **more)
    for name, plane in variances.items():
        model[name] = plane
    return model


def assert_consistent(model, names=VARIANTS):
    total = sum(np.asarray(model[name], np.float64) for name in names)
    np.testing.assert_allclose(np.square(model.err, dtype=np.float64), total, rtol=1e-5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        save(exposure(number), tmp_path / f"b{number}_rate.fits")
    return tmp_path


BACKGROUNDS = ["b1_rate.fits", "b2_rate.fits", "b3_rate.fits"]


@pytest.mark.parametrize("shape", [SHAPE, (3, *SHAPE)])
def test_the_target_gains_the_variance_of_the_mean(folder, shape):
    target = exposure(9, shape)
    result = BackgroundStep.call(target, BACKGROUNDS, propagate_errors=True)
    given = [datamodels.open(name) for name in BACKGROUNDS]
    for name in VARIANTS:
        shares = [one[name] / one.err**2 for one in given]
        added = np.mean(shares, axis=0) * sum(one.err**2 for one in given) / 9
        np.testing.assert_allclose(result[name], target[name] + added, rtol=1e-5)
    assert_consistent(result)
    assert_consistent(target)
    tree = result.meta.background.webbkg.instance
    assert tree["propagated"]["planes"] == list(UNCERTAINTIES)


def test_by_default_uncertainties_stay(folder):
    target = exposure(9)
    result = BackgroundStep.call(target, BACKGROUNDS)
    for name in ("err", *VARIANTS):
        np.testing.assert_array_equal(result[name], target[name])
    assert "propagated" not in result.meta.background.webbkg.instance


@pytest.mark.parametrize(
    ("kinds", "shape"),
    [((), SHAPE), (VARIANTS[:2], (3, *SHAPE)), (VARIANTS, SHAPE)],
)
def test_every_way_in_gives_the_same_product(folder, monkeypatch, kinds, shape):
    save(exposure(9, shape, kinds=kinds), Path("t_rate.fits"))
    ways = both_ways(monkeypatch, backgrounds=BACKGROUNDS, propagate_errors=True)
    assert_same(*ways)
    with fits.open("t_rate.fits") as before, fits.open(ways[0]) as after:
        for name in ("ERR", *(kind.upper() for kind in kinds)):
            assert (after[name].data > before[name].data).all()
    called = BackgroundStep.call("t_rate.fits", BACKGROUNDS, propagate_errors=True)
    opened = BackgroundStep.call(datamodels.open("t_rate.fits"), BACKGROUNDS, propagate_errors=True)
    command = [Path(sys.executable).with_name("strun"), "webbkg", "t_rate.fits"]
    command += [f"--bkg_list={','.join(BACKGROUNDS)}", "--propagate_errors=true"]
    subprocess.run(command, check=True, capture_output=True)
    with datamodels.open(ways[0]) as product, datamodels.open("t_backgroundstep.fits") as of_strun:
        for name in ("data", "err", "dq", *kinds):
            for other in (called, opened, of_strun):
                np.testing.assert_array_equal(other[name], product[name])


def test_a_cube_that_is_streamed_by_its_data_model(folder, monkeypatch):
    save(exposure(9, (3, *SHAPE)), Path("t_rateints.fits"))
    expected = BackgroundStep.call("t_rateints.fits", BACKGROUNDS, propagate_errors=True)
    monkeypatch.setattr(streaming, "SMALLEST", 0)
    monkeypatch.setattr(streaming, "COPY_CHUNK", 1)
    with monkeypatch.context() as patched:
        patched.setattr("webbkg.run.opening.survey", lambda *_, **__: "not here")
        (item,) = subtract(
            ["t_rateints.fits"],
            BACKGROUNDS,
            {"propagate_errors": True, "output_dir": "out"},
            progress=lambda *_: contextlib.nullcontext(),
        )
    assert item.streamed
    assert item.error is None
    assert item.outcome.propagated.planes == UNCERTAINTIES
    with datamodels.open(item.product) as product:
        for name in ("data", "err", "dq", *VARIANTS):
            np.testing.assert_array_equal(product[name], expected[name])


def test_odd_planes_of_a_target_take_the_way_of_its_model(folder, monkeypatch):
    """A variance of another type is added to all the same, one of another shape is left."""
    target = exposure(9, (2, *SHAPE))
    target.instance["var_flat"] = target.var_flat[0].copy()
    save(target, Path("t_rateints.fits"))
    result = BackgroundStep.call("t_rateints.fits", BACKGROUNDS, propagate_errors=True)
    np.testing.assert_array_equal(result.var_flat, target.var_flat)
    assert result.meta.background.webbkg.instance["propagated"]["planes"] == [*UNCERTAINTIES[:3]]
    target = exposure(9)
    target.instance["err"] = np.full(SHAPE, 2)
    result = BackgroundStep.call(target, BACKGROUNDS, propagate_errors=True)
    assert (result.err > 2).all()  # of integers it becomes one of floating point


def test_backgrounds_without_variances_go_to_the_photons(folder):
    for number in (1, 2):
        save(make_model(ramp(SHAPE), np.full(SHAPE, 2.0)), folder / f"n{number}_rate.fits")
    target = exposure(9)
    names = ["n1_rate.fits", "n2_rate.fits"]
    result = BackgroundStep.call(target, names, propagate_errors=True)
    np.testing.assert_allclose(result.var_poisson - target.var_poisson, 2.0, rtol=1e-6)
    np.testing.assert_array_equal(result.var_rnoise, target.var_rnoise)
    assert_consistent(result)


def test_where_err_of_a_background_is_not_valid_so_is_the_result(folder, caplog):
    background = exposure(4)
    background.err[3, 4] = -1
    background.data[5, 5] = np.nan
    target = exposure(9)
    target.err[7, 7] = -1
    result = BackgroundStep.call(target, [background], propagate_errors=True)
    for name in ("err", *VARIANTS):
        unknown = np.argwhere(np.isnan(result[name])).tolist()
        assert unknown == [[3, 4], [5, 5]]
    assert np.isfinite(result.data[3, 4])
    assert result.err[7, 7] == -1
    assert "in 1 pixels a background has no valid ERR" in caplog.text


def test_what_no_background_covers_stays(folder):
    background = exposure(4, (10, 12), at=(5, 6))
    target = exposure(9)
    result = BackgroundStep.call(target, [background], propagate_errors=True)
    inside = np.zeros(SHAPE, np.bool_)
    inside[6:16, 5:17] = True
    for name in ("err", *VARIANTS):
        np.testing.assert_array_equal(result[name][~inside], target[name][~inside])
        assert (result[name][inside] > target[name][inside]).all()


def test_an_enormous_err_has_no_part_in_what_has_no_share(folder):
    background = exposure(4)
    background.err[3, 4] = 1e30  # its square is beyond float32
    background.var_rnoise[3, 4] = background.var_flat[3, 4] = 0
    target = exposure(9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = BackgroundStep.call(target, [background], propagate_errors=True)
    assert result.var_poisson[3, 4] == np.inf
    for name in ("var_rnoise", "var_flat"):
        assert result[name][3, 4] == target[name][3, 4]


@pytest.mark.parametrize("threads", [1, 3])
def test_shares_do_not_depend_on_the_threads_nor_on_an_outlier(threads):
    shape = (50, 20)
    planes = [exposure(seed, (2, *shape)) for seed in (1, 2)]
    planes[1].var_poisson[0, 4, 4] = 1e9
    sources = [
        Placed(
            ArrayPlanes.of(
                SCI=one.data, ERR=one.err, DQ=one.dq, **{n.upper(): one[n] for n in VARIANTS}
            ),
            Overlap.whole(shape),
        )
        for one in planes
    ]
    combined = average_exposures(sources, shape, ImageOptions())
    variances = split_variance(combined, sources, threads=threads).variances
    total = variances.poisson + variances.rnoise + variances.flat
    np.testing.assert_allclose(total, combined.err**2, rtol=1e-5)
    shares = [one[n] / sum(one[m] for m in VARIANTS) for one in planes for n in VARIANTS]
    photons = np.mean(np.concatenate([shares[0], shares[3]]), axis=0)
    np.testing.assert_allclose(variances.poisson / total, photons, rtol=1e-5)
    assert variances.poisson[4, 4] / total[4, 4] < 0.7


# The scaled templates.


def scaled(fit, sky, err):
    background = scaled_background(sky, err, None, fit)
    return Background(**{**vars(background), "variances": scaled_variances(sky, err, fit)})


def test_a_grism_exposure_gains_its_templates_variance(folder, monkeypatch):
    sky = grism_sky((2048, 2048), (0, 0))
    grism_template(sky).save("bkg.fits")
    mask = np.ones(SHAPE, np.uint32)
    mask[:, :10] = 0
    write_mask(Path("mask.fits"), mask)
    here = grism_sky(SHAPE, (0, 0)).astype(np.float64)
    noise = np.random.default_rng(3).normal(0, 1, SHAPE)
    target = exposure(9, meta=GRISM, sci=0.75 * here + noise)
    save(target, Path("t_rate.fits"))
    given = {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits", "propagate_errors": True}
    own, other = both_ways(monkeypatch, **given)
    assert_same(own, other)
    with datamodels.open(own) as product:
        tree = product.meta.background.webbkg.instance
        scale, error = tree["scale"], tree["scale_err"]
        assert tree["propagated"]["common"]["scale"] == pytest.approx(error / scale)
        np.testing.assert_allclose(
            product.var_poisson - target.var_poisson, (scale * 1e-3) ** 2, rtol=0.3, atol=2e-7
        )
        np.testing.assert_allclose(
            product.var_flat - target.var_flat, (error * here) ** 2, rtol=1e-2
        )
        np.testing.assert_array_equal(product.var_rnoise, target.var_rnoise)
        assert_consistent(product)


def test_a_soss_exposure_gains_its_templates_variance(folder, monkeypatch):
    library = soss_library(0.0, 0.3)
    library.err = np.full(library.data.shape, 0.05, np.float32)
    library.save("bkg.fits")
    rng = np.random.default_rng(1)
    sky = 0.9 * soss_sky(0.3) + rng.normal(0, 0.1, (2, 256, 2048))
    target = make_model(sky, np.full(sky.shape, 0.1), at=(0, 1792), meta=SOSS)
    target.var_poisson = np.full(sky.shape, 0.005, np.float32)
    target.var_rnoise = np.full(sky.shape, 0.005, np.float32)
    save(target, Path("t_rateints.fits"))
    given = {"override_bkg": "bkg.fits", "propagate_errors": True}
    own, other = both_ways(monkeypatch, "t_rateints.fits", **given)
    assert_same(own, other)
    with datamodels.open(own) as product:
        tree = product.meta.background.webbkg.instance
        jump = np.array(tree["propagated"]["jump"])
        right = np.arange(2048) >= jump[:, np.newaxis]
        assert right.mean() == pytest.approx(1 - 700 / 2048, abs=2e-3)
        for name, side in (("left", ~right), ("right", right)):
            fit = tree[name]
            relative = tree["propagated"]["common"][name]
            assert relative == pytest.approx(fit["scale_err"] / fit["scale"])
            variance = (fit["scale"] * 0.05) ** 2 + (fit["scale_err"] * soss_sky(0.3)) ** 2
            expected = np.broadcast_to(0.005 + variance, sky.shape)[:, side]
            np.testing.assert_allclose(product.var_poisson[:, side], expected, rtol=1e-5)
        assert_consistent(product, VARIANTS[:2])


def test_a_template_pixel_without_value_makes_the_uncertainty_unknown():
    sky, err = np.ones((2, 3)), np.full((2, 3), 0.1)
    sky[0, 1], sky[1, 1], err[1, 2] = np.nan, np.inf, np.nan
    fit = ScaleFit(status=Status.COMPLETE, scale=2.0, scale_err=0.01)
    background = scaled(fit, sky, err)
    planes = {name: np.ones((2, 3), np.float32) for name in ("SCI", *UNCERTAINTIES)}
    apply(background, {**planes, "DQ": np.zeros((2, 3), np.uint32)})
    assert np.argwhere(np.isnan(planes["ERR"])).tolist() == [[0, 1], [1, 1], [1, 2]]
    assert np.argwhere(np.isnan(planes["VAR_POISSON"])).tolist() == [[0, 1], [1, 1], [1, 2]]


NUMBERS = st.floats(0, 1e6, width=32)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (6, 2, 3), elements=NUMBERS), st.booleans(), st.sampled_from(["<", ">"]))
def test_what_adds_up_before_adds_up_after(planes, has_flat, order):
    photons, read, flat, *added = planes
    flat = flat if has_flat else np.zeros_like(flat)
    variances = Variances(poisson=added[0], rnoise=added[1], flat=added[2])
    err = np.sqrt(sum(one.astype(np.float64) for one in added)).astype(np.float32)
    background = Background(
        sci=np.ones((2, 3), np.float32),
        err=err,
        dq=np.zeros((2, 3), np.uint32),
        covered=np.ones((2, 3), np.bool_),
        variances=variances,
    )
    total = np.sqrt(sum(one.astype(np.float64) for one in (photons, read, flat)))
    target = {"SCI": photons.copy(), "ERR": total, "VAR_POISSON": photons, "VAR_RNOISE": read}
    target |= {"VAR_FLAT": flat} if has_flat else {}
    target = {name: plane.astype(f"{order}f4") for name, plane in target.items()}
    apply(background, {**target, "DQ": np.zeros((2, 3), np.uint32)})
    after = sum(plane.astype(np.float64) for name, plane in target.items() if "VAR" in name)
    np.testing.assert_allclose(np.square(target["ERR"], dtype=np.float64), after, rtol=1e-5)


def test_a_library_gets_it_by_the_request(folder):
    target = exposure(9)
    request = Request(backgrounds=(exposure(1),), propagate_errors=True)
    result, outcome = subtract_background(target, request)
    assert outcome.propagated.planes == UNCERTAINTIES
    np.testing.assert_allclose(result.err, np.hypot(target.err, exposure(1).err), rtol=1e-6)
    assert math.isfinite(float(result.err.sum()))


# Against the scatter of many realisations; benchmarks/propagation.py has more of them.


@pytest.mark.parametrize(
    ("make", "number"),
    [(realisations.image, 400), (realisations.wfss, 400), (realisations.soss, 60)],
    ids=["image", "wfss", "soss"],
)
def test_quoted_errors_are_those_that_are_met(make, number):
    found = realisations.calibrate(make, number, 1)
    assert found.err == pytest.approx(1, abs=0.02)
    assert found.plain_err < 0.98
    assert found.sums == pytest.approx(1, abs=0.05)
    if make is not realisations.image:  # what a quadrature of pixels misses
        assert found.plain_sums < found.sums - 0.05


def test_the_variance_of_a_weighted_sum_is_that_of_its_covariance():
    rng = np.random.default_rng(2)
    err, background = rng.uniform(1, 2, (2, *SHAPE))
    weights = rng.uniform(0, 1, SHAPE) * (rng.random(SHAPE) < 0.2)
    jump = rng.integers(10, 30, SHAPE[0])
    told = Propagated(common={"left": 0.02, "right": 0.03}, jump=tuple(jump.tolist()))
    right = np.arange(SHAPE[1]) >= jump[:, np.newaxis]
    own = err**2
    covariance = np.zeros((err.size, err.size))
    for part, error in ((~right, 0.02), (right, 0.03)):
        common = np.where(part, error * background, 0)
        own = own - common**2
        covariance += np.outer(common, common)
    covariance += np.diag(own.ravel())
    expected = weights.ravel() @ covariance @ weights.ravel()
    err[weights == 0] = np.nan
    assert variance_of_sum(err, weights, background, told) == pytest.approx(expected)
