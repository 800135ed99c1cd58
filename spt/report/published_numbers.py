"""Published numbers and learning curves, as they come with the package: `results/reference` of the repository."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from spt.errors import SptError, nearest
from spt.paths import CONF, REFERENCE

NUMBERS = REFERENCE / "published_results.csv"

CURVES = REFERENCE / "published_curves"

COLUMNS = ("source", "model", "task", "method", "split", "metric", "value", "selection", "seed", "note")

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
    """The published rows of a task, model and method, in the order of the file: dictionaries of `COLUMNS`."""
    key = (task, model, SAME_AS.get(method, method))
    return [row for row in read_numbers(NUMBERS) if (row["task"], row["model"], row["method"]) == key]


def headline_metric(task: str) -> str:
    """A task's first metric, which selects epochs and is shown in the tables."""
    return task_config(task)["metrics"][0]


@cache
def read_numbers(path: Path) -> list[dict[str, str]]:
    """All rows of a file of published numbers.

    Raises:
        SptError: if the file has other columns than `COLUMNS`, or a row has an invalid field.
    """
    with _reading(path) as reader:
        columns = tuple(reader.fieldnames or ())
        if columns != COLUMNS:
            raise SptError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}, not {','.join(columns)}")
        rows, seen = [], dict[tuple[str, ...], int]()
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            _check(row, where)
            key = tuple(row[name] for name in COLUMNS if name not in ("value", "note"))
            if key in seen:
                raise SptError(f"{where}: the same number stands in line {seen[key]} already: keep one of them")
            seen[key] = reader.line_num
            rows.append(row)
    return rows


@contextmanager
def _reading(path: Path) -> Iterator[csv.DictReader]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SptError(
            f"cannot read {path} ({getattr(error, 'strerror', None) or error}): it is a CSV file in UTF-8, which "
            "comes with the repository"
        ) from error


def _check(row: dict[str, Any], where: str) -> None:
    if None in row or None in row.values():
        raise SptError(f"{where}: {len(COLUMNS)} fields are needed; put a field that contains a comma in quotes")
    for name in COLUMNS[:-2]:
        if not row[name].strip():
            raise SptError(f"{where}: {name} is empty")
    for group in ("model", "task", "method"):
        known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        if row[group] not in known:
            raise SptError(f"{where}: unknown {group} {row[group]!r}: {nearest(row[group], known)}")
    metrics = task_config(row["task"])["metrics"] or []
    if row["metric"] not in metrics:
        raise SptError(f"{where}: {row['metric']!r} is no metric of {row['task']}: {nearest(row['metric'], metrics)}")
    pair = (row["split"], row["selection"])
    if pair not in COMPARES_WITH:
        known = [f"{split} with {selection}" for split, selection in COMPARES_WITH]
        raise SptError(
            f"{where}: split {pair[0]!r} with selection {pair[1]!r} compares with none of our numbers; "
            f"known: {', '.join(known)}"
        )
    try:
        inside = -100 <= float(row["value"]) <= 100
    except ValueError:
        inside = False
    if not inside:
        raise SptError(f"{where}: value must be a number in percent, up to 100, not {row['value']!r}")
    if row["seed"] and not row["seed"].isdecimal():
        raise SptError(f"{where}: seed must be a whole number, or empty where it is not known, not {row['seed']!r}")


@cache
def task_config(task: str) -> dict[str, Any]:
    """The task settings in a task's file in `conf/task`, before Hydra composes them."""
    content = OmegaConf.load(CONF / "task" / f"{task}.yaml")
    whole: dict[str, Any] = OmegaConf.to_container(content, resolve=False)  # type: ignore[assignment]
    return whole.get("task", whole)


def curve(task: str, model: str, method: str, metric: str) -> list[tuple[float, float]]:
    """The epoch and dev score, in percent, of each epoch of the released run; empty if none is released."""
    path = CURVES / f"{task}_{model}_{SAME_AS.get(method, method)}.csv"
    if not path.exists() or metric != headline_metric(task):  # which is what the released runs have
        return []
    points = pd.read_csv(path)
    return list(zip(points.epoch.astype(float).tolist(), points[f"dev_{metric}"].tolist(), strict=True))
