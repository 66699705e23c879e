"""Large cubes go from file to file: the product must be that of a plain save, to the byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE, SOSS, checksum, make_model, ramp, save, soss_library, soss_sky
from webbkg import BackgroundStep
from webbkg.errors import OutputError
from webbkg.files import streaming

BIN = Path(sys.executable).parent
SHAPE = (5, 700, 800)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a cube with every kind of plane, and a background with holes that covers a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streaming, "SMALLEST", 1)
    rng = np.random.default_rng(2)
    cube = make_model(rng.normal(9, 1, SHAPE), rng.random(SHAPE), rng.integers(0, 2**32, SHAPE))
    cube.var_poisson = rng.random(SHAPE).astype(np.float32)
    cube.area = np.ones(SHAPE[1:], np.float32)
    cube.int_times = np.zeros(5, cube.get_dtype("int_times"))
    save(cube, tmp_path / "t_rateints.fits")
    sky = ramp(SHAPE[1:]) / 1e5
    sky[3, 4] = np.nan
    dq = np.zeros(SHAPE[1:], np.uint32)
    dq[5, 6] = 1 << 31
    save(make_model(sky[:600], None, dq[:600]), tmp_path / "b_rate.fits")
    return tmp_path


def run(*, product_only, **parameters):
    step = BackgroundStep(save_results=True, **parameters)
    if product_only:
        step.set_primary_input("t_rateints.fits")  # as the command line does
    return step.run("t_rateints.fits", ["b_rate.fits"])


def test_the_product_is_that_of_a_plain_save(folder):
    run(product_only=False, output_dir="plain")
    run(product_only=True, output_dir="streamed")
    plain = fits.open("plain/t_backgroundstep.fits")
    streamed = fits.open("streamed/t_backgroundstep.fits")
    assert [hdu.name for hdu in streamed] == [hdu.name for hdu in plain]
    for ours, theirs in zip(streamed[1:-1], plain[1:-1], strict=True):
        assert ours.header.tostring() == theirs.header.tostring()
        assert ours.data.tobytes() == theirs.data.tobytes(), ours.name
    differing = fits.HeaderDiff(streamed[0].header, plain[0].header, ignore_keywords=["DATE"])
    assert differing.identical, differing.report()
    sizes = [Path(f"{kind}/t_backgroundstep.fits").stat().st_size for kind in ("plain", "streamed")]
    assert sizes[0] == sizes[1]


def test_the_product_opens_as_its_model(folder):
    run(product_only=True, output_dir="out")
    model = datamodels.open("out/t_backgroundstep.fits")
    target = datamodels.open("t_rateints.fits")
    assert isinstance(model, datamodels.CubeModel)
    assert model.meta.cal_step.bkg_subtract == "COMPLETE"
    assert model.meta.background.webbkg.mode == "image"
    assert model.meta.filename == "t_backgroundstep.fits"
    expected = target.data.copy()
    expected[:, :600] -= ramp(SHAPE[1:])[:600] / 1e5
    expected[:, 3, 4] = np.nan
    np.testing.assert_allclose(model.data, expected, rtol=1e-6, atol=1e-6)
    dq = target.dq.copy()
    dq[:, 3, 4] |= DO_NOT_USE
    dq[:, 5, 6] |= 1 << 31
    np.testing.assert_array_equal(model.dq, dq)
    np.testing.assert_array_equal(model.err, target.err)


def test_what_is_skipped_is_copied(folder):
    save(make_model(ramp((8, 8)), at=(1500, 1500)), folder / "b_rate.fits")
    run(product_only=True, output_dir="out")
    model, target = datamodels.open("out/t_backgroundstep.fits"), datamodels.open("t_rateints.fits")
    assert model.meta.cal_step.bkg_subtract == "SKIPPED"
    for plane in ("data", "err", "dq", "var_poisson", "area", "int_times"):
        assert getattr(model, plane).tobytes() == getattr(target, plane).tobytes()


def test_nothing_is_returned_that_shows_stand_ins(folder):
    assert run(product_only=True) is None  # to the command line, which wants the product alone
    kept = run(product_only=False)
    assert np.isfinite(kept.data).any()


def test_the_target_is_untouched_and_nothing_partial_stays(folder, monkeypatch):
    before = checksum(folder / "t_rateints.fits")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(OutputError, match="No space left on device"):
        run(product_only=True, output_dir="out")
    assert list((folder / "out").iterdir()) == []
    assert checksum(folder / "t_rateints.fits") == before


def test_without_the_kernel_s_copying_it_works_too(folder, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    run(product_only=True, output_dir="fast")
    monkeypatch.setattr(os, "copy_file_range", unsupported)
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    run(product_only=True, output_dir="slow")
    ours, theirs = (fits.open(f"{kind}/t_backgroundstep.fits") for kind in ("slow", "fast"))
    for one, other in zip(ours[1:-1], theirs[1:-1], strict=True):
        assert one.data.tobytes() == other.data.tobytes()


def test_a_system_that_lacks_the_calls_or_writes_in_parts_makes_the_same_product(
    folder, monkeypatch
):
    write = os.pwrite
    run(product_only=True, output_dir="fast")
    for name in ("posix_fallocate", "copy_file_range"):  # as on macOS
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:9999], at))
    run(product_only=True, output_dir="slow")
    ours, theirs = (fits.open(f"{kind}/t_backgroundstep.fits") for kind in ("slow", "fast"))
    for one, other in zip(ours[1:-1], theirs[1:-1], strict=True):
        assert one.header.tostring() == other.header.tostring()
        assert one.data.tobytes() == other.data.tobytes()


def test_peak_memory_does_not_grow_with_the_integrations(tmp_path):
    """Whole processes of the command on 20 and 80 integrations of 256 x 2048."""
    soss_library(0.0, 0.3).save(tmp_path / "bkg.fits")
    noise = np.random.default_rng(1).normal(0, 0.1, (80, 256, 2048)).astype(np.float32)
    noise += 0.9 * soss_sky(0.3)
    peaks = []
    for integrations in (20, 80):
        name = f"t{integrations}_rateints.fits"
        cube = make_model(noise[:integrations], at=(0, 1792), meta=SOSS)
        cube.meta.subarray.name = "SUBSTRIP256"
        save(cube, tmp_path / name)
        command = [BIN / "webbkg", "subtract", name, "--override-bkg", "bkg.fits", "--json"]
        code = (
            "import resource, subprocess, sys;"
            "run = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024);"
            "print(run.stdout)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        peak, report = run.stdout.split("\n", 1)
        assert json.loads(report)[0]["details"]["template"] == 1
        peaks.append(float(peak))
    cube_growth = 60 * 256 * 2048 * 4 / 2**20  # of one plane alone: 126 MB
    assert peaks[1] - peaks[0] < cube_growth / 4
