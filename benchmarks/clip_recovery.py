"""What two ways of clipping leave of cosmic rays: ``python -m benchmarks.clip_recovery``.

Prints Markdown tables; docs/clipping.md explains them. The flight exposures are looked for in
WEBBKG_REAL_DATA, or ../shared/data beside the checkout; without them that part is left out. The
method was made with seeds below 200; those that are reported are others.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.run import table
from webbkg import ImageOptions, average_background
from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.detector import (
    NIRISS,
    Readout,
    Setup,
    draw_bad_pixels,
    expose,
)
from webbkg.simulate.imaging import MIRI_SCENE, ImagingScene, sky_on

WINDOW = DetectorWindow(256, 300, 512, 384)
SAMPLES = (2, 3, 4, 5, 6, 8, 10, 12)
HIGH = 20.0
"""An outlier is a sample that a cosmic ray puts this many standard deviations or more high."""

NIRCAM = ImagingScene()
SCENES = {
    "NIRCam, 0.3 DN/s": NIRCAM,
    "NIRISS, 0.2 DN/s": ImagingScene(
        detector=NIRISS,
        readout=Readout(pattern="NIS", n_groups=8, n_frames=4),
        exposure_type="NIS_IMAGE",
        sky_level=0.2,
    ),
    "MIRI, 15 DN/s": MIRI_SCENE,
}
HARDER = {
    "a tenth of the sky": replace(NIRCAM, sky_level=0.03),
    "levels that scatter by 20 %": replace(NIRCAM, sky_drift=0.2),
    "MIRI, levels that scatter by 20 %": replace(MIRI_SCENE, sky_drift=0.2),
}
UNEVEN = 0.02
"""Standard deviation of the response of pixels, as the images are before they are flat-fielded."""


@dataclass
class Stack:
    """Simulated exposures of one sky, and the truth; (samples, rows, columns)."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    rays: np.ndarray
    truth: np.ndarray
    noise: np.ndarray  #: the true standard deviation of a sample

    def first(self, samples):
        return Stack(*(plane[:samples] for plane in vars(self).values()))


def simulate(scene, seed, samples, uneven=0.0):
    """Expose one sky so many times; it drifts as the scene says, behind pixels that are uneven."""
    rng = np.random.default_rng(seed)
    detector = scene.detector
    setup = Setup(detector, scene.readout, detector.part(WINDOW))
    bad = draw_bad_pixels(detector, seed).on(WINDOW)
    response = rng.normal(1, uneven, WINDOW.shape)
    light, planes = [], []
    for index in range(samples):
        drift = 1 + scene.sky_drift * rng.standard_normal()
        light.append((sky_on(scene, WINDOW) * drift * response).astype(np.float32))
        planes.append(expose(light[-1], setup, bad, seed, index, 0))
    truth = np.stack(light)
    return Stack(
        *(np.stack([getattr(one, name) for one in planes]) for name in ("sci", "err", "dq")),
        rays=np.stack([one.cosmic_rays for one in planes]),
        truth=truth,
        noise=np.sqrt(setup.poisson_variance(truth) + setup.read_variance),
    )


def judge(stack, options, *, integrations=False):
    """Average a stack: [excess left, excess, good lost, good, bias, its weight], to be summed."""
    planes = stack.sci, stack.err, stack.dq
    if integrations:
        planes = (plane[np.newaxis] for plane in planes)
    ours = average_background(*planes, options)
    samples = len(stack.sci)
    usable = (stack.dq & 1 == 0).all(axis=0) & np.isfinite(stack.sci).all(axis=0)
    is_high = stack.rays >= HIGH * stack.noise
    hit, clean = usable & is_high.any(axis=0), usable & (stack.rays == 0).all(axis=0)
    # What levels do to a mean of fewer is no excess of a ray.
    leveled = stack.sci - (stack.truth - stack.truth.mean(axis=0))
    without = np.where(is_high, 0, leveled).sum(axis=0) / np.maximum((~is_high).sum(axis=0), 1)
    left = (ours.sci - without)[hit].sum()
    excess = (np.where(is_high, stack.rays, 0).sum(axis=0) / samples)[hit].sum()
    good = int((usable & (stack.rays == 0)).sum())
    if integrations:  # how many went is known as a sum alone
        lost = ours.integrations.clipped - int((usable & is_high).sum())
    else:
        struck = (stack.rays > 0).sum(axis=0)
        lost = int(np.maximum(samples - ours.counts.astype(int) - struck, 0)[usable].sum())
    pull = (ours.sci - stack.truth.mean(axis=0)) * samples
    bias = (pull / np.sqrt((stack.noise**2).sum(axis=0)))[clean]
    return np.array([left, excess, lost, good, bias.sum(), bias.size])


def summarise(name, samples, sums):
    left, excess, lost, good, bias, pixels = sums
    return {
        "stack": name,
        "N": samples,
        "excess left (%)": f"{100 * left / excess:.2f}",
        "good samples lost (%)": f"{100 * lost / good:.3f}",
        "bias (standard errors)": f"{bias / pixels:+.4f} ± {pixels**-0.5:.4f}",
    }


def recover(scenes, seeds, options, *, samples=SAMPLES, uneven=0.0, integrations=False):
    """Make rows of a table: each scene and number of samples, over all seeds."""
    rows = []
    for name, scene in scenes.items():
        sums = dict.fromkeys(samples, 0)
        for seed in seeds:
            stack = simulate(scene, seed, max(samples), uneven)
            for n in samples:
                sums[n] = sums[n] + judge(stack.first(n), options, integrations=integrations)
        rows += [summarise(name, n, sums[n]) for n in samples]
    return rows


def side_by_side(rows, others, label):
    """Put the excess that the other way leaves into the rows."""
    return [
        {**row, label: other["excess left (%)"]} for row, other in zip(rows, others, strict=True)
    ]


def real_exposures():
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WEBBKG_REAL_DATA", default)) / "niriss_ami"
    paths = sorted(folder.glob("*_nis_cal.fits"))
    return [
        np.stack([fits.getdata(path, name).astype(kind) for path in paths])
        for name, kind in (("SCI", "f4"), ("ERR", "f4"), ("DQ", "u4"))
        if paths
    ]


def residual_outliers(sci, err, dq, samples, width, options):
    """Count outliers in the series of each exposure minus the mean of the next few.

    Those below come of what is left in backgrounds; those above are in the targets themselves.
    """
    number = len(sci)
    residuals, lost = [], 0
    for target in range(number):
        taken = [(target + 1 + k) % number for k in range(samples)]
        ours = average_background(sci[taken], err[taken], dq[taken], options)
        residuals.append(np.where(dq[target] & 1, np.nan, sci[target] - ours.sci))
        lost += ours.exposures.clipped
    off = np.array(residuals)
    off -= np.nanmedian(off, axis=0)
    width = 1.4826 * np.nanmedian(np.abs(off), axis=0) if width is None else width
    return np.array([(off < -5 * width).sum(axis=0), (off > 5 * width).sum(axis=0)]), width, lost


def share_left(planes, where, samples, options, seed):
    """Put rays of `HIGH` times ERR into flight exposures; what share of them is in the means."""
    sci, err, dq = planes
    struck = (np.random.default_rng(seed).random(sci.shape) < 0.002) & (dq & 1 == 0)
    rays = np.where(struck, np.float32(HIGH) * err, 0)
    left = put = 0.0
    for first in range(0, len(sci) - samples + 1, samples):
        part = slice(first, first + samples)
        means = [
            average_background(one[part], err[part], dq[part], options).sci
            for one in (sci, sci + rays)
        ]
        left += (means[1] - means[0])[where].sum()
        put += rays[part].sum(axis=0)[where].sum() / samples
    return left / put


def flight_rows(seed):
    """Count before and after on flight exposures, where ERR tells the scatter and elsewhere."""
    planes = real_exposures()
    if not planes:
        return []
    sci, err, dq = planes
    masked = np.where(dq & 1, np.nan, sci)
    with np.errstate(all="ignore"):
        scatter = 1.4826 * np.nanmedian(np.abs(masked - np.nanmedian(masked, axis=0)), axis=0)
        quiet = scatter < 1.5 * np.median(err, axis=0)
    quiet &= (dq & 1 == 0).all(axis=0)
    star = ~quiet & (dq & 1 == 0).all(axis=0)
    rows, both = [], (ImageOptions(), ImageOptions(clip_noise="model"))
    for samples in (2, 3, 4, 5, 8, 12):
        before, width, gone = residual_outliers(*planes, samples, None, both[0])
        after, _, lost = residual_outliers(*planes, samples, width, both[1])
        told = {"N": samples}
        for name, where in (("quiet pixels", quiet), ("the star", star)):
            for sign, index in (("low", 0), ("high", 1)):
                counted = (side[index][where].sum() for side in (before, after))
                told[f"{name}, {sign}"] = " → ".join(map(str, counted))
            told[f"{name}, rays left (%)"] = " → ".join(
                f"{100 * share_left(planes, where, samples, options, seed):.1f}" for options in both
            )
        share = 100 / (samples * (dq & 1 == 0).sum())
        told["samples clipped (%)"] = f"{gone * share:.2f} → {lost * share:.2f}"
        rows.append(told)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=201)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    model, sample = ImageOptions(clip_noise="model"), ImageOptions()
    label = "excess left by `sample` (%)"
    rows = recover(SCENES, seeds, model)
    print("## Exposures\n\n" + table(side_by_side(rows, recover(SCENES, seeds, sample), label)))
    few = (2, 3, 5, 12)
    rows = recover(SCENES, seeds, model, samples=few, integrations=True)
    others = recover(SCENES, seeds, sample, samples=few, integrations=True)
    print("\n## Integrations\n\n" + table(side_by_side(rows, others, label)))
    rows = recover(HARDER, seeds, model, samples=few)
    uneven = {"MIRI, uneven pixels": MIRI_SCENE, "NIRCam, uneven pixels": NIRCAM}
    rows += recover(uneven, seeds, model, samples=few, uneven=UNEVEN)
    print("\n## Harder cases\n\n" + table(rows))
    flight = flight_rows(options.first_seed)
    if flight:
        print("\n## Flight exposures\n\n" + table(flight))


if __name__ == "__main__":
    main()
