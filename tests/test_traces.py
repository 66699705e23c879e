"""From a source catalogue and a grism WCS to the sky mask."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK5, AltAz, Galactic, SkyCoord
from astropy.table import MaskedColumn, QTable, Table

import reference_wfss as reference
from webbkg.errors import InputError, MissingFileError
from webbkg.files import catalogs
from webbkg.files.catalogs import read_catalog
from webbkg.wfss.traces import (
    OrderLimits,
    SourceCatalog,
    blocking_filter,
    catalog_sky_mask,
    orders_and_limits,
    sky_mask_from_boxes,
    trace_boxes,
)

SHAPE = (60, 90)
ORDERS = (OrderLimits(1, 1.0, 2.0), OrderLimits(2, 0.8, 1.6))


def transform(ra, dec, wavelength, order):
    """A grism that disperses along x, tilted; 1 degree is 100 pixels. NaN beyond ra 3."""
    x = 100 * np.asarray(ra) + 20 * (wavelength - 1) * order
    y = 100 * np.asarray(dec) + 3 * wavelength * order + 0.05 * x
    x = np.where(np.asarray(ra) > 3, np.nan, x)
    return x, y, 0 * x, 0 * x, order


def catalog(n=40, seed=3):
    rng = np.random.default_rng(seed)
    ra = rng.uniform(-0.6, 1.2, n) + np.array([0, 0.06, 0, 0.06])[:, None]
    dec = rng.uniform(-0.4, 0.8, n) + np.array([0, 0, 0.04, 0.05])[:, None]
    ra[1, 0] = 5  # one corner has no place on the detector
    ra[:, 1] = 5  # none has
    dec[:, 2] = np.nan
    return SourceCatalog(ra, dec, rng.uniform(18, 26, n))


def as_table(source, *, frame="icrs"):
    columns = {}
    for i, name in enumerate(catalogs.CORNERS):
        position = SkyCoord(source.ra[i], source.dec[i], unit="deg")
        columns[name] = position.transform_to(frame)
    columns["label"] = np.arange(len(source))
    columns["isophotal_abmag"] = source.magnitude
    return QTable(columns)


@pytest.fixture
def clean():
    """A catalogue whose positions are all on the sky."""
    source = catalog(12)
    return SourceCatalog(
        np.nan_to_num(source.ra % 360), np.nan_to_num(source.dec), source.magnitude.copy()
    )


# The mask


@pytest.mark.parametrize("axis", [1, 2, None])
def test_equals_the_plain_twin(axis):
    source = catalog(30)
    mask = catalog_sky_mask(source, transform, ORDERS, SHAPE, dispersion_axis=axis)
    expected = reference.sky_mask(transform, source.ra, source.dec, ORDERS, SHAPE, axis)
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == bool
    assert 0.02 < mask.mean() < 0.98


def test_one_call_per_order_and_limit():
    """Scalars for wavelength and order; all corners of all sources at once."""
    calls = []

    def spy(ra, dec, wavelength, order):
        calls.append((ra.shape, dec.shape, wavelength, order))
        return transform(ra, dec, wavelength, order)

    catalog_sky_mask(catalog(7), spy, ORDERS, SHAPE)
    size = (28,)
    assert calls == [(size, size, w, o.order) for o in ORDERS for w in o[1:]]


def test_box_of_a_source():
    """The range of its finite points, halves rounded up."""
    ra = np.array([[0.105], [np.nan], [0.205], [0.15]])
    dec = np.array([[0.3], [0.3], [0.405], [0.3]])

    def straight(ra, dec, wavelength, order):
        return 100 * ra + wavelength, 100 * dec

    boxes = trace_boxes(straight, ra, dec, 1, (0.0, 40.0))
    assert boxes.tolist() == [[11, 61, 30, 41]]


def test_points_that_are_infinite_or_far_away():
    def wild(ra, dec, wavelength, order):
        return np.where(ra > 0, np.inf, -1e300), np.where(ra > 0, 5, -1e300)

    ra = np.array([[1.0, 1.0], [1, -1], [1, -1], [1, -1]])
    boxes = trace_boxes(wild, ra, ra, 1, (1.0, 2.0))
    assert boxes.shape == (1, 4)
    assert sky_mask_from_boxes(SHAPE, [boxes]).all()


@pytest.mark.parametrize(
    ("box", "axis", "masked"),
    [
        # Along dispersion a box must reach beyond the outermost line, across it may just touch.
        ((-9, 0, 5, 6), 1, 0),
        ((-9, 1, 5, 6), 1, 4),
        ((89, 99, 5, 6), 1, 0),
        ((88, 99, 5, 6), 1, 4),
        ((5, 6, -9, -1), 1, 0),
        ((5, 6, -9, 0), 1, 2),
        ((5, 6, 59, 70), 1, 2),
        ((5, 6, 60, 70), 1, 0),
        ((5, 6, -9, 0), 2, 0),
        ((5, 6, -9, 1), 2, 4),
        ((5, 6, 59, 70), 2, 0),
        ((5, 6, 58, 70), 2, 4),
        ((-9, 0, 5, 6), 2, 2),
        ((89, 99, 5, 6), 2, 2),
        ((90, 99, 5, 6), 2, 0),
        ((-9, 0, 5, 6), None, 2),
        ((7, 7, 8, 8), 1, 1),
        ((-9, 99, -9, 99), 1, SHAPE[0] * SHAPE[1]),
    ],
)
def test_which_boxes_count(box, axis, masked):
    mask = sky_mask_from_boxes(SHAPE, [np.array([box])], dispersion_axis=axis)
    assert np.count_nonzero(~mask) == masked


def test_a_subarray_is_the_full_frame_cut():
    """The WCS of a subarray counts its pixels from the subarray's corner."""
    x0, y0 = 17, 9
    source = catalog(100)

    def in_subarray(*args):
        x, y = transform(*args)[:2]
        return x - x0, y - y0

    whole = catalog_sky_mask(source, transform, ORDERS, SHAPE, dispersion_axis=1)
    part = catalog_sky_mask(source, in_subarray, ORDERS, (31, 40), dispersion_axis=1)
    # Boxes that only touch the outermost columns of the subarray do not count there.
    np.testing.assert_array_equal(part[:, 1:-1], whole[y0 : y0 + 31, x0 + 1 : x0 + 39])


# Which sources


def test_magnitude_limit():
    """Left out at the limit and beyond; masked without a magnitude."""
    corners = np.zeros((4, 5))
    source = SourceCatalog(corners, corners.copy(), np.array([20, 22, 23, np.nan, 999]))
    assert source.brighter_than(22).magnitude.tolist() == pytest.approx([20, np.nan], nan_ok=True)
    kept = source.brighter_than(None).magnitude.tolist()
    assert kept == pytest.approx([20, 22, 23, np.nan], nan_ok=True)


def test_a_limit_leaves_faint_sources_as_sky():
    source = catalog(50)
    bright = SourceCatalog(
        *(a[..., source.magnitude < 22].copy() for a in (source.ra, source.dec, source.magnitude))
    )
    mask = catalog_sky_mask(source, transform, ORDERS, SHAPE, magnitude_limit=22)
    np.testing.assert_array_equal(mask, catalog_sky_mask(bright, transform, ORDERS, SHAPE))


def test_no_source_is_bright_enough():
    assert catalog_sky_mask(catalog(5), transform, ORDERS, SHAPE, magnitude_limit=1).all()


# Orders and wavelengths


def test_last_row_of_orders_first_row_of_wavelengths():
    orders = [["F1", [1]], ["F2", [0]], ["F1", [2, 1]]]
    ranges = [[1, "F2", 9, 9], [1, "F1", 1.5, 2], [2, "F1", 1, 1.2], [1, "F1", 3, 4]]
    found = orders_and_limits(orders, ranges, "F1")
    assert found == (OrderLimits(2, 1, 1.2), OrderLimits(1, 1.5, 2))


def test_a_filter_that_the_reference_does_not_know():
    with pytest.raises(InputError, match=r"no orders for the filter F9 \(it knows F1, F2\)"):
        orders_and_limits([["F1", [1]], ["F2", [1]]], [], "F9")


def test_an_order_without_wavelengths():
    with pytest.raises(InputError, match="no wavelengths for order 2, 3 of the filter F1"):
        orders_and_limits([["F1", [1, 2, 3]]], [[1, "F1", 1, 2], [2, "F2", 1, 2]], "F1")


@pytest.mark.parametrize(
    ("instrument", "name"), [("NIRISS", "F200W"), ("NIRCAM", "GR150C"), ("MIRI", "GR150C")]
)
def test_blocking_filter(instrument, name):
    assert blocking_filter(instrument, "GR150C", "F200W") == name


# The catalogue


def check_same(found, source, **tolerance):
    for name in ("ra", "dec", "magnitude"):
        np.testing.assert_allclose(getattr(found, name), getattr(source, name), **tolerance)
        assert not getattr(found, name).flags.writeable


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_reads_the_usual_file_the_quick_way(clean, tmp_path, monkeypatch, delimiter):
    path = tmp_path / "cat.ecsv"
    table = as_table(clean)
    table["note"] = ['a "word", quoted'] * len(clean)
    table.write(path, format="ascii.ecsv", delimiter=delimiter)
    monkeypatch.setattr(catalogs, "_read_table", None)
    check_same(read_catalog(path), clean, rtol=0)


def test_reads_a_table(clean):
    check_same(read_catalog(as_table(clean)), clean, rtol=0)


@pytest.mark.parametrize("frame", [FK5(), Galactic()])
@pytest.mark.parametrize("in_file", [True, False])
def test_other_frames_are_transformed(clean, tmp_path, frame, in_file):
    table = as_table(clean, frame=frame)
    if in_file:
        table.write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    found = read_catalog(tmp_path / "cat.ecsv" if in_file else table)
    check_same(found, clean, atol=1e-9)


def test_other_units_are_converted(clean, tmp_path):
    table = as_table(clean)
    for name in catalogs.CORNERS:
        table[name] = SkyCoord(table[name].ra.to(u.radian), table[name].dec.to(u.radian))
        table[name].ra.wrap_angle = 180 * u.deg
    table.write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    check_same(read_catalog(tmp_path / "cat.ecsv"), clean, atol=1e-9)


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("kind", ["column", "quantity"])
def test_missing_magnitudes_are_nan(clean, tmp_path, in_file, kind):
    mask = np.arange(len(clean)) % 3 == 0
    table = as_table(clean)
    if kind == "quantity":
        table["isophotal_abmag"] = np.where(mask, np.nan, clean.magnitude) * u.ABmag
    else:
        table["isophotal_abmag"] = MaskedColumn(clean.magnitude, mask=mask)
    if in_file:
        table.write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    found = read_catalog(tmp_path / "cat.ecsv" if in_file else table)
    expected = np.where(mask, np.nan, clean.magnitude)
    np.testing.assert_array_equal(found.magnitude, expected)
    np.testing.assert_array_equal(found.ra, clean.ra)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"cat\.ecsv: no such file"):
        read_catalog(tmp_path / "cat.ecsv")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with '# %ECSV'"),
        (b"SIMPLE  = T", "does not begin with '# %ECSV'"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"# %ECSV 1.0\n# ---\n# datatype: [\na b\n1 2\n", "its YAML is damaged"),
    ],
)
def test_a_file_that_is_no_catalogue(tmp_path, content, reason):
    path = tmp_path / "cat.ecsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"cat\.ecsv: {reason}"):
        read_catalog(path)


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda t: t["label", "sky_bbox_ll", "isophotal_abmag"],
            r"column sky_bbox_lr, sky_bbox_ul",
        ),
        (lambda t: t[list(catalogs.CORNERS)], "lacks the column isophotal_abmag"),
        (lambda t: replaced(t), "sky_bbox_ul must hold sky coordinates"),
        (lambda t: horizontal(t), r"sky_bbox_ul does not lead to ICRS \(its frame is altaz\)"),
    ],
)
def test_a_table_that_is_no_catalogue(clean, tmp_path, change, reason, in_file):
    table = change(as_table(clean))
    if in_file:
        table.write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    with pytest.raises(InputError, match=reason):
        read_catalog(tmp_path / "cat.ecsv" if in_file else table)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_catalogue_without_sources_masks_nothing(clean, tmp_path, in_file):
    table = as_table(clean)[:0]
    if in_file:
        table.write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    found = read_catalog(tmp_path / "cat.ecsv" if in_file else table)
    assert found.ra.shape == found.dec.shape == (4, 0)
    sky = catalog_sky_mask(found, lambda *_: pytest.fail("nothing to transform"), [], (3, 4))
    assert sky.all()


def test_a_gzipped_catalogue(clean, tmp_path):
    as_table(clean).write(tmp_path / "cat.ecsv", format="ascii.ecsv")
    packed = tmp_path / "cat.ecsv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "cat.ecsv").read_bytes()))
    check_same(read_catalog(packed), clean, rtol=0)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a: {b: [", "its YAML is damaged"),
        ("a: " + 300 * "[", "nested more than 200 levels deep"),
        ("a: &a [" + "x, " * 100 + "]\n" + "b: &b [" + "*a, " * 100 + "]\nc: [" + "*b, " * 100 + "]",
         "expands, by its aliases"),
        ("a: *nothing", r"an alias \*nothing to nothing"),
        ("a: x\n" * 80_000, "YAML header has more than"),
    ],
)  # fmt: skip
def test_a_header_that_would_take_for_ever(tmp_path, header, reason):
    path = tmp_path / "cat.ecsv"
    lines = ["%ECSV 1.0", "---", *header.splitlines()]
    path.write_text("".join(f"# {line}\n" for line in lines) + "a b\n1 2\n")
    with pytest.raises(InputError, match=reason):
        read_catalog(path)


def replaced(table):
    table["sky_bbox_ul"] = np.zeros(len(table))
    return Table(table)


def horizontal(table):
    position = table["sky_bbox_ul"]
    table["sky_bbox_ul"] = SkyCoord(position.ra, position.dec, frame=AltAz())
    return table
