"""Templates of one's own on a NIRCam image: the fit in a warm process, and whole processes."""

import ctypes
import time
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.wisps import GENTLE, observe, wisp

TARGET, TEMPLATE = "target_rate.fits", "wisp.npy"
SKIES = ("wisp.npy", "wider.npy", "fainter.npy", "bent.npy")


def write_data(folder):
    """Write an exposure with wisps, and four templates, unless they are there."""
    folder = Path(folder)
    if (folder / SKIES[-1]).exists():
        return
    from webbkg.simulate.products import Identity, make_model

    folder.mkdir(parents=True, exist_ok=True)
    light = wisp()
    field, found = observe(GENTLE, 3, np.float32(0.05) * light)
    names = ("sci", "err", "dq", "var_poisson", "var_rnoise")
    planes = {name: getattr(found, name) for name in names}
    identity = Identity(
        observation=1, exposure=1, slot=0, target_name="SIMULATED-FIELD", is_background=False
    )
    make_model(planes, GENTLE, field.setup, identity).save(folder / TARGET)
    skies = light, np.sqrt(light), light**2, wisp(shift=2e-4)
    for name, sky in zip(SKIES, skies, strict=True):
        np.save(folder / name, sky)


def _warm(folder, number):
    """Read planes and templates; return the fit of them on one thread."""
    from astropy.io import fits

    from webbkg.template.fit import scale_templates

    with fits.open(folder / TARGET) as hdus:
        planes = [np.array(hdus[name].data) for name in ("SCI", "DQ", "VAR_RNOISE", "VAR_POISSON")]
    stack = np.stack([np.load(folder / name) for name in SKIES[:number]])
    sci, dq, read, photons = (plane.astype(plane.dtype.newbyteorder("=")) for plane in planes)
    return lambda: scale_templates(sci, dq, stack, read, photons, threads=1)


def bench_warm(folder, rounds):
    """Time the fit of one and of four templates on one thread, and measure its memory."""
    rows = []
    for number, bar in ((1, "≤ 0.5 s"), (len(SKIES), "")):
        run = _warm(folder, number)
        seconds = measure.alternate({"fit": run}, rounds, clock=time.process_time)["fit"]
        ctypes.CDLL(None).malloc_trim(0)  # what former runs have freed counts as new memory
        rows.append(
            {
                "case": f"fit of 2048², templates: {number}",
                "CPU, one thread (s)": f"{measure.median(seconds):.2f}",
                "bar": bar,
                "memory beyond the planes (MB)": f"{measure.growth(run):.0f}",
                "rounds": run().fit.rounds,
            }
        )
    return rows


def bench_whole(folder, rounds):
    """Time whole processes from file to file, beside the null step."""
    runs = {}
    for case, names in (("one template", SKIES[:1]), ("four templates", SKIES)):
        measure.read_into_cache(*(folder / name for name in (TARGET, *names)))
        commands = measure.commands(TARGET, TARGET, template=",".join(names))
        commands.pop("jwst")
        runs[case] = measure.alternate_processes(commands, folder, rounds)
    return [row for case, found in runs.items() for row in measure.rows_without_peer(found, case)]


def bench(section, folder, rounds):
    """Measure one section; the data are made by a process of its own."""
    folder = Path(folder) / "template"
    measure.apart("template", "write_data", folder)
    return bench_warm(folder, rounds) if section == "warm" else bench_whole(folder, min(rounds, 3))
