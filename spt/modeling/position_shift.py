"""Position ids that start at `prefix_length`, and how long an input may be.

P-tuning v2 and PEFT pass the prefix as a cache of keys and values, after which the positions of the text start at
prefix_length. `PrefixConfig.shift_positions` reproduces that; `PrefixConfig.position_shift` is by how much.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.prefix_parameters import attached


def longest_input(encoder: PreTrainedModel) -> int | None:
    """The most tokens the encoder takes: its positions, less those that they are shifted by. None: no limit."""
    positions: int | None = getattr(encoder.config, "max_position_embeddings", None)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):  # RoBERTa's first rows are for padding
        positions = table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    config = attached(encoder)
    shift = 0 if config is None else config.position_shift
    return None if positions is None else positions - shift


def can_shift_positions(encoder: PreTrainedModel) -> bool:
    """Whether the encoder takes position ids, and counts them from 0 or as RoBERTa does."""
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        return False
    embeddings: Any = getattr(encoder, "embeddings", None)
    if not hasattr(embeddings, "position_embeddings") or hasattr(embeddings, "create_position_ids_from_input_ids"):
        return True
    return (
        isinstance(embeddings.position_embeddings, nn.Embedding) and embeddings.position_embeddings.padding_idx is None
    )


def shifted_position_ids(encoder: PreTrainedModel, inputs: dict[str, Any], shift: int) -> Tensor:
    """The position ids [batch, length] of the text in `inputs`, the encoder's arguments, from `shift` on.

    Raises:
        SptError: if the text is longer than the positions left, or if RoBERTa gets inputs_embeds.
    """
    input_ids = inputs.get("input_ids")
    text = inputs["inputs_embeds"] if input_ids is None else input_ids
    length, limit = text.shape[1], longest_input(encoder)
    if limit is not None and length > limit:
        raise SptError(
            f"an input of {length} tokens is longer than {limit}, the encoder's positions less the {shift} "
            "that shift_positions moves them by: shorten the input or the prefix"
        )
    embeddings: Any = getattr(encoder, "embeddings", None)
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa counts the tokens that are not padding
        if input_ids is None:
            raise SptError("shift_positions needs input_ids here: inputs_embeds do not show where the padding is")
        return embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx, shift)
    return torch.arange(shift, shift + length, device=text.device).expand(text.shape[0], -1)
