"""Classes and functions that a config names by `_target_`, those that have moved included."""

from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

# Where a target was in configs, adapters and records of earlier versions, and where it is now.
MOVED = {
    "spt.superglue.WinogradTask": "spt.tasks.WinogradTask",
    "spt.superglue.MultiRCTask": "spt.tasks.MultiRCTask",
    "spt.superglue.RecordTask": "spt.tasks.RecordTask",
    "spt.custom.custom_task": "spt.tasks.custom_task",
    "spt.loggers.RunFolderOnly": "spt.training.loggers.RunFolderOnly",
    "spt.loggers.WandbLogger": "spt.training.wandb_logger.WandbLogger",
}


def instantiate(config: DictConfig, *arguments: Any, **options: Any) -> Any:
    """What `hydra.utils.instantiate` makes of a config, whose target may be named by the place it had before."""
    present = {"_target_": MOVED.get(config._target_, config._target_)}
    return hydra.utils.instantiate(OmegaConf.merge(config, present), *arguments, **options)
