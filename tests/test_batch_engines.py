"""The engines, with real processes: what is done, what fails, and who is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import engine_tasks
from webbkg.batch import engines
from webbkg.batch.engines import WorkerLostError, make_engine, share_cores
from webbkg.errors import MissingExtraError, OptionError
from webbkg.numerics.cores import usable_cores

WORKERS = min(2, usable_cores())


def drain(engine, number, limit=120):
    """Wait until so many tasks are done; return what they came to, by their keys."""
    done, end = {}, time.monotonic() + limit
    while len(done) < number:
        done |= dict(engine.wait(1.0))
        assert time.monotonic() < end, f"{number - len(done)} tasks hang"
    return done


@pytest.fixture(scope="module", params=["none", "processes", "dask"])
def engine(request):
    if request.param == "dask":
        pytest.importorskip("distributed")
    with make_engine(request.param, WORKERS) as made:
        yield made


def test_what_tasks_return_and_raise(engine):
    for i in range(5):
        engine.submit(("doubled", i), engine_tasks.double, i)
    engine.submit("failing", engine_tasks.fail, 7)
    done = drain(engine, 6)
    assert isinstance(done["failing"], ValueError)
    assert str(done.pop("failing")) == "cannot take 7"
    assert done == {("doubled", i): 2 * i for i in range(5)}
    assert engine.wait(0) == []


def test_who_is_lost_costs_its_own_task_only(engine, tmp_path):
    if isinstance(engine, engines.Here):
        pytest.skip("this process has no workers")
    engine.submit("poison", engine_tasks.die, 0)
    engine.submit("unlucky", engine_tasks.die_once, str(tmp_path / "mark"))
    for i in range(4):
        engine.submit(i, engine_tasks.double, i)
    done = drain(engine, 6)
    assert isinstance(done.pop("poison"), WorkerLostError)
    assert done == {"unlucky": "second time", **{i: 2 * i for i in range(4)}}


def test_a_worker_that_is_lost_while_it_waits_costs_nothing(engine):
    if isinstance(engine, engines.Here):
        pytest.skip("this process has no workers")
    engine.submit("who", engine_tasks.threads_of_libraries, 0)
    _, process = drain(engine, 1)["who"]
    os.kill(process, signal.SIGKILL)
    time.sleep(0.3)  # so that it is known before the next begins
    engine.submit("next", engine_tasks.double, 4)
    assert drain(engine, 1) == {"next": 8}


def test_what_a_lost_worker_has_returned_and_nobody_fetched_is_done_again(engine, monkeypatch):
    """It happens where a task ends its worker just after another has been done there."""
    if not isinstance(engine, engines.Dask):
        pytest.skip("only Dask leaves with a worker what a task has returned")
    import distributed

    fetched, result = [], distributed.Future.result

    def fetch(future, *given):
        fetched.append(future.key)
        if len(fetched) == 1:
            raise distributed.scheduler.KilledWorker(future.key, None, 0)
        return result(future, *given)

    monkeypatch.setattr(distributed.Future, "result", fetch)
    engine.submit("again", engine_tasks.double, 4)
    assert drain(engine, 1) == {"again": 8}
    assert len(set(fetched)) == 2


def test_workers_have_libraries_of_one_thread(engine):
    if isinstance(engine, engines.Here):
        pytest.skip("this process is as it was")
    for i in range(4):
        engine.submit(i, engine_tasks.threads_of_libraries, i)
    told = drain(engine, 4).values()
    assert {threads for threads, _ in told} == {"1"}
    assert len({process for _, process in told}) <= WORKERS
    assert os.getpid() not in {process for _, process in told}


def test_a_worker_with_too_much_memory_is_ended(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(
        "webbkg.batch.engines.cluster.TRIES", 1
    )  # each time that it is lost takes seconds
    environment = dict(os.environ)
    with make_engine("dask", 1, memory_limit="400MB") as engine:
        engine.submit("large", engine_tasks.hoard, 600_000_000)
        lost = drain(engine, 1)["large"]
    assert dict(os.environ) == environment
    assert isinstance(lost, WorkerLostError)
    assert "memory" in str(lost)


@pytest.mark.parametrize("limit", ["lots", "1MB", "-5GB", "0.000001", "3"])
def test_a_limit_in_which_no_worker_can_live(limit):
    """Dask would begin it again for ever."""
    pytest.importorskip("distributed")
    with pytest.raises(OptionError, match="memory_limit must be"):  # noqa: SIM117
        with make_engine("dask", 1, memory_limit=limit):
            pass


def test_a_scheduler_by_its_address():
    """Two processes and TCP, as on a cluster."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        with make_engine("auto", 1, scheduler=cluster.scheduler_address) as engine:
            assert engine.workers == WORKERS
            engine.submit("a", engine_tasks.double, 4)
            assert drain(engine, 1) == {"a": 8}
        with distributed.Client(cluster, set_as_default=False) as client:
            with make_engine("auto", 1, client=client) as engine:
                assert engine.workers == WORKERS
                engine.submit("a", engine_tasks.double, 5)
                assert drain(engine, 1) == {"a": 10}
            assert client.status == "running"


def test_nobody_answers(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("webbkg.batch.engines.cluster.CONNECT", 0.5)
    with pytest.raises(OptionError, match="where a Dask scheduler answers"):  # noqa: SIM117
        with make_engine("dask", 1, scheduler="tcp://127.0.0.1:9"):
            pass


@pytest.mark.parametrize("name", ["dask", "processes"])
def test_a_script_that_its_workers_cannot_import(name, tmp_path):
    """Each worker would run it again, from its beginning."""
    if name == "dask":
        older = "those before begin such workers again for ever"
        pytest.importorskip("distributed", minversion="2026.8", reason=older)
    script = tmp_path / "script.py"
    script.write_text(
        "from webbkg.batch.engines import make_engine\n"
        f"with make_engine({name!r}, 2) as engine:\n"
        "    engine.submit(1, len, 'abc')\n"
        "    while not engine.wait(1):\n"
        "        pass\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("webbkg.batch.engines.engine.NoWorkerError: ")
    assert 'if __name__ == "__main__":' in last


def test_workers_end_with_who_began_them(tmp_path):
    """The parent is killed: its workers, in the middle of a task, do not stay."""
    script = (
        "import os, signal, time\n"
        "from webbkg.batch.engines import Processes\n"
        "import engine_tasks\n"
        "if __name__ == '__main__':\n"
        "    with Processes(1) as engine:\n"
        "        engine.submit(0, engine_tasks.threads_of_libraries, 0)\n"
        "        while not (done := engine.wait(1)): pass\n"
        "        print(done[0][1][1], flush=True)\n"
        "        engine.submit(1, time.sleep, 60)\n"
        "        engine.wait(0.1)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "parent.py"
    path.write_text(script)
    folders = os.pathsep.join(
        filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    )
    ended = subprocess.run(
        [sys.executable, path], env={**os.environ, "PYTHONPATH": folders}, capture_output=True
    )
    worker = int(ended.stdout)
    end = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr("webbkg.batch.engines.choice.usable_cores", lambda: 8)
    assert [share_cores(n) for n in (None, 1, 2, 3, 8)] == [(8, 1), (1, 8), (2, 4), (3, 2), (8, 1)]
    for wrong in (0, 9):
        with pytest.raises(OptionError, match="1 to 8"):
            share_cores(wrong)


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("webbkg.batch.engines.choice._has_dask", lambda: False)
    assert isinstance(make_engine("auto", 1), engines.Processes)
    with pytest.raises(MissingExtraError, match=r"webbkg\[batch\]"), make_engine("dask", 1):
        pass
    with pytest.raises(OptionError, match="engine must be dask"):
        make_engine("processes", 1, memory_limit="1GB")


def test_no_thread_of_ours_is_left():
    with make_engine("processes", 1) as engine:
        engine.submit(0, engine_tasks.double, 1)
        drain(engine, 1)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("webbkg")]
