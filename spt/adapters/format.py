"""Adapters on disk: `adapter.safetensors` with what a run trained, `adapter.json` with what it takes to use it.

For prefix methods the weights are prefixes and head, a few MB; for fine-tuning the whole model. A prefix projection is
stored as the plain prefixes that it computes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from spt.errors import SptError
from spt.files import flush, parsed, temporary_folder
from spt.modeling.attach_prefix import detach, install_prefixes, prefix_names, supported_layers
from spt.modeling.freeze_parameters import frozen_random_pooler, is_added, missing_from_checkpoint
from spt.modeling.lora import (
    LoraConfig,
    attached_lora,
    install_lora,
    name_without_lora,
    refuse_peft,
    remove_lora,
    restore_lora,
)
from spt.modeling.prefix_parameters import Prefix, PrefixConfig, attached, encoder_of, is_prefix
from spt.modeling.task_model import TaskModel, is_head
from spt.records.schema import ADAPTER, Count, Strict, problems

Model = TypeVar("Model", bound=nn.Module)

FORMAT = 2
WEIGHTS, DESCRIPTION = "adapter.safetensors", "adapter.json"
BACKBONE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "hidden_act")
SAMPLE_SIZE = 4  # values stored of each frozen matrix


def _configured(kind: type) -> BeforeValidator:
    """Build a PrefixConfig or LoraConfig from its settings; TypeError for an unknown one."""
    return BeforeValidator(lambda settings: kind(**settings) if isinstance(settings, dict) else settings)


class BaseModelSource(Strict):
    """The base model that the adapter was trained on."""

    name_or_path: str | None = None  # a hub id or a folder
    dtype: str | None = None  # "float32", ...


class Description(Strict):
    """adapter.json."""

    format: Literal[2]
    base_model: BaseModelSource
    backbone: dict[str, Any]  # the architecture, and the entries of BACKBONE of its configuration
    sample: dict[str, list[float]]  # SAMPLE_SIZE values of each frozen matrix, which identify the checkpoint
    prefix: Annotated[PrefixConfig | None, _configured(PrefixConfig)] = None
    lora: Annotated[LoraConfig | None, _configured(LoraConfig)] = None
    head: dict[str, Any]  # task_type, num_labels and pooling of a TaskModel; empty for a bare encoder
    sha256: str  # of adapter.safetensors
    about: dict[str, Any]  # a RunDescription for a run's adapter, else whatever save_adapter was given


class Training(Strict):
    """How a run trained its adapter."""

    command: str
    seed: Count
    trainer: dict[str, Any]  # the settings of the training loop
    epoch: Count  # the best one, whose weights the adapter has
    scores: dict[str, float]  # on dev, at that epoch
    data: dict[str, str]  # fingerprints of the splits
    examples: dict[str, Count] = Field(default_factory=dict)  # of each split
    from_hub: bool = False  # whether the data came from the hub


class Pruning(Strict):
    """How an adapter came from a larger one, by `python -m spt.prune`."""

    source: str  # the name of the run's folder, or of the repository on the hub
    sha256: str  # of the larger adapter.safetensors
    prefix_length: Count  # of the larger adapter
    keep: Count  # slots of each layer: those that get most attention
    split: str  # on which that was measured
    slots: list[list[Count]]  # for each layer, which of the larger adapter's
    scores: dict[str, float]  # of the larger adapter, on the dev split that `Training.scores` is of


class RunDescription(Strict):
    """What a run says of its adapter: enough to use it and to train it again."""

    task: dict[str, Any]  # see spt.tasks.task.describe_task
    input: Any = None  # an example of what predict takes
    model: dict[str, Any]  # the config group
    tokenizer: str | None = None  # tokenizer_fingerprint of the base model's tokenizer; earlier adapters have none
    method: dict[str, Any] = Field(default_factory=dict)  # the config group
    needs_method: bool = False  # whether the method's function must be called before the weights are loaded
    training: Training | None = None  # early adapters of format 2 have none
    pruned: Pruning | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter as read from its folder; weights have the names that they have in a TaskModel."""

    folder: Path
    description: Description
    weights: dict[str, Tensor]

    @property
    def about(self) -> dict[str, Any]:
        """What the adapter says of the run that trained it, or what `save_adapter` was given."""
        return self.description.about

    @property
    def is_of_run(self) -> bool:
        """Whether a run trained the adapter, and not a program that called `save_adapter`."""
        task = self.about.get("task")
        return isinstance(task, dict) and "_target_" in task

    @property
    def run(self) -> RunDescription:
        """The run that trained the adapter; SptError if no run did, or its description is damaged."""
        if not self.is_of_run:
            raise SptError(
                f"{self.folder} does not say which task and base model it is for, as adapters of runs do: build the "
                "model yourself and use spt.load_adapter"
            )
        try:
            return RunDescription.model_validate(self.about)
        except ValidationError as error:
            raise damaged(self.folder / DESCRIPTION, f"about: {problems(error)}") from error

    @property
    def training(self) -> Training:
        """How the run trained the adapter; SptError if the adapter does not say so."""
        if (training := self.run.training) is None:
            raise damaged(self.folder / DESCRIPTION, "about.training is missing")
        return training

    @property
    def backbone_weights(self) -> set[str]:
        """The names of the weights that replace the backbone's own."""
        return {name for name in self.weights if not is_added(name) and not is_head(name)}

    @property
    def replaces_backbone(self) -> bool:
        """Whether the adapter replaces matrices of the backbone, as fine-tuning does."""
        return any(self.weights[name].dim() > 1 and ".pooler." not in name for name in self.backbone_weights)


def save_adapter(model: nn.Module, folder: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Save what was trained of `model`: prefixes or LoRA, head, and trainable parameters of the backbone.

    Weights that the model uses but its checkpoint lacked (a pooler) are saved, too, even frozen at random numbers.

    Args:
        model: a TaskModel or a bare encoder.
        folder: created if missing. Each file in it is replaced at once, never half-written.
        about: any JSON values, stored in adapter.json as they are.

    Returns:
        The folder.

    Raises:
        SptError: if `model` is neither, has weights on the meta device, or LoRA that PEFT itself put on it; or if
            `about` is not JSON.
    """
    encoder, prefix, weights = encoder_of(model), attached(model), _trained(model)
    if not (about or {}).get("method"):  # a run's method is called again before its adapter is loaded
        refuse_peft(encoder)
    if on_meta := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise SptError(f"{on_meta[0]} is on the meta device, without numbers to save: load the weights first")
    lora = attached_lora(encoder)
    frozen = sorted(_frozen(model, weights).items())
    description = {
        "format": FORMAT,
        "base_model": {"name_or_path": encoder.name_or_path or None, "dtype": _dtype(encoder)},
        "backbone": _backbone(encoder),
        "sample": {name: _sample(parameter) for name, parameter in frozen},
        "prefix": None if prefix is None else asdict(replace(prefix, projection=None)),
        "lora": None if lora is None else asdict(lora),
        "head": _head(model),
        "sha256": "",
        "about": dict(about or {}),
    }
    return write_adapter(folder, weights, description)


def write_adapter(folder: str | Path, weights: dict[str, Tensor], description: Mapping[str, Any]) -> Path:
    """Write an adapter's two files, each at once; the hash of the weights is put into the description."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as partial:
        save_file(weights, partial / WEIGHTS, metadata={"format": "pt"})
        whole = {**description, "sha256": _sha256(partial / WEIGHTS)}
        try:
            text = json.dumps(whole, indent=2)
        except (TypeError, ValueError) as error:
            raise SptError(f"about cannot be written as JSON: {error}") from error
        (partial / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        for name in (WEIGHTS, DESCRIPTION):
            flush(partial / name)
            (partial / name).replace(folder / name)
    flush(folder)
    return folder


def load_adapter(model: Model, folder: str | Path) -> Model:
    """Load a saved adapter into `model`, in place of the prefixes or LoRA that it has.

    `model` has the base model and the head that the adapter was trained with. After an adapter that replaced backbone
    weights (fine-tuning), only adapters that replace the same ones can be loaded. `folder` is that of an adapter or of
    a run. Prefixes with the same settings get the saved values; otherwise the parameters are new, and an optimizer
    made before lacks them.

    Returns:
        `model`.

    Raises:
        SptError: the folder is not a complete adapter or does not fit `model`, which is then unchanged.
    """
    return install_adapter(model, read_adapter(folder))


def install_adapter(model: Model, adapter: Adapter) -> Model:
    """`load_adapter` of an adapter that was read."""
    encoder, description, folder = encoder_of(model), adapter.description, adapter.folder
    for present, saved in ((_backbone(encoder), description.backbone), (_head(model), description.head)):
        for name in sorted(present.keys() | saved.keys()):
            if present.get(name) != saved.get(name):
                raise SptError(
                    f"{folder} does not fit this model: the adapter's {name} is {saved.get(name)!r}, the model's "
                    f"{present.get(name)!r}; it was trained on {description.base_model.name_or_path!r}"
                )
    changed: set[str] = getattr(encoder, "changed_by_adapter", set())
    if changed - adapter.weights.keys():
        raise SptError(
            f"the backbone has weights of another adapter, which {folder} does not replace: load the base model again"
        )
    previous_lora = remove_lora(encoder)
    try:
        _check_base_weights(model, adapter)
        if description.lora is not None:
            install_lora(encoder, description.lora)
        _check_weights(model, adapter)
    except SptError as error:
        remove_lora(encoder)
        if previous_lora is not None:
            restore_lora(encoder, previous_lora)
        raise SptError(f"{folder} does not fit this model: {error}") from error
    encoder.requires_grad_(False)
    if attached(encoder) != description.prefix:
        detach(model)
        if description.prefix is not None:
            install_prefixes(encoder, description.prefix)
    parameters, kept = dict(model.named_parameters()), {*frozen_random_pooler(model).values()}
    for name, tensor in adapter.weights.items():
        parameters[name].data.copy_(tensor)
        parameters[name].requires_grad_(parameters[name] not in kept)
    encoder.__dict__["changed_by_adapter"] = adapter.backbone_weights
    return model


def read_adapter(folder: str | Path) -> Adapter:
    """Read the adapter in a folder or a run's folder; SptError: there is none, it is damaged or of another format."""
    folder = adapter_folder(Path(folder))
    for file in (DESCRIPTION, WEIGHTS):
        if not (folder / file).is_file():
            raise SptError(f"{folder} is not an adapter: it has no {file}")
    try:
        description = Description.model_validate(parsed((folder / DESCRIPTION).read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise damaged(folder / DESCRIPTION, problems(error)) from error
    try:
        if _sha256(folder / WEIGHTS) != description.sha256:
            raise damaged(folder / WEIGHTS, f"its checksum is not the one in {DESCRIPTION}")
        return Adapter(folder, description, load_file(folder / WEIGHTS))
    except (SafetensorError, OSError) as error:
        raise damaged(folder / WEIGHTS, error) from error


def adapter_folder(folder: Path) -> Path:
    """The folder of a run's adapter; any other folder as it is."""
    return folder / ADAPTER if (folder / ADAPTER / DESCRIPTION).is_file() else folder


def damaged(path: Path, reason: object) -> SptError:
    """The error for an adapter's file that is not valid."""
    return SptError(f"{path} is damaged or of another version of spt: {reason}. Copy the adapter or train it again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dtype(encoder: PreTrainedModel) -> str:
    return str(encoder.dtype).removeprefix("torch.")


def _backbone(encoder: PreTrainedModel) -> dict[str, Any]:
    return {"architecture": type(encoder).__name__} | {name: getattr(encoder.config, name, None) for name in BACKBONE}


def _head(model: nn.Module) -> dict[str, Any]:
    if not isinstance(model, TaskModel):
        return {}
    return {"task_type": model.task_type, "num_labels": model.num_labels, "pooling": model.pooling}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """What `save_adapter` saves, by name; a projection's prefixes instead of the projection."""
    encoder = encoder_of(model)
    random = {encoder.get_parameter(name) for name in missing_from_checkpoint(model)}
    changed: set[str] = getattr(encoder, "changed_by_adapter", set())  # by the adapter that was loaded, trained or not
    tensors = {
        name: p.detach()
        for name, p in model.named_parameters()
        if not is_prefix(name)
        and (p.requires_grad or is_head(name) or is_added(name) or p in random or name in changed)
    }
    dtypes = [p.dtype for name, p in model.named_parameters() if is_prefix(name)]
    for name, module in model.named_modules():
        if isinstance(module, Prefix):
            for kind, vectors in zip(("key_prefix", "value_prefix"), module.vectors(), strict=True):
                tensors[f"{name}.{kind}"] = vectors.detach().to(dtypes[0])  # a projection under autocast has another
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _frozen(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's parameters that `weights` does not replace, by their names without LoRA, if not quantized.

    A pooler that the model does not use is none of them: many checkpoints lack it, and it has other numbers each time.
    """
    left_out = {*weights, *(f"encoder.{name}" for name in getattr(model, "unused_parameters", ()))}
    return {
        name_without_lora(name): p.detach()
        for name, p in model.named_parameters()
        if not is_head(name) and not is_added(name) and name not in left_out and type(p) is nn.Parameter
    }


def _sample(matrix: Tensor) -> list[float]:
    """SAMPLE_SIZE values from the middle of a matrix."""
    start = matrix.numel() // 2
    return matrix.flatten()[start : start + SAMPLE_SIZE].float().tolist()


def _check_base_weights(model: nn.Module, adapter: Adapter) -> None:
    """Compare the backbone's weights with the adapter's sample of them, as exactly as their dtypes allow."""
    base_model, frozen = adapter.description.base_model, _frozen(model, adapter.weights)
    tolerance = 0.02 if {_dtype(encoder_of(model)), base_model.dtype} & {"float16", "bfloat16"} else 1e-6
    for name, saved in adapter.description.sample.items():
        present = _sample(frozen[name]) if name in frozen else saved
        if len(present) != len(saved) or not all(
            math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-6) for a, b in zip(present, saved, strict=True)
        ):
            raise SptError(
                f"it was trained on other weights than this model's ({name} differs): load the revision of "
                f"{base_model.name_or_path!r} that it was trained on"
            )


def _check_weights(model: nn.Module, adapter: Adapter) -> None:
    """Compare names and shapes of the weights with those of `model` with the adapter's prefixes."""
    prefix = adapter.description.prefix
    shapes = {name: list(p.shape) for name, p in model.named_parameters() if not is_prefix(name)}
    required = {name for name in shapes if is_head(name) or is_added(name)}
    if prefix is not None:
        if prefix.projection is not None:
            raise SptError(f"{DESCRIPTION} has a prefix projection, which adapters are saved without")
        layers = supported_layers(encoder_of(model), prefix)
        for layer, (_, *widths) in zip(prefix_names(model, layers), layers, strict=True):
            for kind, width in zip(("key_prefix", "value_prefix"), widths, strict=True):
                shapes[f"{layer}.{kind}"] = [prefix.prefix_length, math.prod(width)]
                required.add(f"{layer}.{kind}")
    if missing := sorted(required - adapter.weights.keys()):
        raise SptError(f"{WEIGHTS} lacks {', '.join(missing)}")
    for name, tensor in adapter.weights.items():
        if name not in shapes:
            raise SptError(f"{WEIGHTS} has {name!r}, which the model does not have")
        if shapes[name] != list(tensor.shape):
            raise SptError(f"{name} has shape {list(tensor.shape)}, not {shapes[name]}")
