"""Position ids that start at `prefix_length`, and how long an input may be."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.prefix import attached


def longest_input(encoder: PreTrainedModel) -> int | None:
    """The most tokens the encoder takes: its position table, less what an offset and shifted positions use up."""
    positions = _positions(getattr(encoder, "embeddings", None))
    if positions is None:
        positions = getattr(encoder.config, "max_position_embeddings", None)
    config = attached(encoder)
    if positions is not None and config is not None and config.shift_positions:
        positions -= config.prefix_length
    return positions


def _positions(embeddings: Any) -> int | None:
    """The usable rows of a table of positions; RoBERTa's first ones are for padding."""
    table = getattr(embeddings, "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def _shift(encoder: PreTrainedModel, prefix_length: int) -> tuple[nn.Module, Callable] | None:
    """The module and its hook by which position ids start at `prefix_length`; None where there is no way."""
    embeddings = getattr(encoder, "embeddings", None)
    if embeddings is not None and "past_key_values_length" in inspect.signature(embeddings.forward).parameters:
        return embeddings, partial(_shift_embeddings, prefix_length=prefix_length)
    table = getattr(embeddings, "position_embeddings", None)
    counted_from_0 = not hasattr(embeddings, "position_embeddings") or getattr(table, "padding_idx", 0) is None
    if counted_from_0 and "position_ids" in inspect.signature(encoder.forward).parameters:
        return encoder, partial(_shift_position_ids, prefix_length=prefix_length)
    return None


def _shift_position_ids(
    encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any], prefix_length: int
) -> tuple[tuple, dict[str, Any]]:
    """Before the encoder: position ids as if the prefix stood before the text. Explicit ones are taken as given."""
    if kwargs.get("position_ids") is not None:
        return args, kwargs
    tokens = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
    if tokens is None:
        (tokens, *_) = args
    _refuse_too_long(tokens.shape[1], encoder.config.max_position_embeddings, prefix_length)
    positions = torch.arange(prefix_length, prefix_length + tokens.shape[1], device=tokens.device)
    return args, {**kwargs, "position_ids": positions.expand(len(tokens), -1)}


def _shift_embeddings(
    embeddings: nn.Module, args: tuple, kwargs: dict[str, Any], prefix_length: int
) -> tuple[tuple, dict[str, Any]]:
    """Before the embeddings: the same, through the length of a cache that they take for it."""
    tokens = kwargs.get("input_ids")
    if tokens is None:
        if hasattr(embeddings, "create_position_ids_from_input_ids"):
            raise SptError("shift_positions needs input_ids here: inputs_embeds do not tell where the padding is")
        tokens = kwargs["inputs_embeds"]
    _refuse_too_long(tokens.shape[1], _positions(embeddings), prefix_length)
    return args, {**kwargs, "past_key_values_length": prefix_length}


def _refuse_too_long(length: int, positions: int | None, prefix_length: int) -> None:
    if positions is not None and length > positions - prefix_length:
        raise SptError(
            f"an input of {length} tokens is longer than {positions - prefix_length}, the position table less "
            f"the prefix_length {prefix_length} that shift_positions moves it by: shorten the input or the prefix"
        )
