"""Tasks that choose between answers to a context."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import DataCollatorForMultipleChoice, PreTrainedTokenizerBase

from spt.errors import SptError, nearest
from spt.tasks.base import Example, Split, Task, is_truncated, model_inputs
from spt.tasks.file_readers import Row
from spt.tasks.templates import check_template, fields_of


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.choices) != len(self.labels):
            raise SptError(f"{self.name} has {len(self.choices)} choices and {len(self.labels)} labels")
        check_template(self.context, *self.choices)

    def fields(self) -> list[str]:
        return [self.column(name) for name in fields_of(self.context, *self.choices)]

    def unlabelled(self, row: Row) -> Example:
        for name, words in self.words.items():
            value = self.value(row, name)
            if not isinstance(value, str) or value not in words:
                raise SptError(f"{name} is {value!r}: {nearest(str(value), words)}")
            row = row | {name: words[value]}
        return {"context": self.fill(self.context, row), "choices": [self.fill(choice, row) for choice in self.choices]}

    def passage(self, example: Example) -> str:
        return example["context"]

    def example_input(self) -> Row:
        named = {self.column(name): next(iter(words)) for name, words in self.words.items()}
        return dict.fromkeys(self.fields(), "A text.") | named

    def _columns(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> dict[str, list]:
        count = len(self.choices)
        contexts = [example["context"] for example in examples for _ in range(count)]
        choices = [choice for example in examples for choice in example["choices"]]
        encoded = tokenizer(contexts, choices, truncation=True, max_length=limit)

        def grouped(flat: list) -> list[list]:
            return [flat[i : i + count] for i in range(0, len(flat), count)]

        columns = {name: grouped(values) for name, values in model_inputs(encoded, tokenizer).items()}
        columns["length"] = [max(lengths) for lengths in grouped([len(ids) for ids in encoded["input_ids"]])]
        if self.target in examples[0]:
            columns["labels"] = self.gold(examples)
        return columns | {"truncated": [int(any(group)) for group in grouped(is_truncated(encoded))]}

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        collate = DataCollatorForMultipleChoice(tokenizer)

        def batch(items: list[dict]) -> dict:
            labelled = collate([{"labels": 0} | item for item in items])  # it takes no items without labels
            return {name: tensor for name, tensor in labelled.items() if name != "labels" or name in items[0]}

        return batch

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        return [
            {"choice": int(row.argmax()), "probabilities": row.tolist()}
            for row in softmax(logits.astype(float), axis=-1)
        ]
