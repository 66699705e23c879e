"""Image from image: what a group of nods or dithers shares, each exposure against the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from webbkg.errors import WebbkgError
from webbkg.files.exposures import Exposure
from webbkg.files.pool import FilePool
from webbkg.files.scratch import Scratch
from webbkg.image.leave_one_out import Rows, average_others, is_covered
from webbkg.image.measure import Combination, Combined
from webbkg.modes import Shared
from webbkg.numerics.planes import Placed
from webbkg.results import CombinedBackground, SampleCounts

log = logging.getLogger(__name__)

Made = TypeVar("Made")


class Others(Shared):
    """Averages of the others for each exposure of a group, made in one pass over its files.

    They are made when the first of them is asked for, and kept in a scratch file. What one pass
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
        self._made_for: Any = None
        self._scratch: Scratch | None = None
        self._told: list[tuple[SampleCounts, SampleCounts]] = []

    def get(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return the average of the others, from the pass if it gives that."""
        index = self._left_out(key)
        if index is None or not self._has(key):
            return super().get(key, make)
        return cast(Made, Combined(self._background(index, key)))

    def close(self) -> None:
        """Give the space back."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _left_out(self, key: Any) -> int | None:
        """Tell which one exposure is not averaged; None if it is not one of the group's."""
        if not isinstance(key, Combination) or key.propagated or key.masks:
            return None
        missing = [i for i, file in enumerate(self._files) if file not in key.sources]
        rest = self._files[: missing[0]] + self._files[missing[0] + 1 :] if missing else ()
        return missing[0] if key.sources == rest else None

    def _has(self, key: Combination) -> bool:
        """Make the pass for what is asked for, unless it is made; tell whether there is one."""
        made_for = key.shape, key.options, key.errors
        if made_for != self._made_for:
            self.close()
            self._made_for = made_for
            try:
                self._make(key)
            except WebbkgError as error:
                log.debug("the exposures of the group are averaged singly: %s", error)
                self.close()
        return self._scratch is not None

    def _make(self, key: Combination) -> None:
        with FilePool() as pool:
            exposures = [Exposure.from_file(file, pool) for file in self._files]
            found = [exposure.placed_on(exposures[0].place) for exposure in exposures]
            placed = [one for one in found if one is not None]
            if len(placed) == len(found) and is_covered(placed, key.shape, key.options):
                self._average(placed, key)

    def _average(self, placed: Sequence[Placed], key: Combination) -> None:
        planes = {
            "sci": np.dtype(np.float32),
            "dq": np.dtype(np.uint32),
            "counts": np.min_scalar_type(len(placed)),
        }
        if key.errors:
            planes["err"] = np.dtype(np.float32)
        self._scratch = scratch = Scratch(len(placed), key.shape, planes)

        def keep(index: int, start: int, rows: Rows) -> None:
            scratch.put(index, start, **{name: getattr(rows, name) for name in planes})

        self._told = average_others(placed, key.shape, key.options, keep, errors=key.errors)

    def _background(self, index: int, key: Combination) -> CombinedBackground:
        scratch = self._scratch
        assert scratch is not None
        unknown = np.broadcast_to(np.float32(np.nan), key.shape)
        exposures, integrations = self._told[index]
        return CombinedBackground(
            sci=scratch.get(index, "sci"),
            err=scratch.get(index, "err") if key.errors else unknown,
            dq=scratch.get(index, "dq"),
            covered=np.ones(key.shape, np.bool_),
            counts=scratch.get(index, "counts").astype(np.uint32),
            exposures=exposures,
            integrations=integrations,
        )
