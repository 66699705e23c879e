"""What a grism exposure shows: its instrument, its sky of scale 1, and the template of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate.detector import (
    MIRI_IMAGER,
    NIRCAM_LONG,
    NIRISS,
    Detector,
    Readout,
    Stream,
    fractions,
    generator,
    reference_pixels,
)
from webbkg.simulate.dispersion import (
    GR150C,
    GR150R,
    GRISMC,
    GRISMR,
    P750L,
    Band,
    Grism,
    sky_transform,
)
from webbkg.simulate.imaging import SHALLOW
from webbkg.simulate.scene import Scene
from webbkg.simulate.sources import Population

F356W, F444W = Band("F356W", 3.14, 3.98), Band("F444W", 3.88, 4.98)
F150W, F200W = Band("F150W", 1.33, 1.67), Band("F200W", 1.75, 2.23)
"""Blocking filters, from half power to half power (JWST user documentation, "NIRCam Filters"
and "NIRISS Filters"), rounded."""

GRISM_FIELD = Population(
    stars=40, galaxies=80, faintest=10.0, brightest=20000.0, smallest=1.5, largest=8.0
)
"""Sources of magnitude 17 to 25 with the scene's zero point; their traces and boxes cover some
two fifths of a NIRCam exposure."""


@dataclass(frozen=True, kw_only=True)
class WfssScene(Scene):
    """What is observed, and with what.

    Positions along and across dispersion are fractions of the detector, from -0.5 to 0.5.
    """

    detector: Detector = NIRCAM_LONG
    readout: Readout = SHALLOW
    exposure_type: str = "NRC_WFSS"
    ra: float = 53.15
    dec: float = -27.79
    grism: Grism = GRISMR  #: what disperses the light
    band: Band = F356W  #: what limits it
    population: Population = GRISM_FIELD  #: sources with their total rate before the grism
    margin: float = 800.0  #: how far outside the detector there are sources (pixels)
    zero_point: float = 27.5  #: AB magnitude of a source of 1 DN/s
    #: Where the catalogue's boxes end: surface brightness before the grism (DN/s per pixel).
    isophote: float = 0.01
    scale: float = 0.87  #: template times this is the sky; the truth to recover
    level: float = 0.3  #: the template's level on its flat part (DN/s)
    #: Its change along and across from one end of the detector to the other, as a fraction.
    slope: tuple[float, float] = (0.03, -0.02)
    bow: float = 0.01  #: its change from the centre to an end along dispersion, as a fraction
    #: Below this position along dispersion, shifted by `shadow_tilt` times the position across,
    #: lies the shadow of something outside the field: darker by `shadow_depth`, a fraction,
    #: within a pixel.
    shadow_at: float = -0.3
    shadow_tilt: float = 0.02
    shadow_depth: float = 0.12
    #: Above this position along dispersion the sky falls evenly, by `fall_depth`, a fraction, at
    #: the end, as part of its wavelengths would come from outside the field.
    fall_at: float = 0.25
    fall_depth: float = 0.6
    #: Width of the border in which the template is NaN, beyond the reference pixels (pixels).
    border: int = 2
    #: Standard deviation of the noise of the template, and its ERR (DN/s); the sky has none.
    template_noise: float = 0.0

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
NIRCAM_C = WfssScene(grism=GRISMC, band=F444W, level=0.5)
NIRISS_C = WfssScene(
    detector=NIRISS,
    readout=Readout(pattern="NIS", n_groups=8, n_frames=4),
    exposure_type="NIS_WFSS",
    grism=GR150C,
    band=F200W,
    margin=400.0,
    level=0.45,
)
NIRISS_R = replace(NIRISS_C, grism=GR150R, band=F150W, level=0.35)
MIRI_PRISM = WfssScene(
    detector=MIRI_IMAGER,
    readout=Readout(pattern="FASTR1", n_groups=40),
    exposure_type="MIR_WFSS",
    grism=P750L,
    band=Band("P750L", 5.0, 14.0),
    population=Population(stars=30, galaxies=40, faintest=300.0, brightest=1e5),
    margin=300.0,
    isophote=0.3,
    level=60.0,
)
"""A scene for each grism; MIRI's prism sees a far brighter sky."""


def sky_pattern(scene: WfssScene, window: DetectorWindow) -> FloatImage:
    """Evaluate the sky of scale 1 on a window, where it lies: (rows, columns) float32, DN/s.

    It is finite and free of noise everywhere.
    """
    full, (x, y) = scene.detector.full.window, fractions(scene.detector, window)
    along, across = (x, y) if scene.grism.axis == 1 else (y, x)
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
    if scene.template_noise:
        # Drawn on the whole detector, so that a sub-array sees the same noise there.
        shape = scene.detector.full.window.shape
        noise = generator(seed, Stream.TEMPLATE).standard_normal(shape, dtype=np.float32)
        rows = slice(window.y, window.y + window.rows)
        columns = slice(window.x, window.x + window.columns)
        template += np.float32(scene.template_noise) * noise[rows, columns]
    template[reference_pixels(scene.detector, window, scene.border)] = np.nan
    return template
