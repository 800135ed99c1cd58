"""Which process of a run this is, by the environment that torchrun or accelerate launch sets.

All processes of a run compute; the first, the main one, also writes files and prints. How they are connected is in
`spt.training.process_group`.
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from spt.errors import SptError

PATIENCE = 10.0  # seconds that a process with an error waits for another one to report it


def count() -> int:
    """How many processes there are.

    Raises:
        SptError: where WORLD_SIZE is not a number of processes.
    """
    named = os.environ.get("WORLD_SIZE", "1")
    if not named.isdecimal() or int(named) < 1:
        raise SptError(
            f"WORLD_SIZE={named!r} of the environment is not a number of processes: unset it, or start with torchrun"
        )
    return int(named)


def rank() -> int:
    """The number of this process, from 0."""
    return 0 if count() == 1 else int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def launcher() -> list[str]:
    """The start of a command line that starts as many processes as this run has."""
    if count() == 1:
        return ["python"]
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", str(count())))
    nodes = [f"--nnodes={count() // per_node}"] if count() > per_node else []
    return ["torchrun", *nodes, f"--nproc_per_node={per_node}"]


def main_only(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have only the main process run a method; in the others it returns None at once."""

    @wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs) if is_main() else None

    return guarded


def reporter(error: BaseException) -> str:
    """Wait where another process should report an error first; return how this process introduces its message.

    The main process reports, unless it only noticed that the connection to another one broke.
    """
    try:
        if count() == 1:
            return ""
    except SptError:
        return ""
    connection_broke = "gloo" in str(error) or type(error).__name__ == "DistBackendError"
    if connection_broke or not is_main():
        time.sleep(PATIENCE)
    return "" if is_main() else f"process {rank()}: "
