"""What reports cost beyond the run, and a large index: ``python -m benchmarks.reports``.

Whole processes with and without ``--save-report``, in turn, on simulated exposures; CPU seconds, since a report
is made by one thread, beside wall-clock seconds. The index is opened in headless Chromium where Selenium
and chromedriver are there.
"""

import argparse
import math
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.run import table

TARGETS = 1000

BARS = "≤ 2 s, ≤ 300 MB"


def write_data(folder):
    """Simulate a target of each mode, 2048 x 2048 or 256 x 2048, unless they are there."""
    from webbkg.simulate import imaging, soss, wfss
    from webbkg.simulate.grism_scene import NIRCAM_R

    folder = Path(folder)
    if (folder / "done").exists():
        return
    scene = imaging.ImagingScene()
    imaging.write_set(folder / "image", scene, 1, imaging.plan_imaging_set(scene, n_backgrounds=5))
    wfss.write_field(folder / "wfss", wfss.observe(wfss.draw_field(NIRCAM_R, 1)))
    shown = soss.draw_field(seed=1)
    soss.write_series(folder / "soss", soss.draw_series(shown, 12), segments=1)
    (folder / "done").touch()


def commands(folder):
    """Name the run of each mode: its folder, and the command's arguments."""
    target, *backgrounds = sorted(one.name for one in (folder / "image").glob("*_rate.fits"))
    grism = ["--override-bkg", "bkg.fits", "--override-wavelengthrange", "wavelengthrange.asdf"]
    series = [one.name for one in (folder / "soss").glob("*_rateints.fits")]
    return {
        "image, 2048², 5 backgrounds": (folder / "image", [target, "-b", *backgrounds]),
        "grism, 2048²": (folder / "wfss", ["asn.json", *grism]),
        "SOSS, 12 × 256 × 2048": (folder / "soss", [*series, "--override-bkg", "bkg.fits"]),
    }


def bench_pages(folder, rounds):
    """Measure each mode without and with a report."""
    rows = []
    for case, (where, arguments) in commands(folder).items():
        plain = [measure.BIN / "webbkg", "subtract", *arguments, "--quiet", "-o", "."]
        ways = {"without": (plain, None), "with": ([*plain, "--save-report"], None)}
        runs = measure.alternate_processes(ways, where, rounds)
        more = {
            what: median(getattr(one, what) for one in runs["with"])
            - median(getattr(one, what) for one in runs["without"])
            for what in ("seconds", "cpu", "peak")
        }
        rows.append(
            {
                "case": case,
                "run (s)": f"{median(one.seconds for one in runs['without']):.2f}",
                "report, wall (s)": f"{more['seconds']:.2f}",
                "report, CPU (s)": f"{more['cpu']:.2f}",
                "report, peak (MB)": f"{more['peak']:.0f}",
                "bar": BARS,
            }
        )
    return rows


def bench_index(rounds):
    """Write an index of a thousand targets, and open it."""
    import numpy as np

    from webbkg.report.index import Row, small_picture, write_index
    from webbkg.report.snapshot import Snapshot, shrink

    rng = np.random.default_rng(1)
    plane = rng.normal(1, 0.1, (2048, 2048)).astype(np.float32)
    picture = small_picture(Snapshot(before=shrink(plane)))
    rows = [
        Row(
            target=f"jw{i:011d}_02101_00001_nrcalong_rate.fits",
            status="COMPLETE",
            verdict=("good", "look", "bad")[i % 3],
            mode="image",
            seen_with="NIRCAM NRCALONG, F356W / CLEAR",
            left=math.sin(i),
            reason="the sky that is left is +0.3 ERR, +3 % of the background" if i % 3 else "",
            page=Path(f"{i}.html"),
            picture=picture,
        )
        for i in range(TARGETS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.html"
        seconds = measure.alternate({"write": lambda: write_index(rows, path)}, rounds)["write"]
        return [
            {
                "case": f"index of {TARGETS} targets",
                "written (s)": f"{median(seconds):.2f}",
                "size (MB)": f"{path.stat().st_size / 1e6:.1f}",
                "opened in Chromium (s)": _opened(path, rounds),
                "bar": "about 1 s",
            }
        ]


def _opened(path, rounds):
    """Time a page from its request to the end of its layout; in words where no browser is there."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        driver = None
    if browser is None or driver is None:
        return "no browser"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for one in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(one)
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    seconds = []
    try:
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            opened.get(path.as_uri())
            opened.execute_script("return document.body.offsetHeight")
            seconds.append(time.perf_counter() - begun)
    finally:
        opened.quit()
    return f"{median(seconds[1:]):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "webbkg-bench")
    options = parser.parse_args()
    folder = options.data / "reports"
    measure.apart("reports", "write_data", folder)
    print(table(bench_pages(folder, options.rounds)))
    print()
    print(table(bench_index(options.rounds)))


if __name__ == "__main__":
    main()
