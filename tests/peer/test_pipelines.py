"""webbkg inside the jwst package's own pipelines, which run for real, offline.

Steps whose references there are none of are skipped, and assign_wcs is stood in for where the
target has its WCS already; see `pipeline_runs`.
"""

import json
import subprocess
import sys
from pathlib import Path

import asdf
import numpy as np
import pytest
from stdatamodels.jwst import datamodels

import webbkg
from forks import Forks
from webbkg.errors import OptionError

pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")

from jwst.pipeline import Image2Pipeline, Spec2Pipeline

sys.path.insert(0, str(Path(__file__).parent))

import pipeline_runs
from pipeline_runs import CASES

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

BIN = Path(sys.executable).parent
SUBCLASS_CASES = ("image", "ifu_open")
WITHOUT_BACKGROUNDS = ("image_alone", "skip", "model")


def start(which, folder, environment, *cases):
    command = [sys.executable, pipeline_runs.__file__, which, str(folder / which), *cases]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Run every case with the pipelines' own step, and with webbkg's."""
    folder = tmp_path_factory.mktemp("pipelines")
    environment = pipeline_runs.prepare(folder)
    runs = [start(which, folder, environment) for which in ("peer", "use_in")]
    runs.append(start("subclass", folder, environment, *SUBCLASS_CASES))
    for run in runs:
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    return folder, environment


def told(site, which, case):
    found = json.loads((site[0] / which / case / "told.json").read_text())
    assert "error" not in found, found["error"]
    return found


RUNS = [("use_in", case) for case in CASES] + [("subclass", case) for case in SUBCLASS_CASES]


@pytest.mark.parametrize(("which", "case"), RUNS)
def test_products_status_and_members_are_those_of_the_own_step(site, which, case):
    theirs, ours = told(site, "peer", case), told(site, which, case)
    for name in ("files", "kind", "steps", "members", "references"):
        assert ours[name] == theirs[name]
    status = ours["steps"].get("bkg_subtract")
    assert (status == "COMPLETE") is (case not in WITHOUT_BACKGROUNDS)
    product = "made_bsubints.fits" if case in ("soss", "time_series") else "made_bsub.fits"
    assert (product in ours["files"]) is (case not in WITHOUT_BACKGROUNDS)


@pytest.mark.parametrize(("which", "case"), RUNS)
def test_pixels_are_those_of_the_own_step(site, which, case):
    scales = [told(site, run, case)["scale"] for run in ("peer", which)]
    # A grism's scale: webbkg leaves flagged pixels and holes of the template out.
    slack = 0.0 if scales[0] is None else 1e-3
    if slack:
        assert scales[1] == pytest.approx(scales[0], rel=slack)
    for name in told(site, which, case)["files"]:
        theirs, ours = (datamodels.open(site[0] / run / case / name) for run in ("peer", which))
        # Of cubes, the peer's combined ERR is another; see the differences.
        combined_cubes = case == "time_series" and "combined" in name
        for plane in ("data",) if combined_cubes else ("data", "err"):
            left, right = getattr(theirs, plane), getattr(ours, plane)
            np.testing.assert_allclose(right, left, rtol=1e-5, atol=1e-5 + 3 * slack)
        if case != "grism":
            np.testing.assert_array_equal(ours.dq, theirs.dq)


def test_hooks_run_before_and_after(site):
    plain, hooked = (
        datamodels.open(site[0] / "use_in" / case / "made_bsub.fits") for case in ("slit", "hooks")
    )
    np.testing.assert_allclose(hooked.data, plain.data + 99, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("which", "case"), RUNS)
def test_the_log_goes_into_the_product(site, which, case):
    theirs, ours = told(site, "peer", case)["logs"], told(site, which, case)["logs"]
    assert set(ours) == set(theirs)
    alias = "calwebb_image2" if case.startswith("image") else "calwebb_spec2"
    subtracted = [line for line in ours[alias] if ": background subtracted; " in line]
    assert len(subtracted) == (case not in WITHOUT_BACKGROUNDS)


@pytest.mark.parametrize("case", CASES)
def test_the_pipeline_does_not_ask_for_references_that_no_target_needs(site, case):
    def prefetched(which):
        logs = told(site, which, case)["logs"].values()
        return any("Prefetching" in line and "'bkg'" in line for log in logs for line in log)

    assert not prefetched("use_in")
    if case != "skip":
        assert prefetched("peer")


def strun(folder, environment, *commands):
    """Run strun with each list of arguments, in forks of a process that has imported jwst."""
    forks = Forks(["jwst.pipeline", "webbkg.pipelines"], environment)
    try:
        for arguments in commands:
            forks.run([str(BIN / "strun"), *arguments], folder)
    finally:
        forks.close()


def test_strun_takes_the_subclass_and_a_parameter_file_with_it(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    association = pipeline_runs.case_image()
    others = [name for name in Image2Pipeline.step_defs if name != "bkg_subtract"]
    skipped = [f"--steps.{name}.skip=true" for name in others]
    saved = ["--steps.bkg_subtract.save_results=true", "--steps.bkg_subtract.sigma=2.5"]
    pipeline = "webbkg.pipelines.Image2Pipeline"
    first = [pipeline, association, *skipped, *saved]
    strun(
        tmp_path,
        site[1],
        [*first, "--save-parameters=pars.asdf", "--output_dir=first"],
        ["pars.asdf", association, "--output_dir=second"],
    )
    with asdf.open("pars.asdf") as parameters:
        assert parameters["class"] == pipeline
    for folder in ("first", "second"):
        assert sorted(path.name for path in Path(folder).iterdir()) == [
            "made_bsub.fits",
            "made_cal.fits",
        ]
        with datamodels.open(f"{folder}/made_cal.fits") as model:
            assert model.meta.background.webbkg.sigma == 2.5
            assert model.meta.cal_step.bkg_subtract == "COMPLETE"
            assert "webbkg.run" in "".join(model.cal_logs.calwebb_image2)


def test_an_image_needs_no_reference_in_crds_at_all(site, tmp_path, monkeypatch):
    """The peer's prefetching ends such a run: this context knows neither of the two types."""
    from crds_cache import Cache, environment

    monkeypatch.chdir(tmp_path)
    cache = Cache(tmp_path / "cache")
    cache.add("nircam", "flat", {"NRC_IMAGE": "N/A"})
    old = {**environment(cache), "STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    association = pipeline_runs.case_image()
    others = [name for name in Image2Pipeline.step_defs if name != "bkg_subtract"]
    skipped = [f"--steps.{name}.skip=true" for name in others]
    strun(tmp_path, old, ["webbkg.pipelines.Image2Pipeline", association, *skipped])
    with datamodels.open("made_cal.fits") as model:
        assert model.meta.cal_step.bkg_subtract == "COMPLETE"


@pytest.mark.parametrize("pipeline", [Image2Pipeline, Spec2Pipeline])
def test_use_in_holds_to_the_end_of_its_block(pipeline):
    before = pipeline.step_defs
    loggers = pipeline.get_stpipe_loggers()
    with webbkg.use_in(pipeline):
        assert pipeline.step_defs["bkg_subtract"] is webbkg.BackgroundStep
        assert list(pipeline.step_defs) == list(before)
        assert isinstance(pipeline().bkg_subtract, webbkg.BackgroundStep)
        assert {*loggers, "webbkg"} == set(pipeline.get_stpipe_loggers())
        with webbkg.use_in(pipeline):
            pass
        assert pipeline.step_defs["bkg_subtract"] is webbkg.BackgroundStep
    assert pipeline.step_defs is before
    assert pipeline.get_stpipe_loggers() == loggers


def test_use_in_holds_from_the_call_on_until_it_is_undone():
    before = Spec2Pipeline.step_defs
    used = webbkg.use_in(Spec2Pipeline)
    try:
        assert Spec2Pipeline.step_defs["bkg_subtract"] is webbkg.BackgroundStep
    finally:
        used.undo()
        used.undo()
    assert Spec2Pipeline.step_defs is before


def test_a_block_that_fails_gives_the_step_back():
    before = Spec2Pipeline.step_defs
    with pytest.raises(ZeroDivisionError), webbkg.use_in(Spec2Pipeline):
        _ = 1 / 0
    assert Spec2Pipeline.step_defs is before


def test_the_subclasses_leave_the_originals_alone_and_find_their_parameters():
    from webbkg import pipelines

    for ours, theirs in (
        (pipelines.Image2Pipeline, Image2Pipeline),
        (pipelines.Spec2Pipeline, Spec2Pipeline),
    ):
        assert theirs.step_defs["bkg_subtract"] is not webbkg.BackgroundStep
        assert ours.step_defs["bkg_subtract"] is webbkg.BackgroundStep
        assert ours.get_config_reftype() == theirs.get_config_reftype()
        assert ours.class_alias == theirs.class_alias


@pytest.mark.parametrize("wrong", [webbkg.BackgroundStep, "Spec2Pipeline", object(), dict])
def test_what_is_not_such_a_pipeline_is_refused(wrong):
    with pytest.raises(OptionError, match="a pipeline class with a step bkg_subtract is needed"):
        webbkg.use_in(wrong)
