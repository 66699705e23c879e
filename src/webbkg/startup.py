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
    numerical inverse and a fit need, and Numba one module of the linear algebra, which no kernel
    of ours needs.
    """
    import yaml

    gc.disable()
    atexit.register(gc.freeze)
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name in ("linalg", "optimize"):
        sys.modules.setdefault(f"scipy.{name}", _Deferred("scipy", name))


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
    """Stands in for a subpackage that is imported when an attribute of it is first asked for.

    The import puts the subpackage itself in its place. Modules of it can be imported before.
    """

    def __init__(self, package: str, name: str) -> None:
        super().__init__(f"{package}.{name}")
        self.__path__ = [str(Path(one, name)) for one in import_module(package).__path__]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = import_module(self.__name__)
        for own, value in tuple(vars(self).items()):
            if isinstance(value, ModuleType):  # one that was imported before
                setattr(module, own, value)
        return getattr(module, name)
