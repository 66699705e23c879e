"""The results of a programme as a table: in memory, as ECSV and as JSON lines."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webbkg.batch.work import Result
from webbkg.files.disk import settle
from webbkg.files.output import writing_whole

if TYPE_CHECKING:
    from astropy.table import Table

NAME = "webbkg-results"
"""Of the files, without their endings."""

_TEXTS = (
    *("target", "group", "kind", "fate", "status", "verdict", "remarks", "reason", "product"),
    *("unit", "warnings"),
)
_DESCRIPTIONS = {
    "target": "exposure",
    "group": "of the plan",
    "kind": "why the group is one",
    "fate": "done, there already, failed, elsewhere (another run is at it)",
    "status": "COMPLETE, SKIPPED, FAILED, ERROR",
    "verdict": "of the metrics: good, look, bad",
    "remarks": "why the verdict is not good",
    "reason": "why, where there is something to say",
    "product": "file",
    "backgrounds": "exposures that were given",
    "unit": "of level, level_scatter and background",
    "level": "median of the result on sky pixels",
    "level_scatter": "robust standard deviation there",
    "background": "median of what was subtracted there",
    "seconds": "that it took",
    "cpu": "time of a processor",
    "warnings": "what else is to be known",
}
_NUMBERS = {"level": "level", "level_scatter": "scatter", "background": "background"}
"""Columns, and what they are called among the metrics, one of which is called scatter as well."""

_SECONDS = ("seconds", "cpu")


def as_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Tell results as plain values, one row a target; metrics have a column each."""
    return [_row(one) for one in results]


def _row(one: Result) -> dict[str, Any]:
    told = one.told
    metrics = told.get("metrics") or {}
    row = {
        "target": one.target,
        "group": one.group,
        "kind": str(one.kind),
        "fate": str(one.fate),
        "status": one.status,
        "verdict": metrics.get("verdict", ""),
        "remarks": "; ".join(metrics.get("reasons", ())),
        "reason": told.get("reason", ""),
        "product": told.get("output") or "",
        "unit": told.get("unit", ""),
        "backgrounds": one.backgrounds,
        "seconds": one.seconds,
        "cpu": one.cpu,
        "warnings": "; ".join(told.get("warnings", ())),
    }
    row |= {column: _number(metrics.get(name)) for column, name in _NUMBERS.items()}
    values: Mapping[str, Any] = metrics.get("values", {})
    return row | {name: _number(value["value"]) for name, value in values.items()}


def _number(value: Any) -> float:
    return float("nan") if value in (None, "None") else float(value)


def as_table(results: Sequence[Result]) -> Table:
    """Make a table of results, a row for each target, in their order.

    Columns are text, but for ``backgrounds``, ``seconds`` and ``cpu`` (s), and what is measured:
    ``level``, ``level_scatter``, ``background`` (in the target's ``unit``) and a column for each
    metric, NaN where it was not.

    Returns
    -------
    astropy.table.Table
    """
    from astropy.table import Table

    rows = as_rows(results)
    metrics = _metrics(results)
    table = Table()
    for name in (*_DESCRIPTIONS, *metrics):
        if name in _TEXTS:
            table[name] = [str(row[name]) for row in rows] or _empty("U1")
        else:
            kind = "i8" if name == "backgrounds" else "f8"
            table[name] = [row.get(name, float("nan")) for row in rows] or _empty(kind)
        table[name].description = _DESCRIPTIONS.get(name) or metrics[name]
        table[name].unit = "s" if name in _SECONDS else None
    return table


def _metrics(results: Sequence[Result]) -> dict[str, str]:
    """Name the metrics that some target has, and describe them."""
    told = {}
    for one in results:
        for name, metric in ((one.told.get("metrics") or {}).get("values") or {}).items():
            told[name] = f"metric, in units of {metric['unit']}" if "unit" in metric else "metric"
    return told


def _empty(kind: str) -> Any:
    import numpy as np

    return np.empty(0, kind)


def _named(name: str, ending: str, shard: tuple[int, int]) -> str:
    """Name a file of a run; that of a part of one after it."""
    part = "" if shard[1] == 1 else f"-{shard[0]}-of-{shard[1]}"
    return f"{name}{part}{ending}"


def write_index(results: Sequence[Result], folder: Path, shard: tuple[int, int]) -> Path | None:
    """Write the index of the reports, where there are some.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    if not any(one.row for one in results):
        return None
    from webbkg.report.index import INDEX_NAME, Row, write_index

    def row(one: Result) -> Row:
        if not one.row:
            return Row(target=one.target, status=one.status, reason=str(one.told.get("reason", "")))
        told = dict(one.row)
        page = told["page"] and Path(told["page"])
        return Row(**told | {"page": page, "picture": b64decode(told["picture"])})

    name = _named(Path(INDEX_NAME).stem, ".html", shard)
    return write_index(map(row, results), folder / name)


def write_results(results: Sequence[Result], folder: Path, shard: tuple[int, int]) -> list[Path]:
    """Write results as ECSV and as JSON lines, whole or not at all.

    A line is what ``webbkg subtract --json`` tells of a target, with its group and what it took.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If they cannot be.
    """
    paths = [folder / _named(NAME, ending, shard) for ending in (".ecsv", ".jsonl")]
    with writing_whole(paths) as (ecsv, lines):
        as_table(results).write(ecsv, format="ascii.ecsv", overwrite=True)
        with lines.open("w", encoding="utf-8") as stream:
            for line in as_lines(results):
                stream.write(json.dumps(line) + "\n")
        for written in (ecsv, lines):
            with written.open("rb") as stream:
                settle(stream)
    return paths


def as_lines(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Tell all that is known of results, as plain values."""
    return [_line(one) for one in results]


def _line(one: Result) -> dict[str, Any]:
    own = {"group": one.group, "kind": str(one.kind), "fate": str(one.fate)}
    taken = {"seconds": round(one.seconds, 4), "cpu": round(one.cpu, 4)}
    return {"target": one.target, **own, **one.told, "backgrounds": one.backgrounds, **taken}
