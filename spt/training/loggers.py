"""What an experiment tracker is told of a run; by default nothing leaves the machine."""

from pathlib import Path
from typing import Any


class RunFolderOnly:
    """No tracker: the run folder holds everything. Trackers override these methods, and never end a run."""

    def start(self, config: dict[str, Any], folder: Path, group: str | None) -> None:
        """Before training: the resolved config, the run folder, and the sweep that the run belongs to."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch: its row of the history."""

    def finish(self, record: dict[str, Any], adapter: Path) -> None:
        """After training: the record, and the folder of the adapter, where one was written."""

    def fail(self) -> None:
        """Instead of `finish`, where the run ends in an error."""
