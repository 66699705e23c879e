"""Pages of a subtraction: complete, strict, escaped, and never at a product's cost."""

import io
import logging
import pickle
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import webbkg
from factories import make_model, save
from test_subtraction import BACKGROUNDS, SKY, folder  # noqa: F401 - a fixture
from webbkg.cli import main
from webbkg.errors import MissingExtraError, OutputError
from webbkg.files.models import open_model
from webbkg.numerics.planes import ArrayPlanes
from webbkg.report import drawing, png
from webbkg.report.afterwards import _difference
from webbkg.report.content import Content
from webbkg.report.index import INDEX_NAME, Row, write_index
from webbkg.report.page import render
from webbkg.report.snapshot import Profile, Sides, Snapshot, Times, shrink, take
from webbkg.results import Outcome, Status

pytest.importorskip("matplotlib", reason="needs Matplotlib (extra 'report')")
pytest.importorskip("jinja2", reason="needs Jinja2 (extra 'report')")

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>$\\frac$\x1b[31m'

SHORT = "<script>$x<b>"
"""The like for what must fit in a card."""


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.text += text

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_strict(text):
    """Nothing is fetched, nothing runs, nothing has a style that the policy does not allow."""
    page = Page(text)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "style" not in attributes, (tag, attributes)
        for name in ("src", "href", "xlink:href", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#", "./")), (tag, target)
    (policy,) = [one["content"] for one in page.find("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "unsafe" not in policy
    return page


def told_page(path):
    return check_strict(path.read_text("utf-8"))


def subtract_command(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["subtract", *arguments])
    return left.value.code


REPORT = "t_backgroundstep_report.html"


def test_a_page_is_written_beside_the_product_with_all_that_it_promises(folder, capsys):  # noqa: F811
    assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS, "--report", "-o", "out") == 0
    assert re.search(rf"report +out/{REPORT}", capsys.readouterr().out)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "t_backgroundstep.fits",
        REPORT,
    ]
    page = told_page(Path("out", REPORT))
    assert page.find("script") == []
    assert page.find("h1")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", Path("out", REPORT).read_text())
    wanted = ("Before", "Background that", "After: the product", "by row", "by column", "ERR")
    for beginning in (
        *wanted,
        "Samples that each pixel",
        "Level of the sky of each",
        "Each metric",
    ):
        assert any(beginning in one for one in captions), beginning
    for told in ("dq_threshold", "numpy", "sky level", "b2_rate.fits", " - webbkg.", "COMPLETE"):
        assert told in page.text
    alts = [one["aria-label"] for one in page.find("div") if one.get("role") == "img"]
    assert len(alts) == len(captions) == len(page.find("svg"))
    assert all(len(one) > 20 for one in alts)


def test_what_files_say_injects_nothing(folder, capsys):  # noqa: F811
    name = f"{HOSTILE.replace('/', '').replace('[', '')}_rate.fits"
    model = make_model(3 * SKY)
    save(model, folder / "plain_rate.fits")
    with fits.open("plain_rate.fits", mode="update") as opened:
        opened[0].header["EXPOSURE"] = opened[1].header["BUNIT"] = SHORT
    Path("plain_rate.fits").rename(name)
    for other in BACKGROUNDS:
        with fits.open(other, mode="update") as opened:
            opened[1].header["BUNIT"] = SHORT
    renamed = f"<b onclick=alert(1)>{BACKGROUNDS[0]}"
    Path(BACKGROUNDS[0]).rename(renamed)
    code = subtract_command(name, "-b", renamed, BACKGROUNDS[1], "--report", "-o", "out")
    assert code == 0, capsys.readouterr().err
    (path,) = Path("out").glob("*_report.html")
    page = told_page(path)
    assert page.find("script") == page.find("img") == page.find("b") == []
    assert "<script>alert(1)" in page.text
    assert "\x1b" not in path.read_text("utf-8")
    assert "\\x1b" in page.text
    write_index([Row(target=HOSTILE, status=HOSTILE, reason=HOSTILE, page=path)], "index.html")
    index = told_page(Path("index.html"))
    assert len(index.find("script")) == 1
    assert [one["href"].count("%3C") for one in index.find("a")]
    assert "\x1b" not in Path("index.html").read_text("utf-8")


@pytest.mark.parametrize("lazy", [True, False])
def test_the_step_and_the_call_write_it_too_and_the_product_is_the_same(folder, lazy):  # noqa: F811
    step = webbkg.BackgroundStep(sigma=2.0, save_results=True, save_report=True)
    step.lazy_results = lazy
    result = step.run("t_rate.fits", BACKGROUNDS)
    assert "2.0" in told_page(Path(REPORT)).text
    Path(REPORT).unlink()
    done = webbkg.subtract("t_rate.fits", BACKGROUNDS, sigma=2.0, save_report=True)
    assert told_page(Path(REPORT)).find("svg")
    assert done.path is None
    assert done.report == Path(REPORT)
    assert REPORT in done._repr_html_()
    plain = webbkg.subtract("t_rate.fits", BACKGROUNDS, sigma=2.0)
    for plane in ("data", "err", "dq"):
        np.testing.assert_array_equal(getattr(done.product, plane), getattr(plain.product, plane))
        np.testing.assert_array_equal(getattr(result, plane), getattr(plain.product, plane))


def test_nothing_is_done_where_the_extra_is_missing(folder, monkeypatch, capsys):  # noqa: F811
    before = sorted(folder.iterdir())
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"needs jinja2: pip install 'webbkg\[report\]'"):
        webbkg.subtract("t_rate.fits", BACKGROUNDS, save_report=True, output_dir=".")
    with pytest.raises(MissingExtraError, match="jinja2"):
        webbkg.BackgroundStep.call("t_rate.fits", BACKGROUNDS, save_report=True)
    assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS, "--report") == 1
    assert "leave out --save-report" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("part", ["render", "take"])
def test_a_report_that_fails_is_a_warning_and_the_product_stays(folder, monkeypatch, caplog, part):  # noqa: F811
    def fail(*_):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(f"webbkg.reporting.{part}", fail)
    with caplog.at_level(logging.WARNING, "webbkg"):
        done = webbkg.subtract("t_rate.fits", BACKGROUNDS, save_report=True, output_dir=".")
    assert "on purpose" in caplog.text
    assert done.path.exists()
    np.testing.assert_allclose(done.product.data, 1.5 * SKY, rtol=1e-6)
    assert Path(REPORT).exists() == (part == "take")
    if part == "take":
        assert "The pictures" in told_page(Path(REPORT)).text


def test_a_file_that_is_no_page_of_ours_is_not_written_over(folder, capsys):  # noqa: F811
    Path(REPORT).write_text("<p>my notes</p>")
    assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS, "--report") == 1
    assert f"{REPORT}: is there already" in capsys.readouterr().err
    assert not Path("t_backgroundstep.fits").exists()
    assert Path(REPORT).read_text() == "<p>my notes</p>"
    with pytest.raises(OutputError, match="no report of webbkg's"):
        write_index([], REPORT)
    Path(REPORT).unlink()
    for _ in range(2):  # its own page gives way
        assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS, "--report", "-q") == 0


def test_what_was_skipped_has_a_page_that_says_why(folder):  # noqa: F811
    done = webbkg.subtract("t_rate.fits", save_report=True)
    assert done.status == "SKIPPED"
    page = told_page(Path(REPORT))
    assert "no background exposures were given" in page.text
    assert len(page.find("svg")) == 1


def test_a_grism_exposure_that_failed_shows_its_mask(tmp_path):
    sky = np.zeros((16, 24), np.bool_)
    sky[:2] = True
    planes = ArrayPlanes.of(SCI=np.ones(sky.shape, np.float32))
    shot = take(planes, Outcome(status=Status.FAILED, reason="too little sky", sky_mask=sky))
    assert shot.after is None
    text = render(replace(grism(), snapshot=shot, status="FAILED", reason="too little sky"))
    assert "12.5 % are sky" in text
    assert "too little sky" in check_strict(text).text


def test_several_targets_get_an_index(folder, capsys):  # noqa: F811
    save(make_model(4 * SKY), folder / "u_rate.fits")
    targets = ["t_rate.fits", "u_rate.fits", "missing_rate.fits"]
    assert subtract_command(*targets, "-b", *BACKGROUNDS, "--report", "-o", "out") == 1
    assert f"index: out/{INDEX_NAME}" in capsys.readouterr().out
    index = told_page(Path("out", INDEX_NAME))
    assert [one["href"] for one in index.find("a")] == [
        "./t_backgroundstep_report.html",
        "./u_backgroundstep_report.html",
    ]
    assert len(index.find("img")) == 2
    assert "missing_rate.fits" in index.text
    assert "ERROR" in index.text


def test_rows_travel_and_numbers_that_are_unknown_are_empty(tmp_path):
    row = Row(target="t", status="FAILED", left=0.25, page=tmp_path / "far" / "a b.html")
    assert repr(pickle.loads(pickle.dumps(row))) == repr(row)
    page = check_strict(write_index([row], tmp_path / "near.html").read_text())
    assert page.find("a") == [{"href": "./far/a%20b.html"}]
    values = [one["data-value"] for one in page.find("td") if "number" in one.get("class", "")]
    assert values == ["0.25", "", "", ""]


def test_pictures_of_few_colours_are_written_small_and_come_back():
    from PIL import Image

    index = np.arange(12, dtype=np.uint8).reshape(3, 4) % 5
    colors = np.array([[i, 2 * i, 255 - i, 255 - 50 * i] for i in range(5)], np.uint8)
    image = png.encode(index, colors)
    with Image.open(io.BytesIO(image)) as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("RGBA")), colors[index])
    with Image.open(io.BytesIO(png.with_palette(image))) as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("RGBA")), colors[index])


def test_drawing_leaves_no_trace_and_is_the_same_twice():
    import matplotlib

    names = (*drawing.STYLE, "svg.hashsalt")
    before = [matplotlib.rcParams[name] for name in names]
    modules = {*sys.modules}
    shot = Snapshot(
        before=shrink(np.arange(24.0).reshape(4, 6)),
        rows=Profile(place=np.arange(3.0), value=np.arange(3.0), error=np.ones(3)),
    )
    content = Content(target="t", status="COMPLETE", snapshot=shot, unit="$x_1$")
    one = render(content)
    assert one == render(content)
    assert "$x_1$" in one
    assert [matplotlib.rcParams[name] for name in names] == before
    assert drawing.INK not in one
    assert "matplotlib.pyplot" not in {*sys.modules} - modules


def told(mode, **numbers):
    """Make what a page tells of a mode, some of it unknown."""
    rng = np.random.default_rng(5)
    plane = rng.normal(1, 0.1, (64, 640) if mode == "soss" else (64, 80)).astype(np.float32)
    plane[3] = np.nan
    sides = Sides(place=np.arange(8.0), before=np.ones(8), background=np.ones(8), jump=(3, 4))
    times = Times(integration=np.arange(1.0, 4), scale=np.ones(3), error=np.full(3, 0.1))
    values = {
        "sky_level": {"value": 0.3, "error": 0.01, "unit": "ERR", "share": 0.03, "grade": "look"},
        "scatter": {"value": "nan", "grade": "good"},
        "of_a_later_version": {"value": 1.0, "grade": "good"},
    }
    return Content(
        target=f"{mode}_rate.fits",
        status="COMPLETE",
        unit="DN/s",
        told={
            "mode": mode,
            "metrics": {"verdict": "look", "reasons": [HOSTILE], "level": 0.1, "values": values},
            **numbers,
        },
        snapshot=Snapshot(
            before=shrink(plane),
            background=shrink(np.ones_like(plane)),
            after=shrink(plane - 1),
            sky=shrink(plane > 0.9) if mode == "wfss" else None,
            sides=sides if mode == "soss" else None,
        ),
        times={"seg001": times, "seg002": times} if mode == "soss" else {},
        log=(HOSTILE,),
    )


def grism():
    iterations = [
        {"offered": 100, "rejected": 0, "scale": 0.9, "rms": "nan"},
        {"offered": 100, "rejected": 3, "scale": 0.91, "rms": 0.1},
    ]
    numbers = {"scale": 0.91, "scale_err": 0.01, "mask": HOSTILE, "mask_sources": 3}
    return told("wfss", iterations=iterations, **numbers)


def series(**numbers):
    side = {"scale": 1.0, "scale_err": 0.1, "rmse": 0.2, "n_sky": 5}
    return told("soss", template=1, left=side, right=side, **numbers)


KNOTS = [{"hour": hour, "scales": [1.0, 1.1], "errors": [0.1, "nan"]} for hour in (0.0, 1.5, 3.0)]
SERIES = [[0.3, 0.4], [0.2, 0.1], ["nan", 0.5]]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (grism(), ["the traces of 3 sources", "Scale of the template by iteration"]),
        (
            series(rmse=SERIES),
            ["RMSE of each template", "two sides of the jump", "each integration"],
        ),
        (series(log_likelihood=[-3.0, 0.0]), ["Log-likelihood of each template"]),
        (series(time={"knots": KNOTS}), ["Change of the scales in time"]),
        (told("soss", template="None", left="None", rmse=[]), ["each integration"]),
        (told("image", backgrounds=["b"], background_levels=["nan"]), ["Level of the sky"]),
        (told("of_a_later_version"), []),
    ],
)
def test_each_mode_has_its_pictures_and_what_is_unknown_is_left_out(content, wanted):
    text = render(content)
    page = check_strict(text)
    assert page.find("script") == []
    found = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    for caption in wanted:
        assert any(caption in one for one in found), caption
    assert "<script>alert(1)" in page.text
    assert "later version" not in page.text


# Afterwards.


def test_the_sky_of_a_cube_may_differ_from_integration_to_integration_afterwards():
    rng = np.random.default_rng(2)
    before = rng.normal(10, 1, (3, 16, 24)).astype(np.float32)
    sky = np.array([1.0, 2.0, 4.0], np.float32)[:, np.newaxis, np.newaxis] * np.float32(0.5)
    planes = [
        ArrayPlanes.of(SCI=one, DQ=np.zeros(one.shape, np.uint32)) for one in (before, before - sky)
    ]
    found = _difference(*planes, Content(target="t", status="COMPLETE"), None)
    np.testing.assert_allclose(found.sky(2, slice(3, 9)), 2.0, atol=1e-5)
    np.testing.assert_allclose(found.sky(1, np.array([1, 5])), np.full((2, 24), 1.0), atol=1e-5)
    np.testing.assert_allclose(found.sci, 0.5, atol=1e-5)


def report_command(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["report", *arguments])
    return left.value.code


def captions(path):
    return re.findall(r"<figcaption>(.*?)</figcaption>", path.read_text())


def pictures(path):
    return re.findall(r'href="data:image/png;base64,([^"]*)"', path.read_text())


def test_a_page_made_afterwards_has_the_pictures_of_the_run(folder, capsys):  # noqa: F811
    given = ["t_rate.fits", "-b", *BACKGROUNDS, "--report", "--save-combined-background"]
    assert subtract_command(*given) == 0
    wanted = captions(Path(REPORT)), pictures(Path(REPORT))
    told_page(Path(REPORT))
    Path(REPORT).unlink()
    assert report_command("t_backgroundstep.fits") == 0
    assert f"report                {REPORT}" in capsys.readouterr().out
    page = told_page(Path(REPORT))
    assert (captions(Path(REPORT)), pictures(Path(REPORT))) == wanted
    assert " - webbkg." in page.text
    assert "Not on this page" not in page.text


def test_a_page_made_afterwards_says_what_it_lacks(folder, capsys):  # noqa: F811
    assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS, "-o", "out") == 0
    Path("far").mkdir()
    for name in ("t_rate.fits", BACKGROUNDS[0]):
        Path(name).rename(Path("far", name))
    product = "out/t_backgroundstep.fits"
    assert report_command(product) == 0
    assert "t_rate.fits, is not found; name it, --input" in told_page(Path("out", REPORT)).text
    assert report_command(product, "--input", "far/t_rate.fits", "-o", "pages") == 0
    page = told_page(Path("pages", REPORT))
    assert f"The sky of {BACKGROUNDS[0]}: the file is not found" in page.text
    assert "save_combined_background" in page.text
    assert len(page.find("svg")) == 9
    assert report_command(product, "--input", "far") == 0
    assert "is not found" not in told_page(Path("out", REPORT)).text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"metrics": "none"}, "cannot be shown"),
        ({"mode": "wfss", "iterations": [1, 2]}, "cannot be shown"),
        ({"mode": "soss", "time": {"knots": [{}]}}, "cannot be shown"),
        ({"backgrounds": 5}, "cannot be shown"),
        ({"target": "../far/t_rate.fits"}, ""),
        ({"backgrounds": [{"a": HOSTILE}], "version": HOSTILE}, ""),
    ],
)
def test_a_product_that_tells_nonsense_is_told_and_no_more(folder, capsys, change, fault):  # noqa: F811
    done = webbkg.subtract("t_rate.fits", BACKGROUNDS)
    done.product.meta.background.webbkg = {**webbkg.describe(done.product), **change}
    done.product.save("t_backgroundstep.fits")
    code = report_command("t_backgroundstep.fits")
    told = capsys.readouterr()
    if fault == "cannot be shown":
        assert code == 1
        assert f"t_backgroundstep.fits: what it says of its subtraction {fault}" in told.err
        assert not Path(REPORT).exists()
        return
    assert code == 0, told.err
    page = told_page(Path(REPORT))
    assert page.find("script") == []
    assert fault in page.text


def test_a_product_that_was_worked_on_since_has_no_pictures(folder, capsys):  # noqa: F811
    assert subtract_command("t_rate.fits", "-b", *BACKGROUNDS) == 0
    with open_model("t_backgroundstep.fits") as model:
        model.meta.cal_step.flat_field = "COMPLETE"
        model.save("t_flat.fits")
    Path("notes_rate.fits").write_text("no product")
    assert report_command("t_flat.fits", "t_rate.fits", "notes_rate.fits", "-q") == 1
    assert "worked on since (flat_field)" in told_page(Path("t_flat_report.html")).text
    told = capsys.readouterr().err
    assert "t_rate.fits: says nothing of a subtraction" in told
    assert "notes_rate.fits" in told
    assert not Path("t_rate_report.html").exists()
    index = told_page(Path(INDEX_NAME))
    assert [one["href"] for one in index.find("a")] == ["./t_flat_report.html"]
    assert index.text.count("\nERROR") == 3
