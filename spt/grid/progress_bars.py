"""The progress of a grid's runs: one bar for all of them, and one for each run that is training."""

import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from spt.console import duration, percent
from spt.files import parsed
from spt.records.schema import CONFIG, FAILURE, HISTORY, RECORD

EVERY = 1.0  # seconds between two looks at the runs' folders


@dataclass
class Watched:
    """A run that a launcher was given.

    Attributes:
        epochs: how many epochs it trains, perhaps not a whole number.
        seconds: the estimated time it takes; None if no similar run has finished.
    """

    name: str
    folder: Path
    epochs: float
    seconds: float | None

    def wrote(self, name: str, since: float) -> bool:
        """Whether it wrote this file of its folder after the time `since`, in seconds since 1970."""
        with suppress(OSError):
            return (self.folder / name).stat().st_mtime >= since
        return False


class Watch:
    """Shows the progress of runs, which it reads from their folders: a launcher may run them on other machines.

    If the output is not a terminal, it prints a line per finished run instead of bars.

    Args:
        total: the number of runs of the grid that are missing.
    """

    def __init__(self, total: int):
        self.total = total
        self.runs: dict[Path, Watched] = {}
        self.states: dict[Path, str] = {}  # of runs that have ended: done or failed
        self.start = time.time() - 1  # file systems may round a file's time down to the second
        # Not the console of spt.console: runs in this process redirect sys.stdout while the bars are shown.
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
        self.all_runs = self.progress.add_task("all runs", total=total, note="")
        self.bars: dict[Path, TaskID] = {}  # of runs that are training
        self.stop, self.thread = Event(), Thread(target=self._loop, daemon=True)

    def __enter__(self) -> "Watch":
        self.progress.start()
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join()
        self._look()
        self.progress.stop()

    def add(self, run: Watched) -> None:
        """Watch one more run."""
        self.runs = self.runs | {run.folder: run}  # a new dict: the thread may be iterating over the old one
        self.total = max(self.total, len(self.runs))

    def _loop(self) -> None:
        while not self.stop.wait(EVERY):
            self._look()

    def _look(self) -> None:
        runs = self.runs
        mean = statistics.fmean([run.seconds for run in runs.values() if run.seconds is not None] or [1.0])
        done = 0.0  # estimated seconds of work
        for folder, run in runs.items():
            if folder not in self.states:
                if run.wrote(RECORD, self.start):
                    self._end(run, "done")
                elif run.wrote(FAILURE, self.start):
                    self._end(run, "failed")
                elif run.wrote(CONFIG, self.start):
                    done += self._show(run) * (run.seconds or mean)
            if folder in self.states:
                done += run.seconds or mean
        left = sum(run.seconds or mean for run in runs.values()) + mean * (self.total - len(runs)) - done
        elapsed = time.time() - self.start
        failed = sum(state == "failed" for state in self.states.values())
        note = f"{len(self.states)}/{self.total}" + (f", {failed} failed" if failed else "")
        note += f", {duration(elapsed)} elapsed" + (f", about {duration(elapsed * left / done)} left" if done else "")
        self.progress.update(self.all_runs, completed=len(self.states), note=note)

    def _show(self, run: Watched) -> float:
        """Show the bar of a run that is training; returns the share of its epochs that have finished."""
        if run.folder not in self.bars:
            self.bars[run.folder] = self.progress.add_task(run.name, total=run.epochs, note="starting")
        epoch = 0
        with suppress(OSError, ValueError, IndexError):  # no epoch has finished, or its row is being written
            row = parsed((run.folder / HISTORY).read_text(encoding="utf-8").splitlines()[-1])
            epoch = row["epoch"]  # 0 is the initialisation, without scores
            metrics = [name for name in row if name.startswith("dev_") and name != "dev_loss"]
            metric = metrics[0]  # the one that selects
            note = f"epoch {epoch}/{run.epochs:g}, {metric.replace('_', ' ', 1)} {percent(row[metric])}"
            self.progress.update(self.bars[run.folder], completed=epoch, note=note)
        return min(epoch / run.epochs, 1.0)

    def _end(self, run: Watched, state: str) -> None:
        """Replace the bar of a run by a line with its result."""
        self.states[run.folder] = state
        if run.folder in self.bars:
            self.progress.remove_task(self.bars.pop(run.folder))
        result = state
        with suppress(OSError, ValueError):
            if state == "done":
                record = parsed((run.folder / RECORD).read_bytes())
                result = f"best dev {percent(record['metrics']['best_dev'])} ({record['wall_seconds']:.0f} s)"
                result += f" {record['status']}" if record["status"] != "finished" else ""
            else:
                result = f"failed: {parsed((run.folder / FAILURE).read_bytes())['error']}"
        self.console.print(f"{len(self.states)}/{self.total} {run.name} {result}", markup=False)
