"""What freer models of a grism sky take from spectra, and give: ``python -m benchmarks.wfss_guards``.

Prints Markdown tables; docs/wfss_recovery.md explains them. ``--only`` chooses parts of them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.run import table
from benchmarks.wfss_recovery import flatness, flight_images
from benchmarks.wfss_robust import COUNTED, DEEP, SHORT_FAINT, Spectra, exponential
from webbkg.files.exposures import DetectorWindow
from webbkg.options import WfssOptions
from webbkg.results import ScaleFit
from webbkg.simulate.detector import Planes, Setup, draw_bad_pixels, expose, generator
from webbkg.simulate.grism_scene import NIRCAM_LONG, WfssScene
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.wfss import GrismField, draw_field
from webbkg.wfss.fit import fit_scale, scaled_background

SEED = 61
STREAM = 101  # of what is injected: no stream of the simulator's
WINDOW = DetectorWindow(1480, 811, 512, 512)
"""Where the template falls from 1 to 0.56 along dispersion: elsewhere it is like a constant."""
MODELS = ("template", "+offset", "+profile", "auto")
LENGTHS = {"lines": 3, "10 pixels": 10, "30 pixels": 30, "100 pixels": 100}
HEIGHTS = (0.5, 1.0, 2.0, 5.0)
NUMBER = 32
"""Spectra on a frame of 512 x 512 pixels: as dense as 512 on a detector."""
ACROSS = np.array([[0.5], [1.0], [0.5]], np.float32)


@dataclass(frozen=True)
class Injected:
    """Spectra of one length and height: their light, and boxes around them (True where sky)."""

    light: np.ndarray
    outside: np.ndarray

    @classmethod
    def draw(cls, number: int, length: int, height: float, shape: tuple[int, int]) -> Injected:
        rng = generator(SEED, STREAM, number)
        light, outside = np.zeros(shape, np.float32), np.ones(shape, np.bool_)
        for row in rng.choice(np.arange(4, shape[0] - 4, 6), NUMBER, replace=False):
            first = int(rng.integers(4, shape[1] - length - 4))
            light[row - 1 : row + 2, first : first + length] += np.float32(height) * ACROSS
            outside[row - 2 : row + 3, first - 2 : first + length + 2] = False
        return cls(light, outside)


def ways() -> Iterator[tuple[str, WfssOptions]]:
    """The standard fit, and the robust one with each model."""
    yield "standard", WfssOptions()
    for model in MODELS:
        yield model, WfssOptions(method="robust", model=model)


def fit_planes(
    planes: Planes,
    template: np.ndarray,
    options: WfssOptions,
    *more: np.ndarray,
    sky: np.ndarray | None = None,
) -> ScaleFit:
    return fit_scale(
        planes.sci,
        planes.err,
        planes.dq,
        template,
        sky_mask=sky,
        options=options,
        dispersion_axis=1,
        var_rnoise=planes.var_rnoise,
        var_poisson=planes.var_poisson,
        more_templates=more,
    )


def noise_of(field: GrismField) -> float:
    variance = np.median(field.setup.poisson_variance(field.sky)) + field.setup.read_variance
    return float(variance) ** 0.5


def loss_rows(count: int) -> list[dict[str, str]]:
    """What part of the spectra's flux is subtracted with the sky, of all of them together."""
    field = draw_field(DEEP, SEED, DEEP.detector.part(WINDOW))
    bare = [bare_levels(field, number) for number in range(count)]
    rows = []
    for name, length in LENGTHS.items():
        for height in HEIGHTS:
            lost = losses(field, length, height * noise_of(field), bare)
            for way in ("listed", "unlisted"):
                told = {
                    model: f"{100 * np.mean(lost[way, model]):+.2f} ± "
                    f"{100 * np.std(lost[way, model], ddof=1) / count**0.5:.2f}"
                    for model, _ in ways()
                }
                rows.append({"spectra": name, "height (σ)": f"{height:g}", "": way} | told)
    return rows


def fitted_level(
    planes: Planes, field: GrismField, options: WfssOptions, sky: np.ndarray | None = None
) -> np.ndarray:
    fit = fit_planes(planes, field.template, options, sky=sky)
    return scaled_background(field.template, None, None, fit).sci


def bare_levels(field: GrismField, number: int) -> dict[str, np.ndarray]:
    """What is subtracted where there are no spectra."""
    planes = field.expose(field.sky, number, 0)
    return {model: fitted_level(planes, field, options) for model, options in ways()}


def losses(
    field: GrismField, length: int, height: float, bare: list[dict[str, np.ndarray]]
) -> dict[tuple[str, str], list[float]]:
    """Part of the flux that is lost, by exposure: what is fitted with the spectra less without them.

    What both have in common, the noise, is thus not counted; what the standard fit is wrong by is
    neither.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for number, before in enumerate(bare):
        injected = Injected.draw(number, length, height, field.sky.shape)
        planes = field.expose(field.sky + injected.light, number, 0)
        flux = float(injected.light.sum(dtype=np.float64))
        for model, options in ways():
            for way, sky in (("listed", injected.outside), ("unlisted", None)):
                more = fitted_level(planes, field, options, sky) - before[model]
                eaten = float(more[injected.light > 0].sum(dtype=np.float64))
                found.setdefault((way, model), []).append(eaten / flux)
    return found


def flickering(scene: WfssScene) -> WfssScene:
    part = 0.4 * scene.detector.read_noise
    return replace(scene, detector=replace(scene.detector, flicker_noise=part))


RIGHT = {
    "deep": (DEEP, None),
    "short and faint": (SHORT_FAINT, None),
    "deep, 1/f noise of 0.4": (flickering(DEEP), None),
    "short and faint, 1/f noise of 0.4": (flickering(SHORT_FAINT), None),
    "deep, 5 % under spectra of 3σ": (DEEP, Spectra(0.05, exponential(3))),
}


def choice_rows(count: int) -> list[dict[str, str]]:
    """How often a right template is left alone."""
    rows = []
    for name, (scene, spectra) in RIGHT.items():
        field = draw_field(scene, SEED, scene.detector.part(WINDOW))
        chosen: Counter[str] = Counter()
        for number in range(count):
            light = field.sky
            if spectra is not None:
                rng = generator(SEED, STREAM, number)
                light = light + spectra.draw(rng, noise_of(field), light.shape)
            planes = field.expose(light, number, 0)
            fit = fit_planes(planes, field.template, WfssOptions(method="robust", model="auto"))
            chosen[fit.model.name if fit.model else "FAILED"] += 1
        others = ", ".join(f"{one} {times}" for one, times in chosen.items() if one != "template")
        rows.append(
            {"sky": name, "template alone": f"{chosen['template']} of {count}", "else": others}
        )
    return rows


def mixture_rows(scale: float) -> list[dict[str, str]]:
    """Two flight sky images, mixed 70 to 30 by their means, and what is fitted to them."""
    images = flight_images()
    if len(images) < 2:
        return []
    (first, one), (second, two) = list(images.items())[:2]
    one, two = one / np.nanmean(one), two / np.nanmean(two)
    setup = Setup(replace(NIRCAM_LONG, name="NRCALONG", module="A"), SHALLOW, NIRCAM_LONG.full)
    setup = replace(setup, detector=replace(COUNTED, name="NRCALONG", module="A"))
    light = np.nan_to_num((0.7 * one + 0.3 * two) * np.float32(scale))
    planes = expose(light, setup, draw_bad_pixels(setup.detector, SEED), SEED, 0, 0)
    sci = np.where((planes.dq & 1) == 0, planes.sci, np.float32(np.nan))
    names = f"{first} alone", f"{first} and {second}"
    rows = [mixture_row("", "nothing", sci, ""), mixture_row("", "the sky itself", sci - light, "")]
    for model, options in ways():
        rows.append(mixed(names[0], sci, planes, options, model, [one]))
    for model in ("templates", "+profile", "auto"):
        options = WfssOptions(method="robust", model=model)
        rows.append(mixed(names[1], sci, planes, options, model, [one, two]))
    return rows


def mixed(
    names: str,
    sci: np.ndarray,
    planes: Planes,
    options: WfssOptions,
    model: str,
    templates: list[np.ndarray],
) -> dict[str, str]:
    fit = fit_planes(planes, templates[0], options, *templates[1:])
    if not fit.scale:
        return {"templates": names, "subtracted": model, "came to": "FAILED"} | dict.fromkeys(
            ("level", "RMS along", "RMS across"), ""
        )
    taken = scaled_background(templates[0], None, None, fit, more_templates=templates[1:])
    pieces = f" of {fit.model.pieces}" if fit.model and fit.model.pieces else ""
    came_to = f"{fit.model.name}{pieces}" if fit.model else ""
    return mixture_row(names, model, sci - taken.sci, came_to)


def mixture_row(names: str, model: str, residual: np.ndarray, came_to: str) -> dict[str, str]:
    along, across = flatness(residual, 0), flatness(residual, 1)
    return {
        "templates": names,
        "subtracted": model,
        "came to": came_to,
        "level": f"{1e4 * along[0]:+.2f}",
        "RMS along": f"{1e4 * along[1]:.2f}",
        "RMS across": f"{1e4 * across[1]:.2f}",
    }


def main() -> None:
    global SEED
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", type=int, default=20, help="exposures of each kind of spectra")
    parser.add_argument("--choices", type=int, default=100, help="exposures of each right template")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=["losses", "choices", "mixture"])
    asked = parser.parse_args()
    SEED = asked.seed
    if "losses" in asked.only:
        rows = loss_rows(asked.losses)
        print(f"Flux lost (%), {asked.losses}\n\n{table(rows)}\n", flush=True)
    if "choices" in asked.only:
        print(f"Right templates\n\n{table(choice_rows(asked.choices))}\n", flush=True)
    if "mixture" in asked.only:
        rows = mixture_rows(0.3)
        print(f"Flight skies mixed, 0.0001 DN/s\n\n{table(rows)}\n" if rows else "", flush=True)


if __name__ == "__main__":
    main()
