"""References: an override, or CRDS's choice; opened, and cut to the target's window.

CRDS is asked in such a way that neither its absence nor its silence can end a run. Without a
server and without a cache its client calls ``sys.exit``, and it waits for a server for up to an
hour. Here each question runs in a thread of its own, for a limited time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webbkg.errors import (
    InputError,
    MismatchError,
    MissingFileError,
    ReferenceUnavailableError,
)
from webbkg.files import door
from webbkg.files.asdf import check_product
from webbkg.files.exposures import DetectorWindow, ExposureInfo, read_meta, window_of
from webbkg.files.models import is_model
from webbkg.options import PARAMETER_LOOKUP_SECONDS, REFERENCE_FETCH_SECONDS
from webbkg.startup import quick_start

OBSERVATORY = "jwst"

_SETTINGS = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT")
_silent: set[tuple[str | None, ...]] = set()


def crds_is_configured() -> bool:
    """Tell whether the user has set CRDS up: a cache or a server is named."""
    return bool(os.environ.get("CRDS_PATH") or os.environ.get("CRDS_SERVER_URL"))


def lookup_seconds(default: float = PARAMETER_LOOKUP_SECONDS) -> float:
    """How long CRDS may take to answer: CRDS_CLIENT_TIMEOUT_SECONDS, else the default."""
    setting = os.environ.get("CRDS_CLIENT_TIMEOUT_SECONDS", "")
    try:
        return float(setting)
    except ValueError:
        return default


def ask_crds(question: Callable[[], Any], seconds: float | None = None) -> Any:
    """Put a question to the CRDS client and wait for its answer for a limited time.

    Whatever the client raises, ``SystemExit`` included, is raised here. Once CRDS has given no
    answer it is not asked again under the same settings.

    Raises
    ------
    ReferenceUnavailableError
        If no answer came in time, the client gave up, or it had been silent before.
    """
    seconds = lookup_seconds() if seconds is None else seconds
    settings = tuple(os.environ.get(name) for name in _SETTINGS)
    if settings in _silent:
        raise ReferenceUnavailableError("CRDS gave no answer before, so it is not asked again")
    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            answer["value"] = question()
        except (Exception, SystemExit) as error:  # handed to the asking thread, below
            answer["error"] = error

    with _hushed_crds():
        thread = threading.Thread(target=ask, name="webbkg-crds", daemon=True)
        thread.start()
        thread.join(seconds)
    if not answer:
        _silent.add(settings)
        raise ReferenceUnavailableError(f"CRDS gave no answer within {seconds:g} s")
    if isinstance(answer.get("error"), SystemExit):
        _silent.add(settings)
        raise ReferenceUnavailableError("CRDS has neither a server in reach nor a usable cache")
    if "error" in answer:
        raise answer["error"]
    return answer["value"]


@contextmanager
def _hushed_crds() -> Iterator[None]:
    """Keep the client's own log lines out of the user's; what matters is said once, by us."""
    logger = logging.getLogger("CRDS")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def find_reference(step: Any, target: Any, kind: str) -> Any:
    """Find a reference for a target: the step's override, else what CRDS chooses.

    Parameters
    ----------
    step : stpipe Step
        It knows the overrides, and records what is used.
    target : data model
        CRDS selects by its metadata.
    kind : str
        Reference type, such as ``bkg``.

    Returns
    -------
    str, data model or None
        Path or open model; None where the answer is N/A.

    Raises
    ------
    ReferenceUnavailableError
        If there is no override and CRDS gives no answer.
    """
    way_out = f"give one with override_{kind}"
    override = step.get_ref_override(kind)
    if override is not None:
        if isinstance(override, str) and override.strip() not in ("", "N/A"):
            door.regular_file(override, f"override_{kind}", "a reference file")
        try:
            found = step.get_reference_file(target, kind)
        except OSError as error:
            raise MissingFileError(
                f"override_{kind}: {error.filename}: {error.strerror}"
            ) from error
        return None if isinstance(found, str) and found in ("", "N/A") else found
    if not crds_is_configured():
        raise ReferenceUnavailableError(
            f"the {kind} reference is needed, and CRDS is not set up; {way_out}, "
            "or set CRDS_PATH and CRDS_SERVER_URL"
        )
    try:
        found = ask_crds(
            lambda: step.get_reference_file(target, kind), lookup_seconds(REFERENCE_FETCH_SECONDS)
        )
    except no_answer() as error:
        raise ReferenceUnavailableError(
            f"the {kind} reference is needed, and CRDS cannot supply it ({error}); {way_out}"
        ) from None
    return None if found == "N/A" else found


def no_answer() -> tuple[type[Exception], ...]:
    """Return what is raised where CRDS does not give what it is asked for."""
    from stpipe import crds_client

    unavailable: type[Exception] = crds_client.CrdsError
    return unavailable, ReferenceUnavailableError, OSError, ValueError, KeyError, AttributeError


@contextmanager
def open_reference(reference: Any, *kinds: str) -> Iterator[Any]:
    """Open a reference as the first class of `stdatamodels.jwst.datamodels` that takes it.

    A model that is open already stays open.

    Raises
    ------
    InputError
        If none of `kinds` takes it.
    """
    if is_model(reference):
        yield reference
        return
    with _open_as(reference, kinds) as model:
        try:
            yield model
        finally:
            # It is part of reference cycles, in which its planes would wait for the collector.
            model.instance.clear()


def _open_as(path: str, kinds: tuple[str, ...]) -> Any:
    check_product(Path(path))
    reason: InputError | None = None
    with quick_start():
        from stdatamodels.jwst import datamodels

        for kind in kinds:
            try:
                with door.reading(path, f"cannot be opened as a {kind}"):
                    return getattr(datamodels, kind)(str(path))
            except InputError as error:
                reason = reason or error
    raise reason or InputError(f"{path}: no kind of reference was asked for")


def check_detector(model: Any, info: ExposureInfo, target: str, name: str) -> None:
    """Refuse a reference of another instrument or detector.

    Raises
    ------
    MismatchError
        If both are known and differ.
    """
    for part, path in (("instrument", "name"), ("detector", "detector")):
        theirs, ours = read_meta(model, f"meta.instrument.{path}"), getattr(info, part)
        if ours is not None and theirs not in (None, ours, "N/A", "ANY"):
            raise MismatchError(
                f"{name}: the {part} of this bkg reference is {theirs}, that of the target "
                f"{target} is {ours}; override it with one for {ours}"
            )


_DTYPES = {"data": np.float32, "err": np.float32, "dq": np.uint32}


@dataclass(frozen=True)
class TemplateImage:
    """A reference background image on the target's window: sci, err (float32), dq (uint32).

    The arrays are its own, whoever may hold the reference.
    """

    name: str
    sci: npt.NDArray[Any]
    err: npt.NDArray[Any] | None
    dq: npt.NDArray[Any] | None


def cut_template(model: Any, window: DetectorWindow, name: str) -> TemplateImage | str:
    """Cut a 2-D template to a target's window, without changing it; or say why it cannot be.

    A template without window keywords is taken as full frame.
    """
    planes = {plane: template_plane(model, plane, name) for plane in _DTYPES}
    data = planes["data"]
    if data is None or data.ndim != 2 or 0 in data.shape:
        got = "none" if data is None else f"shape {data.shape}"
        raise InputError(f"{name}: a bkg reference must have a 2-D image (got {got})")
    shape = data.shape
    try:
        own = window_of(ExposureInfo.from_model(model), shape, name)
    except InputError as error:
        return str(error)
    overlap = window.overlap(own)
    if overlap is None or (overlap.rows, overlap.columns) != (
        (0, window.rows),
        (0, window.columns),
    ):
        return f"the bkg reference {name} ({own}) does not cover the target ({window})"
    cut = (slice(*overlap.other_rows), slice(*overlap.other_columns))
    cuts = {
        plane: np.array(values[cut], _DTYPES[plane], order="C")
        for plane, values in planes.items()
        if values is not None and values.shape == shape
    }
    return TemplateImage(name, cuts["data"], cuts.get("err"), cuts.get("dq"))


def template_plane(model: Any, plane: str, name: str) -> npt.NDArray[Any] | None:
    """Return a plane (data, err or dq) of a reference; None where it has none.

    Raises
    ------
    InputError
        If it cannot be read, or holds no numbers.
    """
    with door.reading(name, f"its {plane} cannot be read"):
        values = read_meta(model, plane)
        values = None if values is None else np.asarray(values)
    if values is not None and values.dtype.kind not in "biuf":
        raise InputError(f"{name}: its {plane} must hold real numbers (got {values.dtype})")
    return values


def context_used() -> tuple[str, str] | None:
    """Return the CRDS context and the client's version; None where CRDS cannot tell."""
    if not crds_is_configured():
        return None
    from stpipe import crds_client

    try:
        context = ask_crds(lambda: crds_client.get_context_used(OBSERVATORY))
    except no_answer():
        return None
    return str(context), str(crds_client.get_svn_version())
