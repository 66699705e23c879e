"""How the benchmarks measure: alternating runs, medians, the memory of a process; their rows."""

import json
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
    """One whole process: wall-clock and CPU seconds, peak resident memory, bytes moved (MB)."""

    seconds: float
    cpu: float
    peak: float
    read: float
    written: float


def alternate(functions, rounds, clock=time.perf_counter):
    """Call each function in turn, `rounds` times after one warm-up; returns lists of seconds."""
    seconds = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if index:
                seconds[name].append(clock() - start)
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
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - start
    moved = dict(
        line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().split("\n")[:-1]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{command} failed:\n{errors.decode()[-2000:]}")
    read, written = (int(moved[kind]) / 1e6 for kind in ("rchar", "wchar"))
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, read, written)


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


def apart(module, function, *arguments):
    """Call a function of a module of this package in a process of its own; all travels as JSON.

    A child's peak memory starts at its parent's, hence the call before anything is read.
    """
    code = (
        "import json, sys; from importlib import import_module;"
        "module, function, arguments = json.loads(sys.argv[1]);"
        "print(json.dumps(getattr(import_module(module), function)(*arguments)))"
    )
    call = json.dumps([f"benchmarks.{module}", function, arguments], default=str)
    run = subprocess.run([sys.executable, "-c", code, call], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def read_into_cache(*paths):
    subprocess.run(["cat", *paths], stdout=subprocess.DEVNULL, check=True)


CALL = (
    "import json, sys, logging; from webbkg import BackgroundStep; logging.disable(50);"
    "BackgroundStep.call(sys.argv[2], sys.argv[3:], save_results=True, suffix='call',"
    " **json.loads(sys.argv[1]))"
)

WAYS_IN = ("webbkg subtract", "BackgroundStep.call", "strun")


def commands(target, image, backgrounds=(), **parameters):
    """Name the processes from file to file: ours and jwst's, and a null step on an image."""
    root = {"PYTHONPATH": str(Path(__file__).parents[1])}
    given = [f"--{name}={value}" for name, value in parameters.items()]
    dashed = [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]
    listed = ["--bkg_list=" + ",".join(map(str, backgrounds))] if backgrounds else []
    ours = [BIN / "webbkg", "subtract", target, *dashed, "--quiet"]
    ours += ["-b", *backgrounds] if backgrounds else []
    strun = [BIN / "strun", "webbkg", target, *listed, *given, "--suffix=strun"]
    return {
        "null step": ([sys.executable, "-m", "benchmarks.null", image, "null.fits"], root),
        "webbkg subtract": (ours, None),
        "BackgroundStep.call": (
            [sys.executable, "-c", CALL, json.dumps(parameters, default=str), target, *backgrounds],
            None,
        ),
        "strun": (strun, None),
        "jwst": ([sys.executable, "-m", "benchmarks.peer", *given, target, *backgrounds], root),
    }


def process_rows(runs, names, digits=2, **case):
    """Describe whole processes by name, a row each, beside the others: the null step, jwst."""
    seconds = {name: [run.seconds for run in runs[name]] for name in runs}
    took = {name: f"{median(seconds[name]):.{digits}f}" for name in runs}
    peaks = {name: f"{median([run.peak for run in runs[name]]):.0f}" for name in runs}
    others = {name: f"{took[name]} s, {peaks[name]} MB" for name in runs if name not in names}
    theirs, null = seconds["jwst"], seconds["null step"]
    cpu = {name: [run.cpu for run in runs[name]] for name in runs}
    return [
        {
            **case,
            "process": name,
            "seconds": took[name],
            "× faster than jwst": f"**{ratio(theirs, seconds[name]):.1f}**",
            "÷ null step": f"**{ratio(seconds[name], null):.2f}**",
            "CPU ÷ null step": f"{ratio(cpu[name], cpu['null step']):.2f}",
            "CPU, × less than jwst": f"{ratio(cpu['jwst'], cpu[name]):.1f}",
            "peak (MB)": peaks[name],
            "read, written (MB)": _moved(runs[name]),
            **others,
            "jwst ÷ null step": f"{ratio(theirs, null):.2f}",
        }
        for name in names
    ]


def rows_without_peer(runs, case):
    """Describe whole processes that no other implementation has, beside the null step."""
    null = runs["null step"]
    return [
        {
            "case": case,
            "process": name,
            "seconds": f"{median([run.seconds for run in found]):.2f}",
            "CPU (s)": f"{median([run.cpu for run in found]):.2f}",
            "CPU ÷ null step": f"{ratio([r.cpu for r in found], [r.cpu for r in null]):.2f}",
            "peak (MB)": f"{median([run.peak for run in found]):.0f}",
            "null step": f"{median([run.cpu for run in null]):.2f} s CPU, "
            f"{median([run.peak for run in null]):.0f} MB",
        }
        for name, found in runs.items()
        if name != "null step"
    ]


def _moved(runs):
    """Say how much was read and written, whatever it was: files of Python as well."""
    return f"{median([run.read for run in runs]):.0f}, {median([run.written for run in runs]):.0f}"


def warm_row(case, seconds, bar, digits=3, **more):
    """Describe what both implementations did in turn in a warm process."""
    return {
        "case": case,
        "jwst (s)": f"{median(seconds['jwst']):.{digits - 1}f}",
        "webbkg (s)": f"{median(seconds['webbkg']):.{digits}f}",
        "× faster": f"**{ratio(seconds['jwst'], seconds['webbkg']):.1f}**",
        "bar": f"≥ {bar}",
        **more,
    }


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
