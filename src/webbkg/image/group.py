"""Image from image: what a group of nods or dithers shares, each exposure against the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from webbkg.errors import WebbkgError
from webbkg.files.opened import OpenExposures
from webbkg.files.scratch import Lists, Scratch
from webbkg.image.average import Tally
from webbkg.image.leave_one_out import Rows, average_others, errors_of_others, is_covered
from webbkg.image.measure import Combination, Combined
from webbkg.image.unkept import NO_LINES, are_apart, counts_type
from webbkg.image.variance import average_shares_of_others, variances_of
from webbkg.modes import Shared
from webbkg.numerics.lines import lines_within
from webbkg.numerics.planes import VARIANCES, Placed
from webbkg.results import CombinedBackground, FlagImage, FloatImage, UnkeptBackground, Variances

log = logging.getLogger(__name__)

SHARES = ("share of rnoise", "share of flat")
"""What is kept of the kinds of an average's variance."""

Made = TypeVar("Made")


class Others(Shared):
    """Averages of the others for each exposure of a group, made in one pass over its files.

    They are made when the first of them is asked for, and wait for the others. What one pass
    does not give (see `webbkg.image.leave_one_out.is_covered`), and what another set of exposures
    is asked for, is averaged by itself; so it is where the pass fails, so that each target has
    the error that is its own.

    Parameters
    ----------
    files : sequence of Path
        The exposures, in the order in which each target's backgrounds are given.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._files = tuple(files)
        self._asked: Combination | None = None
        self._kept: _Kept | None = None
        self._told: list[Tally] = []
        self._with_flat: list[bool] = []

    def get(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return the average of the others, from the pass if it gives that."""
        index = self._left_out(key)
        if index is None or not self._has(key):
            return super().get(key, make)
        return cast(Made, Combined(self._background(index)))

    def close(self) -> None:
        """Give the space back, and close what is open."""
        self._forget()
        super().close()

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _left_out(self, key: Any) -> int | None:
        """Tell which one exposure is not averaged; None if it is not one of the group's."""
        if not isinstance(key, Combination) or key.masks:
            return None
        missing = [i for i, file in enumerate(self._files) if file not in key.sources]
        rest = self._files[: missing[0]] + self._files[missing[0] + 1 :] if missing else ()
        return missing[0] if key.sources == rest else None

    def _has(self, key: Combination) -> bool:
        """Make the pass for what is asked for, unless it is made; tell whether there is one."""
        asked = replace(key, sources=(), places=())  # what is the same for all of the group
        asked = asked.serving(self._asked)
        if asked != self._asked:
            self._forget()
            self._asked = asked
            try:
                self._make(asked)
            except WebbkgError as error:
                log.debug("the exposures of the group are averaged singly: %s", error)
                self._forget()
        return self._kept is not None

    def _make(self, key: Combination) -> None:
        also = VARIANCES if key.wanted.variances else ()
        exposures = self.one(OpenExposures).get(self._files, also)
        found = [exposure.placed_on(exposures[0].place) for exposure in exposures]
        placed = [one for one in found if one is not None]
        if len(placed) == len(found) and is_covered(placed, key.shape, key.options):
            self._average(placed, key)

    def _average(self, placed: Sequence[Placed], key: Combination) -> None:
        wanted = key.wanted
        planes: dict[str, npt.DTypeLike] = {"sci": np.float32}
        if wanted.whole:
            planes["err"] = np.float32
        if wanted.whole or wanted.counts:
            planes["counts"] = counts_type(len(placed))
        if wanted.variances:
            self._with_flat = [one.planes.has("VAR_FLAT") for one in placed]
            planes |= dict.fromkeys(SHARES if any(self._with_flat) else SHARES[:1], np.float32)
        apart = are_apart(wanted.lines, key.shape[0], key.options)
        lines = NO_LINES if apart else wanted.lines
        self._kept = kept = _Kept(len(placed), key.shape, planes, lines)
        errors = wanted.whole or not apart
        self._told = average_others(placed, key.shape, key.options, kept.put, errors=errors)
        if wanted.lines and apart:
            kept.errors = errors_of_others(placed, key.shape[1], key.options, wanted.lines)
        if wanted.variances:
            average_shares_of_others(placed, key.shape, kept.put_shares)

    def _background(self, index: int) -> CombinedBackground | UnkeptBackground:
        kept, asked, told = self._kept, self._asked, self._told[index]
        assert kept is not None
        assert asked is not None
        common: dict[str, Any] = {
            "sci": kept.plane(index, "sci"),
            "dq": kept.flags(index),
            "exposures": told.exposures,
            "integrations": told.integrations,
        }
        if asked.wanted.whole:
            return CombinedBackground(
                err=kept.plane(index, "err"),
                covered=np.ones(asked.shape, np.bool_),
                counts=kept.plane(index, "counts").astype(np.uint32),
                variances=self._variances(kept, index) if asked.wanted.variances else None,
                **common,
            )
        return UnkeptBackground(
            covered=np.broadcast_to(np.True_, asked.shape),
            lines=asked.wanted.lines,
            errors=kept.errors[index],
            counts=kept.plane(index, "counts") if asked.wanted.counts else None,
            unknown=told.unknown,
            **common,
        )

    def _variances(self, kept: _Kept, index: int) -> Variances:
        """Split the variance of an average by the shares of its exposures' kinds."""
        rnoise, flat = SHARES
        return variances_of(
            kept.plane(index, "err"),
            kept.plane(index, rnoise),
            kept.plane(index, flat) if any(self._with_flat) else None,
            has_flat=any(has for i, has in enumerate(self._with_flat) if i != index),
        )


class _Kept:
    """Averages that wait until they are asked for.

    Their flags hardly differ: they are kept once for all, and for each what differs.

    Attributes
    ----------
    errors : (averages, lines, columns) float32
        ERR of each in some rows.
    """

    def __init__(
        self,
        number: int,
        shape: tuple[int, int],
        planes: Mapping[str, npt.DTypeLike],
        lines: range,
    ) -> None:
        self.errors = np.empty((number, len(lines), shape[1]), np.float32)
        self._lines = lines
        self._planes = Scratch(number, shape, planes)
        self._names = [name for name in planes if name not in SHARES]
        self._shares = [name for name in planes if name in SHARES]
        self._flags = np.empty(shape, np.uint32)
        self._differences = Lists(number)

    def put(self, index: int, start: int, rows: Rows) -> None:
        """Keep rows of an average, from row `start` on."""
        self._planes.put(index, start, **{name: getattr(rows, name) for name in self._names})
        if index == 0:
            self._flags[start : start + len(rows.flags)] = rows.flags
        self._differences.put(index, start, rows.differences)
        ours, theirs = lines_within(self._lines, start, start + len(rows.err))
        self.errors[index, ours] = rows.err[theirs]

    def put_shares(self, index: int, start: int, *shares: FloatImage) -> None:
        """Keep rows of what the kinds have of an average's variance."""
        self._planes.put(index, start, **dict(zip(self._shares, shares, strict=False)))

    def plane(self, index: int, name: str) -> npt.NDArray[Any]:
        """Return a plane of an average, to look at only."""
        return self._planes.get(index, name)

    def flags(self, index: int) -> FlagImage:
        """Return the flags of an average."""
        flags = self._flags.copy()
        for start, (places, bits) in self._differences.get(index):
            flags[start:].reshape(-1)[places] ^= bits
        return flags

    def close(self) -> None:
        """Give the space back."""
        self._planes.close()
        self._differences.close()
