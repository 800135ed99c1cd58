"""Local copies of benchmarks and encoders. No result depends on where they are stored."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from spt.errors import SptError
from spt.grid.cells import Cell, Job
from spt.grid.compose_configs import Composer

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
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("data_dir", "model_dir"):
            folder = getattr(self, key)
            if folder is not None and not Path(str(folder)).is_dir():
                raise SptError(f"{key}={folder} is no folder")

    def settings(self, cell: Cell) -> dict[str, str]:
        """The settings of `spt.train` that locate a cell's data and encoder."""
        settings = {}
        if self.data_dir is not None and cell.task in self.folders:
            settings["task.data_dir"] = str(Path(self.data_dir) / self.folders[cell.task])
        if self.model_dir is not None:
            settings["model.name_or_path"] = str(Path(self.model_dir) / cell.model)
        return settings

    def config(self, job: Job, composer: Composer) -> dict[str, Any]:
        """The resolved config of a job with these folders."""
        config = composer.config(job)
        for name, folder in self.settings(job.cell).items():
            group, _, key = name.partition(".")
            config[group] = config[group] | {key: folder}
        return config

    def data_fingerprint(self, cell: Cell, composer: Composer) -> str | None:
        """The fingerprint of the present data of a cell's task; None if that is on the hub."""
        task = self.config(Job(cell, cell.seeds[0], None), composer)["task"]
        if "task.data_dir" not in self.settings(cell) and not str(task.get("data_dir")).startswith("pkg://"):
            return None
        key = json.dumps(task, sort_keys=True)
        if key not in self.fingerprints:
            self.fingerprints[key] = self.fingerprint(task)
        return self.fingerprints[key]
