"""Bands and threads: every row once, and the same bits however they are cut."""

import signal
import threading
import time
import tracemalloc
from contextlib import ExitStack

import numpy as np
import pytest

import factories
from webbkg import ImageOptions
from webbkg.files.exposures import DetectorWindow, Exposure
from webbkg.image.average import average_exposures
from webbkg.numerics.parallel import available_threads, over_bands, split, use_threads
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed


@pytest.mark.parametrize(
    ("length", "step", "expected"),
    [
        (0, 3, []),
        (1, 3, [(0, 1)]),
        (6, 3, [(0, 3), (3, 6)]),
        (7, 3, [(0, 3), (3, 6), (6, 7)]),
        (3, 100, [(0, 3)]),
    ],
)
def test_split(length, step, expected):
    assert split(length, step) == expected


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_band_once_and_in_order(threads):
    bands = split(23, 2)
    workers, reports = [], []

    def make_worker():
        workers.append(threading.get_ident())
        return lambda start, stop: (start, stop)

    parts = over_bands(
        bands, make_worker, threads=threads, progress=lambda *report: reports.append(report)
    )
    assert parts == bands
    assert 1 <= len(workers) <= threads
    assert reports == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_band_is_raised(threads):
    def make_worker():
        def work(start, stop):
            if start == 4:
                raise ValueError(f"row {start}")
            return stop

        return work

    with pytest.raises(ValueError, match="row 4"):
        over_bands(split(10, 2), make_worker, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_after_an_error_no_band_begins(threads):
    begun = []

    def make_worker():
        def work(start, stop):
            begun.append(start)
            if start == 4:
                raise ValueError(f"row {start}")
            time.sleep(0.001)

        return work

    with pytest.raises(ValueError, match="row 4"):
        over_bands(split(500, 1), make_worker, threads=threads)
    assert len(begun) < 100


def test_the_first_of_several_errors_is_raised():
    both = threading.Barrier(2, timeout=10)

    def make_worker():
        def work(start, stop):
            both.wait()
            if start == 0:
                time.sleep(0.2)
            raise ValueError(f"row {start}")

        return work

    with pytest.raises(ValueError, match="row 1"):
        over_bands(split(2, 1), make_worker, threads=2)


def test_an_interrupt_of_the_thread_that_waits_stops_the_others():
    begun = []

    def make_worker():
        def work(start, stop):
            begun.append(start)
            if start == 1:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)

        return work

    with pytest.raises(KeyboardInterrupt):
        over_bands(split(40, 1), make_worker, threads=2)
    assert len(begun) <= 6


def test_an_error_while_progress_is_told_is_raised():
    def tell(done, number):
        raise ValueError(f"{done} of {number}")

    with pytest.raises(ValueError, match="1 of 5"):
        over_bands(split(5, 1), lambda: lambda start, stop: stop, threads=3, progress=tell)


def test_threads_are_granted_to_what_runs_inside_only():
    before = available_threads()
    with use_threads(5):
        assert available_threads() == 5
        with use_threads(1):
            assert available_threads() == 1
        assert available_threads() == 5
    assert available_threads() == before
    with pytest.raises(ValueError, match=r"at least 1 \(got 0\)"), use_threads(0):
        pass


TARGET = (3, 20, 21, 37)
"""Column, row, columns, rows of the target's window."""


def make_backgrounds():
    """Images and cubes, full and part cover, with much that needs clipping."""
    rng = np.random.default_rng(6)
    x, y, columns, rows = TARGET
    backgrounds = []
    for index in range(11):
        at = (x, y) if index < 6 else (x - 2 + index % 3, y - 9 + 2 * index)
        shape = ([5] if index % 2 else []) + [rows, columns]
        sci = factories.ramp(shape[-2:], *at) / 1000 + rng.standard_cauchy(shape) / 10
        sci[rng.random(shape) < 0.02] = np.nan
        sci[..., np.isin(factories.ramp(shape[-2:], *at), [30010, 30011, 44003])] = np.nan
        err = rng.uniform(0.1, 1, shape)
        err[rng.random(shape) < 0.005] = np.nan
        dq = (rng.random(shape) < 0.03) * rng.integers(0, 2**32, shape, np.uint64)
        backgrounds.append(factories.make_model(sci, err, dq, at=at))
    return backgrounds


def average(opened, band_memory, threads):
    target = factories.place(DetectorWindow(*TARGET))
    placed = [one.placed_on(target) for one in opened]
    return average_exposures(
        placed, target.shape, ImageOptions(sigma=2.0, band_memory=band_memory), threads=threads
    )


def assert_identical(ours, expected):
    for name in ("sci", "err", "dq", "covered", "counts"):
        assert getattr(ours, name).tobytes() == getattr(expected, name).tobytes(), name
    assert ours.exposures == expected.exposures
    assert ours.integrations == expected.integrations


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    """The same exposures three times: as models, and the paths of plain and gzipped files."""
    models = make_backgrounds()
    folder = tmp_path_factory.mktemp("backgrounds")
    paths = {
        kind: [
            factories.save(model, folder / f"b{index}_rate.{kind}")
            for index, model in enumerate(models)
        ]
        for kind in ("fits", "fits.gz")
    }
    return {"model": models, **paths}


@pytest.fixture(scope="module")
def expected(backgrounds):
    """Average of the models in one band, on one thread."""
    result = average(map(Exposure.from_model, backgrounds["model"]), 2**30, 1)
    assert np.isnan(result.sci).sum() == 3
    assert result.exposures.clipped > 100
    assert result.integrations.clipped > 100
    return result


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("band_memory", [1, 9000, 40000, 2**24])
@pytest.mark.parametrize("kind", ["model", "fits", "fits.gz"])
def test_same_bits_for_any_band_and_thread_and_from_files(
    backgrounds, expected, kind, band_memory, threads
):
    open_one = Exposure.from_model if kind == "model" else Exposure.from_file
    with ExitStack() as stack:
        opened = [stack.enter_context(open_one(one)) for one in backgrounds[kind]]
        ours = average(opened, band_memory, threads)
    assert_identical(ours, expected)


@pytest.mark.parametrize("threads", [1, 2, 128])
def test_the_memory_for_bands_is_for_all_threads_together(threads):
    """A row of each on 128 threads is 25 times as much."""
    plane = np.arange(128 * 512, dtype=np.float32).reshape(1, 128, 512)
    planes = ArrayPlanes.of(SCI=plane, ERR=plane, DQ=np.zeros(plane.shape, np.uint32))
    one = Placed(planes, Overlap.whole(plane.shape[1:]))
    options = ImageOptions(band_memory=2**21)
    average_exposures([one], plane.shape[1:], options)  # compiled before it is measured
    tracemalloc.start()
    with use_threads(threads):
        result = average_exposures([one] * 100, plane.shape[1:], options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    own = (result.sci, result.err, result.dq, result.covered, result.counts)
    assert peak - sum(array.nbytes for array in own) < 1.2 * options.band_memory
    np.testing.assert_array_equal(result.sci, plane[0])


def test_two_averages_at_once_do_not_disturb_each_other(backgrounds, expected):
    results = {}

    def run(number):
        opened = map(Exposure.from_model, backgrounds["model"])
        results[number] = average(opened, 5000 * (number + 1), 2)

    crew = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    assert len(results) == 4
    for result in results.values():
        assert_identical(result, expected)
