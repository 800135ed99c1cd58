"""A multirun names its failed runs at its end and finishes the others; Hydra's own would stop at the first.

A sweep of `spt.train` also names the command that compares its runs.
"""

import shlex
import sys
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from spt.console import console
from spt.hydra_overrides import plain

# The jobs of the command's multirun that have ended. A job that failed returns the reason, a string, instead of a
# score: the sweeper then continues, and Optuna counts the trial as failed.
returns: list[JobReturn] = []


class NameFailures(Callback):
    """Hydra calls this at the start and at the end of a multirun (conf/hydra/callbacks); the command names the runs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        tolerant = {"_target_": "hydra_plugins.spt_launcher.TolerantLauncher", "_recursive_": False}
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.launcher = tolerant | {"chosen": config.hydra.launcher}

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not returns:
            sys.exit("error: the sweep has no run: one of its lists, ranges or globs is empty")
        if config.hydra.job.config_name == "train" and config.dry_run is not True:
            report = shlex.join(["python", "-m", "spt.report", f"runs={config.output_dir}"])
            console.print(f"compare the runs: {report}", markup=False)


def failed_runs() -> str:
    """The failed runs of the command's multirun, one per line with overrides and reason; empty if none failed."""
    lines = [
        f"\n  {' '.join(map(plain, job.overrides or ()))}: {job.return_value}"
        for job in returns
        if isinstance(job.return_value, str)
    ]
    return f"these runs of the sweep failed, the others are done:{''.join(lines)}" if lines else ""
