"""No CRDS, no server, no network: real processes that must work all the same, and quickly."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stdatamodels.jwst import datamodels

from factories import make_model, ramp, save

SHAPE = (20, 30)
BIN = Path(sys.executable).parent
UNREACHABLE = "https://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture
def folder(tmp_path):
    """Write a target and a background."""
    save(make_model(3 * ramp(SHAPE)), tmp_path / "t_rate.fits")
    save(make_model(ramp(SHAPE)), tmp_path / "b_rate.fits")
    return tmp_path


def strun(folder, **environment):
    """Run the step as users do; returns the process and the seconds that it took."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CRDS")}
    clean.pop("STPIPE_DISABLE_CRDS_STEPPARS", None)
    start = time.monotonic()
    run = subprocess.run(
        [BIN / "strun", "webbkg", "t_rate.fits", "--bkg_list=b_rate.fits"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )
    return run, time.monotonic() - start


def check_product(folder, run):
    assert run.returncode == 0, run.stderr
    product = datamodels.open(folder / "t_backgroundstep.fits")
    assert product.meta.cal_step.bkg_subtract == "COMPLETE"
    assert (product.data == 2 * ramp(SHAPE)).all()
    return product


def test_without_any_crds_setting_it_works_in_silence(folder):
    run, _ = strun(folder)
    check_product(folder, run)
    assert "CRDS" not in run.stdout + run.stderr


def test_an_unreachable_server_costs_one_warning(folder):
    run, _ = strun(folder, CRDS_SERVER_URL=UNREACHABLE)
    check_product(folder, run)
    assert (run.stdout + run.stderr).count("WARNING") == 1
    assert "No step parameters from CRDS" in run.stdout + run.stderr


def test_an_empty_cache_costs_one_warning(folder):
    (folder / "cache").mkdir()
    run, _ = strun(folder, CRDS_PATH=str(folder / "cache"), CRDS_SERVER_URL=UNREACHABLE)
    check_product(folder, run)
    assert (run.stdout + run.stderr).count("WARNING") == 1


def test_a_server_that_never_answers_is_waited_for_no_longer_than_asked(folder, silent_server):
    run, seconds = strun(folder, CRDS_SERVER_URL=silent_server, CRDS_CLIENT_TIMEOUT_SECONDS="2")
    check_product(folder, run)
    # Whichever of the two comes first: the client's own patience of 2 s, or webbkg's.
    assert "No step parameters from CRDS" in run.stdout + run.stderr
    assert seconds < 60  # with its default the client would wait for an hour


@pytest.fixture
def silent_server():
    """Accept connections and never say a word."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.real
def test_the_real_cache_answers_offline(folder, real_data):
    run, _ = strun(
        folder,
        CRDS_PATH=str(real_data / "crds_cache"),
        CRDS_CONTEXT="jwst_0676.pmap",
        CRDS_SERVER_URL=UNREACHABLE,
    )
    product = check_product(folder, run)
    assert "WARNING" not in run.stdout + run.stderr
    assert product.meta.ref_file.crds.context_used == "jwst_0676.pmap"


def test_importing_webbkg_is_cheap():
    code = "import sys, json, webbkg, webbkg.integration; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(run.stdout))
    assert not loaded & {"numpy", "astropy", "stdatamodels", "stpipe", "numba", "asdf"}


def test_the_public_names_are_there():
    import webbkg

    for name in webbkg.__all__:
        assert getattr(webbkg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        webbkg.nonsense  # noqa: B018
