"""The processes of one run, through accelerate: joined, and the values they share."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState, is_initialized
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list, gather_object

from spt import distributed
from spt.errors import SptError
from spt.training.trainer_schema import TrainerSettings

Value = TypeVar("Value")

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MPI_LOCALRANKID")

SHARDED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


def join(settings: TrainerSettings) -> Accelerator:
    """The accelerator of a run: its device, and its connection with the other processes where there are some.

    Mixed precision is not left to accelerate, whose state would keep the first run's for all runs of a sweep.

    Raises:
        SptError: where the environment names several processes but not how to reach them, or asks for sharded models
            or, against the settings, for the CPU; or where float16 is asked for without an accelerator.
    """
    several = distributed.count() > 1
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if several and (missing := [name for name in needed if name not in os.environ]):
        raise SptError(
            f"WORLD_SIZE={distributed.count()} of the environment means several processes, but {', '.join(missing)} "
            "is not set: unset WORLD_SIZE, or start with torchrun"
        )
    timeout = timedelta(seconds=settings.ddp_timeout)
    group = [InitProcessGroupKwargs(timeout=timeout)] if several else []
    cpu = settings.use_cpu or not torch.accelerator.is_available()
    if settings.fp16 and cpu:
        raise SptError("trainer.fp16 needs an accelerator, and this run has none: use trainer.bf16=true")
    if is_initialized() and not several and cpu != (PartialState().device.type == "cpu"):
        AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run of this process had another device
    # A program that trains from Python may have its own state, which accelerate does not let change.
    precision = None if is_initialized() else "no"
    with nullcontext() if several else _without_ranks():
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, dynamo_backend="no", kwargs_handlers=[*group])
    if several:
        atexit.register(leave)
        if (kind := accelerator.distributed_type) in SHARDED:
            raise SptError(f"accelerate is set up for {kind.value}, which spt does not train with: start with torchrun")
    if not cpu and accelerator.device.type == "cpu":
        raise SptError("accelerate is set up for the CPU (ACCELERATE_USE_CPU): unset it, or set trainer.use_cpu=true")
    return accelerator


@contextmanager
def _without_ranks() -> Iterator[None]:
    """Hide the process ranks of MPI or Slurm from accelerate, in a job whose processes each train their own run."""
    prefixes = ("PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")
    hidden = {name: os.environ[name] for name in os.environ if name.startswith(prefixes) or name in RANKS}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def leave() -> None:
    """Disconnect from the other processes before the interpreter ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()  # DDP keeps a connection of its own in a reference cycle


def from_main(value: Value) -> Value:
    """The main process's value, in all processes; the others wait for it."""
    return value if distributed.count() == 1 else broadcast_object_list([value])[0]


def from_all(value: Value) -> list[Value]:
    """The values of all processes, in all of them, in the order of their ranks."""
    return gather_object([value])
