"""A folder is one process's at a time, whatever machine that is on, and no longer than it lives.

The lock is a file that says whose it is. Its owner holds the operating system's lock on it, which ends with the owner,
and writes a new beat into it every few seconds: that tells whether an owner lives where the system's lock does not,
between machines on some file systems.
"""

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from spt.errors import SptError
from spt.files import beside, parsed

log = logging.getLogger(__name__)

LOCK = "lock.json"

BEAT = 5.0  # seconds between beats

PATIENCE = 30.0  # seconds without a beat, and the owner is taken for dead

SINCE = time.strftime("%Y-%m-%d %H:%M:%S")


class Busy(SptError):
    """Another process is at work on the folder."""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Have a folder, which is there, for this process alone.

    Args:
        folder: whose other users lock it, too.
        wait: for a process that has it, instead of raising.

    Raises:
        Busy: where another process has it.
        OSError: where no file can be written in it.
    """
    descriptor = _acquire(folder, wait)
    over = Event()
    heart = Thread(target=_beat_until, args=(descriptor, over), daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        (folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # worker processes may have it open still
        os.close(descriptor)


def await_one(folders: Iterable[Path]) -> None:
    """Wait until one of the folders is no living process's any more."""
    seen: dict[Path, tuple[bytes, float]] = {}
    while True:
        for folder in folders:
            try:
                with (folder / LOCK).open("rb") as file:
                    said = file.read()
                    if _lets_go(file.fileno(), said):
                        return
            except FileNotFoundError:
                return
            before, since = seen.get(folder, (None, 0.0))
            if said != before:
                seen[folder] = said, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                return
        time.sleep(0.5)


def _acquire(folder: Path, wait: bool) -> int:
    path = folder / LOCK
    while True:
        try:
            _remove_dead(path)
            with beside(folder) as partial:
                descriptor = os.open(partial / LOCK, os.O_RDWR | os.O_CREAT)
                try:
                    with suppress(OSError):  # a file system without such locks: the beats have to do
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _beat(descriptor, 0)
                    os.link(partial / LOCK, path)  # the one that succeeds of several
                    return descriptor
                except BaseException:
                    os.close(descriptor)
                    raise
        except Busy:
            if not wait:
                raise
            time.sleep(0.1)
        except (FileExistsError, FileNotFoundError):  # another one was faster, and may have tidied up
            if not folder.is_dir():
                raise


def _remove_dead(path: Path) -> None:
    """Take away the lock of an owner that is dead.

    Raises:
        Busy: where it lives.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        said = file.read()
        patient = 0.0
        while not _lets_go(file.fileno(), said):
            file.seek(0)
            if file.read() != said or _is_alive(_owner(said)):
                raise Busy(f"another process is at work on {path.parent}{_who(said)}: wait for it, or stop it")
            if not patient:
                patient = time.monotonic() + PATIENCE
                log.warning("%s is of a process not to be seen from here: %d s for a sign of life", path, PATIENCE)
            if time.monotonic() > patient:
                break
            time.sleep(0.1)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            path.unlink()


def _lets_go(descriptor: int, said: bytes) -> bool:
    """Whether the owner, on this machine, has let go of the system's lock on its file. This process then has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _owner(said).get("host") == socket.gethostname()


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner is a living process of this machine."""
    process = owner.get("process")
    if owner.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _owner(said: bytes) -> dict[str, Any]:
    try:
        owner = parsed(said)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _who(said: bytes) -> str:
    owner = _owner(said)
    return f" (process {owner.get('process')} on {owner.get('host')}, since {owner.get('since')})" if owner else ""


def _beat_until(descriptor: int, over: Event) -> None:
    number = 0
    while not over.wait(BEAT):
        number += 1
        with suppress(OSError):  # a full disk: the system's lock holds
            _beat(descriptor, number)


def _beat(descriptor: int, number: int) -> None:
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": SINCE, "beat": f"{number:08d}"}
    os.pwrite(descriptor, json.dumps(owner).encode() + b"\n", 0)
