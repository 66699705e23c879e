"""Every way in: the same call of both steps gives the same kind of answer, and the same numbers."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels
from stpipe.exceptions import ValidationError

from factories import checksum, make_model, ramp, save
from peer import oracle
from webbkg import BackgroundStep, options
from webbkg.errors import InputError, MissingFileError
from webbkg.files.suffixes import KNOWN_SUFFIXES

pytestmark = pytest.mark.peer

SHAPE, CORNER = (6, 8), (100, 50)
SKY = ramp(SHAPE, *CORNER) / 64
FLAGGED = (1, 2)  # in the first background
NAMES = ["b1_rate.fits", "b2_rate.fits"]
NONE, ONE, BOTH, TWICE = 0.0, 1.0, 1.5, 2.0  # what is subtracted, in units of the sky


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a target, two backgrounds and an association."""
    folder = tmp_path_factory.mktemp("ways")
    flags = np.zeros(SHAPE, np.uint32)
    flags[FLAGGED] = 4
    for name, factor, dq in (("t", 3, None), ("b1", 1, flags), ("b2", 2, None)):
        model = make_model(factor * SKY, dq=dq, at=CORNER)
        save(model, folder / f"{name}_rate.fits")
        model.to_asdf(folder / f"{name}_rate.asdf")
    (folder / "t_rate.fits.gz").write_bytes(gzip.compress((folder / "t_rate.fits").read_bytes()))
    members = [{"expname": "t_rate.fits", "exptype": "science"}]
    members += [{"expname": name, "exptype": "background"} for name in NAMES]
    asn = {"asn_type": "image2", "asn_id": "a1", "asn_pool": "none"}
    asn["products"] = [{"name": "p", "members": members}]
    (folder / "set_asn.json").write_text(json.dumps(asn))
    return folder


@pytest.fixture(autouse=True)
def folder(written, tmp_path, monkeypatch):
    """Stand in a folder with copies of them."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(*names):
    return [datamodels.open(f"{name}_rate.fits") for name in names]


def model_of(name):
    return opened(name)[0]


def paths():
    return [Path(name) for name in NAMES]


def as_attribute(step, value, more):
    """Set a parameter on a step that exists already, then run it."""
    made = step(**more)
    made.bkg_list = value
    return made.run("t_rate.fits")


SAME = {
    "one string": (ONE, lambda step, m: step.call("t_rate.fits", "b1_rate.fits", **m)),
    "comma string": (BOTH, lambda step, m: step.call("t_rate.fits", ",".join(NAMES), **m)),
    "comma at the end": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", ",".join(NAMES) + ",", **m),
    ),
    "empty string": (NONE, lambda step, m: step.call("t_rate.fits", "", **m)),
    "list of strings": (BOTH, lambda step, m: step.call("t_rate.fits", NAMES, **m)),
    "an empty one among them": (BOTH, lambda step, m: step.call("t_rate.fits", [*NAMES, ""], **m)),
    "tuple": (BOTH, lambda step, m: step.call("t_rate.fits", tuple(NAMES), **m)),
    "generator": (BOTH, lambda step, m: step.call("t_rate.fits", iter(NAMES), **m)),
    "list of paths": (BOTH, lambda step, m: step.call("t_rate.fits", paths(), **m)),
    "list of models": (BOTH, lambda step, m: step.call("t_rate.fits", opened("b1", "b2"), **m)),
    "name and model": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", ["b1_rate.fits", model_of("b2")], **m),
    ),
    "absolute names": (
        BOTH,
        lambda step, m: step.call(
            Path("t_rate.fits").resolve(), [p.resolve() for p in paths()], **m
        ),
    ),
    "empty list": (NONE, lambda step, m: step.call("t_rate.fits", [], **m)),
    "nothing": (NONE, lambda step, m: step.call("t_rate.fits", **m)),
    "None": (NONE, lambda step, m: step.call("t_rate.fits", None, **m)),
    "keyword, list": (BOTH, lambda step, m: step.call("t_rate.fits", bkg_list=NAMES, **m)),
    "keyword, paths": (BOTH, lambda step, m: step.call("t_rate.fits", bkg_list=paths(), **m)),
    "keyword, one": (ONE, lambda step, m: step.call("t_rate.fits", bkg_list="b1_rate.fits", **m)),
    "keyword, empty list": (NONE, lambda step, m: step.call("t_rate.fits", bkg_list=[], **m)),
    "keyword, empty string": (NONE, lambda step, m: step.call("t_rate.fits", bkg_list="", **m)),
    "keyword, None": (NONE, lambda step, m: step.call("t_rate.fits", bkg_list=None, **m)),
    "second argument and keyword": (
        TWICE,
        lambda step, m: step.call("t_rate.fits", "b2_rate.fits", bkg_list="b1_rate.fits", **m),
    ),
    "empty list and keyword": (
        NONE,
        lambda step, m: step.call("t_rate.fits", [], bkg_list="b1_rate.fits", **m),
    ),
    "target as path": (ONE, lambda step, m: step.call(Path("t_rate.fits"), "b1_rate.fits", **m)),
    "target as ASDF": (ONE, lambda step, m: step.call("t_rate.asdf", "b1_rate.fits", **m)),
    "target as gzip": (ONE, lambda step, m: step.call("t_rate.fits.gz", "b1_rate.fits", **m)),
    "target as model": (ONE, lambda step, m: step.call(model_of("t"), "b1_rate.fits", **m)),
    "models only": (BOTH, lambda step, m: step.call(model_of("t"), opened("b1", "b2"), **m)),
    "list of one target": (ONE, lambda step, m: step.call(["t_rate.fits"], "b1_rate.fits", **m)),
    "association": (BOTH, lambda step, m: step.call("set_asn.json", **m)),
    "association as path": (BOTH, lambda step, m: step.call(Path("set_asn.json"), **m)),
    "association and argument": (
        BOTH,
        lambda step, m: step.call("set_asn.json", "b1_rate.fits", **m),
    ),
    "association and empty list": (BOTH, lambda step, m: step.call("set_asn.json", [], **m)),
    "association and keyword": (
        BOTH,
        lambda step, m: step.call("set_asn.json", bkg_list="b1_rate.fits", **m),
    ),
    "run, names": (BOTH, lambda step, m: step(**m).run("t_rate.fits", NAMES)),
    "run, models": (BOTH, lambda step, m: step(**m).run(model_of("t"), opened("b1", "b2"))),
    "run, association": (BOTH, lambda step, m: step(**m).run("set_asn.json")),
    "run, parameter": (BOTH, lambda step, m: step(bkg_list=NAMES, **m).run(model_of("t"))),
    "run, attribute": (BOTH, lambda step, m: as_attribute(step, NAMES, m)),
    "skip alone": (ONE, lambda step, m: step.call("t_rate.fits", "b1_rate.fits", skip=True, **m)),
}

OURS = {
    "one path": (
        ONE,
        lambda step, m: step.call("t_rate.fits", Path("b1_rate.fits"), **m),
        (TypeError, "not iterable"),
    ),
    "one model": (
        ONE,
        lambda step, m: step.call(model_of("t"), model_of("b1"), **m),
        (ValueError, "Unrecognized file type"),
    ),
    "comma and space": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", ", ".join(NAMES), **m),
        (FileNotFoundError, " b2_rate.fits"),
    ),
    "keyword, comma string": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", bkg_list=",".join(NAMES), **m),
        (FileNotFoundError, ",".join(NAMES)),
    ),
    "keyword, comma at the end": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", bkg_list=",".join(NAMES) + ",", **m),
        (ValueError, "Unrecognized file type"),
    ),
    "attribute, comma string": (
        BOTH,
        lambda step, m: as_attribute(step, ",".join(NAMES), m),
        (ValueError, "does not have an extension: b"),
    ),
    "association as dictionary": (
        BOTH,
        lambda step, m: step.call(json.loads(Path("set_asn.json").read_text()), **m),
        (AttributeError, "'ModelContainer' object has no attribute 'meta'"),
    ),
    "background in ASDF": (
        BOTH,
        lambda step, m: step.call("t_rate.fits", ["b1_rate.fits", "b2_rate.asdf"], **m),
        (OSError, "missing block"),
    ),
    "what knows its path": (
        ONE,
        lambda step, m: step.call(NamedOnly("t_rate.fits"), [NamedOnly("b1_rate.fits")], **m),
        (TypeError, "Unsupported type for init argument"),
    ),
}

NEITHER = {
    "no argument": (lambda step: step.call(), TypeError, TypeError, "required positional argument"),
    "three arguments": (
        lambda step: step.call("t_rate.fits", "b1_rate.fits", "b2_rate.fits"),
        TypeError,
        TypeError,
        "from 2 to 3 positional arguments",
    ),
    "unknown parameter": (
        lambda step: step.call("t_rate.fits", nonsense=3),
        ValidationError,
        ValidationError,
        "Extra value 'nonsense' in root",
    ),
    "parameter of another type": (
        lambda step: step.call("t_rate.fits", sigma="many"),
        ValidationError,
        ValidationError,
        "'sigma': the value \"many\" is of the wrong type",
    ),
    "target missing": (
        lambda step: step.call("no_rate.fits", "b1_rate.fits"),
        FileNotFoundError,
        MissingFileError,
        "target: no file no_rate.fits",
    ),
    "background missing": (
        lambda step: step.call("t_rate.fits", "b1_rate.fits,no_rate.fits"),
        FileNotFoundError,
        MissingFileError,
        "background: no file no_rate.fits",
    ),
    "no target": (
        lambda step: step.call(None, "b1_rate.fits"),
        TypeError,
        InputError,
        "no target was given",
    ),
    "empty list of targets": (
        lambda step: step.call([], "b1_rate.fits"),
        KeyError,
        InputError,
        "no target was given",
    ),
    "target is a number": (
        lambda step: step.call(3, "b1_rate.fits"),
        TypeError,
        InputError,
        "target: must be a file or an open data model (got int)",
    ),
    "target in bytes": (
        lambda step: step.call(b"t_rate.fits", "b1_rate.fits"),
        TypeError,
        InputError,
        "target: must be a file or an open data model (got bytes)",
    ),
    "background is a number": (
        lambda step: step.call("t_rate.fits", 5),
        TypeError,
        InputError,
        "background: must be a file or an open data model (got int)",
    ),
    "background is an open FITS file": (
        lambda step: step.call("t_rate.fits", [fits.HDUList([fits.PrimaryHDU()])]),
        TypeError,
        InputError,
        "background: must be a file or an open data model (got HDUList)",
    ),
    "background is an association": (
        lambda step: step.call("t_rate.fits", "set_asn.json"),
        AttributeError,
        InputError,
        "set_asn.json: not a FITS file",
    ),
}


class NamedOnly:
    """Something that `os.fspath` takes."""

    def __init__(self, name):
        self._name = name

    def __fspath__(self):
        return self._name


def check_value(result, factor):
    """The sky was subtracted `factor` times."""
    assert isinstance(result, datamodels.ImageModel)
    assert result.meta.cal_step.bkg_subtract == ("COMPLETE" if factor else "SKIPPED")
    np.testing.assert_allclose(result.data, (3 - factor) * SKY, rtol=3e-7)


def check_agreement(ours, theirs):
    assert type(ours) is type(theirs)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=3e-7, atol=3e-7)
    np.testing.assert_array_equal(ours.err, theirs.err)
    np.testing.assert_array_equal(ours.dq, theirs.dq)
    assert ours.meta.filename == theirs.meta.filename
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract


@pytest.mark.parametrize("way", SAME)
def test_both_take_it_and_agree(way):
    factor, call = SAME[way]
    ours = call(BackgroundStep, {})
    check_value(ours, factor)
    assert ours.dq[FLAGGED] == (4 if factor in (ONE, BOTH) else 0)
    check_agreement(ours, oracle.ask(lambda step: call(step, {})))


@pytest.mark.parametrize(
    "way",
    [
        "comma string",
        "nothing",
        "keyword, list",
        "target as ASDF",
        "target as model",
        "list of one target",
        "association as path",
        "run, models",
        "run, association",
    ],
)
def test_both_write_the_same_products(way):
    factor, call = SAME[way]
    made = {}
    for who, answer in (("ours", lambda way_in: way_in(BackgroundStep)), ("theirs", oracle.ask)):
        saving = {"save_results": True, "save_combined_background": True, "output_dir": who}
        answer(lambda step, m=saving: call(step, m))
        made[who] = {path.name: datamodels.open(path) for path in sorted(Path(who).iterdir())}
    names = list(made["theirs"])
    assert list(made["ours"]) == names
    suffixes = ["backgroundstep", "combinedbackground"][: 2 if factor else 1]
    assert [Path(name).stem.rpartition("_")[2] for name in names] == suffixes
    for name in names:
        assert made["ours"][name].meta.filename == name
        check_agreement(made["ours"][name], made["theirs"][name])


def test_the_product_of_a_gzipped_file_has_the_name_without_that_ending():
    made = []
    for who, answer in (("ours", lambda way_in: way_in(BackgroundStep)), ("theirs", oracle.ask)):
        answer(
            lambda step, w=who: step.call("t_rate.fits.gz", NAMES, save_results=True, output_dir=w)
        )
        made += [path.name for path in Path(who).iterdir()]
    assert made == ["t_backgroundstep.fits", "t_rate.fits_backgroundstep.fits"]


def test_a_saved_background_is_not_called_subtracted():
    for answer in (lambda way_in: way_in(BackgroundStep), oracle.ask):
        answer(lambda step: step.call("t_rate.fits", NAMES, save_combined_background=True))
        with datamodels.open("t_combinedbackground.fits") as saved:
            assert saved.meta.cal_step.bkg_subtract is None
            np.testing.assert_array_equal(saved.data, 1.5 * SKY)


@pytest.mark.parametrize("way", OURS)
def test_jwst_raises_and_webbkg_takes_it(way):
    factor, call, (error, message) = OURS[way]
    with pytest.raises(error, match=re.escape(message)):
        oracle.ask(lambda step: call(step, {}))
    check_value(call(BackgroundStep, {}), factor)


@pytest.mark.parametrize("way", NEITHER)
def test_both_raise_and_webbkg_says_why(way):
    call, their_error, our_error, message = NEITHER[way]
    with pytest.raises(their_error):
        oracle.ask(call)
    with pytest.raises(our_error, match=re.escape(message)):
        call(BackgroundStep)


def test_of_several_targets_jwst_takes_the_first_and_webbkg_all():
    def call(step):
        return step.call(["t_rate.fits", "b2_rate.fits"], "b1_rate.fits")

    check_value(oracle.ask(call), ONE)
    first, second = call(BackgroundStep)
    check_value(first, ONE)
    np.testing.assert_array_equal(second.data, SKY)


def test_open_models_go_in_unchanged_and_another_comes_out():
    for answer in (lambda way: way(BackgroundStep), oracle.ask):
        target, (background,) = model_of("t"), opened("b1")
        result = answer(lambda step, t=target, b=background: step.call(t, [b]))
        assert result is not target
        np.testing.assert_array_equal(target.data, 3 * SKY)
        np.testing.assert_array_equal(background.dq[FLAGGED], 4)
        assert target.meta.cal_step.bkg_subtract is None


def test_files_go_in_unchanged(folder):
    before = {path: checksum(path) for path in folder.iterdir()}
    BackgroundStep.call("set_asn.json")
    oracle.ask(lambda step: step.call("set_asn.json"))
    assert {path: checksum(path) for path in folder.iterdir()} == before


def test_a_file_in_the_list_may_have_a_comma_in_its_name():
    Path("b1_rate.fits").rename("b,1_rate.fits")
    ours = BackgroundStep.call("t_rate.fits", bkg_list=["b,1_rate.fits"])
    theirs = oracle.ask(lambda step: step.call("t_rate.fits", bkg_list=["b,1_rate.fits"]))
    check_value(ours, ONE)
    check_agreement(ours, theirs)


def parsed(spec):
    """Return (type, what limits it, default) of each parameter, as their validator reads them."""
    from configobj.validate import Validator

    validator = Validator()
    found = {}
    for name, check in spec.items():
        kind, arguments, limits, default = validator._parse_with_caching(check)
        if default not in (None, "None") and kind in ("float", "integer"):
            default = float(default)
        found[name] = (kind, tuple(arguments), tuple(sorted(limits.items())), default)
    return found


OFF = {
    "soss_time": "constant",
    "wfss_model": "template",
    "flat_error": 0.0,
    "flat_length": 100.0,  # of flat_error
    "template_sky": "curved",  # of template
}
"""What the parameters do that have no word for nothing."""


def test_every_parameter_has_the_type_and_the_default_of_jwst():
    ours, theirs = (parsed(step.load_spec_file()) for step in (BackgroundStep, oracle.jwst.step))
    assert {"bkg_list", "wfss_outlier_percent", "override_bkg", "output_ext"} <= theirs.keys()
    assert theirs["soss_bkg_percentile"][2] == (("max", "2"), ("min", "2"))
    assert {name: ours[name] for name in theirs} == theirs
    # Each of those that webbkg adds is off, whatever it is, or says how one that is off works.
    added = {name: ours[name][-1] for name in ours.keys() - theirs.keys()}
    assert {name for name, off in added.items() if off not in ("False", "None", "none")} <= set(OFF)
    assert {name: added[name] for name in OFF} == OFF


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"bkg_list": NAMES, "soss_bkg_percentile": [10, 40], "maxiters": "4", "wfss_rms_stop": 1},
        {"bkg_list": "b1_rate.fits", "sigma": "2", "wfss_mask": "m.fits", "suffix": "bsub"},
    ],
)
def test_the_parameters_of_a_step_are_told_alike(parameters):
    ours = BackgroundStep(**parameters).get_pars()
    theirs = oracle.ask(lambda step: step(**parameters).get_pars())
    added = ours.keys() - theirs.keys()
    assert {name: ours[name] for name in theirs} == theirs
    assert {"allow_repeat", "save_background"} <= added <= options.parameters().keys()
    assert [type(ours[name]) for name in theirs] == [type(value) for value in theirs.values()]
    own = BackgroundStep(**parameters).get_pars(full_spec=False)
    their_own = oracle.ask(lambda step: step(**parameters).get_pars(full_spec=False))
    assert set(own) == {*their_own, *added, "output_ext"}  # jwst has that one in a base class


def test_the_class_is_known_by_the_same_names():
    for attribute in ("class_alias", "bkg_suffix", "reference_file_types", "__name__"):
        assert getattr(BackgroundStep, attribute) == getattr(oracle.jwst.step, attribute)
    assert BackgroundStep.get_config_reftype() == "pars-backgroundstep"
    assert oracle.jwst.step.get_config_reftype() == "pars-backgroundstep"


def test_a_known_suffix_is_replaced_and_no_other():
    from stpipe.entry_points import get_steps

    names = {*KNOWN_SUFFIXES, "asn", "pool", "segm", "background", "combinedbackground", "RATE"}
    for info in get_steps():
        if info.package_name == "jwst":
            class_name = info.class_name.rpartition(".")[2].lower()
            alias = info.class_alias or class_name
            names |= {class_name, alias, alias.replace("_", "")}
    assert len(names) > 200
    theirs = oracle.ask(lambda step: step()).remove_suffix
    ours = BackgroundStep().remove_suffix
    for stem in ("a_b_{}", "a-{}", "a_rate_{}", "a_asn_{}", "{}"):
        told = {name: (ours(stem.format(name)), theirs(stem.format(name))) for name in names}
        assert {name: both for name, both in told.items() if both[0] != both[1]} == {}
