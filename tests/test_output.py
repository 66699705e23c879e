"""Products on the disk: whole or absent, all or none, and nothing unfinished left behind."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from factories import make_model, ramp
from webbkg.errors import OutputError
from webbkg.files import disk, owners
from webbkg.files.output import save_all, save_whole, writing_whole

SHAPE = (6, 8)
OLD = b"what was there before"


@pytest.fixture
def model():
    return make_model(ramp(SHAPE))


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_product_is_written_under_its_name_and_nothing_else_is_left(tmp_path, model):
    assert save_whole(model, tmp_path / "p.fits") == tmp_path / "p.fits"
    assert [path.name for path in tmp_path.iterdir()] == ["p.fits"]
    with fits.open(tmp_path / "p.fits") as hdus:
        assert hdus[0].header["FILENAME"] == "p.fits"
        np.testing.assert_array_equal(hdus["SCI"].data, ramp(SHAPE))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_file_mode_is_that_of_any_new_file(tmp_path, model, mask, mode):
    before = os.umask(mask)
    try:
        save_whole(model, tmp_path / "p.fits")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p.fits").stat().st_mode) == mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_followed(tmp_path, model, exists):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    if exists:
        (tmp_path / "disk" / "real.fits").write_bytes(OLD)
    link = tmp_path / "here" / "p.fits"
    link.symlink_to("../disk/real.fits")
    save_whole(model, link)
    assert link.is_symlink()
    assert not (tmp_path / "disk" / "real.fits").is_symlink()
    assert fits.getval(tmp_path / "disk" / "real.fits", "FILENAME") == "p.fits"
    assert hidden(tmp_path / "here") == hidden(tmp_path / "disk") == []


def test_what_is_no_file_is_not_replaced(tmp_path, model):
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    (tmp_path / "folder.fits").mkdir()
    for name, reason in (
        ("pipe.fits", "neither a file nor a free name"),
        ("loop.fits", "Too many levels of symbolic links"),
        ("folder.fits", "Is a directory"),
        ("absent/p.fits", "No such file or directory"),
    ):
        with pytest.raises(OutputError, match=reason):
            save_whole(model, tmp_path / name)
    assert hidden(tmp_path) == []


def test_one_name_for_two_products_is_refused(tmp_path, model):
    (tmp_path / "link.fits").symlink_to("p.fits")
    with pytest.raises(OutputError, match="two products of this name"):
        save_all([model, model], [tmp_path / "p.fits", tmp_path / "link.fits"])
    assert not (tmp_path / "p.fits").exists()


def refuse_to_rename(monkeypatch, name):
    replace = Path.replace

    def refused(self, target):
        if Path(target).name == name and self.suffix == ".partial":
            raise PermissionError(1, "Operation not permitted")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)


def test_where_a_later_rename_is_refused_the_earlier_ones_are_undone(tmp_path, model, monkeypatch):
    names = ["old.fits", "new.fits", "refused.fits", "after.fits"]
    for name in ("old.fits", "refused.fits", "after.fits"):
        (tmp_path / name).write_bytes(OLD)
    refuse_to_rename(monkeypatch, "refused.fits")
    with pytest.raises(OutputError, match="Operation not permitted"):
        save_all([model.copy() for _ in names], [tmp_path / name for name in names])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "old.fits": OLD,
        "refused.fits": OLD,
        "after.fits": OLD,
    }


def test_without_hard_links_several_products_are_written_too(tmp_path, model, monkeypatch):
    def unsupported(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    (tmp_path / "a.fits").write_bytes(OLD)
    save_all([model, model.copy()], [tmp_path / "a.fits", tmp_path / "b.fits"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits", "b.fits"]
    assert (tmp_path / "a.fits").read_bytes() != OLD


def test_an_error_while_writing_leaves_the_old_product(tmp_path, model):
    (tmp_path / "p.fits").write_bytes(OLD)

    def fail(model, stream, path):
        stream.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_all([model], [tmp_path / "p.fits"], write=fail)
    assert (tmp_path / "p.fits").read_bytes() == OLD
    assert hidden(tmp_path) == []


def test_what_is_written_is_on_the_disk_before_it_is_renamed(tmp_path, model, monkeypatch):
    happened = []
    replace, sync = Path.replace, os.fsync
    monkeypatch.setattr(
        Path, "replace", lambda *names: happened.append("rename") or replace(*names)
    )
    monkeypatch.setattr(os, "fsync", lambda file: happened.append("sync") or sync(file))
    save_all([model, model.copy()], [tmp_path / "a.fits", tmp_path / "b.fits"])
    assert happened == ["sync", "sync", "rename", "rename", "sync"]  # the folder at the end


FULL_DISK = """
import resource, sys
sys.path[:0] = {paths!r}
from factories import make_model, ramp
from webbkg.files.output import save_all
from pathlib import Path
models = [make_model(ramp((20, 20))), make_model(ramp((300, 300)))]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
save_all(models, [Path("a.fits"), Path("b.fits")])
"""


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    """The system itself refuses to write on, in the second of two products."""
    (tmp_path / "a.fits").write_bytes(OLD)
    code = FULL_DISK.format(paths=[str(Path(__file__).parent)])
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "OutputError: a.fits, b.fits: cannot be written (" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]
    assert (tmp_path / "a.fits").read_bytes() == OLD


def test_threads_and_containers_do_not_share_an_unfinished_file(tmp_path, monkeypatch):
    # Two containers of one host, each with a process of this number.
    names = set()
    for machine in ("one", "two"):
        monkeypatch.setattr(owners, "machine", lambda machine=machine: machine)
        for _ in range(3):
            with writing_whole([tmp_path / "p.fits"]) as (partial,):
                names.add(partial.name)
    assert len(names) == 6


def test_threads_that_write_one_product_leave_one_whole(tmp_path, model):
    start = threading.Barrier(4)
    errors = []

    def write(level):
        try:
            start.wait()
            save_whole(make_model(level * ramp(SHAPE)), tmp_path / "p.fits")
        except OutputError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(level,)) for level in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with datamodels.open(tmp_path / "p.fits") as written:
        level = written.data[1, 1] / ramp(SHAPE)[1, 1]
        assert level in (1, 2, 3, 4)
        np.testing.assert_array_equal(written.data, level * ramp(SHAPE))
    assert hidden(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from webbkg.files.output import writing_whole
with writing_whole([Path("p.fits")]) as (partial,):
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, model):
    (tmp_path / "p.fits").write_bytes(OLD)
    run = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(hidden(tmp_path)) == 1
    assert (tmp_path / "p.fits").read_bytes() == OLD
    save_whole(model, tmp_path / "q.fits")
    assert hidden(tmp_path) == []


def test_only_what_is_ours_and_dead_is_removed(tmp_path, model, monkeypatch):
    here, token = owners.machine(), "0" * 16
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [
        f".webbkg-{here}-{os.getpid()}-{token}.partial",  # alive
        f".webbkg-elsewhere-{dead.pid}-{token}.partial",  # who can tell?
        f".webbkg-{here}-{dead.pid}-{token}.fits",
        f".webbkg-{here}-{dead.pid}.partial",
        f".p.fits.{dead.pid}.partial",
        "p_rate.fits",
    ]
    gone = [f".webbkg-{here}-{dead.pid}-{token}.{kind}" for kind in ("partial", "former")]
    for name in kept + gone:
        (tmp_path / name).write_bytes(OLD)
    save_whole(model, tmp_path / "q.fits")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "q.fits"])
    tomorrow = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    save_whole(model, tmp_path / "q.fits")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept[2:], "q.fits"])


@pytest.fixture
def files(tmp_path):
    content = bytes(range(256)) * 400
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        yield source, target, content


def check_disk(files):
    source, target, content = files
    disk.allocate(target, len(content) + 10)
    assert os.fstat(target.fileno()).st_size == len(content) + 10
    disk.copy_exactly(source, 100, target, 10, 50_000)
    disk.write_exactly(target, content[50_100:], 50_010)
    read = bytearray(len(content) - 100)
    disk.read_exactly(target, memoryview(read), 10)
    assert read == content[100:]


def test_bytes_go_where_they_belong(files):
    check_disk(files)


def test_a_system_without_the_special_calls_does_it_too(files, monkeypatch):
    for name in ("posix_fallocate", "copy_file_range", "preadv"):  # as on macOS
        monkeypatch.delattr(os, name)
    check_disk(files)


def test_pages_are_kept_where_the_system_cannot_drop_them(tmp_path, monkeypatch):
    (tmp_path / "made").write_bytes(b"content")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on macOS
    disk.drop_pages(tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == b"content"


def test_a_system_that_takes_bytes_in_parts_gets_them_all(files, monkeypatch):
    write, read, copy = os.pwrite, os.preadv, os.copy_file_range
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:1000], at))
    monkeypatch.setattr(os, "preadv", lambda file, views, at: read(file, [views[0][:999]], at))
    monkeypatch.setattr(
        os, "copy_file_range", lambda source, to, count, *at: copy(source, to, min(count, 777), *at)
    )
    check_disk(files)


def test_a_file_that_ends_too_soon_is_an_error(files):
    source, target, content = files
    with pytest.raises(OSError, match="became shorter"):
        disk.copy_exactly(source, 0, target, 0, len(content) + 1)


def test_of_many_files_that_cannot_be_written_a_few_are_named(tmp_path):
    (tmp_path / "file").touch()
    paths = [tmp_path / "file" / f"{i}.fits" for i in range(7)]
    with pytest.raises(OutputError, match=r"/2\.fits and 4 more: cannot be written"):  # noqa: SIM117
        with writing_whole(paths):
            pass
