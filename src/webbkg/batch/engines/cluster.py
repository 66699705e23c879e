"""A Dask cluster as an engine."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Self

from webbkg.batch.engines.engine import (
    THREADS,
    TRIES,
    ClusterLostError,
    Done,
    NoWorkerError,
    WorkerLostError,
    worker_lost,
)
from webbkg.errors import MissingExtraError, OptionError

CONNECT = 10.0
"""How long is waited for a scheduler that is to be there (seconds)."""

LEAST_MEMORY = 400_000_000
"""Of a worker (bytes): with less it would be ended, and begun again, before it does anything."""

COUNT_AFTER = 2.0
"""After what time the workers of a cluster that is there are counted again (seconds)."""

CLOSE = 20.0
"""How long is waited for a cluster of our own to end (seconds)."""

MissingDask = MissingExtraError(
    "Dask is not installed; install webbkg[batch], or choose the engine processes"
)


class Dask:
    """A Dask cluster: processes of this machine, or that of a client or a scheduler's address.

    Dask blames a lost worker on every task that waited there. So those that it gives up are begun
    again, one at a time: what is lost then has lost it.

    Parameters
    ----------
    workers : int
        Processes, where they are of this machine.
    memory_limit : str, optional
        Of each; it is ended and begun anew when it has more. ``4GB``, or a share of the machine's
        memory.
    scheduler : str, optional
        Address of the scheduler of a cluster that is there.
    client : distributed.Client, optional
        Of a cluster that is there; it is left open.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    NoWorkerError
        If its processes end before they begin.
    ClusterLostError
        From `wait`, if the scheduler is gone.
    OptionError
        If nobody answers at the address, or the limit is none.
    """

    def __init__(
        self,
        workers: int,
        *,
        memory_limit: str | None = None,
        scheduler: str | None = None,
        client: Any = None,
    ) -> None:
        self.workers = workers
        self.dashboard = ""
        self._address = ""
        self._memory_limit = memory_limit
        self._scheduler = scheduler
        self._client = client
        self._is_own = client is None and not scheduler
        self._counted = -math.inf
        self._open = contextlib.ExitStack()
        self._keys: dict[Any, tuple[Hashable, Any]] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[Hashable, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._suspects: list[Hashable] = []  # only the first is under way

    def __enter__(self) -> Self:
        try:
            import distributed
        except ImportError as error:
            raise MissingDask from error
        if self._client is None:
            self._client = self._connect(distributed)
        self.dashboard = str(self._client.dashboard_link or "")
        self._address = str(self._client.scheduler.address)
        self._count()
        return self

    def _count(self) -> None:
        """Count the workers of a cluster that is there: they come and go."""
        known = self._is_own or time.monotonic() - self._counted < COUNT_AFTER
        if not known and self._client.status == "running":
            with contextlib.suppress(OSError):  # `wait` sees what has become of the scheduler
                self.workers = len(self._client.nthreads())
            self._counted = time.monotonic()

    def _connect(self, distributed: Any) -> Any:
        if self._scheduler:
            try:
                found = distributed.Client(self._scheduler, timeout=CONNECT, set_as_default=False)
            except (OSError, ValueError) as error:
                raise OptionError(
                    f"scheduler must be where a Dask scheduler answers, such as tcp://host:8786 (got "
                    f"{self._scheduler!r}: {error}); start one (dask scheduler), or leave it out for "
                    "processes of this machine"
                ) from error
            return self._open.enter_context(found)
        return _local_client(distributed, self._open, self.workers, self._memory_limit)

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a task."""
        self._tasks[key] = function, arguments
        self._begin(key)

    def _begin(self, key: Hashable) -> None:
        function, arguments = self._tasks[key]
        future = self._client.submit(function, *arguments, pure=False, retries=0)
        self._keys[future.key] = key, future
        future.add_done_callback(self._done.put)

    def wait(self, seconds: float) -> list[Done]:
        """Return what has been done since, once there is something, or that time is over."""
        done: list[Done] = []
        with contextlib.suppress(queue.Empty):
            if self._keys:
                done += self._take(self._done.get(timeout=seconds))
            while True:
                done += self._take(self._done.get_nowait())
        if self._client.status == "closed":
            raise ClusterLostError(
                f"the Dask scheduler ({self._address}) does not answer any more; "
                "begin it again: the same command takes up what is left"
            )
        self._count()
        return done

    def _take(self, future: Any) -> list[Done]:
        """Tell what a task came to; nothing if it is to be begun again."""
        key, _ = self._keys.pop(future.key)
        came_to = _outcome_of(future)
        is_judged = bool(self._suspects) and self._suspects[0] == key
        if isinstance(came_to, WorkerLostError) and not is_judged:
            self._suspects.append(key)
            told, is_next = [], len(self._suspects) == 1
        else:
            del self._tasks[key]
            told, is_next = [(key, came_to)], is_judged
            del self._suspects[:is_judged]
        if is_next and self._suspects:
            self._begin(self._suspects[0])
        return told

    def __exit__(self, *_: object) -> None:
        if self._keys:
            with contextlib.suppress(Exception):  # whatever it is, the cluster is left alone now
                self._client.cancel([future for _, future in self._keys.values()], force=True)
        self._keys.clear()
        self._open.close()


def _outcome_of(future: Any) -> Any:
    """Tell what a task of Dask's came to: a value, or an error.

    What it returned stays with its worker until it is asked for, and is lost with it.
    """
    if future.status == "finished":
        try:
            return future.result()
        except Exception:
            return worker_lost()
    error = future.exception() if future.status == "error" else worker_lost()
    is_lost = type(error).__name__ in ("KilledWorker", "CancelledError", "FutureCancelledError")
    return worker_lost() if is_lost else error


def _local_client(
    distributed: Any, opened: contextlib.ExitStack, workers: int, memory_limit: str | None
) -> Any:
    """Begin workers on this machine, a process each, with one task at a time."""
    import logging

    import dask

    _check_memory(memory_limit)
    quiet = {
        "distributed.scheduler.allowed-failures": TRIES - 1,
        "distributed.admin.tick.limit": "1h",
        "distributed.comm.timeouts.connect": "60s",
        # Not Dask's own, which has memory given back at once, and made anew for each array.
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, 1),
    }
    opened.enter_context(_environment_restored())  # the libraries of its workers have one thread
    opened.enter_context(dask.config.set(quiet))
    try:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit or "auto",
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise NoWorkerError from error
    opened.callback(_end, cluster)
    return opened.enter_context(distributed.Client(cluster, set_as_default=False))


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Take back what Dask sets in the environment of this process for that of its workers."""
    former = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(former):
            del os.environ[name]
        os.environ.update(former)


def _check_memory(limit: str | None) -> None:
    """Refuse a limit in which no worker can live: Dask would begin it again for ever."""
    from dask.utils import parse_bytes
    from distributed.system import MEMORY_LIMIT

    if limit is None or limit == "auto":
        return
    try:
        found = parse_bytes(limit) if not _is_number(limit) else float(limit)
    except ValueError as error:
        raise OptionError(
            f"memory_limit must be a size such as 4GB (got {limit!r}: {error})"
        ) from error
    size = found * MEMORY_LIMIT if _is_number(limit) and found <= 1 else found
    if size != 0 and size < LEAST_MEMORY:  # 0 is no limit
        raise OptionError(
            f"memory_limit must be at least {LEAST_MEMORY // 10**6}MB: a worker takes some 300 "
            f"for small exposures (got {limit!r})"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _end(cluster: Any) -> None:
    """Close a cluster of our own; kill what does not end, as Dask waits for a lost worker for ever."""
    processes = [worker.pid for worker in cluster.workers.values()]
    try:
        cluster.close(timeout=CLOSE)
    except TimeoutError:
        for process in filter(None, processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
