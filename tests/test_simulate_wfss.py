"""The simulated grism exposures: where their light falls, their WCS, their references, the truth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import QTable

from webbkg.errors import OptionError
from webbkg.files.catalogs import read_catalog
from webbkg.files.exposures import DetectorWindow
from webbkg.files.models import open_model
from webbkg.options import WfssOptions
from webbkg.simulate.detector import Subarray, dq_flag
from webbkg.simulate.dispersion import Band, grism_wcs, render_traces
from webbkg.simulate.grism_scene import (
    MIRI_PRISM,
    NIRCAM_C,
    NIRCAM_R,
    NIRISS_C,
    NIRISS_R,
    make_template,
    sky_pattern,
)
from webbkg.simulate.sources import Catalogue, Population
from webbkg.simulate.wfss import (
    draw_field,
    observe,
    source_catalog,
    template_model,
    wavelengthrange_model,
    write_field,
)
from webbkg.wfss.fit import fit_scale
from webbkg.wfss.traces import catalog_sky_mask, orders_and_limits, trace_boxes

SCENES = {
    "NIRCam R": NIRCAM_R,
    "NIRCam C": NIRCAM_C,
    "NIRISS C": NIRISS_C,
    "NIRISS R": NIRISS_R,
    "MIRI": MIRI_PRISM,
}
EMPTY = Population(stars=0, galaxies=0)
WINDOW = DetectorWindow(421, 310, 200, 260)
CROWDED = Population(stars=200, galaxies=100, faintest=100.0, brightest=20000.0)
every_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def part(window, scene=NIRCAM_R):
    return scene.detector.part(window)


def slices(window):
    return slice(window.y, window.y + window.rows), slice(window.x, window.x + window.columns)


def orders_of(scene):
    ranges = wavelengthrange_model(scene)
    return orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, scene.band.name)


def mask_of(field, transform=None):
    return catalog_sky_mask(
        read_catalog(source_catalog(field)),
        transform or field.wcs.backward_transform,
        orders_of(field.scene),
        field.sources.shape,
        dispersion_axis=field.scene.grism.axis,
    )


def one_star(flux, x, y):
    zero = np.zeros(1)
    return Catalogue(
        x=np.array([x]),
        y=np.array([y]),
        flux=np.array([flux]),
        radius=zero,
        axis_ratio=zero + 1,
        angle=zero,
    )


class TestTraces:
    @every_scene
    def test_the_mask_of_the_catalogue_covers_the_light_and_no_more(self, scene):
        window = DetectorWindow(60, 40, 900, 960)
        field = draw_field(scene, 3, part(window, scene))
        noise = np.nanmedian(field.measure().err)
        sky = mask_of(field)
        light = np.where(field.sources > 0.2 * noise, field.sources, 0)
        assert light[~sky].sum(dtype=float) >= 0.99 * light.sum(dtype=float) > 0
        assert 0.4 < sky.mean() < 0.9
        # Not by masking at random: moved by its own width, the mask lets light through.
        moved = np.roll(sky, 30, axis=(0, 1))
        assert light[~moved].sum(dtype=float) < 0.99 * light.sum(dtype=float)

    @every_scene
    def test_light_falls_where_the_wcs_says(self, scene):
        window = scene.detector.full.window
        narrow = Band("NARROW", scene.band.longest - 0.03, scene.band.longest)
        x, y = 0.41 * window.columns, 0.43 * window.rows
        star = one_star(100.0, x, y)
        for order in (1, 2) if scene.detector.instrument == "NIRISS" else (1,):
            grism = replace(
                scene.grism, orders=tuple(o for o in scene.grism.orders if o.number == order)
            )
            image = render_traces(star, EMPTY, grism, narrow, window).astype(float)
            rows, columns = np.indices(image.shape)
            found = [(image * axis).sum() / image.sum() for axis in (columns, rows)]
            wcs = grism_wcs(grism, window, scene.sky)
            middle = (narrow.shortest + narrow.longest) / 2
            placed = wcs.backward_transform(*scene.sky(x, y), middle, order)
            np.testing.assert_allclose(found, np.ravel(placed[:2]), atol=0.02)
            np.testing.assert_allclose(image.sum(), 100 * grism.orders[0].share, rtol=1e-3)
            assert wcs(*placed)[2] == pytest.approx(middle, abs=0.003 * scene.band.longest)

    def test_orders_lie_apart(self):
        x, y = 1000.0, 1100.0
        light = render_traces(
            one_star(100.0, x, y),
            EMPTY,
            NIRISS_R.grism,
            NIRISS_R.band,
            NIRISS_R.detector.full.window,
        )
        lit = np.flatnonzero(light.sum(axis=1) > 0.003)
        groups = np.split(lit, np.flatnonzero(np.diff(lit) > 1) + 1)
        total = [light[group].sum() for group in groups]
        # Orders 3, 2, 1, 0 and -1, upwards; the zeroth is a point.
        np.testing.assert_allclose(total, [0.8, 5, 60, 8, 1], rtol=0.02)
        assert -150 < groups[2].mean() - y < -50
        assert np.argmin([len(group) for group in groups]) == 3

    def test_boxes_end_where_the_light_does(self):
        field = draw_field(NIRCAM_R, 3)
        catalog = read_catalog(source_catalog(field))
        order = orders_of(NIRCAM_R)[0]
        index = int(np.argmax(catalog.magnitude < 20))
        boxes = trace_boxes(
            field.wcs.backward_transform, catalog.ra, catalog.dec, order.order, order[1:]
        )
        only = replace(NIRCAM_R.grism, orders=NIRCAM_R.grism.orders[:1])
        star = Catalogue(
            **{name: values[index : index + 1] for name, values in vars(field.catalogue).items()}
        )
        left, right, bottom, top = boxes[index]
        around = DetectorWindow(left - 200, bottom - 200, right - left + 401, top - bottom + 401)
        image = render_traces(star, NIRCAM_R.population, only, NIRCAM_R.band, around)
        inside = image[200:-200, 200:-200]
        assert inside.sum() > 0.98 * image.sum()
        assert inside[:, : inside.shape[1] // 20].sum() > 0.01 * image.sum()
        assert inside[:, -inside.shape[1] // 20 :].sum() > 0.01 * image.sum()


class TestWindow:
    @pytest.mark.parametrize(
        ("name", "frame"),
        [
            ("NIRCam R", DetectorWindow(0, 0, 2048, 2048)),
            ("NIRCam C", DetectorWindow(300, 205, 450, 520)),
            ("NIRISS R", DetectorWindow(300, 205, 450, 520)),
        ],
    )
    def test_a_subarray_shows_the_same_pixels_of_the_detector(self, name, frame):
        # Sources, template with its noise, mask and WCS differ in every pixel of the window.
        scene = replace(SCENES[name], template_noise=0.01, population=CROWDED)
        whole, small = draw_field(scene, 3, part(frame)), draw_field(scene, 3, part(WINDOW))
        there = slices(replace(WINDOW, x=WINDOW.x - frame.x, y=WINDOW.y - frame.y))
        assert small.sources.max() > 0.1
        np.testing.assert_allclose(small.sources, whole.sources[there], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(small.template, whole.template[there])
        np.testing.assert_allclose(small.sky, whole.sky[there], rtol=1e-6)
        bad = small.bad.mask(WINDOW.shape)
        np.testing.assert_array_equal(bad, whole.bad.mask(whole.sky.shape)[there])
        seen = whole.wcs.backward_transform(53.151, -27.788, scene.band.shortest, 1)
        moved = small.wcs.backward_transform(53.151, -27.788, scene.band.shortest, 1)
        offset = np.ravel(seen)[:4] - np.ravel(moved)[:4]
        x, y = WINDOW.x - frame.x, WINDOW.y - frame.y
        np.testing.assert_allclose(offset, [x, y, x, y], atol=1e-6)
        inner = (slice(1, -1), slice(1, -1))  # a box must reach beyond the outermost pixels
        np.testing.assert_array_equal(mask_of(small)[inner], mask_of(whole)[there][inner])

    def test_it_must_lie_on_the_detector(self):
        with pytest.raises(OptionError, match="must lie on the detector"):
            draw_field(NIRCAM_R, 1, part(DetectorWindow(1900, 0, 200, 200)))


class TestTruth:
    @every_scene
    def test_the_sky_is_the_scaled_template(self, scene):
        field = draw_field(replace(scene, population=EMPTY), 3)
        finite = np.isfinite(field.template)
        rows, columns = (
            scene.border + n
            for n in (scene.detector.reference_rows, scene.detector.reference_columns)
        )
        assert finite[rows:-rows, columns:-columns].all()
        assert finite.sum() == finite[rows:-rows, columns:-columns].size
        exact = np.float32(scene.scale) * field.template[finite]
        np.testing.assert_array_equal(field.sky[finite], exact)
        assert (field.sky[~finite] > 0).any()  # light, where the template knows none

    def test_the_sky_has_an_edge_along_dispersion(self):
        for scene, axis in ((NIRCAM_R, 1), (NIRCAM_C, 0)):
            step = np.diff(sky_pattern(scene, scene.detector.full.window), axis=axis)
            edge = np.unravel_index(np.argmax(step), step.shape)[axis]
            assert 380 < edge < 440
            assert step.max() > 0.05 * scene.level
            assert 0.2 < np.median(sky_pattern(scene, scene.detector.full.window)) < 0.5

    def test_same_seed_same_bits(self):
        first, again, other = (
            observe(draw_field(NIRCAM_R, seed, part(WINDOW)), 4) for seed in (5, 5, 6)
        )
        for plane in ("data", "err", "dq"):
            np.testing.assert_array_equal(getattr(first.model, plane), getattr(again.model, plane))
        assert not np.array_equal(first.model.data, other.model.data)
        assert (
            source_catalog(first.field)["xcentroid"][0]
            != (source_catalog(other.field)["xcentroid"][0])
        )
        later = observe(first.field, 5)
        np.testing.assert_array_equal(later.sources, first.sources)
        assert not np.array_equal(later.model.data, first.model.data)

    def test_err_of_the_true_rate_leaves_sci_alone(self):
        field = draw_field(NIRCAM_R, 5, part(WINDOW))
        noisy, true = field.measure(), field.measure(true_err=True)
        np.testing.assert_array_equal(noisy.sci, true.sci)
        good = noisy.dq == 0
        light = field.sky + field.sources
        expected = field.setup.poisson_variance(light) + field.setup.read_variance
        np.testing.assert_allclose(true.err[good] ** 2, expected[good], rtol=1e-5)
        assert np.corrcoef(noisy.sci[good] - light[good], noisy.err[good])[0, 1] > 0.5
        np.testing.assert_array_equal(np.isnan(noisy.err), np.isnan(true.err))

    def test_the_scale_comes_back(self):
        field = draw_field(NIRCAM_R, 5, part(DetectorWindow(300, 300, 512, 512)))
        planes = field.measure(true_err=True)
        dq = planes.dq | np.where(planes.cosmic_rays > 0, dq_flag("DO_NOT_USE"), 0)
        fit = fit_scale(
            planes.sci,
            planes.err,
            dq,
            field.template,
            sky_mask=mask_of(field),
            options=WfssOptions(maxiter=0),
        )
        assert abs(fit.scale - NIRCAM_R.scale) < 4 * fit.scale_err < 0.002
        assert fit.chi2_dof == pytest.approx(1, abs=0.03)

    def test_template_noise_is_in_the_template_alone(self):
        noisy = replace(NIRCAM_R, template_noise=0.02)
        template = make_template(noisy, 1, WINDOW)
        difference = template - sky_pattern(noisy, WINDOW)
        assert difference.std() == pytest.approx(0.02, rel=0.02)
        np.testing.assert_array_equal(
            draw_field(noisy, 1, part(WINDOW)).sky, draw_field(NIRCAM_R, 1, part(WINDOW)).sky
        )


class TestFiles:
    @every_scene
    def test_everything_survives_a_file(self, tmp_path, scene):
        window = DetectorWindow(200, 420, 256, 192)
        simulated = observe(draw_field(scene, 3, part(window, scene)))
        covered = None if scene is NIRCAM_C else window
        files = write_field(tmp_path / "set", simulated, template_window=covered)
        with open_model(files.target) as model:
            assert model.meta.exposure.type == scene.exposure_type
            assert model.meta.wcsinfo.dispersion_direction == scene.grism.axis
            assert model.meta.source_catalog == files.catalog.name
            assert (model.meta.subarray.xstart, model.meta.subarray.ystart) == (201, 421)
            before, after = (
                wcs.backward_transform(
                    scene.ra + np.array([-0.002, 0.001]),
                    scene.dec + np.array([0.001, 0.004]),
                    scene.band.longest,
                    scene.grism.orders[0].number,
                )
                for wcs in (simulated.model.meta.wcs, model.meta.wcs)
            )
            np.testing.assert_allclose(after[0], before[0], atol=1e-6)
            np.testing.assert_allclose(after[1], before[1], atol=1e-6)
            read = mask_of(simulated.field, model.meta.wcs.backward_transform)
        np.testing.assert_array_equal(read, mask_of(simulated.field))
        with open_model(files.template) as template:
            assert type(template).__name__ == "WfssBkgModel"
            assert template.meta.instrument.filter == scene.elements[0]
            there = slices(window) if covered is None else ...
            np.testing.assert_array_equal(template.data[there], simulated.field.template)
            np.testing.assert_array_equal((template.dq & 1) > 0, np.isnan(template.data))

    def test_references_and_association_agree(self, tmp_path):
        field = draw_field(NIRISS_R, 3, part(WINDOW, NIRISS_R))
        files = write_field(tmp_path, observe(field), template_window=WINDOW)
        with open_model(files.wavelengthrange) as ranges:
            limits = orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, "F150W")
        assert limits == orders_of(NIRISS_R)
        assert [limit.order for limit in limits] == [-1, 0, 1, 2, 3]
        members = json.loads(files.association.read_text())["products"][0]["members"]
        assert {m["exptype"]: m["expname"] for m in members} == {
            "science": files.target.name,
            "sourcecat": files.catalog.name,
        }
        plain, table = read_catalog(files.catalog), source_catalog(field)
        whole = read_catalog(QTable.read(files.catalog, format="ascii.ecsv"))
        np.testing.assert_array_equal(plain.ra, whole.ra)
        np.testing.assert_allclose(plain.magnitude, table["isophotal_abmag"])
        assert template_model(NIRISS_R, 3, WINDOW).data.shape == WINDOW.shape


def test_subarray_is_what_the_detector_reads():
    field = draw_field(NIRCAM_R, 1, Subarray(name="X", window=WINDOW, frame_time=1.0))
    assert field.setup.group_time == NIRCAM_R.readout.n_frames + NIRCAM_R.readout.group_gap


def test_photons_may_be_counted():
    """Their mean and variance stay, and their distribution is skew."""
    part = Subarray(name="GENERIC", window=DetectorWindow(600, 600, 256, 256), frame_time=10.7)
    clean = replace(NIRCAM_R.detector, hot_fraction=0, dead_fraction=0, cosmic_ray_left=0)
    short = replace(NIRCAM_R.readout, n_groups=10)
    none = Population(stars=0, galaxies=0)
    moments = []
    for counts in (False, True):
        detector = replace(clean, counts_photons=counts, read_noise=0.1)
        scene = replace(NIRCAM_R, detector=detector, readout=short, population=none, level=0.02)
        field = draw_field(scene, 4, part)
        planes = field.measure()
        noise = (planes.sci - field.sky) * field.setup.electrons_per_rate
        mean = (field.sky * field.setup.electrons_per_rate).mean()
        moments.append((noise.mean(), noise.var() / mean, (noise**3).mean() / mean))
    for average, variance, _ in moments:
        assert average == pytest.approx(0, abs=0.05)
        assert variance == pytest.approx(1, abs=0.03)
    assert moments[0][2] == pytest.approx(0, abs=0.3)
    assert moments[1][2] == pytest.approx(1, abs=0.3)
