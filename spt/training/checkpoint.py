"""The checkpoint of an interrupted run: one safetensors file, without pickle, from which the run resumes exactly.

Tensors are named `weight/<parameter>`, `optimizer/<key>/<parameter>` and `random/<process>/<generator>`; all else is
JSON in the file's metadata.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spt.errors import SptError
from spt.files import parsed
from spt.modeling.freeze_parameters import frozen_random_pooler
from spt.records.schema import problems
from spt.training.process_group import from_all


class InterruptedEpoch(BaseModel):
    """The running training loss of each process, the last learning rate and the time of an interrupted epoch."""

    model_config = ConfigDict(strict=True, extra="forbid")

    loss_sums: list[float]
    loss_count: int
    last_rate: float
    seconds: float


class Checkpoint(BaseModel):
    """A run after one of its epochs, or within one.

    Attributes:
        fingerprint: of the run's config.
        data: each split's fingerprint.
        tokenizer: its fingerprint.
        weights: the hash or the revision of the base model's weights.
        numerics: the version of the numerics.
        step: optimizer steps taken.
        within: None where the last epoch is complete.
        history: a row per complete epoch, as in history.jsonl.
        outcomes: of the dev examples, at the best and at the last epoch, by epoch number.
        resumed: how often the run was resumed before.
        seconds, peak_memory_bytes: what it has taken so far.
        optimizer, scheduler, scaler: their states, less tensors.
        tensors: weights, optimizer state and random state, by the names above.
    """

    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[5] = 5
    fingerprint: str
    data: dict[str, str]
    tokenizer: str
    weights: str | None
    numerics: int
    step: int
    within: InterruptedEpoch | None
    history: list[dict[str, Any]]
    outcomes: dict[str, list]
    resumed: int
    seconds: float
    peak_memory_bytes: int
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    scaler: dict[str, Any] | None
    tensors: dict[str, Tensor] = Field(exclude=True, repr=False)

    def save(self, path: Path) -> None:
        """Write the checkpoint to `path`."""
        save_file(self.tensors, path, metadata={"format": "pt", "spt": json.dumps(self.model_dump())})

    @property
    def epoch_start(self) -> int:
        """The optimizer steps taken when the interrupted, or else the next, epoch began."""
        return self.history[-1]["step"] if self.history else 0

    def fits(self, model: nn.Module) -> bool:
        """Whether `model` trains the parameters that this checkpoint holds."""
        held = {name: list(tensor.shape) for name, tensor in _under("weight", self.tensors).items()}
        return held == {name: list(parameter.shape) for name, parameter in _trainable(model).items()}

    def load_weights(self, model: nn.Module) -> None:
        """Copy the weights into `model`."""
        weights = _under("weight", self.tensors)
        for name, parameter in _trainable(model).items():
            parameter.data.copy_(weights[name])

    def load_state(
        self, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, scaler: torch.amp.GradScaler
    ) -> None:
        """Bring optimizer, schedule and loss scaling to where the checkpoint was taken.

        Raises:
            SptError: where they do not fit.
        """
        names = _names(model, optimizer)
        try:
            state: dict[int, dict[str, Any]] = {
                names.index(name): dict(entries) for name, entries in self.optimizer["entries"].items()
            }
            for path, tensor in _under("optimizer", self.tensors).items():
                key, _, name = path.partition("/")
                state.setdefault(names.index(name), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": self.optimizer["groups"]})
            _restore_types(optimizer, state)
            scheduler.load_state_dict(self.scheduler)
            scaler.load_state_dict(self.scaler or {})
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise SptError(f"the checkpoint is damaged ({error!r}): force=true starts anew") from error

    def set_random_state(self, process: int) -> None:
        """Bring a process's random state to where the checkpoint was taken."""
        states = _under(f"random/{process}", self.tensors)
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"])


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint:
    """The checkpoint at `path`, of the run with this `fingerprint`.

    Raises:
        SptError: where it is damaged, of another version, or another run's.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = parsed(file.metadata()["spt"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checkpoint = Checkpoint.model_validate(facts | {"tensors": tensors})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise SptError(f"{path} is damaged, or of another version of spt ({problems(error)})") from error
    if checkpoint.fingerprint != fingerprint:
        raise SptError(f"{path} is of another run, with the fingerprint {checkpoint.fingerprint}")
    return checkpoint


def training_state(
    model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, scaler: torch.amp.GradScaler
) -> dict[str, Any]:
    """The `optimizer`, `scheduler`, `scaler` and `tensors` of a checkpoint, with the random states of all processes."""
    tensors = {f"weight/{name}": parameter for name, parameter in _trainable(model).items()}
    state = optimizer.state_dict()
    entries: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(_names(model, optimizer)):
        for key, value in state["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{key}/{name}"] = value
            else:
                entries.setdefault(name, {})[key] = value
    for process, states in enumerate(from_all(_random_state())):
        tensors |= {f"random/{process}/{name}": value for name, value in states.items()}
    return {
        "optimizer": {"entries": entries, "groups": state["param_groups"]},
        "scheduler": scheduler.state_dict(),
        "scaler": scaler.state_dict() or None,
        "tensors": {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
    }


def _random_state() -> dict[str, Tensor]:
    """The states of torch's generators, of this process's GPU alone; nothing else is random in a training."""
    state = {"torch": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, and a random pooler that does not."""
    kept = {*frozen_random_pooler(model).values()}
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad or parameter in kept
    }


def _names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """The names of the optimizer's parameters, by their numbers in its state."""
    names = {parameter: name for name, parameter in _trainable(model).items()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _restore_types(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Bring back float32 state of weights in half precision, which `Optimizer.load_state_dict` casts to theirs."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state.items():
        own = optimizer.state[parameters[index]]
        own |= {name: value.to(own[name].device) for name, value in entries.items() if isinstance(value, Tensor)}


def _under(heading: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{heading}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
