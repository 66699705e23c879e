"""Matching and masks by every way in: the step, the command, several targets, files of masks."""

import json

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from factories import make_model, save, write_mask
from webbkg import BackgroundStep, ImageOptions, subtract_background
from webbkg.cli import app
from webbkg.errors import InputError, MissingFileError, OptionError, OutputError
from webbkg.modes import Request

SHAPE = (96, 80)
NAMES = [f"b{i}_rate.fits" for i in range(1, 5)]
ON = {"match_background": "scale", "mask_sources": True}


def exposure(number, level, star=None, cube=False):
    rng = np.random.default_rng(number)
    image = np.linspace(0.9, 1.1, SHAPE[1]) * level + rng.normal(0, 0.1, SHAPE)
    if star is not None:
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        image += 40 * (1 + ((y - star[0]) ** 2 + (x - star[1]) ** 2) / 5) ** -3.0
    sci = np.stack([image, image + 0.01]) if cube else image
    return make_model(sci, np.full(sci.shape, 0.1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write two targets and four backgrounds, a cube among them, and go there."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("t1", 9), ("t2", 12)):
        save(exposure(level, level, (48, 40)), tmp_path / f"{name}_rate.fits")
    for i, name in enumerate(NAMES):
        star = (48 + 12 * (i - 2), 40 + 15 * (i % 2))
        save(exposure(20 + i, 9 + i, star, cube=i == 1), tmp_path / name)
    return tmp_path


def command(*arguments):
    """Run the command and return what it tells as JSON."""
    from typer.testing import CliRunner

    listed = [part for name in NAMES for part in ("-b", name)]
    run = CliRunner().invoke(app, ["subtract", *arguments, *listed, "--json"])
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def test_every_way_in_gives_the_same(folder):
    request = Request(backgrounds=tuple(map(folder.joinpath, NAMES)), options=ImageOptions(**ON))
    result, outcome = subtract_background("t1_rate.fits", request)
    with datamodels.open("t1_rate.fits") as target:
        opened = BackgroundStep.call(target, NAMES, **ON)
    stepped = BackgroundStep.call("t1_rate.fits", NAMES, save_results=True, suffix="step", **ON)
    (told,) = command("t1_rate.fits", "--match-background", "scale", "--mask-sources")
    product = fits.getdata("t1_backgroundstep.fits", "SCI")
    for other in (opened.data, stepped.data, product):
        np.testing.assert_array_equal(result.data, other)
    assert abs(np.nanmedian(result.data)) < 0.02
    levels = outcome.result.levels
    details = told["details"]
    assert details["match_background"] == "scale"
    assert details["background_levels"] == list(levels.backgrounds)
    np.testing.assert_allclose(levels.backgrounds, [9, 10, 11, 12], rtol=0.01)
    assert details["target_level"] == pytest.approx(9, rel=0.01)
    assert details["masked_shares"] == list(outcome.result.masked)
    assert all(0.02 < share < 0.2 for share in details["masked_shares"])
    tree = stepped.meta.background.webbkg.instance
    assert tree["background_corrections"] == list(levels.corrections)


def test_targets_that_share_their_backgrounds_are_matched_each_to_its_own_sky(folder, monkeypatch):
    from webbkg.image import measure

    averaged = []
    average = measure.average_unkept
    monkeypatch.setattr(
        measure, "average_unkept", lambda *a, **k: averaged.append(1) or average(*a, **k)
    )
    together = command("t1_rate.fits", "t2_rate.fits", "--match-background", "scale")
    assert len(averaged) == 1
    alone = BackgroundStep.call("t2_rate.fits", NAMES, match_background="scale")
    np.testing.assert_array_equal(fits.getdata("t2_backgroundstep.fits", "SCI"), alone.data)
    one, two = (told["details"]["target_correction"] for told in together)
    assert two / one == pytest.approx(12 / 9, rel=0.01)
    assert together[0]["details"]["combined_level"] == together[1]["details"]["combined_level"]
    assert [abs(told["median_after"]) < 0.05 for told in together] == [True, True]


def test_nothing_is_told_where_nothing_is_asked_for(folder):
    (told,) = command("t1_rate.fits")
    assert not {"match_background", "masked_shares", "target_level"} & set(told["details"])


def test_masks_of_ones_own_are_left_out(folder):
    sky = np.ones((4, *SHAPE), bool)
    for i in range(4):
        sky[i, 10 : 14 + i] = False
        write_mask(folder / f"m{i + 1}.fits", sky[i])
    given = ",".join(f"m{i}.fits" for i in range(1, 5))
    (told,) = command("t1_rate.fits", "--source-mask", given, "--save-combined-background")
    expected = [float((~one).mean()) for one in sky]
    assert told["details"]["masked_shares"] == pytest.approx(expected)
    assert told["details"]["source_mask"] == given.split(",")
    assert "mask_sources" not in told["details"]
    combined = fits.getdata("t1_combinedbackground.fits", "SCI")
    np.testing.assert_array_equal(np.isnan(combined), ~sky.any(axis=0))
    product = fits.open("t1_backgroundstep.fits")
    assert (product["DQ"].data[10:14] & 1).all()
    assert np.isnan(product["SCI"].data[10:14]).all()
    models = [datamodels.open(name) for name in NAMES]
    for i, model in enumerate(models):
        model.data[..., ~sky[i]] = np.nan
    by_hand = BackgroundStep.call("t1_rate.fits", models)
    np.testing.assert_array_equal(product["SCI"].data, by_hand.data)
    product.close()


def test_one_mask_is_for_all_and_joins_those_that_are_found(folder):
    sky = np.ones(SHAPE, bool)
    sky[:, :8] = False
    write_mask(folder / "m.fits", sky)
    result = BackgroundStep.call("t1_rate.fits", NAMES, source_mask=["m.fits"], **ON)
    found = BackgroundStep.call("t1_rate.fits", NAMES, **ON)
    assert np.isnan(result.data[:, :8]).all()
    shares = [r.meta.background.webbkg.instance["masked_shares"] for r in (result, found)]
    assert all(one > two + 0.05 for one, two in zip(*shares, strict=True))


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        (["m.fits", "m.fits"], OptionError, r"one for each of the 4 backgrounds \(got 2\)"),
        (["none.fits"], MissingFileError, "source_mask: no file"),
        (["small.fits"], InputError, "the shape of source_mask must be that of b1_rate.fits"),
        (["t2_rate.fits"], InputError, "name a file with one as source_mask"),
    ],
)
def test_masks_that_do_not_fit_are_told(folder, names, error, told):
    write_mask(folder / "m.fits", np.ones(SHAPE))
    write_mask(folder / "small.fits", np.ones((4, 4)))
    with pytest.raises(error, match=told):
        BackgroundStep.call("t1_rate.fits", NAMES, source_mask=names)


@pytest.mark.parametrize("name", ["source_mask", "template", "wfss_mask"])
def test_an_image_in_the_place_of_its_file_s_name_is_told(folder, name):
    """By stpipe it would be an ambiguous truth value."""
    ways = [
        lambda image: BackgroundStep.call("t_rate.fits", NAMES, **{name: image}),
        lambda image: BackgroundStep(**{name: image}),
        lambda image: _with_attribute(name, image).run("t_rate.fits", NAMES),
    ]
    for way in ways:
        with pytest.raises(
            OptionError, match=rf"{name} must .* ndarray of shape \(96, 80\)\); save"
        ):
            way(np.ones(SHAPE))


def _with_attribute(name, image):
    step = BackgroundStep()
    setattr(step, name, image)
    return step


def test_a_mask_is_not_overwritten(folder):
    write_mask(folder / "t1_backgroundstep.fits", np.ones(SHAPE))
    with pytest.raises(OutputError, match=r"t1_backgroundstep\.fits"):
        BackgroundStep.call(
            "t1_rate.fits", NAMES, source_mask="t1_backgroundstep.fits", save_results=True
        )


def test_what_cannot_be_done_is_a_warning(folder):
    request = Request(backgrounds=(folder / NAMES[0],), options=ImageOptions(mask_sources=True))
    _, outcome = subtract_background("t1_rate.fits", request)
    assert "sources are found against other backgrounds" in outcome.warnings[-1]
    dark = make_model(np.random.default_rng(1).normal(0, 1, SHAPE))
    request = Request(backgrounds=(dark,), options=ImageOptions(match_background="scale"))
    _, outcome = subtract_background("t1_rate.fits", request)
    assert "offset needs none above 0" in outcome.warnings[-1]
    request = Request(
        backgrounds=tuple(map(folder.joinpath, NAMES)), options=ImageOptions(mask_sources=True)
    )
    _, outcome = subtract_background("t1_rate.fits", request)
    assert "% apart" in outcome.warnings[-1]


def test_variances_are_scaled_with_the_background(folder):
    """Together with propagate_errors: the parts still add up, and enter the target's ERR."""
    request = Request(
        backgrounds=tuple(map(folder.joinpath, NAMES)),
        options=ImageOptions(**ON),
        propagate_errors=True,
    )
    result, outcome = subtract_background("t1_rate.fits", request)
    background = outcome.background
    parts = [part for part in vars(background.variances).values() if part is not None]
    np.testing.assert_allclose(sum(parts), np.square(background.err), rtol=1e-5)
    np.testing.assert_allclose(result.err, np.hypot(0.1, background.err), rtol=1e-5)
    factor = outcome.result.levels.target_correction
    assert np.nanmedian(background.err) == pytest.approx(0.1 / 2 * factor, rel=0.1)
