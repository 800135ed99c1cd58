"""What a run trained, in a folder of its own: `adapter.safetensors` and `adapter.json`.

For prefix methods that is prefixes and head, a few MB; for fine-tuning it is the whole model. A prefix projection is
stored as the plain prefixes it computes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from spt.errors import SptError, is_number
from spt.files import parsed
from spt.modeling.attach_prefix import detach, install_prefixes, prefix_names, supported_layers
from spt.modeling.lora import LoraConfig, attached_lora, install_lora, name_without_lora, remove_lora, restore_lora
from spt.modeling.prefix import Prefix, PrefixConfig, attached, encoder_of, is_prefix
from spt.modeling.task_model import is_head
from spt.modeling.trainable_parameters import is_added

Model = TypeVar("Model", bound=nn.Module)

FORMAT = 2

WEIGHTS, DESCRIPTION = "adapter.safetensors", "adapter.json"

# What of a backbone's configuration an adapter must find again.
BACKBONE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "hidden_act")

FIELDS = {
    "base_model": dict,
    "backbone": dict,
    "sample": dict,
    "head": dict,
    "sha256": str,
    "about": dict,
}

NUMBERS = 4  # of each of the backbone's matrices, by which its weights are known again


@dataclass(frozen=True)
class Adapter:
    """An adapter as it lies in its folder, read whole and checked in itself.

    Attributes:
        folder: where it lies.
        description: the contents of adapter.json.
        prefix, lora: what it puts on an encoder.
        weights: by the names they have in a TaskModel.
    """

    folder: Path
    description: dict[str, Any]
    prefix: PrefixConfig | None
    lora: LoraConfig | None
    weights: dict[str, Tensor]

    @property
    def about(self) -> dict[str, Any]:
        """What the run that trained it said: task, model, method, training. Empty where none did."""
        return self.description["about"]

    @property
    def backbone_weights(self) -> set[str]:
        """The names of those weights that replace the backbone's own."""
        return {name for name in self.weights if not is_added(name) and not is_head(name)}

    @property
    def replaces_backbone(self) -> bool:
        """Whether it replaces most of the backbone: fine-tuning's."""
        return any(self.weights[name].dim() > 1 and ".pooler." not in name for name in self.backbone_weights)


def save_adapter(model: nn.Module, folder: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write what `model` (a TaskModel or a bare encoder) trained, and what is needed to put it back.

    That is its prefixes or LoRA, its head, and whatever of the backbone is trainable. `about` goes into the description
    as it is: anything that JSON holds.

    Returns:
        The folder, created where missing. Each file replaces its predecessor at once, never half-written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder, prefix, weights = encoder_of(model), attached(model), _trained(model)
    lora = attached_lora(encoder)
    partial, text = folder / f".{WEIGHTS}", folder / f".{DESCRIPTION}"
    save_file(weights, partial, metadata={"format": "pt"})
    description = {
        "format": FORMAT,
        "base_model": {
            "name_or_path": encoder.name_or_path or None,
            "dtype": str(encoder.dtype).removeprefix("torch."),
        },
        "backbone": _backbone(encoder),
        "sample": _sample(model, weights),
        "prefix": None if prefix is None else asdict(replace(prefix, projection=None)),
        "lora": None if lora is None else asdict(lora),
        "head": _head(model),
        "sha256": _sha256(partial),
        "about": dict(about or {}),
    }
    text.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / WEIGHTS)
    text.replace(folder / DESCRIPTION)
    return folder


def load_adapter(model: Model, folder: str | Path) -> Model:
    """Make `model` what was saved in `folder`: its prefixes and LoRA take the place of any that `model` carries.

    `model` has the base model and the head that the adapter was trained with. A backbone that took over weights of one
    adapter (fine-tuning's) takes no other that leaves them in place.

    Returns:
        `model` itself.

    Raises:
        SptError: where the folder is no whole adapter, or does not fit `model`; `model` is then as it was.
    """
    adapter = read_adapter(folder)
    encoder = encoder_of(model)
    base_model = adapter.description["base_model"].get("name_or_path")
    for ours, theirs in (
        (_backbone(encoder), adapter.description["backbone"]),
        (_head(model), adapter.description["head"]),
    ):
        for what in sorted(ours.keys() | theirs.keys()):
            if ours.get(what) != theirs.get(what):
                raise SptError(
                    f"{folder} does not fit this model: its {what} is {theirs.get(what)!r}, the model's "
                    f"{ours.get(what)!r} (it was trained on {base_model!r})"
                )
    changed: set[str] = getattr(encoder, "changed_by_adapter", set())
    if changed - adapter.weights.keys():
        raise SptError(
            f"the backbone holds weights of another adapter, which {folder} does not replace: load the base model anew"
        )
    former_lora = remove_lora(encoder)
    try:
        _check_base_weights(model, adapter)
        if adapter.lora is not None:
            try:
                install_lora(encoder, adapter.lora)
            except SptError as error:
                raise SptError(f"{folder} does not fit this model: {error}") from error
        _check(model, adapter)
    except SptError:
        remove_lora(encoder)
        if former_lora is not None:
            restore_lora(encoder, former_lora)
        raise
    detach(model)
    encoder.requires_grad_(False)
    if adapter.prefix is not None:
        install_prefixes(encoder, adapter.prefix)
    parameters = dict(model.named_parameters())
    for name, tensor in adapter.weights.items():
        parameters[name].data.copy_(tensor)
        parameters[name].requires_grad_(True)
    encoder.__dict__["changed_by_adapter"] = adapter.backbone_weights
    return model


def read_adapter(folder: str | Path) -> Adapter:
    """The adapter in `folder`.

    Raises:
        SptError: where there is none, or one that is damaged, or of another format.
    """
    folder = Path(folder)
    for file in (DESCRIPTION, WEIGHTS):
        if not (folder / file).is_file():
            raise SptError(f"{folder} is not an adapter: it has no {file}")
    try:
        description = parsed((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(folder / DESCRIPTION, error) from error
    if not isinstance(description, dict) or "format" not in description:
        raise damaged(folder / DESCRIPTION, "it describes no adapter")
    if description["format"] != FORMAT:
        raise SptError(
            f"{folder} has adapter format {description['format']!r}, this version of spt reads {FORMAT}: "
            "train it again, or use the version that wrote it"
        )
    for name, kind in FIELDS.items():
        if not isinstance(description.get(name), kind):
            raise damaged(folder / DESCRIPTION, f"{name} is {description.get(name)!r}")
    try:
        prefix = None if description.get("prefix") is None else PrefixConfig(**description["prefix"])
        lora = None if description.get("lora") is None else LoraConfig(**description["lora"])
    except (TypeError, SptError) as error:
        raise damaged(folder / DESCRIPTION, error) from error
    if prefix is not None and prefix.projection is not None:
        raise damaged(folder / DESCRIPTION, "it has a projection, which adapters are saved without")
    try:
        if _sha256(folder / WEIGHTS) != description["sha256"]:
            raise damaged(folder / WEIGHTS, f"it is not the file that {DESCRIPTION} was written with")
        return Adapter(folder, description, prefix, lora, load_file(folder / WEIGHTS))
    except (SafetensorError, OSError) as error:
        raise damaged(folder / WEIGHTS, error) from error


def damaged(path: Path, why: object) -> SptError:
    """What to say of an adapter's file that is not as it was written."""
    return SptError(f"{path} is damaged: {why}. Copy the adapter anew, or train it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _backbone(encoder: PreTrainedModel) -> dict[str, Any]:
    return {"architecture": type(encoder).__name__} | {name: getattr(encoder.config, name, None) for name in BACKBONE}


def _head(model: nn.Module) -> dict[str, Any]:
    if not hasattr(model, "classifier"):
        return {}
    return {"task_type": model.task_type, "num_labels": model.num_labels, "pooling": model.pooling}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Prefixes, head and what else is trainable by name, with a projection's prefixes in the projection's place."""
    tensors = {
        name: p.detach()
        for name, p in model.named_parameters()
        if not is_prefix(name) and (p.requires_grad or is_head(name) or is_added(name))
    }
    for name, module in model.named_modules():
        if isinstance(module, Prefix):
            key, value = module.vectors()
            tensors[f"{name}.key_prefix"], tensors[f"{name}.value_prefix"] = key.detach(), value.detach()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _frozen(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's parameters that `weights` leave as they are, by the names they have without LoRA."""
    return {
        name_without_lora(name): p.detach()
        for name, p in model.named_parameters()
        if not is_head(name) and not is_added(name) and name not in weights
    }


def _sample(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """A few numbers of each frozen matrix of the backbone, to tell its checkpoint from another of its architecture."""
    return {name: _middle(p).tolist() for name, p in sorted(_frozen(model, weights).items()) if p.dim() > 1}


def _middle(matrix: Tensor) -> Tensor:
    start = matrix.numel() // 2
    return matrix.flatten()[start : start + NUMBERS].float().cpu()


def _is_close(ours: list[float], theirs: Any, rounding: float) -> bool:
    return (
        isinstance(theirs, list)
        and len(ours) == len(theirs)
        and all(
            is_number(b) and math.isclose(a, b, rel_tol=rounding, abs_tol=1e-6)
            for a, b in zip(ours, theirs, strict=True)
        )
    )


def _check_base_weights(model: nn.Module, adapter: Adapter) -> None:
    """Whether the backbone's weights are those that the adapter was trained on, as far as rounding lets one see."""
    base_model, ours = adapter.description["base_model"], _frozen(model, adapter.weights)
    dtypes = {str(encoder_of(model).dtype).removeprefix("torch."), base_model.get("dtype")}
    rounding = 0.02 if dtypes & {"float16", "bfloat16"} else 1e-6
    for name, numbers in adapter.description["sample"].items():
        if name not in ours:
            continue
        found = _middle(ours[name]).tolist()
        if not _is_close(found, numbers, rounding):
            raise SptError(
                f"{adapter.folder} was trained on other weights than this model's ({name} differs). "
                f"It goes on {base_model.get('name_or_path')!r} as that was then"
            )


def _check(model: nn.Module, adapter: Adapter) -> None:
    """Whether the weights are what a model like this one, with such prefixes, can have trained."""
    file = adapter.folder / WEIGHTS
    ours = {n: list(p.shape) for n, p in model.named_parameters() if not is_prefix(n)}
    required = {name for name in ours if is_head(name) or is_added(name)}
    if adapter.prefix is not None:
        layers = supported_layers(encoder_of(model), adapter.prefix)
        for layer, (_, *shapes) in zip(prefix_names(model, layers), layers, strict=True):
            for kind, shape in zip(("key_prefix", "value_prefix"), shapes, strict=True):
                name = f"{layer}.{kind}"
                ours[name] = [adapter.prefix.prefix_length, math.prod(shape)]
                required.add(name)
    if missing := sorted(required - adapter.weights.keys()):
        raise SptError(f"{file} is not whole: it lacks {', '.join(missing)}")
    for name, tensor in adapter.weights.items():
        if name not in ours:
            raise SptError(f"{file} does not fit this model, which has no {name!r}")
        if ours[name] != list(tensor.shape):
            raise SptError(f"{file} does not fit this model: {name} has shape {list(tensor.shape)}, not {ours[name]}")
