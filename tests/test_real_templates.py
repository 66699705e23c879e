"""Flight sky images of NIRCam as templates: scaled and noised, they are found again."""

import numpy as np
import pytest
from astropy.io import fits

import webbkg
from factories import GRISM, make_model
from webbkg.options import TemplateOptions
from webbkg.template.fit import scale_templates

pytestmark = pytest.mark.real

NAMES = ("median_bkg_F356W_modA_GRISMR.fits.zip", "median_bkg_F444W_modA_GRISMR.fits.zip")
NOISE = 0.02


@pytest.fixture(scope="module")
def skies(real_data):
    """Return the two images, (2, 2048, 2048) float32, with a border of NaN, and their files."""
    paths = [real_data / "nircam_wfss" / name for name in NAMES]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no sky images in {paths[0].parent}")
    return np.stack([fits.getdata(path) for path in paths]).astype(np.float32), paths


def observed(skies, scales, seed=1):
    sci = np.tensordot(scales, np.nan_to_num(skies), 1)
    sci += NOISE * np.random.default_rng(seed).standard_normal(sci.shape)
    rows, columns = np.mgrid[:2048, :2048]
    for row, column in ((500, 700), (1500, 300), (900, 1800)):
        sci += 5 * (1 + ((rows - row) ** 2 + (columns - column) ** 2) / 9) ** -3.0
    return sci.astype(np.float32)


def test_a_mixture_of_flight_skies_is_taken_apart(skies):
    """With none beside them: they are the whole sky. NaN stays as it is."""
    images, _ = skies
    options = TemplateOptions(template_sky="none")
    variance = np.full(images[0].shape, NOISE**2, np.float32)
    fit, sky = scale_templates(
        observed(images, (0.7, 0.3)), None, images, variance, options=options
    )
    for one, true in zip(fit.scales, (0.7, 0.3), strict=True):
        assert abs(one.scale - true) < 4 * one.scale_err < 0.01
    assert fit.chi2_dof == pytest.approx(1, abs=0.02)
    assert not sky[np.isnan(images).any(axis=0)].any()


def test_their_structure_alone_gives_the_scale_too(skies):
    images, _ = skies
    sci = 0.3 + observed(images[:1], (1.7,))
    variance = np.full(sci.shape, NOISE**2, np.float32)
    options = TemplateOptions(template_sky="level")
    fit, _ = scale_templates(sci, None, images[:1], variance, options=options)
    assert abs(fit.scales[0].scale - 1.7) < 4 * fit.scales[0].scale_err < 0.02
    assert fit.level == pytest.approx(0.3, abs=0.01)


def test_from_the_file_to_a_subarray_of_a_grism_exposure(skies):
    images, paths = skies
    cut = np.s_[600:1112, 700:1212]
    sci = observed(images[:1], (1.7,))[cut]
    model = make_model(sci, np.full(sci.shape, NOISE), at=(700, 600), meta=GRISM)
    done = webbkg.subtract(model, template=paths[0], wfss_method="robust")
    fit = done.outcome.result.fit
    assert abs(fit.scale - 1.7) < 4 * fit.scale_err < 0.01
    assert abs(done.metrics.level) < NOISE / 20
