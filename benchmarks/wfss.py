"""WFSS: fit and sky mask in a warm process, its memory, and whole processes from file to file."""

import logging
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks import measure, peer

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
    from webbkg.simulate.wfss import GrismField, draw_field, observe

    class Crowd(GrismField):
        """Stars by number, not by density."""

        @cached_property
        def catalogue(self):
            scene, rng = self.scene, np.random.default_rng(2)
            full, count = scene.detector.full.window, scene.population.stars
            drawn = sources.draw_catalogue(scene.population, full, scene.margin, rng)
            return sources.Catalogue(*(values[:count] for values in vars(drawn).values()))

    folder = Path(folder)
    missing = [number for number in CROWDS if not (folder / str(number) / "mask.fits").exists()]
    if not missing:
        return
    scene = replace(NIRCAM_R, population=sources.Population(stars=0, galaxies=0))
    simulated = observe(draw_field(scene))
    for number in missing:
        population = sources.Population(
            stars=number, galaxies=0, faintest=0.1, brightest=1.0, fwhm=1.0
        )
        crowded, seed = replace(scene, population=population), simulated.field.seed
        crowd = Crowd(scene=crowded, seed=seed, setup=simulated.setup)
        _write_field(folder / str(number), replace(simulated, field=crowd))


def _write_field(folder, simulated):
    from astropy.io import fits

    from webbkg.simulate.wfss import write_field

    write_field(folder, simulated)
    mask = fits.ImageHDU(_prepare_mask(folder)().astype(np.uint32), name="MASK")
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


def _quiet():
    peer.without_crds()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def bench_warm(folder, rounds):
    """Time the fit with a given mask, and the mask of 1000 sources, in one process."""
    _quiet()
    return [_bench_fit(rounds, folder), _bench_robust(rounds, folder), _bench_mask(rounds, folder)]


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
    seconds = measure.alternate(functions, rounds)
    alone = f"{measure.ratio(seconds['jwst'], seconds['one thread']):.1f}"
    apart = f"scales apart by {abs(scales['webbkg'] / scales['jwst'] - 1):.0e}"
    return measure.warm_row(
        "fit with a given mask, 2048², 5 iterations",
        seconds,
        8,
        **{"× faster, one thread": alone, "agreement": apart},
    )


def _bench_robust(rounds, folder):
    """Time the robust fit on one thread; jwst has none, its fit is timed beside it."""
    from jwst.background.background_sub_wfss import ScalingFactorComputer
    from stdatamodels.jwst import datamodels

    from webbkg.options import WfssOptions
    from webbkg.wfss.fit import fit_scale

    target = datamodels.open(folder / "target_rate.fits")
    bkg = datamodels.open(folder / REFERENCES["bkg"])
    sky = _prepare_mask(folder)() & (target.dq & 1 == 0) & np.isfinite(target.data * bkg.data)
    variance, computer = target.err**2, ScalingFactorComputer(p=1, maxiter=5)

    def ours():
        fit_scale(
            *(target.data, target.err, target.dq, bkg.data, bkg.dq, sky),
            options=WfssOptions(method="robust"),
            dispersion_axis=target.meta.wcsinfo.dispersion_direction,
            threads=1,
            var_rnoise=target.var_rnoise,
            var_poisson=target.var_poisson,
        )

    def theirs():
        computer(target.data.copy(), bkg.data.copy(), variance.copy(), ~sky)

    seconds = measure.alternate({"jwst": theirs, "webbkg": ours}, rounds)
    more = {"× faster, one thread": "the same", "agreement": "another fit"}
    return measure.warm_row("robust fit, the same mask", seconds, 0, **more) | {"bar": "≤ 0.5 s"}


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
    seconds = measure.alternate(functions, min(rounds, 3))
    seconds["jwst"] = [a - b for a, b in zip(seconds["all"], seconds["rest"], strict=True)]
    differ = int((masks["jwst"] != masks["webbkg"]).sum())
    agreement = f"{differ} pixels differ; {100 * masks['webbkg'].mean():.0f} % sky"
    return measure.warm_row(
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
            row[column] = f"{measure.apart('wfss', 'measure_growth', who, how, folder):.0f}"
        rows.append({**row, "bar": MEMORY_BAR})
    return rows


def measure_growth(who, how, folder):
    """Subtract twice from a target that is in memory; measure the second time."""
    _quiet()
    folder = Path(folder)
    from astropy.io import fits
    from stdatamodels.jwst import datamodels

    from webbkg.modes import Request
    from webbkg.options import WfssOptions
    from webbkg.run import subtract_background

    target = datamodels.open(folder / "target_rate.fits")
    target.meta.source_catalog = str(folder / "cat.ecsv")
    planes = ("data", "err", "dq", "var_poisson", "var_rnoise")
    _ = [getattr(target, plane) for plane in planes]  # read before, not measured
    paths = {kind: folder / name for kind, name in REFERENCES.items()}
    mask = folder / "mask.fits" if how == "mask" else None
    options = WfssOptions(mask=mask and str(mask))
    request = Request(options=options, references=paths)

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
    return measure.growth(run)


def bench_whole(folder, rounds):
    """Time whole processes from file to file; the inputs are in the page cache."""
    cases = [
        (f"{CROWDS[0]} sources", folder / str(CROWDS[0]), "asn.json", None, "≥ 4.5 ×"),
        (f"{CROWDS[1]} sources", folder / str(CROWDS[1]), "asn.json", None, "≥ 18 ×"),
        ("given mask", folder / str(CROWDS[0]), "target_rate.fits", "mask.fits", "≤ 1.2 null"),
    ]
    rows = []
    for case, where, named, mask, bar in cases:
        measure.read_into_cache(
            *(where / name for name in ("target_rate.fits", REFERENCES["bkg"], "mask.fits"))
        )
        given = {f"override_{kind}": name for kind, name in REFERENCES.items()}
        given |= {"wfss_mask": mask} if mask else {}
        runs = measure.alternate_processes(
            measure.commands(named, "target_rate.fits", **given), where, rounds
        )
        rows += measure.process_rows(runs, measure.WAYS_IN, case=case, bar=bar)
    return rows


def bench_robust(folder, rounds):
    """Time whole processes with the method robust, and without it, on a given mask."""
    rows = []
    for case, how in (("standard", {}), ("robust", {"wfss_method": "robust"})):
        given = {f"override_{kind}": name for kind, name in REFERENCES.items()}
        given |= {"wfss_mask": "mask.fits", **how}
        commands = measure.commands("target_rate.fits", "target_rate.fits", **given)
        commands.pop("jwst")
        runs = measure.alternate_processes(commands, folder, rounds)
        rows += measure.rows_without_peer(runs, f"given mask, {case}")
    return rows


def bench(section, folder, rounds):
    """Measure one section; the data are made by a process of its own."""
    folder = Path(folder) / "wfss"
    measure.apart("wfss", "write_data", folder)
    if section == "warm":
        return bench_warm(folder / str(CROWDS[0]), rounds)
    if section == "growth":
        return bench_growth(folder / str(CROWDS[0]))
    if section == "robust":
        return bench_robust(folder / str(CROWDS[0]), min(rounds, 3))
    return bench_whole(folder, min(rounds, 3))
