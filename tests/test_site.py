"""The built pages, as a reader meets them; `make docs` makes them, and no test does."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "_build" / "html"
NARROW = 390

PAGES = [
    "index",
    "install",
    "api",
    "usage",
    "soss_recovery",
    "masking",
    "pipeline",
    "architecture",
    "changes",
    "tutorials/image tutorials/wfss tutorials/soss tutorials/programme questions _api/webbkg.subtract",
    "_api/webbkg.TemplateFit",
    "_api/webbkg.simulate.soss.SossScene",
]
"""One of each kind: long tables, long lines of code, long names."""


@pytest.fixture(scope="module")
def site():
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.py")]
    built = SITE / "index.html"
    if not built.exists():
        pytest.skip("the pages are not built: make docs")
    if (SITE / "searchindex.js").stat().st_mtime < max(one.stat().st_mtime for one in sources):
        pytest.skip("the pages are older than their sources: make docs")
    return SITE


def test_signatures_show_neither_factories_nor_addresses(site):
    pages = list((site / "_api").glob("*.html"))
    assert len(pages) > 60
    wrong = re.compile(r"&lt;factory&gt;|&lt;lambda&gt;|<em[^>]*>[^<]* at 0x")
    assert not [page.name for page in pages if wrong.search(page.read_text())]


def test_every_function_and_class_links_to_its_source(site):
    for page in (site / "_api").glob("*.html"):
        text = page.read_text()
        if 'class="sig sig-object' in text:
            assert 'href="../_modules/webbkg/' in text, page.name


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    chromium, driver = map(shutil.which, ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("Chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    started = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield started
    started.quit()


WIDTHS = """
const wide = e => e.getBoundingClientRect().right > innerWidth + 1;
const scrolls = e => e && (getComputedStyle(e).overflowX != 'visible' || scrolls(e.parentElement));
return {page: document.documentElement.scrollWidth, window: innerWidth,
        hidden: [...document.querySelectorAll('article table, article pre')]
            .filter(e => wide(e) && !scrolls(e)).length};
"""


def test_nothing_is_wider_than_a_telephone(site, browser):
    size = {"width": NARROW, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page in PAGES:
        browser.get((site / f"{page}.html").as_uri())
        told = browser.execute_script(WIDTHS)
        assert told == {"page": NARROW, "window": NARROW, "hidden": 0}, page


def test_code_can_be_copied(site, browser):
    browser.get((site / "index.html").as_uri())
    blocks = browser.find_elements("css selector", "article div.highlight pre")
    assert len(browser.find_elements("css selector", "article button.copybtn")) == len(blocks) > 1
