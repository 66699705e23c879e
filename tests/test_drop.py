"""Background exposures that do not fit: an error, a skip, or left out singly; a verdict on each."""

import json

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels
from typer.testing import CliRunner

from factories import MIRI, NIRSPEC, make_model, ramp, save, write_fits
from webbkg import BackgroundStep
from webbkg.cli import app
from webbkg.cli.names import repeat_background_flag
from webbkg.errors import InputError, MismatchError
from webbkg.modes import Request
from webbkg.options import ImageOptions
from webbkg.run import subtract_background

SHAPE = (6, 8)
UNIT = {"meta__bunit_data": "DN/s"}


def good(number=1, **more):
    return make_model(ramp(SHAPE), **{**UNIT, "meta__filename": f"good{number}.fits", **more})


MISFITS = {
    "detector": ({"meta__instrument__detector": "NRCA1"}, MismatchError, "its detector is NRCA1"),
    "instrument": ({"meta__instrument__name": "MIRI"}, MismatchError, "its instrument is MIRI"),
    "unit": ({"meta__bunit_data": "MJy/sr"}, MismatchError, "its unit is MJy/sr"),
    "window": ({"at": None}, InputError, "where its 8x6 pixels lie on the detector is unknown"),
}


def subtract(target, backgrounds, **options):
    request = Request(backgrounds=tuple(backgrounds), options=ImageOptions(**options))
    return subtract_background(target, request)


@pytest.mark.parametrize("kind", MISFITS)
def test_what_does_not_fit_is_an_error_or_left_out_singly(kind):
    more, error, reason = MISFITS[kind]
    target = make_model(3 * ramp(SHAPE), **UNIT)
    odd = make_model(100 * ramp(SHAPE), **{**UNIT, "meta__filename": "odd.fits", **more})
    backgrounds = [good(1), odd, good(2)]
    with pytest.raises(error, match=reason):
        subtract(target, backgrounds)
    result, outcome = subtract(target, backgrounds, drop_mismatched=True)
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE))
    assert [(one.name, one.used) for one in outcome.verdicts] == [
        ("good1.fits", True),
        ("odd.fits", False),
        ("good2.fits", True),
    ]
    assert reason in outcome.verdicts[1].reason
    assert outcome.result.backgrounds == ("good1.fits", "good2.fits")
    assert any(text.startswith("odd.fits: ") and "left out" in text for text in outcome.warnings)


def test_another_grating_tilt_skips_the_target_or_is_left_out():
    other = {**NIRSPEC, "meta.instrument.gwa_xtilt": 0.4}
    target = make_model(3 * ramp(SHAPE), meta=NIRSPEC)
    backgrounds = [
        make_model(ramp(SHAPE), meta=NIRSPEC, meta__filename="good.fits"),
        make_model(9 * ramp(SHAPE), meta=other, meta__filename="odd.fits"),
    ]
    _, outcome = subtract(target, backgrounds)
    assert outcome.status == "SKIPPED"
    assert [one.used for one in outcome.verdicts] == [False, False]
    assert "grating-wheel tilt" in outcome.verdicts[1].reason
    assert outcome.verdicts[0].reason == "another background does not fit"
    result, outcome = subtract(target, backgrounds, drop_mismatched=True)
    np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE))
    assert [one.used for one in outcome.verdicts] == [True, False]


def test_where_none_is_left_the_target_is_skipped_and_untouched():
    target = make_model(3 * ramp(SHAPE), **UNIT)
    odd = [make_model(ramp(SHAPE), meta=MIRI), make_model(ramp(SHAPE), at=None)]
    result, outcome = subtract(target, odd, drop_mismatched=True)
    assert outcome.status == "SKIPPED"
    assert outcome.reason.startswith("no background is left: ")
    assert "its instrument is MIRI" in outcome.reason
    assert "is unknown" in outcome.reason
    np.testing.assert_array_equal(result.data, target.data)


def test_an_unknown_window_of_the_target_stays_an_error():
    target = make_model(3 * ramp(SHAPE), at=None, meta__filename="target.fits", **UNIT)
    with pytest.raises(InputError, match=r"target\.fits: where its 8x6 pixels lie"):
        subtract(target, [good()], drop_mismatched=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(make_model(3 * ramp(SHAPE), **UNIT), tmp_path / "t_rate.fits")
    save(good(1), tmp_path / "b1_rate.fits")
    save(good(2, meta__instrument__filter="F090W"), tmp_path / "b2_rate.fits")
    save(good(3, meta__bunit_data="MJy/sr"), tmp_path / "b3_rate.fits")
    save(good(4, at=(1000, 1000)), tmp_path / "b4_rate.fits")
    return tmp_path


EXPECTED = [
    ("b1_rate.fits", True, "None"),
    ("b2_rate.fits", True, "its filter is F090W, that of the target t_rate.fits is F200W"),
    ("b3_rate.fits", False, "its unit is MJy/sr, that of the target t_rate.fits is DN/s"),
    ("b4_rate.fits", False, "no pixel in common with t_rate.fits"),
    ("t_rate.fits", False, "is the target itself"),
]
NAMES = ["b1_rate.fits", "b2_rate.fits", "b3_rate.fits", "b4_rate.fits", "t_rate.fits"]


def run(*arguments):
    return CliRunner().invoke(app, repeat_background_flag(["subtract", *arguments]))


def table(verdicts):
    return [(one["name"], one["used"], one["reason"]) for one in verdicts]


def test_the_verdicts_are_in_the_summary_the_json_and_the_tree(folder):
    told = run("t_rate.fits", "-b", *NAMES, "--drop-mismatched", "--json")
    assert told.exit_code == 0
    (report,) = json.loads(told.stdout)
    assert table(report["details"]["verdicts"]) == EXPECTED
    with datamodels.open("t_backgroundstep.fits") as product:
        assert table(product.meta.background.webbkg.instance["verdicts"]) == EXPECTED
    assert "b3_rate.fits" in str(fits.getheader("t_backgroundstep.fits")["HISTORY"])
    shown = run("t_rate.fits", "-b", *NAMES, "--drop-mismatched").output
    for name, used, reason in EXPECTED:
        label = "used" if used else "left out"
        assert f"  {label:<22}{name}{'' if reason == 'None' else f': {reason}'}\n" in shown
    assert (
        run("t_rate.fits", "-b", *NAMES, "--drop-mismatched", "--no-drop-mismatched").exit_code == 1
    )


def test_they_are_told_whether_or_not_anything_was_dropped(folder):
    (report,) = json.loads(run("t_rate.fits", "-b", "b1_rate.fits", "--json").stdout)
    assert table(report["details"]["verdicts"]) == EXPECTED[:1]
    (report,) = json.loads(run("t_rate.fits", "-b", "b4_rate.fits", "--json").stdout)
    assert report["status"] == "SKIPPED"
    assert table(report["details"]["verdicts"]) == EXPECTED[3:4]


def test_the_step_has_it_and_the_preset_switches_it_on(folder):
    with pytest.raises(MismatchError, match="leave it out, or let drop_mismatched do so"):
        BackgroundStep.call("t_rate.fits", NAMES)
    for given in ({"drop_mismatched": True}, {"preset": "robust"}):
        result = BackgroundStep.call("t_rate.fits", NAMES, **given)
        np.testing.assert_array_equal(result.data, 2 * ramp(SHAPE))
    with pytest.raises(MismatchError):
        BackgroundStep.call("t_rate.fits", NAMES, preset="robust", drop_mismatched=False)


def test_a_damaged_background_stays_an_error(folder):
    write_fits(folder / "bad.fits", ramp(SHAPE), ramp(SHAPE), ramp(SHAPE), planes=("SCI",))
    with pytest.raises(InputError, match="has no ERR plane"):
        BackgroundStep.call("t_rate.fits", ["b1_rate.fits", "bad.fits"], drop_mismatched=True)
