"""What more than one scaled template a sky is fitted with: `WfssOptions.model`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import reference_wfss as reference
from factories import GRISM, grism_template, make_model, save
from test_wfss_components import PER_SIGNAL, common, exposure, shapes
from webbkg.errors import OptionError
from webbkg.options import DO_NOT_USE, WfssOptions
from webbkg.results import Status
from webbkg.wfss import components
from webbkg.wfss import shapes as models
from webbkg.wfss.components import Fitting
from webbkg.wfss.fit import fit_scale, scaled_background, scaled_variances
from webbkg.wfss.shapes import Comparison, candidates

SHAPE = (256, 272)
AUTO = WfssOptions(method="robust", model="auto")


def planes(seed=1, *, scales=(0.9, 0.0), profile=0.0, masked=False, along_x=True, shape=SHAPE):
    """Planes of an exposure, and the second template."""
    sky = exposure(shape, seed, scales=scales, profile=profile, masked=masked)
    photons = (PER_SIGNAL * np.maximum(sky.values, 0)).astype(np.float32)
    found = {
        "sci": sky.values,
        "err": np.sqrt(photons + sky.noise.read),
        "dq": np.zeros(shape, np.uint32),
        "template": sky.templates[0],
        "var_rnoise": sky.noise.read,
        "var_poisson": photons,
    }
    other = sky.templates[1]
    if along_x:
        return found, other
    return {name: np.ascontiguousarray(one.T) for name, one in found.items()}, other.T.copy()


def fit(given, *more, options=AUTO, along_x=True, threads=1, **light):
    axis = 1 if along_x else 2
    return fit_scale(
        **given,
        more_templates=more,
        options=options,
        dispersion_axis=axis,
        threads=threads,
        **light,
    )


def model(name):
    return replace(AUTO, model=name)


def level_of(found, *templates):
    """Sum what was fitted, with light dispersed along x."""
    parts = found.model.fit
    return sum(s * t for s, t in zip(parts.scales, templates, strict=False)) + parts.profile


WAVE = 0.04 * np.sin(np.arange(SHAPE[1]) / 30)


def test_a_right_template_is_left_alone():
    """And is fitted to the last bit as it is without a choice."""
    for seed in range(6):
        given, _ = planes([21, seed])
        found = fit(given)
        assert (found.model.name, found.model.fit, found.model.change) == ("template", None, 0)
        assert [one.name for one in found.model.trials] == ["template", "+offset", "+profile"]
        assert replace(found, model=None) == fit(given, options=model("template"))


@pytest.mark.parametrize("along_x", [True, False])
@pytest.mark.parametrize(
    ("name", "scales", "profile"),
    [("+offset", (0.9, 0), 0.05), ("+profile", (0.9, 0), WAVE), ("templates", (0.6, 0.3), 0)],
)
def test_what_the_sky_has_besides_is_seen_and_taken_off(name, scales, profile, along_x):
    given, other = planes(22, scales=scales, profile=profile, along_x=along_x)
    more = (other,) if name == "templates" else ()
    found = fit(given, *more, along_x=along_x)
    assert (found.status, found.model.name) == (Status.COMPLETE, name)
    truth = np.tensordot(scales, shapes(SHAPE), 1) + profile
    truth = truth if along_x else truth.T
    taken = scaled_background(given["template"], None, None, found, more_templates=more)
    assert (taken.sci - truth).std() < 0.1 * taken.err.mean() + 0.005
    assert abs((taken.sci - truth).mean()) < 4 * found.model.fit.level_err
    assert found.model.change > 0.002
    asked = fit(given, *more, options=model(name), along_x=along_x)
    assert asked.model.name == name
    assert asked.scale == pytest.approx(found.scale, abs=0.2 * found.scale_err)
    best = max(one.gain for one in found.model.trials)
    chosen = next(one for one in found.model.trials if one.name == name)
    assert best - 12.5 <= chosen.gain > 3 * chosen.gain_err


def test_held_out_blocks_are_those_of_the_plain_twin():
    sky = exposure((256, 300), 3, profile=0.03)
    offered = common(sky)
    tried, _ = candidates(sky, offered, "auto")
    freest = Fitting(sky, offered, tried[-1].freedom, strips_leave=True)
    freest.run()
    comparison = Comparison.of(freest, tried, sky, offered)
    design = freest.design
    used = np.isfinite(sky.values) & np.isfinite(sky.templates).all(axis=0)
    given = sky.values, sky.noise.read.astype(float), PER_SIGNAL, sky.templates, used
    first = components.first_guess(sky, design, offered)
    skew = components._skewness(sky, design, first)
    *_, inverse = reference.component_fit(*given, tried[-1].freedom, first, skew)
    freedoms = [(one.templates, one.freedom) for one in tried]
    expected = reference.held_out(sky.values, inverse, sky.templates, freedoms, 300)
    found = [comparison._held_out(number) for number in range(len(tried))]
    gains, of_twin = (np.sum(one[0] - np.array(one)[1:], axis=1) for one in (found, expected))
    assert gains == pytest.approx(of_twin, rel=1e-3, abs=0.5)


def test_the_simplest_than_which_none_is_better():
    """Of gains by blocks: small ones, and those within chance, do not count."""
    rng = np.random.default_rng(4)
    assert not models._is_better(np.full(64, 0.1))
    assert models._is_better(np.full(64, 0.3))
    assert not models._is_better(0.5 + 10 * rng.standard_normal(64))


@pytest.mark.parametrize("along_x", [True, False])
def test_the_same_to_the_last_bit_for_any_threads_and_bands(along_x, monkeypatch):
    given, other = planes(23, profile=WAVE, masked=True, along_x=along_x)
    fits = [fit(given, other, along_x=along_x, threads=n) for n in (1, 2, 5)]
    for module in (components, models):
        monkeypatch.setattr(module, "LINES", 32)
    fits.append(fit(given, other, along_x=along_x))
    assert all(one == fits[0] for one in fits)


def test_nothing_is_changed():
    given, other = planes(24, profile=WAVE)
    before = [one.copy() for one in (*given.values(), other)]
    found = fit(given, other)
    scaled_background(given["template"], None, None, found, more_templates=[other])
    scaled_variances(given["template"], None, found, more_templates=[other])
    for one, was in zip((*given.values(), other), before, strict=True):
        np.testing.assert_array_equal(one, was)


# What a model cannot do.


def test_a_constant_template_and_an_offset_are_one():
    given, _ = planes(25, scales=(0, 0), profile=0.8)
    given["template"] = np.full(SHAPE, 2, np.float32)
    for name in ("+offset", "auto"):
        found = fit(given, options=model(name))
        assert (found.status, found.model.name) == (Status.COMPLETE, "template")
        assert "+offset: the template has the shape of a constant" in found.model.reason
        assert found.scale == pytest.approx(0.4, abs=0.01)


def test_a_profile_needs_room():
    given, _ = planes(26, shape=(200, 272))
    found = fit(given, options=model("+profile"))
    assert found.model.name == "template"
    assert "a profile needs 256 pixels across dispersion" in found.model.reason
    assert "(got 200 and 272)" in found.model.reason
    assert [one.name for one in fit(given).model.trials] == ["template", "+offset"]


def test_one_template_alone_is_not_several():
    found = fit(planes(27)[0], options=model("templates"))
    assert (found.model.name, found.model.reason) == ("template", "there is one template alone")


def test_a_few_blocks_cannot_compare():
    given, _ = planes(28)
    given["dq"][40:] = DO_NOT_USE
    given["dq"][:, 60:] = DO_NOT_USE
    found = fit(given)
    assert found.model.name == "template"
    assert "16 blocks with pixels are needed to compare models (got" in found.model.reason


@pytest.mark.parametrize("case", ["masked", "template NaN"])
def test_nothing_to_fit(case):
    given, _ = planes(29)
    if case == "masked":
        given["dq"][:] = DO_NOT_USE
    else:
        given["template"][:] = np.nan
    for name in ("auto", "+offset"):
        found = fit(given, options=model(name))
        assert (found.status, found.scale) == (Status.FAILED, 0)
        assert found.reason.startswith("no sky pixel is left to fit")


def test_several_templates_need_a_model_for_them():
    given, other = planes(30)
    with pytest.raises(OptionError, match=r"wfss_model template takes one template \(got 2\)"):
        fit(given, other, options=model("template"))
    with pytest.raises(OptionError, match=r"images of one shape.*template 2 \(255, 272\)"):
        fit(given, other[1:])


def test_a_model_needs_the_robust_method():
    with pytest.raises(OptionError, match=r"wfss_model \+offset needs wfss_method robust"):
        WfssOptions(model="+offset")
    with pytest.raises(OptionError, match=r"wfss_model must be one of template, .*'flat'"):
        WfssOptions(method="robust", model="flat")
    assert WfssOptions(model="auto").model == "template"


def test_the_templates_that_were_fitted_are_needed_to_subtract():
    given, other = planes(31, scales=(0.6, 0.3))
    found = fit(given, other)
    with pytest.raises(OptionError, match=r"more_templates must be the 1 that were fitted"):
        scaled_background(given["template"], None, None, found)


# What is subtracted.


@pytest.mark.parametrize("along_x", [True, False])
def test_the_error_of_what_is_subtracted_is_that_of_all_coefficients(along_x):
    given, other = planes(32, scales=(0.6, 0.3), profile=WAVE, along_x=along_x)
    found = fit(given, other, options=model("+profile"), along_x=along_x)
    parts = found.model.fit
    errs = [np.full_like(other, one) for one in (0.01, 0.02)]
    given["template"][5, 7] = np.nan
    flags = np.full(other.shape, 4, np.uint32)
    more = {"more_templates": [other], "more_errs": [errs[1]]}
    taken = scaled_background(given["template"], errs[0], flags, found, **more)
    told = scaled_variances(given["template"], errs[0], found, **more)
    at = 40, 100
    along = at[1] if along_x else at[0]
    free = components.basis(np.array([along + 0.5]), SHAPE[1], parts.freedom)[0]
    column = np.array([given["template"][at], other[at], *free], float)
    coefficients = np.array([*parts.scales, *parts.free])
    assert taken.sci[at] == pytest.approx(column @ coefficients, rel=1e-6)
    fitted = column @ parts.covariance @ column
    own = (parts.scales[0] * 0.01) ** 2 + (parts.scales[1] * 0.02) ** 2
    assert taken.err[at] == pytest.approx(np.sqrt(fitted + own), rel=1e-5)
    assert (told.poisson[at], told.flat[at]) == (pytest.approx(own), pytest.approx(fitted))
    assert np.isnan([taken.sci[5, 7], taken.err[5, 7], told.flat[5, 7]]).all()
    assert (taken.dq[5, 7], taken.dq[at]) == (4 | DO_NOT_USE, 4)


def test_the_errors_are_those_of_many_exposures():
    """Of the mean of the model, whose scale and offset apart are far less certain."""
    pulls = []
    for seed in range(25):
        found = fit(planes([33, seed], profile=0.05)[0], options=model("+offset"))
        truth = 0.9 * shapes(SHAPE)[0] + 0.05
        level = level_of(found, shapes(SHAPE)[0])
        pulls.append((level - truth).mean() / found.model.fit.level_err)
    assert np.mean(pulls) == pytest.approx(0, abs=0.8)
    assert np.std(pulls) == pytest.approx(1, abs=0.4)


def test_spectra_that_no_one_lists_keep_their_light():
    """A small instance of the guards in docs/wfss_recovery.md."""
    rng = np.random.default_rng(34)
    given, _ = planes(35)
    bare = fit(given, options=model("+profile"))
    noise = float(np.median(given["err"]))
    light = np.zeros(SHAPE, np.float32)
    for row in range(20, 240, 16):
        first = int(rng.integers(0, 170))
        light[row, first : first + 100] = rng.uniform(0.5, 5) * noise
    given["sci"] = given["sci"] + light
    found = fit(given, options=model("+profile"))
    template = given["template"]
    eaten = (level_of(found, template) - level_of(bare, template))[light > 0].sum()
    assert abs(eaten) < 0.015 * light.sum()


def test_light_that_is_predicted_is_taken_off_the_scale_of_a_model_too():
    given, _ = planes(36, profile=0.05)
    predicted = np.zeros(SHAPE, np.float32)
    predicted[:, :] = np.linspace(0, 1, 256, dtype=np.float32)[:, np.newaxis] ** 4
    bright = dict(given, sci=given["sci"] + 0.3 * predicted)
    options = replace(AUTO, mask_from="traces")
    found = fit(bright, options=options, source_light=predicted)
    assert found.model.name == "+offset"
    assert found.robust.share < 1
    level = level_of(found, given["template"])
    truth = 0.9 * given["template"] + 0.05
    assert (level - truth).mean() == pytest.approx(0, abs=0.004)
    assert found.scale == found.model.fit.scales[0]


def test_light_that_is_everywhere_is_no_shape_of_the_sky():
    """Nine strips in ten hold light: the image alone does not tell it from an offset."""
    given, _ = planes(38)
    rng = np.random.default_rng(39)
    light = rng.exponential(0.1, (SHAPE[0], 1)) * np.linspace(2, 0, SHAPE[1])
    dense = dict(given, sci=(given["sci"] + light).astype(np.float32))
    blind = replace(AUTO, mask_from="image")
    found = fit(dense, options=blind)
    assert fit(dense).model.name != "template"
    assert found.model.name == "template"
    assert "the light of sources is everywhere" in found.model.reason
    assert replace(found, model=None) == fit(dense, options=replace(blind, model="template"))


# Through the step.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sky of a scaled template and an offset, and the template."""
    monkeypatch.chdir(tmp_path)
    given, _ = planes(37, profile=0.05)
    grism_template(given["template"], at=(0, 0)).save("bkg.fits")
    target = make_model(given["sci"], given["err"], at=(0, 0), meta=GRISM)
    target.var_rnoise, target.var_poisson = given["var_rnoise"], given["var_poisson"]
    save(target, tmp_path / "g_rate.fits")
    return tmp_path


def test_through_strun_and_the_command_in_processes_of_their_own(folder):
    binaries = Path(sys.executable).parent
    given = ["--override_bkg=bkg.fits", "--wfss_method=robust", "--wfss_model=auto"]
    strun = [binaries / "strun", "webbkg", "g_rate.fits", *given, "--output_dir=by_strun"]
    (folder / "by_strun").mkdir()
    subprocess.run(strun, check=True, capture_output=True, timeout=120)
    command = [binaries / "webbkg", "subtract", "g_rate.fits", "--json"]
    command += ["--override-bkg=bkg.fits", "--wfss-method=robust", "--wfss-model=auto"]
    told = subprocess.run(
        [*command, "-o", "by_command"], check=True, capture_output=True, timeout=120
    )
    (product,) = (folder / "by_strun").glob("g_*.fits")
    (other,) = (folder / "by_command").glob("g_*.fits")
    with fits.open(product) as one, fits.open(other) as two:
        np.testing.assert_array_equal(one["SCI"].data, two["SCI"].data)
        assert abs(np.median(one["SCI"].data)) < 0.003
        history = " ".join(one[0].header["HISTORY"])
    assert "model +offset" in history
    details = json.loads(told.stdout)[0]["details"]
    assert details["model"] == "+offset"
    assert details["profile"] == [pytest.approx(0.05, abs=0.02)]
    assert [one["name"] for one in details["model_trials"]] == ["template", "+offset", "+profile"]


BITS = """
from test_wfss_model import *
import test_wfss_robust as robust
sky = exposure((400, 512), 3, scales=(0.6, 0.3), profile=0.04 * np.sin(np.arange(512) / 60))
found = models.fit_model(sky, common(sky), "+profile").fit
print(found.scales, found.free.tolist(), found.covariance.sum())
print(robust.fit(robust.struck(5)).scale)
"""


def test_the_same_to_the_last_bit_for_any_threads_of_the_linear_algebra():
    """In processes of their own, as workers with other settings are."""
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    told = []
    for threads in ("1", "4"):
        settings = {"PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", BITS],
            env={**os.environ, **settings},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        told.append(done.stdout)
    assert told[0] == told[1] != ""
