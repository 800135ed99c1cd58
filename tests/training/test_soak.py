"""Real runs killed at random moments, and many processes on one folder: nothing is lost, and all results are the same.

`make soak` does it at length and prints its counts.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPO, outcome, resumed, run

RUN = ("-m", "spt.train", "model=demo", "method=spt_sl", "trainer.num_train_epochs=6")
RUNS = {
    "the last epoch is the best": (*RUN, "task=demo_ner", "trainer.per_device_train_batch_size=4"),
    "an early epoch is the best": (
        *(*RUN, "task=demo_pair", "trainer.per_device_train_batch_size=8"),
        "trainer.dataloader_num_workers=1",
    ),
}
GRID = (
    *("-m", "spt.reproduce", "table=ner", "+tables.ner.profiles.smoke.rows=[linear_probe,spt]"),
    "profiles.smoke.set=['trainer.num_train_epochs=1','trainer.per_device_train_batch_size=64']",
)


@dataclass
class Soak:
    """Kill one run after the other until there were enough kills, and count the results."""

    command: tuple[str, ...]
    folder: Path
    straight: dict
    chance: random.Random
    counts: Counter = field(default_factory=Counter)

    def one_run(self, kills: int) -> None:
        """A run that is killed up to `kills` times."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for _ in range(kills):
            self.kill_once()
            if list(self.folder.glob("*/record.json")):
                break
        done = run(*self.command, f"output_dir={self.folder}")
        assert done.returncode == 0, done.stdout + done.stderr
        self.counts["runs"] += 1
        self.counts["resumes"] += resumed(self.folder)
        self.counts["mismatches"] += outcome(self.folder) != self.straight

    def kill_once(self) -> None:
        """Start the run, and kill it at a random moment, or while it writes a file; SIGTERM and SIGUSR1 are sent
        once it handles them."""
        number = self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
        seconds, writing = self.chance.uniform(0, 6), self.chance.random() < 0.4
        process = subprocess.Popen(
            [sys.executable, *self.command, f"output_dir={self.folder}"],
            cwd=REPO,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if number != signal.SIGKILL:
            while process.poll() is None and not self.is_locked_by(process.pid):
                time.sleep(0.01)
        moment = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.005)
        while writing and process.poll() is None and not self.is_writing():
            pass
        if process.poll() is None:
            process.send_signal(number)
        _, said = process.communicate()
        expected = {-signal.SIGKILL} if number == signal.SIGKILL else {75}
        if list(self.folder.glob("*/record.json")):  # it listens no more
            expected.add(-number)
        assert process.returncode in expected | {0}, said
        assert "Traceback" not in said
        if process.returncode:
            self.counts[signal.Signals(number).name + (" while writing" if writing else "")] += 1
            self.counts["kills"] += 1

    def is_writing(self) -> bool:
        """Whether the run is writing a file."""
        try:
            return bool(list(self.folder.glob("*/.*.partial/*")))
        except FileNotFoundError:  # the file was finished between two looks
            return False

    def is_locked_by(self, process: int) -> bool:
        """Whether this process holds the lock of the run's folder."""
        try:
            return any(json.loads(path.read_text())["process"] == process for path in self.folder.glob("*/lock.json"))
        except FileNotFoundError:  # that of the one before, which it just took away
            return False


def soak(which: str, folder: Path, kills: int) -> Counter:
    """The counts of a run that was killed often."""
    command = RUNS[which]
    done = run(*command, f"output_dir={folder}/straight")
    assert done.returncode == 0, done.stderr
    it = Soak(command, folder / "killed", outcome(folder / "straight"), random.Random(which))
    while it.counts["kills"] < kills:
        it.one_run(kills=min(6, kills - it.counts["kills"]))
    return it.counts


@pytest.mark.soak
@pytest.mark.parametrize("which", RUNS)
def test_kills_at_random_moments(which, tmp_path):
    counts = soak(which, tmp_path, kills=30)
    print(f"soak, {which}: {dict(sorted(counts.items()))}")
    assert counts["mismatches"] == 0


def many(folder: Path, processes: int, *settings: str) -> list[dict]:
    """The records of several processes that run the same grid at the same time; each must exit with 0."""
    command = [sys.executable, *GRID, *settings, f"output_dir={folder}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, cwd=REPO, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    for process in started:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    return [json.loads(path.read_text()) for path in folder.glob("*/record.json")]


def table(folder: Path) -> str:
    return (folder / "smoke" / "tables" / "ner.csv").read_text()


@pytest.mark.soak
def test_two_processes_share_a_grid(tmp_path):
    found = many(tmp_path, 2)
    assert len(found) == 4 and all(record["resumed"] == 0 for record in found)
    assert not list(tmp_path.glob("*/lock.json")) and not list(tmp_path.glob("**/.*.partial"))
    assert ",done," in table(tmp_path)


@pytest.mark.soak
def test_sixteen_processes_share_64_cells(tmp_path):
    began = time.monotonic()
    seeds = f"profiles.smoke.seeds={list(range(11, 43))}".replace(" ", "")
    found = many(tmp_path, 16, seeds)
    assert len(found) == 64 and len({(record["method"], record["seed"]) for record in found}) == 64
    logs = [path.read_text() for path in tmp_path.glob("*/train.log")]
    trained = [text.count("epoch 1:") for text in logs]
    assert trained == [1] * 64
    assert len(list(tmp_path.glob("smoke/records/*/record.json"))) == 64
    assert not list(tmp_path.glob("*/lock.json")) and not list(tmp_path.glob("**/.*.partial"))
    made = table(tmp_path)
    alone = run(*GRID, seeds, f"output_dir={tmp_path}")
    assert alone.returncode == 0 and "nothing to run" in alone.stdout and table(tmp_path) == made
    print(f"16 processes, 64 runs: 64 records, each trained once, {time.monotonic() - began:.0f} s")


def epochs(folder: Path) -> int:
    """How many epochs a run has printed."""
    return sum(path.read_text().count("\n") for path in folder.glob("*/history.jsonl"))


@pytest.mark.soak
def test_two_processes_of_a_run_are_killed_together(tmp_path):
    """torchrun passes a signal on, and exits with a code of its own."""
    settings = (*RUNS["an early epoch is the best"], "trainer.num_train_epochs=12")
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *settings)
    assert run(*two, f"output_dir={tmp_path}/straight").returncode == 0
    killed, chance, signals = tmp_path / "killed", random.Random(2), [signal.SIGTERM, signal.SIGKILL, signal.SIGTERM]
    for number in signals:
        before = epochs(killed)
        process = subprocess.Popen([sys.executable, *two, f"output_dir={killed}"], cwd=REPO, stderr=subprocess.DEVNULL)
        while epochs(killed) <= before:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        workers = psutil.Process(process.pid).children(recursive=True) if number == signal.SIGKILL else []
        for each in (process, *workers):
            each.send_signal(number)
        assert process.wait() != 0 and not list(killed.glob("*/record.json"))
    again = run(*two, f"output_dir={killed}")
    assert again.returncode == 0 and "resumes after epoch" in again.stdout, again.stderr
    assert outcome(killed) == outcome(tmp_path / "straight") and resumed(killed) >= len(signals) - 1
    print(f"two processes of a run: killed {len(signals)} times, {resumed(killed)} resumes, the same in the end")
