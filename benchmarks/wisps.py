"""Wisps under a field of stars and galaxies, and what is left of them: ``python -m benchmarks.wisps``.

Prints Markdown tables; docs/templates.md explains them. The method was made with seeds below 200;
those that are reported are from 200 on. The second table is of flat fields that err: grism skies and
wisps, with the error stated or not.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.run import table
from webbkg import WfssOptions, fit_scale
from webbkg.options import TemplateOptions
from webbkg.simulate import sources
from webbkg.simulate.detector import Stream, generator
from webbkg.simulate.imaging import ImagingField, ImagingScene
from webbkg.template.fit import scale_templates
from webbkg.wfss.flat import flat_response, with_flat_error

FLAT_SKY = ImagingScene(sky_slope=(0.0, 0.0), sky_bow=0.0)
GENTLE = ImagingScene(sky_slope=(0.01, -0.006), sky_bow=0.0)
STEEP = ImagingScene()
CROWD = sources.Population(stars=1500, galaxies=2500, faintest=0.1)
SCENES = {
    "even": FLAT_SKY,
    "slope of 1 %": GENTLE,
    "slope of 1 %, crowded": replace(GENTLE, population=CROWD),
    "slopes of 10 and 6 %, curved by 4 %": STEEP,
}
SKIES = ("level", "curved")
FILAMENTS = (
    # Row at the middle, slope, bend, width (pixels), middle and length (pixels), brightness
    (1000, 0.25, 1.5e-4, 70, 900, 420, 1.0),
    (760, -0.10, 2.0e-4, 35, 1100, 300, 0.6),
    (1350, 0.45, -1e-4, 110, 1250, 260, 0.35),
)
BENDS = (2e-5, 6e-5)
"""By how much more a wisp bends than the template."""

UNDER = 0.3
"""A galaxy is under the wisp where that has this share of its peak."""

APERTURE = 1.0
"""Half-light radii of the aperture in which a galaxy is measured."""

BRIGHT = 10.0
"""Galaxies are measured from so much total light on (DN/s)."""


def wisp(shape=(2048, 2048), shift=0.0):
    """Draw a wisp of three filaments, at most about 1; `shift` bends them another way."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = np.zeros(shape, np.float32)
    for row, slope, bend, width, middle, length, light in FILAMENTS:
        away = columns - middle
        ridge = row + slope * away + (bend + shift) * away**2
        image += light * np.exp(-(((rows - ridge) / width) ** 2) - (away / length) ** 2)
    return image


@dataclass(frozen=True, kw_only=True)
class WispyField(ImagingField):
    """A field with scattered light over its sky."""

    light: np.ndarray

    @cached_property
    def sky(self):
        plain = ImagingField(scene=self.scene, seed=self.seed, setup=self.setup, number=self.number)
        return plain.sky + self.light * self.lit


def observe(scene, seed, light):
    """Simulate a full frame; returns the field and its planes."""
    field = WispyField(scene=scene, seed=seed, setup=scene.set_up(), number=0, light=light)
    return field, field.measure(0, 0)


@dataclass(frozen=True)
class Found:
    """One fit: scale over truth less 1, its error likewise, what galaxies lose, and what was left out."""

    off: float
    quoted: float
    lost: np.ndarray
    sources: float


def fit(planes, template, options):
    """Scale a template, or several, to simulated planes."""
    stack = template if template.ndim == 3 else template[np.newaxis]
    given = planes.sci, planes.dq, stack, planes.var_rnoise, planes.var_poisson
    return scale_templates(*given, options).fit


def measure(scene, seed, amplitude, true, template, skies=SKIES):
    """Fit one exposure with each of the even skies: a list of `Found`."""
    light = np.float32(amplitude) * true
    field, planes = observe(scene, seed, light)
    found = []
    for sky in skies:
        done = fit(planes, template, TemplateOptions(template_sky=sky))
        scale = done.scales[0]
        lost = losses(field, planes.err, scale.scale * template - light)
        quoted = scale.scale_err / amplitude
        found.append(Found(scale.scale / amplitude - 1, quoted, lost, done.sources))
    return found


def losses(field, err, left):
    """Tell what each galaxy under the wisp loses: share of its light, and in its own noise."""
    scene = field.scene
    full, rng = scene.detector.full.window, generator(field.seed, Stream.CATALOGUE)
    drawn = sources.draw_catalogue(scene.population, full, scene.dither, rng)
    shares = []
    for one in drawn.sources(scene.population):
        inside = 100 < one.x < full.columns - 100 and 100 < one.y < full.rows - 100
        if one.radius == 0 or one.flux < BRIGHT or not inside:
            continue
        row, column = round(one.y), round(one.x)
        if field.light[row, column] < UNDER * field.light.max():
            continue
        size = int(np.ceil(APERTURE * one.radius))
        part = slice(row - size, row + size + 1), slice(column - size, column + size + 1)
        dy, dx = np.mgrid[part] - np.array([one.y, one.x])[:, np.newaxis, np.newaxis]
        aperture = np.hypot(dy, dx) <= APERTURE * one.radius
        taken = left[part][aperture].sum()
        noise = np.sqrt(np.nansum(err[part][aperture] ** 2))
        shares.append((taken / one.profile(dx, dy)[aperture].sum(), taken / noise))
    return np.abs(shares).reshape(-1, 2)


def told(name, amplitude, sky, found):
    """Lay the fits of a case out as a row."""
    off, quoted = (np.array([getattr(one, part) for one in found]) for part in ("off", "quoted"))
    shares, noises = np.concatenate([one.lost for one in found]).T
    worst = f"{100 * np.median(shares):.2f}, {100 * shares.max():.2f} of {len(shares)}"
    return {
        "sky": name,
        "wisp, peak (DN/s)": amplitude,
        "`template_sky`": sky,
        "mean error (%)": f"{100 * off.mean():+.2f}",
        "scatter (%)": f"{100 * off.std(ddof=1):.2f}",
        "quoted (%)": f"{100 * quoted.mean():.2f}",
        "galaxies are off by, median and worst (%)": worst,
        "the same, worst in its own noise": f"{noises.max():.2f}",
        "left out (%)": f"{100 * np.mean([one.sources for one in found]):.0f}",
    }


def study(seeds, amplitudes=(0.03, 0.1)):
    """Measure every scene, and those that the template suits less well."""
    template, rows = wisp(), []
    for name, scene in SCENES.items():
        for amplitude in amplitudes:
            found = [measure(scene, seed, amplitude, template, template) for seed in seeds]
            rows += [
                told(name, amplitude, sky, of_sky)
                for sky, of_sky in zip(SKIES, zip(*found, strict=True), strict=True)
            ]
    for bend in BENDS:
        given = GENTLE, 0.1, wisp(shift=bend), template
        found = [measure(given[0], seed, *given[1:], skies=SKIES[-1:])[0] for seed in seeds]
        name = f"slope of 1 %; the wisp lies up to {bend * 420**2:.0f} pixels beside the template"
        rows.append(told(name, 0.1, SKIES[-1], found))
    return table(rows)


# Flat fields that err.


def uneven(rng, size, length):
    """Draw errors of unit standard deviation, whose correlation falls to 1/e at a length (pixels)."""
    whole = size + 4 * length
    along_y, along_x = np.fft.fftfreq(whole)[:, np.newaxis], np.fft.rfftfreq(whole)
    width = length / 2
    spectrum = np.fft.rfft2(rng.standard_normal((whole, whole)))
    spectrum *= np.exp(-2 * (np.pi * width) ** 2 * (along_y**2 + along_x**2))
    return np.fft.irfft2(spectrum, s=(whole, whole))[:size, :size] * 2 * np.sqrt(np.pi) * width


def study_flats(number, error=0.01, size=512, lengths=(64, 128, 256)):
    """Compare what is quoted with the scatter, with the flat's error stated and not."""
    rows = []
    for length in lengths:
        found = [_with_flat(seed, error, size, length) for seed in range(number)]
        for what in ("grism, standard", "grism, robust", "wisp"):
            off, plain, stated = np.transpose([one[what] for one in found])
            scatter = off.std(ddof=1)
            rows.append(
                {
                    "what": what,
                    "1/e length (pixels)": length,
                    "scatter (%)": f"{100 * scatter:.2f}",
                    "quoted / scatter": f"{plain.mean() / scatter:.2f}",
                    "stated, quoted / scatter": f"**{stated.mean() / scatter:.2f}**",
                }
            )
    return table(rows)


def _with_flat(seed, error, size, length):
    rng = np.random.default_rng([7, seed, length])
    flat = 1 + error * uneven(rng, size, length)
    rows, columns = np.mgrid[:size, :size]
    sky = (0.4 * (1 + 0.3 * np.sin(columns / 150) + 0.2 * (rows / size) ** 2)).astype(np.float32)
    noise = 0.02 * rng.standard_normal(sky.shape)
    err, no_flags = np.full(sky.shape, 0.02, np.float32), np.zeros(sky.shape, np.uint32)
    planes = (sky * flat + noise).astype(np.float32), err, no_flags
    response = error * flat_response(*planes, sky, None, np.ones(sky.shape, bool), length)
    found = {}
    for method in ("standard", "robust"):
        scale = fit_scale(*planes, sky, options=WfssOptions(method=method), dispersion_axis=1)
        stated = with_flat_error(scale, response).scale_err
        found[f"grism, {method}"] = scale.scale - 1, scale.scale_err, stated
    template = np.ascontiguousarray(wisp()[700 : 700 + size, 650 : 650 + size])
    sci = ((0.3 + 0.1 * template) * flat + noise).astype(np.float32)
    options = TemplateOptions(flat_error=error, flat_length=length)
    scale = scale_templates(sci, None, template[np.newaxis], err**2, options=options).fit.scales[0]
    plain = np.sqrt(scale.scale_err**2 - scale.flat_err**2)
    found["wisp"] = scale.scale / 0.1 - 1, plain / 0.1, scale.scale_err / 0.1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--flats", type=int, default=120)
    options = parser.parse_args()
    if options.seeds:
        print(study(range(options.first, options.first + options.seeds)), "\n")
    if options.flats:
        print(study_flats(options.flats))


if __name__ == "__main__":
    main()
