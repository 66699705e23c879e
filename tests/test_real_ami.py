"""Flight data: 25 NIRISS AMI exposures of one star; the first minus the mean of the others."""

from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE, checksum
from webbkg import BackgroundStep, batch

pytestmark = pytest.mark.real

FLAGGED = 457
"""Pixels that all the exposures flag DO_NOT_USE (data/README.md)."""


@pytest.fixture(scope="module")
def exposures(real_data):
    paths = sorted((real_data / "niriss_ami").glob("*_nis_cal.fits"))
    assert len(paths) == 25
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def subtracted(exposures):
    return BackgroundStep.call(exposures[0], exposures[1:])


def test_known_figures(exposures, subtracted):
    with datamodels.open(exposures[0]) as target:
        before, flags = target.data.copy(), target.dq.copy()
        err = target.err.copy()
    assert subtracted.meta.cal_step.bkg_subtract == "COMPLETE"
    unusable = flags & DO_NOT_USE != 0
    assert unusable.sum() == FLAGGED
    np.testing.assert_array_equal(np.isnan(subtracted.data), unusable)
    assert (subtracted.dq[unusable] & DO_NOT_USE != 0).all()
    assert np.median(before[~unusable]) == pytest.approx(30.382, abs=5e-4)
    assert np.median(subtracted.data[~unusable]) == pytest.approx(-0.481, abs=5e-4)
    np.testing.assert_array_equal(subtracted.err, err)
    np.testing.assert_array_equal(subtracted.dq & flags, flags)


def test_counts_are_recorded(subtracted):
    numbers = subtracted.meta.background.webbkg
    numbers = getattr(numbers, "instance", numbers)
    assert len(numbers["backgrounds"]) == 24
    assert numbers["exposure_samples"]["offered"] == 24 * 80 * 80
    assert numbers["exposure_samples"]["usable"] == 24 * (80 * 80 - FLAGGED)
    assert 0 < numbers["exposure_samples"]["clipped"] < 24 * 64
    assert numbers["pixels_unknown"] == FLAGGED
    assert numbers["pixels_uncovered"] == 0


def cut(path, rows, columns):
    """Cut an exposure to a smaller subarray; its window keywords follow."""
    with datamodels.open(path) as whole:
        part = datamodels.ImageModel(
            data=whole.data[rows, columns], err=whole.err[rows, columns], dq=whole.dq[rows, columns]
        )
        part.update(whole)
        part.meta.subarray.xstart = whole.meta.subarray.xstart + columns.start
        part.meta.subarray.ystart = whole.meta.subarray.ystart + rows.start
    part.meta.subarray.xsize = columns.stop - columns.start
    part.meta.subarray.ysize = rows.stop - rows.start
    return part


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(11, 70), slice(23, 61)),
        (slice(0, 5), slice(0, 80)),
        (slice(79, 80), slice(79, 80)),
    ],
)
def test_a_smaller_subarray_gives_the_same_bits(exposures, subtracted, rows, columns):
    target = cut(exposures[0], rows, columns)
    ours = BackgroundStep.call(target, exposures[1:])
    assert ours.meta.cal_step.bkg_subtract == "COMPLETE"
    for plane in ("data", "err", "dq"):
        expected = np.ascontiguousarray(getattr(subtracted, plane)[rows, columns])
        assert np.asarray(getattr(ours, plane)).tobytes() == expected.tobytes(), plane


def test_smaller_backgrounds_reach_only_their_own_pixels(exposures):
    rows, columns = slice(30, 52), slice(7, 40)
    backgrounds = [cut(path, rows, columns) for path in exposures[1:13]]
    ours = BackgroundStep.call(exposures[0], backgrounds)
    whole = BackgroundStep.call(exposures[0], exposures[1:13])
    inside = (rows, columns)
    assert ours.data[inside].tobytes() == whole.data[inside].tobytes()
    with datamodels.open(exposures[0]) as target:
        outside = np.ones(target.data.shape, bool)
        outside[inside] = False
        np.testing.assert_array_equal(ours.data[outside], target.data[outside])
        np.testing.assert_array_equal(ours.dq[outside], target.dq[outside])


def test_the_files_stay_as_they_are(exposures, tmp_path):
    before = [checksum(Path(path)) for path in exposures]
    BackgroundStep.call(exposures[0], exposures[1:], save_results=True, output_dir=str(tmp_path))
    assert [checksum(Path(path)) for path in exposures] == before
    written = [path.name for path in tmp_path.iterdir()]
    assert written == ["jw01093020001_03102_00001_nis_backgroundstep.fits"]


@pytest.mark.peer
def test_agreement_with_jwst(exposures, subtracted):
    from peer import oracle

    theirs = oracle.subtract(exposures[0], exposures[1:])
    with datamodels.open(exposures[0]) as target:
        scale = np.abs(target.data).max()
    usable = ~np.isnan(subtracted.data)
    assert usable.sum() == 80 * 80 - FLAGGED
    np.testing.assert_allclose(
        subtracted.data[usable], theirs.data[usable], rtol=2e-7, atol=1e-7 * scale
    )
    np.testing.assert_array_equal(subtracted.dq, theirs.dq)
    np.testing.assert_array_equal(subtracted.err, theirs.err)
    assert np.nanmedian(theirs.data) == pytest.approx(-0.392, abs=5e-4)


def test_all_of_them_as_a_programme(exposures, subtracted, tmp_path):
    """Each by the mean of the others; they are dithers by 0.11 arcsec, so they must be asked for."""
    plan = batch.plan(exposures, min_separation=0, cache=False)
    table = batch.run(plan, tmp_path, engine="none")
    assert list(table["status"]) == ["COMPLETE"] * 25
    assert list(table["backgrounds"]) == [24] * 25
    with datamodels.open(tmp_path / "jw01093020001_03102_00001_nis_backgroundstep.fits") as first:
        np.testing.assert_array_equal(first.data, subtracted.data)
        np.testing.assert_array_equal(first.dq, subtracted.dq)
