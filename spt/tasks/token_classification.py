"""Named-entity recognition: a tag for each word."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import softmax
from seqeval.metrics.sequence_labeling import get_entities
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase

from spt.errors import SptError, nearest
from spt.modeling.task_model import IGNORED
from spt.tasks.conll_columns import Places, shape_of
from spt.tasks.entity_tags import PREFIX, Scheme, check_tag, iob2_tags, spans_to_tags
from spt.tasks.file_readers import OF_OBJECTS, find_file, read_sentences
from spt.tasks.metrics import ENTITY_METRICS, Scores, entity_counts, entity_scores
from spt.tasks.model_inputs import Example, Split, Tokenize, input_columns
from spt.tasks.task import Task
from spt.tasks.text_lines import BLANKS, Row, Rows

log = logging.getLogger(__name__)

NO_WORD = -1


@dataclass(kw_only=True)
class TokenTask(Task):
    """Words with IOB2 tags; `labels` are the entity types. Examples are {"tokens", "tags"}.

    The label is on the first sub-word of each word. Words cut off by truncation are predicted O: they count as misses.
    """

    spans: str | None = None  # for data without tags, the field with the {"start", "end", "type"} of each entity
    scheme: Scheme | None = None  # how tags are written; None: IOB1 or IOB2, as for "bio"
    tag_names: list[str] = field(default_factory=list)  # the tags that numbers stand for
    places: Places | None = None  # the columns of token and tag in CoNLL files; None: first and last
    comments: bool | str | None = None  # how lines of CoNLL files that are skipped begin, true: #; None: none are

    task_type = "token"
    known_metrics = ENTITY_METRICS
    target = "tags"

    @property
    def classes(self) -> list[str]:
        return ["O"] + [f"{prefix}-{kind}" for kind in self.labels for prefix in "BI"]

    def _check_labels(self) -> None:
        if tags := [label for label in self.labels if label == "O" or re.match("[BI]-", label)]:
            raise SptError(
                f"task.labels are entity types, without O, B- and I-, not {tags[0]!r}. If tags are numbers: all "
                "tags with O in task.labels of task=custom, in +task.tag_names of other tasks"
            )
        super()._check_labels()

    def _rows(self, split: str, required: bool) -> Rows:
        if not required and self.data_dir is not None:
            path = find_file(self.data_dir, self.files[split], required)
            if path is not None and path.suffix.lower() not in OF_OBJECTS and self.shape_of(path) == "words":
                log.info("%s: a split without labels is left out: %s has words alone", self.name, path)
                return iter(())
        return super()._rows(split, required)

    def shape_of(self, path: Path) -> Literal["columns", "words", "texts"]:
        """What the lines of a text file are: see `spt.tasks.conll_columns.shape_of`."""
        return shape_of(path, self.places, self.comments)

    def parsed_rows(self, path: Path) -> Rows:
        check = partial(check_tag, scheme=self.scheme, names=self.tag_names)
        options = {"places": self.places, "comments": self.comments, "quoting": self.quoting}
        return read_sentences(path, (self.column("tokens"), self.column("tags")), **options, check=check)

    def fields(self) -> list[str]:
        return [self.column("tokens")]

    def example_input(self) -> str:
        return "A sentence about Ann Lee in Rome."

    def is_unlabelled(self, row: Row) -> bool:
        return not self._has_tags(row) and self._spans_of(row) is None

    def _has_tags(self, row: Row) -> bool:
        return self.has_field(row, "tags") and self.value(row, "tags") is not None

    def _spans_of(self, row: Row) -> Any:
        return None if self.spans is None or not self.has_field(row, self.spans) else self.value(row, self.spans)

    def unlabelled_example(self, row: Row) -> Example:
        tokens = self.value(row, "tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise SptError(f"tokens must be a list of words, not {tokens!r}")
        if blank := [number for number, token in enumerate(tokens, start=1) if not token.strip(BLANKS)]:
            raise SptError(f"word {blank[0]}, {tokens[blank[0] - 1]!r}, is empty or blank: leave it out, with its tag")
        return {"tokens": tokens}

    def target_of(self, row: Row) -> list[str]:
        length = len(self.value(row, "tokens"))
        if self._has_tags(row):
            tags = iob2_tags(self.value(row, "tags"), self.scheme, self.tag_names)
        else:
            tags = spans_to_tags(length, self._spans_of(row))
        if len(tags) != length:
            raise SptError(f"{length} tokens and {len(tags)} tags")
        for tag in tags:
            if tag != "O" and tag[2:] not in self.labels:
                source = "; those are the types of the training file" if self.labels_found else ""
                known = nearest(tag[2:], self.labels)
                raise SptError(f"entity type {tag[2:]!r} is not in task.labels: {known}{source}")
        return tags

    def written_names(self, row: Row) -> list[str]:
        tags = self.value(row, "tags") if self._has_tags(row) else []
        return [re.sub(PREFIX, "", tag) for tag in tags if isinstance(tag, str) and tag != "O"]

    def shared_text(self, example: Example) -> str:
        return " ".join(example["tokens"])

    def _tokenized(self, examples: list[Example], tokenize: Tokenize) -> dict[str, list]:
        """The columns of `Split.inputs`, with `words` (see `_first_subwords`) and `lost_words`, which have no token."""
        sentences = [example["tokens"] for example in examples]
        encoded = tokenize(sentences, is_split_into_words=True)
        words = [_first_subwords(encoded.word_ids(i)) for i in range(len(sentences))]
        lost = [len(s) - sum(word != NO_WORD for word in row) for s, row in zip(sentences, words, strict=True)]
        return input_columns(encoded) | {"words": words, "lost_words": lost}

    def _label_column(self, examples: list[Example], columns: dict[str, list]) -> list[list[int]]:
        index = {tag: i for i, tag in enumerate(self.classes)}
        return [
            [IGNORED if word == NO_WORD else index[example["tags"][word]] for word in words]
            for example, words in zip(examples, columns["words"], strict=True)
        ]

    def _collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorForTokenClassification(tokenizer)

    def predictions(self, logits: np.ndarray, split: Split) -> list[list[str]]:
        """The tags of each sentence; `logits` are [sentences, tokens, classes]."""
        classes = self.classes
        predicted = [["O"] * len(example["tokens"]) for example in split.examples]
        for tags, words, best in zip(predicted, split.inputs["words"], logits.argmax(-1), strict=True):
            for position, word in enumerate(words):
                if word != NO_WORD:
                    tags[word] = classes[best[position]]
        return predicted

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """The entities of each sentence, as seqeval reads them off the tags; a probability is the lowest of its words.

        Start and end (exclusive) count characters where the example has its text and the spans of its words in it, else
        words.
        """
        highest = softmax(logits.astype(float), axis=-1).max(-1).tolist()
        tagged = zip(split.examples, self.predictions(logits, split), split.inputs["words"], highest, strict=True)
        return [
            {"entities": list(_entities(example, tags, {word: row[place] for place, word in enumerate(words)}))}
            for example, tags, words, row in tagged
        ]

    def score(self, predictions: list[list[str]], examples: list[Example]) -> Scores:
        return entity_scores(self.gold(examples), predictions)

    def outcomes(self, predictions: list[list[str]], examples: list[Example]) -> list[list[int]]:
        """The `entity_counts` of each sentence, whose sums give micro F1."""
        return [entity_counts(gold, tags) for gold, tags in zip(self.gold(examples), predictions, strict=True)]

    def only_class(self, predictions: list[list[str]]) -> str | None:
        tags = {tag for sentence in predictions for tag in sentence}
        return tags.pop() if len(tags) == 1 else None


def _entities(example: Example, tags: list[str], probabilities: dict[int, float]) -> Iterator[dict[str, Any]]:
    tokens, text = example["tokens"], example.get("text")
    spans = example.get("spans") or [(word, word + 1) for word in range(len(tokens))]
    for kind, first, last in get_entities(tags):
        start, end = spans[first][0], spans[last][1]
        shown = " ".join(tokens[start:end]) if text is None else text[start:end]
        probability = min(probabilities[word] for word in range(first, last + 1))
        yield {"type": kind, "start": start, "end": end, "text": shown, "probability": probability}


def _first_subwords(word_ids: Sequence[int | None]) -> list[int]:
    """For each token the index of the word it starts; NO_WORD for special tokens and later sub-words."""
    seen: set[int | None] = {None}
    firsts = []
    for word in word_ids:
        firsts.append(NO_WORD if word is None or word in seen else word)
        seen.add(word)
    return firsts
