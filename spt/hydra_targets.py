"""Instantiate a config's `_target_`, also one that names a class by its path in an earlier version."""

from collections.abc import Callable
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError
from spt.path_overrides import escaped

MOVED = {  # old path in configs, adapters and records -> present path
    "spt.superglue.WinogradTask": "spt.tasks.WinogradTask",
    "spt.superglue.MultiRCTask": "spt.tasks.MultiRCTask",
    "spt.superglue.RecordTask": "spt.tasks.RecordTask",
    "spt.custom.custom_task": "spt.tasks.custom_task",
    "spt.loggers.RunFolderOnly": "spt.training.loggers.Tracker",
    "spt.training.loggers.RunFolderOnly": "spt.training.loggers.Tracker",
    "spt.loggers.WandbLogger": "spt.training.wandb_logger.WandbLogger",
}


def named_function(config: DictConfig, group: str) -> Callable[..., Any] | None:
    """The function that the file of a config group names, as the user chose it; None if none is chosen.

    Raises:
        SptError: if it cannot be imported.
    """
    target = OmegaConf.select(config, f"{group}._target_")
    try:
        return None if target is None else hydra.utils.get_method(target)
    except (ImportError, ValueError) as error:
        raise SptError(f"{group}: cannot import {target}: is its module in the current folder? ({error})") from error


def load_options(config: DictConfig) -> dict[str, Any]:
    """The arguments of `spt.load` that a command's config sets: base_model, revision and method."""
    options = {name: config[name] for name in ("base_model", "revision")}
    return options | {"method": named_function(config, "method")}


def instantiate(config: DictConfig, *arguments: Any, **options: Any) -> Any:
    """`hydra.utils.instantiate`, with moved targets replaced by their present path."""
    content: Any = OmegaConf.to_container(config, resolve=True)
    content["_target_"] = MOVED.get(config._target_, config._target_)
    # Escaped twice: Hydra resolves the config, and then its values again.
    return hydra.utils.instantiate(OmegaConf.create(escaped(escaped(content))), *arguments, **options)
