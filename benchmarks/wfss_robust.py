"""The standard and the robust WFSS fit side by side: ``python -m benchmarks.wfss_robust``.

Prints Markdown tables; docs/wfss_recovery.md explains them. ``--only`` chooses parts of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.run import table
from benchmarks.wfss_recovery import CLEAN, PERFECT, WINDOW
from webbkg.options import WfssOptions
from webbkg.simulate.detector import Planes, generator
from webbkg.simulate.grism_scene import NIRCAM_R, NIRISS_C, WfssScene
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.wfss import GrismField, draw_field
from webbkg.wfss.fit import fit_scale

SEED = 41
COUNTED = replace(PERFECT, counts_photons=True)
STREAM = 100  # of the unlisted sources: no stream of the simulator's


def sky_of(level: float, groups: int, **detector: float) -> WfssScene:
    """Make a scene without sources, of one brightness and depth."""
    readout = replace(SHALLOW, n_groups=groups)
    return replace(CLEAN, detector=replace(COUNTED, **detector), level=level, readout=readout)


DEEP, SHORT_FAINT = sky_of(1.0, 10), sky_of(0.1, 3)
CLEAN_SKIES = {
    "deep": DEEP,
    "faint": sky_of(0.2, 10),
    "short": sky_of(0.5, 3),
    "short and faint": SHORT_FAINT,
    "read-noise limited": sky_of(0.1, 6, read_noise=60.0),
}


@dataclass(frozen=True)
class Spectra:
    """Sources that no one lists, as spectra three pixels wide and 150 to 512 long."""

    share: float  #: of the pixels that they cover
    height: Callable[[np.random.Generator], float]  #: in units of a pixel's noise

    def draw(self, rng: np.random.Generator, noise: float, shape: tuple[int, int]) -> np.ndarray:
        light = np.zeros(shape, np.float32)
        across = np.array([[0.5], [1.0], [0.5]], np.float32)
        while np.count_nonzero(light) < self.share * light.size:
            length = rng.integers(150, shape[1])
            first, row = (
                rng.integers(-length // 2, shape[1] - length // 2),
                rng.integers(shape[0] - 3),
            )
            columns = slice(max(first, 0), max(first + length, 0))
            light[row : row + 3, columns] += np.float32(self.height(rng) * noise) * across
        return light


def exponential(mean: float) -> Callable[[np.random.Generator], float]:
    return lambda rng: rng.exponential(mean)


def power_law(rng: np.random.Generator) -> float:
    """From 0.3 to 30, N(> h) as h^-0.7."""
    return 0.3 * (1 - rng.random() * (1 - 100**-0.7)) ** (-1 / 0.7)


RAYS = replace(DEEP, detector=replace(COUNTED, cosmic_ray_left=1.0, cosmic_ray_flagged=0.0))
CONTAMINATED = {
    "deep": (DEEP, None),
    "deep, 1 % cosmic rays": (RAYS, None),
    "deep, 5 % under spectra of 3σ": (DEEP, Spectra(0.05, exponential(3))),
    "deep, 5 % of 1σ": (DEEP, Spectra(0.05, exponential(1))),
    "deep, 5 % of a power law": (DEEP, Spectra(0.05, power_law)),
    "the same, 1 % cosmic rays": (RAYS, Spectra(0.05, power_law)),
    "short and faint, 5 % of 1σ": (SHORT_FAINT, Spectra(0.05, exponential(1))),
    "deep, 15 % of 1σ": (DEEP, Spectra(0.15, exponential(1))),
    "deep, 15 % of a power law": (DEEP, Spectra(0.15, power_law)),
}


@dataclass(frozen=True)
class Series:
    """Fits of many exposures: relative errors, quoted errors; the limit is one number."""

    error: np.ndarray
    quoted: np.ndarray
    limit: float

    def row(self) -> dict[str, str]:
        count = len(self.error)
        scatter = float(self.error.std(ddof=1))
        bias, doubt = self.error.mean() / self.limit, scatter / self.limit / count**0.5
        inside = [np.mean(np.abs(self.error) <= sigmas * self.quoted) for sigmas in (1, 2)]
        return {
            "bias (limits)": f"{bias:+.2f} ± {doubt:.2f}",
            "bias (%)": f"{100 * self.error.mean():+.4f}",
            "scatter (limits)": f"{scatter / self.limit:.2f}",
            "quoted / scatter": f"{self.quoted.mean() / scatter:.2f}",
            "within 1, 2 quoted": f"{inside[0]:.3f}, {inside[1]:.3f}",
        }


def limit_of(field: GrismField) -> float:
    """The least standard error that a scale can have with this noise, as a part of it."""
    variance = field.setup.poisson_variance(field.sky) + field.setup.read_variance
    weight = np.nansum(field.template**2 / variance, dtype=np.float64)
    return float(weight**-0.5 / field.scene.scale)


def fit_all_ways(
    planes: Planes, field: GrismField, sky: np.ndarray | None = None
) -> Iterator[tuple[str, object]]:
    """Fit by the standard method, the robust one, and the robust one without variance planes."""
    variances = {"var_rnoise": planes.var_rnoise, "var_poisson": planes.var_poisson}
    for name, method, more in (
        ("standard", "standard", {}),
        ("robust", "robust", variances),
        ("robust, ERR alone", "robust", {}),
    ):
        yield (
            name,
            fit_scale(
                planes.sci,
                planes.err,
                planes.dq,
                field.template,
                sky_mask=sky,
                options=WfssOptions(method=method),
                dispersion_axis=field.scene.grism.axis,
                **more,
            ),
        )


def run_series(scene: WfssScene, spectra: Spectra | None, count: int) -> dict[str, Series]:
    field = draw_field(scene, SEED, scene.detector.part(WINDOW))
    noise = float(np.median(field.setup.poisson_variance(field.sky)) + field.setup.read_variance)
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(count):
        light = field.sky
        if spectra is not None:
            rng = generator(SEED, STREAM, number)
            light = light + spectra.draw(rng, noise**0.5, light.shape)
        planes = field.expose(light, number, 0)
        for name, fit in fit_all_ways(planes, field):
            errors = fit.scale / scene.scale - 1, fit.scale_err / scene.scale
            found.setdefault(name, []).append(errors)
    limit = limit_of(field)
    return {name: Series(*np.array(rows).T, limit) for name, rows in found.items()}


def sky_rows(
    skies: dict[str, tuple[WfssScene, Spectra | None]], count: int
) -> list[dict[str, str]]:
    return [
        {"sky": name, "fit": fit} | series.row()
        for name, (scene, spectra) in skies.items()
        for fit, series in run_series(scene, spectra, count).items()
    ]


def flicker_rows(count: int) -> list[dict[str, str]]:
    """Whole detectors, three fifths under boxes, without and with 1/f noise."""
    rows = []
    for scene, part in ((NIRCAM_R, 0.0), (NIRCAM_R, 0.4), (NIRISS_C, 0.0), (NIRISS_C, 0.4)):
        detector = replace(
            scene.detector,
            flicker_noise=part * scene.detector.read_noise,
            counts_photons=True,
            hot_fraction=0.0,
            dead_fraction=0.0,
            cosmic_ray_left=0.0,
        )
        field = draw_field(replace(scene, detector=detector, population=CLEAN.population), SEED)
        sky = boxes_mask(field.setup.window.shape, 0.6)
        fits = []
        for number in range(count):
            planes = field.expose(field.sky, number, 0)
            fit = dict(fit_all_ways(planes, field, sky))["robust"]
            fits.append((fit.scale, fit.scale_err, fit.robust.white_err, fit.robust.block_err))
        scale, quoted, white, block = np.array(fits).T / scene.scale
        scatter = scale.std(ddof=1)
        rows.append(
            {
                "scene": scene.grism.name,
                "1/f noise of the read noise": f"{part:g}",
                "mean error (%)": f"{100 * (scale.mean() - 1):+.4f}",
                "scatter (%)": f"{100 * scatter:.4f}",
                "white / scatter": f"{white.mean() / scatter:.2f}",
                "jackknife / scatter": f"{block.mean() / scatter:.2f}",
                "quoted / scatter": f"{quoted.mean() / scatter:.2f}",
            }
        )
    return rows


def boxes_mask(shape: tuple[int, int], covered: float) -> np.ndarray:
    """Mask boxes of 900 pixels along x, 5 to 40 across, until so much is covered."""
    rng, sky = generator(SEED, STREAM), np.ones(shape, np.bool_)
    while sky.mean() > 1 - covered:
        first, row, high = rng.integers(-600, shape[1]), rng.integers(shape[0]), rng.integers(5, 40)
        sky[row : row + high, max(first, 0) : max(first + 900, 0)] = False
    return sky


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", type=int, default=400, help="exposures of each clean sky")
    parser.add_argument("--spectra", type=int, default=120, help="of each with unlisted spectra")
    parser.add_argument("--flicker", type=int, default=20, help="of each with 1/f noise")
    parser.add_argument("--only", nargs="*", default=["clean", "spectra", "flicker"])
    asked = parser.parse_args()
    if "clean" in asked.only:
        skies = {name: (scene, None) for name, scene in CLEAN_SKIES.items()}
        print(f"Clean skies, {asked.clean}\n\n{table(sky_rows(skies, asked.clean))}\n", flush=True)
    if "spectra" in asked.only:
        rows = sky_rows(CONTAMINATED, asked.spectra)
        print(f"Unlisted sources, {asked.spectra}\n\n{table(rows)}\n", flush=True)
    if "flicker" in asked.only:
        print(f"1/f noise, {asked.flicker}\n\n{table(flicker_rows(asked.flicker))}\n", flush=True)


if __name__ == "__main__":
    main()
