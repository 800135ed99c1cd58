"""What a run says: to the terminal, and with times to its log file."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from spt import distributed as processes
from spt.errors import SptError, cannot_write

log = logging.getLogger("spt")

Item = TypeVar("Item")

console = Console(quiet=not processes.is_main())

errors = Console(stderr=True)


@contextmanager
def logged(path: Path | None = None, terminal: Console = console) -> Iterator[None]:
    """Send what `spt` logs in the main process to the terminal, and to a file where one is named."""
    handlers: list[logging.Handler] = []
    path = path if processes.is_main() else None
    if path is not None:
        handlers.append(_File(path, encoding="utf-8"))
        handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers.append(_Terminal(terminal))
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    except Exception as error:
        if path is not None:
            failed = logging.makeLogRecord({"levelname": "ERROR", "msg": f"{type(error).__name__}: {error}"})
            with suppress(SptError):  # the log itself cannot be written, and `error` is of more use
                handlers[0].handle(failed)
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            with suppress(OSError):  # what cannot be written was said before
                handler.close()
        log.propagate = True


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise cannot_write(self.baseFilename, error) from error
        super().handleError(record)


class _Terminal(logging.Handler):
    """Prints above a running progress bar."""

    def __init__(self, terminal: Console):
        super().__init__()
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        loud = record.levelno > logging.INFO
        text = f"{record.levelname.lower()}: {record.getMessage()}" if loud else record.getMessage()
        self.terminal.print(text, style="bold yellow" if loud else None, soft_wrap=True, markup=False, highlight=False)


class Bar:
    """A progress bar with loss and dev score; where the output is no terminal, a line an epoch instead."""

    def __init__(self, metric: str, steps: int):
        self.metric = metric
        self.loss = self.dev = ""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.progress.add_task("", total=steps)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def step(self, step: int, loss: float) -> None:
        """Show a step's loss."""
        self.loss = f"loss {loss:.4f}"
        self.progress.update(self.task, completed=step, description=f"{self.loss} {self.dev}")

    def epoch(self, row: dict[str, Any], best: bool) -> None:
        """Show an epoch's dev score."""
        self.dev = f"dev {self.metric} {percent(row[f'dev_{self.metric}'])}"
        self.progress.update(self.task, completed=row["step"], description=f"{self.loss} {self.dev}")
        log.info(
            "epoch %d: loss %.4f, dev loss %.4f, %s%s (%.1f s)",
            row["epoch"],
            row["train_loss"],
            row["dev_loss"],
            self.dev,
            " *" if best else "",
            row["seconds"],
        )


def percent(score: float | None) -> str:
    """A score as the field's tables print it."""
    return "-" if score is None else f"{100 * score:.2f}"


def show_start(facts: dict[str, str]) -> None:
    """What the run is, a fact a line."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        log.info("%s%s", name.ljust(width), value)


def show_best(score: float, chosen: dict[str, Any], path: Path) -> None:
    """What a search found, and where it says so."""
    settings = " ".join(f"{name}={value}" for name, value in chosen.items())
    log.info("best dev of the search %s: %s (%s)", percent(score), settings, path)


def show_evaluation(
    task: str, split: str, examples: int, scores: dict[str, float], recorded: dict[str, float] | None
) -> None:
    """A split's scores, and whether they are the recorded ones where they are of the same data."""
    log.info(
        "%s %s (%d examples): %s", task, split, examples, ", ".join(f"{n} {percent(s)}" for n, s in scores.items())
    )
    if recorded is None:
        log.info("no score of these examples is recorded with the adapter")
    elif recorded == scores:
        log.info("the recorded scores exactly")
    else:
        log.warning("recorded: %s", ", ".join(f"{name} {percent(score)}" for name, score in recorded.items()))


def counted(items: Iterable[Item], shown: bool = True) -> Iterator[Item]:
    """`items` with a progress bar on standard error, where that is a terminal and the bar is to be `shown`."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} predicted"), TimeElapsedColumn())
    disable = not shown or not errors.is_terminal
    with Progress(*columns, console=errors, disable=disable, transient=True) as progress:
        yield from progress.track(items, total=None)


def show_result(record: dict[str, Any], published: list[dict[str, str]], note: str | None = None) -> None:
    """A finished run in one line, with the published numbers for its cell."""
    if note:
        log.info("%s", note)
    metrics = record["metrics"]
    parts = ["no epoch finished"]
    if record["best_epoch"] is not None:
        parts = [
            f"best dev {percent(metrics['best_dev'])} (epoch {record['best_epoch']})",
            f"last dev {percent(metrics['last_dev'])}",
        ]
    parts += [
        f"{name} {percent(score)} (at the best dev epoch)"
        for name, score in metrics.items()
        if name not in ("best_dev", "last_dev") and score is not None
    ]
    parts.append(f"{record['wall_seconds']:.0f} s")
    line = f"{record['task']} {record['model']} {record['method']} {record['metric']}: {', '.join(parts)}"
    rows = [f"{row['split']} {row['value']} ({row['selection']})" for row in published]
    if rows:
        line += f" | published: {', '.join(rows)}, {published[0]['source']}"
    else:
        line += " | published: none for this cell"
    log.info("%s", line)
    for warning in record["warnings"]:
        log.warning("%s", warning)
