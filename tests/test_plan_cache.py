"""The cache of headers: what it spares, and that nothing depends on it."""

import os
import sqlite3
import subprocess
import sys

import pytest

from planning import expose, reasons, who
from webbkg.batch import cache as module
from webbkg.batch import headers, plan


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three dithers, unchanged for a minute, and a cache that is not there yet."""
    monkeypatch.setenv("WEBBKG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for number in (1, 2, 3):
        age(expose(tmp_path / "data", number, at=(5 * number, 0)))
    return tmp_path / "data"


def age(path, seconds=60):
    told = path.stat()
    times = (told.st_atime_ns, told.st_mtime_ns - seconds * 10**9)
    os.utime(path, ns=times)
    return path


@pytest.fixture
def read(monkeypatch):
    """Count the files that are read."""
    names = []

    def counting(path, extension):
        names.append(path.name)
        return leading_headers(path, extension)

    leading_headers = headers.leading_headers
    monkeypatch.setattr(headers, "leading_headers", counting)
    return names


def test_a_file_is_read_once_until_it_changes(folder, read):
    made = plan(folder, folder=folder)
    assert len(read) == 3
    assert plan(folder, folder=folder) == made
    assert len(read) == 3
    (path,) = folder.glob("*00002_*")
    path.unlink()
    age(expose(folder, 2, at=(5.1, 0)), 90)  # as long as before
    assert "within" in reasons(plan(folder, folder=folder, min_separation=9.95))[path.name]
    assert read[3:] == [path.name]
    plan(folder, folder=folder, cache=False)
    assert len(read) == 7


def test_a_file_that_may_still_change_is_not_kept(folder, read):
    path = expose(folder, 4, at=(20, 0))
    for _ in range(2):
        plan(folder)
    assert read.count(path.name) == 2
    assert len(read) == 5


def test_unreadable_files_are_looked_at_again(folder):
    (path,) = folder.glob("*00003_*")
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    age(path)
    assert path.name in reasons(plan(folder, folder=folder))
    path.write_bytes(whole)
    assert plan(folder, folder=folder).left_out == ()


@pytest.mark.parametrize("damage", ["text", "cut", "table", "entry", "other", "folder"])
def test_a_damaged_cache_is_none(folder, read, damage):
    made = plan(folder, folder=folder)
    cache = module.cache_file()
    if damage == "text":
        cache.write_bytes(b"no database" * 1000)
    elif damage == "cut":
        cache.write_bytes(cache.read_bytes()[:5000])
    elif damage == "folder":
        cache.unlink()
        cache.mkdir()
    else:
        statement = {
            "table": "DROP TABLE headers",
            "entry": "UPDATE headers SET told = '[1'",
            "other": "PRAGMA user_version = 7",
        }[damage]
        with sqlite3.connect(cache) as database:
            database.execute(statement)
        database.close()
    assert plan(folder, folder=folder) == made
    assert len(read) == 6
    assert plan(folder, folder=folder) == made
    assert len(read) == (9 if damage in ("folder", "table") else 6)


def test_a_locked_cache_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    made = plan(folder, folder=folder)
    database = sqlite3.connect(module.cache_file(), isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    assert plan(folder, folder=folder) == made
    database.execute("ROLLBACK")
    database.close()


def test_processes_share_a_cache(folder):
    """Three at once begin with none: all plan the same, and what they leave is whole."""
    code = f"from webbkg.batch import plan; print(plan({str(folder)!r}, folder={str(folder)!r}))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = {process.communicate()[0] for process in started}
    assert all(process.returncode == 0 for process in started)
    assert told == {f"{plan(folder, folder=folder)}\n"}
    with sqlite3.connect(module.cache_file()) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM headers").fetchone() == (3,)
    database.close()


def test_the_cache_stays_small(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_ENTRIES", 2)
    plan(folder)
    with sqlite3.connect(module.cache_file()) as database:
        assert database.execute("SELECT count(*) FROM headers").fetchone() == (2,)
    database.close()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("WEBBKG_CACHE_DIR", "/own")
    assert str(module.cache_file()) == "/own/headers.sqlite"
    monkeypatch.delenv("WEBBKG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(module.cache_file()) == "/cache/webbkg/headers.sqlite"


def test_names_that_are_no_text_are_planned(folder):
    """In bytes that are no UTF-8; a database cannot hold them."""
    (path,) = folder.glob("*00003_*")
    named = path.rename(os.fsdecode(os.fsencode(folder) + b"/odd-\xff_rate.fits"))
    for _ in range(2):
        assert who(plan(folder, folder=folder))[named.name]
