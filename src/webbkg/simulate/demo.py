"""The demonstration: simulate, subtract, compare with the truth."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webbkg import record, run
from webbkg.errors import MissingExtraError, OptionError
from webbkg.files.associations import resolve
from webbkg.files.exposures import DetectorWindow
from webbkg.files.naming import product_path
from webbkg.report.page import check_extra
from webbkg.report.snapshot import Picture, shrink
from webbkg.results import Background, CombinedBackground, FloatImage, Outcome, SampleCounts
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

if TYPE_CHECKING:
    from webbkg.simulate.story import Chapter

SMALLEST, USUAL, LARGEST = 128, 512, 2048
"""Rows and columns of the imaging exposures; at the usual size all files take less than 300 MB."""

IMAGING_BACKGROUNDS, INTEGRATIONS_BACKGROUNDS = 5, 12
"""Five are too few for the clipping to reject anything at 3 sigma (see
`webbkg.image.average.largest_deviation`), twelve enough to reject what one of them holds."""

FEWEST_INTEGRATIONS, MOST_INTEGRATIONS = 4, 12
"""Of the time series, two segments of it: one for each 128 rows of an imaging exposure."""

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
    verdict: str = ""  #: of its metrics
    robust: DemoResult | None = None  #: the same set with the preset robust; no products
    before: Picture | None = field(default=None, repr=False)  #: the target
    error: Picture | None = field(default=None, repr=False)  #: what was subtracted less the sky
    page: Path | None = None  #: the report

    def against_truth(self) -> Iterator[tuple[str, str]]:
        """Tell how near it came to the truth, a label and a value each."""
        for scale in self.scales:
            yield f"{scale.label}, true and found", str(scale)
        yield from self.recovery.lines() if self.recovery else ()

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
        yield from self.against_truth()
        yield from self.notes
        if self.robust:
            yield "with the preset robust", f"{self.robust.status} {self.robust.reason}".rstrip()
            yield from ((f"  {label}", value) for label, value in self.robust.against_truth())
        if self.products:
            yield "product" if len(self.products) == 1 else "products", ", ".join(self.products)


def run_demo(
    folder: Path, *, size: int = USUAL, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate an imaging and a rateints set, subtract both ways, and compare with the truth.

    The exposures, and the products of the prescribed methods, go to `folder`, which is made if it is
    absent; at the largest size the files of the whole demonstration take about a gigabyte. The
    imaging exposures have `size` rows and columns, from 128 to 2048, or it is an OptionError; those
    of the rateints set have a quarter of them. The same seed gives the same exposures. `tell` is
    called with what is done next.
    """
    _check_size(size)
    nircam = f"NIRCam imaging, {IMAGING_BACKGROUNDS} backgrounds, one of them a sub-array"
    miri = f"MIRI imaging, integrations, {INTEGRATIONS_BACKGROUNDS} backgrounds"
    imaging = ImagingScene()
    return [
        _run_images(nircam, folder, imaging, seed, plan_imaging(imaging, size), tell),
        _run_images(miri, folder, MIRI_SCENE, seed, plan_integrations(size // 4), tell),
    ]


def _check_size(size: int) -> None:
    if not SMALLEST <= size <= LARGEST:
        raise OptionError(f"size must be between {SMALLEST} and {LARGEST} (got {size})")


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
    assert truth.target is not None
    sky = truth.target.sky

    def judged(result: DemoResult, outcome: Outcome, product: Any) -> DemoResult:
        found = outcome.background
        if not isinstance(found, CombinedBackground):
            return result
        counts = found.exposures + found.integrations
        result = replace(result, counts=counts, recovery=truth.measure(found, product))
        return _with_pictures(result, found, sky, truth.target.model.data)  # type: ignore[union-attr]

    return _both_ways(_Set(name, folder, [target], backgrounds), start, judged, tell)


def run_template_demos(
    folder: Path, *, size: int = USUAL, seed: int = 2025, tell: Tell = lambda _: None
) -> list[DemoResult]:
    """Simulate a NIRCam grism field and a NIRISS SOSS time series, subtract, and compare.

    The files go to the folders ``wfss`` and ``soss`` of `folder`; see `run_demo`. The grism
    exposure has twice `size` rows and columns, at most 2048; the time series is longer where that is
    larger.
    """
    _check_size(size)
    return [
        _run_wfss(folder / "wfss", size, seed, tell),
        _run_soss(folder / "soss", size, seed, tell),
    ]


def _run_wfss(folder: Path, size: int, seed: int, tell: Tell) -> DemoResult:
    name = "NIRCam grism field, source catalogue"
    tell(f"{name}: simulating an exposure")
    start = time.perf_counter()
    part = _central_part(NIRCAM_R.detector.full, min(2 * size, LARGEST))
    shown = wfss.draw_field(NIRCAM_R, seed, part)
    exposed = wfss.observe(shown)
    files = wfss.write_field(folder, exposed, template_window=part.window)
    references = {"bkg": files.template, "wavelengthrange": files.wavelengthrange}
    note = "ERR from the same noisy counts leans the scale low: docs/wfss_recovery.md"

    def judged(result: DemoResult, outcome: Outcome, _: Any) -> DemoResult:
        result = _with_scales(result, outcome, {"scale": shown.scene.scale}, note)
        return _with_pictures(result, outcome.background, shown.sky, exposed.model.data)

    return _both_ways(_Set(name, folder, [files.association], [], references), start, judged, tell)


def _run_soss(folder: Path, size: int, seed: int, tell: Tell) -> DemoResult:
    number = min(max(size // 128, FEWEST_INTEGRATIONS), MOST_INTEGRATIONS)
    name = "NIRISS SOSS time series, two segments fitted together"
    tell(f"{name}: simulating {number} integrations")
    start = time.perf_counter()
    shown = soss.draw_field(seed=seed)
    files = soss.write_series(folder, soss.draw_series(shown, number), segments=2)
    truth = {"left": shown.scene.scale_left, "right": shown.scene.scale_right}
    note = "the prescribed percentiles cut into noise and sky: docs/soss_recovery.md"

    def judged(result: DemoResult, outcome: Outcome, _: Any) -> DemoResult:
        result = _with_scales(result, outcome, truth, note)
        return _with_pictures(result, outcome.background, shown.sky, shown.sky + shown.sources)

    references = {"bkg": files.template}
    return _both_ways(_Set(name, folder, files.segments, [], references), start, judged, tell)


@dataclass(frozen=True)
class _Set:
    """What is subtracted from what, and where the products go."""

    name: str
    folder: Path
    targets: list[Path]
    backgrounds: list[Path]
    references: dict[str, Path] = field(default_factory=dict)


Judge = Callable[[DemoResult, Outcome, Any], DemoResult]
"""Takes a result, the outcome and the product; adds how near they come to the truth."""


def _both_ways(given: _Set, start: float, judged: Judge, tell: Tell) -> DemoResult:
    """Subtract a set as it is prescribed, with products, and with the preset robust, without."""
    simulated = time.perf_counter()
    tell(f"{given.name}: subtracting")
    done = _subtract(given, None)
    subtracted = time.perf_counter()
    tell(f"{given.name}: comparing with the truth")
    result = replace(
        judged(*done),
        simulate_seconds=simulated - start,
        subtract_seconds=subtracted - simulated,
    )
    del done  # its memory
    tell(f"{given.name}: the same with the preset robust")
    robust = judged(*_subtract(given, "robust"))
    gc.collect()  # before the next set is simulated
    return replace(result, robust=robust)


def _subtract(given: _Set, preset: str | None) -> tuple[DemoResult, Outcome, Any]:
    """Subtract a set; write the products, or with a preset the reports alone."""
    gc.collect()  # planes that were written, in cycles: in the command's process nobody else does
    named = given.targets if len(given.targets) > 1 else given.targets[0]  # an association, maybe
    items = run.items_of(resolve(named, given.backgrounds))
    references = {f"override_{kind}": str(path) for kind, path in given.references.items()}
    setting = run.Setting(
        parameters={**references, "preset": preset, "save_report": _may_report()},
        name_product=lambda item, suffix: product_path(
            item.job.association or item.name, suffix or preset, output_dir=given.folder
        ),
        keep_backgrounds=True,
    )
    for group in run.grouped(items):
        run.process(group, setting)
        (run.write if preset is None else run.write_backgrounds)(group, setting)
    outcome = items[0].outcome
    assert outcome is not None
    products = [item.product.name for item in items if item.product and outcome.background]
    files = (*given.targets, *given.backgrounds)
    result = DemoResult(
        name=given.name,
        target=given.targets[0].name,
        products=tuple(products),
        status=str(outcome.status),
        reason=outcome.reason,
        n_backgrounds=len(given.backgrounds),
        bytes_read=sum(path.stat().st_size for path in files),
        simulate_seconds=0.0,
        subtract_seconds=0.0,
        verdict=str(outcome.metrics.verdict) if outcome.metrics else "",
        page=items[0].report,
    )
    return result, outcome, items[0].result


def _may_report() -> bool:
    try:
        check_extra()
    except MissingExtraError:
        return False
    return True


def _with_pictures(
    result: DemoResult, found: Background | None, sky: FloatImage, target: Any
) -> DemoResult:
    """Take small pictures of the target, and of how far the background is from the true sky."""
    if found is None:
        return result
    image = target if target.ndim == 2 else target[0]
    return replace(result, before=shrink(image), error=shrink(found.sci - sky))


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


# The page.

TEXTS = (
    "Stars, galaxies and cosmic rays of the backgrounds must not be subtracted. Five samples a pixel "
    "are too few for the prescribed clipping to reject any of them, at 3 standard deviations of the "
    "samples themselves: what they hold ends, diluted, in the target, and sources leave dark spots. "
    "Robust judges by the noise that is expected, matches the levels and leaves sources out.",
    "With twelve backgrounds the prescribed clipping works, but for what is faint. What is left is "
    "mostly the drift of the sky from one exposure to the next, which robust matches.",
    "The sky of a grism is a template times a scale. Prescribed is a fit without the outliers at both "
    "ends, weighted with an ERR that was estimated from the same noisy counts, so that the scale leans "
    "low; robust models the noise, and takes off what faint spectra add.",
    "One scale holds left of the jump of the template, another right of it. The prescribed ones come of "
    "percentiles, which cut into the noise and into the star's wings, that are everywhere; robust fits "
    "the sky together with the wings and the 1/f noise.",
)
"""What there is to see, set by set."""


def write_story_of(results: Iterable[DemoResult], folder: Path) -> Path:
    """Write the page that tells what the demonstration showed; see `webbkg.simulate.story`.

    Raises
    ------
    MissingExtraError
        Without Matplotlib and Jinja2.
    """
    check_extra()
    from webbkg.simulate.story import write_story

    chapters = (_chapter(*one) for one in zip(results, TEXTS, strict=True))
    note = (
        "The verdicts know nothing of the truth: they are what a user would have been told. How "
        "such figures vary from seed to seed is in the recovery studies of the documentation."
    )
    return write_story((one for one in chapters if one is not None), folder, note)


def _chapter(result: DemoResult, text: str) -> Chapter | None:
    from webbkg.simulate.story import Chapter, Way

    if result.before is None:
        return None
    named = {"prescribed": result, "robust": result.robust}
    ways = tuple(
        Way(
            name=name,
            verdict=one.verdict or one.status,
            numbers=tuple(one.against_truth()),
            error=one.error,
            page=one.page,
        )
        for name, one in named.items()
        if one is not None and one.error is not None
    )
    return Chapter(title=result.name, text=text, before=result.before, unit="DN/s", ways=ways)
