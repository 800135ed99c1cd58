"""Attention over a key-value prefix and a text, with SPT's gate: a pure function of tensors.

For a query q of size d, prefix keys k̃_p and values ṽ_p, text keys k_j and values v_j::

    s_p = q · k̃_p / √d                          s_j = q · k_j / √d + mask_j
    g_p = sigmoid(alpha · s_p)
    weights = softmax([s_p + log g_p, s_j])     output = Σ_p w_p ṽ_p + Σ_j w_j v_j

Source: Zhang et al., "Selective Prefix Tuning for Pre-trained Language Models", Findings of ACL 2024.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from spt.modeling.blockwise_attention import Blockwise, Settings
from spt.modeling.dropout import draw_seeds


def prefix_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_prefix: Tensor,
    value_prefix: Tensor,
    *,
    scaling: float,
    attention_mask: Tensor | None = None,
    alpha: float | None = None,
    score_dropout: float = 0.0,
    attention_dropout: float = 0.0,
    fused: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attend to a prefix and a text with one softmax over both.

    Args:
        query: [batch, heads, length, d].
        key, value: [batch, key-value heads, text length, d]; `heads` is a multiple of `key-value heads`.
        key_prefix, value_prefix: [batch or 1, key-value heads, prefix_length, d], used as keys and values as they are.
        scaling: 1/√d, or the model's own.
        attention_mask: over the text only, broadcastable to [batch, heads, length, text length]: boolean (True attends)
            or additive. The prefix is never masked.
        alpha: the gate's temperature, acting on the scaled score. None: no gate, plain prefix tuning.
        score_dropout: rate on alpha · s_p inside the sigmoid (a dropped entry has gate 0.5). The raw score is kept.
        attention_dropout: rate on the weights of all columns, prefix and text. Rates are 0 outside training.
        fused: use scaled_dot_product_attention, which does not return the weights.

    Returns:
        The output [batch, length, heads, d], and the weights [batch, heads, length, prefix_length + text length]
        (prefix first) or None where `fused`.
    """
    batch, heads = query.shape[:2]
    groups = heads // key.shape[1]
    key_prefix = key_prefix.to(key.dtype).expand(batch, -1, -1, -1)
    value_prefix = value_prefix.to(value.dtype).expand(batch, -1, -1, -1)
    if groups > 1:
        key, value, key_prefix, value_prefix = (
            tensor.repeat_interleave(groups, dim=1) for tensor in (key, value, key_prefix, value_prefix)
        )
    values = torch.cat([value_prefix, value], dim=2)

    on_cpu = query.device.type == "cpu"
    if fused and not (on_cpu and _needs_products(attention_mask)):
        settings = Settings(key_prefix.shape[2], scaling, alpha, score_dropout, attention_dropout)
        attend = _blockwise if on_cpu else kernel_attention
        output = attend(query, torch.cat([key_prefix, key], dim=2), values, attention_mask, settings)
        return output.transpose(1, 2).contiguous(), None

    prefix_scores = _scores(query, key_prefix, scaling)
    if alpha is not None:
        prefix_scores = prefix_scores + _log_gate(prefix_scores, alpha, score_dropout)
    text_scores = _scores(query, key, scaling)
    if attention_mask is not None:
        text_scores = text_scores + _additive(attention_mask, text_scores.dtype)
    weights = F.softmax(torch.cat([prefix_scores, text_scores], dim=-1), dim=-1)
    weights = F.dropout(weights, attention_dropout)
    output = torch.matmul(weights, values).transpose(1, 2).contiguous()
    return output, None if fused else weights


def _blockwise(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    additive = None if mask is None else _additive(mask, query.dtype).expand(*query.shape[:3], -1)
    dropped = settings.score_dropout > 0 or settings.attention_dropout > 0
    seeds = draw_seeds(query.shape[0]) if dropped else None
    return Blockwise.apply(query, key, value, additive, seeds, settings)


def kernel_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    """Attention by scaled_dot_product_attention, with the log gate in what it adds to the scores.

    Its kernels would keep that, [batch, heads, length, prefix_length + text length], for the backward pass, which
    therefore computes it anew; under torch.compile, what is kept is the compiler's choice.

    Args:
        query: [batch, heads, length, d].
        key, value: [batch, heads, prefix_length + text length, d], the prefix first.
        mask: over the text (see `prefix_attention`).

    Returns:
        The output [batch, heads, length, d].
    """
    if settings.alpha is None or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _kernel(query, key, value, mask, settings)
    return checkpoint(_kernel, query, key, value, mask, settings, use_reentrant=False)


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    prefix_length, scaling, alpha, score_dropout, attention_dropout = settings
    gate = None
    if alpha is not None:
        gate = _log_gate(_scores(query, key[:, :, :prefix_length], scaling), alpha, score_dropout)
    bias = _bias(gate, mask, prefix_length, key.shape[2] - prefix_length)
    return F.scaled_dot_product_attention(query, key, value, bias, attention_dropout, scale=scaling)


def _needs_products(attention_mask: Tensor | None) -> bool:
    """Whether the plain products are the way on a CPU: under torch.compile, and for a mask that is learned."""
    return torch.compiler.is_compiling() or (attention_mask is not None and attention_mask.requires_grad)


def _scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    return torch.matmul(query, key.transpose(2, 3)) * scaling


def _log_gate(prefix_scores: Tensor, alpha: float, score_dropout: float) -> Tensor:
    return F.logsigmoid(F.dropout(alpha * prefix_scores, score_dropout))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def _bias(log_gate: Tensor | None, mask: Tensor | None, prefix_length: int, text_length: int) -> Tensor | None:
    """What scaled_dot_product_attention adds to all scores: the log gate over the prefix, the mask over the text."""
    if log_gate is None:
        return None if mask is None else F.pad(mask, (prefix_length, 0), value=mask.dtype == torch.bool)
    if mask is None:
        return F.pad(log_gate, (0, text_length))
    return torch.cat([log_gate, _additive(mask, log_gate.dtype).expand(*log_gate.shape[:3], -1)], dim=-1)
