"""WFSS: fit and sky mask in a warm process, its memory, and whole processes from file to file.

``python -m benchmarks.wfss growth webbkg|jwst FOLDER`` measures memory in a process of its own.
"""

import logging
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from benchmarks import peer
from benchmarks.measure import BIN, alternate, alternate_processes, growth, median, ratio

CROWDS = (1000, 5000)
REFERENCES = {"bkg": "bkg.fits", "wavelengthrange": "wavelengthrange.asdf"}
MEMORY_BAR = "≤ 120 MB"


def write_data(folder):
    """Write an exposure with each number of sources in its catalogue, unless they are there.

    The image shows none of them: what is timed does not depend on it, and drawing 5000 traces
    takes longer than everything else. They are faint and narrow, so that sky is left.
    """
    from webbkg.simulate import sources
    from webbkg.simulate.grism_scene import NIRCAM_R
    from webbkg.simulate.wfss import draw_field, observe

    missing = [number for number in CROWDS if not (folder / str(number) / "mask.fits").exists()]
    if not missing:
        return
    scene = replace(NIRCAM_R, population=sources.Population(stars=0, galaxies=0))
    simulated = observe(draw_field(scene))
    for number in missing:
        population = sources.Population(
            stars=number, galaxies=0, faintest=0.1, brightest=1.0, fwhm=1.0
        )
        drawn = sources.draw_catalogue(
            population, scene.detector.full.window, scene.margin, np.random.default_rng(2)
        )
        crowd = type(drawn)(*(getattr(drawn, field.name)[:number] for field in fields(drawn)))
        crowded = replace(simulated.field.scene, population=population)
        field = replace(simulated.field, scene=crowded, catalogue=crowd)
        _write_field(folder / str(number), replace(simulated, field=field))


def _write_field(folder, simulated):
    from astropy.io import fits
    from astropy.table import QTable

    from webbkg.simulate.wfss_files import write_field

    files = write_field(folder, simulated)
    table = QTable.read(files.catalog, format="ascii.ecsv")
    table["isophotal_abmag_err"] = 0.01  # jwst asks for it
    table.write(files.catalog, format="ascii.ecsv", overwrite=True)
    sky = _prepare_mask(folder)().astype(np.uint32)
    mask = fits.ImageHDU(sky, name="MASK")
    fits.HDUList([fits.PrimaryHDU(), mask]).writeto(folder / "mask.fits")


def _prepare_mask(folder):
    """Read catalogue and orders; return the function that makes the mask of them."""
    from stdatamodels.jwst import datamodels

    from webbkg.files.catalogs import read_catalog
    from webbkg.wfss.traces import catalog_sky_mask, orders_and_limits

    target = datamodels.open(folder / "target_rate.fits")
    with datamodels.open(folder / REFERENCES["wavelengthrange"]) as ranges:
        orders = orders_and_limits(
            ranges.extract_orders, ranges.wavelengthrange, target.meta.instrument.filter
        )
    catalog = read_catalog(folder / "cat.ecsv")
    transform = target.meta.wcs.backward_transform
    axis = target.meta.wcsinfo.dispersion_direction
    shape = target.data.shape
    return lambda: catalog_sky_mask(catalog, transform, orders, shape, dispersion_axis=axis)


def _row(name, seconds, bar, **more):
    return {
        "case": name,
        "jwst (s)": f"{median(seconds['jwst']):.2f}",
        "webbkg (s)": f"{median(seconds['webbkg']):.3f}",
        "× faster": f"**{ratio(seconds['jwst'], seconds['webbkg']):.1f}**",
        "bar": f"≥ {bar}",
        **more,
    }


def _quiet():
    peer.without_crds()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def bench_warm(folder, rounds):
    """Time the fit with a given mask, and the mask of 1000 sources, in one process."""
    _quiet()
    return [_bench_fit(rounds, folder), _bench_mask(rounds, folder)]


def _bench_fit(rounds, folder):
    from jwst.background.background_sub_wfss import ScalingFactorComputer
    from stdatamodels.jwst import datamodels

    from webbkg.wfss.fit import fit_scale

    target = datamodels.open(folder / "target_rate.fits")
    bkg = datamodels.open(folder / REFERENCES["bkg"])
    # Those of DO_NOT_USE and NaN, of which jwst makes something else, are masked for both.
    sky = _prepare_mask(folder)() & (target.dq & 1 == 0) & np.isfinite(target.data * bkg.data)
    planes = (target.data, target.err, target.dq, bkg.data, bkg.dq, sky)
    variance = target.err**2
    computer = ScalingFactorComputer(p=1, maxiter=5)
    scales = {}

    def ours(threads=None):
        scales["webbkg"] = fit_scale(*planes, threads=threads).scale

    def theirs():
        # It may write into what it is given.
        copies = target.data.copy(), bkg.data.copy(), variance.copy()
        scales["jwst"] = computer(*copies, ~sky)[0]

    functions = {"jwst": theirs, "webbkg": ours, "one thread": lambda: ours(1)}
    seconds = alternate(functions, rounds)
    alone = f"{ratio(seconds['jwst'], seconds['one thread']):.1f}"
    apart = f"scales apart by {abs(scales['webbkg'] / scales['jwst'] - 1):.0e}"
    return _row(
        "fit with a given mask, 2048², 5 iterations",
        seconds,
        8,
        **{"× faster, one thread": alone, "agreement": apart},
    )


def _bench_mask(rounds, folder):
    """Time the mask; jwst's is made within its subtraction, which is timed with a mask, too."""
    from jwst.background.background_sub_wfss import subtract_wfss_bkg
    from stdatamodels.jwst import datamodels

    target = datamodels.open(folder / "target_rate.fits")
    target.meta.source_catalog = str(folder / "cat.ecsv")
    references = [str(folder / name) for name in REFERENCES.values()]
    everywhere = np.ones(target.data.shape, bool)
    masks = {}

    def theirs(user_mask=None):
        keywords = {"user_mask": user_mask, "rescaler_kwargs": {"maxiter": 0}}
        return subtract_wfss_bkg(target.copy(), *references, **keywords).mask

    def keep(name, function):
        masks[name] = function()

    make_ours = _prepare_mask(folder)
    functions = {
        "all": lambda: keep("jwst", theirs),
        "webbkg": lambda: keep("webbkg", make_ours),
        "rest": lambda: theirs(everywhere),
    }
    seconds = alternate(functions, min(rounds, 3))
    seconds["jwst"] = [a - b for a, b in zip(seconds["all"], seconds["rest"], strict=True)]
    differ = int((masks["jwst"] != masks["webbkg"]).sum())
    agreement = f"{differ} pixels differ; {100 * masks['webbkg'].mean():.0f} % sky"
    return _row(
        f"sky mask, {CROWDS[0]} sources, catalogue read apart",
        seconds,
        200,
        **{"× faster, one thread": "—", "agreement": agreement},
    )


def bench_growth(folder):
    """Measure how much memory a subtraction takes, each in a fresh process that is warm."""
    columns = {
        "webbkg, target of a file (MB)": "webbkg",
        "webbkg, open target, kept (MB)": "kept",
        "jwst (MB)": "jwst",
    }
    rows = []
    for case, how in (("given mask", "mask"), (f"{CROWDS[0]} sources", "catalogue")):
        row = {"case": f"reference to subtracted 2048², {case}"}
        for column, who in columns.items():
            command = [sys.executable, "-m", "benchmarks.wfss", "growth", who, how, folder]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            row[column] = run.stdout.split()[-1]
        rows.append({**row, "bar": MEMORY_BAR})
    return rows


def measure_growth(who, how, folder):
    """Subtract twice from a target that is in memory; measure the second time."""
    _quiet()
    from astropy.io import fits
    from stdatamodels.jwst import datamodels

    from webbkg.modes import Request
    from webbkg.options import WfssOptions
    from webbkg.subtract import subtract_background

    target = datamodels.open(folder / "target_rate.fits")
    target.meta.source_catalog = str(folder / "cat.ecsv")
    planes = ("data", "err", "dq", "var_poisson", "var_rnoise")
    _ = [getattr(target, plane) for plane in planes]  # read before, not measured
    paths = {kind: folder / name for kind, name in REFERENCES.items()}
    mask = folder / "mask.fits" if how == "mask" else None
    options = WfssOptions(mask=mask and str(mask))
    request = Request(wfss=options, find_reference=paths.__getitem__)

    def in_place():
        subtract_background(target, request, in_place=True, allow_repeat=True)

    def kept():
        subtract_background(target, replace(request, keep_background=False))

    def theirs():
        from jwst.background.background_sub_wfss import subtract_wfss_bkg

        user = None if mask is None else fits.getdata(mask, "MASK").astype(bool)
        subtract_wfss_bkg(target, *map(str, paths.values()), user_mask=user)

    run = {"webbkg": in_place, "kept": kept, "jwst": theirs}[who]
    run()
    return growth(run)


def bench_whole(folder, rounds):
    """Time whole processes from file to file; the inputs are in the page cache."""
    cases = [
        (f"{CROWDS[0]} sources", folder / str(CROWDS[0]), "asn.json", None, "≥ 4.5 ×"),
        (f"{CROWDS[1]} sources", folder / str(CROWDS[1]), "asn.json", None, "≥ 18 ×"),
        ("given mask", folder / str(CROWDS[0]), "target_rate.fits", "mask.fits", "≤ 1.2 null"),
    ]
    rows = []
    for case, where, named, mask, bar in cases:
        for name in ("target_rate.fits", REFERENCES["bkg"], "mask.fits"):
            subprocess.run(["cat", where / name], stdout=subprocess.DEVNULL, check=True)
        runs = alternate_processes(_commands(named, mask), where, rounds)
        seconds = {name: [run.seconds for run in runs[name]] for name in runs}
        peaks = {name: median([run.peak for run in runs[name]]) for name in runs}
        for name in ("webbkg subtract", "strun"):
            rows.append(
                {
                    "case": case,
                    "process": name,
                    "seconds": f"{median(seconds[name]):.2f}",
                    "× faster than jwst": f"**{ratio(seconds['jwst'], seconds[name]):.1f}**",
                    "÷ null step": f"**{ratio(seconds[name], seconds['null']):.2f}**",
                    "bar": bar,
                    "peak (MB)": f"{peaks[name]:.0f}",
                    "null step": f"{median(seconds['null']):.2f} s, {peaks['null']:.0f} MB",
                    "jwst": f"{median(seconds['jwst']):.2f} s, {peaks['jwst']:.0f} MB",
                    "jwst ÷ null": f"{ratio(seconds['jwst'], seconds['null']):.2f}",
                }
            )
    return rows


def _commands(named, mask):
    """Name the processes; each runs in the folder of the data."""
    paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
    dashed = [f"--override-{kind}={name}" for kind, name in REFERENCES.items()]
    underscored = [f"--override_{kind}={name}" for kind, name in REFERENCES.items()]
    for_peer = [f"--{kind}={name}" for kind, name in REFERENCES.items()]
    if mask is not None:
        dashed.append(f"--wfss-mask={mask}")
        underscored.append(f"--wfss_mask={mask}")
        for_peer.append(f"--mask={mask}")
    null = [sys.executable, "-m", "benchmarks.null", "target_rate.fits", "null.fits"]
    strun = [BIN / "strun", "webbkg::bkg_subtract", named, *underscored, "--suffix=strun"]
    return {
        "null": (null, paths),
        "webbkg subtract": ([BIN / "webbkg", "subtract", named, *dashed, "--quiet"], None),
        "strun": (strun, None),
        "jwst": ([sys.executable, "-m", "benchmarks.peer", *for_peer, named], paths),
    }


def bench(section, folder, rounds):
    """Measure one section; the data are made by a process of its own."""
    folder = folder / "wfss"
    make = "import sys; from pathlib import Path; from benchmarks import wfss;"
    make += "wfss.write_data(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", make, str(folder)], check=True)
    if section == "warm":
        return bench_warm(folder / str(CROWDS[0]), rounds)
    if section == "growth":
        return bench_growth(folder / str(CROWDS[0]))
    return bench_whole(folder, min(rounds, 3))


def main():
    _, _, who, how, folder = sys.argv
    print(f"{measure_growth(who, how, Path(folder)):.0f}")


if __name__ == "__main__":
    main()
