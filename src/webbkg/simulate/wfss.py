"""WFSS: grism exposures with a known scale of their sky.

`draw_field` makes what does not change from one exposure to the next, `observe` adds noise, and
`write_field` writes all that a subtraction needs. The scene says what is shown
(`webbkg.simulate.grism_scene`). The sky is the template times the scale, exactly, where the
template is finite (and has no noise).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.files.output import save_whole
from webbkg.options import DO_NOT_USE
from webbkg.results import FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import Stream, Subarray, generator
from webbkg.simulate.dispersion import grism_wcs, half_boxes, render_traces
from webbkg.simulate.grism_scene import WfssScene, make_template, sky_pattern
from webbkg.simulate.products import (
    PLANES,
    Identity,
    make_model,
    reference_metadata,
    write_models,
)
from webbkg.simulate.scene import Field, Simulated

CATALOG_NAME = "cat.ecsv"
"""SCATFILE of the target, and the file that `write_field` writes."""


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
    field is the same on a subarray, which must lie on it, or it is an OptionError.
    """
    return GrismField(scene=scene, seed=seed, setup=scene.set_up(subarray))


def observe(shown: GrismField, number: int = 0, *, true_err: bool = False) -> SimulatedGrism:
    """Expose a field once; see `Field.measure`.

    The model is an ImageModel with DISPAXIS, SCATFILE and the grism WCS.
    """
    measured = shown.measure(number, true_err=true_err)
    planes = {name: getattr(measured, name) for name in PLANES}
    identity = Identity(exposure=number + 1, slot=number, target_name="SIMULATED-FIELD")
    model = make_model(planes, shown.scene, shown.setup, identity)
    model.meta.wcsinfo.dispersion_direction = shown.scene.grism.axis
    model.meta.source_catalog = CATALOG_NAME
    model.meta.wcs = shown.wcs
    return SimulatedGrism(model=model, field=shown, cosmic_rays=measured.cosmic_rays)


@dataclass(frozen=True, kw_only=True)
class FieldFiles:
    """What `write_field` wrote."""

    target: Path  #: the exposure; it names the catalogue in SCATFILE
    catalog: Path  #: the source catalogue
    template: Path  #: the references
    wavelengthrange: Path
    association: Path  #: names target and catalogue


def source_catalog(shown: GrismField) -> Any:
    """List the sources as the pipeline's source_catalog step does, also those off the detector.

    Returns
    -------
    astropy.table.QTable
        ``label``, ``xcentroid``, ``ycentroid`` (pixels of the whole detector from 0),
        ``sky_centroid`` and the corners ``sky_bbox_ll``, ``_lr``, ``_ul``, ``_ur`` (ICRS),
        ``isophotal_abmag`` and its ``_err`` (always 0.01), ``is_extended``.
    """
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable

    scene, drawn = shown.scene, shown.catalogue
    dx, dy = half_boxes(drawn, scene.population, scene.isophote)
    to_sky = scene.sky
    table = QTable()
    table["label"] = np.arange(1, len(drawn.flux) + 1)
    table["xcentroid"], table["ycentroid"] = drawn.x, drawn.y
    corners = {"ll": (-1, -1), "lr": (1, -1), "ul": (-1, 1), "ur": (1, 1)}
    moves = {f"sky_bbox_{corner}": move for corner, move in corners.items()}
    for name, (right, up) in {"sky_centroid": (0, 0), **moves}.items():
        table[name] = SkyCoord(*to_sky(drawn.x + right * dx, drawn.y + up * dy), unit="deg")
    table["isophotal_abmag"] = scene.zero_point - 2.5 * np.log10(drawn.flux)
    table["isophotal_abmag_err"] = np.full(len(table), 0.01)
    table["is_extended"] = drawn.radius > 0
    return table


def template_model(scene: WfssScene, seed: int = 1, window: DetectorWindow | None = None) -> Any:
    """Make the BKG reference, on the whole detector or, to save time, on a window of it.

    Where the template is NaN, so is ERR, and DQ has DO_NOT_USE.
    """
    from stdatamodels.jwst import datamodels

    part = scene.detector.part(window or scene.detector.full.window)
    data = make_template(scene, seed, part.window)
    missing = np.isnan(data)
    err = np.where(missing, np.nan, scene.template_noise).astype(np.float32)
    dq = np.where(missing, DO_NOT_USE, 0).astype(np.uint32)
    meta = reference_metadata(scene, "bkg", "Simulated sky of a grism", part)
    return datamodels.WfssBkgModel({"meta": meta, "data": data, "err": err, "dq": dq})


def wavelengthrange_model(scene: WfssScene) -> Any:
    """Make the WAVELENGTHRANGE reference: every order of the grism, all of the band."""
    from stdatamodels.jwst import datamodels

    band = scene.band
    orders = sorted(order.number for order in scene.grism.orders)
    # Made from a tree it could not be written: the root of an ASDF file has a type of its own.
    model = datamodels.WavelengthrangeModel(
        wrange_selector=[band.name],
        wrange=[[n, band.name, band.shortest, band.longest] for n in orders],
        order=orders,
        extract_orders=[[band.name, orders]],
        wunits="um",
    )
    description = "Orders and wavelengths of a grism"
    model.update({"meta": reference_metadata(scene, "wavelengthrange", description)})
    return model


def write_field(
    folder: Path, simulated: SimulatedGrism, *, template_window: DetectorWindow | None = None
) -> FieldFiles:
    """Write an exposure, its references, its catalogue and an association of them.

    The template covers the whole detector, or `template_window`; the folder is made if it is
    absent, and files of the same names are overwritten.
    """
    scene, seed = simulated.field.scene, simulated.field.seed
    references = (template_model(scene, seed, template_window), wavelengthrange_model(scene))
    template, wavelengthrange = write_models(folder, references)
    target = save_whole(simulated.model, folder / "target_rate.fits")
    catalog, association = folder / CATALOG_NAME, folder / "asn.json"
    source_catalog(simulated.field).write(catalog, format="ascii.ecsv", overwrite=True)
    named = {target.name: "science", catalog.name: "sourcecat"}
    members = [{"expname": name, "exptype": kind} for name, kind in named.items()]
    content = {"asn_type": "spec2", "products": [{"name": "target", "members": members}]}
    association.write_text(json.dumps(content, indent=4) + "\n")
    return FieldFiles(
        target=target,
        catalog=catalog,
        template=template,
        wavelengthrange=wavelengthrange,
        association=association,
    )
