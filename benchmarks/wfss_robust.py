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
from webbkg.files.catalogs import read_catalog
from webbkg.options import WfssOptions
from webbkg.results import ScaleFit, SourceCatalog, Status
from webbkg.simulate.detector import Planes, generator
from webbkg.simulate.grism_scene import NIRCAM_R, NIRISS_C, WfssScene
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.sources import Population
from webbkg.simulate.wfss import GrismField, draw_field, source_catalog, wavelengthrange_model
from webbkg.wfss.fit import fit_scale
from webbkg.wfss.predict import predict_light
from webbkg.wfss.traces import catalog_sky_mask, orders_and_limits

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


@dataclass(frozen=True)
class Points(Spectra):
    """Light in single pixels, anywhere."""

    def draw(self, rng: np.random.Generator, noise: float, shape: tuple[int, int]) -> np.ndarray:
        lit = rng.random(shape) < self.share
        heights = [noise * self.height(rng) for _ in range(np.count_nonzero(lit))]
        light = np.zeros(shape, np.float32)
        light[lit] = heights
        return light


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
    "deep, 5 % single pixels of 3σ": (DEEP, Points(0.05, exponential(3))),
    "deep, 1 % single pixels of 3σ": (DEEP, Points(0.01, exponential(3))),
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


def crowd(base: WfssScene, number: int, **light: float) -> WfssScene:
    """Make a scene of so many sources on the detector and its margin."""
    full, margin = base.detector.full.window, 2 * base.margin
    density = full.columns * full.rows / ((full.columns + margin) * (full.rows + margin))
    population = Population(
        **{"faintest": 0.3, "brightest": 3000.0, "slope": 0.9, **light},
        stars=round(0.05 * number * density),
        galaxies=round(0.95 * number * density),
        smallest=1.5,
        largest=6.0,
    )
    detector = replace(base.detector, counts_photons=True)
    return replace(base, detector=detector, population=population, isophote=0.003)


CROWDS = {
    "deep, 1000": (1000, {}),
    "deep, 5000": (5000, {}),
    "deep, 16 000": (16000, {}),
    "crowded": (3000, {"faintest": 20.0, "brightest": 20000.0}),
    "hopeless": (6000, {"faintest": 100.0, "brightest": 20000.0}),
}


def rough_catalog(field: GrismField) -> SourceCatalog:
    """Take the catalogue as an image would give it: 0.3 mag, half a pixel, to 28 mag."""
    listed, rng = read_catalog(source_catalog(field)), generator(SEED, STREAM, 1)
    magnitude = listed.magnitude + 0.3 * rng.standard_normal(len(listed))
    degrees = 0.5 * field.scene.detector.pixel_scale / 3600
    east, north = degrees * rng.standard_normal((2, len(listed)))
    seen = magnitude < 28
    ra = listed.ra + east / np.cos(np.deg2rad(field.scene.dec))
    places = (np.ascontiguousarray(one[:, seen]) for one in (ra, listed.dec + north))
    return SourceCatalog(*places, magnitude[seen])


def crowd_rows(count: int, names: list[str]) -> list[dict[str, str]]:
    """Full fields with sources, by the catalogue's traces and by the image alone."""
    rows: list[dict[str, str]] = []
    for base in (NIRCAM_R, NIRISS_C):
        for name in names:
            number, light = CROWDS[name]
            field = draw_field(crowd(base, number, **light), SEED)
            rows += field_rows(f"{base.grism.name}, {name}", field, count)
    return rows


def field_rows(name: str, field: GrismField, count: int) -> list[dict[str, str]]:
    scene = field.scene
    ranges = wavelengthrange_model(scene)
    orders = orders_and_limits(ranges.extract_orders, ranges.wavelengthrange, scene.band.name)
    axis, shape = scene.grism.axis, field.sources.shape
    where = (field.wcs.backward_transform, orders, shape)
    light = predict_light(rough_catalog(field), *where, dispersion_axis=axis)
    boxes = catalog_sky_mask(read_catalog(source_catalog(field)), *where, dispersion_axis=axis)
    median = np.median(field.sources[8:-8, 8:-8] / field.sky[8:-8, 8:-8])
    rows = []
    for flicker in (0.0, 0.4):
        noisy = replace(scene.detector, flicker_noise=flicker * scene.detector.read_noise)
        shown = replace(field, setup=replace(field.setup, detector=noisy))
        for way in ("traces", "image"):
            fits = [
                fit_crowd(shown, field.sky + field.sources, n, way, light) for n in range(count)
            ]
            rows.append(
                {
                    "field": name,
                    "median light / sky (%)": f"{100 * median:.2g}",
                    "sky outside boxes (%)": f"{100 * boxes.mean():.2g}",
                    "1/f": f"{flicker:g}",
                    "from": way,
                }
                | crowd_figures(fits, scene.scale)
            )
    return rows


def fit_crowd(
    field: GrismField, rate: np.ndarray, number: int, way: str, light: np.ndarray
) -> ScaleFit:
    planes = field.expose(rate, number, 0)
    return fit_scale(
        planes.sci,
        planes.err,
        planes.dq,
        field.template,
        options=WfssOptions(method="robust", mask_from=way),
        dispersion_axis=field.scene.grism.axis,
        var_rnoise=planes.var_rnoise,
        var_poisson=planes.var_poisson,
        source_light=light if way == "traces" else None,
    )


def crowd_figures(fits: list[ScaleFit], true: float) -> dict[str, str]:
    done = [fit for fit in fits if fit.status is Status.COMPLETE]
    errors = np.array([fit.scale / true - 1 for fit in done])
    quoted = np.array([fit.scale_err / true for fit in done])
    return {
        "FAILED": f"{len(fits) - len(done)} of {len(fits)}",
        "mean error (%)": f"{100 * errors.mean():+.3f}" if done else "",
        "largest (%)": f"{100 * errors[np.argmax(np.abs(errors))]:+.3f}" if done else "",
        "quoted (%)": f"{100 * quoted.mean():.3f}" if done else "",
    }


def main() -> None:
    global SEED
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", type=int, default=400, help="exposures of each clean sky")
    parser.add_argument("--spectra", type=int, default=120, help="of each with unlisted spectra")
    parser.add_argument("--flicker", type=int, default=20, help="of each with 1/f noise")
    parser.add_argument("--crowds", type=int, default=5, help="of each field with sources")
    parser.add_argument("--fields", nargs="*", default=list(CROWDS), help="which of these")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=["clean", "spectra", "flicker", "crowds"])
    asked = parser.parse_args()
    SEED = asked.seed
    if "clean" in asked.only:
        skies = {name: (scene, None) for name, scene in CLEAN_SKIES.items()}
        print(f"Clean skies, {asked.clean}\n\n{table(sky_rows(skies, asked.clean))}\n", flush=True)
    if "spectra" in asked.only:
        rows = sky_rows(CONTAMINATED, asked.spectra)
        print(f"Unlisted sources, {asked.spectra}\n\n{table(rows)}\n", flush=True)
    if "flicker" in asked.only:
        print(f"1/f noise, {asked.flicker}\n\n{table(flicker_rows(asked.flicker))}\n", flush=True)
    if "crowds" in asked.only:
        print(
            f"Fields, {asked.crowds}\n\n{table(crowd_rows(asked.crowds, asked.fields))}\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
