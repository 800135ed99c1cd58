"""What an experiment tracker is told of a run; by default nothing leaves the machine."""

from pathlib import Path
from typing import Any


class Tracker:
    """A tracker that does nothing. Others override its methods; an exception ends the run."""

    def start(self, config: dict[str, Any], folder: Path, group: str | None, resumes: bool) -> None:
        """Before training: the resolved config, the run folder, its sweep, and whether the run resumes."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After an epoch: its row of the history. A run that resumes begins with the epochs before."""

    def finish(self, record: dict[str, Any], adapter: Path) -> None:
        """After training: the record, and the folder of the adapter, where one was written."""

    def fail(self) -> None:
        """Instead of `finish`, where the run ends in an error."""

    def insight(self, folder: Path, insight: Path) -> None:
        """After `spt.inspect`, in a process of its own: the run folder, and the folder with what was found."""
