"""Crowded grism fields: predicted light, the cleanest pixels, the image alone; and through the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from factories import GRISM, grism_sky, grism_template, make_model, save
from webbkg import BackgroundStep
from webbkg.errors import OptionError
from webbkg.options import WfssOptions
from webbkg.results import SourceCatalog, Status
from webbkg.wfss import robust
from webbkg.wfss.fit import fit_scale
from webbkg.wfss.mixture import fit_mixture
from webbkg.wfss.predict import predict_light
from webbkg.wfss.traces import OrderLimits

SHAPE = (256, 320)
SCALE, ELECTRONS, READ = 0.8, 300.0, 0.02
FIRST = (OrderLimits(1, 1.0, 2.0),)


def transform(ra, dec, wavelength, order):
    """One pixel a degree, and 100 pixels a micrometre."""
    return ra + 100 * order * (wavelength - 1.5), dec + 2 * (wavelength - 1.5)


def catalog(x, y, magnitude, half=2.0):
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    ra = np.stack([x - half, x + half, x - half, x + half])
    dec = np.stack([y - half, y - half, y + half, y + half])
    return SourceCatalog(ra, dec, np.broadcast_to(np.asarray(magnitude, float), x.shape).copy())


def turned(ra, dec, wavelength, order):
    return transform(ra, dec, wavelength, order)[::-1]


def test_the_light_of_a_source_lies_along_its_trace():
    light = predict_light(catalog([150], [90], [27.5]), transform, FIRST, SHAPE, dispersion_axis=1)
    assert light.dtype == np.float32
    assert light.sum() == pytest.approx(1, rel=1e-4)  # all of it is on the image
    rows, columns = np.nonzero(light > 1e-9)
    assert (columns.min(), columns.max()) == (97, 202)  # as long as it, and as its source is wide
    assert (rows.min(), rows.max()) == (84, 96)
    assert light[90, 150] == light[:, 150].max()
    assert light[88:93, 150].sum() > 0.75 * light[:, 150].sum()
    along_y = predict_light(
        catalog([150], [90], [27.5]), turned, FIRST, SHAPE[::-1], dispersion_axis=2
    )
    np.testing.assert_array_equal(along_y, light.T)


def test_light_follows_magnitude_and_order():
    two = (OrderLimits(1, 1.0, 2.0), OrderLimits(2, 1.0, 2.0))
    sources = catalog([150, 160], [40, 200], [27.5, 25.0])
    light = predict_light(sources, transform, two, SHAPE, dispersion_axis=1)
    faint, bright = light[:120].sum(), light[120:].sum()
    assert bright / faint == pytest.approx(10, rel=1e-4)
    assert faint == pytest.approx(1.1, rel=1e-3)


def test_a_source_without_magnitude_counts_as_the_brightest():
    sources = catalog([150, 160], [40, 200], [np.nan, 25.0])
    light = predict_light(sources, transform, FIRST, SHAPE, dispersion_axis=1)
    assert light[:120].sum() == pytest.approx(light[120:].sum(), rel=1e-4)
    alone = predict_light(catalog([150], [90], [np.nan]), transform, FIRST, SHAPE)
    assert np.isfinite(alone).all()
    assert alone.sum() > 0


@pytest.mark.parametrize("far", [1e4, 1e12, np.nan, np.inf])
def test_sources_off_the_detector_have_no_light(far):
    light = predict_light(catalog([far, 5], [90, far], 20), transform, FIRST, SHAPE)
    assert not light.any()
    none = SourceCatalog(np.empty((4, 0)), np.empty((4, 0)), np.empty(0))
    assert predict_light(none, transform, FIRST, SHAPE).shape == SHAPE


def field(number, brightness, seed=1, shape=SHAPE):
    """A sky under sources that `predict_light` describes, but for their magnitudes."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-60, shape[1] + 60, number), rng.uniform(0, shape[0], number)
    magnitude = 27.5 - 2.5 * np.log10(brightness * (1 - rng.random(number)) ** -0.8)
    listed = catalog(x, y, magnitude + 0.3 * rng.standard_normal(number))
    true = catalog(x, y, magnitude)
    light, guess = (
        predict_light(one, transform, FIRST, shape, dispersion_axis=1) for one in (true, listed)
    )
    template = np.linspace(0.8, 1.2, shape[1], dtype=np.float32) * np.ones(shape, np.float32)
    rate = SCALE * template + light
    sci = rng.poisson(rate * ELECTRONS) / ELECTRONS + READ * rng.standard_normal(shape)
    photons = np.maximum(sci, 0).astype(np.float32) / np.float32(ELECTRONS)
    planes = {
        "sci": sci.astype(np.float32),
        "err": np.sqrt(photons + np.float32(READ**2)),
        "dq": np.zeros(shape, np.uint32),
        "template": template,
        "var_rnoise": np.full(shape, READ**2, np.float32),
        "var_poisson": photons,
    }
    return planes, guess, light


def fit(planes, way="auto", threads=1, **more):
    options = WfssOptions(method="robust", mask_from=way)
    return fit_scale(**planes, **more, options=options, dispersion_axis=1, threads=threads)


def test_a_crowded_field_is_fitted_where_it_is_cleanest():
    planes, guess, light = field(400, 2.0)
    assert np.median(light) > 0.01 * SCALE
    by_all, by_traces = fit(planes, "boxes"), fit(planes, source_light=guess)
    assert by_traces.status is Status.COMPLETE
    assert by_traces.robust.share < 0.5
    assert by_traces.robust.light > 0
    assert abs(by_traces.scale - SCALE) < 3 * by_traces.scale_err
    assert abs(by_traces.scale - SCALE) < 0.5 * abs(by_all.scale - SCALE)


def test_where_light_is_everywhere_it_fails_and_says_why():
    planes, guess, _ = field(900, 60.0)
    found = fit(planes, source_light=guess)
    assert (found.status, found.scale) == (Status.FAILED, 0.0)
    assert "the light of sources is everywhere" in found.reason
    assert "wfss_mask" in found.reason
    blind = fit(planes, "image")
    assert blind.status is Status.FAILED
    assert "give a source catalogue" in blind.reason


def test_without_sources_all_ways_agree():
    planes, guess, _ = field(0, 1.0)
    ways = [fit(planes, way, source_light=guess) for way in ("boxes", "traces", "image", "auto")]
    assert ways[0].robust.share == 1
    for one in ways:
        assert one.scale == pytest.approx(SCALE, abs=4 * one.scale_err)
        assert one.scale == pytest.approx(ways[0].scale, abs=0.5 * one.scale_err)


def test_the_same_to_the_last_bit_for_any_threads_and_bands(monkeypatch):
    planes, guess, _ = field(300, 2.0, shape=(200, 300))
    expected = fit(planes, source_light=guess), fit(planes, "image")
    assert (fit(planes, source_light=guess, threads=3), fit(planes, "image", 3)) == expected
    monkeypatch.setattr(robust, "LINES", 32)
    assert (fit(planes, source_light=guess), fit(planes, "image")) == expected


def test_the_unit_of_the_predicted_light_does_not_matter():
    planes, guess, _ = field(300, 2.0, shape=(200, 300))
    one, other = (fit(planes, source_light=guess * unit) for unit in (1, np.float32(1024)))
    assert other.scale == pytest.approx(one.scale, rel=1e-9)
    assert other.robust.share == one.robust.share


@pytest.mark.parametrize("place", [-1.0, 0.3])
def test_the_mixture_finds_the_sky_under_a_tail(place):
    rng = np.random.default_rng(3)
    values = place + rng.standard_normal(40_000)
    values[:16_000] += rng.exponential(3, 16_000)
    found = fit_mixture(values)
    assert found.place == pytest.approx(place, abs=0.08)
    assert found.width == pytest.approx(1, abs=0.05)
    assert found.weights[:3].sum() == pytest.approx(0.6, abs=0.12)
    assert abs(np.median(values) - place) > 0.5


def test_of_pure_noise_the_mixture_says_so():
    found = fit_mixture(np.random.default_rng(4).standard_normal(40_000))
    assert found.place == pytest.approx(0, abs=0.06)
    assert found.weights[0] > 0.9


def test_other_masks_need_the_robust_method():
    with pytest.raises(OptionError, match=r"wfss_mask_from traces needs wfss_method robust"):
        WfssOptions(mask_from="traces")
    assert WfssOptions(mask_from="auto").mask_from == "boxes"
    with pytest.raises(OptionError, match=r"must be boxes, traces, image or auto \(got 'all'\)"):
        WfssOptions(method="robust", mask_from="all")


# Through the step


AT, SMALL = (300, 700), (96, 128)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    sky = SCALE * grism_sky(SMALL, AT)
    sci = rng.poisson(sky * ELECTRONS) / ELECTRONS + READ * rng.standard_normal(SMALL)
    photons = np.maximum(sci, 0) / ELECTRONS
    model = make_model(sci, np.sqrt(photons + READ**2), at=AT, meta=GRISM)
    model.var_poisson = photons.astype(np.float32)
    model.var_rnoise = np.full(SMALL, READ**2, np.float32)
    save(model, tmp_path / "g_rate.fits")
    grism_template(grism_sky((2048, 2048), (0, 0))).save("bkg.fits")
    return model


def run(target, **parameters):
    return BackgroundStep.call(target, override_bkg="bkg.fits", **parameters)


def test_the_step_reads_the_variances_from_file_and_model_alike(folder, caplog):
    with caplog.at_level("WARNING"):
        results = [
            run(one, wfss_method="robust", configure_log=False) for one in ("g_rate.fits", folder)
        ]
    assert "every pixel is taken as sky" not in caplog.text
    trees = [one.meta.background.webbkg.instance for one in results]
    assert trees[0] == trees[1]
    assert trees[0]["noise"] == "VAR_RNOISE and VAR_POISSON"
    assert trees[0]["variance_per_signal"] == pytest.approx(1 / ELECTRONS, rel=1e-5)
    assert (trees[0]["method"], trees[0]["mask_from"]) == ("robust", "image")
    assert trees[0]["scale"] == pytest.approx(SCALE, abs=4 * trees[0]["scale_err"])


def test_the_command_reads_them_too_where_a_product_is_made_without_a_model(folder, tmp_path):
    from typer.testing import CliRunner

    from webbkg.cli import app

    arguments = ["subtract", "g_rate.fits", "--override-bkg", "bkg.fits", "--wfss-method", "robust"]
    shown = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    (product,) = (tmp_path / "out").glob("g_*.fits")
    expected = run(folder, wfss_method="robust")
    with fits.open(product) as hdus:
        np.testing.assert_array_equal(hdus["SCI"].data, expected.data)


def test_without_variances_the_step_takes_err(folder):
    bare = folder.copy()
    del bare.instance["var_poisson"]
    tree = run(bare, wfss_method="robust").meta.background.webbkg.instance
    assert tree["noise"] == "ERR"


def test_the_standard_method_tells_nothing_new(folder):
    tree = run(folder).meta.background.webbkg.instance
    assert not {"method", "mask_from", "noise"} & set(tree)


def test_a_mask_of_the_users_comes_first(folder, tmp_path):
    from factories import write_mask

    mask = np.ones(SMALL, np.uint32)
    mask[:40] = 0
    write_mask(tmp_path / "mask.fits", mask)
    result = run(folder, wfss_method="robust", wfss_mask_from="auto", wfss_mask="mask.fits")
    assert result.mask[:40].sum() == 0
    assert result.meta.background.webbkg.mask_from == "boxes"


def test_a_field_through_the_step_by_its_traces(tmp_path, monkeypatch):
    from webbkg.files.exposures import DetectorWindow
    from webbkg.simulate.grism_scene import NIRCAM_R
    from webbkg.simulate.wfss import draw_field, observe, write_field

    monkeypatch.chdir(tmp_path)
    window = DetectorWindow(760, 810, 256, 256)
    detector = replace(NIRCAM_R.detector, counts_photons=True)
    scene = replace(NIRCAM_R, detector=detector)
    simulated = observe(draw_field(scene, 6, detector.part(window)))
    files = write_field(tmp_path, simulated, template_window=window)
    result = BackgroundStep.call(
        files.association,
        override_bkg=str(files.template),
        override_wavelengthrange=str(files.wavelengthrange),
        wfss_method="robust",
        wfss_mask_from="auto",
    )
    tree = result.meta.background.webbkg.instance
    assert tree["mask_from"] == "traces"
    assert tree["mask"] == files.catalog.name
    assert tree["scale"] == pytest.approx(scene.scale, abs=4 * tree["scale_err"])
    assert result.mask.mean() == pytest.approx(tree["cleanest_share"], abs=0.06)
