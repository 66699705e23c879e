"""Plans as files: written, read back, edited with mistakes; the command."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planning import expose, who
from webbkg.batch import plan, read_plan, write_plan
from webbkg.batch.planfile import as_json, is_plan, moved_to
from webbkg.cli import app
from webbkg.errors import InputError, MissingFileError, OutputError

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three dithers and a grism exposure with its catalogue."""
    monkeypatch.setenv("WEBBKG_CACHE_DIR", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        expose(tmp_path / "data", number, at=(5 * number, 0))
    expose(tmp_path / "data", 4, at=(10, 0), FILTER="P750L", EXP_TYPE="MIR_WFSS")
    (tmp_path / "data" / "field_cat.ecsv").touch()
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def test_a_plan_comes_back_as_it_was(folder):
    made = plan(folder / "data")
    path = write_plan(made, folder / "new" / "plan.json")
    assert is_plan(path)
    back = read_plan(path)
    assert back.folder == str(folder / "new")
    assert moved_to(back, folder) == made
    content = json.loads(path.read_text())
    assert content["groups"][0]["members"][0].startswith(str(folder / "data"))
    beside = json.loads(write_plan(made, folder / "plan.json").read_text())
    assert beside["groups"][0]["members"][0].startswith("data/jw")
    assert beside["groups"][0]["backgrounds"] == "others"
    (folder / "moved").mkdir()
    (folder / "data").rename(folder / "moved" / "data")
    (folder / "plan.json").rename(folder / "moved" / "plan.json")
    moved = read_plan(folder / "moved" / "plan.json")
    assert Path(moved.folder, moved.groups[0].members[0].target).exists()


def test_an_edited_plan_is_not_overwritten_unasked(folder):
    made = plan(folder / "data")
    path = write_plan(made, "plan.json")
    write_plan(made, "plan.json")
    path.write_text(path.read_text().replace("dithers", "dithers "))
    with pytest.raises(OutputError, match="may have been edited"):
        write_plan(made, "plan.json")
    write_plan(made, "plan.json", overwrite=True)
    assert read_plan(path) == replace(made, folder=str(folder))


SCHEMA = json.loads(files("webbkg.batch").joinpath("plan.schema.json").read_text())
MEMBER = {"target": "a.fits", "backgrounds": ["b.fits"]}
GROUP = {"name": "a", "kind": "dithers", "members": [MEMBER]}


def whole(**changes):
    return {"webbkg_plan": 1, "groups": [GROUP], **changes}


def group(**changes):
    return whole(groups=[{**GROUP, **changes}])


def member(**changes):
    return group(members=[{**MEMBER, **changes}])


def test_the_schema_allows_what_is_written(folder):
    written = json.loads(write_plan(plan(folder / "data"), "plan.json").read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(written, SCHEMA)
    jsonschema.validate(whole(), SCHEMA)


FAULTS = [
    ([], "is no plan"),
    (whole(webbkg_plan=2), "webbkg_plan must be 1, the form that is known (got 2)"),
    (whole(groups={}), "groups must be a list (got {})"),
    (whole(group=[]), "the plan has the key \"group\", unknown; did you mean groups?"),
    (group(kind="nods"), 'groups[0].kind must be one of dedicated, dithers, grism, soss, template'),
    (group(members=[]), "groups[0].members must name a target"),
    (group(members=[{}]), "groups[0].members[0] lacks target; add it"),
    (group(members=["a.fits"]), "groups[0].backgrounds must name at least one exposure"),
    (group(members=[3]), "groups[0].members[0] must be an object"),
    (member(backgrounds="other"), "must be a list, or 'others' for the group's other targets"),
    (group(backgrounds=["c", "c"], members=["a"]), "groups[0].backgrounds[1] stands twice"),
    (member(target=""), 'groups[0].members[0].target must be a text (got "")'),
    (member(target=3), "groups[0].members[0].target must be a text (got 3)"),
    (member(backgrounds=["c", "c"]), "groups[0].members[0].backgrounds[1] stands twice"),
    (member(catalogue="c"), "did you mean catalog?"),
    (group(kind="grism"), "must be left out (the group is of the kind grism"),
    (whole(left_out=[{"file": "x"}]), "left_out[0] lacks reason"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "told"), FAULTS)
def test_mistakes_are_told_with_their_place(tmp_path, content, told):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


def test_what_members_share_is_told_once(tmp_path):
    path = tmp_path / "plan.json"
    members = ["a", "b", {"target": "c", "backgrounds": ["x"]}, {"target": "d"}]
    path.write_text(json.dumps(group(backgrounds="others", members=members)))
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    told = read_plan(path)
    assert who(told) == {
        "a": ("b", "c", "d"),
        "b": ("a", "c", "d"),
        "c": ("x",),
        "d": ("a", "b", "c"),
    }
    long = {"kind": "dedicated", "backgrounds": ["x", "y"], "members": ["a", "b"]}
    path.write_text(json.dumps(group(**long)))
    shared = read_plan(path)
    assert who(shared) == {"a": ("x", "y"), "b": ("x", "y")}
    for one in (told, shared):
        for short in (True, False):
            path.write_text(json.dumps(as_json(one, short=short)))
            jsonschema.validate(json.loads(path.read_text()), SCHEMA)
            assert read_plan(path) == one
    assert as_json(shared, short=True)["groups"][0] == {**GROUP, **long, "why": ""}


def test_mistakes_that_no_schema_knows(tmp_path):
    path = tmp_path / "plan.json"
    for content, told in (
        (
            member(backgrounds=[]),
            "groups[0].members[0].backgrounds must name at least one exposure",
        ),
        (whole(groups=[GROUP, GROUP]), "target is the target of groups[0].members[0], too"),
        (
            member(backgrounds=["./a.fits"]),
            "backgrounds[0] is the target itself, a.fits; take it out",
        ),
        (whole(groups=[GROUP, {**GROUP, "members": [{**MEMBER, "target": "c"}]}]), "rename one"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError) as caught:
            read_plan(path)
        assert told in str(caught.value)
    path.write_text('{"webbkg_plan": 1,\n "groups": [,]}')
    with pytest.raises(InputError, match="not valid JSON at line 2, column 13"):
        read_plan(path)
    path.write_text('{"webbkg_plan": 1, "groups": [], "groups": []}')
    with pytest.raises(InputError, match="'groups' stands twice"):
        read_plan(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert not is_plan(path)
    with pytest.raises(MissingFileError, match="no such file"):
        read_plan(tmp_path / "plann.json")


def test_the_command_shows_and_writes_a_plan(folder):
    result = run("data", "-o", "plan.json")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "4 targets in 2 groups, 0 files left out"
    first = "data/jw01234001001_02101_00001_mirimage_rate.fits"
    assert f"  {first}  - data/jw01234001001_02101_00002_mirimage_rate.fits, " in result.output
    assert "- scaled template (catalogue data/field_cat.ecsv)" in result.output
    assert lines[-1] == "written: plan.json"
    assert who(read_plan("plan.json")) == who(plan("data"))
    whole = Path("whole.json")
    whole.write_text(run("data", "--json").stdout)
    assert read_plan(whole) == read_plan("plan.json")
    assert json.loads(whole.read_text())["groups"][0]["members"][0]["target"] == first
    assert run("data", "-q").output == ""


def test_the_command_s_exit_status(folder):
    assert run("data", "--min-separation", "60", "--catalog", "gone.ecsv").exit_code == 1
    assert run("data", "--min-separation", "-1").exit_code == 2
    expose(folder / "alone", 9)
    nothing = run("alone")
    assert nothing.exit_code == 3
    assert "name a background's target with --background-target" in nothing.output
    Path("plan.json").write_text("{}")
    assert run("data", "-o", "plan.json").exit_code == 1
    assert run("data", "-o", "plan.json", "--overwrite").exit_code == 0
