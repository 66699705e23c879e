"""Row bands over threads, and who owns how many cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

from webbkg.numerics.cores import usable_cores

Part = TypeVar("Part")

_granted: ContextVar[int | None] = ContextVar("webbkg_threads", default=None)


def available_threads() -> int:
    """Threads that this task may use: what `use_threads` grants, else the cores of the process."""
    granted = _granted.get()
    return granted if granted is not None else usable_cores()


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Grant `count` threads (at least 1) to what runs inside, as a cluster's worker does."""
    if count < 1:
        raise ValueError(f"the number of threads must be at least 1 (got {count})")
    token = _granted.set(count)
    try:
        yield
    finally:
        _granted.reset(token)


def split(length: int, step: int) -> list[tuple[int, int]]:
    """Cut ``range(length)`` into pieces of at most `step`: a list of (start, stop)."""
    return [(start, min(start + step, length)) for start in range(0, length, step)]


class _Queue:
    """Bands to be done, handed out one by one until all are, or one failed."""

    def __init__(self, number: int, progress: Callable[[int, int], None] | None) -> None:
        self._number = number
        self._left = iter(range(number))
        self._done = 0
        self._lock = Lock()
        self._progress = progress
        self.error: BaseException | None = None

    def take(self) -> int | None:
        """Return the next band; None if there is no more to do."""
        with self._lock:
            return None if self.error else next(self._left, None)

    def finish(self) -> None:
        """Count a band as done."""
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._number)

    def fail(self, error: BaseException) -> None:
        """Hand out nothing more; the first error is the one that counts."""
        with self._lock:
            self.error = self.error or error


def over_bands(
    bands: list[tuple[int, int]],
    make_worker: Callable[[], Callable[[int, int], Part]],
    *,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Part]:
    """Run a worker over every band and return what it returns, in the order of the bands.

    Each thread makes one worker, which owns that thread's buffers. `progress` is called with
    the bands done and their number, one call at a time. The first error, an interrupt
    included, is raised as soon as the bands under way are done; no other begins.
    """
    parts: list[Part | None] = [None] * len(bands)
    queue = _Queue(len(bands), progress)

    def drain() -> None:
        try:
            worker = make_worker()
            while (index := queue.take()) is not None:
                parts[index] = worker(*bands[index])
                queue.finish()
        except BaseException as error:
            queue.fail(error)
            raise

    crew = max(1, min(threads, len(bands)))
    if crew == 1:
        drain()
    else:
        _run_crew(drain, crew, queue)
    return [part for part in parts if part is not None]


def _run_crew(drain: Callable[[], None], crew: int, queue: _Queue) -> None:
    with ThreadPoolExecutor(crew) as pool:
        try:
            wait([pool.submit(drain) for _ in range(crew)])
        except BaseException as error:  # an interrupt of the thread that waits
            queue.fail(error)
            raise
    if queue.error is not None:
        raise queue.error
