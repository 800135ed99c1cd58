"""`logger=wandb` for real: offline, and where it cannot work."""

import json
import os

import pytest

from tests.conftest import DEMO, run

pytest.importorskip("wandb")

ARGUMENTS = ("-m", "spt.train", "task=demo_choice", *DEMO, "logger=wandb")


@pytest.mark.slow
def test_offline_everything_is_kept_in_the_run_folder(tmp_path):
    done = run(
        *ARGUMENTS,
        "--multirun",
        "method.prefix_length=4,8",
        f"output_dir={tmp_path}",
        env=os.environ | {"WANDB_MODE": "offline"},
    )
    assert done.returncode == 0, done.stderr
    assert "W&B does not work" not in done.stdout
    kept = [path.read_bytes() for path in tmp_path.glob("*/wandb/offline-run-*/*.wandb")]
    assert len(kept) == 2
    (sweep,) = (tmp_path / "sweeps").iterdir()
    for content in kept:
        for said in ("prefix_length", "dev_accuracy", "layer_0", "best_dev", "adapter.safetensors", sweep.name):
            assert said.encode() in content, said


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["no login", "no network"])
def test_trouble_with_wandb_is_a_warning_and_the_run_continues(reason, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_MODE": "online"}
    if reason == "no network":
        environment |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = run(*ARGUMENTS, "logger.timeout=3", f"output_dir={tmp_path}/runs", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("W&B does not work") == 1 and "WANDB_MODE=offline" in done.stdout
    (path,) = (tmp_path / "runs").glob("*/record.json")
    text = path.read_text()
    assert json.loads(text)["status"] == "finished" and "0" * 40 not in text
