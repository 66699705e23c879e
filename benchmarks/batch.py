"""Programmes: what is shared, nods, many small targets, engines, and runs that are killed.

``python -m benchmarks.run --only batch``. The exposures, 4 GB, and the products are removed
afterwards.
"""

import json
import logging
import math
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import measure, peer

TARGETS, BACKGROUNDS, NODS, WORKERS = 40, 8, 10, 2
PEER_TARGETS, PEER_NODS = 3, 2
"""Of how many the reference implementation is timed: what it takes is the same for each."""

FULL_FRAME = 2048, 2048

PARTS = 8
"""Groups that the targets are divided into, where the memory of workers is measured."""

COUNTS = (10, 100, 500, 2000)
SMALL = 64
KILLS = 50


def write_data(folder):
    """Simulate backgrounds and two targets, and copy these to make many."""
    from webbkg.simulate import imaging

    folder = Path(folder)
    if folder.exists():
        return
    scene = imaging.ImagingScene()
    plan = imaging.plan_imaging_set(scene, n_backgrounds=NODS - 1)
    paths = imaging.write_set(folder, scene, 1, plan)
    for number in range(TARGETS):
        shutil.copyfile(paths[number % 2], folder / f"t{number:02}_rate.fits")


def programme(folder):
    """Plan the targets against the eight backgrounds."""
    from webbkg.batch.groups import Group, Kind, Member, Plan

    sky = tuple(path.name for path in sorted(folder.glob("jw*_rate.fits"))[NODS - BACKGROUNDS :])
    named = sorted(path.name for path in folder.glob("t*_rate.fits"))
    members = tuple(Member(target=name, backgrounds=sky) for name in named)
    group = Group(name="field", kind=Kind.DEDICATED, members=members)
    return Plan(groups=(group,), folder=str(folder))


def nods(folder):
    """Plan the simulated exposures against each other."""
    from webbkg.batch.groups import Group, Kind, Member, Plan

    named = [path.name for path in sorted(folder.glob("jw*_rate.fits"))]
    members = tuple(
        Member(target=name, backgrounds=tuple(one for one in named if one != name))
        for name in named
    )
    group = Group(name="nods", kind=Kind.DITHERS, members=members)
    return Plan(groups=(group,), folder=str(folder))


def run(plan, output, **manner):
    """Run a plan anew; return the run."""
    from webbkg.batch import orders, runner

    shutil.rmtree(output, ignore_errors=True)
    made = runner.Run(plan, orders.make_order(plan, output, {}), runner.Manner(**manner))
    assert {one.status for one in made.go()} == {"COMPLETE"}
    return made


def reference(plan, count):
    """Time the reference's step in one warm process: seconds of CPU a target."""
    peer.without_crds()
    from jwst.background import BackgroundStep

    logging.disable(logging.CRITICAL)
    folder, taken = Path(plan.folder), []
    for member in plan.groups[0].members[: count + 1]:
        begun = time.process_time()
        others = [str(folder / name) for name in member.backgrounds]
        BackgroundStep.call(
            str(folder / member.target), others, save_results=True, output_dir=str(folder / "peer")
        )
        taken.append(time.process_time() - begun)
    shutil.rmtree(folder / "peer", ignore_errors=True)
    return measure.median(taken[1:])  # the first is the warm-up


def read_so_far():
    """Bytes that this process has read, from the page cache or not, copies by the kernel too."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["rchar"])


def here(kind, folder):
    """Run in this process, once warm: CPU, bytes read, and memory, a target."""
    folder = Path(folder)
    plan = {"field": programme, "nods": nods}[kind](folder)
    few = replace(plan.groups[0], members=plan.groups[0].members[:2])
    warm = run(replace(plan, groups=(few,)), folder / "out", engine="none", workers=WORKERS)
    assert len(warm.results) == 2
    shutil.rmtree(folder / "out")
    read, cpu = read_so_far(), time.process_time()
    count = len(run(plan, folder / "out", engine="none", workers=WORKERS).results)
    cpu, read = time.process_time() - cpu, read_so_far() - read
    return {"cpu": cpu / count, "read": read / count}


def whole(folder, engine):
    """Run `webbkg run` as a user does; CPU of all its processes, and what the workers tell."""
    folder = Path(folder)
    from webbkg.batch import write_plan

    file = write_plan(programme(folder), folder / "plan.json", overwrite=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [sys.executable, "-m", "webbkg.cli", "run", file, "-o", folder / "out", "-q"]
    given = ["--engine", engine, "--workers", WORKERS]
    before, begun = os.times(), time.perf_counter()
    subprocess.run([str(one) for one in (*command, *given)], check=True)
    after, seconds = os.times(), time.perf_counter() - begun
    spent = sum(after[2:4]) - sum(before[2:4])
    lines = (folder / "out" / "webbkg-results.jsonl").read_text().splitlines()
    work = sum(json.loads(line)["cpu"] for line in lines)
    return {"cpu": spent, "work": work, "seconds": seconds}


def work_and_tell(group, order):
    """Do a group in a worker; tell the memory of its process in MB: the peak, and what is shared."""
    from webbkg.batch import work

    report = work.run_group(group, order)
    told = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    program = int(told["RssFile"].split()[0]) / 1024
    return [report.peak / 2**20, program]


def peaks(folder, engine):
    """Largest memory of the workers: after the first groups, at the end, and what they share."""
    from webbkg.batch import orders
    from webbkg.batch.engines import make_engine

    plan, output = programme(Path(folder)), Path(folder) / "out"
    shutil.rmtree(output, ignore_errors=True)
    order, members, told = orders.make_order(plan, output, {}), plan.groups[0].members, []
    with make_engine(engine, WORKERS) as made:
        for number in range(PARTS):
            part = replace(plan.groups[0], members=members[number::PARTS])
            made.submit(number, work_and_tell, part, order)
        while len(told) < PARTS:
            told += [came_to for _, came_to in made.wait(1.0)]
    firsts = max(peak for peak, _ in told[:WORKERS])
    return {"first": firsts, "last": max(told)[0], "program": min(shared for _, shared in told)}


def bench_shared(folder):
    theirs = measure.apart("batch", "reference_of", "field", folder)
    ours = measure.apart("batch", "here", "field", folder)
    rows = [
        {
            "case": "warm process",
            "jwst, CPU a target (s)": f"{theirs:.2f}",
            "webbkg (s)": f"{ours['cpu']:.3f}",
            "× less (bar ≥ 25)": f"**{theirs / ours['cpu']:.1f}**",
            "read a target (GB; bar ≤ 0.1)": f"{ours['read'] / 1e9:.3f}",
        }
    ]
    for engine in ("processes", "dask"):
        told = measure.apart("batch", "whole", folder, engine)
        memory = measure.apart("batch", "peaks", folder, engine)
        rows.append(
            {
                "case": f"`webbkg run --engine {engine}`, 2 workers, all of it",
                "webbkg (s)": f"{told['cpu'] / TARGETS:.3f}",
                "× less (bar ≥ 25)": f"{theirs * TARGETS / told['cpu']:.1f}",
                "wall (s)": f"{told['seconds']:.1f}",
                "outside the work (s)": f"{told['cpu'] - told['work']:.1f}",
                "a worker, first and last (MB; bar ≤ 200)": f"{memory['first']:.0f}, "
                f"{memory['last']:.0f}",
                "of that program files, which workers share": f"{memory['program']:.0f}",
            }
        )
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def reference_of(kind, folder):
    plan = {"field": programme, "nods": nods}[kind](Path(folder))
    return reference(plan, PEER_TARGETS if kind == "field" else PEER_NODS)


def wanted_of(kind):
    """Tell what of an average a run has a use for, or who keeps it, or propagates its errors."""
    from webbkg.image.unkept import Wanted
    from webbkg.numerics.lines import sampled_lines

    return {
        "subtracted": Wanted(lines=sampled_lines((1, *FULL_FRAME))),
        "kept": Wanted(whole=True),
        "propagated": Wanted(whole=True, variances=True),
    }[kind]


def average_singly(paths, wanted):
    """Average files as is done where nothing is shared, on one thread."""
    from webbkg.files.exposures import Exposure
    from webbkg.files.pool import FilePool
    from webbkg.image.average import average_exposures
    from webbkg.image.unkept import average_unkept
    from webbkg.image.variance import split_variance
    from webbkg.numerics.planes import VARIANCES
    from webbkg.options import ImageOptions

    also = VARIANCES if wanted.variances else ()
    with FilePool() as pool:
        exposures = [Exposure.from_file(path, pool, also=also) for path in paths]
        placed = [exposure.placed_on(exposures[0].place) for exposure in exposures]
        if not wanted.whole:
            return average_unkept(placed, FULL_FRAME, ImageOptions(), wanted, threads=1)
        made = average_exposures(placed, FULL_FRAME, ImageOptions(), threads=1)
        return split_variance(made, placed, threads=1) if wanted.variances else made


def average_others(paths, wanted):
    """Give the average of the others for each file, from one pass."""
    from webbkg.image.group import Others
    from webbkg.image.measure import Combination
    from webbkg.numerics.planes import Overlap
    from webbkg.options import ImageOptions

    group = Others(paths)
    for i in range(len(paths)):
        key = Combination(
            sources=tuple(paths[:i] + paths[i + 1 :]),
            places=(Overlap.whole(FULL_FRAME),) * (len(paths) - 1),
            shape=FULL_FRAME,
            options=ImageOptions(),
            wanted=wanted,
        )
        yield group.get(key, lambda: None).background
    group.close()


def combinations(folder, kind):
    """Time all averages of a nod group, from one pass and one by one, and compare their bits."""
    from webbkg.numerics.parallel import use_threads

    paths = [Path(folder) / one.target for one in nods(Path(folder)).groups[0].members]
    wanted = wanted_of(kind)

    def singly():
        for i in range(NODS):
            yield average_singly(paths[:i] + paths[i + 1 :], wanted)

    with use_threads(1):
        for one, other in zip(average_others(paths, wanted), singly(), strict=True):
            assert one == other, "the results differ"
        ways = {
            "one pass": lambda: list(map(id, average_others(paths, wanted))),
            "singly": lambda: list(map(id, singly())),
        }
        cpu = measure.alternate(ways, 5, clock=time.process_time)
    return {
        "ratio": measure.ratio(cpu["one pass"], cpu["singly"]),
        "cpu": measure.median(cpu["one pass"]),
    }


def bench_nods(folder):
    """Compare a group of nods with jwst; and its averages alone with as many single ones."""
    theirs = measure.apart("batch", "reference_of", "nods", folder)
    ours = measure.apart("batch", "here", "nods", folder)
    made = {
        kind: measure.apart("batch", "combinations", folder, kind)
        for kind in ("subtracted", "kept", "propagated")
    }
    size = next(Path(folder).glob("jw*_rate.fits")).stat().st_size
    needed = size + 2 * 4 * math.prod(FULL_FRAME)  # all of the target; SCI and DQ once, to average
    return [
        {
            "case": f"group of {NODS} nods 2048², warm process",
            "jwst, CPU a target (s)": f"{theirs:.2f}",
            "webbkg (s)": f"{ours['cpu']:.3f}",
            "× less (bar ≥ 15)": f"**{theirs / ours['cpu']:.1f}**",
            "read ÷ what is needed (bar ≤ 1.2)": f"{ours['read'] / needed:.2f}",
            "averages ÷ one by one (bar ≤ 0.5)": f"**{made['subtracted']['ratio']:.2f}**",
            "all of them": f"{made['subtracted']['cpu']:.2f} s",
            "÷ one by one, kept with ERR and counts": f"{made['kept']['ratio']:.2f}",
            "with variances": f"{made['propagated']['ratio']:.2f}",
            "bits": "equal",
        }
    ]


def write_small(folder, count):
    """Write small exposures: one, copied."""
    from webbkg.batch.groups import Group, Kind, Member, Plan
    from webbkg.simulate import imaging
    from webbkg.simulate.detector import Subarray

    folder = Path(folder)
    scene = imaging.ImagingScene()
    part = scene.detector.part
    from webbkg.files.windows import DetectorWindow

    small = part(DetectorWindow(900, 900, SMALL, SMALL))
    assert isinstance(small, Subarray)
    plan = imaging.plan_imaging_set(scene, n_backgrounds=3, subarray=small)
    target, *sky = imaging.write_set(folder, scene, 1, plan)
    names = [f"t{number:05}_rate.fits" for number in range(count)]
    for name in names:
        shutil.copyfile(target, folder / name)
    members = tuple(Member(target=n, backgrounds=tuple(p.name for p in sky)) for n in names)
    return Plan(
        groups=(Group(name="small", kind=Kind.DEDICATED, members=members),), folder=str(folder)
    )


def grow(folder, engine):
    """CPU a target, of the work and of all, and memory, over the number of small targets."""
    rows = []
    for count in COUNTS:
        plan = write_small(Path(folder) / f"{count}", count)
        before = os.times()
        made = run(plan, Path(folder) / "out", engine=engine, workers=WORKERS)
        after = os.times()
        work = sum(report.cpu for report in made.reports)
        again = time.process_time()
        from webbkg.batch import runner

        runner.Run(plan, made.order, made.manner).go()
        rows.append(
            {
                "targets": count,
                "work (ms a target)": f"{1e3 * work / count:.1f}",
                "this process besides (ms)": f"{1e3 * (sum(after[:2]) - sum(before[:2])) / count:.2f}"
                if engine != "none"
                else "",
                "a worker (MB)": f"{max(report.peak for report in made.reports) / 1e6:.0f}",
                "second run (ms a target)": f"{1e3 * (time.process_time() - again) / count:.2f}",
            }
        )
        shutil.rmtree(Path(folder) / f"{count}")
        shutil.rmtree(Path(folder) / "out")
    return rows


def bench_many(folder):
    rows = []
    for engine in ("none", "processes", "dask"):
        told = measure.apart("batch", "grow", folder, engine)
        rows += [{"engine": engine, **row} for row in told]
    return rows


def killed(folder):
    """Kill runs at random moments, with workers and without; compare with one that was not."""
    from webbkg.batch import write_plan

    folder = Path(folder)
    plan = write_small(folder / "data", 60)
    file = write_plan(plan, folder / "data" / "plan.json", overwrite=True)
    run(plan, folder / "whole", engine="none")
    whole = planes(folder / "whole")
    rng, counts = random.Random(19), {"killed": 0, "finished": 0, "taken up": 0}
    output = folder / "out"
    for number in range(KILLS):
        shutil.rmtree(output, ignore_errors=True)
        kill_once(file, output, ("none", "processes")[number % 2], rng, counts)
        found = planes(output)
        assert found.items() <= whole.items(), "a product is not whole"
        counts["taken up"] += len(found)
        resume(plan, output)
        assert planes(output) == whole
        assert not list(output.glob(".webbkg-*")), "something was left behind"
    return counts


def kill_once(file, output, engine, rng, counts):
    """Begin a run, and kill it at some moment after it has claimed its first target."""
    from webbkg.batch.ledger import Ledger

    command = [sys.executable, "-m", "webbkg.cli", "run", str(file), "-o", str(output), "-q"]
    begun = subprocess.Popen(
        [*command, "--engine", engine, "--workers", "2"], stderr=subprocess.DEVNULL
    )
    while not (output / "webbkg-ledger.sqlite").exists() and begun.poll() is None:
        time.sleep(0.005)
    with Ledger(output) as ledger:
        while not ledger.counts() and begun.poll() is None:
            time.sleep(0.002)
    time.sleep(rng.uniform(0, 1.0))
    counts["killed" if begun.poll() is None else "finished"] += 1
    begun.kill()
    begun.wait()


def resume(plan, output):
    """Take up what is left; what was done before must not be done again."""
    from webbkg.batch import orders, runner

    before = {path: path.stat().st_mtime_ns for path in output.glob("*_backgroundstep.fits")}
    time.sleep(0.3)  # the workers of the killed run end by themselves
    made = runner.Run(plan, orders.make_order(plan, output, {}), runner.Manner(engine="none"))
    assert {one.status for one in made.go()} == {"COMPLETE"}
    kept = sum(path.stat().st_mtime_ns == changed for path, changed in before.items())
    assert kept == len(before), f"{len(before) - kept} products were made twice"


def planes(folder):
    """Digests of the products' planes."""
    import hashlib

    from astropy.io import fits

    found = {}
    for path in folder.glob("*_backgroundstep.fits"):
        digest = hashlib.sha256()
        with fits.open(path) as hdus:
            for hdu in hdus[1:-1]:
                digest.update(hdu.header.tostring().encode() + hdu.data.tobytes())
        found[path.name] = digest.hexdigest()
    return found


def bench_killed(folder):
    told = measure.apart("batch", "killed", folder)
    return [
        {
            "runs killed at random": told["killed"],
            "ended before": told["finished"],
            "products that were there": told["taken up"],
            "partial, lost, or made twice": 0,
        }
    ]


def bench(section, folder, _):
    """Measure one section, and remove its data."""
    folder = Path(folder) / "batch"
    try:
        if section in ("shared", "nods"):
            measure.apart("batch", "write_data", folder)
            return bench_shared(folder) if section == "shared" else bench_nods(folder)
        return bench_many(folder) if section == "many" else bench_killed(folder)
    finally:
        if section != "shared":  # the next section has the same exposures
            shutil.rmtree(folder, ignore_errors=True)
