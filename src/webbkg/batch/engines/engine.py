"""What every engine is, and the one that is none."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Protocol, Self

from webbkg.errors import WebbkgError

TRIES = 3
"""How often a task is begun, where its worker is lost each time."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerLostError(WebbkgError):
    """A worker ended in the middle of a task, each time that it was tried."""


class NoWorkerError(WebbkgError):
    """No worker came into being."""

    def __init__(self) -> None:
        super().__init__(
            'no worker process could begin (see above); a script needs its `if __name__ == "__main__":` '
            "around what it does, since the workers import it; or choose engine none"
        )


class ClusterLostError(WebbkgError):
    """The scheduler of a cluster does not answer any more."""


def worker_lost() -> WorkerLostError:
    """Make the error of a task whose workers were lost."""
    return WorkerLostError(
        f"its worker was lost {TRIES} times: killed, or out of memory (see --memory-limit, and the "
        "log of the system)"
    )


Done = tuple[Hashable, Any]
"""A task's key, and what it returned; or the exception that it came to."""


class Engine(Protocol):
    """Runs tasks; a context, at the end of which nothing runs any more."""

    workers: int
    """Tasks at a time."""

    dashboard: str
    """Where its work can be watched; empty where it cannot."""

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a task."""

    def wait(self, seconds: float) -> list[Done]:
        """Return what has been done since, once there is something, or that time is over."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Here:
    """No engine: the calling process, one task after another."""

    workers, dashboard = 1, ""

    def __init__(self) -> None:
        self._tasks: list[tuple[Hashable, Callable[..., Any], tuple[Any, ...]]] = []

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a task."""
        self._tasks.append((key, function, arguments))

    def wait(self, _: float) -> list[Done]:
        """Do the next task."""
        if not self._tasks:
            return []
        key, function, arguments = self._tasks.pop(0)
        try:
            return [(key, function(*arguments))]
        except Exception as error:
            return [(key, error)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.clear()
