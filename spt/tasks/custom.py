"""Your own files as a task: `python -m spt.train task=custom task.train=... task.validation=... task.text=[column]`."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from spt.errors import SptError, nearest
from spt.paths import split_file
from spt.tasks.class_names import found_classes, is_missing, label_name, one_name
from spt.tasks.conll_columns import Places
from spt.tasks.entity_tags import PREFIX, Scheme, check_tag, iob2_tags
from spt.tasks.fields_and_templates import missing_field
from spt.tasks.file_readers import OF_OBJECTS, read_rows, read_sentences
from spt.tasks.multiple_choice import ChoiceTask
from spt.tasks.task import Names, Task, checked
from spt.tasks.text_classification import RegressionTask, SentenceTask
from spt.tasks.text_lines import Rows
from spt.tasks.token_classification import TokenTask

METRICS = {
    "sentence": ["accuracy", "macro_f1"],
    "regression": ["spearman", "pearson"],
    "choice": ["accuracy"],
    "token": ["f1"],
}

NEGATIVE_AND_POSITIVE = ({"0", "1"}, {"false", "true"}, {"no", "yes"})  # sorted, f1's positive class is last


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
    columns: Places | None = None,
    comments: bool | str | None = None,
    scheme: Scheme | None = None,
    quoting: str | None = None,
) -> Task:
    """The task of files with the given columns. The settings, and their defaults, are those of conf/task/custom.yaml.

    Raises:
        SptError: if a file is missing, or the settings do not fit together or the training file.
    """
    text, choices, labels, metrics = (
        checked(setting, value, Names | None) or []
        for setting, value in (("text", text), ("choices", choices), ("labels", labels), ("metrics", metrics))
    )
    files = {"train": split_file("train", train), "validation": split_file("validation", validation)}
    if test is not None:
        files["test"] = split_file("test", test)
    may_be_token = not text and files["train"].suffix.lower() != ".csv"
    is_guessed = shape is None and not choices and may_be_token
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
        "quoting": quoting,
    }
    label = ("tags" if shape == "token" else "label") if label is None else label_name(label)
    if shape == "token":
        if len(text) > 1:
            raise SptError(f"a token task has one column of words: task.text has {len(text)}")
        shared["columns"] = {"tokens": text or ["tokens"], "tags": [label]}
        try:
            return _token_task(files["train"], labels, shared, columns, comments, scheme)
        except SptError as error:
            if not is_guessed:
                raise
            raise SptError(
                f"{error}. Without task.text a file has tagged words: for texts, task.text=[column]"
            ) from error
    if given := [name for name, value in (("columns", columns), ("comments", comments), ("scheme", scheme)) if value]:
        raise SptError(f"task.{given[0]} belongs to task.shape=token, not to {shape}")
    if label in (*text, *choices):
        raise SptError(f"column {label!r} is the label, and cannot be what the model reads: see task.text, task.label")
    if shape == "choice":
        if len(text) != 1 or len(choices) < 2:
            raise SptError("a choice task needs one column in task.text, the context, and two or more in task.choices")
        fields = {f"choice{i}": [column] for i, column in enumerate(choices)}
        shared |= {"context": "{context}", "choices": [f"{{{name}}}" for name in fields]}
        fields |= {"context": text, "label": [label]}
        return ChoiceTask(labels=labels or choices, columns=fields, **shared)
    if len(text) not in (1, 2):
        raise SptError(f"task.text names the column of the text, or the two of a pair, not {text!r}")
    fields = {f"text{i}": [column] for i, column in enumerate(text)}
    shared |= {"templates": [[f"{{{name}}}" for name in fields]], "columns": fields | {"label": [label]}}
    if shape == "regression":
        return RegressionTask(labels=labels, **shared)
    inferred = not labels
    if inferred:
        rows = read_rows(files["train"], quoting=quoting)
        labels = _found_in(rows, label, files["train"], lambda value: [] if is_missing(value) else [one_name(value)])
        if "f1" in shared["metrics"] and len(labels) == 2 and {*map(str.lower, labels)} not in NEGATIVE_AND_POSITIVE:
            raise SptError(
                f"f1 needs the positive class second, and a file gives no order: set task.labels=[{labels[0]},"
                f"{labels[1]}], or the other way round"
            )
    return SentenceTask(labels=labels, labels_found=inferred, **shared)


def _token_task(
    train: Path,
    labels: list[str],
    shared: dict[str, Any],
    columns: Places | None,
    comments: bool | str | None,
    scheme: Scheme | None,
) -> TokenTask:
    """A token task, whose `labels` are entity types, or all tags in their order, or none for the types in `train`."""
    places = checked("columns", columns, Places | None)
    scheme = checked("scheme", scheme, Scheme | None)
    if (places or comments) and all(Path(name).suffix.lower() in OF_OBJECTS for name, *_ in shared["files"].values()):
        raise SptError("task.columns and task.comments are for CoNLL columns: for rows, see task.text and task.label")
    names = labels if "O" in labels else []
    inferred = not labels
    if names:
        types = (re.sub(PREFIX, "", check_tag(name, scheme)) for name in names if name != "O")
        labels = list(dict.fromkeys(types))
    elif inferred:
        check = partial(check_tag, scheme=scheme)
        columns_of = shared["columns"]
        tokens, column = columns_of["tokens"][0], columns_of["tags"][0]
        options = {"places": places, "comments": comments, "quoting": shared["quoting"], "check": check}
        rows = read_sentences(train, (tokens, column), **options)

        def types_in(tags: Any) -> list[str]:
            return [tag[2:] for tag in iob2_tags(tags, scheme) if tag != "O"]

        labels = _found_in(rows, column, train, types_in, 1, "entity types")
    reading = {"scheme": scheme, "tag_names": names, "places": places, "comments": comments}
    return TokenTask(labels=labels, labels_found=inferred, **reading, **shared)


def _found_in(
    rows: Rows,
    column: str,
    source: Path,
    names_in: Callable[[Any], Iterable[str]],
    least: int = 2,
    what: str = "classes",
) -> list[str]:
    """The names of classes in the rows of a training file: for each row `names_in` what its column holds."""

    def names() -> Iterator[tuple[str, str]]:
        for where, row in rows:
            if column not in row:
                raise SptError(f"{where}: {missing_field(row, column)}")
            try:
                yield from ((where, name) for name in names_in(row[column]))
            except SptError as error:
                raise SptError(f"{where}: {error}") from error

    classes = found_classes(names(), f"{source}, column {column!r}")
    if len(classes) < least:
        raise SptError(
            f"{source}, column {column!r}: found {len(classes)} {what}, and at least {least} are needed; if it is the "
            "column of the labels, name them in task.labels=[...]"
        )
    return classes
