"""The scale of a reference sky."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import reference_wfss as reference
from webbkg.errors import OptionError
from webbkg.numerics import order
from webbkg.numerics.parallel import use_threads
from webbkg.options import WfssOptions
from webbkg.results import ScaleFit, Status, StopReason
from webbkg.wfss import fit_pixels
from webbkg.wfss.fit import fit_scale, scaled_background

SMALL = (61, 83)
LARGE = (600, 700)  # large enough for the percentiles to be bracketed by a sample


def scene(shape, seed=1, *, scale=0.7):
    """A sky with slopes, noise, sources that were not masked, and all sorts of bad pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape) / np.max(shape)
    template = (0.5 + columns + 0.3 * rows**2).astype(np.float32)
    err = rng.uniform(0.05, 0.15, shape).astype(np.float32)
    sci = (scale * template + err * rng.standard_normal(shape)).astype(np.float32)
    sources = rng.random(shape) < 0.02
    sci[sources] += rng.exponential(2, sources.sum()).astype(np.float32)
    dq = np.zeros(shape, np.uint32)
    template_dq = np.zeros(shape, np.uint32)
    sky = np.ones(shape, bool)
    sky[5:20, 10:60] = False
    bad = rng.random((9, *shape)) < 0.004
    sci[bad[0]] = np.nan
    sci[bad[1]] = np.inf
    err[bad[2]] = 0
    err[bad[3]] = np.nan
    err[bad[4]] = np.inf
    template[bad[5]] = np.nan
    dq[bad[6]], sci[bad[6]] = 1, 1e6
    template_dq[bad[7]], template[bad[7]] = 3, -40
    dq[bad[8]] = 4  # a jump, which is no reason to leave a pixel out
    return sci, err, dq, template, template_dq, sky


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("percent", [0.1, 1, 5])
@pytest.mark.parametrize("maxiter", [0, 1, 5])
def test_equals_the_plain_twin(shape, percent, maxiter):
    planes = scene(shape)
    fit = fit_scale(*planes, WfssOptions(maxiter=maxiter, outlier_percent=percent))
    scales, masks, _ = reference.fit(planes, maxiter=maxiter, percent=percent)
    assert fit.status is Status.COMPLETE
    assert [i.scale for i in fit.iterations] == pytest.approx(scales, rel=1e-12)
    assert [i.used for i in fit.iterations] == [mask.sum() for mask in masks]
    expected = reference.least_squares(planes[0], planes[1], planes[3], masks[-1])
    assert (fit.scale, fit.scale_err, fit.chi2_dof) == pytest.approx(expected, rel=1e-10)
    assert fit.offered == masks[0].sum()
    assert fit.rejected == masks[0].sum() - masks[-1].sum()
    last = StopReason.MOST_ITERATIONS if maxiter else StopReason.NO_ITERATIONS
    assert fit.stopped is last


@pytest.mark.parametrize("axis", [1, 2])
def test_rms_stop_equals_the_plain_twin(axis):
    planes = scene(SMALL, 5)
    _, _, rmses = reference.fit(planes, maxiter=6, percent=1, rms_stop=1e-9, dispersion_axis=axis)
    first = 100 * (rmses[0] - rmses[1]) / rmses[0]
    stops = set()
    for rms_stop in (1e-9, 0.99 * first, 1.01 * first, 20):
        options = WfssOptions(maxiter=6, rms_stop=rms_stop)
        fit = fit_scale(*planes, options, dispersion_axis=axis)
        scales, masks, rmses = reference.fit(
            planes, maxiter=6, percent=1, rms_stop=rms_stop, dispersion_axis=axis
        )
        assert [i.scale for i in fit.iterations] == pytest.approx(scales, rel=1e-12)
        assert [i.rms for i in fit.iterations] == pytest.approx(rmses, rel=1e-6)
        assert fit.used == masks[-1].sum()
        stops.add((len(scales), fit.stopped))
    assert (2, StopReason.RMS) in stops  # the rejection before the last fit stands
    assert len(stops) > 1


def test_the_axis_of_the_profile_matters():
    planes = scene(SMALL)
    fits = [fit_scale(*planes, WfssOptions(rms_stop=1), dispersion_axis=a) for a in (1, 2)]
    assert fits[0].iterations[0].rms != pytest.approx(fits[1].iterations[0].rms, rel=1e-3)


def test_lines_without_sky_do_not_enter_the_profile():
    planes = scene(SMALL)
    planes[5][:, 7] = False
    fit = fit_scale(*planes, WfssOptions(rms_stop=1), dispersion_axis=1)
    expected = reference.fit(planes, maxiter=5, percent=1, rms_stop=1, dispersion_axis=1)[2]
    assert [i.rms for i in fit.iterations] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_the_same_to_the_last_bit_for_any_threads(shape, monkeypatch):
    monkeypatch.setattr(fit_pixels, "CHUNK", 4096)
    planes = scene(shape)
    options = WfssOptions(rms_stop=1e-6)
    fits = [fit_scale(*planes, options, dispersion_axis=1, threads=n) for n in (1, 2, 5)]
    assert fits[0] == fits[1] == fits[2]
    with use_threads(3):
        assert fit_scale(*planes, options, dispersion_axis=1) == fits[0]


def test_the_sample_is_proved_right(monkeypatch):
    """No selection from all pixels is needed where the sample is fair."""
    monkeypatch.setattr(order, "percentiles", None)
    assert fit_scale(*scene(LARGE)).status is Status.COMPLETE


def test_a_sample_that_misleads_changes_nothing(monkeypatch):
    """Guards the fallback: a bracket that is too narrow misses the percentiles."""
    planes = scene(LARGE)
    expected = fit_scale(*planes)
    monkeypatch.setattr(order, "SIGMAS", -0.5)
    asked = []
    exact = order.percentiles
    monkeypatch.setattr(order, "percentiles", lambda *a: (asked.append(1), exact(*a))[1])
    fit = fit_scale(*planes)
    assert asked
    assert [i.used for i in fit.iterations] == [i.used for i in expected.iterations]
    assert fit.scale == pytest.approx(expected.scale, rel=1e-13)


def test_ties_are_kept():
    """Quantised residuals: those equal to a limit stay, above and below."""
    rng = np.random.default_rng(2)
    for shape in (SMALL, LARGE):
        template = np.ones(shape, np.float32)
        sci = (1 + rng.integers(-4, 5, shape) / 8).astype(np.float32)
        planes = (sci, template, np.zeros(shape, np.uint32), template, template.astype("u4") * 0)
        planes = (*planes, np.ones(shape, bool))
        fit = fit_scale(*planes, WfssOptions(outlier_percent=5))
        assert fit.iterations[-1].rejected == 0
        assert fit.stopped is StopReason.NOTHING_REJECTED
        assert fit.used == reference.fit(planes, maxiter=5, percent=5)[1][-1].sum()


def test_a_perfect_sky_rejects_nothing_it_should_not():
    template = np.full(LARGE, 2, np.float32)
    fit = fit_scale(1.5 * template, template, np.zeros(LARGE), template)
    assert (fit.scale, fit.used, fit.chi2_dof) == (1.5, template.size, 0)


def test_scale_and_error_are_recovered():
    """Coverage of the standard error, where ERR is true and nothing needs rejecting."""
    pulls = []
    rng = np.random.default_rng(8)
    template = np.linspace(0.2, 2, 64 * 64).reshape(64, 64).astype(np.float32)
    err = np.full((64, 64), 0.3, np.float32)
    for _ in range(200):
        sci = 1.3 * template + err * rng.standard_normal(template.shape)
        fit = fit_scale(
            sci, err, np.zeros(template.shape), template, options=WfssOptions(maxiter=0)
        )
        assert fit.chi2_dof == pytest.approx(1, abs=0.12)
        pulls.append((fit.scale - 1.3) / fit.scale_err)
    assert np.mean(pulls) == pytest.approx(0, abs=0.2)
    assert np.std(pulls) == pytest.approx(1, abs=0.15)


def test_chi_square_of_trimmed_noise():
    """The figure quoted for ScaleFit.chi2_dof."""
    rng = np.random.default_rng(4)
    template = np.ones(LARGE, np.float32)
    sci = template + rng.standard_normal(LARGE)
    fit = fit_scale(sci, template, np.zeros(LARGE), template)
    assert fit.chi2_dof == pytest.approx(0.63, abs=0.01)


# Deliberate differences from jwst 3.0.0


@pytest.mark.parametrize("plane", [2, 4])
def test_pixels_not_to_be_used_stay_out_of_the_fit(plane):
    planes = scene(SMALL)
    wild = np.zeros(SMALL, bool)
    wild[30:50] = True
    planes[plane][wild] |= np.uint32(1)
    planes[0][wild] = 1e5
    planes[3][wild] = 7
    outside = [p.copy() for p in planes]
    outside[5][wild] = False
    assert fit_scale(*planes).iterations == fit_scale(*outside).iterations


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_sci_does_not_bias_the_scale(value):
    planes = scene(SMALL)
    rng = np.random.default_rng(0)
    planes[0][rng.random(SMALL) < 0.1] = value
    assert fit_scale(*planes).scale == pytest.approx(0.7, rel=0.02)


# Enough sky


def sky_of(count, shape=(40, 50)):
    sky = np.zeros(shape, bool)
    sky.flat[:count] = True
    return sky


@pytest.mark.parametrize(("count", "status"), [(100, Status.FAILED), (101, Status.COMPLETE)])
def test_more_than_five_percent_of_sky(count, status):
    ones = np.ones((40, 50))
    fit = fit_scale(ones, ones, 0 * ones, ones, None, sky_of(count), WfssOptions(maxiter=0))
    assert fit.status is status
    assert fit.sky_pixels == count
    if status is Status.FAILED:
        assert fit == ScaleFit(
            status=Status.FAILED,
            reason="only 5.00 % of the pixels are usable sky, more than 5 % are needed",
            sky_pixels=100,
        )


@pytest.mark.parametrize(
    ("plane", "value", "enough"), [(2, 1, False), (3, 0, False), (3, np.nan, True)]
)
def test_which_sky_counts(plane, value, enough):
    """DO_NOT_USE and a template of 0 do not count; a NaN template does, though not fitted."""
    planes = [np.ones((40, 50)) for _ in range(4)]
    planes[2][:] = 0
    planes[plane].flat[:60] = value
    fit = fit_scale(*planes, None, sky_of(120), WfssOptions(maxiter=0))
    assert (fit.status is Status.COMPLETE) is enough
    assert fit.used == (60 if enough else 0)


def test_a_users_mask_may_be_small():
    ones = np.ones((40, 50))
    fit = fit_scale(ones, ones, 0 * ones, ones, None, sky_of(3), user_mask=True)
    assert fit.status is Status.COMPLETE
    nothing = fit_scale(ones, ones, 0 * ones, ones, None, sky_of(0), user_mask=True)
    assert nothing.status is Status.FAILED
    assert nothing.reason == "the sky mask leaves no pixel without DO_NOT_USE"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({3: np.nan}, "no sky pixel has a finite SCI and template"),
        ({0: np.nan}, "no sky pixel has a finite SCI and template"),
        ({1: 0}, "no sky pixel has a finite SCI and template"),
        ({3: 0}, "the template is 0 in every pixel of the fit"),
    ],
)
def test_no_scale(change, reason):
    planes = [np.ones(SMALL) for _ in range(4)]
    planes[2][:] = 0
    for plane, value in change.items():
        planes[plane][:] = value
    fit = fit_scale(*planes, user_mask=True)
    assert (fit.status, fit.scale) == (Status.FAILED, 0.0)
    assert fit.reason.startswith(reason)


def test_rejection_may_leave_nothing():
    """The limits of two pixels lie between them."""
    ones = np.ones((1, 2))
    fit = fit_scale(np.array([[1.0, 2.0]]), ones, 0 * ones, ones)
    assert (fit.status, fit.scale) == (Status.FAILED, 0.0)
    assert fit.reason == "the rejection of outliers left no pixel"


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("percent", [50, 60, 99.9, 100])
def test_rejecting_half_at_each_end_leaves_nothing(shape, percent):
    """Or, of an odd number of pixels, the one in the middle; beyond 50 the limits have crossed."""
    planes = scene(shape)
    if (fit_scale(*planes).offered % 2) == (percent == 50):
        planes[5][0, np.flatnonzero(reference.fit_pixels(*planes)[0])[0]] = False
    fit = fit_scale(*planes, WfssOptions(outlier_percent=percent))
    assert (fit.status, fit.scale) == (Status.FAILED, 0.0)
    assert fit.reason == "the rejection of outliers left no pixel"
    assert fit.iterations[-1].used == 0
    unrejected = fit_scale(*planes, WfssOptions(outlier_percent=percent, maxiter=0))
    assert unrejected.status is Status.COMPLETE


def test_the_pixel_in_the_middle_may_be_left():
    ones = np.ones((1, 3))
    options = WfssOptions(outlier_percent=50)
    fit = fit_scale(np.array([[1.0, 7.0, 2.0]]), ones, 0 * ones, ones, options=options)
    assert (fit.status, fit.scale, fit.used) == (Status.COMPLETE, 2.0, 1)


@pytest.mark.parametrize("maxiter", [-1, -5])
def test_a_negative_number_of_rejections_is_none(maxiter):
    planes = scene(SMALL)
    assert fit_scale(*planes, WfssOptions(maxiter=maxiter)) == fit_scale(
        *planes, WfssOptions(maxiter=0)
    )


@pytest.mark.parametrize(
    ("rms_stop", "fits"), [(-1, 6), (-np.inf, 6), (np.nan, 6), (150, 2), (np.inf, 2)]
)
def test_an_rms_stop_beyond_percentages(rms_stop, fits):
    """Never stops, or after one rejection, as in jwst."""
    fit = fit_scale(*scene(SMALL), WfssOptions(rms_stop=rms_stop), dispersion_axis=1)
    assert len(fit.iterations) == fits
    assert fit.stopped is (StopReason.RMS if fits == 2 else StopReason.MOST_ITERATIONS)


# Bad input


def test_rms_stop_needs_an_axis():
    with pytest.raises(OptionError, match=r"wfss_rms_stop needs the dispersion axis.*DISPAXIS"):
        fit_scale(*scene(SMALL), WfssOptions(rms_stop=1))


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 6), (0, 5)])
def test_shapes_that_do_not_fit(shape):
    image = np.ones((4, 5))
    with pytest.raises(OptionError, match=rf"images of one shape.*sci \({shape[0]}, {shape[1]}"):
        fit_scale(np.ones(shape), image, image, image)


@pytest.mark.parametrize(
    ("option", "value", "constraint"),
    [
        ("outlier_percent", 100.5, "wfss_outlier_percent must be a number from 0 to 100"),
        ("outlier_percent", -0.1, "wfss_outlier_percent must be a number from 0 to 100"),
        ("outlier_percent", np.nan, "wfss_outlier_percent must be a number from 0 to 100"),
    ],
)
def test_options_out_of_range(option, value, constraint):
    with pytest.raises(OptionError, match=rf"{constraint}.*got {value}"):
        WfssOptions(**{option: value})


def test_arguments_stay_as_they_are():
    planes = scene(LARGE)
    for plane in planes:
        plane.flags.writeable = False
    before = [plane.copy() for plane in planes]
    fit_scale(*planes, WfssOptions(rms_stop=1), dispersion_axis=2)
    for plane, copy in zip(planes, before, strict=True):
        np.testing.assert_array_equal(plane, copy)


def test_byte_order_and_layout_do_not_matter():
    planes = scene(SMALL)
    swapped = [np.asfortranarray(p.astype(p.dtype.newbyteorder(">"))) for p in planes]
    assert fit_scale(*swapped) == fit_scale(*planes)


def test_memory_is_one_image():
    planes = scene((2048, 2048))
    fit_scale(*planes)
    tracemalloc.start()
    fit_scale(*planes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20


# The scaled template


def test_the_scaled_template_and_its_error():
    template = np.array([[1, 2, np.nan], [np.inf, 0, -4]], np.float32)
    template_err = np.array([[0.5, 0, 1], [1, 3, np.nan]], np.float32)
    flags = np.array([[0, 4, 2], [1, 0, 8]], np.uint32)
    fit = ScaleFit(status=Status.COMPLETE, scale=-0.5, scale_err=0.1)
    background = scaled_background(template, template_err, flags, fit)
    np.testing.assert_array_equal(background.sci, [[-0.5, -1, np.nan], [np.nan, 0, 2]])
    expected = [[np.hypot(0.25, 0.1), 0.2, np.nan], [np.nan, 1.5, np.nan]]
    np.testing.assert_allclose(background.err, expected, rtol=1e-7)
    np.testing.assert_array_equal(background.dq, [[0, 4, 3], [1, 0, 8]])
    assert background.covered.all()
    assert (background.sci.dtype, background.dq.dtype) == (np.float32, np.uint32)


def test_a_template_without_error_or_flags():
    fit = ScaleFit(status=Status.COMPLETE, scale=2, scale_err=0.25)
    background = scaled_background(np.array([[4.0, -4.0]]), None, None, fit)
    np.testing.assert_array_equal(background.err, [[1, 1]])
    assert not background.dq.any()


def test_a_failed_fit_is_not_applied():
    fit = ScaleFit(status=Status.FAILED, reason="too little sky")
    with pytest.raises(OptionError, match=r"must be COMPLETE.*FAILED: too little sky"):
        scaled_background(np.ones((2, 2)), None, None, fit)
