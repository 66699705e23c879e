"""How well the SOSS fit recovers known scales: ``python -m benchmarks.soss_recovery``.

Prints Markdown tables; docs/soss_recovery.md explains them. ``--figure docs/soss_bias.svg``
draws the errors too (needs Matplotlib). ``--robust`` compares the two methods, the robust one in
scenes that are not its own too; it takes much longer. ``--mismatch`` has skies that the library
does not hold, with one template and with a mixture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.run import table
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import SossOptions
from webbkg.results import TemplateFit
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    SossField,
    SossScene,
    SossSeries,
    draw_field,
    draw_series,
    make_library,
    sample_cube,
    split_series,
)
from webbkg.soss.fit import fit_segments, fit_templates, template_background

GROUPS = (2, 3, 6, 15, 50)  # the noise: groups of an integration
STARS = (0.0, 44.0, 440.0, 1500.0, 4400.0)  # DN/s at the peak of order 1
INTEGRATIONS = 2  # of a fit
SIDES = ("left", "right")
LEVELS = {"left": slice(600, 690), "right": slice(715, 800)}  # columns near the jump
APERTURE = 18  # half width, pixels
CURVE_SEEDS = (1, 2, 3, 4)
ROBUST = SossOptions(method="robust")
OTHER_SEEDS = (501, 502)
OTHER_WINGS: dict[str, dict[str, object]] = {
    "as in the grid": {},
    "another power law": {"wing_power": 1.7, "wing_width": 35.0},
    "exponential core and power law": {"wing_core": 0.06, "wing": 0.04},
    "wider and brighter to the red, by 40 %": {"wing_colour": 0.4},
    "on one side": {"wing_below": 0.0},
    "other ones for each order": {"wing_orders": (1.0, 2.0, 0.5)},
    "wide wings of zeroth orders": {"zeroth_wing": 0.03},
    "diffuse light over the frame": {"stray": 0.002},
}
"""Scenes that the robust method was not developed on."""
MISMATCH_SEEDS = (701, 702)
ALL, TWO = tuple(range(8)), (0, 7)
MISMATCHES: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "as in the library": ({}, ALL),
    "between two templates": ({"template": 3.5}, ALL),
    "between the first and the last, with these alone": ({"template": 3.5}, TWO),
    "rises along the rows by 3 %": ({"sky_gradient": 0.03}, ALL),
    "falls along the rows by 3 %": ({"sky_gradient": -0.03}, ALL),
    "bends along the rows by 2 %": ({"sky_bow": 0.02}, ALL),
    "rises along the columns by 3 %": ({"sky_slope": 0.03}, ALL),
    "falls along rows and columns by 3 %": ({"sky_gradient": -0.03, "sky_slope": -0.03}, ALL),
}
"""Skies, and the templates of the library that is fitted to them."""
MIDDLE_OF_WINDOW = -0.3186  # quantile 0.375 of a Gaussian, in sigma
QUIET = {"hot_fraction": 0.0, "dead_fraction": 0.0, "cosmic_ray_left": 0.0, "flicker_noise": 0.0}


@dataclass(frozen=True)
class Trial:
    """Fits of the same scene with other noise.

    Attributes
    ----------
    errors : (fits, 2) array
        Relative errors of the scales, left and right, with the true template alone.
    quoted : (fits, 2) array
        Their scale_err, in the same unit.
    used : (fits, 2) array
        Share of the side's samples that lie below the source threshold.
    chosen : (fits,) array
        The template that was chosen out of the library.
    levels : (fits, 2) array
        Median of true sky minus background near the jump, with the template chosen (DN/s).
    thresholds : (fits,) array
        Source threshold (DN/s).
    skipped : int
        Fits without an answer, not among the others.
    looks : int
        Robust fits that say that they should be looked at.
    """

    errors: np.ndarray
    quoted: np.ndarray
    used: np.ndarray
    chosen: np.ndarray
    levels: np.ndarray
    thresholds: np.ndarray
    skipped: int
    looks: int = 0

    @property
    def right_choices(self) -> int:
        return int(np.count_nonzero(self.chosen == SossScene().template))


def scene_of(star: float, groups: int, **changes: object) -> SossScene:
    readout = Readout(pattern="NISRAPID", n_groups=groups)
    return replace(SossScene(), star=star, readout=readout, transit_depth=0.0, **changes)


def sky_alone(groups: int) -> SossScene:
    scene = scene_of(0.0, groups, traces=(), zeroth_orders=0)
    return replace(scene, detector=replace(scene.detector, **QUIET))


def noise_of(field: SossField, side: str = "left") -> float:
    """Standard deviation of a sample of the sky near the jump, over that sky."""
    sky = field.sky[100:200, LEVELS[side]].mean()
    setup = field.setup
    variance = setup.read_variance + setup.slope_variance(setup.detector.flicker_noise)
    return float(np.sqrt(variance + setup.poisson_variance(sky)) / sky)


def run_trials(field: SossField, fits: int, options: SossOptions | None = None) -> Trial:
    """Fit pairs of integrations, each with noise of its own."""
    scene = field.scene
    library = make_library(scene, field.seed)
    series = draw_series(field, INTEGRATIONS * fits)
    truth = np.array([scene.scale_left, scene.scale_right])
    found = []
    for start in range(0, series.n_integrations, INTEGRATIONS):
        cube = sample_cube(series, start, start + INTEGRATIONS)
        one = fit_templates(*cube, library[scene.template], options)
        best = fit_templates(*cube, library, options)
        if one.left is None or one.right is None or best.template is None:
            continue
        sides = one.left, one.right
        found.append(
            (
                [side.scale for side in sides] / truth - 1,
                [side.scale_err for side in sides] / truth,
                np.array([side.n_sky for side in sides]) / _side_sizes(one, field),
                best.template,
                _levels(field, best, library),
                one.source_threshold,
            )
        )
    columns = [np.array(c) for c in zip(*found, strict=True)] if found else [np.empty((0, 2))] * 6
    return Trial(*columns, skipped=fits - len(found))


def run_robust(field: SossField, fits: int) -> Trial:
    """Fit pairs of integrations by the robust method; the errors are of the true template."""
    scene = field.scene
    library = make_library(scene, field.seed)
    series = draw_series(field, INTEGRATIONS * fits)
    truth = np.array([scene.scale_left, scene.scale_right])
    found, looks = [], 0
    for start in range(0, series.n_integrations, INTEGRATIONS):
        fit = fit_templates(*sample_cube(series, start, start + INTEGRATIONS), library, ROBUST)
        if fit.robust is None:
            continue
        looks += bool(fit.robust.look)
        found.append(
            (
                fit.robust.scales[scene.template] / truth - 1,
                fit.robust.scale_errs[scene.template] / truth,
                fit.robust.used,
                fit.template,
                _levels(field, fit, library),
                np.nan,
            )
        )
    columns = [np.array(c) for c in zip(*found, strict=True)] if found else [np.empty((0, 2))] * 6
    return Trial(*columns, skipped=fits - len(found), looks=looks)


def compare_row(field: SossField, old: Trial, new: Trial, fits: int) -> dict[str, str]:
    """Describe one brightness and noise with both methods."""
    spread = new.errors.std(axis=0, ddof=1) / new.quoted.mean(axis=0)
    return {
        "star": f"{field.scene.star:.0f}",
        "groups": str(field.scene.readout.n_groups),
        "noise / sky (%)": f"{100 * noise_of(field):.1f}",
        "percentile: left, right (%)": ", ".join(percent(one) for one in old.errors.T),
        "robust: left, right (%)": ", ".join(percent(one, 2) for one in new.errors.T),
        "scatter / quoted": ", ".join(f"{value:.1f}" for value in spread),
        "true template": f"{old.right_choices}, {new.right_choices} of {fits}",
        "jump left over (%)": ", ".join(_jump_left_over(field, one) for one in (old, new)),
        "look": f"{new.looks}",
    }


def _jump_left_over(field: SossField, trial: Trial) -> str:
    if len(trial.levels) == 0:
        return "–"
    return f"{100 * (trial.levels[:, 1] - trial.levels[:, 0]).mean() / _jump(field):+.1f}"


def other_rows(name: str, changes: dict[str, object]) -> Iterator[dict[str, str]]:
    """Describe robust fits of a scene whose wings are not those of the grid."""
    truth = np.array([SossScene().scale_left, SossScene().scale_right])
    for star, groups in ((440.0, 6), (1500.0, 15)):
        errors, quoted, templates, jumps, looks = [], [], [], [], 0
        for seed in OTHER_SEEDS:
            field = draw_field(scene_of(star, groups, **changes), seed)
            library = make_library(field.scene, seed)
            cube = sample_cube(draw_series(field, INTEGRATIONS))
            fit = fit_templates(*cube, library, ROBUST)
            sides = fit.left, fit.right
            errors.append([side.scale for side in sides] / truth - 1)
            quoted.append([side.scale_err for side in sides] / truth)
            templates.append(fit.template == field.scene.template)
            left, right = _levels(field, fit, library)
            jumps.append((right - left) / _jump(field))
            looks += bool(fit.robust.look)
        yield {
            "wings": name,
            "star": f"{star:.0f}",
            "groups": str(groups),
            "errors left, right (%)": "; ".join(
                ", ".join(f"{100 * value:+.2f}" for value in one) for one in errors
            ),
            "quoted (%)": "; ".join(
                ", ".join(f"{100 * value:.2f}" for value in one) for one in quoted
            ),
            "true template": f"{sum(templates)} of {len(OTHER_SEEDS)}",
            "jump left over (%)": ", ".join(f"{100 * jump:+.1f}" for jump in jumps),
            "look": str(looks),
        }


def mismatch_rows(name: str) -> Iterator[dict[str, str]]:
    """Describe robust fits with each model of a sky that the library may not hold."""
    changes, kept = MISMATCHES[name]
    for star, groups in ((440.0, 6), (1500.0, 15)):
        left: dict[str, list[np.ndarray]] = {"one": [], "mixture": [], "auto": []}
        jumps, quoted, mixtures, looks = [], [], 0, 0
        for seed in MISMATCH_SEEDS:
            field = draw_field(scene_of(star, groups, **changes), seed)
            library = make_library(field.scene, seed)[list(kept)]
            cube = sample_cube(draw_series(field, INTEGRATIONS))
            fit, other = fit_with_models(cube, library)
            for model, found in {
                fit.robust.model: fit,
                other.robust.model: other,
                "auto": fit,
            }.items():
                left[model].append(sky_left(field, template_background(found, library).sci))
            levels = _levels(field, fit, library)
            jumps.append((levels[1] - levels[0]) / _jump(field))
            quoted.append([side.scale_err / side.scale for side in (fit.left, fit.right)])
            mixtures += fit.robust.model == "mixture"
            looks += bool(fit.robust.look)
        yield {
            "sky": name,
            "star": f"{star:.0f}",
            "groups": str(groups),
            **{f"left in with {model} (%)": _two_each(found) for model, found in left.items()},
            "quoted with auto (%)": _two_each(quoted),
            "jump left over with auto (%)": ", ".join(f"{100 * jump:+.1f}" for jump in jumps),
            "mixtures": f"{mixtures} of {len(MISMATCH_SEEDS)}",
            "look": str(looks),
        }


def fit_with_models(
    cube: tuple[np.ndarray, np.ndarray], library: np.ndarray
) -> tuple[TemplateFit, TemplateFit]:
    """Fit with `auto`, and with the model that it did not take."""
    fit = fit_templates(*cube, library, SossOptions(method="robust", model="auto"))
    other = "mixture" if fit.robust.model == "one" else "one"
    return fit, fit_templates(*cube, library, SossOptions(method="robust", model=other))


def _two_each(values: Iterable[Iterable[float]]) -> str:
    return "; ".join(", ".join(f"{100 * value:.2f}" for value in one) for one in values)


def sky_left(field: SossField, background: np.ndarray) -> np.ndarray:
    """Root of the mean squared sky that is left in, over the sky, on both sides of the jump."""
    lit = ~field.reference
    lit[:, LEVELS["left"].stop : LEVELS["right"].start] = False
    right = np.arange(2048) >= LEVELS["right"].start
    off = np.where(lit, field.sky - background, 0.0) / np.where(lit, field.sky, 1.0)
    return np.sqrt([np.mean(off[lit & side] ** 2) for side in (~right, right)])


def print_mismatches() -> None:
    """Compare the models of the sky, row by row as they are found."""
    print("## Skies that the library does not hold\n", flush=True)
    first = True
    for name in MISMATCHES:
        for row in mismatch_rows(name):
            lines = table([row]).splitlines()
            print("\n".join(lines if first else lines[2:]), flush=True)
            first = False
    print(f"\nThe library holds the sky, and auto takes a mixture: {count_mixtures()}", flush=True)


def count_mixtures() -> str:
    """Count mixtures over the grid, where one template is right."""
    mixtures = 0
    for star in STARS:
        for groups in GROUPS:
            field = draw_field(scene_of(star, groups), MISMATCH_SEEDS[0])
            cube = sample_cube(draw_series(field, INTEGRATIONS))
            library = make_library(field.scene, field.seed)
            fit = fit_templates(*cube, library, SossOptions(method="robust", model="auto"))
            mixtures += fit.robust.model == "mixture"
    return f"{mixtures} of {len(STARS) * len(GROUPS)}"


def depth_rows() -> Iterator[dict[str, str]]:
    """Tell by how much each method changes the depth of a transit of 2 % (6 groups)."""
    for star in (440.0, 1500.0):
        scene = replace(scene_of(star, 6), transit_depth=0.02)
        found: dict[str, list[float]] = {"percentile": [], "robust": []}
        for seed in CURVE_SEEDS[:3]:
            series = draw_series(draw_field(scene, seed), 24)
            aperture, library = _aperture(series.shown), make_library(scene, seed)
            cube = sample_cube(series)
            flux, sky = (
                float(image[aperture].sum(dtype=float))
                for image in (series.shown.star, series.shown.sky)
            )
            for method, changes in found.items():
                fit = fit_templates(*cube, library, SossOptions(method=method))
                taken = _sky_in(aperture, fit, library)
                changes.append(1e6 * scene.transit_depth * (flux / (flux + sky - taken) - 1))
        told = {name: ", ".join(f"{one:+.1f}" for one in each) for name, each in found.items()}
        yield {"star": f"{star:.0f}", "change of depth (ppm) by": "", **told}


def print_comparison(fits: int) -> None:
    """Compare the two methods, row by row as they are found."""
    print("## Both methods\n", flush=True)
    first = True
    for groups in GROUPS:
        for star in STARS:
            field = draw_field(scene_of(star, groups))
            row = compare_row(field, run_trials(field, fits), run_robust(field, fits), fits)
            lines = table([row]).splitlines()
            print("\n".join(lines if first else lines[2:]), flush=True)
            first = False
    print("\n## Depth of a transit\n", flush=True)
    print(table(list(depth_rows())))
    print("\n## Other wings\n", flush=True)
    rows = [row for name, changes in OTHER_WINGS.items() for row in other_rows(name, changes)]
    print(table(rows))


def _side_sizes(fit: TemplateFit, field: SossField) -> np.ndarray:
    columns = np.arange(951)
    right = columns >= fit.jump[:, np.newaxis]
    lit = ~field.reference[:, :951]
    lit[field.bad.rows[field.bad.columns < 951], field.bad.columns[field.bad.columns < 951]] = False
    return INTEGRATIONS * np.array([np.count_nonzero(lit & ~right), np.count_nonzero(lit & right)])


def _levels(field: SossField, fit: TemplateFit, library: np.ndarray) -> list[float]:
    left_over = field.sky - template_background(fit, library).sci
    rows = ~field.reference[:, 1000]
    return [float(np.median(left_over[rows, LEVELS[side]])) for side in SIDES]


def percent(values: np.ndarray, digits: int = 1) -> str:
    """Show the mean, and how far single values are from it."""
    if len(values) == 0:
        return "–"
    scatter = f" ± {100 * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * values.mean():+.{digits}f}{scatter}"


def cause_rows(groups: int, fits: int) -> list[dict[str, str]]:
    """Add the causes of the error one at a time."""
    bare = draw_field(sky_alone(groups))
    full = draw_field(scene_of(440.0, groups))
    everything = SossOptions(source_percentile=100.0)
    cases: Iterable[tuple[str, SossField, SossOptions]] = [
        (
            "sky alone; no source cut; ratios between 25 and 75 %",
            bare,
            SossOptions(source_percentile=100.0, bkg_percentile=(25.0, 75.0)),
        ),
        ("the same, ratios between 25 and 50 %", bare, everything),
        ("sky alone; source cut at 35 %", bare, SossOptions()),
        ("star, zeroth orders and defects; no source cut", full, everything),
        ("the same, source cut at 60 %", full, SossOptions(source_percentile=60.0)),
        ("the same, source cut at 35 %: the defaults", full, SossOptions()),
    ]
    rows = []
    for name, field, options in cases:
        trial = run_trials(field, fits, options)
        rows.append(
            {
                "what": name,
                "left (%)": percent(trial.errors[:, 0], 2),
                "right (%)": percent(trial.errors[:, 1], 2),
                "samples left, right (%)": _used(trial),
            }
        )
    return rows


def _used(trial: Trial) -> str:
    if len(trial.used) == 0:
        return "–"
    return ", ".join(f"{100 * share:.3g}" for share in trial.used.mean(axis=0))


def window_rows(fits: int) -> list[dict[str, str]]:
    """Compare the bias of the percentile window alone with the expected one."""
    rows = []
    for groups in GROUPS:
        field = draw_field(sky_alone(groups))
        noise = [noise_of(field, side) for side in SIDES]
        trial = run_trials(field, fits, SossOptions(source_percentile=100.0))
        row = {
            "groups": str(groups),
            "noise / sky left, right (%)": ", ".join(f"{100 * value:.1f}" for value in noise),
        }
        for index, side in enumerate(SIDES):
            row[f"expected {side} (%)"] = f"{100 * MIDDLE_OF_WINDOW * noise[index]:+.2f}"
            row[f"{side} (%)"] = percent(trial.errors[:, index], 2)
        rows.append(row)
    return rows


def run_grid(fits: int) -> dict[tuple[float, int], tuple[SossField, Trial]]:
    """Fit every brightness with every noise, with the default options."""
    found = {}
    for star in STARS:
        for groups in GROUPS:
            field = draw_field(scene_of(star, groups))
            found[star, groups] = field, run_trials(field, fits)
    return found


def grid_row(star: float, groups: int, field: SossField, trial: Trial, fits: int) -> dict[str, str]:
    """Describe one brightness and noise."""
    jump = _jump(field)
    answered = len(trial.chosen) > 0
    excess = trial.errors.std(axis=0, ddof=1) / trial.quoted.mean(axis=0) if answered else []
    left_over = (trial.levels[:, 1] - trial.levels[:, 0]).mean() if answered else np.nan
    return {
        "star": f"{star:.0f}",
        "groups": str(groups),
        "noise / sky (%)": f"{100 * noise_of(field):.1f}",
        "threshold": f"{trial.thresholds.mean():.2f}" if answered else "–",
        "used left, right (%)": _used(trial),
        "left (%)": percent(trial.errors[:, 0]),
        "right (%)": percent(trial.errors[:, 1]),
        "scatter / quoted": ", ".join(f"{value:.1f}" for value in excess) or "–",
        "true template": f"{trial.right_choices} of {fits}",
        "skipped": str(trial.skipped),
        "residual left, right (DN/s)": (
            ", ".join(f"{value:+.2f}" for value in trial.levels.mean(axis=0)) if answered else "–"
        ),
        "jump left over (%)": f"{100 * left_over / jump:+.0f}" if answered else "–",
    }


def _jump(field: SossField) -> float:
    rows = ~field.reference[:, 1000]
    left, right = (float(np.median(field.sky[rows, LEVELS[side]])) for side in SIDES)
    return right - left


def curve_row(star: float, groups: int, segments: int, length: int) -> dict[str, str]:
    """Compare the white light curve with segments fitted together and one by one.

    The background adds to the light curve, so its part is known without the noise.
    """
    scene = replace(scene_of(star, groups), transit_depth=0.02)
    steps, left_in, depth, noise = [], [], [], []
    for seed in CURVE_SEEDS:
        series = draw_series(draw_field(scene, seed), segments * length)
        aperture = _aperture(series.shown)
        flux, sky = (
            float(image[aperture].sum(dtype=float))
            for image in (series.shown.star, series.shown.sky)
        )
        together, apart, light = _fit_both_ways(series, segments, aperture)
        steps.append(1e6 * np.diff(apart) / flux)
        left_in.append(1e6 * (sky - together) / flux)
        depth.append(1e6 * scene.transit_depth * (flux / (flux + sky - together) - 1))
        noise.append(1e6 * light[series.curve == 1].std(ddof=1) / flux)
    return {
        "star": f"{star:.0f}",
        "groups": str(groups),
        "sky / star (ppm)": f"{1e6 * sky / flux:.0f}",
        "steps of the first, one by one (ppm)": ", ".join(f"{step:+.0f}" for step in steps[0]),
        "RMS of all": f"{np.sqrt(np.mean(np.square(steps))):.0f}",
        "largest": f"{np.abs(steps).max():.0f}",
        "sky left in, together (ppm)": f"{np.mean(left_in):+.0f}",
        "change of depth, together (ppm)": f"{np.mean(depth):+.1f}",
        "noise of a point (ppm)": f"{np.mean(noise):.0f}",
    }


def _fit_both_ways(
    series: SossSeries, segments: int, aperture: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Sky that is taken off the aperture with all segments together, and with each alone.

    The third is the light in the aperture, integration by integration.
    """
    library = make_library(series.shown.scene, series.shown.seed)
    parts = split_series(series, segments)
    cubes = [
        ArrayPlanes.of(SCI=sci, DQ=dq)
        for sci, dq in (sample_cube(series, part.start, part.stop) for part in parts)
    ]
    light = [cube.planes["SCI"][:, aperture].sum(axis=1, dtype=float) for cube in cubes]
    apart = [_sky_in(aperture, fit_segments([cube], library), library) for cube in cubes]
    together = _sky_in(aperture, fit_segments(cubes, library), library)
    return together, np.array(apart), np.concatenate(light)


def _aperture(field: SossField) -> np.ndarray:
    """Pixels around order 1, without bad and reference ones."""
    row = np.arange(256)[:, np.newaxis]
    near = np.abs(row - ORDER_1.centre(np.arange(2048))) <= APERTURE
    return near & ~field.reference & ~field.bad.mask(near.shape)


def _sky_in(aperture: np.ndarray, fit: TemplateFit, library: np.ndarray) -> float:
    if fit.template is None:
        return np.nan
    return float(template_background(fit, library).sci[aperture].sum(dtype=float))


def draw_figure(path: Path, grid: dict[tuple[float, int], tuple[SossField, Trial]]) -> None:
    """Draw the errors of the scales over the noise, a panel for each side."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "webbkg"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for side, (name, axis) in enumerate(zip(SIDES, axes, strict=True)):
        for star in STARS:
            points = [
                (100 * noise_of(grid[star, g][0], name), 100 * grid[star, g][1].errors[:, side])
                for g in GROUPS
                if len(grid[star, g][1].errors) > 1
            ]
            if points:
                x = [noise for noise, _ in points]
                mean, scatter = ([f(e) for _, e in points] for f in (np.mean, np.std))
                axis.errorbar(x, mean, scatter, marker="o", capsize=3, label=f"{star:.0f}")
        x = np.geomspace(1.5, 50, 50)
        axis.plot(x, MIDDLE_OF_WINDOW * x, "k:", label="percentile window alone")
        axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axis.set(xscale="log", xlabel="noise / sky of that side (%)", title=f"scale_{name}")
        axis.set_xticks([2, 5, 10, 20, 40], [2, 5, 10, 20, 40])
        axis.minorticks_off()
    axes[0].set_ylabel("error of the scale (%)")
    axes[1].legend(title="star, peak (DN/s)", fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=10, help="realisations of the noise")
    parser.add_argument("--figure", type=Path, help="where to draw the errors")
    parser.add_argument("--robust", action="store_true", help="compare the two methods")
    parser.add_argument("--mismatch", action="store_true", help="skies of no library")
    options = parser.parse_args()
    fits = options.fits
    if options.robust:
        print_comparison(fits)
        return
    if options.mismatch:
        print_mismatches()
        return
    print("## The percentile window alone\n")
    print(table(window_rows(fits)))
    print("\n## Causes, one at a time (6 groups)\n")
    print(table(cause_rows(6, fits)))
    print("\n## The default options\n")
    grid = run_grid(fits)
    print(table([grid_row(*key, *value, fits) for key, value in grid.items()]))
    print("\n## White light curve, 4 segments of 6 integrations\n")
    print(table([curve_row(star, 6, 4, 6) for star in STARS[2:]]))
    if options.figure:
        draw_figure(options.figure, grid)


if __name__ == "__main__":
    main()
