"""Kernels where their machine code cannot be kept."""

import errno

import numpy as np
from numba.core.caching import IndexDataCacheFile

from webbkg.numerics.compiled import compiled


def double(values):
    """Double values in place."""
    for i in range(values.size):
        values[i] *= 2


def test_a_full_disk_does_not_keep_a_kernel_from_running(monkeypatch):
    asked = []

    def no_space(_self, key, _data):
        asked.append(key)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", no_space)
    values = np.arange(3.0)
    compiled(double)(values)
    np.testing.assert_array_equal(values, [0, 2, 4])
    assert asked
