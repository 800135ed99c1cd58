"""The methods. Each takes a TaskModel, leaves trainable what it trains, and returns what it adds to the task loss.

A new method is a YAML in `conf/method` whose `_target_` is a function of this kind.
"""

import math
from collections.abc import Callable

from torch import Tensor

from spt.errors import SptError, is_number
from spt.modeling.attach_prefix import attach
from spt.modeling.lora import LoraConfig, install_lora
from spt.modeling.prefix import PrefixConfig
from spt.modeling.selective_loss import selective_loss
from spt.modeling.task_model import TaskModel
from spt.modeling.trainable_parameters import freeze, noise_of

Penalty = Callable[[TaskModel], Tensor]


def fine_tuning(model: TaskModel, name: str) -> Penalty | None:
    """Train everything the head reads."""
    noise_of(model)
    for parameter_name, parameter in model.encoder.named_parameters():
        parameter.requires_grad_(parameter_name not in model.unread)
    return None


def linear_probe(model: TaskModel, name: str) -> Penalty | None:
    """Train the head alone, on the frozen encoder: what any other method has to beat."""
    freeze(model)
    return None


def bitfit(model: TaskModel, name: str) -> Penalty | None:
    """Train the encoder's biases and the head (Ben Zaken et al., "BitFit", ACL 2022)."""
    freeze(model)
    biases = {
        parameter_name: parameter
        for parameter_name, parameter in model.encoder.named_parameters()
        if parameter_name.endswith("bias") and parameter_name not in model.unread
    }
    if not biases:
        raise SptError(f"{type(model.encoder).__name__} has no biases, which is all of it that method=bitfit trains")
    for bias in biases.values():
        bias.requires_grad_(True)
    return None


def lora(
    model: TaskModel, name: str, r: int, lora_alpha: float, lora_dropout: float, target_modules: list[str]
) -> Penalty | None:
    """Train low-rank products beside the matrices named, and the head, through PEFT."""
    install_lora(model.encoder, LoraConfig(r, lora_alpha, lora_dropout, list(target_modules)))
    freeze(model)
    return None


def prefix_tuning(
    model: TaskModel,
    name: str,
    prefix_length: int,
    key_dropout: float,
    value_dropout: float,
    shift_positions: bool,
    projection: int | None,
) -> Penalty | None:
    """Deep prefix tuning without a gate (P-tuning v2): prefixes and head train."""
    config = PrefixConfig(
        prefix_length=prefix_length,
        alpha=None,
        key_dropout=key_dropout,
        value_dropout=value_dropout,
        score_dropout=0.0,
        shift_positions=shift_positions,
        projection=projection,
    )
    attach(model, config)
    return None


def selective_prefix_tuning(
    model: TaskModel,
    name: str,
    prefix_length: int,
    alpha: float | None,
    sl_weight: float,
    key_dropout: float,
    score_dropout: float,
) -> Penalty | None:
    """SPT: gated prefixes and head train, with sl_weight (the paper's λ) times the selective loss."""
    if not is_number(sl_weight) or not 0 <= sl_weight < math.inf:
        raise SptError(f"sl_weight must be a finite number of at least 0, not {sl_weight!r}")
    if name == "spt" and sl_weight > 0:
        raise SptError(f"method=spt has no selective loss, and sl_weight is {sl_weight}: that is method=spt_sl")
    if name in ("spt", "spt_sl") and alpha is None:
        raise SptError(
            "SPT has a gate, and alpha is null: without one it is method=prefix_tuning, or an ablation, which takes a "
            "name of its own (method.name=ungated)"
        )
    attach(
        model,
        PrefixConfig(prefix_length=prefix_length, alpha=alpha, key_dropout=key_dropout, score_dropout=score_dropout),
    )
    return (lambda model: sl_weight * selective_loss(model)) if sl_weight > 0 else None
