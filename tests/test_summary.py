"""Numbers for people."""

import numpy as np
import pytest

from webbkg.numerics.summary import finite_median


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000, 100_001])
def test_the_median_is_that_of_the_finite_values(dtype, size):
    values = np.random.default_rng(size).normal(5, 2, size).astype(dtype)
    expected = np.median(values.astype(float))
    assert finite_median(values) == pytest.approx(expected, rel=1e-6)
    spoilt = np.concatenate([values, np.array([np.nan, np.inf, -np.inf, np.inf], dtype)])
    assert finite_median(spoilt.reshape(-1, 1)) == pytest.approx(expected, rel=1e-6)


def test_there_may_be_none():
    assert finite_median(np.array([np.nan, np.inf], np.float32)) is None
    assert finite_median(np.empty((0, 4), np.float32)) is None
