"""A target is opened: as a data model, or as no more than its file."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from webbkg.apply import UNCERTAINTIES
from webbkg.errors import InputError
from webbkg.files.background import MODELS as IMAGE_MODELS
from webbkg.files.exposures import Exposure, ExposureInfo
from webbkg.files.models import attribute_of, open_model, read_meta
from webbkg.files.product import Survey, survey
from webbkg.files.streaming import is_streamable, open_standing_in
from webbkg.modes import TEMPLATE, WFSS, Target
from webbkg.numerics.planes import VARIANCES
from webbkg.run.items import Item, Setting

log = logging.getLogger(__package__)


def open_target(item: Item, setting: Setting) -> None:
    """Open a target, after a look at its headers; an open model stays the caller's."""
    if item.path is None:
        item.model = item.source
        return
    if item.path.suffix.lower() != ".asdf":
        looked_at = UNCERTAINTIES if setting.options.propagate_errors else ()
        with Exposure.from_file(item.path, needed=("SCI", "DQ"), also=looked_at) as exposure:
            item.survey = _survey(item.path, exposure.info, setting)
            item.streamed = setting.product_only and item.survey is None and is_streamable(exposure)
    if item.survey is None:
        item.model = open_standing_in(item.path) if item.streamed else open_model(item.path)
    item.owned = True


def _survey(path: Path, info: ExposureInfo, setting: Setting) -> Survey | None:
    """Look whether a target's product can be made from its file; its model is needed otherwise."""
    if not setting.without_models:
        return None
    options = setting.options
    saved = options.save_background or options.save_combined_background
    found = survey(
        path,
        masked=setting.mode_of(info) in (WFSS, TEMPLATE),
        changing=UNCERTAINTIES if options.propagate_errors else (),
    )
    if saved and isinstance(found, Survey) and found.header["DATAMODL"] not in IMAGE_MODELS:
        found = "its backgrounds are to be saved"
    if isinstance(found, str):
        log.debug("%s is opened as a data model: %s", path, found)
        return None
    return found


def as_segment(item: Item) -> Any:
    """Give what a mode reads an opened item from: its file where that is enough, or its model."""
    return item.path if item.streamed or item.survey else item.model


def as_target(item: Item) -> Target:
    """Take a target from its open model.

    Raises
    ------
    InputError
        If its planes cannot be used.
    """
    model, name = item.model, item.name
    if read_meta(model, "data") is None:
        raise InputError(f"{name}: the {type(model).__name__} has no SCI plane; set model.data")
    shape, dq = model.data.shape, read_meta(model, "dq")
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name}: SCI must be 2-D or 3-D and not empty (got shape {shape}); "
            "a rate, rateints or cal product is needed"
        )
    for plane, values in (("SCI", model.data), ("DQ", dq)):
        if values is not None and values.dtype.kind not in "biuf":
            raise InputError(f"{name}: {plane} must hold real numbers (got {values.dtype})")
    if dq is not None and dq.shape != shape:
        raise InputError(f"{name}: SCI and DQ must have one shape (got {shape}, {dq.shape})")
    return Target(
        name=name,
        info=ExposureInfo.from_model(model),
        shape=shape,
        plane=lambda plane: read_meta(model, attribute_of(plane)),
        read=lambda path: read_meta(model, path),
        open=lambda: model,
        wcs=lambda: read_meta(model, "meta.wcs"),
        model=model,
        path=item.path,
    )


def unopened_target(item: Item, opened: ExitStack) -> Target:
    """Take a target from its file; its model is opened if a mode asks for that."""
    assert item.path is not None
    assert item.survey is not None
    exposure = opened.enter_context(Exposure.from_file(item.path))
    shape, path = item.survey.shape, item.path

    def plane(name: str) -> Any:
        if name not in VARIANCES:
            return exposure.plane(name).reshape(shape)
        with Exposure.from_file(path, needed=("SCI",), also=VARIANCES) as again:
            return again.plane(name).reshape(shape) if again.planes.has(name) else None

    return Target(
        name=item.name,
        info=exposure.info,
        shape=shape,
        plane=plane,
        read=item.survey.read,
        open=cache(partial(open_model, item.path)),
        wcs=item.survey.wcs,
        path=item.path,
        planes=exposure.planes,
    )
