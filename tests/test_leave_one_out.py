"""The averages of a group without each exposure in turn: the same bits as one by one."""

import threading

import numpy as np
import pytest

from factories import NIRSPEC, make_model, ramp, save
from webbkg import ImageOptions, WebbkgError, run
from webbkg.files.associations import Job
from webbkg.files.planes import FitsPlanes
from webbkg.image import measure, variance
from webbkg.image.average import average_exposures
from webbkg.image.group import Others
from webbkg.image.leave_one_out import average_others, is_covered
from webbkg.numerics.planes import ArrayPlanes, Overlap, Placed

DO_NOT_USE = 1
SHAPE = (23, 37)


def exposure(rng, integrations=1, shape=SHAPE):
    """Draw an exposure with everything that can be wrong with a pixel, outliers above all."""
    size = (integrations, *shape)
    sci = (ramp(shape) / 1e3 + rng.normal(10, 1, size)).astype(np.float32)
    sci[rng.random(size) < 0.1] += 300
    sci[rng.random(size) < 0.05] = np.nan
    err = rng.uniform(0.5, 1.5, size).astype(np.float32)
    err[rng.random(size) < 0.05] = -1
    dq = np.where(rng.random(size) < 0.1, rng.integers(0, 2**32, size), 0).astype(np.uint32)
    return ArrayPlanes.of(SCI=sci, ERR=err, DQ=dq)


def group(number, integrations=(1,), shape=SHAPE, seed=7):
    rng = np.random.default_rng(seed)
    whole = Overlap.whole(shape)
    return [
        Placed(exposure(rng, integrations[i % len(integrations)], shape), whole)
        for i in range(number)
    ]


def collect(sources, options, **more):
    """Return planes and counts of each average, put together from the bands."""
    planes = {"sci": np.float32, "err": np.float32, "dq": np.uint32, "counts": np.uint32}
    made = [{name: np.empty(SHAPE, kind) for name, kind in planes.items()} for _ in sources]

    def keep(index, start, rows):
        (places, bits), dq = rows.differences, rows.flags.copy()
        dq.reshape(-1)[places] ^= bits
        for name, plane in made[index].items():
            part = dq if name == "dq" else getattr(rows, name)
            plane[start : start + len(part)] = part

    told = average_others(sources, SHAPE, options, keep, **more)
    return list(zip(made, told, strict=True))


def assert_as_single(sources, options, **more):
    for index, (planes, told) in enumerate(collect(sources, options, **more)):
        others = sources[:index] + sources[index + 1 :]
        single = average_exposures(others, SHAPE, options, threads=1)
        for name, plane in planes.items():
            theirs = np.ascontiguousarray(getattr(single, name))
            np.testing.assert_array_equal(plane.view(np.uint32), theirs.view(np.uint32), name)
        assert (told.exposures, told.integrations) == (single.exposures, single.integrations)
        assert told.unknown == np.count_nonzero(single.counts == 0)
    return single


@pytest.mark.parametrize("number", [2, 3, 4, 9, 13])
@pytest.mark.parametrize("clip_noise", ["sample", "model"])
def test_the_same_bits_as_one_by_one(number, clip_noise):
    options = ImageOptions(clip_noise=clip_noise, sigma=2.0 if number < 9 else 3.0)
    single = assert_as_single(group(number), options)
    assert single.exposures.clipped or number < 4  # the search for outliers is not idle


def test_integrations_are_averaged_first():
    single = assert_as_single(group(4, (1, 12, 10)), ImageOptions(sigma=2.0, maxiters=2))
    assert single.integrations.clipped


def test_neither_bands_nor_threads_matter():
    sources, narrow = group(5), ImageOptions(band_memory=1)
    assert_as_single(sources, narrow, threads=1)
    assert_as_single(sources, ImageOptions(), threads=3)


@pytest.mark.parametrize("number", [2, 3, 5, 9])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_flags_are_voted_on_by_the_others(number, threshold):
    assert_as_single(group(number, (1, 4)), ImageOptions(dq_threshold=threshold))


def test_without_errors_the_rest_is_the_same():
    sources = group(3)
    with_errors, without = (collect(sources, ImageOptions(), errors=e) for e in (True, False))
    for (one, told), (other, told_too) in zip(with_errors, without, strict=True):
        assert told == told_too
        for name in ("sci", "dq", "counts"):
            np.testing.assert_array_equal(one[name], other[name])


def test_what_one_pass_cannot_give():
    sources = group(3)
    assert is_covered(sources, SHAPE, ImageOptions())
    assert not is_covered(sources[:1], SHAPE, ImageOptions())
    for asked in ({"match_background": "scale"}, {"mask_sources": True}):
        assert not is_covered(sources, SHAPE, ImageOptions(**asked))
    part = Overlap((0, 5), (0, 5), (0, 5), (0, 5))
    assert not is_covered([*sources, Placed(sources[0].planes, part)], SHAPE, ImageOptions())


# From files to products.


def nods(folder, number=4, cubes=False, seed=3, kinds=lambda _: (), **more):
    """Write nods; `kinds` tells which planes of its variance each has."""
    rng = np.random.default_rng(seed)
    paths = []
    for i in range(number):
        planes = exposure(rng, 3 if cubes else 1).planes
        cut = slice(None) if cubes else 0
        model = make_model(
            planes["SCI"][cut], planes["ERR"][cut], planes["DQ"][cut], at=(5, 8), **more
        )
        for kind in kinds(i):
            model[kind] = rng.uniform(0, 1, model.data.shape).astype(np.float32)
            model[kind][rng.random(model.data.shape) < 0.1] = rng.choice([0, -1, np.nan])
        paths.append(save(model, folder / f"nod{i}_rate.fits"))
    return paths


def reduce_all(paths, folder, shared, **parameters):
    """Reduce each exposure by the others; return the products' bytes and what was told."""
    folder.mkdir()
    setting = run.Setting(
        parameters=parameters,
        name_product=lambda item, suffix: folder / f"{item.path.stem}_{suffix or 'bsub'}.fits",
        shared=shared,
        product_only=True,
        without_models=True,
    )
    outcomes = []
    for path in paths:
        others = tuple(one for one in paths if one != path)
        item = run.Item(source=path, job=Job(targets=(path,), backgrounds=others))
        run.process([item], setting)
        run.finish(item.result, [], {}, setting.crds)
        run.write([item], setting)
        outcomes.append(item.outcome)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, outcomes


@pytest.fixture
def _still(monkeypatch):
    """Let every product be of the same moment, so that its bytes can be compared."""
    from datetime import datetime

    from webbkg.files import background, product

    class Still(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    for module in (product, background):
        monkeypatch.setattr(module, "datetime", Still)


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"clip_noise": "model", "skip_metrics": True},
        {"save_combined_background": True, "sigma": 2.0},
        {"propagate_errors": True},
        {"dq_threshold": 0.5},
        {"propagate_errors": True, "dq_threshold": 0.5, "clip_noise": "model"},
    ],
    ids=lambda p: " ".join(p) or "default",
)
def test_products_are_those_of_single_runs(tmp_path, parameters, monkeypatch):
    paths = nods(tmp_path, cubes="sigma" in parameters)
    shared = Others(paths)
    with monkeypatch.context() as patched:
        for name in ("average_exposures", "average_unkept"):
            patched.setattr(measure, name, None)  # nothing is averaged singly
        ours, outcomes = reduce_all(paths, tmp_path / "group", shared, **parameters)
    shared.close()
    singly, alone = reduce_all(paths, tmp_path / "singly", None, **parameters)
    assert ours == singly
    assert [repr(one) for one in outcomes] == [repr(one) for one in alone]
    assert all(one.status == "COMPLETE" for one in outcomes)


ALL_KINDS = ("var_poisson", "var_rnoise", "var_flat")


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize("cubes", [False, True], ids=["images", "cubes"])
@pytest.mark.parametrize(
    "kinds",
    [
        lambda _: ALL_KINDS[:2],
        lambda _: ALL_KINDS,
        lambda i: ALL_KINDS if i == 1 else ALL_KINDS[:2],  # its own average has no flat
        lambda i: ALL_KINDS[2:] if i == 2 else (),
    ],
    ids=["rate", "flat", "one flat", "no photons"],
)
def test_variances_are_those_of_single_runs(tmp_path, kinds, cubes, monkeypatch):
    paths = nods(tmp_path, cubes=cubes, kinds=kinds)
    shared = Others(paths)
    with monkeypatch.context() as patched:
        patched.setattr(measure, "split_variance", None)
        ours, _ = reduce_all(paths, tmp_path / "group", shared, propagate_errors=True)
    shared.close()
    singly, _ = reduce_all(paths, tmp_path / "singly", None, propagate_errors=True)
    assert ours == singly


@pytest.mark.parametrize("memory", [1, 10**9])
def test_variances_do_not_depend_on_bands_or_threads(memory, monkeypatch):
    monkeypatch.setattr(variance, "MOST_MEMORY", memory)
    rng, number = np.random.default_rng(8), 4
    sources = []
    for one in group(number, (1, 3)):
        shape = one.planes.shape
        added = {name.upper(): rng.uniform(0, 1, shape).astype(np.float32) for name in ALL_KINDS}
        sources.append(Placed(ArrayPlanes.of(**one.planes.planes, **added), one.overlap))
    shares = np.empty((number, 2, *SHAPE), np.float32)

    def keep(index, start, rnoise, flat):
        shares[index, :, start : start + len(rnoise)] = rnoise, flat

    variance.average_shares_of_others(sources, SHAPE, keep, threads=3)
    for index in range(number):
        others = sources[:index] + sources[index + 1 :]
        combined = average_exposures(others, SHAPE, ImageOptions())
        theirs = variance.split_variance(combined, others, threads=1).variances
        assert variance.variances_of(combined.err, *shares[index], has_flat=True) == theirs


def count_reads(monkeypatch):
    """Count the rows that are read of each plane of each file."""
    read, lock, counts = FitsPlanes.read, threading.Lock(), {}

    def counting(self, names, integration, start, stop, words):
        with lock:
            for name in names:
                key = self.name, name
                counts[key] = counts.get(key, 0) + stop - start
        return read(self, names, integration, start, stop, words)

    monkeypatch.setattr(FitsPlanes, "read", counting)
    return counts


def test_each_file_is_read_once(tmp_path, monkeypatch):
    paths = nods(tmp_path, 5)
    counts = count_reads(monkeypatch)
    shared = Others(paths)
    reduce_all(paths, tmp_path / "group", shared, skip_metrics=True)
    shared.close()
    assert set(counts) == {(path.name, plane) for path in paths for plane in ("SCI", "DQ")}
    assert set(counts.values()) == {SHAPE[0]}


def test_who_has_other_backgrounds_is_averaged_by_itself(tmp_path):
    paths = nods(tmp_path, 4)
    shared = Others(paths)
    odd = paths[1], (paths[2], paths[0])  # not all, and in another order
    item = run.Item(source=odd[0], job=Job(targets=odd[:1], backgrounds=odd[1]))
    setting = run.Setting(name_product=lambda item, _: tmp_path / "p.fits", shared=shared)
    run.process([item], setting)
    assert item.outcome.result.backgrounds == (paths[2].name, paths[0].name)
    shared.close()


def test_a_damaged_exposure_fails_those_that_need_it_as_singly(tmp_path):
    paths = nods(tmp_path, 3, meta=NIRSPEC)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 3])
    shared = Others(paths)
    setting = run.Setting(name_product=lambda item, _: tmp_path / "p.fits", shared=shared)
    for path in (paths[0], paths[2]):
        others = tuple(one for one in paths if one != path)
        item = run.Item(source=path, job=Job(targets=(path,), backgrounds=others))
        with pytest.raises(WebbkgError, match=paths[1].name):
            run.process([item], setting)
    shared.close()


def test_what_is_kept_may_be_in_files(tmp_path, monkeypatch):
    from webbkg.files import scratch

    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    monkeypatch.setattr(scratch, "LISTS_IN_MEMORY", 4000)  # some of them
    paths = nods(tmp_path, 4)
    shared = Others(paths)
    _, ours = reduce_all(paths, tmp_path / "group", shared, save_combined_background=True)
    _, alone = reduce_all(paths, tmp_path / "singly", None, save_combined_background=True)
    shared.close()
    for name in ("sci", "err", "dq", "counts"):
        for one, other in zip(ours, alone, strict=True):
            planes = (getattr(each.background, name) for each in (one, other))
            np.testing.assert_array_equal(*planes)


@pytest.mark.parametrize("limit", ["IN_MEMORY", "LISTS_IN_MEMORY"])
def test_no_space_to_keep_them_is_no_end(tmp_path, monkeypatch, caplog, limit):
    from webbkg.files import scratch

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, limit, 0)
    monkeypatch.setattr(scratch, "write_exactly", full)
    paths = nods(tmp_path, 3)
    shared = Others(paths)
    with caplog.at_level("DEBUG"):
        _, outcomes = reduce_all(paths, tmp_path / "group", shared)
    assert "averaged singly" in caplog.text
    assert "TMPDIR" in caplog.text
    assert all(one.status == "COMPLETE" for one in outcomes)
