"""Extending from a folder of one's own: its tasks take part in tables, its methods train, save, load and predict."""

import csv
import json
import re
import sys
from importlib import import_module

import pytest
from safetensors.torch import load_file

import spt
from spt.errors import SptError
from tests.conftest import DEMO

TASK = """
defaults: [custom, _self_]
name: reviews
train: mine/train.csv
validation: mine/dev.csv
text: [review]
label: stars
"""

TABLE = """
# @package tables.mine
title: Reviews
rows:
  linear_probe: {method: linear_probe}
sweep: {task.max_length: [8, 16]}
profiles:
  smoke: {tasks: [reviews], models: [demo], seeds: [11]}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder, with the folder `mine` in it, which has configs and code of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "mine/train.csv": "review,stars\n" + "a good apple,5\na bad wagon,1\n" * 4,
        "mine/dev.csv": "review,stars\na good wagon,5\na bad apple,1\n",
        "mine/conf/task/reviews.yaml": TASK,
        "mine/conf/table/mine.yaml": TABLE,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    return tmp_path


@pytest.mark.slow
def test_a_custom_task_takes_part_in_a_table_with_a_sweep(mine, called):
    grid = ("spt.reproduce", "--config-dir", "mine/conf", "table=mine", "profile=smoke")
    code, out, err = called(*grid, "--dry-run")
    assert code == 0 and "2 runs to do" in out, err
    code, out, err = called(*grid)
    assert code == 0 and "2/2 reviews demo linear_probe" in out, err
    records = [json.loads(path.read_text()) for path in (mine / "runs/smoke/records").glob("*/record.json")]
    scores = {r["config"]["task"]["max_length"]: 100 * r["metrics"]["best_dev"] for r in records}
    with (mine / "runs/smoke/tables/mine.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "best_dev"]
    assert {int(row["value"]): float(row["ours_mean"]) for row in rows} == scores and scores.keys() == {8, 16}
    assert {(row["task"], row["metric"]) for row in rows} == {("reviews", "accuracy")}
    code, out, err = called(
        "spt.report.__main__", *grid[1:], "cell=mine/reviews/demo/linear_probe/8", "results_dir=runs/smoke"
    )
    assert code == 0 and "accuracy" in out, err
    assert "nothing to run" in called(*grid, "--dry-run")[1]


def test_a_task_with_another_name_than_its_file_is_refused_in_a_table(mine, called):
    (mine / "mine/conf/task/reviews.yaml").write_text(TASK.lstrip().replace("name: reviews", "name: custom"))
    code, _, err = called("spt.reproduce", "--config-dir", "mine/conf", "table=mine", "profile=smoke", "--dry-run")
    assert code == 1 and "task/reviews.yaml" in err and "'custom'" in err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("method/spt.yaml", "method: {name: spt}", "spt has a file method/spt.yaml, which is used instead"),
        ("table/other.yaml", TABLE, "its first line must be '# @package tables.other'"),
    ],
)
def test_a_file_that_would_not_be_used_is_refused(name, text, message, mine, called):
    path = mine / "mine/conf" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.lstrip())
    code, _, err = called("spt.train", "task=demo_pair", "model=demo", "--config-dir", "mine/conf", "method=spt")
    assert code == 1 and message in err


def test_a_task_class_that_could_not_be_loaded_again_is_refused_before_it_trains(mine, called):
    (mine / "mytasks.py").write_text(
        "from spt.tasks import SentenceTask\n\n\nclass PipeTask(SentenceTask):\n    pass\n"
    )
    cell = ("task=demo_pair", "model=demo", "method=spt", "task._target_=mytasks.PipeTask")
    code, _, err = called("spt.train", *cell)
    assert code == 1 and "mytasks.PipeTask is not exported by spt.tasks" in err
    assert not list(mine.glob("runs/*/adapter"))


IA3 = '''
import peft


def ia3(model, name, target_modules, feedforward_modules):
    """Train scales of keys, values and feed-forward activations, and the head."""
    model.encoder.requires_grad_(False)
    config = peft.IA3Config(target_modules=list(target_modules), feedforward_modules=list(feedforward_modules))
    peft.inject_adapter_in_model(config, model.encoder)


def forgetful(model, name, scale):
    """Train the head alone, on hidden states that are changed in a way that is drawn anew at each call."""
    import torch

    model.encoder.requires_grad_(False)
    noise = scale * torch.randn(model.encoder.config.hidden_size)
    model.encoder.embeddings.register_forward_hook(lambda module, inputs, output: output + noise)
'''

METHODS = {
    "ia3": "{target_modules: [key, value, output.dense], feedforward_modules: [output.dense]}",
    "forgetful": "{scale: 1.0}",
}


@pytest.fixture
def methods(mine):
    (mine / "ia3.py").write_text(IA3)
    for name, settings in METHODS.items():
        path = mine / f"mine/conf/method/{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        group = f"_target_: ia3.{name}, name: {name}, {settings[1:-1]}"
        path.write_text(f"# @package _global_\nmethod: {{{group}}}\ntrainer: {{learning_rate: 0.01}}\n")
    sys.modules.pop("ia3", None)
    yield mine
    sys.modules.pop("ia3", None)


def trained(called, method, *overrides):
    arguments = ("--config-dir", "mine/conf", "task=demo_pair", f"method={method}", "trainer.max_steps=2", *DEMO)
    return called("spt.train", *arguments, *overrides)


def test_a_method_through_peft_trains_saves_loads_and_predicts(methods, called):
    code, _, err = trained(called, "ia3")
    assert code == 0, err
    (run,) = methods.glob("runs/demo_pair.demo.ia3.*")
    weights = load_file(run / "adapter/adapter.safetensors")
    assert any("ia3_l" in name for name in weights) and not any("base_layer" in name for name in weights)
    command = json.loads((run / "record.json").read_text())["command"]
    assert command.startswith("python -m spt.train --config-dir mine/conf task=demo_pair method=ia3")
    card = (run / "adapter/README.md").read_text()
    assert "method=ia3)" in card and "`ia3.ia3`, which is not part of `spt`" in card
    naming = ("method=ia3", "--config-dir", "mine/conf")
    code, out, err = called("spt.evaluate", f"run={run}", "output=scores.json", *naming)
    assert code == 0, err
    scores = json.loads((methods / "scores.json").read_text())
    assert scores["scores"] == scores["recorded"]
    code, out, err = called("spt.predict", f"run={run}", "text=it rained", "text_pair=it got wet", *naming)
    assert code == 0 and json.loads(out)["label"] in ("yes", "no"), err
    code, _, err = called("spt.predict", f"run={run}", "text=it rained", "text_pair=it got wet")
    assert code == 1 and "method=ia3 --config-dir" in err and "spt.load(..., method=function)" in err
    predictor = spt.load(run, method=import_module("ia3").ia3)
    (prediction,) = predictor.stream([("it rained", "it got wet")])
    assert prediction["probabilities"] == pytest.approx(json.loads(out)["probabilities"])
    with pytest.raises(SptError, match="cannot be shared"):
        spt.load(run, method=import_module("ia3").ia3, share=predictor)


HOOKED = """
import spt

def ia3(model, name, **settings):
    spt.attach(model, spt.PrefixConfig(prefix_length=3))
    model.encoder.register_forward_hook(lambda module, inputs, output: output | {"last_hidden_state": -output[0]})
"""


def test_an_adapter_of_a_method_that_changes_the_base_model_is_pruned(methods, called):
    (methods / "ia3.py").write_text(HOOKED)
    assert trained(called, "ia3")[0] == 0
    (run,) = methods.glob("runs/demo_pair.demo.ia3.*")
    code, out, err = called("spt.prune", f"run={run}", "keep=3", "method=ia3", "--config-dir", "mine/conf")
    assert code == 0, err
    scores = re.findall(r"accuracy ([\d.]+)", out + err)
    assert len(scores) == 2 and scores[0] == scores[1]  # all slots are kept


def test_an_adapter_makes_spt_import_nothing(methods, called):
    """Whatever it names: a function is called only where the user names it."""
    assert trained(called, "ia3")[0] == 0
    (run,) = methods.glob("runs/demo_pair.demo.ia3.*")
    path = run / "adapter/adapter.json"
    (methods / "trap.py").write_text("raise SystemExit('imported')\n")
    for target in ("trap.trap", "os.system", "spt.methods.math.sqrt", "spt.methods.attach", "spt.methods.SptError"):
        description = json.loads(path.read_text())
        description["about"]["method"]["_target_"] = target
        path.write_text(json.dumps(description))
        with pytest.raises(SptError, match="name the function that you trust"):
            spt.load(run)
    assert "trap" not in sys.modules


def test_a_method_that_cannot_be_loaded_is_told_before_it_trains(methods, called):
    code, _, err = trained(called, "forgetful")
    assert code == 1 and "method 'forgetful'" in err and "could not be loaded again" in err and "logits" in err
    assert not list(methods.glob("runs/*/history.jsonl"))


def test_a_method_without_parameters_of_its_own_needs_no_name(methods, called):
    (methods / "ia3.py").write_text("def ia3(model, name, **settings):\n    model.encoder.requires_grad_(False)\n")
    assert trained(called, "ia3")[0] == 0
    (run,) = methods.glob("runs/demo_pair.demo.ia3.*")
    assert "needs_method" not in json.loads((run / "adapter/adapter.json").read_text())["about"]
    assert len(list(spt.load(run).stream([("it rained", "it got wet")]))) == 1
