"""Key-value prefixes on an encoder: their parameters, how they enter its attention, and the selective loss.

`attach` copies no model code. It puts a `Prefix` beside each self-attention of the encoder and registers `attend` with
transformers' attention interface, through which the encoder then calls it.
"""

import copy
import inspect
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from spt.attention import prefix_attention
from spt.errors import SptError

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)

INITIALIZER_RANGE = 0.02


@dataclass(frozen=True)
class PrefixConfig:
    """What `attach` puts on an encoder. The defaults are the paper's SPT; P-tuning v2 is named field by field.

    Attributes:
        prefix_length: prefix slots P per layer, at least 1.
        alpha: the gate's temperature α > 0 (the authors' code calls it tau). None: no gate, plain prefix tuning.
        key_dropout: rate on the key prefix, elementwise, drawn anew for every example; published 0.1.
        value_dropout: the same on the value prefix; SPT 0, P-tuning v2 0.1.
        score_dropout: rate on α · score inside the gate's sigmoid; published 0.1. No effect without a gate.
        shift_positions: whether position ids start at P, as where the prefix is passed as a cache (P-tuning v2, PEFT).
        projection: width of the tanh layer that P-tuning v2 computes its prefixes with (512). None: free prefixes.

    Raises:
        SptError: where a value is outside its range.
    """

    prefix_length: int = 20
    alpha: float | None = 8.0
    key_dropout: float = 0.1
    value_dropout: float = 0.0
    score_dropout: float = 0.1
    shift_positions: bool = False
    projection: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("prefix_length", self.prefix_length), ("projection", self.projection)):
            absent = name == "projection" and value is None
            if not absent and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SptError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.alpha is not None and not (_is_number(self.alpha) and 0 < self.alpha < math.inf):
            raise SptError(f"alpha must be a finite number above 0, or null for no gate, not {self.alpha!r}")
        for name in ("key_dropout", "value_dropout", "score_dropout"):
            rate = getattr(self, name)
            if not (_is_number(rate) and 0 <= rate < 1):
                raise SptError(f"{name} is a rate: at least 0 and below 1, not {rate!r}")
        if not isinstance(self.shift_positions, bool):
            raise SptError(f"shift_positions must be true or false, not {self.shift_positions!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class PrefixProjection(nn.Module):
    """All layers' prefixes from one embedding [P, H] → Linear(H, m) → tanh → Linear(m, 2·layers·H) (P-tuning v2).

    Block 2l of the output is layer l's key prefix, block 2l + 1 its value prefix.
    """

    def __init__(self, prefix_length: int, width: int, hidden: int, layers: int):
        super().__init__()
        self.width = width
        self.embedding = nn.Parameter(torch.empty(prefix_length, width))
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, 2 * layers * width)
        for parameter in (self.embedding, self.hidden.weight, self.output.weight):
            nn.init.normal_(parameter, std=INITIALIZER_RANGE)
        for linear in (self.hidden, self.output):
            nn.init.zeros_(linear.bias)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Layer `index`'s key and value prefix, each [P, H]."""
        block = slice(2 * index * self.width, 2 * (index + 1) * self.width)
        hidden = torch.tanh(self.hidden(self.embedding))
        key, value = F.linear(hidden, self.output.weight[block], self.output.bias[block]).chunk(2, dim=1)
        return key, value


class Prefix(nn.Module):
    """One layer's key and value prefix, each [prefix_length, key-value width]: free, or a projection's `index`-th."""

    def __init__(
        self,
        config: PrefixConfig,
        key_shape: tuple[int, int],
        value_shape: tuple[int, int],
        projection: PrefixProjection | None = None,
        index: int = 0,
    ):
        super().__init__()
        self.alpha, self.score_dropout = config.alpha, config.score_dropout
        self.key_shape, self.value_shape = key_shape, value_shape
        self.key_dropout, self.value_dropout = nn.Dropout(config.key_dropout), nn.Dropout(config.value_dropout)
        self.index = index
        self._projection = (projection,)  # in a tuple: its parameters belong to the encoder, once
        if projection is None:
            self.key_prefix = nn.Parameter(torch.empty(config.prefix_length, math.prod(key_shape)))
            self.value_prefix = nn.Parameter(torch.empty(config.prefix_length, math.prod(value_shape)))
            nn.init.normal_(self.key_prefix, std=INITIALIZER_RANGE)
            nn.init.normal_(self.value_prefix, std=INITIALIZER_RANGE)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The key and the value prefix, without dropout."""
        (projection,) = self._projection
        return (self.key_prefix, self.value_prefix) if projection is None else projection.layer(self.index)

    def forward(self, batch: int) -> tuple[Tensor, Tensor]:
        """Both as attention takes them, [batch, heads, prefix_length, d], with each example's own dropout."""
        key, value = self.vectors()
        return (
            self._split(self.key_dropout(key.expand(batch, -1, -1)), self.key_shape),
            self._split(self.value_dropout(value.expand(batch, -1, -1)), self.value_shape),
        )

    @staticmethod
    def _split(vectors: Tensor, shape: tuple[int, int]) -> Tensor:
        return vectors.unflatten(-1, shape).transpose(1, 2)


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
    """The function the encoder's layers call. An attention without a prefix (cross-attention) stays as it was."""
    prefix = getattr(module, "prefix", None)
    if prefix is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    key_prefix, value_prefix = prefix(len(query))
    return prefix_attention(
        query,
        key,
        value,
        key_prefix,
        value_prefix,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        attention_mask=attention_mask,
        alpha=prefix.alpha,
        score_dropout=prefix.score_dropout if module.training else 0.0,
        attention_dropout=dropout,
        fused=fused and not output_attentions,
    )


def _whole_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """sdpa's mask, but never left out for a causal kernel: the prefix columns stand before the causal ones."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


IMPLEMENTATIONS = {"eager": "spt_eager", "sdpa": "spt_fused"}
AttentionInterface.register("spt_eager", partial(attend, fused=False))
AttentionMaskInterface.register("spt_eager", eager_mask)
AttentionInterface.register("spt_fused", partial(attend, fused=True))
AttentionMaskInterface.register("spt_fused", _whole_mask)


def encoder_of(model: nn.Module) -> PreTrainedModel:
    """The encoder of a TaskModel, or the encoder itself."""
    return model if isinstance(model, PreTrainedModel) else model.encoder  # type: ignore[return-value]


def attached(model: nn.Module) -> PrefixConfig | None:
    """The configuration of the prefixes on `model`, None where it has none."""
    return getattr(encoder_of(model), "prefix_config", None)


def prefixes(model: nn.Module) -> list[Prefix]:
    """The prefixes on `model`, in layer order."""
    return sorted((m for m in model.modules() if isinstance(m, Prefix)), key=lambda prefix: prefix.index)


def attach(model: Model, config: PrefixConfig) -> Model:
    """Put a trainable prefix beside every self-attention of a TaskModel or a bare encoder, and freeze the encoder.

    The encoder's own choice of attention carries over: one loaded with `attn_implementation="eager"` computes the
    formula as it reads and can return the weights [batch, heads, length, prefix_length + length]; "sdpa" (the default)
    the same through a fused kernel. Weights that the encoder's checkpoint did not hold (a missing pooler) are noise:
    they stay trainable, and a warning says so.

    Returns:
        `model` itself.

    Raises:
        SptError: where the encoder has no attention the prefixes could act on, or already carries some.
    """
    encoder = encoder_of(model)
    install(encoder, config)
    freeze(encoder)
    return model


def freeze(encoder: PreTrainedModel) -> None:
    """Freeze all of an encoder but its prefixes, and but weights that its checkpoint did not hold.

    Those (a missing pooler) are noise: they stay trainable, and a warning says so.
    """
    noise = _never_loaded(encoder)
    for name, parameter in encoder.named_parameters():
        if not is_prefix(name):
            parameter.requires_grad_(name in noise)
    if noise:
        log.warning(
            "%s not in the checkpoint %r, so random noise at the start: trained, not frozen",
            ", ".join(noise),
            encoder.name_or_path,
        )


def is_prefix(parameter_name: str) -> bool:
    """Whether a parameter is a prefix's, or of what computes prefixes."""
    return ".prefix." in f".{parameter_name}" or "prefix_projection." in parameter_name


def install(encoder: PreTrainedModel, config: PrefixConfig) -> None:
    """The part of `attach` that changes what the encoder computes, but not what of it trains."""
    name = type(encoder).__name__
    if attached(encoder) is not None:
        raise SptError(f"this {name} already carries prefixes: spt.detach(model) takes them off")
    implementation = encoder.config._attn_implementation
    if implementation not in IMPLEMENTATIONS:
        raise SptError(
            f"prefixes go with attn_implementation 'eager' or 'sdpa', and this {name} uses {implementation!r}: "
            "load it with one of the two"
        )
    layers = self_attentions(encoder)
    _own_config(encoder)
    # Half-precision backbones keep their prefixes in float32, as optimizers need them.
    dtype = torch.promote_types(encoder.dtype, torch.float32)
    projection = None
    if config.projection is not None:
        widths = {math.prod(shape) for _, *shapes in layers for shape in shapes}
        if len(widths) > 1:
            raise SptError(f"a projection needs one key-value width in all layers, and this {name} has {widths}")
        projection = PrefixProjection(config.prefix_length, widths.pop(), config.projection, len(layers))
        encoder.prefix_projection = projection.to(encoder.device, dtype)
    if config.shift_positions:
        _shift_positions(encoder, config.prefix_length)
    for index, (module, key_shape, value_shape) in enumerate(layers):
        prefix = Prefix(config, key_shape, value_shape, projection, index)
        module.prefix = prefix.to(encoder.device, dtype).train(module.training)
    encoder.set_attn_implementation(IMPLEMENTATIONS[implementation])
    encoder.prefix_config = config  # type: ignore[assignment]


def detach(model: Model) -> Model:
    """Take the prefixes off again: the encoder computes what it did before `attach`. It stays frozen."""
    encoder = encoder_of(model)
    if attached(encoder) is None:
        return model
    for module in encoder.modules():
        if isinstance(getattr(module, "prefix", None), Prefix):
            del module.prefix
    if hasattr(encoder, "prefix_projection"):
        del encoder.prefix_projection
    if hook := encoder.__dict__.pop("shift_hook", None):
        hook.remove()
    own = {ours: theirs for theirs, ours in IMPLEMENTATIONS.items()}
    encoder.set_attn_implementation(own[encoder.config._attn_implementation])
    del encoder.prefix_config
    return model


def self_attentions(encoder: PreTrainedModel) -> list[tuple[nn.Module, tuple[int, int], tuple[int, int]]]:
    """The encoder's self-attention modules in the order they run, with (heads, d) of their keys and of their values.

    Found by running the encoder once on two tokens, so that what is returned is what a prefix will act on.
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

    AttentionInterface.register("spt_record", record)
    AttentionMaskInterface.register("spt_record", sdpa_mask)
    implementation, training = encoder.config._attn_implementation, encoder.training
    try:
        encoder.set_attn_implementation("spt_record")
        with torch.no_grad():
            encoder.eval()(input_ids=torch.zeros(1, 2, dtype=torch.long, device=encoder.device))
    finally:
        encoder.set_attn_implementation(implementation)
        encoder.train(training)
    if not calls:
        raise SptError(
            f"{name} does not compute its attention through transformers' attention interface: a prefix would have no "
            "effect on it. Encoders that work: BERT, RoBERTa and their kin"
        )
    if unsupported:
        raise SptError(f"{name} adds {', '.join(sorted(unsupported))} to its attention, which prefixes do not support")
    if len({id(module) for module, _, _ in calls}) < len(calls):
        raise SptError(
            f"{name} shares one attention between its layers: a prefix for each layer is not supported there"
        )
    return [(module, (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3])) for module, key, value in calls]


def longest_input(encoder: PreTrainedModel) -> int | None:
    """The most tokens the encoder takes: its position table, less what an offset and shifted positions use up."""
    embeddings: Any = getattr(encoder, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    positions: int | None = getattr(encoder.config, "max_position_embeddings", None)
    if isinstance(table, nn.Embedding):
        offset = embeddings.padding_idx + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0
        positions = table.num_embeddings - offset
    config = attached(encoder)
    if positions is not None and config is not None and config.shift_positions:
        positions -= config.prefix_length
    return positions


def _never_loaded(encoder: PreTrainedModel) -> list[str]:
    """Trainable parameters that a checkpoint was loaded around; none where the whole encoder was made from a config."""
    backbone = {name: p for name, p in encoder.named_parameters() if not is_prefix(name)}
    loaded = {name: getattr(p, "_is_hf_initialized", False) for name, p in backbone.items()}
    if not any(loaded.values()):
        return []
    return [name for name, p in backbone.items() if not loaded[name] and p.requires_grad]


def _own_config(encoder: PreTrainedModel) -> None:
    """Give the encoder a configuration of its own: encoders made from one share it, and with it the attention."""
    shared, own = encoder.config, copy.deepcopy(encoder.config)
    for module in encoder.modules():
        if getattr(module, "config", None) is shared:
            module.config = own  # type: ignore[assignment]


def _shift_positions(encoder: PreTrainedModel, prefix_length: int) -> None:
    embeddings = getattr(encoder, "embeddings", None)
    if embeddings is None or "past_key_values_length" not in inspect.signature(embeddings.forward).parameters:
        raise SptError(
            f"{type(encoder).__name__} has no table of positions to shift: use shift_positions=false with it"
        )

    def shift(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        limit = longest_input(encoder)
        if limit is not None and tokens.shape[1] > limit:
            raise SptError(
                f"an input of {tokens.shape[1]} tokens is longer than {limit}, the position table less the "
                f"prefix_length {prefix_length} that shift_positions moves it by: shorten the input or the prefix"
            )
        return args, {**kwargs, "past_key_values_length": prefix_length}

    encoder.__dict__["shift_hook"] = embeddings.register_forward_pre_hook(shift, with_kwargs=True)


def selective_loss(model: nn.Module) -> Tensor:
    """The selective loss SL: the mean |cosine| over all pairs of prefix vectors of one matrix, keys and values alike.

    A scalar with gradient, to be added to the task loss as `sl_weight * selective_loss(model)`. Vectors are normalised
    as p / √(‖p‖² + 1e-8) and pairs taken within each layer's key prefix and value prefix, over the whole width. With
    prefix_length 1 there is no pair: 0.

    Raises:
        SptError: where `model` carries no prefix.
    """
    layers = prefixes(model)
    if not layers:
        raise SptError("selective_loss needs prefixes, and this model carries none: spt.attach(model, ...) first")
    total = torch.zeros(())
    pairs = 0
    for matrices in zip(*(layer.vectors() for layer in layers), strict=True):
        vectors = torch.stack(matrices)
        unit = vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-8)
        cosines = torch.matmul(unit, unit.transpose(1, 2)).abs()
        total = cosines.triu(diagonal=1).sum() + total.to(cosines)
        pairs += len(matrices) * vectors.shape[1] * (vectors.shape[1] - 1) // 2
    return total / max(pairs, 1)
