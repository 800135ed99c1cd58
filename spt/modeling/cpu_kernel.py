"""`gated_attention` on a CPU, block by block: nothing of size [length, P + text length] is kept for the backward pass.

The scores of a few examples (or heads) at a time stay in the processor's cache. The backward pass recomputes them, and
draws the dropout masks again from the seeds of the forward pass, one seed per example.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from spt.modeling.gated_attention import Settings, additive_mask

BLOCK = 2**18  # scores at a time: 1 MB in float32
LANES = 4  # random numbers of 16 bits in one of 64
Block = tuple[slice, slice]  # of examples and of heads


def cpu_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    """The output of `gated_attention`, [batch, heads, length, d]. `mask` gets no gradient."""
    return _BlockwiseAttention.apply(query, key, value, mask, settings)


class _BlockwiseAttention(torch.autograd.Function):
    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
        if mask is not None:
            mask = additive_mask(mask, query.dtype).expand(*query.shape[:3], -1)
        drops = settings.score_dropout > 0 or settings.attention_dropout > 0
        seeds = torch.randint(2**63 - 1, (len(query),)).tolist() if drops else None
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
            grad = output_grad[block]
            weights, slope, kept = _weights(query, key, mask, block, settings, generators)
            mean = (grad * output[block]).sum(-1, keepdim=True, dtype=weights.dtype)
            grad = grad / (1 - settings.attention_dropout)
            scores_grad = torch.matmul(grad, value[block].transpose(-1, -2)).to(weights.dtype)
            if kept is not None:
                scores_grad.mul_(kept)
                kept.mul_(weights)
            kept = (weights if kept is None else kept).to(value.dtype)
            torch.matmul(kept.transpose(-1, -2), grad, out=value_grad[block])
            scores_grad.sub_(mean).mul_(weights)  # through the softmax
            if slope is not None:
                scores_grad[..., : settings.prefix_length].mul_(slope.add_(1))  # d(s + log g)/ds
            scores_grad = scores_grad.mul_(settings.scaling).to(query.dtype)
            if query_grad is not None:
                torch.matmul(scores_grad, key[block], out=query_grad[block])
            torch.matmul(scores_grad.transpose(-1, -2), query[block], out=key_grad[block])
        return query_grad, key_grad, value_grad, None, None


def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, block: Block, settings: Settings, generators: list[Generator]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """A block's weights before dropout, the slope d(log g)/ds of its gates, and 1 where dropout keeps a weight."""
    scores = torch.matmul(query[block] * settings.scaling, key[block].transpose(-1, -2))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    slope = None
    if settings.alpha is not None:
        prefix_scores = scores[..., : settings.prefix_length]
        alpha = settings.alpha[block[1]].to(scores.dtype) if isinstance(settings.alpha, Tensor) else settings.alpha
        gate_input = prefix_scores * alpha
        factor = alpha
        if settings.score_dropout > 0:
            factor = keep_mask(gate_input, settings.score_dropout, generators).div_(1 - settings.score_dropout)
            gate_input.mul_(factor)
            factor.mul_(alpha)
        slope = torch.sigmoid(-gate_input).mul_(factor)
        prefix_scores.add_(F.logsigmoid(gate_input))
    if mask is not None:
        scores[..., settings.prefix_length :].add_(mask[block])
    weights = torch.softmax(scores, dim=-1)
    kept = keep_mask(weights, settings.attention_dropout, generators) if settings.attention_dropout > 0 else None
    return weights, slope, kept


def _blocks(query: Tensor, key: Tensor, seeds: list[int] | None) -> Iterator[tuple[Block, list[Generator]]]:
    """Slices of examples and heads with at most BLOCK scores (or one head), and the generators of the examples."""
    batch, heads, length = query.shape[:3]
    heads_per_block = max(1, BLOCK // max(1, length * key.shape[2]))
    rows, width = max(1, heads_per_block // heads), min(heads_per_block, heads)
    for row in range(0, batch, rows):
        generators = [Generator().manual_seed(seed) for seed in seeds[row : row + rows]] if seeds else []
        for head in range(0, heads, width):
            yield (slice(row, row + rows), slice(head, head + width)), generators


def keep_mask(like: Tensor, rate: float, generators: list[Generator]) -> Tensor:
    """1 where dropout keeps an entry, 0 where it drops it, each example's entries drawn from its own generator.

    The shape and dtype are those of `like`. An entry takes 16 random bits, which is several times faster than torch's
    dropout and makes the rate exact to 2^-17.
    """
    size = math.prod(like.shape[1:])
    bits = torch.empty(len(generators), math.ceil(size / LANES), dtype=torch.int64)
    for row, generator in zip(bits, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    lanes = bits.view(torch.int16)[:, :size].reshape(like.shape)
    return torch.ge(lanes, round(rate * 2**16) - 2**15, out=torch.empty(like.shape, dtype=like.dtype))
