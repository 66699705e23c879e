"""An outcome told to a person, a script or a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from webbkg.record import image, soss, template, wfss
from webbkg.record.metrics import metrics_details, metrics_lines
from webbkg.record.words import Details, in_unit, plain
from webbkg.results import (
    ImageResult,
    Outcome,
    Propagated,
    SossResult,
    Status,
    TemplateResult,
    Verdict,
    WfssResult,
)

Summary = tuple[tuple[str, str], ...]

Renderers = tuple[Callable[[Any], Details], Callable[[Any, str], Iterator[tuple[str, str]]]]

_RENDERERS: dict[type, Renderers] = {
    ImageResult: (image.details, image.summary),
    WfssResult: (wfss.details, wfss.summary),
    SossResult: (soss.details, soss.summary),
    TemplateResult: (template.details, template.summary),
}


def _of_kind(result: Any) -> Renderers:
    return _RENDERERS[type(result)]


def details(outcome: Outcome) -> Details:
    """Give the numbers of an outcome, plain values only; None and what is not finite as words."""
    told = {} if outcome.result is None else _of_kind(outcome.result)[0](outcome.result)
    if outcome.verdicts:
        told["verdicts"] = [_verdict(one) for one in outcome.verdicts]
    if outcome.propagated is not None:
        told["propagated"] = _propagated_details(outcome.propagated)
    return told


def summary(outcome: Outcome) -> Summary:
    """Tell an outcome to a person in a few lines, a label and a value each."""
    result = outcome.result
    told = () if result is None else tuple(_of_kind(result)[1](result, outcome.unit))
    more = () if outcome.propagated is None else tuple(_propagated_summary(outcome.propagated))
    return (*told, *map(_verdict_line, outcome.verdicts), *more)


def log_line(outcome: Outcome, name: str) -> str:
    """Say in one line what became of a target."""
    if outcome.already_done:
        return outcome.reason
    if outcome.status is not Status.COMPLETE:
        return f"{name}: background subtraction {outcome.status}: {outcome.reason}"
    as_expected = [_verdict_line(one) for one in outcome.verdicts if not one.reason]
    shown = (line for line in summary(outcome) if line not in as_expected)
    told = "; ".join(f"{label}: {value}" for label, value in shown)
    if outcome.metrics is not None:
        told = "; ".join([told, f"verdict: {outcome.metrics.verdict}", *outcome.metrics.reasons])
    return f"{name}: background subtracted; {told}"


def as_json(
    outcome: Outcome | None,
    target: str,
    *,
    product: Path | None = None,
    report: Path | None = None,
    warnings: Sequence[str] = (),
    error: Exception | None = None,
) -> Details:
    """Give what a script may want to know of a target, as plain values."""
    told: Details = {"target": target, "status": "ERROR", "reason": str(error)}
    if error is None and outcome is not None:
        told |= {
            "status": str(outcome.status),
            "reason": outcome.reason,
            "already_done": outcome.already_done,
            "unit": outcome.unit,
            "median_before": outcome.median_before,
            "median_after": outcome.median_after,
            "details": details(outcome),
            "metrics": None if outcome.metrics is None else metrics_details(outcome.metrics),
        }
    written = {"output": product, "report": report}
    named = {what: None if path is None else str(path) for what, path in written.items()}
    return {**told, **named, "warnings": list(warnings)}


def lines(
    outcome: Outcome, product: Path | None = None, report: Path | None = None
) -> Iterator[tuple[str, str]]:
    """Tell a person what became of a target, a label and a value each."""
    if outcome.reason:
        yield "because", outcome.reason
    yield from summary(outcome)
    if outcome.metrics is not None:
        yield from metrics_lines(outcome.metrics, outcome.unit)
    if outcome.median_before is not None and outcome.median_after is not None:
        medians = f"{outcome.median_before:.6g}, {outcome.median_after:.6g}"
        yield "median before, after", in_unit(medians, outcome.unit)
    if product is not None:
        yield "product", str(product)
    if report is not None:
        yield "report", str(report)


def totals(counts: Mapping[str, int]) -> str:
    """Count targets by what became of them.

    Examples
    --------
    >>> totals({"COMPLETE": 13, "FAILED": 1})
    '14 targets: 13 COMPLETE, 1 FAILED'
    """
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    total = sum(counts.values())
    return f"{total} target{'' if total == 1 else 's'}{': ' if told else ''}{told}"


def _verdict(one: Verdict) -> Details:
    return {"name": one.name, "used": one.used, "reason": one.reason or "None"}


def _verdict_line(one: Verdict) -> tuple[str, str]:
    label = "used" if one.used else "left out"
    return label, f"{one.name}: {one.reason}" if one.reason else one.name


def _propagated_details(propagated: Propagated) -> Details:
    common = {name: plain(error) for name, error in propagated.common.items()}
    jump = {"jump": list(propagated.jump)} if propagated.jump else {}
    return {"planes": list(propagated.planes), "common": common, **jump}


def _propagated_summary(propagated: Propagated) -> Iterator[tuple[str, str]]:
    yield "errors grown", ", ".join(propagated.planes) or "none: the target has none"
    for name, error in propagated.common.items():
        yield f"common error, {name}", f"{100 * error:.3g} % of the background"
