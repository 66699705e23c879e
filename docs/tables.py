"""The tables of the documentation that are made of the code, and of what has been measured."""

import re
from pathlib import Path

from webbkg import options
from webbkg.options import (
    ImageOptions,
    Options,
    RunOptions,
    SossOptions,
    TemplateOptions,
    WfssOptions,
)
from webbkg.report.limits import LIMITS

MODES = {
    "run": RunOptions,
    "image": ImageOptions,
    "wfss": WfssOptions,
    "soss": SossOptions,
    "template": TemplateOptions,
}

RESULTS = Path(__file__).parents[1] / "benchmarks" / "RESULTS.md"


def parameters(kind: type[Options]) -> str:
    """Write the parameters of a mode as a table."""
    rows = ["| name | default | meaning |", "| --- | --- | --- |"]
    for one in kind.parameters().values():
        default = one.stands_for if one.presets else one.default
        rows.append(f"| `{one.name}` | {default} | {one.text} |")
    return "\n".join(rows) + "\n"


def preset() -> str:
    """Write what the presets set, mode by mode."""
    rows = ["| mode | parameter | default | `robust` |", "| --- | --- | --- | --- |"]
    for one in options.parameters().values():
        if one.presets:
            rows.append(
                f"| {one.mode} | `{one.name}` | {one.stands_for} | {one.presets['robust']} |"
            )
    return "\n".join(rows) + "\n"


def limits() -> str:
    """Write the limits of the metrics, and why they are where they are."""
    rows = ["| metric | look | bad | and, % of the background | why |", "| --- |" + " --- |" * 4]
    for name, one in LIMITS.items():
        sign = "below " if one.least else "above "
        shares = f"{100 * one.look_share:g}, {100 * one.bad_share:g}" if one.bad_share else ""
        ends = (f"{sign}{one.look:g}", f"{sign}{one.bad:g}") if one.look or one.bad else ("–",) * 2
        rows.append(f"| `{name}` | {ends[0]} | {ends[1]} | {shares} | {one.why} |")
    return "\n".join(rows) + "\n"


# What has been measured, for the first page.

Row = dict[str, str]


def results() -> dict[str, list[Row]]:
    """Read the tables of the results of `make bench`, by the titles of their sections."""
    found: dict[str, list[Row]] = {}
    for section in RESULTS.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
        names, _, *rows = (re.split(r" *\| *", line.replace("**", ""))[1:-1] for line in lines)
        found[title] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


def measured() -> str:
    """Write the first page's figures: seconds, memory, and how many times faster."""
    rows = [
        averaging("20 backgrounds of 2048², averaged", "20 backgrounds 2048²"),
        whole("the same, file to file", "Image", "20"),
        whole("a grism exposure, 1000 sources, file to file", "WFSS", "1000 sources"),
        whole("300 SOSS integrations, file to file", "SOSS", "300"),
    ]
    lines = ["| | webbkg | jwst 3.0.0 | faster |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {label} | {own} | {other} | **{faster} ×** |" for label, own, other, faster in rows
    ]
    return "\n".join(lines) + "\n"


def averaging(label: str, case: str) -> tuple[str, ...]:
    """Give the time and the memory that it takes to average backgrounds, with the process warm."""
    time, memory = (
        one(rows, "case", case)
        for title, rows in results().items()
        if title.startswith(("Image from image: files →", "Image from image: growth"))
    )
    own, other = (
        f"{time[f'{name} (s)']} s, {memory[f'{name} (MB)']} MB" for name in ("webbkg", "jwst")
    )
    return label, own, other, time["× faster"]


def whole(label: str, mode: str, case: str) -> tuple[str, ...]:
    """Give the time and the peak of memory of a whole process of `webbkg subtract`."""
    end = ": whole process, file to file"
    title = next(one for one in results() if one.startswith(mode) and one.endswith(end))
    rows = [row for row in results()[title] if row["process"] == "webbkg subtract"]
    row = one(rows, next(iter(rows[0])), case)
    own = f"{row['seconds']} s, {row['peak (MB)']} MB"
    return label, own, row["jwst"], row["× faster than jwst"]


def one(rows: list[Row], name: str, value: str) -> Row:
    """Find the row with a value in a column."""
    return next(row for row in rows if row[name] == value)


def write(folder: Path) -> None:
    """Write all tables into a folder, for the pages to include."""
    folder.mkdir(exist_ok=True)
    made = {name: parameters(kind) for name, kind in MODES.items()}
    made |= {"limits": limits(), "preset": preset(), "measured": measured()}
    for name, text in made.items():
        (folder / f"{name}.md").write_text(text)
