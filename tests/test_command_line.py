"""The command line as a person meets it: its help, messages, totals, and what it overwrites."""

import gzip
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels
from typer.testing import CliRunner

from crds_cache import without_crds
from factories import GRISM, checksum, grism_template, make_model, ramp, save, write_mask
from webbkg import BackgroundStep
from webbkg.cli import app
from webbkg.cli.names import repeat_background_flag
from webbkg.cli.subtract import EXAMPLES
from webbkg.files.product import is_own_product
from webbkg.files.windows import DetectorWindow
from webbkg.options import as_options, parameters
from webbkg.simulate.grism_scene import NIRCAM_R
from webbkg.simulate.wfss import draw_field, observe, source_catalog, write_field

SHAPE = (6, 8)
SKY = ramp(SHAPE) / 64
BACKGROUNDS = ("-b", "b1_rate.fits", "b2_rate.fits")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write two targets, three and five times the sky, and two backgrounds; go there."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("t", 3), ("u", 5), ("b1", 1), ("b2", 1)):
        save(make_model(level * SKY, meta__bunit_data="DN/s"), tmp_path / f"{name}_rate.fits")
    return tmp_path


def run(*arguments, columns=None):
    runner = CliRunner(env={"COLUMNS": str(columns)} if columns else None)
    return runner.invoke(app, repeat_background_flag(["subtract", *map(str, arguments)]))


def data(path):
    with datamodels.open(path) as product:
        return np.array(product.data)


# The help.


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_cuts_no_name_and_no_line(columns, flag):
    told = run(flag, columns=columns).output
    lines = told.splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in told
    assert "<" not in told  # as in <bool>
    given = set(re.findall(r"--[a-z][a-z-]*", told))
    added = {
        "--catalog",
        "--skip-existing",
        "--overwrite",
        "--override-wavelengthrange",
        "--robust",
    }
    ours = {f"--{name.replace('_', '-')}" for name in parameters() if name != "bkg_list"}
    switched = [one for one in parameters().values() if one.kind == "boolean" and one.presets]
    switches = {f"--no-{one.name.replace('_', '-')}" for one in switched}
    assert len(switches) > 2
    assert ours | added | switches <= given
    for panel in ("Inputs", "Image from image", "Grism", "NIRISS SOSS", "Output", "Examples"):
        assert sum(f"─ {panel}" in line for line in lines) == 1
    for example in EXAMPLES.splitlines():
        assert any(example in line for line in lines)


def test_each_option_is_in_the_panel_of_its_mode():
    told = run("-h", columns=80).output
    panels = dict(re.findall(r"╭─ (.+?) ─+╮\n(.*?)╰", told, re.S))
    assert "--sigma" in panels["Image from image"]
    assert "--wfss-mask" in panels["Grism exposures (WFSS)"]
    assert "--soss-bkg-percentile" in panels["NIRISS SOSS"]
    assert "--save-background" in panels["Output"]
    assert {"--background", "--catalog"} <= set(re.findall(r"--\w+", panels["Inputs"]))
    names = list(panels)
    assert names.index("Inputs") < names.index("Image from image") < names.index("Output")


@pytest.mark.parametrize("command", [[], ["demo"], ["make-template"]])
def test_the_other_commands_take_h_too(command):
    told = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*command, "-h"])
    assert told.exit_code == 0
    assert "Usage: " in told.output
    assert "<" not in told.output


def test_shell_completion(folder):
    """What bash asks when the user presses the tabulator, and the script that asks it."""
    asked = {"_WEBBKG_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    asked |= {"COMP_WORDS": "webbkg subtract --wfss-m"}
    command = [sys.executable, "-c", "from webbkg.cli import main; main()"]
    for given, expected in (
        (asked, ["--wfss-mask", "--wfss-maxiter", "--wfss-mmag-extract"]),
        ({"_WEBBKG_COMPLETE": "source_bash"}, ["_webbkg_completion", "complete"]),
    ):
        done = subprocess.run(
            command, env=os.environ | given, capture_output=True, text=True, check=False
        )
        assert all(one in done.stdout for one in expected), done.stderr


# Messages.


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("sigma must be a number (got nan)", "--sigma must be a number (got nan)"),
        ("wfss_mask: no file m.fits", "--wfss-mask: no file m.fits"),
        ("my/wfss_mask.fits: no such file", "my/wfss_mask.fits: no such file"),
        ("output_dir_rate.fits is odd", "output_dir_rate.fits is odd"),
        ("another output_file, suffix or output_dir", "another --output-file, --suffix or --output-dir"),
        ("give one with override_bkg, or", "give one with --override-bkg, or"),
        ("match_background = scale (or offset)", "--match-background scale (or offset)"),
        ("standard deviations (sigma) of what", "standard deviations (sigma) of what"),
    ],
)  # fmt: skip
def test_parameters_are_called_by_their_command_line_names(message, expected):
    assert as_options(message) == expected


def test_the_command_s_messages_name_its_options(folder):
    told = run("t_rate.fits", *BACKGROUNDS, "--dq-threshold", "3")
    assert told.exit_code == 2
    assert told.stderr.startswith("error: --dq-threshold must be a number from 0 to 1")
    assert run("t_rate.fits", *BACKGROUNDS).exit_code == 0
    again = run("t_backgroundstep.fits", *BACKGROUNDS)
    assert "(--allow-repeat subtracts again)" in again.stdout
    (told,) = json.loads(run("t_backgroundstep.fits", *BACKGROUNDS, "--json").stdout)
    assert "(--allow-repeat subtracts again)" in told["reason"]


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        (("t_rat.fits",), "t_rate.fits"),
        (("t_rate.fits", "-b", "b1rate.fits"), "b1_rate.fits"),
        (("t_rate.fits", *BACKGROUNDS, "--source-mask", "maks.fits"), "mask.fits"),
        (("t_rate.fits", *BACKGROUNDS, "--catalog", "field_cat.ecv"), "field_cat.ecsv"),
    ],
)
def test_a_near_name_is_suggested_for_a_missing_file(folder, given, suggested):
    for name in ("mask.fits", "field_cat.ecsv"):
        (folder / name).touch()
    told = run(*given)
    assert told.exit_code == 1
    assert f"; did you mean {suggested}?" in told.stderr


def test_nothing_is_suggested_that_is_not_near(folder):
    told = run("exposure_of_another_day.fits", *BACKGROUNDS)
    assert told.exit_code == 1
    assert "did you mean" not in told.stderr


# The summary.


def test_every_number_of_the_summary_has_its_unit(folder):
    told = run("t_rate.fits", *BACKGROUNDS, "--match-background", "offset").stdout
    lines = {line[:24].strip(): line[24:] for line in told.splitlines()[1:]}
    assert lines["backgrounds"] == "2 exposures"
    assert re.fullmatch(r"[\d.]+(, [-\d.]+) DN/s", lines["median before, after"])
    assert re.fullmatch(r"[\d.]+ DN/s, matched by offset", lines["background sky"])
    assert re.fullmatch(r"[\d.]+ DN/s, their average \+ [-\d.e]+ DN/s", lines["target sky"])
    assert lines["samples used"].endswith(" usable")


def test_a_scale_is_told_as_what_it_is(folder):
    save(make_model(2 * (1 + SKY), meta=GRISM), folder / "g_rate.fits")
    write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    grism_template(1 + SKY, (0, 0)).save("bkg.fits")
    told = run("g_rate.fits", "--override-bkg", "bkg.fits", "--wfss-mask", "mask.fits")
    assert re.search(r"scale +2 ± \S+ times the template", told.stdout)


def test_totals_after_many_targets_with_what_failed_last(folder):
    (folder / "empty_rate.fits").touch()
    save(make_model(SKY, at=(50, 50)), folder / "far_rate.fits")
    told = run("t_rate.fits", "empty_rate.fits", "far_rate.fits", "u_rate.fits", *BACKGROUNDS)
    assert told.exit_code == 1
    assert "4 targets: 2 COMPLETE, 1 ERROR, 1 SKIPPED" in told.stdout
    *_, error, skipped = told.output.splitlines()
    assert error.startswith("  empty_rate.fits: ERROR: empty_rate.fits: the file is empty")
    assert skipped.startswith("  far_rate.fits: SKIPPED: no background shares a pixel")
    assert "targets:" not in run("t_rate.fits", *BACKGROUNDS).output
    assert run("t_rate.fits", "u_rate.fits", *BACKGROUNDS, "--quiet").output == ""
    json.loads(run("t_rate.fits", "u_rate.fits", *BACKGROUNDS, "--json").stdout)


# Inputs.


def test_commas_between_backgrounds(folder):
    os.link("b1_rate.fits", "odd,name_rate.fits")
    told = run("t_rate.fits", "-b", "b1_rate.fits,b2_rate.fits", "--json")
    (report,) = json.loads(told.stdout)
    assert report["details"]["backgrounds"] == ["b1_rate.fits", "b2_rate.fits"]
    (report,) = json.loads(run("t_rate.fits", "-b", "odd,name_rate.fits", "--json").stdout)
    assert report["details"]["backgrounds"] == ["odd,name_rate.fits"]
    (report,) = json.loads(run("t_rate.fits", "-b", "b?_rate.fits,", "--json").stdout)
    assert report["details"]["backgrounds"] == ["b1_rate.fits", "b2_rate.fits"]


def write_image(name, image):
    if name.endswith(".npy"):
        np.save(name, image)
        return
    fits.PrimaryHDU(image).writeto("plain.fits", overwrite=True)
    content = Path("plain.fits").read_bytes()
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.mark.parametrize("name", ["sky.npy", "sky.fits", "sky.fits.gz"])
def test_a_bare_sky_image_is_a_template(folder, name):
    """It is placed on the target's window; the product names the image, as it was given."""
    save(make_model(2.5 * (1 + SKY), meta=GRISM, at=(3, 5)), folder / "g_rate.fits")
    write_mask(folder / "mask.fits", np.ones(SHAPE, np.uint32))
    write_image(name, (1 + SKY).astype(np.float32))
    before = {path.name for path in folder.iterdir()}
    told = run("g_rate.fits", "--override-bkg", name, "--wfss-mask", "mask.fits", "--json")
    assert told.exit_code == 0, told.output
    assert {path.name for path in folder.iterdir()} - before == {"g_backgroundstep.fits"}
    with datamodels.open("g_backgroundstep.fits") as product:
        assert product.meta.background.scaling_factor == pytest.approx(2.5, rel=1e-6)
        assert product.meta.ref_file.bkg.name == str(folder / name)
        assert product.meta.background.webbkg.template == name


def test_a_bare_image_of_a_wrong_shape_is_an_error(folder):
    save(make_model(1 + SKY, meta=GRISM, at=(3, 5)), folder / "g_rate.fits")
    np.save("sky.npy", np.ones((3, 3)))
    told = run("g_rate.fits", "--override-bkg", "sky.npy")
    assert told.exit_code == 1
    assert "sky.npy: its shape must be that of the target" in told.stderr


def test_the_catalogue_is_that_of_the_option(folder):
    """It wins over the association's, and over the header's; the mask is of its sources."""
    scene, window = NIRCAM_R, DetectorWindow(421, 310, 96, 128)
    field = draw_field(scene, 1, scene.detector.part(window))
    files = write_field(folder / "set", observe(field), template_window=window)
    few = source_catalog(field)[:3]
    few.write(folder / "few_cat.ecsv", format="ascii.ecsv")
    references = ["--override-bkg", files.template]
    references += ["--override-wavelengthrange", files.wavelengthrange]
    for target in (files.association, files.target):
        told = {}
        for catalog in ([], ["--catalog", "few_cat.ecsv"]):
            (report,) = json.loads(run(target, *references, *catalog, "--json").stdout)
            told[len(catalog)] = report["details"]
        assert (told[2]["mask"], told[2]["mask_sources"]) == ("few_cat.ecsv", 3)
        assert told[0]["mask"] == files.catalog.name
        assert told[0]["mask_sources"] == len(source_catalog(field)) > 3
        assert told[2]["pixels_sky"] > told[0]["pixels_sky"]
        with datamodels.open(report["output"]) as product:
            assert product.meta.source_catalog == "few_cat.ecsv"


# What is there already.


def test_a_file_that_is_no_product_is_not_overwritten(folder):
    foreign = folder / "u_backgroundstep.fits"
    save(make_model(7 * SKY), foreign)
    before = checksum(foreign)
    told = run("t_rate.fits", "u_rate.fits", *BACKGROUNDS)
    assert told.exit_code == 1
    assert "u_backgroundstep.fits: is there already, and is no product of webbkg's" in told.stderr
    assert "--overwrite" in told.stderr
    assert checksum(foreign) == before
    assert not (folder / "t_backgroundstep.fits").exists(), "nothing is written"
    assert run("t_rate.fits", "u_rate.fits", *BACKGROUNDS, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(data(foreign), 4 * SKY)


@pytest.mark.parametrize("saved", [(), ("--save-background", "--save-combined-background")])
def test_webbkg_s_own_products_are_overwritten(folder, saved):
    assert run("t_rate.fits", "-b", "b1_rate.fits", *saved).exit_code == 0
    save(make_model(2 * SKY, meta__bunit_data="DN/s"), folder / "b1_rate.fits")
    assert run("t_rate.fits", "-b", "b1_rate.fits", *saved).exit_code == 0
    np.testing.assert_array_equal(data("t_backgroundstep.fits"), SKY)
    assert all(is_own_product(path) for path in folder.glob("t_*background*.fits"))


def test_a_background_that_is_to_be_saved_overwrites_nothing_foreign(folder):
    for suffix, option in (("background", ""), ("combinedbackground", "combined-")):
        foreign = folder / f"t_{suffix}.fits"
        save(make_model(7 * SKY), foreign)
        assert run("t_rate.fits", *BACKGROUNDS, "-o", ".").exit_code == 0
        told = run("t_rate.fits", *BACKGROUNDS, f"--save-{option}background")
        assert told.exit_code == 1
        assert f"{foreign.name}: is there already" in told.stderr
        foreign.unlink()


def test_which_files_are_webbkg_s_own(folder):
    """What a later step wrote is not, though the log of the subtraction is in it."""
    BackgroundStep.call("t_rate.fits", ["b1_rate.fits"], save_results=True)
    product = folder / "t_backgroundstep.fits"
    assert is_own_product(product)
    with datamodels.open(product) as model:
        later = "2099-01-01T00:00:00.000Z - stpipe.flat_field - INFO - done"
        model.cal_logs.instance["flat_field"] = [later]
        model.save("later.fits")
    assert not is_own_product(folder / "later.fits")
    for name, content in (("no.fits", b"no"), ("empty.fits", b"")):
        (folder / name).write_bytes(content)
        assert not is_own_product(folder / name)
    assert not is_own_product(folder / "t_rate.fits")
    assert not is_own_product(folder)
    assert run("u_rate.fits").exit_code == 3  # SKIPPED products are its own as well
    assert is_own_product(folder / "u_backgroundstep.fits")


def test_the_step_overwrites_as_stpipe_does(folder):
    save(make_model(7 * SKY), folder / "t_backgroundstep.fits")
    BackgroundStep.call("t_rate.fits", ["b1_rate.fits"], save_results=True)
    np.testing.assert_array_equal(data("t_backgroundstep.fits"), 2 * SKY)


def test_skip_existing_does_the_rest(folder):
    assert run("t_rate.fits", *BACKGROUNDS).exit_code == 0
    before = checksum(folder / "t_backgroundstep.fits")
    told = run("t_rate.fits", "u_rate.fits", *BACKGROUNDS, "--skip-existing")
    assert told.exit_code == 0
    assert "its product is there already (--skip-existing)" in told.stdout
    assert "2 targets: 1 there already, 1 COMPLETE" in told.stdout
    assert checksum(folder / "t_backgroundstep.fits") == before
    np.testing.assert_array_equal(data("u_backgroundstep.fits"), 4 * SKY)
    again = run("t_rate.fits", "u_rate.fits", *BACKGROUNDS, "--skip-existing", "--json")
    assert [one["already_done"] for one in json.loads(again.stdout)] == [True, True]


def test_skip_existing_tells_what_the_product_says(folder):
    assert run("t_rate.fits").exit_code == 3  # without backgrounds
    assert run("t_rate.fits", *BACKGROUNDS, "--skip-existing").exit_code == 3
    save(make_model(7 * SKY), folder / "u_backgroundstep.fits")
    assert run("u_rate.fits", *BACKGROUNDS, "--skip-existing").exit_code == 1


# The progress.


def in_terminal(command, folder, **settings):
    """Run a command in a terminal of 80 columns, and return all that it shows."""
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env={**without_crds(), "TERM": "xterm", "COLUMNS": "80", **settings},
    )
    os.close(terminal)
    shown, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if not select.select([control], [], [], 0.5)[0]:
            continue
        try:
            part = os.read(control, 65536)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        shown += part
    os.close(control)
    assert process.wait(10) == 0, shown.decode()
    return shown.decode()


def test_the_progress_tells_its_phases(folder):
    command = [Path(sys.executable).parent / "webbkg", "subtract", "t_rate.fits", "u_rate.fits"]
    cache = {"NUMBA_CACHE_DIR": str(folder / "machine code")}
    shown = in_terminal([*command, *BACKGROUNDS], folder, **cache)
    phases = ("reading", "compiling (first run only)", "averaging", "saving")
    places = [shown.index(f"1 of 2: t_rate.fits: {phase}") for phase in phases]
    assert places == sorted(places)
    assert "2 of 2: u_rate.fits: saving" in shown
    assert "2 targets: 2 COMPLETE" in shown
