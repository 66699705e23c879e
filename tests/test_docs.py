"""The examples of README and documentation, run as they stand."""

import inspect
import json
import os
import pkgutil
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
import yaml
from astropy.io import fits

import webbkg
import webbkg.batch
from crds_cache import Cache, environment
from factories import make_model, ramp, save
from forks import Forks
from webbkg.cli import app
from webbkg.options import parameters

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PIPELINE = ROOT / "docs" / "pipeline.md"
FRONT = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGES")]
SOURCES = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if not any(part.startswith("_") for part in page.relative_to(ROOT / "docs").parts)
)
PAGES = [FRONT[0], *(page for page in SOURCES if page != PIPELINE)]


def examples(language, pages=PAGES):
    """Collect the fenced blocks of a language, each once, named by page and number."""
    found = {}
    for page in pages:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
        for number, block in enumerate(blocks):
            found.setdefault(block, f"{page.stem}-{number}")
    return [pytest.param(block, id=name) for block, name in found.items()]


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


@pytest.fixture(scope="module")
def shell():
    """Give processes without a CRDS, as they are where none is set up."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CRDS")}
    modules = ["webbkg.step", "webbkg.command", "webbkg.image.measure", "webbkg.report.drawing"]
    started = Forks([*modules, "jinja2", "matplotlib.backends.backend_agg"], variables)
    yield started
    started.close()


@pytest.mark.parametrize("script", examples("bash"))
def test_shell_examples_run(folder, shell, script):
    for command in commands(script):
        shell.run(command, folder)
    assert list(folder.rglob("*_backgroundstep.fits"))


def commands(script):
    """Take a script's lines apart; a backslash at the end of one joins it to the next."""
    for line in script.replace("\\\n", " ").strip().splitlines():
        name, *arguments = shlex.split(line)
        yield [str(BIN / name), *arguments]


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Give processes an empty CRDS; the pipelines of the jwst package do not run without one."""
    pytest.importorskip("jwst", reason="the jwst package (extra 'compare') is not installed")
    cache = Cache(tmp_path_factory.mktemp("crds"))
    cache.add("niriss", "flat", {"NIS_IMAGE": "N/A"})
    variables = {**environment(cache), "STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    started = Forks(["jwst.pipeline", "webbkg.pipelines"], variables)
    yield started
    started.close()


def is_subtracted(path):
    header = fits.getheader(path)
    return header.get("S_BKDSUB") == "COMPLETE" and "webbkg" in str(header.get("HISTORY", ""))


@pytest.mark.parametrize("code", examples("python", [PIPELINE]))
def test_python_examples_of_pipelines_run(folder, forks, code):
    told = "\nassert result[0].meta.background.webbkg.status == 'COMPLETE'"
    forks.run(["-c", code + told], folder)


@pytest.mark.parametrize("script", examples("bash", [PIPELINE]))
def test_shell_examples_of_pipelines_run(folder, forks, script):
    inputs = set(folder.iterdir())
    for command in commands(script):
        forks.run(command, folder)
        products = [path for path in set(folder.iterdir()) - inputs if path.suffix == ".fits"]
        assert any(is_subtracted(path) for path in products)
        for path in products:
            path.unlink()


def test_every_page_is_in_a_table_of_contents():
    blocks = re.findall(
        r"^```{toctree}\n(.*?)^```", "".join(map(Path.read_text, SOURCES)), re.M | re.S
    )
    listed = {line for block in blocks for line in block.splitlines()}
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in SOURCES}
    assert pages - listed == {"index"}


@pytest.mark.parametrize("page", [*SOURCES, *FRONT], ids=lambda page: page.name)
def test_code_fits_its_column(page):
    """The column of a screen of 1280 pixels, between two of contents."""
    blocks = re.findall(r"^```(\S+).*\n([\s\S]*?)^```", page.read_text(), re.M)
    code = [block for kind, block in blocks if kind in ("python", "bash", "console", "{code-cell}")]
    assert not [line for block in code for line in block.splitlines() if len(line) > 92]


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page):
    """Tell what headings can be linked to, by the names that MyST and GitHub give them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*SOURCES, *FRONT], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for name, anchor in LINK.findall(page.read_text()):
        if not name.startswith(("https://", "http://")):
            target = page.parent / name if name else page
            assert target.exists(), name
            assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_the_citation_is_of_this_version():
    """What version 1.2.0 of the Citation File Format demands, and no more is claimed."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert told["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(told)
    assert all(author["name"] for author in told["authors"])
    assert (told["version"], told["license"]) == (webbkg.__version__, "BSD-3-Clause")


def test_the_first_page_has_the_figures_that_were_measured(monkeypatch):
    """Guards the table that is made of RESULTS.md against another layout of that."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import tables

    rows = [re.split(r" *\| *", line)[1:-1] for line in tables.measured().splitlines()[2:]]
    assert len(rows) == 4
    for _, own, other, faster in rows:
        assert re.fullmatch(r"[\d.]+ s, \d+ MB", own)
        assert re.fullmatch(r"[\d.]+ s, \d+ MB", other)
        assert float(faster.strip("*× ")) > 1


# Options and parameters, by their spelling.

ELSEWHERE = {
    "--exclude-editable": "pip freeze",
    "--disable-crds-steppars": "strun",
    "--save-parameters": "strun",
    "--steps.": "strun: parameters of a pipeline's steps",
    **dict.fromkeys(("--array", "--cpus-per-task", "--mem", "--ntasks", "--time"), "SLURM"),
    **dict.fromkeys(("--nthreads", "--scheduler-file"), "dask"),
}
"""Options in the pages that are not webbkg's, and whose they are."""


def known_options():
    """Collect the options of the command, of studies, and the step's parameters for strun."""
    group = typer.main.get_command(app)
    ours = [one for command in group.commands.values() for one in command.params] + group.params
    names = {name for one in ours for name in (*one.opts, *one.secondary_opts)}
    of_stpipe = {"output_dir", "output_file", "suffix", "save_results", "skip"}
    references = {f"override_{kind}" for kind in ("bkg", "wavelengthrange")}
    studies = "".join(page.read_text() for page in (ROOT / "benchmarks").glob("*.py"))
    names |= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', studies))
    return names | {f"--{name}" for name in {*parameters(), *of_stpipe, *references}}


@pytest.mark.parametrize("page", [*SOURCES, *FRONT], ids=lambda page: page.name)
def test_options_are_spelt_as_they_are(page):
    found = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", page.read_text()))
    ours = {one for one in found if not one.startswith(tuple(ELSEWHERE))}
    assert ours <= known_options()


CONSOLE = {
    line: f"{block.id}: {line}"
    for block in examples("console", [FRONT[0], *SOURCES])
    for line in block.values[0].replace("\\\n", " ").splitlines()
    if line.startswith("webbkg ")
}


@pytest.mark.parametrize("line", CONSOLE, ids=CONSOLE.get)
def test_commands_that_are_not_run_are_understood(line):
    """Their files do not exist; options, their values and their number are judged all the same."""
    _, name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, arguments)


@pytest.mark.parametrize("page", [*SOURCES, *FRONT], ids=lambda page: page.name)
def test_parameters_are_spelt_as_they_are(page):
    named = set(re.findall(r"`((?:wfss|soss)_\w+)(?:`| ?=)", page.read_text()))
    given = set(re.findall(r"`([a-z_]+) ?= ?[^`]*`", page.read_text())) - {
        "config_file",
        "sky_level",
    }
    calls = (webbkg.subtract, webbkg.batch.run)
    arguments = {name for call in calls for name in inspect.signature(call).parameters}
    assert named | given <= {*parameters(), *arguments}


# The signatures of the API.


def test_signatures_show_no_factories(monkeypatch):
    pytest.importorskip("jwst", reason="webbkg.pipelines needs it")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import signatures

    names = re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert set(webbkg.__all__) - set(names) == {"WebbkgError", "__version__"}  # on errors' page
    things = [pkgutil.resolve_name(f"webbkg.{name}") for name in names]
    told = [given for thing in things if (given := signatures.give(None, "function", "", thing))]
    assert len(told) > 40
    assert not [text for text, _ in told if "<" in text or " at 0x" in text]


def test_members_are_those_of_webbkg(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import signatures

    assert signatures.members_of("webbkg.BackgroundStep") == ["process"]
    assert set(signatures.members_of("webbkg.Metrics")) == {"verdict", "reasons", "find", "plot"}
    assert "COMPLETE" in signatures.members_of("webbkg.Status")
