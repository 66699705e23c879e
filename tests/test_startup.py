"""The process is its owner's: library calls leave no trace in it, our commands start quickly."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import webbkg
from crds_cache import without_crds
from factories import make_model, ramp, save
from forks import Forks
from webbkg import startup

BIN = Path(sys.executable).parent


def run(*command, cwd, **settings):
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command,
        env={**without_crds(), "PYTHONPATH": path, **settings},
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_code(code, folder):
    return run(sys.executable, "-c", code, cwd=folder)


@pytest.fixture
def folder(tmp_path):
    for name, level in (("t", 3), ("b", 1)):
        save(make_model(level * ramp((6, 8))), tmp_path / f"{name}_rate.fits")
    return tmp_path


@pytest.fixture(scope="module")
def imported():
    """Give processes that have imported the libraries, and opened nothing yet."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    modules = ["webbkg.step", "webbkg.cli", "stdatamodels.jwst.datamodels", "process_state"]
    started = Forks(modules, {**without_crds(), "PYTHONPATH": path})
    yield started
    started.close()


def test_a_first_call_leaves_no_trace(folder, imported):
    imported.run_code(
        """
from process_state import no_trace
import webbkg
with no_trace():
    result = webbkg.BackgroundStep.call("t_rate.fits", ["b_rate.fits"], save_results=True)
assert result.meta.cal_step.bkg_subtract == "COMPLETE"
with no_trace():
    webbkg.BackgroundStep(save_results=True).run("t_rate.fits", ["b_rate.fits"])
""",
        folder,
    )


def test_the_import_leaves_no_trace(folder):
    run_code(
        """
from process_state import no_trace
with no_trace():
    import webbkg
    webbkg.ImageOptions, webbkg.use_in
""",
        folder,
    )


def test_first_openings_that_overlap_leave_no_trace(folder, imported):
    imported.run_code(
        """
import threading
from process_state import no_trace
from webbkg.files.models import open_header, open_model
from webbkg.files.references import open_reference
from pathlib import Path

def reference(path):
    with open_reference(path, "ImageModel") as model:
        return model.data.shape

together = threading.Barrier(4)
opened = []
def opening(how):
    together.wait()
    opened.append(how(Path("t_rate.fits")))

with no_trace():
    threads = [
        threading.Thread(target=opening, args=(how,))
        for how in (open_model, open_header, open_model, reference)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert len(opened) == 4
""",
        folder,
    )


def test_the_command_line_s_class_method_leaves_no_trace_in_a_notebook(folder, imported):
    """And what it gives can be run again: the planes are there."""
    imported.run_code(
        """
from process_state import no_trace
import webbkg
with no_trace():
    step = webbkg.BackgroundStep.from_cmdline(["webbkg", "t_rate.fits", "--bkg_list=b_rate.fits"])
    assert step.run("t_rate.fits", ["b_rate.fits"]).data.shape == (6, 8)
""",
        folder,
    )


def test_a_program_that_calls_the_command_s_functions_is_left_alone(folder, imported):
    imported.run_code(
        """
from process_state import no_trace
import webbkg.cli
with no_trace(but="hooks"):  # typer's own sys.excepthook
    try:
        webbkg.cli.main(["subtract", "t_rate.fits", "--background", "b_rate.fits"])
    except SystemExit as left:
        assert left.code == 0
""",
        folder,
    )


TOLD_AT_THE_END = """
import atexit, sys

@atexit.register
def tell():
    import gc, yaml
    heavy = {"scipy.linalg.lapack", "scipy.optimize._optimize"} & sys.modules.keys()
    print(gc.isenabled(), yaml.SafeLoader.__name__, heavy or "light")
"""

SUBTRACT = {
    "webbkg": ["subtract", "t_rate.fits", "--background", "b_rate.fits", "--quiet"],
    "strun": ["webbkg", "t_rate.fits", "--bkg_list=b_rate.fits"],
}


@pytest.mark.parametrize("command", SUBTRACT)
def test_a_command_s_own_process_starts_quickly(folder, command):
    (folder / "usercustomize").mkdir()
    (folder / "usercustomize" / "sitecustomize.py").write_text(TOLD_AT_THE_END)
    path = os.pathsep.join(
        filter(None, (str(folder / "usercustomize"), os.environ.get("PYTHONPATH")))
    )
    told = run(BIN / command, *SUBTRACT[command], cwd=folder, PYTHONPATH=path)
    assert told.splitlines()[-1] == "False CSafeLoader light"
    assert (folder / "t_backgroundstep.fits").exists()


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def test_the_command_gives_the_memory_of_a_target_back_before_the_next(folder):
    """Its collector is off, and what writes a product leaves the planes in cycles."""
    shape = (1024, 1024)
    for number in range(5):
        save(make_model(ramp(shape)), folder / f"e{number}_rate.fits")
    save(make_model(ramp(shape)), folder / "b_rate.fits")
    peaks = []
    for n_targets in (1, 5):
        targets = [f"e{number}_rate.fits" for number in range(n_targets)]
        command = [BIN / "webbkg", "subtract", *targets, "--background", "b_rate.fits", "--quiet"]
        peaks.append(float(run(sys.executable, "-c", PEAK, *command, cwd=folder)))
    of_one = 3 * 4 * shape[0] * shape[1] / 2**20  # 12 MB
    assert peaks[1] - peaks[0] < 1.5 * of_one


def test_neither_a_test_nor_an_interactive_session_is_a_command(monkeypatch):
    main = sys.modules["__main__"]
    assert not startup.is_command("strun")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/strun", "webbkg"])
    assert not startup.is_command("strun")
    monkeypatch.setattr(main, "__file__", "/somewhere/bin/strun", raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    assert startup.is_command("strun")
    with monkeypatch.context() as interactive:
        interactive.setattr(sys, "ps1", ">>> ", raising=False)
        assert not startup.is_command("strun")
    monkeypatch.setattr(main, "__name__", "__mp_main__")  # a worker that was spawned
    assert not startup.is_command("strun")


def test_what_gwcs_took_for_scipy_works_when_it_is_needed(folder):
    found = run_code(
        """
import sys
from webbkg.startup import own_process
own_process()
from webbkg.files.models import open_model
open_model("t_rate.fits")
assert "gwcs" in sys.modules and "scipy.optimize._optimize" not in sys.modules
for name, module in list(sys.modules.items()):
    if name.startswith("gwcs") and "optimize" in vars(module):
        print(vars(module)["optimize"].brentq(lambda x: x - 2, 0, 5))
from scipy import linalg, optimize
assert optimize is sys.modules["scipy.optimize"]
""",
        folder,
    )
    assert {float(value) for value in found.split()} == {2.0}


def test_numba_gets_the_one_module_of_linear_algebra_that_it_wants(folder):
    found = run_code(
        """
import sys
from webbkg.startup import own_process
own_process()
import numba, numpy as np
product = numba.njit(lambda a, b: np.dot(a, b))(np.eye(3), 2 * np.eye(3))
assert "scipy.linalg.cython_blas" in sys.modules and "scipy.linalg.lapack" not in sys.modules
import scipy
print(product.trace(), np.trace(scipy.linalg.inv(np.eye(2))))
import scipy.linalg
assert scipy.linalg.cython_blas is sys.modules["scipy.linalg.cython_blas"]
from scipy.linalg import lapack
""",
        folder,
    )
    assert found == "6.0 2.0"


def test_a_stand_in_gives_the_attributes_of_its_module_and_no_others():
    stand_in = startup._Deferred("scipy", "constants")
    assert stand_in.c == 299792458
    with pytest.raises(AttributeError):
        _ = stand_in.no_such_function
    assert not hasattr(stand_in, "__file__")


@pytest.fixture
def installed(tmp_path):
    """Install webbkg anew, without a kernel compiled; return a command and its messages."""
    package = tmp_path / "installed" / "webbkg"
    shutil.copytree(Path(webbkg.__file__).parent, package, ignore=shutil.ignore_patterns("__py*"))
    code = "import sys; from webbkg.cli import main; sys.argv[0] = 'webbkg'; main()"
    names = ["t_rate.fits", "--background", "b_rate.fits"]
    environment = {k: v for k, v in without_crds().items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def messages(**settings):
        done = subprocess.run(
            [sys.executable, "-c", code, "subtract", *names],
            env=environment | settings,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=120,
        )
        assert "t_rate.fits: COMPLETE" in done.stdout, done.stderr
        return [line for line in done.stderr.splitlines() if "compil" in line]

    return package, messages


def test_the_first_run_alone_compiles_and_says_so(folder, installed):
    package, messages = installed
    assert messages() == ["compiling (first run only)"]
    assert messages() == []
    kept = {path.name.partition("-")[0] for path in (package / "image").rglob("*.nbi")}
    assert kept == {"kernels.average_untouched"}, "what so few backgrounds do not need"


def test_an_installation_that_keeps_no_machine_code_works_and_says_what_helps(folder, installed):
    package, messages = installed
    for place in (*(module.parent for module in package.rglob("*.py")), package):
        (place / "__pycache__").touch()  # no folder can be made there, even by root
    (folder / "cache").touch()
    told = messages()
    assert len(told) == 1
    assert "set NUMBA_CACHE_DIR to a folder" in told[0]
    assert messages() == told
    machine_code = str(folder / "machine_code")
    assert messages(NUMBA_CACHE_DIR=machine_code) == ["compiling (first run only)"]
    assert messages(NUMBA_CACHE_DIR=machine_code) == []
