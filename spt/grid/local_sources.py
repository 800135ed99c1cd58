"""Where benchmarks and encoders lie on this machine: what a grid does not say, and no result depends on."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from spt.errors import SptError
from spt.grid.cells import Cell, Composer, Job


@dataclass
class Places:
    """Local folders in the place of the hub.

    Attributes:
        folders: of each task, in `data_dir`.
        data_dir: None where data comes from the hub, or with the repository.
        model_dir: has encoders in folders of their names in `conf/model`; None where they come from the hub.
        fingerprints: of the data that was read, by its task's config.
    """

    folders: DictConfig
    data_dir: str | None = None
    model_dir: str | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("data_dir", "model_dir"):
            place = getattr(self, key)
            if place is not None and not Path(str(place)).is_dir():
                raise SptError(f"{key}={place} is no folder")

    def of(self, cell: Cell) -> dict[str, str]:
        """The settings of `spt.train` that say where a cell's data and encoder are."""
        places = {}
        if self.data_dir is not None and cell.task in self.folders:
            places["task.data_dir"] = str(Path(self.data_dir) / self.folders[cell.task])
        if self.model_dir is not None:
            places["model.name_or_path"] = str(Path(self.model_dir) / cell.model)
        return places

    def config(self, job: Job, composer: Composer) -> dict[str, Any]:
        """The resolved config of a job here."""
        config = composer.config(job)
        for name, place in self.of(job.cell).items():
            group, _, key = name.partition(".")
            config[group] = config[group] | {key: place}
        return config

    def data_of(self, cell: Cell, composer: Composer) -> str | None:
        """The fingerprint of the data of a cell's task as it is now; None where that is on the hub."""
        from hydra.utils import instantiate

        from spt.tasks.base import data_fingerprint

        task = self.config(Job(cell, cell.seeds[0], None), composer)["task"]
        if "task.data_dir" not in self.of(cell) and not str(task["data_dir"]).startswith("pkg://"):
            return None
        key = json.dumps(task, sort_keys=True)
        if key not in self.fingerprints:
            self.fingerprints[key] = data_fingerprint(instantiate(task, _convert_="all").load())
        return self.fingerprints[key]
