"""Templates of the user's own: scaled, subtracted, recorded; what cannot be used is told."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

import webbkg
from factories import GRISM, IMAGING, SOSS, make_model, save
from webbkg.errors import InputError, MismatchError, MissingFileError, OptionError
from webbkg.numerics.flatfield import flat_variance
from webbkg.options import TemplateOptions
from webbkg.results import Status
from webbkg.template import kernels
from webbkg.template.fit import Image, scale_templates, smooth_level, sum_cells
from webbkg.template.noise import Noise, model_noise
from webbkg.template.solve import CellSums, non_negative, solve

SHAPE = (200, 168)
NOISE = 0.02
AT = (300, 500)
"""First column and row of the target on the detector."""


def wisps(shape=SHAPE):
    """Draw two ridges that cross, at most 1."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    one = np.exp(-(((rows - 90 - 0.2 * columns) / 14) ** 2) - ((columns - 90) / 60) ** 2)
    other = np.exp(-(((rows - 150 + 0.5 * columns) / 10) ** 2) - ((columns - 60) / 40) ** 2)
    return np.stack([one, other]).astype(np.float32)


def stars(shape=SHAPE, number=12, seed=5):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    light = np.zeros(shape)
    for y, x, peak in zip(
        rng.uniform(0, shape[0], number),
        rng.uniform(0, shape[1], number),
        rng.uniform(0.2, 20, number),
        strict=True,
    ):
        light += peak * (1 + ((rows - y) ** 2 + (columns - x) ** 2) / 4) ** -3.0
    return light


def observed(scales=(0.3, 0.1), sky=0.5, seed=1, shape=SHAPE, sources=True):
    """Add a sky with a slope, wisps, stars, noise and a hot pixel up."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = sky * (1 + 0.05 * columns / shape[1] - 0.03 * (rows / shape[0]) ** 2)
    image += np.tensordot(scales, wisps(shape)[: len(scales)], 1)
    image += stars(shape) if sources else 0
    image += NOISE * rng.standard_normal(shape)
    image[20, 30] = 50
    return image.astype(np.float32)


def variances(shape=SHAPE):
    return np.full(shape, NOISE**2, np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target on a window of NIRISS, and its templates; go there."""
    monkeypatch.chdir(tmp_path)
    target = make_model(observed(), np.full(SHAPE, NOISE), at=AT)
    save(target, tmp_path / "t_rate.fits")
    for name, image in zip(("one.npy", "other.npy"), wisps(), strict=True):
        np.save(name, image)
    return tmp_path


# The method.


def test_sums_of_cells_are_those_of_their_pixels():
    """Against plain sums over the pixels of one cell, with masks, outliers and unknown pixels."""
    shape, rng = (40, 35), np.random.default_rng(2)
    templates = rng.uniform(0, 1, (2, *shape)).astype(np.float32)
    read = rng.uniform(1, 2, shape).astype(np.float32)
    values = (3 + 2 * templates[0] + rng.standard_normal(shape)).astype(np.float32)
    values[20, 20], values[22, 18], templates[1, 3, 3] = np.nan, 99, np.nan
    values[np.isnan(templates[1])] = np.nan
    masked = rng.random((20, 18)) < 0.2
    image = Image(values, templates, Noise(read, 0.5, 0.25), values.size, 6)
    now = np.array([1.5, 0.25, 3.0, 0.1, -0.2, 0.05, 0.3, -0.1])
    sums = sum_cells(image, now, masked, threads=2)
    v, u = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 35), indexing="ij")
    even = np.tensordot(now[2:], [np.ones(shape), u, v, u * u, u * v, v * v], 1)
    expected = even + 1.5 * templates[0] + 0.25 * templates[1].astype(float)
    variance = read + 0.5 + 0.25 * expected
    residual = values - expected
    used = ~np.repeat(np.repeat(masked, 2, 0), 2, 1)[:40, :35]
    used &= residual**2 <= 4.5**2 * variance
    weight = np.where(used, 1 / variance, 0)
    one, other = templates
    terms = [used, weight, weight * residual, weight * residual**2]
    terms += [weight * one, weight * other, weight * one * residual, weight * other * residual]
    terms += [weight * one * one, weight * other * one, weight * other * other]
    for term, expected in enumerate(terms):
        expected = np.where(used, expected, 0)[16:32, 16:32].sum()
        assert sums.sums[1, term, 1] == pytest.approx(expected, rel=1e-6)
    assert sums.sums.shape == (3, kernels.number_of_terms(2), 3)


def test_residuals_are_averaged_in_bins_with_a_limit_to_each_pixel():
    values = np.full((4, 6), 2.0, np.float32)
    values[0, 0], values[0, 2:4], values[1, 2] = 500, np.nan, np.nan
    template, read = np.ones((1, 4, 6), np.float32), np.full((4, 6), 3.0, np.float32)
    model = np.array([0.5]), np.array([1.0, 0, 0, 0, 0, 0]), np.array([1.0, 0.0])
    binned = np.empty((2, 3), np.float32)
    place = np.linspace(-1, 1, 6), np.linspace(-1, 1, 4)
    kernels.bin_residuals(values, template, read, model, place, 6.0, np.empty((3, 6)), binned)
    np.testing.assert_allclose(
        binned, [[(6 + 3 * 0.25) / 4, np.nan, 0.25], [0.25, 0.25, 0.25]], rtol=1e-6
    )


def test_the_level_that_sources_stand_out_from_is_linear_between_tiles():
    rows, columns = np.mgrid[:128, :192].astype(np.float32)
    image = 3 + 0.1 * rows - 0.2 * columns
    image[5:9, 7:11] = 1000
    image[100, :] = np.nan
    level = smooth_level(image)
    inside = np.s_[32:96, 32:160]
    np.testing.assert_allclose(level[inside], (3 + 0.1 * rows - 0.2 * columns)[inside], atol=0.5)


def test_scales_that_may_not_be_negative_are_those_of_scipy():
    from scipy.optimize import nnls

    rng = np.random.default_rng(4)
    for _ in range(20):
        matrix, values = rng.standard_normal((30, 3)), rng.standard_normal(30)
        ours = non_negative(matrix.T @ matrix, matrix.T @ values, 3)
        np.testing.assert_allclose(ours, nnls(matrix, values)[0], atol=1e-12)
    assert non_negative(np.eye(2), np.array([-1.0, -2.0]), 1).tolist() == [0.0, -2.0]


def test_the_fit_without_sources_is_plain_least_squares():
    """With 16 rows a cell is a row of cells: the even sky within them differs by nothing here."""
    rng = np.random.default_rng(3)
    shape = (96, 128)
    template = wisps(shape)[:1]
    sci = (0.5 + 0.3 * template[0] + NOISE * rng.standard_normal(shape)).astype(np.float32)
    options = TemplateOptions(template_sky="level")
    fit, sky = scale_templates(sci, None, template, variances(shape), options=options)
    matrix = np.stack([template[0][sky], np.ones(int(sky.sum()))], axis=1).astype(float)
    expected = np.linalg.lstsq(matrix, sci[sky].astype(float), rcond=None)[0]
    assert sky.mean() > 0.98
    assert fit.scales[0].scale == pytest.approx(expected[0], rel=1e-4)
    assert fit.sky[0] == pytest.approx(expected[1], rel=1e-5)
    white = NOISE * np.sqrt(np.linalg.inv(matrix.T @ matrix)[0, 0])
    assert fit.scales[0].white_err == pytest.approx(white, rel=0.02)


@pytest.mark.parametrize("sky", ["plane", "curved"])
def test_two_templates_are_recovered_under_stars_and_a_sloping_sky(sky):
    options = TemplateOptions(template_sky=sky)
    fit, _ = scale_templates(observed(), None, wisps(), variances(), options=options)
    assert fit.status is Status.COMPLETE
    for one, true in zip(fit.scales, (0.3, 0.1), strict=True):
        assert abs(one.scale - true) < 4 * one.scale_err < 0.02
    assert 0.02 < fit.sources < 0.4
    assert 0.9 < fit.chi2_dof < 1.1
    assert fit.level == pytest.approx(0.5, rel=0.05)


def test_a_template_that_is_not_there_has_no_negative_scale():
    fit, _ = scale_templates(observed((0.3, -0.2)), None, wisps(), variances())
    assert fit.scales[1].scale == 0
    assert fit.scales[1].scale_err > 0


def test_threads_and_bands_do_not_matter_and_nothing_given_is_changed(monkeypatch):
    given = [observed(), np.zeros(SHAPE, np.uint32), wisps(), variances(), variances()]
    copies = [one.copy() for one in given]
    one, other = (scale_templates(*given, threads=threads) for threads in (1, 3))
    monkeypatch.setattr("webbkg.template.fit.LINES", 16)
    third = scale_templates(*given, threads=2)
    assert one.fit == other.fit == third.fit
    np.testing.assert_array_equal(one.sky, other.sky)
    np.testing.assert_array_equal(one.sky, third.sky)
    for before, after in zip(copies, given, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("shape", "terms"), [((14, 200), 1), ((20, 200), 3), ((64, 70), 6)])
def test_an_even_sky_has_no_more_terms_than_the_image_holds(shape, terms):
    columns = np.arange(shape[1])
    template = np.broadcast_to(np.exp(-(((columns - 30) / 9) ** 2)), shape)
    noise = NOISE * np.random.default_rng(4).standard_normal(shape)
    sci = 0.5 + 0.2 * template + noise
    fit, _ = scale_templates(sci, None, template[np.newaxis], variances(shape))
    assert len(fit.sky) == terms
    assert abs(fit.scales[0].scale - 0.2) < 4 * fit.scales[0].scale_err < 0.05


def test_values_beyond_all_sums_are_a_reason():
    sci = np.full(SHAPE, 3e38, np.float32)
    fit, _ = scale_templates(sci, None, wisps(), np.full(SHAPE, 1e-45, np.float32))
    assert fit.status is Status.FAILED


def test_flagged_pixels_are_not_fitted():
    sci, dq = observed(sources=False), np.zeros(SHAPE, np.uint32)
    dq[:100] = 1
    sci[:100] = 7
    fit, sky = scale_templates(sci, dq, wisps(), variances())
    assert not sky[:100].any()
    assert fit.offered == 100 * SHAPE[1]
    assert abs(fit.scales[0].scale - 0.3) < 5 * fit.scales[0].scale_err


def test_noise_follows_the_model_by_the_slope_of_the_photons():
    """Also where the sky was taken off before: its photons stay."""
    rng = np.random.default_rng(1)
    true = rng.uniform(1, 3, (50, 60)).astype(np.float32)
    read, photons = np.full(true.shape, 0.5, np.float32), 0.25 * true
    found = model_noise(read, photons, true - 2, np.arange(true.size))
    assert found.per_signal == pytest.approx(0.25, rel=1e-5)
    assert found.base == pytest.approx(0.5, rel=1e-5)
    alone = model_noise(read + photons, None, true, np.arange(true.size))
    assert not alone.read.any()
    assert alone.base == pytest.approx(0.5, rel=1e-5)


CONSTANT = np.ones(SHAPE, np.float32)
HOPELESS = {
    "template 2 is a combination": (observed(), wisps()[[0, 0]]),
    "template 1 is as even as the sky": (observed(), CONSTANT[np.newaxis]),
    "template 1 is 0": (observed(), np.zeros((1, *SHAPE))),
    "only 0 pixels": (np.full(SHAPE, np.nan), wisps()),
}


@pytest.mark.parametrize("reason", HOPELESS)
def test_no_scale_for_a_reason(reason):
    sci, templates = HOPELESS[reason]
    fit, _ = scale_templates(sci, None, templates, variances())
    assert fit.status is Status.FAILED
    assert reason in fit.reason


def test_all_left_out_is_a_reason():
    sums = CellSums(np.zeros((2, kernels.number_of_terms(1), 2)), 1, 1, (32, 32))
    assert "only 0 pixels are left to fit" in solve(sums, np.zeros(2), 1)


def test_planes_of_other_shapes_are_refused():
    with pytest.raises(OptionError, match="one shape"):
        scale_templates(observed(), None, wisps()[:, 1:], variances())


def test_a_stated_error_of_the_flat_enters_the_error():
    quoted = {}
    for error in (0.0, 0.02):
        options = TemplateOptions(flat_error=error, flat_length=60)
        fit, _ = scale_templates(observed(), None, wisps(), variances(), options=options)
        quoted[error] = fit.scales[0]
    assert quoted[0.0].flat_err == 0
    assert quoted[0.02].flat_err > 2 * quoted[0.0].scale_err
    together = np.hypot(quoted[0.0].scale_err, quoted[0.02].flat_err)
    assert quoted[0.02].scale_err == pytest.approx(together)


def test_the_variance_by_a_flat_is_that_of_its_pixels():
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((12, 20))
    rows, columns = (axis.reshape(-1) for axis in np.mgrid[:12, :20])
    apart = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    expected = pixels.reshape(-1) @ np.exp(-apart / 7.0**2) @ pixels.reshape(-1)
    assert flat_variance(pixels, (1, 1), 7.0) == pytest.approx(expected)
    even = np.repeat(np.repeat(rng.standard_normal((3, 5)), 4, 0), 4, 1)
    cells = even.reshape(3, 4, 5, 4).sum(axis=(1, 3))
    expected = flat_variance(even, (1, 1), 7.0)
    assert flat_variance(cells, (4, 4), 7.0) == pytest.approx(expected)


# From file to file.


def test_the_three_ways_in_give_the_same_product(folder):
    given = {"template": ["one.npy", "other.npy"], "template_region": [320, 460, 510, 690]}
    done = webbkg.subtract("t_rate.fits", **given, suffix="call")
    assert done.status == "COMPLETE"
    step = webbkg.BackgroundStep.call("t_rate.fits", **given)
    bin_ = Path(sys.executable).parent
    text = "--template=one.npy,other.npy"
    command = [bin_ / "webbkg", "subtract", "t_rate.fits", text, "--json", "--suffix=command"]
    command += ["--template-region", "320,460,510,690"]
    told = subprocess.run(command, check=True, capture_output=True)
    strun = [bin_ / "strun", "webbkg", "t_rate.fits", text, "--template_region=320,460,510,690"]
    subprocess.run([*strun, "--suffix=strun"], check=True, capture_output=True)
    told = json.loads(told.stdout)[0]
    assert told["details"]["templates"] == ["one.npy", "other.npy"]
    with (
        datamodels.open("t_command.fits") as command,
        datamodels.open("t_strun.fits") as strun,
    ):
        for other in (step, command, strun):
            for plane in ("data", "err", "dq", "mask"):
                np.testing.assert_array_equal(getattr(other, plane), getattr(done.product, plane))
            tree = other.meta.background.webbkg.instance
            assert tree == done.product.meta.background.webbkg.instance
    assert tree["scales"][0]["scale"] == told["details"]["scales"][0]["scale"]
    assert tree["region"] == [320, 460, 510, 690]


def test_what_was_done_is_told(folder):
    done = webbkg.subtract("t_rate.fits", template="one.npy,other.npy", propagate_errors=True)
    fit = done.outcome.result.fit
    expected = np.tensordot([one.scale for one in fit.scales], wisps(), 1)
    np.testing.assert_allclose(done.product.data, observed() - expected, atol=1e-6)
    assert done.metrics.verdict == "good"
    assert abs(done.metrics.level) < NOISE / 10
    assert done.product.mask.shape == SHAPE
    history = " ".join(
        str(entry["description"]) for entry in done.product.instance["history"]["entries"]
    )
    assert "one.npy" in history
    assert "scale_err" in history
    ridge = done.background.sci > 0.2
    assert np.all(done.product.err[ridge] > NOISE)
    common = done.outcome.propagated.common["scale"]
    assert 0 < common < 0.1
    alone = webbkg.subtract("t_rate.fits", template="one.npy").product
    assert alone.meta.background.scaling_factor == pytest.approx(0.3, rel=0.1)


def test_the_sky_is_subtracted_too_if_that_is_asked_for(folder):
    done = webbkg.subtract("t_rate.fits", template="one.npy", template_subtract_sky=True)
    assert abs(np.median(done.product.data)) < NOISE / 2
    assert done.background.sci.min() > 0.4
    assert done.metrics.find("gradient_rows") is not None


def test_the_page_tells_the_parameters_of_templates(folder):
    webbkg.BackgroundStep.call(
        "t_rate.fits", template=["one.npy"], save_results=True, save_report=True
    )
    (page,) = folder.glob("*_report.html")
    assert "template_subtract_sky" in page.read_text()
    assert "match_background" not in page.read_text()


def test_a_full_frame_is_cut_to_the_target_and_unknown_pixels_stay(folder):
    full = np.zeros((2048, 2048))
    rows, columns = slice(AT[1], AT[1] + SHAPE[0]), slice(AT[0], AT[0] + SHAPE[1])
    full[rows, columns] = wisps()[0]
    full[AT[1] + 90, AT[0] + 10] = np.nan
    np.save("full.npy", full)
    done = webbkg.subtract("t_rate.fits", template="full.npy")
    same = webbkg.subtract("t_rate.fits", template="one.npy")
    ours, theirs = done.outcome.result.fit.scales[0], same.outcome.result.fit.scales[0]
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-3)
    assert done.product.data[90, 10] == observed()[90, 10]
    assert done.product.dq[90, 10] == 0
    assert done.outcome.result.pixels_unknown == 1


def test_a_reference_with_a_window_of_its_own_is_cut(folder):
    larger = np.zeros((SHAPE[0] + 30, SHAPE[1] + 40), np.float32)
    larger[10:-20, 15:-25] = wisps()[0]
    model = make_model(larger, at=(AT[0] - 15, AT[1] - 10))
    save(model, folder / "reference.fits")
    done = webbkg.subtract("t_rate.fits", template="reference.fits")
    same = webbkg.subtract("t_rate.fits", template="one.npy")
    assert done.outcome.result.fit.scales[0].scale == same.outcome.result.fit.scales[0].scale
    save(make_model(larger, at=(0, 0)), folder / "elsewhere.fits")
    with pytest.raises(InputError, match=r"elsewhere\.fits: does not suit t_rate\.fits"):
        webbkg.subtract("t_rate.fits", template="elsewhere.fits")
    other = make_model(larger, at=(AT[0] - 15, AT[1] - 10), meta={**IMAGING, **GRISM})
    save(other, folder / "nircam.fits")
    with pytest.raises(MismatchError, match="instrument of this template is NIRCAM"):
        webbkg.subtract("t_rate.fits", template="nircam.fits")


def test_another_filter_and_a_template_that_is_not_there_are_warned_of(folder):
    other = make_model(wisps()[0], at=AT, meta__instrument__filter="F150W")
    save(other, folder / "f150w.fits")
    np.save("dark.npy", -wisps()[1])
    done = webbkg.subtract("t_rate.fits", template=["f150w.fits", "dark.npy"])
    told = "\n".join(done.outcome.warnings)
    assert "the filter of this template is F150W, that of t_rate.fits is F200W" in told
    assert "nothing of template dark.npy was found" in told


def test_a_whole_sky_beside_an_even_one_is_warned_of_and_fitted_alone(folder):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = 1 + 0.02 * np.sin(columns / 9) * np.cos(rows / 7)
    np.save("sky.npy", sky)
    image = 0.5 * sky + stars() + NOISE * np.random.default_rng(8).standard_normal(SHAPE)
    target = make_model(image, np.full(SHAPE, NOISE), at=AT)
    beside = webbkg.subtract(target, template="sky.npy")
    assert "fit it alone (template_sky = none)" in beside.outcome.warnings[0]
    alone = webbkg.subtract(target, template="sky.npy", template_sky="none")
    assert alone.outcome.warnings == ()
    for done, error in ((beside, 0.05), (alone, 0.001)):
        one = done.outcome.result.fit.scales[0]
        assert abs(one.scale - 0.5) < 4 * one.scale_err < 4 * error
    assert abs(np.median(alone.product.data)) < NOISE / 5
    assert alone.metrics.verdict == "good"


def test_the_fit_may_be_confined_and_the_subtraction_is_not(folder):
    """What spoils the fit lies outside the region, which is told on the detector, from 1."""
    sci = observed()
    sci[150:] += 5 * wisps()[0][90:140].max() * np.linspace(0, 1, SHAPE[1]) ** 8
    target = make_model(sci, np.full(SHAPE, NOISE), at=AT)
    region = (AT[0] + 1, AT[0] + SHAPE[1], AT[1] + 1, AT[1] + 150)
    done = webbkg.subtract(target, template="one.npy,other.npy", template_region=region)
    fit = done.outcome.result.fit
    assert fit.offered == 150 * SHAPE[1]
    assert abs(fit.scales[0].scale - 0.3) < 5 * fit.scales[0].scale_err
    assert not done.outcome.sky_mask[150:].any()
    assert done.background.sci[151:].max() > 0.01


BAD = {
    "no file one.np ": (MissingFileError, {"template": "one.np"}),
    "did you mean one.npy": (MissingFileError, {"template": "one.np"}),
    "must name at least one file": (OptionError, {"template": []}),
    "no finite pixel": (InputError, {"template": "nan.npy"}),
    "small.npy: the shape of a template must be": (InputError, {"template": "small.npy"}),
    "template must not be given together": (
        OptionError,
        {"template": "one.npy", "backgrounds": "t_rate.fits"},
    ),
    "pixels in common with the target": (
        OptionError,
        {"template": "one.npy", "template_region": (1, 200, 1, 200)},
    ),
    "the first not above the second": (
        OptionError,
        {"template": "one.npy", "template_region": "400,300,500,600"},
    ),
    "x1,x2,y1,y2: whole numbers": (OptionError, {"template": "one.npy", "template_region": "1,2"}),
    "flat_error must be": (OptionError, {"template": "one.npy", "flat_error": -1.0}),
    "flat_length must be": (OptionError, {"template": "one.npy", "flat_length": 0.0}),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_used_is_told(folder, message):
    np.save("nan.npy", np.full(SHAPE, np.nan))
    np.save("small.npy", np.ones((9, 9)))
    kind, given = BAD[message]
    given = dict(given)
    backgrounds = given.pop("backgrounds", None)
    with pytest.raises(kind, match=message):
        webbkg.subtract("t_rate.fits", backgrounds, **given)


def test_targets_that_no_template_suits(folder):
    with pytest.raises(InputError, match="2-D exposure"):
        webbkg.subtract(make_model(np.ones((3, *SHAPE))), template="one.npy")
    with pytest.raises(OptionError, match="must not be given for"):
        webbkg.subtract(make_model(np.ones((3, *SHAPE)), meta=SOSS), template="one.npy")
    bare = make_model(observed(), at=AT)
    bare.err = None
    with pytest.raises(InputError, match="nor an ERR plane"):
        webbkg.subtract(bare, template="one.npy")


@pytest.mark.parametrize("region", [None, (320, 380, 520, 580)])
def test_a_fit_that_fails_says_why_and_leaves_the_target(folder, region):
    np.save("same.npy", 3 * wisps()[0])
    done = webbkg.subtract("t_rate.fits", template="one.npy,same.npy", template_region=region)
    assert done.status == "FAILED"
    assert "template same.npy is a combination of the templates before it" in done.outcome.reason
    assert ("in template_region" in done.outcome.reason) == (region is not None)
    np.testing.assert_array_equal(done.product.data, observed())
    target = make_model(observed(), dq=np.ones(SHAPE), at=AT)
    masked = webbkg.subtract(target, template="one.npy", template_region=region)
    assert masked.status == "FAILED"
    assert "only 0 pixels can be fitted" in masked.outcome.reason


def test_no_product_overwrites_a_template(folder):
    model = make_model(wisps()[0], at=AT)
    save(model, folder / "t_backgroundstep.fits")
    with pytest.raises(webbkg.WebbkgError, match="t_backgroundstep"):
        webbkg.subtract("t_rate.fits", template="t_backgroundstep.fits", output_dir=".")


# Grism exposures.


def grism_target(scales, seed=1, shape=(160, 192)):
    rng = np.random.default_rng(seed)
    skies = grism_skies(shape)
    sci = np.tensordot(scales, skies[: len(scales)], 1) + 0.02 * rng.standard_normal(shape)
    return make_model(sci, np.full(shape, 0.02), at=(100, 200), meta=GRISM), skies


def grism_skies(shape=(160, 192)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    one = 1 + 0.3 * np.sin(columns / 30) * np.cos(rows / 41)
    return np.stack([one, 1 + 0.4 * np.cos(columns / 50 + rows / 70)]).astype(np.float32)


def test_a_grism_s_template_takes_the_reference_s_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target, skies = grism_target((0.7, 0.4))
    for name, sky in zip(("a.npy", "b.npy"), skies, strict=True):
        np.save(name, sky)
    done = webbkg.subtract(target, template="a.npy,b.npy", wfss_method="robust")
    fit = done.outcome.result.fit
    assert done.outcome.result.template == "a.npy, b.npy"
    np.testing.assert_allclose(fit.model.fit.scales, (0.7, 0.4), atol=0.01)
    assert abs(np.median(done.product.data)) < 0.002
    with pytest.raises(OptionError, match="set wfss_method to robust"):
        webbkg.subtract(target, template="a.npy,b.npy")
    region = (101, 292, 201, 300)
    single, _ = grism_target((0.7,))
    single.data[100:] += 5
    confined = webbkg.subtract(single, template="a.npy", template_region=region)
    assert confined.outcome.result.fit.scale == pytest.approx(0.7, abs=0.005)
    assert not confined.outcome.sky_mask[100:].any()


@pytest.mark.parametrize("method", ["standard", "robust"])
def test_a_flat_s_error_enters_that_of_a_grism_s_scale(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    target, skies = grism_target((0.7,))
    np.save("a.npy", skies[0])
    given = {"template": "a.npy", "wfss_method": method}
    plain, stated = (
        webbkg.subtract(target, flat_error=error, flat_length=1e6, **given).outcome.result.fit
        for error in (0.0, 0.01)
    )
    assert stated.scale == plain.scale
    assert stated.flat_err == pytest.approx(0.01 * plain.scale)
    assert stated.scale_err == pytest.approx(np.hypot(plain.scale_err, 0.01 * plain.scale))
    several = {"template": "a.npy,a2.npy", "wfss_method": "robust", "flat_error": 0.01}
    np.save("a2.npy", skies[1])
    told = webbkg.subtract(target, propagate_errors=True, **several)
    assert told.outcome.propagated.common["scale"] > 0.005
