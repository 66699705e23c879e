"""The simulator: its noise, its geometry, its flags, and the truth it hands back."""

from __future__ import annotations

import sys
from dataclasses import replace
from subprocess import run

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow, Exposure
from webbkg.files.models import open_model
from webbkg.report.snapshot import shrink
from webbkg.results import CombinedBackground, SampleCounts
from webbkg.simulate.demo import (
    DemoResult,
    FoundScale,
    run_demo,
    run_template_demos,
    write_story_of,
)
from webbkg.simulate.detector import (
    MIRI_BRIGHTSKY,
    MIRI_IMAGER,
    NIRCAM_LONG,
    Readout,
    Setup,
    Stream,
    Subarray,
    dq_flag,
    draw_bad_pixels,
    draw_cosmic_rays,
    expose,
    generator,
    nircam_subarray,
    reference_pixels,
)
from webbkg.simulate.imaging import (
    MIRI_SCENE,
    ImagingScene,
    Pointing,
    plan_imaging_set,
    plan_integrations_set,
    simulate_exposure,
    simulate_imaging_set,
    simulate_integrations_set,
    sky_on,
    write_set,
)
from webbkg.simulate.recovery import Truth
from webbkg.simulate.sources import HALF_LIGHT, Catalogue, Population, draw_catalogue, render

WINDOW = DetectorWindow(301, 170, 240, 200)
PART = Subarray(name="GENERIC", window=WINDOW, frame_time=10.73677)
SCENE = ImagingScene()
DARK = ImagingScene(population=Population(stars=0, galaxies=0))
QUIET = replace(
    DARK, detector=replace(NIRCAM_LONG, cosmic_ray_left=0.0, hot_fraction=0.0, dead_fraction=0.0)
)
CROWDED = replace(SCENE, population=Population(stars=9000, galaxies=1000, faintest=3.0))


def noise_of(simulated):
    """SCI without its truth, NaN on bad pixels."""
    noise = simulated.model.data - simulated.sky - simulated.sources - simulated.cosmic_rays
    return np.where(simulated.bad, np.nan, noise)


def true_error(simulated):
    light = simulated.sky + simulated.sources
    return np.sqrt(simulated.setup.poisson_variance(light) + simulated.setup.read_variance)


def slices(window, inside=NIRCAM_LONG.full.window):
    y, x = window.y - inside.y, window.x - inside.x
    return slice(y, y + window.rows), slice(x, x + window.columns)


class TestNoise:
    def test_read_variance_is_that_of_a_straight_line_fit(self):
        readout = Readout(pattern="MEDIUM2", n_groups=9, n_frames=2, group_gap=8)
        setup = Setup(NIRCAM_LONG, readout, replace(PART, frame_time=1.5))
        times = setup.group_time * np.arange(9)
        reads = np.random.default_rng(5).normal(0, 9.2 / 1.8, (9, 2, 40000)).mean(axis=1)
        slopes = np.polyfit(times, reads, 1)[0]
        assert setup.group_time == 15.0
        assert slopes.var() == pytest.approx(setup.read_variance, rel=0.03)

    @pytest.mark.parametrize("level", [0.0, 0.3, 30.0])
    def test_scatter_is_that_of_photons_and_reads(self, level):
        simulated = simulate_exposure(
            replace(QUIET, sky_level=level), 1, Pointing(number=2, subarray=PART)
        )
        setup = simulated.setup
        photons = simulated.sky.mean() / (1.8 * 6 * 5 * 10.73677)
        assert noise_of(simulated).var() == pytest.approx(
            photons + setup.read_variance, rel=4 * np.sqrt(2 / noise_of(simulated).size)
        )

    def test_quoted_err_comes_from_the_noisy_rate(self):
        model = simulate_exposure(QUIET, 1, Pointing(number=0, subarray=PART)).model
        photons = np.maximum(model.data, 0) / np.float32(1.8 * 6 * 5 * 10.73677)
        np.testing.assert_allclose(model.var_poisson, photons, rtol=1e-5)
        np.testing.assert_allclose(model.err**2, model.var_poisson + model.var_rnoise, rtol=1e-5)
        assert len(np.unique(model.var_rnoise)) == 1

    def test_pulls_by_the_quoted_err_are_standard(self):
        simulated = simulate_exposure(QUIET, 3, Pointing(number=1, subarray=PART))
        pull = noise_of(simulated) / simulated.model.err
        assert pull.std() == pytest.approx(1, abs=0.02)
        assert np.mean(np.abs(pull) < 1) == pytest.approx(0.6827, abs=0.01)

    def test_exposures_and_integrations_are_independent(self):
        _, backgrounds = simulate_integrations_set(
            QUIET, 4, n_backgrounds=2, background_integrations=(2,), subarray=PART
        )
        images = np.concatenate([noise_of(b) for b in backgrounds]).reshape(4, -1)
        correlation = np.corrcoef(images) - np.eye(4)
        assert np.abs(correlation).max() < 5 / np.sqrt(WINDOW.rows * WINDOW.columns)

    def test_light_is_not_changed(self):
        light = np.full(WINDOW.shape, 0.5, np.float32)
        setup = Setup(NIRCAM_LONG, SCENE.readout, PART)
        bad = draw_bad_pixels(NIRCAM_LONG, 1).on(WINDOW)
        expose(light, setup, bad, 1, 0, 0)
        assert (light == 0.5).all()


class TestTruth:
    def test_adds_up_under_stars_and_cosmic_rays(self):
        simulated = simulate_exposure(CROWDED, 6, Pointing(number=1, subarray=PART))
        pull = noise_of(simulated) / true_error(simulated)
        bright = (simulated.sources > 0.3) & ~simulated.bad
        struck = (simulated.cosmic_rays > 0.3) & ~simulated.bad
        assert bright.sum() > 1000
        assert struck.sum() > 30
        assert np.nanstd(pull) == pytest.approx(1, abs=0.02)
        assert pull[bright].std() == pytest.approx(1, abs=0.06)
        assert np.nanmax(np.abs(pull)) < 6

    def test_of_a_cube_has_the_shape_of_sci(self):
        simulated = simulate_exposure(
            replace(MIRI_SCENE, population=Population()),
            6,
            Pointing(number=0, subarray=replace(PART, frame_time=2.775), integrations=3),
        )
        assert simulated.model.data.shape == simulated.cosmic_rays.shape == (3, 200, 240)
        hits = simulated.cosmic_rays > 0
        assert not (hits[0] & hits[1]).sum() > 0.2 * hits[0].sum()
        assert np.nanmax(np.abs(noise_of(simulated) / true_error(simulated))) < 6


class TestRepeatability:
    def test_same_seed_same_bits_in_any_order(self):
        _, backgrounds = simulate_imaging_set(SCENE, 7, n_backgrounds=2, subarray=PART)
        again = simulate_exposure(SCENE, 7, Pointing(number=2, subarray=PART))
        for plane in ("data", "err", "dq", "var_poisson", "var_rnoise"):
            ours, theirs = (getattr(s.model, plane) for s in (again, backgrounds[1]))
            assert ours.tobytes() == theirs.tobytes()
        assert again.cosmic_rays.tobytes() == backgrounds[1].cosmic_rays.tobytes()

    def test_another_seed_gives_another_field_and_other_noise(self):
        one, two = (
            simulate_exposure(CROWDED, seed, Pointing(number=0, subarray=PART)) for seed in (1, 2)
        )
        assert not np.array_equal(one.sources, two.sources)
        assert not np.array_equal(one.bad, two.bad)
        assert not np.array_equal(one.cosmic_rays, two.cosmic_rays)

    def test_streams_with_trailing_zeros_differ(self):
        draws = {
            generator(3, Stream.NOISE, *key).integers(2**62) for key in ((), (0,), (0, 0), (0, 1))
        }
        assert len(draws) == 4

    def test_first_integrations_do_not_depend_on_their_number(self):
        short, long = (
            simulate_exposure(QUIET, 1, Pointing(number=1, subarray=PART, integrations=n))
            for n in (1, 2)
        )
        np.testing.assert_array_equal(short.model.data[0], long.model.data[0])


class TestGeometry:
    def test_a_window_of_the_sky_lies_where_it_lies(self):
        full = sky_on(SCENE, NIRCAM_LONG.full.window)
        part = sky_on(SCENE, WINDOW)
        np.testing.assert_array_equal(part, full[slices(WINDOW)])
        assert (np.diff(part, axis=1) != 0).any()
        assert full[1024, 1024] == pytest.approx(0.3, rel=1e-3)
        assert (full[1024, -1] - full[1024, 0]) / 0.3 == pytest.approx(0.10, rel=1e-2)
        assert (full[-1, 1024] - full[0, 1024]) / 0.3 == pytest.approx(-0.06, rel=1e-2)

    def test_a_sub_array_sees_its_part_of_the_same_exposure(self):
        inner = DetectorWindow(WINDOW.x + 37, WINDOW.y + 21, 64, 48)
        whole, part = (
            simulate_exposure(CROWDED, 8, Pointing(number=3, subarray=replace(PART, window=window)))
            for window in (WINDOW, inner)
        )
        here = slices(inner, WINDOW)
        assert part.sources.max() > 1
        np.testing.assert_array_equal(part.sky, whole.sky[here])
        np.testing.assert_allclose(part.sources, whole.sources[here], rtol=1e-5)
        np.testing.assert_array_equal(part.bad, whole.bad[here])

    def test_sources_move_by_the_dither_and_keep_their_flux(self):
        star = Catalogue(*(np.array([v]) for v in (330.25, 260.75, 40.0, 0.0, 1.0, 0.0)))
        image = render(star, Population(), WINDOW, (5.5, -7.25))
        rows, columns = np.indices(image.shape)
        assert image.sum() == pytest.approx(40, rel=1e-3)
        assert (image * columns).sum() / image.sum() == pytest.approx(330.25 + 5.5 - 301, abs=0.02)
        assert (image * rows).sum() / image.sum() == pytest.approx(260.75 - 7.25 - 170, abs=0.02)
        assert np.sqrt((image > image.max() / 2).sum() * 4 / np.pi) == pytest.approx(2.3, abs=0.5)

    def test_a_galaxy_has_half_its_light_within_its_radius(self):
        galaxy = Catalogue(*(np.array([v]) for v in (421.0, 270.0, 100.0, 12.0, 1.0, 0.3)))
        image = render(galaxy, Population(), WINDOW, (0, 0))
        rows, columns = np.indices(image.shape)
        inside = np.hypot(columns + 301 - 421, rows + 170 - 270) <= 12
        assert image.sum() == pytest.approx(100, rel=0.05)
        assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.02)
        assert (1 + HALF_LIGHT) * np.exp(-HALF_LIGHT) == pytest.approx(0.5, abs=1e-3)

    def test_fluxes_keep_their_limits_and_counts(self):
        population = Population(stars=20000, galaxies=0, slope=0.7)
        flux = draw_catalogue(population, NIRCAM_LONG.full.window, 0, np.random.default_rng(1)).flux
        assert flux.min() >= 0.5
        assert flux.max() <= 500
        low, mid, high = (f**-0.7 for f in (0.5, 5, 500))
        assert np.mean(flux > 5) == pytest.approx((mid - high) / (low - high), abs=0.01)

    def test_backgrounds_are_dithered_and_the_target_is_not(self):
        target, backgrounds = simulate_imaging_set(CROWDED, 9, n_backgrounds=2, subarray=PART)
        offsets = {
            (b.model.meta.dither.x_offset, b.model.meta.dither.y_offset) for b in backgrounds
        }
        assert target.model.meta.dither.x_offset == 0
        assert len(offsets) == 2
        assert max(np.abs(list(offsets)).ravel()) <= 150 * 0.063
        rate = np.corrcoef(target.sources.ravel(), backgrounds[0].sources.ravel())[0, 1]
        assert rate < 0.5

    @pytest.mark.parametrize("window", [(-1, 0, 50, 50), (2000, 0, 50, 50), (0, 1999, 50, 50)])
    def test_a_window_beyond_the_detector_is_refused(self, window):
        part = replace(PART, window=DetectorWindow(*window))
        with pytest.raises(OptionError, match=r"subarray must lie on the detector NRCBLONG.*got"):
            simulate_exposure(SCENE, 1, Pointing(number=0, subarray=part))

    def test_no_integrations_are_refused(self):
        with pytest.raises(OptionError, match="integrations must be None or at least 1"):
            simulate_exposure(SCENE, 1, Pointing(number=0, subarray=PART, integrations=0))


class TestDefects:
    def test_bad_pixels_belong_to_the_detector(self):
        target, backgrounds = simulate_imaging_set(DARK, 2, n_backgrounds=2, subarray=PART)
        for other in backgrounds:
            np.testing.assert_array_equal(other.bad, target.bad)
        assert target.bad.mean() == pytest.approx(0.003, rel=0.4)

    def test_flags_and_values_of_bad_pixels(self):
        simulated = simulate_exposure(DARK, 2, Pointing(number=0, subarray=PART))
        sci, err, dq = (getattr(simulated.model, plane) for plane in ("data", "err", "dq"))
        hot, dead = ((dq & dq_flag(name)) > 0 for name in ("HOT", "DEAD"))
        np.testing.assert_array_equal((dq & dq_flag("DO_NOT_USE")) > 0, simulated.bad)
        np.testing.assert_array_equal(hot | dead, simulated.bad)
        assert not (hot & dead).any()
        missing = np.isnan(sci)
        np.testing.assert_array_equal(missing, np.isnan(err))
        assert (missing <= dead).all()
        assert 0.2 < missing.sum() / dead.sum() < 0.8
        assert np.median(sci[hot]) > 1
        assert np.abs(sci[dead & ~missing]).max() < 6 * np.sqrt(simulated.setup.read_variance)

    def test_cosmic_rays_are_mostly_unflagged_and_flags_are_on_hits(self):
        part = Subarray(name="GENERIC", window=DetectorWindow(8, 8, 500, 500), frame_time=10.7)
        simulated = simulate_exposure(DARK, 2, Pointing(number=0, subarray=part))
        flagged = (simulated.model.dq & dq_flag("JUMP_DET")) > 0
        hit = simulated.cosmic_rays > 0
        assert (flagged <= hit | simulated.bad).all()
        assert 0.02 < flagged.sum() / hit.sum() < 0.25

    def test_cosmic_rays_deposit_the_charge_that_is_expected(self):
        part = Subarray(name="GENERIC", window=DetectorWindow(0, 0, 600, 600), frame_time=10.0)
        setup = Setup(NIRCAM_LONG, Readout(pattern="RAPID", n_groups=101), part)
        image, _ = draw_cosmic_rays(setup, np.random.default_rng(3))
        hits = 4.0 * 0.05 * (600 * 18e-4) ** 2 * 1000
        charge = image.sum() * 1.8 * 1000 / hits
        assert charge == pytest.approx(5000 * np.exp(0.8**2 / 2), rel=0.25)
        # Diagonal tracks step more than a pixel at a time in neither axis: close to seven each.
        assert (image > 0).sum() / hits == pytest.approx(7, rel=0.2)

    def test_reference_pixels_see_no_light(self):
        corner = Subarray(name="GENERIC", window=DetectorWindow(1948, 0, 100, 60), frame_time=10.7)
        simulated = simulate_exposure(CROWDED, 2, Pointing(number=1, subarray=corner))
        border = np.ones((60, 100), bool)
        border[4:, :-4] = False
        np.testing.assert_array_equal(simulated.reference, border)
        dq = simulated.model.dq
        np.testing.assert_array_equal(dq & dq_flag("REFERENCE_PIXEL") > 0, border)
        assert not (dq & dq_flag("DO_NOT_USE") > 0)[border].any()
        assert np.abs(simulated.model.data[border]).max() < 6 * np.sqrt(
            simulated.setup.read_variance
        )
        assert simulated.sky[~border].min() > 0.2

    def test_cosmic_rays_leave_no_trace_where_there_is_no_response(self):
        detector = replace(NIRCAM_LONG, cosmic_ray_left=5.0, dead_fraction=0.05)
        corner = Subarray(name="GENERIC", window=DetectorWindow(0, 0, 100, 100), frame_time=10.7)
        simulated = simulate_exposure(
            replace(DARK, detector=detector), 2, Pointing(number=0, subarray=corner)
        )
        dead = (simulated.model.dq & dq_flag("DEAD")) > 0
        blind = dead | simulated.reference
        flagged = (simulated.model.dq & dq_flag("JUMP_DET")) > 0
        assert (simulated.cosmic_rays[~blind] > 0).mean() > 0.1
        assert flagged[~blind].any()
        assert not simulated.cosmic_rays[blind].any()
        assert not flagged[blind].any()

    def test_miri_has_reference_columns_only(self):
        mask = reference_pixels(MIRI_IMAGER, MIRI_IMAGER.full.window)
        assert mask.sum() == 8 * 1024
        assert not reference_pixels(MIRI_IMAGER, MIRI_BRIGHTSKY.window).any()


class TestProducts:
    def test_a_rate_file_reads_as_one(self, tmp_path):
        scene = replace(SCENE, dither=20.0)
        plan = plan_imaging_set(scene, n_backgrounds=1, subarray=PART)
        seen = []
        target, background = write_set(tmp_path / "new", scene, 3, plan, seen.append)
        assert target.name == "jw99999001001_02101_00001_nrcblong_rate.fits"
        assert background.name == "jw99999002001_02101_00001_nrcblong_rate.fits"
        with Exposure.from_file(background) as exposure:
            assert exposure.window == WINDOW
            assert exposure.info.detector == "NRCBLONG"
            assert exposure.info.exposure_type == "NRC_IMAGE"
            assert (exposure.info.filter, exposure.info.pupil) == ("F356W", "CLEAR")
        with open_model(background) as model:
            assert type(model).__name__ == "ImageModel"
            assert model.meta.subarray.xstart == 302
            assert model.meta.subarray.ystart == 171
            assert model.meta.exposure.nints == 1
            assert model.meta.observation.bkgdtarg
            np.testing.assert_array_equal(model.data, seen[1].model.data)
            np.testing.assert_array_equal(model.dq, seen[1].model.dq)

    def test_a_rateints_file_reads_as_one(self, tmp_path):
        part = replace(MIRI_BRIGHTSKY, window=DetectorWindow(456, 50, 40, 30))
        plan = plan_integrations_set(n_backgrounds=4, n_integrations=2, subarray=part)
        assert [p.integrations for p in plan] == [2, 3, 5, 8, 3]
        (path,) = write_set(tmp_path, MIRI_SCENE, 3, plan[2:3])
        assert path.name == "jw99999002001_02101_00002_mirimage_rateints.fits"
        header = fits.getheader(path)
        assert header["NINTS"] == 5
        assert header["DATAMODL"] == "CubeModel"
        assert (header["FASTAXIS"], header["FILENAME"]) == (1, path.name)
        assert header["EFFINTTM"] == pytest.approx(40 * 0.86528)
        assert header["DURATION"] == pytest.approx(5 * 41 * 0.86528)
        assert (header["EXPEND"] - header["EXPSTART"]) * 86400 == pytest.approx(
            header["DURATION"], abs=1e-3
        )
        assert header["EXPSTART"] == pytest.approx(60857 + 4 / 24)
        with Exposure.from_file(path) as exposure:
            assert exposure.n_integrations == 5

    def test_a_dithered_source_keeps_its_place_on_the_sky(self, tmp_path):
        plan = plan_imaging_set(QUIET, n_backgrounds=1, subarray=PART)
        paths = write_set(tmp_path, QUIET, 3, plan)
        headers = [fits.getheader(path, "SCI") for path in paths]
        shift = np.array([fits.getval(paths[1], key) for key in ("XOFFSET", "YOFFSET")]) / 0.063
        first, second = (WCS(header) for header in headers)
        place = first.wcs_pix2world([[50.0, 60.0]], 0)
        np.testing.assert_allclose(
            second.wcs_world2pix(place, 0)[0], np.array([50.0, 60.0]) + shift, atol=0.05
        )

    def test_sub_array_is_read_faster(self):
        window = DetectorWindow(0, 0, 64, 64)
        assert nircam_subarray(window).frame_time == pytest.approx(0.0494, abs=2e-3)

    def test_nothing_heavy_is_imported_with_the_package(self):
        code = "import webbkg.simulate, sys; print('numpy' in sys.modules)"
        answer = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "False"


class TestRecovery:
    def set_up(self):
        small = Subarray(name="GENERIC", window=DetectorWindow(11, 23, 160, 150), frame_time=10.7)
        shifted = replace(small, window=DetectorWindow(71, 43, 100, 90))
        detector = replace(NIRCAM_LONG, cosmic_ray_left=0.5)
        scene = replace(SCENE, detector=detector, population=Population(stars=9000), sky_drift=0.0)
        target, backgrounds = simulate_imaging_set(
            scene, 5, n_backgrounds=3, subarray=small, background_subarrays={3: shifted}
        )
        truth = Truth()
        for simulated in (target, *backgrounds):
            truth.add(simulated)
        return truth, target, backgrounds

    def background_of(self, sci, err):
        return CombinedBackground(
            sci=sci.astype(np.float32),
            err=np.full(sci.shape, err, np.float32),
            dq=np.zeros(sci.shape, np.uint32),
            covered=np.ones(sci.shape, bool),
            counts=np.full(sci.shape, 3, np.uint32),
            exposures=SampleCounts(),
            integrations=SampleCounts(),
        )

    def subtracted(self, target, sci):
        product = target.model.copy()
        product.data = target.model.data - sci
        return product

    def test_the_true_sky_has_no_fault(self):
        truth, target, _ = self.set_up()
        found = truth.measure(
            self.background_of(target.sky, 0.01), self.subtracted(target, target.sky)
        )
        assert (found.sky_error, found.pull_median, found.pull_scatter) == (0, 0, 0)
        assert (found.within_3_err, found.cosmic_ray_leak, found.source_leak) == (1, 0, 0)
        assert found.residual == pytest.approx(0, abs=3e-3)
        assert found.light_pixels == 160 * 150 - target.bad.sum()
        assert found.dq_counts["DO_NOT_USE"] == target.bad.sum()
        assert found.not_finite == np.isnan(target.model.data).sum()

    def test_a_plain_mean_leaks_everything(self):
        truth, target, backgrounds = self.set_up()
        total, count = np.zeros((2, 150, 160))
        for background in backgrounds:
            here = slices(background.window, target.window)
            total[here] += background.sky + background.sources + background.cosmic_rays
            count[here] += 1
        mean = total / count
        assert set(np.unique(count)) == {2, 3}
        found = truth.measure(self.background_of(mean, 0.01), self.subtracted(target, mean))
        assert found.struck_pixels > 20
        assert found.source_pixels > 1000
        assert found.source_leak == pytest.approx(1, abs=1e-2)
        assert found.cosmic_ray_leak == pytest.approx(1, abs=1e-2)
        assert found.sky_error == pytest.approx(0, abs=1e-3)
        assert found.within_3_err < 0.9

    def test_an_offset_shows_in_units_of_err(self):
        truth, target, _ = self.set_up()
        sci = target.sky + np.float32(0.02)
        found = truth.measure(self.background_of(sci, 0.01), self.subtracted(target, sci))
        assert found.sky_error == pytest.approx(0.02, rel=1e-3)
        assert found.pull_median == pytest.approx(2, rel=1e-3)

    def test_integrations_count_by_their_mean(self):
        target, backgrounds = simulate_integrations_set(
            MIRI_SCENE, 5, n_backgrounds=2, background_integrations=(2, 3), subarray=PART
        )
        truth = Truth()
        for simulated in (target, *backgrounds):
            truth.add(simulated)
        expected = sum(b.cosmic_rays.mean(axis=0) for b in backgrounds)
        assert expected.max() > 0
        np.testing.assert_allclose(truth.cosmic_rays, expected, rtol=1e-5)

    def test_it_needs_a_target(self):
        sci = np.zeros((2, 2))
        with pytest.raises(ValueError, match="truth is empty"):
            Truth().measure(self.background_of(sci, 1), None)


class TestDemo:
    def test_recovers_the_sky_and_shows_what_leaks(self, tmp_path):
        said = []
        imaging, integrations = run_demo(tmp_path, size=512, tell=said.append)
        assert len(said) == 8
        for result, backgrounds in ((imaging, 5), (integrations, 12)):
            assert result.status == "COMPLETE"
            assert result.n_backgrounds == backgrounds
            assert (tmp_path / result.target).exists()
            assert (tmp_path / result.products[0]).exists()
            found = result.recovery
            drift = 0.002 * found.sky_true / np.sqrt(backgrounds)
            assert abs(found.sky_error) < 3 * drift + 5 * found.sky_scatter / np.sqrt(
                found.blank_pixels
            )
            assert found.pull_scatter == pytest.approx(1, abs=0.05)
            assert found.within_3_err_blank > 0.99
            assert abs(found.residual) < 0.01 * found.median_before
        # Five samples never differ enough to be clipped at 3 sigma; twelve do.
        assert imaging.counts.clipped == 0
        assert imaging.recovery.cosmic_ray_leak == pytest.approx(1, abs=0.1)
        assert integrations.counts.clipped > 0
        assert integrations.recovery.cosmic_ray_leak < 0.5
        told = dict(imaging.lines())
        assert told["backgrounds"] == "5"
        assert told["samples clipped"].startswith("0 of ")
        assert told["product"] == imaging.products[0]
        assert abs(imaging.robust.recovery.cosmic_ray_leak) < 0.05
        assert abs(imaging.robust.recovery.source_leak) < 0.1
        assert imaging.robust.products == ()
        assert told["  left of cosmic rays, of a plain mean"]

    def test_a_scale_is_told_with_its_error(self):
        scale = FoundScale(label="left", truth=0.93, found=0.9486, quoted_err=1.1e-4)
        assert str(scale) == "0.93, 0.9486 ± 0.00011 (+2.000 %)"

    @pytest.mark.parametrize("size", [0, 127, 2049])
    def test_sizes_that_do_not_fit_are_refused(self, tmp_path, size):
        with pytest.raises(OptionError, match=rf"size must be between 128 and 2048 \(got {size}\)"):
            run_demo(tmp_path, size=size)


def test_the_demonstration_scales_templates_by_association_and_by_segments(tmp_path):
    results = grism, soss = run_template_demos(tmp_path, size=256)
    assert grism.status == soss.status == "COMPLETE"
    assert grism.products == ("asn_backgroundstep.fits",)
    assert len(soss.products) == 2
    for result in results:
        for product in result.products:
            assert (tmp_path / ("wfss" if result is grism else "soss") / product).exists()
    for old, new in zip(soss.scales, soss.robust.scales, strict=True):
        assert abs(new.found / new.truth - 1) < 0.003 < abs(old.found / old.truth - 1)
    (scale,) = grism.scales
    assert scale.found == pytest.approx(scale.truth, rel=0.01)
    (scale,) = grism.robust.scales
    assert scale.found == pytest.approx(scale.truth, rel=0.003)


def test_the_demonstration_ends_in_a_page_that_tells_what_it_showed(tmp_path):
    pytest.importorskip("matplotlib", reason="needs Matplotlib (extra 'report')")
    pytest.importorskip("jinja2", reason="needs Jinja2 (extra 'report')")
    before, error = (shrink(np.full((8, 8), level)) for level in (5.0, 0.5))
    numbers = {"truth": 1.0, "found": 1.25, "quoted_err": 0.1}
    common = {
        "name": "<a set>",
        "target": "t.fits",
        "products": (),
        "status": "COMPLETE",
        "reason": "",
        "n_backgrounds": 0,
        "bytes_read": 0,
        "simulate_seconds": 0.0,
        "subtract_seconds": 0.0,
        "before": before,
        "error": error,
        "verdict": "look",
        "scales": (FoundScale(label="scale", **numbers),),
    }
    report = tmp_path / "soss" / "t_robust_report.html"
    robust = DemoResult(**{**common, "verdict": "good"}, page=report)
    failed = DemoResult(**{**common, "before": None, "error": None, "status": "FAILED"})
    results = [DemoResult(**common, robust=robust), failed, failed, failed]
    page = write_story_of(results, tmp_path)
    assert page == tmp_path / "demo.html"
    text = page.read_text()
    assert text.count("<svg") == 3
    assert text.count("<section") == 1
    assert "&lt;a set&gt;" in text
    assert text.count("1, 1.25 ± 0.1 (+25.000 %)") == 2
    assert 'href="./soss/t_robust_report.html"' in text
    told = dict(results[0].lines())
    assert told["with the preset robust"] == "COMPLETE"
