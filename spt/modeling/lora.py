"""LoRA by PEFT, on an encoder in place: beside each chosen matrix W, a trainable product B·A of rank r.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import math
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from spt.errors import SptError, is_count, is_number


@dataclass(frozen=True)
class LoraConfig:
    """What `install_lora` puts on an encoder; the names are PEFT's.

    Attributes:
        r: the rank, at least 1.
        lora_alpha: the product counts lora_alpha / r times.
        lora_dropout: rate on what goes into A.
        target_modules: names, or last parts of names, of the modules that get one.

    Raises:
        SptError: where a value is outside its range.
    """

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str]

    def __post_init__(self) -> None:
        if not is_count(self.r):
            raise SptError(f"r must be a whole number of at least 1, not {self.r!r}")
        if not is_number(self.lora_alpha) or not 0 < self.lora_alpha < math.inf:
            raise SptError(f"lora_alpha must be a finite number above 0, not {self.lora_alpha!r}")
        if not is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            raise SptError(f"lora_dropout is a rate: at least 0 and below 1, not {self.lora_dropout!r}")
        names = self.target_modules
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise SptError(f"target_modules must be a list of names, not {names!r}")


@dataclass
class LoraAttachment:
    """What `install_lora` puts on an encoder: PEFT's layers by name, each of which holds the module it stands for."""

    config: LoraConfig
    layers: dict[str, nn.Module]


def is_lora(parameter_name: str) -> bool:
    """Whether a parameter is one that LoRA added."""
    return ".lora_" in parameter_name


def without_lora(parameter_name: str) -> str:
    """The name that a parameter of the encoder has, or had, without LoRA."""
    return parameter_name.replace(".base_layer.", ".")


def lora_of(encoder: nn.Module) -> LoraConfig | None:
    """The configuration of the LoRA on an encoder, with the whole names of its modules; None where it has none."""
    attachment: LoraAttachment | None = encoder.__dict__.get("lora_attachment")
    return None if attachment is None else attachment.config


def install_lora(encoder: PreTrainedModel, config: LoraConfig) -> None:
    """Put LoRA on all modules of `encoder` that the configuration names.

    Raises:
        SptError: where it names none, or one that is no linear map.
    """
    import peft

    settings = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=config.target_modules,
    )
    try:
        peft.inject_adapter_in_model(settings, encoder)
    except ValueError as error:
        for name, layer in _layers(encoder).items():
            _replace(encoder, name, layer.get_base_layer())  # type: ignore[operator]
        last_parts = sorted(
            {name.rpartition(".")[2] for name, m in encoder.named_modules() if isinstance(m, nn.Linear)}
        )
        raise SptError(
            f"no LoRA on {type(encoder).__name__} with target_modules {config.target_modules} ({error}): "
            f"its linear maps are called {', '.join(last_parts)}"
        ) from error
    finally:
        encoder.__dict__.pop("peft_config", None)
    layers = _layers(encoder)
    for layer in layers.values():
        layer.train(encoder.training)
    whole_names = LoraConfig(config.r, config.lora_alpha, config.lora_dropout, list(layers))
    encoder.__dict__["lora_attachment"] = LoraAttachment(whole_names, layers)


def take_off_lora(encoder: PreTrainedModel) -> LoraAttachment | None:
    """What was on the encoder, for `put_on_lora` to put on again; None where it carried no LoRA."""
    attachment: LoraAttachment | None = encoder.__dict__.pop("lora_attachment", None)
    if attachment is not None:
        for name, layer in attachment.layers.items():
            _replace(encoder, name, layer.get_base_layer())  # type: ignore[operator]
    return attachment


def put_on_lora(encoder: PreTrainedModel, attachment: LoraAttachment) -> None:
    """Have the encoder compute with a LoRA that was made for it."""
    for name, layer in attachment.layers.items():
        _replace(encoder, name, layer)
    encoder.__dict__["lora_attachment"] = attachment


def _layers(encoder: nn.Module) -> dict[str, nn.Module]:
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in encoder.named_modules() if isinstance(m, LoraLayer)}  # type: ignore[misc]


def _replace(encoder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(encoder.get_submodule(parent), last, module)
