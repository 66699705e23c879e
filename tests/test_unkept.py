"""The average that nobody keeps: fewer planes, the same bits, and ERR of the rows looked at."""

import pickle
from contextlib import closing
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from factories import make_model, ramp, save
from test_average import mixed_exposures, place
from test_leave_one_out import count_reads, group
from webbkg import ImageOptions, run
from webbkg.apply import changes
from webbkg.files import streaming
from webbkg.files.associations import Job
from webbkg.files.exposures import Exposure
from webbkg.image import group as group_room
from webbkg.image import measure
from webbkg.image import unkept as unkept_room
from webbkg.image.average import average_exposures
from webbkg.image.group import Others
from webbkg.image.leave_one_out import errors_of_others
from webbkg.image.measure import Combination
from webbkg.image.prepare import match_to_target
from webbkg.image.unkept import Wanted, average_unkept, on_lines
from webbkg.modes import Shared
from webbkg.numerics.lines import lines_above, lines_within, sampled_lines
from webbkg.numerics.planes import ArrayPlanes, LinesOfRows, Overlap, Placed
from webbkg.report.snapshot import take
from webbkg.results import CombinedBackground, Outcome, SkyLevels, Status, UnkeptBackground

LINES = st.builds(range, st.integers(0, 6), st.integers(0, 7), st.integers(1, 5))


def bits(plane):
    return np.ascontiguousarray(plane).view(np.uint32)


@given(
    mixed_exposures(),
    st.sampled_from([1.0, 3.0]),
    st.sampled_from(["sample", "model"]),
    LINES,
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
def test_the_same_bits_as_of_the_whole(mixed, sigma, clip_noise, lines, counts, few):
    """Images and cubes anywhere on the target; errors that are no errors among them."""
    shape, exposures = mixed
    lines = range(min(lines.start, shape[0]), min(lines.stop, shape[0]), lines.step)
    options = ImageOptions(sigma=sigma, clip_noise=clip_noise)
    placed = [place(one, shape) for one in exposures]
    whole = average_exposures(placed, shape, options, threads=1)
    with mock.patch.object(unkept_room, "FEW_LINES", few):  # the lines apart, or with all rows
        wanted = Wanted(counts=counts, lines=lines)
        ours = average_unkept(placed, shape, options, wanted, threads=1)
    for name in ("sci", "dq"):
        np.testing.assert_array_equal(bits(getattr(ours, name)), bits(getattr(whole, name)))
    np.testing.assert_array_equal(ours.covered, whole.covered)
    assert ours.is_everywhere == whole.is_everywhere == whole.covered.all()
    assert (ours.exposures, ours.integrations) == (whole.exposures, whole.integrations)
    assert ours.unknown == np.count_nonzero(whole.counts == 0)
    np.testing.assert_array_equal(bits(ours.err_of(lines)), bits(whole.err_of(lines)))
    assert (ours.counts is None) != counts
    if counts:
        np.testing.assert_array_equal(ours.counts, whole.counts)


@pytest.mark.parametrize(
    ("lines", "clip_noise", "expected"),
    [
        (range(0), "sample", 0),
        (range(7, 100, 17), "sample", 6),  # of few rows ERR is read there alone
        (range(2, 100, 5), "sample", 100),
        (range(0), "model", 100),  # it clips by ERR
        (range(7, 100, 17), "model", 100),
    ],
)
def test_errors_are_read_where_somebody_looks_at_them(
    tmp_path, monkeypatch, lines, clip_noise, expected
):
    path = save(make_model(ramp((100, 6))), tmp_path / "b_rate.fits")
    counts = count_reads(monkeypatch)
    with Exposure.from_file(path) as one:
        placed, options = one.placed_on(one.place), ImageOptions(clip_noise=clip_noise)
        ours = average_unkept([placed], (100, 6), options, Wanted(lines=lines))
    assert counts.get((path.name, "ERR"), 0) == expected
    assert counts[path.name, "SCI"] == 100 + (len(lines) if expected == 6 else 0)
    np.testing.assert_array_equal(ours.err_of(lines), np.full((len(lines), 6), 0.25, np.float32))


def test_nobody_takes_the_errors_of_some_rows_for_those_of_all():
    lines = range(1, 23, 4)
    ours = average_unkept(group(3), (23, 37), ImageOptions(), Wanted(lines=lines))
    assert ours.err.shape == (0, 0)
    for other in (range(23), range(6), range(1, 23, 5)):
        with pytest.raises(ValueError, match=r"range\(1, 23, 4\) \(got range"):
            ours.err_of(other)
    again = pickle.loads(pickle.dumps(ours))
    assert again == ours
    np.testing.assert_array_equal(again.err_of(lines), ours.errors)


def test_counts_are_of_the_smallest_type_and_of_more_than_255_all_the_same():
    one = group(1)[0]
    for number, kind in ((255, np.uint8), (256, np.uint16)):
        ours = average_unkept([one] * number, (23, 37), ImageOptions(), Wanted(counts=True))
        assert ours.counts.dtype == kind
        assert set(np.unique(ours.counts)) == {0, number}


def test_what_is_covered_is_one_value_where_everything_is():
    whole, part = group(1)[0], Overlap((0, 5), (0, 37), (0, 5), (0, 37))
    ours = average_unkept([whole], (23, 37), ImageOptions(), Wanted())
    assert ours.covered.shape == (23, 37)
    assert ours.covered.strides == (0, 0)
    ours = average_unkept([replace(whole, overlap=part)], (23, 37), ImageOptions(), Wanted())
    np.testing.assert_array_equal(ours.covered.all(axis=1), np.arange(23) < 5)
    sci = np.zeros((23, 37), np.float32)
    changes(ours, ())["SCI"](sci, 0, 0)
    assert np.isfinite(sci[5:]).all()
    assert np.any(sci[:5])


# Lines of planes.


def test_lines_of_an_exposure_that_lies_somewhere_on_the_target():
    planes = ArrayPlanes.of(SCI=ramp((9, 4)), DQ=np.arange(36, dtype=np.uint32).reshape(9, 4))
    placed = Placed(planes, Overlap((5, 12), (1, 4), (2, 9), (0, 3)))
    ours = on_lines(placed, range(3, 20, 4))  # target rows 3, 7, 11, 15: of these 7 and 11
    assert ours.overlap == Overlap((1, 3), (1, 4), (0, 2), (0, 3))
    assert ours.planes.shape == (1, 2, 4)
    for read in (LinesOfRows.read, LinesOfRows.rows):
        room = np.zeros((2, 2, 4), np.uint32)
        read(ours.planes, ["SCI", "DQ"], 0, 0, 2, room)
        np.testing.assert_array_equal(room[0].view(np.float32), ramp((9, 4))[[4, 8]])
        np.testing.assert_array_equal(room[1], planes.planes["DQ"][0, [4, 8]])
    assert ours.planes.has("DQ")
    assert not ours.planes.has("ERR")


@given(LINES, st.integers(0, 20))
def test_lines_above_a_row_are_counted_and_those_of_a_band_found(lines, row):
    assert lines_above(lines, row) == sum(line < row for line in lines)
    ours, theirs = lines_within(lines, row, row + 3)
    assert [*lines[ours]] == [*range(30)[row : row + 3][theirs]]


# What is wanted.


def test_two_that_look_at_other_lines_want_the_whole():
    lines, others = Wanted(lines=range(3)), Wanted(lines=range(1, 5))
    assert lines | lines == lines
    assert lines | Wanted(counts=True) == Wanted(counts=True, lines=range(3))
    assert lines | others == Wanted(whole=True)
    assert lines | Wanted(whole=True, variances=True) == Wanted(whole=True, variances=True)


def test_a_combination_serves_who_came_before_only_if_it_is_the_same():
    one = Combination((1, 2), (), (3, 4), ImageOptions(), Wanted(lines=range(3)))
    assert one.serving(None) == one
    assert one.serving(replace(one, sources=(1,), wanted=Wanted(whole=True))) == one
    assert one.serving(replace(one, wanted=Wanted(whole=True))).wanted == Wanted(whole=True)


# From files to products.

ADJUSTED = {
    "default": {},
    "matched": {"match_background": "scale", "mask_sources": True},
    "model": {"clip_noise": "model"},
    "voted": {"dq_threshold": 0.5},
}


TALL = (900, 800)  # of which metrics look at a third of the rows


def exposure(rng, integrations=()):
    sky = (20 + ramp(TALL) / 1e5) * rng.uniform(0.9, 1.1, (*integrations, 1, 1))
    err = rng.uniform(0.1, 0.3, sky.shape).astype(np.float32)
    err[rng.random(sky.shape) < 0.01] = np.nan
    sci = (sky + err * rng.normal(size=sky.shape)).astype(np.float32)
    sci[..., 5, 7] = np.nan
    sci[rng.random(sky.shape) < 0.01] = np.nan
    return make_model(sci, err)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write targets of no, three and five integrations, and three backgrounds."""
    folder, rng = tmp_path_factory.mktemp("tall"), np.random.default_rng(5)
    integrations = {"t": (), "t3": (3,), "t5": (5,), "b1": (), "b2": (2,), "b3": ()}
    return {
        name: save(exposure(rng, number), folder / f"{name}_rate.fits")
        for name, number in integrations.items()
    }


def outcome_of(files, target="t", shared=None, backgrounds=("b1", "b2", "b3"), **asked):
    """Subtract as the step does; `asked` has parameters by their names."""
    folder = files["t"].parent
    done = folder / "product.fits"
    setting = run.Setting(
        parameters=asked,
        name_product=lambda _, suffix: folder / f"{suffix or 'product'}.fits",
        shared=shared,
        without_models=True,
    )
    given = tuple(files[name] for name in backgrounds if name != target)
    item = run.Item(source=files[target], job=Job(targets=(files[target],), backgrounds=given))
    run.process([item], setting)
    run.write([item], setting)
    planes = [fits.getdata(done, name) for name in ("SCI", "ERR", "DQ")]
    return planes, item.outcome


@pytest.fixture
def averages(monkeypatch):
    """Collect the averages that are made, kept or not."""
    made = []
    for name in ("average_unkept", "average_exposures"):
        average = getattr(measure, name)

        def noting(*given, average=average, **more):
            made.append(average(*given, **more))
            return made[-1]

        monkeypatch.setattr(measure, name, noting)
    return made


@pytest.mark.parametrize("parameters", ADJUSTED.values(), ids=ADJUSTED)
def test_products_and_metrics_are_those_of_a_background_that_is_kept(files, averages, parameters):
    planes, ours = outcome_of(files, **parameters)
    saved, kept = outcome_of(files, save_background=True, **parameters)
    unkept, whole = averages
    assert isinstance(unkept, UnkeptBackground)
    assert unkept.lines == sampled_lines((1, *TALL)) == range(1, 900, 3)
    assert isinstance(whole, CombinedBackground)
    assert ours.background is None
    assert ours.metrics == kept.metrics
    assert ours.result == kept.result
    assert ours.result.pixels_unknown == np.count_nonzero(whole.counts == 0) > 0
    for one, other in zip(planes, saved, strict=True):
        assert one.tobytes() == other.tobytes()
    np.testing.assert_array_equal(bits(unkept.errors), bits(whole.err_of(unkept.lines)))
    # The scatter is told in units of both errors: it would be another without the background's.
    assert np.nanmedian(unkept.errors) > 0.05


def test_errors_are_brought_to_the_target_s_sky_too(files, averages):
    level = SkyLevels(kind="scale", backgrounds=(), corrections=())
    target = Placed(
        ArrayPlanes.of(SCI=3 * fits.getdata(files["t"]), DQ=fits.getdata(files["t"], "DQ")),
        Overlap.whole(TALL),
    )
    outcome_of(files)
    outcome_of(files, propagate_errors=True)
    (ours, told), (whole, same) = (match_to_target(target, one, level) for one in averages)
    assert told == same
    assert told.target_correction == pytest.approx(3, rel=0.2)
    for one, other in ((ours.sci, whole.sci), (ours.errors, whole.err_of(ours.lines))):
        np.testing.assert_array_equal(bits(one), bits(other))
    assert np.nanmedian(ours.errors) == pytest.approx(3 * np.nanmedian(averages[0].errors), rel=0.2)


@pytest.mark.parametrize("asked", [{"propagate_errors": True}, {"save_combined_background": True}])
def test_whoever_needs_the_whole_gets_it(files, averages, asked):
    outcome_of(files, **asked)
    (whole,) = averages
    assert whole.err.shape == whole.counts.shape == TALL
    assert whole.counts.dtype == np.uint32


def test_targets_that_look_at_other_rows_share_an_average_in_the_end(files, averages):
    shared, alone = Shared(), [outcome_of(files, name)[1].metrics for name in ("t3", "t5", "t")]
    del averages[:]
    names = ("t3", "t3", "t5", "t3", "t", "t5")
    told = [outcome_of(files, name, shared)[1].metrics for name in names]
    assert told == [dict(zip(("t3", "t5", "t"), alone, strict=True))[name] for name in names]
    assert [type(one) for one in averages] == [UnkeptBackground, CombinedBackground]


def test_a_report_has_the_samples_a_pixel_and_pictures_as_of_the_whole(files, averages):
    outcome_of(files, save_report=True, skip_metrics=True)
    (ours,) = averages
    assert isinstance(ours, UnkeptBackground)
    outcome_of(files, save_report=True, save_background=True)
    whole = averages[1]
    assert ours.counts.dtype == np.uint8
    np.testing.assert_array_equal(ours.counts, whole.counts)
    planes = ArrayPlanes.of(SCI=fits.getdata(files["t"]), ERR=fits.getdata(files["t"], "ERR"))
    drawn = [take(planes, Outcome(status=Status.COMPLETE, background=b)) for b in (ours, whole)]
    assert drawn[0] == drawn[1]
    assert drawn[0].counts is not None
    bare = Outcome(status=Status.COMPLETE, background=replace(ours, counts=None))
    assert take(planes, bare) == replace(drawn[0], counts=None)


def test_a_streamed_target_needs_no_whole_either(files, averages, monkeypatch):
    monkeypatch.setattr(streaming, "SMALLEST", 1)
    done = files["t"].parent / "streamed.fits"
    setting = run.Setting(name_product=lambda *_: done, product_only=True)
    given = files["b1"], files["b3"]
    item = run.Item(source=files["t5"], job=Job(targets=(files["t5"],), backgrounds=given))
    run.process([item], setting)
    run.write([item], setting)
    assert item.streamed
    assert isinstance(averages[0], UnkeptBackground)
    planes, outcome = outcome_of(files, "t5", backgrounds=("b1", "b3"))
    assert item.outcome.metrics == outcome.metrics
    for name, plane in zip(("SCI", "ERR", "DQ"), planes, strict=True):
        assert fits.getdata(done, name).tobytes() == plane.tobytes()


# Groups of nods.


@pytest.mark.parametrize("clip_noise", ["sample", "model"])
def test_errors_of_the_others_are_those_of_each_by_itself(clip_noise):
    sources, options, lines = group(5, (1, 4)), ImageOptions(clip_noise=clip_noise), range(2, 23, 4)
    ours = errors_of_others(sources, 37, options, lines)
    for index, errors in enumerate(ours):
        others = sources[:index] + sources[index + 1 :]
        whole = average_exposures(others, (23, 37), options, threads=1)
        np.testing.assert_array_equal(bits(errors), bits(whole.err_of(lines)))


@pytest.mark.parametrize(("few", "clip_noise"), [(1, "sample"), (0.1, "sample"), (1, "model")])
def test_nods_are_judged_as_singly_and_their_errors_read_where_they_are_looked_at(
    files, monkeypatch, few, clip_noise
):
    monkeypatch.setattr(unkept_room, "FEW_LINES", few)
    names = ("t", "b1", "b3")
    asked = {"backgrounds": names, "clip_noise": clip_noise}
    singly = [outcome_of(files, name, **asked) for name in names]
    counts = count_reads(monkeypatch)
    with closing(Others([files[name] for name in names])) as shared:
        ours = [outcome_of(files, name, shared, **asked) for name in names]
    lines = 300
    for name in names:  # once for the averages, and as a target
        rows = lines if few == 1 and clip_noise == "sample" else 900
        assert counts[files[name].name, "ERR"] == rows + lines
    for (planes, one), (same, other) in zip(ours, singly, strict=True):
        assert one.metrics == other.metrics
        assert one.result == other.result
        assert [p.tobytes() for p in planes] == [p.tobytes() for p in same]


def test_nods_that_look_at_other_rows_take_no_more_than_two_passes(files, monkeypatch):
    passes, average = [], group_room.average_others
    monkeypatch.setattr(
        group_room, "average_others", lambda *a, **k: passes.append(k["errors"]) or average(*a, **k)
    )
    names = ("t3", "t5", "b1", "b2")
    singly = [outcome_of(files, name, backgrounds=names)[1].metrics for name in names]
    with closing(Others([files[name] for name in names])) as shared:
        ours = [outcome_of(files, name, shared, names)[1].metrics for name in names]
    assert ours == singly
    assert passes == [True, True]
