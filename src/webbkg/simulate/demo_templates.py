"""The demonstration of the modes that scale a template: a grism field and a SOSS time series."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Tell = Callable[[str], None]

SOSS_INTEGRATIONS = 12

WFSS_NOTE = "ERR from the same noisy counts leans the scale low: docs/wfss_recovery.md"
SOSS_NOTE = "the prescribed percentiles cut into noise and sky: docs/soss_recovery.md"


@dataclass(frozen=True, kw_only=True)
class FoundScale:
    """A scale, true and found.

    Attributes
    ----------
    label : str
        Which one.
    truth, found, quoted_err : float
        In units of the template.
    """

    label: str
    truth: float
    found: float
    quoted_err: float


@dataclass(frozen=True, kw_only=True)
class ScaleResult:
    """How one set fared.

    Attributes
    ----------
    name : str
        What was simulated.
    products : tuple of str
        File names of the subtracted targets.
    status, reason : str
        What the step came to.
    scales : tuple of FoundScale
        Empty unless the status is COMPLETE.
    facts : tuple of (label, value)
        What the step says of its fit, and why the scale may be off.
    simulate_seconds, subtract_seconds : float
        Time to simulate and write, and to read, subtract and write.
    """

    name: str
    products: tuple[str, ...]
    status: str
    reason: str
    scales: tuple[FoundScale, ...]
    facts: tuple[tuple[str, str], ...]
    simulate_seconds: float
    subtract_seconds: float


def run_template_demos(
    folder: Path, *, seed: int = 2025, tell: Tell = lambda _: None
) -> list[ScaleResult]:
    """Simulate a NIRCam grism field and a NIRISS SOSS time series, subtract, and compare.

    Parameters
    ----------
    folder : Path
        The files go to its folders ``wfss`` and ``soss``.
    seed : int
        The same seed gives the same exposures.
    tell : callable
        Called with what is done next.

    Returns
    -------
    list of ScaleResult
        The grism field, then the time series.
    """
    return [_run_wfss(folder / "wfss", seed, tell), _run_soss(folder / "soss", seed, tell)]


def _run_wfss(folder: Path, seed: int, tell: Tell) -> ScaleResult:
    from webbkg.simulate.grism_scene import NIRCAM_R
    from webbkg.simulate.wfss import draw_field, observe
    from webbkg.simulate.wfss_files import write_field

    name = "NIRCam grism field, source catalogue"
    tell(f"{name}: simulating")
    start = time.perf_counter()
    shown = draw_field(NIRCAM_R, seed)
    files = write_field(folder, observe(shown))
    simulated = time.perf_counter()
    tell(f"{name}: subtracting")
    step = _step(folder, files.template, override_wavelengthrange=str(files.wavelengthrange))
    step.run(files.association)
    truth = {"scale": shown.scene.scale}
    times = simulated - start, time.perf_counter() - simulated
    return _result(name, step, truth, WFSS_NOTE, *times)


def _run_soss(folder: Path, seed: int, tell: Tell) -> ScaleResult:
    from webbkg.simulate.soss import draw_field, draw_series, write_series

    name = "NIRISS SOSS time series, two segments fitted together"
    tell(f"{name}: simulating {SOSS_INTEGRATIONS} integrations")
    start = time.perf_counter()
    shown = draw_field(seed=seed)
    files = write_series(folder, draw_series(shown, SOSS_INTEGRATIONS), segments=2)
    simulated = time.perf_counter()
    tell(f"{name}: subtracting")
    step = _step(folder, files.template)
    step.run(files.segments)
    truth = {"left": shown.scene.scale_left, "right": shown.scene.scale_right}
    times = simulated - start, time.perf_counter() - simulated
    return _result(name, step, truth, SOSS_NOTE, *times)


def _step(folder: Path, template: Path, **parameters: str) -> Any:
    from webbkg.step import BackgroundStep

    return BackgroundStep(
        save_results=True, output_dir=str(folder), override_bkg=str(template), **parameters
    )


def _result(
    name: str,
    step: Any,
    truth: dict[str, float],
    note: str,
    simulated: float,
    subtracted: float,
) -> ScaleResult:
    outcome = step.outcomes[0]
    complete = outcome.background is not None
    return ScaleResult(
        name=name,
        products=tuple(path.name for path in step.products),
        status=str(outcome.status),
        reason=outcome.reason,
        scales=tuple(_found(label, true, outcome.details) for label, true in truth.items())
        if complete
        else (),
        facts=(*outcome.summary, ("note", note)),
        simulate_seconds=simulated,
        subtract_seconds=subtracted,
    )


def _found(label: str, truth: float, details: dict[str, Any]) -> FoundScale:
    side = details.get(label)
    place = side if isinstance(side, dict) else details
    return FoundScale(label=label, truth=truth, found=place["scale"], quoted_err=place["scale_err"])
