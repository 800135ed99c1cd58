"""Progress of a grid: a bar for the whole grid, and one for each run that is training."""

import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from spt.console import percent
from spt.files import parsed
from spt.records.schema import CONFIG, FAILURE, HISTORY, RECORD

INTERVAL = 1.0  # seconds between two reads of the folders


@dataclass
class Watched:
    """A run that was given to a launcher.

    Attributes:
        name: the run's description.
        folder: the run's folder.
        metric: the name of the metric that selects epochs.
        epochs: the number of epochs that it trains.
        seconds: its estimated time; None if no run like it has finished.
    """

    name: str
    folder: Path
    metric: str
    epochs: float
    seconds: float | None

    def rows(self) -> list[dict[str, Any]]:
        """Its history so far, without a line that is still being written."""
        rows = []
        with suppress(OSError, ValueError):
            for line in (self.folder / HISTORY).read_text(encoding="utf-8").splitlines():
                rows.append(parsed(line))
        return rows

    def written(self, name: str, since: float) -> bool:
        """Whether one of its files was written after a time (seconds since the epoch)."""
        with suppress(OSError):
            return (self.folder / name).stat().st_mtime >= since
        return False


class Watch:
    """Shows the progress of runs by reading their folders, in whichever process a launcher runs them.

    It prints a line for each run that ends, and on a terminal shows progress bars below.

    Args:
        total: the number of runs in the grid.
    """

    def __init__(self, total: int):
        self.total = total
        self.runs: list[Watched] = []
        self.ended: dict[Path, str] = {}
        self.began = time.time() - 1  # some file systems store times in whole seconds
        self.console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.bar = self.progress.add_task("all runs", total=total, note="")
        self.lines: dict[Path, TaskID] = {}
        self.stop, self.thread = Event(), Thread(target=self._loop, daemon=True)

    def __enter__(self) -> "Watch":
        self.progress.start()
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join()
        self._update()
        self.progress.stop()

    def add(self, run: Watched) -> None:
        """Watch another run."""
        self.runs = [*(other for other in self.runs if other.folder != run.folder), run]
        self.total = max(self.total, len(self.runs))

    def _loop(self) -> None:
        while not self.stop.wait(INTERVAL):
            self._update()

    def _update(self) -> None:
        shares = 0.0  # seconds of work that is done in runs that have not ended
        typical = statistics.fmean([run.seconds for run in self.runs if run.seconds is not None] or [1.0])
        for run in self.runs:
            if run.folder in self.ended:
                continue
            if run.written(RECORD, self.began):
                self._end(run, "done")
            elif run.written(FAILURE, self.began):
                self._end(run, "failed")
            elif run.written(CONFIG, self.began):
                shares += self._show(run) * (run.seconds or typical)
        done = sum(run.seconds or typical for run in self.runs if run.folder in self.ended) + shares
        left = sum(run.seconds or typical for run in self.runs) + typical * (self.total - len(self.runs)) - done
        elapsed = time.time() - self.began
        failed = sum(state == "failed" for state in self.ended.values())
        note = f"{len(self.ended)}/{self.total}" + (f", {failed} failed" if failed else "")
        note += f", {duration(elapsed)} elapsed" + (f", about {duration(elapsed * left / done)} left" if done else "")
        self.progress.update(self.bar, completed=len(self.ended), note=note)

    def _show(self, run: Watched) -> float:
        """Show a run that is training, and return the share of its epochs that is done."""
        if run.folder not in self.lines:
            self.lines[run.folder] = self.progress.add_task(run.name, total=run.epochs, note="starts")
        rows = run.rows()
        if rows:
            dev = f"dev {run.metric} {percent(rows[-1].get(f'dev_{run.metric}'))}"
            note = f"epoch {rows[-1]['epoch']}/{run.epochs:g}, {dev}"
            self.progress.update(self.lines[run.folder], completed=rows[-1]["epoch"], note=note)
        return min(len(rows) / run.epochs, 1.0)

    def _end(self, run: Watched, state: str) -> None:
        self.ended[run.folder] = state
        if run.folder in self.lines:
            self.progress.remove_task(self.lines.pop(run.folder))
        words = [f"{len(self.ended)}/{self.total}", run.name]
        with suppress(OSError, ValueError):
            if state == "done":
                record = parsed((run.folder / RECORD).read_bytes())
                words.append(f"best dev {percent(record['metrics']['best_dev'])} ({record['wall_seconds']:.0f} s)")
                words += [record["status"]] if record["status"] != "finished" else []
            else:
                words.append(f"failed: {parsed((run.folder / FAILURE).read_bytes())['error']}")
        self.console.print(" ".join(words), markup=False)


def duration(seconds: float) -> str:
    """A time in words: 45 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
