"""Damaged files through the public ways: nothing but a WebbkgError, nothing left over, no hang."""

import gc

import pytest

import fuzzing

CASES, CHUNK = 2000, 100


@pytest.fixture(scope="module")
def corpus():
    with fuzzing.prepared() as folder:
        yield folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_damaged_files(corpus, first):
    wrong = [fuzzing.run_case(seed, corpus) for seed in range(first, first + CHUNK)]
    gc.collect()
    assert not any(wrong), "\n".join(filter(None, wrong))
