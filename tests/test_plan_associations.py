"""Associations: read as they are, written from a plan; the archive's, made again from headers."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from planning import expose, reasons, who
from webbkg.batch import Kind, plan, write_associations, write_plan
from webbkg.cli import app
from webbkg.errors import InputError, OutputError
from webbkg.files.associations import resolve


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WEBBKG_CACHE_DIR", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def associate(path, *products, kind="image2"):
    """Write an association of (expname, exptype) members."""
    made = [
        {"name": "x", "members": [{"expname": file, "exptype": role} for file, role in members]}
        for members in products
    ]
    path.write_text(json.dumps({"asn_type": kind, "products": made}))
    return path


def test_associations_are_taken_as_they_are(folder):
    """What they name as background would be none by itself: another filter, the same place."""
    one, two, sky = (
        expose(folder, i, FILTER=name).name for i, name in enumerate(("F770W", "F560W", "F1800W"))
    )
    first = associate(folder / "1_asn.json", [(one, "science"), (sky, "background")])
    second = associate(folder / "2_asn.json", [(two, "science"), (sky, "background")])
    made = plan([second, first])
    (group,) = made.groups
    assert (group.kind, group.why) == (
        Kind.DEDICATED,
        "as 1_asn.json and 1 more say: MIRI MIRIMAGE F770W",
    )
    assert who(made) == {one: (sky,), two: (sky,)}
    assert plan([folder, first, second]).groups == made.groups
    assert reasons(plan([folder, first, second])) == {
        sky: "is a background exposure, as 2_asn.json says"
    }


def test_nods_of_associations_are_one_group(folder):
    paths = [expose(folder, i).name for i in (1, 2, 3)]
    files = []
    for one in paths:
        members = [(other, "science" if other == one else "background") for other in paths]
        files.append(associate(folder / f"{one}_asn.json", members))
    (group,) = plan(files).groups
    assert (group.kind, len(group.members)) == (Kind.DITHERS, 3)


def test_grism_associations_name_their_catalogue(folder):
    grism = expose(folder, 1, EXP_TYPE="MIR_WFSS", FILTER="P750L").name
    named = [(grism, "science"), ("far/i2d.fits", "direct_image"), ("a.ecsv", "sourcecat")]
    made = plan(associate(folder / "g_asn.json", [*named, ("s.fits", "segmap")], kind="spec2"))
    (member,) = made.groups[0].members
    assert made.groups[0].kind is Kind.GRISM
    assert (member.catalog, member.direct_image, member.segmentation) == (
        *("a.ecsv", "far/i2d.fits", "s.fits"),
    )


def test_associations_that_are_of_no_use_have_reasons(folder):
    one, two, three = (expose(folder, i).name for i in (1, 2, 3))
    kept = associate(folder / "0_asn.json", [(one, "science"), (two, "background")])
    again = associate(folder / "1_asn.json", [(one, "science")])
    third = associate(folder / "2_asn.json", [(one, "science")], kind="image3")
    empty = associate(folder / "3_asn.json", [(one, "background")])
    lone = associate(folder / "4_asn.json", [(two, "science")])
    gone = associate(folder / "5_asn.json", [("gone_rate.fits", "science")])
    torn = folder / "6_asn.json"
    torn.write_text("{")
    write_plan(plan(torn), folder / "plan.json")
    missing = associate(
        folder / "7_asn.json",
        [(three, "science"), ("gone.fits", "background")],
    )
    made = plan([kept, again, third, empty, lone, gone, torn, missing, folder / "plan.json"])
    assert who(made) == {one: (two,)}
    told = reasons(made)
    assert told["1_asn.json"] == f"its target {one} is planned as 0_asn.json says"
    assert told["2_asn.json"].startswith("is of level 3")
    assert "no member with exptype 'science'" in told["3_asn.json"]
    assert told[two] == "4_asn.json names no background for it"
    assert "no such file" in told["gone_rate.fits"]
    assert "not valid JSON at line 1" in told["6_asn.json"]
    assert told["plan.json"] == "is a plan already; `webbkg run` runs it"
    assert "its background gone.fits is not there" in told[three]


def test_no_other_product_of_its_target_is_planned(folder):
    one, two = (expose(folder, i, at=(5 * i, 0)).name for i in (1, 2))
    expose(folder, 1, kind="cal", at=(5, 0))
    asn = associate(folder / "0_asn.json", [(one, "science"), (two, "background")])
    made = plan([folder, asn])
    assert who(made) == {one: (two,)}
    assert len(made.left_out) == 2


def test_what_is_written_is_read_back(folder):
    paths = [expose(folder / "data", i, at=(5 * i, 0)) for i in (1, 2, 3)]
    grism = expose(folder / "data", 4, EXP_TYPE="MIR_WFSS", FILTER="P750L")
    (folder / "data" / "own_cat.ecsv").touch()
    made = plan(folder / "data")
    command = ["plan", "data", "--associations", "data"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    written = sorted((folder / "data").glob("*_asn.json"))
    assert [one.name for one in written] == [
        *(path.name.replace("_rate.fits", "_image2_asn.json") for path in paths),
        grism.name.replace("_rate.fits", "_spec2_asn.json"),
    ]
    content = json.loads(written[0].read_text())
    assert content["products"][0]["members"][0]["expname"] == paths[0].name
    back = plan(written)
    assert who(back) == who(made)
    assert [one.kind for one in back.groups] == [one.kind for one in made.groups]
    assert back.groups[1].members == made.groups[1].members
    assert resolve(written[0]).backgrounds == tuple(paths[1:])
    assert CliRunner().invoke(app, command).exit_code == 0
    written[1].write_text("{}")
    with pytest.raises(OutputError, match="is there already"):
        write_associations(made, folder / "data")
    elsewhere = write_associations(made, folder / "new")
    assert who(plan(elsewhere)) == who(made)
    paths[0].unlink()
    with pytest.raises(InputError, match="no such file"):
        write_associations(made, folder / "new")


ARCHIVE = {
    "PROGRAM": "09505",
    "SUBSIZE1": 1032,
    "SUBSIZE2": 1024,
    "TARGPROP": "LHA-120-N-133",
}


@pytest.mark.real
def test_the_archive_s_associations_come_again(real_data, folder):
    """Headers such as those exposures have, made up, and no association: the same members."""
    nods = {"INSTRUME": "NIRSPEC", "EXP_TYPE": "NRS_MSASPEC", "PROGRAM": "93125"}
    nods |= {"MSAMETFL": "jw93125001001_01_msa.fits"}
    for number in range(1, 13):  # two detectors, two configurations of shutters, three nods
        detector, nod, second = 1 + (number - 1) % 2, (number - 1) // 2 % 3, number > 6
        optics = [("F290LP", "G395M"), ("F170LP", "G235M")][detector - 1]
        more = {"DETECTOR": f"NRS{detector}", "FILTER": optics[0], "GRATING": optics[1]}
        where = {"at": (0, 0.53 * nod), "name": f"jw_{number:05d}_rate.fits"}
        expose(folder / "93125", number, **nods, **more, MSAMETID=1 + second, **where)
    expose(folder / "09505", 4, **ARCHIVE, EXP_TYPE="MIR_WFSS", FILTER="P750L", name=GRISM)
    expose(folder / "09505", 15, **ARCHIVE, FILTER="F560W", VISIT="003", name=IMAGE)
    for end in ("i2d.fits", "cat.ecsv", "segm.fits"):
        (folder / "09505" / f"jw09505-o001_t001_miri_f560w_{end}").touch()
    slit = {"PROGRAM": "99009", "EXP_TYPE": "MIR_LRS-FIXEDSLIT", "FILTER": "P750L"}
    expose(folder / "99009", 2, **slit, name="jw_00002_rate.fits")
    optics = {"INSTRUME": "NIRISS", "EXP_TYPE": "NIS_IMAGE", "FILTER": "CLEAR", "PUPIL": "F140M"}
    expose(folder / "99009", 16, PROGRAM="99009", **optics, name="jw_00016_rate.fits")
    written = {}
    for program in ("93125", "09505", "99009"):
        made = plan(folder / program)
        for path in write_associations(made, folder / program) if made.groups else ():
            (product,) = json.loads(path.read_text())["products"]
            written[program, product["name"]] = members(product)
    found = [one.read_text() for one in (real_data / "associations").glob("*.json")]
    assert len(found) == 5
    for content in map(json.loads, found):
        (product,) = content["products"]
        theirs = members(product)
        if set(theirs) == {"science"}:  # nothing is to be subtracted from it
            theirs = None
        assert written.get((content["program"], product["name"])) == theirs


GRISM = "jw09505001001_02102_00004_mirimage_rate.fits"
IMAGE = "jw09505001003_02101_00001_mirimage_rate.fits"


def members(product):
    found = {}
    for one in product["members"]:
        found.setdefault(one["exptype"], set()).add(one["expname"])
    return found


@pytest.mark.real
def test_flight_exposures_are_planned(real_data, folder):
    """25 dithers of a star by a fraction of its image: each by the others only if that is wished."""
    near = plan(real_data / "niriss_ami", folder=real_data)
    assert near.groups == ()
    assert set(reasons(near).values()) == {
        "the 24 others of its pattern point within 0.11 arcsec of it, too near (min_separation = "
        "0.5): it would subtract its source from itself"
    }
    (group,) = plan(real_data / "niriss_ami", folder=real_data, min_separation=0).groups
    assert len(group.members) == 25
    assert {len(one.backgrounds) for one in group.members} == {24}
    assert group.why == "25 dithers (AMI): NIRISS NIS F480M NRM"
    one = shutil.copy(next((real_data / "niriss_ami").glob("*_00002_*")), folder)
    asn = associate(folder / "a_asn.json", [(one, "science"), (one, "background")])
    assert plan(asn).groups == ()
