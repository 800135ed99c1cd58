"""What runs cost: seconds by finished runs like them, or floating point operations by sizes and lengths."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from spt.grid.match_records import Finished

PASSES = {"fine_tuning": 3, "linear_probe": 1}  # in units of a forward pass; of all other methods 2
FROZEN = 2  # forward, and backward to the activations alone


class Costs:
    """Run times by finished runs: seconds per epoch of the same task, model and method, on each machine."""

    def __init__(self, finished: Iterable[Finished]):
        self.seconds: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for run in finished:
            record = run.record
            if record["status"] != "finished":
                continue
            hardware = record["hardware"]
            machine = hardware["accelerator"] or f"{hardware['processor']}, threads: {hardware['threads']}"
            names = (record["task"], record["model"], record["method"])
            for key in (names, names[:2]):
                own = self.seconds.setdefault(key, {}).setdefault(machine, [])
                own.append(record["wall_seconds"] / record["epochs"])

    def by_machine(self, config: dict[str, Any]) -> dict[str, float]:
        """The seconds that a run with this config takes, by the machines that have finished one like it."""
        names = tuple(config[group]["name"] for group in ("task", "model", "method"))
        measured = self.seconds.get(names) or self.seconds.get(names[:2]) or {}
        epochs = config["trainer"]["num_train_epochs"]
        return {machine: statistics.fmean(seconds) * epochs for machine, seconds in measured.items()}

    def of(self, config: dict[str, Any]) -> float | None:
        """The seconds that the run takes on the fastest of these machines; None if none has finished one like it."""
        return min(self.by_machine(config).values(), default=None)


@dataclass(frozen=True)
class Encoder:
    """The sizes of an encoder."""

    layers: int
    hidden: int
    intermediate: int

    def forward_flops(self, tokens: float, columns: float) -> float:
        """Floating point operations of a forward pass over `tokens`, each of which attends to `columns`.

        A token passes 4 H² + 2 H I weights a layer, two operations each; scores and weighted sums take 4 H a column.
        """
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return tokens * self.layers * (2 * weights + 4 * self.hidden * columns)


def run_flops(config: dict[str, Any], sizes: DictConfig) -> float | None:
    """The floating point operations of a run: its training, and an evaluation of dev after every epoch.

    Training takes 3 forward passes with fine-tuning, 1 with a linear probe, else 2: a frozen encoder's weights have no
    gradients. Embeddings, heads and padding are left out.

    Args:
        config: of the run.
        sizes: `costs` of conf/costs.yaml.

    Returns:
        None if the sizes of its encoder or its task are not known.
    """
    task, method = config["task"], config["method"]
    encoder, tokens = sizes.encoders.get(config["model"]["name"]), sizes.tokens.get(task["name"])
    published = task.get("sizes") or sizes.examples.get(task["name"])
    if encoder is None or tokens is None or published is None:
        return None
    train = task["train_examples"] or published["train"] * (1 - task["held_out"])
    passes = PASSES.get(method["_target_"].rpartition(".")[2], FROZEN)
    examples = config["trainer"]["num_train_epochs"] * (passes * train + published["validation"])
    inputs = sizes.inputs.get(task["name"], 1)  # of an example: its choices
    columns = tokens + method.get("prefix_length", 0)
    return Encoder(*encoder).forward_flops(examples * inputs * tokens, columns)
