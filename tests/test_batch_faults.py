"""Runs that are disturbed, in real processes: killed, interrupted, two at once, a full disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import killed_run
from programme import left_behind, products, targets_of, write_programme
from webbkg import batch
from webbkg.batch import orders, runner
from webbkg.batch.engines import WorkerLostError
from webbkg.batch.ledger import Ledger
from webbkg.batch.work import Fate, Report, run_group
from webbkg.numerics.cores import usable_cores

HERE = Path(__file__).parent
WORKERS = str(min(2, usable_cores()))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_programme(tmp_path_factory.mktemp("programme"), targets=5, nods=3)


@pytest.fixture(scope="module")
def plan_file(plan):
    return batch.write_plan(plan, Path(plan.folder) / "plan.json")


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    batch.run(plan, folder, engine="none")
    return products(folder)


def begin(*arguments, **more):
    """Begin a process of Python with our modules, and its own group."""
    folders = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": folders},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def begin_run(plan_file, folder, *more):
    return begin("-m", "webbkg.cli", "run", plan_file, "-o", folder, *more)


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


def counts(folder):
    if not (folder / "webbkg-ledger.sqlite").exists():
        return {}
    with Ledger(folder) as ledger:
        return ledger.counts()


def has_begun(process, folder):
    return process.poll() is not None or counts(folder).get("claimed", 0)


def take_up(plan, folder):
    """Run what is left in this process; return what became of each target."""
    table = batch.run(plan, folder, engine="none")
    assert set(table["status"]) == {"COMPLETE"}, list(table["reason"])
    return dict(zip(table["target"], table["fate"], strict=True))


@pytest.fixture(scope="module")
def killed(plan_file, tmp_path_factory):
    """Kill a run at each point of a product's way; give the folder of their folders."""
    folder = tmp_path_factory.mktemp("killed")
    told, complaints = begin(HERE / "killed_run.py", plan_file, folder).communicate()
    assert set(json.loads(told).values()) == {-signal.SIGKILL}, told + complaints
    return folder


@pytest.mark.parametrize("point", killed_run.POINTS)
def test_killed_anywhere_and_taken_up(plan, undisturbed, killed, point):
    folder = killed / point
    assert products(folder).items() <= undisturbed.items()  # whatever is there is whole
    fates = take_up(plan, folder)
    assert products(folder) == undisturbed
    assert left_behind(folder) == []
    kept = sum(fate == Fate.KEPT for fate in fates.values())
    expected = {"sealed": 3, "named": 3, "finished": 3, "telling": len(undisturbed)}
    assert kept == expected.get(point, 2)  # what was sealed is not made twice


@pytest.mark.parametrize(("engine", "times"), [("processes", 1), ("dask", 1)])
def test_killed_at_random_with_workers(plan, plan_file, undisturbed, tmp_path, engine, times):
    """The run is killed; its workers follow; the next one takes up what they were at."""
    if engine == "dask":
        pytest.importorskip("distributed")
    rng = random.Random(2026)
    for _ in range(times):
        begun = begin_run(plan_file, tmp_path, "--engine", engine, "--workers", WORKERS, "-q")
        wait_until(partial(has_begun, begun, tmp_path))
        time.sleep(rng.uniform(0, 0.1))
        begun.kill()
        begun.communicate()
        assert products(tmp_path).items() <= undisturbed.items()
    take_up(plan, tmp_path)
    assert products(tmp_path) == undisturbed
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_worker_killed_in_the_middle_costs_nothing(plan, undisturbed, tmp_path, engine):
    """One of two workers is killed while it has claimed a target; another does it."""
    if engine == "dask":
        pytest.importorskip("distributed")
    killed = []

    def watch(_):
        with Ledger(tmp_path) as ledger:
            found = ledger._base.execute("SELECT owner FROM products WHERE state='claimed'")
            owners = [int(owner.split(" ")[1]) for (owner,) in found]
        if owners and not killed:
            killed.append(owners[0])
            os.kill(owners[0], signal.SIGKILL)

    order = orders.make_order(plan, tmp_path, {})
    manner = runner.Manner(engine=engine, workers=int(WORKERS))
    run = runner.Run(plan, order, manner, watch)
    runner.TICK, former = 0.005, runner.TICK
    try:
        results = run.go()
    finally:
        runner.TICK = former
    assert killed
    assert {one.status for one in results} == {"COMPLETE"}
    assert [one.target for one in results] == targets_of(plan)
    assert products(tmp_path) == undisturbed
    assert left_behind(tmp_path) == []


class Deadly:
    """An engine whose worker is lost whenever it comes to one target."""

    workers, dashboard = 1, ""

    def __init__(self, target):
        self.target, self.tasks = target, []

    def submit(self, key, function, *arguments):
        self.tasks.append((key, function, arguments))

    def wait(self, _):
        key, function, (group, order) = self.tasks.pop(0)
        if any(one.target == self.target for one in group.members):
            return [(key, WorkerLostError("its worker was lost"))]
        return [(key, function(group, order))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_who_loses_every_worker_fails_alone(plan, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "make_engine", lambda *_, **__: Deadly("nod1_rate.fits"))
    table = batch.run(plan, tmp_path)
    failed = table[table["fate"] == "failed"]
    assert list(failed["target"]) == ["nod1_rate.fits"]
    assert list(failed["reason"]) == ["its worker was lost"]
    left = dict(undisturbed)
    del left["nod1_backgroundstep.fits"]
    assert products(tmp_path) == left


def test_two_runs_in_one_folder(plan_file, plan, undisturbed, tmp_path):
    both = [begin_run(plan_file, tmp_path, "--engine", "none", "--json") for _ in range(2)]
    ends = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [0, 0], ends
    told = [{one["target"]: one["fate"] for one in json.loads(out)} for out, _ in ends]
    for target in targets_of(plan):
        assert sorted(fates[target] for fates in told) == [Fate.DONE, Fate.KEPT]
    assert products(tmp_path) == undisturbed
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(("by", "engine"), [(signal.SIGINT, "processes"), (signal.SIGTERM, "none")])
def test_interrupted(tmp_path, by, engine):
    big = write_programme(tmp_path / "data", targets=150, nods=0, copies=True)
    file = batch.write_plan(big, tmp_path / "data" / "plan.json")
    out = tmp_path / "out"
    begun = begin_run(file, out, "--engine", engine, "--workers", WORKERS)
    wait_until(lambda: counts(out).get("done", 0) > 5)
    os.killpg(begun.pid, by)  # as a terminal does: the workers have it, too
    said, complaints = begun.communicate(timeout=60)
    assert begun.returncode == 130, complaints
    assert "the same command takes them up" in complaints
    assert "Traceback" not in said + complaints
    rows = [json.loads(one) for one in (out / "webbkg-results.jsonl").read_text().splitlines()]
    assert {row["fate"] for row in rows} == {Fate.DONE}
    assert f"{150 - len(rows)} targets are left" in complaints
    done, told = len(products(out)), counts(out).get("done", 0)
    assert 5 < done < 150
    assert told <= done <= told + int(WORKERS)  # some may have got their names and no more
    assert len(rows) == told
    assert all(row["metrics"]["verdict"] and row["output"] for row in rows)


@pytest.fixture
def small_disk(tmp_path):
    """Make a file system of one and a half megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be made here, which takes root: mount is refused")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(plan, undisturbed, small_disk):
    """What does not fit fails with its reason; what was done stays; with space, the rest follows."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_150_000))
    table = batch.run(plan, small_disk, engine="none")
    failed = table[table["status"] == "ERROR"]
    assert 0 < len(failed) < len(table)
    assert all("No space left" in why or "full" in why for why in failed["reason"])
    assert products(small_disk).items() <= undisturbed.items()
    assert len(products(small_disk)) == len(table) - len(failed)
    filler.unlink()
    fates = take_up(plan, small_disk)
    assert sum(fate == Fate.KEPT for fate in fates.values()) == len(table) - len(failed)
    assert products(small_disk) == undisturbed
    assert left_behind(small_disk) == []


def test_a_group_that_raises_is_run_target_by_target(plan, undisturbed, tmp_path, monkeypatch):
    def odd(group, order):
        if len(group.members) > 1:
            raise MemoryError("of some size")
        return run_group(group, order)

    monkeypatch.setattr(runner, "run_group", odd)
    assert set(batch.run(plan, tmp_path, engine="none")["status"]) == {"COMPLETE"}
    assert products(tmp_path) == undisturbed

    monkeypatch.setattr(runner, "run_group", lambda *_: 1 / 0)
    table = batch.run(plan, tmp_path / "other", engine="none")
    assert set(table["reason"]) == {"ZeroDivisionError: division by zero"}


def test_a_report_is_what_a_worker_gives(plan, tmp_path):
    order = orders.make_order(plan, tmp_path, {})
    assert isinstance(run_group(plan.groups[1], order), Report)
