"""The deliberate differences from jwst, both behaviours side by side."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

import factories
from factories import DO_NOT_USE, IMAGING, MIRI, NIRSPEC, make_model, ramp
from peer import oracle
from webbkg import BackgroundStep, ImageOptions, average_background
from webbkg.errors import MismatchError

pytestmark = pytest.mark.peer

AT = (10, 20)
SHAPE = (4, 5)


def average_both(sci, err=None, dq=None, **options):
    """Average samples (exposures, [integrations,] rows, columns) with both."""
    sci = np.asarray(sci, np.float32)
    err = np.ones_like(sci) if err is None else np.broadcast_to(np.float32(err), sci.shape)
    dq = np.zeros(sci.shape, np.uint32) if dq is None else np.asarray(dq, np.uint32)
    ours = average_background(sci, err, dq, ImageOptions(**options))
    models = [make_model(*planes) for planes in zip(sci, err, dq, strict=True)]
    return ours, oracle.average(make_model(sci[0]), models, **options)


def subtract_both(target, backgrounds, **parameters):
    """Run both steps on the same input; jwst gets copies, as it may change them."""
    theirs = oracle.subtract(target.copy(), [b.copy() for b in backgrounds], **parameters)
    return BackgroundStep.call(target, backgrounds, **parameters), theirs


def status(model):
    return model.meta.cal_step.bkg_subtract


OFFSETS = {
    "inside": ((12, 22), (2, 2)),
    "over the left side": ((8, 22), (2, 4)),
    "over the bottom": ((12, 18), (3, 2)),
    "over the far corner": ((13, 22), (3, 3)),
}


@pytest.mark.parametrize("place", OFFSETS)
def test_offset_subarray(place):
    at, size = OFFSETS[place]
    target = make_model(ramp(SHAPE, *AT) + 1, at=AT)
    ours, theirs = subtract_both(target, [make_model(ramp(size, *at), at=at)])
    difference = target.data - ours.data
    touched = difference != 0
    # Ours: the ramps cancel on the very pixels of the background.
    np.testing.assert_array_equal(difference, np.where(touched, ramp(SHAPE, *AT), 0))
    first = (max(at[1] - AT[1], 0), max(at[0] - AT[0], 0))
    last = (min(at[1] - AT[1] + size[0], SHAPE[0]), min(at[0] - AT[0] + size[1], SHAPE[1]))
    expected = np.zeros(SHAPE, bool)
    expected[first[0] : last[0], first[1] : last[1]] = True
    np.testing.assert_array_equal(touched, expected)
    # jwst: the overlap is pasted at the target's corner, wherever it lies.
    pasted = target.data - theirs.data
    overlap = ramp((last[0] - first[0], last[1] - first[1]), AT[0] + first[1], AT[1] + first[0])
    expected = np.zeros(SHAPE, np.float32)
    expected[: overlap.shape[0], : overlap.shape[1]] = overlap
    np.testing.assert_array_equal(pasted, expected)
    assert (theirs.data != ours.data).any()


def test_finite_samples_flagged_do_not_use():
    sci = np.array([1.0, 2.0, 9.0]).reshape(3, 1, 1) * np.ones((3, 1, 2))
    ours, theirs = average_both(sci, dq=np.where(sci == 9, DO_NOT_USE, 0))
    assert (ours.sci == 1.5).all()
    assert (theirs.data == 4.0).all()
    assert (ours.dq == DO_NOT_USE).all()
    np.testing.assert_array_equal(ours.dq, theirs.dq)


def test_pixel_without_a_valid_integration():
    sci = np.array([[np.nan, np.nan], [4.0, 4.0], [5.0, 5.0]]).reshape(3, 2, 1, 1)
    ours, theirs = average_both(sci)
    assert ours.sci.item() == 4.5
    assert np.isfinite(ours.err.item())
    assert theirs.data.item() == 3.0


def test_error_of_a_cube():
    """Four integrations with ERR 2: jwst takes sqrt(4)=2 for each exposure, we 2/sqrt(4)."""
    sci = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1) * np.ones((3, 4, 1, 1))
    ours, theirs = average_both(sci, err=2.0)
    assert ours.sci.item() == theirs.data.item() == 2.0
    assert ours.err.item() == pytest.approx(1.0 / np.sqrt(3), rel=1e-6)
    assert theirs.err.item() == pytest.approx(2.0 / np.sqrt(3), rel=1e-6)


def test_error_of_a_cube_over_the_samples_that_were_kept():
    """One integration of ten stands out in SCI, another in ERR."""
    sci = np.tile([1.0, 1.5], 6)[:, np.newaxis, np.newaxis]
    sci[3] = 500.0
    err = np.ones_like(sci)
    err[8] = 100.0
    ours, theirs = average_both(sci[np.newaxis], err=err[np.newaxis])
    assert ours.err.item() == pytest.approx(np.sqrt(10 + 1e4) / 11, rel=1e-6)
    assert theirs.err.item() == pytest.approx(1.0, rel=1e-6)


UNUSABLE = {
    "all NaN": ([np.nan, np.nan], {}, 0.0),
    "all infinite": ([np.inf, -np.inf], {}, 0.0),
    "all clipped": ([1.0, 2.0], {"sigma": 0.5}, 0.0),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_overlap_but_nothing_usable(case):
    samples, options, jwst_answer = UNUSABLE[case]
    sci = np.reshape(samples, (2, 1, 1)) * np.ones((2, 1, 2))
    sci[:, 0, 1] = 3.0
    ours, theirs = average_both(sci, **options)
    assert np.isnan(ours.sci[0, 0])
    assert np.isnan(ours.err[0, 0])
    assert ours.dq[0, 0] == DO_NOT_USE
    assert (theirs.data[0, 0], theirs.err[0, 0], theirs.dq[0, 0]) == (jwst_answer, 0.0, 0)
    assert ours.sci[0, 1] == theirs.data[0, 1] == 3.0
    target = make_model(np.full((1, 2), 7.0))
    ours, theirs = subtract_both(target, [make_model(one) for one in sci], **options)
    np.testing.assert_array_equal(ours.data, [[np.nan, 4.0]])
    np.testing.assert_array_equal(ours.dq, [[DO_NOT_USE, 0]])
    np.testing.assert_array_equal(theirs.data, [[7.0, 4.0]])
    np.testing.assert_array_equal(theirs.dq, 0)
    np.testing.assert_array_equal(ours.err, target.err)


def test_all_samples_flagged():
    target = make_model([[7.0, 7.0]])
    background = make_model([[2.0, 3.0]], dq=[[DO_NOT_USE | 4, 4]])
    ours, theirs = subtract_both(target, [background])
    np.testing.assert_array_equal(ours.data, [[np.nan, 4.0]])
    np.testing.assert_array_equal(theirs.data, [[5.0, 4.0]])
    np.testing.assert_array_equal(ours.dq, [[DO_NOT_USE | 4, 4]])
    np.testing.assert_array_equal(theirs.dq, ours.dq)


@pytest.mark.parametrize("integrations", [None, 2])
def test_no_overlap_with_any_background(integrations):
    shape = SHAPE if integrations is None else (integrations, *SHAPE)
    target = make_model(np.ones(shape) + ramp(SHAPE), at=AT)
    ours, theirs = subtract_both(target, [make_model(np.ones(shape), at=(15, 20))])
    assert (status(ours), status(theirs)) == ("SKIPPED", "COMPLETE")
    np.testing.assert_array_equal(ours.data, target.data)
    np.testing.assert_array_equal(theirs.data, target.data)
    np.testing.assert_array_equal(ours.dq, target.dq)


@pytest.mark.parametrize(("bad", "jwst_answer"), [(-2.0, np.sqrt(5) / 2), (np.inf, np.inf)])
def test_negative_or_infinite_error(bad, jwst_answer):
    sci = np.array([1.0, 2.0]).reshape(2, 1, 1)
    ours, theirs = average_both(sci, err=np.array([1.0, bad]).reshape(2, 1, 1))
    assert ours.sci.item() == theirs.data.item() == 1.5
    assert np.isnan(ours.err.item())
    assert theirs.err.item() == pytest.approx(jwst_answer, rel=1e-6)


def test_saved_combined_background_where_uncovered(tmp_path):
    target = factories.save(make_model(ramp(SHAPE), at=AT), tmp_path / "t_rate.fits")
    part = factories.save(make_model(ramp((2, 5), *AT), at=AT), tmp_path / "b_rate.fits")
    products = []
    for name, run in (("ours", BackgroundStep.call), ("theirs", oracle.subtract)):
        (tmp_path / name).mkdir()
        out = str(tmp_path / name)
        run(str(target), [str(part)], save_combined_background=True, output_dir=out)
        products.append(datamodels.open(tmp_path / name / "t_combinedbackground.fits"))
    ours, theirs = products
    covered = np.arange(4)[:, np.newaxis] < np.full((1, 5), 2)
    np.testing.assert_array_equal(ours.data[covered], theirs.data[covered])
    np.testing.assert_array_equal(ours.dq, np.where(covered, 0, DO_NOT_USE))
    assert np.isnan(ours.data[~covered]).all()
    assert np.isnan(ours.err[~covered]).all()
    np.testing.assert_array_equal(theirs.data[~covered], 0)
    np.testing.assert_array_equal(theirs.dq, 0)
    for product in products:
        product.close()


@pytest.mark.parametrize(
    ("of_target", "of_background"), [((3,), ()), ((), (3,))], ids=["3-D target", "3-D background"]
)
def test_images_and_cubes_together(of_target, of_background):
    target = make_model(np.zeros((*of_target, *SHAPE)) + ramp(SHAPE) + 1, at=AT)
    background = make_model(np.zeros((*of_background, *SHAPE)) + ramp(SHAPE), at=AT)
    ours = BackgroundStep.call(target, [background])
    assert status(ours) == "COMPLETE"
    assert ours.data.shape == target.data.shape
    np.testing.assert_array_equal(ours.data, 1.0)
    with pytest.raises((IndexError, ValueError)):
        oracle.subtract(target.copy(), [background.copy()])


@pytest.mark.parametrize(
    "other",
    [
        {"meta__instrument__name": "NIRCAM", "meta__instrument__detector": "NRCA1"},
        {"meta": NIRSPEC, "meta__instrument__detector": "NRS2"},
    ],
    ids=["instrument", "detector"],
)
def test_background_of_another_detector(other):
    meta = other.get("meta", IMAGING)
    target = make_model(ramp(SHAPE) + 1, meta=meta)
    background = make_model(ramp(SHAPE), **other)
    background.meta.filename = "stray_rate.fits"
    theirs = oracle.subtract(target.copy(), [background.copy()])
    assert status(theirs) == "COMPLETE"
    np.testing.assert_array_equal(theirs.data, 1.0)
    ours, strange = target.meta.instrument, background.meta.instrument
    names = (ours.name, strange.name) if ours.name != strange.name else (ours.detector, "NRS2")
    with pytest.raises(MismatchError, match=rf"stray_rate\.fits: .*{names[1]}.*{names[0]}"):
        BackgroundStep.call(target, [background])


@pytest.mark.parametrize("lacking", ["target", "background", "both"])
@pytest.mark.parametrize("angle", ["gwa_xtilt", "gwa_ytilt"])
def test_nirspec_tilt_missing(lacking, angle):
    target = make_model(ramp(SHAPE) + 1, meta=NIRSPEC)
    background = make_model(ramp(SHAPE), meta=NIRSPEC)
    for role, model in (("target", target), ("background", background)):
        if lacking in (role, "both"):
            del model.instance["meta"]["instrument"][angle]
    with pytest.raises(TypeError, match="unsupported operand"):
        oracle.subtract(target.copy(), [background.copy()])
    ours = BackgroundStep.call(target, [background])
    assert status(ours) == "SKIPPED"
    np.testing.assert_array_equal(ours.data, target.data)


def test_window_keywords_of_a_model_passed_in():
    target, background = (
        make_model(np.full((1024, 1032), value), at=None, meta=MIRI) for value in (3.0, 1.0)
    )
    given = background.copy()
    theirs = oracle.subtract(target.copy(), [given])
    assert given.meta.subarray.instance == {
        "xstart": 1, "ystart": 1, "xsize": 1032, "ysize": 1024,
    }  # fmt: skip
    ours = BackgroundStep.call(target, [background])
    assert "subarray" not in background.instance["meta"]
    assert "subarray" not in target.instance["meta"]
    np.testing.assert_array_equal(ours.data, theirs.data)
    assert ours.data[5, 5] == 2.0


def test_target_already_complete():
    target = make_model(ramp(SHAPE) + 1)
    target.meta.cal_step.bkg_subtract = "COMPLETE"
    ours, theirs = subtract_both(target, [make_model(ramp(SHAPE))])
    assert status(ours) == status(theirs) == "COMPLETE"
    np.testing.assert_array_equal(ours.data, target.data)
    np.testing.assert_array_equal(theirs.data, 1.0)
    again = BackgroundStep.call(target, [make_model(ramp(SHAPE))], allow_repeat=True)
    np.testing.assert_array_equal(again.data, theirs.data)


def write_association(folder, members_in):
    """Write an association, its members in `members_in`, named relative to its folder."""
    members_in.mkdir(parents=True, exist_ok=True)
    members = []
    for kind, value in (("science", 3.0), ("background", 1.0)):
        path = members_in / f"{kind}_rate.fits"
        factories.save(make_model(np.full(SHAPE, value)), path)
        members.append({"expname": str(path.relative_to(folder)), "exptype": kind})
    header = {"asn_type": "image2", "asn_id": "a1", "asn_pool": "none"}
    association = folder / "bkg_asn.json"
    association.write_text(json.dumps({**header, "products": [{"name": "it", "members": members}]}))
    return str(association)


def test_association_members_in_another_folder(tmp_path, monkeypatch):
    """jwst knows the association's folder only as the step's `input_dir`."""
    association = write_association(tmp_path, tmp_path / "exposures")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ours = BackgroundStep.call(association)
    assert status(ours) == "COMPLETE"
    assert (ours.data == 2.0).all()
    with pytest.raises(FileNotFoundError, match="No such file"):
        oracle.subtract(association, [])


def test_association_members_beside_it_whatever_the_input_folder(tmp_path, monkeypatch):
    association = write_association(tmp_path, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ours, theirs = BackgroundStep.call(association), oracle.subtract(association, [])
    assert (ours.data == 2.0).all()
    assert (theirs.data == 2.0).all()
    assert (BackgroundStep.call(association, input_dir="").data == 2.0).all()
    with pytest.raises(FileNotFoundError, match="No such file"):
        oracle.subtract(association, [], input_dir="")


RUN = """
import sys
if sys.argv[1] == "jwst":
    from jwst.background import BackgroundStep
else:
    from webbkg import BackgroundStep
result = BackgroundStep.call(sys.argv[2], [sys.argv[3]])
print("REACHED", result.meta.cal_step.bkg_subtract, result.data[0, 0])
"""


@pytest.mark.parametrize(
    ("package", "code", "printed"), [("jwst", 255, ""), ("webbkg", 0, "REACHED COMPLETE 2.0")]
)
def test_no_crds(tmp_path, package, code, printed):
    """An empty cache, and a server that nobody can reach."""
    paths = [
        str(factories.save(make_model(np.full(SHAPE, value)), tmp_path / f"e{value}_rate.fits"))
        for value in (3.0, 1.0)
    ]
    crds = {"CRDS_PATH": str(tmp_path), "CRDS_SERVER_URL": "http://127.0.0.1:9"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, package, *paths],
        env={**os.environ, **crds},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == code, run.stderr[-2000:]
    assert run.stdout.strip() == printed
    if package == "jwst":
        assert "CRDS server connection and cache load FAILED" in run.stderr + run.stdout
