"""Time the WFSS fit and the sky mask against the jwst package, run by run in turn.

    python benchmarks/wfss_core.py [--data FOLDER] [--runs N] [--sources N] [--threads N]

Prints the median ratio of alternating runs, warm, and how well the results agree. The folder
holds the real data of the tests (default: WEBBKG_REAL_DATA, or ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "peer"))


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], runs: int
) -> tuple[Any, Any, float]:
    """Run both in turn, after a warm-up each; print the medians of times and ratio.

    Returns the last results and our seconds.
    """
    results = [ours(), theirs()]
    seconds = np.empty((runs, 2))
    for run in range(runs):
        for i, function in enumerate((ours, theirs)):
            start = time.perf_counter()
            results[i] = function()
            seconds[run, i] = time.perf_counter() - start
    ours_s, theirs_s = np.median(seconds, axis=0)
    ratio = np.median(seconds[:, 1] / seconds[:, 0])
    print(f"  webbkg {ours_s:8.4f} s   jwst {theirs_s:8.4f} s   ratio {ratio:7.1f} x")
    return results[0], results[1], float(ours_s)


def scene(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A full frame with noise, 1 % of outliers, and a masked tenth."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((2048, 2048), dtype=np.float32) / 2048
    template = 0.5 + columns + 0.3 * rows
    err = rng.uniform(0.05, 0.1, template.shape).astype(np.float32)
    sci = (0.7 * template + err * rng.standard_normal(template.shape)).astype(np.float32)
    hits = rng.random(template.shape) < 0.01
    sci[hits] += rng.exponential(3, hits.sum()).astype(np.float32)
    sky = np.ones(template.shape, bool)
    sky[200:400, 100:2000] = False
    return sci, err, template, sky


def time_fit(runs: int, threads: int | None) -> None:
    from jwst.background.background_sub_wfss import ScalingFactorComputer

    from webbkg.methods.wfss import fit_scale

    sci, err, template, sky = scene()
    dq = np.zeros(sci.shape, np.uint32)
    variance = err**2
    computer = ScalingFactorComputer(p=1, maxiter=5)
    print("fit, 2048 x 2048, 5 iterations (bar: 8 x)")
    ours, theirs, _ = alternate(
        lambda: fit_scale(sci, err, dq, template, dq, sky, threads=threads),
        # It may write into what it is given.
        lambda: computer(sci.copy(), template.copy(), variance.copy(), ~sky),
        runs,
    )
    print(f"  scales {ours.scale:.9f} {theirs[0]:.9f}, relative {ours.scale / theirs[0] - 1:.1e}")


def crowd(catalog: Path, sources: int, path: Path) -> None:
    """Write a catalogue of `sources` boxes around those of a small one."""
    from astropy.table import QTable, vstack

    table = QTable.read(catalog, format="ascii.ecsv")
    table = vstack([table] * (sources // len(table) + 1), metadata_conflicts="silent")[:sources]
    rng = np.random.default_rng(2)
    shift = rng.uniform(-0.02, 0.02, (2, sources))
    from astropy.coordinates import SkyCoord

    for name in ("sky_bbox_ll", "sky_bbox_lr", "sky_bbox_ul", "sky_bbox_ur"):
        corner = table[name]
        table[name] = SkyCoord(corner.ra.deg + shift[0], corner.dec.deg + shift[1], unit="deg")
    table["label"] = np.arange(1, sources + 1)
    table.write(path, format="ascii.ecsv", overwrite=True)


def time_mask(runs: int, sources: int) -> None:
    import test_wfss_core as peer
    from jwst.background.background_sub_wfss import subtract_wfss_bkg
    from stdatamodels.jwst import datamodels

    from webbkg.traces import catalog_sky_mask, orders_and_limits, read_catalog

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crowd.ecsv"
        crowd(peer.CATALOG, sources, path)
        model = peer.observe("NIRCAM", "F356W", "GRISMR")
        model.meta.source_catalog = str(path)
        template = peer.save_template(Path(folder) / "template.fits")
        reference = peer.WAVELENGTHRANGE["NIRCAM"]
        with datamodels.WavelengthrangeModel(reference) as ranges:
            orders = orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, "F356W")
        catalog = read_catalog(path)
        transform = model.meta.wcs.backward_transform

        def theirs(user_mask: np.ndarray | None = None) -> Any:
            return subtract_wfss_bkg(
                model.copy(),
                str(template),
                str(reference),
                user_mask=user_mask,
                rescaler_kwargs={"maxiter": 0},
            )

        # Their mask is made within the subtraction; with a mask given the rest alone is timed.
        everywhere = np.ones(model.shape, bool)
        start = time.perf_counter()
        theirs(everywhere)
        rest = time.perf_counter() - start
        print(f"sky mask, {sources} sources (bar: 200 x)")
        ours, result, ours_s = alternate(
            lambda: catalog_sky_mask(catalog, transform, orders, model.shape, dispersion_axis=1),
            theirs,
            runs,
        )
        print(
            f"  theirs includes {rest:.2f} s for fitting and subtracting ({rest / ours_s:.0f} x)"
            ", and the catalogue's read"
        )
        print(f"  sky {ours.mean():.4f}, pixels that differ: {(result.mask != ours).sum()}")
        time_read(path, runs)


def time_read(path: Path, runs: int) -> None:
    from astropy.table import QTable

    from webbkg.traces import read_catalog

    print("catalogue read (against astropy's QTable)")
    alternate(lambda: read_catalog(path), lambda: QTable.read(path, format="ascii.ecsv"), runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the real data")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--sources", type=int, default=1000)
    parser.add_argument("--threads", type=int, help="threads of the fit")
    arguments = parser.parse_args()
    if arguments.data:
        os.environ["WEBBKG_REAL_DATA"] = str(arguments.data)
    os.environ["STPIPE_DISABLE_CRDS_STEPPARS"] = "true"
    import stpipe.crds_client

    stpipe.crds_client.get_context_used = lambda *_: "jwst_0000.pmap"
    time_fit(arguments.runs, arguments.threads)
    time_mask(max(arguments.runs // 3, 2), arguments.sources)


if __name__ == "__main__":
    main()
