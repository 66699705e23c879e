"""Background exposures stay open from target to target, and not longer."""

import weakref
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from factories import make_model, save
from webbkg import command
from webbkg.errors import InputError
from webbkg.files.opened import OpenExposures
from webbkg.modes import Shared

SHAPE = (12, 16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"t1": 5, "t2": 7, "b1": 1, "b2": 2, "b3": 3}
    for name, level in names.items():
        ending = "fits.gz" if name == "b2" else "fits"
        save(make_model(np.full(SHAPE, level)), Path(f"{name}_rate.{ending}"))
    return tmp_path


def open_files():
    """List the files that this process holds open."""
    links = Path("/proc/self/fd").iterdir()
    return [str(one.readlink()) for one in links if one.is_symlink()]


def run(targets, backgrounds):
    given = {"output_dir": "out"}
    return list(command.subtract(targets, backgrounds, given, progress=lambda *_: nullcontext()))


def test_backgrounds_are_opened_and_unpacked_once_for_all_targets(folder, monkeypatch):
    from webbkg.files import exposures

    opened, open_bytes = [], exposures.open_bytes
    monkeypatch.setattr(
        exposures, "open_bytes", lambda path: opened.append(path.name) or open_bytes(path)
    )
    items = run(["t1_rate.fits", "t2_rate.fits"], ["b1_rate.fits", "b2_rate.fits.gz"])
    assert [fits.getdata(one.product, "SCI")[0, 0] for one in items] == [3.5, 5.5]
    assert opened.count("b1_rate.fits") == opened.count("b2_rate.fits.gz") == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files cannot be listed here")
def test_no_file_stays_open_after_a_run(folder):
    items = run(["t1_rate.fits", "t2_rate.fits"], ["b1_rate.fits", "b2_rate.fits.gz"])
    assert all(item.error is None for item in items)
    del items
    assert [name for name in open_files() if str(folder) in name or "webbkg-" in name] == []


def test_what_no_target_wants_any_more_is_closed(folder):
    exposures = OpenExposures()
    first, second = exposures.get([Path("b1_rate.fits"), Path("b2_rate.fits.gz")])
    assert exposures.get([Path("b3_rate.fits"), Path("b1_rate.fits")])[1] is first
    assert exposures.get([Path("b1_rate.fits")], also=("VAR_FLAT",))[0] is not first
    gone = weakref.ref(second)
    del second
    exposures.get([Path("t1_rate.fits")])
    assert gone() is None
    exposures.close()


def test_a_model_is_not_kept(folder):
    exposures, model = OpenExposures(), make_model(np.ones(SHAPE))
    one, other = (exposures.get([model])[0] for _ in range(2))
    assert one is not other
    exposures.close()


def test_a_damaged_background_is_told_to_each_target(folder):
    Path("b3_rate.fits").write_bytes(b"SIMPLE  =")
    exposures = OpenExposures()
    for _ in range(2):
        with pytest.raises(InputError, match=r"b3_rate\.fits"):
            exposures.get([Path("b1_rate.fits"), Path("b3_rate.fits")])
    exposures.close()


class Kept:
    closed = 0

    def close(self):
        Kept.closed += 1


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_is_shared_is_closed_in_the_end(forgotten):
    shared, before = Shared(), Kept.closed
    assert shared.one(Kept) is shared.one(Kept)
    if not forgotten:
        shared.close()
    del shared
    assert Kept.closed == before + 1
