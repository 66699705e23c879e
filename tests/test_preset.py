"""The preset: what it sets, and that what is given wins over it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from factories import ramp, save_multiples
from webbkg import BackgroundStep
from webbkg.cli import app
from webbkg.cli.names import repeat_background_flag
from webbkg.errors import OptionError
from webbkg.options import KINDS, PRESETS, ImageOptions, RunOptions, WfssOptions, parameters

SHAPE = (6, 8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target and three backgrounds, and go there."""
    monkeypatch.chdir(tmp_path)
    save_multiples(ramp(SHAPE), tmp_path, t=3, b1=1, b2=1, b3=1)
    return tmp_path


@pytest.fixture
def table(monkeypatch):
    """Replace what the preset sets; the step's specification, made at import, stays."""
    sets = {"sigma": 1.5, "wfss_maxiter": 2, "save_background": True}
    monkeypatch.setitem(PRESETS, "robust", sets)
    return sets


def test_what_is_given_wins_over_the_preset_and_the_preset_over_the_default(table):
    robust = {"preset": "robust", "maxiters": None}
    assert ImageOptions.of(robust).sigma == 1.5
    assert WfssOptions.of(robust).maxiter == 2
    assert RunOptions.of(robust).save_background is True
    assert ImageOptions.of({**robust, "sigma": 3.0}).sigma == 3.0
    assert RunOptions.of({**robust, "save_background": False}).save_background is False
    assert ImageOptions.of({"preset": None}) == ImageOptions()


def test_a_line_in_the_table_is_all_that_a_parameter_needs(table):
    """Unless it is given it is None in the step, so that the preset can tell."""
    told = parameters()
    assert (told["sigma"].default, told["sigma"].stands_for) == (None, 3.0)
    assert told["sigma"].specification.startswith("sigma = float(default=None)")
    assert told["sigma"].presets == {"robust": 1.5}
    assert (told["maxiters"].presets, told["wfss_maxiter"].mode) == ({}, "wfss")


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_sets_is_a_parameter_that_differs_from_its_default(name):
    told = parameters()
    for parameter, value in PRESETS[name].items():
        assert value != told[parameter].stands_for
    kinds = {type_.mode: type_ for type_ in KINDS}
    for kind in kinds.values():
        kind.of({"preset": name})  # passes its own checks


def test_an_unknown_preset_is_refused(folder):
    with pytest.raises(OptionError, match=r"preset must be one of robust \(got 'strong'\)"):
        ImageOptions.of({"preset": "strong"})
    command = ["subtract", "t_rate.fits", "-b", "b1_rate.fits", "--preset", "strong"]
    done = CliRunner().invoke(app, repeat_background_flag(command))
    assert done.exit_code == 2
    assert "preset must be one of robust (got 'strong')" in done.stderr
    with pytest.raises(OptionError, match=r"strong.*it must be one of robust"):
        BackgroundStep.call("t_rate.fits", ["b1_rate.fits"], preset="strong")


@pytest.mark.parametrize("flag", [("--robust",), ("--preset", "robust"), ("--preset=robust",)])
def test_the_command_line_has_it(folder, monkeypatch, flag):
    seen = []
    of = ImageOptions.of

    def note(given):
        seen.append(given.get("preset"))
        return of(given)

    monkeypatch.setattr(ImageOptions, "of", note)
    command = ["subtract", "t_rate.fits", "-b", "b1_rate.fits", "b2_rate.fits", *flag]
    assert CliRunner().invoke(app, repeat_background_flag(command)).exit_code == 0
    assert seen == ["robust"]


def test_a_step_has_it(folder):
    result = BackgroundStep.call("t_rate.fits", ["b1_rate.fits", "b2_rate.fits"], preset="robust")
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE))
