"""What masks leave of nodded sources: ``python -m benchmarks.nods``.

Prints Markdown tables; docs/masking.md explains them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.run import table
from webbkg.files.exposures import DetectorWindow
from webbkg.image.average import average_exposures
from webbkg.image.prepare import prepare
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed
from webbkg.options import ImageOptions
from webbkg.simulate.detector import Setup, draw_bad_pixels, expose
from webbkg.simulate.imaging import MIRI_SCENE, ImagingScene, sky_on
from webbkg.simulate.sources import Source

SIZE = 512
SPACING = 128
"""Pixels from one source to the next: far enough apart that each is a case of its own."""

POINT, EXTENDED = "point", "extended"
OFF, ON = ImageOptions(sigma=np.inf), ImageOptions(sigma=np.inf, mask_sources=True)
"""Without clipping, which rejects nothing in so few exposures anyway."""

PATTERNS = {
    "line, target at its end": [(1, 0), (2, 0), (3, 0), (4, 0)],
    "line, target in its middle": [(-2, 0), (-1, 0), (1, 0), (2, 0)],
    "cross": [(1, 0), (0, 1), (-1, 0), (0, -1)],
    "one step, back and forth": [(1, 0), (1, 0), (1, 0), (1, 0)],
    "ring of 12": [(np.cos(2 * np.pi * k / 12), np.sin(2 * np.pi * k / 12)) for k in range(12)],
}
"""Where the source lies in the backgrounds, in steps from where the target has it."""


@dataclass(frozen=True)
class Case:
    """A kind of source and how bright it is."""

    scene: ImagingScene
    kind: str
    signal: float  #: rate at the peak, in standard deviations of a pixel of sky

    @property
    def fwhm(self) -> float:
        """Full width at half maximum (pixels): of the point-spread function, or ten times that."""
        return self.scene.population.fwhm * (10 if self.kind == EXTENDED else 1)


def setup_of(scene: ImagingScene) -> Setup:
    full = scene.detector.full.window
    corner = (full.columns - SIZE) // 2, (full.rows - SIZE) // 2
    return scene.set_up(scene.detector.part(DetectorWindow(*corner, SIZE, SIZE)))


def noise_of(scene: ImagingScene, setup: Setup) -> float:
    return float(np.sqrt(setup.poisson_variance(scene.sky_level) + setup.read_variance))


def draw_sources(case: Case, peak: float, shift: tuple[float, float], phases) -> np.ndarray:
    """Draw a grid of equal sources, each at a place of its own within a pixel."""
    image = np.zeros((SIZE, SIZE))
    unit = Source(case.scene.population, 0, 0, 1.0, 0.0, 1.0, 0.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    for cx, cy in phases:
        dx, dy = x - cx - shift[0], y - cy - shift[1]
        if case.kind == POINT:
            image += peak * unit.profile(dx, dy) / unit.profile(np.float64(0), np.float64(0))
        else:
            image += peak * np.exp(-4 * np.log(2) * (dx**2 + dy**2) / case.fwhm**2)
    return image.astype(np.float32)


def centres(rng) -> np.ndarray:
    grid = np.arange(SPACING // 2, SIZE, SPACING)
    places = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    return places + rng.uniform(-0.5, 0.5, places.shape)


def placed(planes: Sequence[np.ndarray]) -> Placed:
    sci, err, dq = planes
    return Placed(ArrayPlanes.of(SCI=sci, ERR=err, DQ=dq), Overlap.whole(sci.shape))


def trial(case: Case, steps, step: float, seed: int, phases) -> tuple[np.ndarray, np.ndarray]:
    """Give the share of each source that is lost, with masks and without; and what is unknown."""
    scene = case.scene
    setup = setup_of(scene)
    sky = sky_on(scene, setup.window)
    bad = draw_bad_pixels(scene.detector, seed).on(setup.window)
    peak = case.signal * noise_of(scene, setup)
    lights = [
        draw_sources(case, peak, (step * case.fwhm * x, step * case.fwhm * y), phases)
        for x, y in steps
    ]
    noisy = []
    for number, light in enumerate(lights):
        seen = expose(sky + light, setup, bad, seed, number + 1, 0)
        noisy.append(placed((seen.sci, seen.err, seen.dq)))
    zero, none = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.uint32)
    prepared = prepare(noisy, (SIZE, SIZE), ON)
    # The masks of the noisy exposures, on the light of the sources alone: no noise in the loss.
    pure = [placed((light, zero, none)) for light in lights]
    masked = [
        replace(one, planes=replace(of_noisy.planes, planes=one.planes))
        for one, of_noisy in zip(pure, prepared.sources, strict=True)
    ]
    target = draw_sources(case, peak, (0, 0), phases)
    y, x = np.mgrid[:SIZE, :SIZE]
    rows = []
    plain = average_exposures(pure, (SIZE, SIZE), OFF, threads=1)
    clean = average_exposures(masked, (SIZE, SIZE), OFF, threads=1)
    for cx, cy in phases:
        inside = np.hypot(x - cx, y - cy) <= case.fwhm
        flux = target[inside].sum()
        known = inside & np.isfinite(clean.sci)
        lost = clean.sci[known].sum() / target[known].sum() if known.any() else np.nan
        unknown = target[inside & ~known].sum() / flux
        rows.append((plain.sci[inside].sum() / flux, lost, unknown))
    return np.array(rows), np.array(prepared.masked)


def losses(case: Case, steps, step: float, seeds: Sequence[int]) -> dict[str, str]:
    found, shares = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows, masked = trial(case, steps, step, seed, centres(rng))
        found.append(rows)
        shares.append(masked)
    plain, lost, unknown = 100 * np.concatenate(found).T
    return {
        "plain (%)": f"{plain.mean():.2f}",
        "masked (%)": f"{np.nanmean(lost):.3f}",
        "worst (%)": f"{np.nanmax(lost):.2f}",
        "unknown (% of the light)": f"{unknown.mean():.1f}",
        "left out (%)": f"{100 * np.mean(shares):.1f}",
    }


NIRCAM = "NIRCam", ImagingScene()
MIRI = "MIRI", MIRI_SCENE
CASES = {
    POINT: ((2, 3), [(*NIRCAM, 1000), (*NIRCAM, 50), (*NIRCAM, 10), (*NIRCAM, 5), (*MIRI, 50)]),
    EXTENDED: ((1, 2), [(*NIRCAM, 100), (*NIRCAM, 10), (*NIRCAM, 3), (*MIRI, 10)]),
}
"""Steps in FWHM; scenes and peaks in standard deviations of a pixel of sky."""


def nod_rows(kind: str, seeds: Sequence[int]) -> Iterator[dict[str, str]]:
    steps, scenes = CASES[kind]
    for (name, scene, signal), pattern, step in itertools.product(scenes, PATTERNS, steps):
        yield {
            "scene": name,
            "peak (σ)": str(signal),
            "pattern": pattern,
            "step (FWHM)": f"{step:g}",
            **losses(Case(scene, kind, signal), PATTERNS[pattern], step, seeds),
        }


def draw_figure(path: Path, seeds: Sequence[int]) -> None:
    """Draw what is lost of a point source over the step of its nods, with masks and without."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "webbkg"
    from matplotlib import pyplot as plt

    steps = (1, 1.5, 2, 2.5, 3, 4, 5)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for colour, pattern in (("C0", "line, target in its middle"), ("C1", "cross")):
        rows = [losses(Case(ImagingScene(), POINT, 50), PATTERNS[pattern], s, seeds) for s in steps]
        for column, style in (("plain (%)", "--"), ("masked (%)", "-")):
            values = [max(float(row[column]), 1e-3) for row in rows]
            label = f"{pattern}, {column.split()[0]}"
            axes.semilogy(steps, values, style, color=colour, marker="o", ms=3, label=label)
    axes.axhline(0.5, color="0.6", lw=0.8)
    axes.set(xlabel="step of the nods (FWHM)", ylabel="flux lost (%)", ylim=(1e-3, 60))
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--realisations", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="draw this file (.svg) instead")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.realisations)
    if options.figure:
        draw_figure(options.figure, seeds)
        return
    for kind in CASES:
        print(f"## {kind}\n\n{table(list(nod_rows(kind, seeds)))}\n", flush=True)


if __name__ == "__main__":
    main()
