"""Named entities: one tag a word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase

from spt.errors import SptError, nearest
from spt.modeling.task_model import IGNORED
from spt.tasks.base import Example, Split, Task, is_truncated, model_inputs
from spt.tasks.entity_tags import check_tag, spans_to_tags, to_iob2
from spt.tasks.file_readers import Row, Rows, read_sentences
from spt.tasks.metrics import OF_ENTITIES, entity_counts

NO_WORD = -1


@dataclass(kw_only=True)
class TokenTask(Task):
    """Named entities: words and IOB2 tags. `labels` are the entity types.

    The label sits on a word's first sub-word. Words that truncation cut off are predicted O, so they count as misses.

    Attributes:
        spans: the field with {"start", "end", "type"} of each entity, where the data has spans and no tags.
    """

    spans: str | None = None

    task_type = "token"
    known_metrics = OF_ENTITIES
    target = "tags"

    @property
    def classes(self) -> list[str]:
        return ["O"] + [f"{prefix}-{kind}" for kind in self.labels for prefix in "BI"]

    def file_rows(self, path: Path) -> Rows:
        return read_sentences(path)

    def is_unlabelled(self, row: Row) -> bool:
        return False

    def fields(self) -> list[str]:
        return [self.column("tokens")]

    def unlabelled(self, row: Row) -> Example:
        tokens = self.value(row, "tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise SptError(f"tokens must be a list of words, not {tokens!r}")
        return {"tokens": tokens}

    def passage(self, example: Example) -> str:
        return " ".join(example["tokens"])

    def has_words(self, row: Row) -> bool:
        """Whether a row comes as words."""
        return any(name in row for name in self._names("tokens"))

    def example_input(self) -> str:
        return "A sentence about Ann Lee in Rome."

    def example(self, row: Row) -> Example:
        example = self.unlabelled(row)
        tokens = example["tokens"]
        if self.spans is not None and not any(name in row for name in self._names("tags")):
            tags = spans_to_tags(len(tokens), self.value(row, self.spans))
        else:
            tags = self.value(row, "tags")
        if not isinstance(tags, list):
            raise SptError(f"tags must be a list of tags, not {tags!r}")
        if len(tags) != len(tokens):
            raise SptError(f"{len(tokens)} tokens and {len(tags)} tags")
        for tag in tags:
            check_tag(tag)
            if tag != "O" and tag[2:] not in self.labels:
                raise SptError(f"entity type {tag[2:]!r} is none of this task's: {nearest(tag[2:], self.labels)}")
        return example | {"tags": to_iob2(tags)}

    def _columns(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> dict[str, list]:
        encoded = tokenizer(
            [example["tokens"] for example in examples],
            is_split_into_words=True,
            truncation=True,
            max_length=limit,
        )
        words = [_first_subwords(encoded.word_ids(i)) for i in range(len(examples))]
        columns = model_inputs(encoded, tokenizer)
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        columns["words"] = words
        if self.target in examples[0]:
            index = {tag: i for i, tag in enumerate(self.classes)}
            columns["labels"] = [
                [IGNORED if word == NO_WORD else index[tags[word]] for word in firsts]
                for firsts, tags in zip(words, self.gold(examples), strict=True)
            ]
        columns["lost_words"] = [
            len(example["tokens"]) - sum(word != NO_WORD for word in firsts)
            for example, firsts in zip(examples, words, strict=True)
        ]
        return columns | {"truncated": is_truncated(encoded)}

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

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Each word with its tag and the tag's probability, None for a word that the model did not see."""
        described = []
        best = softmax(logits.astype(float), axis=-1).max(-1).tolist()
        tagged = self.predictions(logits, split)
        for example, tags, words, found in zip(split.examples, tagged, split.inputs["words"], best, strict=True):
            sure = {word: found[position] for position, word in enumerate(words) if word != NO_WORD}
            described.append(
                {
                    "words": [
                        {"word": word, "tag": tag, "probability": sure.get(i)}
                        for i, (word, tag) in enumerate(zip(example["tokens"], tags, strict=True))
                    ]
                }
            )
        return described

    def outcomes(self, predictions: list[list[str]], examples: list[Example]) -> list[list[int]]:
        """The numbers of entities in each sentence: found and right, predicted, gold. Their sums give micro F1."""
        return [entity_counts(gold, found) for gold, found in zip(self.gold(examples), predictions, strict=True)]

    def only_class(self, predictions: list[list[str]]) -> str | None:
        kinds = {tag for tags in predictions for tag in tags}
        return kinds.pop() if len(kinds) == 1 else None


def _first_subwords(word_ids: Sequence[int | None]) -> list[int]:
    """For each token the word it begins, NO_WORD on special tokens and later sub-words."""
    seen: set[int | None] = {None}
    firsts = []
    for word in word_ids:
        firsts.append(NO_WORD if word is None or word in seen else word)
        seen.add(word)
    return firsts
