"""The sky of several components, as it is subtracted: its level and what is uncertain about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from webbkg.results import ComponentFit, FloatImage
from webbkg.wfss.components import basis

Doubles = npt.NDArray[np.float64]


class Band(NamedTuple):
    """Lines of a sky, (rows, columns) float64."""

    level: Doubles
    own: Doubles  #: variance by the templates' own uncertainties, of each pixel apart
    fitted: Doubles  #: variance by that of the coefficients, which moves all pixels together


@dataclass(frozen=True)
class Composite:
    """A fitted sky of several components.

    Attributes
    ----------
    fit : ComponentFit
        A COMPLETE one.
    templates : sequence of (rows, columns) float32
        As many as it has scales.
    errs : sequence of (rows, columns) float32 or None
        Their standard uncertainties; None for 0.
    """

    fit: ComponentFit
    templates: Sequence[FloatImage]
    errs: Sequence[FloatImage | None]

    @cached_property
    def _of_coefficients(self) -> tuple[Doubles, Doubles, Doubles]:
        """Covariance of the scales, that with the profile, and the profile's variance, along it."""
        number, length = len(self.fit.scales), len(self.fit.profile)
        free = basis(np.arange(length) + 0.5, length, self.fit.freedom)
        scales, both = np.s_[:number], np.s_[number:]
        covariance = self.fit.covariance
        of_profile = np.einsum("xk,kl,xl->x", free, covariance[both, both], free)
        return covariance[scales, scales], covariance[scales, both] @ free.T, of_profile

    def _along(self, values: Doubles, lines: slice) -> Doubles:
        """Lay a vector along dispersion over lines of the image."""
        return values if self.fit.along_x else values[lines, np.newaxis]

    def band(self, lines: slice) -> Band:
        """Compute some lines; NaN where a template is not finite."""
        of_scales, shared, of_profile = self._of_coefficients
        templates = [one[lines].astype(np.float64) for one in self.templates]
        level = np.zeros_like(templates[0]) + self._along(self.fit.profile, lines)
        own, fitted = np.zeros_like(level), np.zeros_like(level)
        fitted += self._along(of_profile, lines)
        with np.errstate(invalid="ignore", over="ignore"):
            for k, (scale, template) in enumerate(zip(self.fit.scales, templates, strict=True)):
                level += scale * template
                err = self.errs[k]
                own += 0.0 if err is None else np.square(scale * err[lines].astype(np.float64))
                fitted += 2 * template * self._along(shared[k], lines)
                for other, more in enumerate(templates):
                    fitted += of_scales[k, other] * template * more
        level[~np.isfinite(level)] = np.nan
        return Band(level, own, np.maximum(fitted, 0))

    def besides(self, lines: slice) -> Doubles:
        """Compute what the model has besides the first template."""
        first = self.fit.scales[0] * self.templates[0][lines].astype(np.float64)
        return self.band(lines).level - first
