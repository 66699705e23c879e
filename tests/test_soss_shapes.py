"""The robust SOSS fit on every shape of exposure and library, with one template and a mixture."""

from dataclasses import replace

import numpy as np
import pytest

from webbkg import subtract
from webbkg.numerics.planes import ArrayPlanes, PartOfRows
from webbkg.options import SossOptions
from webbkg.results import Status
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    ORDER_1_RED,
    SUBSTRIP96,
    SossScene,
    draw_field,
    draw_series,
    make_library,
    rate_model,
    sample_cube,
    template_model,
)
from webbkg.soss.fit import fit_segments, fit_templates, template_background

MODELS = {model: SossOptions(method="robust", model=model) for model in ("one", "mixture")}
DO_NOT_USE = np.uint32(1)
FULL = slice(1792, 2048)


def scene_of(star=44.0, groups=15, **changes):
    readout = Readout(pattern="NISRAPID", n_groups=groups)
    return replace(SossScene(), star=star, readout=readout, transit_depth=0.0, **changes)


@pytest.fixture(scope="module")
def whole():
    """Two integrations of SUBSTRIP256, and a library of three."""
    shown = draw_field(scene_of(), 81)
    return shown, sample_cube(draw_series(shown, 2)), make_library(shown.scene, 81)[2:5]


@pytest.fixture(scope="module")
def narrow():
    shown = draw_field(scene_of(traces=(ORDER_1,)), 82, SUBSTRIP96)
    return shown, sample_cube(draw_series(shown, 2)), make_library(shown.scene, 82)[2:5]


def left_in(shown, background):
    """Root of the mean squared sky that is left, over the sky, away from the jump."""
    lit = ~shown.reference
    lit[:, 685:725] = False
    return np.sqrt(np.mean((background.sci[lit] / shown.sky[lit] - 1) ** 2))


def test_full_frame(whole):
    """The library covers the rows of SUBSTRIP256; nothing else changes."""
    shown, (sci, dq), library = whole
    cube = np.full((2, 2048, 2048), 3.0, np.float32)
    flags = np.zeros(cube.shape, np.uint32)
    cube[:, FULL], flags[:, FULL] = sci, dq
    fit = fit_templates(cube, flags, library, MODELS["mixture"])
    alone = fit_templates(sci, dq, library, MODELS["mixture"])
    assert fit.jump.shape == (2048,)
    assert replace(fit, jump=alone.jump) == alone
    background = template_background(fit, library, np.full_like(library, 0.01))
    assert left_in(shown, template_background(alone, library)) < 0.01
    np.testing.assert_array_equal(background.sci[FULL], template_background(alone, library).sci)
    assert background.covered[FULL].all()
    assert not background.covered[:1792].any()
    assert not background.sci[:1792].any()
    assert background.variances.poisson.shape == (2048, 2048)


def test_a_part_of_the_rows_is_counted_from_its_first():
    planes = ArrayPlanes.of(SCI=np.arange(2 * 9 * 4, dtype=np.float32).reshape(2, 9, 4))
    part = PartOfRows(planes, 3, 8)
    assert part.shape == (2, 5, 4)
    assert part.has("SCI")
    assert not part.has("DQ")
    room = np.empty((1, 2, 4), np.uint32)
    (rows,) = part.rows(("SCI",), 1, 2, 4, room)
    np.testing.assert_array_equal(rows, planes.planes["SCI"][1, 5:7])
    assert part.read(("SCI",), 1, 2, 4, room) is False
    np.testing.assert_array_equal(room[0].view(np.float32), rows)


def test_full_frame_by_percentiles_is_skipped_as_ever(whole):
    _, _, library = whole
    cube = np.ones((1, 2048, 2048), np.float32)
    fit = fit_templates(cube, np.zeros(cube.shape, np.uint32), library)
    assert fit.status is Status.SKIPPED
    assert "do not fit" in fit.reason


def test_a_library_of_the_rows_of_the_target(narrow):
    _, (sci, dq), library = narrow
    own = library[:, 10:106]
    assert fit_templates(sci, dq, own, MODELS["one"]) == fit_templates(
        sci, dq, library, MODELS["one"]
    )


def test_full_frame_product(whole):
    shown, _, _ = whole
    model = rate_model(draw_series(shown, 1))
    frame = {name: np.ones((2048, 2048), np.float32) for name in ("data", "err")}
    frame["dq"] = np.zeros((2048, 2048), np.uint32)
    for name, plane in frame.items():
        plane[FULL] = model[name]
    target = type(model)(**frame)
    target.update(model)
    target.meta.subarray.name = "FULL"
    target.meta.subarray.ystart, target.meta.subarray.ysize = 1, 2048
    reference = template_model(shown.scene, 81)
    made = subtract(target, override_bkg=reference, soss_method="robust")
    assert made.outcome.status is Status.COMPLETE
    np.testing.assert_array_equal(made.product.data[:1792], 1)
    np.testing.assert_array_equal(made.product.dq[:1792], 0)
    taken = frame["data"][FULL] - made.product.data[FULL]
    lit = ~shown.reference & np.isfinite(taken)
    lit[:, 685:725] = False
    assert np.median(np.abs(taken[lit] / shown.sky[lit] - 1)) < 0.01
    assert 0 < {one.name: one.value for one in made.metrics.values}["sky_fraction"] <= 1


@pytest.mark.parametrize("model", MODELS)
def test_exposures_through_f277w(model):
    """The trace ends at 2.4 micrometres."""
    shown = draw_field(scene_of(300.0, 6, filter="F277W"), 83)
    assert shown.scene.elements == ("F277W", "GR700XD")
    assert not shown.star[:, 600:].any()
    library = make_library(shown.scene, 83)[2:5]
    fit = fit_templates(*sample_cube(draw_series(shown, 2)), library, MODELS[model])
    assert left_in(shown, template_background(fit, library)) < 0.01
    if model == "one":
        assert fit.template == 1


def test_the_red_end_of_order_1_lies_on_it():
    columns = np.arange(440)
    np.testing.assert_array_equal(ORDER_1_RED.centre(columns), ORDER_1.centre(columns))
    assert not ORDER_1_RED.spectrum()[446:].any()


@pytest.mark.parametrize("model", MODELS)
def test_a_single_rate_image_on_the_narrow_strip(narrow, model):
    shown, (sci, dq), library = narrow
    fit = fit_templates(sci[0], dq[0], library, MODELS[model])
    assert fit.n_integrations == 1
    background = template_background(fit, library)
    assert left_in(shown, background) < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_a_single_image_for_a_library(narrow, model):
    """Of 96 rows, with holes."""
    shown, cube, library = narrow
    own = library[1, 10:106].copy()
    own[20:23, 300:305] = np.nan
    fit = fit_templates(*cube, own, MODELS[model])
    assert fit.template == 0
    background = template_background(fit, own)
    assert (background.dq[20:23, 300:305] == DO_NOT_USE).all()
    known = np.isfinite(background.sci) & ~shown.reference
    known[:, 685:725] = False
    assert np.abs(background.sci[known] / shown.sky[known] - 1).max() < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_nothing_but_sky(model):
    shown = draw_field(scene_of(0.0, 15), 84, SUBSTRIP96)
    library = make_library(shown.scene, 84)[2:5]
    fit = fit_templates(*sample_cube(draw_series(shown, 2)), library, MODELS[model])
    assert left_in(shown, template_background(fit, library)) < 0.005


@pytest.mark.parametrize("model", MODELS)
def test_columns_without_a_value(narrow, model):
    shown, (sci, dq), library = narrow
    sci = sci.copy()
    sci[:, :, 100:160] = np.nan
    sci[1, :, 900:1000] = np.nan
    fit = fit_templates(sci, dq, library, MODELS[model])
    assert left_in(shown, template_background(fit, library)) < 0.01


class Streamed:
    """A thousand tiny integrations, none of which is held: sky, noise and a trace."""

    shape = (1000, 40, 760)

    def __init__(self, trace):
        self.trace = trace
        columns = np.arange(self.shape[2])
        sky = np.where(columns < 700, 4.0, 6.0) + 0.001 * columns
        self.template = (sky + 0.01 * np.arange(40)[:, np.newaxis]).astype(np.float32)
        self.noise = np.random.default_rng(1).normal(0, 0.5, 2**21).astype(np.float32)

    def rows(self, names, integration, start, stop, _room):
        assert names == ("SCI", "DQ")
        # Each has a piece of the noise of its own: to draw a thousand would take most of the time.
        size, first = np.prod(self.shape[1:]), 1999 * integration
        noise = self.noise[first : first + size].reshape(self.shape[1:])
        sci = np.float32(0.9) * self.template + noise + np.float32(0.1 * np.sin(integration))
        sci[self.trace] += 40
        dq = np.zeros(sci.shape, np.uint32)
        return [np.ascontiguousarray(sci[start:stop], np.float32), dq[start:stop]]


@pytest.mark.parametrize("model", MODELS)
def test_a_thousand_tiny_integrations_stream_by(model):
    source = Streamed(slice(10, 13))
    fit = fit_segments([source], source.template, MODELS[model])
    assert fit.n_integrations == 1000
    background = template_background(fit, source.template)
    assert np.abs(background.sci / (0.9 * source.template) - 1).max() < 0.02


def test_an_exposure_of_starlight_alone_is_skipped():
    source = Streamed(slice(5, 9))
    source.shape = (3, 14, 760)
    source.template = source.template[:14]
    fit = fit_segments([source], source.template, MODELS["one"])
    assert fit.status is Status.SKIPPED
    assert "is starlight" in fit.reason
