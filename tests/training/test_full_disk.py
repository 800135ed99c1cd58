"""Disks that are full or read-only, as real file systems: one message, and nothing lost."""

import os
import subprocess
from pathlib import Path

import datasets
import pytest

from spt.paths import local_path
from tests.conftest import DEMO, SPT_SL, outcome, resumed, run
from tests.hub import Hub


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


@pytest.mark.soak
def test_a_full_disk_at_every_write_of_a_run(disk, start, straight):
    """With more and more room, until it is enough: each time the same command resumes once there is more."""
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
        assert resumed(runs) == ("resumes after epoch" in out)
        subprocess.run(["rm", "-r", str(runs)], check=True)
        room += 48
    assert {"train.log", "checkpoint.safetensors", "adapter"} <= named, named


@pytest.mark.soak
def test_a_full_disk_elsewhere(disk, tmp_path):
    """Files of other commands: predictions, scores, a report, the records of a grid."""
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


def test_a_read_only_folder_is_reported_at_the_start(disk, start):
    assert disk.mount("remount", "ro")
    code, out, err = start(*SPT_SL, output_dir=disk.folder / "runs")
    assert code == 1 and "Read-only file system" in err and "set output_dir to a folder that can be written" in err
    assert "epoch" not in out and "splits" not in out


@pytest.mark.parametrize("options, why", [(("ro",), "Read-only file system"), (("size=16k",), "No space left")])
def test_a_cache_of_tokenised_data_that_cannot_be_written(disk, train, monkeypatch, tmp_path, options, why):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", disk.folder / "cache")
    monkeypatch.setattr("spt.tasks.tokenized_cache.CHUNK", 20)
    assert disk.mount("remount", *options)
    code, out, err = train(*DEMO, "task=demo_ner")
    assert code == 1 and err.count("\n") == 1 and why in err and "epoch" not in out, err
    assert f"the tokenised data in {disk.folder}/cache" in err and "set HF_DATASETS_CACHE" in err
    assert not list((tmp_path / "runs").glob("*/record.json"))


@pytest.mark.slow
@pytest.mark.parametrize("options, why", [
    pytest.param(("ro",), "Read-only file system", marks=pytest.mark.soak), (("size=100k",), "No space left"),
])  # fmt: skip
def test_a_cache_of_the_hub_that_cannot_be_written(disk, tmp_path, options, why):
    hub = Hub(tmp_path / "hub")
    hub.push("models", "org/tiny", local_path("pkg://spt/demo/encoder"))
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(disk.folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    assert disk.mount("remount", *options)
    with hub.serving():
        done = run(
            "-m", "spt.train", "task=demo_pair", "model.name_or_path=org/tiny", f"output_dir={tmp_path}/runs",
            env=environment | {"HF_ENDPOINT": hub.url},
        )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: cannot write the hub's cache, {disk.folder}/home: {why}" in done.stderr, done.stderr
    assert "set HF_HOME" in done.stderr
