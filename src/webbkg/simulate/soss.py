"""SOSS: a time series of a star in transit, over a sky of known template and scales.

`draw_field` makes what does not change with time and `draw_series` the light curve; an
integration is then a function of the series, the seed and its own number alone, so that
they can be made one at a time, in any segments. `webbkg.simulate.soss_scene` says what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import OptionError
from webbkg.files.output import save_whole
from webbkg.results import BoolImage, FlagImage, FloatImage
from webbkg.simulate.detector import (
    BadPixels,
    Planes,
    Setup,
    Subarray,
    draw_bad_pixels,
    expose,
    reference_pixels,
)
from webbkg.simulate.products import Identity, Segment, make_model, make_segment
from webbkg.simulate.soss_scene import (
    COLUMNS,
    ROWS,
    SUBSTRIP256,
    SossScene,
    Values,
    light_curve,
    make_library,
    make_sky,
    render_star,
    render_zeroth_orders,
    rows_of,
)

EXPOSURE_TYPE = "NIS_SOSS"
FILTER, PUPIL = "CLEAR", "GR700XD"


@dataclass(frozen=True, kw_only=True)
class SossField:
    """What does not change during an exposure, on one strip of the detector.

    Attributes
    ----------
    scene : SossScene
        What is observed; it holds the true template and scales.
    seed : int
        Which zeroth orders, bad pixels and noise.
    setup : Setup
        The detector and how it is read; `setup.window` is where the planes lie.
    sky, star, zeroth : (rows, columns) float32
        True sky, star outside transit, and zeroth orders of other stars (DN/s); 0 on reference
        pixels.
    bad : BadPixels
        Those of the strip.
    reference : (rows, columns) bool
        True on reference pixels.
    """

    scene: SossScene
    seed: int
    setup: Setup
    sky: FloatImage = field(repr=False)
    star: FloatImage = field(repr=False)
    zeroth: FloatImage = field(repr=False)
    bad: BadPixels = field(repr=False)
    reference: BoolImage = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SossSeries:
    """A time series, whose integrations are made when they are asked for.

    Attributes
    ----------
    shown : SossField
        What is observed.
    curve : (integrations,) float64
        Brightness of the star, 1 outside transit.
    """

    shown: SossField
    curve: Values = field(repr=False)

    @property
    def n_integrations(self) -> int:
        """How many integrations there are."""
        return len(self.curve)

    def light(self, integration: int) -> FloatImage:
        """Add up the true light of one integration: (rows, columns) float32, DN/s."""
        shown = self.shown
        return shown.sky + shown.zeroth + np.float32(self.curve[integration]) * shown.star

    def measure(self, integration: int) -> Planes:
        """Measure one integration; each has noise and cosmic rays of its own."""
        shown = self.shown
        light = self.light(integration)
        return expose(light, shown.setup, shown.bad, shown.seed, 0, integration)


@dataclass(frozen=True, kw_only=True)
class SossFiles:
    """What `write_series` wrote.

    Attributes
    ----------
    segments : list of Path
        The rateints products, in time.
    rate : Path
        The average of all integrations.
    template : Path
        The BKG reference.
    truth : Path
        NumPy archive: ``template``, ``scale_left``, ``scale_right``, ``sky``, ``star``,
        ``zeroth``, ``light_curve``.
    """

    segments: list[Path]
    rate: Path
    template: Path
    truth: Path


def with_noise(scene: SossScene, factor: float) -> SossScene:
    """Multiply all noise of a scene's detector by a factor, and nothing else.

    An imagined detector of another gain: photon noise goes as the root of the electrons.
    """
    detector, electrons = scene.detector, factor**-2
    return replace(
        scene,
        detector=replace(
            detector,
            gain=detector.gain * electrons,
            read_noise=detector.read_noise * factor * electrons,
            flicker_noise=detector.flicker_noise * factor * electrons,
            cosmic_ray_charge=detector.cosmic_ray_charge * electrons,
        ),
    )


def draw_field(
    scene: SossScene | None = None, seed: int = 1, subarray: Subarray = SUBSTRIP256
) -> SossField:
    """Draw what does not change during an exposure.

    Parameters
    ----------
    scene : SossScene, optional
        What is observed.
    seed : int
        The same seed gives the same bits.
    subarray : Subarray
        SUBSTRIP256, SUBSTRIP96, or another part of the former, all columns wide.

    Returns
    -------
    SossField

    Raises
    ------
    OptionError
        If the strip is not part of SUBSTRIP256.
    """
    scene = scene or SossScene()
    rows = rows_of(subarray)
    setup = Setup(scene.detector, scene.readout, subarray)
    reference = reference_pixels(scene.detector, setup.window)
    lit = (~reference).astype(np.float32)
    return SossField(
        scene=scene,
        seed=seed,
        setup=setup,
        sky=make_sky(scene)[rows],
        star=render_star(scene)[rows] * lit,
        zeroth=render_zeroth_orders(scene, seed)[rows] * lit,
        bad=draw_bad_pixels(scene.detector, seed).on(setup.window),
        reference=reference,
    )


def draw_series(shown: SossField, integrations: int = 20) -> SossSeries:
    """Observe a field for a time.

    Parameters
    ----------
    shown : SossField
        What is observed.
    integrations : int
        How many.

    Returns
    -------
    SossSeries

    Raises
    ------
    OptionError
        If `integrations` is below 1.
    """
    if integrations < 1:
        raise OptionError(f"integrations must be at least 1 (got {integrations})")
    return SossSeries(shown=shown, curve=light_curve(shown.scene, integrations))


def split_series(series: SossSeries, number: int) -> list[Segment]:
    """Cut a time series into `number` segments of nearly equal length.

    Raises
    ------
    OptionError
        If a segment would be empty.
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
) -> tuple[npt.NDArray[np.float32], FlagImage]:
    """Measure integrations `start` to `stop`: SCI and DQ, (integrations, rows, columns)."""
    numbers = range(series.n_integrations)[start:stop]
    shape = (len(numbers), *series.shown.setup.window.shape)
    sci, dq = np.empty(shape, np.float32), np.empty(shape, np.uint32)
    for index, number in enumerate(numbers):
        planes = series.measure(number)
        sci[index], dq[index] = planes.sci, planes.dq
    return sci, dq


def segment_model(series: SossSeries, segment: Segment, *, variances: bool = True) -> Any:
    """Make the rateints product of a segment.

    Parameters
    ----------
    series : SossSeries
        What is measured.
    segment : Segment
        One of `split_series`.
    variances : bool
        Include VAR_POISSON and VAR_RNOISE.

    Returns
    -------
    CubeModel
        Its planes are held once; the integrations are made one at a time.
    """
    integrations = (series.measure(index) for index in range(segment.start, segment.stop))
    shown = series.shown
    return make_segment(
        integrations, segment, shown.setup, _identity(shown.scene), variances=variances
    )


def rate_model(series: SossSeries) -> Any:
    """Make the rate product: the average of all integrations, made one at a time.

    Returns
    -------
    ImageModel
        DQ is the OR of all integrations; SCI is NaN where they are, on some dead pixels.
    """
    shape = series.shown.setup.window.shape
    sci, poisson, read, rays = np.zeros((4, *shape))
    dq = np.zeros(shape, np.uint32)
    for index in range(series.n_integrations):
        planes = series.measure(index)
        sci += planes.sci
        poisson += planes.var_poisson
        read += planes.var_rnoise
        rays += planes.cosmic_rays
        dq |= planes.dq
    n = series.n_integrations
    average = Planes(
        sci=(sci / n).astype(np.float32),
        err=(np.sqrt(poisson + read) / n).astype(np.float32),
        dq=dq,
        var_poisson=(poisson / n**2).astype(np.float32),
        var_rnoise=(read / n**2).astype(np.float32),
        cosmic_rays=(rays / n).astype(np.float32),
    )
    return make_model([average], False, series.shown.setup, _identity(series.shown.scene))


def template_model(scene: SossScene, seed: int = 1) -> Any:
    """Make the BKG reference: all templates, of 256 rows.

    Returns
    -------
    SossBkgModel
        DN/s, with DQ 0 throughout.
    """
    from stdatamodels.jwst import datamodels

    library = make_library(scene, seed)
    meta = {
        "telescope": "JWST",
        "reftype": "bkg",
        "author": "webbkg.simulate",
        "pedigree": "DUMMY",
        "description": "Simulated skies of NIRISS SOSS",
        "useafter": "2014-01-01T00:00:00",
        "bunit_data": "DN/s",
        "instrument": {"name": "NIRISS", "detector": "NIS", "filter": FILTER, "pupil": PUPIL},
        "exposure": {"type": EXPOSURE_TYPE},
        "subarray": {
            "name": SUBSTRIP256.name,
            "xstart": 1,
            "ystart": SUBSTRIP256.window.y + 1,
            "xsize": COLUMNS,
            "ysize": ROWS,
            "fastaxis": scene.detector.fast_axis,
            "slowaxis": scene.detector.slow_axis,
        },
    }
    err = np.full_like(library, scene.template_noise)
    dq = np.zeros(library.shape, np.uint32)
    return datamodels.SossBkgModel({"meta": meta, "data": library, "err": err, "dq": dq})


def write_series(
    folder: Path, series: SossSeries, *, segments: int = 1, variances: bool = True
) -> SossFiles:
    """Write a time series in segments, its average, its BKG reference, and the truth.

    Parameters
    ----------
    folder : Path
        Where to; made if it is absent. Files of the same names are overwritten.
    series : SossSeries
        What to write.
    segments : int
        In how many files; one segment is in memory at a time.
    variances : bool
        Include VAR_POISSON and VAR_RNOISE in the segments.

    Returns
    -------
    SossFiles
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for segment in split_series(series, segments):
        model = segment_model(series, segment, variances=variances)
        paths.append(save_whole(model, folder / model.meta.filename))
        del model  # or it would stay while the next one is made
    shown = series.shown
    rate, library = rate_model(series), template_model(shown.scene, shown.seed)
    files = SossFiles(
        segments=paths,
        rate=save_whole(rate, folder / rate.meta.filename),
        template=save_whole(library, folder / "bkg.fits"),
        truth=folder / "truth.npz",
    )
    _save_truth(files.truth, series)
    return files


def _save_truth(path: Path, series: SossSeries) -> None:
    shown = series.shown
    np.savez(
        path,
        template=shown.scene.template,
        scale_left=shown.scene.scale_left,
        scale_right=shown.scene.scale_right,
        sky=shown.sky,
        star=shown.star,
        zeroth=shown.zeroth,
        light_curve=series.curve,
    )


def _identity(scene: SossScene) -> Identity:
    return Identity(
        observation=1,
        slot=0,
        exposure_type=EXPOSURE_TYPE,
        filter=FILTER,
        pupil=PUPIL,
        target_name="SIMULATED-STAR",
        is_background=False,
        ra=scene.ra,
        dec=scene.dec,
    )
