"""How well a sky that drifts is followed: ``python -m benchmarks.soss_time``.

Prints Markdown tables; docs/soss_recovery.md explains them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.run import table
from webbkg.numerics.parallel import available_threads
from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import SossOptions
from webbkg.results import SossTime
from webbkg.simulate.detector import Readout
from webbkg.simulate.soss import (
    ORDER_1,
    SUBSTRIP96,
    SUBSTRIP256,
    SossScene,
    SossSeries,
    draw_field,
    draw_series,
    light_curve,
    make_library,
    sample_cube,
    sky_curve,
)
from webbkg.soss import timing
from webbkg.soss.fit import fit_templates, template_background
from webbkg.soss.library import cut_to_target
from webbkg.soss.rounds import Fit, make_frame
from webbkg.soss.stack import stack
from webbkg.soss.stream import Stream

SMOOTH = SossOptions(method="robust", time="smooth")
HOURS = 6.0
FEW, EXPOSURES = 64, 10  # integrations of a cheap exposure, and exposures of a field
SEEDS = (621, 622)
APERTURE = 18  # half width, pixels
DRIFTS: dict[str, dict[str, object]] = {
    "constant": {},
    "straight": {"sky_curve": (0.995, 1.005)},
    "bent": {"sky_curve": (0.995, 1.005, 0.998)},
    "left side alone": {"sky_curve": (0.995, 1.005), "sky_curve_right": (1.0, 1.0)},
}
"""What the sky is times in time: 1 % from the least to the most."""

CASES = (
    (44.0, 50, "straight"),
    (440.0, 50, "constant"),
    (440.0, 50, "straight"),
    (440.0, 50, "bent"),
    (440.0, 50, "left side alone"),
    (440.0, 15, "straight"),
    (1500.0, 50, "straight"),
    (4400.0, 50, "straight"),
)
"""Star (DN/s), groups, and drift."""


def scene_of(star: float, groups: int, **changes: object) -> SossScene:
    readout = Readout(pattern="NISRAPID", n_groups=groups)
    return replace(SossScene(), star=star, readout=readout, **changes)


def integrations_of(groups: int) -> int:
    """Integrations of SUBSTRIP256 in `HOURS`, with a frame for the reset."""
    return round(3600 * HOURS / (5.494 * (groups + 1)))


def drift_row(star: float, groups: int, drift: str) -> dict[str, str]:
    """Describe fits of a transit over a sky that drifts."""
    off, quoted, knots, slopes = [], [], [], []
    number = integrations_of(groups)
    for seed in SEEDS:
        field = draw_field(scene_of(star, groups, **DRIFTS[drift]), seed)
        series = draw_series(field, number)
        library = make_library(field.scene, seed)
        hours = np.linspace(0, HOURS, number)
        fit = fit_templates(*sample_cube(series), library, SMOOTH, hours=hours)
        assert fit.time is not None
        off.append(100 * np.abs(fit.time.scales - truth_of(series)).max())
        quoted.append(100 * fit.time.scale_errs.max())
        knots.append(told_knots(fit.time))
        slopes.append(left_in(series, library, fit))
    return {
        "star": f"{star:.0f}",
        "groups": str(groups),
        "integrations": str(number),
        "sky": drift,
        "knots": "; ".join(knots),
        "largest error (%)": ", ".join(f"{one:.4f}" for one in off),
        "quoted, at most (%)": ", ".join(f"{one:.4f}" for one in quoted),
        "light curve: constant (ppm)": ", ".join(f"{one[0]:.0f}" for one in slopes),
        "smooth (ppm)": ", ".join(f"{one[1]:.0f}" for one in slopes),
    }


def truth_of(series: SossSeries) -> np.ndarray:
    curve = sky_curve(series.shown.scene, series.n_integrations)
    return curve / curve.mean(axis=0)


def told_knots(time: SossTime) -> str:
    return f"{len(time.knots)}" + ("" if time.together else " a side")


def left_in(series: SossSeries, library: np.ndarray, fit) -> tuple[float, float]:
    """From least to most sky left in the aperture, over the star's light: constant and smooth."""
    field = series.shown
    row = np.arange(field.sky.shape[0])[:, np.newaxis]
    aperture = np.abs(row - ORDER_1.centre(np.arange(2048))) <= APERTURE
    aperture &= ~field.reference & ~field.bad.mask(aperture.shape)
    background = template_background(fit, library)
    every = slice(0, len(aperture))
    left = [
        [
            float((series.sky(number) - taken)[aperture].sum(dtype=float))
            for taken in (background.sci, background.sky(number, every))
        ]
        for number in range(0, series.n_integrations, 3)
    ]
    flux = float(field.star[aperture].sum(dtype=float))
    constant, smooth = 1e6 * np.ptp(left, axis=0) / flux
    return constant, smooth


def constant_row(name: str, scene: SossScene, strip, fields: range) -> dict[str, str]:
    """Count how often a constant sky is left constant, and how far the spline strays if not.

    A field is fitted once, on its first integrations; others then stand for as many exposures.
    """
    found = []
    for seed in fields:
        field = draw_field(scene, seed, strip)
        series, fit = draw_series(field, FEW * EXPOSURES), None
        # Each exposure has a transit of its own.
        series = replace(series, curve=np.tile(light_curve(scene, FEW), EXPOSURES))
        for number in range(EXPOSURES):
            sci, dq = sample_cube(series, number * FEW, (number + 1) * FEW)
            stream = Stream([ArrayPlanes.of(SCI=sci, DQ=dq)], available_threads())
            if fit is None:
                library = cut_to_target(make_library(scene, seed), stream.shape)
                fit = Fit(make_frame(stack(stream), library), stream.threads)
                fit.run()
            found.append(timing.follow(fit, stream, np.linspace(0, HOURS, FEW), "given"))
    stray = [100 * np.abs(one.scales - 1).max() for one in found if not one.is_constant]
    changes = np.array([one.change / one.change_err for one in found])
    return {
        "exposure": name,
        "integrations": str(FEW),
        "left constant": f"{sum(one.is_constant for one in found)} of {len(found)}",
        "largest change found (%)": f"{max(stray, default=0):.3f}",
        "straight line: scatter / quoted": f"{changes.std():.2f}",
        "scatter of neighbours / quoted": f"{np.median([one.noise for one in found]):.2f}",
    }


def constant_rows(fields: int) -> Iterator[dict[str, str]]:
    few = {"templates": 2, "template": 1}
    narrow = scene_of(44.0, 50, traces=(ORDER_1,), transit_depth=0.0, **few)
    wide = scene_of(440.0, 15, **few)
    for name, scene, strip, first in (
        ("SUBSTRIP96, 44 DN/s, order 1", narrow, SUBSTRIP96, 1300),
        ("SUBSTRIP256, 440 DN/s, transit", wide, SUBSTRIP256, 3300),
    ):
        number = fields if strip is SUBSTRIP96 else max(fields // 3, 1)
        yield constant_row(name, scene, strip, range(first, first + number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=6, help="of a constant sky")
    parser.add_argument("--constant", action="store_true", help="a constant sky alone")
    options = parser.parse_args()
    if not options.constant:
        print_drifts()
    print("## A constant sky\n", flush=True)
    print(table(list(constant_rows(options.fields))))


def print_drifts() -> None:
    print("## A drift of 1 % over six hours\n", flush=True)
    for index, case in enumerate(CASES):
        lines = table([drift_row(*case)]).splitlines()
        print("\n".join(lines if index == 0 else lines[2:]), flush=True)
    print()


if __name__ == "__main__":
    main()
