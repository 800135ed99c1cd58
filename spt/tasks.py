"""Tasks: rows become examples, examples become model inputs, logits become scores. One class a shape.

A task is a YAML in `conf/task` that fills one of these classes. Source of templates, labels and metrics: the SuperGLUE
and CoNLL tasks as Zhang et al. (2024) and P-tuning v2 run them.
"""

import hashlib
import json
import logging
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import (
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from spt.errors import SptError, is_whole, nearest
from spt.metrics import Scores, metric
from spt.model import IGNORED, TaskType
from spt.readers import Row, Rows, find_file, read_conll, read_hub, read_jsonl, spans_to_tags

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
NO_WORD = -1
SHORTEST = 4  # tokens: two special ones, and a word in each of two texts
Example = dict[str, Any]


@dataclass
class Split:
    """A split's examples and, in the same order, their model inputs."""

    examples: list[Example]
    inputs: Dataset
    truncated: int
    lost_words: int = 0


@dataclass(kw_only=True)
class Task(ABC):
    """What all tasks share.

    Attributes:
        name: the task's name, as in the published tables.
        labels: class names, in the order of the class indices; for token tasks the entity types.
        metrics: names in `spt.metrics`; the first selects epochs and stands in the tables.
        data_dir: a local folder with `files`; None: the data set on the `hub`.
        files: for each split, the file names to look for.
        hub: path, name and revision on the hub; None where the data is local only.
        sizes: the published number of examples of each split; a different count is reported.
        max_length: tokens an input is truncated to; None: the model's maximum.
    """

    name: str
    labels: list[str]
    metrics: list[str]
    files: dict[str, list[str]]
    data_dir: str | None = None
    hub: dict[str, str] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    max_length: int | None = None

    task_type: ClassVar[TaskType]
    reader: ClassVar[Callable[..., Rows]]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise SptError(f"{self.name} has no metric: task.metrics names at least one")
        for name in self.metrics:
            metric(name, self.task_type)
        if len(set(self.labels)) < len(self.labels) or len(self.classes) < 2:
            raise SptError(f"task.labels must be at least two classes, each once, not {self.labels!r}")
        limit = self.max_length
        if limit is not None and (not is_whole(limit) or limit < SHORTEST):
            raise SptError(
                f"task.max_length must be a whole number of at least {SHORTEST} tokens, or null, not {limit!r}"
            )

    @property
    def classes(self) -> list[str]:
        """What the head tells apart, in the order of its outputs."""
        return self.labels

    def load(self) -> dict[str, list[Example]]:
        """The examples of every labelled split: train and validation always, test where it has public labels."""
        data = {split: self._load_split(split) for split in SPLITS}
        for split, examples in data.items():
            if not examples and split != "test":
                raise SptError(f"{self.name}: the {split} split has no labelled example")
            published = self.sizes.get(split)
            if examples and published is not None and len(examples) != published:
                log.warning("%s %s has %d examples, published are %d", self.name, split, len(examples), published)
        return {split: examples for split, examples in data.items() if examples}

    def _load_split(self, split: str) -> list[Example]:
        examples, unlabelled = [], 0
        for where, row in self._rows(split):
            try:
                if self.is_unlabelled(row):
                    unlabelled += 1
                else:
                    examples.append(self.example(row))
            except SptError as error:
                raise SptError(f"{where}: {error}") from error
        if unlabelled and (examples or split != "test"):
            raise SptError(f"{self.name}: {unlabelled} of the {split} split's rows have no label")
        return examples

    def _rows(self, split: str) -> Iterator[tuple[str, Row]]:
        if self.data_dir is not None:
            path = find_file(self.data_dir, list(self.files[split]), required=split != "test")
            rows = None if path is None else type(self).reader(path)
        elif self.hub is not None:
            rows = read_hub(split=split, required=split != "test", **self.hub)
        else:
            raise SptError(f"{self.name} is not on the hub: set task.data_dir to the folder that holds its files")
        return iter(()) if rows is None else rows

    def is_unlabelled(self, row: Row) -> bool:
        """Whether a row carries no public label."""
        return row.get("label") in (None, -1)

    @abstractmethod
    def example(self, row: Row) -> Example:
        """What the task keeps of a row, its `label` as a class index."""

    @abstractmethod
    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        """Tokenise, to at most `limit` tokens (the model's own maximum) and `max_length`."""

    @abstractmethod
    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        """Makes a batch of inputs, padded to its longest."""

    def predictions(self, logits: np.ndarray, split: Split) -> list:
        """What the model says about each example, in the form its gold label has."""
        return logits.argmax(-1).tolist()

    def gold(self, examples: list[Example]) -> list:
        """The gold label of each example."""
        return [example["label"] for example in examples]

    def score(self, predictions: list, examples: list[Example]) -> Scores:
        """All the task's metrics, as fractions."""
        gold = self.gold(examples)
        return {
            name: value for m in self.metrics for name, value in metric(m, self.task_type)(gold, predictions).items()
        }

    def only_class(self, predictions: list) -> str | None:
        """The one class that all predictions are, None where they differ."""
        kinds = set(predictions)
        return str(self.classes[kinds.pop()]) if len(kinds) == 1 else None

    def length_limit(self, limit: int | None) -> int | None:
        """The shorter of `max_length` and what the model takes."""
        if limit is not None and limit < SHORTEST:
            raise SptError(f"the model takes {limit} tokens, which is no room for a text: shorten method.prefix_length")
        if limit is not None and self.max_length is not None and self.max_length > limit:
            raise SptError(f"task.max_length={self.max_length} is more than the {limit} tokens that the model takes")
        return self.max_length or limit

    def label_index(self, label: Any) -> int:
        """The class index of a label: its name, its index, or true/false."""
        if isinstance(label, bool):
            label = str(label).lower()
        if isinstance(label, str | int) and label in self.labels:
            return self.labels.index(label)
        if isinstance(label, int) and 0 <= label < len(self.labels):
            return label
        raise SptError(f"label {label!r} is none of this task's: {nearest(label, self.labels)}")


@dataclass(kw_only=True)
class SentenceTask(Task):
    """One text or a pair of texts, one class.

    Attributes:
        templates: each one or two texts, with {fields} of the row.
        template: which of them.
    """

    templates: list[list[str]]
    template: int = 0

    task_type = "sentence"
    reader = staticmethod(read_jsonl)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template not in range(len(self.templates)):
            raise SptError(f"{self.name} has templates 0 to {len(self.templates) - 1}, not {self.template!r}")
        for texts in self.templates:
            if len(texts) not in (1, 2):
                raise SptError(f"a template is one text or two, not {texts!r}")
            check_template(*texts)

    def example(self, row: Row) -> Example:
        texts = [fill(text, row) for text in self.templates[self.template]]
        return {"texts": texts, "label": self.label_index(row["label"])}

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        texts = zip(*(example["texts"] for example in examples), strict=True)
        encoded = tokenizer(*map(list, texts), truncation=True, max_length=self.length_limit(limit))
        columns = {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
        columns["labels"] = self.gold(examples)
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        return Split(examples, Dataset.from_dict(columns), truncated=sum(_is_truncated(encoded)))

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorWithPadding(tokenizer)


@dataclass(kw_only=True)
class WinogradTask(SentenceTask):
    """WSC: beside the row's own fields, a template may name {marked}, the text with *span 2's word* in asterisks."""

    def example(self, row: Row) -> Example:
        words = str(row.get("text", "")).split()
        index = row.get("span2_index")
        if not isinstance(index, int) or not 0 <= index < len(words):
            raise SptError(f"span2_index {index!r} is no word of the text")
        words[index] = f"*{words[index]}*"
        return super().example(row | {"marked": " ".join(words)})


@dataclass(kw_only=True)
class ChoiceTask(Task):
    """A context and some choices, of which one is right. Each choice is encoded with the context, as a pair.

    Attributes:
        context: a template.
        choices: a template for each choice.
        words: for a field, what its values are replaced by before the templates are filled.
    """

    context: str
    choices: list[str]
    words: dict[str, dict[str, str]] = field(default_factory=dict)

    task_type = "choice"
    reader = staticmethod(read_jsonl)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.choices) != len(self.labels):
            raise SptError(f"{self.name} has {len(self.choices)} choices and {len(self.labels)} labels")
        check_template(self.context, *self.choices)

    def example(self, row: Row) -> Example:
        for name, words in self.words.items():
            value = _column(row, name)
            if not isinstance(value, str) or value not in words:
                raise SptError(f"{name} is {value!r}: {nearest(str(value), words)}")
            row = row | {name: words[value]}
        return {
            "context": fill(self.context, row),
            "choices": [fill(choice, row) for choice in self.choices],
            "label": self.label_index(row["label"]),
        }

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        count = len(self.choices)
        contexts = [example["context"] for example in examples for _ in range(count)]
        choices = [choice for example in examples for choice in example["choices"]]
        encoded = tokenizer(contexts, choices, truncation=True, max_length=self.length_limit(limit))

        def grouped(flat: list) -> list[list]:
            return [flat[i : i + count] for i in range(0, len(flat), count)]

        columns = {name: grouped(encoded[name]) for name in tokenizer.model_input_names if name in encoded}
        columns["labels"] = self.gold(examples)
        columns["length"] = [max(lengths) for lengths in grouped([len(ids) for ids in encoded["input_ids"]])]
        truncated = sum(any(group) for group in grouped(_is_truncated(encoded)))
        return Split(examples, Dataset.from_dict(columns), truncated=truncated)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorForMultipleChoice(tokenizer)


@dataclass(kw_only=True)
class TokenTask(Task):
    """Named entities: words and IOB2 tags. `labels` are the entity types.

    The label sits on a word's first sub-word. Words that truncation cut off are predicted O, so they count as misses.

    Attributes:
        tags: the hub's column of tags.
        spans: the hub's column of {"start", "end", "type"}, where it has spans and no tags.
    """

    tags: str = "tags"
    spans: str | None = None

    task_type = "token"
    reader = staticmethod(read_conll)

    @property
    def classes(self) -> list[str]:
        return ["O"] + [f"{prefix}-{kind}" for kind in self.labels for prefix in "BI"]

    def is_unlabelled(self, row: Row) -> bool:
        return False

    def example(self, row: Row) -> Example:
        tokens = list(_column(row, "tokens"))
        if "tags" in row or self.spans is None:
            tags = list(row["tags"] if "tags" in row else _column(row, self.tags))
        else:
            tags = spans_to_tags(len(tokens), _column(row, self.spans))
        if len(tags) != len(tokens):
            raise SptError(f"{len(tokens)} tokens and {len(tags)} tags")
        for tag in tags:
            if tag != "O" and tag[2:] not in self.labels:
                raise SptError(f"entity type {tag[2:]!r} is none of this task's: {nearest(tag[2:], self.labels)}")
        return {"tokens": tokens, "tags": tags}

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
        encoded = tokenizer(
            [example["tokens"] for example in examples],
            is_split_into_words=True,
            truncation=True,
            max_length=self.length_limit(limit),
        )
        index = {tag: i for i, tag in enumerate(self.classes)}
        words = [_first_subwords(encoded.word_ids(i)) for i in range(len(examples))]
        columns = {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
        columns["labels"] = [
            [IGNORED if word == NO_WORD else index[example["tags"][word]] for word in firsts]
            for firsts, example in zip(words, examples, strict=True)
        ]
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        columns["words"] = words
        kept = sum(word != NO_WORD for firsts in words for word in firsts)
        lost_words = sum(len(example["tokens"]) for example in examples) - kept
        truncated = sum(_is_truncated(encoded))
        return Split(examples, Dataset.from_dict(columns), truncated=truncated, lost_words=lost_words)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorForTokenClassification(tokenizer)

    def predictions(self, logits: np.ndarray, split: Split) -> list[list[str]]:
        classes = self.classes
        predicted = [["O"] * len(example["tokens"]) for example in split.examples]
        for tags, words, best in zip(predicted, split.inputs["words"], logits.argmax(-1), strict=True):
            for position, word in enumerate(words):
                if word != NO_WORD:
                    tags[word] = classes[best[position]]
        return predicted

    def gold(self, examples: list[Example]) -> list[list[str]]:
        return [example["tags"] for example in examples]

    def only_class(self, predictions: list[list[str]]) -> str | None:
        kinds = {tag for tags in predictions for tag in tags}
        return kinds.pop() if len(kinds) == 1 else None


def check_template(*templates: str) -> None:
    """Complain of braces that do not close."""
    for template in templates:
        try:
            list(string.Formatter().parse(template))
        except ValueError as error:
            raise SptError(f"template {template!r}: {error}") from error


def fill(template: str, row: Row) -> str:
    """`template` with the row's fields in its {braces}."""
    for _, name, _, _ in string.Formatter().parse(template):
        if name is not None and not isinstance(_column(row, name), str):
            raise SptError(f"field {name!r} holds no text but {row[name]!r}")
    return template.format_map(row)


def _column(row: Row, name: str) -> Any:
    if name not in row:
        raise SptError(f"no field {name!r}: {nearest(name, row)}")
    return row[name]


def data_fingerprint(data: dict[str, list[Example]]) -> str:
    """A hash of all examples of all splits, as the model gets them."""
    digest = hashlib.sha256()
    for split, examples in data.items():
        digest.update(split.encode())
        for example in examples:
            digest.update(json.dumps(example, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _first_subwords(word_ids: list[int | None]) -> list[int]:
    """For each token the word it begins, NO_WORD on special tokens and later sub-words."""
    seen: set[int | None] = {None}
    firsts = []
    for word in word_ids:
        firsts.append(NO_WORD if word is None or word in seen else word)
        seen.add(word)
    return firsts


def _is_truncated(encoded: Any) -> list[bool]:
    return [bool(encoding.overflowing) for encoding in encoded.encodings]
