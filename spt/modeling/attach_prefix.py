"""How prefixes enter an encoder: no model code is copied.

`attach` puts a `Prefix` beside each self-attention of the encoder and registers `attend` with transformers' attention
interface, through which the encoder then calls it. Where transformers does not dispatch an attention, a bridge does.
"""

import copy
import logging
import math
from typing import TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.attention_interface import OURS, RECORDING, _choose_attention, _theirs
from spt.modeling.attention_probe import Layer, self_attentions
from spt.modeling.deberta_mpnet_attention import bridge, unbridge
from spt.modeling.position_shift import _shift
from spt.modeling.prefix import Attachment, Prefix, PrefixConfig, PrefixProjection, SharedPrefixes, attached, encoder_of
from spt.modeling.trainable_parameters import freeze

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


def attach(model: Model, config: PrefixConfig) -> Model:
    """Put a trainable prefix beside every self-attention of a TaskModel or a bare encoder, and freeze the encoder.

    The encoder's own choice of attention carries over: one loaded with `attn_implementation="eager"` computes the
    formula as it reads and can return the weights [batch, heads, length, prefix_length + length]; "sdpa" (the default)
    the same through a fused kernel, and `output_attentions=True` takes the former for that call. Weights that the
    encoder's checkpoint did not hold (a missing pooler) are noise: they stay trainable, and a warning says so.

    Returns:
        `model` itself.

    Raises:
        SptError: where the encoder has no attention the prefixes could act on, or already carries some. It is then as
            it was.
    """
    encoder = encoder_of(model)
    if attached(encoder) is not None:
        raise SptError(f"this {type(encoder).__name__} already carries prefixes: spt.detach(model) takes them off")
    install(encoder, config)
    freeze(model)
    return model


def detach(model: Model) -> Model:
    """Take the prefixes off again: the encoder computes what it did before `attach`. It stays frozen."""
    take_off(encoder_of(model))
    return model


def take_off(encoder: PreTrainedModel) -> Attachment | None:
    """What was on the encoder, for `put_on` to put on again; None where it carried no prefixes."""
    attachment: Attachment | None = encoder.__dict__.pop("prefix_attachment", None)
    if attachment is None:
        return None
    for module in attachment.prefixes:
        del module.prefix
    if attachment.projection is not None:
        del encoder.prefix_projection
    while attachment.hooks:
        attachment.hooks.pop().remove()
    _choose_attention(encoder, _theirs(encoder))
    unbridge(encoder)
    return attachment


def put_on(encoder: PreTrainedModel, attachment: Attachment) -> None:
    """Have the encoder compute with prefixes that were made for it."""
    implementation = OURS[_theirs(encoder)]
    _own_config(encoder)
    bridge(encoder)
    for module, prefix in attachment.prefixes.items():
        module.prefix = prefix
    if attachment.projection is not None:
        encoder.prefix_projection = attachment.projection
    attachment.hooks.append(encoder.register_forward_pre_hook(_before_forward))
    if attachment.config.shift_positions:
        module, hook = _shift(encoder, attachment.config.prefix_length)  # type: ignore[misc]
        attachment.hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    encoder.__dict__["prefix_attachment"] = attachment
    _choose_attention(encoder, implementation)


def supported_layers(encoder: PreTrainedModel, config: PrefixConfig) -> list[Layer]:
    """The encoder's self-attentions, where prefixes of this configuration can act on all of them.

    Raises:
        SptError: where they cannot. The encoder is as it was, either way.
    """
    name = type(encoder).__name__
    if _theirs(encoder) not in OURS:
        raise SptError(
            f"prefixes go with attn_implementation 'eager' or 'sdpa', and this {name} uses {_theirs(encoder)!r}: "
            "load it with one of the two"
        )
    layers = self_attentions(encoder)
    widths = {math.prod(shape) for _, *shapes in layers for shape in shapes}
    if config.projection is not None and len(widths) > 1:
        raise SptError(f"a projection needs one key-value width in all layers, and this {name} has {widths}")
    if config.shift_positions and _shift(encoder, config.prefix_length) is None:
        raise SptError(f"{name} has no positions that could be shifted: use shift_positions=false with it")
    return layers


def install(encoder: PreTrainedModel, config: PrefixConfig) -> None:
    """The part of `attach` that changes what the encoder computes, but not what of it trains."""
    layers = supported_layers(encoder, config)
    # Half-precision backbones keep their prefixes in float32, as optimizers need them.
    dtype = torch.promote_types(encoder.dtype, torch.float32)
    projection = None
    if config.projection is not None:
        width = math.prod(layers[0][1])
        projection = PrefixProjection(config.prefix_length, width, config.projection, len(layers))
        projection.to(encoder.device, dtype)
    calls: dict[nn.Module, list[Prefix]] = {}
    for index, (module, key_shape, value_shape) in enumerate(layers):
        prefix = Prefix(config, key_shape, value_shape, projection, index)
        calls.setdefault(module, []).append(prefix.to(encoder.device, dtype).train(module.training))
    shared = {module: its[0] if len(its) == 1 else SharedPrefixes(its) for module, its in calls.items()}
    put_on(encoder, Attachment(config, shared, projection))


def prefix_names(model: nn.Module, layers: list[Layer]) -> list[str]:
    """What the prefix of each of `layers` is called among the modules of `model`."""
    names = {module: name for name, module in model.named_modules()}
    modules = [module for module, *_ in layers]
    return [
        f"{names[module]}.prefix" + (f".{modules[:index].count(module)}" if modules.count(module) > 1 else "")
        for index, module in enumerate(modules)
    ]


def _own_config(encoder: PreTrainedModel) -> None:
    """Give the encoder a configuration of its own: encoders made from one share it, and with it the attention."""
    shared, own = encoder.config, copy.deepcopy(encoder.config)
    for module in encoder.modules():
        if getattr(module, "config", None) is shared:
            module.config = own  # type: ignore[assignment]


def _before_forward(encoder: PreTrainedModel, args: tuple) -> None:
    """An attention chosen after `attach` takes effect with the prefixes, not in their place; shared ones start anew."""
    for module in encoder.modules():
        if isinstance(module, SharedPrefixes):
            module.turn = 0
    implementation = encoder.config._attn_implementation
    if implementation in (*OURS.values(), RECORDING):
        return
    if implementation not in OURS:
        raise SptError(f"attention {implementation!r} would leave the prefixes out: 'eager' or 'sdpa' goes with them")
    _choose_attention(encoder, OURS[implementation])
