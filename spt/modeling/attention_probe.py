"""See and change what prefixes do in each attention of an encoder, while a block runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spt.modeling.gated_attention import attention_output, attention_scores, log_gate
from spt.modeling.prefix_parameters import encoder_of
from spt.modeling.transformers_interface import attend, observed, with_prefix


class LayerAttention(NamedTuple):
    """What one layer computed for a batch, in the equation of `gated_attention`.

    Attributes:
        layer: its index, from 0.
        scores: s_p, [batch, heads, length, P].
        log_gate: log g_p as it was used, [batch, heads, length, P]; 0 without a gate.
        weights: of prefix and text, [batch, heads, length, P + text length].
    """

    layer: int
    scores: Tensor
    log_gate: Tensor
    weights: Tensor


Visit = Callable[[LayerAttention], None]
# Of a layer's index and its log g_p, [batch, heads, length, P]: the log-gates to use instead; -inf is weight 0.
ChangeLogGate = Callable[[int, Tensor], Tensor]


@contextmanager
def inspected_attention(
    model: nn.Module, visit: Visit | None = None, change_log_gate: ChangeLogGate | None = None
) -> Iterator[None]:
    """Have the layers of `model` with a prefix call `visit`, and compute with changed gates, until the block ends.

    Other threads compute as always. The attention is computed step by step in float32 (float64 in a float64 model),
    also under autocast. It is meant for evaluation mode, one block at a time.
    """
    layers = {module for module in encoder_of(model).modules() if getattr(module, "prefix", None) is not None}

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if module not in layers:  # cross-attention, or another model
            return attend(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
        prefix, key, value, settings = with_prefix(module, query, key, value, scaling, dropout)
        assert prefix is not None
        dtype = query.dtype
        with torch.autocast(query.device.type, enabled=False):
            query, key, value = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (query, key, value))
            scores, text_scores = attention_scores(query, key, attention_mask, settings)
            gate = torch.zeros_like(scores)
            if settings.alpha is not None:
                gate = log_gate(scores, settings.alpha, settings.score_dropout)
            if change_log_gate is not None:
                gate = change_log_gate(prefix.index, gate)
            output, weights = attention_output(scores + gate, text_scores, value, settings.attention_dropout)
        if visit is not None:
            visit(LayerAttention(prefix.index, scores, gate, weights))
        return output.to(dtype).transpose(1, 2).contiguous(), weights

    with observed(attention):
        yield
