"""Processes of the standard library as an engine."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Self

from webbkg.batch.engines.engine import THREADS, TRIES, Done, NoWorkerError, worker_lost


class Processes:
    """Processes of the standard library's pool, which is made anew when one of them is lost.

    The pool does not tell whose process was lost, so those tasks that were under way are begun
    again one at a time: the next loss is then told of the right one.

    Parameters
    ----------
    workers : int
        Processes.
    """

    dashboard = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._waiting: list[Hashable] = []
        self._suspects: list[Hashable] = []
        self._tasks: dict[Hashable, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._tries: dict[Hashable, int] = {}
        self._running: dict[Future[Any], Hashable] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Any = None
        self._began: Any = None
        self._has_begun = False
        self._unborn = 0

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Take a task."""
        self._tasks[key] = function, arguments
        self._waiting.append(key)

    def wait(self, seconds: float) -> list[Done]:
        """Return what has been done since, once there is something, or that time is over."""
        self._begin()
        if not self._running:
            return []
        finished, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        if any(isinstance(one.exception(), BrokenProcessPool) for one in finished):
            return self._take_up()
        return [(self._forget(one), _outcome(one)) for one in finished]

    def _begin(self) -> None:
        """Begin tasks while there is a process for them; the suspects each alone."""
        while self._suspects or self._waiting:
            alone = bool(self._suspects)
            if len(self._running) >= (1 if alone else self.workers):
                return
            line = self._suspects or self._waiting
            if self._begun(line[0]):
                del line[0]
                if alone:
                    return
            elif self._running:
                return  # `wait` finds that they are lost
            else:
                self._close()

    def _begun(self, key: Hashable) -> bool:
        """Begin a task; False if a process was lost meanwhile, and the pool with it."""
        function, arguments = self._tasks[key]
        with _single_threaded_libraries(), contextlib.suppress(BrokenProcessPool):
            self._running[self._made_pool().submit(function, *arguments)] = key
            return True
        return False

    def _made_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = get_context("spawn")
            # No Event: to set one that a killed process was waiting for waits for ever.
            told, self._stop = context.Pipe(duplex=False)
            self._began, tell = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=_begin_worker, initargs=(told, tell)
            )
        return self._pool

    def _take_up(self) -> list[Done]:
        """Begin again what was under way when a process was lost; give up what was tried enough."""
        wait(self._running)
        self._check_begun()
        given_up, alone = [], len(self._running) == 1 and self._has_begun
        for future in list(self._running):
            if not isinstance(future.exception(), BrokenProcessPool):
                given_up.append((self._running[future], _outcome(future)))
                self._forget(future)
                continue
            key = self._running.pop(future)
            self._tries[key] = self._tries.get(key, 0) + alone
            if self._tries[key] < TRIES:
                self._suspects.append(key)
            else:
                del self._tasks[key]
                given_up.append((key, worker_lost()))
        self._close()
        return given_up

    def _check_begun(self) -> None:
        """Give up where no process has come as far as its first task, each time that it was tried."""
        self._has_begun = self._has_begun or self._began.poll()
        self._unborn += not self._has_begun
        if self._unborn >= TRIES:
            raise NoWorkerError

    def _forget(self, future: Future[Any]) -> Hashable:
        key = self._running.pop(future)
        del self._tasks[key]
        return key

    def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            if self._running:
                self._stop.close()
            pool.shutdown(wait=True, cancel_futures=True)
            self._stop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def _outcome(future: Future[Any]) -> Any:
    error = future.exception()
    return future.result() if error is None else error


def _begin_worker(told: Connection, tell: Connection) -> None:
    """Leave an interrupt to the process that began this one, and end when that ends or says so."""
    tell.send_bytes(b"begun")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(told,), daemon=True).start()


def _end_after(told: Connection) -> None:
    """Wait for the other end of a pipe to be closed, as the system does when its process ends."""
    with contextlib.suppress(EOFError, OSError):
        told.recv_bytes()
    os._exit(1)


@contextlib.contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    """Let processes that are begun inside have linear algebra of one thread each."""
    former = {name: os.environ.get(name) for name in THREADS}
    os.environ.update({name: "1" for name, value in former.items() if value is None})
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
