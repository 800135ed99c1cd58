"""Your own data as a task: `python -m spt.train task=custom task.train=... task.validation=... task.text=[column]`."""

import itertools
import math
from pathlib import Path
from typing import Any

from spt.errors import SptError, nearest
from spt.paths import local_path
from spt.tasks.base import Task
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
) -> Task:
    """A task from files: .jsonl, .json, .csv or .tsv; for tokens .jsonl, .json or CoNLL columns.

    Args:
        name: what the run is called.
        train, validation, test: a file for each split; a test split may be missing.
        shape: "sentence", "regression", "choice" or "token"; None: choice where there are `choices`, token where there
            is no `text`, sentence elsewhere.
        text: the columns with a text or the two texts of a pair; for choices the one with the context, for tokens the
            one with the list of words (None: tokens).
        choices: the columns with the choices.
        label: the column with the label (None: label, for tokens tags). A choice is named by its index, from 0, or by
            its column.
        labels: the classes, for tokens the entity types; None: those of the training file, in order.
        metrics: names in `spt.metrics`, the first of which selects epochs; None: the usual ones of the shape.
        max_length: tokens an input is truncated to; None: the model's maximum.
        held_out: the share of train that is scored instead of trained on, as `spt.tasks.base.Task` has it.
    """
    text, choices, labels = _names("text", text), _names("choices", choices), _names("labels", labels)
    paths = {"train": _file("train", train), "validation": _file("validation", validation)}
    if test is not None:
        paths["test"] = _file("test", test)
    is_token = not text and paths["train"].suffix.lower() != ".csv"
    shape = shape or ("choice" if choices else "token" if is_token else "sentence")
    if shape not in METRICS:
        raise SptError(f"unknown task.shape {shape!r}: {nearest(shape, METRICS)}")
    if choices and shape != "choice":
        raise SptError(f"task.choices belongs to task.shape=choice, not to {shape}")
    shared: dict[str, Any] = {
        "name": name,
        "data_dir": str(paths["train"].parent),
        "files": {split: [str(path)] for split, path in paths.items()},
        "metrics": _names("metrics", metrics) or METRICS[shape],
        "max_length": max_length,
        "held_out": held_out,
    }
    if shape == "token":
        if len(text) > 1:
            raise SptError(f"a token task has one column of words: task.text has {len(text)}")
        tags = label or "tags"
        types = labels or _found(paths["train"], tags, is_token=True)
        return TokenTask(labels=types, columns={"tokens": text or ["tokens"], "tags": [tags]}, **shared)
    label = label or "label"
    if label in (*text, *choices):
        raise SptError(f"column {label!r} is the label, and cannot be what the model reads: see task.text, task.label")
    if shape == "choice":
        if len(text) != 1 or len(choices) < 2:
            raise SptError(
                "a choice task needs one column in task.text, for the context, and two or more in task.choices"
            )
        fields = {f"choice{i}": [column] for i, column in enumerate(choices)}
        return ChoiceTask(
            context="{context}",
            choices=[f"{{{name}}}" for name in fields],
            labels=labels or choices,
            columns={"context": text, "label": [label], **fields},
            **shared,
        )
    if len(text) not in (1, 2):
        raise SptError(f"task.text names the column of the text, or the two of a pair, not {text!r}")
    fields = {f"text{i}": [column] for i, column in enumerate(text)}
    shared |= {"templates": [[f"{{{name}}}" for name in fields]], "columns": {"label": [label], **fields}}
    if shape == "regression":
        return RegressionTask(labels=labels, **shared)
    return SentenceTask(labels=labels or _found(paths["train"], label, is_token=False), **shared)


def _names(setting: str, names: Any) -> list[str]:
    if names is None:
        return []
    if not isinstance(names, list):
        raise SptError(f"task.{setting} must be a list, as in task.{setting}=[{names}]")
    return [str(name) for name in names]


def _file(split: str, path: str | None) -> Path:
    if not path:
        raise SptError(f"task=custom needs a file in task.{split}")
    found = local_path(str(path)).absolute()
    if not found.is_file():
        raise SptError(f"no file {path!r}: task.{split} names the file of the {split} split")
    return found


def _found(path: Path, column: str, is_token: bool) -> list[str]:
    """The labels of a training file, numbers by their size and before names."""
    found: set[str] = set()
    for where, row in read_sentences(path) if is_token else read_rows(path):
        if column not in row:
            raise SptError(f"{where}: no field {column!r}: {nearest(column, row)}")
        value = row[column]
        if isinstance(value, list) and is_token:
            found |= {str(tag)[2:] for tag in value if tag != "O"}
        elif isinstance(value, bool):
            found.add(str(value).lower())
        elif value is not None and value != "":
            found.add(str(value))
    what, least = ("entity types", 1) if is_token else ("classes", 2)
    if len(found) < least:
        raise SptError(
            f"{path}, column {column!r}: {len(found)} {what}, and there must be {least} at least; where it is the "
            "column of the labels, task.labels=[...] names them"
        )
    names = sorted(found, key=_order)
    for one, other in itertools.pairwise(names):
        if math.isfinite(_order(one)[0]) and _order(one)[0] == _order(other)[0]:
            raise SptError(
                f"{path}, column {column!r}: {one!r} and {other!r} are one number: write it in one way, or name them "
                "in task.labels=[...] where they are two classes"
            )
    return names


def _order(label: str) -> tuple[float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.inf
    return (number if math.isfinite(number) else math.inf), label
