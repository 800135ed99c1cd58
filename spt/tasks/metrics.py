"""Metrics: functions of (gold, predicted) that return a fraction, by their names in `task.metrics`.

Scores are those of scikit-learn, scipy and seqeval, and of the official MultiRC and ReCoRD evaluation.
"""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.stats import pearsonr, rankdata, spearmanr, zscore
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Scores = dict[str, float]

Metric = Callable[[Sequence, Sequence], float]


def has_correlation(gold: Sequence[float], predicted: Sequence[float]) -> bool:
    """Whether a correlation is defined: all numbers are finite, and neither side is constant."""
    return bool(np.isfinite(predicted).all()) and np.ptp(gold) > 0 and np.ptp(predicted) > 0


def correlation(function: Callable, gold: Sequence[float], predicted: Sequence[float]) -> float:
    """scipy's `pearsonr` or `spearmanr`, 0 where the correlation is not defined."""
    value = float(function(gold, predicted).statistic) if has_correlation(gold, predicted) else 0.0
    return value if np.isfinite(value) else 0.0


def correlation_terms(name: str, gold: Sequence[float], predicted: Sequence[float]) -> list[float]:
    """The terms of "pearson" or "spearman", whose mean it is: products of standard scores (for "spearman" of ranks)."""
    if not has_correlation(gold, predicted):
        return [0.0] * len(predicted)
    a, b = (zscore(rankdata(values) if name == "spearman" else values) for values in (gold, predicted))
    return np.round(a * b, 6).tolist()


def entity_counts(gold: list[str], predicted: list[str]) -> list[int]:
    """Numbers of entities in a sentence (seqeval, lenient): correctly predicted, predicted, gold."""
    gold_entities, predicted_entities = set(get_entities(gold)), set(get_entities(predicted))
    return [len(gold_entities & predicted_entities), len(predicted_entities), len(gold_entities)]


def entity_scores(gold: Sequence[list[str]], predicted: Sequence[list[str]]) -> Scores:
    """Entity-level micro F1, precision and recall, and the F1 of each entity type (seqeval, default lenient mode)."""
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    micro, *_ = (report.pop(f"{average} avg") for average in ("micro", "macro", "weighted"))
    scores = {"f1": micro["f1-score"], "precision": micro["precision"], "recall": micro["recall"]}
    scores |= {f"f1_{kind}": of_kind["f1-score"] for kind, of_kind in report.items()}
    return {name: float(score) for name, score in scores.items()}


def answer_f1(gold: Sequence[tuple[str, int]], predicted: Sequence[int]) -> float:
    """MultiRC's F1a: F1 of class 1 over all answers. `gold` has the question id and the class of each answer."""
    return f1_score([label for _, label in gold], predicted, zero_division=0)


def question_em(gold: Sequence[tuple[str, int]], predicted: Sequence[int]) -> float:
    """MultiRC's exact match: the share of questions whose answers are all classified correctly."""
    correct: dict[str, bool] = defaultdict(lambda: True)
    for (question, label), answer in zip(gold, predicted, strict=True):
        correct[question] &= label == answer
    return sum(correct.values()) / len(correct)


def text_f1(gold: Sequence[list[str]], predicted: Sequence[str]) -> float:
    """ReCoRD's F1: F1 of the tokens of a text and its most similar gold answer, averaged over the queries."""
    return _mean_of_best(_token_f1, gold, predicted)


def text_em(gold: Sequence[list[str]], predicted: Sequence[str]) -> float:
    """ReCoRD's exact match: the share of queries whose text equals a gold answer after normalisation."""
    return _mean_of_best(lambda answer, text: normalised(answer) == normalised(text), gold, predicted)


def _mean_of_best(score: Callable[[str, str], float], gold: Sequence[list[str]], predicted: Sequence[str]) -> float:
    pairs = zip(gold, predicted, strict=True)
    return sum(max(score(answer, text) for answer in answers) for answers, text in pairs) / len(predicted)


def _token_f1(answer: str, text: str) -> float:
    answer_tokens, text_tokens = normalised(answer).split(), normalised(text).split()
    shared = (Counter(answer_tokens) & Counter(text_tokens)).total()
    return 2 * shared / (len(answer_tokens) + len(text_tokens)) if shared else 0.0


def normalised(text: str) -> str:
    """A text as SQuAD compares it: lower case, without ASCII punctuation, articles and repeated spaces."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


CLASS_METRICS: dict[str, Metric] = {
    "accuracy": accuracy_score,
    "macro_f1": partial(f1_score, average="macro", zero_division=0),  # over the classes in gold or predicted
    "f1": partial(f1_score, zero_division=0),  # of class 1 of two
    "matthews": matthews_corrcoef,
}

NUMBER_METRICS: dict[str, Metric] = {
    "spearman": partial(correlation, spearmanr),
    "pearson": partial(correlation, pearsonr),
}

ENTITY_METRICS: dict[str, Metric] = {"f1": lambda gold, predicted: entity_scores(gold, predicted)["f1"]}

QUESTION_METRICS: dict[str, Metric] = {"f1a": answer_f1, "em": question_em}

TEXT_METRICS: dict[str, Metric] = {"f1": text_f1, "em": text_em}
