"""MultiRC and ReCoRD: nested files and flat hub rows give the same examples, scored by question and by query."""

import json
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from spt.errors import SptError
from spt.paths import local_path
from spt.predict import checked_inputs
from tests.tasks.test_task import task, write_splits

PASSAGE = "The old apple broke.\n@highlight\nAnn Lee pulled it\n@highlight\nthe apple was old"
MULTIRC = {
    "idx": 7,
    "version": 1.1,
    "passage": {
        "text": "The apple.",
        "questions": [
            {"question": "Which?", "idx": 0, "answers": [{"text": "A", "idx": 0, "label": 1}]},
            {
                "question": "Who?",
                "idx": 1,
                "answers": [{"text": "B", "idx": 1, "label": 0}, {"text": "C", "idx": 2, "label": 1}],
            },
        ],
    },
}
RECORD = {
    "source": "Daily mail",
    "passage": {
        "text": PASSAGE,
        "entities": [{"start": 32, "end": 38}, {"start": 8, "end": 12}, {"start": 65, "end": 69}],
    },
    "qas": [
        {
            "query": "@placeholder broke",
            "idx": 0,
            "answers": [{"start": 8, "end": 12, "text": "apple"}, {"start": 65, "end": 69, "text": "apple"}],
        },
        {"query": "who is @placeholder?", "idx": 1, "answers": [{"start": 32, "end": 34, "text": "Ann"}]},
    ],
    "idx": 3,
}
QUERIES = [
    {
        "passage": "The old apple broke.\n- Ann Lee pulled it\n- the apple was old",
        "query": query,
        "entities": ["Ann Lee", "apple"],
        "answers": answers,
    }
    for query, answers in (("@placeholder broke", ["apple"]), ("who is @placeholder?", ["Ann"]))
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(local_path("pkg://spt/demo/encoder"))


def test_multirc_files_and_hub_rows(tmp_path):
    data = task("multirc", f"task.data_dir={write_splits(tmp_path, [MULTIRC, MULTIRC | {'idx': 8}])}").load()
    assert data["train"] == [
        {"texts": ["The apple.", f"{question} {answer}"], "question": f"{paragraph}-{number}", "label": label}
        for paragraph in (7, 8)
        for question, number, answer, label in (("Which?", 0, "A", 1), ("Who?", 1, "B", 0), ("Who?", 1, "C", 1))
    ]
    row = {"paragraph": "The apple.", "question": "Who?", "answer": "B", "label": 0}
    hub = row | {"idx": {"paragraph": 7, "question": 1, "answer": 1}}
    assert task("multirc").example(hub) == data["train"][1]
    write_splits(tmp_path, [hub])
    assert task("multirc").read_file(tmp_path / "train.jsonl") == [data["train"][1]]


def test_multirc_scores_by_question():
    examples = [{"question": question, "label": label} for question, label in (("7-0", 1), ("7-1", 0), ("7-1", 1))]
    assert task("multirc").score([1, 1, 1], examples) == {"f1a": pytest.approx(4 / 5), "em": 0.5}
    assert task("multirc").only_class([1, 1, 1]) == "1"


def test_record_files_and_hub_rows(tmp_path, caplog):
    data = task("record", f"task.data_dir={write_splits(tmp_path, [RECORD])}").load()
    assert data == {"train": QUERIES, "validation": QUERIES}
    assert "record train has 2 examples, published are 100730" in caplog.text
    hub = {
        "passage": PASSAGE,
        "query": "who is @placeholder?",
        "entities": ["Ann Lee", "apple", "apple"],
        "answers": ["Ann", "Ann"],
        "idx": {"passage": 3, "query": 1},
    }
    assert task("record").example(hub) == QUERIES[1]
    assert task("record").is_unlabelled(hub | {"answers": []})
    for change, message in (
        ({"entities": "Ann"}, "entities must be a list, not 'Ann'"),
        ({"answers": [{"text": "Ann"}]}, "answers must be a list of texts"),
    ):
        with pytest.raises(SptError, match=message):
            task("record").example(hub | change)
    (query, _) = task("record").flat_rows(RECORD | {"qas": [{"query": "q", "answers": None}, RECORD["qas"][0]]})
    assert task("record").is_unlabelled(query)
    with pytest.raises(SptError, match="the text of a passage must be text, not None"):
        task("record").flat_rows(RECORD | {"passage": RECORD["passage"] | {"text": None}})


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("record", {"passage": {"text": "Ann", "entities": [{"start": "0", "end": 2}]}, "qas": []}, "whole numbers"),
        ("record", {"passage": {"text": "Ann", "entities": None}, "qas": []}, "entities must be a list, not None"),
        ("record", {"qas": []}, "row must be an object with passage, qas"),
        ("multirc", {"passage": {"text": "A", "questions": None}, "idx": 0}, "questions must be a list, not None"),
    ],
)
def test_nested_rows_of_another_shape_are_refused(name, row, message):
    with pytest.raises(SptError, match=message):
        task(name).flat_rows(row)


def test_record_encodes_a_query_once_for_each_entity(tokenizer):
    made = task("record", "task.max_length=64")
    split = made.encode(QUERIES, tokenizer, limit=96)
    texts = [tokenizer.decode(ids).split("[SEP]")[1].strip() for ids in split.inputs["input_ids"]]
    assert [text.split()[-2:] for text in texts[:2]] == [["[UNK]", "broke"], ["apple", "broke"]]
    assert split.inputs["labels"] == [0, 1, 0, 0]  # the last query's answer is no entity: all are wrong
    assert len(split.examples) == 2 and split.truncated == 0
    short = task("record", "task.max_length=16").encode(QUERIES, tokenizer, limit=96)
    assert short.truncated == 2 and max(short.inputs["length"]) == 16


def test_record_answers_with_the_entity_of_the_largest_margin(tokenizer):
    made = task("record", "task.max_length=64")
    split = made.encode(QUERIES, tokenizer, limit=96)
    logits = np.array([[3.0, 2.0], [-9.0, -8.5], [0.0, 1.0], [5.0, 1.0]], dtype=np.float32)
    predictions = made.predictions(logits, split)
    assert predictions == [1, 0]
    # "apple" is right; "Ann Lee" shares one of two words with "Ann".
    assert made.score(predictions, QUERIES) == {"f1": pytest.approx((1 + 2 / 3) / 2), "em": 0.5}
    assert made.only_class(predictions) is None and made.only_class([0, 0]) == "entity 0"
    first, _ = made.describe(logits, split)
    assert first["answer"] == "apple"
    assert first["probabilities"] == pytest.approx({"Ann Lee": 1 / (1 + np.e), "apple": 1 / (1 + np.exp(-0.5))})


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("multirc", MULTIRC | {"passage": {"text": "a"}}, "line 1: passage must be an object with text, questions"),
        ("multirc", {"passage": MULTIRC["passage"]}, "line 1: row must be an object with passage, idx"),
        ("multirc", {"paragraph": "a", "label": 1, "idx": 3}, "line 1: idx must be an object with paragraph, question"),
        ("record", RECORD | {"qas": [{"query": "no place", "answers": [{"text": "a"}]}]}, "rows.jsonl has no example"),
        ("record", RECORD | {"qas": [{"query": "@placeholder"}]}, "holds no label"),
        (
            "record",
            RECORD | {"passage": {"text": PASSAGE, "entities": []}},
            "line 1: no entity to answer the query '@placeholder broke' with",
        ),
        ("record", RECORD | {"passage": {"text": PASSAGE, "entities": [{"start": 1}]}}, "entity must be an object"),
        ("record", RECORD | {"passage": {"text": "abc", "entities": [{"start": 1, "end": 3}]}}, "entity 1-3 lies outs"),
    ],
)
def test_bad_rows_are_named(name, row, message, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SptError, match=message):
        task(name).read_file(tmp_path / "rows.jsonl")


def test_rows_without_labels_are_encoded_without_labels(tokenizer):
    (row, *_) = task("multirc").flat_rows(MULTIRC)
    del row["label"]
    for name, item in (("multirc", row), ("record", task("record").flat_rows(RECORD)[0])):
        made = task(name)
        example = made.unlabelled_example(item)
        assert made.target not in example
        split = made.encode([example], tokenizer, limit=None)
        assert "labels" not in split.inputs.column_names


def test_two_questions_with_the_same_idx_are_refused(tmp_path):
    other = MULTIRC | {"passage": MULTIRC["passage"] | {"text": "The pear."}}
    write_splits(tmp_path, [MULTIRC, MULTIRC | {"idx": 8}, other])
    with pytest.raises(SptError, match="line 3: question 7-0 differs from the one in .*, line 1: each needs"):
        task("multirc").read_file(tmp_path / "train.jsonl")


def test_a_query_without_placeholder_is_left_out_of_a_prediction_and_counted(tmp_path, caplog):
    made, row = task("record"), {"passage": "Ann met Bea.", "entities": ["Ann", "Bea"]}
    rows = [row | {"query": query} for query in ("@placeholder met", "nobody met")]
    spans = [{"start": 0, "end": 2}, {"start": 8, "end": 10}]
    queries = [{"query": query, "answers": []} for query in ("she met", "@placeholder sat")]
    rows.append({"passage": {"text": "Ann met Bea.", "entities": spans}, "qas": queries})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    predictor = SimpleNamespace(task=made, examples=made.unlabelled_example)
    ids: deque[dict] = deque()
    config = OmegaConf.create({"text": None, "text_pair": None, "input": str(tmp_path / "rows.jsonl")})
    used = list(checked_inputs(config, predictor, ids))
    assert [each["query"] for each in used] == ["@placeholder met", "@placeholder sat"]
    assert [each["input"] for each in ids] == [1, 3]
    assert "2 of 4 inputs cannot be used and are left out, the first in" in caplog.text and "line 2" in caplog.text
