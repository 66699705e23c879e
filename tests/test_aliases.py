"""The alias ``bkg_subtract``: whose step it is with jwst installed, and without."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from stdatamodels.jwst import datamodels

from crds_cache import without_crds
from factories import make_model, ramp, save

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
def test_with_both_the_package_must_be_named(folder):
    done = strun("bkg_subtract")
    assert done.returncode != 0
    assert "matched more than 1 step" in done.stderr
    for name in ("webbkg::bkg_subtract", "jwst::bkg_subtract"):
        assert name in done.stderr
    assert not list(folder.glob("*_backgroundstep.fits"))


def test_the_name_with_its_package_is_always_right(folder):
    check_product(strun("webbkg::bkg_subtract"))


def test_without_jwst_the_alias_is_enough_and_jwst_is_never_imported(folder):
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE_JWST)
    check_product(strun("bkg_subtract", PYTHONPATH=str(folder / "hidden")))
