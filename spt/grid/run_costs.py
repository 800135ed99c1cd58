"""What runs cost: seconds by finished runs like them, or floating point operations by sizes and lengths."""

import statistics
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig

from spt.grid.match_records import Finished

PASSES = {"fine_tuning": 3, "linear_probe": 1}  # in units of a forward pass; of all other methods 2
FROZEN = 2  # forward, and backward to the activations alone


class Costs:
    """Run times by finished runs: seconds per example of the same task, model and method, on each machine."""

    def __init__(self, finished: Iterable[Finished], sizes: DictConfig):
        self.sizes = sizes
        self.seconds: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for run in finished:
            record = run.record
            if record["status"] != "finished" or record["config"]["trainer"].get("max_steps", -1) > 0:
                continue
            hardware = record["hardware"]
            machine = hardware["accelerator"] or f"{hardware['processor']}, threads: {hardware['threads']}"
            names = (record["task"], record["model"], record["method"])
            for key in (names, names[:2]):
                own = self.seconds.setdefault(key, {}).setdefault(machine, [])
                own.append(record["wall_seconds"] / self._work(record["config"]))

    def by_machine(self, config: dict[str, Any]) -> dict[str, float]:
        """The seconds that a run with this config takes, by the machines that have finished one like it."""
        names = tuple(config[group]["name"] for group in ("task", "model", "method"))
        measured = self.seconds.get(names) or self.seconds.get(names[:2]) or {}
        work = self._work(config)
        return {machine: statistics.fmean(seconds) * work for machine, seconds in measured.items()}

    def of(self, config: dict[str, Any]) -> float | None:
        """The seconds that the run takes on the fastest of these machines; None if none has finished one like it."""
        return min(self.by_machine(config).values(), default=None)

    def _work(self, config: dict[str, Any]) -> float:
        """Forward passes of examples; epochs, if the size of the task is not known."""
        return epochs_of(config, self.sizes) * (passes_per_epoch(config, self.sizes) or 1)


def epochs_of(config: dict[str, Any], sizes: DictConfig) -> float:
    """The epochs of a run, also where `trainer.max_steps` limits it and the size of its task is known."""
    trainer = config["trainer"]
    examples = training_examples(config["task"], sizes)
    if trainer.get("max_steps", -1) <= 0 or examples is None:
        return trainer["num_train_epochs"]
    step = trainer["per_device_train_batch_size"] * trainer.get("gradient_accumulation_steps", 1)
    return trainer["max_steps"] * step / examples


def passes_per_epoch(config: dict[str, Any], sizes: DictConfig) -> float | None:
    """The forward passes that an epoch is worth: its training examples, and an evaluation of dev.

    A training example takes 3 with fine-tuning, 1 with a linear probe, else 2: a frozen encoder's weights have no
    gradients.

    Args:
        config: of the run.
        sizes: `costs` of conf/costs.yaml.

    Returns:
        None if the size of its task is not known.
    """
    task = config["task"]
    train = training_examples(task, sizes)
    if train is None:
        return None
    dev = _examples(task, sizes)["validation"]
    return PASSES.get(config["method"]["_target_"].rpartition(".")[2], FROZEN) * train + dev


def training_examples(task: dict[str, Any], sizes: DictConfig) -> float | None:
    """How many examples a run with this config of a task trains on; None if the size of the task is not known."""
    if (examples := _examples(task, sizes)) is None:
        return None
    return task.get("train_examples") or examples["train"] * (1 - task["held_out"])


def _examples(task: dict[str, Any], sizes: DictConfig) -> Any:
    own = task.get("sizes") or {}
    return own if {"train", "validation"} <= own.keys() else sizes.examples.get(task["name"])


def forward_flops(layers: int, hidden: int, intermediate: int, tokens: float, columns: float) -> float:
    """Floating point operations of an encoder's forward pass over `tokens`, each of which attends to `columns`.

    A token passes 4 H² + 2 H I weights a layer, two operations each; scores and weighted sums take 4 H a column.
    """
    weights = 4 * hidden**2 + 2 * hidden * intermediate
    return tokens * layers * (2 * weights + 4 * hidden * columns)


def run_flops(config: dict[str, Any], sizes: DictConfig) -> float | None:
    """The floating point operations of a run: its training, and an evaluation of dev after every epoch.

    Embeddings, heads and padding are left out.

    Args:
        config: of the run.
        sizes: `costs` of conf/costs.yaml.

    Returns:
        None if the sizes of its encoder or its task are not known.
    """
    task, passes = config["task"]["name"], passes_per_epoch(config, sizes)
    encoder, tokens = sizes.encoders.get(config["model"]["name"]), sizes.tokens.get(task)
    if encoder is None or tokens is None or passes is None:
        return None
    inputs = epochs_of(config, sizes) * passes * sizes.inputs.get(task, 1)  # of an example: its choices
    columns = tokens + config["method"].get("prefix_length", 0)
    layers, hidden, intermediate = encoder
    return forward_flops(layers, hidden, intermediate, inputs * tokens, columns)
