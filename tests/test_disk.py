"""Disks that are full or read-only, as real file systems: one message, and nothing lost."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import DEMO, SPT_SL, outcome, resumed, run


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mount(self, *options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def has(self, kilobytes: int) -> None:
        assert self.mount("remount", f"size={kilobytes}k")


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk")
    try:
        mounted = made.mount("size=64m")
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting takes root")
    yield made
    subprocess.run(["umount", "--lazy", str(made.folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_at_every_write_of_a_run(disk, start, straight):
    """With more and more room, until it is enough: each time the same command goes on once there is more."""
    expected, named, room = straight(*SPT_SL), set(), 4
    while True:
        runs = disk.folder / str(room)
        disk.has(room + 4)
        code, _, err = start(*SPT_SL, output_dir=runs)
        if code == 0:
            break
        assert code == 1 and err.count("\n") == 1 and "No space left on device" in err, err
        assert "cannot write" in err and ("make room" in err or "Set output_dir" in err), err
        named.add(err.partition("cannot write ")[2].partition(": ")[0].rpartition("/")[2])
        assert not list(runs.glob("*/record.json")) and not list(runs.glob("*/.*.partial/*"))
        disk.has(65536)
        code, out, err = start(*SPT_SL, output_dir=runs)
        assert code == 0 and outcome(runs) == expected, out + err
        assert resumed(runs) == ("goes on after epoch" in out)
        subprocess.run(["rm", "-r", str(runs)], check=True)
        room += 48
    assert {"train.log", "checkpoint.safetensors", "adapter"} <= named, named


@pytest.mark.soak
def test_a_full_disk_elsewhere(disk, tmp_path):
    """What other commands write: predictions, scores, a report, the records of a grid."""
    done = run("-m", "spt.train", *DEMO, "task=demo_pair", f"output_dir={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    (adapter,) = (tmp_path / "runs").glob("*/adapter")
    (tmp_path / "in.txt").write_text("the apple\tthe child\n" * 400)
    disk.has(4)
    (disk.folder / "filler").write_bytes(b"0" * 4096)
    for command in (
        ("spt.predict", f"run={adapter}", f"input={tmp_path}/in.txt", f"output={disk.folder}/said.jsonl"),
        ("spt.evaluate", f"run={adapter}", f"output={disk.folder}/scores.json"),
        ("spt.report", "table=ner", "profile=cpu", f"results_dir={disk.folder}"),
        ("spt.reproduce", "table=ner", f"output_dir={disk.folder}", "+tables.ner.profiles.smoke.rows=[linear_probe]"),
    ):
        done = run("-m", *command)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
        assert "No space left on device" in done.stderr and str(disk.folder) in done.stderr, done.stderr


def test_a_read_only_folder_is_told_at_the_start(disk, start):
    assert disk.mount("remount", "ro")
    code, out, err = start(*SPT_SL, output_dir=disk.folder / "runs")
    assert code == 1 and "Read-only file system" in err and "Set output_dir to a folder that can be written" in err
    assert "epoch" not in out and "splits" not in out
