"""Tasks: rows to examples, examples to model inputs, logits to predictions and scores."""

import json
import pickle

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoTokenizer

import spt
from spt.errors import SptError
from spt.paths import local_path
from tests.conftest import SHARED, tiny_encoder
from tests.test_configs import composed

ROWS = {
    "boolq": (
        {"question": "is it so", "passage": "It is.", "label": True, "idx": 0},
        {"texts": ["is it so", "It is."], "label": 1},
    ),
    "cb": (
        {"premise": "P.", "hypothesis": "H", "label": "neutral"},
        {"texts": ["P.", "H"], "label": 2},
    ),
    "rte": (
        {"premise": "P.", "hypothesis": "H", "label": "not_entailment"},
        {"texts": ["P.", "H"], "label": 1},
    ),
    "copa": (
        {"premise": "It fell.", "choice1": "A", "choice2": "B", "question": "cause", "label": 1},
        {"context": "It fell. because", "choices": ["A", "B"], "label": 1},
    ),
    "wic": (
        {"word": "go", "sentence1": "I go.", "sentence2": "You go.", "label": False, "start1": 2},
        {"texts": ["go: I go.", "go: You go."], "label": 0},
    ),
    "wic task.template=0": (
        {"word": "go", "sentence1": "I go.", "sentence2": "You go.", "label": False},
        {"texts": ["I go. You go. Does go have the same meaning in both sentences?"], "label": 0},
    ),
    "wsc": (
        {
            "text": "Ann saw Bea, so she ran.",
            "target": {"span1_index": 0, "span1_text": "Ann", "span2_index": 4, "span2_text": "she"},
            "label": True,
        },
        {"texts": ["she: Ann saw Bea, so she ran.", "Ann"], "text": "Ann saw Bea, so she ran.", "label": 1},
    ),
    "wsc task.template=1": (
        {
            "text": "Ann saw Bea, so she ran.",
            "target": {"span1_index": 0, "span1_text": "Ann", "span2_index": 4, "span2_text": "she"},
            "label": True,
        },
        {"texts": ["Ann saw Bea, so *she* ran.", "Ann"], "text": "Ann saw Bea, so she ran.", "label": 1},
    ),
}
HUB_LABELS = {"boolq": 1, "cb": 2, "rte": 1, "copa": 1, "wic": 0, "wsc": 1}


def task(*overrides):
    return instantiate(composed(f"task={overrides[0]}", *overrides[1:]).task, _convert_="all")


def write_splits(folder, rows, files=("train.jsonl", "val.jsonl")):
    for file in files:
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(local_path("pkg://spt/demo/encoder"))


@pytest.mark.parametrize("case", ROWS)
def test_local_rows_become_examples(case, tmp_path):
    row, example = ROWS[case]
    data = task(*case.split(), f"task.data_dir={write_splits(tmp_path, [row])}").load()
    assert data == {"train": [example], "validation": [example]}


@pytest.mark.parametrize("case", ROWS)
def test_hub_rows_become_the_same_examples(case):
    row, example = ROWS[case]
    flat = {k: v for k, v in row.items() if k != "target"} | row.get("target", {})
    assert task(*case.split()).example(flat | {"label": HUB_LABELS[case.split()[0]]}) == example


def test_an_unlabelled_test_split_is_left_out_and_a_labelled_one_is_kept(tmp_path):
    row = ROWS["rte"][0]
    write_splits(tmp_path, [row])
    bare = {k: v for k, v in row.items() if k != "label"}
    for rows, splits in (([bare, bare], 2), ([row], 3), ([row | {"label": -1}], 2)):
        write_splits(tmp_path, rows, ["test.jsonl"])
        assert len(task("rte", f"task.data_dir={tmp_path}").load()) == splits
    write_splits(tmp_path, [row, bare], ["test.jsonl"])
    with pytest.raises(SptError, match="line 2: no field 'label'.*rows without a label: 1"):
        task("rte", f"task.data_dir={tmp_path}").load()


def test_columns_without_tags_are_left_out_but_of_train(tmp_path, caplog):
    caplog.set_level("INFO")
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text("EU B-Org\nx O\n\n" if split != "test" else "EU\nx\n\ny\n")
    made = task("conll04", f"task.data_dir={tmp_path}")
    assert set(made.load()) == {"train", "validation"} and "test.txt has words alone" in caplog.text
    (tmp_path / "train.txt").write_text("EU\nx\n")
    with pytest.raises(SptError, match="line 1: expected 2 columns"):
        made.load()


def test_a_token_row_may_have_null_for_tags_or_spans():
    row = {"tokens": ["Ann", "Lee"], "tags": None, "entities": [{"start": 0, "end": 2, "type": "Peop"}]}
    made = task("conll04")
    assert made.example(row)["tags"] == ["B-Peop", "I-Peop"]
    assert made.is_unlabelled(row | {"entities": None})
    with pytest.raises(SptError, match="entities must be a list of spans, not 'Ann'"):
        made.example(row | {"entities": "Ann"})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rte", {"label": "entailmnt"}, "line 2: label 'entailmnt' .* did you mean 'entailment'"),
        ("rte", {"label": 2}, "line 2: label 2"),
        ("rte", {"label": None}, "line 2: field 'label' holds no label .rows without a label: 1"),
        ("rte", {"premise": None}, "line 2: field 'premise' holds no text but None"),
        ("copa", {"question": "why"}, "line 2: question is 'why'"),
        ("wsc task.template=1", {"target": {"span1_text": "a"}}, "line 2: no field 'span2_index'"),
        ("wsc task.template=1", {"target": {"span1_text": "a", "span2_index": "3"}}, "line 2: span2_index must be"),
    ],
)
def test_bad_rows_are_refused_by_line(name, change, message, tmp_path):
    name, *overrides = name.split()
    row = ROWS[name][0]
    write_splits(tmp_path, [row, row | change])
    with pytest.raises(SptError, match=message):
        task(name, *overrides, f"task.data_dir={tmp_path}").load()


SPANS = [{"start": 0, "end": 2, "type": "Peop"}, {"start": 1, "end": 2, "type": "Loc"}]


@pytest.mark.parametrize(
    ("name", "overrides", "row", "reason"),
    [
        (
            *("record", []),
            {"passage": "P", "query": "who?", "entities": ["a"], "answers": ["a"]},
            "no @placeholder in the query 'who?'",
        ),
        (
            *("wsc", ["task.template=1"]),
            ROWS["wsc"][0] | {"target": {"span1_text": "a", "span2_text": "b", "span2_index": 99}},
            "span2_index 99 is not the index of a word",
        ),
        ("conll04", [], {"tokens": ["Ann", "Lee"], "entities": SPANS}, "span 1-2 overlaps another"),
    ],
)
def test_rows_that_cannot_be_examples_are_left_out_and_counted(name, overrides, row, reason, tmp_path, caplog):
    good = {"conll04": row | {"entities": SPANS[:1]}, "record": row | {"query": "who is @placeholder?"}}
    rows = [good.get(name) or ROWS[name][0], row, row]
    write_splits(tmp_path, rows)
    files = {"conll04": "task.files={train: [train.jsonl], validation: [val.jsonl]}"}
    data = task(name, *overrides, f"task.data_dir={tmp_path}", *([files[name]] if name in files else [])).load()
    assert [len(examples) for examples in data.values()] == [1, 1]
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 2  # of train and of validation
    assert said[0].startswith(f"{name}: 2 of 3 examples cannot be used and are left out, the first in {tmp_path}")
    assert f"train.jsonl, line 2: {reason}" in said[0]


def test_an_index_that_the_template_does_not_use_may_be_wrong(tmp_path):
    row = ROWS["wsc"][0] | {"target": {"span1_text": "a", "span2_text": "b", "span2_index": 99}}
    write_splits(tmp_path, [row])
    assert len(task("wsc", f"task.data_dir={tmp_path}").load()["train"]) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rte", "task.metrics=[]"], "has no metric"),
        (["rte", "task.metrics=[f1a]"], "unknown metric 'f1a' for rte: did you mean 'f1'"),
        (["cb", "task.metrics=[f1]"], "f1 needs two classes, and cb has 3: use macro_f1"),
        (["stsb", "task.metrics=[accuracy]"], "unknown metric 'accuracy' for stsb"),
        (["stsb", "+task.labels=[a,b]"], "stsb is a regression and has no classes"),
        (["stsb", "task.bounds=[5,0]"], "the lower first"),
        (["conll04", "+task.places={token: 1}"], "task.places.tag is missing"),
        (["rte", "task.labels=[yes,yes]"], "each once"),
        (["conll04", "task.labels=[]"], "at least two classes"),
        (["conll04", "task.labels=[PER,B-PER]"], "types, without O, B- and I-, not 'B-PER'. If tags are numbers"),
        (["copa", "task.labels=[a,b,c]"], "2 choices and 3 labels"),
        (["rte", "task.templates=[['{premise}','b','c']]"], "one text or two"),
        (["rte", "task.templates=[['{premise']]"], "template '{premise'"),
        (["rte", "task.templates=[['{premise!r}']]"], "the name of a field and nothing else"),
        (["rte", "+task.hub.subset=en"], "task.hub.subset is no setting"),
        (["rte", "~task.hub.path"], "task.hub.path is missing"),
        (["rte", "task.max_length=2"], "task.max_length must be greater than or equal to 4, not 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, message):
    from spt.explain_error import explain

    with pytest.raises(Exception) as error:
        task(*overrides)
    assert message in explain(error.value)


def test_an_integer_label_may_be_a_class_name():
    assert task("rte", "task.labels=[1,0]").target_of({"label": 1}) == 0
    assert task("copa").target_of({"label": 1}) == 1


def test_a_missing_field_is_named_with_the_nearest(tmp_path):
    write_splits(tmp_path, [{"premises": "a", "hypothesis": "b", "label": "entailment"}])
    with pytest.raises(SptError, match="line 1: no field 'premise' or 'sentence1': did you mean 'premises'"):
        task("rte", f"task.data_dir={tmp_path}").load()


def test_an_empty_split_is_refused_and_an_unpublished_size_logged(tmp_path, caplog):
    write_splits(tmp_path, [ROWS["rte"][0]])
    task("rte", f"task.data_dir={tmp_path}").load()
    assert "rte train has 1 examples, published are 2490" in caplog.text
    (tmp_path / "val.jsonl").write_text("\n")
    with pytest.raises(SptError, match="validation split has no example: .*val.jsonl is empty"):
        task("rte", f"task.data_dir={tmp_path}").load()


def test_a_task_that_is_not_on_the_hub_asks_for_a_folder():
    with pytest.raises(SptError, match="ontonotes is not on the hub: set task.data_dir"):
        task("ontonotes").load()


def test_pairs_are_encoded_as_pairs_and_truncation_is_counted(tokenizer):
    rte = task("rte")
    examples = [
        {"texts": ["a child pulled the old apple", "the apple was old"], "label": 0},
        {"texts": ["the apple " * 40, "the apple was old"], "label": 1},
    ]
    split = rte.encode(examples, tokenizer, limit=200)
    assert tokenizer.decode(split.inputs[0]["input_ids"]) == (
        "[CLS] a child pulled the old apple [SEP] the apple was old [SEP]"
    )
    assert split.inputs[0]["token_type_ids"] == [0] * 8 + [1] * 5
    assert split.inputs["labels"] == [0, 1] and split.truncated == 0
    short = task("rte", "task.max_length=32").encode(examples, tokenizer, limit=200)
    assert short.truncated == 1 and short.inputs["length"] == [13, 32]
    with pytest.raises(SptError, match="max_length=128 is more than the 64 tokens"):
        rte.encode(examples, tokenizer, limit=64)


def test_choices_are_encoded_each_with_the_context(tokenizer):
    copa = task("copa")
    examples = [copa.example(ROWS["copa"][0] | {"choice1": "the apple", "choice2": "the old apple broke"})]
    split = copa.encode(examples, tokenizer, limit=None)
    assert [len(ids) for ids in split.inputs[0]["input_ids"]] == [9, 11] and split.inputs["length"] == [11]
    batch = copa.collator(tokenizer)(split.inputs.remove_columns(["length", "truncated"]).to_list())
    assert batch["input_ids"].shape == (1, 2, 11) and batch["attention_mask"][0].sum(1).tolist() == [9, 11]


def ner(types="PER,LOC"):
    return task("conll04", f"task.labels=[{types}]")


NER = [
    {"tokens": ["mr", "kalorba", "went", "to", "mirimso"], "tags": ["O", "B-PER", "O", "O", "B-LOC"]},
    {"tokens": ["\u200b", "kalor", "sold", "the", "kalor"], "tags": ["O", "B-PER", "O", "O", "B-LOC"]},
]


def logits_for(task, split, tags):
    """Logits that predict `tags` at the first sub-word of each word, and B-LOC elsewhere."""
    length = max(split.inputs["length"])
    logits = np.full((len(tags), length, len(task.classes)), -1.0)
    logits[..., task.classes.index("B-LOC")] = 1.0
    for i, words in enumerate(split.inputs["words"]):
        for position, word in enumerate(words):
            if word >= 0:
                logits[i, position, task.classes.index(tags[i][word])] = 9.0
    return logits


def test_the_label_is_on_the_first_subword(tokenizer):
    split = ner().encode(NER, tokenizer, limit=64)
    tokens = tokenizer.convert_ids_to_tokens(split.inputs[0]["input_ids"])
    assert tokens == ["[CLS]", "mr", "ka", "##lor", "##ba", "went", "to", "mi", "##rim", "##so", "[SEP]"]
    assert split.inputs[0]["labels"] == [-100, 0, 1, -100, -100, 0, 0, 3, -100, -100, -100]
    assert split.truncated == 0 and split.lost_words == 1  # the invisible character


def test_perfect_logits_score_one(tokenizer):
    split = ner().encode(NER, tokenizer, limit=64)
    gold = [example["tags"] for example in NER]
    predictions = ner().predictions(logits_for(ner(), split, gold), split)
    assert predictions == gold
    assert ner().score(predictions, NER) == {
        "f1": 1.0, "precision": 1.0, "recall": 1.0, "f1_LOC": 1.0, "f1_PER": 1.0
    }  # fmt: skip


def test_a_word_of_a_renamed_column_fills_the_template():
    row = {"premise": "It rained.", "asks": "cause", "choice1": "a", "choice2": "b"}
    renamed = task("copa", "+task.columns={question: [ask, asks]}")
    assert renamed.unlabelled_example(row)["context"] == "It rained. because"


def test_words_cut_off_by_truncation_are_misses(tokenizer):
    split = ner().encode(NER, tokenizer, limit=8)
    assert split.truncated == 1 and split.lost_words == 2  # "mirimso" and the invisible character
    gold = [example["tags"] for example in NER]
    scores = ner().score(ner().predictions(logits_for(ner(), split, gold), split), NER)
    assert scores["precision"] == 1.0 and scores["recall"] == 0.75


def test_a_single_predicted_class_is_reported():
    assert ner().only_class([["O", "O"], ["O"]]) == "O"
    assert ner().only_class([["O", "B-PER"], ["O"]]) is None
    assert task("cb").only_class([2, 2, 2]) == "neutral"
    assert task("cb").only_class([2, 0, 2]) is None


def test_scores_are_scikit_learns():
    gold, predicted = [0, 0, 1, 2, 2, 1, 0], [0, 1, 1, 2, 0, 1, 0]
    scores = task("cb").score(predicted, [{"label": label} for label in gold])
    assert scores == {
        "accuracy": accuracy_score(gold, predicted),
        "macro_f1": f1_score(gold, predicted, average="macro"),
    }


def test_a_constant_regression_is_reported():
    stsb = task("stsb")
    assert stsb.only_class([2.5, 2.5 + 4e-6, 2.5]) == "2.5000" and stsb.only_class([2.5, 2.6]) is None
    assert stsb.predictions(np.array([[1.5], [2.0]]), split=None) == [1.5, 2.0]


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("4.750", 4.75), (0, 0.0), (5.0, 5.0), (float(np.float32(3.8)), 3.8), ("1.23456789", 1.23456789),
        ("5.1", None), (True, None), ("nan", None), ("a", None), (10**400, None),
    ],
)  # fmt: skip
def test_labels_of_a_regression(label, number):
    row = {"sentence1": "a", "sentence2": "b", "score": label}
    if number is None:
        with pytest.raises(SptError, match="is not a number from 0 to 5"):
            task("stsb").example(row)
    else:
        assert task("stsb").example(row) == {"texts": ["a", "b"], "label": number}


def test_a_task_needs_train_and_validation():
    made = task("cb", "task.data_dir=/none")
    del made.files["validation"]
    with pytest.raises(SptError, match="cb: task.files names no validation split"):
        made.load()


@pytest.mark.parametrize(
    ("labels", "label", "index"),
    [
        ("[no,yes]", "1", 1), ("[no,yes]", 1, 1), ("[no,yes]", "yes", 1), ("['false','true']", True, 1),
        ("['1','0']", "1", 0), ("['1','0']", 0, 1), ("['-1','1']", -1, 0),
        ("['-1.0','1.0']", -1, 0), ("['9','10']", "0", None),
        ("['2.5','3.5']", "0", None), ("[no,yes]", "2", None),
        ("[no,yes]", -2, None), ("[no,yes]", "Yes", None), ("[no,yes]", 1.5, None), ("[no,yes]", 2.0, None),
        ("[no,yes]", 1.0, 1), ("[no,yes]", "0.0", 0), ("['1','0']", "0.0", 1), ("['0.0','1.0']", 1, 1),
        ("['False','True']", True, 1), ("[False,True]", "TRUE", 1), ("[False,True]", "1.0", 1),
        ("[no,yes]", True, None), ("[no,yes]", " yes\u00a0", 1), ("[no,'yes ']", "yes ", 1),
    ],
)  # fmt: skip
def test_a_label_is_a_class_name_or_an_index(labels, label, index):
    made = task("cb", f"task.labels={labels}")
    row = {"premise": "a", "hypothesis": "b", "label": label}
    assert not made.is_unlabelled(row)
    if index is None:
        with pytest.raises(SptError, match="is not a label of this task"):
            made.example(row)
    else:
        assert made.example(row)["label"] == index


DESCRIBED = {
    "cb": (
        {"premise": "the apple", "hypothesis": "broke"},
        [[0.0, 0.0, np.log(2)]],
        {
            "label": "neutral",
            "probabilities": {
                "entailment": pytest.approx(0.25), "contradiction": pytest.approx(0.25), "neutral": pytest.approx(0.5)
            },
        },
    ),
    "stsb": ({"sentence1": "the apple", "sentence2": "broke"}, [[2.5]], {"value": 2.5}),
    "copa": (
        {k: v for k, v in ROWS["copa"][0].items() if k != "label"},
        [[0.0, np.log(3)]],
        {"choice": 1, "probabilities": [pytest.approx(0.25), pytest.approx(0.75)]},
    ),
    "conll04": (
        {"tokens": ["mr", "kalorba", "\u200b"]},
        [[[0.0] * 9, [np.log(8)] + [0.0] * 8, [0.0, np.log(2)] + [0.0] * 7, *[[9.0] + [0.0] * 8] * 3]],
        {"entities": [{"type": "Loc", "start": 1, "end": 2, "text": "kalorba", "probability": pytest.approx(0.2)}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_row_without_a_label_is_encoded_and_described(name, tokenizer):
    made = task(name)
    row, logits, described = DESCRIBED[name]
    example = made.unlabelled_example(row)
    assert made.target not in example
    split = made.encode([example], tokenizer, limit=None)
    assert "labels" not in split.inputs.column_names
    collated = made.collator(tokenizer)([{n: split.inputs[0][n] for n in tokenizer.model_input_names}])
    assert collated["input_ids"].shape[-1] == split.inputs["length"][0]
    assert made.describe(np.array(logits, dtype=np.float32), split) == [described]


def test_texts_are_encoded_in_chunks_of_compact_types(tokenizer, monkeypatch):
    examples = {
        "rte": [{"texts": ["the apple " * n, "broke"], "label": n % 2} for n in range(1, 7)],
        "stsb": [{"texts": ["the apple " * n, "broke"], "label": 0.1 * n} for n in range(1, 7)],
        "copa": [{"context": "the apple " * n, "choices": ["broke", "the child"], "label": 1} for n in range(1, 7)],
        "conll04": [{"tokens": ["the", "\u200b", "apple"] * n, "tags": ["O"] * 3 * n} for n in range(1, 7)],
    }
    for name, rows in examples.items():
        made = task(name, "task.max_length=12")
        whole = made.encode(rows, tokenizer, limit=64)
        monkeypatch.setattr("spt.tasks.task.CHUNK", 2)
        chunked = made.encode(rows, tokenizer, limit=64)
        monkeypatch.undo()
        assert chunked.inputs.to_list() == whole.inputs.to_list() and chunked.examples == rows
        assert (chunked.truncated, chunked.lost_words) == (whole.truncated, whole.lost_words)
        assert whole.truncated > 0 and (whole.lost_words > 0) == (name == "conll04")
        types = {column: str(feature) for column, feature in whole.inputs.features.items()}
        assert "int32" in types["input_ids"] and "int8" in types["attention_mask"] and "int8" in types["token_type_ids"]


LONG = ["the old apple broke " * n for n in (1, 5, 2, 1, 7, 3)]
INVARIANT = {
    "rte": [{"texts": [text, "the child"], "label": 0} for text in LONG],
    "stsb": [{"texts": [text, "the child"], "label": 1.0} for text in LONG],
    "copa": [{"context": text, "choices": ["the child", "the apple pulled it"], "label": 0} for text in LONG],
    "conll04": [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in LONG],
    "record": [
        {
            "passage": text,
            "query": "@placeholder broke",
            "entities": ["the apple", "it"][: 1 + i % 2],
            "answers": ["it"],
        }
        for i, text in enumerate(LONG)
    ],
}


@pytest.mark.parametrize("name", INVARIANT)
def test_predictions_do_not_depend_on_the_batch(name, tokenizer):
    """Logits of each input alone, in one batch, and in another order."""
    made, examples = task(name, "task.max_length=40"), INVARIANT[name]
    model = spt.TaskModel(tiny_encoder(vocab_size=len(tokenizer)), made.task_type, len(made.classes))
    spt.attach(model, spt.PrefixConfig(prefix_length=3)).eval()
    collate = made.collator(tokenizer)

    def logits(examples, size):
        rows = made.encode(examples, tokenizer, limit=60).inputs
        kept = rows.select_columns([name for name in rows.column_names if name in tokenizer.model_input_names])
        rows_of_logits = []
        for start in range(0, len(kept), size):
            items = kept.select(range(start, min(start + size, len(kept)))).to_list()
            with torch.no_grad():
                out = model(**collate(items)).logits
            rows_of_logits += [
                row[:length] if made.task_type == "token" else row
                for row, length in zip(out, rows["length"][start : start + size], strict=True)
            ]
        return rows_of_logits

    alone = logits(examples, 1)
    assert len({tuple(row.flatten().tolist()) for row in alone}) > 2
    for size in (2, 5, 100):
        for one, other in zip(alone, logits(examples, size), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    if name != "record":
        order = [3, 1, 5, 0, 4, 2]
        for place, row in zip(order, logits([examples[i] for i in order], 4), strict=True):
            torch.testing.assert_close(alone[place], row, rtol=0, atol=1e-5)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the real data is not at ../shared/data")
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("boolq", "superglue/BoolQ"), ("cb", "superglue/CB"), ("copa", "superglue/COPA"), ("rte", "superglue/RTE"),
        ("multirc", "superglue/MultiRC"), ("wic", "superglue/WiC"), ("wsc", "superglue/WSC"), ("cola", "glue/CoLA"),
        ("sst2", "glue/SST-2"), ("stsb", "glue/STS-B"), ("conll04", "conll04"), ("wnut17", "wnut17"),
    ],
)  # fmt: skip
def test_real_files_have_their_published_sizes(name, folder, caplog):
    real = task(name, f"task.data_dir={SHARED / 'data' / folder}")
    data = {"validation": real.read("validation")} if name == "boolq" else real.load()  # boolq's train is not there
    assert {split: len(examples) for split, examples in data.items()} == {split: real.sizes[split] for split in data}
    assert data.keys() == {"validation"} or data.keys() == real.sizes.keys()
    if name == "multirc":
        assert len({example["question"] for example in data["validation"]}) == 953
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_a_byte_level_tokenizer_starts_every_word_with_a_space(tmp_path):
    """RoBERTa's tokenizer takes lists of words only with spaces before them."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    from spt.modeling.pretrained_encoder import load_backbone
    from tests.conftest import tiny_encoder

    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["mr kalorba went to mirimso"] * 5, vocab_size=300, special_tokens=specials)
    trained.save_model(str(tmp_path))
    RobertaTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    tiny_encoder("roberta", vocab_size=300).save_pretrained(tmp_path)
    _, tokenizer = load_backbone(str(tmp_path), split_into_words=True)
    split = ner().encode(NER, tokenizer, limit=64)
    assert tokenizer.decode(split.inputs[0]["input_ids"]) == "<s> mr kalorba went to mirimso</s>"
    assert [w for w in split.inputs[0]["words"] if w >= 0] == [0, 1, 2, 3, 4] and split.lost_words == 0
    assert "token_type_ids" not in split.inputs.column_names


@pytest.mark.parametrize("name", ["rte", "copa", "conll04"])
def test_a_collator_can_be_sent_to_worker_processes(name, tokenizer):
    made = task(name)
    pickle.loads(pickle.dumps(made.collator(tokenizer)))
