"""The held-out part of train, fewer training examples, and the outcome of each example, for paired tests."""

import json
from collections import Counter

import numpy as np
import pytest
from hydra.errors import InstantiationException
from hypothesis import given
from hypothesis import strategies as st

from spt.errors import SptError
from spt.tasks.metrics import NUMBER_METRICS, correlation_terms, entity_counts, entity_scores
from spt.tasks.task import HELD_OUT, data_fingerprint
from tests.conftest import DEMO, call
from tests.tasks.test_task import task

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=6)
NUMBERS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30)


def test_fewer_training_examples_are_nested_and_drawn_by_the_seed():
    whole = task("demo_pair").load()["train"]

    def texts(count, seed):
        few = task("demo_pair", f"task.train_examples={count}").few(whole, seed)
        assert len(few) == count and few == [example for example in whole if example in few]
        return {json.dumps(example) for example in few}

    assert texts(10, 1) < texts(40, 1) and texts(40, 1) != texts(40, 2)
    assert task("demo_pair").few(whole, 1) is whole
    with pytest.raises(SptError, match=f"train_examples=1000 is more than the {len(whole)} there are"):
        task("demo_pair", "task.train_examples=1000").few(whole, 1)


def test_a_run_on_fewer_examples_has_the_data_of_one_on_all(train, tmp_path):
    for more in ("task.train_examples=16", "task.train_examples=null"):
        code, _, err = train(*DEMO, "task=demo_pair", "method=spt", more, output_dir=tmp_path)
        assert code == 0, err
    few, every = sorted(
        (json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")),
        key=lambda record: record["data"]["splits"]["train"]["examples"],
    )
    assert few["data"]["splits"]["train"]["examples"] == 16 and few["steps"] < every["steps"]
    assert few["data"]["fingerprint"] == every["data"]["fingerprint"]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_held_out_examples_share_no_text_with_train(share):
    whole, split = task("demo_pair").load(), task("demo_pair", f"task.held_out={share}").load()
    assert Counter(map(json.dumps, split["train"] + split[HELD_OUT])) == Counter(map(json.dumps, whole["train"]))
    assert split["validation"] == whole["validation"]
    left, held = ({max(e["texts"], key=len) for e in split[name]} for name in ("train", HELD_OUT))
    assert not left & held
    assert abs(len(split[HELD_OUT]) - share * len(whole["train"])) < 2


def test_held_out_examples_do_not_depend_on_the_order_of_rows():
    made = task("demo_pair", "task.held_out=0.2")
    examples = made._read("train")
    _, held = made._hold_out(examples)
    _, again = made._hold_out(examples[::-1])
    assert sorted(map(json.dumps, held)) == sorted(map(json.dumps, again))
    assert made.read(HELD_OUT) == held and len(made.read("train")) == len(examples) - len(held)
    assert made.load()[HELD_OUT] == held


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1, "less than 1, not 1"), ("nan", "less than 1, not nan"), (-0.1, "greater than or equal to 0, not -0.1"),
        ("half", "a valid number, not 'half'"), (True, "a valid number, not True"),
        ("null", "a valid number, not None"),
    ],
)  # fmt: skip
def test_an_invalid_share_is_refused(share, message):
    with pytest.raises(InstantiationException, match=f"task.held_out must be {message}"):
        task("demo_pair", f"task.held_out={share}")


def test_a_share_that_leaves_one_side_empty_is_refused():
    with pytest.raises(SptError, match="leaves one side empty"):
        task("demo_pair", "task.held_out=0.001").load()
    with pytest.raises(SptError, match="no split 'held_out'"):
        task("demo_pair").read(HELD_OUT)


@given(NUMBERS)
def test_a_correlation_is_the_mean_of_its_terms_for_each_example(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    for name, score in NUMBER_METRICS.items():
        terms = correlation_terms(name, gold, predicted)
        assert len(terms) == len(gold)
        assert np.mean(terms) == pytest.approx(score(gold, predicted), abs=1e-5)


@given(SENTENCES)
def test_micro_f1_follows_from_the_counts_of_each_sentence(sentences):
    gold, predicted = ([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
    correct, n_predicted, n_gold = np.sum([entity_counts(g, p) for g, p in zip(gold, predicted, strict=True)], axis=0)
    f1 = 2 * correct / (n_predicted + n_gold) if n_predicted + n_gold else 0.0
    assert f1 == pytest.approx(entity_scores(gold, predicted)["f1"] if n_gold or n_predicted else 0.0)


def test_a_run_scores_the_held_out_split_and_keeps_the_outcome_of_each_example(train, tmp_path):
    code, _, err = train(*DEMO, "task=demo_pair", "task.held_out=0.25", "method=spt", output_dir=tmp_path)
    assert code == 0, err
    (folder,) = tmp_path.glob("demo_pair*")
    record, outcomes = (json.loads((folder / name).read_text()) for name in ("record.json", "outcomes.json"))
    assert record["data"]["splits"]["held_out"]["examples"] == 50 == len(outcomes["held_out"])
    assert record["data"]["splits"]["train"]["examples"] == 150
    for name in ("best_dev", "last_dev", "held_out"):
        assert np.mean(outcomes[name]) == pytest.approx(record["metrics"][name])
    assert len(record["model_sha256"]) == 64
    made = task("demo_pair", "task.held_out=0.25")
    _, out, err = call("spt.evaluate", f"run={folder}", "split=held_out")
    assert "the recorded scores exactly" in out, err
    about = json.loads((folder / "adapter" / "adapter.json").read_text())["about"]
    assert about["training"]["data"]["held_out"] == data_fingerprint({"held_out": made.read("held_out")})
