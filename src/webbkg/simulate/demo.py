"""The demonstration: simulate, subtract, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webbkg import record, run
from webbkg.errors import OptionError
from webbkg.files.associations import resolve
from webbkg.files.exposures import DetectorWindow
from webbkg.files.naming import product_path
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

Tell = Callable[[str], object]


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
    target: str  #: name of the file that was given to the step
    products: tuple[str, ...]  #: those of the subtracted targets; none unless COMPLETE
    status: str  #: what the step came to, and why
    reason: str
    n_backgrounds: int  #: background exposures
    bytes_read: int  #: size of the target and its backgrounds
    simulate_seconds: float  #: to simulate and write
    subtract_seconds: float  #: to read, subtract and write
    counts: SampleCounts | None = None  #: of a COMPLETE image: samples of its backgrounds
    recovery: Recovery | None = None  #: against the truth, of a COMPLETE image
    scales: tuple[FoundScale, ...] = ()  #: of a COMPLETE template
    notes: tuple[tuple[str, str], ...] = ()  #: what the step says of a fit, and why it may be off

    def lines(self) -> Iterator[tuple[str, str]]:
        """Tell what was recovered, a label and a value each; rates are in DN/s."""
        size = ""
        if self.n_backgrounds:
            size = f" for {self.bytes_read / 1e6:.0f} MB"
            yield "backgrounds", str(self.n_backgrounds)
        if self.counts:
            clipped, usable = self.counts.clipped, self.counts.usable
            share = f"{100 * clipped / usable:.3g} %" if usable else "of none"
            yield "samples clipped", f"{clipped:,} of {usable:,} ({share})"
        before = f"{self.simulate_seconds:.1f} s of simulation"
        yield "time", f"{self.subtract_seconds:.2f} s{size}, after {before}"
        for scale in self.scales:
            yield f"{scale.label}, true and found", str(scale)
        yield from self.recovery.lines() if self.recovery else ()
        yield from self.notes
        if self.products:
            yield "product" if len(self.products) == 1 else "products", ", ".join(self.products)


def run_demo(
    folder: Path, *, size: int = LARGEST, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate an imaging and a rateints set, subtract, and compare with the truth.

    The exposures and the products go to `folder`, which is made if it is absent; at the largest
    size the files take about a gigabyte. The imaging exposures have `size` rows and columns, from
    128 to 2048, or it is an OptionError; those of the rateints set have a quarter of them. The
    same seed gives the same exposures. `tell` is called with what is done next.
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
    x, y = common.window.x + size // 2 + 5, common.window.y + size // 8 + 3
    # Off the centre, at odd offsets and oblong, so that a misplaced sub-array would show.
    part = nircam_subarray(DetectorWindow(x, y, size * 5 // 16, size // 4))
    n, others = IMAGING_BACKGROUNDS, {IMAGING_BACKGROUNDS: part}
    return plan_imaging_set(scene, n_backgrounds=n, subarray=common, background_subarrays=others)


def plan_integrations(size: int) -> list[Pointing]:
    """Plan a target and twelve backgrounds of `size` x `size` pixels, of several integrations."""
    part = _central_part(MIRI_BRIGHTSKY, size)
    return plan_integrations_set(n_backgrounds=INTEGRATIONS_BACKGROUNDS, subarray=part)


def _central_part(subarray: Subarray, size: int) -> Subarray:
    window = subarray.window
    if (size, size) == window.shape:
        return subarray
    x, y = window.x + (window.columns - size) // 2, window.y + (window.rows - size) // 2
    return replace(subarray, name="GENERIC", window=DetectorWindow(x, y, size, size))


def _run_images(
    name: str, folder: Path, scene: ImagingScene, seed: int, plan: list[Pointing], tell: Tell
) -> DemoResult:
    tell(f"{name}: simulating {len(plan)} exposures")
    truth, start = Truth(), time.perf_counter()
    target, *backgrounds = write_set(folder, scene, seed, plan, truth.add)
    result, outcome, product = _subtract(name, start, folder, [target], backgrounds, tell)
    found = outcome.background
    if not isinstance(found, CombinedBackground):
        return result
    counts = found.exposures + found.integrations
    return replace(result, counts=counts, recovery=truth.measure(found, product))


def run_template_demos(
    folder: Path, *, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate a NIRCam grism field and a NIRISS SOSS time series, subtract, and compare.

    The files go to the folders ``wfss`` and ``soss`` of `folder`; see `run_demo`.
    """
    return [_run_wfss(folder / "wfss", seed, tell), _run_soss(folder / "soss", seed, tell)]


def _run_wfss(folder: Path, seed: int, tell: Tell) -> DemoResult:
    name = "NIRCam grism field, source catalogue"
    tell(f"{name}: simulating an exposure")
    start = time.perf_counter()
    shown = wfss.draw_field(NIRCAM_R, seed)
    files = wfss.write_field(folder, wfss.observe(shown))
    given = {
        "override_bkg": str(files.template),
        "override_wavelengthrange": str(files.wavelengthrange),
    }
    result, outcome, _ = _subtract(name, start, folder, [files.association], [], tell, given)
    note = "ERR from the same noisy counts leans the scale low: docs/wfss_recovery.md"
    return _with_scales(result, outcome, {"scale": shown.scene.scale}, note)


def _run_soss(folder: Path, seed: int, tell: Tell) -> DemoResult:
    """Subtract by both methods; the products are those of each, and the notes the robust one's."""
    name = "NIRISS SOSS time series, two segments fitted together, by both methods"
    tell(f"{name}: simulating {SOSS_INTEGRATIONS} integrations")
    start = time.perf_counter()
    shown = soss.draw_field(seed=seed)
    files = soss.write_series(folder, soss.draw_series(shown, SOSS_INTEGRATIONS), segments=2)
    truth = {"left": shown.scene.scale_left, "right": shown.scene.scale_right}
    note = "the prescribed percentiles cut into noise and sky: docs/soss_recovery.md"
    both = []
    for method, suffix in (("percentile", None), ("robust", "robust")):
        given = {"override_bkg": str(files.template), "soss_method": method}
        result, outcome, _ = _subtract(
            name, start, folder, files.segments, [], tell, parameters=given, suffix=suffix
        )
        both.append(_with_scales(result, outcome, truth, note))
    old, new = both
    scales = [
        replace(scale, label=f"{scale.label}, {method}")
        for method, result in (("percentile", old), ("robust", new))
        for scale in result.scales
    ]
    scales.sort(key=lambda scale: scale.label.partition(",")[0])  # the two of a side together
    return replace(
        new,
        scales=tuple(scales),
        products=(*old.products, *new.products),
        simulate_seconds=old.simulate_seconds,
        notes=(("template, percentile", dict(old.notes).get("template", "none")), *new.notes),
    )


def _subtract(
    name: str,
    start: float,
    folder: Path,
    targets: list[Path],
    backgrounds: list[Path],
    tell: Tell,
    parameters: dict[str, str] | None = None,
    suffix: str | None = None,
) -> tuple[DemoResult, Any, Any]:
    """Subtract a set and write the products; return outcome and product too."""
    simulated = time.perf_counter()
    tell(f"{name}: subtracting")
    named = targets if len(targets) > 1 else targets[0]  # which may be an association
    items = run.items_of(resolve(named, backgrounds))
    setting = run.Setting(
        parameters=parameters or {},
        name_product=lambda item, kind: product_path(
            item.job.association or item.name, kind or suffix, output_dir=folder
        ),
        keep_backgrounds=True,
    )
    for group in run.grouped(items):
        run.process(group, setting)
        run.write(group, setting)
    subtracted = time.perf_counter()
    tell(f"{name}: comparing with the truth")
    outcome, product = items[0].outcome, items[0].result
    assert outcome is not None
    result = DemoResult(
        name=name,
        target=targets[0].name,
        products=tuple(
            str(item.product and item.product.name) for item in items if outcome.background
        ),
        status=str(outcome.status),
        reason=outcome.reason,
        n_backgrounds=len(backgrounds),
        bytes_read=sum(path.stat().st_size for path in (*targets, *backgrounds)),
        simulate_seconds=simulated - start,
        subtract_seconds=subtracted - simulated,
    )
    return result, outcome, product


def _with_scales(
    result: DemoResult, outcome: Any, truth: dict[str, float], note: str
) -> DemoResult:
    if outcome.background is None:
        return result
    details = record.details(outcome)
    fits = {label: details if label == "scale" else details[label] for label in truth}
    scales = tuple(
        FoundScale(label=label, truth=truth[label], found=fit["scale"], quoted_err=fit["scale_err"])
        for label, fit in fits.items()
    )
    return replace(result, scales=scales, notes=(*record.summary(outcome), ("note", note)))
