"""The archive's associations, end to end in both: what each product asks for is done."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from factories import IMAGING, MIRI, NIRSPEC, make_model, ramp, save
from peer import oracle
from webbkg import BackgroundStep
from webbkg.files.exposures import DetectorWindow
from webbkg.simulate.grism_scene import MIRI_PRISM
from webbkg.simulate.wfss import draw_field, observe, write_field

pytestmark = pytest.mark.peer

SHAPE, CORNER = (6, 8), (100, 50)
SKY = ramp(SHAPE, *CORNER) / 64
GRISM = "jw09505-o001_spec2_00001_asn.json"
MODES = {
    "jw09505-o001_image2_00001_asn.json": (MIRI, "MIR_IMAGE", "SKIPPED"),
    "jw93125-o001_spec2_00001_asn.json": (NIRSPEC, "NRS_MSASPEC", "COMPLETE"),
    "jw99009-o001_spec2_00001_asn.json": (MIRI, "MIR_LRS-FIXEDSLIT", "SKIPPED"),
    "niriss_image2_background_asn.json": (IMAGING, "NIS_IMAGE", "SKIPPED"),
}


def members_of(content, *kinds):
    listed = content["products"][0]["members"]
    return [entry["expname"] for entry in listed if entry["exptype"] in kinds]


def run_both(association, **parameters):
    """Run both from the association to a file each, and return what came back."""
    given = {"override_bkg": "N/A", "override_wavelengthrange": "N/A", "save_results": True}
    given |= parameters
    ours = BackgroundStep.call(association, **given, output_dir="ours")
    theirs = oracle.ask(lambda step: step.call(association, **given, output_dir="theirs"))
    names = [path.name for path in Path("theirs").iterdir()]
    assert names == [f"{Path(association).stem}_backgroundstep.fits"]
    assert [path.name for path in Path("ours").iterdir()] == names
    assert isinstance(ours, type(theirs))
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract
    assert type(ours) is type(theirs)  # a saved result is opened at the first look
    assert ours.meta.asn.table_name == association
    return ours, theirs


@pytest.mark.real
@pytest.mark.parametrize("name", MODES)
def test_associations_of_images_and_slits(name, real_data, tmp_path, monkeypatch):
    """The target is 3 times the sky, the backgrounds 1 and 2 times."""
    monkeypatch.chdir(tmp_path)
    text = (real_data / "associations" / name).read_text()
    Path(name).write_text(text)
    meta, exposure_type, status = MODES[name]
    (target,) = members_of(json.loads(text), "science")
    backgrounds = members_of(json.loads(text), "background")
    for file, factor in zip((target, *backgrounds), (3, 1, 2), strict=False):
        model = make_model(factor * SKY, at=CORNER, meta=meta, meta__exposure__type=exposure_type)
        save(model, tmp_path / file)
    ours, theirs = run_both(name)
    assert ours.meta.cal_step.bkg_subtract == status
    assert bool(backgrounds) == (status == "COMPLETE")
    np.testing.assert_allclose(ours.data, 1.5 * SKY if backgrounds else 3 * SKY, rtol=3e-7)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=3e-7)
    np.testing.assert_array_equal(ours.dq, theirs.dq)
    assert ours.meta.filename == theirs.meta.filename


@pytest.mark.real
@pytest.mark.filterwarnings("ignore")  # jwst's own
def test_an_association_of_a_grism_exposure(real_data, tmp_path, monkeypatch):
    """Neither needs the direct image and the segmentation map; both record them."""
    monkeypatch.chdir(tmp_path)
    content = json.loads((real_data / "associations" / GRISM).read_text())
    Path(GRISM).write_text(json.dumps(content))
    window, covered = DetectorWindow(300, 400, 256, 192), DetectorWindow(280, 350, 320, 260)
    simulated = observe(draw_field(MIRI_PRISM, 3, MIRI_PRISM.detector.part(window)))
    # jwst fits bad pixels too, a difference of its own.
    good = simulated.model.dq == 0
    assert good.mean() > 0.9
    simulated.model.err[~good] = np.nan
    simulated.model.data[~good] = np.nan
    files = write_field(tmp_path, simulated, template_window=covered)
    files.target.rename(*members_of(content, "science"))
    files.catalog.rename(*members_of(content, "sourcecat"))
    references = {"override_bkg": "bkg.fits", "override_wavelengthrange": "wavelengthrange.asdf"}
    ours, theirs = run_both(GRISM, **references)
    assert ours.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert 0.1 < ours.mask.mean() < 0.9
    scale = ours.meta.background.scaling_factor
    assert scale == pytest.approx(theirs.meta.background.scaling_factor, rel=1e-6)
    assert scale == pytest.approx(MIRI_PRISM.scale, rel=0.01)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5, atol=1e-5)
    for name, kind in (
        ("source_catalog", "sourcecat"),
        ("direct_image", "direct_image"),
        ("segmentation_map", "segmap"),
    ):
        recorded = [getattr(product.meta, name) for product in (ours, theirs)]
        assert recorded == 2 * members_of(content, kind)


def member(name, kind):
    return {"expname": str(name), "exptype": kind}


SCIENCE = member("t_rate.fits", "science")
BACKGROUNDS = [member("b1_rate.fits", "background"), member("b2_rate.fits", "background")]
UNUSED = [
    member("i2d.fits", "direct_image"),
    member("cat.ecsv", "sourcecat"),
    member("segm.fits", "segmap"),
    member("dark_rate.fits", "imprint"),
    member("ta_cal.fits", "target_acquisition"),
]
PLAIN = [SCIENCE, *BACKGROUNDS]
TAKEN_ALIKE = {
    "backgrounds first": [[*BACKGROUNDS, SCIENCE]],
    "members that do not exist and are not needed": [[*UNUSED, *PLAIN]],
    "background in capitals": [[SCIENCE, *(b | {"exptype": "BackGround"} for b in BACKGROUNDS)]],
    "several products": [PLAIN, [member("other_rate.fits", "science")]],
    "several science members": [[*PLAIN, member("other_rate.fits", "science")]],
    "names with a folder": [[m | {"expname": "a folder/" + m["expname"]} for m in PLAIN]],
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write exposures, here and in a folder with a space; return what writes an association."""
    place = tmp_path / "two words"
    (place / "a folder").mkdir(parents=True)
    monkeypatch.chdir(place)
    for name, factor in (("t", 3), ("b1", 1), ("b2", 2), ("other", 9)):
        model = make_model(factor * SKY, at=CORNER)
        save(model, place / f"{name}_rate.fits")
        save(model, place / "a folder" / f"{name}_rate.fits")

    def write_products(products):
        listed = [{"name": f"p{n}", "members": members} for n, members in enumerate(products)]
        header = {"asn_type": "image2", "asn_id": "a1", "asn_pool": "none"}
        Path("my set_asn.json").write_text(json.dumps({**header, "products": listed}))
        return "my set_asn.json"

    return write_products


@pytest.mark.parametrize("how", TAKEN_ALIKE)
def test_associations_of_all_kinds(how, write, caplog):
    with caplog.at_level(logging.WARNING, "webbkg"):
        ours, theirs = run_both(write(TAKEN_ALIKE[how]), configure_log=False)
    np.testing.assert_allclose(ours.data, 1.5 * SKY, rtol=3e-7)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=3e-7)
    told = [
        record.message for record in caplog.records if "only the first is used" in record.message
    ]
    assert len(told) == how.startswith("several")
    assert all(how.split()[1] in message for message in told)


def test_absolute_names_from_another_folder(write, tmp_path, monkeypatch):
    place = tmp_path / "two words"
    write([[m | {"expname": str(place / m["expname"])} for m in PLAIN]])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    association = str(place / "my set_asn.json")
    for answer in (lambda way_in: way_in(BackgroundStep), oracle.ask):
        result = answer(lambda step: step.call(association))
        np.testing.assert_allclose(result.data, 1.5 * SKY, rtol=3e-7)


def test_a_science_member_in_capitals_is_found_by_webbkg_alone(write):
    association = write([[SCIENCE | {"exptype": "SCIENCE"}, *BACKGROUNDS]])
    np.testing.assert_allclose(BackgroundStep.call(association).data, 1.5 * SKY, rtol=3e-7)
    with pytest.raises(IndexError):
        oracle.ask(lambda step: step.call(association))
