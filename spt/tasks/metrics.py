"""Scores of a split, as fractions. The first of a task's metrics selects epochs and stands in the tables."""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from spt.errors import SptError, nearest

Scores = dict[str, float]

Score = Callable[[Sequence, Sequence], Scores]


def accuracy(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """The share of examples whose class is right."""
    from sklearn.metrics import accuracy_score

    return {"accuracy": float(accuracy_score(gold, predicted))}


def macro_f1(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """F1 of each class, averaged over the classes that occur in gold or predicted."""
    from sklearn.metrics import f1_score

    return {"macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0))}


def binary_f1(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """F1 of class 1, of two classes; 0 where it neither occurs nor is predicted."""
    from sklearn.metrics import f1_score

    return {"f1": float(f1_score(gold, predicted, zero_division=0))}


def matthews(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """Matthews correlation, from -1 to 1; 0 where gold or predicted is all one class."""
    from sklearn.metrics import matthews_corrcoef

    return {"matthews": float(matthews_corrcoef(gold, predicted))}


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> Scores:
    """Pearson's linear correlation. Where it has no value (constant or non-finite numbers) it is 0."""
    from scipy.stats import pearsonr

    return {"pearson": _correlation(pearsonr, gold, predicted)}


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> Scores:
    """Spearman's rank correlation. Where it has no value (constant or non-finite numbers) it is 0."""
    from scipy.stats import spearmanr

    return {"spearman": _correlation(spearmanr, gold, predicted)}


def _correlation(function: Callable, gold: Sequence[float], predicted: Sequence[float]) -> float:
    if not np.isfinite(predicted).all() or np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    value = float(function(gold, predicted).statistic)
    return value if np.isfinite(value) else 0.0


def correlation_terms(name: str, gold: Sequence[float], predicted: Sequence[float]) -> list[float]:
    """What each example adds to "pearson" or "spearman": the product of standard scores (of ranks for "spearman")."""
    from scipy.stats import rankdata, zscore

    if not np.isfinite(predicted).all() or np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return [0.0] * len(predicted)
    a, b = (zscore(rankdata(values) if name == "spearman" else values) for values in (gold, predicted))
    return np.round(a * b, 6).tolist()


def entity_counts(gold: list[str], predicted: list[str]) -> list[int]:
    """The entities of one sentence (seqeval, lenient): predicted and gold at once, predicted, gold."""
    from seqeval.metrics.sequence_labeling import get_entities

    right, found = set(get_entities(gold)), set(get_entities(predicted))
    return [len(right & found), len(found), len(right)]


def entity_f1(gold: Sequence[list[str]], predicted: Sequence[list[str]]) -> Scores:
    """Entity-level micro F1, precision and recall, and each entity type's F1 (seqeval, its default lenient mode)."""
    from seqeval.metrics import classification_report

    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    micro = report["micro avg"]
    averages = ("micro avg", "macro avg", "weighted avg")
    types = {f"f1_{kind}": float(scores["f1-score"]) for kind, scores in report.items() if kind not in averages}
    return {
        "f1": float(micro["f1-score"]),
        "precision": float(micro["precision"]),
        "recall": float(micro["recall"]),
    } | types


def answer_f1(gold: Sequence[tuple[str, int]], predicted: Sequence[int]) -> Scores:
    """MultiRC's F1a: F1 of class 1 over all answers. Gold is the question and the class of each answer."""
    return {"f1a": binary_f1([label for _, label in gold], predicted)["f1"]}


def question_em(gold: Sequence[tuple[str, int]], predicted: Sequence[int]) -> Scores:
    """MultiRC's exact match: the share of questions all of whose answers are right."""
    right: dict[str, bool] = defaultdict(lambda: True)
    for (question, label), answer in zip(gold, predicted, strict=True):
        right[question] &= label == answer
    return {"em": sum(right.values()) / len(right)}


def text_f1(gold: Sequence[list[str]], predicted: Sequence[str]) -> Scores:
    """ReCoRD's F1: the tokens that a text shares with the gold answer closest to it, averaged over the queries."""
    return {"f1": _best_of_answers(_shared_tokens, gold, predicted)}


def text_em(gold: Sequence[list[str]], predicted: Sequence[str]) -> Scores:
    """ReCoRD's exact match: the share of queries whose text is one of the gold answers, after normalisation."""
    return {"em": _best_of_answers(lambda a, b: float(normalised(a) == normalised(b)), gold, predicted)}


def _best_of_answers(score: Callable[[str, str], float], gold: Sequence[list[str]], predicted: Sequence[str]) -> float:
    pairs = zip(gold, predicted, strict=True)
    return sum(max(score(answer, text) for answer in answers) for answers, text in pairs) / len(predicted)


def _shared_tokens(answer: str, text: str) -> float:
    ours, theirs = normalised(answer).split(), normalised(text).split()
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def normalised(text: str) -> str:
    """A text as SQuAD compares it: in lower case, without ASCII punctuation, articles and superfluous space."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


OF_CLASSES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1, "f1": binary_f1, "matthews": matthews}

OF_NUMBERS: dict[str, Score] = {"spearman": spearman, "pearson": pearson}

OF_ENTITIES: dict[str, Score] = {"f1": entity_f1}

OF_QUESTIONS: dict[str, Score] = {"f1a": answer_f1, "em": question_em}

OF_TEXTS: dict[str, Score] = {"f1": text_f1, "em": text_em}


def metric(name: str, metrics: dict[str, Score], task: str) -> Score:
    """The metric called `name`, of those that fit a task."""
    if name not in metrics:
        raise SptError(f"unknown metric {name!r} for {task}: {nearest(name, metrics)}")
    return metrics[name]
