"""A run in a process of its own that is killed at one point of a product's way.

``python killed_run.py PLAN FOLDER POINT NUMBER``: at the given time that the point is reached.
"""

import os
import signal
import sys

POINTS = {
    "claiming": ("webbkg.batch.ledger", "Ledger.claim", False),
    "claimed": ("webbkg.batch.ledger", "Ledger.claim", True),
    "writing": ("webbkg.files.product", "write_parts", False),
    "written": ("webbkg.files.product", "write_parts", True),
    "sealing": ("webbkg.batch.ledger", "Ledger.seal", False),
    "sealed": ("webbkg.batch.ledger", "Ledger.seal", True),
    "named": ("webbkg.files.output", "_rename_all", True),
    "finished": ("webbkg.batch.ledger", "Ledger.finish", True),
    "telling": ("webbkg.batch.outcomes", "write_results", False),
}
"""Module, function, and whether it comes before or after its call."""


def kill_at(point, number):
    """Let this process be killed when it comes to a point for the given time."""
    from importlib import import_module

    module, name, after = POINTS[point]
    owner = import_module(module)
    *classes, name = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    function, calls = getattr(owner, name), []

    def killed(*given, **more):
        calls.append(name)
        if len(calls) == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*given, **more)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killed)


if __name__ == "__main__":
    plan, folder, point, number = sys.argv[1:]
    kill_at(point, int(number))
    from webbkg.cli import main

    main(["run", plan, "-o", folder, "--engine", "none", "-q"])
