"""SOSS in memory: fit and subtract against jwst, in alternating runs, and the memory it takes.

``python -m benchmarks.soss_core [INTEGRATIONS ...]``; 50 and 300 by default. The larger needs
8 GB for jwst.
"""

import contextlib
import io
import logging
import sys
import time
import warnings

import numpy as np

from benchmarks import measure, peer
from webbkg.methods.soss import fit_templates, template_background
from webbkg.parallel import available_threads, over_bands, split

ROWS, COLUMNS, TEMPLATES = 256, 2048, 8
BARS = {50: 15, 300: 20}  # times faster than jwst
MEMORY_BAR = 120  # MB above the target's own, at 300 integrations
ROUNDS = 3


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


def fit_and_subtract(sci, dq, library):
    """What the step does with a target it owns: in place."""
    fit = fit_templates(sci, dq, library)
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


def compare(integrations):
    library = make_library()
    sci, dq = make_cube(library[3], integrations)
    run_peer = make_peer(sci, dq, library)
    own = sci.copy()
    fit_and_subtract(own[:2], dq[:2], library)  # compiles
    own[...] = sci
    growth = measure.growth(lambda: fit_and_subtract(own, dq, library))
    seconds = {"webbkg": [], "jwst": []}
    for _ in range(ROUNDS):
        own[...] = sci
        start = time.perf_counter()
        fit = fit_and_subtract(own, dq, library)
        middle = time.perf_counter()
        theirs = run_peer()
        end = time.perf_counter()
        seconds["webbkg"].append(middle - start)
        seconds["jwst"].append(end - middle)
        worst = max(float(np.abs(a - b).max()) for a, b in zip(own, theirs.data, strict=True))
        del theirs
    report(integrations, fit, seconds, growth, worst)


def report(integrations, fit, seconds, growth, worst):
    faster = measure.ratio(seconds["jwst"], seconds["webbkg"])
    print(
        f"{integrations} integrations x {ROWS} x {COLUMNS}, {TEMPLATES} templates, "
        f"{available_threads()} threads: webbkg {measure.median(seconds['webbkg']):.2f} s, "
        f"jwst {measure.median(seconds['jwst']):.2f} s, {faster:.1f} x faster "
        f"(bar {BARS.get(integrations, '-')}); memory above the target's {growth:.0f} MB "
        f"(bar {MEMORY_BAR}); template {fit.template}, largest difference {worst:.1e}",
        flush=True,
    )


def main():
    for integrations in [int(argument) for argument in sys.argv[1:]] or [50, 300]:
        compare(integrations)


if __name__ == "__main__":
    main()
