"""What a command does once, in a process of its own, to begin and end sooner.

No library call does any of this: a process belongs to whoever started it.
"""

from __future__ import annotations

import atexit
import gc
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def own_process() -> None:
    """Spare a process of our own what a run of seconds has no use for.

    The many new objects of the start, none of them garbage, make the collector search in vain,
    most of all at exit. ASDF reads some fifty YAML manifests with PyYAML's pure Python loader; its
    C loader gives the same. GWCS imports SciPy's linear algebra and optimisation, which only a
    numerical inverse and a fit need.
    """
    import yaml

    gc.disable()
    atexit.register(gc.freeze)
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    scipy = import_module("scipy")
    for name in ("linalg", "optimize"):
        if f"scipy.{name}" not in sys.modules:
            setattr(scipy, name, _Deferred(f"scipy.{name}"))


def is_command(name: str) -> bool:
    """Tell whether the process is that of a command: started as its script, to run and end.

    A notebook, an interactive session, a worker and another program that calls the command's
    functions are none.
    """
    main = sys.modules["__main__"]
    as_script = main.__name__ == "__main__" and main.__spec__ is None
    return (
        as_script
        and not hasattr(sys, "ps1")
        and Path(sys.argv[0]).stem == name
        and (Path(getattr(main, "__file__", "")).stem == name)
    )


class _Deferred(ModuleType):
    """Stands in for a module that is imported when an attribute of it is first asked for.

    The import puts the module itself in its place.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)
