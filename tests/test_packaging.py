"""What is shipped: all that the metadata and the Makefile promise."""

import re
import tomllib
from pathlib import Path

import pytest

import webbkg

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_says_that_it_is_typed():
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert (Path(webbkg.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"constraints/\w+\.txt", (ROOT / "Makefile").read_text())))
)
def test_what_the_makefile_uses_is_in_the_source_archive(name):
    shipped = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert name.split("/")[0] in shipped
    assert (ROOT / name).is_file()


def test_every_command_and_entry_point_exists():
    points = [
        *PROJECT["project"]["scripts"].values(),
        *PROJECT["project"]["entry-points"]["stpipe.steps"].values(),
    ]
    for point in points:
        module, _, function = point.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
