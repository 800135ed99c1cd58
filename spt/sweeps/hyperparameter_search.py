"""A search through Optuna: what was best, in one line at its end."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError


class TellBest(Callback):
    """Hydra calls this once all trials are done."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from spt.console import logged, show_best

        path = Path(config.hydra.sweep.dir) / "optimization_results.yaml"
        found = OmegaConf.load(path)
        with logged():
            show_best(found.best_value, dict(found.best_params), path)


def refuse_search_without_multirun() -> None:
    """Complain of a search that a single run was asked for: Hydra passes over it in silence."""
    hydra = HydraConfig.get()
    keys = {override.partition("=")[0].lstrip("+") for override in hydra.overrides.task}
    free = sorted(set(hydra.sweeper.get("params") or ()) - keys)
    if hydra.mode == RunMode.RUN and free:
        raise SptError(f"hparams_search is for a search: add --multirun, or for one run of it set {', '.join(free)}")
