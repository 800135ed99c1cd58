"""The runs of a grid while they go: one bar for all of them, a line for each that is running."""

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

EVERY = 1.0  # seconds between looks at the folders


@dataclass
class Watched:
    """A run that was handed to a launcher.

    Attributes:
        seconds: what it is likely to take; None where nothing like it was measured.
    """

    name: str
    folder: Path
    metric: str
    epochs: float
    seconds: float | None

    def rows(self) -> list[dict[str, Any]]:
        """Its history so far, without a line that is just being written."""
        rows = []
        with suppress(OSError, ValueError):
            for line in (self.folder / HISTORY).read_text(encoding="utf-8").splitlines():
                rows.append(parsed(line))
        return rows

    def written(self, name: str, since: float) -> bool:
        """Whether one of its files was written since then."""
        with suppress(OSError):
            return (self.folder / name).stat().st_mtime >= since
        return False


class Watch:
    """Looks at the folders of runs, wherever a launcher runs them, and shows how far they are.

    Where the output is no terminal, it prints a line for each run that ends, as it does above the bars of a terminal.

    Args:
        total: how many runs there will be in all.
    """

    def __init__(self, total: int):
        self.total = total
        self.runs: list[Watched] = []
        self.over: dict[Path, str] = {}
        self.began = time.time() - 1  # file systems keep no finer times
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
        self._look()
        self.progress.stop()

    def add(self, run: Watched) -> None:
        """Watch this one, too."""
        self.runs = [*(other for other in self.runs if other.folder != run.folder), run]
        self.total = max(self.total, len(self.runs))

    def _loop(self) -> None:
        while not self.stop.wait(EVERY):
            self._look()

    def _look(self) -> None:
        shares = 0.0  # of the runs that are running
        typical = statistics.fmean([run.seconds for run in self.runs if run.seconds is not None] or [1.0])
        for run in self.runs:
            if run.folder in self.over:
                continue
            if run.written(RECORD, self.began):
                self._end(run, "done")
            elif run.written(FAILURE, self.began):
                self._end(run, "failed")
            elif run.written(CONFIG, self.began):
                shares += self._show(run) * (run.seconds or typical)
        done = sum(run.seconds or typical for run in self.runs if run.folder in self.over) + shares
        left = sum(run.seconds or typical for run in self.runs) + typical * (self.total - len(self.runs)) - done
        gone = time.time() - self.began
        failed = sum(state == "failed" for state in self.over.values())
        note = f"{len(self.over)}/{self.total}" + (f", {failed} failed" if failed else "")
        note += f", {duration(gone)} gone" + (f", about {duration(gone * left / done)} left" if done else "")
        self.progress.update(self.bar, completed=len(self.over), note=note)

    def _show(self, run: Watched) -> float:
        """Show a running run, and say which share of it is done."""
        if run.folder not in self.lines:
            self.lines[run.folder] = self.progress.add_task(run.name, total=run.epochs, note="starts")
        rows = run.rows()
        if rows:
            dev = f"dev {run.metric} {percent(rows[-1].get(f'dev_{run.metric}'))}"
            note = f"epoch {rows[-1]['epoch']}/{run.epochs:g}, {dev}"
            self.progress.update(self.lines[run.folder], completed=rows[-1]["epoch"], note=note)
        return min(len(rows) / run.epochs, 1.0)

    def _end(self, run: Watched, state: str) -> None:
        self.over[run.folder] = state
        if run.folder in self.lines:
            self.progress.remove_task(self.lines.pop(run.folder))
        words = [f"{len(self.over)}/{self.total}", run.name]
        with suppress(OSError, ValueError):
            if state == "done":
                record = parsed((run.folder / RECORD).read_bytes())
                words.append(f"best dev {percent(record['metrics']['best_dev'])} ({record['wall_seconds']:.0f} s)")
                words += [record["status"]] if record["status"] != "finished" else []
            else:
                words.append(f"failed: {parsed((run.folder / FAILURE).read_bytes())['error']}")
        self.console.print(" ".join(words), markup=False)


def duration(seconds: float) -> str:
    """A time for people: 45 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
