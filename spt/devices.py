"""One GPU per job, where jobs of a sweep run side by side on a machine with several."""

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

VISIBLE, VISIBLE_TO_COMMAND = "CUDA_VISIBLE_DEVICES", "SPT_CUDA_VISIBLE_DEVICES"
ALL = "all"
claims: list[IO[str]] = []  # open, and locked with that, as long as the process lives


def show_to_jobs() -> None:
    """Let the jobs that this process starts know which GPUs it sees: submitit hides them all."""
    os.environ[VISIBLE_TO_COMMAND] = os.environ.get(VISIBLE, ALL)


def take_one_gpu() -> None:
    """Leave this process one GPU of those it sees, where it is one of several side by side; before CUDA starts.

    A process under torchrun or of a Slurm job keeps what it was given, and so does the command's own.
    """
    if claims or "WORLD_SIZE" in os.environ or not side_by_side():
        return
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and VISIBLE_TO_COMMAND in os.environ:
        os.environ[VISIBLE] = os.environ[VISIBLE_TO_COMMAND]
        if os.environ[VISIBLE] == ALL:
            del os.environ[VISIBLE]
    gpus = visible()
    if len(gpus) > 1:
        os.environ[VISIBLE] = claim(gpus)


def side_by_side() -> bool:
    """Whether this is a job that runs in a process of its own beside others on the machine."""
    if not HydraConfig.initialized() or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return False
    hydra = HydraConfig.get()
    in_this_process = hydra.runtime.choices["hydra/launcher"] in ("basic", "packed")
    return not OmegaConf.is_missing(hydra.job, "num") and not in_this_process


def visible() -> list[str]:
    """The GPUs that this process sees, by index or however CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    return [str(index) for index in range(count)] if named is None else named.replace(" ", "").split(",")[:count]


def claim(gpus: Sequence[str], folder: Path | None = None) -> str:
    """The one of `gpus` that the fewest living processes have claimed, claimed for this one as long as it lives."""
    folder = folder or Path(tempfile.gettempdir()) / f"spt-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        chosen = min(gpus, key=lambda gpu: sum(is_held(path) for path in folder.glob(f"{gpu}.*")))
        file = (folder / f"{chosen}.{os.getpid()}").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
    claims.append(file)
    return chosen


def is_held(path: Path) -> bool:
    """Whether the process that claimed by this file lives; the file of one that does not is removed."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        path.unlink()
        return False
