"""The SOSS fit agrees with jwst: template, scales and DQ to the last bit, SCI to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import SOSS, make_model
from peer import oracle
from webbkg.options import SossOptions
from webbkg.soss.fit import find_jump, fit_templates, template_background

pytestmark = pytest.mark.peer

DO_NOT_USE = 1
REFERENCE_PIXEL = 1 << 31
COLUMNS = 2048


def make_library(number=5, rows=256, seed=3):
    """Templates with a step near column 700, a decline, and each its own gradient and texture."""
    x = np.arange(COLUMNS)
    rng = np.random.default_rng(seed)
    step = 697 + np.arange(rows)[:, np.newaxis] * 4 // rows
    right = np.where(x < 950, 6.0 - 0.012 * (x - 700), 5.0)
    sky = np.where(x < step, 4.0 + 1e-4 * x, right)
    tilt = np.linspace(-1, 1, rows)[:, np.newaxis]
    texture = rng.normal(1, 0.003, (number, rows, COLUMNS))
    return (sky + 0.1 * np.arange(number)[:, None, None] * tilt) * texture


def make_target(template, shape, seed=1, noise=0.1):
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(COLUMNS) < 700, 0.93, 1.04)
    sci = template * scale + rng.normal(0, noise, shape)
    sci[..., 30:45, :] += rng.exponential(50, sci[..., 30:45, :].shape)
    dq = rng.choice(np.array([0, 4, 1 << 20], np.uint32), shape)
    return sci.astype(np.float32), dq


def spoil(sci, dq, seed=2):
    """NaN, infinities, and finite samples that are flagged."""
    rng = np.random.default_rng(seed)
    for value in (np.nan, np.inf, -np.inf, 1e30):
        sci[rng.random(sci.shape) < 0.005] = value
    flagged = rng.random(sci.shape) < 0.02
    sci[flagged] *= np.float32(0.5)
    dq[flagged] |= np.uint32(DO_NOT_USE)
    edge = np.zeros(sci.shape, bool)
    edge[..., :4] = edge[..., -4:] = edge[..., -3:, :] = True
    sci[edge] = 0.01
    dq[edge] |= np.uint32(REFERENCE_PIXEL)


def run_both(sci, dq, library, options=None):
    options = options or SossOptions()
    reference = datamodels.SossBkgModel(data=library.astype(np.float32))
    theirs = oracle.subtract_soss(
        make_model(sci, dq=dq, meta=SOSS),
        reference,
        soss_source_percentile=options.source_percentile,
        soss_bkg_percentile=list(options.bkg_percentile),
    )
    return fit_templates(sci, dq, library, options), theirs


def assert_agree(sci, dq, library, options=None):
    fit, theirs = run_both(sci, dq, library, options)
    assert fit.status == theirs.meta.cal_step.bkg_subtract
    if fit.template is None:
        np.testing.assert_array_equal(theirs.data, sci)
        return fit
    expected = subtract_in_float64(sci, fit, library)
    np.testing.assert_array_equal(theirs.data, expected.astype(np.float32))
    np.testing.assert_array_equal(theirs.dq, dq)
    # We round the background before it is subtracted.
    background = template_background(fit, library).sci
    np.testing.assert_allclose(sci - background, expected, rtol=1.2e-7, atol=1e-6)
    return fit


def subtract_in_float64(sci, fit, library):
    """Subtract as jwst does: product and difference in float64, rounded once."""
    rows = sci.shape[-2]
    template = library[fit.template][10:106] if rows < library.shape[1] else library[fit.template]
    right = np.arange(COLUMNS) >= fit.jump[:, np.newaxis]
    scale = np.where(right, fit.right.scale, fit.left.scale)
    return sci.astype(np.float64) - scale * template


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("shape", [(256, 2048), (3, 256, 2048), (96, 2048), (4, 96, 2048)])
def test_agreement(shape, spoilt):
    library = make_library().astype(np.float32)
    for best in (0, 3):
        cut = library if shape[-2] == 256 else library[:, 10:106]
        sci, dq = make_target(cut[best], shape, seed=best, noise=0.02)
        if spoilt:
            spoil(sci, dq)
        assert assert_agree(sci, dq, library).template == best


@pytest.mark.parametrize(
    ("source", "between"),
    [
        (35.0, (10.0, 20.0)),
        (60.0, (0.0, 100.0)),
        (12.5, (49.9, 50.1)),
        (100.0, (25.0, 75.0)),
        (5.0, (25.0, 50.0)),
        (0.0, (25.0, 50.0)),
        (35.0, (50.0, 25.0)),
        (35.0, (50.0, 50.0)),
        (35.0, (0.0, 0.0)),
        (35.0, (100.0, 100.0)),
    ],
)
def test_other_percentiles(source, between):
    library = make_library(rows=96).astype(np.float32)
    sci, dq = make_target(library[1], (2, 96, 2048))
    spoil(sci, dq)
    assert_agree(sci, dq, library, SossOptions(source_percentile=source, bkg_percentile=between))


def test_quantised_values():
    library = np.round(make_library(3, rows=96) * 8).astype(np.float32) / 8
    sci, dq = make_target(library[1], (2, 96, 2048))
    assert_agree(np.round(sci * 16) / 16, dq, library)


def test_templates_with_holes_and_zeros():
    library = make_library(4, rows=96).astype(np.float32)
    sci, dq = make_target(library[2], (2, 96, 2048), noise=0.02)
    library[:, 60, 900:] = np.nan
    library[1:, 40:44, 100:200] = 0
    library[0] = np.nan
    assert assert_agree(sci, dq, library).template == 2


def test_nothing_usable_on_one_side():
    library = make_library(2, rows=96).astype(np.float32)
    sci, dq = make_target(library[0], (96, 2048))
    sci[:, :730] = np.nan
    assert assert_agree(sci, dq, library).template is None


def test_other_row_counts_fit_directly():
    library = make_library(2, rows=128).astype(np.float32)
    sci, dq = make_target(library[1], (128, 2048), noise=0.02)
    assert assert_agree(sci, dq, library).template == 1


@pytest.mark.parametrize(("rows", "target_rows"), [(96, 256), (128, 96), (256, 128)])
def test_rows_that_do_not_match(rows, target_rows):
    library = make_library(1, rows=rows).astype(np.float32)
    sci = np.ones((target_rows, 2048), np.float32)
    assert assert_agree(sci, np.zeros(sci.shape, np.uint32), library).template is None


def test_steps_are_the_same():
    for template in make_library(5).astype(np.float32):
        np.testing.assert_array_equal(find_jump(template), oracle.find_jump(template))


def test_difference_unknown_pixels_near_the_step():
    """They drag jwst's step to themselves, and an infinite one rules the template out."""
    template = make_library(1, rows=96).astype(np.float32)[0]
    expected = find_jump(template)
    holes = template.copy()
    holes[40, 722] = np.nan
    assert np.abs(find_jump(holes) - expected).max() <= 1
    assert np.abs(oracle.find_jump(holes) - expected).max() > 5
    sci, dq = make_target(template, (96, 2048), noise=0.02)
    holes[50:60, 300] = np.inf
    fit, theirs = run_both(sci, dq, holes[np.newaxis])
    assert theirs.meta.cal_step.bkg_subtract == "SKIPPED"
    assert fit.template == 0
    assert fit.left.scale == pytest.approx(0.93, rel=0.02)
