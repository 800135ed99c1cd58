"""Metrics against examples worked by hand and the libraries that define them."""

import math

import pytest
import seqeval.metrics as seqeval
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from spt.tasks import metrics
from spt.tasks.metrics import CLASS_METRICS, NUMBER_METRICS


def test_binary_scores_worked_by_hand():
    gold, predicted = [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 1, 0, 0, 0, 0]  # 2 hits, 1 false alarm, 2 misses, 3 of 0
    assert CLASS_METRICS["f1"](gold, predicted) == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert CLASS_METRICS["matthews"](gold, predicted) == pytest.approx((2 * 3 - 1 * 2) / math.sqrt(3 * 4 * 4 * 5))
    assert CLASS_METRICS["f1"]([0, 0], [0, 0]) == 0.0
    assert CLASS_METRICS["matthews"]([0, 1], [1, 1]) == 0.0


classes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(classes)
def test_binary_scores_are_scikit_learns(pairs):
    gold, predicted = zip(*pairs, strict=True)
    assert CLASS_METRICS["f1"](gold, predicted) == f1_score(gold, predicted, pos_label=1, zero_division=0)
    assert CLASS_METRICS["matthews"](gold, predicted) == matthews_corrcoef(gold, predicted)
    question = [("0-0", label) for label in gold]
    assert metrics.answer_f1(question, predicted) == CLASS_METRICS["f1"](gold, predicted)


def test_correlations_are_scipys_and_worked_by_hand():
    gold, predicted = [0.0, 1.0, 2.0, 5.0], [0.1, 3.0, 2.0, 2.5]
    assert NUMBER_METRICS["pearson"](gold, predicted) == pytest.approx(pearsonr(gold, predicted).statistic)
    # Ranks 1 2 3 4 and 1 4 2 3: 1 - 6 * (0 + 4 + 1 + 1) / (4 * 15)
    assert NUMBER_METRICS["spearman"](gold, predicted) == pytest.approx(0.4)
    assert NUMBER_METRICS["spearman"](gold, predicted) == pytest.approx(spearmanr(gold, predicted).statistic)


@pytest.mark.parametrize("predicted", [[2.0, 2.0, 2.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]])
def test_correlations_without_a_value_are_zero(predicted, recwarn):
    gold = [1.0, 2.0, 3.0]
    assert NUMBER_METRICS["pearson"](gold, predicted) == 0.0
    assert NUMBER_METRICS["spearman"](gold, predicted) == 0.0
    assert NUMBER_METRICS["pearson"]([1.0], [2.0]) == 0.0 and not recwarn.list


def test_entities_are_scored_as_seqeval_does():
    gold = [["B-A", "I-A", "O", "B-B"], ["B-A", "O"]]
    predicted = [["B-A", "O", "O", "B-B"], ["B-A", "B-A"]]  # 2 of 3 found, 2 of 4 right
    assert metrics.entity_scores(gold, predicted) == {
        "f1": pytest.approx(seqeval.f1_score(gold, predicted)),
        "precision": pytest.approx(2 / 4),
        "recall": pytest.approx(2 / 3),
        "f1_A": pytest.approx(2 * 1 / (2 + 3)),
        "f1_B": 1.0,
    }
    assert metrics.entity_scores(gold, predicted)["f1"] == pytest.approx(2 * 2 / (3 + 4))


def test_multirc_groups_answers_by_question():
    gold = [("0-0", 1), ("0-1", 0), ("0-0", 0), ("1-0", 1), ("1-0", 1)]  # the answers of 0-0 are apart
    predicted = [1, 0, 1, 1, 1]
    assert metrics.question_em(gold, predicted) == pytest.approx(2 / 3)
    assert metrics.answer_f1(gold, predicted) == pytest.approx(2 * 3 / (2 * 3 + 1))


@pytest.mark.parametrize(
    ("answers", "text", "f1", "em"),
    [
        (["the United States"], "United States", 1.0, 1.0),
        (["U.S."], "us", 1.0, 1.0),
        (["Barack Obama", "Obama"], "Obama", 1.0, 1.0),
        (["Barack Obama"], "Obama", 2 / 3, 0.0),
        (["Barack Obama"], "President Obama", 0.5, 0.0),
        (["Theatre  an der\tWien"], "theatre der wien", 1.0, 1.0),
        (["New New York"], "New York York", 2 * 2 / 6, 0.0),
        (["Jürgen"], "Jurgen", 0.0, 0.0),
        (["The"], "a", 0.0, 1.0),  # nothing is left to share
    ],
)
def test_record_compares_normalised_text(answers, text, f1, em):
    assert metrics.text_f1([answers], [text]) == pytest.approx(f1)
    assert metrics.text_em([answers], [text]) == em


def test_record_averages_over_queries():
    gold, predicted = [["a b c"], ["x"]], ["b", "y"]
    assert metrics.text_f1(gold, predicted) == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.text_em(gold, ["b c", "y"]) == 0.5


texts = st.text("ab .,'Théa\t", max_size=12)


@given(texts, texts)
def test_record_scores_are_consistent(answer, text):
    f1, em = metrics.text_f1([[answer]], [text]), metrics.text_em([[answer]], [text])
    assert 0 <= f1 <= 1 and (em == 0 or f1 == 1 or not metrics.normalised(text))
    assert f1 == metrics.text_f1([[text]], [answer])
    dressed = f"The {text.upper()}!"
    assert (f1, em) == (metrics.text_f1([[answer]], [dressed]), metrics.text_em([[answer]], [dressed]))
