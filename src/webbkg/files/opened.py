"""Exposures that stay open from one target to the next that wants them too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webbkg.files.exposures import Exposure
from webbkg.files.pool import FilePool


class OpenExposures:
    """Exposures as they are opened for a target: headers read, and what is packed unpacked.

    They stay open while targets follow each other that have some of them in common. What is
    opened as a data model, or given as one, is not kept: its planes are in memory.
    """

    def __init__(self) -> None:
        self._pool = FilePool()
        self._open: dict[tuple[Path, tuple[str, ...]], Exposure] = {}

    def get(self, given: Sequence[Any], also: Sequence[str] = ()) -> list[Exposure]:
        """Return exposures, opened now or before; see `Exposure.from_file` for `also` and errors.

        Parameters
        ----------
        given : sequence of Path or data model
            Their files, or the models.
        also : sequence of str
            Planes that are wanted where they have them.
        """
        paths = {one for one in given if isinstance(one, Path)}
        if self._open and paths.isdisjoint(path for path, _ in self._open):
            self.close()
        return [self._get(one, tuple(also)) for one in given]

    def _get(self, given: Any, also: tuple[str, ...]) -> Exposure:
        if not isinstance(given, Path):
            return Exposure.from_model(given, also=also)
        if (given, also) in self._open:
            return self._open[given, also]
        exposure = Exposure.from_file(given, self._pool, also=also)
        if exposure.model is None:
            self._open[given, also] = exposure
        return exposure

    def close(self) -> None:
        """Close the files, and give the space of what was unpacked back."""
        self._open.clear()
        self._pool.close()
