"""Exposures: where they lie on the detector, and reading them from files and models."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst import datamodels

import factories
from factories import DO_NOT_USE, make_model, ramp, write_fits
from webbkg import BackgroundStep, ImageOptions
from webbkg.errors import InputError, MissingFileError
from webbkg.files.exposures import DetectorWindow, Exposure, ExposureInfo, window_of
from webbkg.image.average import average_exposures

SHAPE = (7, 9)


def average(exposures, window):
    """Average those of `exposures` that overlap `window` (two bands, to move the row offsets)."""
    placed = [one.placed_on(factories.place(window)) for one in exposures]
    options = ImageOptions(band_memory=1000)
    return average_exposures([p for p in placed if p is not None], window.shape, options, threads=1)


def read_all(exposure):
    """Planes of a 2-D exposure as the averaging sees them, and the counts."""
    placed = exposure.placed_on(exposure.place)
    options = ImageOptions(band_memory=1000)
    result = average_exposures([placed], exposure.shape, options, threads=1)
    return result.sci, result.err, result.dq


# Windows.

lengths = st.integers(1, 12)
corners = st.integers(0, 12)
windows = st.builds(DetectorWindow, corners, corners, lengths, lengths)


def paint(window):
    detector = np.zeros((30, 30), bool)
    detector[window.y : window.y + window.rows, window.x : window.x + window.columns] = True
    return detector


@given(windows, windows)
def test_overlap_is_what_both_windows_hold(one, other):
    both = paint(one) & paint(other)
    overlap = one.overlap(other)
    if overlap is None:
        assert not both.any()
        return
    for window, rows, columns in (
        (one, overlap.rows, overlap.columns),
        (other, overlap.other_rows, overlap.other_columns),
    ):
        found = DetectorWindow(
            window.x + columns[0],
            window.y + rows[0],
            columns[1] - columns[0],
            rows[1] - rows[0],
        )
        np.testing.assert_array_equal(paint(found), both)


def test_window_reads_as_fits_counts():
    assert (
        str(DetectorWindow(10, 20, 64, 32)) == "64x32 pixels from column 11, row 21 of the detector"
    )


# Placement: a ramp of detector coordinates, so that a slip by one pixel shows.

TARGET = DetectorWindow(x=100, y=200, columns=9, rows=7)
PLACES = {
    "equal": (100, 200, 9, 7),
    "inside": (103, 202, 4, 3),
    "bottom left corner": (100, 200, 3, 2),
    "bottom right corner": (106, 200, 3, 2),
    "top left corner": (100, 205, 3, 2),
    "top right corner": (106, 205, 3, 2),
    "over the left side": (96, 202, 6, 3),
    "over the right side": (105, 202, 6, 3),
    "over the bottom": (103, 197, 4, 5),
    "over the top": (103, 204, 4, 9),
    "over a corner": (94, 195, 8, 8),
    "one pixel": (108, 206, 5, 5),
    "all around": (90, 190, 40, 30),
    "a column": (104, 190, 1, 30),
    "a row": (90, 203, 40, 1),
}


@pytest.mark.parametrize("source", ["model", "fits", "fits.gz"])
@pytest.mark.parametrize("integrations", [None, 3])
@pytest.mark.parametrize("place", PLACES)
def test_background_lands_where_it_lies(tmp_path, place, integrations, source):
    window = DetectorWindow(*PLACES[place])
    sci = ramp(window.shape, window.x, window.y)
    dq = (sci % 4096).astype(np.uint32) * 2
    if integrations:
        sci, dq = np.stack([sci] * integrations), np.stack([dq] * integrations)
    planes = (sci, sci / np.float32(8), dq)
    if source == "model":
        exposure = Exposure.from_model(make_model(*planes, at=(window.x, window.y)))
    else:
        path = write_fits(tmp_path / f"b_rate.{source}", *planes, at=(window.x, window.y))
        exposure = Exposure.from_file(path)
    with exposure:
        result = average([exposure], TARGET)
    covered = (paint_far(window) & paint_far(TARGET))[200:207, 100:109]
    truth = ramp(TARGET.shape, TARGET.x, TARGET.y)
    np.testing.assert_array_equal(result.covered, covered)
    np.testing.assert_array_equal(result.sci, np.where(covered, truth, np.nan))
    np.testing.assert_allclose(
        result.err, np.where(covered, truth / 8 / np.sqrt(integrations or 1), np.nan), rtol=2e-7
    )
    flags = (truth % 4096).astype(np.uint32) * 2
    np.testing.assert_array_equal(result.dq, np.where(covered, flags, DO_NOT_USE))


def paint_far(window):
    detector = np.zeros((300, 200), bool)
    detector[window.y : window.y + window.rows, window.x : window.x + window.columns] = True
    return detector


@pytest.mark.parametrize("corner", [(0, 0), (2000, 0), (0, 2016), (2000, 2016)])
def test_subarray_in_a_corner_of_a_full_frame(corner):
    exposure = Exposure.from_model(make_model(ramp((32, 48), *corner), at=corner))
    result = average([exposure], DetectorWindow(0, 0, 2048, 2048))
    x, y = corner
    np.testing.assert_array_equal(result.sci[y : y + 32, x : x + 48], ramp((32, 48), *corner))
    assert result.covered.sum() == 32 * 48


@pytest.mark.parametrize(
    "place", [(109, 200), (91, 200), (100, 207), (100, 193), (0, 0), (1000, 200)]
)
def test_neighbours_do_not_overlap(place):
    exposure = Exposure.from_model(make_model(ramp(SHAPE, *place), at=place))
    assert exposure.placed_on(factories.place(TARGET)) is None


def test_subarrays_and_full_frames_mix():
    """Each pixel is averaged over those that hold it."""
    full = [Exposure.from_model(make_model(ramp((30, 40)) + step, at=(0, 0))) for step in (0, 2)]
    part = Exposure.from_model(make_model(np.stack([ramp((5, 6), 11, 8) + 7] * 2), at=(11, 8)))
    result = average([*full, part], DetectorWindow(10, 5, 12, 10))
    expected = ramp((10, 12), 10, 5) + 1
    expected[3:8, 1:7] += 2
    np.testing.assert_array_equal(result.sci, expected)
    counts = np.full((10, 12), 2)
    counts[3:8, 1:7] = 3
    np.testing.assert_array_equal(result.counts, counts)
    # Two 2-D errors of 0.25, and in the overlap that of a mean of two integrations.
    assert np.isfinite(result.err).all()
    assert result.err[0, 0] == np.float32(0.25 * np.sqrt(2) / 2)
    assert result.err[3, 1] == np.float32(0.25 * np.sqrt(2.5) / 3)


# Window keywords.


@pytest.mark.parametrize(
    ("instrument", "shape"),
    [("MIRI", (1024, 1032)), ("NIRISS", (2048, 2048)), (None, (2048, 2048))],
)
@pytest.mark.parametrize("missing", ["xstart", "ystart", "xsize", "ysize", "all"])
def test_missing_window_keywords_mean_full_frame(instrument, shape, missing):
    keywords = {"xstart": 1, "ystart": 1, "xsize": shape[1], "ysize": shape[0]}
    keywords = {} if missing == "all" else {k: v for k, v in keywords.items() if k != missing}
    info = ExposureInfo(
        instrument=instrument, **{f"subarray_{name}": value for name, value in keywords.items()}
    )
    assert window_of(info, shape, "it") == DetectorWindow(0, 0, shape[1], shape[0])


def test_one_missing_keyword_means_that_all_are_full_frame():
    info = ExposureInfo(subarray_xstart=5, subarray_xsize=3, subarray_ysize=3)
    assert window_of(info, (2048, 2048), "it") == DetectorWindow(0, 0, 2048, 2048)


@pytest.mark.parametrize(
    ("instrument", "shape", "full"),
    [
        ("NIRISS", (80, 80), "2048x2048"),
        ("MIRI", (1032, 1024), "1032x1024"),
        ("NIRISS", (1024, 1032), "2048x2048"),
        ("MIRI", (2048, 2048), "1032x1024"),
    ],
)
def test_missing_window_keywords_of_a_subarray_are_an_error(instrument, shape, full):
    with pytest.raises(InputError, match=f"it: .*SUBSTRT1.*missing.*not a full frame of {full}"):
        window_of(ExposureInfo(instrument=instrument), shape, "it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xsize": 10}, "SUBSIZE1 x SUBSIZE2 = 10x7 contradicts its image of 9x7"),
        ({"ysize": 9, "xsize": 7}, "SUBSIZE1 x SUBSIZE2 = 7x9 contradicts its image of 9x7"),
        ({"xstart": 0}, "SUBSTRT1, SUBSTRT2 = 0, 1 must both be at least 1"),
        ({"ystart": -3}, "SUBSTRT1, SUBSTRT2 = 1, -3 must both be at least 1"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "file"])
def test_contradicting_window_keywords_are_an_error(tmp_path, change, message, kind):
    model = make_model(ramp(SHAPE))
    model.meta.filename = "wrong_rate.fits"
    for name, value in change.items():
        setattr(model.meta.subarray, name, value)
    if kind == "file":
        path = factories.save(model, tmp_path / "wrong_rate.fits")
    exposure = Exposure.from_model(model) if kind == "model" else Exposure.from_file(path)
    with exposure, pytest.raises(InputError, match=f"wrong_rate.fits: {message}"):
        exposure.placed_on(factories.place(DetectorWindow(20, 0, *SHAPE)))


# What lies on each other, whatever the window keywords say.


def test_cut_outs_whose_keywords_tell_of_the_frame():
    """A flight NIRSpec MOS product: SUBSIZE is that of the frame that it was cut from."""
    sci = ramp((25, 34))
    models = [make_model(sci + step, at=(0, 0), kind=datamodels.SlitModel) for step in (3, 0)]
    for model in models:
        model.meta.subarray.xsize = model.meta.subarray.ysize = 2048
    result = BackgroundStep.call(models[0], [models[1]])
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 3)


@pytest.mark.parametrize("integrations", [None, 2])
def test_images_without_a_window_lie_on_each_other(integrations):
    sci = ramp((10, 10))
    background = make_model(np.stack([sci] * integrations) if integrations else sci, at=None)
    result = BackgroundStep.call(make_model(sci + 3, at=None), [background])
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 3)


@pytest.mark.parametrize("at", [(0, 0), (4, 0)])
def test_a_window_on_one_side_alone_is_an_error(at):
    """Nothing tells whether they lie on each other."""
    with pytest.raises(InputError, match=r"at least one is missing.*set the four keywords"):
        BackgroundStep.call(make_model(ramp((10, 10)), at=None), [make_model(SCI, at=at)])


def test_without_backgrounds_no_window_is_asked_for():
    result = BackgroundStep.call(make_model(ramp((10, 10)), at=None), [])
    assert result.meta.cal_step.bkg_subtract == "SKIPPED"


def test_models_with_hardly_anything():
    """No metadata, no ERR, no DQ: nothing is flagged, and the uncertainty is unknown."""
    models = [datamodels.ImageModel(ramp((10, 10)) + step) for step in (3, 0)]
    models[1].data[2, 3] = np.nan
    before = [sorted(model.instance) for model in models]
    result = BackgroundStep.call(models[0], [models[1]])
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    expected = np.full((10, 10), 3.0)
    expected[2, 3] = np.nan
    np.testing.assert_array_equal(result.data, expected)
    np.testing.assert_array_equal(result.dq, np.isnan(expected))
    assert [sorted(model.instance) for model in models] == before
    assert np.isnan(read_all(Exposure.from_model(models[1]))[1]).all()


# Files of every kind.

SCI = ramp(SHAPE, 3, 4)
ERR = (SCI / 16).astype(np.float32)
DQ = (np.arange(SCI.size).reshape(SHAPE) * 2).astype(np.uint32)


@pytest.mark.parametrize("sci_type", [">f4", "f4", ">f8", ">i2", ">i4"])
@pytest.mark.parametrize("dq_type", ["u4", ">i4", ">i2", ">i8", "u2", "u1"])
def test_fits_of_any_dtype(tmp_path, sci_type, dq_type):
    """An unsigned DQ is stored with BZERO, a signed one is not."""
    path = write_fits(
        tmp_path / "a_rate.fits", SCI.astype(sci_type), ERR.astype(">f8"), DQ.astype(dq_type)
    )
    with Exposure.from_file(path) as exposure:
        sci, err, dq = read_all(exposure)
    np.testing.assert_array_equal(sci, SCI)
    np.testing.assert_array_equal(err, ERR)
    np.testing.assert_array_equal(dq, DQ)


@pytest.mark.parametrize("dq_type", ["u4", ">i4", ">i8"])
def test_the_highest_flags_survive(tmp_path, dq_type):
    dq = np.array([[2**31, 2**32 - 2], [0, 2**30]], np.uint32)
    path = write_fits(
        tmp_path / "a_rate.fits", np.ones((2, 2)), np.ones((2, 2)), dq.astype(dq_type)
    )
    with Exposure.from_file(path) as exposure:
        np.testing.assert_array_equal(read_all(exposure)[2], dq)


def test_scaled_integers_are_scaled(tmp_path):
    path = write_fits(tmp_path / "a_rate.fits", SCI.astype(">i2"), ERR, DQ)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus["SCI"].header["BSCALE"], hdus["SCI"].header["BZERO"] = 0.5, 100.0
    with Exposure.from_file(path) as exposure:
        np.testing.assert_array_equal(read_all(exposure)[0], SCI * 0.5 + 100)


@pytest.mark.parametrize("scale", [(1, 0), (2, 0), (0.001, -0.5)])
def test_blank_pixels_of_scaled_integers_are_nan(tmp_path, scale):
    """-32768, the usual blank, times 0.001 was averaged in as -32.768 (and -33.268 here)."""
    sci = SCI.astype(">i2")
    sci[2, 3] = -32768
    path = write_fits(tmp_path / "a_rate.fits", sci, ERR, DQ)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus["SCI"].header.update(BSCALE=scale[0], BZERO=scale[1], BLANK=-32768)
    with Exposure.from_file(path) as exposure:
        read = read_all(exposure)[0]
        expected = (sci * float(scale[0]) + scale[1]).astype(np.float32)
        expected[2, 3] = np.nan
        np.testing.assert_array_equal(read, expected)


def test_double_precision_beyond_float32_is_left_out(tmp_path):
    sci = SCI.astype(">f8")
    sci[1, 2] = 1e300
    path = write_fits(tmp_path / "a_rate.fits", sci, ERR, DQ)
    with Exposure.from_file(path) as exposure:
        read = read_all(exposure)[0]
    assert np.isnan(read[1, 2])
    assert np.isfinite(np.delete(read.ravel(), 1 * SHAPE[1] + 2)).all()


@pytest.mark.parametrize("integrations", [None, 3])
def test_asdf_product(tmp_path, integrations):
    planes = [np.stack([a] * integrations) if integrations else a for a in (SCI, ERR, DQ)]
    path = factories.save(make_model(*planes, at=(3, 4)), tmp_path / "a_rate.asdf")
    with Exposure.from_file(path) as exposure:
        assert (exposure.path, exposure.window) == (path, DetectorWindow(3, 4, 9, 7))
        assert exposure.n_integrations == (integrations or 1)
        sci, _, dq = read_all(exposure)
    np.testing.assert_array_equal(sci, SCI)
    np.testing.assert_array_equal(dq, DQ)


def test_gzip_by_content_not_by_name(tmp_path):
    plain = write_fits(tmp_path / "a_rate.fits", SCI, ERR, DQ)
    packed = tmp_path / "b_rate.fits"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with Exposure.from_file(packed) as exposure:
        assert exposure.name == "b_rate.fits"
        np.testing.assert_array_equal(read_all(exposure)[0], SCI)


def compress(path, names):
    """Tile-compress planes of a file, without loss, where it is; gzip it if its name says so."""
    with fits.open(path, memmap=False) as plain:
        hdus = [
            fits.CompImageHDU(hdu.data, hdu.header, compression_type="GZIP_2", quantize_level=0)
            if hdu.name in names
            else hdu
            for hdu in plain
        ]
        fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("ending", ["fits", "fits.gz"])
@pytest.mark.parametrize("integrations", [None, 3])
@pytest.mark.parametrize("names", [["SCI", "ERR"], ["DQ"], ["SCI", "ERR", "DQ"]])
def test_tile_compressed_planes(tmp_path, names, integrations, ending):
    planes = [np.stack([a] * integrations) if integrations else a for a in (SCI, ERR, DQ)]
    planes[2] = planes[2] | np.uint32(1 << 31)
    path = compress(write_fits(tmp_path / f"a_rate.{ending}", *planes), names)
    with Exposure.from_file(path) as exposure:
        assert exposure.n_integrations == (integrations or 1)
        sci, _, dq = read_all(exposure)
    np.testing.assert_array_equal(sci, SCI)
    np.testing.assert_array_equal(dq, DQ | np.uint32(1 << 31))


def test_tile_compressed_target_and_background(tmp_path):
    paths = [
        compress(
            factories.save(make_model(SCI + step, dq=DQ), tmp_path / f"{name}_rate.fits"),
            ["SCI", "ERR"],
        )
        for name, step in (("t", 3), ("b", 0))
    ]
    result = BackgroundStep.call(*map(str, paths))
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 3)
    np.testing.assert_array_equal(result.dq, DQ)


def test_damaged_tiles_are_an_error(tmp_path):
    rng = np.random.default_rng(1)
    path = write_fits(tmp_path / "a_rate.fits", rng.normal(size=SHAPE), ERR, DQ)
    compress(path, ["SCI"])
    with fits.open(path, disable_image_compression=True) as hdus:
        header = hdus["SCI"].header
        start = hdus["SCI"].fileinfo()["datLoc"] + header["NAXIS1"] * header["NAXIS2"]
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * 60)
    with (
        Exposure.from_file(path) as exposure,
        pytest.raises(InputError, match=r"a_rate\.fits: a compressed image cannot be unpacked"),
    ):
        read_all(exposure)


@pytest.mark.parametrize("layout", ["native", "big-endian", "read-only", "strided"])
def test_models_with_any_array(layout):
    def convert(array):
        if layout == "big-endian":
            return array.astype(array.dtype.newbyteorder(">"))
        if layout == "strided":
            return np.asfortranarray(array)
        return array.copy()

    model = make_model(SCI, ERR, DQ)
    arrays = {name: convert(a) for name, a in (("data", SCI), ("err", ERR), ("dq", DQ))}
    for name, array in arrays.items():
        array.flags.writeable = layout != "read-only"
        model.instance[name] = array
    sci, err, dq = read_all(Exposure.from_model(model))
    np.testing.assert_array_equal(sci, SCI)
    np.testing.assert_array_equal(err, ERR)
    np.testing.assert_array_equal(dq, DQ)
    assert all(model.instance[name] is array for name, array in arrays.items())


def test_metadata_are_the_same_from_file_and_model(tmp_path):
    model = make_model(SCI, meta=factories.NIRSPEC, kind=datamodels.IFUImageModel)
    model.meta.cal_step.bkg_subtract = "SKIPPED"
    path = factories.save(model, tmp_path / "a_rate.fits")
    with Exposure.from_file(path) as exposure:
        assert exposure.info == Exposure.from_model(model).info
        assert exposure.path == path
    assert (exposure.info.gwa_xtilt, exposure.info.bkg_subtract) == (0.3618, "SKIPPED")


def test_reading_metadata_creates_none():
    model = make_model(np.zeros((2048, 2048)), at=None)
    before = set(model.to_flat_dict(include_arrays=False))
    Exposure.from_model(model)
    assert set(model.to_flat_dict(include_arrays=False)) == before


def test_integrations_are_counted(tmp_path):
    path = write_fits(tmp_path / "a_rateints.fits", *(np.stack([a] * 4) for a in (SCI, ERR, DQ)))
    with Exposure.from_file(path) as exposure:
        assert exposure.n_integrations == 4
        assert exposure.window.shape == SHAPE


# Files that are no exposures. Every error names the file.


def subtract_it(path):
    BackgroundStep.call(make_model(SCI), [str(path)])


def subtract_from_it(path):
    BackgroundStep.call(str(path), [make_model(SCI)])


@pytest.mark.parametrize("opener", [Exposure.from_file, subtract_from_it, subtract_it])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file|no file"),
        (b"", "empty"),
        (b"<html>404 Not Found</html>\n" * 200, "not a FITS file"),
        (b"SIMPLE is not what this says" * 200, "not a FITS file|damaged"),
        (b"\x1f\x8b\x08\x00 no gzip at all", "damaged gzip"),
        ("half of gzip", "damaged gzip"),
        ("half of header", "not a FITS file|ends inside|has no SCI"),
        ("half of SCI", "ends inside SCI"),
        ("half of DQ", "ends inside DQ"),
        ("folder", "folder"),
    ],
)
def test_what_is_no_product_is_refused_by_name(tmp_path, content, message, opener):
    path = tmp_path / "broken_rate.fits"
    spoil(path, content)
    kind = MissingFileError if content is None else InputError
    match = rf"(?s)broken_rate\.fits.*({message})|({message}).*broken_rate\.fits"
    with pytest.raises(kind, match=match):
        opener(path)


def spoil(path, content):
    if content is None:
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    if content == "folder":
        path.mkdir()
        return
    big = np.zeros((100, 100), np.float32)
    whole = write_fits(path, big, big, big.astype(np.uint32)).read_bytes()
    with fits.open(path) as hdus:
        starts = {hdu.name: hdu.fileinfo()["datLoc"] for hdu in hdus}
    cut = {
        "half of gzip": lambda: gzip.compress(whole)[:-60],
        "half of header": lambda: whole[:1000],
        "half of SCI": lambda: whole[: starts["SCI"] + 5000],
        "half of DQ": lambda: whole[: starts["DQ"] + 5000],
    }
    path.write_bytes(cut[content]())


@pytest.mark.parametrize("lacking", ["SCI", "ERR", "DQ"])
def test_missing_plane_is_named(tmp_path, lacking):
    planes = [name for name in ("SCI", "ERR", "DQ") if name != lacking]
    path = write_fits(tmp_path / "a_rate.fits", SCI, ERR, DQ, planes=planes)
    with pytest.raises(InputError, match=rf"a_rate\.fits: has no {lacking} plane"):
        Exposure.from_file(path)


def test_a_model_without_sci_is_named():
    model = make_model(SCI)
    model.meta.filename = "open_rate.fits"
    del model.instance["data"]
    with pytest.raises(InputError, match=r"open_rate\.fits: .*no SCI .*model\.data"):
        Exposure.from_model(model)


@pytest.mark.parametrize("kind", ["model", "file"])
def test_a_target_without_err(tmp_path, kind):
    model = make_model(SCI + 3)
    del model.instance["err"]
    target = model if kind == "model" else str(factories.save(model, tmp_path / "t_rate.fits"))
    result = BackgroundStep.call(target, [make_model(SCI)])
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    np.testing.assert_array_equal(result.data, 3)
    assert "err" not in result.instance


def test_planes_of_different_shapes_are_named(tmp_path):
    path = write_fits(tmp_path / "a_rate.fits", SCI, ERR[:-1], DQ)
    message = r"a_rate\.fits: .*one shape \(got SCI \(1, 7, 9\), ERR \(1, 6, 9\), DQ \(1, 7, 9\)\)"
    with pytest.raises(InputError, match=message):
        Exposure.from_file(path)
    cube = write_fits(tmp_path / "b_rate.fits", np.stack([SCI] * 2), ERR, np.stack([DQ] * 2))
    with pytest.raises(InputError, match=r"b_rate\.fits: .*ERR \(1, 7, 9\)"):
        Exposure.from_file(cube)


@pytest.mark.parametrize("shape", [(9,), (2, 3, 7, 9)])
def test_planes_are_2d_or_3d(tmp_path, shape):
    planes = [np.zeros(shape, np.float32)] * 3
    path = write_fits(tmp_path / "a_ramp.fits", *planes, at=None)
    with pytest.raises(InputError, match=r"a_ramp\.fits: SCI must be .*2-D or 3-D"):
        Exposure.from_file(path)


def test_a_table_called_sci_is_refused(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("FLUX", "E", array=np.ones(4))], name="SCI")
    others = [fits.ImageHDU(a, name=n) for a, n in ((ERR, "ERR"), (DQ, "DQ"))]
    path = tmp_path / "a_x1d.fits"
    fits.HDUList([fits.PrimaryHDU(), table, *others]).writeto(path)
    with pytest.raises(InputError, match=r"a_x1d\.fits: SCI must be"):
        Exposure.from_file(path)


def test_a_file_cut_short_while_open_is_an_error(tmp_path):
    big = np.zeros((100, 100), np.float32)
    path = write_fits(tmp_path / "a_rate.fits", big, big, big.astype(np.uint32))
    with Exposure.from_file(path) as exposure:
        with path.open("r+b") as stream:
            stream.truncate(20000)
        with pytest.raises(InputError, match=r"a_rate\.fits: the file ends inside its data"):
            read_all(exposure)


def test_a_failed_opening_leaves_no_file_open(tmp_path):
    """An open handle would show as a ResourceWarning, which is an error here."""
    path = write_fits(tmp_path / "a_rate.fits", SCI, ERR, DQ, planes=["SCI"])
    with pytest.raises(InputError):
        Exposure.from_file(path)
    with Exposure.from_file(write_fits(tmp_path / "b_rate.fits", SCI, ERR, DQ)):
        pass


# Memory.

MEASURE = """
import resource, sys
from webbkg import ImageOptions
from webbkg.files.exposures import Exposure
from webbkg.image.average import average_exposures

def peak(paths):
    opened = [Exposure.from_file(path) for path in paths]
    placed = [one.placed_on(opened[0].place) for one in opened]
    average_exposures(placed, opened[0].shape, ImageOptions(band_memory=2**20), threads=1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

paths = sys.argv[1:]
peak(paths[:1]), peak(paths[:5])
print(peak(paths[:5]), peak(paths))
"""


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    """40 files of 3 MB each: 105 MB more than five, if they were loaded."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(512, 512)).astype(np.float32)
    first = write_fits(tmp_path / "b0.fits", image, image, (image > 3).astype(np.uint32))
    paths = [first] + [tmp_path / f"b{number}.fits" for number in range(1, 40)]
    for path in paths[1:]:
        path.hardlink_to(first)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(float, run.stdout.split())
    assert many - few < 20


# Inputs stay as they are.


def deep_copy_of(model):
    arrays = {name: model.instance[name].copy() for name in ("data", "err", "dq")}
    return arrays, model.to_flat_dict(include_arrays=False)


def assert_untouched(model, before, references):
    arrays, metadata = before
    for name, array in arrays.items():
        np.testing.assert_array_equal(model.instance[name], array)
        assert model.instance[name] is references[name]
    assert model.to_flat_dict(include_arrays=False) == metadata


@pytest.mark.parametrize("integrations", [None, 2])
@pytest.mark.parametrize("at", [(0, 0), (2, 1), (500, 500)])
def test_models_stay_as_they_are(integrations, at):
    rng = np.random.default_rng(9)
    shape = ([integrations] if integrations else []) + [6, 8]
    models = [make_model(rng.normal(size=shape), at=place) for place in ((0, 0), at, at)]
    models[1].data[..., 3, 3] = np.nan
    before = [deep_copy_of(model) for model in models]
    references = [dict(model.instance) for model in models]
    result = BackgroundStep.call(models[0], models[1:])
    assert result.meta.cal_step.bkg_subtract == ("SKIPPED" if at[0] == 500 else "COMPLETE")
    result.data[...] = 0
    result.dq[...] = 3
    for model, then, arrays in zip(models, before, references, strict=True):
        assert_untouched(model, then, arrays)


@pytest.mark.parametrize("ending", ["fits", "fits.gz", "asdf"])
def test_files_stay_as_they_are(tmp_path, ending):
    rng = np.random.default_rng(10)
    paths = [
        factories.save(make_model(rng.normal(size=(6, 8))), tmp_path / f"e{index}_rate.{ending}")
        for index in range(4)
    ]
    before = [factories.checksum(path) for path in paths]
    names = sorted(path.name for path in tmp_path.iterdir())
    result = BackgroundStep.call(
        str(paths[0]),
        [str(path) for path in paths[1:]],
        save_combined_background=True,
        save_results=True,
        output_dir=str(tmp_path),
    )
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert [factories.checksum(path) for path in paths] == before
    new = sorted({path.name for path in tmp_path.iterdir()} - set(names))
    assert new == ["e0_backgroundstep.fits", "e0_combinedbackground.fits"]
