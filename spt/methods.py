"""The methods, one function each.

Each takes a TaskModel and the settings of its YAML in `conf/method` (`name` is the method's name in records and
tables), freezes what it does not train, and returns what it adds to the task loss: a function of the model, or None.
To add a method, write a function like these and a YAML whose `_target_` names it.
"""

import math
from collections.abc import Callable

from torch import Tensor

from spt.errors import SptError, is_number
from spt.modeling.attach_prefix import attach
from spt.modeling.freeze_parameters import freeze, frozen_random_pooler, warn_of_half_precision, warn_of_missing
from spt.modeling.lora import LoraConfig, install_lora
from spt.modeling.prefix_parameters import PrefixConfig
from spt.modeling.selective_loss import selective_loss
from spt.modeling.task_model import TaskModel

Penalty = Callable[[TaskModel], Tensor]


def fine_tuning(model: TaskModel, name: str) -> Penalty | None:
    """Train the head and all of the encoder that it uses."""
    for parameter_name, parameter in model.encoder.named_parameters():
        parameter.requires_grad_(parameter_name not in model.unused_parameters)
    warn_of_missing(model)
    warn_of_half_precision(model)
    return None


def linear_probe(model: TaskModel, name: str) -> Penalty | None:
    """Train the head alone, on the frozen encoder: the lower bound for any other method."""
    freeze(model)
    return None


def bitfit(model: TaskModel, name: str) -> Penalty | None:
    """Train the encoder's biases and the head (Ben Zaken et al., "BitFit", ACL 2022)."""
    freeze(model)
    kept = frozen_random_pooler(model)
    biases = [
        parameter
        for parameter_name, parameter in model.encoder.named_parameters()
        if parameter_name.endswith("bias") and parameter_name not in {*model.unused_parameters, *kept}
    ]
    if not biases:
        raise SptError(f"{type(model.encoder).__name__} has no biases for bitfit to train: choose another method")
    for bias in biases:
        bias.requires_grad_(True)
    warn_of_half_precision(model)
    return None


def lora(
    model: TaskModel, name: str, r: int, lora_alpha: float, lora_dropout: float, target_modules: list[str]
) -> Penalty | None:
    """Train low-rank products beside the named matrices, and the head (Hu et al., "LoRA", ICLR 2022), through PEFT."""
    install_lora(model.encoder, LoraConfig(r, lora_alpha, lora_dropout, target_modules))
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
    """Train prefixes without a gate, and the head (Liu et al., "P-Tuning v2", ACL 2022)."""
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
    alpha: float | list[float | list[float]] | None,
    sl_weight: float,
    key_dropout: float,
    score_dropout: float,
) -> Penalty | None:
    """Train gated prefixes and the head; the penalty is sl_weight (the paper's λ) times the selective loss.

    Source: Zhang et al., "Selective Prefix Tuning for Pre-trained Language Models", Findings of ACL 2024.
    """
    if not is_number(sl_weight) or not 0 <= sl_weight < math.inf:
        raise SptError(f"sl_weight must be a finite number of at least 0, not {sl_weight!r}")
    if name == "spt" and sl_weight > 0:
        raise SptError(f"method=spt has no selective loss, and sl_weight is {sl_weight}: use method=spt_sl")
    if name in ("spt", "spt_sl") and alpha is None:
        raise SptError(
            f"method={name} has a gate, and alpha is null: without a gate use method=prefix_tuning, or for an ablation "
            "a name of its own (method.name=ungated)"
        )
    attach(model, PrefixConfig(prefix_length, alpha, key_dropout, score_dropout=score_dropout))
    return (lambda model: sl_weight * selective_loss(model)) if sl_weight > 0 else None
