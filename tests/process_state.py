"""What belongs to the whole process, and must be after a library call as it was before."""

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager

import numpy as np


def state():
    """Describe the process: settings that everything in it shares, by name."""
    import scipy
    import yaml

    return {
        "yaml.SafeLoader": yaml.SafeLoader,
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "stand-ins in scipy": sorted(
            name
            for name, value in vars(scipy).items()
            if hasattr(value, "__spec__") and value.__spec__ is None
        ),
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "loggers": _loggers(),
        "logging.disable": logging.root.manager.disable,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "sys.path": list(sys.path),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.stdout, sys.stderr),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "numpy": (np.geterr(), np.get_printoptions()),
        "webbkg threads": [t.name for t in threading.enumerate() if t.name.startswith("webbkg")],
    }


def _loggers():
    """Describe the loggers that there are; one that is new and as made is not told of."""
    loggers = {"root": logging.root, **logging.root.manager.loggerDict}
    told = {
        name: (logger.level, logger.disabled, logger.propagate, *map(tuple, _attached(logger)))
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger)
    }
    return {name: told for name, told in told.items() if told != (0, False, True, (), ())}


def _attached(logger):
    return logger.handlers, logger.filters


@contextmanager
def no_trace(but=None):
    """Assert that the block leaves the process as it was, in all but one thing."""
    before = state()
    yield
    after = state()
    changed = {
        name: (before[name], after[name])
        for name in before
        if name != but and before[name] != after[name]
    }
    assert not changed, changed
