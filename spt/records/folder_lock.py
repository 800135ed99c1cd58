"""A lock on a folder: one process at a time works on it, on any machine that sees it.

The lock is a file that names its owner. While the owner lives it holds `flock` on the file, which the operating system
ends with the process, and touches the file every few seconds. Other machines go by this heartbeat, and so do processes
on a file system without `flock`.
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
from typing import Any, Literal

from spt.errors import SptError
from spt.files import beside, parsed

log = logging.getLogger(__name__)

LOCK = "lock.json"
HEARTBEAT = 5.0  # seconds between two heartbeats
EXPIRY = 30.0  # seconds without a heartbeat after which an owner on another machine counts as dead
STARTED = time.strftime("%Y-%m-%d %H:%M:%S")
UNNAMED = dict.fromkeys(("process", "host", "since"), "unknown")


class Busy(SptError):
    """Another process works on the folder."""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock an existing folder for this process.

    Args:
        folder: the folder; whoever else works on it locks it, too.
        wait: wait for the process that has the lock instead of raising Busy.

    Raises:
        Busy: another process has the lock.
        OSError: the folder is not writable.
    """
    descriptor = _acquire(folder / LOCK, wait)
    stop = Event()
    heartbeat = Thread(target=_send_heartbeats, args=(descriptor, stop), daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        stop.set()
        heartbeat.join()
        (folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: forked workers share the open file
        os.close(descriptor)


def await_one(folders: Iterable[Path]) -> None:
    """Wait until no living process has the lock of at least one of the folders."""
    locks = [_ObservedLock(folder / LOCK) for folder in folders]
    while all(lock.owner_state() != "none" for lock in locks):
        time.sleep(0.5)


def _acquire(path: Path, wait: bool) -> int:
    """Create the lock file; returns its open descriptor, on which this process holds `flock`."""
    lock, warned = _ObservedLock(path), False
    while True:
        state = lock.owner_state()
        if state == "none":
            try:
                return _create(path)
            except (FileExistsError, FileNotFoundError):  # another process was faster, or cleaned the folder up
                if path.parent.is_dir():
                    continue
                raise
        if state == "alive" and not wait:
            raise Busy(f"another process is at work on {lock}: wait for it, or stop it")
        if state == "unknown" and not warned:
            log.warning("waiting up to %d s for a sign of life of the process at work on %s", EXPIRY, lock)
            warned = True
        time.sleep(0.1)


def _create(path: Path) -> int:
    """Link a locked file that names this process to `path`, so that it is never seen unlocked or empty.

    Raises:
        FileExistsError: there is a lock file.
    """
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": STARTED}
    with beside(path.parent) as folder:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            _acquire_flock(descriptor)
            os.write(descriptor, json.dumps(owner).encode() + b"\n")
            os.link(folder / LOCK, path)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _send_heartbeats(descriptor: int, stop: Event) -> None:
    while not stop.wait(HEARTBEAT):
        with suppress(OSError):  # a file system that is out of order for a moment; flock still holds
            os.utime(descriptor)


class _ObservedLock:
    """A lock file as this process has seen it. A heartbeat shows as a change of its modification time."""

    def __init__(self, path: Path):
        self.path = path
        self.owner: dict[str, Any] = {}
        self.heartbeat: tuple[int, int] | None = None
        self.unchanged_since = 0.0

    def owner_state(self) -> Literal["none", "alive", "unknown"]:
        """Whether a living process has the lock; the lock file of a dead one is removed.

        "unknown" is a process that this machine cannot see, until a heartbeat shows it alive or EXPIRY passes.
        """
        try:
            with self.path.open("rb") as file:
                status, previous = os.fstat(file.fileno()), self.heartbeat
                self.owner, self.heartbeat = _parse_owner(file.read()), (status.st_ino, status.st_mtime_ns)
                if self.heartbeat != previous:
                    self.unchanged_since = time.monotonic()
                is_local = self.owner.get("host") == socket.gethostname()
                if not (_acquire_flock(file.fileno()) and is_local):
                    if previous not in (None, self.heartbeat) or (is_local and _is_running(self.owner.get("process"))):
                        return "alive"
                    if time.monotonic() - self.unchanged_since <= EXPIRY:
                        return "unknown"
                if os.path.samestat(status, self.path.stat()):
                    self.path.unlink()
        except FileNotFoundError:
            pass
        return "none"

    def __str__(self) -> str:
        return "{} (process {process} on {host}, since {since})".format(self.path.parent, **UNNAMED | self.owner)


def _parse_owner(content: bytes) -> dict[str, Any]:
    try:
        owner = parsed(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _acquire_flock(descriptor: int) -> bool:
    """Get `flock` on an open file if no other process has it; closing the file ends it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without flock
        return False
    return True


def _is_running(process: Any) -> bool:
    """Whether a process with this id runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, TypeError, OverflowError):
        return False
    except OSError:  # another user's process
        return True
    return True
