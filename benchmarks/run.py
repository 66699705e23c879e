"""Run the benchmarks and write what they measured: ``python -m benchmarks.run``."""

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import image

RESULTS = Path(__file__).parent / "RESULTS.md"


def table(rows):
    """Lay rows out as a Markdown table."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[c]) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def header(rounds):
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("webbkg", "jwst", "stdatamodels", "numpy", "numba")
    )
    return (
        "# Benchmark results\n\n"
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {packages}.\n\n"
        "Both implementations run in turn on the same files, which are in the page cache; a "
        f"figure is the median of {rounds} runs after a warm-up, a ratio the median of the ratios "
        "of neighbouring runs. Seconds differ from machine to machine and from hour to hour: "
        "compare the ratios. The exposures are simulated (`webbkg.simulate`), with sources, "
        "cosmic rays, bad pixels and noise.\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "webbkg-bench")
    options = parser.parse_args()
    full, cubes = image.write_data(options.data)
    sections = [
        ("Image from image: files → combined background, warm process", None),
        (None, image.bench_warm(full, cubes, options.rounds)),
        ("Image from image: growth of memory in a warm process", None),
        (None, image.bench_growth(full, cubes)),
        ("Image from image: whole process, file to file", None),
        (None, image.bench_whole(full, options.rounds)),
        ("First run of a new installation", None),
        (None, image.bench_first_run(full)),
    ]
    parts = [header(options.rounds)]
    parts += [f"## {title}\n" if title else table(rows) + "\n" for title, rows in sections]
    RESULTS.write_text("\n".join(parts))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
