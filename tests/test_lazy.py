"""Saved results take their large planes from the product, when they are asked for."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from factories import DO_NOT_USE, make_model, ramp, save
from webbkg import BackgroundStep
from webbkg.files import disk, streaming

SHAPE = (3, 40, 50)
PLANES = ("data", "err", "dq", "var_poisson", "area")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a cube and a background with a hole, and call every plane large; go there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streaming, "COPY_CHUNK", 1)
    rng = np.random.default_rng(1)
    cube = make_model(rng.normal(9, 1, SHAPE), rng.random(SHAPE), rng.integers(0, 2**32, SHAPE))
    cube.var_poisson = rng.random(SHAPE).astype(np.float32)
    cube.area = np.ones(SHAPE[1:], np.float32)
    save(cube, tmp_path / "t_rateints.fits")
    sky = ramp(SHAPE[1:]) / 1e4
    sky[3, 4] = np.nan
    save(make_model(sky), tmp_path / "b_rate.fits")
    return tmp_path


def call(**parameters):
    return BackgroundStep.call("t_rateints.fits", ["b_rate.fits"], save_results=True, **parameters)


def pending(model):
    return set(model._instance._pending)


def check_planes(model, expected):
    for plane in PLANES:
        np.testing.assert_array_equal(getattr(model, plane), getattr(expected, plane), plane)


@pytest.fixture
def expected(folder):
    """What a run in memory gives."""
    return BackgroundStep.call("t_rateints.fits", ["b_rate.fits"])


def test_planes_are_read_when_they_are_asked_for(expected):
    result = call()
    assert isinstance(result, datamodels.CubeModel)
    assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert result.meta.filename == "t_backgroundstep.fits"
    assert result.meta.background.webbkg.mode == "image"
    assert {"data", "err", "dq", "var_poisson"} <= pending(result)
    assert result.dq[0, 3, 4] & DO_NOT_USE
    assert "dq" not in pending(result)
    assert "data" in pending(result)
    check_planes(result, expected)
    assert not pending(result)
    assert result.shape == SHAPE


def enter(model):
    with model:
        pass


def test_it_is_opened_at_the_first_look(expected):
    result = call()
    assert isinstance(result, datamodels.CubeModel)
    assert set(vars(result)) == {"_webbkg_product"}
    stream = vars(result)["_webbkg_product"][1]
    del result
    assert stream.closed
    looks = {
        "repr": repr,
        "attribute": lambda model: model.meta.exposure.type,
        "item": lambda model: model["meta.exposure.type"],
        "assignment": lambda model: setattr(model, "area", None),
        "copy": copy.copy,
        "with": enter,
        "loop": lambda model: dict(model.items()),
    }
    for look in looks.values():
        result = call()
        look(result)
        assert type(result) is datamodels.CubeModel
        assert result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert repr(call()) == repr(expected).replace("t_rateints", "t_backgroundstep")


def test_a_list_of_targets_gives_a_list_of_results(expected):
    second = Path("u_rateints.fits")
    second.write_bytes(Path("t_rateints.fits").read_bytes())
    names = ["t_rateints.fits", str(second)]
    results = BackgroundStep.call(names, ["b_rate.fits"], save_results=True)
    assert [result.meta.filename for result in results] == [
        "t_backgroundstep.fits",
        "u_backgroundstep.fits",
    ]
    for result in results:
        check_planes(result, expected)


def test_planes_can_be_changed_and_the_product_is_not(expected):
    result = call()
    result.data[:] = 0
    result.dq |= 4
    assert np.isfinite(result.data).all()
    check_planes(datamodels.open("t_backgroundstep.fits"), expected)


@pytest.mark.parametrize("what", ["moved", "removed", "replaced"])
def test_a_product_that_goes_meanwhile_still_gives_its_planes(expected, what):
    result = call()
    if what == "moved":
        Path("t_backgroundstep.fits").rename("elsewhere.fits")
    elif what == "removed":
        Path("t_backgroundstep.fits").unlink()
    else:
        save(make_model(np.zeros(SHAPE)), Path("new.fits"))
        Path("new.fits").replace("t_backgroundstep.fits")
    check_planes(result, expected)


def test_copies_and_pickled_trees_hold_the_planes(expected):
    result = call()
    copy = result.copy()
    Path("t_backgroundstep.fits").unlink()
    check_planes(copy, expected)
    tree = pickle.loads(pickle.dumps(call()._instance))
    np.testing.assert_array_equal(tree["data"], expected.data)


def test_a_result_is_saved_over_itself_and_elsewhere(expected):
    result = call()
    result.meta.observation.program_number = "01234"
    result.save("t_backgroundstep.fits")
    result.save("other.fits")
    result.to_asdf("other.asdf")
    for name in ("t_backgroundstep.fits", "other.fits"):
        with datamodels.open(name) as saved:
            check_planes(saved, expected)
            assert saved.meta.observation.program_number == "01234"


def test_the_next_step_takes_it(expected):
    again = BackgroundStep.call(call(), ["b_rate.fits"], allow_repeat=True)
    np.testing.assert_allclose(
        again.data, 2 * expected.data - datamodels.open("t_rateints.fits").data, atol=1e-5
    )


def test_one_switch_turns_it_off(expected, monkeypatch):
    monkeypatch.setattr(BackgroundStep, "lazy_results", False)
    result = call()
    assert not hasattr(result._instance, "_pending")
    check_planes(result, expected)
    check_planes(datamodels.open("t_backgroundstep.fits"), expected)


def test_hooks_get_the_planes(expected, monkeypatch):
    Path("own_hooks.py").write_text("def look(model):\n    return model\n")
    monkeypatch.syspath_prepend(".")
    result = call(post_hooks=["own_hooks.look"])
    assert not hasattr(result._instance, "_pending")
    check_planes(result, expected)


def test_small_products_are_opened_whole(expected, monkeypatch):
    monkeypatch.setattr(streaming, "COPY_CHUNK", disk.COPY_CHUNK)
    result = call()
    assert not hasattr(result._instance, "_pending")
    check_planes(result, expected)


CALL = """
import logging, re, sys
from webbkg import BackgroundStep
logging.disable(50)
result = BackgroundStep.call(sys.argv[1], "b_rate.fits", save_results=True)
assert result.meta.cal_step.bkg_subtract == "COMPLETE"
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_memory_of_a_call_does_not_grow_with_the_integrations(tmp_path):
    save(make_model(ramp((512, 1024))), tmp_path / "b_rate.fits")
    noise = np.random.default_rng(1).normal(0, 1, (60, 512, 1024)).astype(np.float32)
    peaks = []
    for integrations in (5, 60):
        save(make_model(noise[:integrations]), tmp_path / f"t{integrations}_rateints.fits")
        command = [sys.executable, "-c", CALL, f"t{integrations}_rateints.fits"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 60  # SCI alone has 115 MB more
