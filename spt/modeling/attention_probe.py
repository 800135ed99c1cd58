"""The self-attentions of an encoder, found by running it once."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from spt.errors import SptError
from spt.modeling.attention_interface import OURS, RECORDING, _choose_attention, _theirs_of
from spt.modeling.deberta_mpnet_attention import bridge, unbridge
from spt.modeling.prefix import attached

Layer = tuple[nn.Module, tuple[int, int], tuple[int, int]]

PROBE = 8  # tokens


def self_attentions(encoder: PreTrainedModel) -> list[Layer]:
    """The encoder's self-attentions in the order they run, with (heads, d) of their keys and of their values.

    A module that serves several layers (ALBERT) is there as often. Found by running the encoder once on a few tokens,
    so that what is returned is what a prefix will act on.

    Raises:
        SptError: where there are none, or where attention as prefixes need it would change the encoder's own output.
    """
    name = type(encoder).__name__
    if encoder.config.is_encoder_decoder:
        raise SptError(f"{name} is an encoder-decoder: prefixes go on encoders and decoder-only models")
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    unsupported: set[str] = set()

    def record(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        calls.append((module, key, value))
        unsupported.update(k for k in ("position_bias", "softcap") if kwargs.get(k) is not None)
        return torch.zeros_like(query.transpose(1, 2)), None

    AttentionInterface.register(RECORDING, record)
    AttentionMaskInterface.register(RECORDING, sdpa_mask)
    implementation, carries_prefixes = encoder.config._attn_implementation, attached(encoder) is not None
    training = {module: module.training for module in encoder.modules()}
    tokens = torch.arange(PROBE, device=encoder.device).unsqueeze(0) % encoder.config.vocab_size

    def output_under(chosen: str) -> Tensor:
        _choose_attention(encoder, chosen)
        return encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state

    try:
        with torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
            encoder.eval()
            own = output_under(implementation)
            bridge(encoder)
            output_under(RECORDING)
            ours = own if carries_prefixes else output_under(OURS[_theirs_of(implementation)])
    except SptError:
        raise
    except Exception as error:
        raise SptError(f"{name} does not run on plain input_ids ({error}): prefixes go on text encoders") from error
    finally:
        _choose_attention(encoder, implementation)
        if not carries_prefixes:
            unbridge(encoder)
        for module, mode in training.items():
            module.training = mode
    if not calls:
        raise SptError(
            f"{name} does not compute its attention through transformers' attention interface: a prefix would have no "
            "effect on it. The README lists the families of encoders that work"
        )
    if unsupported:
        raise SptError(f"{name} adds {', '.join(sorted(unsupported))} to its attention, which prefixes do not support")
    if (ours - own).abs().max() > torch.finfo(own.dtype).eps ** 0.5 * own.abs().max():
        raise SptError(
            f"{name} does more in its attention than prefixes reproduce: without any, its output would change"
        )
    return [(module, (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3])) for module, key, value in calls]
