"""Data sets of the hub, read from folders in the hub's layout: parquet files with their features."""

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hydra.utils import instantiate

from spt.errors import SptError
from tests.test_configs import composed

TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Makes a folder of parquet files and a task that loads it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def make(name, rows, features, splits=("train", "validation", "test")):
        """`rows` are the rows of every split, or a dict of rows by split."""
        for split in splits:
            data = Dataset.from_list(rows[split] if isinstance(rows, dict) else rows, features=Features(features))
            (tmp_path / "data").mkdir(exist_ok=True)
            data.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
        task = instantiate(composed(f"task={name}").task, _convert_="all")
        task.hub = {"path": str(tmp_path), "splits": task.hub.get("splits")}
        return task

    return make


def test_superglue(published):
    text, label = Value("string"), ClassLabel(names=["entailment", "not_entailment"])
    rows = [{"premise": "P", "hypothesis": "H", "idx": 0, "label": 1}]
    hidden = [row | {"label": -1} for row in rows]
    features = {"premise": text, "hypothesis": text, "idx": Value("int32"), "label": label}
    task = published("rte", {"train": rows, "validation": rows, "test": hidden}, features)
    example = {"texts": ["P", "H"], "label": 1}
    assert task.load() == {"train": [example], "validation": [example]}


def test_classes_in_another_order_than_in_the_task(published):
    text, label = Value("string"), ClassLabel(names=["not_entailment", "entailment"])
    rows = [{"premise": "P", "hypothesis": "H", "idx": 0, "label": 1}]
    features = {"premise": text, "hypothesis": text, "idx": Value("int32"), "label": label}
    assert published("rte", rows, features).read("train") == [{"texts": ["P", "H"], "label": 0}]


def test_names_of_classes_that_are_numbers_in_the_task(published):
    text, label = Value("string"), ClassLabel(names=["not_equivalent", "equivalent"])
    rows = [{"sentence1": "P", "sentence2": "H", "idx": 0, "label": 1}]
    features = {"sentence1": text, "sentence2": text, "idx": Value("int32"), "label": label}
    assert published("mrpc", rows, features).read("train") == [{"texts": ["P", "H"], "label": 1}]


def test_conll03_with_numbered_tags(published):
    rows = [{"id": "0", "tokens": ["Ann", "Lee", "in", "Rome"], "ner_tags": [1, 2, 0, 5]}]
    features = {"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=TAGS))}
    data = published("conll03", rows, features).load()
    assert data["test"] == [{"tokens": ["Ann", "Lee", "in", "Rome"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]}]


def test_a_different_number_of_tags_and_tokens_is_refused(published):
    features = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=TAGS))}
    with pytest.raises(SptError, match="train, example 0: 2 tokens and 0 tags"):
        published("conll03", [{"tokens": ["a", "b"], "ner_tags": []}], features).load()


def test_conll04_with_spans(published):
    spans = [{"start": 0, "end": 2, "type": "Peop"}, {"start": 3, "end": 4, "type": "Loc"}]
    span = {"start": Value("int64"), "end": Value("int64"), "type": Value("string")}
    features = {"tokens": List(Value("string")), "entities": List(span)}
    rows = [
        {"tokens": ["Ann", "Lee", "in", "Rome"], "entities": spans},
        {"tokens": ["no", "name"], "entities": []},
    ]
    data = published("conll04", rows, features).load()
    assert [example["tags"] for example in data["train"]] == [["B-Peop", "I-Peop", "O", "B-Loc"], ["O", "O"]]


def test_the_copy_of_rte_in_glue(published):
    text, label = Value("string"), ClassLabel(names=["entailment", "not_entailment"])
    features = {"sentence1": text, "sentence2": text, "idx": Value("int32"), "label": label}
    data = published("rte", [{"sentence1": "P", "sentence2": "H", "idx": 0, "label": 1}], features).load()
    assert data["train"] == [{"texts": ["P", "H"], "label": 1}]


def test_stsb_with_numbers(published):
    text = Value("string")
    rows = [{"sentence1": "A", "sentence2": "B", "label": 3.75}]
    hidden = [row | {"label": -1.0} for row in rows]
    features = {"sentence1": text, "sentence2": text, "label": Value("float32")}
    data = published("stsb", {"train": rows, "validation": rows, "test": hidden}, features).load()
    assert data == {split: [{"texts": ["A", "B"], "label": 3.75}] for split in ("train", "validation")}


def test_mnli_with_split_names_of_its_own(published):
    text, label = Value("string"), ClassLabel(names=["entailment", "neutral", "contradiction"])
    features = {"premise": text, "hypothesis": text, "label": label}
    rows = [{"premise": "P", "hypothesis": "H", "label": 1}]
    labels = {"train": 0, "validation_matched": 1, "validation_mismatched": 2, "test_matched": -1}
    splits = {name: [row | {"label": number} for row in rows] for name, number in labels.items()}
    data = published("mnli", splits, features, splits=labels).load()
    assert {split: examples[0]["label"] for split, examples in data.items()} == {
        "train": 0, "validation": 1, "validation_mismatched": 2
    }  # fmt: skip


def test_wnut17_in_the_layout_of_a_converted_data_set(published, tmp_path):
    names = ["O", *(f"{prefix}-{kind}" for kind in ("corporation", "creative-work") for prefix in "BI")]
    features = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    task = published("wnut17", [{"tokens": ["a", "b", "c"], "ner_tags": [3, 4, 0]}], features)
    for split in ("train", "validation", "test"):
        (tmp_path / "wnut_17" / split).mkdir(parents=True)
        (tmp_path / "data" / f"{split}-00000-of-00001.parquet").rename(tmp_path / "wnut_17" / split / "0000.parquet")
    data = task.load()
    assert data["test"] == [{"tokens": ["a", "b", "c"], "tags": ["B-creative-work", "I-creative-work", "O"]}]


def test_multirc_with_indices(published):
    text, number = Value("string"), Value("int32")
    idx = {"paragraph": number, "question": number, "answer": number}
    features = {"paragraph": text, "question": text, "answer": text, "idx": idx, "label": ClassLabel(num_classes=2)}
    row = {"paragraph": "P", "question": "Q?", "answer": "A", "label": 1, "idx": dict(zip(idx, (3, 4, 5), strict=True))}
    data = published("multirc", [row], features).load()
    assert data["train"] == [{"texts": ["P", "Q? A"], "question": "3-4", "label": 1}]


def test_record_with_lists(published):
    text, texts = Value("string"), List(Value("string"))
    features = {"passage": text, "query": text, "entities": texts, "answers": texts}
    rows = [{"passage": "P\n@highlight\nh", "query": "@placeholder?", "entities": ["a", "b"], "answers": ["b"]}]
    hidden = [row | {"answers": []} for row in rows]
    data = published("record", {"train": rows, "validation": rows, "test": hidden}, features).load()
    assert data.keys() == {"train", "validation"}
    assert data["train"] == [rows[0] | {"passage": "P\n- h"}]


def test_a_missing_column_is_named(published):
    task = published("cb", [{"sentence1": "P", "label": 0}], {"sentence1": Value("string"), "label": Value("int64")})
    with pytest.raises(SptError, match="train, example 0: no field 'premise'"):
        task.load()


def test_a_missing_tag_column_is_named(published):
    task = published("conll03", [{"tokens": ["a"]}], {"tokens": List(Value("string"))})
    with pytest.raises(SptError, match="train, example 0: no field 'tags' or 'ner_tags'"):
        task.load()


def test_a_missing_split_is_named(published):
    text = Value("string")
    rows = [{"premise": "P", "hypothesis": "H", "label": 0}]
    features = {"premise": text, "hypothesis": text, "label": Value("int64")}
    with pytest.raises(SptError, match="on the hub has no split 'validation': .*train"):
        published("rte", rows, features, splits=("train",)).load()
