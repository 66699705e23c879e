"""The demonstration: simulate, subtract with the step, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import CombinedBackground, SampleCounts
from webbkg.simulate import soss, wfss
from webbkg.simulate.detector import MIRI_BRIGHTSKY, Subarray, nircam_subarray
from webbkg.simulate.grism_scene import NIRCAM_R
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

IMAGING_BACKGROUNDS, INTEGRATIONS_BACKGROUNDS = 5, 12
"""Five are too few for the clipping to reject anything at 3 sigma (see
`webbkg.image.average.largest_deviation`), twelve enough to reject what one of them holds."""

SOSS_INTEGRATIONS = 12

WFSS_NOTE = "ERR from the same noisy counts leans the scale low: docs/wfss_recovery.md"
SOSS_NOTE = "the prescribed percentiles cut into noise and sky: docs/soss_recovery.md"

Tell = Callable[[str], object]
Lines = Iterable[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class FoundScale:
    """A scale, true and found, in units of the template."""

    label: str  #: which one
    truth: float
    found: float
    quoted_err: float

    def __str__(self) -> str:
        error = 100 * (self.found / self.truth - 1)
        return f"{self.truth:.5g}, {self.found:.6g} ± {self.quoted_err:.2g} ({error:+.3f} %)"


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """How one set fared."""

    name: str  #: what was simulated
    target: str  #: file name of the target
    products: tuple[str, ...]  #: those of the subtracted targets; none unless COMPLETE
    status: str  #: what the step came to, and why
    reason: str
    n_backgrounds: int  #: background exposures
    counts: SampleCounts  #: samples of the backgrounds, over exposures and integrations
    bytes_read: int  #: size of the targets, and of the backgrounds or references
    simulate_seconds: float  #: to simulate and write
    subtract_seconds: float  #: to read, subtract and write
    recovery: Recovery | None = None  #: against the truth, of a COMPLETE image
    scales: tuple[FoundScale, ...] = ()  #: of a COMPLETE template
    notes: tuple[tuple[str, str], ...] = ()  #: what the step says of a fit, and why it may be off

    def lines(self) -> Iterator[tuple[str, str]]:
        """Tell what was recovered, a label and a value each; rates are in DN/s."""
        clipped, usable = self.counts.clipped, self.counts.usable
        if self.n_backgrounds:
            share = f"{100 * clipped / usable:.3g} %" if usable else "of none"
            yield "backgrounds", str(self.n_backgrounds)
            yield "samples clipped", f"{clipped:,} of {usable:,} ({share})"
        size, before = f"{self.bytes_read / 1e6:.0f} MB", f"{self.simulate_seconds:.1f} s"
        yield "time", f"{self.subtract_seconds:.2f} s for {size}, after {before} of simulation"
        for scale in self.scales:
            yield f"{scale.label}, true and found", str(scale)
        yield from self.recovery.lines() if self.recovery else ()
        yield from self.notes
        if self.products:
            yield "product" if len(self.products) == 1 else "products", ", ".join(self.products)


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A set in files."""

    targets: list[Path]
    backgrounds: list[Path] | tuple[()] = ()
    references: dict[str, Path] | None = None
    association: Path | None = None  #: of the targets, to be given in their place


def _run(
    name: str,
    what: str,
    folder: Path,
    write: Callable[[], _Written],
    judge: Callable[[Any, Any], dict[str, Any]],
    tell: Tell,
) -> DemoResult:
    """Simulate a set, subtract it, and judge the outcome and the product."""
    from webbkg.step import BackgroundStep

    tell(f"{name}: simulating {what}")
    start = time.perf_counter()
    files = write()
    simulated = time.perf_counter()
    tell(f"{name}: subtracting")
    references = files.references or {}
    overrides = {f"override_{kind}": str(path) for kind, path in references.items()}
    step = BackgroundStep(save_results=True, output_dir=str(folder), **overrides)
    targets = files.targets if len(files.targets) > 1 else files.targets[0]
    product = step.run(files.association or targets, list(files.backgrounds) or None)
    subtracted = time.perf_counter()
    tell(f"{name}: comparing with the truth")
    outcome = step.outcomes[0]
    complete = outcome.background is not None
    read = (*files.targets, *files.backgrounds, *references.values())
    found = {"counts": SampleCounts()} | (judge(outcome, product) if complete else {})
    return DemoResult(
        name=name,
        target=files.targets[0].name,
        products=tuple(path.name for path in step.products) if complete else (),
        status=str(outcome.status),
        reason=outcome.reason,
        n_backgrounds=len(files.backgrounds),
        bytes_read=sum(path.stat().st_size for path in read),
        simulate_seconds=simulated - start,
        subtract_seconds=subtracted - simulated,
        **found,
    )


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
    nircam = f"NIRCam imaging, {IMAGING_BACKGROUNDS} backgrounds, one of them a sub-array"
    miri = f"MIRI imaging, integrations, {INTEGRATIONS_BACKGROUNDS} backgrounds"
    imaging = ImagingScene()
    return [
        _run_images(nircam, folder, imaging, seed, plan_imaging(imaging, size), tell),
        _run_images(miri, folder, MIRI_SCENE, seed, plan_integrations(size // 4), tell),
    ]


def plan_imaging(scene: ImagingScene, size: int) -> list[Pointing]:
    """Plan a target of `size` x `size` pixels and five backgrounds, the last a sub-array."""
    common = _central_part(scene.detector.full, size)
    window = common.window
    # Off the centre, at odd offsets and oblong, so that a misplaced sub-array would show.
    part = DetectorWindow(
        window.x + size // 2 + 5, window.y + size // 8 + 3, size * 5 // 16, size // 4
    )
    others = {IMAGING_BACKGROUNDS: nircam_subarray(part)}
    return plan_imaging_set(
        scene, n_backgrounds=IMAGING_BACKGROUNDS, subarray=common, background_subarrays=others
    )


def plan_integrations(size: int) -> list[Pointing]:
    """Plan a target and twelve backgrounds of `size` x `size` pixels, of several integrations."""
    part = _central_part(MIRI_BRIGHTSKY, size)
    return plan_integrations_set(n_backgrounds=INTEGRATIONS_BACKGROUNDS, subarray=part)


def _central_part(subarray: Subarray, size: int) -> Subarray:
    window = subarray.window
    if (size, size) == window.shape:
        return subarray
    x = window.x + (window.columns - size) // 2
    y = window.y + (window.rows - size) // 2
    return replace(subarray, name="GENERIC", window=DetectorWindow(x, y, size, size))


def _run_images(
    name: str, folder: Path, scene: ImagingScene, seed: int, plan: list[Pointing], tell: Tell
) -> DemoResult:
    truth = Truth()

    def write() -> _Written:
        target, *backgrounds = write_set(folder, scene, seed, plan, truth.add)
        return _Written(targets=[target], backgrounds=backgrounds)

    def judge(outcome: Any, product: Any) -> dict[str, Any]:
        found: CombinedBackground = outcome.background
        counts = found.exposures + found.integrations
        return {"counts": counts, "recovery": truth.measure(found, product)}

    return _run(name, f"{len(plan)} exposures", folder, write, judge, tell)


def run_template_demos(
    folder: Path, *, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate a NIRCam grism field and a NIRISS SOSS time series, subtract, and compare.

    The files go to the folders ``wfss`` and ``soss`` of `folder`; see `run_demo`.
    """
    return [_run_wfss(folder / "wfss", seed, tell), _run_soss(folder / "soss", seed, tell)]


def _run_wfss(folder: Path, seed: int, tell: Tell) -> DemoResult:
    shown = wfss.draw_field(NIRCAM_R, seed)

    def write() -> _Written:
        files = wfss.write_field(folder, wfss.observe(shown))
        references = {"bkg": files.template, "wavelengthrange": files.wavelengthrange}
        return _Written(
            targets=[files.target], references=references, association=files.association
        )

    def judge(outcome: Any, _: Any) -> dict[str, Any]:
        return _scales(outcome, WFSS_NOTE, scale=(shown.scene.scale, outcome.details))

    name = "NIRCam grism field, source catalogue"
    return _run(name, "an exposure", folder, write, judge, tell)


def _run_soss(folder: Path, seed: int, tell: Tell) -> DemoResult:
    shown = soss.draw_field(seed=seed)
    scene = shown.scene

    def write() -> _Written:
        files = soss.write_series(folder, soss.draw_series(shown, SOSS_INTEGRATIONS), segments=2)
        return _Written(targets=files.segments, references={"bkg": files.template})

    def judge(outcome: Any, _: Any) -> dict[str, Any]:
        left, right = outcome.details["left"], outcome.details["right"]
        sides = {"left": (scene.scale_left, left), "right": (scene.scale_right, right)}
        return _scales(outcome, SOSS_NOTE, **sides)

    name = "NIRISS SOSS time series, two segments fitted together"
    return _run(name, f"{SOSS_INTEGRATIONS} integrations", folder, write, judge, tell)


def _scales(outcome: Any, note: str, **found: tuple[float, dict[str, Any]]) -> dict[str, Any]:
    scales = tuple(
        FoundScale(label=label, truth=truth, found=fit["scale"], quoted_err=fit["scale_err"])
        for label, (truth, fit) in found.items()
    )
    return {"scales": scales, "notes": (*outcome.summary, ("note", note))}
