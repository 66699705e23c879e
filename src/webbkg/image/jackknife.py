"""Samples of a band, averaged without each of them in turn."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from webbkg.image import jackknife_kernels as kernels
from webbkg.image.average import clip_iterations, largest_deviation, make_stack, sorting_network
from webbkg.image.kernels import CHUNK, LANES, MARGIN
from webbkg.numerics.compiled import Array
from webbkg.options import ImageOptions
from webbkg.results import FlagImage, FloatImage, SampleCounts


class Jackknife(Protocol):
    """Takes the samples of a band, and averages all of them but one."""

    def images(self, index: int, height: int) -> tuple[FloatImage, FloatImage]:
        """Give the images, of `height` rows, that SCI and ERR of a sample are to be put into."""

    def begin(self, height: int) -> None:
        """Get ready for the averages, when all samples are there."""

    def average(
        self, index: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Clip and average the others, into images; asked for in the order of the samples."""


class OneByOne:
    """A stack of all samples but one, of which the next changes place with that one."""

    def __init__(
        self, samples: int, height: int, columns: int, options: ImageOptions, errors: bool
    ) -> None:
        self._samples = samples
        self._stack = make_stack(samples - 1, height, columns, options, errors)
        self._spare = np.empty((2, height, columns), np.float32)  # SCI and ERR of who is left out
        self._moved = np.empty((2, height, columns), np.float32)

    def images(self, index: int, height: int) -> tuple[FloatImage, FloatImage]:
        """The first is left out to begin with."""
        if index:
            return self._stack.images(index - 1, height)
        return self._spare[0, :height], self._spare[1, :height]

    def begin(self, _height: int) -> None:
        """Nothing is shared."""

    def average(
        self, index: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Clip and average the others of a sample."""
        if index:
            self._put_back(index - 1, height)
        return self._stack.average(self._samples - 1, height, sci, err, counts)

    def _put_back(self, index: int, height: int) -> None:
        """Put the sample that was left out in the place of the next one, which is so now."""
        spare, moved = self._spare[:, :height], self._moved[:, :height]
        for image, waiting, aside in zip(
            self._stack.images(index, height), spare, moved, strict=True
        ):
            aside[...] = image
            image[...] = waiting
        self._spare, self._moved = self._moved, self._spare


class Together:
    """All samples, and what the averages have in common; clipped by their own scatter.

    In most pixels one test tells that nothing is rejected whichever sample is left out, and no
    sum of samples is rounded, so that one can be taken off their total. Most of the others are
    sorted once, to be clipped without each sample in turn. The few where rounding could decide are
    averaged one by one, side by side in a stack of their own.
    """

    def __init__(
        self, samples: int, height: int, columns: int, options: ImageOptions, errors: bool
    ) -> None:
        pixels = height * columns
        self._samples, self._columns, self._errors = samples, columns, errors
        self._sci = np.empty(samples * pixels, np.float32)
        self._err = np.empty((samples if errors else 1) * pixels, np.float32)
        self._count, self._total = np.empty(pixels, np.int32), np.empty(pixels)
        self._before, self._variance = np.empty(pixels if errors else 0), np.empty(CHUNK)
        self._outliers = _Outliers(samples, pixels, options)
        self._near = _Near(OneByOne(samples, pixels, 1, options, errors), samples, pixels)
        self._scratch = kernels.make_jackknife_scratch(samples)

    def images(self, index: int, height: int) -> tuple[FloatImage, FloatImage]:
        """SCI and ERR of one sample."""
        shape = height, self._columns
        sci, err = self._all(height)
        return sci[index].reshape(shape), err[index if self._errors else 0].reshape(shape)

    def _all(self, height: int) -> tuple[FloatImage, FloatImage]:
        """SCI and ERR of all samples, (samples, pixels)."""
        pixels = height * self._columns
        of_err = self._samples if self._errors else 1
        return (
            self._sci[: self._samples * pixels].reshape(self._samples, pixels),
            self._err[: of_err * pixels].reshape(of_err, pixels),
        )

    def begin(self, height: int) -> None:
        """Find what the averages share, and average what has outliers."""
        sci, err = self._all(height)
        err = err if self._errors else err[:0]
        outliers, near = self._outliers, self._near
        network, known = sorting_network(self._samples), (self._count, self._total)
        listed = kernels.sum_all(
            sci, outliers.sigma, network, self._scratch, *known, outliers.pixels
        )
        near.take(sci, err, outliers.average(sci, err, listed, self._count, near.pixels))
        self._before[: height * self._columns] = 0

    def average(
        self, index: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Take a sample off the total, or what was averaged where that will not do."""
        pixels = height * self._columns
        own, errors = self._all(height)
        result = sci.reshape(-1), err.reshape(-1), counts.reshape(-1)
        known = self._count[:pixels], self._total[:pixels]
        usable = kernels.leave_out(own[index], *known, result[0], result[2])
        if self._errors:
            kernels.leave_out_errors(
                errors, index, result[2], self._before[:pixels], self._variance, result[1]
            )
        clipped = self._outliers.put(index, result) + self._near.put(index, result)
        offered = (self._samples - 1) * pixels
        return SampleCounts(offered=offered, usable=usable, clipped=clipped)


Result = tuple[FloatImage, FloatImage, FlagImage]
"""Mean, error and number of samples, each (pixels,)."""


class _Outliers:
    """Pixels in which a sample may be rejected, each sorted once for all averages."""

    def __init__(self, samples: int, pixels: int, options: ImageOptions) -> None:
        can_reject = options.sigma <= largest_deviation(samples - 1) * (1 + MARGIN)
        self.sigma = options.sigma if can_reject else None
        self.pixels = np.empty(pixels, np.int32)
        self._limits = options.sigma, clip_iterations(options.maxiters)
        room = pixels if can_reject else 0
        self._averages = (
            np.empty((samples, room), np.float32),
            np.empty((samples, room), np.float32),
            np.empty((samples, room), np.uint32),
        )
        self._buffers = np.empty((samples, LANES), np.float32), np.empty((3, samples + 1))
        self._done = 0

    def average(
        self, sci: FloatImage, err: FloatImage, listed: int, counts: Array, left: Array
    ) -> int:
        """Average the first of the pixels; return how many are left to others, listed in `left`."""
        if self.sigma is None:
            left[:listed] = self.pixels[:listed]
            return listed
        self._done, others = kernels.average_each(
            sci,
            err,
            self.pixels[:listed],
            counts,
            self._limits,
            sorting_network(len(sci)),
            *self._buffers,
            self._averages,
            left,
        )
        return others

    def put(self, index: int, result: Result) -> int:
        """Put the averages without a sample where they belong; return how many samples went."""
        mean, error, counts = (one[index, : self._done] for one in self._averages)
        return kernels.put_averages(self.pixels[: self._done], (mean, error, counts), result)


class _Near:
    """Pixels that are averaged without each sample, one by one."""

    def __init__(self, stack: OneByOne, samples: int, pixels: int) -> None:
        self.pixels = np.empty(pixels, np.int32)
        self._stack, self._samples, self._listed = stack, samples, 0
        self._images = np.empty((2, pixels, 1), np.float32)
        self._counts = np.empty((pixels, 1), np.uint32)

    def take(self, sci: FloatImage, err: FloatImage, listed: int) -> None:
        """Take the samples of the first of the pixels."""
        self._listed = listed
        for index in range(self._samples if listed else 0):
            for image, plane in zip(self._stack.images(index, listed), (sci, err), strict=True):
                if len(plane):
                    np.take(plane[index], self.pixels[:listed], out=image.reshape(-1))

    def put(self, index: int, result: Result) -> int:
        """Average without a sample, and put it where it belongs; return how many samples went."""
        listed = self._listed
        if not listed:
            return 0
        few = *self._images[:, :listed], self._counts[:listed]
        self._stack.average(index, listed, *few)
        mean, error, counts = (one.reshape(-1) for one in few)
        return kernels.put_averages(self.pixels[:listed], (mean, error, counts), result)


def make_jackknife(
    samples: int, height: int, columns: int, options: ImageOptions, errors: bool
) -> Jackknife:
    """Make what averages samples as options ask, two at least."""
    # By the noise that ERR tells, a sample is judged by its neighbours: all are stacked then.
    kind = OneByOne if options.clip_noise == "model" else Together
    return kind(samples, height, columns, options, errors)
