"""Adapters after training, through the commands: evaluate, predict, share a backbone, damage, push."""

import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas import DataFrame
from safetensors.torch import load_file, save_file

import spt
from spt.evaluate import evaluate, examples_for
from spt.paths import local_path
from spt.predict import as_they_come
from tests.conftest import DEMO, REPO, call, run
from tests.hub import Hub

METHODS = {
    "demo_pair": ("spt", "lora", "bitfit", "linear_probe", "fine_tuning"),
    "demo_choice": ("spt", "lora", "p_tuning_v2"),
    "demo_ner": ("spt", "lora", "p_tuning_v2"),
}
PAIR = ("a child pulled the old apple", "the apple was old")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Runs of a few steps by (task, method): all shapes, all methods, a projection, and a custom regression task."""
    folder = tmp_path_factory.mktemp("life")
    rows = "".join(f"the apple {'broke ' * i},the child,{i}.5\n" for i in range(6))
    (folder / "own.csv").write_text(f"one,two,score\n{rows}")
    sweep = ("spt.train", "--multirun", *DEMO, "trainer.max_steps=3", f"output_dir={folder}")
    own = (f"task.train={folder}/own.csv", f"task.validation={folder}/own.csv", "task.text=[one,two]")
    for arguments in (
        *((*sweep, f"task={task}", f"method={','.join(methods)}") for task, methods in METHODS.items()),
        (*sweep, "task=demo_ner", "method=prefix_tuning", "method.projection=16", "method.prefix_length=4"),
        (*sweep, "task=custom", *own, "task.shape=regression", "task.label=score", "method=spt"),
    ):
        code, _, err = call(*arguments)
        assert code == 0, err
    records = [json.loads(path.read_text()) for path in folder.glob("*/record.json")]
    return {(r["task"], r["method"]): next(folder.glob(f"*.{r['fingerprint']}")) for r in records}


@pytest.fixture
def command():
    """`python -m spt.<name>` in this process: returns (exit code, standard output, standard error)."""
    return lambda name, *arguments: call(f"spt.{name}", *arguments)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text())


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# --- evaluate


def test_evaluate_reproduces_the_recorded_scores_exactly(runs):
    assert len(runs) == sum(map(len, METHODS.values())) + 2
    for (task, method), folder in runs.items():
        predictor, record = spt.load(folder), record_of(folder)
        for split, name in (("validation", "best_dev"), ("test", "test")):
            if record["scores"][name] is not None:
                scores = evaluate(predictor, examples_for(predictor, split, None, None)).scores
                assert scores == record["scores"][name], (task, method, split)


def test_a_projection_is_saved_as_its_precision_computed_it(train, command, data, tmp_path):
    settings = ["method=p_tuning_v2", "method.projection=8", "trainer.bf16=true", "trainer.max_steps=2"]
    code, _, err = train("model=demo", "task=demo_pair", f"task.data_dir={data}/demo_pair", *settings)
    (run,) = (tmp_path / "runs").iterdir()
    code, out, err = command("evaluate", f"run={run}", f"output={tmp_path}/scores.json")
    assert code == 0 and "the recorded scores exactly" in out, err
    *_, last = lines((run / "history.jsonl").read_text())
    assert json.loads((tmp_path / "scores.json").read_text())["task_loss"] == last["dev_loss"]


@pytest.mark.slow
def test_evaluate_in_a_new_process(runs, tmp_path):
    folder = runs["demo_ner", "spt"]
    done = run("-m", "spt.evaluate", f"run={folder}/adapter", f"output={tmp_path}/new/scores.json")
    assert done.returncode == 0 and "the recorded scores exactly" in done.stdout, done.stderr
    scores = json.loads((tmp_path / "new/scores.json").read_text())
    assert scores["scores"] == scores["recorded"] == record_of(folder)["scores"]["best_dev"]


def test_evaluate_other_data_splits_and_batch_sizes(runs, command, tmp_path):
    folder = runs["demo_ner", "spt"]
    shutil.copytree(local_path("pkg://spt/demo/ner"), tmp_path / "data")
    code, out, err = command("evaluate", f"run={folder}", f"data_dir={tmp_path}/data", "batch_size=7")
    assert code == 0 and "demo_ner validation (150 examples)" in out, err
    for same in ("split=test", f"file={tmp_path}/data/dev.txt"):
        code, out, _ = command("evaluate", f"run={folder}", same)
        assert code == 0 and "the recorded scores exactly" in out
    code, out, _ = command("evaluate", f"run={folder}", f"file={tmp_path}/data/test.txt")
    assert code == 0 and "no score of these examples is recorded" in out
    for arguments, message in (
        (["split=dev"], "no split 'dev'.* known: test, train, validation"),
        ([f"data_dir={tmp_path}"], "has no dev.txt"),
        ([f"file={tmp_path}/none.txt"], "cannot read .*none.txt"),
        ([f"file={tmp_path}/data/test.txt", f"data_dir={tmp_path}"], "one of data_dir"),
        (["batch_size=0"], "batch_size must be"),
    ):
        code, _, err = command("evaluate", f"run={folder}", *arguments)
        assert code == 1 and re.search(message, err) and err.count("error:") == 1 and "Traceback" not in err, err


# --- predict


def test_predict_a_pair_of_texts(runs, command):
    folder = runs["demo_pair", "spt"]
    code, out, err = command("predict", f"run={folder}", f"text={PAIR[0]}", f"text_pair={PAIR[1]}")
    (predicted,) = lines(out)
    assert code == 0 and predicted["input"] == 1, err
    assert sum(predicted["probabilities"].values()) == pytest.approx(1.0)
    assert predicted["label"] == max(predicted["probabilities"], key=predicted["probabilities"].get)
    assert list(spt.load(folder).stream([PAIR])) == [{k: predicted[k] for k in ("label", "probabilities")}]


def test_predict_files_of_every_format_and_standard_input(runs, command, tmp_path, monkeypatch):
    folder = runs["demo_pair", "spt"]
    source = local_path("pkg://spt/demo/pair") / "val.jsonl"
    rows = lines(source.read_text())[:5]
    fields = spt.load(folder).task.fields()
    assert len(fields) == 2
    files = {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "rows.json": json.dumps(rows),
        "rows.csv": ",".join(fields) + "\n" + "".join(f'"{r[fields[0]]}","{r[fields[1]]}"\n' for r in rows),
        "rows.tsv": "\t".join(fields) + "\n" + "".join(f"{r[fields[0]]}\t{r[fields[1]]}\n" for r in rows),
        "rows.txt": "".join(f"{r[fields[0]]}\t{r[fields[1]]}\n" for r in rows),
    }
    predicted = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        code, out, err = command("predict", f"run={folder}", f"input={tmp_path / name}", "batch_size=2")
        assert code == 0, err
        predicted.append([(line["input"], line["label"]) for line in lines(out)])
    for name in ("rows.jsonl", "rows.txt"):
        monkeypatch.setattr(sys, "stdin", (tmp_path / name).open())
        code, out, err = command("predict", f"run={folder}", "input=-")
        assert code == 0, err
        predicted.append([(line["input"], line["label"]) for line in lines(out)])
    assert all(each == predicted[0] for each in predicted) and [number for number, _ in predicted[0]] == [1, 2, 3, 4, 5]


def test_every_line_of_standard_input_is_predicted_counted_or_refused(runs, command, monkeypatch, tmp_path):
    def predict(text: str) -> tuple[int, str, str]:
        (tmp_path / "input").write_text(text)
        monkeypatch.setattr(sys, "stdin", (tmp_path / "input").open())
        return command("predict", f"run={runs['demo_pair', 'spt']}", "input=-")

    code, out, err = predict("a b\tc\n\n  \nd\te f")
    assert code == 0 and len(lines(out)) == 2 and "standard input: 2 blank lines skipped" in err, err
    _, out, _ = predict('{"premise": "a", "hypothesis": "b", "id": "x7", "idx": 3}\n')
    assert [(line["id"], line["idx"]) for line in lines(out)] == [("x7", 3)]
    for text, message in (
        ("", "standard input holds no input"),
        ("a\tb\tc\n", "line 1: expected a text, or two with a tab between them, found 3"),
        (
            '{"premise": "a", "hypothesis": "b", "id": Infinity}\n',
            "line 1: id and idx must be values that JSON has",
        ),
    ):
        code, out, err = predict(text)
        assert code == 1 and message in err and err.count("error:") == 1 and out == "", err


@pytest.mark.parametrize("task", ["demo_pair", "demo_choice"])
def test_predictions_give_the_recorded_score(task, runs, command):
    folder = runs[task, "lora"]
    path = local_path(f"pkg://spt/demo/{task.removeprefix('demo_')}/val.jsonl")
    _, out, _ = command("predict", f"run={folder}", f"input={path}", "batch_size=13")
    trained = spt.load(folder).task
    predicted = [
        line["choice"] if task == "demo_choice" else trained.labels.index(line["label"]) for line in lines(out)
    ]
    gold = [example["label"] for example in trained.read("validation")]
    right = sum(a == b for a, b in zip(predicted, gold, strict=True)) / len(gold)
    assert right == pytest.approx(record_of(folder)["metrics"]["best_dev"])


def test_entities_name_their_span_of_the_text(runs, command, tmp_path):
    predictor = spt.load(runs["demo_ner", "p_tuning_v2"])
    text = "mr kalorba,  went — to mirimso's «dolor» 🎉 and zuba."
    (predicted,) = predictor.stream([text])
    assert predicted["entities"], "no entities"
    for entity in predicted["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"] and entity["text"].strip() == entity["text"]
        assert 0 < entity["probability"] <= 1 and entity["type"] in predictor.task.labels
    (words,) = predictor.stream([["mr", "kalorba", "went", "to", "mirimso"]])
    assert words["entities"]
    for entity in words["entities"]:
        assert entity["text"] == " ".join(["mr", "kalorba", "went", "to", "mirimso"][entity["start"] : entity["end"]])
    assert list(predictor.stream([{"text": text}])) == [predicted]
    (tmp_path / "conll.txt").write_text("mr O\nkalorba O\nwent O\nto O\nmirimso O\n")
    _, out, _ = command("predict", f"run={runs['demo_ner', 'p_tuning_v2']}", f"input={tmp_path}/conll.txt")
    assert lines(out) == [{"input": 1, **words}]
    (tmp_path / "words.txt").write_text("mr\nkalorba\nwent\nto\nmirimso\n\n\nmr\nzuba\n")
    _, out, err = command("predict", f"run={runs['demo_ner', 'p_tuning_v2']}", f"input={tmp_path}/words.txt")
    assert rounded(lines(out)[0]) == rounded({"input": 1, **words}) and len(lines(out)) == 2 and "read as words" in err
    (tmp_path / "texts.txt").write_text(f"{text}\nzuba\n")
    _, out, err = command("predict", f"run={runs['demo_ner', 'p_tuning_v2']}", f"input={tmp_path}/texts.txt")
    found = rounded(lines(out)[0])
    assert found == rounded({"input": 1, **predicted}) and len(lines(out)) == 2 and "read as texts" in err


def rounded(prediction: dict) -> dict:
    """A prediction of entities; beside other texts of a batch the last digits of its numbers differ."""
    numbers = [entity | {"probability": round(entity["probability"], 4)} for entity in prediction["entities"]]
    return prediction | {"entities": numbers}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Germany's economy, Mary’s.", ["Germany", "'s", "economy", ",", "Mary", "’s", "."]),
        ("the U.S. and AT&T co-operate", ["the", "U.S.", "and", "AT&T", "co-operate"]),
        ("O'Brien don't", ["O'Brien", "don't"]),
        ("我在北京 カメラ", ["我", "在", "北", "京", "カ", "メ", "ラ"]),
    ],
)
def test_texts_are_divided_into_words_as_data_is(text, words):
    from spt.tasks.words_of_text import words_of

    assert [word for word, _ in words_of(text)] == words


@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_words_of_any_text_have_the_right_spans(text):
    from spt.tasks.words_of_text import words_of

    words = words_of(text)
    assert all(text[start:end] == word and not any(map(str.isspace, word)) for word, (start, end) in words)
    assert all(a[1][1] <= b[1][0] for a, b in itertools.pairwise(words))
    covered = {place for _, (start, end) in words for place in range(start, end)}
    assert all(place in covered for place, sign in enumerate(text) if sign.isalnum())
    assert all(unicodedata.category(text[place])[0] in "ZC" or place in covered for place in range(len(text)))


def test_predict_reads_one_batch_at_a_time(runs):
    predictor = spt.load(runs["demo_pair", "spt"])
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield PAIR

    predicted = predictor.stream(endless(), batch_size=4)
    assert next(predicted)["label"] in predictor.task.labels and len(read) == 4


@pytest.mark.slow
def test_ctrl_c_ends_a_prediction_that_waits_for_its_input(runs):
    arguments = [sys.executable, "-m", "spt.predict", f"run={runs['demo_ner', 'spt']}", "input=-"]
    process = subprocess.Popen(
        arguments, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    process.stdin.write(b"mr kalorba went\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130 and b"Fatal" not in process.stderr.read()


@pytest.mark.slow
def test_a_line_is_answered_when_it_is_there(runs):
    """A process that writes a line and waits for its answer, and a file on standard input, in order."""
    arguments = [sys.executable, "-m", "spt.predict", f"run={runs['demo_ner', 'spt']}", "input=-"]
    process = subprocess.Popen(arguments, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    for number, text in enumerate(["mr kalorba went", "zuba and dolor", "mirimso"], start=1):
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["input"] == number  # or waits for ever
    process.stdin.write("zuba\n" * 70)
    rest, _ = process.communicate(timeout=120)
    assert [json.loads(line)["input"] for line in rest.splitlines()] == list(range(4, 74)) and process.returncode == 0


def test_inputs_that_are_there_make_a_batch_and_an_error_comes_after_them():
    def inputs():
        yield from range(7)
        raise ValueError

    batches = as_they_come(inputs(), most=3)
    found = []
    with pytest.raises(ValueError):
        for batch in batches:
            assert 1 <= len(batch) <= 3
            found += batch
    assert found == list(range(7))


def test_reading_ahead_sorts_by_length_and_keeps_the_order(runs):
    predictor, shapes = spt.load(runs["demo_pair", "spt"]), []
    inputs = [("the apple broke " * (1 + 7 * number % 13), "it fell") for number in range(40)]
    predictor.model.encoder.register_forward_pre_hook(
        lambda module, args, inputs: shapes.append(inputs["input_ids"].shape), with_kwargs=True
    )
    plain = list(predictor.stream(inputs, batch_size=4))
    sorted_ = list(predictor.stream(inputs, batch_size=4, ahead=5))
    assert [rows for rows, _ in shapes] == [4] * 20
    widths = [width for _, width in shapes]
    assert sum(widths[10:]) < 0.9 * sum(widths[:10]) and widths[10:15] == sorted(widths[10:15])
    for one, other in zip(plain, sorted_, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_a_predictor_is_called(runs):
    predictor = spt.load(runs["demo_pair", "spt"])
    one, several = predictor(PAIR), predictor([PAIR, PAIR])
    for prediction in several:  # of a batch of two: the last digits may differ
        assert prediction["label"] == one["label"]
        assert prediction["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
    assert one["label"] in predictor.labels and predictor([]) == []
    (best,) = predictor(PAIR, top_k=1)["probabilities"].items()
    assert best == max(one["probabilities"].items(), key=lambda item: item[1])
    with pytest.raises(spt.SptError, match="top_k must be a whole number of at least 1, not 0"):
        predictor(PAIR, top_k=0)
    assert str(runs["demo_pair", "spt"]) in repr(predictor) and predictor.to("cpu") is predictor
    assert predictor(each for each in [PAIR]) == [one]
    with pytest.raises(spt.SptError, match="half a character"):
        predictor(("a \ud83d", "b"))
    with pytest.raises(spt.SptError, match="top_k is for classes, and demo_ner predicts none"):
        spt.load(runs["demo_ner", "spt"])("zuba", top_k=2)


def test_predictions_as_csv(runs, command, tmp_path):
    (tmp_path / "in.txt").write_text("the apple broke\tit fell\nthe child was old\tno\n")
    arguments = (f"run={runs['demo_pair', 'spt']}", f"input={tmp_path}/in.txt")
    code, out, _ = command("predict", *arguments)
    assert code == 0
    code, _, err = command("predict", *arguments, f"output={tmp_path}/out.csv")
    assert code == 0, err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["truncated"] for row in rows} == {"False"}
    for row, line in zip(rows, lines(out), strict=True):
        assert row["input"] == str(line["input"]) and row["label"] == line["label"]
        assert {name: row[f"probability of {name}"] for name in line["probabilities"]} == {
            name: str(value) for name, value in line["probabilities"].items()
        }


def test_predictions_before_a_bad_line_are_kept(runs, command, tmp_path):
    folder, out = runs["demo_pair", "spt"], tmp_path / "out.jsonl"
    fields = spt.load(folder).task.fields()
    good = json.dumps(dict(zip(fields, PAIR, strict=True)))
    (tmp_path / "in.jsonl").write_text(f"{good}\n{good}\n{{}}\n")
    code, _, err = command("predict", f"run={folder}", f"input={tmp_path}/in.jsonl", f"output={out}", "batch_size=1")
    assert code == 1 and f"in.jsonl, line 3: no field '{fields[0]}'" in err and "out.jsonl.partial" in err, err
    assert not out.exists() and len(lines((tmp_path / "out.jsonl.partial").read_text())) == 2
    (tmp_path / "in.jsonl").write_text(f"{good}\n{good}\n")
    code, printed, _ = command("predict", f"run={folder}", f"input={tmp_path}/in.jsonl", f"output={out}")
    assert code == 0 and printed == "" and len(lines(out.read_text())) == 2
    assert not (tmp_path / "out.jsonl.partial").exists()


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("demo_pair", [], "give one of text="),
        ("demo_pair", ["text=a", "input=b"], "give one of text="),
        ("demo_pair", ["text=a b"], "takes a pair of texts"),
        ("demo_pair", ["text="], "text is empty"),
        ("demo_pair", ['text={"premise": "a"}'], "text: no field 'hypothesis'"),
        ("demo_pair", ["text=a", "text_pair=b", "output=out.json"], "written as lines of JSON: name it .jsonl"),
        ("demo_pair", ["input=/no/such/file.jsonl"], "no file '/no/such/file.jsonl'"),
        ("demo_pair", ["text=a", "text_pair=b", "batch_size=0"], "batch_size must be"),
        ("demo_choice", ["text=a"], "takes rows, as in a data file"),
        ("demo_ner", ["text=a", "text_pair=b"], "not plain texts"),
        ("demo_pair", ["text=a", "text_pair=b", "base_model=/no/such/model"], "is not a folder with a model"),
    ],
)
def test_predict_refuses_wrong_arguments(task, arguments, message, runs, command):
    code, out, err = command("predict", f"run={runs[task, 'spt']}", *arguments)
    assert code == 1 and message in err and err.count("error:") == 1 and "Traceback" not in err, err
    assert out == ""


def test_truncated_inputs_are_counted(runs, command):
    folder = runs["demo_pair", "spt"]
    long = "the apple broke " * 60
    code, out, err = command("predict", f"run={folder}", f"text={long}", f"text_pair={PAIR[1]}")
    assert code == 0 and "1 inputs were truncated" in err
    assert lines(out)[0]["truncated"] is True and "truncated" not in spt.load(folder)(PAIR)


# --- several adapters on one backbone


def test_adapters_share_a_backbone(runs):
    chosen = [("demo_pair", "spt"), ("demo_ner", "lora"), ("demo_pair", "bitfit"), ("demo_choice", "p_tuning_v2")]
    chosen += [("demo_ner", "prefix_tuning"), ("demo_pair", "linear_probe")]
    inputs = {
        "demo_pair": [PAIR, ("the apple broke", "the child was old")],
        "demo_ner": ["mr kalorba went to mirimso", "zuba and dolor"],
        "demo_choice": [dict.fromkeys(spt.load(runs["demo_choice", "spt"]).task.fields(), "the apple broke")],
    }
    row = lines((local_path("pkg://spt/demo/choice") / "val.jsonl").read_text())[0]
    inputs["demo_choice"] = [row]
    alone = {key: list(spt.load(runs[key]).stream(inputs[key[0]])) for key in chosen}
    first = spt.load(runs[chosen[0]])
    together = {chosen[0]: first} | {key: spt.load(runs[key], share=first) for key in chosen[1:]}
    for predictor in together.values():
        assert predictor.base is first.base
        assert predictor.model.encoder.embeddings.word_embeddings.weight is first.base.embeddings.word_embeddings.weight
    with pytest.raises(spt.SptError, match="replaces the whole backbone"):
        spt.load(runs["demo_pair", "fine_tuning"], share=first)
    order = torch.randperm(3 * len(chosen), generator=torch.Generator().manual_seed(0)).tolist()
    for number in order:
        key = chosen[number % len(chosen)]
        assert list(together[key].stream(inputs[key[0]])) == alone[key], key
        with pytest.raises(spt.SptError):
            list(together[key].stream([3]))
    assert spt.attached(first.model) == first.adapter.description.prefix and spt.attached(first.base) is None
    base = spt.load(runs["demo_pair", "linear_probe"]).model.encoder.state_dict()
    own = first.base.state_dict()
    assert own.keys() == base.keys() and all(torch.equal(own[name], base[name]) for name in base)


# --- damaged and unfitting adapters


@contextmanager
def copied(folder: Path, to: Path):
    """Copies an adapter; yields its description, to be changed."""
    shutil.copytree(folder / "adapter", to, dirs_exist_ok=True)
    description = json.loads((to / "adapter.json").read_text())
    yield description
    (to / "adapter.json").write_text(json.dumps(description))


DAMAGES = {
    "another task class": lambda d: d["about"]["task"].update(_target_="os.system"),
    "no task class": lambda d: d["about"]["task"].pop("_target_"),
    "a task setting of another type": lambda d: d["about"]["task"].update(labels=3),
    "an unknown task setting": lambda d: d["about"]["task"].update(unknown=1),
    "fewer labels": lambda d: d["about"]["task"]["labels"].pop(),
    "another head": lambda d: d["head"].update(num_labels=7),
    "another pooling": lambda d: d["head"].update(pooling="mean"),
    "remote code": lambda d: d["about"]["model"]["tokenizer"].update(trust_remote_code=True),
    "remote attention": lambda d: d["about"]["model"].update(attn_implementation="user/kernels"),
    "an older format": lambda d: d.update(format=1),
    "no format": lambda d: d.pop("format"),
    "a prefix of another length": lambda d: d["prefix"].update(prefix_length=7),
    "an unknown prefix setting": lambda d: d["prefix"].update(tau=7),
    "a sample of texts": lambda d: d["sample"].update(dict.fromkeys(d["sample"], "x")),
    "another checksum": lambda d: d.update(sha256="0" * 64),
    **{
        f"no {name}": lambda d, name=name: d.pop(name) for name in ("base_model", "backbone", "sample", "head", "about")
    },
    **{
        f"{name} is a list": lambda d, name=name: d.update({name: []})
        for name in ("base_model", "head", "about", "prefix")
    },
    **{f"no about.{name}": lambda d, name=name: d["about"].pop(name) for name in ("task", "model")},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_gives_one_message(damage, runs, command, tmp_path):
    with copied(runs["demo_pair", "spt"], tmp_path / "adapter") as description:
        DAMAGES[damage](description)
    code, out, err = command("predict", f"run={tmp_path}/adapter", f"text={PAIR[0]}", f"text_pair={PAIR[1]}")
    assert code == 1 and out == "" and err.count("error:") == 1 and "Traceback" not in err, err
    assert "(unexpected;" not in err and len(err.strip().splitlines()) == 1, err


def test_an_adapter_without_its_training_predicts_and_is_not_evaluated(runs, command, tmp_path):
    with copied(runs["demo_pair", "spt"], tmp_path / "adapter") as description:
        del description["about"]["training"]
    assert len(list(spt.load(tmp_path / "adapter").stream([PAIR]))) == 1
    code, _, err = command("evaluate", f"run={tmp_path}/adapter")
    assert code == 1 and "about.training is missing" in err and err.count("error:") == 1, err


@pytest.mark.parametrize("damage", ["cut", "another", "empty", "missing", "pickle"])
def test_damaged_weights_give_one_message(damage, runs, command, tmp_path):
    with copied(runs["demo_pair", "spt"], tmp_path / "adapter"):
        file = tmp_path / "adapter/adapter.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "another":
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else b"\x80\x04.")
    code, _, err = command("evaluate", f"run={tmp_path}/adapter")
    assert code == 1 and "adapter.safetensors" in err and err.count("error:") == 1 and "Traceback" not in err, err


def test_another_base_model_is_refused(runs, command, tmp_path):
    shutil.copytree(local_path("pkg://spt/demo/encoder"), tmp_path / "other")
    weights = load_file(tmp_path / "other/model.safetensors")
    save_file(
        {n: t + 0.01 for n, t in weights.items()}, tmp_path / "other/model.safetensors", metadata={"format": "pt"}
    )
    adapter = f"run={runs['demo_pair', 'spt']}"
    code, _, err = command("evaluate", adapter, f"base_model={tmp_path}/other")
    assert code == 1 and "trained on other weights than this model's" in err, err
    config = json.loads((tmp_path / "other/config.json").read_text()) | {"num_attention_heads": 2}
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    code, _, err = command("evaluate", adapter, f"base_model={tmp_path}/other")
    assert code == 1 and "num_attention_heads is" in err, err


def test_a_source_without_an_adapter_is_refused(command, tmp_path):
    for source in (str(tmp_path), "nowhere", "/no/such/folder"):
        code, _, err = command("evaluate", f"run={source}")
        assert code == 1 and "is not the folder of a run or an adapter" in err, err
    code, _, err = command("evaluate", "run=user/nothing")
    assert code == 1 and "is not a folder, and cannot be loaded from the hub" in err and err.count("error:") == 1, err


# --- model card and hub


def test_the_card_describes_the_run(runs):
    from huggingface_hub import ModelCard

    for (task, method), folder in runs.items():
        card, record = ModelCard.load(folder / "adapter/README.md"), record_of(folder)
        (name, *_) = record["scores"]["best_dev"]
        assert card.data.eval_results[0].metric_value == record["scores"]["best_dev"][name]
        assert f"| {name} | {100 * record['scores']['best_dev'][name]:.2f} |" in card.text
        assert record["command"] in card.text and "base_model" not in card.data.to_dict()
        assert ("replace the base model's own" in card.text) == (method == "fine_tuning")
        use = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
        assert f'spt.load("{folder}/adapter")' in use
        exec(compile(use, f"the card of {task}, {method}", "exec"), {})


@pytest.mark.soak
def test_an_adapter_is_pushed_and_loaded_from_the_hub(tmp_path):
    done = run("-m", "spt.train", *DEMO, "task=demo_pair", "trainer.max_steps=3", f"output_dir={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    hub = Hub(tmp_path / "hub")
    text = (f"text={PAIR[0]}", f"text_pair={PAIR[1]}")
    kept = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    with hub.serving():
        environment = kept | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_secret"}
        sent = run(
            "-m", "spt.push", f"run={folder}", "repository=user/nli", env=environment | {"HF_HOME": f"{tmp_path}/a"}
        )
        assert sent.returncode == 0 and "user/nli" in sent.stdout, sent.stderr
        again = run("-m", "spt.predict", "run=user/nli", *text, env=environment | {"HF_HOME": f"{tmp_path}/b"})
    assert again.returncode == 0, again.stderr
    here = run("-m", "spt.predict", f"run={folder}", *text)
    assert again.stdout == here.stdout and len(lines(here.stdout)) == 1
    cached = run(
        "-m", "spt.predict", "run=user/nli", *text, env=kept | {"HF_HOME": f"{tmp_path}/b", "HF_HUB_OFFLINE": "1"}
    )
    assert cached.stdout == here.stdout, cached.stderr
    (pushed,) = (tmp_path / "b").rglob("snapshots/*/adapter.json")
    assert json.loads(pushed.read_text())["about"]["task"]["data_dir"] is None
    card = (pushed.parent / "README.md").read_text()
    assert str(tmp_path) not in pushed.read_text() + card and str(folder.parent) not in pushed.read_text() + card
    assert 'spt.load("user/nli")' in card


# --- configs of the commands


def test_a_missing_option_is_named(command):
    for name, option in (("evaluate", "run"), ("predict", "run"), ("push", "run")):
        code, _, err = command(name, *(["text=a"] if name == "predict" else []))
        assert code == 1 and f"{option} is missing: add {option}=..." in err, err


def test_predict_refuses_a_single_string(runs):
    with pytest.raises(spt.SptError, match="give a list of inputs"):
        next(spt.load(runs["demo_pair", "spt"]).stream("a text"))


def test_rows_of_datasets_and_tables(runs):
    predictor = spt.load(runs["demo_pair", "spt"])
    rows = [dict(zip(("premise", "hypothesis"), pair, strict=True)) for pair in (PAIR, PAIR[::-1])]
    labels = [predictor(row)["label"] for row in rows]
    assert Dataset.from_list(rows).map(lambda row: {"label": predictor(row)["label"]})["label"] == labels
    with pytest.raises(spt.SptError, match="inputs is a table.*to_dict"):
        predictor(DataFrame(rows))
    with pytest.raises(spt.SptError, match="give a list of inputs"):
        next(predictor.stream(rows[0]))


def test_the_commands_show_their_config_without_torch():
    code = """
import sys
from importlib import import_module
for name in ("evaluate", "inspect", "predict", "prune", "push", "train", "runs", "reproduce", "report.__main__"):
    for option in (["--cfg", "job"], ["--help"]):
        sys.argv = [f"spt.{name}", *option]
        import_module(f"spt.{name}").main()
print({"torch", "transformers"} & sys.modules.keys())
"""
    done = run("-c", code)
    assert done.returncode == 0 and done.stdout.strip().endswith("set()"), done.stdout + done.stderr
    assert done.stdout.count("prefix_length") > 1 and done.stdout.count("base_model") > 4
