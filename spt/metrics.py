"""Scores of a split, as fractions. The first of a task's metrics selects epochs and stands in the tables."""

from collections.abc import Callable, Sequence

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


OF_CLASSES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1}
OF_ENTITIES: dict[str, Score] = {"f1": entity_f1}


def metric(name: str, task_type: str) -> Score:
    """The metric called `name`, for tasks of a type."""
    metrics = OF_ENTITIES if task_type == "token" else OF_CLASSES
    if name not in metrics:
        raise SptError(f"unknown metric {name!r} for a {task_type} task: {nearest(name, metrics)}")
    return metrics[name]
