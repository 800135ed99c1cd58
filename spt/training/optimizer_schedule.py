"""The optimizer and the schedule of the learning rate, under the names that transformers' Trainer gives them."""

import math
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler
from transformers.optimization import Adafactor
from transformers.trainer_pt_utils import get_parameter_names

from spt.errors import SptError
from spt.training.trainer_schema import EXPONENTIAL, GAMMA, TrainerSettings

# Weight decay is for matrices: biases and the scales of normalisation layers have none, as in Trainer.
NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_optimizer(model: nn.Module, settings: TrainerSettings) -> Optimizer:
    """The optimizer of `model`'s trainable parameters: those with weight decay, then those without.

    Raises:
        SptError: where `optim_args` do not fit the optimizer.
    """
    decayed = set(get_parameter_names(model, [nn.LayerNorm], NOT_DECAYED))
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trainable.items() if name in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in trainable.items() if name not in decayed], "weight_decay": 0.0},
    ]
    adam = {"betas": (settings.adam_beta1, settings.adam_beta2), "eps": settings.adam_epsilon}
    kinds: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
        "adamw_torch": (AdamW, adam),
        "adamw_torch_fused": (AdamW, adam | {"fused": True}),
        "adafactor": (Adafactor, {"scale_parameter": False, "relative_step": False}),
        "adagrad": (Adagrad, {}),
        "rmsprop": (RMSprop, {}),
        "sgd": (SGD, {}),
    }
    kind, options = kinds[settings.optim]
    pairs = settings.optim_args.replace(" ", "").split(",") if settings.optim_args else []
    given: Any = OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    try:
        return kind(groups, lr=settings.learning_rate, **options | given)
    except (TypeError, ValueError) as error:
        raise SptError(
            f"trainer.optim_args={settings.optim_args} do not fit optim={settings.optim}: {error}"
        ) from error


def make_schedule(optimizer: Optimizer, settings: TrainerSettings, steps_per_epoch: int, max_steps: int) -> LRScheduler:
    """The schedule of the learning rate, to be stepped after every optimizer step (a plateau's after every epoch).

    Raises:
        SptError: where `lr_scheduler_kwargs` do not fit it.
    """
    name, options = settings.lr_scheduler_type, settings.lr_scheduler_kwargs or {}
    if name == EXPONENTIAL:
        gamma = options.get("gamma", GAMMA)
        return LambdaLR(optimizer, lambda step: gamma ** (step // steps_per_epoch))
    warmup = settings.warmup_steps
    try:
        return get_scheduler(
            name,
            optimizer,
            num_warmup_steps=int(warmup) if warmup >= 1 else math.ceil(max_steps * warmup),
            num_training_steps=max_steps,
            scheduler_specific_kwargs=dict(options),
        )
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise SptError(f"trainer.lr_scheduler_kwargs do not fit lr_scheduler_type={name}: {error}") from error
