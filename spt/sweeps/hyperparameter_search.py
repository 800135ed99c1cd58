"""Hyperparameter search through Optuna: show the best trial at the end, refuse a search without --multirun."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from spt.console import logged, show_best
from spt.errors import SptError
from spt.path_overrides import job_overrides


class ShowBestTrial(Callback):
    """Hydra calls this when all trials have ended; see conf/hydra/sweeper/search.yaml."""

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
