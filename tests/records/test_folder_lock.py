"""The folder lock: one process at a time, and never one that is dead."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spt.files import remove_leftovers
from spt.records import folder_lock as lock
from spt.records.folder_lock import LOCK, Busy, await_one, locked
from tests.conftest import REPO

HOLD = """
import sys, time
from pathlib import Path
from spt.records.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_lock_is_refused_and_names_the_owner(tmp_path):
    with locked(tmp_path):
        owner = json.loads((tmp_path / LOCK).read_text())
        assert (owner["process"], owner["host"]) == (os.getpid(), socket.gethostname())
        with (
            pytest.raises(Busy, match=f"at work on {tmp_path} .process {os.getpid()} on .*, since 2"),
            locked(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass


def test_a_stopped_owner_keeps_the_lock_and_a_dead_one_loses_it(owner, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "EXPIRY", 0.2)
    owner.send_signal(signal.SIGSTOP)
    with pytest.raises(Busy, match=f"process {owner.pid} on"), locked(tmp_path):
        pass
    waiting = multiprocessing.get_context("fork").Process(target=count_up, args=(tmp_path, 1))
    waiting.start()
    waiting.join(1.0)
    assert waiting.is_alive(), "it took the lock of a process that lives but sends no heartbeat"
    waiting.kill()
    waiting.join()
    owner.kill()
    owner.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_waiting_ends_when_the_owner_is_killed(owner, tmp_path):
    os.kill(owner.pid, signal.SIGKILL)
    await_one([tmp_path])
    with locked(tmp_path, wait=True):
        pass
    await_one([tmp_path])


@pytest.fixture
def remote_owner(tmp_path, monkeypatch):
    """Writes the lock file of a process on another machine, whose flock this one does not see."""
    monkeypatch.setattr(lock, "EXPIRY", 1.0)

    def write() -> None:
        (tmp_path / LOCK).write_text(json.dumps({"process": 1, "host": "another", "since": "then"}))

    write()
    return write


def test_a_remote_owner_keeps_the_lock_while_it_sends_heartbeats(remote_owner, tmp_path, caplog):
    process = multiprocessing.get_context("fork").Process(
        target=lambda: [remote_owner() or time.sleep(0.2) for _ in range(50)]
    )
    process.start()
    try:
        with pytest.raises(Busy, match="process 1 on another, since then"), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.join()
    remote_owner()
    began = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - began > 0.9
    message = f"{tmp_path / LOCK}: waiting up to 1 s for a heartbeat of its owner (process 1 on another, since then)"
    assert message in caplog.messages


def test_the_owner_sends_heartbeats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.05)
    with locked(tmp_path):
        times, deadline = set[int](), time.monotonic() + 30
        while len(times) < 3 and time.monotonic() < deadline:
            times.add((tmp_path / LOCK).stat().st_mtime_ns)
            time.sleep(0.01)
    assert len(times) >= 3


def count_up(folder, times):
    for _ in range(times):
        with locked(folder, wait=True):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


@pytest.mark.parametrize("has_flock", [True, False])
def test_many_processes_never_share_the_lock(has_flock, tmp_path, monkeypatch):
    if not has_flock:
        monkeypatch.setattr(lock, "_acquire_flock", lambda descriptor: False)
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_up, args=(tmp_path, 5)) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "number").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_file_system_that_links_within_a_folder_only(tmp_path, monkeypatch):
    """BeeGFS and AFS; nothing but the lock is left in the folder, and nothing of a killed process's attempt."""
    link = os.link

    def link_within(source, target):
        if Path(source).parent != Path(target).parent:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        link(source, target)

    monkeypatch.setattr(os, "link", link_within)
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    (tmp_path / ".0.partial").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_lock_file_expires(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "EXPIRY", 0.2)
    (tmp_path / LOCK).write_bytes(b"\0[")
    with locked(tmp_path):
        pass


def test_a_forked_worker_that_outlives_the_lock_does_not_hold_it(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with locked(tmp_path):
        worker.start()
    try:
        with locked(tmp_path):
            pass
        assert not list(tmp_path.iterdir())
    finally:
        worker.kill()
        worker.join()
