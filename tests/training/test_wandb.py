"""`logger=wandb` for real: offline, and where it cannot work."""

import json
import os

import pytest

from spt.training.run_experiment import Experiment
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
    assert not any(b"trainable_by_group" in content for content in kept)  # the summary has the headlines alone
    (sweep,) = (tmp_path / "sweeps").iterdir()
    for content in kept:
        for said in ("prefix_length", "dev_accuracy", "layer_0", "best_dev", "adapter.safetensors", sweep.name):
            assert said.encode() in content, said


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


def wandb_runs(folder):
    """The ids of the W&B runs that a folder has, one for each process."""
    return [path.stem.removeprefix("run-") for path in folder.glob("**/offline-run-*/*.wandb")]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_run_is_one_run_also_where_it_resumes_and_is_inspected(start, called, tmp_path, monkeypatch):
    settings = ("task=demo_pair", "method=spt", "trainer.num_train_epochs=2", "logger=wandb")
    keep = Experiment.keep

    def interrupted(self, *args):
        keep(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "keep", interrupted)
        assert start(*settings)[0] == 130
    code, out, err = start(*settings)
    assert code == 0 and "resumes after epoch 1" in out, err
    (folder,) = (tmp_path / "runs").iterdir()
    code, _, err = called("spt.inspect", f"run={folder}", "interventions=false", "logger=wandb")
    assert code == 0, err
    ids = wandb_runs(folder)
    assert len(ids) == 3 and len(set(ids)) == 1
    (inspected,) = folder.glob("insight/wandb/offline-run-*/*.wandb")
    pictures = [path.name for path in inspected.parent.glob("files/media/images/insight/*.png")]
    assert any(name.startswith("prefix_mass") for name in pictures) and b"insight.json" in inspected.read_bytes()

    code, _, err = start(*settings, "force=true")  # a repeated run is another one
    assert code == 0 and len(set(wandb_runs(folder))) == 2, err


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["no login", pytest.param("no network", marks=pytest.mark.soak)])
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
