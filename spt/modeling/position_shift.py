"""Position ids that start at `prefix_length`, and how long an input may be.

P-tuning v2 and PEFT pass the prefix as a cache of keys and values, after which the positions of the text start at
prefix_length. `PrefixConfig.shift_positions` reproduces that; `PrefixConfig.position_shift` is by how much.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.find_self_attentions import PROBE_LENGTH, few_tokens, in_evaluation, tolerance
from spt.modeling.prefix_parameters import attached


def longest_input(encoder: PreTrainedModel) -> int | None:
    """The most tokens the encoder takes: its positions, less those that they are shifted by. None: no limit."""
    positions: int | None = getattr(encoder.config, "max_position_embeddings", None)
    config = attached(encoder)
    shift = 0 if config is None else config.position_shift
    return None if positions is None or positions < 1 else positions - (first_position(encoder) or 0) - shift


def first_position(encoder: PreTrainedModel) -> int | None:
    """The position id that the encoder gives to the first token; None if position ids change nothing in it.

    BERT and most others count tokens from 0. RoBERTa counts those that are not padding from the padding token's id + 1.
    The encoder runs on a few tokens, without position ids and with both kinds; it keeps what was found.
    """
    if "first_position" not in encoder.__dict__:
        encoder.__dict__["first_position"] = _probe_first_position(encoder)
    return encoder.__dict__["first_position"]


def _probe_first_position(encoder: PreTrainedModel) -> int | None:
    tokens, padding = few_tokens(encoder), getattr(encoder.config, "pad_token_id", None)
    if padding is not None:
        tokens = tokens[tokens != padding].unsqueeze(0)
    positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)

    def output(**position_ids: Tensor) -> Tensor:
        return encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens), **position_ids).last_hidden_state

    with in_evaluation(encoder):
        try:
            own = output()
            if torch.equal(output(position_ids=positions.flip(1)), own):
                return None
        except (TypeError, ValueError):  # it takes no position ids, or not token ids alone
            return None
        starts = [0]
        if padding is not None and padding + PROBE_LENGTH < encoder.config.max_position_embeddings:
            starts.append(padding + 1)
        differences = [(output(position_ids=positions + start) - own).abs().max().item() for start in starts]
    closest = min(differences)
    return starts[differences.index(closest)] if closest <= tolerance(own) else None


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
    if not first_position(encoder):
        return torch.arange(shift, shift + length, device=text.device).expand(text.shape[0], -1)
    if input_ids is None:
        raise SptError("shift_positions needs input_ids here: inputs_embeds do not show where the padding is")
    padding: int = encoder.config.pad_token_id  # RoBERTa counts the tokens that are not padding
    counted = (input_ids != padding).long()
    return (counted.cumsum(1) + shift) * counted + padding
