"""What a product tells of its subtraction: metadata, ASDF tree, HISTORY, keywords."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webbkg import __version__
from webbkg.files.associations import Job
from webbkg.files.naming import plain_ascii
from webbkg.record.metrics import metrics_details, verdict_card
from webbkg.record.telling import details
from webbkg.record.words import Details
from webbkg.results import Outcome, Status, TemplateResult, WfssResult

SOFTWARE = {"name": "webbkg", "version": __version__}

HISTORY_WIDTH = 72
"""Characters of a HISTORY card (FITS standard 4.0, section 4.4.2.4): a longer entry would be cut
there into cards, wherever that falls."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a product tells of its subtraction, whoever writes it.

    Attributes
    ----------
    meta : mapping of str to object
        Metadata by their dotted path, such as ``meta.cal_step.bkg_subtract``.
    tree : mapping
        All numbers of the result, plain values only, for ``meta.background.webbkg``.
    history : tuple of str
        Entries of at most `HISTORY_WIDTH` ASCII characters.
    cards : tuple of (str, str, str)
        Keyword, value and comment of cards that no schema knows.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)
    tree: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    cards: tuple[tuple[str, str, str], ...] = ()


def record(outcome: Outcome, target: str = "") -> Record:
    """Say what the product of an outcome is to tell; nothing where it was subtracted before.

    `target` is the name of the target's file; a report that is made afterwards looks for it.
    """
    if outcome.already_done:
        return Record()
    meta: Details = {"meta.cal_step.bkg_subtract": str(outcome.status)}
    if isinstance(outcome.result, WfssResult):
        meta["meta.background.scaling_factor"] = outcome.result.fit.scale
    if isinstance(outcome.result, TemplateResult) and len(outcome.result.fit.scales) == 1:
        meta["meta.background.scaling_factor"] = outcome.result.fit.scales[0].scale
    return Record(
        meta=meta,
        tree={
            "version": __version__,
            **({"target": plain_ascii(target)} if target else {}),
            "status": str(outcome.status),
            "reason": outcome.reason or "None",
            **details(outcome),
            **({} if outcome.metrics is None else {"metrics": metrics_details(outcome.metrics)}),
        },
        history=_history(outcome) if outcome.status is Status.COMPLETE else (),
        cards=verdict_card(outcome.metrics),
    )


def members(job: Job, catalog: Any) -> Details:
    """Say what a product tells of its association: the base names of its members.

    `catalog` is what the target itself names. What the user set stays as it was set; only of a
    table, which no header can hold, it is told that it is one.
    """
    named = {
        "meta.source_catalog": job.source_catalog,
        "meta.segmentation_map": job.segmentation_map,
        "meta.direct_image": job.direct_image,
    }
    told = {path: plain_ascii(one.name) for path, one in named.items() if isinstance(one, Path)}
    if job.association is not None:
        told["meta.asn.table_name"] = plain_ascii(job.association)
    if "meta.source_catalog" not in told and not isinstance(catalog, str | None):
        told["meta.source_catalog"] = "a table"
    return told


def _history(outcome: Outcome) -> tuple[str, ...]:
    """Write the parameters, the files and the scales in readable lines."""
    told = [f"{name} {_words(value)}" for name, value in _for_history(details(outcome)).items()]
    text = f"webbkg {__version__} subtracted the background: {'; '.join(told)}"
    lines = textwrap.wrap(
        plain_ascii(text), HISTORY_WIDTH, subsequent_indent="  ", break_on_hyphens=False
    )
    return tuple(lines)


def _for_history(told: Details) -> Details:
    """Leave out what is a number for each row, and of the exposures what was as expected."""
    told["verdicts"] = [one for one in told.pop("verdicts", []) if one["reason"] != "None"]
    if not told["verdicts"]:
        del told["verdicts"]
    if "time" in told:
        told["time"] = {k: v for k, v in told["time"].items() if k != "knots"}
    if "propagated" in told:
        told["propagated"] = {k: v for k, v in told["propagated"].items() if k != "jump"}
    return told


def _words(value: Any) -> str:
    """Write a plain value for a person to read."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_words, value))}]"
    return f"{value:.7g}" if isinstance(value, float) else str(value)
