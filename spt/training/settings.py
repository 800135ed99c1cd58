"""The trainer settings of a run, checked against its machine."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from spt.errors import SptError
from spt.training.trainer_schema import TrainerSettings, checked_settings


def autocast(settings: TrainerSettings, device: torch.device) -> torch.autocast:
    """Mixed precision on a device, as the settings have it."""
    dtype = precision(settings)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def precision(settings: TrainerSettings) -> torch.dtype | None:
    """The data type of mixed precision; None where the model computes in the type of its weights."""
    return torch.bfloat16 if settings.bf16 else torch.float16 if settings.fp16 else None


def trainer_settings(values: Mapping[str, Any]) -> TrainerSettings:
    """The settings in `values`, checked.

    Raises:
        SptError: where a name is not a setting, a value is outside its range, or two of them contradict each other.
    """
    settings = checked_settings(values)
    if settings.fp16 and not torch.accelerator.is_available():
        raise SptError("trainer.fp16 needs an accelerator, and this machine has none: trainer.bf16=true works without")
    precision = "bf16" if settings.bf16 else "fp16" if settings.fp16 else "no"
    elsewhere = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if elsewhere not in ("no", precision):
        raise SptError(
            f"ACCELERATE_MIXED_PRECISION={elsewhere} of the environment, or of accelerate's own config, is not what "
            f"trainer.bf16 and trainer.fp16 ask for, {precision!r}: set it to no, and trainer.bf16 or trainer.fp16"
        )
    return settings
