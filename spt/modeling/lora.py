"""LoRA by PEFT, on an encoder in place: beside each chosen matrix W, a trainable product B·A of rank r.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. PEFT is imported inside functions
because its import takes seconds, which runs of other methods need not wait for.
"""

import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from spt.errors import SptError, check_count, is_number


@dataclass(frozen=True)
class LoraConfig:
    """The LoRA that `install_lora` puts on an encoder; the names are PEFT's.

    Attributes:
        r: the rank, at least 1.
        lora_alpha: the product is scaled by lora_alpha / r.
        lora_dropout: rate on the input of A.
        target_modules: names, or last parts of names, of the linear modules to put it on.

    Raises:
        SptError: if a value is outside its range.
    """

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str]

    def __post_init__(self) -> None:
        check_count("r", self.r)
        if not is_number(self.lora_alpha) or not 0 < self.lora_alpha < math.inf:
            raise SptError(f"lora_alpha must be a finite number above 0, not {self.lora_alpha!r}")
        if not is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            raise SptError(f"lora_dropout is a rate: at least 0 and below 1, not {self.lora_dropout!r}")
        names = self.target_modules
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise SptError(f"target_modules must be a list of names, not {names!r}")


@dataclass
class LoraAttachment:
    """The LoRA on an encoder: PEFT's layers by name, each of which holds the module it replaces."""

    config: LoraConfig
    layers: dict[str, nn.Module]


def is_lora(parameter_name: str) -> bool:
    """Whether LoRA added this parameter."""
    return ".lora_" in parameter_name


def name_without_lora(parameter_name: str) -> str:
    """The name that a parameter of the encoder has without LoRA."""
    return parameter_name.replace(".base_layer.", ".")


def attached_lora(encoder: nn.Module) -> LoraConfig | None:
    """The configuration of the LoRA on an encoder, with full module names; None if it has none."""
    attachment: LoraAttachment | None = encoder.__dict__.get("lora_attachment")
    return None if attachment is None else attachment.config


def refuse_peft(encoder: nn.Module) -> None:
    """Raise SptError if PEFT itself put an adapter on the encoder, which would be trained and not saved."""
    if attached_lora(encoder) is None and any(type(part).__module__.startswith("peft.") for part in encoder.modules()):
        raise SptError(f"{type(encoder).__name__} has an adapter of PEFT, which is not saved: call PeftModel.unload()")


def install_lora(encoder: PreTrainedModel, config: LoraConfig) -> None:
    """Put LoRA on all modules of `encoder` that the configuration names.

    Raises:
        SptError: if it names no module, or one that is not linear.
    """
    import peft

    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**asdict(config)), encoder)
    except ValueError as error:
        for name, layer in _layers(encoder).items():
            encoder.set_submodule(name, layer.get_base_layer())  # type: ignore[operator]
        linear = {name.rpartition(".")[2] for name, m in encoder.named_modules() if isinstance(m, nn.Linear)}
        raise SptError(
            f"no LoRA on {type(encoder).__name__} with target_modules {config.target_modules} ({error}): "
            f"its linear modules are called {', '.join(sorted(linear))}"
        ) from error
    finally:
        encoder.__dict__.pop("peft_config", None)
    layers = _layers(encoder)
    for layer in layers.values():
        layer.train(encoder.training)
    for name, parameter in encoder.named_parameters():
        if is_lora(name):  # trained in float32 on a backbone in bfloat16, as prefixes and heads are
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    config = replace(config, target_modules=list(layers))
    encoder.__dict__["lora_attachment"] = LoraAttachment(config, layers)


def remove_lora(encoder: PreTrainedModel) -> LoraAttachment | None:
    """Take the LoRA off the encoder; returns it for `restore_lora`, or None if there was none."""
    attachment: LoraAttachment | None = encoder.__dict__.pop("lora_attachment", None)
    if attachment is not None:
        for name, layer in attachment.layers.items():
            encoder.set_submodule(name, layer.get_base_layer())  # type: ignore[operator]
    return attachment


def restore_lora(encoder: PreTrainedModel, attachment: LoraAttachment) -> None:
    """Put LoRA that was made for this encoder on it."""
    for name, layer in attachment.layers.items():
        encoder.set_submodule(name, layer)
    encoder.__dict__["lora_attachment"] = attachment


def _layers(encoder: nn.Module) -> dict[str, nn.Module]:
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in encoder.named_modules() if isinstance(m, LoraLayer)}  # type: ignore[misc]
