"""The step's names: whose step ``bkg_subtract`` is with jwst installed, and without."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from crds_cache import without_crds
from factories import SOSS, make_model, ramp, save, soss_library, soss_sky
from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.grism_scene import MIRI_PRISM
from webbkg.simulate.wfss import draw_field, observe, write_field

STRUN = Path(sys.executable).parent / "strun"
NEEDS_JWST = pytest.mark.skipif(find_spec("jwst") is None, reason="jwst is not installed")

# What Python runs at its start: neither the package nor its entry points are to be found.
HIDE_JWST = """
import sys
from importlib import metadata

import importlib_metadata


class NoJwst:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "jwst":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def hide(library):
    everything = library.entry_points

    def entry_points(**chosen):
        found = everything(**chosen)
        if not chosen:
            return found
        return library.EntryPoints(point for point in found if not point.value.startswith("jwst"))

    library.entry_points = entry_points


sys.meta_path.insert(0, NoJwst())
hide(metadata)
hide(importlib_metadata)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, level in (("t", 9), ("b1", 2), ("b2", 4)):
        save(make_model(level * ramp((6, 8))), tmp_path / f"{name}_rate.fits")
    return tmp_path


def strun(alias, *options, **settings):
    backgrounds = "--bkg_list=b1_rate.fits,b2_rate.fits"
    return subprocess.run(
        [STRUN, alias, "t_rate.fits", backgrounds, *options],
        env={**without_crds(), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def check_product(done):
    assert done.returncode == 0, done.stderr
    # stpipe warns of entry points that cannot be loaded.
    assert "entry point" not in (done.stdout + done.stderr).lower()
    assert "Warning" not in done.stdout + done.stderr
    with datamodels.open("t_backgroundstep.fits") as model:
        assert model.meta.background.webbkg.status == "COMPLETE"


@NEEDS_JWST
def test_beside_jwst_the_pipeline_s_name_runs_the_pipeline_s_step(folder):
    done = strun("bkg_subtract", STPIPE_DISABLE_CRDS_STEPPARS="true")
    assert "jwst.stpipe.core" in done.stdout + done.stderr
    assert "matched more than 1 step" not in done.stderr
    assert "webbkg.step" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["webbkg", "webbkg.BackgroundStep", "webbkg::webbkg"])
def test_its_own_name_is_always_right(folder, name):
    check_product(strun(name))


@pytest.mark.parametrize("name", ["bkg_subtract", "webbkg", "webbkg.BackgroundStep"])
def test_without_jwst_all_names_are_right_and_jwst_is_never_imported(folder, name):
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE_JWST)
    check_product(strun(name, PYTHONPATH=in_front(folder / "hidden")))


def in_front(folder):
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


LOADED = """
import sys
from webbkg.integration import get_steps
steps = get_steps()
heavy = {"jwst", "stpipe", "stdatamodels", "astropy", "numpy", "asdf"}
print([alias for _, alias, _ in steps], sorted(heavy & set(sys.modules)))
"""


@NEEDS_JWST
def test_the_owner_of_the_name_is_found_without_importing_it():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['webbkg'] []"


def write_soss(folder):
    """Write a time series and a library of two sky images whose level jumps at column 700."""
    noise = np.random.default_rng(1).normal(0, 0.02, (2, 96, 2048))
    target = noise + soss_sky(0.3)[10:106]
    target[:, 40:75] += 50
    soss_library(0.0, 0.3).save(folder / "soss_bkg.fits")
    meta = SOSS | {"meta.subarray.name": "SUBSTRIP96"}
    save(make_model(target, at=(0, 1802), meta=meta), folder / "soss_rateints.fits")


ALL_MODES = """
import sys
from webbkg import BackgroundStep
for target, given in (
    ("t_rate.fits", {"bkg_list": ["b1_rate.fits"]}),
    ("soss_rateints.fits", {"override_bkg": "soss_bkg.fits"}),
    ("asn.json", {"override_bkg": "bkg.fits", "override_wavelengthrange": "wavelengthrange.asdf"}),
):
    result = BackgroundStep.call(target, save_results=True, output_dir="out", **given)
    print(target, result.meta.cal_step.bkg_subtract)
print("imported:", [name for name in sys.modules if name.split(".")[0] == "jwst"])
"""


def test_no_mode_imports_jwst_or_warns(folder):
    write_soss(folder)
    part = MIRI_PRISM.detector.part(DetectorWindow(300, 400, 256, 192))
    covered = DetectorWindow(280, 350, 320, 260)
    write_field(folder, observe(draw_field(MIRI_PRISM, 3, part)), template_window=covered)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALL_MODES],
        env=without_crds(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "t_rate.fits COMPLETE",
        "soss_rateints.fits COMPLETE",
        "asn.json COMPLETE",
        "imported: []",
    ], done.stderr


ENTRY_POINTS = """
import sys
from stpipe.entry_points import get_steps
for step in get_steps():
    if step.class_alias in ("bkg_subtract", "webbkg"):
        print(step.class_alias, step.package_name, step.class_name)
"""


@pytest.mark.parametrize("hidden", [pytest.param(False, marks=NEEDS_JWST), True])
def test_the_entry_points_load_without_a_warning(folder, hidden):
    settings = {}
    if hidden:
        (folder / "sitecustomize.py").write_text(HIDE_JWST)
        settings["PYTHONPATH"] = in_front(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENTRY_POINTS],
        env={**without_crds(), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    owner = "webbkg webbkg.step" if hidden else "jwst jwst.step"
    assert sorted(done.stdout.splitlines()) == [
        f"bkg_subtract {owner}.BackgroundStep",
        "webbkg webbkg webbkg.step.BackgroundStep",
    ]
