"""Tasks on one text or a pair of texts: classes, or a number."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from spt.errors import SptError, is_number
from spt.tasks.base import Example, Split, Task, is_truncated, model_inputs
from spt.tasks.file_readers import Row, Rows, read_rows
from spt.tasks.metrics import OF_NUMBERS, correlation_terms
from spt.tasks.templates import check_template, fields_of

SAME = 1e-5  # numbers closer than this are one prediction


@dataclass(kw_only=True)
class TextTask(Task):
    """One text or a pair of texts.

    Attributes:
        templates: each one or two texts, with {fields} of the row.
        template: which of them.
        header: the columns of .tsv files whose first line does not name them.
        leave_out_short_rows: leave rows of .tsv files that lack fields out, and say how many, instead of refusing them.
    """

    templates: list[list[str]]
    template: int = 0
    header: list[str] | None = None
    leave_out_short_rows: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template not in range(len(self.templates)):
            raise SptError(f"{self.name} has templates 0 to {len(self.templates) - 1}, not {self.template!r}")
        for texts in self.templates:
            if len(texts) not in (1, 2):
                raise SptError(f"a template is one text or two, not {texts!r}")
            check_template(*texts)

    def file_rows(self, path: Path) -> Rows:
        return read_rows(path, self.header, self.leave_out_short_rows)

    def fields(self) -> list[str]:
        return [self.column(name) for name in fields_of(*self.templates[self.template])]

    def plain_fields(self) -> list[str] | None:
        """The fields that are the texts, each as it is; None where the template adds to them."""
        texts = self.templates[self.template]
        names = fields_of(*texts)
        return self.fields() if texts == [f"{{{name}}}" for name in names] else None

    def unlabelled(self, row: Row) -> Example:
        return {"texts": [self.fill(text, row) for text in self.templates[self.template]]}

    def passage(self, example: Example) -> str:
        return max(example["texts"], key=len)

    def _columns(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> dict[str, list]:
        texts = zip(*(example["texts"] for example in examples), strict=True)
        encoded = tokenizer(*map(list, texts), truncation=True, max_length=limit)
        columns = model_inputs(encoded, tokenizer)
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        if self.target in examples[0]:
            columns["labels"] = [example[self.target] for example in examples]
        return columns | {"truncated": is_truncated(encoded)}

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorWithPadding(tokenizer)


@dataclass(kw_only=True)
class SentenceTask(TextTask):
    """One text or a pair of texts, one class."""

    task_type = "sentence"


@dataclass(kw_only=True)
class RegressionTask(TextTask):
    """One text or a pair of texts, one number.

    Attributes:
        bounds: the least and the greatest number that a label may be; None: any.
    """

    labels: list[str] = field(default_factory=list)
    bounds: list[int | float] | None = None

    task_type = "regression"
    known_metrics = OF_NUMBERS

    def _check_labels(self) -> None:
        if self.labels:
            raise SptError(f"{self.name} is a regression and has no classes: task.labels must be empty")
        bounds = self.bounds or [0, 1]
        if len(bounds) != 2 or not all(map(is_number, bounds)) or not bounds[0] < bounds[1]:
            raise SptError(f"task.bounds must be two numbers, the lesser first, or null, not {self.bounds!r}")

    @property
    def classes(self) -> list[str]:
        return ["value"]

    def is_unlabelled(self, row: Row) -> bool:
        label = self._label(row)
        return label is None or label == "" or (label == -1 and self.bounds is not None and self.bounds[0] > -1)

    def example(self, row: Row) -> Example:
        return self.unlabelled(row) | {"label": self.number(self.value(row, "label"))}

    def number(self, label: Any) -> float:
        """A label as the number it is."""
        try:
            number = math.nan if isinstance(label, bool) else float(label)
        except (TypeError, ValueError):
            number = math.nan
        low, high = self.bounds or (-math.inf, math.inf)
        if not math.isfinite(number) or not low <= number <= high:
            span = "" if self.bounds is None else f" from {low} to {high}"
            raise SptError(f"label {label!r} is no number{span}")
        return number

    def predictions(self, logits: np.ndarray, split: Split) -> list[float]:
        return logits[:, 0].tolist()

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        return [{"value": value} for value in self.predictions(logits, split)]

    def outcomes(self, predictions: list[float], examples: list[Example]) -> list[float]:
        """What each example adds to the headline correlation: the outcomes' mean is the score."""
        return correlation_terms(self.metrics[0], self.gold(examples), predictions)

    def only_class(self, predictions: list[float]) -> str | None:
        return f"{predictions[0]:.4f}" if np.ptp(predictions) <= SAME else None
