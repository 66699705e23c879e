"""Samples of a band, averaged without each of them in turn."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from webbkg.image import kernels as clip
from webbkg.image.average import largest_deviation, make_stack, sorting_network
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
    sum of samples is rounded, so that one can be taken off their total. The others are averaged
    one by one, side by side in a stack of their own.
    """

    def __init__(
        self, samples: int, height: int, columns: int, options: ImageOptions, errors: bool
    ) -> None:
        pixels = height * columns
        self._samples, self._columns, self._errors = samples, columns, errors
        self._sci = np.empty(samples * pixels, np.float32)
        self._err = np.empty((samples if errors else 1) * pixels, np.float32)
        self._doubtful = OneByOne(samples, pixels, 1, options, errors)
        can_reject = options.sigma <= largest_deviation(samples - 1) * (1 + clip.MARGIN)
        self._sigma = options.sigma if can_reject else None
        self._scratch = clip.make_jackknife_scratch(samples)
        self._count, self._total = np.empty(pixels, np.int32), np.empty(pixels)
        self._before, self._variance = np.empty(pixels if errors else 0), np.empty(clip.CHUNK)
        self._list = np.empty(pixels, np.int32)
        self._listed = self._list[:0]
        self._few = np.empty((2, pixels, 1), np.float32)
        self._few_counts = np.empty((pixels, 1), np.uint32)

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
        """Find what the averages share, and put the other pixels aside."""
        sci, err = self._all(height)
        network = sorting_network(self._samples)
        listed = clip.sum_all(
            sci, self._sigma, network, self._scratch, self._count, self._total, self._list
        )
        self._listed = self._list[:listed]
        self._before[: height * self._columns] = 0
        if listed:
            for index in range(self._samples):
                few_sci, few_err = self._doubtful.images(index, listed)
                np.take(sci[index], self._listed, out=few_sci.reshape(-1))
                if self._errors:
                    np.take(err[index], self._listed, out=few_err.reshape(-1))

    def average(
        self, index: int, height: int, sci: FloatImage, err: FloatImage, counts: FlagImage
    ) -> SampleCounts:
        """Take a sample off the total; clip and average the others where that will not do."""
        pixels, listed = height * self._columns, self._listed
        own, errors = self._all(height)
        result = sci.reshape(-1), err.reshape(-1), counts.reshape(-1)
        known = self._count[:pixels], self._total[:pixels]
        usable = clip.leave_out(own[index], *known, result[0], result[2])
        if self._errors:
            clip.leave_out_errors(
                errors, index, result[2], self._before[:pixels], self._variance, result[1]
            )
        clipped = 0
        if len(listed):
            few = *self._few[:, : len(listed)], self._few_counts[: len(listed)]
            clipped = self._doubtful.average(index, len(listed), *few).clipped
            for image, values in zip(result, few, strict=True):
                image[listed] = values.reshape(-1)
        offered = (self._samples - 1) * pixels
        return SampleCounts(offered=offered, usable=usable, clipped=clipped)


def make_jackknife(
    samples: int, height: int, columns: int, options: ImageOptions, errors: bool
) -> Jackknife:
    """Make what averages samples as options ask, two at least."""
    # By the noise that ERR tells, a sample is judged by its neighbours: all are stacked then.
    kind = OneByOne if options.clip_noise == "model" else Together
    return kind(samples, height, columns, options, errors)
