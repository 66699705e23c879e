"""Run the benchmarks and write what they measured: ``python -m benchmarks.run``."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

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


SECTIONS = {
    "warm": "Image from image: files → combined background, warm process",
    "growth": "Image from image: growth of memory in a warm process",
    "whole": "Image from image: whole process, file to file",
    "first": "First run of a new installation",
}


def measure(section, data, rounds):
    """Measure one section in a process of its own: a child's peak memory starts at its parent's."""
    code = (
        "import json, sys; from pathlib import Path; from benchmarks import image;"
        "print(json.dumps(image.bench(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))"
    )
    command = [sys.executable, "-c", code, section, str(data), str(rounds)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "webbkg-bench")
    options = parser.parse_args()
    parts = [header(options.rounds)]
    for section, title in SECTIONS.items():
        parts += [f"## {title}\n", table(measure(section, options.data, options.rounds)) + "\n"]
    RESULTS.write_text("\n".join(parts))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
