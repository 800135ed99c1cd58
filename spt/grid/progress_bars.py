"""The progress of a grid's runs: a bar that counts them, and a line for each that ends."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from rich.console import Console

from spt.console import advancing, percent
from spt.files import parsed
from spt.records.schema import FAILURE, RECORD

EVERY = 1.0  # seconds between two looks at the runs' folders


@contextmanager
def watching(total: int) -> Iterator[dict[Path, str]]:
    """A dictionary for the names of runs by folder: each that ends in the block gets a line, and a bar counts them.

    The runs are read from their folders: a launcher may run them on other machines.

    Args:
        total: the number of runs of the grid that are missing.
    """
    # Not the console of spt.console: runs in this process redirect sys.stdout while the bar is shown.
    terminal = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    runs, ended, stop = dict[Path, str](), set[Path](), Event()
    start = time.time() - 1  # file systems may round a file's time down to the second

    def look() -> None:
        for folder, name in list(runs.items()):
            if folder not in ended and (result := _result(folder, start)) is not None:
                ended.add(folder)
                advance()
                terminal.print(f"{len(ended)}/{max(total, len(runs))} {name} {result}", markup=False)

    def loop() -> None:
        while not stop.wait(EVERY):
            look()

    with advancing(total, "runs", terminal=terminal) as advance:
        thread = Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield runs
        finally:
            stop.set()
            thread.join()
            look()


def _result(folder: Path, since: float) -> str | None:
    """How a run ended since a time, in seconds since 1970; None if it has not."""
    for name in (RECORD, FAILURE):
        with suppress(OSError, ValueError):
            if (folder / name).stat().st_mtime >= since:
                end = parsed((folder / name).read_bytes())
                if name == FAILURE:
                    return f"failed: {end['error']}"
                status = f" {end['status']}" if end["status"] != "finished" else ""
                return f"best dev {percent(end['metrics']['best_dev'])} ({end['wall_seconds']:.0f} s){status}"
    return None
