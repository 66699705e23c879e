"""What goes with a simulated grism exposure: catalogue and references, as models and in files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.files.output import save_whole
from webbkg.options import DO_NOT_USE
from webbkg.simulate.grism_scene import WfssScene, make_template
from webbkg.simulate.spectra import half_boxes
from webbkg.simulate.wfss import CATALOG_NAME, Field, SimulatedGrism


@dataclass(frozen=True, kw_only=True)
class FieldFiles:
    """What `write_field` wrote.

    Attributes
    ----------
    target : Path
        The exposure; it names the catalogue in SCATFILE.
    catalog : Path
        The source catalogue.
    template, wavelengthrange : Path
        The references.
    association : Path
        Names target and catalogue.
    """

    target: Path
    catalog: Path
    template: Path
    wavelengthrange: Path
    association: Path


def source_catalog(shown: Field) -> Any:
    """List the sources as the pipeline's source_catalog step does.

    Parameters
    ----------
    shown : Field
        Its catalogue, sources outside the detector included.

    Returns
    -------
    astropy.table.QTable
        ``label``, ``xcentroid``, ``ycentroid`` (pixels of the whole detector from 0),
        ``sky_centroid`` and the corners ``sky_bbox_ll``, ``_lr``, ``_ul``, ``_ur`` (ICRS),
        ``isophotal_abmag`` and its ``_err`` (always 0.01), ``is_extended``.
    """
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable

    scene, catalogue = shown.scene, shown.catalogue
    dx, dy = half_boxes(catalogue, scene.population, scene.isophote)
    sky = scene.sky
    corners = {"ll": (-1, -1), "lr": (1, -1), "ul": (-1, 1), "ur": (1, 1)}
    table = QTable()
    table["label"] = np.arange(1, len(catalogue.flux) + 1)
    table["xcentroid"] = catalogue.x
    table["ycentroid"] = catalogue.y
    table["sky_centroid"] = SkyCoord(*sky(catalogue.x, catalogue.y), unit="deg")
    for name, (right, up) in corners.items():
        position = sky(catalogue.x + right * dx, catalogue.y + up * dy)
        table[f"sky_bbox_{name}"] = SkyCoord(*position, unit="deg")
    table["isophotal_abmag"] = scene.zero_point - 2.5 * np.log10(catalogue.flux)
    table["isophotal_abmag_err"] = np.full(len(table), 0.01)
    table["is_extended"] = catalogue.radius > 0
    return table


def template_model(scene: WfssScene, seed: int = 1, window: DetectorWindow | None = None) -> Any:
    """Make the BKG reference, on the whole detector or, to save time, on a window of it.

    Returns
    -------
    WfssBkgModel
        Where the template is NaN, so is ERR, and DQ has DO_NOT_USE.
    """
    from stdatamodels.jwst import datamodels

    full = scene.detector.full.window
    window = window or full
    data = make_template(scene, seed, window)
    missing = np.isnan(data)
    err = np.full_like(data, scene.template_noise)
    err[missing] = np.nan
    meta = _reference_metadata(scene, "bkg", "Simulated sky of a grism")
    meta["bunit_data"] = meta["bunit_err"] = "DN/s"
    filter_name, pupil = scene.elements
    meta["instrument"] |= {"detector": scene.detector.name, "filter": filter_name}
    if pupil is not None:
        meta["instrument"]["pupil"] = pupil
    meta["subarray"] = {
        "name": "FULL" if window == full else "GENERIC",
        "xstart": window.x + 1,
        "ystart": window.y + 1,
        "xsize": window.columns,
        "ysize": window.rows,
        "fastaxis": scene.detector.fast_axis,
        "slowaxis": scene.detector.slow_axis,
    }
    dq = np.where(missing, DO_NOT_USE, 0).astype(np.uint32)
    return datamodels.WfssBkgModel({"meta": meta, "data": data, "err": err, "dq": dq})


def wavelengthrange_model(scene: WfssScene) -> Any:
    """Make the WAVELENGTHRANGE reference: every order of the grism, all of the band.

    Returns
    -------
    WavelengthrangeModel
    """
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
    model.update({"meta": _reference_metadata(scene, "wavelengthrange", description)})
    return model


def _reference_metadata(scene: WfssScene, kind: str, description: str) -> dict[str, Any]:
    return {
        "telescope": "JWST",
        "reftype": kind,
        "author": "webbkg.simulate",
        "pedigree": "DUMMY",
        "description": description,
        "useafter": "2014-01-01T00:00:00",
        "instrument": {"name": scene.detector.instrument},
        "exposure": {"type": scene.exposure_type},
    }


def write_field(
    folder: Path, simulated: SimulatedGrism, *, template_window: DetectorWindow | None = None
) -> FieldFiles:
    """Write an exposure, its references, its catalogue and an association of them.

    Parameters
    ----------
    folder : Path
        Where to; made if it is absent. Files of the same names are overwritten.
    simulated : SimulatedGrism
        What to write; `simulated.field` holds the truth.
    template_window : DetectorWindow, optional
        What the template covers; the whole detector by default.

    Returns
    -------
    FieldFiles
    """
    folder.mkdir(parents=True, exist_ok=True)
    scene, seed = simulated.field.scene, simulated.field.seed
    files = FieldFiles(
        target=folder / "target_rate.fits",
        catalog=folder / CATALOG_NAME,
        template=folder / "bkg.fits",
        wavelengthrange=folder / "wavelengthrange.asdf",
        association=folder / "asn.json",
    )
    save_whole(simulated.model, files.target)
    save_whole(template_model(scene, seed, template_window), files.template)
    save_whole(wavelengthrange_model(scene), files.wavelengthrange)
    source_catalog(simulated.field).write(files.catalog, format="ascii.ecsv", overwrite=True)
    members = [
        {"expname": files.target.name, "exptype": "science"},
        {"expname": files.catalog.name, "exptype": "sourcecat"},
    ]
    association = {"asn_type": "spec2", "products": [{"name": "target", "members": members}]}
    files.association.write_text(json.dumps(association, indent=4) + "\n")
    return files
