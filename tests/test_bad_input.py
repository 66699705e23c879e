"""Bad input, met in a real process: one clear message, a status that is not 0, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from factories import checksum, make_model, ramp, save, write_fits

SHAPE = (20, 30)
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path):
    """Write a good target and a good background."""
    save(make_model(ramp(SHAPE)), tmp_path / "t_rate.fits")
    save(make_model(ramp(SHAPE)), tmp_path / "b_rate.fits")
    return tmp_path


def webbkg(folder, *arguments, **environment):
    return subprocess.run(
        [BIN / "webbkg", "subtract", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def make_empty(path):
    path.touch()


def make_text(path):
    path.write_text("this is no FITS file\n" * 400)


def make_truncated(path):
    save(make_model(ramp((200, 300))), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])


def make_foreign(path):
    fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4)))]).writeto(path)


def make_without_err(path):
    planes = np.zeros(SHAPE, np.float32)
    write_fits(path, planes, planes, planes.astype(np.int32), planes=("SCI", "DQ"))


def make_without_dq(path):
    planes = np.zeros(SHAPE, np.float32)
    write_fits(path, planes, planes, planes.astype(np.int32), planes=("SCI", "ERR"))


def make_contradiction(path):
    model = make_model(ramp(SHAPE), at=(1, 0))
    model.meta.subarray.xsize = 31
    save(model, path)


def make_damaged_gzip(path):
    path.write_bytes(b"\x1f\x8b" + bytes(500))


@pytest.mark.parametrize("role", ["target", "background"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_empty, "the file is empty"),
        (make_text, "not a FITS file"),
        (make_truncated, "the file ends inside"),
        (make_foreign, "has no SCI plane"),
        (make_without_err, "has no ERR plane"),
        (make_without_dq, "has no DQ plane"),
        (make_contradiction, "SUBSIZE1 x SUBSIZE2 = 31x20 contradicts its image of 30x20"),
        (make_damaged_gzip, "damaged gzip file"),
    ],
)
def test_a_bad_file_is_named(folder, make, message, role):
    if (make, role) == (make_without_err, "target"):
        pytest.skip("an image target needs no ERR")
    make(folder / "bad_rate.fits")
    before = {path: checksum(path) for path in folder.iterdir()}
    names = ["bad_rate.fits", "-b", "b_rate.fits"]
    if role == "background":
        names = ["t_rate.fits", "-b", "b_rate.fits", "bad_rate.fits"]
    run = webbkg(folder, *names)
    assert run.returncode == 1
    assert "bad_rate.fits" in run.stderr
    assert message in run.stderr
    assert [line for line in run.stderr.splitlines() if "astropy" not in line][1:] == []
    assert {path: checksum(path) for path in folder.iterdir()} == before


def test_a_folder_is_no_exposure(folder):
    (folder / "d.fits").mkdir()
    run = webbkg(folder, "t_rate.fits", "-b", "d.fits")
    assert run.returncode == 1
    assert "d.fits: is a folder" in run.stderr


def test_an_output_folder_that_cannot_be_made_is_named(folder):
    (folder / "file").touch()
    run = webbkg(folder, "t_rate.fits", "-b", "b_rate.fits", "-o", "file/out")
    assert run.returncode == 1
    assert "file/out" in run.stderr
    assert "--output-dir" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_disk_that_fills_up_leaves_nothing(folder):
    """A limit on the file size stands in for the full disk: the write fails half-way."""
    big = make_model(ramp((700, 800)))
    save(big, folder / "big_rate.fits")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000));"
        "from webbkg.cli import main;"
        "main(['subtract', 'big_rate.fits', '-b', 'big_rate.fits', '-o', 'out'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "big_backgroundstep.fits: cannot be written" in run.stderr
    assert list((folder / "out").iterdir()) == []


def test_strun_exits_1_with_the_message(folder):
    make_empty(folder / "bad_rate.fits")
    run = subprocess.run(
        [BIN / "strun", "webbkg", "t_rate.fits", "--bkg_list=bad_rate.fits"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "bad_rate.fits: the file is empty" in run.stdout + run.stderr
    assert not (folder / "t_backgroundstep.fits").exists()
