"""Image from image: averaging in a warm process, its memory, and whole processes."""

import logging
import shutil
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks import measure, peer

N_FULL_FRAME = 20
N_RATEINTS = 4
N_INTEGRATIONS = 10
LISTING = "files.txt"
MATCHED = ("--match-background=scale", "--mask-sources")


def write_data(folder):
    """Simulate the exposures, unless they are there: a target and 20 of 2048 x 2048, and 4 + 1
    of 10 x 1024 x 1032."""
    from webbkg.simulate import imaging

    folder = Path(folder)
    scene = imaging.ImagingScene()
    plan = imaging.plan_imaging_set(scene, n_backgrounds=N_FULL_FRAME)
    _write_once(folder / "full", lambda f: imaging.write_set(f, scene, 1, plan))
    plan = imaging.plan_integrations_set(
        n_backgrounds=N_RATEINTS,
        n_integrations=N_INTEGRATIONS,
        background_integrations=(N_INTEGRATIONS,),
    )
    _write_once(folder / "cubes", lambda f: imaging.write_set(f, imaging.MIRI_SCENE, 1, plan))


def _write_once(folder, write):
    listing = folder / LISTING
    if not listing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(str(path) for path in write(folder)))


def read_listings(folder):
    """Return the files of the full-frame set and of the set of integrations, targets first."""
    return tuple(
        [Path(line) for line in (folder / name / LISTING).read_text().splitlines()]
        for name in ("full", "cubes")
    )


def average(paths, threads=None, **options):
    """Average background files on the first one's window, with webbkg and options of its own."""
    from webbkg.files.exposures import Exposure
    from webbkg.image.average import average_exposures
    from webbkg.options import ImageOptions

    exposures = [Exposure.from_file(path) for path in paths]
    target = exposures[0].place
    placed = [exposure.placed_on(target) for exposure in exposures]
    chosen = ImageOptions(**options)
    if chosen.mask_sources or chosen.match_background != "none":
        from webbkg.image.prepare import prepare

        placed = prepare(placed, target.shape, chosen, threads=threads).sources
    result = average_exposures(placed, target.shape, chosen, threads=threads)
    for exposure in exposures:
        exposure.close()
    return result


def read_bytes(paths):
    """Read SCI, ERR and DQ of files into native order with one thread and NumPy."""
    from astropy.io import fits

    for path in paths:
        with fits.open(path, memmap=True) as hdus:
            for plane, dtype in (("SCI", ">f4"), ("ERR", ">f4"), ("DQ", ">i4")):
                hdu = hdus[plane]
                mapped = np.memmap(path, dtype, "r", hdu.fileinfo()["datLoc"], hdu.shape)
                mapped.astype(mapped.dtype.newbyteorder("="))


def warm_cases(full, cubes):
    """Name the cases of averaging in a warm process, with their bars."""
    return [
        ("5 backgrounds 2048²", full[1:6], 15),
        ("20 backgrounds 2048²", full[1:], 20),
        ("4 × 10 integrations 1024×1032", cubes[1:], 20),
    ]


def bench_warm(full, cubes, rounds):
    """Time files → combined in one process, both implementations in turn."""
    from stdatamodels.jwst import datamodels

    peer.without_crds()
    logging.disable(logging.CRITICAL)
    rows = []
    for name, paths, bar in warm_cases(full, cubes):
        target = datamodels.open(paths[0])
        seconds = measure.alternate(
            {
                "jwst": lambda t=target, p=paths: peer.average(t, p),
                "webbkg": lambda p=paths: average(p),
                "one thread": lambda p=paths: average(p, threads=1),
                "read": lambda p=paths: read_bytes(p),
            },
            rounds,
        )
        alone = f"{measure.ratio(seconds['jwst'], seconds['one thread']):.1f}"
        read = f"{measure.ratio(seconds['webbkg'], seconds['read']):.2f}"
        more = {"× faster, one thread": alone, "÷ reading (bar ≤ 3)": read}
        rows.append(measure.warm_row(name, seconds, bar, **more))
    return rows


def bench_clip(full, cubes, rounds):
    """Time the two ways of clipping in turn, in one process, and the memory of the second."""
    cases = [("2 backgrounds 2048²", full[1:3]), *(case[:2] for case in warm_cases(full, cubes))]
    rows = []
    for name, paths in cases:
        seconds = measure.alternate(
            {
                "sample": lambda p=paths: average(p),
                "model": lambda p=paths: average(p, clip_noise="model"),
            },
            rounds,
        )
        grown = measure.apart("image", "measure_growth", "webbkg", paths, "model")
        rows.append(
            {
                "case": name,
                "sample (s)": f"{measure.median(seconds['sample']):.3f}",
                "model (s)": f"{measure.median(seconds['model']):.3f}",
                "model ÷ sample": f"**{measure.ratio(seconds['model'], seconds['sample']):.2f}**",
                "bar": "≤ 2",
                "growth of memory, model (MB)": f"{grown:.0f}",
            }
        )
    return rows


def bench_growth(full, cubes):
    """Measure how much memory averaging takes, each in a fresh process that is warm."""
    cases = [
        ("5 backgrounds 2048²", full[1:6], ("webbkg", "jwst")),
        ("20 backgrounds 2048²", full[1:], ("webbkg", "jwst")),
        ("200 backgrounds 2048² (20 files, ten times each)", full[1:] * 10, ("webbkg",)),
        ("4 × 10 integrations 1024×1032", cubes[1:], ("webbkg", "jwst")),
    ]
    rows = []
    for name, paths, who in cases:
        row = {"case": name}
        for implementation in ("webbkg", "jwst"):
            row[f"{implementation} (MB)"] = "—"
            if implementation in who:
                grown = measure.apart("image", "measure_growth", implementation, paths)
                row[f"{implementation} (MB)"] = f"{grown:.0f}"
        row["bar"] = "≤ 110 MB"
        rows.append(row)
    return rows


def measure_growth(implementation, paths, clip_noise="sample"):
    """Average two files to get warm, then all of them."""
    if implementation == "webbkg":
        average(paths[:2], clip_noise=clip_noise)
        # Nine cannot all survive by their number alone: every kernel is loaded.
        average([paths[i % len(paths)] for i in range(9)], clip_noise=clip_noise)
        return measure.growth(lambda: average(paths, clip_noise=clip_noise))
    from stdatamodels.jwst import datamodels

    peer.without_crds()
    target = datamodels.open(paths[0])
    peer.average(target, paths[:2])
    return measure.growth(lambda: peer.average(target, paths))


def bench_whole(full, rounds):
    """Time whole processes from file to file."""
    folder = full[0].parent
    rows = []
    for number in (5, 20):
        target, backgrounds = full[0], full[1 : number + 1]
        timed = measure.commands(target, target, backgrounds)
        runs = measure.alternate_processes(timed, folder, rounds)
        rows += measure.process_rows(runs, measure.WAYS_IN, backgrounds=number)
    return rows


def bench_matched(full, cubes, rounds):
    """Time whole processes that match levels and leave sources out, beside the default."""
    cases = [
        ("5 backgrounds 2048²", full[:6]),
        ("20 backgrounds 2048²", full),
        ("4 × 10 integrations 1024×1032", cubes),
    ]
    rows = []
    for name, (target, *backgrounds) in cases:
        command, environment = measure.commands(target, target, backgrounds)["webbkg subtract"]
        asked = [*command, *MATCHED]
        timed = {"default": (command, environment), "matched": (asked, environment)}
        runs = measure.alternate_processes(timed, target.parent, rounds)
        seconds = {which: [run.seconds for run in runs[which]] for which in runs}
        cpu = {which: [run.cpu for run in runs[which]] for which in runs}
        peaks = {which: measure.median([run.peak for run in runs[which]]) for which in runs}
        grown = measure.apart("image", "measure_matched", [target, *backgrounds])
        rows.append(
            {
                "case": name,
                "default (s)": f"{measure.median(seconds['default']):.2f}",
                "matched and masked (s)": f"{measure.median(seconds['matched']):.2f}",
                "÷ default": f"**{measure.ratio(seconds['matched'], seconds['default']):.2f}**",
                "CPU ÷ default": f"{measure.ratio(cpu['matched'], cpu['default']):.2f}",
                "bar": "≤ 2",
                "peak (MB)": f"{peaks['default']:.0f}, {peaks['matched']:.0f}",
                "growth, warm (MB)": f"{grown:.0f}",
            }
        )
    return rows


def measure_matched(paths):
    """Average two files to get warm, then all of them, matched and without sources."""
    asked = {"match_background": "scale", "mask_sources": True}
    average(paths[:3], **asked)
    return measure.growth(lambda: average(paths[1:], **asked))


def bench_robust(full, cubes, rounds):
    """Time whole processes with the preset, beside the same without it."""
    rows = []
    for name, paths in (
        ("5 backgrounds 2048²", full[:6]),
        ("20 backgrounds 2048²", full),
        ("4 × 10 integrations 1024×1032", cubes),
    ):
        command, environment = measure.commands(*paths[:1] * 2, paths[1:])["webbkg subtract"]
        timed = {"default": (command, environment), "robust": ([*command, "--robust"], environment)}
        runs = measure.alternate_processes(timed, paths[0].parent, rounds)
        seconds = {name: [run.seconds for run in found] for name, found in runs.items()}
        peaks = {name: measure.median([run.peak for run in found]) for name, found in runs.items()}
        rows.append(
            {
                "case": name,
                "default (s)": f"{measure.median(seconds['default']):.2f}",
                "robust (s)": f"{measure.median(seconds['robust']):.2f}",
                "÷ default": f"**{measure.ratio(seconds['robust'], seconds['default']):.2f}**",
                "bar": "≤ 2",
                "default (MB)": f"{peaks['default']:.0f}",
                "robust (MB)": f"{peaks['robust']:.0f}",
            }
        )
    return rows


def bench_files(full, rounds):
    """Time file to file in one warm process, both implementations and the bytes in turn."""
    peer.without_crds()
    logging.disable(logging.CRITICAL)
    target, backgrounds = full[0], full[1:6]
    with tempfile.TemporaryDirectory(dir=full[0].parent) as folder:
        given = {"save_results": True, "output_dir": folder}
        functions = {
            "jwst": lambda: _call("jwst.background", target, backgrounds, suffix="peer", **given),
            "webbkg": lambda: _call("webbkg", target, backgrounds, suffix="call", **given),
            "bytes": lambda: _move_bytes(target, backgrounds, Path(folder)),
        }
        cpu = measure.alternate(functions, rounds, clock=time.process_time)
    over = f"{measure.ratio(cpu['webbkg'], cpu['bytes']):.2f}"
    name = "BackgroundStep.call, 5 backgrounds, CPU"
    return [measure.warm_row(name, cpu, 15, **{"÷ the bytes (bar ≤ 3)": over})]


def _call(package, target, backgrounds, **parameters):
    step = import_module(package).BackgroundStep
    step.call(str(target), [str(path) for path in backgrounds], **parameters)


def _move_bytes(target, backgrounds, folder):
    """Read what the subtraction has to read, and write a file as large as its product."""
    read_bytes(backgrounds)
    shutil.copyfile(target, folder / "bytes.fits")


def bench_first_run(full):
    """Time whole processes in a new installation: the first compiles the kernels that it needs."""
    rows = []
    for number, bar in ((5, "≤ 4"), (12, "")):
        command, _ = measure.commands(*full[:1] * 2, full[1 : number + 1])["webbkg subtract"]
        with tempfile.TemporaryDirectory() as cache:
            new = {"NUMBA_CACHE_DIR": cache}
            first, second = (measure.run_process(command, cache, new) for _ in range(2))
        rows.append(
            {
                "backgrounds": number,
                "first run (s)": f"{first.seconds:.1f}",
                "bar": bar,
                "second run (s)": f"{second.seconds:.1f}",
            }
        )
    return rows


def bench(section, folder, rounds):
    """Measure one section; the data are made by a process of its own."""
    measure.apart("image", "write_data", folder)
    full, cubes = read_listings(Path(folder))
    if section == "warm":
        return bench_warm(full, cubes, rounds)
    if section == "clip":
        return bench_clip(full, cubes, rounds)
    if section == "growth":
        return bench_growth(full, cubes)
    if section == "matched":
        return bench_matched(full, cubes, rounds)
    if section == "files":
        return bench_files(full, rounds)
    if section == "whole":
        return bench_whole(full, rounds)
    if section == "robust":
        return bench_robust(full, cubes, rounds)
    return bench_first_run(full)
