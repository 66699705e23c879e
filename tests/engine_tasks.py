"""What the tests let an engine's workers do; a module of its own, which they can import."""

import os
import signal
import time
from pathlib import Path


def double(value):
    return 2 * value


def fail(value):
    raise ValueError(f"cannot take {value}")


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark):
    """Die, unless the mark says that this was done before."""
    if not Path(mark).exists():
        with Path(mark).open("w"):
            os.kill(os.getpid(), signal.SIGKILL)
    return "second time"


def hoard(size):
    """Hold so many bytes for longer than a look at them takes."""
    held = bytearray(size)
    for i in range(0, size, 4096):
        held[i] = 1
    time.sleep(20)
    return len(held)


def threads_of_libraries(_):
    return os.environ.get("OMP_NUM_THREADS"), os.getpid()
