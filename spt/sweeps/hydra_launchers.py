"""Run jobs through Hydra's launchers: a job that dies does not end the sweep, and invalid settings are refused."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, env_override
from joblib import cpu_count, effective_n_jobs
from omegaconf import DictConfig
from submitit.core.utils import FailedJobError, UncompletedJobError

from spt.errors import SptError, check_count
from spt.sweeps.gpu_assignment import check_runs_per_gpu, show_gpus_to_jobs


def run_jobs(launcher: Any, jobs: Sequence[Sequence[str]], first: int = 0) -> list[JobReturn]:
    """Run jobs through a launcher of Hydra, and wait for all of them.

    Args:
        launcher: a `hydra.plugins.launcher.Launcher`.
        jobs: the overrides of each job.
        first: the number of the first job.

    Returns:
        One entry per job. The `return_value` of a job whose process died is a string that says so.
    """
    if not jobs:
        return []
    show_gpus_to_jobs()
    with env_override(share_cores(launcher, len(jobs))):
        return _launched(launcher, jobs, first)


def _launched(launcher: Any, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    if type(launcher).__module__.startswith("hydra_plugins.hydra_submitit_launcher"):
        # Submitit's launcher raises at the first job that died and drops the results of the others, hence one call per
        # job. Its threads are daemons: Ctrl-C does not wait for jobs on a cluster.
        with ThreadPool(min(len(jobs), launcher.params.get("array_parallelism", len(jobs)))) as pool:
            return pool.starmap(partial(_run_with_submitit, launcher), enumerate(jobs, first))
    try:
        return list(launcher.launch(jobs, first))
    except BrokenExecutor:
        reason = "a worker process died (out of memory?), and unfinished runs with it: the same command resumes them"
        return [_failed(job, reason) for job in jobs]


def share_cores(launcher: Any, jobs: int) -> dict[str, str]:
    """The variable that divides this machine's cores among the processes that the launcher runs at the same time on it.

    Each of them would use all cores, and wait for the others. A value of OMP_NUM_THREADS that the user sets stays.
    """
    match type(launcher).__name__:
        case "JoblibLauncher":
            at_once = effective_n_jobs(launcher.joblib.get("n_jobs", 1))
        case "LocalLauncher":
            at_once = launcher.params.get("array_parallelism", jobs)
        case _:
            return {}
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cpu_count() // min(at_once, jobs))))}


def _run_with_submitit(launcher: Any, number: int, job: Sequence[str]) -> JobReturn:
    try:
        return launcher.launch([job], number)[0]
    except (FailedJobError, UncompletedJobError) as error:
        words = " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])
        return _failed(
            job, f"the process died (out of memory or time?) or never started; its log files say more: {words}"
        )


def _failed(job: Sequence[str], reason: str) -> JobReturn:
    return JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=reason)


def check(config: DictConfig) -> None:
    """Refuse settings with which Hydra's launchers and sweepers would run nothing, or fail with an unclear error.

    Raises:
        SptError: for the first of these settings.
    """
    sweeper, launcher = config.hydra.sweeper, config.hydra.launcher
    for name in ("max_batch_size", "n_trials", "n_jobs"):
        if (count := sweeper.get(name)) is not None:
            check_count(f"hydra.sweeper.{name}", count)
    if launcher.get("n_jobs") == 0:
        raise SptError("hydra.launcher.n_jobs must be at least 1, or -1 for all cores, not 0")
    if launcher.get("tasks_per_node", 1) * launcher.get("nodes", 1) > 1:
        raise SptError(
            "each job of a sweep is one process: leave out hydra.launcher.tasks_per_node and nodes (torchrun trains a "
            "run on several GPUs)"
        )
    if launcher._target_.endswith(".SlurmLauncher") and shutil.which("srun") is None:
        raise SptError(
            "hydra/launcher=slurm: no srun on this machine: run the command where Slurm is installed, or choose "
            "hydra/launcher=joblib or local"
        )
    direction = sweeper.get("direction", "maximize")
    if direction not in ("minimize", "maximize"):
        raise SptError(f"hydra.sweeper.direction must be maximize or minimize, not {direction!r}")
    if config.get("dry_run") is True and "n_trials" in sweeper:
        raise SptError("dry_run=true has no scores for a search to compare: leave out hydra/sweeper or hparams_search")
    check_runs_per_gpu(config)
