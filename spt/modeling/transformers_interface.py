"""Gated attention, registered with transformers' attention interface, which calls it in an encoder's layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask

from spt.modeling.cpu_kernel import cpu_attention
from spt.modeling.gated_attention import Settings, gated_attention, join_prefix, kernel_attention
from spt.modeling.prefix_parameters import Prefix, SharedPrefixes

# transformers' name of an attention, and the name under which it is registered with prefixes.
PREFIX_ATTENTIONS = {"eager": "spt_eager", "sdpa": "spt_fused"}

Attention = Callable[..., tuple[Tensor, Tensor | None]]
# What is called instead of `attend`: of this thread, so that other threads compute as always.
_observer: ContextVar[Attention | None] = ContextVar("spt_observer", default=None)


@contextmanager
def observed(observer: Attention) -> Iterator[None]:
    """Have encoders that run in this thread call `observer`, with the arguments of `attend`, until the block ends.

    What `compile` compiled runs uncompiled.
    """
    token = _observer.set(observer)
    try:
        with _uncompiled:
            yield
    finally:
        _observer.reset(token)


class _Uncompiled:
    """A block in which nothing runs compiled. The stance is the process's: the last thread to leave restores it."""

    def __init__(self) -> None:
        self.lock, self.threads = Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.threads:
                self.stance = torch.compiler.set_stance("force_eager")
                self.stance.__enter__()
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.threads -= 1
            if not self.threads:
                self.stance.__exit__(None, None, None)


_uncompiled = _Uncompiled()


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
    """What each attention module of the encoder calls: gated attention with the prefix on `module`.

    A module without a prefix (cross-attention) attends to the text alone. The arguments are those of transformers'
    interface; key and value are [batch, key-value heads, text length, d], and a `scaling` of None is 1/√d. `fused`
    computes by `fused_attention`, unless `output_attentions` asks for the weights.

    Returns:
        The output [batch, length, heads, d], and the weights [batch, heads, length, P + text length] or None.
    """
    _, key, value, settings = with_prefix(module, query, key, value, scaling, dropout)
    if fused and not output_attentions:
        output, weights = fused_attention(query, key, value, attention_mask, settings), None
    else:
        output, weights = gated_attention(query, key, value, attention_mask, settings)
    return output.transpose(1, 2).contiguous(), weights


def with_prefix(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float
) -> tuple[Prefix | None, Tensor, Tensor, Settings]:
    """The prefix of this call of `module`, the keys and the values with it, and the numbers in the equation."""
    prefix = getattr(module, "prefix", None)
    if isinstance(prefix, SharedPrefixes):
        prefix = prefix.take_next()
    key_prefix, value_prefix = (key[:, :, :0], value[:, :, :0]) if prefix is None else prefix(query.shape[0])
    settings = Settings(
        prefix_length=key_prefix.shape[2],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        alpha=None if prefix is None else prefix.alpha,
        score_dropout=prefix.score_dropout if prefix is not None and module.training else 0.0,
        attention_dropout=dropout,
    )
    heads = query.shape[1]
    return prefix, join_prefix(key_prefix, key, heads), join_prefix(value_prefix, value, heads), settings


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    """The output of `gated_attention`, by the implementation that suits the device."""
    if query.device.type != "cpu":
        return kernel_attention(query, key, value, mask, settings)
    if torch.compiler.is_compiling() or (mask is not None and mask.requires_grad):
        return gated_attention(query, key, value, mask, settings)[0]
    return cpu_attention(query, key, value, mask, settings)


def requested_attention(encoder: PreTrainedModel) -> str:
    """The encoder's attention under transformers' own name: "sdpa" where it is "spt_fused"."""
    names = {registered: name for name, registered in PREFIX_ATTENTIONS.items()}
    implementation = encoder.config._attn_implementation
    return names.get(implementation, implementation)


def set_attention(encoder: PreTrainedModel, implementation: str) -> None:
    """Have the encoder call the attention registered as `implementation`."""
    encoder.config._attn_implementation = implementation


def _attend_or_observe(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    observer = None if torch.compiler.is_compiling() else _observer.get()
    return (observer or attend)(*args, **kwargs)


def _full_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """sdpa's mask, never left out for a causal kernel: the prefix columns stand before the causal ones."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register("spt_eager", partial(_attend_or_observe, fused=False))
AttentionMaskInterface.register("spt_eager", eager_mask)
AttentionInterface.register("spt_fused", partial(_attend_or_observe, fused=True))
AttentionMaskInterface.register("spt_fused", _full_mask)
