"""The mixture of templates in the robust SOSS fit: against its dense twin, and on simulated skies."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdatamodels.jwst import datamodels

import factories
from crds_cache import without_crds
from factories import make_model, save
from reference_soss_robust import COLUMNS, Small
from webbkg import record
from webbkg.errors import OptionError
from webbkg.options import SossOptions
from webbkg.results import Outcome, SossMixture, SossResult, Status
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    SUBSTRIP96,
    SossScene,
    draw_field,
    draw_series,
    make_library,
    sample_cube,
)
from webbkg.soss import gls, mixture
from webbkg.soss.blend import add_up
from webbkg.soss.fit import fit_templates, template_background
from webbkg.soss.rounds import mix, sloped

AUTO = SossOptions(method="robust", model="auto")
MIXTURE = SossOptions(method="robust", model="mixture")
STRUN = Path(sys.executable).parent / "strun"


def test_the_robust_preset_tries_a_mixture_but_not_with_percentiles():
    assert SossOptions.of({"preset": "robust"}).model == "auto"
    assert SossOptions.of({"preset": "robust", "soss_model": "one"}).model == "one"
    chosen = SossOptions.of({"preset": "robust", "soss_method": "percentile"})
    assert (chosen.method, chosen.model) == ("percentile", "one")
    with pytest.raises(OptionError, match="soss_model=auto needs"):
        SossOptions.of({"soss_method": "percentile", "soss_model": "auto"})


# Against the dense twin.


def test_a_mixture_is_that_of_the_dense_twin():
    small = Small(3)
    small.templates[1, :12] = 0.3 * small.templates[0, :12] + small.wings[0, :3].repeat(4, axis=0)
    normal = gls.normal_equations(small.moments(), small.layout, small.flicker)
    solution = mix(small.moments(), small.layout, small.flicker)
    twin = small.dense()
    expected, chi2 = twin.solve()
    np.testing.assert_allclose(
        np.concatenate([solution.scales.ravel(), solution.strength]), expected, rtol=1e-3, atol=1e-5
    )
    assert (expected[:4] > 0).any()
    assert solution.chi2[0] == pytest.approx(chi2, rel=1e-5)
    np.testing.assert_allclose(solution.levels, twin.column_levels(expected), atol=1e-4)
    # The posterior of what is not 0.
    active = np.flatnonzero(expected > 1e-9)
    posterior = np.linalg.inv(normal.matrix[np.ix_(active, active)])
    first = solution.covariances[0]
    assert first[0, 0] == pytest.approx(posterior[0, 0] if 0 in active else 0, rel=1e-3)


def test_sloped_templates_add_up_to_what_they_are_of():
    templates = np.random.default_rng(1).uniform(1, 2, (3, 5, 7))
    slopes = sloped(templates)
    np.testing.assert_allclose(slopes[:3] + slopes[3:], templates, rtol=1e-15)
    np.testing.assert_array_equal(slopes[:3, :, 0], templates[:, :, 0])
    assert not slopes[:3, :, -1].any()


@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_a_scaled_library_gives_inversely_scaled_weights(seed, factor):
    small = Small(seed)
    found = mix(small.moments(), small.layout, small.flicker)
    small.templates = small.templates * factor
    scaled = mix(small.moments(), small.layout, small.flicker)
    np.testing.assert_allclose(scaled.scales * factor, found.scales, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(scaled.strength, found.strength, rtol=1e-4, atol=1e-6)
    assert scaled.chi2[0] == pytest.approx(found.chi2[0], rel=1e-7)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_mixture_is_never_negative_and_at_least_as_likely_as_each_template(seed):
    small = Small(seed)
    found = mix(small.moments(), small.layout, small.flicker)
    assert (found.scales >= 0).all()
    normal = gls.normal_equations(small.moments(), small.layout, small.flicker)
    for index in range(2):
        chosen = small.layout.of_template(index)
        alone = normal.chi2(gls.solve(normal, chosen)[0], chosen)
        assert found.chi2[0] <= alone * (1 + 1e-9)


def test_held_out_columns_are_judged_by_what_the_others_say():
    small = Small(4)
    seen = np.arange(COLUMNS) % 8 < 5
    parts = [
        gls.normal_equations(small.moments(), small.layout, small.flicker, part)
        for part in (seen, ~seen)
    ]
    every = np.arange(len(parts[0].vector))
    cost = mixture._held_out_cost(*parts, [small.layout.of_template(0), every])
    small.weights[~seen] = 0
    small.reference[1][~seen] = 0
    fitted = small.dense()
    other = Small(4)
    other.weights[seen] = 0
    other.reference[1][seen] = 0
    judge = other.dense()
    residual = judge.observed - judge.design @ fitted.solve()[0]
    assert cost == pytest.approx(residual @ judge.inverse @ residual, rel=1e-4)


# The sum of the templates.


def make_mixture(templates=3, seed=1):
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 0.01, (2, 2 * templates, 2 * templates))
    weights = rng.uniform(0, 1, (templates, 2, 2))
    weights[1] = 0
    return SossMixture(
        weights=weights,
        covariances=root @ root.transpose(0, 2, 1),
        changed=(0.0, 0.0),
        log_likelihood=1.0,
    )


def test_the_sky_of_a_mixture_and_its_error_pixel_by_pixel():
    shape, rng = (6, 9), np.random.default_rng(2)
    library = rng.uniform(1, 3, (3, *shape)).astype(np.float32)
    library[0, 2, 3] = np.nan
    library[1, 4, 5] = np.nan  # which has no part in it
    jump = np.array([3, 4, 4, 5, 5, 5])
    mixed = make_mixture()
    errors = rng.uniform(0, 0.1, library.shape).astype(np.float32)
    sky, err, own = add_up(mixed, library, jump, errors)
    assert np.argwhere(np.isnan(sky)).tolist() == [[2, 3]]
    assert np.argwhere(np.isnan(err)).tolist() == np.argwhere(np.isnan(own)).tolist() == [[2, 3]]
    for row, column in [(0, 2), (0, 3), (3, 4), (3, 5), (5, 8)]:
        side, rise = int(column >= jump[row]), row / 5
        weights = mixed.weights[:, side] @ [1 - rise, rise]
        values = library[:, row, column]
        assert sky[row, column] == pytest.approx(weights @ values, rel=1e-6)
        design = np.concatenate([values * (1 - rise), values * rise])
        variance = design @ mixed.covariances[side] @ design
        assert err[row, column] == pytest.approx(np.sqrt(variance), rel=1e-5)
        of_pixels = np.hypot(*(weights * errors[:, row, column])[[0, 2]])
        assert own[row, column] == pytest.approx(of_pixels, rel=1e-5)


def test_a_mixture_names_its_templates():
    assert make_mixture().templates == (0, 2)


# Whole fits.


def scene_of(star, groups=15, **changes):
    readout = Readout(pattern="NISRAPID", n_groups=groups)
    scene = replace(SossScene(), star=star, readout=readout, transit_depth=0.0, **changes)
    return replace(scene, traces=(ORDER_1,))


def left_in(shown, background):
    """Root of the mean squared sky that is left, over the sky, away from the jump."""
    lit = ~shown.reference
    lit[:, 685:725] = False
    return np.sqrt(np.mean((background.sci[lit] / shown.sky[lit] - 1) ** 2))


@pytest.fixture(scope="module")
def between():
    """A sky between the only two templates of the library, which rises along the rows as well."""
    scene = scene_of(44.0, template=2.6, sky_gradient=0.03)
    shown = draw_field(scene, 71, SUBSTRIP96)
    return shown, sample_cube(draw_series(shown, 2)), make_library(scene, 71)[[0, 7]]


@pytest.fixture(scope="module")
def mixed(between):
    _, cube, library = between
    return fit_templates(*cube, library, AUTO)


def test_a_sky_that_no_template_has_is_a_mixture(between, mixed):
    shown, cube, library = between
    found = mixed.robust
    assert found.model == "mixture"
    assert found.gain > 3 * found.gain_err
    assert found.mixture.templates == (0, 1)
    background = template_background(mixed, library)
    assert left_in(shown, background) < 0.005
    alone = fit_templates(*cube, library, SossOptions(method="robust"))
    assert left_in(shown, template_background(alone, library)) > 0.02
    assert alone.robust.model == "one"
    assert np.isnan(alone.robust.gain)
    assert max(found.mixture.changed) > 0.02


def test_scales_and_errors_of_a_mixture_are_those_of_its_sky(between, mixed):
    """Its mean over that of the most likely template, give or take where the pixels lie."""
    shown, _, library = between
    background = template_background(mixed, library)
    template = library[mixed.template][10:106]
    known = ~shown.reference
    for side, columns in ((mixed.left, slice(4, 685)), (mixed.right, slice(725, 2044))):
        here = known[:, columns]
        ratio = background.sci[:, columns][here] / template[:, columns][here]
        assert side.scale == pytest.approx(ratio.mean(), rel=0.04)
        error = background.err[:, columns][here] / template[:, columns][here]
        assert 0.8 * side.scale_err < error.mean() < 5 * side.scale_err
        assert (error > 0).all()
    off = np.abs(background.sci - shown.sky)[known] / background.err[known]
    assert np.median(off) < 2


def test_the_summary_tells_the_mixture_and_what_pays_for_it(mixed):
    result = SossResult(options=AUTO, reference="bkg.fits", segments=1, fit=mixed)
    told = dict(record.summary(Outcome(status=Status.COMPLETE, result=result)))
    assert told["sky"] == "a mixture of templates 0, 1"
    assert "%" in told["changed by mixture"]
    assert told["gain by a mixture"].startswith("+")
    assert "log-likelihood over the next template" not in told
    assert mixed == pickle.loads(pickle.dumps(mixed))


def test_a_mixture_is_the_same_for_any_threads(between, mixed):
    _, cube, library = between
    assert fit_templates(*cube, library, AUTO, threads=3) == mixed


def test_where_the_library_has_the_sky_auto_is_one_template():
    scene = scene_of(44.0)
    shown = draw_field(scene, 72, SUBSTRIP96)
    cube = sample_cube(draw_series(shown, 2))
    library = make_library(scene, 72)[2:5]
    auto = fit_templates(*cube, library, AUTO)
    one = fit_templates(*cube, library, SossOptions(method="robust"))
    assert auto.robust.model == "one"
    assert np.isfinite(auto.robust.gain)
    nothing = {"gain": np.nan, "gain_err": np.nan}
    assert replace(auto, robust=replace(auto.robust, **nothing)) == one


def test_the_percentile_method_refuses_a_mixture():
    with pytest.raises(OptionError, match=r"soss_model=auto needs soss_method=robust"):
        SossOptions(model="auto")
    with pytest.raises(OptionError, match="soss_model must be one, mixture or auto"):
        SossOptions(method="robust", model="many")


def flight_library(folder):
    """The profile of the flight template of 96 rows, and the shapes of the simulation."""
    profile = np.nanmedian(np.load(folder / "model_background96.npy"), axis=0)
    flight = np.broadcast_to(profile.astype(np.float32), (1, 256, 2048))
    return np.concatenate([flight, make_library(SossScene(), 1)])


def test_the_jump_of_a_flight_exposure_nearly_vanishes(real_data):
    """In rows 215 to 249, above the traces; the figures of docs/soss_recovery.md."""
    folder = real_data / "niriss_soss"
    sci = np.load(folder / "wasp39b_substrip256_medframe.npy").astype(np.float32)
    dq = np.zeros(sci.shape, np.uint32)
    dq[:, :4] = dq[:, -4:] = dq[-4:] = np.uint32(1 << 31)
    library = flight_library(folder)
    fit = fit_templates(sci, dq, library, AUTO)
    assert fit.robust.model == "mixture"
    left = (sci - template_background(fit, library).sci)[215:250]
    sky = np.median(sci[215:250, 670:690])
    contrast = np.median(left[:, 715:735]) - np.median(left[:, 670:690])
    assert abs(contrast / sky) < 0.005
    before = np.median(sci[215:250, 715:735]) - sky
    assert before / sky > 0.4
    assert fit.robust.look  # nothing there is known to be right


# Through strun.


def test_strun_subtracts_a_mixture(between, tmp_path):
    shown, (sci, dq), library = between
    meta = {**factories.SOSS, "meta.subarray.name": "SUBSTRIP96"}
    target = make_model(sci, np.full_like(sci, 0.1), dq, at=(0, 1802), meta=meta)
    save(target, tmp_path / "t_rateints.fits")
    reference = datamodels.SossBkgModel(data=library)
    reference.meta.instrument.name, reference.meta.instrument.detector = "NIRISS", "NIS"
    reference.save(tmp_path / "bkg.fits")
    done = subprocess.run(
        [
            *(STRUN, "webbkg", "t_rateints.fits", "--override_bkg=bkg.fits"),
            *("--soss_method=robust", "--soss_model=auto"),
        ],
        cwd=tmp_path,
        env=without_crds(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    with datamodels.open(tmp_path / "t_backgroundstep.fits") as product:
        told = product.meta.background.webbkg.instance
        taken = sci - product.data
    assert told["model"] == "mixture"
    assert set(told["weights"]) == {"0", "1"}
    assert np.shape(told["weights"]["1"]["left"]) == (2,)
    assert told["held_out_gain"][0] > 3 * told["held_out_gain"][1]
    lit = ~shown.reference
    lit[:, 685:725] = False
    lit &= np.isfinite(taken).all(axis=0)
    assert np.abs(taken[0][lit] / shown.sky[lit] - 1).mean() < 0.01
