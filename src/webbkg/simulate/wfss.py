"""WFSS: grism exposures with a known scale of their sky.

`draw_field` makes what does not change from one exposure to the next, and `observe` adds noise.
The scene says what is shown (`webbkg.simulate.grism_scene`); `webbkg.simulate.wfss_files` makes
the catalogue and the references, and writes all that a subtraction needs. The sky is the
template times the scale, exactly, where the template is finite (and has no noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from webbkg.results import FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import Planes, Stream, Subarray, generator
from webbkg.simulate.dispersion import grism_wcs
from webbkg.simulate.grism_scene import WfssScene, make_template, sky_pattern
from webbkg.simulate.products import PLANES, VARIANCES, Identity, make_model
from webbkg.simulate.scene import Field, Simulated
from webbkg.simulate.spectra import render_traces

CATALOG_NAME = "cat.ecsv"
"""SCATFILE of the target, and the file that `webbkg.simulate.wfss_files.write_field` writes."""


@dataclass(frozen=True, kw_only=True)
class GrismField(Field):
    """What all exposures of a scene share, on one window of the detector."""

    scene: WfssScene

    @cached_property
    def catalogue(self) -> sources.Catalogue:
        """The sources of the whole detector and its margin, on the direct image."""
        scene, rng = self.scene, generator(self.seed, Stream.CATALOGUE)
        full = scene.detector.full.window
        return sources.draw_catalogue(scene.population, full, scene.margin, rng)

    @cached_property
    def template(self) -> FloatImage:
        """Sky of scale 1 (DN/s); NaN in its border."""
        return make_template(self.scene, self.seed, self.setup.window)

    @cached_property
    def sky(self) -> FloatImage:
        """The true sky: the template's, without noise and border, times the scale."""
        scene = self.scene
        return np.float32(scene.scale) * sky_pattern(scene, self.setup.window) * self.lit

    @cached_property
    def sources(self) -> FloatImage:
        """Dispersed light of the sources."""
        scene, window = self.scene, self.setup.window
        population, grism, band = scene.population, scene.grism, scene.band
        return render_traces(self.catalogue, population, grism, band, window) * self.lit

    @cached_property
    def wcs(self) -> Any:
        """The gwcs.WCS of the exposures."""
        return grism_wcs(self.scene.grism, self.setup.window, self.scene.sky)


@dataclass(frozen=True, kw_only=True)
class SimulatedGrism(Simulated):
    """A grism exposure; `field.scene.scale` is its true scale, `field.template` what it scales."""

    field: GrismField


def draw_field(scene: WfssScene, seed: int = 1, subarray: Subarray | None = None) -> GrismField:
    """Draw a field: everything but the noise of an exposure.

    The same seed gives the same bits. What is read out is by default the whole detector; the
    field is the same on a subarray.

    Raises
    ------
    OptionError
        If the window leaves the detector.
    """
    return GrismField(scene=scene, seed=seed, setup=scene.set_up(subarray))


def measure(shown: GrismField, number: int = 0, *, true_err: bool = False) -> Planes:
    """Expose a field once, without the metadata; see `Field.measure`."""
    return shown.measure(number, true_err=true_err)


def observe(shown: GrismField, number: int = 0, *, true_err: bool = False) -> SimulatedGrism:
    """Expose a field once; see `Field.measure`.

    The model is an ImageModel with DISPAXIS, SCATFILE and the grism WCS.
    """
    measured = shown.measure(number, true_err=true_err)
    planes = {name: getattr(measured, name) for name in PLANES | VARIANCES}
    identity = Identity(exposure=number + 1, slot=number, target_name="SIMULATED-FIELD")
    model = make_model(planes, shown.scene, shown.setup, identity)
    model.meta.wcsinfo.dispersion_direction = shown.scene.grism.axis
    model.meta.source_catalog = CATALOG_NAME
    model.meta.wcs = shown.wcs
    return SimulatedGrism(model=model, field=shown, cosmic_rays=measured.cosmic_rays)
