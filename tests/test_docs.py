"""The examples of README and documentation, run as they stand."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits

from crds_cache import Cache, environment
from factories import make_model, ramp, save

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PIPELINE = ROOT / "docs" / "pipeline.md"
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md")} - {PIPELINE})]


def examples(language, pages=PAGES):
    """Collect the fenced blocks of a language, named by page and number."""
    found = []
    for page in pages:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
        found += [pytest.param(b, id=f"{page.stem}-{i}") for i, b in enumerate(blocks)]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    members = []
    for number, kind in ((1, "science"), (2, "background"), (3, "background")):
        name = f"exp_00{number}_rate.fits"
        save(make_model((5 - number) * ramp((16, 24))), tmp_path / name)
        members.append({"expname": name, "exptype": kind})
    header = {"asn_type": "image2", "asn_rule": "by hand", "asn_id": "o001", "asn_pool": "none"}
    association = {**header, "program": "1", "products": [{"name": "exp", "members": members}]}
    (tmp_path / "bkg_sub_asn.json").write_text(json.dumps(association))
    return tmp_path


@pytest.mark.parametrize("code", examples("python"))
def test_python_examples_run(folder, code):
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("script", examples("bash"))
def test_shell_examples_run(folder, script):
    for line in script.strip().splitlines():
        run_process(shlex.split(line), os.environ)
    assert list(folder.rglob("*_backgroundstep.fits"))


def run_process(command, environment):
    path = os.pathsep.join([str(BIN), environment["PATH"]])
    run = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "PATH": path}, check=False
    )
    assert run.returncode == 0, f"{command}\n{run.stderr}"


@pytest.fixture
def crds(folder):
    """Give a process an empty CRDS; the pipelines of the jwst package do not run without one."""
    pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")
    cache = Cache(folder / "crds")
    cache.add("niriss", "flat", {"NIS_IMAGE": "N/A"})
    return {**environment(cache), "STPIPE_DISABLE_CRDS_STEPPARS": "true"}


def is_subtracted(path):
    header = fits.getheader(path)
    return header.get("S_BKDSUB") == "COMPLETE" and "webbkg" in str(header.get("HISTORY", ""))


@pytest.mark.parametrize("code", examples("python", [PIPELINE]))
def test_python_examples_of_pipelines_run(folder, crds, code):
    told = "\nassert result[0].meta.background.webbkg.status == 'COMPLETE'"
    run_process([sys.executable, "-c", code + told], crds)


@pytest.mark.parametrize("script", examples("bash", [PIPELINE]))
def test_shell_examples_of_pipelines_run(folder, crds, script):
    inputs = set(folder.iterdir())
    for line in script.strip().splitlines():
        run_process(shlex.split(line), crds)
        products = [path for path in set(folder.iterdir()) - inputs if path.suffix == ".fits"]
        assert any(is_subtracted(path) for path in products)
        for path in products:
            path.unlink()


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f"\n{page.stem}\n" in index
