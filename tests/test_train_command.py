"""`python -m spt.train` and `python -m spt.runs`, as a user calls them, on the embedded demo."""

import json
import re
import shlex
import shutil
import time
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
import yaml
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from safetensors.torch import load_file

from spt.command_help import usage
from spt.paths import CONF, local_path
from spt.records.folder_lock import locked
from spt.train import show_sweep
from tests import families
from tests.conftest import DEMO, REPO, call, run

TASKS = {"demo_pair": "accuracy", "demo_choice": "accuracy", "demo_ner": "f1"}
ONE_STEP = (*DEMO, "trainer.max_steps=1")
METHODS = ("fine_tuning", "linear_probe", "bitfit", "lora", "prefix_tuning", "p_tuning_v2", "spt", "spt_sl")


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/record.json"))]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """All methods on sentences, and one on the other shapes, in sweeps; test_numerics.py trains all on all shapes."""
    folder = tmp_path_factory.mktemp("sweep")
    pair, *others = TASKS
    done = [
        call("spt.train", "--multirun", *DEMO, "trainer.max_steps=2", *each, f"output_dir={folder}")
        for each in ((f"task={pair}", f"method={','.join(METHODS)}"), (f"task={','.join(others)}", "method=spt_sl"))
    ]
    codes, outs, errs = zip(*done, strict=True)
    assert not any(codes), done
    return folder, "".join(outs), "".join(errs)


def test_every_method_and_every_shape_run(sweep):
    check_runs(*sweep, {*(("demo_pair", method) for method in METHODS), *((task, "spt_sl") for task in TASKS)})


@pytest.mark.soak
def test_every_method_runs_on_every_shape(tmp_path):
    done = run(
        "-m", "spt.train", "--multirun", *DEMO, f"task={','.join(TASKS)}", f"method={','.join(METHODS)}",
        "trainer.per_device_train_batch_size=64", f"output_dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_runs(tmp_path, done.stdout, done.stderr, {(task, method) for task in TASKS for method in METHODS})


def check_runs(folder, out, err, cells):
    by_cell = {(r["task"], r["method"]): r for r in records(folder)}
    assert by_cell.keys() == cells
    for (task, method), record in by_cell.items():
        assert record["status"] == "finished" and record["metric"] == TASKS[task]
        assert 0 <= record["metrics"]["last_dev"] <= record["metrics"]["best_dev"] <= 1
        assert (record["metrics"]["test"] is not None) == (task == "demo_ner")
        groups = record["trainable_by_group"]
        assert groups["head"] > 0 and (groups["backbone"] > 0) == (method in ("fine_tuning", "bitfit"))
        has_prefix = method in ("prefix_tuning", "p_tuning_v2", "spt", "spt_sl")
        assert groups["prefix"] == (3 * 2 * 20 * 128 if has_prefix else 0)
        assert groups["lora"] == (3 * 2 * 2 * 8 * 128 if method == "lora" else 0)
        assert f"{task} demo {method} {TASKS[task]}: best dev" in out
    assert "Traceback" not in err and "Warning" not in err


def test_the_files_of_a_run_folder(sweep):
    folder, *_ = sweep
    (path,) = folder.glob("demo_ner.demo.spt_sl.*")
    left = {"config.yaml", "record.json", "history.jsonl", "outcomes.json", "adapter", "train.log"}
    assert {p.name for p in path.iterdir()} == left
    record = json.loads((path / "record.json").read_text())
    assert {
        "task", "model", "method", "seed", "status", "metrics", "best_epoch", "trainable_parameters", "wall_seconds",
        "peak_memory_bytes", "config", "fingerprint", "data", "versions", "git", "hardware", "recipe", "schema",
    } <= record.keys()  # fmt: skip
    assert record["trainable_parameters"] == 3 * 2 * 20 * 128 + 7 * 128 + 7
    assert record["config"]["method"]["sl_weight"] == 1e-4
    assert record["data"]["splits"]["train"] == {"examples": 200, "truncated": 0, "lost_words": 0}
    assert record["peak_memory_bytes"] > 1e8 and record["wall_seconds"] > 0
    assert record["versions"]["torch"] == torch.__version__
    assert len(record["git"]["commit"]) == 40 and isinstance(record["git"]["dirty"], bool)
    history = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [0, 1] and history[1]["dev_f1"] == record["metrics"]["best_dev"]
    started, trained = (row["prefixes"]["mean_abs_cosine"] for row in history)
    for kinds in (started, trained):
        assert {kind: len(layers) for kind, layers in kinds.items()} == {"key": 3, "value": 3}
    assert started != trained
    weights = load_file(path / "adapter" / "adapter.safetensors")
    assert sum(t.numel() for t in weights.values()) == record["trainable_parameters"]
    assert record["adapter_bytes"] < 100_000
    log = (path / "train.log").read_text()
    for text in ("150 validation", "prefix_length=20", "none for this cell: the defaults", "trainable", "best dev"):
        assert text in log


def test_the_list_of_runs_has_a_line_per_run(sweep, monkeypatch):
    folder, *_ = sweep
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = call("spt.runs", f"output_dir={folder}")
    assert code == 0, err
    for record in records(folder):
        line = next(x for x in out.splitlines() if record["task"] in x and f" {record['method']} " in x)
        assert f"{100 * record['metrics']['best_dev']:.2f}" in line


def test_a_finished_run_is_shown_instead_of_repeated(train, tmp_path):
    shutil.copytree(REPO / "spt/demo/choice", tmp_path / "data")
    arguments = ("task=demo_choice", f"task.data_dir={tmp_path}/data", *ONE_STEP)
    code, out, _ = train(*arguments)
    assert code == 0 and "epoch 1:" in out
    (path,) = (tmp_path / "runs").glob("*/record.json")
    before = path.read_bytes()
    code, out, _ = train(*arguments)
    assert code == 0 and "finished before" in out and "best dev" in out and "epoch 1:" not in out
    assert path.read_bytes() == before
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    code, _, err = train(*arguments, "force=true")
    assert code == 1 and "no data folder" in err and path.read_bytes() == before
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    code, out, _ = train(*arguments, "force=true")
    assert code == 0 and "epoch 1:" in out and path.read_bytes() != before
    assert json.loads(path.read_bytes())["metrics"] == json.loads(before)["metrics"]


def test_files_with_odd_names_are_trained_on_swept_recorded_and_evaluated(called, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["données (1)/d=1.csv", "数据,[x].csv", "${x} it's.csv"]
    Path("données (1)").mkdir()
    for name in names:
        Path(name).write_text("text,label\nthe old apple,a\nthe child,b\n", encoding="utf-8")
    files = (f"task.train={names[0]}", f"task.validation={names[1]}", f"task.test={names[2]}", "output_dir=o (1)")
    settings = ("task=custom", "model=demo", "task.text=[text]", "trainer.max_steps=1", *files)
    code, out, err = called("spt.train", "--multirun", *settings, "seed=1,2")
    assert code == 0 and "±" in out.splitlines()[-2] + out.splitlines()[-1], out + err
    for record in records(Path("o (1)")):
        program, flag, module, *arguments = shlex.split(record["command"])
        assert (program, flag, module) == ("python", "-m", "spt.train") and set(files) < set(arguments)
        code, out, _ = called("spt.train", *arguments)
        assert code == 0 and "finished before" in out
    (folder, _) = Path("o (1)").glob("custom.*")
    code, out, _ = called("spt.evaluate", f"run={folder}", "output=s, 1.json")
    assert code == 0 and "the recorded scores exactly" in out and Path("s, 1.json").is_file()
    code, out, _ = called("spt.predict", f"run={folder}", f"input={names[1]}")
    assert code == 0 and len(out.splitlines()) == 2
    code, _, err = called("spt.train", *settings, "task.label=a (1)")
    assert code == 1 and "needs quotes of its own" in err


def test_a_record_of_another_run_is_not_shown(train, tmp_path):
    arguments = ("task=demo_choice", *DEMO, "trainer.max_steps=1")
    train(*arguments)
    (path,) = (tmp_path / "runs").glob("*/record.json")
    path.write_text(path.read_text().replace(json.loads(path.read_text())["fingerprint"], "0123456789ab"))
    code, out, err = train(*arguments)
    assert code == 1 and "is of another run, with the fingerprint 0123456789ab" in err and "best dev" not in out


def test_a_run_whose_record_was_deleted_starts_again(train, tmp_path):
    arguments = ("task=demo_choice", *ONE_STEP)
    train(*arguments)
    (path,) = (tmp_path / "runs").glob("*/record.json")
    path.unlink()
    code, out, _ = train(*arguments)
    assert code == 0 and "epoch 1:" in out and path.exists()
    assert len((path.parent / "history.jsonl").read_text().splitlines()) == 2


RTE_CELL = (
    "task=rte", "method=spt_sl", "model=bert-base-cased",
    "task.data_dir=pkg://spt/demo/pair", "task.labels=[yes,no]", "task.max_length=64", "trainer.max_steps=1",
)  # fmt: skip


@pytest.fixture
def bert(tmp_path):
    """The setting of an encoder called bert-base-cased: the demo's."""
    (tmp_path / "bert-base-cased").symlink_to(local_path("pkg://spt/demo/encoder"))
    return f"model.name_or_path={tmp_path}/bert-base-cased"


def test_a_published_cell_shows_its_recipe_and_its_score(train, bert, tmp_path):
    """The recipe and the published score of rte on bert-base-cased; the data are the demo's."""
    code, out, err = train(*RTE_CELL, bert)
    assert code == 0, err
    assert "spt_sl/rte/bert-base-cased, authors-release@a7b9e97 (released run took 7800 steps" in out
    assert "published: validation 74.37 (max over epochs)" in out and "rte train has 200 examples" in out
    (record,) = records(tmp_path / "runs")
    assert record["recipe"]["source"] == "authors-release@a7b9e97" and record["seed"] == 44


def test_divergence_is_an_error_with_a_record(train, tmp_path):
    arguments = ("task=demo_pair", *DEMO, "method=fine_tuning", "trainer.learning_rate=1e30", "trainer.max_grad_norm=0")
    code, out, err = train(*arguments)
    assert code == 1 and "loss became" in err and "Traceback" not in err
    (record,) = records(tmp_path / "runs")
    assert record["status"] == "diverged" and record["warnings"]
    code, out, err = train(*arguments)
    assert code == 1 and "finished before" in out and "loss became" in err


@pytest.mark.parametrize(
    ("family", "attention", "message"),
    [
        ("DebertaV2", "sdpa", "attn_implementation='sdpa': choose eager"),
        ("RoFormer", "eager", "a prefix would have no effect on it"),
    ],
)
def test_a_model_without_a_supported_attention_is_refused(family, attention, message, train, tmp_path):
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = getattr(transformers, f"{family}Config")(vocab_size=150, **sizes)
    getattr(transformers, f"{family}Model")(config).save_pretrained(tmp_path / "model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REPO / "spt/demo/encoder" / file, tmp_path / "model")
    settings = ("model.pooling=first", f"model.name_or_path={tmp_path}/model", f"model.attn_implementation={attention}")
    code, _, err = train("task=demo_pair", *DEMO, *settings)
    assert code == 1 and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("ALBERT", "demo_pair"),
        pytest.param("DistilBERT", "demo_choice", marks=pytest.mark.slow),
        pytest.param("MPNet", "demo_ner", marks=pytest.mark.slow),
        ("ModernBERT", "demo_pair"),
        ("DeBERTa-v2/v3", "demo_ner"),
        ("GPT-2", "demo_choice"),
        pytest.param("Qwen2", "demo_pair", marks=pytest.mark.slow),
    ],
)
def test_other_families_train_and_are_evaluated(name, task, train, tmp_path):
    from spt.adapters.predictor import load
    from spt.evaluate import evaluate, examples_for

    folder = tmp_path / "model"
    families.family(name, vocab_size=200).save_pretrained(folder)
    shutil.copy(REPO / "spt/demo/encoder/tokenizer.json", folder)
    options = json.loads((REPO / "spt/demo/encoder/tokenizer_config.json").read_text())
    options |= {"model_input_names": ["input_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    eager = "eager" if name in families.EAGER_ONLY else "sdpa"
    model = (f"model.name_or_path={folder}", f"model.pooling={families.FAMILIES[name][1]}")
    settings = (*model, f"model.attn_implementation={eager}", "task.max_length=48", "trainer.max_steps=2")
    code, _, err = train(f"task={task}", "method=spt", *DEMO, *settings)
    assert code == 0, err
    (record,) = records(tmp_path / "runs")
    predictor = load(next((tmp_path / "runs").glob(f"{task}*")))
    scores = evaluate(predictor, examples_for(predictor, "validation", None, None)).scores
    assert scores == record["scores"]["best_dev"]


def test_an_error_is_in_the_log(train, tmp_path):
    train("task=demo_pair", *DEMO, "method.prefix_length=0")
    (log,) = (tmp_path / "runs").glob("*/train.log")
    assert "ERROR" in log.read_text() and "prefix_length must be" in log.read_text()


def test_a_failed_repeat_removes_the_old_result(train, tmp_path, monkeypatch):
    from spt.training.loop import Diverged, TrainingLoop

    def diverge(self, *_):
        raise Diverged("the training loss became nan by step 1")

    train("task=demo_choice", *ONE_STEP)
    monkeypatch.setattr(TrainingLoop, "run", diverge)
    code, out, err = train("task=demo_choice", *ONE_STEP, "force=true")
    assert code == 1 and "no epoch finished" in out and "became nan" in err
    (path,) = (tmp_path / "runs").glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "diverged" and not (path.parent / "adapter").exists()


def test_a_recipe_that_is_left_out_is_not_reported_missing(train, bert):
    _, out, _ = train(*RTE_CELL, bert, "recipe=none", "method.prefix_length=4")
    assert "recipe     left out" in out and "published: validation 74.37" in out


def test_no_published_score_stands_beside_other_weights(train):
    _, out, _ = train(*RTE_CELL, "model.name_or_path=pkg://spt/demo/encoder")
    assert "recipe     spt_sl/rte/bert-base-cased" in out and "published: none" in out


def test_a_folder_that_cannot_be_written_is_named_at_the_start(train, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = train("task=demo_pair", *DEMO, output_dir=tmp_path / "file" / "runs")
    assert code == 1 and f"cannot write {tmp_path}/file/runs" in err and "set output_dir" in err


@pytest.mark.slow
def test_a_traceback_is_shown_when_asked_for(tmp_path):
    arguments = ("-m", "spt.train", *DEMO, "task=demo_pair", "method.prefix_length=0", f"output_dir={tmp_path}")
    assert "Traceback" in run(*arguments, "-v").stderr
    swept = run(*arguments, "-v", "--multirun")
    assert swept.returncode == 1 and "Traceback" in swept.stderr and "these runs of the sweep failed" in swept.stderr


@pytest.mark.parametrize("batches", [(), ("hydra.sweeper.max_batch_size=1",)], ids=["at once", "one at a time"])
def test_one_failing_run_of_a_sweep_does_not_stop_the_others(batches, train, tmp_path):
    code, out, err = train("--multirun", "task=demo_choice", *ONE_STEP, "method.prefix_length=0,4", *batches)
    assert code == 1 and "prefix_length must be" in err and "method.prefix_length=0" in err and "best dev" in out
    (record,) = records(tmp_path / "runs")
    assert record["config"]["method"]["prefix_length"] == 4


def test_the_means_of_a_sweep_have_its_diverged_runs_and_no_earlier_result_of_a_failed_one(train, capsys, tmp_path):
    jobs = []
    for seed, status, returned in ((1, "finished", 0.5), (2, "diverged", "loss"), (3, "finished", "no memory")):
        code, _, err = train("task=demo_choice", *ONE_STEP, f"seed={seed}")
        assert code == 0, err
        (path,) = (p for p in (tmp_path / "runs").glob("*/record.json") if json.loads(p.read_text())["seed"] == seed)
        record = json.loads(path.read_text()) | {"status": status, "warnings": ["why"] * (status == "diverged")}
        path.write_text(json.dumps(record))
        config = OmegaConf.create(record["config"])
        jobs.append(JobReturn(cfg=config, status=JobStatus.COMPLETED, _return_value=returned))
    capsys.readouterr()
    show_sweep(jobs)
    assert "2‡" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_over_lengths_and_weights(train, tmp_path):
    swept = ("method.prefix_length=2,4", "method.sl_weight=0,1e-4")
    code, _, err = train("task=demo_pair", "--multirun", *ONE_STEP, "method=spt_sl", *swept)
    assert code == 0, err
    trained = {
        (r["config"]["method"]["prefix_length"], r["config"]["method"]["sl_weight"]) for r in records(tmp_path / "runs")
    }
    assert trained == {(2, 0), (2, 1e-4), (4, 0), (4, 1e-4)}


def test_a_run_of_a_sweep_waits_for_the_same_run_of_another_process(train, tmp_path, caplog):
    cell = ("task=demo_choice", *ONE_STEP, "method=spt")
    assert train(*cell)[0] == 0
    (path,) = (tmp_path / "runs").glob("*/record.json")
    path.unlink()
    at_work, message = Event(), f"{path.parent}: waiting for another process"

    def work() -> None:
        with locked(path.parent):
            at_work.set()
            deadline = time.monotonic() + 30
            while message not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.05)

    thread = Thread(target=work)
    thread.start()
    at_work.wait()
    code, _, err = train(*cell)
    assert code == 1 and f"another process is at work on {path.parent}" in err
    code, _, err = train("--multirun", *cell)
    thread.join()
    assert code == 0 and path.exists() and message in caplog.text, err


@pytest.mark.parametrize("name", ["evaluate", "predict", "push", "report", "reproduce", "runs", "train"])
def test_help_shows_groups_and_settings(name):
    text = usage(name)
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    settings = config.keys() - {"defaults", "hydra"}
    assert text.startswith(f"python -m spt.{name} ") and settings and "defaults:" not in text and "hydra:" not in text
    assert all(re.search(rf"^  {setting}:", text, re.M) for setting in settings)
    if name == "train":
        assert all(
            f"  {group} [" in text for group in ("task", "model", "method", "trainer", "logger", "hparams_search")
        )
        assert (
            "  method [spt]: bitfit fine_tuning linear_probe" in text and "\n  recipe" not in text.split("Settings")[0]
        )
