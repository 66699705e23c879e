"""The examples of README and documentation, run as they stand."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from factories import make_model, ramp, save

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(language):
    """Collect the fenced blocks of a language, named by page and number."""
    found = []
    for page in PAGES:
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
    association = {"products": [{"name": "exp", "members": members}]}
    (tmp_path / "bkg_sub_asn.json").write_text(json.dumps(association))
    return tmp_path


@pytest.mark.parametrize("code", examples("python"))
def test_python_examples_run(folder, code):
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("script", examples("bash"))
def test_shell_examples_run(folder, script):
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    for line in script.strip().splitlines():
        run = subprocess.run(
            shlex.split(line),
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
            check=False,
        )
        assert run.returncode == 0, f"{line}\n{run.stderr}"
    assert list(folder.rglob("*_backgroundstep.fits"))


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f"\n{page.stem}\n" in index
