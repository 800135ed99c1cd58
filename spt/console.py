"""What a run shows: messages and progress bars in the terminal, messages with their time in the run's log file."""

import io
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, TypeVar

from rich.console import Console
from rich.control import Control
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import ControlType

from spt import distributed
from spt.errors import SptError, cannot_write

log = logging.getLogger("spt")

Item = TypeVar("Item")

# A notebook's output says that it is a terminal, and shows bars as hundreds of lines.
terminal = False if "ipykernel" in sys.modules else None

console = Console(highlight=False, force_jupyter=False, force_terminal=terminal)

errors = Console(stderr=True, highlight=False, force_jupyter=False, force_terminal=terminal)

for each in (console, errors):  # a terminal's lines are broken between words, those of a file or pipe are not broken
    each.soft_wrap = not each.is_terminal


label = ""  # begins each line of a process that shares the terminal


def share_terminal(number: int) -> None:
    """Show no bars, and the job's number in front of each line: other jobs print to the same terminal."""
    global label
    label = f"[{number}] "


class Messages(io.TextIOBase):
    """Standard output or error for messages, which never end a run.

    Characters that the stream's encoding lacks are escaped. Once the stream cannot be written, because it is closed or
    its reader or the disk is gone, messages are dropped.

    Attributes:
        stream: the stream; None where the process has none.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._try("write", text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def _try(self, method: str, *arguments: str) -> None:
        if self.stream is not None:
            try:
                getattr(self.stream, method)(*arguments)
            except (OSError, ValueError):  # ValueError: the stream is closed
                self.stream = None


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Write what is printed in the block as `Messages`."""
    if isinstance(sys.stdout, Messages):
        yield
        return
    try:
        with redirect_stdout(Messages(sys.stdout)), redirect_stderr(Messages(sys.stderr)):
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:  # the interpreter would report it at its end, when it flushes again
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_data(text: str) -> None:
    """Write data, which is no message, to standard output: in UTF-8 whatever its encoding.

    Raises:
        SptError: if standard output is closed.
        OSError: if it cannot be written; BrokenPipeError if its reader is gone.
    """
    refuse_closed_output()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def refuse_closed_output() -> None:
    """Raise an SptError if the process has no standard output."""
    if sys.__stdout__ is None:
        raise SptError("standard output is closed: name a file, output=<file>")


@contextmanager
def logged(path: Path | None = None, terminal: Console = console) -> Iterator[None]:
    """Show what `spt` logs in the main process in the terminal, and write it to the file `path`.

    An exception in the block is written to the file, too.
    """
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if distributed.is_main():
        handlers = [_TerminalHandler(terminal)]
        if path is not None:
            handlers.append(_LogFileHandler(path, encoding="utf-8"))
            handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    except Exception as error:
        if isinstance(handlers[-1], _LogFileHandler):
            record = logging.makeLogRecord({"levelname": "ERROR", "msg": f"{type(error).__name__}: {error}"})
            with suppress(SptError):  # if the log cannot be written, `error` is the more useful of the two
                handlers[-1].handle(record)
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            with suppress(OSError):  # an unwritable log was reported when it was written
                handler.close()
        log.setLevel(before[0])
        log.propagate = before[1]


class _LogFileHandler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise cannot_write(self.baseFilename, error) from error
        super().handleError(record)


class _TerminalHandler(logging.Handler):
    """Prints above a progress bar. Broken lines go on below the text of the first."""

    def __init__(self, terminal: Console):
        super().__init__()
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno > logging.INFO
        text = f"{record.levelname.lower()}: {record.getMessage()}" if warning else record.getMessage()
        lines = [label + line for line in text.split("\n")]
        if self.terminal.is_terminal:
            indent = " " * (len(label) + getattr(record, "indent", 0))
            fit = TextWrapper(
                self.terminal.width,
                subsequent_indent=indent,
                replace_whitespace=False,
                break_long_words=False,
                break_on_hyphens=False,
            )
            lines = [part for line in lines for part in fit.wrap(line) or [line]]
        with self.terminal:
            if label:  # the bar of the sweep may be in this line
                self.terminal.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self.terminal.print(
                "\n".join(lines), style="bold yellow" if warning else None, markup=False, soft_wrap=True
            )


class Bar:
    """The progress bar of a training, with loss, dev score and remaining time. An epoch is also logged as a line.

    Args:
        metric: the name of the dev score.
        steps: optimiser steps of the whole training, those before a resume included.
    """

    def __init__(self, metric: str, steps: int):
        self.metric, self.steps = metric, steps
        self.loss = self.dev = ""
        self.first_step: int | None = None
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        shown = console.is_terminal and distributed.is_main() and not label
        self.progress = Progress(*columns, console=console, disable=not shown, transient=True)
        self.task = self.progress.add_task("", total=steps)

    def __enter__(self) -> "Bar":
        self.start = time.monotonic()
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def step(self, step: int, loss: float) -> None:
        """Show the loss of a step, counted from 1, and the time that is left at the mean speed so far."""
        self.first_step = self.first_step or step
        seconds_per_step = (time.monotonic() - self.start) / (step - self.first_step + 1)
        self.loss = f"loss {loss:.4f}, {duration(seconds_per_step * (self.steps - step))} left"
        self.progress.update(self.task, completed=step, description=f"{self.loss} {self.dev}")

    def epoch(self, row: dict[str, Any], best: bool) -> None:
        """Show the dev score of an epoch, a row of the run's history, and log the row; `best` marks it with a star."""
        self.dev = f"dev {self.metric} {percent(row[f'dev_{self.metric}'])}"
        self.progress.update(self.task, completed=row["step"], description=f"{self.loss} {self.dev}")
        star = " *" if best else ""
        log.info(
            f"epoch {row['epoch']}: loss {row['train_loss']:.4f}, dev loss {row['dev_loss']:.4f}, {self.dev}{star} "
            f"({row['seconds']:.1f} s)"
        )


def counted(items: Iterable[Item], shown: bool = True) -> Iterator[Item]:
    """`items`, with their count in the terminal of standard error, if it is one and `shown` is true."""
    columns = (SpinnerColumn("line"), TextColumn("{task.completed:.0f} predicted"), TimeElapsedColumn())
    disable = not shown or not errors.is_terminal
    with Progress(*columns, console=errors, disable=disable, transient=True) as progress:
        yield from progress.track(items, total=None)


@contextmanager
def advancing(
    total: int, what: str, shown: bool = True, done: int = 0, terminal: Console = errors
) -> Iterator[Callable[[], None]]:
    """A function to call after each of `total` steps, of which `done` are done; a bar in the terminal counts them."""
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    disable = not shown or not terminal.is_terminal or not distributed.is_main()
    with Progress(
        *columns, console=terminal, disable=disable, transient=True, speed_estimate_period=math.inf
    ) as progress:
        bar = progress.add_task(what, total=total, completed=done)
        yield lambda: progress.advance(bar)


def percent(score: float | None) -> str:
    """A score from 0 to 1 in percent with two decimals; "-" for None."""
    return "-" if score is None else f"{100 * score:.2f}"


def duration(seconds: float) -> str:
    """A rounded time: 45 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_start(facts: dict[str, str]) -> None:
    """Log the settings of a run, one per line."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        log.info("%s%s", name.ljust(width), value, extra={"indent": width})


def show_best(score: float, settings: dict[str, Any], path: Path) -> None:
    """Log the best trial of a search, and the file with its settings."""
    values = " ".join(f"{name}={value}" for name, value in settings.items())
    log.info("best dev of the search %s: %s (%s)", percent(score), values, path)


def show_evaluation(
    task: str, split: str, examples: int, scores: dict[str, float], recorded: dict[str, float] | None
) -> None:
    """Log the scores of a split, and compare them to the recorded ones if those are of the same examples."""
    log.info("%s %s (%d examples): %s", task, split, examples, _listed(scores))
    if recorded is None:
        log.info("no score of these examples is recorded with the adapter")
    elif recorded == scores:
        log.info("the recorded scores exactly")
    else:
        log.warning("recorded: %s", _listed(recorded))


def show_result(record: dict[str, Any], published: list[dict[str, str]], note: str | None = None) -> None:
    """Log the result of a run in one line, with the published scores of its cell, and the run's warnings."""
    if note:
        log.info("%s", note)
    metrics = record["metrics"]
    parts = ["no epoch finished"]
    if (epoch := record["best_epoch"]) is not None:
        parts = [f"best dev {percent(metrics['best_dev'])} (epoch {epoch})", f"last dev {percent(metrics['last_dev'])}"]
    others = {name: score for name, score in metrics.items() if name not in ("best_dev", "last_dev")}
    parts += [f"{name} {percent(score)} (at the best dev epoch)" for name, score in others.items() if score is not None]
    parts.append(f"{record['wall_seconds']:.0f} s")
    rows = [f"{row['split']} {row['value']} ({row['selection']})" for row in published]
    references = f"{', '.join(rows)}, {published[0]['source']}" if rows else "none for this cell"
    cell = f"{record['task']} {record['model']} {record['method']} {record['metric']}"
    log.info("%s", f"{cell}: {', '.join(parts)} | published: {references}")
    for warning in record["warnings"]:
        log.warning("%s", warning)


def _listed(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {percent(score)}" for name, score in scores.items())
