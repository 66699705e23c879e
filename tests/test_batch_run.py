"""Programmes run: shared work, the ledger, what is skipped and what is done again."""

import json
import os
import pickle
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from programme import left_behind, pixels, products, targets_of, write_programme
from webbkg import batch
from webbkg.batch import engines, runner, work
from webbkg.batch.groups import Group, Kind
from webbkg.batch.identity import FileIdentity
from webbkg.batch.ledger import Claim, ClaimLostError, Entry, Ledger, State, owning
from webbkg.batch.orders import make_order
from webbkg.batch.outcomes import as_table, write_results
from webbkg.batch.work import Fate, run_group
from webbkg.errors import MissingExtraError, OptionError, OutputError
from webbkg.files import owners


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programme")
    return write_programme(folder)


@pytest.fixture
def plan(written, tmp_path):
    """Give each test its own files, with their times."""
    shutil.copytree(written.folder, tmp_path / "data")
    return runner.replace(written, folder=str(tmp_path / "data"))


def go(plan, output, **given):
    return batch.run(plan, output, engine="none", **given)


def fates(table):
    return dict(zip(table["target"], table["fate"], strict=True))


@pytest.fixture
def singly(plan, tmp_path, monkeypatch):
    """Make each product as `webbkg subtract` does, by itself."""
    from webbkg.cli import main

    monkeypatch.chdir(plan.folder)
    for group in plan.groups:
        for member in group.members:
            given = [one for name in member.backgrounds for one in ("-b", name)]
            with pytest.raises(SystemExit) as ended:
                main(["subtract", member.target, *given, "-q", "-o", str(tmp_path / "singly")])
            assert ended.value.code == 0
    return products(tmp_path / "singly")


def test_products_are_those_of_single_calls(plan, tmp_path, singly):
    table = go(plan, tmp_path / "out")
    assert list(table["target"]) == targets_of(plan)
    assert set(table["status"]) == {"COMPLETE"}
    assert products(tmp_path / "out") == singly
    assert len(singly) == 6
    assert left_behind(tmp_path / "out") == []


def in_memory(path):
    """Tell whether the system holds a file's first bytes in memory; None where it does not say."""
    with path.open("rb") as stream:
        try:
            return os.preadv(stream.fileno(), [bytearray(8)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False
        except (AttributeError, OSError):
            return None


def test_products_do_not_fill_the_memory_of_the_system(plan, tmp_path):
    if in_memory(target := Path(plan.folder) / targets_of(plan)[0]) is None:
        pytest.skip("this system does not say what of a file it holds in memory")
    assert in_memory(target)  # was just written
    go(plan, tmp_path / "out")
    made = list((tmp_path / "out").glob("*_backgroundstep.fits"))
    assert len(made) == 6
    kept = [path.name for path in made if in_memory(path)]
    assert len(kept) <= 2  # the system need not heed the advice, and on a busy machine may not


def test_headers_are_those_of_single_calls_but_for_the_time(plan, tmp_path, singly):
    go(plan, tmp_path / "out")
    for name in singly:
        ours, theirs = (fits.getheader(tmp_path / f / name) for f in ("out", "singly"))
        differs = fits.HeaderDiff(ours, theirs, ignore_keywords=["DATE"])
        assert differs.identical, differs.report()


@pytest.mark.parametrize(
    "options",
    [
        "--robust",
        "--save-background --save-combined-background --propagate-errors",
        "--clip-noise model --sigma 2.5 --maxiters 1",
        "--match-background scale --mask-sources",
        "--source-mask mask.fits --dq-threshold 0.5 --suffix mine",
        "--drop-mismatched --skip-metrics --allow-repeat",
    ],
)
def test_parameters_mean_what_they_mean_to_subtract(plan, tmp_path, monkeypatch, options):
    from webbkg.cli import main

    monkeypatch.chdir(plan.folder)
    mask = np.ones((24, 32), np.uint8)
    mask[4:9, 6:20] = 0
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="MASK")]).writeto("mask.fits")
    plan = replace(plan, groups=tuple(replace(g, members=g.members[:2]) for g in plan.groups))
    calls = [["run", str(batch.write_plan(plan, "plan.json")), "--engine", "none", "-o", "run"]]
    for member in (m for group in plan.groups for m in group.members):
        named = [word for name in member.backgrounds for word in ("-b", name)]
        calls.append(["subtract", member.target, *named, "-o", "singly"])
    for call in calls:
        with pytest.raises(SystemExit) as ended:
            main([*call, "-q", *options.split()])
        assert ended.value.code == 0
    told = [
        {path.name: (pixels(path), _timeless_cards(path)) for path in Path(folder).glob("*.fits")}
        for folder in ("run", "singly")
    ]
    assert len(told[0]) == 4 * (1 + options.count("--save"))
    assert told[0] == told[1]


def _timeless_cards(path):
    header = fits.getheader(path)
    return [card for card in map(str, header.cards) if not card.startswith(("DATE ", "HISTORY"))]


def test_backgrounds_are_combined_once(plan, tmp_path, monkeypatch):
    from webbkg.image import leave_one_out, measure, unkept

    made = []

    def counting(function, name):
        def call(*given, **more):
            made.append(name)
            return function(*given, **more)

        return call

    monkeypatch.setattr(measure, "average_unkept", counting(unkept.average_unkept, "all"))
    from webbkg.image import group

    passed = counting(leave_one_out.average_others, "others")
    monkeypatch.setattr(group, "average_others", passed)
    go(plan, tmp_path / "out")
    assert sorted(made) == ["all", "others"]


def test_a_second_run_does_nothing(plan, tmp_path, monkeypatch):
    first = go(plan, tmp_path / "out")
    before = {path: path.stat() for path in (tmp_path / "out").glob("*.fits")}
    monkeypatch.setattr(runner, "run_group", None)
    second = go(plan, tmp_path / "out")
    assert set(second["fate"]) == {Fate.KEPT}
    assert list(second["level"]) == list(first["level"])
    assert {path: path.stat() for path in (tmp_path / "out").glob("*.fits")} == before


def change(plan, name):
    path = Path(plan.folder, name)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data[3, 4] += 1000


@pytest.mark.parametrize(
    ("what", "again"),
    [
        ("t0001_rate.fits", {"t0001_rate.fits"}),
        ("sky1_rate.fits", {f"t000{i}_rate.fits" for i in range(3)}),
        ("nod1_rate.fits", {f"nod{i}_rate.fits" for i in range(3)}),
    ],
)
def test_what_changed_is_done_again_and_nothing_else(plan, tmp_path, what, again):
    go(plan, tmp_path / "out")
    change(plan, what)
    done = fates(go(plan, tmp_path / "out"))
    assert {name for name, fate in done.items() if fate == Fate.DONE} == again


def test_other_parameters_and_lost_products_are_done_again(plan, tmp_path):
    out = tmp_path / "out"
    go(plan, out)
    (out / "t0000_backgroundstep.fits").unlink()
    done = fates(go(plan, out))
    assert [name for name, fate in done.items() if fate == Fate.DONE] == ["t0000_rate.fits"]
    assert set(fates(go(plan, out, sigma=2.0)).values()) == {Fate.DONE}


def test_another_version_does_all_again(plan, tmp_path, monkeypatch):
    from webbkg.batch import identity

    go(plan, tmp_path / "out")
    monkeypatch.setattr(identity, "__version__", "9.9")
    assert set(fates(go(plan, tmp_path / "out")).values()) == {Fate.DONE}


def test_a_bad_file_costs_its_own_targets_only(plan, tmp_path):
    os.truncate(Path(plan.folder, "t0001_rate.fits"), 3000)
    Path(plan.folder, "nod2_rate.fits").unlink()
    table = go(plan, tmp_path / "out")
    told = dict(
        zip(table["target"], zip(table["status"], table["reason"], strict=True), strict=True)
    )
    assert [told[f"t000{i}_rate.fits"][0] for i in (0, 2)] == ["COMPLETE", "COMPLETE"]
    assert told["t0001_rate.fits"][0] == "ERROR"
    missing = f"{plan.folder}/nod2_rate.fits: no such file; check the name and the folder"
    assert told["nod2_rate.fits"] == ("ERROR", missing)
    for i in range(2):  # each needs it
        assert told[f"nod{i}_rate.fits"] == (
            "ERROR",
            f"{missing}; or take it out of the backgrounds in the plan, to go on without it",
        )
    with Ledger(tmp_path / "out") as ledger:
        assert ledger.counts() == {"done": 2, "failed": 4}
    assert set(fates(go(plan, tmp_path / "out"))) == set(
        targets_of(plan)
    )  # failed ones are tried again


def test_fail_fast_ends_at_the_first_failure(plan, tmp_path):
    os.truncate(Path(plan.folder, "t0001_rate.fits"), 3000)
    table = go(plan, tmp_path / "out", fail_fast=True)
    assert list(table["target"]) == ["t0000_rate.fits", "t0001_rate.fits", "t0002_rate.fits"]


def test_a_file_that_is_no_product_is_left_alone(plan, tmp_path):
    (tmp_path / "out").mkdir()
    foreign = tmp_path / "out" / "t0002_backgroundstep.fits"
    foreign.write_bytes(b"mine")
    table = go(plan, tmp_path / "out")
    assert table[2]["status"] == "ERROR"
    assert "--overwrite" in table[2]["reason"]
    assert foreign.read_bytes() == b"mine"
    assert go(plan, tmp_path / "out", overwrite=True)[2]["status"] == "COMPLETE"


def test_products_that_would_meet_are_refused(plan, tmp_path):
    first = plan.groups[0]
    twice = runner.replace(
        first, name="b", members=(runner.replace(first.members[0], target="x/t0000_rate.fits"),)
    )
    with pytest.raises(OutputError, match="product of both"):
        go(runner.replace(plan, groups=(first, twice)), tmp_path / "out")
    with pytest.raises(OutputError, match="overwrite an input"):
        go(plan, plan.folder, suffix="rate")


@pytest.mark.parametrize("given", [{"shard": (3, 2)}, {"sigma": -1}, {"engine": "steam"}])
def test_impossible_options(plan, tmp_path, given):
    with pytest.raises(OptionError):
        batch.run(plan, tmp_path / "out", **{"engine": "none", **given})


def test_shards_are_the_whole(plan, tmp_path):
    done = [set(go(plan, tmp_path / "out", shard=(i, 3))["target"]) for i in (1, 2, 3)]
    assert set.union(*done) == set(targets_of(plan))
    assert sum(map(len, done)) == len(targets_of(plan))
    assert len(products(tmp_path / "out")) == 6


def test_large_groups_are_divided_and_dithers_are_not(plan):
    field, nods = plan.groups
    many = runner.replace(field, members=field.members * 7)
    parts = list(runner._divided(many, 8))
    assert [len(part.members) for part in parts] == [7, 7, 7]
    assert list(runner._divided(runner.replace(nods, members=nods.members * 7), 8)) == [
        runner.replace(nods, members=nods.members * 7)
    ]


def test_a_cluster_without_workers_yet_is_offered_work_for_many():
    """It grows by what waits; two cores here say nothing of it."""

    class Cluster(engines.Here):
        workers = 0

        def wait(self, _):
            return []

    parts = [Group(name=str(i), kind=Kind.GRISM, members=()) for i in range(100)]
    for least, workers, expected in ((runner.LEAST_PLACES, 0, 64), (1, 2, 8), (16, 20, 80)):
        engine = Cluster()
        engine.workers = workers
        queue = runner._Queue(engine, None, least)
        queue.put(parts[::-1], [])
        assert list(queue.turn(0.0)) == []
        assert queue.under_way == parts[:expected]


def test_reports_pickle(plan, tmp_path):
    order = make_order(plan, tmp_path / "out", {})
    report = pickle.loads(pickle.dumps(run_group(plan.groups[0], order)))
    assert [one.status for one in report.results] == ["COMPLETE"] * 3
    assert report.peak > 0


def test_a_process_does_one_group_at_a_time(plan, tmp_path):
    """Two threads ask, as those of a worker may: neither has the other's lines in its log."""
    from concurrent.futures import ThreadPoolExecutor

    order = make_order(plan, tmp_path / "out", {})
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run_group, plan.groups, [order] * 2))
    go(plan, tmp_path / "alone")
    for name in products(tmp_path / "out"):
        logs = [cal_log(tmp_path / folder / name) for folder in ("out", "alone")]
        assert len(logs[0]) == len(logs[1]) > 0


def cal_log(path):
    with fits.open(path) as hdus:
        content = hdus["ASDF"].data.tobytes()
    return [line for line in content.splitlines() if b" - webbkg." in line]


def test_a_target_that_another_run_is_at_is_waited_for(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "RETRY_AFTER", 0.1)
    order = make_order(plan, tmp_path / "out", {})
    entry = work.entry_of(plan.groups[0].members[1], order, work.Identities())
    with Ledger(tmp_path / "out") as ledger:
        assert ledger.claim([entry], OTHER, lease=0.8) is Claim.OURS
    table = go(plan, tmp_path / "out")
    assert set(table["fate"]) == {Fate.DONE}


# The ledger.


def entry(product="p.fits", fingerprint="f"):
    return Entry(product=product, target="t", fingerprint=fingerprint, described={})


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as opened:
        yield opened


HERE = owners.machine()
US, OTHER, DEAD = f"{HERE} {os.getppid()} us", "elsewhere 1 abc", f"{HERE} 4194999 abc"


def seal(ledger, folder, owner, name="p.fits", content=b"whole"):
    unfinished = folder / ".webbkg-x.partial"
    unfinished.write_bytes(content)
    ledger.seal(owner, {name: {"status": "COMPLETE"}}, [(unfinished, folder / name)])
    return unfinished


@pytest.mark.parametrize(
    ("former", "lease", "expected"),
    [
        (OTHER, 60, Claim.BUSY),  # of another machine, of which nothing is known
        (OTHER, -1, Claim.OURS),  # its time is over
        (US, 60, Claim.BUSY),
        (DEAD, 60, Claim.OURS),
        (f"{HERE} {os.getpid()} over", 60, Claim.OURS),  # it could not give it up
    ],
    ids=["elsewhere", "time over", "busy", "dead", "not given up"],
)
def test_who_may_take_what_is_claimed(ledger, former, lease, expected):
    assert ledger.claim([entry()], former, lease) is Claim.OURS
    assert ledger.claim([entry()], "x 1 a") is expected


def test_as_many_products_as_a_large_cluster_has_are_counted(ledger):
    """SQLite takes some ten thousand values in one statement, and an older one 999."""
    ledger._base.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    with owning() as owner:
        entries = [entry(str(i)) for i in range(2000)]
        ledger.claim(entries, owner)
        names = [one.product for one in entries] + [f"other{i}" for i in range(6000)]
        assert ledger.states(names, 0.0) == {State.CLAIMED: 2000}


def test_who_works_in_this_process_is_alive(ledger):
    with owning() as first, owning() as second:
        assert ledger.claim([entry()], first) is Claim.OURS
        assert ledger.claim([entry()], second) is Claim.BUSY
    assert ledger.claim([entry()], second) is Claim.OURS


def test_claims_are_put_off_and_given_up(ledger):
    ledger.claim([entry()], OTHER, 0.0)
    ledger.renew(OTHER, 60)
    assert ledger.claim([entry()], US) is Claim.BUSY
    ledger.release(OTHER)
    assert ledger.claim([entry()], US) is Claim.OURS


@pytest.mark.parametrize("renamed", [True, False])
def test_what_a_dead_process_had_sealed_is_done(ledger, tmp_path, renamed):
    ledger.claim([entry()], DEAD)
    unfinished = seal(ledger, tmp_path, DEAD)
    if renamed:
        unfinished.rename(tmp_path / "p.fits")
    assert ledger.claim([entry()], US) is Claim.DONE
    assert (tmp_path / "p.fits").read_bytes() == b"whole"
    assert ledger.result("p.fits") == {"status": "COMPLETE"}


def test_what_is_sealed_and_gone_is_made_again(ledger, tmp_path):
    ledger.claim([entry()], DEAD)
    seal(ledger, tmp_path, DEAD).unlink()
    (tmp_path / "p.fits").write_bytes(b"other")
    assert ledger.claim([entry()], US) is Claim.OURS


def test_who_was_taken_for_dead_cannot_seal(ledger, tmp_path):
    ledger.claim([entry()], OTHER, -1)
    ledger.claim([entry()], US)
    with pytest.raises(ClaimLostError, match="taken it over"):
        seal(ledger, tmp_path, OTHER)


def test_done_means_the_same_product_of_the_same_inputs(ledger, tmp_path):
    ledger.claim([entry()], US)
    seal(ledger, tmp_path, US).rename(tmp_path / "p.fits")
    ledger.finish(US, State.DONE, {"p.fits": {}})
    assert ledger.is_done([entry()])
    assert not ledger.is_done([entry(fingerprint="g")])
    assert not ledger.is_done([entry(), entry("q.fits")])
    (tmp_path / "p.fits").write_bytes(b"edited")
    assert not ledger.is_done([entry()])


def test_a_file_that_is_no_ledger(tmp_path):
    (tmp_path / "webbkg-ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(OutputError, match="ledger cannot be used"):
        Ledger(tmp_path)


def test_identity_of_files(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(300_000))
    before, status = FileIdentity.of(path), path.stat()
    with path.open("r+b") as stream:
        stream.seek(299_990)
        stream.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = FileIdentity.of(path)
    assert (after.size, after.changed) == (before.size, before.changed)
    assert after.digest != before.digest


# The table.


def test_the_table_on_disk(plan, tmp_path):
    os.truncate(Path(plan.folder, "t0001_rate.fits"), 3000)
    table = go(plan, tmp_path / "out")
    run = runner.Run(plan, make_order(plan, tmp_path / "out", {}), runner.Manner(engine="none"))
    ecsv, lines = write_results(run.go(), tmp_path / "out", (1, 1))
    read = Table.read(ecsv)
    assert read.colnames == table.colnames
    assert np.isnan(read["level"][1])
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["target"] for one in told] == targets_of(plan)
    assert told[1]["status"] == "ERROR"
    assert told[0]["metrics"]["verdict"] in ("good", "look", "bad")
    assert told[0]["kind"] == Kind.DEDICATED


def test_the_table_tells_levels_in_their_unit_and_metrics_apart(plan, tmp_path):
    table = go(plan, tmp_path / "out", metric_limits=["scatter=1e-9:1e-8"])
    ledger = Ledger(tmp_path / "out")
    told = ledger.result("t0000_backgroundstep.fits")["metrics"]
    ledger.close()
    row = table[0]
    assert row["level_scatter"] == told["scatter"] != told["values"]["scatter"]["value"]
    assert row["scatter"] == told["values"]["scatter"]["value"]
    assert row["background"] == told["background"]
    assert set(table["unit"]) == {"DN/s"}
    assert {str(table[name].unit) for name in ("seconds", "cpu")} == {"s"}
    assert "ERR" in table["sky_level"].description
    assert row["verdict"] == "bad"
    assert row["remarks"].startswith("the sky scatters ")


def test_files_of_parameters_are_found_from_anywhere(plan, tmp_path, monkeypatch):
    """Workers of a cluster, and the next run, may be in another folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    mask = fits.ImageHDU(np.ones((24, 32), np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(), mask]).writeto("mask.fits")
    order = make_order(plan, tmp_path / "out", {"source_mask": "mask.fits"})
    monkeypatch.chdir(tmp_path)
    results = runner.Run(plan, order, runner.Manner(engine="none")).go()
    assert {one.status for one in results} == {"COMPLETE"}
    table = go(plan, tmp_path / "out", source_mask=["here/mask.fits"])
    assert set(table["fate"]) == {Fate.KEPT}
    assert set(go(plan, tmp_path / "out", robust=True)["fate"]) == {Fate.DONE}


def test_reports_that_cannot_be_made_are_refused_at_once(plan, tmp_path, monkeypatch):
    from webbkg.report import page

    def missing():
        raise MissingExtraError("install webbkg[report]")

    monkeypatch.setattr(page, "check_extra", missing)
    with pytest.raises(MissingExtraError):
        go(plan, tmp_path / "out", save_report=True)
    assert not (tmp_path / "out").exists()


def test_segments_that_are_fitted_together_take_their_time_once(plan, tmp_path):
    series = Group(name="series", kind=Kind.SOSS, members=plan.groups[0].members[:2])
    series = replace(series, members=tuple(replace(m, backgrounds=()) for m in series.members))
    table = go(replace(plan, groups=(series,)), tmp_path / "out")
    assert table["seconds"][0] > 0
    assert table["seconds"][1] == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"metric_limits": ["sky=1:2"]}, "no metric 'sky'"),
        ({"suffix": "a/b"}, "suffix must be part of a file's name"),
        ({"sigmaa": 2.0}, "no parameter 'sigmaa'; did you mean sigma"),
        ({"bkg_list": ["sky0_rate.fits"]}, "the plan names the backgrounds"),
        ({"override_bkg": np.ones((2, 2))}, "must be the name of a file"),
        ({"wfss_mask": np.ones((2, 2))}, "must be the name of a file"),
        ({"workers": "2"}, "workers must be 1 to"),
        ({"shard": (1, 2.0)}, "shard must be i/n"),
        ({"shard": "two"}, "shard must be i/n"),
        ({"template": ["wisps.fits"]}, "must not be given with a plan of background exposures"),
        ({"scheduler": "tcp://there:8786", "workers": 2}, "workers = 2"),
        ({"scheduler": "tcp://there:8786", "memory_limit": "4GB"}, "memory_limit = 4GB"),
    ],
)
def test_what_no_target_could_be_run_with_is_refused_once(plan, tmp_path, given, told):
    with pytest.raises(OptionError, match=told):
        batch.run(plan, tmp_path / "out", **given)
    assert not products(tmp_path / "out")


def test_no_results_are_a_table_too():
    table = as_table([])
    assert len(table) == 0
    assert "target" in table.colnames
