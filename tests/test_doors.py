"""The doors: what is no file, headers that claim too much, trees that would never end."""

import gzip
import io
import json
import os
import tempfile
import tracemalloc

import asdf
import numpy as np
import pytest
from astropy.io import fits

import fuzzing
from factories import checksum, make_model, ramp, save, write_fits
from webbkg import BackgroundStep
from webbkg.errors import AssociationError, InputError, OptionError
from webbkg.files.asdf import check_yaml
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.fits import open_bytes, read_headers
from webbkg.files.masks import read_mask
from webbkg.files.models import open_model
from webbkg.files.templates import make_template

SHAPE = (20, 30)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a target and a background, and go there."""
    save(make_model(ramp(SHAPE)), tmp_path / "t_rate.fits")
    save(make_model(ramp(SHAPE)), tmp_path / "b_rate.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_card(path, keyword, value, extension=b"SCI"):
    """Overwrite the value of a card, as raw text, in the primary header or an extension."""
    data = bytearray(path.read_bytes())
    start = data.index(b"'" + extension) - 80 * 40 if extension else 0
    at = data.index(keyword.encode().ljust(8) + b"=", max(start, 0) // 2880 * 2880)
    data[at : at + 80] = f"{keyword:<8}= {value:>20}".encode().ljust(80)
    path.write_bytes(data)


def subtract(target="t_rate.fits", backgrounds="b_rate.fits", **parameters):
    return BackgroundStep.call(target, backgrounds, **parameters)


SPECIAL = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}


ROLES = {
    "target": lambda: subtract("x.fits"),
    "background": lambda: subtract(backgrounds="x.fits"),
    "mask": lambda: read_mask("x.fits", SHAPE, "t"),
    "parameters": lambda: subtract(config_file="x.fits"),
    "reference": lambda: subtract(
        make_model(ramp(SHAPE), meta__exposure__type="NRC_WFSS"),
        None,
        wfss_mask="t_rate.fits",
        override_bkg="x.fits",
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_not_opened(folder, kind, role):
    """A pipe would be waited for, and a device read, for ever."""
    SPECIAL[kind](folder / "x.fits")
    with pytest.raises(InputError, match=r"x\.fits: is a (folder|device or a pipe); name "):
        ROLES[role]()


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("BITPIX", "7", r"BITPIX must be one of .* \(got 7\)"),
        ("BITPIX", "'x'", r"BITPIX must be a number \(got 'x'\)"),
        ("NAXIS", "-1", r"NAXIS must be from 0 to 999 \(got -1\)"),
        ("NAXIS", "9", r"a header lacks NAXIS9"),
        ("NAXIS1", "T", r"NAXIS1 must be a number \(got True\)"),
        ("NAXIS1", "2.5", r"NAXIS1 must be an integer \(got 2\.5\)"),
        ("NAXIS2", "999999999999", r"the file ends inside SCI"),
        ("NAXIS2", "99999999999999999999999", r"NAXIS2 must be a number of at most 63 bits"),
        ("NAXIS2", "'open", r"the card NAXIS2 is damaged|NAXIS2 must be a number"),
        ("PCOUNT", "-9", r"PCOUNT must be from 0"),
    ],
)
@pytest.mark.parametrize("role", ["target", "background"])
def test_a_header_that_lies(folder, keyword, value, said, role):
    name = {"target": "t_rate.fits", "background": "b_rate.fits"}[role]
    set_card(folder / name, keyword, value)
    with pytest.raises(InputError, match=rf"{name}: {said}"):
        subtract()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("SUBSTRT1", "one"), ("SUBSIZE2", True), ("GWA_XTIL", "x"), ("FILTER", 5)],
)
def test_values_of_another_type_are_named(tmp_path, keyword, value):
    planes = np.zeros(SHAPE, np.float32)
    path = write_fits(tmp_path / "b.fits", planes, planes, planes.astype("i4"), **{keyword: value})
    with pytest.raises(InputError, match=rf"b\.fits: {keyword} must be .* \(got {value!r}\)"):
        Exposure.from_file(path)


def test_whole_numbers_may_be_written_as_floats():
    info = ExposureInfo.from_header({"SUBSTRT1": 3.0, "GWA_XTIL": 1})
    assert (info.subarray_xstart, info.gwa_xtilt) == (3, 1.0)
    assert isinstance(info.subarray_xstart, int)


def test_a_header_without_end(tmp_path):
    (tmp_path / "x.fits").write_bytes(b"SIMPLE  =                    T".ljust(80) * 2_000_000)
    with pytest.raises(InputError, match=r"no END card"), open_bytes(tmp_path / "x.fits") as stream:
        next(read_headers(stream, "x.fits"))


def test_a_compressed_image_of_nothing_takes_no_memory(folder):
    image = fits.CompImageHDU(np.ones(SHAPE, "i4"), name="MASK")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto("m.fits")
    set_card(folder / "m.fits", "ZNAXIS1", "900000000", b"")
    set_card(folder / "m.fits", "ZNAXIS2", "900000000", b"")
    with pytest.raises(InputError, match="cannot come out of"):
        read_mask("m.fits", SHAPE, "t")


@pytest.mark.parametrize("card", ["ZVAL1", "ZVAL2"])
def test_compressed_by_what_does_not_exist(folder, card):
    """The library behind would leave the process by a segmentation fault."""
    image = fits.CompImageHDU(np.ones(SHAPE, "i4"), name="MASK")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto("m.fits")
    set_card(folder / "m.fits", card, "2000000000", b"")
    with pytest.raises(InputError, match=rf"m\.fits: B.* \({card}\) must be one of"):
        read_mask("m.fits", SHAPE, "t")


def test_a_gzip_bomb_is_not_unpacked(folder, monkeypatch):
    """300 MB of zeros in 300 kB: neither after the last extension nor in a claimed one."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    content = (folder / "t_rate.fits").read_bytes()
    packed = io.BytesIO()
    with gzip.open(packed, "wb", 1) as stream:
        stream.write(content)
        for _ in range(300):
            stream.write(bytes(2**20))
    (folder / "x_rate.fits.gz").write_bytes(packed.getvalue())
    tracemalloc.start()
    with pytest.raises(InputError, match=r"x_rate\.fits\.gz: blanks of more than"):
        subtract("x_rate.fits.gz")
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    header = fits.PrimaryHDU().header
    header["NAXIS"], header["NAXIS1"] = 1, 10**10
    (folder / "y_rate.fits.gz").write_bytes(gzip.compress(header.tostring().encode()))
    with pytest.raises(InputError, match="more than such a small gzip file can hold"):
        subtract("y_rate.fits.gz")
    assert not list(folder.glob("webbkg-*"))


# ASDF and YAML


def bomb(levels=9):
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"b{level}: &b{level} [{', '.join([f'*b{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(), r"expands, by its aliases, to over \d+ nodes \(line \d\)"),
        ("[" * 100_000, "is nested more than 200 levels"),
        ("- " * 100_000, "is nested more than 200 levels"),
        ("a: &a [*a]", r"has an alias \*a to nothing before it"),
        ("a: {$ref: 'file:///dev/zero'}", "refers to another file, 'file:///dev/zero'"),
        ("a: !core/ndarray-1.1.0 {source: other.asdf}", "refers to another file, 'other.asdf'"),
        ("a: !core/ndarray-1.1.0 {source: 0, shape: [9999, 9999]}", "has an array of"),
        ("a: [b", "is damaged"),
        ("a: \x00", "is damaged"),
    ],
)
def test_yaml_that_would_take_for_ever(text, said):
    with pytest.raises(InputError, match=rf"x\.asdf: its YAML {said}"):
        check_yaml(text, "x.asdf", array_bytes=1000)


def test_yaml_as_products_have_it():
    array = "!core/ndarray-1.1.0 {source: 0, shape: [30, 30], strides: [30, 1]}"
    check_yaml(f"a: &a {array}\nb: [*a, *a]\nc: {{$ref: '#/a'}}\n", "x.asdf", array_bytes=1000)
    check_yaml("a: !core/ndarray-1.1.0 {source: 'fits:SCI,1', shape: [9999, 9999]}", "x.fits")
    check_yaml("&n x: {? [1, 2] : *n, shape: [9]}", "x.asdf")


@pytest.mark.parametrize("where", ["extension", "file"])
def test_a_tree_that_expands_is_refused_before_it_is_built(folder, where):
    tree = f"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n---\n{bomb()}\n...\n".encode()
    if where == "file":
        name = "x_rate.asdf"
        (folder / name).write_bytes(tree)
    else:
        name = "t_rate.fits"
        with fits.open(name, memmap=False) as hdus:
            hdus["ASDF"] = fits.BinTableHDU(fuzzing.asdf_table(tree), name="ASDF")
            hdus.writeto(name, overwrite=True)
    with pytest.raises(InputError, match=rf"{name}: its YAML expands"):
        subtract(name)


def test_a_block_that_claims_more_than_the_file(tmp_path):
    path = tmp_path / "x.asdf"
    asdf.AsdfFile({"a": np.arange(1000.0)}).write_to(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\xd3BLK") + 14
    data[at : at + 8] = (10**12).to_bytes(8, "big")
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.asdf: an ASDF block claims 1000000000000 bytes"):
        open_model(path)


@pytest.mark.parametrize("branch", ["meta.background", "meta.cal_step", "cal_logs"])
@pytest.mark.parametrize("value", ["x", 5, None])
def test_branches_that_are_none(folder, branch, value):
    """A run writes into them."""
    tree = {"meta": {"model_type": "ImageModel", "instrument": {"name": "NIRISS"}}}
    *stem, last = branch.split(".")
    (tree["meta"] if stem else tree)[last] = value
    asdf.AsdfFile(tree).write_to("x.asdf")
    if value is None:
        with open_model("x.asdf") as model:
            assert last not in (model.instance["meta"] if stem else model.instance)
        return
    with pytest.raises(InputError, match=rf"x\.asdf: its {branch} must be a mapping \(got "):
        open_model("x.asdf")


# Associations, masks, templates, parameters


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"products": [' + "9" * 5000 + "]}", "cannot be read"),
        ('{\n "products": [}', "not valid JSON at line 2, column 15"),
        ('{"products": [{"members": [{"expname": 5, "exptype": "science"}]}]}', "must be a file"),
        ('{"products": [{"members": [{"expname": "' + "x" * 300 + '", "exptype": "science"}]}]}',
         "no file x{200}"),
    ],
)  # fmt: skip
def test_hostile_associations(folder, text, said):
    (folder / "asn.json").write_text(text)
    with pytest.raises(InputError, match=said):
        subtract("asn.json")


def test_an_association_must_be_a_file(folder):
    os.mkfifo("asn.json")
    with pytest.raises(InputError, match="is a device or a pipe"):
        subtract("asn.json")
    json.dump({"products": []}, open("empty.json", "w"))  # noqa: PTH123, SIM115
    with pytest.raises(AssociationError, match="has no 'products'"):
        subtract("empty.json")


@pytest.mark.parametrize("kind", ["plain", "gzip", "tiles", "asdf"])
def test_masks_of_every_kind(folder, kind):
    """What is not 0 is sky."""
    values = np.ones(SHAPE, np.int32)
    values[:, :3], values[0], values[1] = 0, 2, -1
    path = folder / {"gzip": "m.fits.gz", "asdf": "m.asdf"}.get(kind, "m.fits")
    if kind == "asdf":
        model = make_model(ramp(SHAPE))
        model.mask = values.astype(np.uint32)
        model.save(path)
    else:
        image = fits.CompImageHDU if kind == "tiles" else fits.ImageHDU
        fits.HDUList([fits.PrimaryHDU(), image(values, name="MASK")]).writeto(path)
    np.testing.assert_array_equal(read_mask(path, SHAPE, "t"), values != 0)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 5)), r"float64 of shape \(0, 5\)"),
        (np.zeros(5), r"of shape \(5,\)"),
        (np.array([["a"]]), "got <U1"),
        (np.array([[None]]), "neither a FITS nor a NumPy file"),
    ],
)
def test_sky_images_that_are_none(folder, array, said):
    np.save("sky.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=said):
        make_template("sky.npy", "t_rate.fits", "made.fits")


def test_parameters_of_another_type_or_name(folder):
    with pytest.raises(OptionError, match="'sigma': the value \"abc\" is of the wrong type"):
        subtract(sigma="abc")
    with pytest.raises(OptionError, match="Extra value 'sigmas'"):
        subtract(sigmas=3)
    (folder / "p.cfg").write_text("sigma = %(a)s\na = %(sigma)s\n")
    with pytest.raises((InputError, OptionError)):
        subtract(config_file="p.cfg")
    (folder / "p.asdf").write_text(f"#ASDF 1.0.0\n%YAML 1.1\n---\n{bomb()}\n...\n")
    with pytest.raises(InputError, match=r"p\.asdf: its YAML expands"):
        subtract(config_file="p.asdf")


def test_segments_are_told_by_text(folder):
    set_card(folder / "t_rate.fits", "EXP_TYPE", "5", b"")
    with pytest.raises(InputError, match=r"EXP_TYPE must be text \(got 5\)"):
        BackgroundStep.call([folder / "t_rate.fits", folder / "b_rate.fits"])


def test_the_next_target_is_reached(folder):
    set_card(folder / "t_rate.fits", "BITPIX", "7")
    before = checksum(folder / "b_rate.fits")
    save(make_model(ramp(SHAPE)), folder / "good_rate.fits")
    status = fuzzing.command("subtract", "t_rate.fits", "good_rate.fits", "-b", "b_rate.fits")
    assert status == 1
    assert (folder / "good_backgroundstep.fits").exists()
    assert not (folder / "t_backgroundstep.fits").exists()
    assert checksum(folder / "b_rate.fits") == before
