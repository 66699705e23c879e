"""How the benchmarks measure: alternating runs, medians, and the memory of a process."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """One whole process: wall-clock seconds and peak resident memory in MB."""

    seconds: float
    peak: float


def alternate(functions, rounds):
    """Call each function in turn, `rounds` times after one warm-up; returns lists of seconds."""
    seconds = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def run_process(command, folder, environment=None):
    """Run a command to its end, in `folder`."""
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{command} failed:\n{errors.decode()[-2000:]}")
    return Run(seconds, usage.ru_maxrss / 1024)


def alternate_processes(commands, folder, rounds, *, warm=True):
    """Run each command in turn, `rounds` times after one warm-up; returns lists of `Run`.

    What a command has written is removed, so that none of them replaces a file.
    """
    runs = {name: [] for name in commands}
    inputs = set(folder.iterdir())
    for index in range(0 if warm else 1, rounds + 1):
        for name, (command, environment) in commands.items():
            run = run_process(command, folder, environment)
            for written in set(folder.iterdir()) - inputs:
                if written.is_file():
                    written.unlink()
            if index:
                runs[name].append(run)
    return runs


def median(values):
    return statistics.median(values)


def ratio(over, under):
    """Median of the ratios of runs that were made one after the other."""
    return median([a / b for a, b in zip(over, under, strict=True)])


def resident():
    """Resident memory of this process now (MB)."""
    return _status("VmRSS")


def growth(function):
    """Peak growth of this process's resident memory while `function` runs (MB)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident()
    function()
    return _status("VmHWM") - before


def _status(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise KeyError(name)
