"""Dropout on a CPU from 16 random bits an entry: a fraction of the time that torch's takes, and no mask is kept.

The backward pass draws the mask anew, from the seed of the forward pass. Rates are exact to 2^-17. Elsewhere, and under
torch.compile, it is torch's own.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function_unary

BLOCK = 2**18  # entries at a time, which stay in the processor's cache

LANES = 4  # random numbers of 16 bits in one of 64


class Dropout(nn.Dropout):
    """nn.Dropout, computed by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)


def use_in(module: nn.Module) -> None:
    """Have all nn.Dropout in a module computed by `dropout`."""
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = Dropout


def dropout(input: Tensor, rate: float, training: bool = True) -> Tensor:
    """Zeros in place of a share `rate` of the entries, all others over 1 - rate; the input itself outside training."""
    if not training or rate == 0:
        return input
    if has_torch_function_unary(input):
        return handle_torch_function(dropout, (input,), input, rate)
    if input.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(input, rate)
    return _Dropped.apply(input, rate, draw_seeds(1)[0])


def draw_seeds(count: int) -> list[int]:
    """Seeds for masks, from torch's generator."""
    return torch.randint(2**63 - 1, (count,)).tolist()


def keep_mask(like: Tensor, rate: float, generators: list[Generator]) -> Tensor:
    """1 where an entry is kept, 0 where it is dropped, each row's from its own generator."""
    size = math.prod(like.shape[1:])
    bits = torch.empty(len(generators), math.ceil(size / LANES), dtype=torch.int64)
    for row, generator in zip(bits, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    lanes = bits.view(torch.int16)[:, :size].reshape(like.shape)
    return torch.ge(lanes, round(rate * 2**16) - 2**15, out=torch.empty(like.shape, dtype=like.dtype))


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return _dropped(input, rate, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(grad, ctx.rate, ctx.seed), None, None


def _dropped(input: Tensor, rate: float, seed: int) -> Tensor:
    output = torch.empty(input.shape, dtype=input.dtype)
    generators = [Generator().manual_seed(seed)]
    for entries, into in zip(_blocks(input.contiguous()), _blocks(output), strict=True):
        torch.mul(entries, keep_mask(entries, rate, generators), out=into).mul_(1 / (1 - rate))
    return output


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    return (part.unsqueeze(0) for part in tensor.view(-1).split(BLOCK))
