"""Imaging: a target and its background exposures, as rate (2-D) or rateints (3-D) products.

Every exposure is a function of the scene, the seed and its own number alone, so they can be
made in any order, or each in another process, and one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.files.output import save_whole
from webbkg.results import BoolImage, FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import (
    MIRI_IMAGER,
    NIRCAM_LONG,
    Detector,
    Planes,
    Readout,
    Setup,
    Stream,
    Subarray,
    draw_bad_pixels,
    expose,
    generator,
    reference_pixels,
)
from webbkg.simulate.products import Identity, make_model

TARGET = 0
"""The number of the target in a set; its backgrounds count from 1."""

SHALLOW = Readout(pattern="SHALLOW4", n_groups=7, n_frames=4, group_gap=1)
"""A NIRCam exposure of some six minutes."""

FIELD = sources.Population()
"""The stars and galaxies of a NIRCam field."""


@dataclass(frozen=True, kw_only=True)
class ImagingScene:
    """What is observed, and with what. Unless a source is named, the values are chosen.

    Attributes
    ----------
    detector : Detector
        With its noise and defects.
    readout : Readout
        How an integration is sampled.
    exposure_type, filter, pupil : str or None
        EXP_TYPE, FILTER, PUPIL.
    population : webbkg.simulate.sources.Population
        Stars and galaxies; the same field for all exposures of a set.
    sky_level : float
        Sky at the centre of the detector (DN/s).
    sky_slope : (x, y)
        Change of the sky from one end of the detector to the other, as a fraction.
    sky_bow : float
        Change from the centre to the middle of an edge, as a fraction.
    sky_drift : float
        Standard deviation of a background exposure's sky level, as a fraction; the target's
        is exact.
    dither : float
        A background exposure is moved by up to this much, either way in x and y (pixels).
    ra, dec : float
        Where the target's exposure points (degrees).
    """

    detector: Detector = NIRCAM_LONG
    readout: Readout = SHALLOW
    exposure_type: str = "NRC_IMAGE"
    filter: str = "F356W"
    pupil: str | None = "CLEAR"
    population: sources.Population = FIELD
    sky_level: float = 0.3
    sky_slope: tuple[float, float] = (0.10, -0.06)
    sky_bow: float = 0.04
    sky_drift: float = 0.002
    dither: float = 150.0
    ra: float = 150.1
    dec: float = 2.2


MIRI_SCENE = ImagingScene(
    detector=MIRI_IMAGER,
    readout=Readout(pattern="FASTR1", n_groups=40),
    exposure_type="MIR_IMAGE",
    filter="F770W",
    pupil=None,
    population=sources.Population(stars=80, galaxies=30, faintest=5.0, brightest=3000.0),
    sky_level=15.0,
    dither=60.0,
)
"""A scene for MIRI's imager, whose sky is far brighter."""


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """One exposure of a set.

    Attributes
    ----------
    number : int
        0 for the target, from 1 for its backgrounds; its random numbers depend on this.
    subarray : Subarray
        What is read out.
    integrations : int or None
        None for a rate product, else the integrations of a rateints product.
    """

    number: int
    subarray: Subarray
    integrations: int | None = None


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """An exposure and the truth of it.

    On pixels that are not `bad`, SCI - `sky` - `sources` - `cosmic_rays` is noise alone.

    Attributes
    ----------
    model : ImageModel or CubeModel
        The exposure.
    setup : Setup
        The detector and how it was read; `setup.window` is where the planes lie.
    sky : (rows, columns) float32
        True sky (DN/s); 0 on reference pixels.
    sources : (rows, columns) float32
        What stars and galaxies add (DN/s); 0 on reference pixels.
    cosmic_rays : (rows, columns) or (integrations, rows, columns) float32
        What cosmic rays add (DN/s), in the shape of SCI.
    bad : (rows, columns) bool
        True on hot and dead pixels.
    reference : (rows, columns) bool
        True on reference pixels.
    """

    model: Any = field(repr=False)
    setup: Setup
    sky: FloatImage = field(repr=False)
    sources: FloatImage = field(repr=False)
    cosmic_rays: FloatImage = field(repr=False)
    bad: BoolImage = field(repr=False)
    reference: BoolImage = field(repr=False)

    @property
    def window(self) -> DetectorWindow:
        """Where its planes lie on the detector."""
        return self.setup.window

    @property
    def name(self) -> str:
        """The file name."""
        return str(self.model.meta.filename)


def sky_on(scene: ImagingScene, window: DetectorWindow) -> FloatImage:
    """Evaluate the scene's sky on a window, where it lies on the detector.

    Returns
    -------
    (rows, columns) float32
        DN/s.
    """
    full = scene.detector.full.window
    x = (np.arange(window.x, window.x + window.columns) + 0.5) / full.columns - 0.5
    y = (np.arange(window.y, window.y + window.rows) + 0.5) / full.rows - 0.5
    along_x = scene.sky_slope[0] * x + 4 * scene.sky_bow * x**2
    along_y = scene.sky_slope[1] * y + 4 * scene.sky_bow * y**2
    sky = scene.sky_level * (1 + along_x[np.newaxis, :] + along_y[:, np.newaxis])
    return sky.astype(np.float32)


def simulate_exposure(scene: ImagingScene, seed: int, pointing: Pointing) -> Simulated:
    """Simulate one exposure of a set.

    Parameters
    ----------
    scene : ImagingScene
        What is observed.
    seed : int
        Of the set; the same seed gives the same bits.
    pointing : Pointing
        Which exposure.

    Returns
    -------
    Simulated

    Raises
    ------
    OptionError
        If its window leaves the detector, or it has no integrations.
    """
    _check(scene, pointing)
    setup = Setup(scene.detector, scene.readout, pointing.subarray)
    dither, drift = _draw_pointing(scene, seed, pointing.number)
    reference = reference_pixels(scene.detector, setup.window)
    lit = (~reference).astype(np.float32)
    sky = sky_on(scene, setup.window) * np.float32(1 + drift) * lit
    light = _render_sources(scene, seed, setup.window, dither) * lit
    bad = draw_bad_pixels(scene.detector, seed).on(setup.window)
    integrations = [
        expose(sky + light, setup, bad, seed, pointing.number, i)
        for i in range(pointing.integrations or 1)
    ]
    return Simulated(
        model=_make_model(integrations, scene, setup, pointing, dither),
        setup=setup,
        sky=sky,
        sources=light,
        cosmic_rays=_in_shape_of_sci([i.cosmic_rays for i in integrations], pointing),
        bad=bad.mask(setup.window.shape),
        reference=reference,
    )


def _check(scene: ImagingScene, pointing: Pointing) -> None:
    window, full = pointing.subarray.window, scene.detector.full.window
    if (
        min(window.x, window.y) < 0
        or window.x + window.columns > full.columns
        or window.y + window.rows > full.rows
    ):
        raise OptionError(
            f"subarray must lie on the detector {scene.detector.name}, {full} (got {window})"
        )
    if pointing.integrations is not None and pointing.integrations < 1:
        raise OptionError(
            f"integrations must be None or at least 1 (got {pointing.integrations!r})"
        )


def _draw_pointing(
    scene: ImagingScene, seed: int, number: int
) -> tuple[tuple[float, float], float]:
    """Draw the dither (pixels) and the drift of the sky; the target has neither."""
    if number == TARGET:
        return (0.0, 0.0), 0.0
    rng = generator(seed, Stream.POINTING, number)
    x, y = rng.uniform(-scene.dither, scene.dither, 2)
    return (float(x), float(y)), float(scene.sky_drift * rng.standard_normal())


def _render_sources(
    scene: ImagingScene, seed: int, window: DetectorWindow, dither: tuple[float, float]
) -> FloatImage:
    rng = generator(seed, Stream.CATALOGUE)
    full = scene.detector.full.window
    catalogue = sources.draw_catalogue(scene.population, full, scene.dither, rng)
    return sources.render(catalogue, scene.population, window, dither)


def _in_shape_of_sci(images: Sequence[FloatImage], pointing: Pointing) -> FloatImage:
    return images[0] if pointing.integrations is None else np.stack(images)


def _make_model(
    integrations: Sequence[Planes],
    scene: ImagingScene,
    setup: Setup,
    pointing: Pointing,
    dither: tuple[float, float],
) -> Any:
    is_target = pointing.number == TARGET
    identity = Identity(
        observation=1 if is_target else 2,
        exposure=1 if is_target else pointing.number,
        slot=pointing.number,
        exposure_type=scene.exposure_type,
        filter=scene.filter,
        pupil=scene.pupil,
        target_name="SIMULATED-FIELD" if is_target else "SIMULATED-BACKGROUND",
        is_background=not is_target,
        ra=scene.ra,
        dec=scene.dec,
        dither=dither,
    )
    return make_model(integrations, pointing.integrations is not None, setup, identity)


def plan_imaging_set(
    scene: ImagingScene,
    *,
    n_backgrounds: int = 5,
    subarray: Subarray | None = None,
    background_subarrays: Mapping[int, Subarray] | None = None,
) -> list[Pointing]:
    """Plan a target and backgrounds of one integration each, as rate products.

    Parameters
    ----------
    scene : ImagingScene
        What is observed.
    n_backgrounds : int
        Their number.
    subarray : Subarray, optional
        What every exposure reads out; by default the whole detector.
    background_subarrays : mapping of int to Subarray, optional
        Backgrounds, by number from 1, that read out something else.

    Returns
    -------
    list of Pointing
        The target first.
    """
    common = subarray or scene.detector.full
    others = background_subarrays or {}
    return [
        Pointing(number=number, subarray=others.get(number, common))
        for number in range(n_backgrounds + 1)
    ]


def plan_integrations_set(
    scene: ImagingScene = MIRI_SCENE,
    *,
    n_backgrounds: int = 4,
    n_integrations: int = 4,
    background_integrations: Sequence[int] = (3, 5, 8),
    subarray: Subarray | None = None,
    background_subarrays: Mapping[int, Subarray] | None = None,
) -> list[Pointing]:
    """Plan a target and backgrounds of several integrations, as rateints products.

    Parameters
    ----------
    scene, n_backgrounds, subarray, background_subarrays
        As in `plan_imaging_set`.
    n_integrations : int
        Of the target.
    background_integrations : sequence of int
        Of the backgrounds; taken in turn, from the start again if there are more backgrounds.

    Returns
    -------
    list of Pointing
        The target first.
    """
    common = subarray or scene.detector.full
    others = background_subarrays or {}
    counts = [n_integrations] + [
        background_integrations[i % len(background_integrations)] for i in range(n_backgrounds)
    ]
    return [
        Pointing(number=number, subarray=others.get(number, common), integrations=count)
        for number, count in enumerate(counts)
    ]


def simulate_set(
    scene: ImagingScene, seed: int, pointings: Iterable[Pointing]
) -> Iterator[Simulated]:
    """Simulate exposures one at a time; only the one at hand occupies memory."""
    for pointing in pointings:
        yield simulate_exposure(scene, seed, pointing)


def simulate_imaging_set(
    scene: ImagingScene | None = None, seed: int = 1, **plan: Any
) -> tuple[Simulated, list[Simulated]]:
    """Simulate a target and backgrounds as rate products, all in memory.

    Parameters
    ----------
    scene : ImagingScene, optional
        What is observed; NIRCam by default.
    seed : int
        The same seed gives the same bits.
    **plan
        Of `plan_imaging_set`.

    Returns
    -------
    target : Simulated
    backgrounds : list of Simulated
    """
    scene = scene or ImagingScene()
    target, *backgrounds = simulate_set(scene, seed, plan_imaging_set(scene, **plan))
    return target, backgrounds


def simulate_integrations_set(
    scene: ImagingScene | None = None, seed: int = 1, **plan: Any
) -> tuple[Simulated, list[Simulated]]:
    """Simulate a target and backgrounds as rateints products, all in memory.

    Parameters
    ----------
    scene : ImagingScene, optional
        What is observed; MIRI by default.
    seed : int
        The same seed gives the same bits.
    **plan
        Of `plan_integrations_set`.

    Returns
    -------
    target : Simulated
    backgrounds : list of Simulated
    """
    scene = scene or MIRI_SCENE
    target, *backgrounds = simulate_set(scene, seed, plan_integrations_set(scene, **plan))
    return target, backgrounds


def write_set(
    folder: Path,
    scene: ImagingScene,
    seed: int,
    pointings: Iterable[Pointing],
    inspect: Callable[[Simulated], None] | None = None,
) -> list[Path]:
    """Simulate exposures and write each to a folder before the next is made.

    Parameters
    ----------
    folder : Path
        Where to; made if it is absent. Files of the same names are overwritten.
    scene, seed, pointings
        What to simulate.
    inspect : callable, optional
        Called with each exposure, to take what it wants of the truth.

    Returns
    -------
    list of Path
        The files, in the order of `pointings`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for simulated in simulate_set(scene, seed, pointings):
        if inspect is not None:
            inspect(simulated)
        paths.append(save_whole(simulated.model, folder / simulated.name))
        del simulated  # or it would stay while the next one is made
    return paths
