"""What a grism exposure shows: its instrument, its sky of scale 1, and the template of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import (
    MIRI_IMAGER,
    NIRCAM_LONG,
    NIRISS,
    Detector,
    Readout,
    Stream,
    generator,
)
from webbkg.simulate.dispersion import (
    GR150C,
    GR150R,
    GRISMC,
    GRISMR,
    P750L,
    Grism,
    sky_transform,
)
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.spectra import Band

NIRCAM_BANDS = {
    band.name: band
    for band in (
        Band("F277W", 2.42, 3.13),
        Band("F322W2", 2.43, 4.01),
        Band("F356W", 3.14, 3.98),
        Band("F410M", 3.87, 4.28),
        Band("F444W", 3.88, 4.98),
    )
}
NIRISS_BANDS = {
    band.name: band
    for band in (
        Band("F090W", 0.80, 1.01),
        Band("F115W", 1.01, 1.28),
        Band("F150W", 1.33, 1.67),
        Band("F200W", 1.75, 2.23),
    )
}
"""Blocking filters, from half power to half power (JWST user documentation, "NIRCam Filters"
and "NIRISS Filters"), rounded."""

GRISM_FIELD = sources.Population(
    stars=40, galaxies=80, faintest=10.0, brightest=20000.0, smallest=1.5, largest=8.0
)
"""Sources of magnitude 17 to 25 with the scene's zero point; their traces and boxes cover some
two fifths of a NIRCam exposure."""


@dataclass(frozen=True, kw_only=True)
class WfssScene:
    """What is observed, and with what. Unless a source is named, the values are chosen.

    Positions along and across dispersion are fractions of the detector, from -0.5 to 0.5.

    Attributes
    ----------
    detector : Detector
        With its noise and defects.
    readout : Readout
        How the integration is sampled.
    exposure_type : str
        EXP_TYPE.
    grism : Grism
        What disperses the light.
    band : Band
        What limits it.
    population : webbkg.simulate.sources.Population
        Stars and galaxies, with their total rate before the grism.
    margin : float
        How far outside the detector there are sources (pixels).
    zero_point : float
        AB magnitude of a source of 1 DN/s.
    isophote : float
        Where the catalogue's boxes end: surface brightness before the grism (DN/s per pixel).
    scale : float
        What the template must be multiplied by to give the sky; the truth to recover.
    level : float
        The template's level on its flat part (DN/s).
    slope : (along, across)
        Its change from one end of the detector to the other, as a fraction.
    bow : float
        Its change from the centre to an end along dispersion, as a fraction.
    shadow_at, shadow_tilt, shadow_depth : float
        Below this position along dispersion, shifted by `shadow_tilt` times the position
        across, lies the shadow of something outside the field: darker by this fraction,
        within a pixel.
    fall_at, fall_depth : float
        Above this position along dispersion the sky falls evenly, by this fraction at the end,
        as part of its wavelengths would come from outside the field.
    border : int
        Width of the border in which the template is NaN, beyond the reference pixels (pixels).
    template_noise : float
        Standard deviation of the noise of the template, and its ERR (DN/s); the sky has none
        of it.
    ra, dec : float
        Of the detector's centre (degrees).
    """

    detector: Detector = NIRCAM_LONG
    readout: Readout = SHALLOW
    exposure_type: str = "NRC_WFSS"
    grism: Grism = GRISMR
    band: Band = NIRCAM_BANDS["F356W"]
    population: sources.Population = GRISM_FIELD
    margin: float = 800.0
    zero_point: float = 27.5
    isophote: float = 0.01
    scale: float = 0.87
    level: float = 0.3
    slope: tuple[float, float] = (0.03, -0.02)
    bow: float = 0.01
    shadow_at: float = -0.3
    shadow_tilt: float = 0.02
    shadow_depth: float = 0.12
    fall_at: float = 0.25
    fall_depth: float = 0.6
    border: int = 2
    template_noise: float = 0.0
    ra: float = 53.15
    dec: float = -27.79

    @property
    def elements(self) -> tuple[str, str | None]:
        """FILTER and PUPIL."""
        return {
            "NIRCAM": (self.band.name, self.grism.name),
            "NIRISS": (self.grism.name, self.band.name),
            "MIRI": (self.grism.name, None),
        }[self.detector.instrument]

    @property
    def sky(self) -> Any:
        """The transform from pixels of the whole detector to ra and dec."""
        full = self.detector.full.window
        return sky_transform(full, self.detector.pixel_scale, self.ra, self.dec)


NIRCAM_R = WfssScene()
NIRCAM_C = WfssScene(grism=GRISMC, band=NIRCAM_BANDS["F444W"], level=0.5)
NIRISS_C = WfssScene(
    detector=NIRISS,
    readout=Readout(pattern="NIS", n_groups=8, n_frames=4),
    exposure_type="NIS_WFSS",
    grism=GR150C,
    band=NIRISS_BANDS["F200W"],
    margin=400.0,
    level=0.45,
)
NIRISS_R = WfssScene(
    detector=NIRISS,
    readout=NIRISS_C.readout,
    exposure_type="NIS_WFSS",
    grism=GR150R,
    band=NIRISS_BANDS["F150W"],
    margin=400.0,
    level=0.35,
)
MIRI_PRISM = WfssScene(
    detector=MIRI_IMAGER,
    readout=Readout(pattern="FASTR1", n_groups=40),
    exposure_type="MIR_WFSS",
    grism=P750L,
    band=Band("P750L", 5.0, 14.0),
    population=sources.Population(stars=30, galaxies=40, faintest=300.0, brightest=1e5),
    margin=300.0,
    isophote=0.3,
    level=60.0,
)
"""A scene for each grism; MIRI's prism sees a far brighter sky."""


def sky_pattern(scene: WfssScene, window: DetectorWindow) -> FloatImage:
    """Evaluate the sky of scale 1 on a window, where it lies on the detector.

    Returns
    -------
    (rows, columns) float32
        DN/s; finite and free of noise everywhere.
    """
    full = scene.detector.full.window
    x = (np.arange(window.x, window.x + window.columns) + 0.5) / full.columns - 0.5
    y = (np.arange(window.y, window.y + window.rows) + 0.5) / full.rows - 0.5
    row, column = x[np.newaxis, :], y[:, np.newaxis]
    along, across = (row, column) if scene.grism.axis == 1 else (column, row)
    length = full.columns if scene.grism.axis == 1 else full.rows
    smooth = 1 + scene.slope[0] * along + scene.slope[1] * across + 4 * scene.bow * along**2
    beyond = (along - scene.shadow_at - scene.shadow_tilt * across) * length
    shadow = 1 - scene.shadow_depth * np.clip(0.5 - beyond, 0, 1)
    fallen = np.clip((along - scene.fall_at) / (0.5 - scene.fall_at), 0, 1)
    pattern = scene.level * smooth * shadow * (1 - scene.fall_depth * fallen)
    return pattern.astype(np.float32)


def make_template(scene: WfssScene, seed: int, window: DetectorWindow) -> FloatImage:
    """Make the template on a window: `sky_pattern` with noise, if any, and its NaN border."""
    template = sky_pattern(scene, window)
    full = scene.detector.full.window
    if scene.template_noise:
        # Drawn on the whole detector, so that a sub-array sees the same noise there.
        noise = generator(seed, Stream.TEMPLATE).standard_normal(full.shape, dtype=np.float32)
        rows = slice(window.y, window.y + window.rows)
        columns = slice(window.x, window.x + window.columns)
        template += np.float32(scene.template_noise) * noise[rows, columns]
    width_y = scene.detector.reference_rows + scene.border
    width_x = scene.detector.reference_columns + scene.border
    rows_of = np.arange(window.y, window.y + window.rows)
    columns_of = np.arange(window.x, window.x + window.columns)
    template[(rows_of < width_y) | (rows_of >= full.rows - width_y)] = np.nan
    template[:, (columns_of < width_x) | (columns_of >= full.columns - width_x)] = np.nan
    return template
