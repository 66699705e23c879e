"""Pages in a real browser: headless Chromium, driven by Selenium; nothing is fetched for it."""

import base64
import json
import shutil
import time

import pytest

pytest.importorskip("matplotlib", reason="needs Matplotlib (extra 'report')")
pytest.importorskip("jinja2", reason="needs Jinja2 (extra 'report')")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium (extra 'browser')")

from test_report import HOSTILE, SERIES, grism, series, told  # noqa: E402
from webbkg.report import png  # noqa: E402
from webbkg.report.index import Row, small_picture, write_index  # noqa: E402
from webbkg.report.page import render  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="needs Chromium and its chromedriver (Debian: apt install chromium-driver)",
    ),
    # What Selenium leaves to the garbage collector is none of ours.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SECONDS = 4.0
"""In which a thousand targets are open, on a machine that has other things to do; about 0.5 s alone."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for one in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(one)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield opened
    opened.quit()


def look(browser, path, width, scheme="light"):
    """Open a page as a screen of a width and a colour scheme would."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    browser.get(path.as_uri())


def requests(browser):
    """Tell what was asked for since the page was opened."""
    messages = (json.loads(one["message"])["message"] for one in browser.get_log("performance"))
    sent = (one["params"] for one in messages if one["method"] == "Network.requestWillBeSent")
    return [one["request"]["url"] for one in sent if not one["request"]["url"].startswith("data:")]


def assert_nothing_overflows(browser, width):
    root = "document.documentElement"
    wide, room = browser.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    assert wide == room <= width


def color(browser, selector):
    script = "return getComputedStyle(document.querySelector(arguments[0])).color"
    return browser.execute_script(script, selector)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Write a page of each mode."""
    folder, written = tmp_path_factory.mktemp("pages"), {}
    for content in (told("image"), grism(), series(rmse=SERIES)):
        written[content.mode] = folder / f"{content.mode}.html"
        written[content.mode].write_text(render(content), "utf-8")
    return written


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("mode", ["image", "wfss", "soss"])
def test_a_page_opens_without_a_complaint_and_fetches_nothing(browser, pages, mode, width):
    path = pages[mode]
    look(browser, path, width)
    assert browser.get_log("browser") == []
    assert requests(browser) == [path.as_uri()]
    assert_nothing_overflows(browser, width)
    widths = browser.execute_script(
        "return Array.from(document.querySelectorAll('figure svg'), one => one.clientWidth)"
    )
    assert widths
    assert min(widths) > 200
    # The policy lets nothing run, whatever gets into a page.
    script = (
        "document.body.append(Object.assign(document.createElement('script'), {text: 'ran = 1'}))"
    )
    browser.execute_script(script)
    assert browser.execute_script("return typeof ran") == "undefined"
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


def test_the_ink_of_pictures_is_the_page_s_by_day_and_by_night(browser, pages):
    inks = {}
    for scheme in ("light", "dark"):
        look(browser, pages["image"], 1280, scheme)
        script = "return getComputedStyle(document.querySelector('svg text')).fill"
        inks[scheme] = browser.execute_script(script)
        assert inks[scheme] == color(browser, "body")
    assert inks["light"] != inks["dark"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Write an index of a thousand targets, every fourth of them hostile."""
    picture = small_picture(told("image").snapshot)
    folder = tmp_path_factory.mktemp("index")
    rows = [
        Row(
            target=f"{'' if i % 4 else HOSTILE}{i}_rate.fits",
            status="COMPLETE" if i % 5 else "SKIPPED",
            verdict=("good", "look", "bad")[i % 3] if i % 5 else "",
            mode=("image", "wfss")[i % 2],
            left=float("nan") if i % 7 == 0 else (i * 37) % 1000 / 100 - 5,
            page=folder / f"{i}.html",
            picture=picture,
        )
        for i in range(1000)
    ]
    return write_index(rows, folder / "webbkg_index.html")


def names(browser):
    script = (
        "return Array.from(document.querySelectorAll('tbody tr:not([hidden]) .name'), "
        "one => one.textContent)"
    )
    return browser.execute_script(script)


def press(browser, label):
    (button,) = [
        one for one in browser.find_elements("css selector", "th button") if one.text == label
    ]
    button.click()


def test_a_thousand_targets_open_at_once_and_fit_a_telephone(browser, index):
    for width in (1280, 390):
        begun = time.perf_counter()
        look(browser, index, width)
        assert time.perf_counter() - begun < SECONDS
        assert browser.get_log("browser") == []
        assert requests(browser) == [index.as_uri()]
        assert_nothing_overflows(browser, width)
    assert len(names(browser)) == 1000


def test_targets_are_sorted(browser, index):
    look(browser, index, 1280)
    press(browser, "sky left, ERR")
    script = "return Array.from(document.querySelectorAll('tbody .number:not(.more)'), one => one.dataset.value)"
    values = browser.execute_script(script)
    known = [float(one) for one in values if one]
    assert known == sorted(known)
    assert len(known) == 857
    assert set(values[857:]) == {""}
    press(browser, "sky left, ERR")
    values = browser.execute_script(script)
    assert [float(one) for one in values[:857]] == known[::-1]
    assert set(values[857:]) == {""}
    press(browser, "target")
    assert names(browser)[-3:] == ["997_rate.fits", "998_rate.fits", "999_rate.fits"]
    sorted_by = browser.execute_script("return document.querySelectorAll('[aria-sort]').length")
    assert sorted_by == 1


def test_targets_are_filtered(browser, index):
    look(browser, index, 1280)
    text = browser.find_element("id", "text")
    text.send_keys("99 RATE")
    assert len(names(browser)) == 19
    assert browser.find_element("id", "shown").text == "19 of 1000 shown"
    browser.find_element("css selector", "#judged option[value=bad]").click()
    browser.find_element("css selector", "#mode option[value=wfss]").click()
    found = names(browser)
    numbers = [
        int(one.replace(HOSTILE, "").split("_")[0]) for one in found if HOSTILE[:3] not in one
    ]
    assert numbers
    assert numbers == [i for i in range(1000) if "99" in f"{i}" and i % 3 == 2 and i % 5 and i % 2]
    text.clear()
    text.send_keys("<script>")
    assert set(names(browser)) == set()
    assert browser.get_log("browser") == []


def test_small_pictures_are_whole(browser, index):
    look(browser, index, 1280)
    script = "const one = document.images[0]; return [one.complete, one.naturalWidth, one.alt]"
    assert browser.execute_script(script) == [True, 40, ""]
    source = browser.execute_script("return document.images[0].src")
    assert source == png.as_uri(base64.b64decode(source.partition(",")[2]))
