"""What drives the work: this process, processes of the standard library, or a Dask cluster.

An engine takes tasks and gives back what became of them, in any order. It knows nothing of
exposures: a task is a function and its arguments, and a worker that is lost (killed, out of
memory, its machine gone) is told apart from a function that raised.
"""

from __future__ import annotations

from webbkg.batch.engines.choice import ENGINES, make_engine, share_cores
from webbkg.batch.engines.cluster import Dask
from webbkg.batch.engines.engine import (
    ClusterLostError,
    Done,
    Engine,
    Here,
    NoWorkerError,
    WorkerLostError,
)
from webbkg.batch.engines.processes import Processes

__all__ = [
    "ENGINES",
    "ClusterLostError",
    "Dask",
    "Done",
    "Engine",
    "Here",
    "NoWorkerError",
    "Processes",
    "WorkerLostError",
    "make_engine",
    "share_cores",
]
