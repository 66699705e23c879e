"""Simulated planes as rate and rateints data models, with the metadata of real ones; references."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.files.output import save_whole
from webbkg.simulate.detector import Detector, Planes, Setup, Subarray
from webbkg.simulate.scene import Scene

PROGRAM = "99999"
"""A programme that does not exist."""

FIRST_EXPOSURE, SLOT = datetime(2025, 7, 1, tzinfo=UTC), timedelta(hours=2)
"""When the first exposure of a set begins, and the time from there to the start of the next."""

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)

PLANES = ("sci", "err", "dq", "var_poisson", "var_rnoise")
"""The planes of an integration in a product; a data model calls the first one `data`."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Which part of a time series a file holds."""

    number: int = 1  #: EXSEGNUM, from 1
    of: int = 1  #: EXSEGTOT
    start: int  #: its integrations, from the first to before the last, counted from 0
    stop: int
    total: int  #: NINTS: integrations of the whole exposure


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which exposure this is."""

    observation: int = 1
    exposure: int = 1
    slot: int = 0  #: its place in time in the set
    target_name: str  #: TARGNAME
    is_background: bool = False  #: BKGDTARG
    dither: tuple[float, float] = (0.0, 0.0)  #: how far sources are moved in x and y (pixels)
    segment: Segment | None = None  #: which part of the exposure, if it is cut

    @property
    def visit(self) -> str:
        """Programme, observation and visit."""
        return f"{PROGRAM}{self.observation:03d}001"

    def file_name(self, detector: str, suffix: str) -> str:
        """Name a product as the archive does."""
        part = "" if self.segment is None else f"-seg{self.segment.number:03d}"
        return f"jw{self.visit}_02101_{self.exposure:05d}{part}_{detector.lower()}_{suffix}.fits"


def gather(integrations: Iterable[Planes], count: int, names: Iterable[str]) -> dict[str, Any]:
    """Put planes of `count` integrations into cubes by name; the integrations come one by one."""
    cubes: dict[str, npt.NDArray[Any]] = {}
    wanted = tuple(names)
    for index, planes in enumerate(integrations):
        for name in wanted:
            plane = getattr(planes, name)
            if index == 0:
                cubes[name] = np.empty((count, *plane.shape), plane.dtype)
            cubes[name][index] = plane
    return cubes


def make_model(planes: dict[str, Any], scene: Scene, setup: Setup, identity: Identity) -> Any:
    """Make a rate product (ImageModel) of images, or a rateints product (CubeModel) of cubes.

    The planes, SCI, ERR, DQ and, if wanted, the variances, in DN/s, are named as in `Planes`; they
    are not copied. A segment has INT_TIMES, the same for the barycentre as for the observatory.
    """
    from stdatamodels.jwst import datamodels

    cube, segment = planes["sci"].ndim == 3, identity.segment
    kind = datamodels.CubeModel if cube else datamodels.ImageModel
    n_integrations = segment.total if segment else len(planes["sci"]) if cube else 1
    meta = _metadata(scene, setup, identity, n_integrations)
    meta["filename"] = identity.file_name(setup.detector.name, "rateints" if cube else "rate")
    # Given a tree, the model validates it once; plane by plane it takes ten times as long.
    model = kind(
        {"meta": meta} | {"data" if name == "sci" else name: planes[name] for name in planes}
    )
    if segment is not None:
        dtype = model.get_dtype("int_times")
        model.int_times = _integration_times(segment, meta["exposure"], dtype)
    return model


def write_models(folder: Path, models: Iterable[Any]) -> list[Path]:
    """Write models under their FILENAMEs, each before the next is made; make the folder.

    Files of the same names are overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in models:
        paths.append(save_whole(model, folder / model.meta.filename))
        del model  # or it would stay while the next one is made
    return paths


def reference_metadata(
    scene: Scene, kind: str, description: str, part: Subarray | None = None
) -> dict[str, Any]:
    """Make the metadata of a reference for a scene, and of the part it covers if it has pixels."""
    meta = {
        "telescope": "JWST",
        "filename": f"{kind}.{'fits' if part else 'asdf'}",
        "reftype": kind,
        "author": "webbkg.simulate",
        "pedigree": "DUMMY",
        "description": description,
        "useafter": "2014-01-01T00:00:00",
        "instrument": {"name": scene.detector.instrument},
        "exposure": {"type": scene.exposure_type},
    }
    if part is not None:
        meta |= {"bunit_data": "DN/s", "bunit_err": "DN/s", "instrument": _instrument(scene)}
        meta["subarray"] = _subarray(part, scene.detector)
    return meta


def _metadata(
    scene: Scene, setup: Setup, identity: Identity, n_integrations: int
) -> dict[str, Any]:
    start = FIRST_EXPOSURE + identity.slot * SLOT
    x, y = (setup.detector.pixel_scale * moved for moved in identity.dither)
    return {
        "telescope": "JWST",
        "origin": "webbkg.simulate",
        "bunit_data": "DN/s",
        "bunit_err": "DN/s",
        "program": {"title": "Simulated by webbkg", "category": "CAL"},
        "observation": _observation(identity, start),
        "target": {"catalog_name": identity.target_name, "ra": scene.ra, "dec": scene.dec},
        "instrument": _instrument(scene),
        "exposure": _exposure(scene, setup, n_integrations, start, identity.segment),
        "subarray": _subarray(setup.subarray, setup.detector),
        "dither": {"x_offset": x, "y_offset": y},
        "wcsinfo": _pointing(scene, setup, identity.dither),
        "cal_step": dict.fromkeys(("dq_init", "jump", "ramp_fit"), "COMPLETE"),
    }


def _instrument(scene: Scene) -> dict[str, str]:
    detector, (filter_name, pupil) = scene.detector, scene.elements
    named = {"name": detector.instrument, "detector": detector.name, "module": detector.module}
    named |= {"channel": detector.channel, "filter": filter_name, "pupil": pupil}
    return {key: value for key, value in named.items() if value is not None}


def _subarray(part: Subarray, detector: Detector) -> dict[str, Any]:
    window = part.window
    return {
        "name": part.name,
        "xstart": window.x + 1,
        "ystart": window.y + 1,
        "xsize": window.columns,
        "ysize": window.rows,
        "fastaxis": detector.fast_axis,
        "slowaxis": detector.slow_axis,
    }


def _observation(identity: Identity, start: datetime) -> dict[str, Any]:
    return {
        "date": start.strftime("%Y-%m-%d"),
        "time": start.strftime("%H:%M:%S.000"),
        "date_beg": start.strftime("%Y-%m-%dT%H:%M:%S.000"),
        "obs_id": f"V{identity.visit}P0000000002101",
        "visit_id": identity.visit,
        "program_number": PROGRAM,
        "observation_number": f"{identity.observation:03d}",
        "visit_number": "001",
        "visit_group": "02",
        "sequence_id": "1",
        "activity_id": "01",
        "exposure_number": f"{identity.exposure:05d}",
        "bkgdtarg": identity.is_background,
    }


def _exposure(
    scene: Scene, setup: Setup, n_integrations: int, start: datetime, segment: Segment | None
) -> dict[str, Any]:
    readout = setup.readout
    integration_time = setup.group_time * readout.n_groups
    # One frame is spent on the reset before every integration.
    duration = n_integrations * (integration_time + setup.subarray.frame_time)
    days = (start - _MJD_ZERO) / timedelta(days=1)
    numbers = {"segment_number": segment.number, "total_segments": segment.of} if segment else {}
    return numbers | {
        "type": scene.exposure_type,
        "readpatt": readout.pattern,
        "nints": n_integrations,
        "integration_start": segment.start + 1 if segment else 1,
        "integration_end": segment.stop if segment else n_integrations,
        "ngroups": readout.n_groups,
        "nframes": readout.n_frames,
        "groupgap": readout.group_gap,
        "nsamples": 1,
        "sample_time": 10.0,
        "frame_time": setup.subarray.frame_time,
        "group_time": setup.group_time,
        "integration_time": integration_time,
        "exposure_time": n_integrations * integration_time,
        "measurement_time": n_integrations * setup.seconds,
        "duration": duration,
        "start_time": days,
        "mid_time": days + duration / 172800,
        "end_time": days + duration / 86400,
    }


def _integration_times(segment: Segment, exposure: dict[str, Any], dtype: Any) -> Any:
    """Make the INT_TIMES table of a segment."""
    times = np.zeros(segment.stop - segment.start, dtype)
    index = np.arange(segment.start, segment.stop)
    begin = exposure["start_time"] + index * exposure["duration"] / segment.total / 86400
    days = exposure["integration_time"] / 86400
    times["integration_number"] = index + 1
    for scale in ("MJD_UTC", "BJD_TDB"):
        for name, part in (("start", 0.0), ("mid", 0.5), ("end", 1.0)):
            times[f"int_{name}_{scale}"] = begin + part * days
    return times


def _pointing(scene: Scene, setup: Setup, dither: tuple[float, float]) -> dict[str, Any]:
    """Give the FITS keywords of an undistorted, unrotated sky: east to the left, north up."""
    full, window = setup.detector.full.window, setup.window
    scale = setup.detector.pixel_scale / 3600
    dec = scene.dec - dither[1] * scale
    ra = scene.ra + dither[0] * scale / math.cos(math.radians(dec))
    keywords: dict[str, Any] = {"wcsaxes": 2, "ra_ref": ra, "dec_ref": dec, "roll_ref": 0.0}
    keywords |= {"pc1_1": -1.0, "pc1_2": 0.0, "pc2_1": 0.0, "pc2_2": 1.0}
    axes = (("RA---TAN", full.columns, window.x, ra), ("DEC--TAN", full.rows, window.y, dec))
    for axis, (kind, length, first, at) in enumerate(axes, 1):
        keywords |= {f"ctype{axis}": kind, f"cunit{axis}": "deg", f"cdelt{axis}": scale}
        keywords |= {f"crpix{axis}": (length + 1) / 2 - first, f"crval{axis}": at}
    return keywords
