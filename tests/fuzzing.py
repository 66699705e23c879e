"""The fuzzer: seeded damage to every kind of file, run through the public ways.

A case is a number: `python tests/fuzzing.py --seed N` runs it again, `--count`, as many from there on.
It fails on an exception that is no WebbkgError, a hang (20 s of computing), 1 GB more memory, a file that is
left over, a product that is not whole, or a good target that a bad one stopped.
"""

import argparse
import atexit
import contextlib
import gc
import gzip
import io
import logging
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from functools import cache
from pathlib import Path

HANG_SECONDS, WAIT_SECONDS = 20, 200
"""Of processor time, and of the clock: a busy machine is no hang."""
MOST_MEMORY = 2**30

WORDS = (
    "0", "1", "-1", "2", "T", "F", "null", "~", "nan", ".inf", "-.inf", "1e400", "1e30", "-0.5",
    "2147483648", "9223372036854775807", "99999999999999999999999", "9" * 5000, "''", "'text'",
    "[]", "{}", "[1, 2]", "{a: b}", "*a", "&a", "<<: *a", "!x", "!!python/object:os.system", "\t",
    "{$ref: other.asdf#/a}", "{$ref: 'file:///dev/zero'}", "/dev/zero", "../../..", "~nobody/x",
    "a\0b", "x" * 300, "é", "\x1b[31m", "[red]", "2024-01-01", "%YAML", "---", "...", "|", ">",
    "!core/ndarray-1.1.0 {source: 0, shape: [99999999, 99999], datatype: float64}",
    "!core/ndarray-1.1.0 {source: x.asdf, shape: [2], datatype: float64}",
    "!core/ndarray-1.1.0 {source: 'fits:SCI,9', shape: [2], datatype: int8}",
    "!unit/quantity-1.2.0 {unit: !unit/unit-1.0.0 m, value: a}", "!core/complex-1.0.0 x",
    "!transform/shift-1.2.0 {offset: x}", "!<tag:stsci.edu:gwcs/wcs-1.0.0> {name: a, steps: []}",
    "{" * 3000, "[" * 100_000, "- " * 2000, "true", "F356W", "image", "string", "float64",
)  # fmt: skip
"""What is put in the place of a value."""

KEYWORDS = (
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT",
    "TFIELDS", "TFORM1", "TDIM1", "EXTNAME", "EXTVER", "BSCALE", "BZERO", "BLANK", "ZIMAGE",
    "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZCMPTYPE", "ZVAL1", "THEAP",
    "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2", "GWA_XTIL", "GWA_YTIL", "EXP_TYPE",
    "INSTRUME", "DETECTOR", "FILTER", "PUPIL", "GRATING", "DATAMODL", "FILENAME", "S_BKDSUB",
    "DISPAXIS", "SCATFILE", "R_BKG", "DATE", "TELESCOP", "EXPOSURE", "BUNIT", "REFTYPE", "END",
)  # fmt: skip
CARD_VALUES = (
    "T", "F", "'text'", "''", "-1", "0", "1", "7", "1.5", "1E400", "NaN", "99999", "2000000000",
    "99999999999999999999", "9223372036854775807", "", "'unclosed", "(1, 2)", "'a' 'b'", "-32",
    "'NRC_WFSS'", "'NIS_SOSS'", "'COMPLETE'", "'../../x.fits'", "'/tmp/x'", "'IMAGE   '",
    "'BINTABLE'", "'CubeModel'", "'MultiSlitModel'", "'NoModel'", "'999999999B'", "'1PE(9)'",
    "'NIRSPEC'", "'MIRI'", "\x07", "\xe9",
)  # fmt: skip


# Damage to bytes and texts


def damage_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 60))):
        at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(400)
        what = rng.randrange(6)
        if what == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            data[at : at + rng.randrange(3000)] = b""
        elif what == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 3000))
        elif what == 3:
            data = data[:at] if rng.random() < 0.3 else data
        elif what == 4:
            other = rng.randrange(len(data) + 1)
            data[at : at + 2880] = data[other : other + 2880]
        else:
            data[at : at + 8] = struct.pack(">q", rng.choice((-1, 2**31, 2**40, 2**62, 0)))
    return bytes(data)


def damage_text(rng, text):
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        what = rng.randrange(9)
        if what == 0:
            del lines[at]
        elif what == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif what == 2:
            lines[at] = " " * rng.randrange(9) + lines[at]
        elif what == 3:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        elif what == 4 and rng.random() < 0.3:
            lines[at : at + 1] = [*bomb(rng, re.match(r"[#\s]*", lines[at])[0]), lines[at]]
        else:
            tokens = list(re.finditer(r"[^\s:,\[\]{}\"']+", lines[at]))
            if tokens:
                token = rng.choice(tokens)
                lines[at] = (
                    lines[at][: token.start()] + rng.choice(WORDS) + lines[at][token.end() :]
                )
        text = "\n".join(lines)
    return text


def bomb(rng, indent):
    """Aliases that expand a thousand million times."""
    width = rng.choice((10, 30))
    yield f"{indent}b0: &b0 [{', '.join(['x'] * width)}]"
    for level in range(1, rng.choice((2, 6, 9))):
        yield f"{indent}b{level}: &b{level} [{', '.join([f'*b{level - 1}'] * width)}]"


# Damage to FITS


def damage_card(rng, data):
    """Change, add, repeat or remove a card of any header."""
    cards = [
        at
        for at in range(0, len(data) - 79, 80)
        if re.match(rb"[A-Z0-9_-]{1,8} *(=|$|HISTORY)", data[at : at + 80])
    ]
    at = rng.choice(cards)
    if rng.random() < 0.6:
        keyword = rng.choice(KEYWORDS).encode()
        at = rng.choice([one for one in cards if data[one : one + 8].rstrip() == keyword] or [at])
    keyword = data[at : at + 8]
    what = rng.randrange(8)
    if what == 0:
        card = b" " * 80
    elif what == 1:
        card = rng.choice(KEYWORDS).encode().ljust(8) + data[at + 8 : at + 80]
    elif what == 2:
        card = rng.randbytes(80)
    elif what == 3:
        card = data[at : at + 80].lower()
    else:
        card = (keyword + b"= " + rng.choice(CARD_VALUES).rjust(20).encode("latin-1")).ljust(80)
    return data[:at] + card[:80] + data[at + 80 :]


def damage_hdus(rng, data):
    """Change the structure: leave out, repeat or move a part, or give a plane another form."""
    import numpy as np
    from astropy.io import fits

    hdus = fits.open(io.BytesIO(data), memmap=False)
    index = rng.randrange(len(hdus))
    hdu = hdus[index]
    what = rng.randrange(6)
    if what == 0 and index:
        del hdus[index]
    elif what == 1:
        hdus.insert(rng.randrange(1, len(hdus) + 1), fits.ImageHDU(hdu.data, name="SCI"))
    elif what == 2 and hdu.data is not None and hdu.is_image:
        form = rng.choice(("i2", "i4", "i8", "f8", "u1", "f4", "u2"))
        with np.errstate(all="ignore"):
            hdu.data = hdu.data.astype(form)
    elif what == 3 and hdu.data is not None and hdu.is_image:
        shape = rng.choice(((0, 0), (5,), (1, 1, 1, 4), (3, 0), (600,), (1, 20, 30), (2, 20, 30)))
        hdu.data = np.resize(hdu.data, shape)
    elif what == 4 and index and hdu.data is not None and hdu.is_image and hdu.data.ndim == 2:
        compression = rng.choice(("RICE_1", "GZIP_1"))
        hdus[index] = fits.CompImageHDU(hdu.data, hdu.header, compression_type=compression)
    elif index and hdu.is_image and hdu.data is not None:
        values = rng.choice((np.nan, np.inf, -np.inf, 0, 1e38, -1))
        with np.errstate(all="ignore"):
            hdu.data[..., rng.randrange(hdu.data.shape[-1]) :] = values
    out = io.BytesIO()
    hdus.writeto(out, output_verify="ignore")
    return out.getvalue()


def damage_extension(rng, data):
    """Damage the ASDF extension, and tell its new length."""
    from astropy.io import fits

    hdus = fits.open(io.BytesIO(data), memmap=False)
    raw = hdus["ASDF"].data.tobytes()
    hdus["ASDF"] = fits.BinTableHDU(asdf_table(damage_asdf(rng, raw)), name="ASDF")
    out = io.BytesIO()
    hdus.writeto(out, output_verify="ignore")
    return out.getvalue()


def asdf_table(raw):
    import numpy as np
    from astropy.io import fits

    column = np.array([(np.frombuffer(raw, "u1"),)], [("ASDF_METADATA", "u1", (len(raw),))])
    return fits.FITS_rec.from_columns(fits.BinTableHDU(column).columns)


def damage_asdf(rng, data):
    tree, end, blocks = data.partition(b"\n...\n")
    if rng.random() < 0.2:
        return damage_bytes(rng, data)
    if blocks and rng.random() < 0.2:
        return tree + end + damage_bytes(rng, blocks)
    return damage_text(rng, tree.decode("latin-1")).encode("latin-1", "replace") + end + blocks


def damage_fits(rng, data):
    packed = data[:2] == b"\x1f\x8b"
    data = gzip.decompress(data) if packed else data
    ways = [damage_card, damage_card, damage_card, damage_bytes, damage_hdus]
    if b"'ASDF    '" in data:
        ways += [damage_extension, damage_extension]
    for _ in range(rng.choice((1, 1, 2))):
        with contextlib.suppress(Exception):  # the first damage may make the second impossible
            data = rng.choice(ways)(rng, data)
    if not packed:
        return data
    data = gzip.compress(data + bytes(rng.choice((0, 0, 2**24))), 1)
    return damage_bytes(rng, data) if rng.random() < 0.4 else data


DAMAGE = {
    ".fits": damage_fits,
    ".gz": damage_fits,
    ".asdf": damage_asdf,
    ".npy": damage_bytes,
}


def damage(rng, path):
    data = path.read_bytes()
    if path.name.endswith(".ecsv.gz"):
        data = gzip.decompress(data)
        data = damage_text(rng, data.decode()).encode("utf-8", "surrogateescape")
        path.write_bytes(
            damage_bytes(rng, gzip.compress(data)) if rng.random() < 0.3 else gzip.compress(data)
        )
    elif path.suffix in DAMAGE:
        path.write_bytes(DAMAGE[path.suffix](rng, data))
    elif rng.random() < 0.15:
        path.write_bytes(damage_bytes(rng, data))
    else:
        path.write_bytes(damage_text(rng, data.decode()).encode("utf-8", "surrogateescape"))


def replace_by_special(rng, path):
    """Put a folder, a pipe, a device or nothing in the place of a file."""
    path.unlink()
    what = rng.randrange(6)
    if what == 0:
        path.mkdir()
    elif what == 1:
        os.mkfifo(path)
    elif what == 2:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/stdin", "nowhere", path.name)))
    elif what == 3:
        path.touch()
    elif what == 4:
        path.write_bytes(rng.randbytes(5000))


# Runs


IMAGE = ("t_rate.fits", ["b1_rate.fits", "b2_rate.fits"], {})
GRISM = ("gasn.json", None, {"override_bkg": "bkg.fits", "override_wavelengthrange": "ranges.asdf"})
MASKED = ("g_rate.fits", None, {"override_bkg": "bkg.fits", "wfss_mask": "mask.fits"})
SOSS = ("o_rateints.fits", None, {"override_bkg": "sossbkg.fits"})


def with_(run, target=None, **more):
    return (target or run[0], run[1], {**run[2], **more})


KINDS = {
    "target": (IMAGE, "t_rate.fits", 10),
    "background": (IMAGE, "b1_rate.fits", 10),
    "cube": (with_(IMAGE, "c_rateints.fits"), "c_rateints.fits", 6),
    "nirspec": (("s_rate.fits", ["b1_rate.fits"], {}), "s_rate.fits", 2),
    "gzip": (with_(IMAGE, "z_rate.fits.gz"), "z_rate.fits.gz", 6),
    "asdf": (with_(IMAGE, "a_rate.asdf"), "a_rate.asdf", 6),
    "association": (with_(IMAGE, "asn.json"), "asn.json", 8),
    "grism association": (GRISM, "gasn.json", 3),
    "grism": (GRISM, "g_rate.fits", 10),
    "template": (GRISM, "bkg.fits", 6),
    "ranges": (GRISM, "ranges.asdf", 6),
    "catalogue": (GRISM, "cat.ecsv", 10),
    "catalogue.gz": (with_(MASKED, source_catalog="cat.ecsv.gz"), "cat.ecsv.gz", 3),
    "mask": (MASKED, "mask.fits", 5),
    "tiles": (with_(MASKED, wfss_mask="tiles.fits"), "tiles.fits", 4),
    "mask.asdf": (with_(MASKED, wfss_mask="mask.asdf"), "mask.asdf", 4),
    "own template": (("t_rate.fits", None, {"template": "own.fits"}), "own.fits", 3),
    "own image": (("t_rate.fits", None, {"template": "sky.fits"}), "sky.fits", 3),
    "own array": (("t_rate.fits", None, {"template": "sky.npy,sky.fits"}), "sky.npy", 2),
    "own templates' target": (("t_rate.fits", None, {"template": "sky.npy"}), "t_rate.fits", 3),
    "soss": (SOSS, "o_rateints.fits", 1),
    "soss template": (SOSS, "sossbkg.fits", 1),
    "parameters": (with_(IMAGE, config_file="p.asdf"), "p.asdf", 5),
    "configuration": (with_(IMAGE, config_file="p.cfg"), "p.cfg", 3),
    "options": (None, None, 8),
    "sky image": ("make-template", "sky.fits", 3),
    "sky array": ("make-template", "sky.npy", 2),
    "like": ("make-template", "t_rate.fits", 2),
}
SPECIAL = 0.04
"""Share of the cases in which a file is replaced by what is none."""

ROBUST = 0.3
"""Share of the runs with the preset of that name."""

STEP_PARAMETERS = (
    "suffix", "output_file", "output_dir", "input_dir", "override_bkg", "output_ext",
)  # fmt: skip
"""Those of stpipe's own that are tried beside all of webbkg's."""
VALUES = (
    "abc", "", "-1", "0", "1e400", "nan", "inf", "-inf", "99999999999999999999", "1.5", "True", "None",
    "x" * 300, "a\0b", "/dev/zero", "../x", ".", "/", "[1]", "é", "\x1b[31m", "[bold]", "50", "150", "-x", "t_rate.fits",
)  # fmt: skip

ALARMS = (
    (signal.SIGPROF, signal.ITIMER_PROF, HANG_SECONDS),
    (signal.SIGALRM, signal.ITIMER_REAL, WAIT_SECONDS),
)


class Hang(BaseException):
    """Raised in a case that takes too long; nothing that is tested catches it."""


class Failure(Exception):
    """What a case did wrong."""


@contextlib.contextmanager
def quiet():
    """Keep log lines, warnings and prints to ourselves; return what was printed."""
    printed = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stderr(printed),
            contextlib.redirect_stdout(printed),
        ):
            warnings.simplefilter("ignore")
            yield printed
    finally:
        logging.disable(logging.NOTSET)


def call(run):
    """Run the step from Python; return whether it came to an end."""
    from webbkg import BackgroundStep
    from webbkg.errors import WebbkgError

    target, backgrounds, parameters = run
    try:
        BackgroundStep.call(target, backgrounds, save_results=True, **parameters)
    except WebbkgError as error:
        if not str(error).strip():
            raise Failure("an error without a word") from error
        return False
    return True


def command(*arguments):
    """Run the command line; return its exit status."""
    from webbkg import cli

    try:
        cli.main(list(arguments))
    except SystemExit as error:
        if error.code not in (0, 1, 2, 3, 4):
            raise Failure(f"exit status {error.code}") from error
        return error.code
    finally:
        gc.enable()
        atexit.unregister(gc.freeze)
    raise Failure("no exit status")


def subtract(run, *more):
    """Run ``webbkg subtract``."""
    target, backgrounds, parameters = run
    arguments = ["subtract", target, *more]
    for name, value in parameters.items():
        arguments.append(f"--{name.replace('_', '-')}={value}")
    for name in backgrounds or []:
        arguments += ["-b", name]
    return command(*arguments)


def options_run(rng):
    """Choose a run and put a hostile value into one or two of its parameters."""
    from webbkg.options import parameters

    base = rng.choice((IMAGE, IMAGE, MASKED))
    names = [*parameters(), *STEP_PARAMETERS]
    return with_(base, **{rng.choice(names): rng.choice(VALUES) for _ in range(rng.choice((1, 2)))})


def execute(rng, kind, folder):
    """Damage a file of a kind and run it in one of the public ways."""
    run, name, _ = KINDS[kind]
    if kind == "options":
        call(options_run(rng)) if rng.random() < 0.5 else subtract(options_run(rng))
        return
    if rng.random() < SPECIAL:
        replace_by_special(rng, folder / name)
    else:
        damage(rng, folder / name)
    if run == "make-template":
        image = "sky.fits" if kind == "like" else name
        command("make-template", image, "--like", "t_rate.fits", "-o", "made.fits")
        return
    run = dict(zip(("target", "backgrounds", "parameters"), run, strict=True))
    robust = {"preset": "robust"} if rng.random() < ROBUST else {}
    run = (run["target"], run["backgrounds"], {**run["parameters"], **robust})
    if kind == "catalogue.gz":
        (folder / "gasn.json").write_text(
            (folder / "gasn.json").read_text().replace(".ecsv", ".ecsv.gz")
        )
        run = GRISM
    by_command = rng.random() < 0.5 and "config_file" not in run[2]
    if not by_command:
        call(run)
    elif name == run[0] and run[1]:
        status = subtract(run, "m_rate.fits", "t2_rate.fits")
        if status != 2 and not list(folder.glob("t2*backgroundstep.fits")):
            raise Failure("a good target was not reached after a bad one")
    elif kind == "cube":
        compare_streamed(run, folder)
    else:
        subtract(run)


def compare_streamed(run, folder):
    """What goes from file to file is what a run in memory takes."""
    status = subtract(run)
    for product in folder.glob("*backgroundstep*"):
        product.unlink()
    if (status == 1) != (not call(run)):
        raise Failure(f"streamed: exit status {status}; in memory it is the other way round")


def check_left_over(folder, before, temporary):
    """Whatever is new must be a whole product."""
    from webbkg.files.fits import read_headers

    if list(temporary.iterdir()):
        raise Failure(f"left in the temporary folder: {list(temporary.iterdir())}")
    for path in folder.rglob("*"):
        if path in before or path.is_dir():
            continue
        if path.name.startswith(".") or path.suffix not in (".fits", ".asdf"):
            raise Failure(f"left over: {path.name}")
        if path.suffix == ".fits":
            with path.open("rb") as stream:
                list(read_headers(stream, path.name))


def _on_alarm(*_):
    raise Hang


def run_case(seed, corpus):
    """Run a case; return None, or what went wrong with the way to repeat it."""
    rng = random.Random(seed)
    kind = rng.choices(list(KINDS), [weight for *_, weight in KINDS.values()])[0]
    folder, temporary = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    for path in corpus.iterdir():
        # Linked, not copied: what damages a file writes a new one.
        if path.stat().st_size > 2**20:
            (folder / path.name).hardlink_to(path)
        else:
            shutil.copyfile(path, folder / path.name)
    here, tempfile.tempdir = Path.cwd(), str(temporary)
    os.chdir(folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for alarm, timer, seconds in ALARMS:
        signal.signal(alarm, _on_alarm)
        signal.setitimer(timer, seconds)
    wrong = ""
    try:
        before = {*folder.rglob("*")}
        with quiet():
            execute(rng, kind, folder)
        check_left_over(folder, before, temporary)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
        if grown > MOST_MEMORY:
            raise Failure(f"{grown} bytes of memory")
    except (Exception, Hang):
        wrong = traceback.format_exc(limit=-12)
    finally:
        for _, timer, _ in ALARMS:
            signal.setitimer(timer, 0)
        tempfile.tempdir = None
        os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
    return wrong and f"case {seed} ({kind}); again: python tests/fuzzing.py --seed {seed}\n{wrong}"


@contextlib.contextmanager
def prepared(stream_everything=True):
    """Write the corpus and set the process up; yield the folder."""
    import fuzz_corpus
    from webbkg.files import streaming

    sizes = streaming.SMALLEST, streaming.COPY_CHUNK
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with tempfile.TemporaryDirectory() as folder, one_command():
        corpus = Path(folder)
        with quiet():
            fuzz_corpus.build(corpus)
            shutil.copyfile(corpus / "t_rate.fits", corpus / "t2_rate.fits")
        run_undamaged(corpus)
        gc.collect()
        gc.freeze()  # what lives to the end is not searched in every run
        if stream_everything:
            streaming.SMALLEST = streaming.COPY_CHUNK = 0
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + 4 * 2**30, limits[1]))
        try:
            yield corpus
        finally:
            streaming.SMALLEST, streaming.COPY_CHUNK = sizes
            resource.setrlimit(resource.RLIMIT_AS, limits)
            gc.unfreeze()


@contextlib.contextmanager
def one_command():
    """Let the command line be made of its functions once, not by every case."""
    import typer.main

    make = typer.main.get_command
    typer.main.get_command = cache(make)
    try:
        yield
    finally:
        typer.main.get_command = make


def run_undamaged(corpus):
    """Make each kind of call once, with good files, so that all that they need is loaded."""
    runs = {repr(run): run for run, *_ in KINDS.values() if run and run != "make-template"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copytree(corpus, folder, dirs_exist_ok=True)
        with quiet():
            for run in runs.values():
                call(run)
                if "config_file" not in run[2]:
                    subtract(with_(run, preset="robust"))


def run_range(first, count):
    """Run cases in this process and tell of the failed ones; returns how many there are."""
    started, failed = time.monotonic(), 0
    with prepared() as corpus:
        for done, seed in enumerate(range(first, first + count), start=1):
            wrong = run_case(seed, corpus)
            if wrong:
                failed += 1
                print(wrong, flush=True)
            if done % 500 == 0:
                gc.collect()
                seconds = time.monotonic() - started
                print(f"from {first}: {done} cases, {failed} failed, {seconds:.0f} s", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.processes == 1:
        sys.exit(bool(run_range(given.seed, given.count)))
    share = -(-given.count // given.processes)
    starts = range(given.seed, given.seed + given.count, share)
    shares = [(first, min(share, given.seed + given.count - first)) for first in starts]
    command = [sys.executable, __file__]
    running = [
        subprocess.Popen([*command, "--seed", str(first), "--count", str(count)])
        for first, count in shares
    ]
    statuses = [process.wait() for process in running]
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
