"""The command `webbkg run`: what it shows, what it writes, and its exit status."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from factories import IMAGING, make_model, save
from programme import products, targets_of, write_programme
from webbkg import batch
from webbkg.batch.runner import Progress
from webbkg.cli import live, main
from webbkg.errors import OutputError

SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    plan = write_programme(tmp_path_factory.mktemp("programme"))
    batch.write_plan(plan, Path(plan.folder) / "plan.json")
    return Path(plan.folder)


@pytest.fixture
def data(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "data"))


def run(*arguments):
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *map(str, arguments), "--engine", "none"])
    return ended.value.code


def test_a_plan_is_run_and_told_of(data, tmp_path, capsys):
    assert run(data / "plan.json", "-o", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.out.startswith("6 targets: 6 COMPLETE; ")
    assert "webbkg-results.ecsv" in said.out
    table = Table.read(tmp_path / "out" / "webbkg-results.ecsv")
    assert list(table["target"]) == targets_of(batch.read_plan(data / "plan.json"))
    assert run(data / "plan.json", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("6 targets: 6 there already; ")


def test_failures_come_last_with_their_reasons(data, tmp_path, capsys):
    os.truncate(data / "t0001_rate.fits", 3000)
    assert run(data / "plan.json", "-o", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "5 COMPLETE, 1 ERROR" in said.out
    assert said.err.splitlines()[-1].startswith("  t0001_rate.fits: ERROR: t0001_rate.fits: ")


def test_what_was_subtracted_before_is_told_as_by_subtract(data, tmp_path, capsys):
    """Who edits a plan may name a product as a target."""
    assert run(data / "plan.json", "-o", data, "--suffix", "mine", "-q") == 0
    group = {"name": "g", "kind": "dedicated", "members": ["t0000_mine.fits"]}
    group["backgrounds"] = ["sky0_rate.fits"]
    (data / "again.json").write_text(json.dumps({"webbkg_plan": 1, "groups": [group]}))
    assert run(data / "again.json", "-o", tmp_path / "out") == 3
    said = capsys.readouterr()
    assert said.out.startswith("1 target: 1 done before; ")
    assert "--allow-repeat subtracts again" in said.err


def test_json_and_parts(data, tmp_path, capsys):
    given = data / "plan.json", "-o", tmp_path / "out", "--shard", "1/2", "--json"
    assert run(*given, "--sigma", "2.5") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["target"] for one in told] == [f"t000{i}_rate.fits" for i in range(3)]
    assert told[0]["details"]["sigma"] == 2.5
    assert (tmp_path / "out" / "webbkg-results-1-of-2.jsonl").exists()


def test_reports_have_an_index(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    plan = write_programme(tmp_path / "data", targets=2, nods=0)
    file, out = batch.write_plan(plan, tmp_path / "data" / "plan.json"), tmp_path / "out"
    for _ in range(2):  # the second time all are there already
        assert run(file, "-o", out, "--save-report", "-q") == 0
        index = (out / "webbkg_index.html").read_text()
        assert all(f"t000{i}_backgroundstep_report.html" in index for i in range(2))
        assert index.count("data:image/png") >= 2
    pages = sorted(out.glob("*_report.html"))
    assert len(pages) == 2
    assert run(file, "-o", out, "--save-report", "-q", "--shard", "1/3") == 0
    assert (out / "webbkg_index.html").read_text() == index  # a part has its own
    assert (out / "webbkg_index-1-of-3.html").exists()
    out = out.rename(tmp_path / "moved")
    (out / pages[0].name).unlink()
    assert run(file, "-o", out, "--save-report", "-q") == 0
    fates = {one["fate"]: one for one in map(json.loads, (out / "webbkg-results.jsonl").open())}
    assert set(fates) == {"done", "there already"}  # without its page a target is done again
    assert all(
        Path(one[what]).parent == out for one in fates.values() for what in ("output", "report")
    )
    assert (out / pages[0].name).exists()
    assert 'href="./../out' not in (out / "webbkg_index.html").read_text()


def test_a_folder_is_planned_first(data, tmp_path, capsys):
    for path in data.glob("*.fits"):
        path.rename(path.with_suffix(".other"))
    assert run(data, "-o", tmp_path / "out") == 3
    assert "nothing is planned" in capsys.readouterr().err


def test_templates_are_run_from_a_folder(tmp_path, capsys, monkeypatch):
    """As `webbkg subtract` does, image by image, and none as the background of another."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    wisp = np.zeros((40, 48), np.float32)
    wisp[10:30, 12:36] = 1
    np.save("wisps.npy", wisp)
    for number in (1, 2):
        meta = {"meta.observation.exposure_number": str(number), **IMAGING}
        sci = 1 + number * wisp + rng.normal(0, 0.05, wisp.shape)
        model = make_model(sci, np.full(wisp.shape, 0.05), meta=meta, meta__dither__x_offset=number)
        save(model, tmp_path / f"t{number}_rate.fits")
    given = ["--template", "wisps.npy", "--template-sky", "level"]
    assert run(".", "-o", "out", *given) == 0
    assert "2 targets in 2 groups, 0 files left out" in capsys.readouterr().err
    for number in (1, 2):
        with pytest.raises(SystemExit):
            main(["subtract", f"t{number}_rate.fits", *given, "-o", "singly", "-q"])
    assert products(tmp_path / "out") == products(tmp_path / "singly")
    table = Table.read("out/webbkg-results.ecsv")
    assert set(table["kind"]) == {"template"}


def test_a_plan_for_templates_needs_them(data, tmp_path, capsys):
    plan = batch.plan(data, templates=True)
    batch.write_plan(plan, tmp_path / "templates.json")
    assert run(tmp_path / "templates.json", "-o", tmp_path / "out") == 2
    assert "--template must be given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("besides", "told"),
    [
        (["--min-separation", "2"], "--min-separation"),
        (["--no-pairs"], "--no-pairs"),
        (["--catalog", "cat.ecsv"], "--catalog"),
        (["--background-target", "SKY"], "--background-target"),
        (["."], "got ."),
    ],
)
def test_a_plan_is_run_by_itself(data, tmp_path, capsys, besides, told):
    assert run(data / "plan.json", *besides, "-o", tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_why_nothing_is_planned(tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"webbkg_plan": 1,')
    assert run(tmp_path / "plan.json", "-o", tmp_path / "out") == 3
    said = capsys.readouterr()
    assert "Expecting property name" in said.err
    assert said.out.startswith("0 targets; ")


def test_bad_verdicts_are_told_at_the_end(data, tmp_path, capsys, monkeypatch):
    given = "--metric-limits", "scatter=1e-9:1e-8"
    assert run(data / "plan.json", "-o", tmp_path / "out", *given) == 0
    said = capsys.readouterr()
    assert "verdicts: 6 bad" in said.out
    assert said.err.count(": bad: the sky scatters ") == 6
    monkeypatch.setattr(live, "MOST_NAMED", 4)
    assert run(data / "plan.json", "-o", tmp_path / "out", *given) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("  … and 2 more: bad")


def test_what_became_of_the_targets_is_told_though_no_table_can_be_written(
    data, tmp_path, capsys, monkeypatch
):
    def full(*_):
        raise OutputError("webbkg-results.ecsv: cannot be written (No space left on device)")

    monkeypatch.setattr(live.outcomes, "write_results", full)
    assert run(data / "plan.json", "-o", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert said.out.startswith("6 targets: 6 COMPLETE; ")
    assert said.err.splitlines()[-1].startswith("error: webbkg-results.ecsv: cannot be written")


def test_many_failures_of_one_reason_are_counted(tmp_path, capsys):
    plan = write_programme(tmp_path / "data", targets=live.MOST_NAMED + 3, nods=0, copies=True)
    file = batch.write_plan(plan, tmp_path / "data" / "plan.json")
    (tmp_path / "data" / "sky0_rate.fits").unlink()
    assert run(file, "-o", tmp_path / "out") == 1
    *named, last = capsys.readouterr().err.splitlines()
    assert len(named) == live.MOST_NAMED
    assert last.startswith("  … and 3 more: ERROR: ")
    assert "sky0_rate.fits" in last


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--shard", "0/2"], "--shard must be i/n"),
        (["--shard", "half"], "--shard must be i/n"),
        (["--workers", "100000"], "--workers must be 1 to"),
        (["--sigma=-1"], "--sigma must be a number of at least 0"),
    ],
)
def test_bad_usage(data, tmp_path, capfd, given, reason):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(data / "plan.json"), "-o", str(tmp_path / "out"), *given])
    assert ended.value.code == 2
    assert reason in capfd.readouterr().err
    assert not products(tmp_path / "out")


def test_the_live_table():
    from rich.console import Console

    shown = Console(width=60, record=True, file=io.StringIO())
    far = Progress(total=40, done=10, kept=4, failed=1, running=2, seconds=22, workers=2)
    shown.print(live._table(far))
    text = shown.export_text()
    for told in ("10 of 40", "there already  4", "30 a minute", "50 s", "running        2"):
        assert told in text
    assert Progress(total=4).remaining is None
    fast = Progress(total=9000, done=5000, seconds=100)
    assert dict(live._told(fast))["rate"] == "3000 a minute"


def test_a_line_now_and_then_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(live, "LINE_EVERY", 0.0)
    shown = live.Live()
    with shown.shown():
        for done in (1, 2):
            shown(Progress(total=4, done=done, seconds=10, dashboard="http://here"))
    assert capsys.readouterr().err.splitlines() == [
        "dashboard: http://here",
        "done 1 of 4, running 0, failed 0, rate 6 a minute, remaining 30 s, workers 1",
        "done 2 of 4, running 0, failed 0, rate 12 a minute, remaining 10 s, workers 1",
    ]


@pytest.fixture
def cluster(tmp_path):
    """Begin a scheduler and two workers as a batch system's jobs do; give the address."""
    pytest.importorskip("distributed")
    file = tmp_path / "cluster.json"
    shared = ["--scheduler-file", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    host = ["--host", "127.0.0.1"]
    commands = [
        [SCHEDULER, *shared, *host, "--port", "0", "--no-dashboard"],
        *([WORKER, *shared, *host, "--nthreads", "1", "--no-dashboard"] for _ in range(2)),
    ]
    processes = [subprocess.Popen([sys.executable, "-m", *one], **quiet) for one in commands]
    try:
        from distributed import Client

        while not file.exists() or not file.read_text().strip():
            assert processes[0].poll() is None
        with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def test_a_cluster_that_is_there(data, tmp_path, cluster):
    """The recipe for a cluster, with the jobs on this machine."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(data / "plan.json"), "-o", str(tmp_path / "out"), "--scheduler", cluster])
    assert ended.value.code == 0
    batch.run(batch.read_plan(data / "plan.json"), tmp_path / "other", engine="none")
    assert products(tmp_path / "out") == products(tmp_path / "other")


def test_a_cluster_that_is_lost_ends_the_run(data, tmp_path, capfd, monkeypatch):
    """Its scheduler, that is: workers may come again."""
    pytest.importorskip("distributed")
    from webbkg.batch.engines import cluster

    monkeypatch.setattr(cluster, "CONNECT", 1.0)  # as long is waited for it to come back
    rest = live.Run._take

    def take(self, group, came_to):
        taken = rest(self, group, came_to)
        scheduler.kill()
        return taken

    file = tmp_path / "cluster.json"
    shared = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([sys.executable, "-m", SCHEDULER, *shared])
    try:
        while not file.exists() or not file.read_text().strip():
            assert scheduler.poll() is None
        address = json.loads(file.read_text())["address"]
        worker = [WORKER, address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        with subprocess.Popen([sys.executable, "-m", *worker]) as working:
            monkeypatch.setattr(live.Run, "_take", take)
            given = data / "plan.json", "-o", tmp_path / "out", "--scheduler", address
            with pytest.raises(SystemExit) as ended:
                main(["run", *map(str, given)])
            working.kill()
    finally:
        scheduler.kill()
        scheduler.wait()
    assert ended.value.code == 1
    said = capfd.readouterr()
    assert f"error: the Dask scheduler ({address}) does not answer any more" in said.err
    told = [json.loads(one) for one in (tmp_path / "out" / "webbkg-results.jsonl").open()]
    assert told
    assert {one["status"] for one in told} == {"COMPLETE"}
