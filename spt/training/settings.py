"""The trainer settings of a run, checked against its machine, and the precision that they ask for."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from spt.adapters.format import Adapter
from spt.errors import SptError, nearest
from spt.modeling.matmul_precision import matmul_precision
from spt.training.trainer_schema import TrainerSettings, checked_settings

# What evaluation depends on, and the one setting without a default.
OF_EVALUATION = (
    *("learning_rate", "per_device_eval_batch_size", "bf16", "fp16", "tf32", "use_cpu"),
    "dataloader_num_workers",
)

log = logging.getLogger(__name__)


@contextmanager
def precision(settings: TrainerSettings, device: torch.device) -> Iterator[None]:
    """Compute on a device in the settings' mixed precision, and float32 products in TF32 where they ask for it."""
    dtype = torch.bfloat16 if settings.bf16 else torch.float16 if settings.fp16 else None
    products = matmul_precision(settings.float32_products)
    with products, torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


def trainer_settings(values: Mapping[str, Any]) -> TrainerSettings:
    """The settings in `values`, checked.

    Raises:
        SptError: where a name is not a setting, a value is outside its range, or two of them contradict each other.
    """
    settings = checked_settings(values)
    if (backend := settings.torch_compile_backend) is not None:
        known = torch.compiler.list_backends(exclude_tags=None)
        if backend not in known:
            raise SptError(f"unknown trainer.torch_compile_backend {backend!r}: {nearest(backend, known)}")
    asked = "bf16" if settings.bf16 else "fp16" if settings.fp16 else "no"
    elsewhere = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if elsewhere not in ("no", asked):
        raise SptError(
            f"ACCELERATE_MIXED_PRECISION={elsewhere} of the environment, or of accelerate's own config, is not what "
            f"trainer.bf16 and trainer.fp16 ask for, {asked!r}: set it to no, and use these settings instead"
        )
    return settings


def recorded_settings(adapter: Adapter, batch_size: int | None = None) -> TrainerSettings:
    """What the run of an adapter evaluated with: its precision and, unless `batch_size` is given, its dev batches.

    Raises:
        SptError: the adapter does not say how it was trained, or the batch size is not valid.
    """
    trained = adapter.training.trainer
    values = {name: trained[name] for name in OF_EVALUATION if name in trained}
    if values.get("fp16") and not torch.accelerator.is_available():
        log.warning("the run computed in float16, which needs an accelerator: float32 is used")
        values["fp16"] = False
    return trainer_settings(values | ({} if batch_size is None else {"per_device_eval_batch_size": batch_size}))
