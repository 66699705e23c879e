"""Imaging: a target and its background exposures, as rate (2-D) or rateints (3-D) products.

Every exposure is a function of the scene, the seed and its own number alone, so they can be
made in any order, or each in another process, and one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import OptionError
from webbkg.files.exposures import DetectorWindow
from webbkg.results import FloatImage
from webbkg.simulate import sources
from webbkg.simulate.detector import (
    MIRI_IMAGER,
    NIRCAM_LONG,
    Detector,
    Readout,
    Stream,
    Subarray,
    fractions,
    generator,
)
from webbkg.simulate.products import PLANES, Identity, gather, make_model, write_models
from webbkg.simulate.scene import Field, Scene, Simulated

TARGET = 0
"""The number of the target in a set; its backgrounds count from 1."""

SHALLOW = Readout(pattern="SHALLOW4", n_groups=7, n_frames=4, group_gap=1)
"""A NIRCam exposure of some six minutes."""

FIELD = sources.Population()
"""The stars and galaxies of a NIRCam field."""


@dataclass(frozen=True, kw_only=True)
class ImagingScene(Scene):
    """What is observed, and with what; the same field for all exposures of a set."""

    detector: Detector = NIRCAM_LONG
    readout: Readout = SHALLOW
    exposure_type: str = "NRC_IMAGE"
    ra: float = 150.1
    dec: float = 2.2
    filter: str = "F356W"  #: FILTER
    pupil: str | None = "CLEAR"  #: PUPIL
    population: sources.Population = FIELD  #: stars and galaxies
    sky_level: float = 0.3  #: sky at the centre of the detector (DN/s)
    #: Change of the sky from one end of the detector to the other in x and y, as a fraction.
    sky_slope: tuple[float, float] = (0.10, -0.06)
    sky_bow: float = 0.04  #: change from the centre to the middle of an edge, as a fraction
    #: Standard deviation of a background exposure's sky level, as a fraction; the target's is
    #: exact.
    sky_drift: float = 0.002
    #: A background exposure is moved by up to this much, either way in x and y (pixels).
    dither: float = 150.0

    @property
    def elements(self) -> tuple[str, str | None]:
        """FILTER and PUPIL."""
        return self.filter, self.pupil


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
    """One exposure of a set."""

    number: int  #: 0 for the target, from 1 for its backgrounds; its random numbers follow it
    subarray: Subarray  #: what is read out
    integrations: int | None = None  #: of a rateints product; None for a rate product


@dataclass(frozen=True, kw_only=True)
class ImagingField(Field):
    """What one exposure of a set shows."""

    scene: ImagingScene
    number: int  #: that of its `Pointing`

    @cached_property
    def moved(self) -> tuple[tuple[float, float], float]:
        """The dither (pixels) and the drift of the sky; the target has neither."""
        if self.number == TARGET:
            return (0.0, 0.0), 0.0
        rng = generator(self.seed, Stream.POINTING, self.number)
        x, y = rng.uniform(-self.scene.dither, self.scene.dither, 2)
        return (float(x), float(y)), float(self.scene.sky_drift * rng.standard_normal())

    @cached_property
    def sky(self) -> FloatImage:
        """True sky, with its drift."""
        sky = sky_on(self.scene, self.setup.window)
        return sky * np.float32(1 + self.moved[1]) * self.lit

    @cached_property
    def sources(self) -> FloatImage:
        """Stars and galaxies, where the dither puts them."""
        scene, rng = self.scene, generator(self.seed, Stream.CATALOGUE)
        full = scene.detector.full.window
        drawn = sources.draw_catalogue(scene.population, full, scene.dither, rng)
        window, dither = self.setup.window, self.moved[0]
        return sources.render(drawn, scene.population, window, dither) * self.lit


def sky_on(scene: ImagingScene, window: DetectorWindow) -> FloatImage:
    """Evaluate the scene's sky on a window, where it lies: (rows, columns) float32, DN/s."""
    x, y = fractions(scene.detector, window)
    along_x = scene.sky_slope[0] * x + 4 * scene.sky_bow * x**2
    along_y = scene.sky_slope[1] * y + 4 * scene.sky_bow * y**2
    return np.asarray(scene.sky_level * (1 + along_x + along_y), np.float32)


def simulate_exposure(scene: ImagingScene, seed: int, pointing: Pointing) -> Simulated:
    """Simulate one exposure of a set; the same seed, that of the set, gives the same bits.

    It is an OptionError if its window leaves the detector, or it has no integrations.
    """
    number, count = pointing.number, pointing.integrations
    if count is not None and count < 1:
        raise OptionError(f"integrations must be None or at least 1 (got {count!r})")
    setup = scene.set_up(pointing.subarray)
    shown = ImagingField(scene=scene, seed=seed, setup=setup, number=number)
    integrations = (shown.measure(number, index) for index in range(count or 1))
    planes = gather(integrations, count or 1, (*PLANES, "cosmic_rays"))
    if count is None:
        planes = {name: cube[0] for name, cube in planes.items()}
    rays, is_background = planes.pop("cosmic_rays"), number != TARGET
    identity = Identity(
        observation=2 if is_background else 1,
        exposure=number if is_background else 1,
        slot=number,
        target_name="SIMULATED-BACKGROUND" if is_background else "SIMULATED-FIELD",
        is_background=is_background,
        dither=shown.moved[0],
    )
    model = make_model(planes, scene, setup, identity)
    return Simulated(model=model, field=shown, cosmic_rays=rays)


def plan_imaging_set(
    scene: ImagingScene,
    *,
    n_backgrounds: int = 5,
    subarray: Subarray | None = None,
    background_subarrays: Mapping[int, Subarray] | None = None,
    integrations: Sequence[int] | None = None,
) -> list[Pointing]:
    """Plan a target and its backgrounds; returned is the target first.

    Every exposure reads out `subarray`, by default the whole detector, but for the backgrounds, by
    number from 1, in `background_subarrays`. `integrations` are those of each exposure, the target
    first; by default all are rate products.
    """
    parts = dict.fromkeys(range(n_backgrounds + 1), subarray or scene.detector.full)
    parts |= background_subarrays or {}
    counts = dict(enumerate(integrations or ()))
    return [
        Pointing(number=number, subarray=parts[number], integrations=counts.get(number))
        for number in range(n_backgrounds + 1)
    ]


def plan_integrations_set(
    scene: ImagingScene = MIRI_SCENE,
    *,
    n_backgrounds: int = 4,
    n_integrations: int = 4,
    background_integrations: Sequence[int] = (3, 5, 8),
    **plan: Any,
) -> list[Pointing]:
    """Plan a target of `n_integrations` and its backgrounds, as rateints products.

    The integrations of the backgrounds are taken in turn, from the start again if there are more
    backgrounds; `plan` is the rest of `plan_imaging_set`'s.
    """
    taken = (
        background_integrations[i % len(background_integrations)] for i in range(n_backgrounds)
    )
    counts = [n_integrations, *taken]
    return plan_imaging_set(scene, n_backgrounds=n_backgrounds, integrations=counts, **plan)


def simulate_imaging_set(
    scene: ImagingScene | None = None, seed: int = 1, **plan: Any
) -> tuple[Simulated, list[Simulated]]:
    """Simulate a target and its backgrounds, all in memory: those of `plan_imaging_set`.

    The scene is NIRCam's by default; the same seed gives the same bits.
    """
    scene = scene or ImagingScene()
    return _simulate(scene, seed, plan_imaging_set(scene, **plan))


def simulate_integrations_set(
    scene: ImagingScene | None = None, seed: int = 1, **plan: Any
) -> tuple[Simulated, list[Simulated]]:
    """Simulate a set as `simulate_imaging_set` does, MIRI's by default: `plan_integrations_set`."""
    scene = scene or MIRI_SCENE
    return _simulate(scene, seed, plan_integrations_set(scene, **plan))


def _simulate(
    scene: ImagingScene, seed: int, plan: Iterable[Pointing]
) -> tuple[Simulated, list[Simulated]]:
    target, *backgrounds = (simulate_exposure(scene, seed, pointing) for pointing in plan)
    return target, backgrounds


def write_set(
    folder: Path,
    scene: ImagingScene,
    seed: int,
    pointings: Iterable[Pointing],
    inspect: Callable[[Simulated], object] = lambda _: None,
) -> list[Path]:
    """Simulate exposures and write each to a folder before the next is made.

    Each is shown to `inspect`, which takes what it wants of the truth. Returned are the files, in
    the order of `pointings`; see `webbkg.simulate.products.write_models`.
    """

    def make(pointing: Pointing) -> Any:
        simulated = simulate_exposure(scene, seed, pointing)
        inspect(simulated)
        return simulated.model

    return write_models(folder, map(make, pointings))
