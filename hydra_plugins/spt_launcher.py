"""The launcher of every multirun. Hydra accepts launchers of the package `hydra_plugins` alone, and imports all of them
when a command starts, so this one imports torch-heavy modules only when it launches jobs.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from spt.sweeps import multirun


class TolerantLauncher(Launcher):
    """Runs the jobs of a multirun through the chosen launcher, and records what each of them returned.

    Args:
        chosen: the config of the launcher that `hydra/launcher` names.
    """

    def __init__(self, chosen: DictConfig):
        self.chosen = chosen

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from spt.sweeps.hydra_launchers import check

        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.launcher = self.chosen
        check(config)
        self.sweep_dir = Path(config.hydra.sweep.dir)
        self.trials = config.hydra.sweeper.get("n_trials") or 0
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from spt.console import advancing, console
        from spt.sweeps.hydra_launchers import run_jobs

        total = max(self.trials, initial_job_idx + len(job_overrides))
        # On the console of the runs' bars, which stand below this one.
        bar = advancing(total, "runs of the sweep", done=initial_job_idx, terminal=console)
        with bar as ended, multirun.counting_ends(self.sweep_dir, ended):
            returns = run_jobs(self.launcher, job_overrides, initial_job_idx)
        multirun.returns.extend(returns)
        return returns
