"""Which engine drives the work, and with how many cores."""

from __future__ import annotations

from typing import Any

from webbkg.batch.engines.cluster import Dask
from webbkg.batch.engines.engine import Engine, Here
from webbkg.batch.engines.processes import Processes
from webbkg.errors import OptionError
from webbkg.numerics.cores import usable_cores

ENGINES = ("auto", "dask", "processes", "none")


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
