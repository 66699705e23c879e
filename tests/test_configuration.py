"""Where parameters come from: CRDS, a parameter file, the call, the command line; and the help."""

import re
import subprocess
import sys
from pathlib import Path

import asdf
import numpy as np
import pytest
from stdatamodels.jwst import datamodels
from stpipe import Step

from crds_cache import Cache, environment, without_crds
from factories import IMAGING, make_model, ramp, save, write_mask
from webbkg import BackgroundStep
from webbkg.errors import WebbkgError

STRUN = Path(sys.executable).parent / "strun"
DATED = {
    **IMAGING,
    "meta.observation.date": "2026-01-01",
    "meta.observation.time": "00:00:00",
}
OTHER_THAN_DEFAULT = {
    "bkg_list": ["b1_rate.fits", "b2_rate.fits"],
    "save_combined_background": True,
    "sigma": 2.5,
    "maxiters": 4,
    "clip_noise": "model",
    "soss_source_percentile": 31.5,
    "soss_bkg_percentile": [20.0, 60.0],
    "wfss_mmag_extract": 22.5,
    "wfss_mask": "mask.fits",
    "wfss_maxiter": 3,
    "wfss_rms_stop": 0.5,
    "wfss_outlier_percent": 2.0,
    "allow_repeat": True,
    "save_background": True,
    "match_background": "scale",
    "mask_sources": True,
    "source_mask": ["m1.fits", "m2.fits"],
}
CLASSES = ("webbkg.step.BackgroundStep", "webbkg.BackgroundStep")


def write_parameters(path, *, name=CLASSES[0], **parameters):
    """Write a parameter file as stpipe does, and as CRDS holds them."""
    tree = {
        "class": name,
        "name": "BackgroundStep",
        "parameters": parameters,
        "meta": {"author": "a test", "description": "for a test", "reftype": "pars"},
    }
    asdf.AsdfFile(tree).write_to(path)
    return str(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target and two backgrounds, and go there."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("t", 9), ("b1", 2), ("b2", 4)):
        save(make_model(level * ramp((6, 8)), meta=DATED), tmp_path / f"{name}_rate.fits")
    for name in OTHER_THAN_DEFAULT["source_mask"]:
        write_mask(tmp_path / name, np.ones((6, 8)))
    return tmp_path


@pytest.fixture
def crds(folder):
    """Set up a CRDS that has step parameters: sigma is 2.9. As in the mission's, of jwst's class."""
    cache = Cache(folder / "crds")
    name = "jwst_niriss_pars-backgroundstep_0001.asdf"
    parameters = {"sigma": 2.9, "maxiters": 7}
    path = cache.path("niriss", name)
    write_parameters(path, name="jwst.background.BackgroundStep", **parameters)
    cache.add("niriss", "pars-backgroundstep", {"NIS_IMAGE": name})
    return environment(cache)


def strun(*arguments, env=None, status=0):
    done = subprocess.run(
        [STRUN, *arguments],
        env=env or without_crds(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def options_used(product="t_backgroundstep.fits"):
    with datamodels.open(product) as model:
        return model.meta.background.webbkg.sigma, model.meta.background.webbkg.maxiters


BACKGROUNDS = "--bkg_list=b1_rate.fits,b2_rate.fits"
RUNS = {
    "default": ((CLASSES[0],), {}, (3.0, "None")),
    "crds": ((CLASSES[0],), {"crds": True}, (2.9, 7)),
    "file over crds": (("pars.asdf",), {"crds": True}, (2.8, 7)),
    "command line over file": (("pars.asdf", "--sigma=2.7"), {"crds": True}, (2.7, 7)),
    "file alone": (("pars.asdf",), {}, (2.8, "None")),
    "None in the file over crds": (("none.asdf",), {"crds": True}, (2.9, "None")),
    "crds switched off": ((CLASSES[0], "--disable-crds-steppars"), {"crds": True}, (3.0, "None")),
    "crds switched off outside": (
        (CLASSES[0],),
        {"crds": True, "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        (3.0, "None"),
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_the_later_of_default_crds_file_and_command_line_wins(folder, crds, run):
    write_parameters("pars.asdf", sigma=2.8)
    write_parameters("none.asdf", maxiters=None)
    (what, *options), settings, expected = RUNS[run]
    settings = dict(settings)
    env = dict(crds) if settings.pop("crds", False) else without_crds()
    strun(what, "t_rate.fits", *options, BACKGROUNDS, env={**env, **settings})
    assert options_used() == expected


CALL = """
import os
from webbkg import BackgroundStep
backgrounds = ["b1_rate.fits", "b2_rate.fits"]

def tell(**given):
    result = BackgroundStep.call("t_rate.fits", backgrounds, **given)
    print(result.meta.background.webbkg.sigma, result.meta.background.webbkg.maxiters)

tell()
tell(config_file="pars.asdf")
tell(config_file="pars.asdf", sigma=2.7)
tell(config_file="of_jwst.asdf")
tell(maxiters=None)
os.environ["STPIPE_DISABLE_CRDS_STEPPARS"] = "true"
tell()
"""


def test_a_call_takes_them_in_the_same_order(folder, crds):
    """The class that a file names is of no concern to a call."""
    write_parameters("pars.asdf", sigma=2.8)
    write_parameters("of_jwst.asdf", name="jwst.background.BackgroundStep", sigma=2.6)
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=crds, capture_output=True, text=True, check=False
    )
    told = [line for line in done.stdout.splitlines() if re.match(r"\d\.\d (\d|None)$", line)]
    assert told == ["2.9 7", "2.8 7", "2.7 7", "2.6 7", "2.9 None", "3.0 None"], done.stderr


def as_option(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def own_parameters(step):
    return {name: value for name, value in step.get_pars().items() if name in OTHER_THAN_DEFAULT}


def test_saved_parameters_come_back_as_they_were(folder):
    given = [f"--{name}={as_option(value)}" for name, value in OTHER_THAN_DEFAULT.items()]
    strun(CLASSES[0], "t_rate.fits", *given, "--save-parameters=all.asdf")
    assert own_parameters(Step.from_config_file("all.asdf")) == OTHER_THAN_DEFAULT
    first = datamodels.open("t_backgroundstep.fits").data
    Path("t_backgroundstep.fits").unlink()
    strun("all.asdf", "t_rate.fits")
    np.testing.assert_array_equal(datamodels.open("t_backgroundstep.fits").data, first)
    assert options_used() == (2.5, 4)


def test_a_list_of_one_from_the_command_line_can_be_saved(folder):
    shape = datamodels.open("t_rate.fits").data.shape[-2:]
    write_mask(folder / "m.fits", np.ones(shape))
    save(make_model(np.ones(shape)), folder / "one_rate.fits")
    given = {"bkg_list": ["one_rate.fits"], "source_mask": ["m.fits"]}
    options = [f"--{name}={value}" for name, (value,) in given.items()]
    Step.from_cmdline([CLASSES[0], "t_rate.fits", *options, "--save-parameters=one.asdf"])
    again = Step.from_config_file("one.asdf").get_pars()
    assert {name: again[name] for name in given} == given


def test_saved_defaults_come_back_as_they_were(folder):
    BackgroundStep().export_config("defaults.asdf")
    assert own_parameters(Step.from_config_file("defaults.asdf")) == own_parameters(
        BackgroundStep()
    )
    assert set(own_parameters(BackgroundStep())) == set(OTHER_THAN_DEFAULT)


@pytest.mark.parametrize("name", CLASSES)
def test_a_file_may_name_the_class_either_way(folder, name):
    write_parameters("pars.asdf", name=name, sigma=2.8)
    step = Step.from_config_file("pars.asdf")
    assert isinstance(step, BackgroundStep)
    assert step.sigma == 2.8


@pytest.mark.parametrize(
    ("parameters", "told"),
    [({"sigma": "wide"}, "sigma"), ({"no_such_parameter": 1}, "no_such_parameter")],
)
def test_a_wrong_parameter_in_a_file_is_named_and_nothing_written(folder, parameters, told):
    write_parameters("pars.asdf", **parameters)
    before = sorted(folder.iterdir())
    done = strun("pars.asdf", "t_rate.fits", BACKGROUNDS, status=1)
    assert told in done.stdout + done.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"maxiters": 2.5}, "'maxiters': the value \"2.5\" is of the wrong type"),
        ({"soss_bkg_percentile": [1.0]}, "'soss_bkg_percentile': the value \"\\[1.0\\]\" is too"),
        ({"no_such_parameter": 1}, "Extra value 'no_such_parameter' in root"),
        ({"sigma": {"a": 1}}, "pars.asdf: sigma must be a value"),
        ({"steps": {"a": {"sigma": {"a": 1}}}}, "pars.asdf: sigma must be a value"),
    ],
)
def test_a_wrong_parameter_in_the_file_of_a_call_is_an_error(folder, parameters, told):
    write_parameters("pars.asdf", **parameters)
    before = sorted(folder.iterdir())
    with pytest.raises(WebbkgError, match=told):
        BackgroundStep.call(
            "t_rate.fits", "b1_rate.fits", config_file="pars.asdf", save_results=True
        )
    assert sorted(folder.iterdir()) == before


def help_lines(shown):
    """Return the lines that tell each option, by its name."""
    told = {}
    for block in re.split(r"^  --", shown, flags=re.MULTILINE)[1:]:
        first, *more = block.strip().splitlines()
        name, _, text = first.partition(" ")
        assert name not in told
        told[name] = [line.strip() for line in (text, *more) if line.strip()]
    return told


def test_the_help_has_one_clear_line_for_each_parameter(folder):
    """Where the terminal is wide enough. A default that it shows is the one that holds."""
    told = help_lines(strun(CLASSES[0], "--help", env={**without_crds(), "COLUMNS": "180"}).stdout)
    spec, defaults = BackgroundStep.load_spec_file(), BackgroundStep().get_pars()
    assert set(OTHER_THAN_DEFAULT) < set(spec) <= set(told)
    for name in spec:
        (line,) = told[name]
        text, _, limits = line.partition(" [")
        assert 10 < len(text) < 90, line
        shown = limits.rstrip("]").rpartition("default=")[2].strip('"')
        if defaults.get(name) is None or defaults[name] == "":
            assert shown in ("", "None")
        elif name not in ("pre_hooks", "post_hooks"):  # stpipe shows `list` for an empty list
            assert shown == str(defaults[name])
