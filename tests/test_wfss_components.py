"""Several templates, and what is free along dispersion, fitted together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_wfss as reference
from webbkg.results import Status, StopReason
from webbkg.wfss import components
from webbkg.wfss.components import Design, Sky, basis, fit_components
from webbkg.wfss.noise import Noise
from webbkg.wfss.robust import Common, Pixels, fit_robust

PER_SIGNAL = 1 / 400
READ = 0.02
SCALES = 0.6, 0.3
NOISE = "given"


def shapes(shape):
    """Two templates: one bends along both axes, the other is a hump along dispersion."""
    rows, columns = np.indices(shape) / np.max(shape)
    one = 0.6 + columns + 0.3 * rows**2
    other = 0.2 + np.exp(-(((columns - 0.4) / 0.1) ** 2))
    return np.array([one, other], np.float32)


def exposure(shape=(160, 200), seed=1, *, scales=SCALES, profile=0.0, sources=True, masked=True):
    """A sky of two templates and a profile along columns, with unlisted light and bad pixels."""
    rng = np.random.default_rng(seed)
    templates = shapes(shape)
    light = np.tensordot(scales, templates, 1) + profile
    if sources:
        light[20:23, 40:140] += 0.2
        light[3 * shape[0] // 5, 10:] += 0.05
    read = rng.uniform(0.8, 1.2, shape).astype(np.float32) * np.float32(READ**2)
    sci = rng.poisson(light / PER_SIGNAL) * PER_SIGNAL + np.sqrt(read) * rng.standard_normal(shape)
    if masked:
        struck = rng.random(shape) < 0.005
        sci[struck] += rng.exponential(2, struck.sum())
        sci[rng.random(shape) < 0.01] = np.nan
        sci[:, 60:80] = np.nan
        templates[1][rng.random(shape) < 0.003] = np.nan
        read[rng.random(shape) < 0.003] = np.nan
    return Sky(sci.astype(np.float32), templates, Noise(read, PER_SIGNAL, PER_SIGNAL, NOISE))


def of_one(sky):
    return sky._replace(templates=sky.templates[:1])


def turned(sky):
    """The same with light dispersed along y."""
    return Sky(
        np.ascontiguousarray(sky.values.T),
        np.ascontiguousarray(sky.templates.transpose(0, 2, 1)),
        Noise(np.ascontiguousarray(sky.noise.read.T), PER_SIGNAL, PER_SIGNAL, NOISE),
    )


def common(sky, *, along_x=True, threads=2):
    offered = int(np.count_nonzero(np.isfinite(sky.values)))
    return Common(offered, offered, along_x, threads)


def fit(sky, freedom=0, *, along_x=True, threads=2, **more):
    return fit_components(sky, common(sky, along_x=along_x, threads=threads), freedom, **more)


@pytest.mark.parametrize("along_x", [True, False])
@pytest.mark.parametrize(("number", "freedom"), [(1, 1), (2, 0), (2, 1), (2, 3)])
def test_equals_the_plain_twin(number, freedom, along_x):
    sky = exposure(scales=SCALES if number == 2 else (0.9, 0.0), profile=0.05 * min(freedom, 1))
    sky = sky if number == 2 else of_one(sky)
    design = Design(number, freedom, 200)
    start = components.first_guess(sky, design, common(sky))
    used = np.isfinite(sky.values) & np.isfinite(sky.templates).all(axis=0)
    passes, marked, white, block, _ = reference.component_fit(
        sky.values,
        sky.noise.read.astype(float),
        PER_SIGNAL,
        sky.templates,
        used,
        freedom,
        start,
        components._skewness(sky, design, start),
    )
    seen = sky if along_x else turned(sky)
    found = fit(seen, freedom, along_x=along_x, start=start)
    assert (found.status, found.stopped) == (Status.COMPLETE, StopReason.CONVERGED)
    assert len(found.iterations) == len(passes)
    assert [*found.scales, *found.free] == pytest.approx(passes[-1], rel=1e-5, abs=1e-7)
    either = [np.allclose(found.covariance, one, rtol=1e-3, atol=1e-12) for one in (white, block)]
    assert any(either)
    assert marked[21].any()  # the spectrum is seen
    assert 0 < found.marked < 0.3


def test_the_splines_are_those_of_de_boor_and_add_up_to_one():
    places = np.array([0.5, 3.0, 77.7, 150.0, 199.5])
    found = basis(places, 200, 7)
    assert found == pytest.approx(reference.splines(places, 200, 7), abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(1)


def test_of_one_template_it_is_the_robust_fit():
    sky = of_one(exposure((256, 256), 2, scales=(0.9, 0.0)))
    found = fit(sky)
    robust = fit_robust(Pixels(sky.values, sky.templates[0], sky.noise), common(sky))
    assert found.scales[0] == pytest.approx(robust.scale, abs=0.1 * robust.scale_err)
    assert found.scale_errs[0] == pytest.approx(robust.scale_err, rel=0.05)


@pytest.mark.parametrize("along_x", [True, False])
def test_the_same_to_the_last_bit_for_any_threads_and_bands(along_x, monkeypatch):
    sky = exposure((300, 210))
    sky = sky if along_x else turned(sky)
    fits = [fit(sky, 3, along_x=along_x, threads=n) for n in (1, 2, 5)]
    monkeypatch.setattr(components, "LINES", 16)
    fits.append(fit(sky, 3, along_x=along_x))
    assert all(one == fits[0] for one in fits)


def test_nothing_is_changed():
    sky = exposure()
    before = [one.copy() for one in (sky.values, sky.templates, sky.noise.read)]
    assert fit(sky, 2).status is Status.COMPLETE
    for one, was in zip((sky.values, sky.templates, sky.noise.read), before, strict=True):
        np.testing.assert_array_equal(one, was)


def test_scales_and_profile_are_right_within_their_errors():
    """A bend of some 5 %, two templates, sources: each coefficient, and their sum."""
    wave = basis(np.arange(400) + 0.5, 400, 4) @ (0.04 * np.array([0, 1, -1, 0, 1, 2, 0]))
    pulls, levels = [], []
    for seed in range(12):
        sky = exposure((300, 400), [3, seed], profile=wave)
        found = fit(sky, 4)
        pulls.append((found.scales[1] - SCALES[1]) / found.scale_errs[1])
        model = np.tensordot(found.scales, shapes((300, 400)), 1) + found.profile
        truth = np.tensordot(SCALES, shapes((300, 400)), 1) + wave
        levels.append((model - truth).mean() / found.level_err)
        assert (model - truth).std() < 0.003
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.5)
    assert np.sqrt(np.mean(np.square(levels))) == pytest.approx(1, abs=0.6)


def test_no_template_is_taken_off_the_others():
    """The second one is not there: its scale is not below 0, and the first is right."""
    zero = 0
    for seed in range(8):
        found = fit(exposure((200, 200), [5, seed], scales=(0.8, 0.0)))
        assert found.scales[1] >= 0
        assert found.scales[0] == pytest.approx(0.8, abs=0.01)
        zero += found.scales[1] == 0
    assert 1 <= zero <= 7


def test_correlated_noise_shows_in_the_error():
    sky = exposure((256, 256), 4)
    slow = np.random.default_rng(2).standard_normal((8, 8)).repeat(32, 0).repeat(32, 1)
    noisy = sky._replace(values=sky.values + (0.02 * slow).astype(np.float32))
    quiet, loud = fit(sky), fit(noisy)
    assert loud.level_err > 2 * quiet.level_err
    assert loud.scale_errs[1] > 2 * quiet.scale_errs[1]


def test_without_strips_only_the_clip_leaves_pixels_out():
    sky = exposure((200, 200), 6, sources=False)
    found = fit(sky, strips_leave=False)
    assert (found.marked, found.scatters) == (0, ())
    assert found.used > 0.95 * np.count_nonzero(np.isfinite(sky.values))
    assert found.scales == pytest.approx(SCALES, abs=0.01)


@given(slope=st.floats(-0.2, 0.5), more=st.floats(-0.2, 0.5), offset=st.floats(-0.3, 0.3))
@settings(max_examples=10, deadline=None)
def test_what_is_added_is_found_again(slope, more, offset):
    """With noise that does not depend on the model the fit is equivariant."""
    sky = exposure((96, 128), 7)
    sky = sky._replace(noise=Noise(sky.noise.read * 6, 0.0, 0.0, NOISE))
    added = slope * sky.templates[0] + more * sky.templates[1] + offset
    one, other = fit(sky, 1), fit(sky._replace(values=(sky.values + added).astype(np.float32)), 1)
    found = np.subtract([*other.scales, *other.free], [*one.scales, *one.free])
    # Where a pixel crosses the clip by rounding, or the passes end elsewhere.
    tolerance = 0.2 * np.sqrt(np.diagonal(one.covariance))
    assert (np.abs(found - [slope, more, offset]) < tolerance).all()


def test_a_constant_template_beside_a_constant():
    sky = of_one(exposure((128, 256), 8, scales=(0, 0), profile=0.9))
    sky = sky._replace(templates=np.ones_like(sky.templates))
    found = fit(sky, 1)
    assert found.status is Status.FAILED
    assert "the template has the shape of a constant: only" in found.reason
    assert fit(sky).scales[0] == pytest.approx(0.9, abs=0.01)


def test_a_template_that_a_spline_can_stand_for():
    """What it comes to is theirs together; the template has what it can have of it."""
    columns = np.arange(512) / 512
    shape = 1 + columns**2
    sky = of_one(exposure((256, 512), 8, scales=(0, 0), profile=0.9 * shape + 0.1 * columns**3))
    sky = sky._replace(templates=np.broadcast_to(np.float32(shape), (1, 256, 512)).copy())
    found = fit(sky, 8)
    assert found.stopped is StopReason.CONVERGED
    model = found.scales[0] * shape + found.profile
    assert model == pytest.approx(0.9 * shape + 0.1 * columns**3, abs=0.005)
    assert abs(found.profile).max() < 0.2
    assert found.level_err < 0.05 * found.scale_errs[0]


def test_two_templates_of_one_shape():
    sky = exposure((128, 200), 9)
    same = np.stack([sky.templates[0], 2 * sky.templates[0]])
    found = fit(sky._replace(templates=same))
    assert found.status is Status.FAILED
    assert "has the shape of the others" in found.reason


@pytest.mark.parametrize("case", ["masked", "template NaN", "template 0", "no variance"])
def test_nothing_to_fit(case):
    sky = exposure((64, 80))
    if case == "masked":
        sky.values[:] = np.nan
    elif case == "no variance":
        sky.noise.read[:] = np.nan
    else:
        sky.templates[1] = np.nan if case == "template NaN" else 0
    found = fit(sky, 1)
    assert found.status is Status.FAILED
    assert found.reason.startswith("no sky pixel is left to fit")


def test_one_block_alone_has_no_jackknife():
    sky = of_one(exposure((256, 256), 10, scales=(0.9, 0.0)))
    values = np.full_like(sky.values, np.nan)
    values[:32, :32] = sky.values[:32, :32]
    found = fit(sky._replace(values=values))
    assert found.status is Status.COMPLETE
    assert np.isnan(found.block_errs[0])
    assert found.scales[0] == pytest.approx(0.9, abs=5 * found.scale_errs[0])


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (5, 7), (17, 33)])
def test_small_images(shape):
    read = np.ones(shape, np.float32)
    template = 1 + np.indices(shape, np.float32).sum(axis=0)[np.newaxis]
    sky = Sky(1.25 * template[0], template, Noise(read, 0.0, 0.0, NOISE))
    assert fit(sky).scales == pytest.approx((1.25,))


def test_places_without_pixels_are_carried_over():
    """A gap wider than the pieces of the spline: it goes on as it came."""
    slope = 0.1 * np.arange(512) / 512
    sky = of_one(exposure((256, 512), 11, scales=(0.9, 0.0), profile=slope, masked=False))
    sky.values[:, 200:300] = np.nan
    found = fit(sky, 32)
    model = found.scales[0] * shapes((256, 512))[0] + found.profile
    truth = 0.9 * shapes((256, 512))[0] + slope
    assert model[:, 200:300] == pytest.approx(truth[:, 200:300], abs=0.03)
