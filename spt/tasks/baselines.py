"""Scores without a model: what a table's numbers must be above to show anything."""

from collections import Counter
from typing import Any

import numpy as np

from spt.tasks.model_inputs import Example
from spt.tasks.task import Task

DRAWS = 100  # of random predictions, whose mean score is given where it has no formula


def baseline_scores(task: Task, train: list[Example], examples: list[Example]) -> dict[str, float]:
    """The task's first metric on `examples` by predicting train's most frequent class, and classes at random.

    Returns:
        "majority" and "random"; nothing for tasks whose target is not one class of an example (tags, numbers, ReCoRD).
    """
    if task.target != "label" or task.task_type == "regression":
        return {}
    metric = task.metrics[0]

    def score(predictions: list[Any]) -> float:
        return task.score(predictions, examples)[metric]

    ((majority, _),) = Counter(example["label"] for example in train).most_common(1)
    random = 1 / len(task.classes)
    if metric != "accuracy":
        drawn = np.random.default_rng(0).integers(len(task.classes), size=(DRAWS, len(examples)))
        random = float(np.mean([*map(score, drawn.tolist())]))
    return {"majority": score([majority] * len(examples)), "random": random}
