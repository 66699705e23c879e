"""The robust scale of a reference sky: the model's noise, strips along dispersion, its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_wfss as reference
from webbkg.errors import OptionError
from webbkg.options import WfssOptions
from webbkg.results import Status, StopReason
from webbkg.wfss import robust, strips, tails
from webbkg.wfss.fit import fit_scale
from webbkg.wfss.noise import Noise

ROBUST = WfssOptions(method="robust")
PER_SIGNAL = 1 / 400
READ = 0.02
SCALE = 0.7


def exposure(shape=(150, 200), seed=1, *, along_x=True):
    """A sky with photon and read noise, unlisted spectra, cosmic rays and all sorts of bad pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape) / np.max(shape)
    template = (0.5 + columns + 0.3 * rows**2).astype(np.float32)
    light = SCALE * template
    light[20:23, 40:140] += 0.2
    light[3 * shape[0] // 5, 10:] += 0.05
    read = rng.uniform(0.8, 1.2, shape).astype(np.float32) * np.float32(READ**2)
    sci = rng.poisson(light / PER_SIGNAL) * PER_SIGNAL + np.sqrt(read) * rng.standard_normal(shape)
    struck = rng.random(shape) < 0.005
    sci[struck] += rng.exponential(2, struck.sum())
    sci = sci.astype(np.float32)
    photons = (PER_SIGNAL * np.maximum(sci, 0)).astype(np.float32)
    planes = {
        "sci": sci,
        "err": np.sqrt(photons + read),
        "dq": np.zeros(shape, np.uint32),
        "template": template,
        "template_dq": np.zeros(shape, np.uint32),
        "sky_mask": np.ones(shape, bool),
        "var_rnoise": read,
        "var_poisson": photons,
    }
    bad = rng.random((8, *shape)) < 0.003
    sci[bad[0]], sci[bad[1]] = np.nan, np.inf
    planes["err"][bad[2]] = 0
    template[bad[3]] = np.nan
    planes["dq"][bad[4]], sci[bad[4]] = 1, 1e6
    planes["template_dq"][bad[5]] = 1
    read[bad[6]], read[bad[7]] = np.nan, -1
    planes["sky_mask"][:, 60:80] = False
    if along_x:
        return planes
    return {name: np.ascontiguousarray(plane.T) for name, plane in planes.items()}


def fit(planes, *, along_x=True, threads=2, options=ROBUST):
    axis = 1 if along_x else 2
    return fit_scale(**planes, options=options, dispersion_axis=axis, threads=threads)


def without(planes, *names):
    return {name: plane for name, plane in planes.items() if name not in names}


@pytest.mark.parametrize("along_x", [True, False])
@pytest.mark.parametrize("shape", [(150, 200), (61, 83)])
def test_equals_the_plain_twin(shape, along_x, monkeypatch):
    """Without the search for light in single pixels."""
    monkeypatch.setattr(robust, "LEAST_CLIPPED", 1.0)
    planes = exposure(shape)
    names = ("sci", "err", "dq", "template", "template_dq", "sky_mask")
    used = reference.fit_pixels(*(planes[name] for name in names))
    known = used & np.isfinite(planes["var_poisson"])
    per_signal = float(np.median(planes["var_poisson"][known]))
    per_signal /= float(np.median(planes["sci"][known]))
    read = planes["var_rnoise"]
    scales, marked, white, block = reference.robust_fit(
        planes["sci"], read, per_signal, planes["template"], used
    )
    found = fit(exposure(shape, along_x=along_x), along_x=along_x)
    assert found.status is Status.COMPLETE
    assert found.stopped is StopReason.CONVERGED
    assert [i.scale for i in found.iterations] == pytest.approx(scales, rel=1e-11)
    assert found.robust.white_err == pytest.approx(white, rel=1e-9)
    assert found.robust.block_err == pytest.approx(block, rel=1e-6)
    assert found.robust.per_signal == pytest.approx(per_signal, rel=1e-6)
    assert marked[21].any()  # the spectrum is seen


def test_the_spectrum_and_its_neighbours_are_left_out_and_the_scale_is_right():
    planes = exposure((512, 400), 3)
    found = fit(planes)
    assert found.scale == pytest.approx(SCALE, abs=3 * found.scale_err)
    assert 0.01 < found.robust.marked < 0.2
    assert found.chi2_dof == pytest.approx(1, abs=0.02)
    standard = fit(planes, options=WfssOptions())
    assert abs(standard.scale - SCALE) > 5 * standard.scale_err


@pytest.mark.parametrize("along_x", [True, False])
def test_the_same_to_the_last_bit_for_any_threads(along_x):
    planes = exposure((300, 210), along_x=along_x)
    fits = [fit(planes, along_x=along_x, threads=n) for n in (1, 2, 5)]
    assert fits[0] == fits[1] == fits[2]


def test_the_same_to_the_last_bit_for_any_bands(monkeypatch):
    expected = [fit(exposure((300, 210), along_x=x), along_x=x) for x in (True, False)]
    for module in (robust, tails):
        monkeypatch.setattr(module, "LINES", 16)
    assert [fit(exposure((300, 210), along_x=x), along_x=x) for x in (True, False)] == expected


def test_byte_order_and_layout_do_not_matter_and_nothing_is_changed():
    planes = exposure()
    for plane in planes.values():
        plane.flags.writeable = False
    swapped = {
        name: np.asfortranarray(p.astype(p.dtype.newbyteorder(">"))) for name, p in planes.items()
    }
    assert fit(swapped) == fit(planes)


@given(power=st.integers(-12, 12), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_the_unit_does_not_matter(power, seed):
    """In a unit of 2**power everything scales exactly, and which pixels are fitted does not change."""
    planes = exposure((96, 128), seed)
    unit = np.float32(2.0**power)
    scaled = dict(planes)
    for name, factor in {"sci": unit, "err": unit, "var_rnoise": unit**2}.items():
        scaled[name] = planes[name] * factor
    scaled["var_poisson"] = planes["var_poisson"] * unit**2
    one, other = fit(planes), fit(scaled)
    assert other.scale == pytest.approx(one.scale * unit, rel=1e-12)
    assert other.scale_err == pytest.approx(one.scale_err * unit, rel=1e-9)
    assert other.used == one.used


@given(seed=st.integers(0, 5), far=st.integers(0, 40))
@settings(max_examples=10, deadline=None)
def test_what_is_masked_does_not_matter(seed, far):
    planes = exposure((96, 128), seed)
    planes["sky_mask"][far : far + 30, 20:90] = False
    wild = dict(planes, sci=np.where(planes["sky_mask"], planes["sci"], np.float32(1e4 + seed)))
    assert fit(wild).iterations == fit(planes).iterations


def test_without_variance_planes_err_as_a_function_of_the_template_serves():
    planes = exposure((512, 400), 5)
    by_err, by_planes = fit(without(planes, "var_rnoise", "var_poisson")), fit(planes)
    assert (by_err.robust.noise, by_err.robust.per_signal) == ("ERR", 0)
    assert by_planes.robust.noise == "VAR_RNOISE and VAR_POISSON"
    assert by_err.scale == pytest.approx(by_planes.scale, abs=0.3 * by_planes.scale_err)
    assert by_err.scale_err == pytest.approx(by_planes.scale_err, rel=0.05)


@pytest.mark.parametrize("empty", [np.nan, 0])
def test_variance_planes_that_hold_nothing_are_none(empty):
    planes = exposure()
    planes["var_rnoise"] = np.full_like(planes["var_rnoise"], empty)
    assert fit(planes).robust.noise == "ERR"


def test_a_sky_below_zero_has_no_photon_noise():
    planes = exposure((96, 128))
    planes["sci"] -= 5
    found = fit(planes)
    assert found.robust.per_signal == 0
    assert found.status is Status.COMPLETE


def test_the_jackknife_is_quoted_where_it_is_larger_beyond_chance():
    assert strips.larger_error(1.0, 1.1, 64) == 1.0
    assert strips.larger_error(1.0, 1.3, 64) == 1.3
    assert strips.larger_error(1.0, np.nan, 1) == 1.0


def test_correlated_noise_shows_in_the_error():
    planes = exposure((256, 256), 4)
    slow = np.random.default_rng(2).standard_normal((8, 8)).repeat(32, 0).repeat(32, 1)
    planes["sci"] += (0.01 * slow).astype(np.float32)
    found = fit(planes)
    assert found.scale_err == found.robust.block_err > 3 * found.robust.white_err


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (5, 7), (17, 33)])
def test_small_images(shape):
    planes = [np.ones(shape) for _ in range(4)]
    planes[2][:] = 0
    planes[0] *= 1.25
    found = fit_scale(*planes, options=ROBUST, dispersion_axis=1)
    assert found.scale == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sci", np.nan), ("err", 0), ("template", np.nan), ("dq", 1), ("template", 0)],
)
def test_nothing_to_fit(name, value):
    planes = exposure((40, 50))
    planes[name] = np.full_like(planes[name], value)
    found = fit(planes)
    assert (found.status, found.scale) == (Status.FAILED, 0.0)
    assert found.reason.startswith("no sky pixel is left to fit")


def test_it_needs_an_axis():
    with pytest.raises(
        OptionError, match=r"wfss_method robust needs the dispersion axis.*DISPAXIS"
    ):
        fit_scale(*[np.ones((4, 5))] * 4, options=ROBUST)


def test_a_method_that_does_not_exist():
    with pytest.raises(OptionError, match=r"wfss_method must be standard or robust \(got 'best'\)"):
        WfssOptions(method="best")


def test_variance_planes_of_another_shape():
    planes = exposure((40, 50))
    planes["var_rnoise"] = planes["var_rnoise"][1:]
    with pytest.raises(OptionError, match=r"images of one shape.*var_rnoise \(39, 50\)"):
        fit(planes)


def test_the_standard_method_does_not_look_at_the_variances():
    planes = exposure()
    standard = WfssOptions()
    assert fit(planes, options=standard) == fit(
        without(planes, "var_rnoise", "var_poisson"), options=standard
    )
    assert fit(planes, options=standard).robust is None


def sky(seed, *, electrons=60.0, read=9.0, shape=(256, 256)):
    """A short exposure of a faint sky, in electrons, with the pipeline's ERR."""
    rng = np.random.default_rng(seed)
    template = np.linspace(0.8, 1.2, shape[1], dtype=np.float32) * np.ones(shape, np.float32)
    sci = rng.poisson(electrons * template) + read * rng.standard_normal(shape)
    photons = np.maximum(sci, 0).astype(np.float32)
    return {
        "sci": sci.astype(np.float32),
        "err": np.sqrt(photons + np.float32(read**2)),
        "dq": np.zeros(shape, np.uint32),
        "template": template,
        "var_rnoise": np.full(shape, read**2, np.float32),
        "var_poisson": photons,
    }


def test_no_bias_where_the_standard_fit_has_one():
    """A small instance of the study in docs/wfss_recovery.md."""
    pulls = {"standard": [], "robust": []}
    for seed in range(60):
        planes = sky([11, seed])
        for method, found in pulls.items():
            one = fit(planes, options=WfssOptions(method=method), threads=1)
            found.append((one.scale - 60) / one.scale_err)
    assert np.mean(pulls["standard"]) < -10
    assert np.mean(pulls["robust"]) == pytest.approx(0, abs=3 / np.sqrt(60))
    assert np.std(pulls["robust"]) == pytest.approx(1, abs=0.25)


def test_one_sided_marks_would_bias_a_pure_sky():
    """Both ends leave: of pure noise as much on either side."""
    rng = np.random.default_rng(6)
    ones = np.ones((600, 128))
    sums = strips.StripSums(ones, rng.standard_normal(ones.shape), ones, ones)
    marked = strips.mark(sums, strips.measure_scatters(sums))
    assert 0.01 < marked.mean() < 0.04
    # Its standard error is some 0.004.
    assert sums.cross[~marked].mean() - sums.cross.mean() == pytest.approx(0, abs=0.003)


def test_skew_noise_is_not_biased_by_the_marks():
    rng = np.random.default_rng(7)
    shape, pixels, mean = (4000, 256), 16, 4.0
    noise = (rng.poisson(mean * pixels, shape) - mean * pixels) / np.sqrt(mean * pixels)
    ones = np.ones(shape)
    sums = strips.StripSums(ones, noise, ones, np.full(shape, float(pixels)))
    scatters = {1: 1.0}
    shifts = [
        noise[~strips.mark(sums, scatters, skew)].mean() - noise.mean()
        for skew in (0.0, mean**-0.5)
    ]
    assert shifts[0] < -0.003
    assert abs(shifts[1]) < 0.0012


# Light in single pixels.


def struck(seed, share=0.02, shape=(256, 256)):
    """A sky whose pixels are hit: what they gain is mostly far above the noise, but not all of it."""
    planes = sky(seed, shape=shape)
    rng = np.random.default_rng([seed, 1])
    hit = rng.random(shape) < share
    gain = rng.exponential(100.0, shape)
    planes["sci"] += np.where(hit, gain, 0).astype(np.float32)
    return planes


def test_light_in_single_pixels_is_told_from_the_sky(monkeypatch):
    """Its share and what it adds are told; the clip alone leaves a bias."""
    bias = {}
    for least in (robust.LEAST_CLIPPED, 1.0):
        monkeypatch.setattr(robust, "LEAST_CLIPPED", least)
        found = [fit(struck(seed), threads=1) for seed in range(25)]
        bias[least] = np.mean([(one.scale - 60) / one.scale_err for one in found])
        if least < 1:
            assert all(one.robust.tail_share == pytest.approx(0.02, rel=0.3) for one in found)
            assert np.mean([one.robust.tail_light for one in found]) > 0
    assert bias[1.0] > 1
    assert abs(bias[1e-4]) < 0.6


def test_a_sky_without_light_is_not_looked_at():
    assert fit(sky(3)).robust.tail_share == 0


@pytest.mark.parametrize("along_x", [True, False])
def test_residuals_are_counted_as_plainly(along_x):
    """Against NumPy, with marked strips, NaN and all sorts of pixels."""
    planes = exposure((61, 83))
    read, template = planes["var_rnoise"], planes["template"]
    values = np.where(planes["sky_mask"] & np.isfinite(planes["sci"]), planes["sci"], np.nan)
    values = values.astype(np.float32)
    marks = np.random.default_rng(5).random((61, 6)) < 0.2
    out = np.repeat(marks, 16, axis=1)[:, :83]
    expected = SCALE * template.astype(float)
    with np.errstate(invalid="ignore"):
        noise = np.sqrt(read.astype(float) + PER_SIGNAL * np.maximum(expected, 0))
        z = (values - expected) / noise
    good = np.isfinite(z) & (read >= 0) & ~out
    place = np.floor((z[good] - tails.LOW) / tails.BIN).astype(int)
    slope = (template.astype(float) / noise)[good]
    inside = (place >= 0) & (place < tails.BINS)
    plain = [
        np.bincount(place[inside], weight[inside], tails.BINS)
        for weight in (np.ones(slope.size), slope, slope**2)
    ]
    images = [np.ascontiguousarray(one if along_x else one.T) for one in (values, template, read)]
    modelled = images[0], images[1], Noise(images[2], PER_SIGNAL, PER_SIGNAL, "given")
    marks = np.ascontiguousarray(marks if along_x else marks.T)
    found = tails._histogram(modelled, SCALE, marks, along_x=along_x, threads=2)
    np.testing.assert_array_equal(found[0], plain[0])
    np.testing.assert_allclose(found[1:], plain[1:], rtol=1e-9)


def test_the_weights_are_those_of_the_greatest_likelihood():
    """As EM, which cannot miss it but takes long, finds them."""
    rng = np.random.default_rng(6)
    z = rng.standard_normal(40_000)
    z[:4000] += rng.exponential(6, 4000)
    counts = np.histogram(z, tails.LOW + tails.BIN * np.arange(tails.BINS + 1))[0].astype(float)
    components = tails._components(1.0, 0.0)
    start = np.full(len(components), 1 / len(components))
    found = tails._weigh(counts / counts.sum(), components, start)
    by_em = start
    for _ in range(3000):
        by_em = by_em * (components @ (counts / np.maximum(by_em @ components, 1e-300)))
        by_em /= by_em.sum()
    likelihoods = [counts @ np.log(np.maximum(w @ components, 1e-300)) for w in (found, by_em)]
    assert found.sum() == pytest.approx(1)
    assert likelihoods[0] >= likelihoods[1] - 0.01
    assert found[0] == pytest.approx(0.9, abs=0.02)


def test_results_compare_and_print():
    found = fit(exposure((96, 128)))
    assert found == replace(found)
    assert "robust=RobustFit(...)" in repr(found)
