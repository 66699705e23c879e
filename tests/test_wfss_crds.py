"""WFSS with the real CRDS client, in processes of their own: what it finds, and what it lacks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from crds_cache import CONTEXT, Cache, environment, without_crds
from factories import write_mask
from webbkg.files.catalogs import read_catalog
from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.grism_scene import MIRI_PRISM, NIRCAM_R, NIRISS_C
from webbkg.simulate.sources import Population
from webbkg.simulate.wfss import SimulatedGrism, draw_field, observe, write_field
from webbkg.wfss.traces import catalog_sky_mask, orders_and_limits

BIN = Path(sys.executable).parent
UNREACHABLE = "https://127.0.0.1:9"  # the discard port: nothing listens
FEW = Population(stars=40, galaxies=20, faintest=100.0, brightest=20000.0)
SCENES = {
    "nircam": replace(NIRCAM_R, population=FEW),
    "niriss": replace(NIRISS_C, population=FEW),
    "miri": MIRI_PRISM,
}
WINDOW = DetectorWindow(300, 400, 256, 192)
COVERED = DetectorWindow(280, 350, 320, 260)


class Site(NamedTuple):
    """One instrument's exposure in a folder, its references in a CRDS cache."""

    folder: Path
    simulated: SimulatedGrism
    bkg: Path
    wavelengthrange: Path
    crds: dict[str, str]

    @property
    def orders(self):
        return orders_in(self.wavelengthrange, self.simulated.field.scene.band.name)

    def sky(self, orders):
        shown = self.simulated.field
        return catalog_sky_mask(
            read_catalog(self.folder / "cat.ecsv"),
            shown.wcs.backward_transform,
            orders,
            WINDOW.shape,
            dispersion_axis=shown.scene.grism.axis,
        )


def orders_in(path, blocking):
    with datamodels.WavelengthrangeModel(path) as ranges:
        return orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, blocking)


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Write a field for each instrument, and one cache: NIRCam's and NIRISS's references are in
    it, and N/A for MIRI."""
    root = tmp_path_factory.mktemp("fields")
    cache = Cache(root / "cache")
    found = {}
    for instrument, scene in SCENES.items():
        simulated = observe(draw_field(scene, 3, scene.detector.part(WINDOW)))
        files = write_field(root / instrument, simulated, template_window=COVERED)
        paths = []
        for kind, made in (("bkg", files.template), ("wavelengthrange", files.wavelengthrange)):
            name = f"jwst_{instrument}_{kind}_0001{made.suffix}"
            paths.append(made.rename(cache.path(instrument, name)))
            answer = "N/A" if instrument == "miri" else name
            cache.add(instrument, kind, {scene.exposure_type: answer})
        found[instrument] = (files.target.parent, simulated, *paths)
    crds = environment(cache)
    return {instrument: Site(*made, crds) for instrument, made in found.items()}


def run(site, *command, crds=None):
    """Run a command beside the exposure, which must be as it was afterwards."""
    before = sorted(site.folder.iterdir())
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=site.folder,
        capture_output=True,
        text=True,
        env=site.crds if crds is None else crds,
        check=False,
        timeout=120,
    )
    made = sorted(set(site.folder.iterdir()) - set(before))
    products = [datamodels.open(path) for path in made]
    for path in made:
        path.unlink()
    return done, products


def strun(site, *options, crds=None):
    return run(site, "strun", "webbkg", "asn.json", *options, crds=crds)


def subtract(site, *options):
    """Run the command, and read what it reports."""
    done, products = run(site, "webbkg", "subtract", "asn.json", "--json", *options)
    return done, json.loads(done.stdout)[0], products


def check_value(product, site, orders):
    """Mask, scale and SCI are those of the field's catalogue and template."""
    scene = site.simulated.field.scene
    sky = site.sky(orders)
    assert 0.1 < sky.mean() < 0.9
    np.testing.assert_array_equal(product.mask, sky)
    scale = product.meta.background.scaling_factor
    assert scale == pytest.approx(scene.scale, rel=0.01)
    left = site.simulated.model.data - scale * site.simulated.field.template.astype(float)
    np.testing.assert_allclose(product.data, left, rtol=1e-6, atol=1e-6)
    assert product.meta.cal_step.bkg_subtract == "COMPLETE"


@pytest.mark.parametrize("instrument", ["nircam", "niriss"])
def test_an_association_is_all_that_is_needed(sites, instrument):
    site = sites[instrument]
    done, (product,) = strun(site)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    assert product.meta.filename == "asn_backgroundstep.fits"
    check_value(product, site, site.orders)
    used = product.meta.ref_file
    assert used.bkg.name == f"crds://{site.bkg.name}"
    assert used.wavelengthrange.name == f"crds://{site.wavelengthrange.name}"
    assert used.crds.context_used == CONTEXT


def test_what_crds_gave_is_in_the_header(sites, tmp_path):
    site = sites["niriss"]
    done, _ = strun(site, f"--output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    header = fits.getheader(tmp_path / "asn_backgroundstep.fits")
    assert header["R_BKG"] == "crds://jwst_niriss_bkg_0001.fits"
    assert header["R_WAVRAN"] == "crds://jwst_niriss_wavelengthrange_0001.asdf"
    assert header["CRDS_CTX"] == CONTEXT
    assert header["S_BKDSUB"] == "COMPLETE"
    assert header["SCATFILE"] == "cat.ecsv"


def test_no_template_for_a_mode_is_skipped(sites):
    done, report, (product,) = subtract(sites["miri"])
    assert done.returncode == 3
    assert report["status"] == "SKIPPED"
    assert report["reason"] == "CRDS has no bkg reference for target_rate.fits (N/A)"
    check_untouched(product, sites["miri"])
    assert product.meta.ref_file.bkg.name == "N/A"


def test_no_wavelengths_for_a_mode_is_skipped_where_a_catalogue_is_used(sites, tmp_path):
    site = sites["miri"]
    done, report, (product,) = subtract(site, f"--override-bkg={site.bkg}")
    assert done.returncode == 3
    assert report["reason"] == "CRDS has no wavelengthrange reference for target_rate.fits (N/A)"
    check_untouched(product, site)
    own = f"--wfss-mask={write_mask(tmp_path / 'mask.fits', np.ones(WINDOW.shape))}"
    done, report, _ = subtract(site, f"--override-bkg={site.bkg}", own)
    assert done.returncode == 0, done.stderr
    assert report["status"] == "COMPLETE"


def check_untouched(product, site):
    target = site.simulated.model
    for plane in ("data", "err", "dq"):
        np.testing.assert_array_equal(getattr(product, plane), getattr(target, plane))
    assert product.meta.background.scaling_factor is None
    assert "mask" not in product.instance


@pytest.fixture
def real_crds(real_data):
    """Point CRDS at the mission's cache of 2021, without a server."""
    return {
        **without_crds(),
        "CRDS_PATH": str(real_data / "crds_cache"),
        "CRDS_CONTEXT": "jwst_0676.pmap",
        "CRDS_SERVER_URL": UNREACHABLE,
    }


@pytest.mark.real
def test_the_real_client_finds_the_real_wavelengths(sites, real_data, real_crds):
    site = sites["nircam"]
    done, (product,) = strun(site, f"--override_bkg={site.bkg}", crds=real_crds)
    assert done.returncode == 0, done.stderr
    name = "jwst_nircam_wavelengthrange_0003.asdf"
    orders = orders_in(real_data / "crds_cache/references/jwst/nircam" / name, "F356W")
    assert orders != site.orders
    check_value(product, site, orders)
    used = product.meta.ref_file
    assert used.wavelengthrange.name == f"crds://{name}"
    assert used.bkg.name.endswith(site.bkg.name)
    assert not used.bkg.name.startswith("crds://")
    assert used.crds.context_used == "jwst_0676.pmap"


def check_error(done, products, *parts):
    """The step ends with one message, that says what is lacking and the way out."""
    assert done.returncode == 1
    assert products == []
    assert done.stdout.count("ERROR RUNNING STEP") == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("webbkg.errors.ReferenceUnavailableError: the bkg reference is needed")
    for part in (*parts, "override_bkg"):
        assert part in said


@pytest.mark.real
def test_a_context_older_than_the_type_is_a_clear_error(sites, real_crds):
    done, products = strun(sites["nircam"], crds=real_crds)
    check_error(done, products, "CRDS cannot supply it", "Unknown reference type 'bkg'")


def test_no_server_and_no_cache_is_a_clear_error(sites, tmp_path):
    nowhere = {"CRDS_PATH": str(tmp_path), "CRDS_SERVER_URL": UNREACHABLE}
    done, products = strun(sites["nircam"], crds={**without_crds(), **nowhere})
    check_error(done, products, "CRDS cannot supply it")
    assert (done.stdout + done.stderr).count(" WARNING ") == 1  # of the step parameters


def test_crds_not_set_up_is_a_clear_error(sites):
    done, products = strun(sites["nircam"], crds=without_crds())
    check_error(done, products, "CRDS is not set up", "CRDS_PATH")
    assert " WARNING " not in done.stdout + done.stderr
