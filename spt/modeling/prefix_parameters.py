"""The prefixes: their settings, their parameters and dropouts, and which of them a model carries."""

import math
import threading
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from spt.errors import SptError, check_count, check_flag, is_count, is_number

INITIALIZER_RANGE = 0.02


@dataclass(frozen=True)
class PrefixConfig:
    """The prefixes that `attach` adds to an encoder. The defaults are the paper's SPT.

    Attributes:
        prefix_length: prefix slots P per layer, at least 1.
        alpha: the gate's temperature α > 0 (the authors' code calls it tau); a list has one for each layer, a list of
            lists one for each layer and attention head. None: no gate, plain prefix tuning.
        key_dropout: rate on the key prefix, elementwise, drawn for each example; published 0.1.
        value_dropout: the same on the value prefix; SPT 0, P-tuning v2 0.1.
        score_dropout: rate on α · score inside the gate's sigmoid; published 0.1. No effect without a gate.
        shift_positions: whether position ids start at P, as they do where the prefix is passed as a cache of keys and
            values (P-tuning v2, PEFT).
        projection: width of the tanh layer that computes the prefixes (P-tuning v2, 512). None: the prefixes themselves
            are the parameters.
        shifted_by: where position ids start with shift_positions, if not at P: a pruned adapter, whose P is smaller,
            keeps the positions that it was trained with.

    Raises:
        SptError: if a value is outside its range.
    """

    prefix_length: int = 20
    alpha: float | list[float | list[float]] | None = 8.0
    key_dropout: float = 0.1
    value_dropout: float = 0.0
    score_dropout: float = 0.1
    shift_positions: bool = False
    projection: int | None = None
    shifted_by: int | None = None

    def __post_init__(self) -> None:
        check_count("prefix_length", self.prefix_length)
        if self.projection is not None and not is_count(self.projection):
            raise SptError(f"projection must be a whole number of at least 1, or null, not {self.projection!r}")
        if self.alpha is not None and not _are_temperatures(self.alpha):
            raise SptError(
                "alpha must be a finite number above 0, a list with one (or a list of one per head) for each layer, or "
                f"null for no gate, not {self.alpha!r}"
            )
        for name in ("key_dropout", "value_dropout", "score_dropout"):
            rate = getattr(self, name)
            if not (is_number(rate) and 0 <= rate < 1):
                raise SptError(f"{name} is a rate: at least 0 and below 1, not {rate!r}")
        check_flag("shift_positions", self.shift_positions)
        if self.shifted_by is not None and not (self.shift_positions and is_count(self.shifted_by)):
            raise SptError(f"shifted_by goes with shift_positions and must be at least 1, not {self.shifted_by!r}")

    @property
    def position_shift(self) -> int:
        """Where the position ids of the text start."""
        return (self.shifted_by or self.prefix_length) if self.shift_positions else 0

    def check_alpha(self, layers: int, heads: int) -> None:
        """Refuse temperatures for other layers or heads than an encoder has."""
        if not isinstance(self.alpha, list):
            return
        if len(self.alpha) != layers:
            raise SptError(f"alpha has {len(self.alpha)} layers, and the encoder has {layers}: {self.alpha}")
        for index, own in enumerate(self.alpha):
            if isinstance(own, list) and len(own) != heads:
                raise SptError(f"alpha of layer {index} has {len(own)} heads, and the encoder has {heads}: {own}")


def _are_temperatures(alpha: object, depth: int = 0) -> bool:
    """Whether alpha is a finite number above 0, or such numbers by layer, or by layer and head."""
    if isinstance(alpha, list):
        return depth < 2 and len(alpha) > 0 and all(_are_temperatures(each, depth + 1) for each in alpha)
    return is_number(alpha) and 0 < alpha < math.inf


class PrefixProjection(nn.Module):
    """P-tuning v2's reparametrisation: embedding [P, H] → Linear(H, m) → tanh → Linear(m, 2·layers·H).

    Columns 2lH to (2l + 1)H of the output are layer l's key prefix, the next H columns its value prefix.
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
    """One layer's key and value prefix, each [P, key-value heads · d]: parameters, or computed by a projection.

    Args:
        config: length, gate and dropouts.
        key_shape, value_shape: (key-value heads, d) of the layer's keys and of its values.
        projection: computes the prefixes of all layers; None: this layer's are parameters, `key_prefix` and
            `value_prefix`.
        index: of the layer, from 0.
    """

    alpha: float | Tensor | None

    def __init__(
        self,
        config: PrefixConfig,
        key_shape: tuple[int, int],
        value_shape: tuple[int, int],
        projection: PrefixProjection | None = None,
        index: int = 0,
    ):
        super().__init__()
        self.score_dropout = config.score_dropout
        alpha = config.alpha[index] if isinstance(config.alpha, list) else config.alpha
        if isinstance(alpha, list):  # one for each head
            self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float64).view(-1, 1, 1), persistent=False)
        else:
            self.alpha = alpha
        self.key_shape, self.value_shape = key_shape, value_shape
        self.key_dropout, self.value_dropout = nn.Dropout(config.key_dropout), nn.Dropout(config.value_dropout)
        self.index = index
        self._projection = (projection,)  # in a tuple, so that its parameters are not registered once per layer
        if projection is None:
            self.key_prefix = nn.Parameter(torch.empty(config.prefix_length, math.prod(key_shape)))
            self.value_prefix = nn.Parameter(torch.empty(config.prefix_length, math.prod(value_shape)))
            nn.init.normal_(self.key_prefix, std=INITIALIZER_RANGE)
            nn.init.normal_(self.value_prefix, std=INITIALIZER_RANGE)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The key and the value prefix without dropout, each [P, key-value heads · d]."""
        (projection,) = self._projection
        return (self.key_prefix, self.value_prefix) if projection is None else projection.layer(self.index)

    def forward(self, batch: int) -> tuple[Tensor, Tensor]:
        """The key and the value prefix as attention takes them, [batch, key-value heads, P, d], each with dropout."""
        key, value = (vectors.expand(batch, -1, -1) for vectors in self.vectors())
        key = self.key_dropout(key).unflatten(-1, self.key_shape).transpose(1, 2)
        value = self.value_dropout(value).unflatten(-1, self.value_shape).transpose(1, 2)
        return key, value


class _Turn(threading.local):
    """The index of the next prefix, in each thread its own. A copy of the model starts at 0."""

    next_index = 0

    def __reduce__(self) -> tuple:
        return _Turn, ()


class SharedPrefixes(nn.ModuleList):
    """The prefixes of an attention module that several layers share (ALBERT): each call takes the next one."""

    def __init__(self, layers: list[Prefix]):
        super().__init__(layers)
        self.turn = _Turn()

    def take_next(self) -> Prefix:
        """The prefix of the layer that is now computed."""
        prefix = self[self.turn.next_index]
        self.turn.next_index = (self.turn.next_index + 1) % len(self)
        return prefix  # type: ignore[return-value]


@dataclass
class Attachment:
    """The prefixes on an encoder: the attention modules that have one, and their hook on the encoder.

    `shared` has the prefixes of modules that several layers share. Under torch.compile the hook reads this list: were
    it to look through `modules`, every model of a process would be compiled anew.
    """

    config: PrefixConfig
    modules: list[nn.Module]
    shared: list[SharedPrefixes]
    hook: RemovableHandle


def encoder_of(model: nn.Module) -> PreTrainedModel:
    """The encoder of a TaskModel, or the encoder itself.

    Raises:
        SptError: if `model` is something else, such as a model with a head, or a wrapper (of PEFT, of torch.compile).
    """
    encoder = _encoder_in(model)
    if encoder is None:
        parts = model.modules() if isinstance(model, nn.Module) else ()
        inside = next((f"the {type(part).__name__} in it" for part in parts if _encoder_in(part) is not None), None)
        raise SptError(
            f"{type(model).__name__} is neither a TaskModel nor a transformers PreTrainedModel: "
            f"pass {inside or 'what AutoModel.from_pretrained returns'}"
        )
    if encoder.base_model is not encoder:
        raise SptError(f"{type(encoder).__name__} has a head of its own: pass its encoder, model.base_model")
    return encoder


def _encoder_in(model: nn.Module) -> PreTrainedModel | None:
    # a wrapper, such as that of torch.compile, has the attributes of what it wraps, but not its modules
    encoder = model if isinstance(model, PreTrainedModel) else getattr(model, "_modules", {}).get("encoder")
    return encoder if isinstance(encoder, PreTrainedModel) else None


def attached(model: nn.Module) -> PrefixConfig | None:
    """The configuration of the prefixes on `model`; None if it has none."""
    attachment: Attachment | None = encoder_of(model).__dict__.get("prefix_attachment")
    return None if attachment is None else attachment.config


def prefixes(model: nn.Module) -> list[Prefix]:
    """The prefixes on `model`, in layer order."""
    return sorted((m for m in model.modules() if isinstance(m, Prefix)), key=lambda prefix: prefix.index)


def is_prefix(parameter_name: str) -> bool:
    """Whether a parameter belongs to a prefix, or to the projection that computes prefixes."""
    return ".prefix." in f".{parameter_name}" or "prefix_projection." in parameter_name
