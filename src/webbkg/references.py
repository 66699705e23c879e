"""CRDS, asked in such a way that neither its absence nor its silence can end a run.

Without a server and without a cache the CRDS client calls ``sys.exit``, and it waits for a
server for up to an hour. Here each question runs in a thread of its own, for a limited time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from webbkg.errors import ReferenceUnavailableError
from webbkg.options import PARAMETER_LOOKUP_SECONDS

OBSERVATORY = "jwst"

_SETTINGS = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT")
_silent: set[tuple[str | None, ...]] = set()


def crds_is_configured() -> bool:
    """Tell whether the user has set CRDS up: a cache or a server is named."""
    return bool(os.environ.get("CRDS_PATH") or os.environ.get("CRDS_SERVER_URL"))


def lookup_seconds() -> float:
    """How long CRDS may take to answer: CRDS_CLIENT_TIMEOUT_SECONDS, else the default."""
    setting = os.environ.get("CRDS_CLIENT_TIMEOUT_SECONDS", "")
    try:
        return float(setting)
    except ValueError:
        return PARAMETER_LOOKUP_SECONDS


def ask_crds(question: Callable[[], Any]) -> Any:
    """Put a question to the CRDS client and wait for its answer for a limited time.

    Whatever the client raises, ``SystemExit`` included, is raised here. Once CRDS has given no
    answer it is not asked again under the same settings.

    Raises
    ------
    ReferenceUnavailableError
        If no answer came in time, the client gave up, or it had been silent before.
    """
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
        thread.join(lookup_seconds())
    if not answer:
        _silent.add(settings)
        raise ReferenceUnavailableError(f"CRDS gave no answer within {lookup_seconds():g} s")
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


def context_used() -> tuple[str, str] | None:
    """Return the CRDS context and the client's version; None where CRDS cannot tell."""
    if not crds_is_configured():
        return None
    from stpipe import crds_client

    try:
        context = ask_crds(lambda: crds_client.get_context_used(OBSERVATORY))
    except (ReferenceUnavailableError, crds_client.CrdsError, OSError, ValueError, KeyError):
        return None
    return str(context), str(crds_client.get_svn_version())
