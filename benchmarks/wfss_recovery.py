"""How well the WFSS fit recovers a known scale: ``python -m benchmarks.wfss_recovery``.

Prints Markdown tables; docs/wfss_recovery.md explains them. The flight sky images are looked
for in WEBBKG_REAL_DATA, or ../shared/data beside the checkout; without them that part is left
out.
"""

from __future__ import annotations

import argparse
import io
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.run import table
from webbkg.files.catalogs import read_catalog
from webbkg.files.exposures import DetectorWindow
from webbkg.options import WfssOptions
from webbkg.simulate.detector import NIRCAM_LONG, Setup, draw_bad_pixels, expose
from webbkg.simulate.grism_scene import NIRCAM_R, WfssScene
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.sources import Population
from webbkg.simulate.wfss import (
    GrismField,
    draw_field,
    source_catalog,
    wavelengthrange_model,
)
from webbkg.wfss.fit import fit_scale
from webbkg.wfss.traces import catalog_sky_mask, orders_and_limits

WINDOW = DetectorWindow(760, 810, 512, 512)
PERFECT = replace(NIRCAM_LONG, hot_fraction=0.0, dead_fraction=0.0, cosmic_ray_left=0.0)
CLEAN = replace(NIRCAM_R, detector=PERFECT, population=Population(stars=0, galaxies=0))

DEPTHS = [
    (0.05, 3),
    (0.1, 5),
    (0.3, 3),
    (0.3, 7),
    (0.5, 10),
    (1.0, 10),
    (3.0, 10),
]
"""Levels of the template (DN/s) and groups of an integration, from faint to bright."""


@dataclass(frozen=True)
class Trial:
    """What a series of fits came to: relative errors and quoted errors, and chi-square."""

    error: np.ndarray
    quoted: np.ndarray
    chi2: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.error.mean())

    @property
    def scatter(self) -> float:
        return float(self.error.std(ddof=1))

    def within(self, sigmas: float) -> float:
        return float(np.mean(np.abs(self.error) <= sigmas * self.quoted))

    def within_of_mean(self, sigmas: float) -> float:
        return float(np.mean(np.abs(self.error - self.mean) <= sigmas * self.quoted))


def catalog_mask(field: GrismField) -> np.ndarray:
    scene = field.scene
    ranges = wavelengthrange_model(scene)
    return catalog_sky_mask(
        read_catalog(source_catalog(field)),
        field.wcs.backward_transform,
        orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, scene.band.name),
        field.sources.shape,
        dispersion_axis=scene.grism.axis,
    )


def run_trials(
    scene: WfssScene, exposures: int, seed: int = 2025
) -> tuple[GrismField, dict[tuple[bool, int], Trial]]:
    """Fit every exposure with either ERR and with 0 and 5 rejections."""
    field = draw_field(scene, seed, scene.detector.part(WINDOW))
    sky = catalog_mask(field) if len(field.catalogue.flux) else None
    found: dict[tuple[bool, int], list[tuple[float, float, float]]] = {}
    for number in range(exposures):
        for true_err in (False, True):
            planes = field.measure(number, true_err=true_err)
            for maxiter in (0, 5):
                fit = fit_scale(
                    planes.sci,
                    planes.err,
                    planes.dq,
                    field.template,
                    sky_mask=sky,
                    options=WfssOptions(maxiter=maxiter),
                )
                numbers = (fit.scale / scene.scale - 1, fit.scale_err / scene.scale, fit.chi2_dof)
                found.setdefault((true_err, maxiter), []).append(numbers)
    return field, {key: Trial(*np.array(rows).T) for key, rows in found.items()}


def recovery_rows(scene: WfssScene, exposures: int) -> list[dict[str, str]]:
    """Describe the errors of a scene, a row for each ERR and number of rejections."""
    _, trials = run_trials(scene, exposures)
    return [
        {
            "ERR from": "true rate" if true_err else "noisy counts",
            "`wfss_maxiter`": str(maxiter),
            "mean error (%)": f"{100 * t.mean:+.4f} ± {100 * t.scatter / exposures**0.5:.4f}",
            "scatter (%)": f"{100 * t.scatter:.4f}",
            "quoted (%)": f"{100 * t.quoted.mean():.4f}",
            "scatter / quoted": f"{t.scatter / t.quoted.mean():.2f}",
            "within 1, 2 quoted": f"{t.within(1):.3f}, {t.within(2):.3f}",
            "the same about the mean": f"{t.within_of_mean(1):.3f}, {t.within_of_mean(2):.3f}",
            "chi2 / dof": f"{t.chi2.mean():.3f}",
        }
        for (true_err, maxiter), t in trials.items()
    ]


def depth_row(level: float, groups: int, exposures: int) -> dict[str, str]:
    """Measure the error at one brightness, without sources and defects."""
    scene = replace(CLEAN, level=level, readout=replace(SHALLOW, n_groups=groups))
    field, trials = run_trials(scene, exposures)
    rate = np.median(field.sky)
    electrons = rate * field.setup.electrons_per_rate
    noise = np.sqrt(field.setup.poisson_variance(rate) + field.setup.read_variance)
    # One electron per pixel too few, weighted as the fit weights; see the documentation.
    weights = 1 / (field.setup.poisson_variance(field.sky) + field.setup.read_variance)
    lost = (weights * field.template).sum() / field.setup.electrons_per_rate
    predicted = -lost / (weights * field.template**2).sum() / scene.scale
    noisy, clipped = trials[False, 0], trials[False, 5]
    return {
        "template (DN/s), groups": f"{level:g}, {groups}",
        "electrons": f"{electrons:.0f}",
        "S/N": f"{rate / noise:.1f}",
        "predicted (%)": f"{100 * predicted:+.3f}",
        "noisy ERR (%)": f"{100 * noisy.mean:+.3f} ± {100 * noisy.scatter / exposures**0.5:.3f}",
        "with 5 rejections (%)": f"{100 * clipped.mean:+.3f}",
        "true ERR (%)": f"{100 * trials[True, 0].mean:+.3f}",
        "error / quoted": f"{noisy.mean / noisy.quoted.mean():+.0f}",
        "chi2 / dof, 0 and 5": f"{noisy.chi2.mean():.2f}, {clipped.chi2.mean():.2f}",
        "with true ERR": f"{trials[True, 0].chi2.mean():.2f}, {trials[True, 5].chi2.mean():.2f}",
    }


def flight_images() -> dict[str, np.ndarray]:
    """Read the flight sky images, by filter; none if they are not there."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WEBBKG_REAL_DATA", default)) / "nircam_wfss"
    images = {}
    for path in sorted(folder.glob("*_modA_GRISMR.fits.zip")):
        with zipfile.ZipFile(path) as archive:
            data = fits.getdata(io.BytesIO(archive.read(archive.namelist()[0])))
        images[path.name.split("_")[2]] = data.astype(np.float32)
    return images


def flatness(residual: np.ndarray, axis: int) -> tuple[float, float]:
    """Mean of the medians over an axis, and their RMS about it in bins of 64 pixels (DN/s)."""
    lit = residual[4:-4, 4:-4]
    profile = np.nanmedian(lit, axis=axis)
    bins = profile[: len(profile) // 64 * 64].reshape(-1, 64).mean(axis=1)
    return float(bins.mean()), float(bins.std())


def flight_rows(name: str, template: np.ndarray, scale: float) -> list[dict[str, str]]:
    """Scale a flight sky image, add noise, fit, subtract, and judge the residual."""
    detector = replace(NIRCAM_LONG, name="NRCALONG", module="A")
    setup = Setup(detector, SHALLOW, detector.full)
    light = np.nan_to_num(template * np.float32(scale))
    bad = draw_bad_pixels(detector, 1)
    noisy, true = (expose(light, setup, bad, 1, 0, 0, true_err=known) for known in (False, True))
    sci = np.where(noisy.dq == 0, noisy.sci, np.nan)
    scales = {"the sky itself": scale}
    for kind, planes in (("noisy", noisy), ("true", true)):
        for maxiter in (0, 5):
            options = WfssOptions(maxiter=maxiter)
            fit = fit_scale(planes.sci, planes.err, planes.dq, template, options=options)
            scales[f"fit, {kind} ERR, {maxiter} rejections"] = fit.scale
    rows = [flight_row(name, "nothing", "", sci)]
    for case, found in scales.items():
        error = f"{100 * (found / scale - 1):+.3f}"
        rows.append(flight_row(name, case, error, sci - np.float32(found) * template))
    return rows


def flight_row(name: str, case: str, error: str, image: np.ndarray) -> dict[str, str]:
    along, across = flatness(image, 0), flatness(image, 1)
    return {
        "filter": name,
        "subtracted": case,
        "error of the scale (%)": error,
        "level": f"{1e4 * along[0]:+.2f}",
        "RMS along": f"{1e4 * along[1]:.2f}",
        "RMS across": f"{1e4 * across[1]:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exposures", type=int, default=200)
    arguments = parser.parse_args()
    n = arguments.exposures
    print(f"Sky alone, {n} exposures\n\n{table(recovery_rows(CLEAN, n))}\n")
    print(f"Whole field, {n} exposures\n\n{table(recovery_rows(NIRCAM_R, n))}\n")
    print("Depth\n\n" + table([depth_row(*depth, max(n // 10, 2)) for depth in DEPTHS]) + "\n")
    flight = [
        row for name, image in flight_images().items() for row in flight_rows(name, image, 1.3)
    ]
    if flight:
        print(f"Flight sky, 0.0001 DN/s\n\n{table(flight)}")


if __name__ == "__main__":
    main()
