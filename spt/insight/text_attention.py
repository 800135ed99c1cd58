"""What each token of one input does with the slots: its gates, and how it divides its attention."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from spt.adapters.predictor import Input, Predictor
from spt.errors import SptError
from spt.insight.inspect_adapter import check_inspectable
from spt.modeling.attention_probe import LayerAttention, inspected_attention
from spt.modeling.prefix_parameters import attached
from spt.tasks.task import Example, Task


@dataclass(frozen=True)
class SequenceAttention:
    """The attention of the tokens of one sequence that the model read.

    Attributes:
        name: which of the input's choices or answers it is; None if the input is one sequence.
        tokens: its sub-words, special tokens included.
        gate: g_p, [layers, heads, tokens, P]; None without a gate.
        slot_weights: w_p, the share of a token's attention that goes to each slot, [layers, heads, tokens, P].
        text_weight: the share that goes to the text, [layers, heads, tokens]; with all slots' it is 1.
    """

    name: str | None
    tokens: tuple[str, ...]
    gate: np.ndarray | None
    slot_weights: np.ndarray
    text_weight: np.ndarray

    @property
    def prefix_mass(self) -> np.ndarray:
        """The share of a token's attention that goes to the prefix, [layers, heads, tokens]."""
        return self.slot_weights.sum(-1)


@dataclass(frozen=True)
class TextAttention:
    """The attention of one input.

    Attributes:
        adapter, task: what looked at it.
        fields: the input, by the names of its fields.
        sequences: one; for choices, and the answers of ReCoRD, one each.
        prediction: as `Predictor.stream` gives it.
        truncated: whether the input was longer than the model or the task allows.
    """

    adapter: str
    task: str
    fields: dict[str, str]
    sequences: tuple[SequenceAttention, ...]
    prediction: dict[str, Any]
    truncated: bool


def text_attention(predictor: Predictor, item: Input) -> TextAttention:
    """What the tokens of one input do with the slots, computed as `predictor.stream([item])` computes.

    Raises:
        SptError: the adapter has no prefixes, or the input does not fit the task or holds several examples.
    """
    model = predictor.model
    check_inspectable(model, predictor.adapter.folder)
    config = attached(model)
    assert config is not None
    examples = predictor.examples(item)
    if len(examples) != 1:
        raise SptError(f"the row holds {len(examples)} examples to predict: give one of them")
    task, tokenizer = predictor.task, predictor.tokenizer
    split = predictor.encode(examples)
    ids = split.inputs["input_ids"]
    texts: list[list[int]] = ids[0] if task.task_type == "choice" else list(ids)
    if not any(map(len, texts)):
        raise SptError("the input has no token to look at")
    seen: list[LayerAttention] = []
    with inspected_attention(model, seen.append):
        (prediction,) = predictor.stream([item], batch_size=len(texts))  # one batch, whose rows are in their order
    seen.sort(key=lambda layer: layer.layer)
    sequences = []
    for row, own in enumerate(texts):
        weights = _of_row([layer.weights for layer in seen], row, len(own))
        gate = None if config.alpha is None else np.exp(_of_row([layer.log_gate for layer in seen], row, len(own)))
        slots, text = np.split(weights, [config.prefix_length], axis=-1)
        tokens = tuple(
            str(tokenizer.decode([token])).strip() or str(tokenizer.convert_ids_to_tokens(token)) for token in own
        )
        sequences.append(SequenceAttention(_name(task, examples[0], row), tokens, gate, slots, text.sum(-1)))
    adapter = str(predictor.adapter.folder)
    return TextAttention(adapter, task.name, _fields(item), tuple(sequences), prediction, bool(split.truncated))


def _fields(item: Input) -> dict[str, str]:
    if isinstance(item, dict):
        values = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in item.items()}
        return {str(name): str(value) for name, value in values.items()}
    if isinstance(item, tuple):
        return dict(zip(("text", "text_pair"), item, strict=True))
    return {"text": item if isinstance(item, str) else " ".join(item)}


def _of_row(layers: list[Tensor], row: int, length: int) -> np.ndarray:
    """The tokens of one text of [texts, heads, padded length, n] of each layer, [layers, heads, length, n]."""
    return np.stack([layer[row, :, :length].double().cpu().numpy() for layer in layers])


def _name(task: Task, example: Example, row: int) -> str | None:
    if task.task_type == "choice":
        return f"choice {row}"
    return f"answer {example['entities'][row]}" if task.target == "answers" else None
