"""Model inputs: what the tokenizer makes of examples, as a table with a row for each input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import BatchEncoding

from spt.errors import SptError

Example = dict[str, Any]

Tokenize = Callable[..., BatchEncoding]  # a tokenizer with its options for truncation


@dataclass
class Split:
    """The examples of a split and their model inputs, in the same order.

    `inputs` has one row for each example; for ReCoRD one row for each entity of each example.
    """

    examples: list[Example]
    inputs: Dataset

    @property
    def truncated(self) -> int:
        """The number of examples that were truncated."""
        return sum(self.inputs["truncated"])

    @property
    def lost_words(self) -> int:
        """The number of words without a token; 0 unless it is a token task."""
        return sum(self.inputs["lost_words"]) if "lost_words" in self.inputs.column_names else 0


def input_columns(encoded: BatchEncoding) -> dict[str, list]:
    """A tokenizer's output, with the `length` of each sequence and whether it was `truncated` (1 or 0).

    Raises:
        SptError: if a text has no token at all: it is empty, and the tokenizer adds no special tokens.
    """
    lengths = [len(ids) for ids in encoded["input_ids"]]
    if 0 in lengths:
        raise SptError("a text is empty, and this model's tokenizer adds no token of its own: leave out empty texts")
    truncated = [int(bool(encoding.overflowing)) for encoding in encoded.encodings or []]
    return {**encoded, "length": lengths, "truncated": truncated}


def in_order(parts: Sequence[tuple[list[int], np.ndarray]], rows: int, fill: int = 0) -> np.ndarray:
    """The outputs of batches as one array, in the order of `Split.inputs`.

    Args:
        parts: for each batch, its places in that order and its output [places, ...], whose other dimensions may differ
            between batches.
        rows: the length of the array.
        fill: the padding value, for outputs that are shorter than the longest.
    """
    _, first = parts[0]
    shape = map(max, zip(*(array.shape[1:] for _, array in parts), strict=True))
    whole = np.full((rows, *shape), fill, first.dtype)
    for places, array in parts:
        place: tuple[Any, ...] = (places, *map(slice, array.shape[1:]))
        whole[place] = array
    return whole


def compact(columns: dict[str, list]) -> Dataset:
    """Columns of (nested lists of) numbers in small types: a cached split is mostly masks."""

    def feature(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return List(feature(name, value[0] if value else 0))
        is_small = name in ("attention_mask", "token_type_ids", "truncated")
        return Value("float64" if isinstance(value, float) else "int8" if is_small else "int32")

    return Dataset.from_dict(columns, Features({name: feature(name, values[0]) for name, values in columns.items()}))
