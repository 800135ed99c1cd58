"""Local copies of benchmarks and encoders. No result depends on where they are stored."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from spt.errors import SptError
from spt.grid.cells import Cell, Job
from spt.grid.compose_configs import Composer
from spt.paths import local_path

DataFingerprint = Callable[[dict[str, Any]], str]  # of a task's config: a hash of its data as it is now


@dataclass
class LocalSources:
    """Folders to read data and encoders from instead of the hub.

    Attributes:
        folders: the folder of each task inside `data_dir`.
        fingerprint: computes the fingerprint of a task's data.
        data_dir: None if data comes from the hub, or with the repository.
        model_dir: holds encoders in folders named as in `conf/model`; None if they come from the hub.
        fingerprints: the fingerprints computed so far, by the task's config.
    """

    folders: DictConfig
    fingerprint: DataFingerprint
    data_dir: str | None = None
    model_dir: str | None = None
    fingerprints: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("data_dir", "model_dir"):
            folder = getattr(self, key)
            if folder is not None and not local_path(str(folder)).is_dir():
                raise SptError(f"{key}={folder} is no folder")

    def settings(self, cell: Cell) -> dict[str, str]:
        """The settings of `spt.train` that locate a cell's data and encoder."""
        settings = {}
        if self.data_dir is not None and cell.task in self.folders:
            settings["task.data_dir"] = str(local_path(self.data_dir) / self.folders[cell.task])
        if self.model_dir is not None:
            settings["model.name_or_path"] = str(local_path(self.model_dir) / cell.model)
        return settings

    def config(self, job: Job, composer: Composer) -> dict[str, Any]:
        """The resolved config of a job with these folders."""
        config = composer.config(job)
        for name, folder in self.settings(job.cell).items():
            group, _, key = name.partition(".")
            config[group] = config[group] | {key: folder}
        return config

    def fingerprint_of(self, job: Job, composer: Composer) -> str | None:
        """The fingerprint of the present data of a job's task; None if that is on the hub, or not on this machine."""
        task = self.config(job, composer)["task"]
        is_given = "task.data_dir" in self.settings(job.cell)
        if not is_given and task.get("data_dir") is None and task.get("train") is None:
            return None
        key = json.dumps(task, sort_keys=True)
        if key not in self.fingerprints:
            try:
                self.fingerprints[key] = self.fingerprint(task)
            except (SptError, HydraException):
                if is_given:
                    raise
                self.fingerprints[key] = None
        return self.fingerprints[key]
