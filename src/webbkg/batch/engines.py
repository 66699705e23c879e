"""What drives the work: this process, processes of the standard library, or a Dask cluster.

An engine takes tasks and gives back what became of them, in any order. It knows nothing of
exposures: a task is a function and its arguments, and a worker that is lost (killed, out of
memory, its machine gone) is told apart from a function that raised.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

from webbkg.errors import MissingExtraError, OptionError, WebbkgError
from webbkg.numerics.cores import usable_cores

TRIES = 3
"""How often a task is begun, where its worker is lost each time."""

CONNECT = 10.0
"""How long is waited for a scheduler that is to be there (seconds)."""

LEAST_MEMORY = 400_000_000
"""Of a worker (bytes): with less it would be ended, and begun again, before it does anything."""

CLOSE = 20.0
"""How long is waited for a cluster of our own to end (seconds)."""

ENGINES = ("auto", "dask", "processes", "none")

MissingDask = MissingExtraError(
    "Dask is not installed; install webbkg[batch], or choose the engine processes"
)


class WorkerLostError(WebbkgError):
    """A worker ended in the middle of a task, each time that it was tried."""


class NoWorkerError(WebbkgError):
    """No worker came into being."""

    def __init__(self) -> None:
        super().__init__(
            'no worker process could begin (see above); a script needs its `if __name__ == "__main__":` '
            "around what it does, since the workers import it; or choose engine none"
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
                given_up.append((key, _lost()))
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


def _lost() -> WorkerLostError:
    return WorkerLostError(
        f"its worker was lost {TRIES} times: killed, or out of memory (see --memory-limit, and the "
        "log of the system)"
    )


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


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    """Let processes that are begun inside have linear algebra of one thread each."""
    former = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: "1" for name, value in former.items() if value is None})
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)


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
        self._memory_limit = memory_limit
        self._scheduler = scheduler
        self._client = client
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
        if self._scheduler or not self.workers:
            self.workers = max(1, sum(self._client.nthreads().values()))
        return self

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
    """Tell what a task of Dask's came to: a value, or an error."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else _lost()
    is_lost = type(error).__name__ in ("KilledWorker", "CancelledError", "FutureCancelledError")
    return _lost() if is_lost else error


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
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREADS, 1),
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


def share_cores(workers: int | None) -> tuple[int, int]:
    """Tell how many workers there are to be, and threads for each: never more than the cores.

    Raises
    ------
    OptionError
        If more workers are asked for than there are cores.

    Examples
    --------
    >>> workers, threads = share_cores(1)
    >>> workers
    1
    """
    cores = usable_cores()
    if workers is None:
        return cores, 1
    if not isinstance(workers, int) or not 1 <= workers <= cores:
        raise OptionError(
            f"workers must be 1 to {cores}, the cores that this process may use (got {workers!r})"
        )
    return workers, max(1, cores // workers)


def make_engine(
    name: str,
    workers: int,
    *,
    memory_limit: str | None = None,
    scheduler: str | None = None,
    client: Any = None,
) -> Engine:
    """Make the engine of a name, one of `ENGINES`; ``auto`` is Dask where it is installed.

    Raises
    ------
    OptionError
        If there is none of that name, or it cannot do what is asked for.
    """
    if name not in ENGINES:
        raise OptionError(f"engine must be one of {', '.join(ENGINES)} (got {name!r})")
    wants_dask = client is not None or bool(scheduler) or memory_limit is not None
    if name in ("processes", "none") and wants_dask:
        raise OptionError(
            f"engine must be dask for memory_limit, scheduler and client (got {name!r}); leave "
            "these out for another one"
        )
    if name == "none":
        return Here()
    if name == "processes" or (name == "auto" and not wants_dask and not _has_dask()):
        return Processes(workers)
    return Dask(workers, memory_limit=memory_limit, scheduler=scheduler, client=client)


def _has_dask() -> bool:
    from importlib.util import find_spec

    return find_spec("distributed") is not None
