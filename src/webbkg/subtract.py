"""Model in, model out: measure the background, take it off, and write down what was done.

The one place that turns results into keywords, history and log lines.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np

from webbkg import __version__
from webbkg.errors import InputError
from webbkg.files.exposures import ExposureInfo, read_meta
from webbkg.modes import Request, Target, find_mode
from webbkg.numerics.parallel import available_threads, over_bands, split
from webbkg.numerics.summary import finite_median
from webbkg.results import Background, Outcome, Status

log = logging.getLogger(__name__)


def subtract_background(
    model: Any,
    request: Request | None = None,
    *,
    allow_repeat: bool = False,
    in_place: bool = False,
    apply: bool = True,
    measured: Outcome | None = None,
) -> tuple[Any, Outcome]:
    """Subtract the background of one exposure.

    Parameters
    ----------
    model : data model
        The target, 2-D or 3-D; not changed unless `in_place`.
    request : Request, optional
        The backgrounds and the options.
    allow_repeat : bool
        Subtract from a target that is COMPLETE already.
    in_place : bool
        The caller gives `model` away: change it instead of a copy. If an error is raised it is
        as it was.
    apply : bool
        False leaves SCI and DQ to whoever writes the product; see `webbkg.files.streaming`.
    measured : Outcome, optional
        What another segment of the same exposure was measured to need; nothing is measured.

    Returns
    -------
    model : data model
        Of the same class, with ``meta.cal_step.bkg_subtract`` set. Unless that is COMPLETE its
        SCI, ERR and DQ are those of the target.
    outcome : Outcome
        What was done.

    Raises
    ------
    WebbkgError
        If the target or a background cannot be used.
    """
    request = request or Request()
    target = _as_target(model)
    if target.info.bkg_subtract == Status.COMPLETE and not allow_repeat:
        reason = (
            f"{target.name} is background-subtracted already (S_BKDSUB = COMPLETE); "
            "it is returned unchanged (allow_repeat subtracts again)"
        )
        log.warning(reason)
        done = Outcome(status=Status.COMPLETE, reason=reason, already_done=True)
        return (model if in_place else model.copy()), done
    outcome = measured or find_mode(target.info.exposure_type)(target, request)
    background = outcome.background if apply else None
    if not request.keep_background:
        outcome = replace(outcome, background=None)
    before = after = None
    if background is None:
        result = model if in_place else model.copy()
    else:
        if request.measure_medians:
            before = finite_median(model.data)
        planes = _planes_of(model, in_place)
        _apply(planes, background)
        del background  # its memory, before the other planes are copied
        result = model if in_place else _copy_with(model, planes)
        result.data, result.dq = planes["data"], planes["dq"]
        if request.measure_medians:
            after = finite_median(result.data)
        outcome = replace(outcome, median_before=before, median_after=after)
    _record(result, target, outcome)
    return result, outcome


def _planes_of(model: Any, in_place: bool) -> dict[str, Any]:
    """Take SCI and DQ to write into: the model's own where that is wanted and possible."""
    dq = read_meta(model, "dq")
    planes = {"data": model.data, "dq": np.zeros(model.data.shape, np.uint32) if dq is None else dq}
    return {
        name: plane if in_place and plane.flags.writeable else plane.copy()
        for name, plane in planes.items()
    }


def _copy_with(model: Any, planes: dict[str, Any]) -> Any:
    """Copy a model, but take these planes instead of copies of its own."""
    memo = {id(read_meta(model, name)): plane for name, plane in planes.items()}
    memo.pop(id(None), None)  # a model without DQ
    return model.copy(memo=memo)


def _apply(planes: dict[str, Any], background: Background) -> None:
    """Subtract a background from every integration, in place.

    Where it is unknown the result is NaN and DO_NOT_USE; where nothing was observed (not
    `covered`) the target stays as it is. ERR and variances are unchanged.
    """
    where: Any = True if background.covered.all() else background.covered
    flagged = bool(background.dq.any())
    sci, dq = _images(planes["data"]), _images(planes["dq"])

    def subtract(start: int, stop: int) -> None:
        for index in range(start, stop):
            np.subtract(sci[index], background.sci, out=sci[index], where=where)
            if flagged:
                np.bitwise_or(dq[index], background.dq, out=dq[index], where=where)

    over_bands(split(len(sci), 4), lambda: subtract, threads=available_threads())


def _images(array: Any) -> Any:
    return array if array.ndim == 3 else array[np.newaxis]


def _as_target(model: Any) -> Target:
    name = read_meta(model, "meta.filename") or f"<{type(model).__name__}>"
    if read_meta(model, "data") is None:
        raise InputError(f"{name}: the {type(model).__name__} has no SCI plane; set model.data")
    shape = model.data.shape
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name}: SCI must be 2-D or 3-D and not empty (got shape {shape}); "
            "a rate, rateints or cal product is needed"
        )
    dq = read_meta(model, "dq")
    if dq is not None and dq.shape != shape:
        raise InputError(f"{name}: SCI and DQ must have one shape (got {shape}, {dq.shape})")
    return Target(name=name, model=model, info=ExposureInfo.from_model(model))


def _record(model: Any, target: Target, outcome: Outcome) -> None:
    """Set the status, and keep the numbers and how they came about."""
    model.meta.cal_step.bkg_subtract = str(outcome.status)
    model.meta.background.webbkg = {
        "version": __version__,
        "status": str(outcome.status),
        "reason": outcome.reason or "None",
        **outcome.details,
    }
    if outcome.sky_mask is not None:
        model.mask = outcome.sky_mask.astype(np.uint32)
    if outcome.scale is not None:
        model.meta.background.scaling_factor = outcome.scale
    if outcome.status is Status.COMPLETE:
        model.add_history_entry(
            f"webbkg {__version__} subtracted the background: "
            + json.dumps(outcome.details, separators=(",", ":"), sort_keys=False),
            software={"name": "webbkg", "version": __version__},
        )
        log.info("%s: %s", target.name, describe(outcome))
    else:
        log.warning(
            "%s: background subtraction %s: %s", target.name, outcome.status, outcome.reason
        )


def describe(outcome: Outcome) -> str:
    """Say in one line what was subtracted."""
    return "background subtracted; " + "; ".join(f"{k}: {v}" for k, v in outcome.summary)
