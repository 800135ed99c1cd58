"""Attention over a key-value prefix and a text, with SPT's gate: a pure function of tensors.

For a query q of size d, prefix keys k̃_p and values ṽ_p, text keys k_j and values v_j::

    s_p = q · k̃_p / √d                          s_j = q · k_j / √d + mask_j
    g_p = sigmoid(alpha · s_p)
    weights = softmax([s_p + log g_p, s_j])     output = Σ_p w_p ṽ_p + Σ_j w_j v_j

Source: Zhang et al., "Selective Prefix Tuning for Pre-trained Language Models", Findings of ACL 2024.

`gated_attention` is this equation, in the steps `attention_scores`, `log_gate` and `attention_output`.
`kernel_attention` and `cpu_attention` take the same arguments and compute the same output faster, without returning the
weights.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

KEPT_BIAS = 2**25  # entries: 64 MB of a layer in bfloat16


class Settings(NamedTuple):
    """The numbers in the equation.

    Attributes:
        prefix_length: P. The first P keys and values are the prefix, the others the text.
        scaling: the factor on q · k: 1/√d, or the model's own.
        alpha: the gate's temperature, acting on the scaled score; a tensor [heads, 1, 1] has one for each head. None:
            no gate, plain prefix tuning.
        score_dropout: rate on alpha · s_p inside the sigmoid (a dropped entry has gate 0.5). The raw score is kept.
        attention_dropout: rate on the weights of all columns, prefix and text. Both rates are 0 outside training.
    """

    prefix_length: int
    scaling: float
    alpha: float | Tensor | None
    score_dropout: float
    attention_dropout: float


def gated_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Attend to a prefix and a text with one softmax over both.

    Args:
        query: [batch, heads, length, d].
        key, value: [batch, heads, P + text length, d], the prefix first (see `join_prefix`).
        mask: over the text only, broadcastable to [batch, heads, length, text length]: boolean (True attends) or
            additive. The prefix is never masked.
        settings: the numbers in the equation.

    Returns:
        The output [batch, heads, length, d] and the weights [batch, heads, length, P + text length].
    """
    prefix_scores, text_scores = attention_scores(query, key, mask, settings)
    if settings.alpha is not None:
        prefix_scores = prefix_scores + log_gate(prefix_scores, settings.alpha, settings.score_dropout)
    return attention_output(prefix_scores, text_scores, value, settings.attention_dropout)


def attention_scores(query: Tensor, key: Tensor, mask: Tensor | None, settings: Settings) -> tuple[Tensor, Tensor]:
    """The scores s_p of the prefix, [batch, heads, length, P], and s_j of the text, with its mask."""
    scores = torch.matmul(query, key.transpose(2, 3)) * settings.scaling
    prefix_scores, text_scores = scores[..., : settings.prefix_length], scores[..., settings.prefix_length :]
    if mask is not None:
        text_scores = text_scores + additive_mask(mask, text_scores.dtype)
    return prefix_scores, text_scores


def log_gate(prefix_scores: Tensor, alpha: float | Tensor, score_dropout: float) -> Tensor:
    """log g_p of prefix scores s_p, in their shape."""
    alpha = alpha.to(prefix_scores.dtype) if isinstance(alpha, Tensor) else alpha
    return F.logsigmoid(F.dropout(alpha * prefix_scores, score_dropout))


def attention_output(
    gated_scores: Tensor, text_scores: Tensor, value: Tensor, attention_dropout: float
) -> tuple[Tensor, Tensor]:
    """The output and the weights of scores s_p + log g_p of the prefix and s_j of the text."""
    weights = F.softmax(torch.cat([gated_scores, text_scores], dim=-1), dim=-1)
    weights = F.dropout(weights, attention_dropout)
    return torch.matmul(weights, value), weights


def kernel_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    """The output of `gated_attention` by scaled_dot_product_attention, which adds the log gate to the scores.

    The log gate and the mask are one bias, [batch, heads, length, P + text length], which the kernels keep for the
    backward pass. A large one is recomputed there instead; for a small one that would take longer than the attention
    (results/benchmarks). Under torch.compile the compiler decides what is kept.
    """
    keeps = settings.alpha is None or torch.compiler.is_compiling() or not torch.is_grad_enabled()
    if keeps or query.shape[:3].numel() * key.shape[2] <= KEPT_BIAS:
        return _kernel(query, key, value, mask, settings)
    return _recomputed(query, key, value, mask, settings)


def join_prefix(prefix: Tensor, text: Tensor, heads: int) -> Tensor:
    """Prefix keys (or values) in front of the text's, for every query head.

    Args:
        prefix: [batch or 1, key-value heads, P, d].
        text: [batch, key-value heads, text length, d].
        heads: number of query heads, a multiple of the key-value heads (grouped-query attention).

    Returns:
        [batch, heads, P + text length, d].
    """
    joined = torch.cat([prefix.to(text.dtype).expand(text.shape[0], -1, -1, -1), text], dim=2)
    groups = heads // text.shape[1]
    return joined if groups == 1 else joined.repeat_interleave(groups, dim=1)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask (True attends) as 0 and the lowest number of `dtype`; an additive mask as it is."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    bias = _bias(query, key, mask, settings)
    return F.scaled_dot_product_attention(query, key, value, bias, settings.attention_dropout, scale=settings.scaling)


def _recomputed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    return checkpoint(_kernel, query, key, value, mask, settings, use_reentrant=False)


def _bias(query: Tensor, key: Tensor, mask: Tensor | None, settings: Settings) -> Tensor | None:
    """The log gate over the prefix and the mask over the text; None where there is neither."""
    prefix_length, text_length = settings.prefix_length, key.shape[2] - settings.prefix_length
    if settings.alpha is None:
        return None if mask is None else F.pad(mask, (prefix_length, 0), value=mask.dtype == torch.bool)
    prefix_scores = torch.matmul(query, key[:, :, :prefix_length].transpose(2, 3)) * settings.scaling
    log_gates = log_gate(prefix_scores, settings.alpha, settings.score_dropout)
    if mask is None:
        return F.pad(log_gates, (0, text_length))
    return torch.cat([log_gates, additive_mask(mask, log_gates.dtype).expand(*log_gates.shape[:3], -1)], dim=-1)
