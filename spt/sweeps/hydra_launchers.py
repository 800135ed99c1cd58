"""Jobs through Hydra's launchers: each comes back, finished, failed or dead, whatever process it ran in."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from spt.errors import SptError, is_count
from spt.sweeps.gpu_assignment import check_runs_per_gpu, show_to_jobs


def come_back(launcher: Launcher, jobs: Sequence[Sequence[str]], first: int = 0) -> list[JobReturn]:
    """Run jobs (a list of overrides each, numbered from `first`) and say how each ended; none that dies raises."""
    show_to_jobs()
    try:
        with the_dead_return():
            returns = list(launcher.launch(jobs, initial_job_idx=first))
    except BrokenExecutor:
        lost = "a worker process died (of memory?), and with it what was not finished: the same command goes on"
        returns = [failure(lost) for _ in jobs]
    for job, returned in zip(jobs, returns, strict=True):
        returned.overrides = returned.overrides or list(job)
    return returns


def failure(reason: str) -> JobReturn:
    """What comes back of a job that could not say itself why it failed."""
    return JobReturn(status=JobStatus.FAILED, _return_value=SptError(reason))


@contextmanager
def the_dead_return() -> Iterator[None]:
    """Have submitit's jobs that died return as failed ones: its launcher would leave the others alone with it."""
    try:
        from submitit.core.core import Job
        from submitit.core.utils import FailedJobError, UncompletedJobError
    except ImportError:
        yield
        return
    results = Job.results

    def results_of_all(job: Any) -> list[Any]:
        try:
            return results(job)
        except (UncompletedJobError, FailedJobError):
            return [failure(f"it died (of memory, or its time was up?): {job.paths.stderr} has its last words")]

    with patch.object(Job, "results", results_of_all):
        yield


def check(config: DictConfig) -> None:
    """Complain of settings by which Hydra's launchers and sweepers would run nothing, or end in riddles."""
    sweeper, launcher = config.hydra.sweeper, config.hydra.launcher
    for name in ("max_batch_size", "n_trials", "n_jobs"):
        count = sweeper.get(name)
        if count is not None and not is_count(count):
            raise SptError(f"hydra.sweeper.{name} must be a whole number of at least 1, not {count!r}")
    if launcher.get("n_jobs") == 0:
        raise SptError("hydra.launcher.n_jobs must be at least 1, or -1 for all cores, not 0")
    if launcher._target_.endswith(".SlurmLauncher") and shutil.which("srun") is None:
        raise SptError("hydra/launcher=slurm: no srun on this machine: start where Slurm is, or choose joblib or local")
    direction = sweeper.get("direction", "maximize")
    if direction not in ("minimize", "maximize"):
        raise SptError(f"hydra.sweeper.direction must be maximize or minimize, not {direction!r}")
    check_runs_per_gpu(config)


class Noting(Launcher):
    """A launcher that notes the jobs that fail in another.

    Its sweeper gets them as done, with the reason in the place of a score: Hydra's own would end at the first batch
    with a failed one, and Optuna's takes the words for a failed trial.
    """

    def __init__(self, launcher: Launcher, failed: list[str]):
        self.launcher, self.failed, self.jobs = launcher, failed, 0

    def setup(self, **kwargs: Any) -> None:
        self.launcher.setup(**kwargs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.jobs += len(job_overrides)
        returns = come_back(self.launcher, job_overrides, initial_job_idx)
        for returned in returns:
            if returned.status == JobStatus.FAILED:
                reason = str(returned._return_value)
                self.failed.append(f"{' '.join(returned.overrides or [])}: {reason}")
                returned.status, returned.return_value = JobStatus.COMPLETED, reason
        return returns


@contextmanager
def noted(failed: list[str]) -> Iterator[None]:
    """Note the failed jobs of a multirun, whichever launcher and sweeper run it: Hydra tells of the first alone.

    Raises:
        SptError: where it had no job, or cannot.
    """
    instantiate, sweeps = Plugins.instantiate_launcher, list[Noting]()

    def noting(plugins: Plugins, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> Launcher:
        launcher = instantiate(plugins, hydra_context, task_function, config)
        if config.hydra.mode != RunMode.MULTIRUN:
            return launcher
        check(config)
        sweeps.append(Noting(launcher, failed))
        return sweeps[-1]

    with patch.object(Plugins, "instantiate_launcher", noting):
        yield
    if any(sweep.jobs == 0 for sweep in sweeps):
        raise SptError("the sweep has no run: one of its lists, ranges or globs holds nothing")
