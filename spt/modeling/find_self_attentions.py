"""Find the self-attentions of an encoder by running it once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.deberta_mpnet_attention import replace_attentions, restore_attentions
from spt.modeling.matmul_precision import matmul_precision
from spt.modeling.prefix_parameters import attached
from spt.modeling.transformers_interface import (
    PREFIX_ATTENTIONS,
    attend,
    observed,
    requested_attention,
    set_attention,
)

Layer = tuple[nn.Module, tuple[int, int], tuple[int, int]]

PROBE_LENGTH = 8  # tokens


def self_attentions(encoder: PreTrainedModel) -> list[Layer]:
    """The encoder's self-attentions in the order they run, with (heads, d) of their keys and of their values.

    A module that several layers share (ALBERT) is listed once for each. The encoder runs on a few tokens with an
    attention that records its calls, so the list is exactly what prefixes will act on.

    Raises:
        SptError: if there are none, or if prefix attention without prefixes would change the encoder's output.
    """
    name = type(encoder).__name__
    if encoder.config.is_encoder_decoder:
        raise SptError(f"{name} is an encoder-decoder: prefixes go on encoders and decoder-only models")
    layers: list[Layer] = []
    unsupported: set[str] = set()

    def record(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        layers.append((module, (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3])))
        unsupported.update(name for name in ("position_bias", "softcap") if kwargs.get(name) is not None)
        return attend(module, query, key, value, *args, **kwargs)

    implementation = encoder.config._attn_implementation

    def output_under(chosen: str) -> Tensor:
        set_attention(encoder, chosen)
        tokens = few_tokens(encoder)
        return encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state

    try:
        with in_evaluation(encoder):
            expected = output_under(implementation)
            replace_attentions(encoder)
            with observed(record):
                output = output_under(PREFIX_ATTENTIONS[requested_attention(encoder)])
            difference = (output - expected).abs().max().item()
    except (SptError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise SptError(f"{name} does not run on plain input_ids ({error}): {_remedy(encoder)}") from error
    finally:
        set_attention(encoder, implementation)
        if attached(encoder) is None:
            restore_attentions(encoder)
    if not layers:
        raise SptError(
            f"{name} does not compute its attention through transformers' attention interface: a prefix would have no "
            "effect on it. docs/encoders.md lists the families of encoders that work"
        )
    if unsupported:
        raise SptError(f"{name} adds {', '.join(sorted(unsupported))} to its attention, which prefixes do not support")
    if difference > tolerance(expected):
        raise SptError(f"{name}'s attention does more than prefix attention can: use an encoder of docs/encoders.md")
    return layers


def _remedy(encoder: PreTrainedModel) -> str:
    """What to do about an encoder that does not run."""
    parameters = list(encoder.parameters())
    if any(parameter.is_meta for parameter in parameters):
        return "it has weights on the meta device, which are no numbers: load them with from_pretrained"
    other = {str(p.dtype).removeprefix("torch.") for p in parameters} - {"float32", "float64", "float16", "bfloat16"}
    if other:
        return f"it has weights of type {', '.join(sorted(other))}: load it without quantization"
    return "prefixes go on text encoders"


def few_tokens(encoder: PreTrainedModel) -> Tensor:
    """Ids of a few tokens to run the encoder on, [1, length]."""
    return torch.arange(PROBE_LENGTH, device=encoder.device).unsqueeze(0) % encoder.config.vocab_size


@contextmanager
def in_evaluation(encoder: PreTrainedModel) -> Iterator[None]:
    """Have the encoder compute exactly until the block ends: without dropout, gradients, autocast and TF32."""
    training = {module: module.training for module in encoder.modules()}
    try:
        with matmul_precision("highest"), torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
            encoder.eval()
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


def tolerance(output: Tensor) -> float:
    """How much a correct computation of the encoder's output may differ from this one."""
    return torch.finfo(output.dtype).eps ** 0.5 * output.abs().max().item()
