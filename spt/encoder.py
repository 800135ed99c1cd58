"""How prefixes enter an encoder: no model code is copied.

`attach` puts a `Prefix` beside each self-attention of the encoder and registers `attend` with transformers' attention
interface, through which the encoder then calls it. Where transformers does not dispatch an attention, a bridge does.
"""

import copy
import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask

from spt.attention import prefix_attention
from spt.bridges import bridge, unbridge
from spt.errors import SptError
from spt.lora import is_lora
from spt.prefix import Prefix, PrefixConfig, PrefixProjection, SharedPrefixes, is_prefix

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
Layer = tuple[nn.Module, tuple[int, int], tuple[int, int]]


@dataclass
class Attachment:
    """What `attach` puts on an encoder: its self-attentions' prefixes, their projection, and hooks while it is on."""

    config: PrefixConfig
    prefixes: dict[nn.Module, Prefix | SharedPrefixes]
    projection: PrefixProjection | None
    hooks: list[RemovableHandle] = field(default_factory=list)


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
    """The function the encoder's layers call. An attention without a prefix (cross-attention) has an empty one."""
    prefix = getattr(module, "prefix", None)
    if isinstance(prefix, SharedPrefixes):
        prefix = prefix.next()
    key_prefix, value_prefix = (key[:, :, :0], value[:, :, :0]) if prefix is None else prefix(len(query))
    return prefix_attention(
        query,
        key,
        value,
        key_prefix,
        value_prefix,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        attention_mask=attention_mask,
        alpha=None if prefix is None else prefix.alpha,
        score_dropout=prefix.score_dropout if prefix is not None and module.training else 0.0,
        attention_dropout=dropout,
        fused=fused and not output_attentions,
    )


def _whole_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """sdpa's mask, but never left out for a causal kernel: the prefix columns stand before the causal ones."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


OURS = {"eager": "spt_eager", "sdpa": "spt_fused"}
RECORDING = "spt_record"
PROBE = 8  # tokens
AttentionInterface.register("spt_eager", partial(attend, fused=False))
AttentionMaskInterface.register("spt_eager", eager_mask)
AttentionInterface.register("spt_fused", partial(attend, fused=True))
AttentionMaskInterface.register("spt_fused", _whole_mask)


def encoder_of(model: nn.Module) -> PreTrainedModel:
    """The encoder of a TaskModel, or the encoder itself."""
    encoder = model if isinstance(model, PreTrainedModel) else getattr(model, "encoder", None)
    if not isinstance(encoder, PreTrainedModel):
        raise SptError(f"{type(model).__name__} is neither a TaskModel nor a transformers PreTrainedModel")
    return encoder


def attached(model: nn.Module) -> PrefixConfig | None:
    """The configuration of the prefixes on `model`, None where it has none."""
    attachment: Attachment | None = encoder_of(model).__dict__.get("prefix_attachment")
    return None if attachment is None else attachment.config


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


def freeze(model: nn.Module) -> None:
    """Freeze the encoder of `model`, but not what was added to it, and not weights that its checkpoint did not hold.

    Those (a missing pooler) are noise: they are trained, and a warning says so.
    """
    encoder = encoder_of(model)
    noise = noise_of(model)
    for name, parameter in encoder.named_parameters():
        if not is_added(name):
            parameter.requires_grad_(name in noise)


def noise_of(model: nn.Module) -> list[str]:
    """The encoder's weights that `model` reads and no checkpoint held, with a warning where there are any.

    None where the whole encoder was made from a configuration.
    """
    encoder = encoder_of(model)
    unread: set[str] = getattr(model, "unread", set())
    backbone = {name: p for name, p in encoder.named_parameters() if not is_added(name)}
    loaded = {name for name, p in backbone.items() if is_pretrained(p)}
    missing = [name for name in backbone if name not in loaded]
    if not loaded:  # a copy has lost the marks: no trained pooler has a bias of zeros
        biases = {name: p for name, p in backbone.items() if name.startswith("pooler.") and name.endswith("bias")}
        untrained = encoder.name_or_path and biases and not any(p.any() for p in biases.values())
        missing = [name for name in backbone if untrained and name.startswith("pooler.")]
    noise = [name for name in missing if name not in unread]
    if noise:
        log.warning(
            "%s not in the checkpoint %r, so random noise at the start: trained, not frozen",
            ", ".join(noise),
            encoder.name_or_path,
        )
    return noise


def is_pretrained(parameter: nn.Parameter) -> bool:
    """Whether a parameter came from a checkpoint, by the mark that transformers leaves on it."""
    return getattr(parameter, "_is_hf_initialized", False)


def is_added(parameter_name: str) -> bool:
    """Whether a parameter was added to the encoder, by prefixes or LoRA."""
    return is_prefix(parameter_name) or is_lora(parameter_name)


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


def self_attentions(encoder: PreTrainedModel) -> list[Layer]:
    """The encoder's self-attentions in the order they run, with (heads, d) of their keys and of their values.

    A module that serves several layers (ALBERT) is there as often. Found by running the encoder once on a few tokens,
    so that what is returned is what a prefix will act on.

    Raises:
        SptError: where there are none, or where attention as prefixes need it would change the encoder's own output.
    """
    name = type(encoder).__name__
    if encoder.config.is_encoder_decoder:
        raise SptError(f"{name} is an encoder-decoder: prefixes go on encoders and decoder-only models")
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    unsupported: set[str] = set()

    def record(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        calls.append((module, key, value))
        unsupported.update(k for k in ("position_bias", "softcap") if kwargs.get(k) is not None)
        return torch.zeros_like(query.transpose(1, 2)), None

    AttentionInterface.register(RECORDING, record)
    AttentionMaskInterface.register(RECORDING, sdpa_mask)
    implementation, carries_prefixes = encoder.config._attn_implementation, attached(encoder) is not None
    training = {module: module.training for module in encoder.modules()}
    tokens = torch.arange(PROBE, device=encoder.device).unsqueeze(0) % encoder.config.vocab_size

    def output_under(chosen: str) -> Tensor:
        _choose_attention(encoder, chosen)
        return encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state

    try:
        with torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
            encoder.eval()
            own = output_under(implementation)
            bridge(encoder)
            output_under(RECORDING)
            ours = own if carries_prefixes else output_under(OURS[_theirs_of(implementation)])
    except SptError:
        raise
    except Exception as error:
        raise SptError(f"{name} does not run on plain input_ids ({error}): prefixes go on text encoders") from error
    finally:
        _choose_attention(encoder, implementation)
        if not carries_prefixes:
            unbridge(encoder)
        for module, mode in training.items():
            module.training = mode
    if not calls:
        raise SptError(
            f"{name} does not compute its attention through transformers' attention interface: a prefix would have no "
            "effect on it. The README lists the families of encoders that work"
        )
    if unsupported:
        raise SptError(f"{name} adds {', '.join(sorted(unsupported))} to its attention, which prefixes do not support")
    if (ours - own).abs().max() > torch.finfo(own.dtype).eps ** 0.5 * own.abs().max():
        raise SptError(
            f"{name} does more in its attention than prefixes reproduce: without any, its output would change"
        )
    return [(module, (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3])) for module, key, value in calls]


def longest_input(encoder: PreTrainedModel) -> int | None:
    """The most tokens the encoder takes: its position table, less what an offset and shifted positions use up."""
    positions = _positions(getattr(encoder, "embeddings", None))
    if positions is None:
        positions = getattr(encoder.config, "max_position_embeddings", None)
    config = attached(encoder)
    if positions is not None and config is not None and config.shift_positions:
        positions -= config.prefix_length
    return positions


def _positions(embeddings: Any) -> int | None:
    """The usable rows of a table of positions; RoBERTa's first ones are for padding."""
    table = getattr(embeddings, "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def _theirs(encoder: PreTrainedModel) -> str:
    """The encoder's choice of attention under transformers' name for it."""
    return _theirs_of(encoder.config._attn_implementation)


def _theirs_of(implementation: str) -> str:
    return {ours: theirs for theirs, ours in OURS.items()}.get(implementation, implementation)


def _choose_attention(encoder: PreTrainedModel, implementation: str) -> None:
    if encoder._can_set_attn_implementation():
        encoder.set_attn_implementation(implementation)
    else:  # one that transformers does not dispatch: what a bridge goes by
        encoder.config._attn_implementation_internal = implementation


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


def _shift(encoder: PreTrainedModel, prefix_length: int) -> tuple[nn.Module, Callable] | None:
    """The module and its hook by which position ids start at `prefix_length`; None where there is no way."""
    embeddings = getattr(encoder, "embeddings", None)
    if embeddings is not None and "past_key_values_length" in inspect.signature(embeddings.forward).parameters:
        return embeddings, partial(_shift_embeddings, prefix_length=prefix_length)
    table = getattr(embeddings, "position_embeddings", None)
    counted_from_0 = not hasattr(embeddings, "position_embeddings") or getattr(table, "padding_idx", 0) is None
    if counted_from_0 and "position_ids" in inspect.signature(encoder.forward).parameters:
        return encoder, partial(_shift_position_ids, prefix_length=prefix_length)
    return None


def _shift_position_ids(
    encoder: PreTrainedModel, args: tuple, kwargs: dict[str, Any], prefix_length: int
) -> tuple[tuple, dict[str, Any]]:
    """Before the encoder: position ids as if the prefix stood before the text. Explicit ones are taken as given."""
    if kwargs.get("position_ids") is not None:
        return args, kwargs
    tokens = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
    if tokens is None:
        (tokens, *_) = args
    _refuse_too_long(tokens.shape[1], encoder.config.max_position_embeddings, prefix_length)
    positions = torch.arange(prefix_length, prefix_length + tokens.shape[1], device=tokens.device)
    return args, {**kwargs, "position_ids": positions.expand(len(tokens), -1)}


def _shift_embeddings(
    embeddings: nn.Module, args: tuple, kwargs: dict[str, Any], prefix_length: int
) -> tuple[tuple, dict[str, Any]]:
    """Before the embeddings: the same, through the length of a cache that they take for it."""
    tokens = kwargs.get("input_ids")
    if tokens is None:
        if hasattr(embeddings, "create_position_ids_from_input_ids"):
            raise SptError("shift_positions needs input_ids here: inputs_embeds do not tell where the padding is")
        tokens = kwargs["inputs_embeds"]
    _refuse_too_long(tokens.shape[1], _positions(embeddings), prefix_length)
    return args, {**kwargs, "past_key_values_length": prefix_length}


def _refuse_too_long(length: int, positions: int | None, prefix_length: int) -> None:
    if positions is not None and length > positions - prefix_length:
        raise SptError(
            f"an input of {length} tokens is longer than {positions - prefix_length}, the position table less "
            f"the prefix_length {prefix_length} that shift_positions moves it by: shorten the input or the prefix"
        )
