"""`dry_run=true`: what a run would take, from three measured steps, and nothing written."""

import json
import re
import resource

import pytest
from hydra import compose, initialize_config_dir

from spt.paths import CONF
from spt.training import dry_run as dry_runs
from spt.training.dry_run import dry_run
from spt.training.loop import TrainingLoop


@pytest.mark.parametrize(
    ("task", "settings", "steps", "evaluations"),
    [
        ("demo_pair", ["trainer.num_train_epochs=4"], 28, 4),  # 200 examples in batches of 32
        ("demo_ner", ["trainer.max_steps=9", "method=spt_sl", "trainer.gradient_accumulation_steps=2"], 9, 3),
        ("demo_choice", ["trainer.num_train_epochs=0.5", "trainer.bf16=true"], 4, 1),
    ],
)
def test_the_estimate_is_of_the_whole_run(task, settings, steps, evaluations, train, tmp_path):
    code, out, err = train(f"task={task}", "model=demo", "dry_run=true", *settings)
    assert code == 0 and f" for {steps} steps and {evaluations} evaluations, " in out, out + err
    step, evaluation = map(float, re.search(r"([\d.e-]+) s a step, ([\d.e-]+) s an evaluation", out).groups())
    seconds = int(re.search(r"estimate +(\d+) s ", out)[1])
    assert seconds == pytest.approx(steps * step + evaluations * evaluation, abs=0.6, rel=0.02)
    memory = float(re.search(r"evaluations, ([\d.]+) GiB memory of the process", out)[1])
    assert 0.1 <= memory <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 + 0.05  # this is the process
    assert not (tmp_path / "runs").exists()


def test_a_run_on_the_cpu_claims_no_gpu(tmp_path, monkeypatch):
    claimed = []
    monkeypatch.setattr(dry_runs, "take_one_gpu", claimed.append)
    for use_cpu in ("true", "false"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            dry_run(compose("train", ["task=demo_pair", "model=demo", f"+trainer.use_cpu={use_cpu}"]))
    assert claimed == [1]


def test_queries_of_record_are_evaluated_with_all_their_entities(tmp_path, monkeypatch):
    text = "Ann saw Bea and Cleo."
    entities = [{"start": (at := text.index(name)), "end": at + len(name)} for name in ("Ann", "Bea", "Cleo")]
    query = {"query": "she saw @placeholder", "answers": [{"text": "Bea", **entities[1]}]}
    data = {"passage": {"text": text, "entities": entities}, "qas": [query | {"idx": number} for number in range(3)]}
    for split in ("train", "val"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(data | {"idx": 0}) + "\n")
    evaluated = []

    def evaluate(loop, name):
        split = loop.splits[name]
        evaluated.append((len(split.examples), len(split.inputs)))
        return measured(loop, name)

    measured = TrainingLoop.evaluate
    monkeypatch.setattr(TrainingLoop, "evaluate", evaluate)
    monkeypatch.setattr(dry_runs, "EVALUATED", 2)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["task=record", f"task.data_dir={tmp_path}", "task.max_length=64", "model=demo"])
    dry_run(config)
    assert evaluated == [(2, 6)]


def test_of_a_sweep(train, tmp_path):
    settings = ("task=demo_pair", "model=demo", "dry_run=true")
    code, out, err = train("--multirun", *settings, "seed=11,12")
    assert code == 0 and out.count("nothing was written") == 2 and "spt.report" not in out, err
    code, _, err = train("task=demo_pair", "model=demo", "dry_run=maybe")
    assert code == 1 and "dry_run must be true or false, not 'maybe'" in err
