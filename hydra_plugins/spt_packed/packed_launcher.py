"""`hydra/launcher=packed`: Hydra finds its plugins in this folder. What it does is in `spt.packing`."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from spt.errors import SptError, is_count


class PackedLauncher(Launcher):
    """Trains the jobs that differ in no more than seed, prefixes, loss weight and optimisation together.

    Args:
        together: at most so many runs at a time.
    """

    def __init__(self, together: int = 8):
        if not is_count(together):
            raise SptError(f"hydra.launcher.together must be a whole number of at least 1, not {together!r}")
        self.together = together

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra.core.utils import run_job, setup_globals

        from spt.packing import run_together

        setup_globals()

        def job(config: DictConfig) -> JobReturn:
            return run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )

        configs = [self._composed(number, its) for number, its in enumerate(job_overrides, initial_job_idx)]
        return run_together(job, configs, self.together)

    def _composed(self, number: int, overrides: Sequence[str]) -> Any:
        from omegaconf import open_dict

        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config
