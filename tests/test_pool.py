"""Many files through few descriptors: bounded, thread-safe, and without what not every system has."""

import gzip
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from factories import make_model, place, ramp, save, write_fits
from webbkg import ImageOptions
from webbkg.errors import InputError
from webbkg.files import pool as pools
from webbkg.files.disk import read_at
from webbkg.files.exposures import DetectorWindow, Exposure
from webbkg.files.pool import FilePool
from webbkg.image.average import average_exposures

SHAPE = (40, 50)
TARGET = place(DetectorWindow(0, 0, SHAPE[1], SHAPE[0]))

SUBTRACT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np
from webbkg import BackgroundStep
result = BackgroundStep.call(sys.argv[1], sys.argv[2:])
print(result.meta.cal_step.bkg_subtract, np.unique(result.data))
"""


@pytest.mark.parametrize("ending", ["fits", "fits.gz"])
def test_more_backgrounds_than_files_may_be_open(tmp_path, ending):
    target = save(make_model(ramp(SHAPE) + 3), tmp_path / "t_rate.fits")
    first = save(make_model(ramp(SHAPE)), tmp_path / f"b0_rate.{ending}")
    paths = [first, *(tmp_path / f"b{number}_rate.{ending}" for number in range(1, 80))]
    for path in paths[1:]:
        path.hardlink_to(first)
    run = subprocess.run(
        [sys.executable, "-c", SUBTRACT, *map(str, (target, *paths))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "COMPLETE [3.]"


def make_files(folder, number):
    """Files of single bytes: file n holds n."""
    paths = [folder / f"f{index}" for index in range(number)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]) * 100)
    return paths


def read_byte(pool, path, position=0):
    view = memoryview(bytearray(1))
    with pool.use(path) as descriptor:
        assert read_at(descriptor, view, position) == 1
    return view[0]


def open_files(pool):
    return [path.name for path in pool._opened]


def test_the_least_recently_used_is_closed(tmp_path):
    a, b, c = make_files(tmp_path, 3)
    with FilePool(most=2) as pool:
        for path in (a, b, a):
            read_byte(pool, path)
        assert open_files(pool) == ["f1", "f0"]
        assert read_byte(pool, c) == 2
        assert open_files(pool) == ["f0", "f2"]
    assert open_files(pool) == []


@pytest.mark.parametrize("most", [1, 3])
def test_threads_wait_for_a_free_place(tmp_path, most):
    """Eight threads, fewer places: each reads the file it asked for, and no more are open."""
    paths = make_files(tmp_path, 10)
    wrong, most_seen = [], []
    with FilePool(most=most) as pool:

        def work(seed):
            for index in np.random.default_rng(seed).integers(0, 10, 200):
                with pool.use(paths[index]) as descriptor:
                    most_seen.append(len(pool._opened))
                    wrong.append(os.pread(descriptor, 1, 5)[0] != index)

        crew = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for one in crew:
            one.start()
        for one in crew:
            one.join()
    assert len(wrong) == 1600
    assert not any(wrong)
    assert max(most_seen) == most


def test_a_file_that_was_exchanged_meanwhile_is_an_error(tmp_path):
    a, b = make_files(tmp_path, 2)
    with FilePool(most=1) as pool:
        read_byte(pool, a)
        read_byte(pool, b)
        a.write_bytes(b"something longer" * 100)
        with pytest.raises(InputError, match=r"f0: was changed while it was being read"):
            read_byte(pool, a)


def test_a_file_that_went_meanwhile_is_an_error(tmp_path):
    (path,) = make_files(tmp_path, 1)
    path.unlink()
    with FilePool() as pool, pytest.raises(InputError, match=r"f0: cannot be read \(No such file"):
        read_byte(pool, path)
    assert open_files(pool) == []


@pytest.mark.parametrize(("limit", "expected"), [(64, 16), (3, 1), (1024, 256), (2**20, 256)])
def test_the_share_of_what_may_be_open(monkeypatch, limit, expected):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert pools._share_of_descriptors() == expected


@pytest.mark.parametrize("lacking", [["preadv"], ["preadv", "pread"]])
def test_without_positioned_reads(tmp_path, monkeypatch, lacking):
    """macOS before 11, and Windows."""
    sci = ramp(SHAPE)
    files = [
        write_fits(tmp_path / f"b{step}_rate.{ending}", sci + step, sci, sci.astype(np.uint32))
        for step, ending in ((0, "fits"), (4, "fits.gz"))
    ]
    for name in lacking:
        monkeypatch.delattr(os, name)
    with FilePool() as pool:
        placed = [Exposure.from_file(path, pool).placed_on(TARGET) for path in files]
        options = ImageOptions(band_memory=10_000)
        result = average_exposures(placed, SHAPE, options, threads=3)
    np.testing.assert_array_equal(result.sci, np.where(sci % 2 == 0, sci + 2, np.nan))


def test_of_gzipped_files_no_more_than_the_planes_is_unpacked(tmp_path, monkeypatch):
    """Three planes of five, in one file without a name; the others would need as much again."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    model = make_model(ramp(SHAPE))
    model.var_poisson, model.var_rnoise = ramp(SHAPE), ramp(SHAPE)
    first = save(model, tmp_path / "b0_rate.fits.gz")
    paths = [first] + [tmp_path / f"b{number}_rate.fits.gz" for number in (1, 2)]
    for path in paths[1:]:
        path.hardlink_to(first)
    with FilePool() as pool:
        exposures = [Exposure.from_file(path, pool) for path in paths]
        assert list((tmp_path / "scratch").iterdir()) == []
        assert os.fstat(pool._scratch.fileno()).st_size == 3 * 3 * 4 * SHAPE[0] * SHAPE[1]
        (rows,) = exposures[1].planes.rows(("SCI",), 0, 3, 7, np.empty((1, 4, SHAPE[1]), np.uint32))
        np.testing.assert_array_equal(rows, ramp(SHAPE)[3:7])
        assert len(gzip.decompress(Path(first).read_bytes())) > 5 * 4 * SHAPE[0] * SHAPE[1]
