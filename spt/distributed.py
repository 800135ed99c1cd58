"""The processes of one run: one alone, or several that torchrun or accelerate launch started.

All of them compute; the first, the main one, also writes and speaks.
"""

import atexit
import gc
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

from spt.errors import SptError

Value = TypeVar("Value")

PATIENCE = 10.0  # seconds that a process with an error leaves the word to another


def count() -> int:
    """How many processes there are.

    Raises:
        SptError: where the environment gives no number of them.
    """
    named = os.environ.get("WORLD_SIZE", "1")
    if not named.isdecimal() or int(named) < 1:
        raise SptError(f"WORLD_SIZE={named!r} of the environment is no number of processes: unset it, or use torchrun")
    return int(named)


def rank() -> int:
    """The number of this process, from 0."""
    return 0 if count() == 1 else int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def launcher() -> list[str]:
    """The part of a command line that starts as many processes."""
    if count() == 1:
        return ["python"]
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(count())))
    nodes = [f"--nnodes={count() // here}"] if count() > here else []
    return ["torchrun", *nodes, f"--nproc_per_node={here}"]


def join(trainer: dict[str, Any]) -> None:
    """Connect with the other processes, as the settings of Trainer say; its default is gloo for CPUs, NCCL for GPUs.

    Raises:
        SptError: where the environment does not say how.
    """
    import torch.distributed as dist

    if count() == 1 or dist.is_initialized():
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise SptError(
            f"WORLD_SIZE={count()} of the environment is of several processes, but there is no {', '.join(missing)}: "
            "unset it, or use torchrun"
        )
    backend, seconds = trainer.get("ddp_backend"), trainer.get("ddp_timeout", 1800)
    dist.init_process_group(None if backend == "nccl" else backend, timeout=timedelta(seconds=seconds))
    atexit.register(_leave)


def _leave() -> None:
    """Part from the other processes, and end the threads that spoke with them before the interpreter does."""
    import torch.distributed as dist

    dist.destroy_process_group()
    gc.collect()  # the model's own connection, which lies in a cycle


def main_only(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method one that the main process alone runs; in the others it returns None at once."""

    @wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs) if is_main() else None

    return guarded


def from_main(value: Value) -> Value:
    """The main process's value, in all of them: the others wait for it."""
    if count() == 1:
        return value
    import torch
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def from_all(value: Value) -> list[Value]:
    """The value of each process, in all of them."""
    if count() == 1:
        return [value]
    import torch.distributed as dist

    values = [value] * count()
    dist.all_gather_object(values, value)
    return values


def await_turn(error: BaseException) -> str:
    """Wait where another process has more to say of an error, whose end then is this one's too; returns who speaks.

    The main process has the word, unless it only noticed that another one is gone.
    """
    try:
        if count() == 1:
            return ""
    except SptError:
        return ""
    atexit.unregister(_leave)  # which would wait for processes that are gone
    left = "gloo" in str(error) or type(error).__name__ == "DistBackendError"
    if left or not is_main():
        time.sleep(PATIENCE)
    return "" if is_main() else f"process {rank()}: "
