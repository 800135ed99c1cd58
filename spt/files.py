"""Write files completely or not at all, parse JSON strictly, and name the file if that fails."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from spt.errors import RESUMES, SptError, cannot_write

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

PARTIAL = ".partial"  # suffix of unfinished files, and of temporary folders with some


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: if the text is not JSON, repeats a key, is nested too deeply, or has an unpaired surrogate.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it has half of a character, an unpaired surrogate") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {repeated!r} twice")
    return value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8; a reader sees the old file or the whole new one, also after a crash."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, content: str | bytes) -> None:
    """Write a file as `write_atomically`, unless it has this content already."""
    content = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` at the end of the block, once it is on the disk."""
    with temporary_folder(path.parent) as folder:
        partial = folder / path.name
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder in `folder` for unfinished files, removed at the end of the block."""
    with TemporaryDirectory(prefix=".", suffix=PARTIAL, dir=folder, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders and files that killed processes have left in `folder`."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(leftover, ignore_errors=True)
        with suppress(OSError):
            leftover.unlink()


def flush(path: Path) -> None:
    """Force a file, or a folder's entries, to the disk, where they survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def output_file(name: Any) -> Path:
    """The file that the setting `output` names, symbolic links followed.

    Raises:
        SptError: if it is not a file name, or names a folder or a device.
    """
    if not isinstance(name, str) or not name:
        raise SptError(f"output must be a file name, not {name!r}")
    path = Path(name).resolve()
    if path.is_dir():
        raise SptError(f"{name!r} is a folder: output must be a file name")
    if path.exists() and not path.is_file():
        raise SptError(f"{name!r} is not a regular file: leave output out, and redirect standard output with >")
    return path


@contextmanager
def written(path: Path, remedy: str = RESUMES) -> Iterator[None]:
    """Turn an error of writing in the block into the SptError that names the file and the remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error, remedy) from error
