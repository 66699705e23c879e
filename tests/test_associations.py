"""What a call names: lists, strings, associations."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import make_model, ramp, save
from webbkg import BackgroundStep
from webbkg.errors import AssociationError, InputError, MissingFileError
from webbkg.files.associations import resolve


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a folder of empty files, and another one to stand in."""
    (tmp_path / "data").mkdir()
    for name in ("t_rate.fits", "b1_rate.fits", "b2_rate.fits", "cat.ecsv", "seg.fits", "d.fits"):
        (tmp_path / "data" / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path / "data"


def association(*members, **more):
    return {"products": [{"name": "p", "members": [dict(m) for m in members]}], **more}


def member(name, kind):
    return {"expname": str(name), "exptype": kind}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_the_members_are_found_beside_the_association(folder):
    path = write(
        folder / "my asn.json",
        association(
            member("t_rate.fits", "Science"),
            member("b1_rate.fits", "BACKGROUND"),
            member("b2_rate.fits", "background"),
            member("cat.ecsv", "sourcecat"),
            member("seg.fits", "segmap"),
            member("d.fits", "direct_image"),
            asn_rule="whatever",
        ),
    )
    job = resolve(str(path))
    assert job.targets == (folder / "t_rate.fits",)
    assert job.backgrounds == (folder / "b1_rate.fits", folder / "b2_rate.fits")
    assert job.source_catalog == folder / "cat.ecsv"
    assert job.segmentation_map == folder / "seg.fits"
    assert job.direct_image == folder / "d.fits"
    assert job.association == "my asn.json"
    assert job.warnings == ()


def test_the_members_win_over_the_argument_which_wins_over_the_list(folder):
    asn = association(
        member(folder / "t_rate.fits", "science"), member(folder / "b1_rate.fits", "background")
    )
    two = str(folder / "b2_rate.fits")
    assert resolve(asn, two, [two]).backgrounds == (folder / "b1_rate.fits",)
    bare = association(member(folder / "t_rate.fits", "science"))
    assert resolve(bare, two).backgrounds == (folder / "b2_rate.fits",)
    target = folder / "t_rate.fits"
    assert resolve(target, two, ["no such file"]).backgrounds == (folder / "b2_rate.fits",)
    assert resolve(target, None, [two]).backgrounds == (folder / "b2_rate.fits",)
    assert resolve(target, [], [two]).backgrounds == ()


def test_backgrounds_come_as_one_path_a_comma_string_a_list_or_models(folder):
    one, two = folder / "b1_rate.fits", folder / "b2_rate.fits"
    target = folder / "t_rate.fits"
    model = make_model(ramp((4, 5)))
    assert resolve(target, one).backgrounds == (one,)
    assert resolve(target, f"{one}, {two},").backgrounds == (one, two)
    assert resolve(target, [str(one), two, ""]).backgrounds == (one, two)
    assert resolve(target, model).backgrounds == (model,)
    assert resolve(target, [model, one]).backgrounds == (model, one)


def test_a_comma_string_may_be_the_one_item_of_the_parameter(folder):
    one, two = folder / "b1_rate.fits", folder / "b2_rate.fits"
    target = folder / "t_rate.fits"
    assert resolve(target, None, [f"{one},{two},"]).backgrounds == (one, two)
    assert resolve(target, None, [str(one), str(two)]).backgrounds == (one, two)
    comma = one.rename(folder / "b,1_rate.fits")
    assert resolve(target, None, [str(comma)]).backgrounds == (comma,)
    assert resolve(target, None, [comma.name], input_dir=folder).backgrounds == (comma,)


def test_a_bare_name_is_looked_for_here_then_beside_the_target(folder):
    target = folder / "t_rate.fits"
    assert resolve(target, "b1_rate.fits").backgrounds == (folder / "b1_rate.fits",)
    Path("b1_rate.fits").touch()
    assert resolve(target, "b1_rate.fits").backgrounds == (Path("b1_rate.fits"),)


def test_of_several_products_and_science_members_the_first_is_used(folder):
    asn = association(
        member(folder / "t_rate.fits", "science"), member(folder / "b1_rate.fits", "science")
    )
    asn["products"].append({"name": "q", "members": []})
    job = resolve(asn)
    assert job.targets == (folder / "t_rate.fits",)
    assert "2 products, only the first" in job.warnings[0]
    assert "2 science members, only the first" in job.warnings[1]


def test_members_that_are_open_models_stay_open(folder):
    target, background = make_model(ramp((4, 5))), make_model(ramp((4, 5)))
    job = resolve(
        association(
            {"expname": target, "exptype": "science"},
            {"expname": background, "exptype": "background"},
        )
    )
    assert job.targets == (target,)
    assert job.backgrounds == (background,)


def test_invalid_json_is_told_with_line_and_column(folder):
    path = folder / "bad_asn.json"
    path.write_text('{\n  "products": [\n    {"members": [,]}\n  ]\n}')
    with pytest.raises(AssociationError, match=r"bad_asn.json: not valid JSON at line 3, column"):
        resolve(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no 'products'"),
        ([], "has no 'products'"),
        ({"products": []}, "has no 'products'"),
        ({"products": [{}]}, "has no 'members'"),
        (association({"expname": "t_rate.fits"}), "needs 'expname' and 'exptype'"),
        (association(member("b1_rate.fits", "background")), "no member with exptype 'science'"),
    ],
)
def test_an_association_that_does_not_say_what_to_do_is_an_error(folder, content, message):
    path = write(folder / "x_asn.json", content)
    with pytest.raises(AssociationError, match=f"x_asn.json: .*{message}"):
        resolve(path)


def test_a_missing_file_is_named_with_the_folders_that_were_searched(folder):
    with pytest.raises(MissingFileError, match=r"target: no file gone.fits \(looked in \.\)"):
        resolve("gone.fits")
    path = write(
        folder / "x_asn.json",
        association(member("t_rate.fits", "science"), member("gone.fits", "background")),
    )
    with pytest.raises(MissingFileError, match=r"x_asn.json, member background: no file gone"):
        resolve(path)


def test_what_goes_with_a_grism_exposure_is_missed_only_where_it_is_needed(folder):
    absent = [member("cat0.ecsv", "sourcecat"), member("s0.fits", "segmap")]
    absent.append(member("d0.fits", "direct_image"))
    job = resolve(association(member(folder / "t_rate.fits", "science"), *absent))
    assert job.source_catalog == Path("cat0.ecsv")
    assert job.segmentation_map == Path("s0.fits")
    assert job.direct_image == Path("d0.fits")
    image, grism = make_model(ramp((4, 5))), make_model(ramp((4, 5)))
    grism.meta.exposure.type = "NIS_WFSS"
    background = {"expname": make_model(ramp((4, 5))), "exptype": "background"}
    asn = association({"expname": image, "exptype": "science"}, background, *absent)
    assert BackgroundStep.call(asn).meta.cal_step.bkg_subtract == "COMPLETE"
    with pytest.raises(MissingFileError, match=r"source catalogue: no file cat0\.ecsv"):
        BackgroundStep.call(association({"expname": grism, "exptype": "science"}, *absent))


def test_what_is_neither_file_nor_model_is_refused(folder):
    with pytest.raises(InputError, match="background: must be a file or an open data model"):
        resolve(folder / "t_rate.fits", [3.5])
    with pytest.raises(InputError, match=r"background: must be .* \(got int\)"):
        resolve(folder / "t_rate.fits", 5)
    with pytest.raises(InputError, match=r"target: must be .* \(got bytes\)"):
        resolve(b"t_rate.fits")
    with pytest.raises(InputError, match="no target was given"):
        resolve([])


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "targets", "backgrounds"),
    [
        ("jw93125-o001_spec2_00001_asn.json", 1, 2),
        ("jw09505-o001_image2_00001_asn.json", 1, 0),
    ],
)
def test_archive_associations_are_read(real_data, tmp_path, name, targets, backgrounds):
    content = json.loads((real_data / "associations" / name).read_text())
    for product in content["products"]:
        for entry in product["members"]:
            save(make_model(ramp((4, 5))), tmp_path / entry["expname"]) if entry[
                "expname"
            ].endswith("rate.fits") else (tmp_path / entry["expname"]).touch()
    (tmp_path / name).write_text(json.dumps(content))
    job = resolve(tmp_path / name)
    assert len(job.targets) == targets
    assert len(job.backgrounds) == backgrounds


@pytest.fixture
def archive(real_data, tmp_path, monkeypatch):
    """Copy an association of the archive, its exptypes in odd cases, its exposures small."""

    def copy(name, **changes):
        place = tmp_path / "a folder with spaces"
        place.mkdir()
        content = json.loads((real_data / "associations" / name).read_text()) | changes
        for number, entry in enumerate(content["products"][0]["members"]):
            entry["exptype"] = entry["exptype"].title()
            save(make_model((10 - number) * ramp((4, 5))), place / entry["expname"])
        content["products"][0]["members"].append(member("guide_cal.fits", "engineering"))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        return write(place / name, content)

    return copy


def check_subtracted(product):
    """Target 10, backgrounds 9 and 8, times the ramp."""
    assert product.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_allclose(product.data, 1.5 * ramp((4, 5)), rtol=1e-6)
    assert product.meta.asn.table_name == "jw93125-o001_spec2_00001_asn.json"


@pytest.mark.real
@pytest.mark.parametrize("relative", [True, False])
def test_archive_associations_run_from_anywhere(archive, relative):
    path = archive("jw93125-o001_spec2_00001_asn.json")
    check_subtracted(BackgroundStep.call(os.path.relpath(path) if relative else str(path)))


@pytest.mark.real
def test_archive_associations_run_from_the_command_line(archive):
    path = archive("jw93125-o001_spec2_00001_asn.json")
    strun = Path(sys.executable).parent / "strun"
    command = [strun, "webbkg", path, "--output_dir=the products"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    products = list(Path("the products").iterdir())
    assert [product.name for product in products] == [
        "jw93125-o001_spec2_00001_asn_backgroundstep.fits"
    ]
    with datamodels.open(products[0]) as product:
        check_subtracted(product)


@pytest.mark.real
def test_of_several_archive_products_the_first_is_used_with_a_warning(archive, real_data, caplog):
    name = "jw93125-o001_spec2_00001_asn.json"
    products = json.loads((real_data / "associations" / name).read_text())["products"]
    other = {"name": "other", "members": [member("not_there_rate.fits", "science")]}
    path = archive(name, products=[*products, other])
    with caplog.at_level(logging.WARNING):
        check_subtracted(BackgroundStep.call(str(path), configure_log=False))
    assert "products" in caplog.text
