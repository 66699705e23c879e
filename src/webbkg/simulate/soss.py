"""SOSS: a time series of a star in transit, over a sky of known template and scales.

`draw_field` makes what does not change with time and `draw_series` the light curve; an
integration is then a function of the series, the seed and its own number alone, so that
they can be made one at a time, in any segments. Rows count from 0 on the 256 of SUBSTRIP256,
whatever is read out, columns on all 2048. The figures are chosen to look like NIRISS SOSS
exposures; none is a calibration.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import FlagImage, FloatImage
from webbkg.simulate.detector import (
    NIRISS,
    Detector,
    Planes,
    Readout,
    Stream,
    Subarray,
    Values,
    generator,
    one_output,
    reference_pixels,
)
from webbkg.simulate.products import (
    PLANES,
    Identity,
    Segment,
    gather,
    make_model,
    reference_metadata,
    write_models,
)
from webbkg.simulate.scene import Field, Scene

ROWS, COLUMNS = 256, 2048
HALF_WIDTH = 11.0  # of a trace or a zeroth order, across dispersion (pixels)
EDGE = 1.5  # length over which it falls off (pixels)
WING, WING_WIDTH, WING_POWER = 0.06, 25.0, 1.25  # (1 + (d / width)**2)**-power
LINES = ((380.0, 0.04), (900.0, 0.06), (1380.0, 0.05))  # columns and depths
LINE_WIDTH = 40.0
SOSS_FILTERS = ("CLEAR", "F277W")
SKY_PEAK, SKY_SPAN = 900.0, 1140.0  # column where the right side is brightest, and on to the end


# One output; the fast axis runs along the columns.
SUBSTRIP256 = one_output("SUBSTRIP256", DetectorWindow(0, 1792, COLUMNS, 256), along_y=True)
SUBSTRIP96 = one_output("SUBSTRIP96", DetectorWindow(0, 1802, COLUMNS, 96), along_y=True)
"""SUBSTRIP256 reaches the detector's last row, SUBSTRIP96 does not: 5.494 and 2.214 seconds a
frame (JWST user documentation, "NIRISS Detector Subarrays")."""

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
ORDER_1_RED = replace(ORDER_1, bright_columns=(0, 250, 420, 445), brightness=(0.5, 0.8, 1.0, 0.01))
"""What F277W leaves of order 1: light beyond 2.4 micrometres, from column 0 to about 440."""

ORDER_3 = Trace((0, 300, 600, 850), (140, 148, 165, 195), (0, 500, 850), (0.006, 0.012, 0.0002))


@dataclass(frozen=True, kw_only=True)
class SossScene(Scene):
    """What is observed, and with what."""

    detector: Detector = SOSS_DETECTOR
    readout: Readout = RAPID
    exposure_type: str = "NIS_SOSS"
    filter: str = "CLEAR"  #: or F277W, which lets nothing but the red end of order 1 through
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
    template: float = 3  #: which one the sky is made of; between two of them if it is not whole
    sky_gradient: float = 0.0  #: rise of the sky from first to last row that no template has
    sky_bow: float = 0.0  #: the same from the first and the last row to the middle
    sky_slope: float = 0.0  #: the same from first to last column
    scale_left: float = 0.93  #: what it is times on either side of the jump; the truth to recover
    scale_right: float = 0.88
    #: What the sky is times at evenly spaced times, from the first integration's middle to the
    #: last one's; a polynomial goes through all of them. () for a constant sky.
    sky_curve: tuple[float, ...] = ()
    sky_curve_right: tuple[float, ...] = ()  #: the same right of the jump, if it is another
    transit_depth: float = 0.02  #: light lost in the middle, as a fraction; 0 for no transit
    transit_duration: float = 0.4  #: from first to last contact, as a fraction of the exposure
    transit_middle: float = 0.5  #: as a fraction of the exposure
    wing: float = WING  #: brightness of the wings at the trace's centre, over the trace's
    wing_width: float = WING_WIDTH  #: (rows)
    wing_power: float = WING_POWER  #: they fall as (1 + (d / width)**2)**-power
    wing_core: float = 0.0  #: the same of an exponential that falls by e in 12 rows, added
    wing_colour: float = 0.0  #: by how much they are wider and brighter in the last column
    wing_below: float = 1.0  #: strength of those at lower rows than the trace
    wing_orders: tuple[float, ...] = ()  #: strength of those of each order; () for 1
    zeroth_wing: float = 0.0  #: like `wing`, of zeroth orders, all around
    stray: float = 0.0  #: peak of diffuse light over the whole frame, over the star's peak
    limb_darkening: float = 0.4  #: how much darker the limb is than the centre, as a fraction

    def __post_init__(self) -> None:
        if not 0 <= self.template <= self.templates - 1:
            library = f"the {self.templates} of the library, counted from 0"
            raise OptionError(f"template must be one of {library} (got {self.template})")
        if self.filter not in SOSS_FILTERS:
            raise OptionError(f"filter must be {' or '.join(SOSS_FILTERS)} (got {self.filter!r})")

    @property
    def elements(self) -> tuple[str, str | None]:
        """FILTER and PUPIL."""
        return self.filter, "GR700XD"

    @property
    def orders(self) -> tuple[Trace, ...]:
        """Traces of the star that the filter lets through."""
        return self.traces if self.filter == "CLEAR" else (ORDER_1_RED,)[: len(self.traces)]


def jump_columns(scene: SossScene) -> Values:
    """Column, not rounded, of the middle of the jump in each of the 256 rows."""
    return np.asarray(scene.jump_at + scene.jump_tilt * (np.arange(ROWS) / (ROWS - 1) - 0.5))


def sky_pattern(scene: SossScene, index: float) -> FloatImage:
    """Evaluate a template of the library, without noise: (256, 2048) float32, DN/s.

    It is 0 on reference pixels. An index that is not whole gives one between its neighbors.
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


def _rise(scene: SossScene) -> FloatImage:
    """What no template has: factors of about 1, (256, 2048)."""
    row, column = np.linspace(-0.5, 0.5, ROWS), np.linspace(-0.5, 0.5, COLUMNS)
    along_rows = 1 + scene.sky_gradient * row + scene.sky_bow * (0.5 - 4 * row**2)
    rise = along_rows[:, np.newaxis] * (1 + scene.sky_slope * column)
    return rise.astype(np.float32)


def make_library(scene: SossScene, seed: int) -> npt.NDArray[np.float32]:
    """Make the library of templates: (templates, 256, 2048) float32, DN/s."""
    library = np.stack([sky_pattern(scene, index) for index in range(scene.templates)])
    if scene.template_noise:
        rng = generator(seed, Stream.TEMPLATE)
        noise = rng.standard_normal(library.shape, dtype=np.float32)
        noise *= np.float32(scene.template_noise)
        library[library != 0] += noise[library != 0]
    return library


def _across(distance: Values) -> Values:
    """Profile of defocused light: a plateau with two horns of height about 1."""
    inside = np.tanh((distance + HALF_WIDTH) / EDGE) - np.tanh((distance - HALF_WIDTH) / EDGE)
    return np.asarray(0.5 * inside * (0.7 + 0.3 * np.minimum(distance / HALF_WIDTH, 1) ** 2))


def _wings(scene: SossScene, offset: Values, order: int) -> Values:
    """Wings of a trace by the signed distance from its centre, (rows, columns)."""
    distance = np.abs(offset)
    colour = 1 + scene.wing_colour * np.arange(COLUMNS) / (COLUMNS - 1)
    wing = scene.wing * (1 + (distance / (scene.wing_width * colour)) ** 2) ** -scene.wing_power
    wing = (wing + scene.wing_core * np.exp(-distance / 12.0)) * colour
    wing *= np.where(offset < 0, scene.wing_below, 1.0)
    return np.asarray(wing * (scene.wing_orders[order] if scene.wing_orders else 1.0))


def _stray() -> Values:
    """Diffuse light of height 1, a broad hill across the frame."""
    row, column = np.arange(ROWS)[:, np.newaxis], np.arange(COLUMNS)
    return np.asarray(np.exp(-(((row - 60) / 170.0) ** 2) - ((column - 1500) / 900.0) ** 2))


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


def sky_curve(scene: SossScene, integrations: int) -> Values:
    """Evaluate what the sky is times in each integration, left and right: (integrations, 2)."""
    phase = np.arange(integrations) / max(integrations - 1, 1)

    def through(points: tuple[float, ...]) -> Values:
        places = np.linspace(0, 1, len(points))
        return np.asarray(np.polyval(np.polyfit(places, points, len(points) - 1), phase))

    left = through(scene.sky_curve or (1.0,))
    right = through(scene.sky_curve_right) if scene.sky_curve_right else left
    return np.stack([left, right], axis=1)


@dataclass(frozen=True, kw_only=True)
class SossField(Field):
    """What does not change during an exposure, on one strip of the detector."""

    scene: SossScene

    def __post_init__(self) -> None:
        window, full = self.setup.window, SUBSTRIP256.window
        inside = full.y <= window.y and window.y + window.rows <= full.y + ROWS
        if (window.x, window.columns) != (0, COLUMNS) or not inside:
            raise OptionError(
                f"subarray must be all columns wide and within the rows of {full} (got {window})"
            )

    def _read(self, image: FloatImage) -> FloatImage:
        """Cut the strip out of an image of 256 rows."""
        window = self.setup.window
        first = window.y - SUBSTRIP256.window.y
        return image[first : first + window.rows] * self.lit

    @cached_property
    def sky(self) -> FloatImage:
        """True sky: a template of the library, scaled on either side of its jump.

        Or one that the library does not hold, if it rises along rows or columns.
        """
        scene = self.scene
        right = np.arange(COLUMNS) >= np.rint(jump_columns(scene))[:, np.newaxis]
        scale = np.where(right, scene.scale_right, scene.scale_left).astype(np.float32)
        return self._read(scale * sky_pattern(scene, scene.template) * _rise(scene))

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """True right of the jump, where `scale_right` holds."""
        right = np.arange(COLUMNS) >= np.rint(jump_columns(self.scene))[:, np.newaxis]
        first = self.setup.window.y - SUBSTRIP256.window.y
        return np.asarray(right[first : first + self.setup.window.rows])

    @cached_property
    def star(self) -> FloatImage:
        """All orders of the star, outside transit (DN/s)."""
        image, row = np.zeros((ROWS, COLUMNS)), np.arange(ROWS)[:, np.newaxis]
        for number, trace in enumerate(self.scene.orders):
            offset = row - trace.centre(np.arange(COLUMNS))
            wing = _wings(self.scene, offset, number)
            image += trace.spectrum() * (_across(np.abs(offset)) + wing)
        if self.scene.traces:
            image *= self.scene.star / image.max()
        if self.scene.stray:
            image += self.scene.star * self.scene.stray * _stray()
        return self._read(image.astype(np.float32))

    @cached_property
    def zeroth(self) -> FloatImage:
        """Zeroth orders of other stars (DN/s)."""
        scene, rng = self.scene, generator(self.seed, Stream.CATALOGUE)
        rows, columns, rank = rng.random((3, scene.zeroth_orders))
        peaks = scene.zeroth_faintest * (scene.zeroth_brightest / scene.zeroth_faintest) ** rank
        image = np.zeros((ROWS, COLUMNS))
        for row, column, peak in zip(rows * ROWS, columns * COLUMNS, peaks, strict=True):
            along = np.exp(-0.5 * ((np.arange(COLUMNS) - column) / 2.0) ** 2)
            image += peak * np.outer(_across(np.abs(np.arange(ROWS) - row)), along)
            if scene.zeroth_wing:
                away = np.hypot(np.arange(ROWS)[:, np.newaxis] - row, np.arange(COLUMNS) - column)
                image += peak * scene.zeroth_wing * (1 + (away / 20.0) ** 2) ** -1.5
        return self._read(image.astype(np.float32))

    @property
    def sources(self) -> FloatImage:
        """Star and zeroth orders, outside transit (DN/s)."""
        return self.zeroth + self.star


@dataclass(frozen=True, kw_only=True)
class SossSeries:
    """A time series, whose integrations are made when they are asked for."""

    shown: SossField  #: what is observed
    curve: Values = field(repr=False)  #: the star's brightness by integration, 1 outside transit

    @property
    def n_integrations(self) -> int:
        """How many integrations there are."""
        return len(self.curve)

    def light(self, integration: int) -> FloatImage:
        """Add up the true light of one integration: (rows, columns) float32, DN/s."""
        shown = self.shown
        return (
            self.sky(integration) + shown.zeroth + np.float32(self.curve[integration]) * shown.star
        )

    def sky(self, integration: int) -> FloatImage:
        """Tell the true sky of one integration: (rows, columns) float32, DN/s."""
        scene = self.shown.scene
        if not (scene.sky_curve or scene.sky_curve_right):
            return self.shown.sky
        left, right = sky_curve(scene, self.n_integrations)[integration].astype(np.float32)
        return np.asarray(self.shown.sky * np.where(self.shown.right, right, left))

    def measure(self, integration: int) -> Planes:
        """Measure one integration; each has noise and cosmic rays of its own."""
        return self.shown.expose(self.light(integration), 0, integration)

    def gather(self, start: int, stop: int | None, names: Iterable[str]) -> dict[str, Any]:
        """Measure integrations `start` to `stop`, one at a time: cubes of planes by name."""
        numbers = range(self.n_integrations)[start:stop]
        return gather(map(self.measure, numbers), len(numbers), names)


@dataclass(frozen=True, kw_only=True)
class SossFiles:
    """What `write_series` wrote."""

    segments: list[Path]  #: the rateints products, in time
    rate: Path  #: the average of all integrations
    template: Path  #: the BKG reference
    #: NumPy archive: ``template``, ``scale_left``, ``scale_right``, ``sky``, ``star``, ``zeroth``,
    #: ``light_curve``.
    truth: Path


def draw_field(
    scene: SossScene | None = None, seed: int = 1, subarray: Subarray = SUBSTRIP256
) -> SossField:
    """Draw what does not change during an exposure; the same seed gives the same bits.

    The strip is SUBSTRIP256, SUBSTRIP96 or another part of the former, all columns wide, or it
    is an OptionError.
    """
    scene = scene or SossScene()
    return SossField(scene=scene, seed=seed, setup=scene.set_up(subarray))


def draw_series(shown: SossField, integrations: int = 20) -> SossSeries:
    """Observe a field for so many integrations, at least 1, or it is an OptionError."""
    if integrations < 1:
        raise OptionError(f"integrations must be at least 1 (got {integrations})")
    return SossSeries(shown=shown, curve=light_curve(shown.scene, integrations))


def split_series(series: SossSeries, number: int) -> list[Segment]:
    """Cut a time series into `number` segments of nearly equal length.

    It is an OptionError if a segment would be empty.
    """
    total = series.n_integrations
    if not 1 <= number <= total:
        raise OptionError(
            f"segments must be between 1 and {total}, the integrations (got {number})"
        )
    ends = [total * index // number for index in range(number + 1)]
    return [
        Segment(number=index + 1, of=number, start=ends[index], stop=ends[index + 1], total=total)
        for index in range(number)
    ]


def sample_cube(
    series: SossSeries, start: int = 0, stop: int | None = None
) -> tuple[FloatImage, FlagImage]:
    """Measure integrations `start` to `stop`: SCI and DQ, (integrations, rows, columns)."""
    cubes = series.gather(start, stop, ("sci", "dq"))
    return cubes["sci"], cubes["dq"]


def segment_model(series: SossSeries, segment: Segment, *, variances: bool = True) -> Any:
    """Make the rateints product of a segment, one of `split_series`; a CubeModel.

    Its planes are held once, VAR_POISSON and VAR_RNOISE only if they are wanted.
    """
    names = PLANES if variances else PLANES[:3]
    return _model(series, series.gather(segment.start, segment.stop, names), segment)


def rate_model(series: SossSeries) -> Any:
    """Make the rate product, an ImageModel: the average of all integrations, made one at a time.

    DQ is the OR of all integrations; SCI is NaN where they are, on some dead pixels.
    """
    n, shape = series.n_integrations, series.shown.setup.window.shape
    sci, poisson, read = np.zeros((3, *shape))
    dq = np.zeros(shape, np.uint32)
    for planes in map(series.measure, range(n)):
        sci += planes.sci
        poisson += planes.var_poisson
        read += planes.var_rnoise
        dq |= planes.dq
    images = {"sci": sci / n, "err": np.sqrt(poisson + read) / n}
    images |= {"var_poisson": poisson / n**2, "var_rnoise": read / n**2}
    images = {name: image.astype(np.float32) for name, image in images.items()}
    return _model(series, images | {"dq": dq})


def _model(series: SossSeries, planes: dict[str, Any], segment: Segment | None = None) -> Any:
    identity = Identity(target_name="SIMULATED-STAR", segment=segment)
    return make_model(planes, series.shown.scene, series.shown.setup, identity)


def template_model(scene: SossScene, seed: int = 1) -> Any:
    """Make the BKG reference: all templates, of 256 rows, in DN/s, with DQ 0 throughout."""
    from stdatamodels.jwst import datamodels

    library = make_library(scene, seed)
    meta = reference_metadata(scene, "bkg", "Simulated skies of NIRISS SOSS", SUBSTRIP256)
    err = np.full_like(library, scene.template_noise)
    dq = np.zeros(library.shape, np.uint32)
    return datamodels.SossBkgModel({"meta": meta, "data": library, "err": err, "dq": dq})


def write_series(
    folder: Path, series: SossSeries, *, segments: int = 1, variances: bool = True
) -> SossFiles:
    """Write a time series in segments, its average, its BKG reference, and the truth.

    One segment is in memory at a time, with VAR_POISSON and VAR_RNOISE if they are wanted. The
    folder is made if it is absent; files of the same names are overwritten.
    """
    shown, scene = series.shown, series.shown.scene
    parts = split_series(series, segments)
    paths = write_models(
        folder, (segment_model(series, part, variances=variances) for part in parts)
    )
    library = template_model(scene, shown.seed)
    rate, template = write_models(folder, [rate_model(series), library])
    truth = folder / "truth.npz"
    images: dict[str, Any] = {name: getattr(shown, name) for name in ("sky", "star", "zeroth")}
    images |= {name: getattr(scene, name) for name in ("template", "scale_left", "scale_right")}
    np.savez(truth, light_curve=series.curve, **images)
    return SossFiles(segments=paths, rate=rate, template=template, truth=truth)
