"""Files that are there whole or not at all, on the disk when they are said to be, and a clear word where that fails."""

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from spt.errors import GOES_ON, SptError, cannot_write

HALVES = re.compile(r"\\u[dD][89a-fA-F]")

PARTIAL = ".partial"  # ends the name of a folder with files that are being written


def parsed(text: str | bytes) -> Any:
    """What JSON text says.

    Raises:
        ValueError: where it is none, has a key twice, or is nested more deeply than any that was written by us.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if HALVES.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it has half of a character, a surrogate without the other") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {twice!r} twice")
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none, whatever happens meanwhile."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that is to take the place of `path` once it is whole and on the disk."""
    with beside(path.parent) as folder:
        partial = folder / path.name
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what is not whole yet; it is gone afterwards, but where the process is killed."""
    made = Path(tempfile.mkdtemp(prefix=".", suffix=PARTIAL, dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def output_file(named: Any) -> Path:
    """The file that a command is told to write: where its name is a link, what that leads to.

    Raises:
        SptError: where it can be none, or there is something else.
    """
    if not isinstance(named, str) or not named:
        raise SptError(f"output names a file, not {named!r}")
    path = Path(named).resolve()
    if path.is_dir():
        raise SptError(f"{named!r} is a folder: output names a file")
    if path.exists() and not path.is_file():
        raise SptError(f"{named!r} is no ordinary file: leave output out, and lead standard output there with >")
    return path


def remove_leftovers(folder: Path) -> None:
    """Take away what killed processes were writing in a folder."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(leftover, ignore_errors=True)


def flush(path: Path) -> None:
    """See that a file, or the names in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written(path: Path, remedy: str = GOES_ON) -> Iterator[None]:
    """Name the file, and the remedy, where one cannot be written: by default one of a run's.

    Raises:
        SptError: in the place of the error.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error, remedy) from error
