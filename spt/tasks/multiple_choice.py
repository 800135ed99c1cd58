"""Tasks that choose one of several answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import DataCollatorForMultipleChoice, PreTrainedTokenizerBase

from spt.errors import SptError, nearest
from spt.tasks.fields_and_templates import template_fields
from spt.tasks.model_inputs import Example, Split, Tokenize, input_columns
from spt.tasks.task import Task
from spt.tasks.text_lines import Row


@dataclass(kw_only=True)
class ChoiceTask(Task):
    """A context and several choices, one of them right. Examples are {"context", "choices", "label"}.

    Each choice is encoded with the context as a pair: a row of `Split.inputs` holds the pairs of an example.
    """

    context: str  # a template
    choices: list[str]  # a template for each choice
    words: dict[str, dict[str, str]] = field(default_factory=dict)  # for a field, replacements of its values

    task_type = "choice"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.choices) != len(self.labels):
            raise SptError(f"{self.name} has {len(self.choices)} choices and {len(self.labels)} labels")
        self.fields()

    def fields(self) -> list[str]:
        return [self.column(name) for name in template_fields(self.context, *self.choices)]

    def example_input(self) -> Row:
        words = {self.column(name): next(iter(words)) for name, words in self.words.items()}
        return dict.fromkeys(self.fields(), "A text.") | words

    def unlabelled_example(self, row: Row) -> Example:
        for name, words in self.words.items():
            value = self.value(row, name)
            if not isinstance(value, str) or value not in words:
                raise SptError(f"{name} is {value!r}: {nearest(str(value), words)}")
            row = row | {self.column(name): words[value]}
        return {"context": self.fill(self.context, row), "choices": [self.fill(choice, row) for choice in self.choices]}

    def shared_text(self, example: Example) -> str:
        return example["context"]

    def _tokenized(self, examples: list[Example], tokenize: Tokenize) -> dict[str, list]:
        pairs = [(example["context"], choice) for example in examples for choice in example["choices"]]
        count = len(self.choices)
        columns = {
            name: [values[i : i + count] for i in range(0, len(values), count)]
            for name, values in input_columns(tokenize(pairs)).items()
        }
        return columns | {name: list(map(max, columns[name])) for name in ("length", "truncated")}

    def _collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return partial(_collate, DataCollatorForMultipleChoice(tokenizer))

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        return [
            {"choice": int(row.argmax()), "probabilities": row.tolist()}
            for row in softmax(logits.astype(float), axis=-1)
        ]


def _collate(collate: DataCollatorForMultipleChoice, rows: list[dict]) -> dict:
    labelled = collate([{"labels": 0} | row for row in rows])  # transformers' collator requires labels
    return {name: tensor for name, tensor in labelled.items() if name != "labels" or name in rows[0]}
