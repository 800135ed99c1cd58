"""`hydra/launcher=packed` as a user calls it: what it leaves is what the same runs leave one after the other."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import DEMO, REPO, run

PACKED = "hydra/launcher=packed"


def what_is_left(folder):
    left = {}
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        history = path.parent / "history.jsonl"
        rows = [json.loads(line) for line in history.read_text().splitlines()] if history.exists() else []
        left[path.parent.name] = {
            "scores": record["scores"],
            "history": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
            "outcomes": json.loads((path.parent / "outcomes.json").read_text()),
            "log": [line.split(" ", 2)[2] for line in (path.parent / "train.log").read_text().splitlines()][:7],
            "command": record["command"].replace(f"output_dir={folder}", ""),
            "status": record["status"],
        }
        adapter = path.parent / "adapter" / "adapter.safetensors"
        left[path.parent.name]["adapter"] = load_file(adapter) if adapter.exists() else None
    return left


@pytest.mark.slow
def test_a_sweep_leaves_what_it_leaves_without(tmp_path):
    """Of three kinds of runs one ends early, one diverges, and one is none."""
    sweep = ("task=demo_pair", *DEMO, "trainer.per_device_train_batch_size=64", "seed=11,12")
    varied = (
        "+kinds={a: [4, 0.01, 1], b: [9, 1.0e+30, 2], c: [0, 0.1, 2]}",
        "+kind=a,b,c",
        "method.prefix_length='${kinds.${kind}.0}'",
        "trainer.learning_rate='${kinds.${kind}.1}'",
        "trainer.num_train_epochs='${kinds.${kind}.2}'",
    )
    results = {}
    for name, options in {"plain": (), "packed": (PACKED, "hydra.launcher.together=4")}.items():
        done = run("-m", "spt.train", "--multirun", *sweep, *varied, *options, f"output_dir={tmp_path / name}")
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        failed = done.stderr.split("these runs of the sweep failed")[1].splitlines()[1:]
        assert len(failed) == 4 and sum("prefix_length must be" in line for line in failed) == 2, failed
        results[name] = what_is_left(tmp_path / name)
    assert len(results["plain"]) == 4 and results["plain"].keys() == results["packed"].keys()
    for name, plain in results["plain"].items():
        ours = results["packed"][name]
        torch.testing.assert_close(ours.pop("adapter"), plain.pop("adapter"), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.pop("history"), plain.pop("history"), rtol=1e-5, atol=1e-5)
        assert ours == plain


@pytest.mark.soak
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
def test_a_pack_that_is_stopped_goes_on(number, code, tmp_path):
    options = ("trainer.num_train_epochs=4", "trainer.per_device_train_batch_size=64", "seed=11,12", PACKED)
    sweep = ("-m", "spt.train", "--multirun", "task=demo_pair", *DEMO, *options)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert run(*sweep, f"output_dir={straight}").returncode == 0
    process = subprocess.Popen([sys.executable, *sweep, f"output_dir={killed}"], cwd=REPO, stdout=subprocess.DEVNULL)
    while len(list(killed.glob("*/checkpoint.safetensors"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == code
    assert not list(killed.glob("*/record.json"))
    again = run(*sweep, f"output_dir={killed}")
    assert again.returncode == 0 and again.stdout.count("goes on after epoch") == 2, again.stdout + again.stderr
    ours, theirs = what_is_left(killed), what_is_left(straight)
    assert ours.keys() == theirs.keys() and len(ours) == 2
    for name, its in ours.items():
        torch.testing.assert_close(its["adapter"], theirs[name]["adapter"], rtol=1e-5, atol=1e-5)
        assert its["scores"] == theirs[name]["scores"] and its["outcomes"] == theirs[name]["outcomes"]
