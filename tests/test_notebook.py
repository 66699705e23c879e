"""What a notebook shows: short reprs, tables that inject nothing, plots into an Axes."""

import re
import sys

import numpy as np
import pytest

import webbkg
from factories import grism_sky
from test_subtraction import BACKGROUNDS, folder  # noqa: F401 - a fixture
from webbkg.errors import InputError, MissingExtraError
from webbkg.results import (
    Metric,
    Metrics,
    Outcome,
    ScaleFit,
    SideFit,
    Status,
    TemplateFit,
    Variances,
)
from webbkg.wfss.fit import fit_scale

matplotlib = pytest.importorskip("matplotlib", reason="needs Matplotlib (extra 'report')")


@pytest.fixture
def done(folder):  # noqa: F811
    return webbkg.subtract("t_rate.fits", BACKGROUNDS)


@pytest.fixture
def fit():
    sky = grism_sky((60, 80), (0, 0)).astype(np.float32)
    noise = np.random.default_rng(4).normal(0, 0.05, sky.shape)
    err = np.full(sky.shape, 0.05, np.float32)
    sci = (2 * sky + noise).astype(np.float32)
    return fit_scale(sci, err, np.zeros(sky.shape, np.uint32), sky)


def template_fit():
    side = SideFit(scale=1.0, scale_err=0.1, rmse=0.2, n_sky=100, n_scale=50)
    rmse = np.array([[0.3, 0.4], [0.2, 0.2], [0.5, 0.4]])
    return TemplateFit(status=Status.COMPLETE, template=1, left=side, right=side, rmse=rmse)


def shown(done, fit):
    return done, done.outcome, done.background, done.metrics, fit, template_fit()


def test_reprs_are_a_few_lines_without_arrays(done, fit):
    for result in shown(done, fit):
        lines = repr(result).splitlines()
        assert len(lines) <= 15
        assert max(map(len, lines)) < 200
        assert lines[0].startswith(type(result).__name__)
        assert "array" not in repr(result)


def test_results_print_and_compare_where_an_array_stands_for_none():
    """Guards every grism outcome, which has a sky mask, and what the preset propagates."""
    mask, plane = np.ones((2, 3), np.bool_), np.ones((2, 3), np.float32)
    with_mask = Outcome(status=Status.COMPLETE, sky_mask=mask)
    assert "sky_mask=<bool 2x3>" in repr(with_mask)
    assert with_mask != Outcome(status=Status.COMPLETE)
    assert "rnoise=<float32 2x3>" in repr(Variances(poisson=plane, rnoise=plane))


def test_a_notebook_gets_a_table_with_the_numbers_and_a_picture(done, fit):
    for result in shown(done, fit):
        page = result._repr_html_()
        assert "<table>" in page
        assert page.count("<img") == 1
        assert 'src="data:image/png;base64,' in page
        assert not re.search(r'(src|href)="(?!data:)', page)
    assert "samples used" in done.outcome._repr_html_()
    assert "96 of 96 usable" in done._repr_html_()
    assert f"{fit.scale:.6g}" in fit._repr_html_()


def test_what_a_file_says_injects_nothing():
    hostile = "<script>alert(1)</script>"
    page = Outcome(status=Status.SKIPPED, reason=hostile, warnings=(hostile,))._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2


def test_plots_go_into_an_axes_and_come_back(done, fit):
    from matplotlib.figure import Figure

    before = {*sys.modules}
    for result in shown(done, fit):
        axes = Figure().add_subplot()
        assert result.plot(axes) is axes
        assert axes.has_data()
        assert type(result.plot()) is type(axes)
    assert "matplotlib.pyplot" not in {*sys.modules} - before


def test_without_anything_to_draw_that_is_told_and_the_table_has_no_picture():
    for result in (
        Outcome(status=Status.SKIPPED, reason="no background"),
        ScaleFit(status=Status.FAILED, reason="no sky"),
        TemplateFit(status=Status.SKIPPED, reason="no template"),
        Metrics(values=()),
    ):
        with pytest.raises(InputError, match="nothing to draw"):
            result.plot()
        assert "<img" not in result._repr_html_()


def test_without_matplotlib_tables_stay_and_plots_say_how_to_get_it(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "<img" not in done.metrics._repr_html_()
    with pytest.raises(MissingExtraError, match=r"webbkg\[report\]"):
        done.metrics.plot()


def test_metrics_are_drawn_by_their_grade():
    values = (
        Metric(name="sky_level", value=0.01),
        Metric(name="scatter", value=6.0, grade="bad", reason="far too much"),
        Metric(name="sky_share", value=np.nan),
    )
    axes = Metrics(values=values).plot()
    assert [one.get_text() for one in axes.get_yticklabels()] == ["sky level", "scatter"]
    assert [one.get_text() for one in axes.get_legend().get_texts()] == ["good", "bad"]
    assert axes.lines[-1].get_xdata()[0] == pytest.approx(4.0)


def test_a_product_says_what_was_done_as_a_table(done, tmp_path):
    told = webbkg.describe(done.product)
    assert told["backgrounds"] == list(BACKGROUNDS)
    assert re.search(r"^exposure_samples\.offered +96$", repr(told), re.MULTILINE)
    assert "<th" in told._repr_html_()
    done.product.save(tmp_path / "t_done.fits")
    assert dict(webbkg.describe(tmp_path / "t_done.fits")) == dict(told)
    with pytest.raises(InputError, match=r"t_rate.fits: says nothing"):
        webbkg.describe(tmp_path / "t_rate.fits")
