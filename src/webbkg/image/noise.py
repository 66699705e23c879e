"""Clipping of a stack by the scatter that its ERR leads to expect: the way through its kernels."""

from __future__ import annotations

import numpy as np

from webbkg.image import noise_kernels as kernels
from webbkg.image import suspect_kernels
from webbkg.numerics.compiled import Array
from webbkg.results import FlagImage, FloatImage

PIXELS = 8192
"""About so many are taken at a time: what is known of them stays in the nearer caches."""


class NoiseClipper:
    """Clips and averages rows of `columns` pixels, of at most so many `samples`.

    Parameters
    ----------
    samples, columns : int
        How many there may be, and of how many pixels a row is.
    sigma : float
        Threshold, in units of the scatter that is expected.
    maxiters : int
        Largest number of iterations; 0 means until stable.
    """

    def __init__(self, samples: int, columns: int, sigma: float, maxiters: int) -> None:
        self._rows = max(PIXELS // max(columns, 1), 1)
        self._limits = sigma, maxiters
        segments = max(columns // kernels.SEGMENT, 1)
        within = np.arange(segments) * columns // segments
        starts = np.arange(self._rows)[:, np.newaxis] * columns + within
        self._edges = np.append(starts, self._rows * columns)
        self._columns, self._segments = columns, segments
        pixels, most = self._rows * columns, 2 * kernels.SEGMENT
        self._sums = np.empty(pixels), np.empty(pixels), np.empty(kernels.BLOCK)
        self._numbers = np.empty(pixels, np.int32), np.empty(pixels, np.int32)
        self._buffers = np.empty(most), np.empty(most)
        self._rows_of_segment = np.empty((3, most), np.float32)
        self._suspects = np.empty((2, pixels), np.int64)
        self._facts = np.empty((5, pixels))
        self._measured = np.empty(len(starts.ravel()) * 3 * samples)
        self._typical = np.empty(len(starts.ravel()))
        self._column, self._values = np.empty((5, samples)), np.empty(samples)

    def average(
        self, samples: Array, errors: Array, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> tuple[int, int]:
        """Clip and average (samples, pixels) float32 into `sci`, `err` and `counts` (pixels,).

        A missing sample is NaN in `samples` and 0 in `errors`; an error that is not valid is NaN.
        Where there is no sample the average is NaN, of 0; elsewhere at least one is kept. Returns
        how many samples were usable, and how many were clipped.
        """
        usable = clipped = 0
        step = self._rows * self._columns
        for first in range(0, samples.shape[1], step):
            pixels = min(step, samples.shape[1] - first)
            offered, lost = self._average_part(samples, errors, first, pixels, (sci, err, counts))
            usable += offered
            clipped += lost
        return usable, clipped

    def _average_part(
        self,
        samples: Array,
        errors: Array,
        first: int,
        pixels: int,
        result: tuple[Array, Array, Array],
    ) -> tuple[int, int]:
        mean, error, squares = self._sums
        count, valid = self._numbers
        sums = mean[:pixels], error[:pixels], squares
        numbers = count[:pixels], valid[:pixels]
        usable: int = kernels.sum_samples(samples, errors, first, sums, numbers, *result)
        segments = pixels // self._columns * self._segments
        edges, typical = self._edges[: segments + 1], self._typical[:segments]
        size = segments * 3 * len(samples)
        measured = self._measured[:size].reshape(segments, 3, len(samples))
        where = first, edges
        of_segments = measured, typical
        if kernels.measure_samples(
            samples, errors, *where, sums, numbers, self._buffers, *of_segments
        ):
            kernels.measure_without_errors(
                samples, *where, sums[0], numbers[0], self._buffers, *of_segments
            )
        shared = sums, numbers, of_segments
        return usable, self._clip(samples, errors, where, shared, result)

    def _clip(
        self,
        samples: Array,
        errors: Array,
        where: tuple[int, Array],
        shared: tuple[kernels.Sums, kernels.Numbers, tuple[Array, Array]],
        result: tuple[Array, Array, Array],
    ) -> int:
        """Clip what is suspect; return how many samples went.

        The neighbours of a suspect are asked when a sample would go, and what few need when they
        need it: only who has some compiles that.
        """
        first, _ = where
        sums, numbers, of_segments = shared
        suspects, facts = self._suspects, self._facts
        listed = suspect_kernels.find_suspects(
            samples,
            errors,
            *where,
            sums[0],
            numbers[0],
            of_segments,
            self._limits[0],
            self._rows_of_segment,
            (suspects, facts),
        )
        clipped, is_first = 0, True
        while listed:
            a_list = suspects, listed
            known = *a_list, of_segments, *self._limits, facts, self._column
            lost, listed = suspect_kernels.clip_suspects(samples, errors, first, *known, result)
            clipped += lost
            if listed:
                self._ask_neighbours(samples, where, shared, listed, len(samples) > 3 and is_first)
            is_first = False
        return clipped

    def _ask_neighbours(
        self,
        samples: Array,
        where: tuple[int, Array],
        shared: tuple[kernels.Sums, kernels.Numbers, tuple[Array, Array]],
        listed: int,
        for_scatter: bool,
    ) -> None:
        """Measure the scatter around the suspects that are listed, and, if not alone, the level."""
        known = samples, *where, *shared[:2], self._suspects, listed, *shared[2], self._facts
        if kernels.measure_excess(*known, self._buffers[0]):
            kernels.measure_structure(*known, self._values, *self._buffers)
        if not for_scatter:
            kernels.measure_around(
                samples,
                *where,
                self._suspects,
                listed,
                shared[2][0],
                self._facts,
                self._values,
                self._buffers[0],
            )
