"""A folder is one process's at a time, and not a dead one's."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from spt.records import folder_lock as lock
from spt.records.folder_lock import LOCK, Busy, await_one, locked
from tests.conftest import REPO

HOLD = """
import sys, time
from pathlib import Path
from spt.records.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("has it", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.wait()


def test_one_at_a_time(tmp_path):
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


def test_a_stopped_owner_has_it_and_a_dead_one_does_not(owner, tmp_path):
    owner.send_signal(signal.SIGSTOP)
    with pytest.raises(Busy, match=f"process {owner.pid} on"), locked(tmp_path):
        pass
    owner.kill()
    owner.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_who_waits_gets_it_in_the_end(owner, tmp_path):
    os.kill(owner.pid, signal.SIGKILL)
    await_one([tmp_path])
    with locked(tmp_path, wait=True):
        pass
    await_one([tmp_path])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A lock of a machine whose system's locks are not seen here."""
    monkeypatch.setattr(lock, "PATIENCE", 1.0)

    def write(beat: int) -> None:
        (tmp_path / LOCK).write_text(json.dumps({"process": 1, "host": "another", "since": "then", "beat": beat}))

    write(0)
    return write


def test_an_owner_elsewhere_lives_while_its_heart_beats(elsewhere, tmp_path, caplog):
    process = multiprocessing.get_context("fork").Process(
        target=lambda: [elsewhere(n) or time.sleep(0.2) for n in range(50)]
    )
    process.start()
    try:
        with pytest.raises(Busy, match="process 1 on another, since then"), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.join()
    began = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - began > 0.9
    assert caplog.messages.count(f"{tmp_path / LOCK} is of a process not to be seen from here: 1 s for a sign of life")


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with locked(tmp_path):
        said = set()
        while len(said) < 3:
            said.add((tmp_path / LOCK).read_text())


def count_up(folder, times):
    for _ in range(times):
        with locked(folder, wait=True):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_many_want_it_and_each_has_it_alone(tmp_path):
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_up, args=(tmp_path, 10)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "number").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_lock_that_says_nothing_is_nobodys_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    (tmp_path / LOCK).write_bytes(b"\0[")
    with locked(tmp_path):
        pass
