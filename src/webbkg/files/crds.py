"""What CRDS is asked, in such a way that neither its absence nor its silence can end a run.

Without a server and without a cache its client calls ``sys.exit``, and it waits for a server for
up to an hour. Here each question runs in a thread of its own, for a limited time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from webbkg.errors import MissingFileError, ReferenceUnavailableError
from webbkg.files import door
from webbkg.files.models import is_model
from webbkg.options import PARAMETER_LOOKUP_SECONDS, REFERENCE_FETCH_SECONDS

OBSERVATORY = "jwst"
NOT_APPLICABLE = "N/A"


def crds_is_configured() -> bool:
    """Tell whether the user has set CRDS up: a cache or a server is named."""
    return bool(os.environ.get("CRDS_PATH") or os.environ.get("CRDS_SERVER_URL"))


def patience(default: float = PARAMETER_LOOKUP_SECONDS) -> float:
    """How many seconds CRDS may take to answer: CRDS_CLIENT_TIMEOUT_SECONDS, else the default."""
    try:
        seconds = float(os.environ.get("CRDS_CLIENT_TIMEOUT_SECONDS", ""))
    except ValueError:
        return default
    return min(seconds, threading.TIMEOUT_MAX) if seconds > 0 else default


_of_run: ContextVar[Crds | None] = ContextVar("webbkg_crds", default=None)


@contextmanager
def one_crds(crds: Crds) -> Iterator[None]:
    """Let what runs inside, and asks by `current_crds`, know what a run has learnt of CRDS."""
    token = _of_run.set(crds)
    try:
        yield
    finally:
        _of_run.reset(token)


def current_crds() -> Crds:
    """Return the CRDS of the run that this is part of, or else a new one."""
    return _of_run.get() or Crds()


class Reference(NamedTuple):
    """A reference, and what a product's header says of it."""

    found: Any
    """Path or open model; None where the answer is N/A."""

    recorded: str | None
    """For the keyword of its type; None where there is nothing to say."""


class Crds:
    """CRDS, as one run meets it.

    A kind of question that it has left without an answer is not put again in the run, so that a
    run of many targets waits once; another kind of question is, with a patience of its own. Once
    it answers it may be asked anything again.
    """

    def __init__(self) -> None:
        self._unanswered: dict[str, str] = {}

    def ask(self, kind: str, question: Callable[[], Any], seconds: float) -> Any:
        """Put a question to the CRDS client and wait for its answer for a limited time.

        Parameters
        ----------
        kind : str
            What the question is about, for instance ``parameters``.
        question : callable
            It may go on after its time, in the background: it must change nothing.
        seconds : float
            How long to wait.

        Returns
        -------
        object
            What the question returned.

        Raises
        ------
        ReferenceUnavailableError
            If no answer came in time or the client gave up, now or earlier in the run; or the
            answer was an error.
        """
        if kind in self._unanswered:
            raise ReferenceUnavailableError(f"{self._unanswered[kind]}; it is not asked again")
        asking = _Asking(question)
        asking.start()
        asking.join(seconds)
        if asking.is_alive():
            self._unanswered[kind] = f"CRDS gave no answer within {seconds:g} s"
        elif isinstance(asking.error, SystemExit):
            self._unanswered[kind] = "CRDS has neither a server in reach nor a usable cache"
        if kind in self._unanswered:
            raise ReferenceUnavailableError(self._unanswered[kind])
        self._unanswered.clear()
        if asking.error is not None:
            raise ReferenceUnavailableError(str(asking.error)) from asking.error
        return asking.answer

    def find_reference(
        self, kind: str, override: Any, parameters: Callable[[], dict[str, Any]]
    ) -> Reference:
        """Find a reference: the override, else what CRDS chooses.

        Parameters
        ----------
        kind : str
            Reference type, such as ``bkg``.
        override : path, data model or None
            What the user gives instead, as the step's ``get_ref_override`` returns it.
        parameters : callable
            Returns what CRDS selects by: a target's ``get_crds_parameters``.

        Raises
        ------
        MissingFileError
            If the override cannot be read.
        ReferenceUnavailableError
            If there is no override and CRDS gives no answer.
        """
        if override is not None:
            return _overriding(kind, override)
        way_out = f"give one with override_{kind}"
        if not crds_is_configured():
            raise ReferenceUnavailableError(
                f"the {kind} reference is needed, and CRDS is not set up; {way_out}, "
                "or set CRDS_PATH and CRDS_SERVER_URL"
            )
        try:
            path = self._choice(kind, parameters())
        except ReferenceUnavailableError as error:
            raise ReferenceUnavailableError(
                f"the {kind} reference is needed, and CRDS cannot supply it ({error}); {way_out}"
            ) from error
        if path == NOT_APPLICABLE:
            return Reference(None, NOT_APPLICABLE)
        return Reference(path, f"crds://{Path(path).name}")

    def _choice(self, kind: str, parameters: dict[str, Any]) -> str:
        from stpipe import crds_client

        def choose() -> str:
            path = crds_client.get_reference_file(parameters, kind, OBSERVATORY)
            return str(crds_client.check_reference_open(path))

        return str(self.ask("references", choose, patience(REFERENCE_FETCH_SECONDS)))

    def context_used(self) -> tuple[str, str] | None:
        """Return the CRDS context and the client's version; None where CRDS cannot tell.

        Where it has been silent in this run, that is not worth waiting for once more.
        """
        if self._unanswered or not crds_is_configured():
            return None
        from stpipe import crds_client

        def name() -> str:
            return str(crds_client.get_context_used(OBSERVATORY))

        try:
            return self.ask("context", name, patience()), str(crds_client.get_svn_version())
        except ReferenceUnavailableError:
            return None


def _overriding(kind: str, override: Any) -> Reference:
    if is_model(override):
        return Reference(override, override.override_handle)
    if override.strip() in ("", NOT_APPLICABLE):
        return Reference(None, override.strip() or None)
    path = door.regular_file(override, f"override_{kind}", "a reference file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise MissingFileError(f"override_{kind} {override}: {error.strerror}") from error
    return Reference(override, override)


class _Asking(threading.Thread):
    """A question on its way.

    The client's own log lines of it stay out of the user's, for as long as it lasts: what matters
    is said once, by us. Those that others make the client write are left alone.
    """

    def __init__(self, question: Callable[[], Any]) -> None:
        super().__init__(name="webbkg-crds", daemon=True)
        self._question = question
        self.answer: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Ask, and keep the answer or the error for who waits."""
        logger = logging.getLogger("CRDS")
        logger.addFilter(self._is_of_others)
        try:
            self.answer = self._question()
        except (Exception, SystemExit) as error:  # raised by who waits
            self.error = error
        finally:
            logger.removeFilter(self._is_of_others)

    def _is_of_others(self, _: logging.LogRecord) -> bool:
        return threading.get_ident() != self.ident
