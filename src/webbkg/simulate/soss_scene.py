"""What a SOSS exposure shows: the sky and its step, the traces, zeroth orders, a transit.

Rows count from 0 on the 256 of SUBSTRIP256, whatever is read out, columns on all 2048. The
figures are chosen to look like NIRISS SOSS exposures; none is a calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate.detector import (
    NIRISS,
    Detector,
    Readout,
    Stream,
    Subarray,
    Values,
    generator,
    reference_pixels,
)
from webbkg.simulate.scene import Scene

ROWS, COLUMNS = 256, 2048
HALF_WIDTH = 11.0  # of a trace or a zeroth order, across dispersion (pixels)
EDGE = 1.5  # length over which it falls off (pixels)
WING, WING_WIDTH, WING_POWER = 0.06, 25.0, 1.25  # (1 + (d / width)**2)**-power
LINES = ((380.0, 0.04), (900.0, 0.06), (1380.0, 0.05))  # columns and depths
LINE_WIDTH = 40.0
SKY_PEAK, SKY_SPAN = 900.0, 1140.0  # column where the right side is brightest, and on to the end


def _strip(name: str, first_row: int, rows: int) -> Subarray:
    # (rows + 12) (columns + 2) 10 microseconds: the fast axis runs along the columns.
    frame_time = (rows + 12) * (COLUMNS + 2) * 1e-5
    return Subarray(
        name=name, window=DetectorWindow(0, first_row, COLUMNS, rows), frame_time=frame_time
    )


SUBSTRIP256 = _strip("SUBSTRIP256", 1792, 256)
SUBSTRIP96 = _strip("SUBSTRIP96", 1802, 96)
"""SUBSTRIP256 reaches the detector's last row, SUBSTRIP96 does not: 5.494 and 2.214 seconds a
frame (JWST user documentation, "NIRISS Detector Subarrays")."""

SOSS_DETECTOR = replace(NIRISS, flicker_noise=5.0)
"""NIRISS's detector with 1/f noise (its strength is chosen). It is read along the columns, so
the noise makes vertical stripes."""

SOSS_DETECTOR = replace(NIRISS, flicker_noise=5.0)
"""NIRISS's detector with 1/f noise (its strength is chosen). It is read along the columns, so
the noise makes vertical stripes."""

RAPID = Readout(pattern="NISRAPID", n_groups=6)


@dataclass(frozen=True)
class Trace:
    """One order of the star."""

    columns: tuple[float, ...]  #: points on its centre; a polynomial goes through all of them
    rows: tuple[float, ...]
    #: Its brightness, relative to the other orders, interpolated in the logarithm; no light
    #: outside the first and the last of these columns.
    bright_columns: tuple[float, ...]
    brightness: tuple[float, ...]

    def centre(self, column: npt.ArrayLike) -> Values:
        """Row of the centre at a column."""
        # Scaled, or a quartic of two thousand columns would lose its digits.
        x = np.asarray(self.columns) / COLUMNS
        terms = np.polyfit(x, self.rows, len(x) - 1)
        return np.asarray(np.polyval(terms, np.asarray(column) / COLUMNS))

    def spectrum(self) -> Values:
        """Brightness at every column; absorption lines included."""
        column = np.arange(COLUMNS)
        level = np.exp(np.interp(column, self.bright_columns, np.log(self.brightness)))
        for at, depth in LINES:
            level *= 1 - depth * np.exp(-0.5 * ((column - at) / LINE_WIDTH) ** 2)
        inside = (column >= self.bright_columns[0]) & (column <= self.bright_columns[-1])
        return np.where(inside, level, 0.0)


ORDER_1 = Trace(
    (0, 500, 1000, 1500, 2047),
    (92, 72, 56, 48, 76),
    (0, 500, 1000, 1450, 1650, 1800, 2047),
    (0.05, 0.125, 0.31, 0.8, 1.0, 0.98, 0.5),
)
ORDER_2 = Trace(
    (700, 1000, 1300, 1600, 1770),
    (88, 100, 128, 182, 235),
    (650, 900, 1150, 1450, 1600, 1850),
    (0.002, 0.03, 0.12, 0.33, 0.2, 0.002),
)
ORDER_3 = Trace((0, 300, 600, 850), (140, 148, 165, 195), (0, 500, 850), (0.006, 0.012, 0.0002))


@dataclass(frozen=True, kw_only=True)
class SossScene(Scene):
    """What is observed, and with what."""

    detector: Detector = SOSS_DETECTOR
    readout: Readout = RAPID
    exposure_type: str = "NIS_SOSS"
    ra: float = 217.3
    dec: float = -3.4
    star: float = 440.0  #: its brightest pixel, outside transit (DN/s)
    traces: tuple[Trace, ...] = (ORDER_1, ORDER_2, ORDER_3)  #: its orders
    zeroth_orders: int = 20  #: bright compact images of other stars, anywhere on the strip
    zeroth_faintest: float = 5.0  #: their peaks are spread evenly in the logarithm (DN/s)
    zeroth_brightest: float = 1000.0
    level: float = 4.8  #: the templates at the left end (DN/s)
    jump_ratio: float = 1.5  #: just right of the jump over just left, in the middle template
    jump_at: float = 701.0  #: column of the jump's middle in the middle row
    jump_tilt: float = 8.0  #: how much further right it is in the last row than in the first
    #: The jump is a logistic function of (column - middle) / `jump_width`; from a tenth to nine
    #: tenths it takes 4.4 of these (pixels).
    jump_width: float = 4.0
    #: Size of the library. From its first to its last the templates fall more steeply along the
    #: columns on both sides, rise more steeply along the rows, and jump less, by 10 %.
    templates: int = 8
    template_noise: float = 0.0  #: of the library's templates (DN/s); the sky has none
    template: int = 3  #: which one the sky is made of
    scale_left: float = 0.93  #: what it is times on either side of the jump; the truth to recover
    scale_right: float = 0.88
    transit_depth: float = 0.02  #: light lost in the middle, as a fraction; 0 for no transit
    transit_duration: float = 0.4  #: from first to last contact, as a fraction of the exposure
    transit_middle: float = 0.5  #: as a fraction of the exposure
    limb_darkening: float = 0.4  #: how much darker the limb is than the centre, as a fraction

    def __post_init__(self) -> None:
        if not 0 <= self.template < self.templates:
            raise OptionError(
                f"template must be one of the {self.templates} of the library, counted from 0 "
                f"(got {self.template})"
            )

    @property
    def elements(self) -> tuple[str, str | None]:
        """FILTER and PUPIL."""
        return "CLEAR", "GR700XD"


def rows_of(subarray: Subarray) -> slice:
    """Tell which of the 256 rows a strip reads out.

    Raises
    ------
    OptionError
        If it is not part of SUBSTRIP256, all columns wide.
    """
    window, full = subarray.window, SUBSTRIP256.window
    first = window.y - full.y
    if (window.x, window.columns) != (0, COLUMNS) or first < 0 or first + window.rows > ROWS:
        raise OptionError(
            f"subarray must be all columns wide and within the rows of {full} (got {window})"
        )
    return slice(first, first + window.rows)


def jump_columns(scene: SossScene) -> Values:
    """Column, not rounded, of the middle of the jump in each of the 256 rows."""
    return np.asarray(scene.jump_at + scene.jump_tilt * (np.arange(ROWS) / (ROWS - 1) - 0.5))


def sky_pattern(scene: SossScene, index: int) -> FloatImage:
    """Evaluate a template of the library, without noise: (256, 2048) float32, DN/s.

    It is 0 on reference pixels.
    """
    column, jump = np.arange(COLUMNS), jump_columns(scene)[:, np.newaxis]
    kind = 2 * index / (scene.templates - 1) - 1 if scene.templates > 1 else 0.0
    slope, fall = 0.03 + 0.03 * kind, 0.5 + 0.1 * kind
    left = 1 - slope * column / jump
    bow = 1 - fall * ((column - SKY_PEAK) / SKY_SPAN) ** 2
    bow_at_jump = 1 - fall * ((jump - SKY_PEAK) / SKY_SPAN) ** 2
    right = (1 - slope) * scene.jump_ratio * (1 - 0.05 * kind) * bow / bow_at_jump
    beyond = 1 / (1 + np.exp(-np.clip((column - jump) / scene.jump_width, -50, 50)))
    along_rows = 1 + (0.01 + 0.03 * kind) * (np.arange(ROWS) / ROWS - 0.5)[:, np.newaxis]
    sky = scene.level * (left * (1 - beyond) + right * beyond) * along_rows
    sky[reference_pixels(scene.detector, SUBSTRIP256.window)] = 0
    return sky.astype(np.float32)


def make_library(scene: SossScene, seed: int) -> npt.NDArray[np.float32]:
    """Make the library of templates: (templates, 256, 2048) float32, DN/s."""
    library = np.stack([sky_pattern(scene, index) for index in range(scene.templates)])
    if scene.template_noise:
        rng = generator(seed, Stream.TEMPLATE)
        noise = rng.standard_normal(library.shape, dtype=np.float32)
        noise *= np.float32(scene.template_noise)
        library[library != 0] += noise[library != 0]
    return library


def make_sky(scene: SossScene) -> FloatImage:
    """Make the true sky, (256, 2048) float32 in DN/s: the template, scaled on either side."""
    right = np.arange(COLUMNS) >= np.rint(jump_columns(scene))[:, np.newaxis]
    scale = np.where(right, scene.scale_right, scene.scale_left).astype(np.float32)
    return scale * sky_pattern(scene, scene.template)


def _across(distance: Values) -> Values:
    """Profile of defocused light: a plateau with two horns of height about 1."""
    inside = np.tanh((distance + HALF_WIDTH) / EDGE) - np.tanh((distance - HALF_WIDTH) / EDGE)
    return np.asarray(0.5 * inside * (0.7 + 0.3 * np.minimum(distance / HALF_WIDTH, 1) ** 2))


def render_star(scene: SossScene) -> FloatImage:
    """Render all orders of the star outside transit: (256, 2048) float32, DN/s."""
    image = np.zeros((ROWS, COLUMNS))
    row = np.arange(ROWS)[:, np.newaxis]
    for trace in scene.traces:
        distance = np.abs(row - trace.centre(np.arange(COLUMNS)))
        wing = WING * (1 + (distance / WING_WIDTH) ** 2) ** -WING_POWER
        image += trace.spectrum() * (_across(distance) + wing)
    if scene.traces:
        image *= scene.star / image.max()
    return image.astype(np.float32)


def render_zeroth_orders(scene: SossScene, seed: int) -> FloatImage:
    """Render the zeroth orders of other stars: (256, 2048) float32, DN/s."""
    rng = generator(seed, Stream.CATALOGUE)
    rows, columns, rank = rng.random((3, scene.zeroth_orders))
    peaks = scene.zeroth_faintest * (scene.zeroth_brightest / scene.zeroth_faintest) ** rank
    image = np.zeros((ROWS, COLUMNS))
    for row, column, peak in zip(rows * ROWS, columns * COLUMNS, peaks, strict=True):
        along = np.exp(-0.5 * ((np.arange(COLUMNS) - column) / 2.0) ** 2)
        image += peak * np.outer(_across(np.abs(np.arange(ROWS) - row)), along)
    return image.astype(np.float32)


def light_curve(scene: SossScene, integrations: int) -> Values:
    """Evaluate the star's brightness in the middle of each integration, 1 outside transit.

    A small planet on the star's equator: the light lost is `transit_depth` in the middle, less
    near the limb, where the star is darker, and grows evenly during ingress, a tenth of half the
    duration.
    """
    if scene.transit_depth == 0:
        return np.ones(integrations)
    phase = (np.arange(integrations) + 0.5) / integrations - scene.transit_middle
    distance = np.abs(phase) / (scene.transit_duration / 2)
    limb = 1 - scene.limb_darkening * (1 - np.sqrt(1 - np.minimum(distance, 1) ** 2))
    covered = np.clip((1 - distance) / 0.1, 0, 1)
    return np.asarray(1 - scene.transit_depth * covered * limb)
