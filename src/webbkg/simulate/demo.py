"""The demonstration: simulate, subtract with the step, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import CombinedBackground, SampleCounts
from webbkg.simulate.detector import MIRI_BRIGHTSKY, Subarray, nircam_subarray
from webbkg.simulate.imaging import (
    MIRI_SCENE,
    ImagingScene,
    Pointing,
    plan_imaging_set,
    plan_integrations_set,
    write_set,
)
from webbkg.simulate.recovery import Recovery, Truth

SMALLEST, LARGEST = 128, 2048

IMAGING_BACKGROUNDS = 5
"""Too few for the clipping to reject anything at 3 sigma: see
`webbkg.image.average.largest_deviation`."""

INTEGRATIONS_BACKGROUNDS = 12
"""Enough for the clipping to reject what one exposure of them holds."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """How one set fared.

    Attributes
    ----------
    name : str
        What was simulated.
    target : str
        File name of the target.
    product : str
        That of the subtracted target; empty unless the status is COMPLETE.
    status, reason : str
        What the step came to.
    n_backgrounds : int
        Background exposures.
    samples, clipped : int
        Usable samples of the backgrounds, over exposures and integrations, and how many of
        them the clipping rejected.
    bytes_read : int
        Size of the target and its backgrounds.
    simulate_seconds, subtract_seconds : float
        Time to simulate and write, and to read, subtract and write.
    recovery : Recovery or None
        Measured against the truth; None unless the status is COMPLETE.
    """

    name: str
    target: str
    product: str
    status: str
    reason: str
    n_backgrounds: int
    samples: int
    clipped: int
    bytes_read: int
    simulate_seconds: float
    subtract_seconds: float
    recovery: Recovery | None


def run_demo(
    folder: Path, *, size: int = LARGEST, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate an imaging and a rateints set, subtract, and compare with the truth.

    Parameters
    ----------
    folder : Path
        Where the exposures and the products go; made if it is absent.
    size : int
        Side of the imaging exposures (pixels); those of the rateints set have a quarter of
        it. At 2048 the files take about a gigabyte.
    seed : int
        The same seed gives the same exposures.
    tell : callable
        Called with what is done next.

    Returns
    -------
    list of DemoResult
        The imaging set, then the rateints set.

    Raises
    ------
    OptionError
        If `size` is outside 128 to 2048.
    """
    if not SMALLEST <= size <= LARGEST:
        raise OptionError(f"size must be between {SMALLEST} and {LARGEST} (got {size})")
    imaging = ImagingScene()
    return [
        _run_set(
            f"NIRCam imaging, {IMAGING_BACKGROUNDS} backgrounds, one of them a sub-array",
            folder,
            imaging,
            seed,
            plan_imaging(imaging, size),
            tell,
        ),
        _run_set(
            f"MIRI imaging, integrations, {INTEGRATIONS_BACKGROUNDS} backgrounds",
            folder,
            MIRI_SCENE,
            seed,
            plan_integrations(size // 4),
            tell,
        ),
    ]


def plan_imaging(scene: ImagingScene, size: int) -> list[Pointing]:
    """Plan a target of `size` x `size` pixels and five backgrounds, the last a sub-array."""
    common = _central_part(scene.detector.full, size)
    window = common.window
    # Off the centre, at odd offsets and oblong, so that a misplaced sub-array would show.
    part = DetectorWindow(
        window.x + size // 2 + 5, window.y + size // 8 + 3, size * 5 // 16, size // 4
    )
    return plan_imaging_set(
        scene,
        n_backgrounds=IMAGING_BACKGROUNDS,
        subarray=common,
        background_subarrays={IMAGING_BACKGROUNDS: nircam_subarray(part)},
    )


def plan_integrations(size: int) -> list[Pointing]:
    """Plan a target and twelve backgrounds of `size` x `size` pixels, of several integrations."""
    return plan_integrations_set(
        MIRI_SCENE,
        n_backgrounds=INTEGRATIONS_BACKGROUNDS,
        subarray=_central_part(MIRI_BRIGHTSKY, size),
    )


def _central_part(subarray: Subarray, size: int) -> Subarray:
    window = subarray.window
    if (size, size) == window.shape:
        return subarray
    x = window.x + (window.columns - size) // 2
    y = window.y + (window.rows - size) // 2
    return replace(subarray, name="GENERIC", window=DetectorWindow(x, y, size, size))


def _run_set(
    name: str, folder: Path, scene: ImagingScene, seed: int, plan: list[Pointing], tell: Tell
) -> DemoResult:
    """Simulate a set, subtract it, and measure."""
    from webbkg.step import BackgroundStep

    tell(f"{name}: simulating {len(plan)} exposures")
    truth = Truth()
    start = time.perf_counter()
    target, *backgrounds = write_set(folder, scene, seed, plan, truth.add)
    simulated = time.perf_counter()
    tell(f"{name}: subtracting")
    step = BackgroundStep(save_results=True, output_dir=str(folder))
    product = step.run(target, backgrounds)
    subtracted = time.perf_counter()
    tell(f"{name}: comparing with the truth")
    outcome = step.outcomes[0]
    found = outcome.background
    recovered = found if isinstance(found, CombinedBackground) else None
    counts = recovered.exposures + recovered.integrations if recovered else SampleCounts()
    return DemoResult(
        name=name,
        target=target.name,
        product=product.meta.filename if recovered else "",
        status=str(outcome.status),
        reason=outcome.reason,
        n_backgrounds=len(backgrounds),
        samples=counts.usable,
        clipped=counts.clipped,
        bytes_read=sum(path.stat().st_size for path in (target, *backgrounds)),
        simulate_seconds=simulated - start,
        subtract_seconds=subtracted - simulated,
        recovery=truth.measure(recovered, product) if recovered else None,
    )
