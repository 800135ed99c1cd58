"""A GPU for each job of a sweep whose jobs run side by side on one machine: at most `runs_per_gpu` of them on each."""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError, is_count

log = logging.getLogger(__name__)

VISIBLE, VISIBLE_TO_COMMAND = "CUDA_VISIBLE_DEVICES", "SPT_CUDA_VISIBLE_DEVICES"

ALL = "all"

CHECK_EVERY = 2.0  # seconds between looks for a free GPU

claims: list[IO[str]] = []  # open and locked as long as the process lives


def show_to_jobs() -> None:
    """Let the jobs that this process starts know which GPUs it sees: submitit hides them all."""
    os.environ[VISIBLE_TO_COMMAND] = os.environ.get(VISIBLE, ALL)


def check_runs_per_gpu(config: DictConfig) -> None:
    """Refuse a joblib sweep with more jobs at a time than its GPUs may take: its workers would wait for each other.

    Raises:
        SptError: then, and where `runs_per_gpu` is not a count.
    """
    if not is_count(config.runs_per_gpu):
        raise SptError(f"runs_per_gpu must be a whole number of at least 1, not {config.runs_per_gpu!r}")
    if not config.hydra.launcher._target_.endswith(".JoblibLauncher") or not (gpus := len(visible())):
        return
    jobs = config.hydra.launcher.n_jobs if config.hydra.launcher.n_jobs > 0 else os.cpu_count()
    if jobs > gpus * config.runs_per_gpu:
        raise SptError(
            f"hydra.launcher.n_jobs={jobs} is more than {gpus} GPUs take with runs_per_gpu={config.runs_per_gpu}: "
            f"set hydra.launcher.n_jobs={gpus * config.runs_per_gpu}, or runs_per_gpu={-(-jobs // gpus)} to share them"
        )


def take_one_gpu(runs_per_gpu: int) -> None:
    """Leave this process one GPU of those it sees, where it is one of several side by side; before CUDA starts.

    A process under torchrun or of a Slurm job keeps what it was given, and so does the command's own.

    Args:
        runs_per_gpu: how many processes may share a GPU. Where all are taken, the process waits for one.
    """
    if claims or "WORLD_SIZE" in os.environ or not side_by_side():
        return
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and VISIBLE_TO_COMMAND in os.environ:
        os.environ[VISIBLE] = os.environ[VISIBLE_TO_COMMAND]
        if os.environ[VISIBLE] == ALL:
            del os.environ[VISIBLE]
    gpus = visible()
    if len(gpus) > 1:
        os.environ[VISIBLE] = claim(gpus, runs_per_gpu)


def side_by_side() -> bool:
    """Whether this is a job that runs in a process of its own beside others on the machine."""
    if not HydraConfig.initialized() or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return False
    hydra = HydraConfig.get()
    in_this_process = hydra.runtime.choices["hydra/launcher"] == "basic"
    return not OmegaConf.is_missing(hydra.job, "num") and not in_this_process


def visible() -> list[str]:
    """The GPUs that this process sees, by index or however CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    return [str(index) for index in range(count)] if named is None else named.replace(" ", "").split(",")[:count]


def claim(gpus: Sequence[str], runs_per_gpu: int = 1, folder: Path | None = None) -> str:
    """Claim the one of `gpus` that the fewest living processes have claimed, for as long as this process lives.

    Waits while each of them has been claimed by `runs_per_gpu` processes.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"spt-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waits = False
    while True:
        with (folder / "lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            counts = {gpu: sum(is_held(path) for path in folder.glob(f"{gpu}.*")) for gpu in gpus}
            chosen = min(gpus, key=counts.__getitem__)
            if counts[chosen] < runs_per_gpu:
                file = (folder / f"{chosen}.{os.getpid()}").open("w")
                fcntl.flock(file, fcntl.LOCK_EX)
                claims.append(file)
                return chosen
        if not waits:
            log.info("waits for a GPU: each has runs_per_gpu=%d already", runs_per_gpu)
            waits = True
        time.sleep(CHECK_EVERY)


def is_held(path: Path) -> bool:
    """Whether the process that claimed by this file lives; the file of one that does not is removed."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        path.unlink()
        return False
