"""Assign a GPU to each job of a sweep whose jobs run at the same time on one machine, `runs_per_gpu` jobs to a GPU."""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import IO

import torch
from hydra.core.hydra_config import HydraConfig
from joblib import effective_n_jobs
from omegaconf import DictConfig, OmegaConf

from spt import distributed
from spt.errors import SptError, check_count

log = logging.getLogger(__name__)

VISIBLE, VISIBLE_TO_COMMAND = "CUDA_VISIBLE_DEVICES", "SPT_CUDA_VISIBLE_DEVICES"

ALL = "all"

CHECK_EVERY = 2.0  # seconds between two attempts to claim a GPU

claims: list[IO[str]] = []  # locked files, kept open until the process ends


def show_gpus_to_jobs() -> None:
    """Tell jobs in an environment variable which GPUs this process sees: submitit hides all GPUs from its jobs."""
    os.environ[VISIBLE_TO_COMMAND] = os.environ.get(VISIBLE, ALL)


def check_runs_per_gpu(config: DictConfig) -> None:
    """Refuse a joblib sweep with more parallel jobs than its GPUs take: some workers would only wait for others.

    Raises:
        SptError: for such a sweep, or if `runs_per_gpu` is not a whole number of at least 1.
    """
    per_gpu = config.get("runs_per_gpu", 1)  # other commands than spt.train may be swept, too
    check_count("runs_per_gpu", per_gpu)
    uses_cpu = OmegaConf.select(config, "trainer.use_cpu") is True
    if uses_cpu or not config.hydra.launcher._target_.endswith(".JoblibLauncher") or not (gpus := len(visible())):
        return
    jobs = effective_n_jobs(config.hydra.launcher.n_jobs)
    if jobs > gpus * per_gpu:
        raise SptError(
            f"hydra.launcher.n_jobs={jobs} is more than {gpus} GPUs take with runs_per_gpu={per_gpu}: "
            f"set hydra.launcher.n_jobs={gpus * per_gpu}, or runs_per_gpu={-(-jobs // gpus)} to share them"
        )


def take_one_gpu(runs_per_gpu: int) -> None:
    """Restrict this process to one of the GPUs that it sees, if it is one of several parallel jobs; before CUDA starts.

    Processes of torchrun and of Slurm jobs keep the GPUs that they were given, and so does the command's own process.

    Args:
        runs_per_gpu: how many processes may share a GPU. While all GPUs are full, this process waits.
    """
    if claims or distributed.count() > 1 or not in_parallel_job():
        return
    is_submitit = os.environ.get("SUBMITIT_EXECUTOR") == "local"
    if is_submitit and VISIBLE_TO_COMMAND in os.environ:
        os.environ[VISIBLE] = os.environ[VISIBLE_TO_COMMAND]
        if os.environ[VISIBLE] == ALL:
            del os.environ[VISIBLE]
    gpus = visible()
    # One GPU needs no claim under joblib, whose jobs `check_runs_per_gpu` limits, nor under Ray, which assigns GPUs.
    if len(gpus) > 1 or (gpus and is_submitit):
        os.environ[VISIBLE] = claim(gpus, runs_per_gpu)


def in_parallel_job() -> bool:
    """Whether this process runs one job of a sweep, with other jobs in other processes on the same machine."""
    if not HydraConfig.initialized() or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return False
    hydra = HydraConfig.get()
    is_job_of_sweep = not OmegaConf.is_missing(hydra.job, "num")
    return is_job_of_sweep and hydra.runtime.choices["hydra/launcher"] != "basic"


def visible() -> list[str]:
    """The GPUs that this process sees: their indices, or their names in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    names = os.environ.get(VISIBLE)
    return [str(index) for index in range(count)] if names is None else names.replace(" ", "").split(",")[:count]


def claim(gpus: Sequence[str], runs_per_gpu: int = 1, folder: Path | None = None) -> str:
    """Claim one of `gpus` until this process ends, an unused one if there is one; wait while all are full.

    A claim is a locked file, <GPU>.<number below runs_per_gpu>, in `folder`: the system unlocks it if the process dies.
    Slurm may number the GPUs of each job from 0, so that every Slurm job has a folder of its own.
    """
    name = f"spt-gpus-{os.getuid()}{os.environ.get('SLURM_JOB_ID', '')}"
    folder = folder or Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while True:
        for number, gpu in product(range(runs_per_gpu), gpus):
            file = (folder / f"{gpu}.{number}").open("a", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                claims.append(file)
                return gpu
        if not waiting:
            log.info("waiting for a GPU: each runs %d processes already (runs_per_gpu)", runs_per_gpu)
            waiting = True
        time.sleep(CHECK_EVERY)
