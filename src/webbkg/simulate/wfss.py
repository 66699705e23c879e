"""WFSS: grism exposures with a known scale of their sky.

`draw_field` makes what does not change from one exposure to the next, and `observe` adds noise.
The scene says what is shown (`webbkg.simulate.grism_scene`); `webbkg.simulate.wfss_files` makes
the catalogue and the references, and writes all that a subtraction needs. The sky is the
template times the scale, exactly, where the template is finite (and has no noise).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from webbkg.errors import OptionError
from webbkg.results import FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import (
    BadPixels,
    Planes,
    Setup,
    Stream,
    Subarray,
    draw_bad_pixels,
    expose,
    generator,
    reference_pixels,
)
from webbkg.simulate.dispersion import grism_wcs
from webbkg.simulate.grism_scene import WfssScene, make_template, sky_pattern
from webbkg.simulate.imaging import Simulated
from webbkg.simulate.products import Identity, make_model
from webbkg.simulate.spectra import render_traces

CATALOG_NAME = "cat.ecsv"
"""SCATFILE of the target, and the file that `webbkg.simulate.wfss_files.write_field` writes."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What all exposures of a scene share, on one window of the detector.

    Attributes
    ----------
    scene : WfssScene
        What is observed.
    seed : int
        Which field.
    setup : Setup
        The detector and how it is read; `setup.window` is where the planes lie.
    catalogue : webbkg.simulate.sources.Catalogue
        The sources of the whole detector and its margin, on the direct image.
    template : (rows, columns) float32
        Sky of scale 1 (DN/s); NaN in its border.
    sky, sources : (rows, columns) float32
        True sky and dispersed light of the sources (DN/s); 0 on reference pixels.
    bad : BadPixels
        Those of the window.
    wcs : gwcs.WCS
        That of the exposures.
    """

    scene: WfssScene
    seed: int
    setup: Setup
    catalogue: sources.Catalogue = field(repr=False)
    template: FloatImage = field(repr=False)
    sky: FloatImage = field(repr=False)
    sources: FloatImage = field(repr=False)
    bad: BadPixels = field(repr=False)
    wcs: Any = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SimulatedGrism(Simulated):
    """A grism exposure and the truth of it.

    Attributes
    ----------
    field : Field
        What it shows; `field.scene.scale` is the true scale, `field.template` what it scales.
    """

    field: Field = field(repr=False)


def draw_field(scene: WfssScene, seed: int = 1, subarray: Subarray | None = None) -> Field:
    """Draw a field: everything but the noise of an exposure.

    Parameters
    ----------
    scene : WfssScene
        What is observed.
    seed : int
        Which sources, bad pixels and noise; the same seed gives the same bits.
    subarray : Subarray, optional
        What is read out; by default the whole detector. The field is the same on it.

    Returns
    -------
    Field

    Raises
    ------
    OptionError
        If the window leaves the detector.
    """
    setup = Setup(scene.detector, scene.readout, subarray or scene.detector.full)
    window, full = setup.window, scene.detector.full.window
    overlap = window.overlap(full)
    if (
        overlap is None
        or overlap.rows != (0, window.rows)
        or overlap.columns != (0, window.columns)
    ):
        raise OptionError(f"subarray must lie on the detector, {full} (got {window})")
    catalogue = sources.draw_catalogue(
        scene.population, full, scene.margin, generator(seed, Stream.CATALOGUE)
    )
    lit = (~reference_pixels(scene.detector, window)).astype(np.float32)
    traces = render_traces(catalogue, scene.population, scene.grism, scene.band, window)
    return Field(
        scene=scene,
        seed=seed,
        setup=setup,
        catalogue=catalogue,
        template=make_template(scene, seed, window),
        sky=np.float32(scene.scale) * sky_pattern(scene, window) * lit,
        sources=traces * lit,
        bad=draw_bad_pixels(scene.detector, seed).on(window),
        wcs=grism_wcs(scene.grism, window, scene.sky),
    )


def measure(shown: Field, number: int = 0, *, true_err: bool = False) -> Planes:
    """Expose a field once, without the metadata.

    Parameters
    ----------
    shown : Field
        What is exposed.
    number : int
        Which exposure; each has noise and cosmic rays of its own.
    true_err : bool
        Quote the ERR of the true rate, not that of the noisy one; SCI stays the same.

    Returns
    -------
    Planes
    """
    light = shown.sky + shown.sources
    return expose(light, shown.setup, shown.bad, shown.seed, number, 0, true_err=true_err)


def observe(shown: Field, number: int = 0, *, true_err: bool = False) -> SimulatedGrism:
    """Expose a field once.

    Parameters
    ----------
    shown, number, true_err
        As in `measure`.

    Returns
    -------
    SimulatedGrism
        Its model is an ImageModel with DISPAXIS, SCATFILE and the grism WCS.
    """
    planes = measure(shown, number, true_err=true_err)
    scene = shown.scene
    filter_name, pupil = scene.elements
    identity = Identity(
        observation=1,
        exposure=number + 1,
        slot=number,
        exposure_type=scene.exposure_type,
        filter=filter_name,
        pupil=pupil,
        target_name="SIMULATED-FIELD",
        is_background=False,
        ra=scene.ra,
        dec=scene.dec,
    )
    model = make_model([planes], False, shown.setup, identity)
    model.meta.wcsinfo.dispersion_direction = scene.grism.axis
    model.meta.source_catalog = CATALOG_NAME
    model.meta.wcs = shown.wcs
    return SimulatedGrism(
        model=model,
        setup=shown.setup,
        sky=shown.sky,
        sources=shown.sources,
        cosmic_rays=planes.cosmic_rays,
        bad=shown.bad.mask(shown.setup.window.shape),
        reference=reference_pixels(scene.detector, shown.setup.window),
        field=shown,
    )
