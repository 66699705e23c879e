"""Row bands over threads, and who owns how many cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

Part = TypeVar("Part")

_granted: ContextVar[int | None] = ContextVar("webbkg_threads", default=None)


def available_threads() -> int:
    """Threads that this task may use: what `use_threads` grants, else the cores of the process."""
    granted = _granted.get()
    return granted if granted is not None else len(os.sched_getaffinity(0))


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


def over_bands(
    bands: list[tuple[int, int]],
    make_worker: Callable[[], Callable[[int, int], Part]],
    *,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Part]:
    """Run a worker over every band and return what it returns, in the order of the bands.

    Each thread makes one worker, which owns that thread's buffers. `progress` is called with
    the bands done and their number, one call at a time.
    """
    parts: list[Part | None] = [None] * len(bands)
    queue = iter(range(len(bands)))
    lock = Lock()
    done = 0

    def drain() -> None:
        nonlocal done
        worker = make_worker()
        while True:
            with lock:
                index = next(queue, None)
            if index is None:
                return
            parts[index] = worker(*bands[index])
            with lock:
                done += 1
                if progress is not None:
                    progress(done, len(bands))

    crew = max(1, min(threads, len(bands)))
    if crew == 1:
        drain()
    else:
        with ThreadPoolExecutor(crew) as pool:
            for future in [pool.submit(drain) for _ in range(crew)]:
                future.result()
    return [part for part in parts if part is not None]
