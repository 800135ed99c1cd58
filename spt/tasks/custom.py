"""Your own files as a task: `python -m spt.train task=custom task.train=... task.validation=... task.text=[column]`."""

import itertools
import math
from pathlib import Path
from typing import Any

from spt.errors import SptError, nearest
from spt.paths import local_path
from spt.tasks.base import Names, Task, checked, label_name
from spt.tasks.file_readers import read_rows, read_sentences
from spt.tasks.multiple_choice import ChoiceTask
from spt.tasks.text_classification import RegressionTask, SentenceTask
from spt.tasks.token_classification import TokenTask

METRICS = {
    "sentence": ["accuracy", "macro_f1"],
    "regression": ["spearman", "pearson"],
    "choice": ["accuracy"],
    "token": ["f1"],
}


def custom_task(
    name: str,
    train: str | None,
    validation: str | None,
    test: str | None = None,
    shape: str | None = None,
    text: list[str] | None = None,
    choices: list[str] | None = None,
    label: str | None = None,
    labels: list[str] | None = None,
    metrics: list[str] | None = None,
    max_length: int | None = None,
    held_out: float = 0.0,
    train_examples: int | None = None,
) -> Task:
    """The task of files with the given columns. The settings, and their defaults, are those of conf/task/custom.yaml.

    Raises:
        SptError: if a file is missing, or the settings do not fit together or the training file.
    """
    text, choices, labels, metrics = (
        checked(setting, value, Names | None) or []
        for setting, value in (("text", text), ("choices", choices), ("labels", labels), ("metrics", metrics))
    )
    files = {"train": _file("train", train), "validation": _file("validation", validation)}
    if test is not None:
        files["test"] = _file("test", test)
    may_be_token = not text and files["train"].suffix.lower() != ".csv"
    shape = shape or ("choice" if choices else "token" if may_be_token else "sentence")
    if shape not in METRICS:
        raise SptError(f"unknown task.shape {shape!r}: {nearest(shape, METRICS)}")
    if choices and shape != "choice":
        raise SptError(f"task.choices belongs to task.shape=choice, not to {shape}")
    shared: dict[str, Any] = {
        "name": name,
        "data_dir": str(files["train"].parent),
        "files": {split: [str(path)] for split, path in files.items()},
        "metrics": metrics or METRICS[shape],
        "max_length": max_length,
        "held_out": held_out,
        "train_examples": train_examples,
    }
    label = label or ("tags" if shape == "token" else "label")
    if shape == "token":
        if len(text) > 1:
            raise SptError(f"a token task has one column of words: task.text has {len(text)}")
        labels = labels or _labels_in(files["train"], label, is_token=True)
        return TokenTask(labels=labels, columns={"tokens": text or ["tokens"], "tags": [label]}, **shared)
    if label in (*text, *choices):
        raise SptError(f"column {label!r} is the label, and cannot be what the model reads: see task.text, task.label")
    if shape == "choice":
        if len(text) != 1 or len(choices) < 2:
            raise SptError("a choice task needs one column in task.text, the context, and two or more in task.choices")
        columns = {f"choice{i}": [column] for i, column in enumerate(choices)}
        shared |= {"context": "{context}", "choices": [f"{{{name}}}" for name in columns]}
        columns |= {"context": text, "label": [label]}
        return ChoiceTask(labels=labels or choices, columns=columns, **shared)
    if len(text) not in (1, 2):
        raise SptError(f"task.text names the column of the text, or the two of a pair, not {text!r}")
    columns = {f"text{i}": [column] for i, column in enumerate(text)}
    shared |= {"templates": [[f"{{{name}}}" for name in columns]], "columns": columns | {"label": [label]}}
    if shape == "regression":
        return RegressionTask(labels=labels, **shared)
    return SentenceTask(labels=labels or _labels_in(files["train"], label, is_token=False), **shared)


def _file(split: str, name: str | None) -> Path:
    if not name:
        raise SptError(f"task=custom needs a file in task.{split}")
    path = local_path(str(name)).absolute()
    if not path.is_file():
        raise SptError(f"no file {name!r}: task.{split} names the file of the {split} split")
    return path


def _labels_in(path: Path, column: str, is_token: bool) -> list[str]:
    """The labels of a training file: numbers in numeric order, then names."""
    labels: set[str] = set()
    for where, row in read_sentences(path) if is_token else read_rows(path):
        if column not in row:
            raise SptError(f"{where}: no field {column!r}: {nearest(column, row)}")
        value = row[column]
        if isinstance(value, list) and is_token:
            labels |= {str(tag)[2:] for tag in value if tag != "O"}
        elif value is not None and value != "":
            labels.add(label_name(value))
    what, least = ("entity types", 1) if is_token else ("classes", 2)
    if len(labels) < least:
        raise SptError(
            f"{path}, column {column!r}: found {len(labels)} {what}, and at least {least} are needed; if it is the "
            "column of the labels, name them in task.labels=[...]"
        )
    ordered = sorted(labels, key=_numbers_first)
    for one, other in itertools.pairwise(ordered):
        if math.isfinite(_numbers_first(one)[0]) and _numbers_first(one)[0] == _numbers_first(other)[0]:
            raise SptError(
                f"{path}, column {column!r}: {one!r} and {other!r} are one number: write it in one way, or name them "
                "in task.labels=[...] if they are two classes"
            )
    return ordered


def _numbers_first(label: str) -> tuple[float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.inf
    return (number if math.isfinite(number) else math.inf), label
