"""Which parameters train: freezing, and counting them by group."""

import logging

from torch import nn

from spt.modeling.lora import is_lora
from spt.modeling.prefix import encoder_of, is_prefix
from spt.modeling.task_model import TaskModel, is_head

log = logging.getLogger(__name__)


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


def parameter_groups(model: TaskModel) -> dict[str, int]:
    """How many numbers train: in the prefixes (or what computes them), in LoRA, in the head, in the backbone."""
    groups = {"prefix": 0, "lora": 0, "head": 0, "backbone": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group(name)] += parameter.numel()
    return groups


def backbone_size(model: TaskModel) -> int:
    """How many numbers the backbone has, trained or not."""
    return sum(p.numel() for name, p in model.named_parameters() if _group(name) == "backbone")


def _group(name: str) -> str:
    if is_head(name):
        return "head"
    if is_lora(name):
        return "lora"
    return "prefix" if is_prefix(name) else "backbone"
