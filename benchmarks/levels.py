"""What matching the sky levels of backgrounds buys: ``python -m benchmarks.levels``.

Prints a Markdown table; docs/masking.md explains it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.run import table
from webbkg import ImageOptions, subtract_background
from webbkg.files.exposures import DetectorWindow
from webbkg.modes import Request
from webbkg.simulate.imaging import MIRI_SCENE, ImagingScene, Pointing, simulate_exposure

SIZE = 1024
SPREAD = 0.2
"""The lowest and the highest level of the backgrounds are so far apart, as a share of the sky."""

N_BACKGROUNDS = 5
DIMMER = 0.9
"""The target's own level, as a share of the scene's: outside of the middle of the backgrounds."""

SCENES = {
    "NIRCam": replace(ImagingScene(), sky_drift=0.0),
    "MIRI": replace(MIRI_SCENE, sky_drift=0.0),
}


def shown(scene: ImagingScene, number: int, apart: str) -> tuple[ImagingScene, float]:
    """Give the scene of an exposure whose sky has another level, and what is added to it."""
    share = DIMMER  # so has every exposure where all are equal
    if number:
        share = 1 + SPREAD * ((number - 1) / (N_BACKGROUNDS - 1) - 0.5)
    if apart == "factor":
        return replace(scene, sky_level=scene.sky_level * share), 0.0
    return scene, scene.sky_level * (share - 1)


def trial(
    scene: ImagingScene, apart: str, methods: Sequence[str], seed: int, masks: bool
) -> dict[str, tuple[float, float]]:
    """Subtract by each method; give the level and the scatter of the residual sky, in sigma."""
    full = scene.detector.full.window
    corner = (full.columns - SIZE) // 2, (full.rows - SIZE) // 2
    rows = min(SIZE, full.rows)
    subarray = scene.detector.part(DetectorWindow(*corner, SIZE, rows))
    like_target = shown(scene, 0, apart)[0]
    equal = [
        simulate_exposure(like_target, seed, Pointing(number=n, subarray=subarray))
        for n in range(N_BACKGROUNDS + 1)
    ]
    target, others = equal[0], equal[1:]
    noise = float(np.nanmedian(target.model.err))
    unlit = (target.sources < 0.01 * noise) & ~target.bad & ~target.reference
    unlit &= target.cosmic_rays == 0
    differing = []
    for number in range(N_BACKGROUNDS + 1):
        changed, added = shown(scene, number, apart)
        one = simulate_exposure(changed, seed, Pointing(number=number, subarray=subarray)).model
        one.data += np.float32(added)
        differing.append(one)
    found = {}
    for method in ("equal", *methods):
        models = [one.model for one in (target, *others)] if method == "equal" else differing
        kind = "none" if method == "equal" else method
        options = ImageOptions(match_background=kind, mask_sources=masks)
        request = Request(backgrounds=tuple(models[1:]), options=options)
        result, _ = subtract_background(models[0], request)
        left = np.asarray(result.data)[unlit & np.isfinite(result.data)]
        low, middle, high = np.percentile(left, [15.865, 50, 84.135])
        found[method] = float(middle) / noise, float(high - low) / 2 / noise
    return found


def rows(seeds: Sequence[int]) -> Iterator[dict[str, str]]:
    methods = ("none", "offset", "scale")
    for name, scene in SCENES.items():
        for apart in ("factor", "constant"):
            for masks in (False, True):
                trials = [trial(scene, apart, methods, seed, masks) for seed in seeds]
                for method in methods:
                    level = [one[method][0] for one in trials]
                    ratio = [one[method][1] / one["equal"][1] for one in trials]
                    yield {
                        "scene": name,
                        "levels differ by": apart,
                        "`mask_sources`": "yes" if masks else "no",
                        "`match_background`": method,
                        "residual sky (σ)": f"{max(level, key=abs):+.3f}",
                        "scatter ÷ equal levels": f"{max(ratio):.3f}",
                    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--realisations", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(table(list(rows(range(options.seed, options.seed + options.realisations)))))


if __name__ == "__main__":
    main()
