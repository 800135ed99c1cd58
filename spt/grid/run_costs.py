"""What runs cost: seconds, from similar runs, or floating point operations, from model and data sizes."""

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

    def _work(self, config: dict[str, Any]) -> float:
        """Forward passes of examples; epochs, if the size of the task is not known."""
        return forward_passes(config, self.sizes) or config["trainer"]["num_train_epochs"]


def forward_passes(config: dict[str, Any], sizes: DictConfig) -> float | None:
    """The forward passes of examples that a run is worth: its training, and an evaluation of dev after every epoch.

    A training example takes 3 with fine-tuning, 1 with a linear probe, else 2: a frozen encoder's weights have no
    gradients.

    Args:
        config: of the run.
        sizes: `costs` of conf/costs.yaml.

    Returns:
        None if the size of its task is not known.
    """
    task, trainer = config["task"], config["trainer"]
    own = task.get("sizes") or {}
    examples = own if {"train", "validation"} <= own.keys() else sizes.examples.get(task["name"])
    if examples is None:
        return None
    train = task.get("train_examples") or examples["train"] * (1 - task["held_out"])
    epochs = trainer["num_train_epochs"]
    if trainer.get("max_steps", -1) > 0:
        step = trainer["per_device_train_batch_size"] * trainer.get("gradient_accumulation_steps", 1)
        epochs = trainer["max_steps"] * step / train
    passes = PASSES.get(config["method"]["_target_"].rpartition(".")[2], FROZEN)
    return epochs * (passes * train + examples["validation"])


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
    task, passes = config["task"]["name"], forward_passes(config, sizes)
    encoder, tokens = sizes.encoders.get(config["model"]["name"]), sizes.tokens.get(task)
    if encoder is None or tokens is None or passes is None:
        return None
    inputs = passes * sizes.inputs.get(task, 1)  # of an example: its choices
    columns = tokens + config["method"].get("prefix_length", 0)
    layers, hidden, intermediate = encoder
    return forward_flops(layers, hidden, intermediate, inputs * tokens, columns)
