"""Run the benchmarks and write what they measured: ``python -m benchmarks.run``."""

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import apart

RESULTS = Path(__file__).parent / "RESULTS.md"

HEADER = """# Benchmark results

Made by `make bench`, each section at the time, and with the versions, that it tells.

Both implementations run in turn on the same files, which are in the page cache; a figure is the \
median of the rounds after a warm-up, a ratio the median of the ratios of neighbouring rounds. \
Seconds differ from machine to machine and from hour to hour: compare the ratios. The exposures are \
simulated (`webbkg.simulate`), with sources, cosmic rays, bad pixels and noise.
"""


def table(rows):
    """Lay rows out as a Markdown table."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[c]) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def circumstances(rounds):
    """Tell when, on what and with what a section was measured."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("webbkg", "jwst", "stdatamodels", "numpy", "numba")
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {rounds} rounds, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {packages}."
    )


SECTIONS = {
    "image warm": "Image from image: files → combined background, warm process",
    "image clip": "Image from image: clipping by the expected noise, files → combined, warm process",
    "image growth": "Image from image: growth of memory in a warm process",
    "image files": "Image from image: file to file in a warm process",
    "image whole": "Image from image: whole process, file to file",
    "image matched": "Image from image: levels matched and sources left out, whole process",
    "image robust": "Image from image: whole process, with the preset `robust`",
    "image first": "First run of a new installation",
    "batch shared": "Programmes: 40 targets that share 8 backgrounds",
    "batch nods": "Programmes: nods, each against the others",
    "batch many": "Programmes: many small targets, by engine",
    "batch killed": "Programmes: runs that are killed and taken up",
    "planning whole": "Planning: 10 000 exposures, whole process",
    "wfss warm": "WFSS: fit and sky mask, warm process",
    "wfss growth": "WFSS: growth of memory in a warm process",
    "wfss whole": "WFSS: whole process, file to file",
    "wfss robust": "WFSS: whole process, file to file, with the method `robust`",
    "template warm": "Templates of one's own: fit in memory, warm process",
    "template whole": "Templates of one's own: whole process, file to file",
    "soss warm": "SOSS: fit and subtraction in memory, warm process",
    "soss methods": "SOSS: the fit of each method in memory, warm process",
    "soss files": "SOSS: each method, whole process, file to file",
    "soss whole": "SOSS: whole process, file to file",
}
"""Module of this package and section of its ``bench``; and the title."""


def put(title, text):
    """Put a section in its place among the results, in that of a former one of its title."""
    _, *parts = RESULTS.read_text().split("\n## ") if RESULTS.exists() else [""]
    kept = {part.partition("\n")[0]: part.partition("\n")[2].strip("\n") for part in parts}
    kept[title] = text
    found = [f"## {one}\n\n{kept[one]}\n" for one in SECTIONS.values() if one in kept]
    RESULTS.write_text("\n".join([HEADER, *found]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "webbkg-bench")
    parser.add_argument("--only", default="", help="sections whose name begins so")
    parser.add_argument("--write", action="store_true", help="put those into the results, too")
    options = parser.parse_args()
    for section, title in SECTIONS.items():
        if section.startswith(options.only):
            module, part = section.split()
            rows = apart(module, "bench", part, options.data, options.rounds)
            text = f"{table(rows)}\n\n{circumstances(options.rounds)}"
            print(f"## {title}\n\n{text}\n", flush=True)
            if options.write or not options.only:
                put(title, text)


if __name__ == "__main__":
    main()
