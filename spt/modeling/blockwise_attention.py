"""Prefix attention on a CPU, block by block: nothing of size [length, prefix + text] is kept for the backward pass.

The scores of a few examples (or heads) at a time stay in the processor's cache. The backward pass computes them anew,
and draws the dropouts (`spt.dropout`) anew from the seeds of the forward pass, one seed an example.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from spt.modeling.dropout import keep_mask

BLOCK = 2**18  # scores at a time: 1 MB

Block = tuple[slice, slice]  # of examples and of heads


class Settings(NamedTuple):
    """What the formula takes beside tensors (see `spt.modeling.gated_attention.prefix_attention`)."""

    prefix_length: int
    scaling: float
    alpha: float | None
    score_dropout: float
    attention_dropout: float


class Blockwise(torch.autograd.Function):
    """Attention over keys and values [batch, heads, prefix_length + text length, d], the prefix first.

    `mask` is additive, over the text, [batch, heads, length, text length], and gets no gradient; `seeds` are of the
    dropouts, one an example, None where there are none. The output is [batch, heads, length, d].
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        seeds: list[int] | None,
        settings: Settings,
    ) -> Tensor:
        batch, heads, length = query.shape[:3]
        output = value.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        for block, generators in _blocks(query, key, seeds):
            weights, _, kept = _weights(query, key, mask, block, settings, generators)
            if kept is not None:
                weights.mul_(kept)
            output[block] = torch.matmul(weights.to(value.dtype), value[block]).div_(1 - settings.attention_dropout)
        ctx.save_for_backward(query, key, value, mask, output)
        ctx.settings, ctx.seeds = settings, seeds
        return output

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, output_grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, mask, output = ctx.saved_tensors
        settings: Settings = ctx.settings
        query_grad = torch.empty_like(query) if ctx.needs_input_grad[0] else None
        key_grad, value_grad = torch.empty_like(key), torch.empty_like(value)
        for block, generators in _blocks(query, key, ctx.seeds):
            its_query, its_key, grad = query[block], key[block], output_grad[block]
            weights, slope, kept = _weights(query, key, mask, block, settings, generators)
            mean = (grad * output[block]).sum(-1, keepdim=True, dtype=weights.dtype)
            grad = grad / (1 - settings.attention_dropout)
            scores_grad = torch.matmul(grad, value[block].transpose(-1, -2)).to(weights.dtype)
            if kept is not None:
                scores_grad.mul_(kept)
                kept.mul_(weights)
            kept = (weights if kept is None else kept).to(value.dtype)
            torch.matmul(kept.transpose(-1, -2), grad, out=value_grad[block])
            scores_grad.sub_(mean).mul_(weights)
            if slope is not None:
                scores_grad[..., : settings.prefix_length].mul_(slope.add_(1))
            scores_grad = scores_grad.mul_(settings.scaling).to(query.dtype)
            if query_grad is not None:
                torch.matmul(scores_grad, its_key, out=query_grad[block])
            torch.matmul(scores_grad.transpose(-1, -2), its_query, out=key_grad[block])
        return query_grad, key_grad, value_grad, None, None, None


def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, block: Block, settings: Settings, generators: list[Generator]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The weights of a block before dropout, the slope of the log gate over its score, and 1 where a weight is kept."""
    scores = torch.matmul(query[block] * settings.scaling, key[block].transpose(-1, -2))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    slope = None
    if settings.alpha is not None:
        prefix_scores = scores[..., : settings.prefix_length]
        raised = prefix_scores * settings.alpha
        factor: float | Tensor = settings.alpha
        if settings.score_dropout > 0:
            factor = keep_mask(raised, settings.score_dropout, generators).div_(1 - settings.score_dropout)
            raised.mul_(factor)
            factor.mul_(settings.alpha)
        slope = torch.sigmoid(-raised).mul_(factor)
        prefix_scores.add_(F.logsigmoid(raised))
    if mask is not None:
        scores[..., settings.prefix_length :].add_(mask[block])
    weights = torch.softmax(scores, dim=-1)
    kept = keep_mask(weights, settings.attention_dropout, generators) if settings.attention_dropout > 0 else None
    return weights, slope, kept


def _blocks(query: Tensor, key: Tensor, seeds: list[int] | None) -> Iterator[tuple[Block, list[Generator]]]:
    """Slices of examples and heads with at most BLOCK scores (or one head), and the generators of the examples."""
    batch, heads, length = query.shape[:3]
    fit = max(1, BLOCK // max(1, length * key.shape[2]))  # heads
    rows, width = max(1, fit // heads), min(fit, heads)
    for row in range(0, batch, rows):
        generators = [Generator().manual_seed(seed) for seed in seeds[row : row + rows]] if seeds else []
        for head in range(0, heads, width):
            yield (slice(row, row + rows), slice(head, head + width)), generators
