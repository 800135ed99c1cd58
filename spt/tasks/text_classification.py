"""Tasks on a text or a pair of texts: classification, and regression."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spt.errors import SptError, is_number
from spt.tasks.class_names import is_missing
from spt.tasks.fields_and_templates import template_fields
from spt.tasks.file_readers import read_rows
from spt.tasks.metrics import NUMBER_METRICS, correlation_terms
from spt.tasks.model_inputs import Example, Split, Tokenize, input_columns
from spt.tasks.task import Names, Task
from spt.tasks.text_lines import Row, Rows


@dataclass(kw_only=True)
class TextTask(Task):
    """A text or a pair of texts. Examples are {"texts", "label"}."""

    templates: list[list[str]]  # each one or two texts, with {fields} of the row
    template: int = 0  # the index of the template to use
    header: list[str] | None = None  # the columns of .tsv files whose first line does not name them
    leave_out_short_rows: bool = False  # skip rows of .tsv files with too few fields, instead of refusing the file

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template not in range(len(self.templates)):
            raise SptError(f"{self.name} has templates 0 to {len(self.templates) - 1}, not {self.template!r}")
        for texts in self.templates:
            if len(texts) not in (1, 2):
                raise SptError(f"a template is one text or two, not {texts!r}")
            template_fields(*texts)

    def parsed_rows(self, path: Path) -> Rows:
        options = {"header": self.header, "leave_out_short": self.leave_out_short_rows, "quoting": self.quoting}
        return read_rows(path, **options)

    def fields(self) -> list[str]:
        return [self.column(name) for name in template_fields(*self.templates[self.template])]

    def plain_fields(self) -> list[str] | None:
        """The columns of the one or two texts, or None if the template adds to the fields."""
        texts = self.templates[self.template]
        return self.fields() if texts == [f"{{{name}}}" for name in template_fields(*texts)] else None

    def unlabelled_example(self, row: Row) -> Example:
        return {"texts": [self.fill(text, row) for text in self.templates[self.template]]}

    def shared_text(self, example: Example) -> str:
        return max(example["texts"], key=len)

    def _tokenized(self, examples: list[Example], tokenize: Tokenize) -> dict[str, list]:
        texts = zip(*(example["texts"] for example in examples), strict=True)
        return input_columns(tokenize(*map(list, texts)))


@dataclass(kw_only=True)
class SentenceTask(TextTask):
    """A text or a pair of texts, and one class."""

    task_type = "sentence"


@dataclass(kw_only=True)
class RegressionTask(TextTask):
    """A text or a pair of texts, and one number."""

    labels: Names = field(default_factory=list)
    bounds: list[Any] | None = None  # the lowest and the highest label allowed; None: any number

    task_type = "regression"
    known_metrics = NUMBER_METRICS

    def _check_labels(self) -> None:
        if self.labels:
            raise SptError(f"{self.name} is a regression and has no classes: task.labels must be empty")
        bounds = self.bounds or [0, 1]
        if len(bounds) != 2 or not all(map(is_number, bounds)) or not bounds[0] < bounds[1]:
            raise SptError(f"task.bounds must be two numbers, the lower first, or null, not {self.bounds!r}")

    @property
    def classes(self) -> list[str]:
        return ["value"]

    def is_unlabelled(self, row: Row) -> bool:
        label = self.value(row, "label") if self.has_field(row, "label") else None
        return is_missing(label) or (label == -1 and self.bounds is not None and self.bounds[0] > -1)

    def target_of(self, row: Row) -> float:
        label = self.value(row, "label")
        try:
            number = math.nan if isinstance(label, bool) else float(label)
        except (OverflowError, TypeError, ValueError):
            number = math.nan
        low, high = self.bounds or (-math.inf, math.inf)
        if not math.isfinite(number) or not low <= number <= high:
            allowed = "" if self.bounds is None else f" from {low} to {high}"
            raise SptError(f"label {label!r} is not a number{allowed}")
        with np.errstate(over="ignore"):
            single = np.float32(number)  # the hub has STS-B's 3.8 as the nearest number of this type
        return float(str(single)) if float(single) == number and not number.is_integer() else number

    def predictions(self, logits: np.ndarray, split: Split) -> list[float]:
        return logits[:, 0].tolist()

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        return [{"value": value} for value in self.predictions(logits, split)]

    def outcomes(self, predictions: list[float], examples: list[Example]) -> list[float]:
        """The term of each example in the headline correlation, which is the mean of the terms."""
        return correlation_terms(self.metrics[0], self.gold(examples), predictions)

    def only_class(self, predictions: list[float]) -> str | None:
        return f"{predictions[0]:.4f}" if np.ptp(predictions) <= 1e-5 else None
