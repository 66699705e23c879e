"""A product made from the target's file is that of its data model, to the byte but for dates."""

import contextlib
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stdatamodels.jwst import datamodels

from factories import (
    GRISM,
    IMAGING,
    MIRI,
    NIRSPEC,
    SOSS,
    checksum,
    grism_sky,
    grism_template,
    make_model,
    ramp,
    save,
    soss_library,
    soss_sky,
    write_mask,
)
from webbkg.command import subtract
from webbkg.errors import WebbkgError
from webbkg.files.cards import Cards, format_card, keywords
from webbkg.files.exposures import Exposure
from webbkg.files.output import save_whole
from webbkg.files.product import Draft, survey

SHAPE = (30, 40)
DATES = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}|(?<=_fits_hash: )[0-9a-f]{64}")
VARIANTS = ("var_poisson", "var_rnoise", "var_flat", "area")
MORE = {
    "meta.observation.exposure_number": "1",
    "meta.cal_step.assign_wcs": "COMPLETE",
    "meta.cal_step.flat_field": "SKIPPED",
    "meta.target.proposer_name": "it's a name that is so long that its card " + "goes on " * 9,
    "meta.target.source_type": "POINT",
    "meta.bunit_data": "DN/s",
    "meta.bunit_err": "DN/s",
    "meta.wcsinfo.dispersion_direction": 1,
    "meta.photometry.conversion_megajanskys": 0.1234567890123456789,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    for meta, name in ((IMAGING, "niriss"), (MIRI, "miri"), (NIRSPEC, "nirspec")):
        for number in (1, 2, 3):
            sky = rng.normal(3, 1, SHAPE)
            sky[4, number] = sky[5, 5] = np.nan
            dq = rng.integers(0, 2**32, SHAPE) & ~np.uint32(1)
            save(make_model(sky, None, dq, meta=meta), tmp_path / f"{name}{number}_rate.fits")
    return tmp_path


def write_target(kind, shape, meta=IMAGING, **more):
    """Write a target with every plane of its model, some metadata, a history and an array."""
    rng = np.random.default_rng(6)
    planes = [rng.normal(5, 1, shape), rng.random(shape), rng.integers(0, 2**32, shape)]
    model = make_model(*planes, kind=getattr(datamodels, kind), meta={**meta, **MORE}, **more)
    for name in VARIANTS:
        model[name] = rng.random(shape if name != "area" else shape[-2:]).astype(np.float32)
    if kind == "CubeModel":
        model.int_times = np.zeros(shape[0], model.get_dtype("int_times"))
    model.meta.of_a_user = {"array": np.arange(1000), "text": "two\nlines", "number": 1e-17}
    model.cal_logs = {"calwebb_detector1": ["a line", "another: line"]}
    model.add_history_entry("this was here before")
    save(model, Path("t_rate.fits"))
    return model


def both_ways(monkeypatch, target="t_rate.fits", backgrounds=(), opened=False, **parameters):
    """Subtract by way of the target's file and of its data model; return the two products."""
    with monkeypatch.context() as patched:
        if not opened:
            patched.setattr(
                "webbkg.run.opening.open_model", lambda path: pytest.fail(f"{path} is opened")
            )
        (own,) = _subtract(target, backgrounds, {**parameters, "output_dir": "own"})
    with monkeypatch.context() as patched:
        patched.setattr("webbkg.run.opening.survey", lambda *_, **__: "not here")
        (other,) = _subtract(target, backgrounds, {**parameters, "output_dir": "model"})
    assert own.error is None, own.error
    assert own.outcome.status == other.outcome.status
    assert (own.outcome.median_before, own.outcome.median_after) == pytest.approx(
        (other.outcome.median_before, other.outcome.median_after), nan_ok=True
    )
    return own.product, other.product


def _subtract(target, backgrounds, parameters):
    no_progress = contextlib.nullcontext
    return list(
        subtract([target], list(backgrounds), parameters, progress=lambda *_: no_progress())
    )


def without_dates(path):
    """Return the bytes of each HDU of a product, its dates and their hash blanked."""
    with fits.open(path, memmap=False) as hdus:
        where = [(hdu.name, hdu.fileinfo()) for hdu in hdus]
    content = DATES.sub(lambda match: b"-" * len(match[0]), path.read_bytes())
    return {
        (number, name): content[info["hdrLoc"] : info["datLoc"] + info["datSpan"]]
        for number, (name, info) in enumerate(where)
    }


def assert_same(own, other):
    ours, theirs = without_dates(own), without_dates(other)
    assert list(ours) == list(theirs)
    assert [hdu for hdu in ours if ours[hdu] != theirs[hdu]] == []


@pytest.mark.parametrize(
    ("kind", "shape", "meta", "names"),
    [
        ("ImageModel", SHAPE, IMAGING, "niriss"),
        ("CubeModel", (3, *SHAPE), IMAGING, "niriss"),
        ("CubeModel", (1, *SHAPE), MIRI, "miri"),
        ("IFUImageModel", SHAPE, NIRSPEC, "nirspec"),
        ("SlitModel", SHAPE, NIRSPEC, "nirspec"),
        ("SlitModel", (2, *SHAPE), NIRSPEC, "nirspec"),
    ],
)
def test_an_image_from_images(monkeypatch, kind, shape, meta, names):
    write_target(kind, shape, meta)
    before = checksum(Path("t_rate.fits"))
    backgrounds = [f"{names}{number}_rate.fits" for number in (1, 2, 3)]
    own, other = both_ways(monkeypatch, backgrounds=backgrounds)
    assert_same(own, other)
    assert checksum(Path("t_rate.fits")) == before
    with datamodels.open(own) as product:
        assert product.meta.cal_step.bkg_subtract == "COMPLETE"
        assert np.isnan(product.data[..., 5, 5]).all()
        np.testing.assert_array_equal(product.meta.of_a_user.array, np.arange(1000))


def test_a_target_that_is_open_is_not_opened_anew_for_its_level_or_its_metrics(monkeypatch):
    write_target("ImageModel", SHAPE)
    backgrounds = ["niriss1_rate.fits", "niriss2_rate.fits"]
    options = {"match_background": "scale"}
    assert_same(*both_ways(monkeypatch, backgrounds=backgrounds, **options))
    opened, from_file = [], Exposure.from_file
    monkeypatch.setattr(
        Exposure,
        "from_file",
        lambda path, *more, **needed: (
            opened.append(Path(path).name) or from_file(path, *more, **needed)
        ),
    )
    (done,) = _subtract("t_rate.fits", backgrounds, options)
    assert done.outcome.metrics.find("background_levels") is not None
    # Once for a look at its headers, and once for all that is read of it.
    assert opened.count("t_rate.fits") == 2


@pytest.mark.parametrize(
    "exposure_type", ["NIS_AMI", "NRC_CORON", "MIR_LRS-FIXEDSLIT", "NRS_MSASPEC"]
)
def test_other_exposure_types(monkeypatch, exposure_type):
    write_target("ImageModel", SHAPE, {**IMAGING, "meta.exposure.type": exposure_type})
    assert_same(*both_ways(monkeypatch, backgrounds=["niriss1_rate.fits"]))


def test_what_is_skipped_or_done_already(monkeypatch):
    write_target("ImageModel", SHAPE)
    assert_same(*both_ways(monkeypatch))
    done, _ = both_ways(monkeypatch, backgrounds=["niriss1_rate.fits"])
    shutil.copy(done, "done_rate.fits")
    assert_same(*both_ways(monkeypatch, "done_rate.fits", ["niriss1_rate.fits"]))
    assert_same(*both_ways(monkeypatch, "done_rate.fits", ["niriss2_rate.fits"], allow_repeat=True))


@pytest.mark.parametrize(
    ("kind", "shape", "meta", "names"),
    [
        ("ImageModel", SHAPE, IMAGING, "niriss"),
        ("CubeModel", (3, *SHAPE), MIRI, "miri"),
        ("IFUImageModel", SHAPE, NIRSPEC, "nirspec"),
        ("SlitModel", SHAPE, NIRSPEC, "nirspec"),
    ],
)
def test_saved_backgrounds(monkeypatch, kind, shape, meta, names):
    write_target(kind, shape, meta)
    given = {"save_background": True, "save_combined_background": True}
    backgrounds = [f"{names}1_rate.fits", f"{names}2_rate.fits"]
    opened = kind == "SlitModel"
    own, other = both_ways(monkeypatch, backgrounds=backgrounds, opened=opened, **given)
    assert_same(own, other)
    for suffix in ("background", "combinedbackground"):
        assert_same(own.with_name(f"t_{suffix}.fits"), other.with_name(f"t_{suffix}.fits"))
        with datamodels.open(own.with_name(f"t_{suffix}.fits")) as background:
            assert isinstance(background, datamodels.ImageModel)
            assert background.meta.cal_step.bkg_subtract is None
            assert background.meta.cal_step.assign_wcs == "COMPLETE"
            assert background.data.shape == SHAPE
            assert np.isnan(background.data[5, 5])
            counts = (background.instance.get("extra_fits") or {}).get("COUNTS")
            assert (counts is not None) == (suffix == "combinedbackground")
    with fits.open(own.with_name("t_combinedbackground.fits")) as hdus:
        counts = hdus["COUNTS"].data
        assert (counts[5, 5], counts[4, 1], counts[0, 0]) == (0, 1, 2)


def test_an_association_and_its_members(monkeypatch):
    write_target("ImageModel", SHAPE)
    members = [("t_rate.fits", "science"), ("niriss1_rate.fits", "background")]
    members += [(f"{'x' * 80}_cat.ecsv", "sourcecat"), ("direct_i2d.fits", "direct_image")]
    association = {
        "products": [{"members": [{"expname": name, "exptype": kind} for name, kind in members]}]
    }
    Path("a_asn.json").write_text(json.dumps(association))
    own, other = both_ways(monkeypatch, "a_asn.json")
    assert_same(own, other)
    assert fits.getval(own, "SCATFILE") == f"{'x' * 80}_cat.ecsv"


def test_a_grism_exposure_and_its_mask(monkeypatch):
    grism_template(grism_sky((2048, 2048), (0, 0))).save("bkg.fits")
    mask = np.ones(SHAPE, np.uint32)
    mask[:, :10] = 0
    write_mask(Path("mask.fits"), mask)
    target = write_target("ImageModel", SHAPE, GRISM)
    target.data[:] = 0.75 * grism_sky(SHAPE, (0, 0))
    save(target, Path("t_rate.fits"))
    given = {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits"}
    own, other = both_ways(monkeypatch, **given)
    assert_same(own, other)
    np.testing.assert_array_equal(fits.getdata(own, "MASK"), mask)
    shutil.copy(own, "again_rate.fits")
    mask[20:] = 0
    write_mask(Path("mask2.fits"), mask)
    given = {"override_bkg": "bkg.fits", "wfss_mask": "mask2.fits", "allow_repeat": True}
    own, other = both_ways(monkeypatch, "again_rate.fits", **given)
    assert_same(own, other)
    np.testing.assert_array_equal(fits.getdata(own, "MASK"), mask)


def test_a_soss_exposure(monkeypatch):
    soss_library(0.0, 0.3).save("bkg.fits")
    rng = np.random.default_rng(1)
    sky = 0.9 * soss_sky(0.3) + rng.normal(0, 0.1, (2, 256, 2048))
    save(make_model(sky, at=(0, 1792), meta=SOSS), Path("t_rateints.fits"))
    assert_same(*both_ways(monkeypatch, "t_rateints.fits", override_bkg="bkg.fits"))


@pytest.mark.parametrize("number", [0, 12, 24])
def test_flight_products_of_another_version(number, monkeypatch, real_data):
    """Cards keep the comments and the order of the version that wrote them."""
    files = sorted((real_data / "niriss_ami").glob("*_cal.fits"))
    target = files.pop(number)
    own, other = both_ways(monkeypatch, str(target), [str(path) for path in files[:3]])
    ours, theirs = datamodels.open(own), datamodels.open(other)
    pixels = np.mgrid[:80:7, :80:7].reshape(2, -1)
    np.testing.assert_array_equal(ours.meta.wcs(*pixels), theirs.meta.wcs(*pixels))
    flat = [model.to_flat_dict(include_arrays=False) for model in (ours, theirs)]
    for known in flat:
        for name in [name for name in known if _is_dated(name)]:
            del known[name]
    assert flat[0] == flat[1]
    assert flat[0]["meta.cal_step.bkg_subtract"] == "COMPLETE"
    for name in ("data", "err", "dq", *VARIANTS[:3]):
        assert ours[name].tobytes() == theirs[name].tobytes()
    assert ours.get_crds_parameters().keys() == theirs.get_crds_parameters().keys()
    with fits.open(own) as product, fits.open(target) as given:
        expected = {**dict(given[0].header), "S_BKDSUB": "COMPLETE"}
        anew = ("DATE", "FILENAME", "HISTORY", "BKGVERD")
        expected |= {name: product[0].header[name] for name in anew}
        assert dict(product[0].header).keys() == expected.keys()
        assert {k: v for k, v in expected.items() if k} == {
            k: (v if k != "HISTORY" else expected[k])
            for k, v in dict(product[0].header).items()
            if k
        }


def _is_dated(name):
    return name.startswith(
        ("asdf_library", "history", "_fits_hash", "cal_logs", "meta.date", "meta.wcs")
    )


# Headers of every kind.

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=150).map(str.strip)
PLACES = sorted(set(keywords()) - {"meta.filename", "meta.date", "meta.model_type"})


@st.composite
def metadata(draw, most):
    """Draw values for some of the paths that have a keyword, of the types that they take."""
    schema = datamodels.ImageModel().schema["properties"]["meta"]
    values = {}
    for path in draw(st.lists(st.sampled_from(PLACES), max_size=most, unique=True)):
        node = schema
        for part in path.split(".")[1:]:
            node = node["properties"][part]
        numbers = st.floats(allow_nan=False, allow_infinity=False)
        kinds = {
            "string": TEXT.filter(bool),
            "boolean": st.booleans(),
            "integer": st.integers(-(2**40), 2**40),
            "number": numbers | st.integers(-(2**40), 2**40),
        }
        if "enum" in node:
            values[path] = draw(st.sampled_from(node["enum"]))
        elif "anyOf" not in node and isinstance(node.get("type"), str):
            values[path] = draw(kinds[node["type"]])
    return values


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    there=metadata(25),
    new=metadata(6),
    before=st.lists(TEXT.filter(bool), max_size=2),
    after=st.lists(TEXT.map(lambda text: text[:72].strip()).filter(bool), max_size=2),
)
def test_any_header(folder, there, new, before, after):
    target, product, other = (folder / f"{name}.fits" for name in ("target", "product", "other"))
    model = make_model(ramp((3, 4)))
    for path, value in there.items():
        model[path] = value
    for entry in before:
        model.add_history_entry(entry)
    model.save(target)
    found = survey(target)
    assert not isinstance(found, str), found
    draft = Draft(target=found, values=new, history=after, software={"name": "w", "version": "1"})
    with product.open("wb") as stream:
        draft.write(stream, "other.fits")
    with datamodels.open(target) as model:
        for path, value in new.items():
            model[path] = value
        for entry in after:
            model.add_history_entry(entry, software={"name": "w", "version": "1"})
        save_whole(model, other)
    assert_same(product, other)


@given(
    value=TEXT | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    comment=TEXT,
)
@pytest.mark.filterwarnings("ignore:Card is too long")
def test_a_card_is_that_of_astropy(value, comment):
    assert "".join(format_card("KEY", value, comment)) == str(fits.Card("KEY", value, comment))


def test_a_card_of_no_number_is_refused():
    with pytest.raises(WebbkgError, match="BKGD_SCL must be text or a finite number"):
        format_card("BKGD_SCL", float("nan"))


def test_cards_come_at_their_place_under_their_headings():
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0)])
    cards = Cards(header.tostring().encode())
    cards.put({"meta.background.scaling_factor": 0.5})
    cards.put({"meta.cal_step.bkg_subtract": "FAILED", "meta.of_no_keyword": 1})
    cards.put({"meta.cal_step.assign_wcs": "COMPLETE", "meta.cal_step.bkg_subtract": "COMPLETE"})
    text = cards.as_bytes().decode()
    words = [text[i : i + 80].split(" / ")[0].rstrip() for i in range(240, 2880, 80)]
    assert words[: words.index("END")] == [
        *("", "        Calibration step information", ""),
        "S_WCS   = 'COMPLETE'",
        "S_BKDSUB= 'COMPLETE'",
        *("", "        Background information", ""),
        "BKGD_SCL=                  0.5",
    ]


# What takes the way of its data model.


def _make_gzipped(path):
    with gzip.open("t_rate.fits.gz", "wb") as packed:
        packed.write(path.read_bytes())
    return Path("t_rate.fits.gz")


def _make_asdf(path):
    datamodels.open(path).save("t_rate.asdf")
    return Path("t_rate.asdf")


def _change(path, change):
    with fits.open(path, mode="update") as hdus:
        change(hdus)
    return path


def _scale(hdus):
    hdus["VAR_FLAT"].scale("int16", bzero=7.0)


def _compress(hdus):
    hdus["VAR_FLAT"] = fits.CompImageHDU(hdus["VAR_FLAT"].data, name="VAR_FLAT")


def _make_with_strange_character(path):
    content = path.read_bytes()
    assert b"/ Type of data" in content
    path.write_bytes(content.replace(b"/ Type of data", b"/ Type\tof data", 1))
    return path


def _make_of_wrong_tree(path):
    path.write_bytes(
        path.read_bytes().replace(b"model_type: ImageModel", b"model_type: ImageMolel")
    )
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_make_gzipped, "it is no plain FITS file"),
        (_make_asdf, "it is no plain FITS file"),
        (
            lambda p: _change(p, lambda h: h.__delitem__("ASDF")),
            "not one each of SCI, ERR, DQ and ASDF",
        ),
        (lambda p: _change(p, lambda h: h.append(h["SCI"].copy())), "not one each"),
        (lambda p: _change(p, _scale), "compressed or scaled"),
        (lambda p: _change(p, _compress), "compressed or scaled"),
        (
            lambda p: _change(p, lambda h: h[0].header.set("TARGPROP", "changed")),
            "its headers were changed after its ASDF extension was written",
        ),
        (
            lambda p: _change(p, lambda h: h[0].header.set("DATAMODL", "RampModel")),
            "its DATAMODL is none of",
        ),
        (lambda p: _change(p, lambda h: h.insert(5, h.pop("ASDF"))), "its ASDF extension is not"),
        (_make_with_strange_character, "characters that no header may have"),
        (_make_of_wrong_tree, "of another model"),
    ],
)
def test_what_is_unusual_takes_the_way_of_its_data_model(make, reason):
    write_target("ImageModel", SHAPE)
    path = make(Path("t_rate.fits"))
    assert reason in survey(path)


def test_only_an_image_has_a_place_for_a_mask():
    write_target("CubeModel", (2, *SHAPE))
    assert survey(Path("t_rate.fits"), masked=True) == "its model has no place for a sky mask"


def test_a_target_that_takes_the_way_of_its_model_is_subtracted_too():
    write_target("ImageModel", SHAPE)
    _change(Path("t_rate.fits"), lambda hdus: hdus[0].header.set("TARGPROP", "changed"))
    (item,) = _subtract("t_rate.fits", ["niriss1_rate.fits"], {})
    assert item.outcome.status == "COMPLETE"
    assert fits.getval(item.product, "TARGPROP") == "changed"


def test_a_product_is_valid_and_its_tree_is_believed(monkeypatch):
    """The hash in the tree is right, and ASDF itself reads the edited text."""
    write_target("ImageModel", SHAPE)
    own, _ = both_ways(monkeypatch, backgrounds=["niriss1_rate.fits"])
    assert isinstance(survey(own).asdf, bytes)
    with asdf.open(io.BytesIO(survey(own).asdf)) as tree:
        assert tree["history"]["entries"][0]["description"] == "this was here before"
        assert tree["history"]["entries"][1]["software"]["name"] == "webbkg"
    with datamodels.open(own, strict_validation=True) as model:
        model.validate()
    with fits.open(own) as hdus:
        hdus.verify("exception")


def test_the_command_imports_no_data_models():
    write_target("ImageModel", SHAPE)
    code = (
        "import sys; from webbkg.cli import main; sys.argv = sys.argv[:1] + sys.argv[1:];"
        "import atexit; atexit.register(lambda: print(sorted(sys.modules)));"
        "main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, "subtract", "t_rate.fits", "-b", "niriss1_rate.fits"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = told.stdout
    assert "'webbkg.files.product'" in modules
    for name in ("stdatamodels", "stpipe", "crds", "asdf", "gwcs"):
        assert f"'{name}'" not in modules
