"""Runs `python -m <module>` in forks of a process in which the libraries are loaded: loading takes 6 s of a core.

One job a line on standard input; the process id of its fork and then its exit code are printed.
"""

import faulthandler
import gc
import json
import os
import runpy
import sys

import matplotlib.figure  # noqa: F401
import peft  # noqa: F401

import spt.training.run_experiment  # noqa: F401
from tests import quick_configs  # noqa: F401


def serve() -> None:
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run_module(**job)
            break
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run_module(command: list[str], stdout: str, stderr: str) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(stdout, os.O_WRONLY), 1)
    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    faulthandler.enable()
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
