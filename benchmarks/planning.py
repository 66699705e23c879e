"""Planning of many exposures, whole processes: ``python -m benchmarks.planning``.

The files have headers as long as those of flight exposures; their pixels are a hole in the file.
They are removed afterwards.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from astropy.io import fits

from benchmarks.measure import run_process

COUNT = 10_000
SIZE = 2048
CARDS = {"primary": 315, "science": 95}
"""Of a header of flight, some."""

DETECTORS, FILTERS, DITHERS = ("NRCA1", "NRCA2", "NRCB1", "NRCB2"), ("F115W", "F200W"), 4
FIRST, SECOND = 60, 5
"""Bars (seconds) for the first time, and for the second."""


def header(kind, cards):
    """Make a header of a usual length, with room for what the exposures differ in."""
    made = kind.header
    for word, value in cards.items():
        made[word] = (value, "as in the archive")
    for number in range(CARDS["primary" if kind.name == "PRIMARY" else "science"] - len(made)):
        made[f"FILL{number:04d}"] = (number / 7, "one of many more")
    return made.tostring()


def templates():
    """Return the bytes of a primary and of a SCI header."""
    primary = {
        "FILENAME": "FILENAME".ljust(60),
        "TELESCOP": "JWST",
        "DATAMODL": "ImageModel",
        "INSTRUME": "NIRCAM",
        "DETECTOR": "DETECTOR",
        "FILTER": "FILTER__",
        "PUPIL": "CLEAR",
        "EXP_TYPE": "NRC_IMAGE",
        "READPATT": "MEDIUM8",
        "TARGPROP": "TARGET__",
        "SUBSTRT1": 1,
        "SUBSTRT2": 1,
        "SUBSIZE1": SIZE,
        "SUBSIZE2": SIZE,
        "PROGRAM": "99999",
        "OBSERVTN": "OBS",
        "VISIT": "001",
        "VISITGRP": "02",
        "SEQ_ID": "1",
        "ACT_ID": "01",
        "EXPOSURE": "EXPOS",
        "EXPSTART": 61234.5,
        "PATTTYPE": "INTRAMODULE",
        "PATT_NUM": 1,
        "NUMDTHPT": DITHERS,
        "BKGDTARG": False,
    }
    science = {"BITPIX": -32, "NAXIS": 2, "NAXIS1": SIZE, "NAXIS2": SIZE, "BUNIT": "DN/s"}
    pointing = {"RA_V1": 10.0, "DEC_V1": 20.0, "PA_V3": 30.0}
    hdus = fits.PrimaryHDU(), fits.ImageHDU(name="SCI")
    return header(hdus[0], primary).encode(), header(hdus[1], {**science, **pointing}).encode()


def write(folder, count):
    """Write `count` exposures of one programme: observations of four dithers, filters, detectors."""
    primary, science = templates()
    for index in range(count):
        rest, detector = divmod(index, len(DETECTORS))
        rest, dither = divmod(rest, DITHERS)
        observation, optics = divmod(rest, len(FILTERS))
        name = f"jw99999{observation:03d}001_02101_{optics * DITHERS + dither + 1:05d}_"
        name += f"{DETECTORS[detector].lower()}_rate.fits"
        head = primary
        for old, new in (
            ("FILENAME".ljust(60), name.ljust(60)),
            ("DETECTOR", DETECTORS[detector].ljust(8)),
            ("FILTER__", FILTERS[optics].ljust(8)),
            ("OBS", f"{observation:03d}"),
            ("EXPOS", f"{optics * DITHERS + dither + 1:05d}"),
            ("TARGET__", f"FIELD{observation:03d}"),
        ):
            head = head.replace(f"'{old}".encode(), f"'{new}".encode(), 1)
        head, body = bytearray(head), bytearray(science)
        change(head, "PATT_NUM", dither + 1)
        change(body, "RA_V1", observation / 10 + dither * 1e-3)
        change(body, "DEC_V1", 20 + dither * 1e-3)
        with (folder / name).open("wb") as stream:
            stream.write(head + body)
            stream.truncate(len(head) + len(body) + -(-4 * SIZE**2 // 2880) * 2880)


def change(header, word, value):
    start = header.index(f"{word:<8}=".encode())
    header[start : start + 80] = f"{word:<8}= {round(value, 12):>20}".ljust(80).encode()


def bench(_, data, rounds):
    """Plan the first time, again, and without a cache; rows of the results."""
    folder = Path(tempfile.mkdtemp(prefix="webbkg-plan-", dir=Path(data).parent))
    try:
        (folder / "data").mkdir()
        write(folder / "data", COUNT)
        cases = {"first": [], "second": [], "without a cache": []}
        for _ in range(min(rounds, 3)):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            for case, runs in cases.items():
                more = ["--no-cache"] if "without" in case else []
                command = [sys.executable, "-m", "webbkg.cli", "plan", "data", "-q", *more]
                root = str(Path(__file__).parents[1] / "src")
                environment = {"WEBBKG_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": root}
                runs.append(run_process(command, folder, environment))
        return [row(case, runs) for case, runs in cases.items()]
    finally:
        shutil.rmtree(folder)


def row(case, runs):
    bar = {"first": FIRST, "second": SECOND}.get(case)
    return {
        "10 000 headers": case,
        "seconds": f"{statistics.median(one.seconds for one in runs):.2f}",
        "CPU (s)": f"{statistics.median(one.cpu for one in runs):.2f}",
        "peak (MB)": f"{statistics.median(one.peak for one in runs):.0f}",
        "read (MB)": f"{statistics.median(one.read for one in runs):.0f}",
        "bar (s)": "—" if bar is None else f"≤ {bar}",
    }


if __name__ == "__main__":
    from benchmarks.run import table

    print(table(bench("whole", Path(tempfile.gettempdir()) / "webbkg-bench", 1)))
