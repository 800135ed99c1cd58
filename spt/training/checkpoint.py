"""An unfinished training, in one file without pickle, from which it goes on as if nothing had been.

Tensors are named `weight/<parameter>`, `optimizer/<key>/<parameter>`, `random/<process>/<generator>`, and within an
epoch `began/<process>/<generator>`, of its begin; all else stands as JSON in the file's metadata.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spt import distributed as processes
from spt.errors import SptError
from spt.files import parsed

FORMAT = 3

KINDS: dict[str, type | tuple] = {
    **dict.fromkeys(("step", "max_steps", "resumed", "peak_memory_bytes"), int),
    **dict.fromkeys(("data", "outcomes", "facts"), dict),
    **{"fingerprint": str, "history": list, "within": (dict, NoneType), "seconds": (int, float)},
}

FACTS = ("optimizer", "scheduler", "scaler", "python", "numpy")


@dataclass(frozen=True)
class Checkpoint:
    """A run after one of its epochs, or within one.

    Attributes:
        fingerprint: the config's.
        data: each split's fingerprint.
        step, max_steps: the optimizer steps that were taken, and those of the whole training.
        within: where an epoch is not over, what is known of it: the sum of each process's losses and their number, its
            last learning rate, its seconds.
        history: a row an epoch, as in the run's history.
        outcomes: how the dev examples came out, at the best and at the last finished epoch, by their numbers.
        resumed: how often the run was taken up again before.
        seconds, peak_memory_bytes: what it took so far.
        facts, tensors: the state of its `Parts`.
    """

    fingerprint: str
    data: dict[str, str]
    step: int
    max_steps: int
    within: dict[str, Any] | None
    history: list[dict[str, Any]]
    outcomes: dict[str, list]
    resumed: int
    seconds: float
    peak_memory_bytes: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write it to `path`."""
        about = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "tensors"}
        try:
            text = json.dumps({"format": FORMAT, **about})
        except TypeError as error:
            raise SptError(
                f"trainer.optim or lr_scheduler_type keeps what a checkpoint cannot hold ({error}): choose another"
            ) from error
        save_file(self.tensors, path, metadata={"format": "pt", "spt": text})

    @property
    def begin(self) -> int:
        """The steps that were taken when its epoch, or the next, began."""
        return self.history[-1]["step"] if self.history else 0

    @property
    def processes(self) -> int:
        """How many processes trained."""
        return len({name.partition("/")[0] for name in _under("random", self.tensors)})

    def fits(self, model: nn.Module) -> bool:
        """Whether `model` trains the parameters that this one trained."""
        ours = {name: list(parameter.shape) for name, parameter in trained(model).items()}
        return ours == {name: list(tensor.shape) for name, tensor in _under("weight", self.tensors).items()}

    def load_weights(self, model: nn.Module) -> None:
        """Give `model` the weights."""
        weights = _under("weight", self.tensors)
        for name, parameter in trained(model).items():
            parameter.data.copy_(weights[name])


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint:
    """The checkpoint at `path`, of the run with this `fingerprint`.

    Raises:
        SptError: where it is damaged, of another format, or another run's.
    """
    try:
        with safe_open(path, "pt") as file:
            about = parsed(file.metadata()["spt"])
            version = about.pop("format")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checkpoint = Checkpoint(**about, tensors=tensors) if version == FORMAT else None
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SptError(f"{path} is damaged ({error})") from error
    if checkpoint is None:
        raise SptError(f"{path} has checkpoint format {version!r}, this version of spt reads {FORMAT}")
    wrong = [name for name, kind in KINDS.items() if not isinstance(getattr(checkpoint, name), kind)]
    wrong += [f"facts.{name}" for name in FACTS if not wrong and name not in checkpoint.facts]
    wrong += [name for name in ("random/0/torch", "random/0/order") if name not in checkpoint.tensors]
    weights = _under("weight", checkpoint.tensors)
    wrong += [f"weight/{name}" for name, tensor in weights.items() if not tensor.isfinite().all()]
    if wrong:
        raise SptError(f"{path} is damaged (it has no proper {', '.join(wrong)})")
    if checkpoint.fingerprint != fingerprint:
        raise SptError(f"{path} is of another run, with the fingerprint {checkpoint.fingerprint}")
    return checkpoint


@dataclass(frozen=True)
class Parts:
    """What changes in a training from step to step, beside the random state of the process.

    `order` is the generator of the order of the examples; `began` are the states of the generators at the begin of an
    epoch that is not over.
    """

    model: nn.Module
    optimizer: Any
    scheduler: Any
    scaler: Any
    order: torch.Generator
    began: dict[str, Tensor]

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The facts and tensors of a checkpoint, in each process those of all."""
        tensors = {f"weight/{name}": parameter for name, parameter in trained(self.model).items()}
        kept = self.optimizer.state_dict()
        entries: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(self._names()):
            for key, value in kept["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{key}/{name}"] = value
                else:
                    entries.setdefault(name, {})[key] = value
        for process, (now, begin) in enumerate(processes.from_all((generators(self.order), self.began))):
            tensors |= {f"random/{process}/{name}": state for name, state in now.items()}
            tensors |= {f"began/{process}/{name}": state for name, state in begin.items()}
        algorithm, keys, *rest = np.random.get_state()
        facts = {
            "optimizer": {"entries": entries, "groups": kept["param_groups"]},
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler and self.scaler.state_dict(),
            "python": random.getstate(),
            "numpy": [algorithm, np.asarray(keys).tolist(), *rest],
        }
        return facts, {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Bring all of it to where the checkpoint was taken, but the weights, which are there, and within an epoch the
        random state, which is that of its begin: the order of its examples is drawn from it anew."""
        try:
            self._load(checkpoint.facts, checkpoint.tensors)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise SptError(f"the checkpoint is damaged ({error!r}): force=true starts anew") from error

    def _load(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        names = self._names()
        state: dict[int, dict[str, Any]] = {
            names.index(name): dict(entries) for name, entries in facts["optimizer"]["entries"].items()
        }
        for path, tensor in _under("optimizer", tensors).items():
            key, _, name = path.partition("/")
            state.setdefault(names.index(name), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": facts["optimizer"]["groups"]})
        self.scheduler.load_state_dict(facts["scheduler"])
        if self.scaler is not None:
            self.scaler.load_state_dict(facts["scaler"])
        version, internal, gauss = facts["python"]
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(tuple(facts["numpy"]))
        process = processes.rank()
        set_generators(_under(f"began/{process}", tensors) or _under(f"random/{process}", tensors), self.order)

    def catch_up(self, checkpoint: Checkpoint) -> None:
        """Bring the random state from the begin of the checkpoint's epoch to where it was taken."""
        set_generators(_under(f"random/{processes.rank()}", checkpoint.tensors), self.order)

    def _names(self) -> list[str]:
        """The names of the optimizer's parameters, by their numbers in its state."""
        names = {parameter: name for name, parameter in trained(self.model).items()}
        return [names[parameter] for group in self.optimizer.param_groups for parameter in group["params"]]


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _under(heading: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{heading}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def generators(order: torch.Generator) -> dict[str, Tensor]:
    """The states of the generators: the process's, the accelerators', and that of the order of the examples."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        "order": order.get_state(),
        **{f"cuda:{number}": state for number, state in enumerate(devices)},
    }


def set_generators(states: dict[str, Tensor], order: torch.Generator) -> None:
    """Bring the generators to what `generators` returned."""
    states = dict(states)
    torch.set_rng_state(states.pop("torch"))
    order.set_state(states.pop("order"))
    for device, state in states.items():
        torch.cuda.set_rng_state(state, device)
