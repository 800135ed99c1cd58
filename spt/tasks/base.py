"""Tasks: rows become examples, examples become model inputs, logits become scores. One class a shape.

A task is a YAML in `conf/task` that fills one of these classes, or one of `spt.superglue`. Source of templates, labels
and metrics: the SuperGLUE, GLUE and CoNLL tasks as Zhang et al. (2024) and P-tuning v2 run them.
"""

import hashlib
import json
import logging
import re
import string
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase

from spt.errors import SptError, is_number, is_whole, nearest
from spt.modeling.task_model import TaskType
from spt.paths import local_path
from spt.tasks.file_readers import Row, Rows, find_file, read_rows
from spt.tasks.hub_datasets import hub_commit, read_hub
from spt.tasks.metrics import OF_CLASSES, Score, Scores, binary_f1, metric

log = logging.getLogger(__name__)

REQUIRED = ("train", "validation")

HELD_OUT = "held_out"

SHORTEST = 4  # tokens: two special ones, and a word in each of two texts

CHUNK = 250  # examples tokenised at a time

COMPACT = {
    "input_ids": "int32",
    "attention_mask": "int8",
    "token_type_ids": "int8",
    "length": "int32",
    "truncated": "int8",
    "lost_words": "int32",
    "words": "int32",
}

Example = dict[str, Any]


@dataclass
class Split:
    """A split's examples and, in the same order, their model inputs: a row each, or as many as an example has texts."""

    examples: list[Example]
    inputs: Dataset

    @property
    def truncated(self) -> int:
        """How many examples were cut."""
        return sum(self.inputs["truncated"])

    @property
    def lost_words(self) -> int:
        """How many words have no token of their own."""
        return sum(self.inputs["lost_words"]) if "lost_words" in self.inputs.column_names else 0


@dataclass(kw_only=True)
class Task(ABC):
    """What all tasks share.

    Attributes:
        name: the task's name, as in the published tables.
        labels: class names, in the order of the class indices; for token tasks the entity types.
        metrics: names in `spt.metrics`; the first selects epochs and stands in the tables.
        data_dir: a local folder with `files`; None: the data set on the `hub`.
        files: for each split, the file names to look for. Beside train and validation there may be any others: each
            that is there and has labels is scored once, at the best epoch.
        hub: path, name and revision on the hub, and in `splits` the hub's names for splits, where they are not ours;
            None where the data is local only.
        columns: for a field, the names it has in the data; the first that is there is taken.
        sizes: the published number of examples of each split; a different count is reported.
        max_length: tokens an input is truncated to; None: the model's maximum.
        held_out: the share of train that is left out of training and becomes the split "held_out", which selects
            nothing and is scored once, as a test split is. It is the same at every seed. Examples on one text stay
            together.
    """

    name: str
    labels: list[str]
    metrics: list[str]
    files: dict[str, list[str]]
    data_dir: str | None = None
    hub: dict[str, Any] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    max_length: int | None = None
    held_out: float = 0.0

    task_type: ClassVar[TaskType]
    known_metrics: ClassVar[dict[str, Score]] = OF_CLASSES
    target: ClassVar[str] = "label"  # where an example holds what is to be predicted

    def __post_init__(self) -> None:
        self._check_types()
        self.name, self.labels = str(self.name), [label_name(label) for label in self.labels]
        if not self.metrics:
            raise SptError(f"{self.name} has no metric: task.metrics names at least one")
        self._check_labels()
        for name in self.metrics:
            if metric(name, self.known_metrics, self.name) is binary_f1 and len(self.classes) != 2:
                raise SptError(
                    f"metric f1 is of two classes, and {self.name} has {len(self.classes)}: macro_f1 is of any"
                )
        limit = self.max_length
        if limit is not None and (not is_whole(limit) or limit < SHORTEST):
            raise SptError(
                f"task.max_length must be a whole number of at least {SHORTEST} tokens, or null, not {limit!r}"
            )
        if not is_number(self.held_out) or not 0 <= self.held_out < 1:
            raise SptError(f"task.held_out must be a share of train, from 0 to below 1, not {self.held_out!r}")
        self.held_out = float(self.held_out)

    def _check_types(self) -> None:
        if not isinstance(self.files, dict):
            raise SptError(f"task.files must be file names by split, not {self.files!r}")
        lists = {"labels": self.labels, "metrics": self.metrics}
        for key, value in (lists | {f"files.{split}": names for split, names in self.files.items()}).items():
            if not isinstance(value, list | tuple):
                raise SptError(f"task.{key} must be a list, as task.{key}=[a,b], not {value!r}")
        if not isinstance(self.data_dir, str | None):
            raise SptError(f"task.data_dir must be a folder, not {self.data_dir!r}")

    def _check_labels(self) -> None:
        if len(set(self.labels)) < len(self.labels) or len(self.classes) < 2:
            raise SptError(f"task.labels must be at least two classes, each once, not {self.labels!r}")

    @property
    def classes(self) -> list[str]:
        """What the head tells apart, in the order of its outputs."""
        return self.labels

    def load(self) -> dict[str, list[Example]]:
        """The examples of every labelled split: train and validation always, others where they have public labels."""
        data = {split: self._read(split) for split in self.files}
        if self.held_out:
            data["train"], data[HELD_OUT] = self._hold_out(data["train"])
        return {split: examples for split, examples in data.items() if examples}

    def read(self, split: str) -> list[Example]:
        """The examples of one split; none where a split beside train and validation is missing or has no labels."""
        splits = [*self.files, *([HELD_OUT] if self.held_out else [])]
        if split not in splits:
            raise SptError(f"{self.name} has no split {split!r}: {nearest(split, splits)}")
        if self.held_out and split in ("train", HELD_OUT):
            return self._hold_out(self._read("train"))[split == HELD_OUT]
        return self._read(split)

    def _hold_out(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        """What stays for training, and the held-out split: all examples on some texts, in the order of their hashes."""
        sizes = Counter(map(self.passage, examples))
        wanted, held = round(self.held_out * len(examples)), set[str]()
        for text in sorted(sizes, key=lambda text: hashlib.sha256(text.encode()).digest()):
            if sizes[text] <= wanted:
                held.add(text)
                wanted -= sizes[text]
        left = [example for example in examples if self.passage(example) not in held]
        if not held or not left:
            raise SptError(f"task.held_out={self.held_out} of {len(examples)} examples leaves one side empty")
        return left, [example for example in examples if self.passage(example) in held]

    def _read(self, split: str) -> list[Example]:
        examples, unlabelled = self._examples(self._rows(split))
        if unlabelled and (examples or split in REQUIRED):
            raise SptError(self._no_label(unlabelled, f"of the {split} split's rows"))
        if unlabelled:
            log.info("%s: the %s split has no labels and is left out", self.name, split)
        elif not examples and split in REQUIRED:
            source = self._file(split) or f"{self.hub and self.hub['path']} on the hub"
            raise SptError(f"{self.name}: the {split} split has no example: {source} is empty")
        published = self.sizes.get(split)
        if examples and published is not None and len(examples) != published:
            log.warning("%s %s has %d examples, published are %d", self.name, split, len(examples), published)
        return examples

    def read_file(self, path: str | Path) -> list[Example]:
        """The examples of a labelled file in any of the task's formats."""
        path = local_path(str(path))
        examples, unlabelled = self._examples(self.file_rows(path))
        if unlabelled:
            raise SptError(self._no_label(unlabelled, "rows of the file"))
        if not examples:
            raise SptError(f"{path} has no example")
        return examples

    def file_rows(self, path: Path) -> Rows:
        """The rows of a file, read as its name says."""
        return read_rows(path)

    def _rows(self, split: str) -> Rows:
        if self.data_dir is not None:
            path = self._file(split)
            rows = None if path is None else self.file_rows(path)
        elif self.hub is not None:
            names_there = self.hub.get("splits") or {}
            rows = read_hub(split=names_there.get(split, split), required=split in REQUIRED, **self._hub_source())
        else:
            raise SptError(f"{self.name} is not on the hub: set task.data_dir to the folder that holds its files")
        return iter(()) if rows is None else rows

    def _file(self, split: str) -> Path | None:
        names = list(self.files[split])
        if self.data_dir is None or not names:
            return None
        return find_file(self.data_dir, names, required=split in REQUIRED)

    def commit(self) -> str | None:
        """The hub's commit of the data that was read; None for local files."""
        return None if self.data_dir is not None or self.hub is None else hub_commit(**self._hub_source())

    def _hub_source(self) -> dict[str, Any]:
        return {key: value for key, value in (self.hub or {}).items() if key != "splits"}

    def _examples(self, rows: Rows) -> tuple[list[Example], list[str]]:
        """The labelled rows' examples, and where the other rows stand."""
        examples: list[Example] = []
        unlabelled: list[str] = []
        known: dict[str, tuple[Any, str]] = {}
        for where, row in rows:
            try:
                for item in self.unfold(row):
                    for name, content in self.names(item):
                        there, place = known.setdefault(name, (content, where))
                        if there != content:
                            raise SptError(f"{name} is another one than in {place}: each needs an idx of its own")
                    if self.is_unlabelled(item):
                        unlabelled.append(where if unlabelled else f"{where}: {self._without_label(item)}")
                    else:
                        examples.append(self.example(item))
            except SptError as error:
                raise SptError(f"{where}: {error}") from error
        return examples, unlabelled

    def _no_label(self, unlabelled: list[str], of_what: str) -> str:
        return f"{unlabelled[0]} ({len(unlabelled)} {of_what} have no label, this one first)"

    def unfold(self, row: Row) -> list[Row]:
        """The rows that a row of a file stands for, where a format nests them."""
        return [row]

    def names(self, row: Row) -> Iterable[tuple[str, Any]]:
        """By what name scores take what in a row, wherever it stands in a file, for one and the same."""
        return ()

    def is_unlabelled(self, row: Row) -> bool:
        """Whether a row carries no public label: none at all, or the hub's -1."""
        label = self._label(row)
        return label is None or (str(label) in ("", "-1") and str(label) not in self.labels)

    def example(self, row: Row) -> Example:
        """What the task keeps of a row, its `label` as a class index."""
        return self.unlabelled(row) | {"label": self.label_index(self.value(row, "label"))}

    @abstractmethod
    def unlabelled(self, row: Row) -> Example:
        """What the task keeps of a row but its label: enough to `encode` and to `describe`."""

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        """Tokenise, to at most `limit` tokens (the model's own maximum) and `max_length`; no labels where none are."""
        return Split(examples, concatenate_datasets(list(self.encoded(examples, tokenizer, limit))))

    def encoded(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> Iterator[Dataset]:
        """The inputs of a `Split`, those of some examples at a time."""
        limit = self.length_limit(limit)
        for start in range(0, len(examples), CHUNK):
            yield compact(self._columns(examples[start : start + CHUNK], tokenizer, limit))

    @abstractmethod
    def passage(self, example: Example) -> str:
        """The text that an example is on, and may have in common with others."""

    @abstractmethod
    def _columns(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> dict[str, list]:
        """What the model takes of examples, their `length`, and `truncated`: 1 where an example was cut.

        Where an example has several rows, its first says that.
        """

    @abstractmethod
    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        """Makes a batch of inputs, padded to its longest."""

    def predictions(self, logits: np.ndarray, split: Split) -> list:
        """What the model says about each example, in the form its gold label has."""
        return logits.argmax(-1).tolist()

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """What the model says about each example, for people: the label, and each label's probability."""
        return [
            {"label": self.labels[row.argmax()], "probabilities": dict(zip(self.labels, row.tolist(), strict=True))}
            for row in softmax(logits.astype(float), axis=-1)
        ]

    def gold(self, examples: list[Example]) -> list:
        """What is to be predicted of each example."""
        return [example[self.target] for example in examples]

    def score(self, predictions: list, examples: list[Example]) -> Scores:
        """All the task's metrics, as fractions."""
        gold, known = self.gold(examples), self.known_metrics
        return {name: value for m in self.metrics for name, value in known[m](gold, predictions).items()}

    def outcomes(self, predictions: list, examples: list[Example]) -> list:
        """How each example came out, without its gold label: 1 for a right class, 0 for a wrong one."""
        return [int(a == b) for a, b in zip(predictions, self.gold(examples), strict=True)]

    def only_class(self, predictions: list) -> str | None:
        """The one class that all predictions are, None where they differ."""
        kinds = set(predictions)
        return str(self.classes[kinds.pop()]) if len(kinds) == 1 else None

    def length_limit(self, limit: int | None) -> int | None:
        """The shorter of `max_length` and what the model takes."""
        if limit is not None and limit < SHORTEST:
            raise SptError(
                f"the model takes {max(limit, 0)} tokens, which is no room for a text: shorten method.prefix_length"
            )
        if limit is not None and self.max_length is not None and self.max_length > limit:
            raise SptError(f"task.max_length={self.max_length} is more than the {limit} tokens that the model takes")
        return self.max_length or limit

    def label_index(self, label: Any) -> int:
        """The class index of a label: its name, true or false, or, where no name is a number, the index itself."""
        name = label_name(label)
        if name in self.labels:
            return self.labels.index(name)
        numbered = any(re.fullmatch(r"-?[\d.]+", known) for known in self.labels)
        if not numbered and name.isdecimal() and int(name) < len(self.labels):
            return int(name)
        raise SptError(f"label {label!r} is none of this task's: {nearest(name, self.labels)}")

    @abstractmethod
    def fields(self) -> list[str]:
        """The fields that a row must have, but for the label, by the first of their names."""

    def example_input(self) -> str | Row:
        """Something made up that the task takes, to show how it is called."""
        return dict.fromkeys(self.fields(), "A text.")

    def column(self, name: str) -> str:
        """The first of the names that a field has in the data."""
        return self._names(name)[0]

    def value(self, row: Row, name: str) -> Any:
        """A field of a row, by any of the names it has in the data."""
        return row[self._key(row, name)]

    def text(self, row: Row, name: str) -> str:
        """A field of a row that holds text."""
        key = self._key(row, name)
        if not isinstance(row[key], str):
            raise SptError(f"field {key!r} holds no text but {row[key]!r}")
        return row[key]

    def fill(self, template: str, row: Row) -> str:
        """`template` with the row's fields in its {braces}."""
        parts = string.Formatter().parse(template)
        return "".join(chain(*((text, "" if name is None else self.text(row, name)) for text, name, _, _ in parts)))

    def _label(self, row: Row) -> Any:
        return next((row[name] for name in self._names("label") if name in row), None)

    def _key(self, row: Row, name: str) -> str:
        for key in self._names(name):
            if key in row:
                return key
        raise SptError(self._absent(row, name))

    def _without_label(self, row: Row) -> str:
        if any(name in row for name in self._names(self.target)):
            return f"field {self._called(self.target)} holds no label"
        return self._absent(row, self.target)

    def _absent(self, row: Row, name: str) -> str:
        return f"no field {self._called(name)}: {nearest(self._names(name)[0], row)}"

    def _names(self, name: str) -> list[str]:
        return self.columns.get(name) or [name]

    def _called(self, name: str) -> str:
        return " or ".join(map(repr, self._names(name)))


def label_name(label: Any) -> str:
    """A label as a name; true and false are written small, as JSON has them."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def describe_task(task: Task) -> dict[str, Any]:
    """A task as plain values, of which `spt.adapters.predictor.task_from` makes it again."""
    return {"_target_": f"spt.tasks.{type(task).__name__}", **asdict(task)}


def data_fingerprint(data: dict[str, list[Example]]) -> str:
    """A hash of all examples of all splits, as the model gets them."""
    digest = hashlib.sha256()
    for split, examples in data.items():
        digest.update(split.encode())
        for example in examples:
            digest.update(json.dumps(example, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def model_inputs(encoded: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, list]:
    """What of a tokenizer's output the model takes."""
    return {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}


def is_truncated(encoded: Any) -> list[int]:
    """For each encoded text 1 where some of it was cut off, else 0."""
    return [int(bool(encoding.overflowing)) for encoding in encoded.encodings]


def compact(columns: dict[str, list]) -> Dataset:
    """Columns of numbers and of (nested) lists of numbers, in types no wider than they need."""

    def feature(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return List(feature(name, value[0] if value else 0))
        return Value("float64" if isinstance(value, float) else COMPACT.get(name, "int64"))

    return Dataset.from_dict(columns, Features({name: feature(name, values[0]) for name, values in columns.items()}))
