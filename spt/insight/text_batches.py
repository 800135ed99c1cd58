"""The texts that attention is looked at on: batches of model inputs, whose examples and labels are numbered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spt.errors import SptError
from spt.modeling.task_model import IGNORED, TaskModel, padded_right
from spt.tasks.task import Split, Task

NO_LABEL = -1


@dataclass(frozen=True)
class TextBatch:
    """A batch, and the owner of each query position. Examples and labelled units are numbered over all batches.

    Attributes:
        inputs: what the model takes, without labels.
        mask: where a text padded on the right has tokens, [texts, length]; a choice is a text of its own.
        first_example: the number of the batch's first example.
        examples: how many the batch has, each whole.
        owners: of each query position, the example it belongs to, counted within the batch, [positions].
        units: of each query position, the labelled unit it belongs to (a token with a label, or a text), or NO_LABEL.
    """

    inputs: dict[str, Tensor]
    mask: Tensor
    first_example: int
    examples: int
    owners: Tensor
    units: Tensor


@dataclass(frozen=True)
class Texts:
    """All batches, and the labels of all units in their order; None where the task has no labels of classes."""

    batches: list[TextBatch]
    labels: Tensor | None

    @property
    def examples(self) -> int:
        """The number of examples."""
        return sum(batch.examples for batch in self.batches)

    @property
    def positions(self) -> int:
        """The number of query positions."""
        return sum(len(batch.owners) for batch in self.batches)


def texts_of_split(model: TaskModel, task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, size: int) -> Texts:
    """The texts of an encoded split in batches of at least `size` inputs of similar lengths, the longest first."""
    rows, index = _rows_by_example(task, split), label_index(task)

    def batches() -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        collate = task.collator(tokenizer)
        for group in _groups(rows, split.inputs["length"], size):
            owners = [number for number, own in enumerate(group) for _ in own]
            inputs = collate(split.inputs.select([row for own in group for row in own]).to_list())
            yield dict(inputs), torch.tensor(owners)

    return _numbered(batches(), model.task_type, index)


def texts_of_batches(model: TaskModel, batches: Iterable[Mapping[str, Tensor | None]]) -> Texts:
    """The texts of batches of model inputs, each row an example. Labels count if every batch has them.

    Raises:
        SptError: if there is no batch, or one has no input_ids.
    """
    given = [{name: tensor for name, tensor in batch.items() if tensor is not None} for batch in batches]
    if not given or not all("input_ids" in batch for batch in given):
        raise SptError("to inspect a model, give batches of its inputs: dicts with input_ids, attention_mask, labels")
    if not all("labels" in batch for batch in given):
        given = [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in given]
    index = None if model.task_type == "regression" else list(range(model.num_labels))
    return _numbered(((batch, torch.arange(len(batch["input_ids"]))) for batch in given), model.task_type, index)


def label_names(task: Task) -> list[str] | None:
    """The labels of `label_information`: O and the entity types, or the classes; None for a regression."""
    if task.task_type == "regression":
        return None
    return ["O", *task.labels] if task.task_type == "token" else task.classes


def label_index(task: Task) -> list[int] | None:
    """For each class of the model, the place of its label in `label_names`."""
    names = label_names(task)
    if names is None or task.task_type != "token":
        return None if names is None else list(range(len(names)))
    return [names.index(tag.partition("-")[2] or "O") for tag in task.classes]


def _rows_by_example(task: Task, split: Split) -> list[list[int]]:
    ends = np.cumsum(task.input_counts(split.examples)).tolist()
    return [list(range(start, end)) for start, end in zip([0, *ends], ends, strict=False)]


def _groups(rows: list[list[int]], lengths: Sequence[int], size: int) -> Iterator[list[list[int]]]:
    """The rows of the examples of each batch."""
    group: list[list[int]] = []
    for own in sorted(rows, key=lambda own: -max(lengths[row] for row in own)):
        group.append(own)
        if sum(map(len, group)) >= size:
            yield group
            group = []
    if group:
        yield group


def _numbered(batches: Iterable[tuple[dict[str, Tensor], Tensor]], task_type: str, index: list[int] | None) -> Texts:
    """The texts of (inputs, the example of each row, counted within the batch)."""
    numbered: list[TextBatch] = []
    labels: list[Tensor] = []
    examples = units = 0
    for inputs, row_owners in batches:
        gold: Any = inputs.pop("labels", None)
        shape = inputs["input_ids"].shape
        mask = inputs.get("attention_mask", torch.ones(shape, dtype=torch.long)).cpu()
        owners = row_owners.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        unit = torch.full(shape, NO_LABEL)
        if gold is not None and index is not None:
            gold = gold.cpu()
            has_label = (gold != IGNORED) & (mask.bool() if task_type == "token" else True)
            if ((gold[has_label] < 0) | (gold[has_label] >= len(index))).any():
                raise SptError(f"labels must be from 0 to {len(index) - 1}, or {IGNORED} for none")
            numbers = torch.full(gold.shape, NO_LABEL)
            numbers[has_label] = units + torch.arange(int(has_label.sum()))
            unit = numbers.view(*gold.shape, *[1] * (len(shape) - gold.dim())).expand(shape)
            labels.append(torch.tensor(index)[gold[has_label]])
            units += len(labels[-1])
        places = {"attention_mask": mask, "owners": owners, "units": unit}
        flat, _ = padded_right({name: tensor.flatten(0, -2) for name, tensor in places.items()})
        kept = flat["attention_mask"].bool()
        count = int(row_owners.max()) + 1
        numbered.append(TextBatch(inputs, kept, examples, count, flat["owners"][kept], flat["units"][kept]))
        examples += count
    return Texts(numbered, torch.cat(labels) if units else None)
