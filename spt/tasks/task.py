"""The base class of all tasks: rows -> examples -> model inputs, and logits -> predictions -> scores.

A task is a YAML in conf/task that fills a subclass of `Task`, one for each kind of input: text_classification,
multiple_choice, token_classification, and superglue for WSC, MultiRC and ReCoRD. Templates, labels and metrics are
those of SuperGLUE, GLUE and the CoNLL tasks as Zhang et al. (2024) and P-tuning v2 run them.
"""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from datasets import Dataset, concatenate_datasets
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from scipy.special import softmax
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from spt.errors import SptError, UnusableRow, nearest
from spt.modeling.task_model import TaskType
from spt.paths import local_path
from spt.tasks.class_names import class_index, is_missing, label_name, number_of, warn_of_names
from spt.tasks.fields_and_templates import RowFields
from spt.tasks.file_readers import OF_OBJECTS, find_file, read_rows
from spt.tasks.hub_datasets import Hub, hub_commit, read_hub
from spt.tasks.metrics import CLASS_METRICS, Metric, Scores
from spt.tasks.model_inputs import Example, Split, Tokenize, compact
from spt.tasks.table_files import warn_of_quotes
from spt.tasks.text_lines import Row, Rows

log = logging.getLogger(__name__)

REQUIRED = ("train", "validation")

QUOTED = (".csv", *OF_OBJECTS)  # files in which quotes around a text are not part of it

HELD_OUT = "held_out"

SHOWN = 20  # rows without a label that a message names

MIN_LENGTH = 4  # tokens: two special tokens, and one token in each of two texts

CHUNK = 250  # examples tokenised at a time


Names = list[Annotated[str, BeforeValidator(label_name)]]  # YAML reads the names true and 1 as other types


def checked(name: str, value: Any, kind: Any) -> Any:
    """`value` of the setting task.<name>, converted to the type `kind` (by pydantic, strictly).

    Raises:
        SptError: if it has another type or is out of range.
    """
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, ("task", name, *first["loc"])))
        if first["type"] in ("missing", "extra_forbidden"):
            raise SptError(f"{setting} is {'missing' if first['type'] == 'missing' else 'no setting'}") from error
        wrong = first["input"]
        hint = f", as in {setting}=[{wrong}]" if first["type"] == "list_type" else f", not {wrong!r}"
        raise SptError(f"{setting} {first['msg'].replace('Input should', 'must')}{hint}") from error


@dataclass(kw_only=True)
class Task(RowFields, ABC):
    """A data set with its labels and metrics.

    `load` reads rows and makes examples of them, `encode` makes model inputs of examples, and `collator` batches of
    inputs. `predictions`, `score` and `outcomes` evaluate the model's logits, and `describe` shows them to people.
    """

    name: str  # as in the published tables
    labels: Names  # class names, in the order of the class indices; for token tasks the entity types
    metrics: list[str]  # names in spt.tasks.metrics; the first selects the best epoch and is the score in tables
    # For each split, the file names to look for. Splits other than train and validation are optional: each that exists
    # and has labels is scored once, at the best epoch.
    files: dict[str, list[str]]
    data_dir: str | None = None  # a local folder with `files`; None: read the data set from the `hub`
    hub: Hub | None = None
    sizes: dict[str, int] = field(default_factory=dict)  # published numbers of examples; a deviation is logged
    max_length: Annotated[int, Field(ge=MIN_LENGTH)] | None = None  # tokens of an input; None: the model's maximum
    # The share of train that becomes the split "held_out", which is scored once, like a test split. It is the same for
    # every seed. Examples with the same text stay together.
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_examples: Annotated[int, Field(ge=1)] | None = None  # train on so many of the examples; None: on all
    quoting: Literal["csv"] | None = None  # quotes in .tsv files and columns are those of CSV; None: they are text
    labels_found: bool = False  # whether `labels` are those in the training file, not names given in their order

    task_type: ClassVar[TaskType]
    known_metrics: ClassVar[dict[str, Metric]] = CLASS_METRICS
    target: ClassVar[str] = "label"  # the field of a row, and of an example, with what the model is to predict

    def __post_init__(self) -> None:
        for setting in fields(self):
            setattr(self, setting.name, checked(setting.name, getattr(self, setting.name), setting.type))
        self._check_labels()
        if not self.metrics:
            raise SptError(f"{self.name} has no metric: task.metrics must name at least one")
        for name in self.metrics:
            if name not in self.known_metrics:
                raise SptError(f"unknown metric {name!r} for {self.name}: {nearest(name, self.known_metrics)}")
            if name == "f1" and self.known_metrics is CLASS_METRICS and len(self.labels) != 2:
                raise SptError(f"f1 needs two classes, and {self.name} has {len(self.labels)}: use macro_f1 instead")

    def _check_labels(self) -> None:
        if len(set(self.labels)) < len(self.labels) or len(self.classes) < 2:
            raise SptError(f"task.labels must be at least two classes, each once, not {self.labels!r}")

    @property
    def classes(self) -> list[str]:
        """The names of the head's outputs."""
        return self.labels

    # Rows to examples

    def load(self) -> dict[str, list[Example]]:
        """The examples of each split: train, validation, and every other split that has public labels."""
        if missing := [split for split in REQUIRED if split not in self.files]:
            raise SptError(f"{self.name}: task.files names no {missing[0]} split")
        data = {split: self._read(split) for split in self.files}
        if self.held_out:
            data["train"], data[HELD_OUT] = self._hold_out(data["train"])
        return {split: examples for split, examples in data.items() if examples}

    def read(self, split: str) -> list[Example]:
        """The examples of one split; an empty list if an optional split is missing or has no labels."""
        splits = [*self.files, *([HELD_OUT] if self.held_out else [])]
        if split not in splits:
            raise SptError(f"{self.name} has no split {split!r}: {nearest(split, splits)}")
        if self.held_out and split in ("train", HELD_OUT):
            return self._hold_out(self._read("train"))[split == HELD_OUT]
        return self._read(split)

    def read_file(self, path: str | Path) -> list[Example]:
        """The examples of a labelled file in any of the task's formats."""
        path = local_path(str(path))
        examples = self._examples(self.file_rows(path), required=True)
        if not examples:
            raise SptError(f"{path} has no example")
        return examples

    def file_rows(self, path: Path) -> Rows:
        """The rows of a file, whose format follows from its suffix."""
        rows = self.parsed_rows(path)
        is_quoted = self.quoting is not None or path.suffix.lower() in QUOTED
        return rows if is_quoted else warn_of_quotes(rows)

    def parsed_rows(self, path: Path) -> Rows:
        """The rows of a file, read by the task's settings."""
        return read_rows(path, quoting=self.quoting)

    def commit(self) -> str | None:
        """The commit on the hub of the data that was read; None for local files."""
        return None if self.data_dir is not None or self.hub is None else hub_commit(self.hub)

    def _read(self, split: str) -> list[Example]:
        required = split in REQUIRED
        examples = self._examples(self._rows(split, required), required)
        if required and not examples:
            source = (
                find_file(self.data_dir, self.files[split], required)
                if self.data_dir
                else self.hub and self.hub["path"]
            )
            raise SptError(f"{self.name}: the {split} split has no example: {source} is empty")
        published = self.sizes.get(split)
        if examples and published is not None and len(examples) != published:
            log.warning("%s %s has %d examples, published are %d", self.name, split, len(examples), published)
        return examples

    def _rows(self, split: str, required: bool) -> Rows:
        if self.data_dir is not None:
            path = find_file(self.data_dir, self.files[split], required)
            return iter(()) if path is None else self.file_rows(path)
        if self.hub is None:
            raise SptError(f"{self.name} is not on the hub: set task.data_dir to the folder that holds its files")
        return read_hub(self.hub, split, required)

    def _examples(self, rows: Rows, required: bool) -> list[Example]:
        """The examples of labelled rows; none if no row has a label, which is an error if the split is `required`."""
        examples: list[Example] = []
        unlabelled: list[tuple[str, Row]] = []
        unusable: list[str] = []
        empty: list[str] = []
        groups: dict[str, tuple[Any, str]] = {}
        names, first_rows = Counter[str](), dict[str, str]()
        for where, nested in rows:
            try:
                for row in self.flat_rows(nested):
                    group, content = self.group(row)
                    known, first = groups.setdefault(group, (content, where)) if group else (content, where)
                    if known != content:
                        raise SptError(f"{group} differs from the one in {first}: each needs its own idx")
                    if self.is_unlabelled(row):
                        unlabelled.append((where, row))
                        continue
                    try:
                        examples.append(self.example(row))
                        if not self.shared_text(examples[-1]).strip():
                            empty.append(where)
                    except UnusableRow as error:
                        unusable.append(f"{where}: {error}")
                        continue
                    for name in self.written_names(row):
                        names[name] += 1
                        first_rows.setdefault(name, where)
            except SptError as error:
                raise SptError(f"{where}: {error}") from error
        if unusable:
            share = f"{len(unusable)} of {len(examples) + len(unusable)} examples"
            log.warning("%s: %s cannot be used and are left out, the first in %s", self.name, share, unusable[0])
        if empty:
            share = f"{len(empty)} of {len(examples)} examples"
            log.warning("%s: %s have an empty text, the first in %s", self.name, share, empty[0])
        if unlabelled:
            (where, row), name = unlabelled[0], self.target
            has_column = self.has_field(row, name)
            reason = f"field {self._column_in(row, name)!r} holds no label" if has_column else self._missing(row, name)
            others = [place.rpartition(", ")[2] for place, _ in unlabelled[1:SHOWN]]
            shown = ", ".join(["this is the first", *others, *["..."] * (len(unlabelled) > SHOWN)])
            message = f"{where}: {reason} (rows without a label: {len(unlabelled)}, {shown})"
            if examples or required:
                raise SptError(message)
            log.info("%s: a split without labels is left out: %s", self.name, message)
        warn_of_names(names, first_rows, self.labels_found)
        return examples

    def _hold_out(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        """Training examples and held-out examples. Texts are held out in the order of their hashes."""
        sizes = Counter(map(self.shared_text, examples))
        room, texts = round(self.held_out * len(examples)), set[str]()
        for text in sorted(sizes, key=lambda text: hashlib.sha256(text.encode()).digest()):
            if sizes[text] <= room:
                texts.add(text)
                room -= sizes[text]
        train = [example for example in examples if self.shared_text(example) not in texts]
        if not texts or not train:
            raise SptError(f"task.held_out={self.held_out} of {len(examples)} examples leaves one side empty")
        return train, [example for example in examples if self.shared_text(example) in texts]

    def few(self, examples: list[Example], seed: int) -> list[Example]:
        """Draw `train_examples` of these by the seed, in their order; a smaller draw is part of a larger one.

        Raises:
            SptError: if there are not as many.
        """
        if self.train_examples is None:
            return examples
        if self.train_examples > len(examples):
            raise SptError(f"task.train_examples={self.train_examples} is more than the {len(examples)} there are")
        drawn = np.random.default_rng(seed).permutation(len(examples))[: self.train_examples]
        return [examples[index] for index in sorted(drawn)]

    def flat_rows(self, row: Row) -> list[Row]:
        """The rows, one for each example, that a nested row of a file contains."""
        return [row]

    def group(self, row: Row) -> tuple[str | None, Any]:
        """For metrics over groups of examples: the group's id, and the content that all its rows have in common."""
        return None, None

    def is_unlabelled(self, row: Row) -> bool:
        """Whether a row has no public label: no label at all, or the hub's -1."""
        label = self.value(row, "label") if self.has_field(row, "label") else None
        is_none = str(label) == "-1" and -1.0 not in map(number_of, self.labels)
        is_named = isinstance(label, str | int) and label_name(label) in self.labels
        return (is_missing(label) or is_none) and not is_named

    def example(self, row: Row) -> Example:
        """The example of a labelled row."""
        return self.unlabelled_example(row) | {self.target: self.target_of(row)}

    @abstractmethod
    def unlabelled_example(self, row: Row) -> Example:
        """The example of a row without its label: enough for `encode` and `describe`."""

    def target_of(self, row: Row) -> Any:
        """What the model is to predict of a row.

        Here it is a class index: see `class_index`.
        """
        return class_index(self.value(row, "label"), self.labels, self.labels_found)

    def written_names(self, row: Row) -> list[str]:
        """The names of classes in a row, as it writes them."""
        label = self.value(row, self.target)
        return [label] if isinstance(label, str) else []

    @abstractmethod
    def shared_text(self, example: Example) -> str:
        """The text that several examples may share, and by which `held_out` keeps them together."""

    # Examples to model inputs

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        """Tokenise examples, truncated to `max_length` or to `limit`, the model's maximum; labels only if they have."""
        return Split(examples, concatenate_datasets(list(self.encoded(examples, tokenizer, limit))))

    def encoded(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> Iterator[Dataset]:
        """The `inputs` of a `Split`, CHUNK examples at a time."""
        tokenize = partial(tokenizer.__call__, truncation=True, max_length=self._length_limit(limit))
        for start in range(0, len(examples), CHUNK):
            chunk = examples[start : start + CHUNK]
            columns = self._tokenized(chunk, tokenize)
            if self.target in chunk[0]:
                columns["labels"] = self._label_column(chunk, columns)
            yield compact(columns)

    def _length_limit(self, limit: int | None) -> int | None:
        if limit is not None and limit < MIN_LENGTH:
            raise SptError(
                f"the model takes {max(limit, 0)} tokens, which leaves no room for a text: shorten method.prefix_length"
            )
        if limit is not None and self.max_length is not None and self.max_length > limit:
            raise SptError(f"task.max_length={self.max_length} is more than the {limit} tokens that the model takes")
        return self.max_length or limit

    def input_counts(self, examples: list[Example]) -> list[int]:
        """For each example, how many rows of `Split.inputs` it has."""
        return [1] * len(examples)

    @abstractmethod
    def _tokenized(self, examples: list[Example], tokenize: Tokenize) -> dict[str, list]:
        """The columns of `Split.inputs` but `labels`: those of `input_columns`, with a row for each input."""

    def _label_column(self, examples: list[Example], columns: dict[str, list]) -> list:
        return [example[self.target] for example in examples]

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        """A function that makes a batch of rows of `Split.inputs`: what the model takes, padded to the longest."""
        return partial(_collate, self._collator(tokenizer), {*tokenizer.model_input_names, "labels"})

    def _collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorWithPadding(tokenizer)

    # Logits to predictions and scores

    def predictions(self, logits: np.ndarray, split: Split) -> list:
        """The prediction for each example, in the form of its target; `logits` are [rows of split.inputs, classes]."""
        return logits.argmax(-1).tolist()

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """The prediction for each example with probabilities, as `spt.predict` prints it."""
        return [
            {"label": self.labels[row.argmax()], "probabilities": dict(zip(self.labels, row.tolist(), strict=True))}
            for row in softmax(logits.astype(float), axis=-1)
        ]

    def gold(self, examples: list[Example]) -> list:
        """What the metrics compare the predictions with."""
        return [example[self.target] for example in examples]

    def score(self, predictions: list, examples: list[Example]) -> Scores:
        """All metrics of the task, as fractions."""
        gold = self.gold(examples)
        return {name: float(self.known_metrics[name](gold, predictions)) for name in self.metrics}

    def outcomes(self, predictions: list, examples: list[Example]) -> list:
        """The result for each example, for paired tests: 1 if its class is right, 0 if it is wrong."""
        return [int(predicted == e[self.target]) for predicted, e in zip(predictions, examples, strict=True)]

    def only_class(self, predictions: list) -> str | None:
        """The class that every example was given, a sign of a collapsed model; None if predictions differ."""
        classes = set(predictions)
        return str(self.classes[classes.pop()]) if len(classes) == 1 else None

    @abstractmethod
    def fields(self) -> list[str]:
        """The columns that a row must have besides the label."""

    def example_input(self) -> str | Row:
        """A made-up input, for the model card."""
        return dict.fromkeys(self.fields(), "A text.")


def _collate(collate: Callable[[list[dict]], dict], names: set[str], rows: list[dict]) -> dict:
    return collate([{name: row[name] for name in names & row.keys()} for row in rows])


def describe_task(task: Task) -> dict[str, Any]:
    """A task's class and settings as JSON values, from which `spt.load` makes it again."""
    return {"_target_": f"spt.tasks.{type(task).__name__}", **asdict(task)}


def data_fingerprint(data: dict[str, list[Example]]) -> str:
    """A hash of all examples of all splits."""
    digest = hashlib.sha256()
    for split, examples in data.items():
        digest.update(split.encode())
        for example in examples:
            digest.update(json.dumps(example, sort_keys=True).encode())
    return digest.hexdigest()[:16]
