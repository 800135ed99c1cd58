"""Prefix attention, registered with transformers' attention interface."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask

from spt.modeling.gated_attention import prefix_attention
from spt.modeling.prefix import SharedPrefixes


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    fused: bool,
    scaling: float | None = None,
    dropout: float = 0.0,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The function the encoder's layers call. An attention without a prefix (cross-attention) has an empty one."""
    prefix = getattr(module, "prefix", None)
    if isinstance(prefix, SharedPrefixes):
        prefix = prefix.next()
    key_prefix, value_prefix = (key[:, :, :0], value[:, :, :0]) if prefix is None else prefix(len(query))
    return prefix_attention(
        query,
        key,
        value,
        key_prefix,
        value_prefix,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        attention_mask=attention_mask,
        alpha=None if prefix is None else prefix.alpha,
        score_dropout=prefix.score_dropout if prefix is not None and module.training else 0.0,
        attention_dropout=dropout,
        fused=fused and not output_attentions,
    )


def _whole_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """sdpa's mask, but never left out for a causal kernel: the prefix columns stand before the causal ones."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


OURS = {"eager": "spt_eager", "sdpa": "spt_fused"}

RECORDING = "spt_record"

AttentionInterface.register("spt_eager", partial(attend, fused=False))

AttentionMaskInterface.register("spt_eager", eager_mask)

AttentionInterface.register("spt_fused", partial(attend, fused=True))

AttentionMaskInterface.register("spt_fused", _whole_mask)


def _theirs(encoder: PreTrainedModel) -> str:
    """The encoder's choice of attention under transformers' name for it."""
    return _theirs_of(encoder.config._attn_implementation)


def _theirs_of(implementation: str) -> str:
    return {ours: theirs for theirs, ours in OURS.items()}.get(implementation, implementation)


def _choose_attention(encoder: PreTrainedModel, implementation: str) -> None:
    if encoder._can_set_attn_implementation():
        encoder.set_attn_implementation(implementation)
    else:  # one that transformers does not dispatch: what a bridge goes by
        encoder.config._attn_implementation_internal = implementation
