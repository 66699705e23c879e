"""Pages of a subtraction: complete, strict, escaped, and never at a product's cost."""

import io
import logging
import pickle
import re
import sys
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
from webbkg.report import drawing, png
from webbkg.report.content import Content
from webbkg.report.index import INDEX_NAME, Row, write_index
from webbkg.report.page import render
from webbkg.report.snapshot import Profile, Snapshot, shrink

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
    assert "matplotlib.pyplot" not in sys.modules
