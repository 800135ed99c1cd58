"""The seed is the only randomness: logging, scoring and loading by worker processes change no number."""

import json
import random
import shutil

import numpy as np
import pytest
import torch

from spt.training.loop import TrainingLoop
from tests.conftest import SPT_SL, outcome

SAME = {
    "again": (),
    "workers that load": ("trainer.dataloader_num_workers=2",),
    "other batches to evaluate": ("trainer.per_device_eval_batch_size=5",),
    "Weights & Biases": ("logger=wandb",),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case != "again" else []) for case in SAME]
)
def test_the_same_numbers(case, start, straight, monkeypatch, tmp_path):
    expected = straight(*SPT_SL)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    random.seed(time := 5), np.random.seed(time), torch.manual_seed(time)
    code, _, err = start(*SPT_SL, *SAME[case])
    assert code == 0, err
    for folder in (tmp_path / "runs").glob("*/wandb"):
        shutil.rmtree(folder)
    ours = outcome(tmp_path / "runs")
    if case == "other batches to evaluate":  # sums of floats in another order, and no other training
        assert ours.pop("adapter") == expected["adapter"]
        losses = [(row.get("train_loss"), row["step"]) for row in ours["history"]]
        assert losses == [(row.get("train_loss"), row["step"]) for row in expected["history"]]
    else:
        assert ours == expected


def test_more_evaluations_change_no_training(start, straight, monkeypatch, tmp_path):
    """Twice as often, and once more on another split: the same dropouts and order."""
    expected, evaluate = straight(*SPT_SL), TrainingLoop.evaluate

    def often(self, name):
        evaluate(self, "test")
        evaluate(self, "validation")
        return evaluate(self, name)

    monkeypatch.setattr(TrainingLoop, "evaluate", often)
    assert start(*SPT_SL)[0] == 0
    assert outcome(tmp_path / "runs") == expected


@pytest.mark.slow
def test_records_are_the_same_but_for_time_and_memory(start, tmp_path):
    texts = []
    for name in ("one", "two"):
        assert start(*SPT_SL, output_dir=tmp_path / name)[0] == 0
        (path,) = (tmp_path / name).glob("*/record.json")
        record = json.loads(path.read_text())
        for own in ("wall_seconds", "peak_memory_bytes"):
            record.pop(own)
        record["config"].pop("output_dir")
        record["command"] = record["command"].replace(str(tmp_path / name), "")
        texts.append(record)
    assert texts[0] == texts[1]


def test_another_seed_is_another_run(start, straight, tmp_path):
    assert start(*SPT_SL, "seed=12")[0] == 0
    ours, theirs = outcome(tmp_path / "runs"), straight(*SPT_SL)
    assert ours["adapter"] != theirs["adapter"] and ours["history"] != theirs["history"]
