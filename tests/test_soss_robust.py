"""The robust SOSS fit: against its dense twin, on simulated exposures, on odd input."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_soss_robust
from reference_soss_robust import COLUMNS, ROWS, Small
from webbkg.errors import OptionError
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import SossOptions
from webbkg.results import Status
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    SUBSTRIP96,
    SossScene,
    draw_field,
    draw_series,
    make_library,
    sample_cube,
)
from webbkg.soss import flicker as flickers
from webbkg.soss import gls, wings
from webbkg.soss.fit import fit_segments, fit_templates, template_background
from webbkg.soss.flicker import Flicker, fit_flicker
from webbkg.soss.stack import NoiseLaw, fit_noise_law, stack
from webbkg.soss.stream import Stream

ROBUST = SossOptions(method="robust")
REFERENCE_PIXEL = np.uint32(1 << 31)
DO_NOT_USE = np.uint32(1)
TRUTH = np.array([0.93, 0.88])


@pytest.mark.parametrize("tie", [None, np.kron(np.eye(4), np.ones((2, 1)))])
def test_least_squares_are_those_of_the_dense_twin(tie):
    small = Small(tie=tie)
    normal = gls.normal_equations(small.moments(), small.layout, small.flicker)
    matrix, vector, square = small.dense().normal()
    np.testing.assert_allclose(normal.matrix, matrix, rtol=1e-5, atol=1e-5 * matrix.max())
    np.testing.assert_allclose(normal.vector, vector, rtol=1e-5, atol=1e-5 * abs(vector).max())
    assert normal.square == pytest.approx(square, rel=1e-5)


@pytest.mark.parametrize("template", [0, 1])
def test_solution_and_column_levels_are_those_of_the_dense_twin(template):
    small = Small(3)
    small.wings[0] *= -1  # so that its strengths are 0
    normal = gls.normal_equations(small.moments(), small.layout, small.flicker)
    chosen = small.layout.of_template(template)
    found, _ = gls.solve(normal, chosen)
    twin = small.dense(template)
    expected, chi2 = twin.solve()
    np.testing.assert_array_equal(expected[2:4], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert normal.chi2(found, chosen) == pytest.approx(chi2, rel=1e-5)
    levels, _ = gls.column_levels(small.moments(), small.layout, small.flicker, found, chosen)
    np.testing.assert_allclose(levels, twin.column_levels(found), atol=1e-4)


def test_scatter_is_that_of_the_dense_twin():
    small = Small(5)
    small.layout = replace(small.layout, templates=1)
    small.templates = small.templates[:1]
    extra = np.random.default_rng(2).uniform(0, 0.5, (COLUMNS, ROWS))
    squares = small.weights**2 * extra
    beyond = gls.find_moments(small.data, squares, small.templates, small.wings, 1)
    change = gls.scatter(small.moments(), beyond, small.layout, small.flicker)
    used = small.weights > 0
    padded = np.concatenate([extra[used], np.zeros(np.count_nonzero(small.reference[1] > 0))])
    expected = small.dense().scatter(padded)
    np.testing.assert_allclose(change, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_moments_do_not_depend_on_threads():
    small = Small()
    np.testing.assert_array_equal(small.moments(1), small.moments(3))


def test_drawn_solutions_scatter_as_the_covariance_says():
    """With strengths far above 0 no bound is felt, and the scatter is the covariance."""
    small = Small(7)
    normal = gls.normal_equations(small.moments(), small.layout, small.flicker)
    chosen = small.layout.of_template(0)
    matrix = normal.matrix[np.ix_(chosen, chosen)]
    truth = 100 * np.sqrt(np.diag(np.linalg.inv(matrix)))
    drawn = gls.draw(normal, chosen, truth, 3 * matrix, 2000)
    np.testing.assert_allclose(drawn.std(axis=0), truth / 100 * 2, rtol=0.08)
    np.testing.assert_allclose(drawn.mean(axis=0), truth, rtol=1e-6)  # each noise with both signs


@given(seed=st.integers(0, 1000), columns=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_solver_of_levels_is_that_of_the_full_matrix(seed, columns):
    rng = np.random.default_rng(seed)
    flicker = Flicker(1.0, 1.0, 0.3, rng.uniform(0, 2, len(flickers.LENGTHS)))
    diagonal, values = rng.uniform(0.1, 3, columns), rng.normal(size=(columns, 3))
    solver = flicker.solver(diagonal)
    levels = reference_soss_robust.level_covariance(flicker, flickers.LENGTHS, columns)
    inverse = np.linalg.inv(levels + np.diag(diagonal))
    white = solver.whiten(values)
    np.testing.assert_allclose(white.T @ white, values.T @ inverse @ values, rtol=1e-9)
    expected = levels @ inverse @ values[:, 0]
    np.testing.assert_allclose(solver.levels(values[:, 0]), expected, rtol=1e-7, atol=1e-9)
    weight = rng.normal(size=columns)
    assert flicker.variance_of(weight) == pytest.approx(weight @ levels @ weight, rel=1e-9)


def test_flicker_is_found_again():
    rng = np.random.default_rng(4)
    columns, size = 2000, 1 << 15
    frequency = np.fft.rfftfreq(size)[1:]
    spectrum = np.sqrt(size * 0.02 / frequency / 2) * rng.normal(size=(2, 8, len(frequency)))
    spectrum = np.concatenate([np.zeros((8, 1)), spectrum[0] + 1j * spectrum[1]], axis=1)
    levels = np.fft.irfft(spectrum, size)[:, :columns]
    measured = 0.05 * rng.normal(size=levels.shape)
    found = fit_flicker(levels + measured, np.full(columns, 0.05**2))
    assert found.strength == pytest.approx(0.02, rel=0.2)
    assert found.exponent == pytest.approx(1.0, abs=0.1)
    # The exponentials follow the power law: variance of the mean of a hundred neighbours.
    means = levels[:, : 20 * 100].reshape(8, 20, 100).mean(axis=2)
    weight = np.zeros(1000)
    weight[:100], weight[500:600] = 0.01, -0.01
    differences = means[:, :15] - means[:, 5:20]
    assert found.variance_of(weight) == pytest.approx(np.mean(differences**2), rel=0.5)


def make_stream(sci, dq=None, threads=1, segments=1):
    dq = np.zeros(sci.shape, np.uint32) if dq is None else dq
    parts = np.array_split(np.arange(len(sci)), segments)
    return Stream([ArrayPlanes.of(SCI=sci[part], DQ=dq[part]) for part in parts], threads)


def make_cube(integrations, seed=1, rows=40, columns=300):
    """Light that rises along the columns, with noise of 0.05 + 0.01 times it, and levels."""
    rng = np.random.default_rng(seed)
    light = np.linspace(2, 60, columns) + np.zeros((rows, 1))
    noise = np.sqrt(0.05 + 0.01 * light) * rng.normal(size=(integrations, rows, columns))
    levels = 0.2 * rng.normal(size=(integrations, 1, columns))
    return light, (light + noise + levels).astype(np.float32)


@pytest.mark.parametrize("integrations", [2, 3, 8, 30])
def test_stack_leaves_cosmic_rays_out_and_measures_the_noise(integrations):
    light, sci = make_cube(integrations)
    rays = np.random.default_rng(2).random(sci.shape) < 0.003
    sci[rays] += 40
    deep = stack(make_stream(sci))
    assert deep.law.read == pytest.approx(0.05, abs=0.04)
    assert deep.law.photon == pytest.approx(0.01, rel=0.1)
    off = (deep.mean.T - light) / np.sqrt((0.05 + 0.01 * light + 0.04) / integrations)
    assert np.abs(off).max() < 6.5
    struck = rays.sum(axis=0)
    assert (deep.count.T[struck == 1] == integrations - 1).mean() > 0.98
    assert (deep.count.T[struck == 0] == integrations).mean() > 0.999
    assert deep.integrations == integrations


def test_stack_of_one_takes_the_noise_along_the_columns():
    _, sci = make_cube(1, rows=200)
    deep = stack(make_stream(sci))
    np.testing.assert_array_equal(deep.mean.T, sci[0])
    assert deep.law.photon == pytest.approx(0.01, rel=0.1)
    assert len(deep.differences) == 0


def test_stack_is_the_same_for_any_threads_and_segments():
    _, sci = make_cube(21)
    one = stack(make_stream(sci))
    for other in (stack(make_stream(sci, threads=3)), stack(make_stream(sci, segments=4))):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.count, other.count)
        assert one.law == other.law


def test_stack_leaves_out_what_is_unusable_and_keeps_reference_pixels():
    light, sci = make_cube(5)
    dq = np.zeros(sci.shape, np.uint32)
    dq[2, 3, 4] = DO_NOT_USE
    sci[2, 3, 4] = 50.0
    sci[1, 5, 6] = np.nan
    dq[:, :, 0] = REFERENCE_PIXEL | DO_NOT_USE
    dq[:, 9, 9] = DO_NOT_USE
    deep = stack(make_stream(sci, dq))
    assert deep.count[4, 3] == deep.count[6, 5] == 4
    assert deep.count[9, 9] == 0
    assert deep.reference[0].all()
    assert not deep.reference[1:].any()
    assert (deep.count[0] > 0).all()
    assert abs(deep.mean[4, 3] - light[3, 4]) < 1.0


def test_noise_law_of_nothing_is_harmless():
    nothing = np.full((2, 4, 5), np.nan, np.float32)
    assert fit_noise_law(nothing, np.zeros((4, 5), np.float32)) == NoiseLaw(1.0, 0.0)


def test_wings_are_light_spread_across_dispersion():
    light = np.zeros((3, 64))
    light[1, 30] = 2.0
    spread = wings.spread(light)
    assert len(spread) == 2 * (len(wings.WIDTHS) + 1)
    distance = np.arange(64) - 30
    for index, width in enumerate(wings.WIDTHS):
        kernel = 2.0 * (1 + (distance / width) ** 2) ** -wings.POWER / width
        above = np.where(distance > wings.HOLE, kernel, 0)
        below = np.where(distance < -wings.HOLE, kernel, 0)
        np.testing.assert_allclose(spread[index, 1], above, atol=1e-15)
        np.testing.assert_allclose(spread[len(wings.WIDTHS) + 1 + index, 1], below, atol=1e-15)
    assert not spread[:, [0, 2]].round(12).any()


@pytest.mark.parametrize(
    "model",
    [
        (),
        ("sides",),
        ("colour",),
        ("colour", "bent"),
        ("orders", "compact"),
        (*wings.EXTENSIONS, wings.STRAY_LIGHT),
    ],
)
def test_a_compressed_basis_is_the_tied_one(model):
    rng = np.random.default_rng(1)
    traces = np.zeros((30, 90))
    traces[:, 40:44], traces[:, 70:73] = 5, 1
    compact = np.zeros_like(traces)
    compact[12, 60:63] = 100
    images = wings.basis(traces, compact)
    tie = wings.tie(frozenset(model), 3)
    compressed, less = wings.compress(images, frozenset(model), 3)
    assert tie.shape[1] == less.shape[1]
    assert len(compressed) < len(images) or len(model) == 6
    strength = rng.uniform(0, 1, tie.shape[1])
    full, small = (one @ strength for one in (tie, less))
    np.testing.assert_allclose(
        np.einsum("kh,kbr->hbr", full.reshape(-1, 3), images),
        np.einsum("kh,kbr->hbr", small.reshape(-1, 3), compressed),
        rtol=1e-12,
    )


def test_compact_sources_are_told_from_traces():
    light = np.full((60, 90), 5.0)
    light[:, 40:60] += 50
    light[30:32, 10:30] += 200
    light[10, 70] += 200  # a single pixel is none
    found = wings.compact_light(light - 5, 0.5, np.full_like(light, 5.0))
    np.testing.assert_array_equal(np.argwhere(found > 0), np.argwhere(light > 150)[1:])


# Whole fits.


def scene_of(star=44.0, groups=15, **changes):
    readout = Readout(pattern="NISRAPID", n_groups=groups)
    return replace(SossScene(), star=star, readout=readout, transit_depth=0.0, **changes)


@pytest.fixture(scope="module")
def narrow():
    """Two integrations of 96 rows with a star, and the library.

    Of the first order alone: the others leave the strip, and their wings come in from outside.
    """
    shown = draw_field(scene_of(traces=(ORDER_1,)), 21, SUBSTRIP96)
    return shown, sample_cube(draw_series(shown, 2)), make_library(shown.scene, 21)


@pytest.fixture(scope="module")
def narrow_fit(narrow):
    _, cube, library = narrow
    return fit_templates(*cube, library, ROBUST)


def errors_of(fit):
    return np.array([fit.left.scale, fit.right.scale]) / TRUTH - 1


def test_template_and_scales_are_found_beside_a_star(narrow, narrow_fit):
    fit = narrow_fit
    assert fit.status is Status.COMPLETE
    assert fit.template == narrow[0].scene.template
    quoted = np.array([fit.left.scale_err, fit.right.scale_err]) / TRUTH
    assert (np.abs(errors_of(fit)) < 0.01).all()
    assert (np.abs(errors_of(fit)) < 4 * quoted).all()
    assert (quoted < 0.01).all()
    assert fit.robust.log_likelihood[fit.template] == 0
    assert fit.robust.margin > 2


def test_background_is_the_scaled_template(narrow, narrow_fit):
    shown, _, library = narrow
    background = template_background(narrow_fit, library)
    lit = ~shown.reference
    lit[:, 685:725] = False
    assert np.abs(background.sci[lit] / shown.sky[lit] - 1).max() < 0.01


def test_threads_and_segments_change_no_bit(narrow, narrow_fit):
    _, (sci, dq), library = narrow
    parts = [ArrayPlanes.of(SCI=sci[i], DQ=dq[i]) for i in range(2)]
    assert fit_segments(parts, library, ROBUST, threads=3) == narrow_fit


def test_a_scaled_library_gives_inversely_scaled_results(narrow, narrow_fit):
    _, cube, library = narrow
    fit = fit_templates(*cube, 4 * library, ROBUST)
    assert fit.template == narrow_fit.template
    assert fit.left.scale == pytest.approx(narrow_fit.left.scale / 4, rel=1e-6)
    assert fit.right.scale_err == pytest.approx(narrow_fit.right.scale_err / 4, rel=1e-4)


def test_inputs_are_not_changed_and_may_be_of_any_kind(narrow, narrow_fit):
    _, (sci, dq), library = narrow
    kept = sci.copy(), dq.copy(), library.copy()
    fit = fit_templates(sci.astype(">f4"), dq.astype(">u4"), library, ROBUST)
    for one, other in zip((sci, dq, library), kept, strict=True):
        np.testing.assert_array_equal(one, other)
    assert fit == narrow_fit


def test_columns_without_data_are_left_out(narrow):
    _, (sci, dq), library = narrow
    sci = sci.copy()
    sci[:, :, 300:420] = np.nan
    dq = dq.copy()
    dq[:, :, 1500] |= DO_NOT_USE
    fit = fit_templates(sci, dq, library, ROBUST)
    assert fit.template == 3
    assert (np.abs(errors_of(fit)) < 0.01).all()


def test_a_bright_star_on_the_whole_strip_and_a_verdict_on_stray_light():
    """A small instance of docs/soss_recovery.md, of other seeds."""
    truth = draw_field(scene_of(440.0, 6), 31)
    library = make_library(truth.scene, 31)
    fit = fit_templates(*sample_cube(draw_series(truth, 2)), library, ROBUST)
    assert fit.template == 3
    assert (np.abs(errors_of(fit)) < 0.005).all()
    assert fit.robust.noise.reference_pixels
    assert fit.robust.look == ()
    astray = draw_field(scene_of(440.0, 6, stray=0.003), 31)
    fit = fit_templates(*sample_cube(draw_series(astray, 2)), library[2:5], ROBUST)
    assert "there is smooth light that is neither sky nor wings" in fit.robust.look


def test_no_star_at_all():
    shown = draw_field(scene_of(0.0, 15), 22, SUBSTRIP96)
    library = make_library(shown.scene, 22)
    fit = fit_templates(*sample_cube(draw_series(shown, 2)), library, ROBUST)
    assert fit.template == 3
    assert (np.abs(errors_of(fit)) < 0.003).all()
    assert fit.robust.look == ()


def test_one_integration(narrow):
    _, (sci, dq), library = narrow
    fit = fit_templates(sci[0], dq[0], library, ROBUST)
    assert fit == fit_templates(sci[:1], dq[:1], library, ROBUST)
    assert (np.abs(errors_of(fit)) < 0.02).all()
    assert fit.robust.noise.flicker_strength > 0


def test_a_single_template(narrow, narrow_fit):
    _, cube, library = narrow
    fit = fit_templates(*cube, library[3], ROBUST)
    assert fit.template == 0
    assert fit.robust.margin == np.inf
    assert fit.left.scale == pytest.approx(narrow_fit.left.scale, rel=0.002)


def test_a_sky_that_no_template_has_is_told(narrow):
    _, (sci, dq), library = narrow
    wrong = library[:1].copy()
    wrong[:, :, 701:] *= np.linspace(1.3, 0.7, wrong.shape[2] - 701, dtype=np.float32)
    fit = fit_templates(sci, dq, wrong, ROBUST)
    assert any("no template is right" in reason for reason in fit.robust.look)


@pytest.mark.parametrize("side", [slice(0, 720), slice(690, None)])
def test_a_side_without_a_pixel_is_skipped(narrow, side):
    _, (sci, dq), library = narrow
    sci = sci.copy()
    sci[:, :, side] = np.nan
    fit = fit_templates(sci, dq, library, ROBUST)
    assert fit.status is Status.SKIPPED
    assert "no usable pixel" in fit.reason


def test_everything_masked_or_unknown_is_skipped(narrow):
    _, (sci, dq), library = narrow
    for cube in ((np.full_like(sci, np.nan), dq), (sci, np.full_like(dq, DO_NOT_USE))):
        assert fit_templates(*cube, library, ROBUST).status is Status.SKIPPED


def test_a_library_of_zeros_is_skipped(narrow):
    _, cube, library = narrow
    fit = fit_templates(*cube, np.zeros_like(library[:2]), ROBUST)
    assert fit.status is Status.SKIPPED


def test_unknown_method_is_refused():
    with pytest.raises(OptionError, match="soss_method must be percentile or robust"):
        SossOptions(method="best")
