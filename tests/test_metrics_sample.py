"""What metrics look at: each part against a plain version of it."""

import numpy as np
import pytest

from webbkg.numerics.planes import ArrayPlanes
from webbkg.options import DO_NOT_USE, REFERENCE_PIXEL, SOSS_LAST_COLUMN, SossOptions, WfssOptions
from webbkg.report import overlap, sample
from webbkg.results import (
    Background,
    Outcome,
    ScaleFit,
    SossResult,
    Status,
    TemplateFit,
    WfssResult,
)

SHAPE = (3, 37, 50)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def exposure(rng, shape=SHAPE):
    """A cube and a background with a slope, noise, and everything that may be wrong with a pixel."""
    image = shape[1:]
    sci = rng.normal(1, 0.1, shape) + np.linspace(0, 0.3, shape[2])
    planes = {
        "SCI": np.where(rng.random(shape) < 0.05, np.nan, sci).astype(np.float32),
        "ERR": np.where(rng.random(shape) < 0.05, -1, rng.uniform(0.1, 0.2, shape)).astype("f4"),
        "DQ": rng.choice(
            np.array([0, 4, DO_NOT_USE, REFERENCE_PIXEL], np.uint32),
            shape,
            p=[0.8, 0.1, 0.05, 0.05],
        ),
    }
    background = Background(
        sci=np.where(rng.random(image) < 0.05, np.nan, rng.normal(1, 0.05, image)).astype("f4"),
        err=np.where(rng.random(image) < 0.05, np.nan, rng.uniform(0, 0.1, image)).astype("f4"),
        dq=np.where(rng.random(image) < 0.05, DO_NOT_USE, 4).astype(np.uint32),
        covered=rng.random(image) < 0.95,
    )
    return planes, background


def grism_outcome(background, mask):
    fit = ScaleFit(status=Status.COMPLETE, scale=1.0)
    result = WfssResult(
        options=WfssOptions(), template="", mask="", mask_sources=0, pixels=mask.size, fit=fit
    )
    return Outcome(status=Status.COMPLETE, background=background, result=result, sky_mask=mask)


def plain_sample(planes, background, mask):
    """Go through the pixels one by one."""
    found, counts = [], np.zeros(2, int)
    for place in np.ndindex(planes["SCI"].shape):
        sci, err, dq = (float(planes[name][place]) for name in ("SCI", "ERR", "DQ"))
        pixel, dq = place[1:], int(dq)
        lit, known = not dq & REFERENCE_PIXEL, np.isfinite(sci) and not dq & DO_NOT_USE
        flagged = bool(background.covered[pixel] and background.dq[pixel] & DO_NOT_USE)
        counts += lit, lit and known and flagged
        sky = float(background.sci[pixel])
        usable = lit and known and background.covered[pixel] and not flagged and np.isfinite(sky)
        if usable and err > 0 and mask[pixel]:
            own = float(background.err[pixel])
            expected = np.hypot(err, own if np.isfinite(own) else 0)
            found.append((*place, sci - sky, err, expected, sky))
    return np.array(found).T, counts


def test_the_sample_is_what_one_pixel_after_the_other_gives(rng):
    planes, background = exposure(rng)
    mask = rng.random(SHAPE[1:]) < 0.6
    (*places, residual, err, expected, sky), counts = plain_sample(planes, background, mask)
    found = sample.draw(ArrayPlanes.of(**planes), background, grism_outcome(background, mask))
    np.testing.assert_array_equal([found.integration, found.row, found.column], places)
    np.testing.assert_allclose(found.residual, residual, atol=1e-6)
    np.testing.assert_allclose(found.err, err)
    np.testing.assert_allclose(found.expected, expected, rtol=1e-6)
    np.testing.assert_allclose(found.background, sky)
    assert (found.lines.looked_at, found.lines.newly_flagged) == tuple(counts)
    assert found.lines.quoted
    assert len(found) == len(residual)


@pytest.mark.parametrize(("axis", "first", "length"), [(1, 0, 37), (2, 4, 41)])
def test_a_sample_is_cut_along_rows_and_columns(rng, axis, first, length):
    planes, background = exposure(rng)
    mask = np.zeros(SHAPE[1:], np.bool_)
    mask[:, 4:45] = True
    found = sample.draw(ArrayPlanes.of(**planes), background, grism_outcome(background, mask))
    place = found.row if axis == 1 else found.column
    for number in (1, 5, 60):
        part = (place - first) * number // length
        pieces = found.cut(axis, first, length, number)
        assert len(pieces) == number
        for i, piece in enumerate(pieces):
            np.testing.assert_array_equal(piece, found.residual[part == i])


def test_the_level_is_clipped_as_a_plain_loop_does(rng):
    for size in (0, 1, 2, 50, 3001):
        values = rng.standard_cauchy(size).astype(np.float32)
        kept = values
        for _ in range(sample.CLIP_ROUNDS):
            if not kept.size:
                break
            centre = np.median(kept)
            width = sample.CLIP * sample.MAD_TO_SIGMA * np.median(np.abs(kept - centre))
            kept = values[np.abs(values - float(centre)) <= width]
        found = sample.robust_level(values)
        if not size:
            assert np.isnan(found).all()
            continue
        scatter = sample.MAD_TO_SIGMA * np.median(np.abs(kept - np.median(kept)))
        assert found == pytest.approx((np.median(kept), scatter), rel=1e-6)


def test_the_rows_with_the_least_light_of_the_star_are_those_of_a_plain_loop(rng):
    planes, background = exposure(rng, (2, 140, SOSS_LAST_COLUMN + 40))
    planes["SCI"] += np.float32(0.2) * np.abs(np.linspace(-1, 1, 140, dtype="f4"))[:, np.newaxis]
    fit = TemplateFit(status=Status.COMPLETE, template=0)
    result = SossResult(options=SossOptions(), reference="", segments=1, fit=fit)
    outcome = Outcome(status=Status.COMPLETE, background=background, result=result)
    found = sample.draw(ArrayPlanes.of(**planes), background, outcome)
    lines, fitted = found.lines, slice(SOSS_LAST_COLUMN + 1)
    expected, following = np.zeros_like(found.sky), []
    for start in range(0, SOSS_LAST_COLUMN + 1, sample.DARK_COLUMNS):
        block = slice(start, min(start + sample.DARK_COLUMNS, fitted.stop))
        usable = lines.usable[:, :, block]
        light = {}
        for line in range(len(lines.row)):
            here = usable[:, line]
            if here.sum() >= sample.DARK_COLUMNS // 4:
                left = lines.residual[:, line, block][here].sum(dtype=float)
                light[line] = left / lines.background[:, line, block][here].sum(dtype=float)
        ranked = sorted(light, key=light.get)
        share = sample.DARK_SHARE * len(ranked)
        for rank, line in enumerate(ranked):
            if rank < share:
                expected[:, line, block] = usable[:, line]
            elif rank < 2 * share:
                following += lines.residual[:, line, block][usable[:, line]].tolist()
    np.testing.assert_array_equal(found.sky, expected)
    lift = np.median(following) - np.median(lines.residual[expected])
    assert found.lift == pytest.approx(lift, abs=1e-6)


def plain_block(pixels, extremes):
    """Sum columns up without their extremes, then these sums without theirs."""
    drop = slice("least" in extremes, -1 if "most" in extremes else None)
    columns = np.sort(pixels, axis=0)[drop].sum(axis=0)
    return np.sort(columns)[drop].sum()


@pytest.mark.parametrize("extremes", [{"least"}, {"most"}, {"least", "most"}])
def test_blocks_are_summed_without_their_extremes(rng, extremes):
    values = rng.normal(0, 1, (12, 23)).astype(np.float32)
    values[5, 9] = np.nan
    ufuncs = {"least": np.minimum, "most": np.maximum}
    out = np.empty((3, 5), np.float32)
    overlap._Blocks(23)(values, out, *(ufuncs[one] for one in sorted(extremes)))
    for row, column in np.ndindex(out.shape):
        pixels = values[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        if np.isnan(pixels).any():
            assert np.isnan(out[row, column])
        else:
            assert out[row, column] == pytest.approx(plain_block(pixels, extremes), abs=1e-5)


def test_blocks_stand_out_of_the_median_of_their_box(rng):
    blocks = (rng.normal(0, 1, (37, 50)) + np.arange(50)).astype(np.float32)
    blocks[3, 4], blocks[16:32, 16:32], blocks[20, 20], blocks[36, 49] = np.inf, np.nan, 7, np.nan
    away = np.full(blocks.shape, np.nan)
    for row in range(0, 37, overlap.BOX):
        for column in range(0, 50, overlap.BOX):
            box = np.s_[row : row + overlap.BOX, column : column + overlap.BOX]
            known = np.sort(blocks[box][np.isfinite(blocks[box])])
            away[box] = np.where(np.isfinite(blocks[box]), blocks[box], np.nan)
            away[box] -= known[(len(known) - 1) // 2]
    expected = away / (sample.MAD_TO_SIGMA * np.nanmedian(np.abs(away)))
    np.testing.assert_allclose(overlap._stand_out(blocks), expected, rtol=1e-4, atol=1e-5)
