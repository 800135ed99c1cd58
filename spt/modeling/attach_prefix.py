"""Put prefixes on an encoder, and take them off again, without copying model code.

`attach` puts a `Prefix` on each self-attention module and has the encoder call `attend`
(transformers_interface.py). Where transformers does not dispatch an attention, its class is replaced by one that calls
it (deberta_mpnet_attention.py).
"""

import copy
import math
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.modeling.deberta_mpnet_attention import replace_attentions, restore_attentions
from spt.modeling.find_self_attentions import Layer, self_attentions
from spt.modeling.freeze_parameters import freeze
from spt.modeling.lora import refuse_peft
from spt.modeling.position_shift import first_position, shifted_position_ids
from spt.modeling.prefix_parameters import (
    Attachment,
    Prefix,
    PrefixConfig,
    PrefixProjection,
    SharedPrefixes,
    attached,
    encoder_of,
)
from spt.modeling.transformers_interface import PREFIX_ATTENTIONS, requested_attention, set_attention

Model = TypeVar("Model", bound=nn.Module)


def attach(model: Model, config: PrefixConfig) -> Model:
    """Put a trainable prefix on every self-attention of a TaskModel or a bare encoder, and freeze the encoder.

    An encoder loaded with `attn_implementation="eager"` computes the equation as it is written and can return the
    weights [batch, heads, length, prefix_length + length]. With "sdpa" (the default) it computes the same output
    faster, and calls with `output_attentions=True` as "eager" does. Weights missing from the encoder's checkpoint (a
    pooler) are random: they stay trainable, and a warning names them.

    Returns:
        `model` itself.

    Raises:
        SptError: if prefixes cannot act on the encoder, or it already carries some. It is left unchanged.
    """
    encoder = encoder_of(model)
    if attached(encoder) is not None:
        raise SptError(f"this {type(encoder).__name__} already carries prefixes: spt.detach(model) removes them")
    refuse_peft(encoder)
    install_prefixes(encoder, config)
    freeze(model)
    return model


def detach(model: Model) -> Model:
    """Remove the prefixes: the encoder computes what it did before `attach`. It stays frozen. Returns `model`."""
    encoder = encoder_of(model)
    attachment: Attachment | None = encoder.__dict__.pop("prefix_attachment", None)
    if attachment is not None:
        for module in attachment.modules:
            del module.prefix
        if attachment.config.projection is not None:
            del encoder.prefix_projection
        attachment.hook.remove()
        set_attention(encoder, requested_attention(encoder))
        restore_attentions(encoder)
    return model


def install_prefixes(encoder: PreTrainedModel, config: PrefixConfig) -> None:
    """Put new prefixes on the encoder, as `attach` does, without freezing anything."""
    layers = supported_layers(encoder, config)
    # Prefixes on a half-precision backbone are float32, as optimizers need them.
    dtype = torch.promote_types(encoder.dtype, torch.float32)
    projection = None
    if config.projection is not None:
        projection = PrefixProjection(config.prefix_length, math.prod(layers[0][1]), config.projection, len(layers))
        projection.to(encoder.device, dtype)
    by_module: dict[nn.Module, list[Prefix]] = {}
    for index, (module, key_shape, value_shape) in enumerate(layers):
        prefix = Prefix(config, key_shape, value_shape, projection, index)
        by_module.setdefault(module, []).append(prefix.to(encoder.device, dtype).train(module.training))
    prefixes = {module: own[0] if len(own) == 1 else SharedPrefixes(own) for module, own in by_module.items()}
    _copy_config(encoder)
    implementation = PREFIX_ATTENTIONS[requested_attention(encoder)]
    replace_attentions(encoder)
    for module, own in prefixes.items():
        module.prefix = own
    if projection is not None:
        encoder.prefix_projection = projection
    shared = [own for own in prefixes.values() if isinstance(own, SharedPrefixes)]
    hook = encoder.register_forward_pre_hook(_before_forward, with_kwargs=True)
    encoder.__dict__["prefix_attachment"] = Attachment(config, list(prefixes), shared, hook)
    set_attention(encoder, implementation)


def supported_layers(encoder: PreTrainedModel, config: PrefixConfig) -> list[Layer]:
    """The encoder's self-attentions, one for each prefix. The encoder is left unchanged.

    Raises:
        SptError: if prefixes of this configuration cannot act on all of them.
    """
    name, requested = type(encoder).__name__, requested_attention(encoder)
    if requested not in PREFIX_ATTENTIONS:
        raise SptError(f"{name} uses attn_implementation={requested!r}: prefixes need 'eager' or 'sdpa'")
    layers = self_attentions(encoder)
    widths = {math.prod(shape) for _, *shapes in layers for shape in shapes}
    if config.projection is not None and len(widths) > 1:
        raise SptError(f"a projection needs the same key-value width in all layers, and this {name} has {widths}")
    if config.shift_positions and first_position(encoder) is None:
        raise SptError(f"{name} has no positions that could be shifted: use shift_positions=false with it")
    config.check_alpha(len(layers), encoder.config.num_attention_heads)
    return layers


def prefix_names(model: nn.Module, layers: list[Layer]) -> list[str]:
    """The name that the prefix of each of `layers` has, or would have, among the modules of `model`."""
    names = {module: name for name, module in model.named_modules()}
    modules = [module for module, *_ in layers]
    return [
        f"{names[module]}.prefix" + (f".{modules[:index].count(module)}" if modules.count(module) > 1 else "")
        for index, module in enumerate(modules)
    ]


def _copy_config(encoder: PreTrainedModel) -> None:
    """Give the encoder its own configuration: encoders made from one share it, and with it the attention."""
    shared, own = encoder.config, copy.deepcopy(encoder.config)
    for module in encoder.modules():
        if getattr(module, "config", None) is shared:
            module.config = own  # type: ignore[assignment]


def _before_forward(encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Start shared prefixes at the first layer, keep prefixes if another attention was set, and shift positions."""
    for prefix in encoder.__dict__["prefix_attachment"].shared:
        prefix.turn.next_index = 0
    implementation = encoder.config._attn_implementation
    if implementation not in PREFIX_ATTENTIONS.values():
        if implementation not in PREFIX_ATTENTIONS:
            raise SptError(f"attention {implementation!r} does not support prefixes: use 'eager' or 'sdpa'")
        set_attention(encoder, PREFIX_ATTENTIONS[implementation])
    config = attached(encoder)
    if config is not None and config.shift_positions and kwargs.get("position_ids") is None:
        inputs = {"input_ids": args[0], **kwargs} if args else kwargs
        kwargs = {**kwargs, "position_ids": shifted_position_ids(encoder, inputs, config.position_shift)}
    return args, kwargs
