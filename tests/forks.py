"""Processes that begin with their imports done: commands and code run in forks of one process.

Each fork is a process of its own, as a shell would start one; what takes seconds, importing the
``jwst`` package, is done once.
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module


class Forks:
    """Starts a process with modules imported, in whose forks commands and code are run."""

    def __init__(self, modules, environment):
        self.process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, command, folder):
        """Run the script ``command[0]``, or with ``-c`` for it Python code, in a folder."""
        print(json.dumps({"command": command, "folder": str(folder)}), file=self.process.stdin)
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        assert told["status"] == 0, f"{command}\n{told['output']}"

    def run_code(self, code, folder):
        """Run Python code in a folder; the collector is as in a process that began by itself."""
        self.run(["-c", f"import gc; gc.unfreeze()\n{code}"], folder)

    def close(self):
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def serve(modules):
    """Run what standard input asks for, one after another, and tell how each ended."""
    for name in modules:
        with suppress(ModuleNotFoundError):  # extras: who needs one meets the error
            import_module(name)
    gc.freeze()  # what is here already: each collection in a fork would walk through it
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if child == 0:
                become(output=output, **json.loads(line))
            _, status = os.waitpid(child, 0)
            output.seek(0)
            told = {"status": os.waitstatus_to_exitcode(status), "output": output.read()}
        print(json.dumps(told), flush=True)


def become(command, folder, output):
    """Be the command: leave as it would."""
    os.chdir(folder)
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else output.fileno(), stream)
    sys.argv = command
    if command[0] == "-c":
        exec(compile(command[1], "example", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(command[0], run_name="__main__")
    sys.exit(0)


if __name__ == "__main__":
    serve(sys.argv[1:])
