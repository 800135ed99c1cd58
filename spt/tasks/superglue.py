"""The SuperGLUE tasks that need more than a template: WSC, MultiRC, ReCoRD."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import softmax

from spt.errors import SptError, UnusableRow, is_whole
from spt.tasks.fields_and_templates import template_fields
from spt.tasks.metrics import QUESTION_METRICS, TEXT_METRICS, Scores
from spt.tasks.model_inputs import Example, Split, Tokenize, input_columns
from spt.tasks.task import Names, Task
from spt.tasks.text_classification import SentenceTask
from spt.tasks.text_lines import Row


@dataclass(kw_only=True)
class WinogradTask(SentenceTask):
    """WSC. Templates may also name {marked}: the text with the word at span2_index in *asterisks*."""

    def flat_rows(self, row: Row) -> list[Row]:
        target = row.get("target")
        return [row | target if isinstance(target, dict) else row]

    def fields(self) -> list[str]:
        return ["text", "span1_text", "span2_text", "span2_index"]

    def example_input(self) -> Row:
        return {"text": "Ann met Bea and she sat.", "span1_text": "Bea", "span2_text": "she", "span2_index": 4}

    def unlabelled_example(self, row: Row) -> Example:
        if "marked" in template_fields(*self.templates[self.template]):
            row = row | {"marked": self._marked(row)}
        return super().unlabelled_example(row) | {"text": self.text(row, "text")}

    def _marked(self, row: Row) -> str:
        words, index = self.text(row, "text").split(), self.value(row, "span2_index")
        if not is_whole(index):
            raise SptError(f"span2_index must be a whole number, not {index!r}")
        if not 0 <= index < len(words):
            raise UnusableRow(f"span2_index {index} is not the index of a word of the text")
        words[index] = f"*{words[index]}*"
        return " ".join(words)

    def shared_text(self, example: Example) -> str:
        return example["text"]


@dataclass(kw_only=True)
class MultiRCTask(SentenceTask):
    """MultiRC: is an answer to a question on a paragraph right? An example is an answer, with its question's id.

    Files have a row for each paragraph, with its questions and their answers; the hub has a row for each answer.
    """

    known_metrics = QUESTION_METRICS

    def flat_rows(self, row: Row) -> list[Row]:
        if "passage" not in row:
            return [row]
        passage, paragraph_idx = _values(row, "row", "passage", "idx")
        paragraph, questions = _values(passage, "passage", "text", "questions")
        rows = []
        for item in _list(questions, "questions"):
            question, question_idx, answers = _values(item, "question", "question", "idx", "answers")
            for answer in _list(answers, "answers"):
                (text,) = _values(answer, "answer", "text")
                idx = {"paragraph": paragraph_idx, "question": question_idx, "answer": answer.get("idx")}
                flat = {"paragraph": paragraph, "question": question, "answer": text, "idx": idx}
                rows.append(flat | ({"label": answer["label"]} if "label" in answer else {}))
        return rows

    def group(self, row: Row) -> tuple[str, Any]:
        return f"question {self._question_id(row)}", (row.get("paragraph"), row.get("question"))

    def fields(self) -> list[str]:
        return [*super().fields(), "idx"]

    def example_input(self) -> Row:
        return dict.fromkeys(super().fields(), "A text.") | {"idx": {"paragraph": 0, "question": 0}}

    def unlabelled_example(self, row: Row) -> Example:
        return super().unlabelled_example(row) | {"question": self._question_id(row)}

    def _question_id(self, row: Row) -> str:
        paragraph, question = _values(self.value(row, "idx"), "idx", "paragraph", "question")
        return f"{paragraph}-{question}"

    def gold(self, examples: list[Example]) -> list[tuple[str, int]]:
        return [(example["question"], example["label"]) for example in examples]


@dataclass(kw_only=True)
class RecordTask(Task):
    """ReCoRD: which entity of a passage does "@placeholder" stand for in a query? An example is a query.

    The model classifies the query with each entity in the place of "@placeholder" as right or wrong; the entity with
    the largest margin of right over wrong is the answer. Files have a row for each passage, with its queries; the hub
    has a row for each query.
    """

    labels: Names = field(default_factory=lambda: ["0", "1"])

    task_type = "sentence"
    known_metrics = TEXT_METRICS
    target = "answers"

    def flat_rows(self, row: Row) -> list[Row]:
        if "qas" not in row:
            return [row]
        whole, queries = _values(row, "row", "passage", "qas")
        passage, spans = _values(whole, "passage", "text", "entities")
        if not isinstance(passage, str):
            raise SptError(f"the text of a passage must be text, not {passage!r}")
        entities = []
        for span in _list(spans, "entities"):
            start, end = _values(span, "entity", "start", "end")
            if not is_whole(start) or not is_whole(end):
                raise SptError(f"start and end of an entity must be whole numbers, not {start!r} and {end!r}")
            if not 0 <= start <= end < len(passage):
                raise SptError(f"entity {start}-{end} lies outside a passage of {len(passage)} characters")
            entities.append(passage[start : end + 1])
        rows = []
        for item in _list(queries, "qas"):
            (query,) = _values(item, "query", "query")
            known = _list(item.get("answers") or [], "answers")
            answers = [text for answer in known for text in _values(answer, "answer", "text")]
            idx = {"passage": row.get("idx"), "query": item.get("idx")}
            rows.append({"passage": passage, "query": query, "entities": entities, "answers": answers, "idx": idx})
        return rows

    def fields(self) -> list[str]:
        return ["passage", "query", "entities"]

    def example_input(self) -> Row:
        return {"passage": "Ann met Bea.", "query": "@placeholder met Bea.", "entities": ["Ann", "Bea"]}

    def is_unlabelled(self, row: Row) -> bool:
        return not row.get("answers")

    def unlabelled_example(self, row: Row) -> Example:
        query, entities = self.text(row, "query"), _texts(self.value(row, "entities"), "entities")
        if "@placeholder" not in query:
            raise UnusableRow(f"no @placeholder in the query {query!r}")
        if not entities:
            raise SptError(f"no entity to answer the query {query!r} with")
        passage = self.text(row, "passage").replace("@highlight\n", "- ")
        return {"passage": passage, "query": query, "entities": entities}

    def target_of(self, row: Row) -> list[str]:
        return _texts(row["answers"], "answers")

    def shared_text(self, example: Example) -> str:
        return example["passage"]

    def input_counts(self, examples: list[Example]) -> list[int]:
        return [len(example["entities"]) for example in examples]

    def _tokenized(self, examples: list[Example], tokenize: Tokenize) -> dict[str, list]:
        """As in `Task`, with a row for each entity. The first row of a query says whether any of them is truncated."""
        pairs = [(e["passage"], e["query"].replace("@placeholder", name)) for e in examples for name in e["entities"]]
        columns = input_columns(tokenize(pairs))
        queries = _by_query(columns["truncated"], examples)
        return columns | {"truncated": [n for query in queries for n in (max(query), *[0] * (len(query) - 1))]}

    def _label_column(self, examples: list[Example], columns: dict[str, list]) -> list[int]:
        return [int(entity in example["answers"]) for example in examples for entity in example["entities"]]

    def predictions(self, logits: np.ndarray, split: Split) -> list[int]:
        """The index of the answer to each query among its entities; `logits` are [entities of all queries, 2]."""
        margins = (logits[:, 1] - logits[:, 0]).tolist()
        return [int(np.argmax(query)) for query in _by_query(margins, split.examples)]

    def describe(self, logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
        answers = _answers(self.predictions(logits, split), split.examples)
        queries = _by_query(softmax(logits.astype(float), axis=-1)[:, 1].tolist(), split.examples)
        return [
            {"answer": answer, "probabilities": dict(zip(example["entities"], query, strict=True))}
            for example, answer, query in zip(split.examples, answers, queries, strict=True)
        ]

    def score(self, predictions: list[int], examples: list[Example]) -> Scores:
        return super().score(_answers(predictions, examples), examples)

    def outcomes(self, predictions: list[int], examples: list[Example]) -> list[float]:
        """The headline score of each query."""
        metric, answers = TEXT_METRICS[self.metrics[0]], _answers(predictions, examples)
        return [round(float(metric([e["answers"]], [answer])), 6) for e, answer in zip(examples, answers, strict=True)]

    def only_class(self, predictions: list[int]) -> str | None:
        return f"entity {predictions[0]}" if len(set(predictions)) == 1 else None


def _answers(predictions: list[int], examples: list[Example]) -> list[str]:
    return [example["entities"][best] for example, best in zip(examples, predictions, strict=True)]


def _by_query(values: Iterable, examples: list[Example]) -> list[list]:
    """Values of all entities, in a list for each query."""
    values = iter(values)
    return [list(islice(values, len(example["entities"]))) for example in examples]


def _list(value: Any, what: str) -> list:
    if not isinstance(value, list):
        raise SptError(f"{what} must be a list, not {value!r}")
    return value


def _texts(value: Any, what: str) -> list[str]:
    """The texts of a list, each once."""
    if not all(isinstance(text, str) for text in _list(value, what)):
        raise SptError(f"{what} must be a list of texts, not {value!r}")
    return list(dict.fromkeys(value))


def _values(item: Any, what: str, *names: str) -> list[Any]:
    """The values of a nested JSON object, which must have all of `names`."""
    if not isinstance(item, dict) or not all(name in item for name in names):
        actual = sorted(item) if isinstance(item, dict) else type(item).__name__
        raise SptError(f"{what} must be an object with {', '.join(names)}, not {actual}")
    return [item[name] for name in names]
