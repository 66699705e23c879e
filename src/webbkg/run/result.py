"""The background is taken off: from a model, or when the product is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.apply import UNCERTAINTIES, apply, changes
from webbkg.files.fits import axes
from webbkg.files.models import attribute_of, copy_with, read_meta
from webbkg.files.product import Draft, Survey
from webbkg.modes import Request, Target
from webbkg.numerics.summary import finite_median
from webbkg.results import Background, Outcome
from webbkg.run.items import Item

LARGEST_MEDIAN = 2**24
"""Pixels of a target up to which its medians are told, where it goes from file to file."""


def make_draft(item: Item, found: Survey, target: Target, request: Request) -> None:
    """Note what takes the background off, for when the product is written."""
    outcome = item.outcome
    assert outcome is not None
    background = outcome.background
    item.result = draft = Draft(target=found)
    if background is not None:
        names = uncertainties_of(found)
        draft.changes = changes(background, names)
        outcome = _told_of(outcome, names)
        if request.measure_medians and math.prod(target.shape) <= LARGEST_MEDIAN:
            sci = target.plane("SCI")
            assert sci is not None
            before = finite_median(sci)
            for integration, image in enumerate(sci.reshape(-1, *sci.shape[-2:])):
                draft.changes["SCI"](image, 0, integration)
            outcome = replace(outcome, median_before=before, median_after=finite_median(sci))
    item.outcome = outcome if request.keep_background else replace(outcome, background=None)


def make_result(item: Item, request: Request) -> None:
    """Take the background off: from the item's own model, or from a copy of the caller's."""
    model, item.model, outcome = item.model, None, item.outcome
    assert outcome is not None
    background = None if item.streamed else outcome.background
    if not (request.keep_background or item.streamed):  # that is subtracted when it is written
        item.outcome = outcome = replace(outcome, background=None)
    if background is None:
        if item.streamed and outcome.background is not None:
            item.outcome = _told_of(outcome, uncertainties_of(model))
        item.result = model if item.owned else model.copy()
        return
    before = finite_median(model.data) if request.measure_medians else None
    planes = {
        name: plane if item.owned and plane.flags.writeable else plane.copy()
        for name, plane in _changing(model, background).items()
    }
    apply(background, planes)
    del background  # its memory, before the other planes are copied
    changed = {attribute_of(name): plane for name, plane in planes.items()}
    item.result = model if item.owned else copy_with(model, changed)
    for name, plane in changed.items():
        item.result[name] = plane
    item.outcome = outcome = _told_of(outcome, tuple(planes))
    if request.measure_medians:
        after = finite_median(item.result.data)
        item.outcome = replace(outcome, median_before=before, median_after=after)


def _changing(model: Any, background: Background) -> dict[str, npt.NDArray[Any]]:
    """Return the planes of a model that a background changes, floating point where they must be."""
    dq = read_meta(model, "dq")
    planes = {"SCI": model.data, "DQ": np.zeros(model.data.shape, np.uint32) if dq is None else dq}
    if background.variances is not None:
        for name in uncertainties_of(model):
            plane = np.asarray(read_meta(model, name.lower()))
            planes[name] = plane if plane.dtype.kind == "f" else plane.astype(np.float32)
    return planes


def uncertainties_of(target: Any) -> tuple[str, ...]:
    """Tell which planes of uncertainty a model or a surveyed file has, of the shape of its SCI."""
    if isinstance(target, Survey):
        hdus = {hdu.name: tuple(axes(hdu.header)) for hdu in target.hdus if hdu.is_image}
        return tuple(name for name in UNCERTAINTIES if hdus.get(name) == target.shape)
    shape = np.shape(read_meta(target, "data"))
    planes = {name: read_meta(target, name.lower()) for name in UNCERTAINTIES}
    return tuple(name for name, plane in planes.items() if np.shape(plane) == shape)


def _told_of(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """Note which uncertainties the background's variance entered."""
    if outcome.propagated is None:
        return outcome
    entered = tuple(name for name in UNCERTAINTIES if name in names)
    return replace(outcome, propagated=replace(outcome.propagated, planes=entered))
