"""What tasks, models, rows and swept settings are called in figures and LaTeX: `conf/display.yaml`."""

from typing import Any

from omegaconf import DictConfig, OmegaConf


class Names:
    """Display names; what has none is called by its own name."""

    def __init__(self, config: DictConfig) -> None:
        """Of a config of `spt.report`."""
        self._names: Any = OmegaConf.to_container(config.display)

    def task(self, name: str) -> str:
        return self._of("task", name)

    def model(self, name: str) -> str:
        """A model, with what a reader must know of the demo's."""
        return self._of("model", name) + (" (a demo, not a result)" if name == "demo" else "")

    def row(self, name: str) -> str:
        return self._of("row", name)

    def setting(self, key: str) -> str:
        """A swept setting; without a display name the last part of its key."""
        return self._of("setting", key, key.rpartition(".")[2])

    def _of(self, group: str, name: str, otherwise: str | None = None) -> str:
        return str(self._names[group].get(name, otherwise or name))
