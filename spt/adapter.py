"""What a run trained, in a folder of its own: `adapter.safetensors` and `adapter.json`.

For prefix methods that is prefixes and head, a few MB; for fine-tuning it is the whole model. A prefix projection is
stored as the plain prefixes it computes.
"""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from spt.encoder import attached, detach, encoder_of, install, prefix_names, supported_layers
from spt.errors import SptError
from spt.model import is_head
from spt.prefix import Prefix, PrefixConfig, is_prefix

Model = TypeVar("Model", bound=nn.Module)
FORMAT = 1
WEIGHTS, DESCRIPTION = "adapter.safetensors", "adapter.json"
# What of a backbone's configuration an adapter must find again.
BACKBONE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "hidden_act")


def save_adapter(model: nn.Module, folder: str | Path) -> Path:
    """Write what `model` (a TaskModel or a bare encoder) trained, and what is needed to put it back.

    That is its prefixes, its head, and whatever of the backbone is trainable.

    Returns:
        The folder, created where missing. Each file replaces its predecessor at once, never half-written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder, config = encoder_of(model), attached(model)
    description = {
        "format": FORMAT,
        "base_model": encoder.name_or_path or None,
        "backbone": _backbone(encoder),
        "prefix": None if config is None else asdict(replace(config, projection=None)),
        "head": _head(model),
    }
    weights, text = folder / f".{WEIGHTS}", folder / f".{DESCRIPTION}"
    save_file(_trained(model), weights, metadata={"format": "pt"})
    text.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    weights.replace(folder / WEIGHTS)
    text.replace(folder / DESCRIPTION)
    return folder


def load_adapter(model: Model, folder: str | Path) -> Model:
    """Make `model` what was saved in `folder`: its prefixes take the place of any that `model` carries.

    `model` has the base model and the head that the adapter was trained with. A backbone that took over weights of one
    adapter (fine-tuning's) takes no other that leaves them in place.

    Returns:
        `model` itself.

    Raises:
        SptError: where the folder is no whole adapter, or does not fit `model`; `model` is then as it was.
    """
    folder = Path(folder)
    description, weights = _read(folder)
    encoder = encoder_of(model)
    for ours, theirs in ((_backbone(encoder), description["backbone"]), (_head(model), description["head"])):
        for what in sorted(ours.keys() | theirs.keys()):
            if ours.get(what) != theirs.get(what):
                raise SptError(
                    f"{folder} does not fit this model: its {what} is {theirs.get(what)!r}, the model's "
                    f"{ours.get(what)!r} (it was trained on {description['base_model']!r})"
                )
    prefix = _prefix_config(description, folder)
    _check(model, prefix, weights, folder)
    changed: set[str] = getattr(encoder, "changed_by_adapter", set())
    if changed - weights.keys():
        raise SptError(
            f"the backbone holds weights of another adapter, which {folder} does not replace: load the base model anew"
        )
    detach(model)
    encoder.requires_grad_(False)
    if prefix is not None:
        install(encoder, prefix)
    parameters = dict(model.named_parameters())
    for name, tensor in weights.items():
        parameters[name].data.copy_(tensor)
        parameters[name].requires_grad_(True)
    encoder.__dict__["changed_by_adapter"] = {name for name in weights if not is_prefix(name) and not is_head(name)}
    return model


def _backbone(encoder: PreTrainedModel) -> dict[str, Any]:
    return {"architecture": type(encoder).__name__} | {name: getattr(encoder.config, name, None) for name in BACKBONE}


def _head(model: nn.Module) -> dict[str, Any]:
    if not hasattr(model, "classifier"):
        return {}
    return {"task_type": model.task_type, "num_labels": model.num_labels, "pooling": model.pooling}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Prefixes, head and trainable backbone by name, with a projection's prefixes in the projection's place."""
    tensors = {
        name: p.detach()
        for name, p in model.named_parameters()
        if not is_prefix(name) and (p.requires_grad or is_head(name))
    }
    for name, module in model.named_modules():
        if isinstance(module, Prefix):
            key, value = module.vectors()
            tensors[f"{name}.key_prefix"], tensors[f"{name}.value_prefix"] = key.detach(), value.detach()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    for file in (DESCRIPTION, WEIGHTS):
        if not (folder / file).is_file():
            raise SptError(f"{folder} is not an adapter: it has no {file}")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SptError(f"{folder / DESCRIPTION} is damaged: {error}") from error
    fields = {"format", "base_model", "backbone", "prefix", "head"}
    tables = ("backbone", "head")
    whole = isinstance(description, dict) and fields <= description.keys()
    if not whole or not all(isinstance(description[name], dict) for name in tables):
        raise SptError(f"{folder / DESCRIPTION} is damaged: it lacks some of {', '.join(sorted(fields))}")
    if description["format"] != FORMAT:
        raise SptError(f"{folder} has adapter format {description['format']!r}, this version of spt reads {FORMAT}")
    try:
        return description, load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise SptError(f"{folder / WEIGHTS} is damaged: {error}") from error


def _prefix_config(description: dict[str, Any], folder: Path) -> PrefixConfig | None:
    try:
        return None if description["prefix"] is None else PrefixConfig(**description["prefix"])
    except (TypeError, SptError) as error:
        raise SptError(f"{folder / DESCRIPTION} is damaged: prefix: {error}") from error


def _check(model: nn.Module, prefix: PrefixConfig | None, weights: dict[str, Tensor], folder: Path) -> None:
    """Whether `weights` are what a model like this one, with such a prefix, can have trained."""
    ours = {n: list(p.shape) for n, p in model.named_parameters() if not is_prefix(n)}
    required = {name for name in ours if is_head(name)}
    if prefix is not None:
        layers = supported_layers(encoder_of(model), prefix)
        for layer, (_, *shapes) in zip(prefix_names(model, layers), layers, strict=True):
            for kind, shape in zip(("key_prefix", "value_prefix"), shapes, strict=True):
                name = f"{layer}.{kind}"
                ours[name] = [prefix.prefix_length, math.prod(shape)]
                required.add(name)
    if missing := sorted(required - weights.keys()):
        raise SptError(f"{folder / WEIGHTS} is not whole: it lacks {', '.join(missing)}")
    for name, tensor in weights.items():
        if name not in ours:
            raise SptError(f"{folder / WEIGHTS} does not fit this model, which has no {name!r}")
        if ours[name] != list(tensor.shape):
            raise SptError(
                f"{folder / WEIGHTS} does not fit this model: {name} has shape {list(tensor.shape)}, not {ours[name]}"
            )
