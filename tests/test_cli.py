"""The command: outcomes as exit statuses, summaries and JSON."""

import json

import numpy as np
import pytest
from stdatamodels.jwst import datamodels
from typer.testing import CliRunner

from factories import make_model, ramp, save, save_multiples
from webbkg.cli import app
from webbkg.cli.names import expand_globs, repeat_background_flag

SHAPE = (6, 8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target and three backgrounds, and go there."""
    monkeypatch.chdir(tmp_path)
    save_multiples(ramp(SHAPE), tmp_path, t=3, b1=1, b2=1, b3=1)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, repeat_background_flag(["subtract", *arguments]))


def test_a_complete_run_exits_0_and_sums_up(folder):
    result = run("t_rate.fits", "--background", "b1_rate.fits", "b2_rate.fits", "-o", "out")
    assert result.exit_code == 0
    assert "t_rate.fits: COMPLETE" in result.output
    assert "backgrounds           2" in result.output
    assert "samples used          96 of 96 usable" in result.output
    median = float(np.median(ramp(SHAPE)))
    assert f"median before, after  {3 * median:.6g}, {2 * median:.6g}" in result.output
    product = datamodels.open("out/t_backgroundstep.fits")
    np.testing.assert_array_equal(product.data, 2 * ramp(SHAPE))


def test_globs_are_expanded(folder):
    assert expand_globs(["b*_rate.fits"]) == ["b1_rate.fits", "b2_rate.fits", "b3_rate.fits"]
    (folder / "odd[1].fits").touch()
    assert expand_globs(["odd[1].fits"]) == ["odd[1].fits"]
    result = run("t_rate.fits", "-b", "b?_rate.fits", "--json")
    assert json.loads(result.stdout)[0]["details"]["backgrounds"] == [
        "b1_rate.fits",
        "b2_rate.fits",
        "b3_rate.fits",
    ]
    nothing = run("t_rate.fits", "-b", "c*_rate.fits")
    assert nothing.exit_code == 2
    assert "no file matches c*_rate.fits" in nothing.output


def test_json_is_all_that_is_printed(folder):
    result = run("t_rate.fits", "-b", "b1_rate.fits", "--json")
    (report,) = json.loads(result.stdout)
    assert report["status"] == "COMPLETE"
    assert report["output"] == "t_backgroundstep.fits"
    assert report["details"]["pixels"] == 48
    assert report["median_after"] == pytest.approx(2 * np.median(ramp(SHAPE)))


def test_quiet_prints_nothing_but_errors(folder):
    result = run("t_rate.fits", "-b", "b1_rate.fits", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    result = run("gone.fits", "-b", "b1_rate.fits", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == "error: target: no file gone.fits (looked in .)\n"


def test_skipped_exits_3(folder):
    result = run("t_rate.fits")
    assert result.exit_code == 3
    assert "no background exposures were given" in result.output


def test_what_is_done_already_exits_3_and_is_unchanged(folder):
    assert run("t_rate.fits", "-b", "b1_rate.fits").exit_code == 0
    result = run("t_backgroundstep.fits", "-b", "b1_rate.fits")
    assert result.exit_code == 3
    assert "already" in result.output
    product = datamodels.open("t_backgroundstep.fits")
    np.testing.assert_array_equal(product.data, 2 * ramp(SHAPE))
    again = run("t_backgroundstep.fits", "-b", "b1_rate.fits", "--allow-repeat", "-o", "out")
    assert again.exit_code == 0


def test_an_error_exits_1_and_the_other_targets_are_still_done(folder):
    (folder / "empty_rate.fits").touch()
    result = run("empty_rate.fits", "t_rate.fits", "-b", "b1_rate.fits")
    assert result.exit_code == 1
    assert "empty_rate.fits: the file is empty" in result.stderr
    assert (folder / "t_backgroundstep.fits").exists()


def test_bad_usage_exits_2(folder):
    assert run("t_rate.fits", "--no-such-option").exit_code == 2
    assert run("t_rate.fits", "-b", "b1_rate.fits", "--sigma=-1").exit_code == 2
    two_names = run("t_rate.fits", "b1_rate.fits", "--output-file", "x.fits")
    assert two_names.exit_code == 2


def test_warnings_are_shown_once(folder):
    save(make_model(ramp(SHAPE), meta__instrument__filter="F090W"), folder / "other_rate.fits")
    result = run("t_rate.fits", "-b", "other_rate.fits")
    assert result.exit_code == 0
    assert result.stderr.count("warning: other_rate.fits: its filter is F090W") == 1
