"""Published numbers and learning curves, as they come with the package: `results/reference` of the repository."""

import csv
from functools import cache
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from spt.paths import CONF, REFERENCE

NUMBERS = REFERENCE / "published_results.csv"

CURVES = REFERENCE / "published_curves"

# The quantity that a published number compares with, by its split and what selected the epoch.
COMPARES_WITH = {
    ("validation", "max over epochs"): "best_dev",
    ("validation", "best epoch"): "best_dev",
    ("validation", "last epoch"): "last_dev",
    ("test", "best dev epoch"): "test",
    ("test (at best dev)", "best epoch"): "test",
}

# Methods published under another name: the numbers of prefix_tuning are P-tuning v2's.
SAME_AS = {"p_tuning_v2": "prefix_tuning"}


def published(task: str, model: str, method: str) -> list[dict[str, str]]:
    """The published rows of a task, model and method, in the order of the file."""
    key = (task, model, SAME_AS.get(method, method))
    return [row for row in read_numbers() if (row["task"], row["model"], row["method"]) == key]


@cache
def read_numbers() -> list[dict[str, str]]:
    """All rows of the file of published numbers, which tests/report/test_report.py checks."""
    with NUMBERS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def task_config(task: str) -> dict[str, Any]:
    """The task settings in a task's file in `conf/task`, before Hydra composes them."""
    content = OmegaConf.load(CONF / "task" / f"{task}.yaml")
    whole: dict[str, Any] = OmegaConf.to_container(content, resolve=False)  # type: ignore[assignment]
    return whole.get("task", whole)


def curve(task: str, model: str, method: str, metric: str) -> list[tuple[float, float]]:
    """The epoch and dev score, in percent, of each epoch of the released run; empty if none is released."""
    path = CURVES / f"{task}_{model}_{SAME_AS.get(method, method)}.csv"
    if not path.exists() or metric != task_config(task)["metrics"][0]:  # the released runs have a task's first metric
        return []
    points = pd.read_csv(path)
    return list(zip(points.epoch.astype(float).tolist(), points[f"dev_{metric}"].tolist(), strict=True))
