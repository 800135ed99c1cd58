"""A run by two processes, started by torchrun or accelerate launch, equals the run of one process with both batches."""

import json
from itertools import chain
from pathlib import Path

import pytest

from spt import distributed
from spt.training.batches import shares
from tests.conftest import DEMO, outcome, resumed, run

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
PLAIN = (
    "method.key_dropout=0", "method.score_dropout=0", "+model.config.hidden_dropout_prob=0",
    "+model.config.attention_probs_dropout_prob=0", "trainer.num_train_epochs=2", "model=demo",
)  # fmt: skip
# 200 training examples are 12 batches of 16 and one of 8; of 120, 150 and 37 dev examples no batch of 64 or 7 is the
# last one. The third has fewer dev examples in its last round of batches than there are processes.
REGRESSION = (
    "task=custom", "task.shape=regression", "task.text=[text]", "task.label=score", "task.train={data}/train.csv",
    "task.validation={data}/dev.csv", "trainer.per_device_eval_batch_size=6",
)  # fmt: skip
CASES = {
    "sentence": ("task=demo_pair", "method=spt_sl"),
    "choice": ("task=demo_choice", "method=spt", "trainer.per_device_eval_batch_size=7"),
    "token": ("task=demo_ner", "method=spt", "trainer.train_sampling_strategy=random"),
    "regression": (*REGRESSION, "method=spt", "trainer.max_steps=4"),
}
TOLERANCE = 1e-5  # of float32 sums in another order, over two epochs


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    words = "the red cat sees a dog near old house".split()
    for name, rows in (("train", 40), ("odd", 43), ("dev", 37)):
        lines = [f"{words[i % 9]} {words[i * 5 % 9]},{i % 5}.5" for i in range(rows)]
        (folder / f"{name}.csv").write_text("\n".join(["text,score", *lines]) + "\n")
    return folder


def overrides(case: str, data: Path, batch: int) -> list[str]:
    settings = (*CASES[case], *PLAIN, f"trainer.per_device_train_batch_size={batch}")
    return [setting.format(data=data) for setting in settings]


def run_of(folder: Path, case: str) -> Path:
    name = {"sentence": "demo_pair", "choice": "demo_choice", "token": "demo_ner", "regression": "custom"}[case]
    (found,) = folder.glob(f"{name}.*")
    return found


def history(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name != "seconds" and value is not None} for row in rows]
    for row in kept:
        for measure, kinds in row.pop("prefixes", {}).items():
            row |= {f"{measure} {kind} {layer}": n for kind in kinds for layer, n in enumerate(kinds[kind])}
    return kept


@pytest.fixture(scope="module")
def by_two(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    arguments = " -- ".join(" ".join([*overrides(case, data, 8), f"output_dir={folder}"]) for case in CASES).split(" ")
    done = run(*TWO, "-m", "tests.worker", *arguments, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case, by_two, data, train, tmp_path):
    code, _, err = train(*overrides(case, data, 16), output_dir=tmp_path / "one")
    assert code == 0, err
    one, two = history(run_of(tmp_path / "one", case)), history(run_of(by_two[0], case))
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two] and one[-1]["epoch"] == 2
    for alone, shared in zip(one, two, strict=True):
        if case == "regression" and alone["epoch"] > 0:
            # Rounding, which differs by processor, changes the ranks of predictions that are this close to each other:
            # 0.04 on one with AMX. Loss and Pearson's correlation tell whether the predictions are the same.
            assert "dev_pearson" in alone and alone.pop("dev_spearman") == pytest.approx(
                shared.pop("dev_spearman"), abs=0.1
            )
        assert shared == pytest.approx(alone, rel=TOLERANCE)


@pytest.mark.slow
def test_a_dry_run_takes_the_same_groups_in_all_processes(tmp_path):
    """33 examples in two processes: one of them has nothing of the last batch."""
    settings = ["task=demo_pair", *DEMO, "task.train_examples=33", "trainer.per_device_train_batch_size=16"]
    done = run(*TWO, "-m", "spt.train", *settings, "dry_run=true", f"output_dir={tmp_path}", timeout=120)
    assert done.returncode == 0 and "nothing was written" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_step_without_a_labelled_word(tmp_path):
    words = [(["a", "b"], ["O", "B-X"])] * 12 + [(["\u200b"], ["O"])] * 4
    lines = "".join(json.dumps({"tokens": tokens, "tags": tags}) + "\n" for tokens, tags in words)
    (tmp_path / "train.jsonl").write_text(lines)
    files = [f"task.{split}={tmp_path}/train.jsonl" for split in ("train", "validation")]
    settings = ["task=custom", "task.shape=token", *files, *DEMO, "method=spt", "trainer.per_device_train_batch_size=1"]
    done = run(*TWO, "-m", "spt.train", *settings, "trainer.num_train_epochs=1", f"output_dir={tmp_path}", timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_one_process_writes_and_prints(by_two):
    folder, done = by_two
    for case in CASES:
        path = run_of(folder, case)
        left = {"config.yaml", "record.json", "history.jsonl", "outcomes.json", "adapter", "train.log"}
        assert {p.name for p in path.iterdir()} == left
        record = json.loads((path / "record.json").read_text())
        assert record["processes"] == 2 and record["status"] == "finished" and record["metrics"]["best_dev"] is not None
        assert record["command"].startswith("torchrun --nproc_per_node=2 -m spt.train task=")
        assert (path / "train.log").read_text().count("epoch 1:") == 1
    assert done.stdout.count("epoch 1:") == done.stdout.count(": best dev ") == len(CASES)
    assert done.stdout.count("batches of 8 x 1 on each of 2 processes") == len(CASES)


@pytest.mark.slow
def test_an_adapter_of_two_processes_is_evaluated_by_one(by_two):
    done = run("-m", "spt.evaluate", f"run={run_of(by_two[0], 'token')}")
    assert done.returncode == 0 and "the recorded scores exactly" in done.stdout, done.stderr


@pytest.mark.soak
def test_accelerate_launch_and_a_run_that_is_finished(data, tmp_path):
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "-m", "spt.train")
    arguments = ("task=demo_choice", *DEMO, "trainer.max_steps=3", f"output_dir={tmp_path}")
    done = run(*launch, *arguments, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1:") == 1 and "on each of 2 processes" in done.stdout
    again = run(*TWO, "-m", "spt.train", *arguments, timeout=120)
    assert again.returncode == 0 and again.stdout.count("finished before") == 1, again.stderr
    assert "epoch 1:" not in again.stdout


@pytest.mark.soak
def test_divergence_ends_all_processes_with_one_message(tmp_path):
    settings = ("method=fine_tuning", "trainer.learning_rate=1e30", "trainer.max_grad_norm=0")
    done = run(*TWO, "-m", "spt.train", "task=demo_pair", *DEMO, *settings, f"output_dir={tmp_path}", timeout=120)
    assert done.returncode != 0 and done.stderr.count("error: the training loss became") == 1, done.stderr
    (record,) = tmp_path.glob("*/record.json")
    assert json.loads(record.read_text())["status"] == "diverged"


@pytest.mark.soak
def test_an_error_in_one_process_ends_all_with_its_message(tmp_path):
    done = run(*TWO, "-m", "tests.worker", "fail", "task=demo_pair", *DEMO, f"output_dir={tmp_path}", timeout=120)
    assert done.returncode != 0 and not list(tmp_path.glob("*/record.json"))
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and "process 1: out of memory: halve" in said[0], done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("order", ["group_by_length", "random"])
def test_two_preempted_processes_resume(order, data, tmp_path):
    """In the last batch one has two examples and the other one: their random states differ from then on."""
    settings = (
        *(setting.format(data=data) for setting in REGRESSION), f"task.train={data}/odd.csv", "method=spt_sl",
        "model=demo", "trainer.num_train_epochs=3", "trainer.per_device_train_batch_size=2",
        f"trainer.train_sampling_strategy={order}",
    )  # fmt: skip
    straight = run(*TWO, "-m", "spt.train", *settings, f"output_dir={tmp_path}/straight", timeout=120)
    stopped = run(*TWO, "-m", "tests.worker", "stop", *settings, f"output_dir={tmp_path}/stopped", timeout=120)
    assert straight.returncode == stopped.returncode == 0, straight.stderr + stopped.stderr
    assert stopped.stdout.count("resumes after epoch 1 and 9 steps ") == 1
    assert stopped.stderr.count("the same command resumes") == 1
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight") and resumed(tmp_path / "stopped") == 1


def test_a_sweep_is_not_for_several_processes(train, called, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, _, err = train("--multirun", "task=demo_pair", *DEMO, "seed=1,2")
    assert code == 1 and err.count("several processes do one run of spt.train") == 1
    code, _, err = called("spt.reproduce", "profile=smoke", f"output_dir={tmp_path}")
    assert code == 1 and err.count("several processes do one run of spt.train") == 1


@pytest.mark.parametrize(("rows", "batch", "count"), [(10, 2, 2), (9, 2, 2), (7, 1, 3), (2, 4, 3), (12, 3, 4)])
def test_shares_are_the_batches_of_one_process(rows, batch, count):
    own = [shares(range(rows), batch * count, process, count) for process in range(count)]
    whole = [list(range(i, min(i + batch * count, rows))) for i in range(0, rows, batch * count)]
    assert [sorted(chain.from_iterable(parts)) for parts in zip(*own, strict=True)] == whole
    for parts in zip(*own, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_command_of_a_run_starts_as_many_processes(monkeypatch):
    assert distributed.launcher() == ["python"] and distributed.is_main()
    for name, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.launcher() == ["torchrun", "--nnodes=2", "--nproc_per_node=4"] and not distributed.is_main()
