"""Simulated planes as rate and rateints data models, with the metadata of real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from webbkg.simulate.detector import Planes, Setup

FIRST_EXPOSURE = datetime(2025, 7, 1, tzinfo=UTC)
"""When the first exposure of a set begins."""

SLOT = timedelta(hours=2)
"""Time from the start of one exposure to that of the next."""

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the headers say of an exposure, besides its detector and readout.

    Attributes
    ----------
    program, observation, exposure : int
        Which exposure this is; programme 99999 does not exist.
    slot : int
        Its place in time in the set.
    exposure_type, filter, pupil : str or None
        EXP_TYPE, FILTER, PUPIL.
    target_name : str
        TARGNAME.
    is_background : bool
        BKGDTARG.
    ra, dec : float
        Where an undithered detector centre points (degrees).
    dither : (x, y)
        How far sources are moved (pixels).
    """

    program: int = 99999
    observation: int
    exposure: int = 1
    slot: int
    exposure_type: str
    filter: str
    pupil: str | None = None
    target_name: str
    is_background: bool
    ra: float
    dec: float
    dither: tuple[float, float] = (0.0, 0.0)

    def file_name(self, detector: str, suffix: str, segment: int | None = None) -> str:
        """Name a product as the archive does."""
        part = "" if segment is None else f"-seg{segment:03d}"
        return (
            f"jw{self.program:05d}{self.observation:03d}001_02101_{self.exposure:05d}{part}_"
            f"{detector.lower()}_{suffix}.fits"
        )


def make_model(integrations: Sequence[Planes], cube: bool, setup: Setup, identity: Identity) -> Any:
    """Make a rate or rateints product.

    Parameters
    ----------
    integrations : sequence of Planes
        One for a rate product, at least one for rateints.
    cube : bool
        Make a CubeModel (rateints), not an ImageModel (rate).
    setup : Setup
        The detector and how it was read.
    identity : Identity
        The rest of the headers.

    Returns
    -------
    ImageModel or CubeModel
        SCI, ERR, DQ, VAR_POISSON and VAR_RNOISE, in DN/s.
    """
    from stdatamodels.jwst import datamodels

    kind = datamodels.CubeModel if cube else datamodels.ImageModel
    meta = _metadata(setup, identity, len(integrations))
    meta["filename"] = identity.file_name(setup.detector.name, "rateints" if cube else "rate")
    # Given a tree, the model validates it once; plane by plane it takes ten times as long.
    tree: dict[str, Any] = {"meta": meta}
    for attribute, plane in _ATTRIBUTES.items():
        values = [getattr(planes, plane) for planes in integrations]
        tree[attribute] = np.stack(values) if cube else values[0]
    return kind(tree)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Which part of a time series a file holds.

    Attributes
    ----------
    number, of : int
        EXSEGNUM, from 1, and EXSEGTOT.
    start, stop : int
        Its integrations, counted from 0.
    total : int
        NINTS: integrations of the whole exposure.
    """

    number: int = 1
    of: int = 1
    start: int
    stop: int
    total: int


def make_segment(
    integrations: Iterable[Planes],
    segment: Segment,
    setup: Setup,
    identity: Identity,
    *,
    variances: bool = True,
) -> Any:
    """Make a rateints product of a part of a time series, which is held once.

    Parameters
    ----------
    integrations : iterable of Planes
        Those of the segment; taken one at a time.
    segment : Segment
        Which they are.
    setup, identity
        As in `make_model`.
    variances : bool
        Include VAR_POISSON and VAR_RNOISE.

    Returns
    -------
    CubeModel
        Its INT_TIMES give the same times for the barycentre as for the observatory.
    """
    from stdatamodels.jwst import datamodels

    count = segment.stop - segment.start
    wanted = [name for name in _ATTRIBUTES if variances or not name.startswith("var")]
    tree: dict[str, Any] = {}
    for index, planes in enumerate(integrations):
        for name in wanted:
            plane = getattr(planes, _ATTRIBUTES[name])
            if index == 0:
                tree[name] = np.empty((count, *plane.shape), plane.dtype)
            tree[name][index] = plane
    tree["meta"] = meta = _metadata(setup, identity, segment.total)
    meta["exposure"] |= {
        "integration_start": segment.start + 1,
        "integration_end": segment.stop,
        "segment_number": segment.number,
        "total_segments": segment.of,
    }
    meta["filename"] = identity.file_name(setup.detector.name, "rateints", segment.number)
    model = datamodels.CubeModel(tree)
    model.int_times = _integration_times(segment, meta["exposure"], model.get_dtype("int_times"))
    return model


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


_ATTRIBUTES = {
    "data": "sci",
    "err": "err",
    "dq": "dq",
    "var_poisson": "var_poisson",
    "var_rnoise": "var_rnoise",
}


def _metadata(setup: Setup, identity: Identity, n_integrations: int) -> dict[str, Any]:
    window, detector = setup.window, setup.detector
    start = FIRST_EXPOSURE + identity.slot * SLOT
    return {
        "telescope": "JWST",
        "origin": "webbkg.simulate",
        "bunit_data": "DN/s",
        "bunit_err": "DN/s",
        "program": {"title": "Simulated by webbkg", "category": "CAL"},
        "observation": _observation(identity, start),
        "target": {
            "catalog_name": identity.target_name,
            "ra": identity.ra,
            "dec": identity.dec,
        },
        "instrument": _present(
            name=detector.instrument,
            detector=detector.name,
            module=detector.module,
            channel=detector.channel,
            filter=identity.filter,
            pupil=identity.pupil,
        ),
        "exposure": _exposure(setup, identity.exposure_type, n_integrations, start),
        "subarray": {
            "name": setup.subarray.name,
            "xstart": window.x + 1,
            "ystart": window.y + 1,
            "xsize": window.columns,
            "ysize": window.rows,
            "fastaxis": detector.fast_axis,
            "slowaxis": detector.slow_axis,
        },
        "dither": {
            "x_offset": identity.dither[0] * detector.pixel_scale,
            "y_offset": identity.dither[1] * detector.pixel_scale,
        },
        "wcsinfo": _pointing(setup, identity),
        "cal_step": dict.fromkeys(("dq_init", "jump", "ramp_fit"), "COMPLETE"),
    }


def _present(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _observation(identity: Identity, start: datetime) -> dict[str, Any]:
    visit = f"{identity.program:05d}{identity.observation:03d}001"
    return {
        "date": start.strftime("%Y-%m-%d"),
        "time": start.strftime("%H:%M:%S.000"),
        "date_beg": start.strftime("%Y-%m-%dT%H:%M:%S.000"),
        "obs_id": f"V{visit}P0000000002101",
        "visit_id": visit,
        "program_number": f"{identity.program:05d}",
        "observation_number": f"{identity.observation:03d}",
        "visit_number": "001",
        "visit_group": "02",
        "sequence_id": "1",
        "activity_id": "01",
        "exposure_number": f"{identity.exposure:05d}",
        "bkgdtarg": identity.is_background,
    }


def _exposure(
    setup: Setup, exposure_type: str, n_integrations: int, start: datetime
) -> dict[str, Any]:
    readout = setup.readout
    integration_time = setup.group_time * readout.n_groups
    # One frame is spent on the reset before every integration.
    duration = n_integrations * (integration_time + setup.subarray.frame_time)
    days = (start - _MJD_ZERO) / timedelta(days=1)
    return {
        "type": exposure_type,
        "readpatt": readout.pattern,
        "nints": n_integrations,
        "integration_start": 1,
        "integration_end": n_integrations,
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


def _pointing(setup: Setup, identity: Identity) -> dict[str, Any]:
    """Give the FITS keywords of an undistorted, unrotated sky: east to the left, north up."""
    full, window = setup.detector.full.window, setup.window
    scale = setup.detector.pixel_scale / 3600
    dec = identity.dec - identity.dither[1] * scale
    ra = identity.ra + identity.dither[0] * scale / math.cos(math.radians(dec))
    return {
        "wcsaxes": 2,
        "ctype1": "RA---TAN",
        "ctype2": "DEC--TAN",
        "cunit1": "deg",
        "cunit2": "deg",
        "crpix1": (full.columns + 1) / 2 - window.x,
        "crpix2": (full.rows + 1) / 2 - window.y,
        "crval1": ra,
        "crval2": dec,
        "cdelt1": scale,
        "cdelt2": scale,
        "pc1_1": -1.0,
        "pc1_2": 0.0,
        "pc2_1": 0.0,
        "pc2_2": 1.0,
        "ra_ref": ra,
        "dec_ref": dec,
        "roll_ref": 0.0,
    }
