"""SOSS: fit and subtraction in memory, and whole processes from file to file."""

import contextlib
import io
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks import measure, peer
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import SossOptions
from webbkg.soss.fit import fit_templates, template_background
from webbkg.soss.stream import Stream

ROWS, COLUMNS, TEMPLATES = 256, 2048, 8
BARS = {50: 15, 300: 20}  # times faster than jwst
METHODS = {
    "percentile": SossOptions(),
    "robust": SossOptions(method="robust"),
    "robust, smooth in time": SossOptions(method="robust", time="smooth"),
}
COPY = (
    "import sys; source, target = open(sys.argv[1], 'rb'), open('copy.fits', 'wb')\n"
    "while chunk := source.read(1 << 23): target.write(chunk)"
)


def make_library():
    x = np.arange(COLUMNS)
    rng = np.random.default_rng(3)
    right = np.where(x < 950, 6.0 - 0.012 * (x - 700), 5.0)
    sky = np.where(x < 697, 4.0 + 1e-4 * x, right)
    tilt = np.linspace(-1, 1, ROWS)[:, np.newaxis]
    library = sky + 0.1 * np.arange(TEMPLATES)[:, None, None] * tilt
    return (library * rng.normal(1, 0.003, library.shape)).astype(np.float32)


def make_cube(template, integrations):
    rng = np.random.default_rng(5)
    scale = np.where(np.arange(COLUMNS) < 697, 0.93, 1.04)
    image = (template * scale).astype(np.float32)
    image[30:60] += rng.exponential(50, (30, COLUMNS)).astype(np.float32)
    sci = rng.standard_normal((integrations, ROWS, COLUMNS), np.float32)
    sci *= np.float32(0.1)
    sci += image
    dq = np.zeros(sci.shape, np.uint32)
    dq[:, :, :4] = dq[:, :, -4:] = 1 << 31
    dq[:, rng.random((ROWS, COLUMNS)) < 0.01] |= 1
    return sci, dq


def fit_and_subtract(sci, dq, library, options=None):
    """What the step does with a target it owns: in place."""
    fit = fit_templates(sci, dq, library, options)
    background = template_background(fit, library)
    flagged = bool(background.dq.any())

    def make_worker():
        def subtract(start, stop):
            for index in range(start, stop):
                np.subtract(sci[index], background.sci, out=sci[index])
                if flagged:
                    np.bitwise_or(dq[index], background.dq, out=dq[index])

        return subtract

    over_bands(split(len(sci), 4), make_worker, threads=available_threads())
    return fit


def read_through(sci, dq):
    """Look at every sample once, and do next to nothing with it."""
    stream = Stream([ArrayPlanes.of(SCI=sci, DQ=dq)], available_threads())

    def make_worker():
        return lambda _row, values, flags: (values.max(), flags.max())

    stream.sweep(make_worker, stream.threads)


def bench_methods(rounds, integrations=300):
    """Time the fits of both methods in memory, in turn, and the memory of each."""
    library = make_library()
    sci, dq = make_cube(library[3], integrations)
    fits = {name: lambda o=one: fit_templates(sci, dq, library, o) for name, one in METHODS.items()}
    for one in METHODS.values():
        fit_templates(sci[:12], dq[:12], library, one)  # loads the kernels
    grown = {name: measure.growth(fit) for name, fit in fits.items()}
    seconds = measure.alternate({"reading": lambda: read_through(sci, dq), **fits}, rounds)
    cpu = measure.alternate(fits, 1, time.process_time)
    reading = measure.median(seconds["reading"])
    return [
        {
            "case": f"{integrations} × 256 × 2048, {TEMPLATES} templates",
            "method": name,
            "seconds": f"{measure.median(seconds[name]):.2f}",
            "beyond reading (bar of robust ≤ 2.5)": f"{measure.median(seconds[name]) - reading:.2f}",
            "÷ percentile (≤ 4)": f"{measure.ratio(seconds[name], seconds['percentile']):.2f}",
            "CPU": f"{measure.median(cpu[name]):.2f}",
            "memory above the target's (≤ 250 MB)": f"{grown[name]:.0f}",
        }
        for name in fits
    ]


def bench_methods_whole(folder, rounds, integrations=300):
    """Time whole processes of both methods from file to file, in turn."""
    measure.apart("soss", "write_data", folder, integrations)
    target = folder / f"s{integrations}_rateints.fits"
    measure.read_into_cache(target)
    timed = {}
    for name, one in METHODS.items():
        given = {"soss_method": one.method, "soss_time": one.time, "override_bkg": "bkg.fits"}
        timed[name] = measure.commands(target, target, **given)["webbkg subtract"]
    runs = measure.alternate_processes(timed, folder, rounds)
    return [
        {
            "integrations": integrations,
            "method": name,
            "seconds": f"{measure.median([run.seconds for run in runs[name]]):.1f}",
            "CPU": f"{measure.median([run.cpu for run in runs[name]]):.1f}",
            "peak (MB)": f"{measure.median([run.peak for run in runs[name]]):.0f}",
        }
        for name in runs
    ]


def make_peer(sci, dq, library):
    """Let jwst do the same, from an open model and an open reference."""
    peer.without_crds()
    logging.disable(logging.CRITICAL)
    from jwst.background.background_sub_soss import subtract_soss_bkg
    from stdatamodels.jwst import datamodels

    model = datamodels.CubeModel()
    model.data, model.dq = sci, dq
    model.meta.subarray.name = "SUBSTRIP256"
    reference = datamodels.SossBkgModel(data=library)

    def run():
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return subtract_soss_bkg(model, reference, 35.0, [25.0, 50.0])

    return run


def bench_warm(rounds):
    """Time fit and subtraction in one process, both implementations in turn, and our memory."""
    rows = []
    for integrations, bar in BARS.items():
        library = make_library()
        sci, dq = make_cube(library[3], integrations)
        run_peer = make_peer(sci, dq, library)
        own = sci.copy()
        fit_and_subtract(own[:2], dq[:2], library)  # loads the kernels
        own[...] = sci
        grown = measure.growth(lambda o=own, d=dq, t=library: fit_and_subtract(o, d, t))
        seconds = {"webbkg": [], "jwst": []}
        for _ in range(rounds):
            own[...] = sci
            start = time.perf_counter()
            fit_and_subtract(own, dq, library)
            middle = time.perf_counter()
            run_peer()
            seconds["webbkg"].append(middle - start)
            seconds["jwst"].append(time.perf_counter() - middle)
        case = f"{integrations} × 256 × 2048, {TEMPLATES} templates"
        memory = {"memory above the target's (bar ≤ 120 MB)": f"{grown:.0f} MB"}
        rows.append(measure.warm_row(case, seconds, bar, digits=2, **memory))
        del sci, dq, own, run_peer
    return rows


def write_data(folder, integrations):
    """Write a library and a target of so many integrations, unless they are there."""
    from stdatamodels.jwst import datamodels

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    library = make_library()
    niriss = {"instrument": {"name": "NIRISS", "detector": "NIS"}}
    if not (folder / "bkg.fits").exists():
        datamodels.SossBkgModel({"meta": niriss, "data": library}).save(folder / "bkg.fits")
    target = folder / f"s{integrations}_rateints.fits"
    if not target.exists():
        sci, dq = make_cube(library[3], integrations)
        window = {"xstart": 1, "ystart": 1793, "xsize": COLUMNS, "ysize": ROWS}
        meta = niriss | {"exposure": {"type": "NIS_SOSS"}}
        meta["subarray"] = {"name": "SUBSTRIP256", **window}
        err = np.full(sci.shape, 0.1, np.float32)
        datamodels.CubeModel({"meta": meta, "data": sci, "dq": dq, "err": err}).save(target)


def bench_whole(folder, rounds):
    """Time whole processes from file to file; the inputs are in the page cache."""
    rows = []
    for integrations, bars, repeats in (
        (50, "≥ 3 ×, ≤ 450 MB", rounds),
        (300, "≥ 3.5 ×, ≤ 450 MB", rounds),
        (1000, "≥ 5 ×, ≤ 450 MB", 1),
    ):
        measure.apart("soss", "write_data", folder, integrations)
        target = folder / f"s{integrations}_rateints.fits"
        measure.read_into_cache(target)
        timed = {"plain copy": ([sys.executable, "-c", COPY, target], None)}
        timed |= measure.commands(target, target, override_bkg="bkg.fits")
        runs = measure.alternate_processes(timed, folder, repeats, warm=False)
        rows += measure.process_rows(
            runs, measure.WAYS_IN, digits=1, integrations=integrations, bars=bars
        )
    return rows


def bench(section, folder, rounds):
    """Measure one section: warm, methods, whole or files."""
    if section == "warm":
        return bench_warm(rounds)
    if section == "methods":
        return bench_methods(rounds)
    if section == "files":
        return bench_methods_whole(Path(folder) / "soss", min(rounds, 3))
    return bench_whole(Path(folder) / "soss", min(rounds, 3))
