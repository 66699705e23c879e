"""Runs that are killed, each at one point of a product's way, in processes of their own.

``python killed_run.py PLAN FOLDER``: one for each point, into a folder of its name; what each came
to is printed as JSON. All are forks of one process, which has imported everything once.
"""

import json
import os
import signal
import sys
from importlib import import_module

POINTS = {
    "claiming": ("webbkg.batch.ledger", "Ledger.claim", False, 3),
    "claimed": ("webbkg.batch.ledger", "Ledger.claim", True, 3),
    "writing": ("webbkg.files.product", "write_parts", False, 3),
    "written": ("webbkg.files.product", "write_parts", True, 3),
    "sealing": ("webbkg.batch.ledger", "Ledger.seal", False, 3),
    "sealed": ("webbkg.batch.ledger", "Ledger.seal", True, 3),
    "named": ("webbkg.files.output", "_rename_all", True, 3),
    "finished": ("webbkg.batch.ledger", "Ledger.finish", True, 3),
    "telling": ("webbkg.batch.outcomes", "write_results", False, 1),
}
"""Module, function, whether it is before or after its call, and at which of its calls."""


def kill_at(point):
    """Let this process be killed when it comes to a point."""
    module, name, after, number = POINTS[point]
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


def run_until(point, plan, folder):
    child = os.fork()
    if child == 0:
        from webbkg.cli import main

        kill_at(point)
        main(["run", plan, "-o", f"{folder}/{point}", "--engine", "none", "-q"])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    import webbkg.cli
    import webbkg.cli.live  # noqa: F401
    from webbkg.image import average, group, measure  # noqa: F401

    print(json.dumps({point: run_until(point, *sys.argv[1:]) for point in POINTS}))
