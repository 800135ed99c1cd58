"""Which parameters train: freezing, and counting them by group."""

import logging

from torch import nn

from spt.modeling.lora import is_lora
from spt.modeling.prefix_parameters import encoder_of, is_prefix
from spt.modeling.task_model import TaskModel, is_head

log = logging.getLogger(__name__)


def freeze(model: nn.Module) -> None:
    """Freeze the encoder of `model`, but not prefixes or LoRA on it, and not weights missing from its checkpoint.

    Missing weights (a pooler) are random: they are trained unless `missing_pooler` is "frozen"; a warning names them.
    """
    missing, kept = missing_from_checkpoint(model), frozen_random_pooler(model)
    for name, parameter in encoder_of(model).named_parameters():
        if not is_added(name):
            parameter.requires_grad_(name in missing and name not in kept)
    warn_of_missing(model)
    if {*missing} - {*kept}:
        warn_of_half_precision(model)


def warn_of_missing(model: nn.Module) -> None:
    """Log which weights its checkpoint lacked, and whether they train."""
    encoder, missing = encoder_of(model), missing_from_checkpoint(model)
    if missing:
        trains = any(encoder.get_parameter(name).requires_grad for name in missing)
        log.warning(
            "%s not in the checkpoint %r: initialised at random, %s",
            *(", ".join(missing), encoder.name_or_path, "hence trained" if trains else "and frozen there"),
        )


def warn_of_half_precision(model: nn.Module) -> None:
    """Log that the backbone's own weights are to be trained in half precision, which loses small updates."""
    if (dtype := encoder_of(model).dtype).itemsize < 4:
        log.warning(
            "the backbone's weights are trained in %s, where small updates are lost: model.dtype=float32 with "
            "trainer.bf16=true keeps them",
            str(dtype).removeprefix("torch."),
        )


def frozen_random_pooler(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name in the encoder, the pooler's parameters that its checkpoint lacked and `missing_pooler` freezes."""
    if getattr(model, "missing_pooler", None) != "frozen":
        return {}
    return {n: encoder_of(model).get_parameter(n) for n in missing_from_checkpoint(model) if n.startswith("pooler.")}


def missing_pooler(model: TaskModel) -> str | None:
    """Of a pooler that the head reads and the checkpoint lacks: whether it is "trained" or "frozen"; else None."""
    missing = [name for name in missing_from_checkpoint(model) if name.startswith("pooler.")]
    if not missing:
        return None
    return "trained" if any(model.encoder.get_parameter(name).requires_grad for name in missing) else "frozen"


def missing_from_checkpoint(model: nn.Module) -> list[str]:
    """The names of the encoder's parameters that `model` uses and its checkpoint lacked: they are random.

    Empty if the whole encoder was made from a configuration, without a checkpoint.
    """
    encoder = encoder_of(model)
    backbone = {name: p for name, p in encoder.named_parameters() if not is_added(name)}
    # transformers marks the parameters that it loads; quantization makes others of a class of its own out of them
    missing = [
        name
        for name, p in backbone.items()
        if type(p) is nn.Parameter and p.is_floating_point() and not getattr(p, "_is_hf_initialized", False)
    ]
    if len(missing) == len(backbone):
        # No checkpoint, or a copy, which loses the marks. A pooler whose biases are all 0 has not been trained.
        pooler = [name for name in backbone if name.startswith("pooler.")]
        biases = [backbone[name] for name in pooler if name.endswith("bias")]
        untrained = encoder.name_or_path and biases and not any(bias.any() for bias in biases)
        missing = pooler if untrained else []
    return [name for name in missing if name not in getattr(model, "unused_parameters", ())]


def is_added(parameter_name: str) -> bool:
    """Whether a parameter of the encoder was added by prefixes or LoRA."""
    return is_prefix(parameter_name) or is_lora(parameter_name)


def parameter_groups(model: TaskModel) -> dict[str, int]:
    """The number of trainable parameters in the prefixes (or their projection), LoRA, the head and the backbone."""
    groups = {"prefix": 0, "lora": 0, "head": 0, "backbone": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group(name)] += parameter.numel()
    return groups


def backbone_size(model: TaskModel) -> int:
    """The number of parameters of the backbone, trainable or not."""
    return sum(p.numel() for name, p in model.named_parameters() if _group(name) == "backbone")


def _group(name: str) -> str:
    if is_head(name):
        return "head"
    if is_lora(name):
        return "lora"
    return "prefix" if is_prefix(name) else "backbone"
