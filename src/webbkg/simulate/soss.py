"""SOSS: a time series of a star in transit, over a sky of known template and scales.

`draw_field` makes what does not change with time and `draw_series` the light curve; an
integration is then a function of the series, the seed and its own number alone, so that
they can be made one at a time, in any segments. `webbkg.simulate.soss_scene` says what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from webbkg.errors import OptionError
from webbkg.results import FlagImage, FloatImage
from webbkg.simulate.detector import Planes, Subarray, Values
from webbkg.simulate.products import (
    PLANES,
    VARIANCES,
    Identity,
    Segment,
    gather,
    make_model,
    reference_metadata,
    write_models,
)
from webbkg.simulate.scene import Field
from webbkg.simulate.soss_scene import (
    SUBSTRIP256,
    SossScene,
    light_curve,
    make_library,
    make_sky,
    render_star,
    render_zeroth_orders,
    rows_of,
)


@dataclass(frozen=True, kw_only=True)
class SossField(Field):
    """What does not change during an exposure, on one strip of the detector."""

    scene: SossScene

    @cached_property
    def sky(self) -> FloatImage:
        """True sky: a template of the library, scaled on either side of its jump."""
        return make_sky(self.scene)[rows_of(self.setup.subarray)]

    @cached_property
    def star(self) -> FloatImage:
        """All orders of the star, outside transit (DN/s)."""
        return render_star(self.scene)[rows_of(self.setup.subarray)] * self.lit

    @cached_property
    def zeroth(self) -> FloatImage:
        """Zeroth orders of other stars (DN/s)."""
        drawn = render_zeroth_orders(self.scene, self.seed)
        return drawn[rows_of(self.setup.subarray)] * self.lit

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
        return shown.sky + shown.zeroth + np.float32(self.curve[integration]) * shown.star

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


def with_noise(scene: SossScene, factor: float) -> SossScene:
    """Multiply all noise of a scene's detector by a factor, and nothing else.

    An imagined detector of another gain: photon noise goes as the root of the electrons.
    """
    detector, electrons = scene.detector, factor**-2
    changed = replace(
        detector,
        gain=detector.gain * electrons,
        read_noise=detector.read_noise * factor * electrons,
        flicker_noise=detector.flicker_noise * factor * electrons,
        cosmic_ray_charge=detector.cosmic_ray_charge * electrons,
    )
    return replace(scene, detector=changed)


def draw_field(
    scene: SossScene | None = None, seed: int = 1, subarray: Subarray = SUBSTRIP256
) -> SossField:
    """Draw what does not change during an exposure; the same seed gives the same bits.

    Raises
    ------
    OptionError
        If the strip is not SUBSTRIP256, SUBSTRIP96 or another part of the former, all columns
        wide.
    """
    rows_of(subarray)
    scene = scene or SossScene()
    return SossField(scene=scene, seed=seed, setup=scene.set_up(subarray))


def draw_series(shown: SossField, integrations: int = 20) -> SossSeries:
    """Observe a field for so many integrations.

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
) -> tuple[FloatImage, FlagImage]:
    """Measure integrations `start` to `stop`: SCI and DQ, (integrations, rows, columns)."""
    cubes = series.gather(start, stop, ("sci", "dq"))
    return cubes["sci"], cubes["dq"]


def segment_model(series: SossSeries, segment: Segment, *, variances: bool = True) -> Any:
    """Make the rateints product of a segment, one of `split_series`; a CubeModel.

    Its planes are held once, VAR_POISSON and VAR_RNOISE only if they are wanted.
    """
    names = PLANES | VARIANCES if variances else PLANES
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
