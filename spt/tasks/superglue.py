"""The SuperGLUE tasks that need more than a template: WSC, MultiRC, ReCoRD."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from spt.errors import SptError
from spt.tasks.base import Example, Split, Task, is_truncated, model_inputs
from spt.tasks.file_readers import Row
from spt.tasks.metrics import OF_QUESTIONS, OF_TEXTS, Scores
from spt.tasks.text_classification import SentenceTask


@dataclass(kw_only=True)
class WinogradTask(SentenceTask):
    """WSC: beside the row's own fields, a template may name {marked}, the text with *span 2's word* in asterisks."""

    def unfold(self, row: Row) -> list[Row]:
        target = row.get("target")
        return [row | target if isinstance(target, dict) else row]

    def fields(self) -> list[str]:
        return ["text", "span1_text", "span2_text", "span2_index"]

    def example_input(self) -> Row:
        return {"text": "Ann met Bea and she sat.", "span1_text": "Bea", "span2_text": "she", "span2_index": 4}

    def unlabelled(self, row: Row) -> Example:
        words = str(row.get("text", "")).split()
        index = row.get("span2_index")
        if not isinstance(index, int) or not 0 <= index < len(words):
            raise SptError(f"span2_index {index!r} is no word of the text")
        words[index] = f"*{words[index]}*"
        return super().unlabelled(row | {"marked": " ".join(words)}) | {"text": row["text"]}

    def passage(self, example: Example) -> str:
        return example["text"]


@dataclass(kw_only=True)
class MultiRCTask(SentenceTask):
    """MultiRC: each answer to each question on a paragraph is right or wrong. An example is an answer.

    Files hold a paragraph a row, with its questions and their answers; the hub has an answer a row.
    """

    known_metrics = OF_QUESTIONS

    def unfold(self, row: Row) -> list[Row]:
        if "passage" not in row:
            return [row]
        passage, paragraph = _parts(row, "row", "passage", "idx")
        text, questions = _parts(passage, "passage", "text", "questions")
        answers = []
        for question in questions:
            asked, number, options = _parts(question, "question", "question", "idx", "answers")
            for option in options:
                (answer,) = _parts(option, "answer", "text")
                idx = {"paragraph": paragraph, "question": number} | _only(option, "idx", called="answer")
                answers.append(
                    {"paragraph": text, "question": asked, "answer": answer, "idx": idx} | _only(option, "label")
                )
        return answers

    def names(self, row: Row) -> list[tuple[str, Any]]:
        paragraph, question = _parts(self.value(row, "idx"), "idx", "paragraph", "question")
        return [(f"question {paragraph}-{question}", (row.get("paragraph"), row.get("question")))]

    def fields(self) -> list[str]:
        return [*super().fields(), "idx"]

    def example_input(self) -> Row:
        return dict.fromkeys(super().fields(), "A text.") | {"idx": {"paragraph": 0, "question": 0}}

    def unlabelled(self, row: Row) -> Example:
        paragraph, question = _parts(self.value(row, "idx"), "idx", "paragraph", "question")
        return super().unlabelled(row) | {"question": f"{paragraph}-{question}"}

    def gold(self, examples: list[Example]) -> list[tuple[str, int]]:
        return [(example["question"], example["label"]) for example in examples]

    def outcomes(self, predictions: list[int], examples: list[Example]) -> list[int]:
        return [int(a == example["label"]) for a, example in zip(predictions, examples, strict=True)]


@dataclass(kw_only=True)
class RecordTask(Task):
    """ReCoRD: which entity of the passage stands for "@placeholder" in the query. An example is a query.

    The model is given the passage and the query with each entity in its place, and tells right from wrong; the entity
    it is surest of is its answer. Files hold a passage a row, with its queries; the hub has a query a row.
    """

    labels: list[str] = field(default_factory=lambda: ["0", "1"])

    task_type = "sentence"
    known_metrics = OF_TEXTS
    target = "answers"

    def unfold(self, row: Row) -> list[Row]:
        if "qas" not in row:
            return [row]
        text, spans = _parts(row["passage"], "passage", "text", "entities")
        entities = []
        for span in spans:
            start, end = _parts(span, "entity", "start", "end")
            if not 0 <= start <= end < len(text):
                raise SptError(f"entity {start}-{end} lies outside a passage of {len(text)} characters")
            entities.append(text[start : end + 1])
        rows = []
        for item in row["qas"]:
            (query,) = _parts(item, "query", "query")
            answers = [answer for found in item.get("answers", []) for answer in _parts(found, "answer", "text")]
            idx = {"passage": row.get("idx"), "query": item.get("idx")}
            rows.append({"passage": text, "query": query, "entities": entities, "answers": answers, "idx": idx})
        return rows

    def is_unlabelled(self, row: Row) -> bool:
        return not row.get("answers")

    def fields(self) -> list[str]:
        return ["passage", "query", "entities"]

    def example_input(self) -> Row:
        return {"passage": "Ann met Bea.", "query": "@placeholder met Bea.", "entities": ["Ann", "Bea"]}

    def unlabelled(self, row: Row) -> Example:
        query, entities = self.text(row, "query"), list(dict.fromkeys(self.value(row, "entities")))
        if "@placeholder" not in query:
            raise SptError(f"no @placeholder in the query {query!r}")
        if not entities:
            raise SptError(f"no entity to answer the query {query!r} with")
        passage = self.text(row, "passage").replace("@highlight\n", "- ")
        return {"passage": passage, "query": query, "entities": entities}

    def example(self, row: Row) -> Example:
        return self.unlabelled(row) | {"answers": list(dict.fromkeys(row["answers"]))}

    def _columns(
        self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> dict[str, list]:
        pairs = [(example, entity) for example in examples for entity in example["entities"]]
        passages = [example["passage"] for example, _ in pairs]
        queries = [example["query"].replace("@placeholder", entity) for example, entity in pairs]
        encoded = tokenizer(passages, queries, truncation=True, max_length=limit)
        columns = model_inputs(encoded, tokenizer)
        columns["length"] = [len(ids) for ids in encoded["input_ids"]]
        if self.target in examples[0]:
            columns["labels"] = [int(entity in example["answers"]) for example, entity in pairs]
        groups = _by_query(is_truncated(encoded), examples)
        return columns | {"truncated": [n for group in groups for n in (int(any(group)), *[0] * (len(group) - 1))]}

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict]], dict]:
        return DataCollatorWithPadding(tokenizer)

    def predictions(self, logits: np.ndarray, split: Split) -> list[int]:
        """The place of each query's answer among its entities: where the right class leads the wrong one by most."""
        leads = (logits[:, 1] - logits[:, 0]).tolist()
        return [int(np.argmax(group)) for group in _by_query(leads, split.examples)]

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        right = softmax(logits.astype(float), axis=-1)[:, 1].tolist()
        chosen = zip(split.examples, self.predictions(logits, split), _by_query(right, split.examples), strict=True)
        return [
            {"answer": e["entities"][best], "probabilities": dict(zip(e["entities"], group, strict=True))}
            for e, best, group in chosen
        ]

    def passage(self, example: Example) -> str:
        return example["passage"]

    def score(self, predictions: list[int], examples: list[Example]) -> Scores:
        return super().score(self._answers(predictions, examples), examples)

    def outcomes(self, predictions: list[int], examples: list[Example]) -> list[float]:
        """Each query's headline score: the outcomes' mean is the split's."""
        score, pairs = OF_TEXTS[self.metrics[0]], zip(examples, self._answers(predictions, examples), strict=True)
        return [round(score([e[self.target]], [answer])[self.metrics[0]], 6) for e, answer in pairs]

    def _answers(self, predictions: list[int], examples: list[Example]) -> list[str]:
        return [example["entities"][best] for example, best in zip(examples, predictions, strict=True)]

    def only_class(self, predictions: list[int]) -> str | None:
        kinds = set(predictions)
        return f"entity {kinds.pop()}" if len(kinds) == 1 else None


def _by_query(values: Iterable, examples: list[Example]) -> list[list]:
    """One value an entity, in lists of one a query."""
    values = iter(values)
    return [list(islice(values, len(example["entities"]))) for example in examples]


def _parts(item: Any, what: str, *names: str) -> list[Any]:
    """The named fields of a nested object."""
    if not isinstance(item, dict) or not all(name in item for name in names):
        found = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise SptError(f"{what} must be an object with {', '.join(names)}, not {found}")
    return [item[name] for name in names]


def _only(item: Row, name: str, called: str | None = None) -> Row:
    """A field of an object, where it has it, by another name where one is given."""
    return {called or name: item[name]} if name in item else {}
