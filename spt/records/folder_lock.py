"""A lock on a folder: one process at a time works on it, on any machine that sees it.

The lock is a file that names its owner. While the owner lives it holds `flock` on the file, which the operating system
ends with the process, and touches the file every few seconds. Other machines go by this heartbeat, and so do processes
on a file system without `flock`.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO
from uuid import uuid4

from spt.errors import SptError
from spt.files import PARTIAL, parsed, temporary_folder

log = logging.getLogger(__name__)

LOCK = "lock.json"
HEARTBEAT = 5.0  # seconds between two heartbeats
EXPIRY = 30.0  # seconds without a heartbeat after which an owner on another machine counts as dead
STARTED = time.strftime("%Y-%m-%d %H:%M:%S")


class Busy(SptError):
    """Another process works on the folder."""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock an existing folder for this process.

    Raises Busy if another process has the lock, or waits for it if `wait`. An OSError means that the folder is not
    writable.
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
    """Wait until at least one of the folders is not locked by a living process."""
    paths = [folder / LOCK for folder in folders]
    while all(owners := [_living_owner(path) for path in paths]):
        # a look at another machine's lock writes to the disk
        time.sleep(0.5 if all(owner is not None and owner.is_running for owner in owners) else HEARTBEAT)


@dataclass(frozen=True)
class _Owner:
    """The process that a lock file names."""

    name: str
    is_running: bool  # on this machine, as far as its process id tells
    heartbeat: float  # when the file was last touched, by the clock of its file system


def _acquire(path: Path, wait: bool) -> int:
    """Create the lock file; returns its open descriptor, on which this process holds `flock`."""
    first: _Owner | None = None
    while True:
        owner = _living_owner(path)
        if owner is None:
            try:
                return _create(path)
            except (FileExistsError, FileNotFoundError):  # another process was faster, or cleaned the folder up
                if path.parent.is_dir():
                    continue
                raise
        if not wait and (owner.is_running or (first is not None and owner.heartbeat != first.heartbeat)):
            raise Busy(f"another process is at work on {path.parent} ({owner.name}): wait for it, or stop it")
        if first is None and not owner.is_running:
            log.warning("%s: waiting up to %d s for a heartbeat of its owner (%s)", path, EXPIRY, owner.name)
        elif first is None:
            log.warning("%s: waiting for another process (%s)", path.parent, owner.name)
        first = first or owner
        time.sleep(0.1 if owner.is_running else HEARTBEAT / 5)  # a look at another machine's lock writes to the disk


def _create(path: Path) -> int:
    """Link a locked file that names this process to `path`, so that it is never seen unlocked or empty.

    Its first name is in the same folder: some file systems (BeeGFS, AFS) refuse links between folders.
    """
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": STARTED}
    unfinished = path.with_name(f".{uuid4().hex}{PARTIAL}")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _acquire_flock(descriptor)
        os.write(descriptor, json.dumps(owner).encode() + b"\n")
        os.link(unfinished, path)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    return descriptor


def _send_heartbeats(descriptor: int, stop: Event) -> None:
    while not stop.wait(HEARTBEAT):
        with suppress(OSError):  # a file system that is out of order for a moment; flock still holds
            os.utime(descriptor)


def _living_owner(path: Path) -> _Owner | None:
    """The living process that has the lock; None if there is none. The lock file of a dead one is removed."""
    try:
        # NFS locks only what is open for writing.
        with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
            if (owner := _read_owner(file, path.parent)) is not None:
                return owner
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                path.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # ESTALE: removed by another machine (NFS)
            raise
    return None


def _read_owner(file: BinaryIO, folder: Path) -> _Owner | None:
    """The owner that an open lock file names; None if it is dead."""
    owner: dict[str, Any] = {}
    with suppress(ValueError, TypeError):  # not readable
        owner |= parsed(file.read())
    is_local = owner.get("host") == socket.gethostname()
    if is_local and _acquire_flock(file.fileno()):
        return None
    is_running = is_local and _is_running(owner.get("process"))
    heartbeat = os.fstat(file.fileno()).st_mtime
    if not is_running:
        with temporary_folder(folder) as probe:
            if probe.stat().st_mtime - heartbeat > EXPIRY:
                return None
    name = "process {process} on {host}, since {since}".format_map(dict.fromkeys(("process", "host", "since")) | owner)
    return _Owner(name, is_running, heartbeat)


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
    except PermissionError:  # another user's process
        return True
    except (OSError, TypeError, OverflowError):
        return False
    return True
