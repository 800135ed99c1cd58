"""A multirun names its failed runs at its end and finishes the others; Hydra's own would stop at the first.

A sweep of `spt.train` also names the command that compares its runs, and a hyperparameter search its best trial.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from spt.console import console, logged, share_terminal, show_best
from spt.errors import SptError
from spt.path_overrides import job_overrides, plain

# The jobs of the command's multirun that have ended. A job that failed returns the reason, a string, instead of a
# score: the sweeper then continues, and Optuna counts the trial as failed.
returns: list[JobReturn] = []

ENDED = ".ended"  # a file in the folder of a sweep, to which every process appends a byte for each run that has ended


class NameFailures(Callback):
    """Hydra calls this at the start and at the end of a multirun and of its jobs (conf/hydra/callbacks)."""

    def __init__(self) -> None:
        self.process = os.getpid()  # that of the sweep; joblib's copy of this object keeps it

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        tolerant = {"_target_": "hydra_plugins.spt_launcher.TolerantLauncher", "_recursive_": False}
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.launcher = tolerant | {"chosen": config.hydra.launcher}

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if os.getpid() != self.process and config.hydra.launcher._target_.endswith(".JoblibLauncher"):
            share_terminal(config.hydra.job.num)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            with (Path(config.hydra.sweep.dir) / ENDED).open("a") as file:
                file.write("\n")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not returns:
            sys.exit("error: the sweep has no run: one of its lists, ranges or globs is empty")
        if config.hydra.job.config_name == "train" and config.dry_run is not True:
            report = shlex.join(["python", "-m", "spt.report", f"runs={config.output_dir}"])
            console.print(f"compare the runs: {report}", markup=False)


@contextmanager
def counting_ends(sweep_dir: Path, ended: Callable[[], object]) -> Iterator[None]:
    """While the block runs, call `ended` for each job of the sweep that ends, in whichever process."""
    path, stop = sweep_dir / ENDED, Event()

    def size() -> int:
        return path.stat().st_size if path.exists() else 0

    def look() -> None:
        seen = before
        while not stop.wait(0.5):
            now = size()
            for _ in range(now - seen):
                ended()
            seen = now

    before = size()
    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def failed_runs() -> str:
    """The failed runs of the command's multirun, one per line with overrides and reason; empty if none failed."""
    lines = [
        f"\n  {' '.join(map(plain, job.overrides or ()))}: {job.return_value}"
        for job in returns
        if isinstance(job.return_value, str)
    ]
    return f"these runs of the sweep failed, the others are done:{''.join(lines)}" if lines else ""


class ShowBestTrial(Callback):
    """Hydra calls this when all trials of a search have ended; see conf/hydra/sweeper/search.yaml."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        path = Path(config.hydra.sweep.dir) / "optimization_results.yaml"
        results = OmegaConf.load(path)
        with logged():
            show_best(results.best_value, dict(results.best_params), path)


def refuse_search_without_multirun() -> None:
    """Refuse a search space in a single run, where Hydra would ignore it.

    Raises:
        SptError: if the config has a search space with keys that the command line does not set.
    """
    hydra = HydraConfig.get()
    keys = {override.partition("=")[0].lstrip("+") for override in job_overrides()}
    free = sorted(set(hydra.sweeper.get("params") or ()) - keys)
    if hydra.mode == RunMode.RUN and free:
        raise SptError(f"hparams_search is for a search: add --multirun, or for a single run set {', '.join(free)}")
