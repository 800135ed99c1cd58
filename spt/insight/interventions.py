"""The score of an adapter with parts of its prefixes taken off, or its gates changed, without any training."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spt.insight.result import Insight, Intervention, Interventions
from spt.modeling.attention_probe import ChangeLogGate, inspected_attention
from spt.modeling.task_model import TaskModel
from spt.records.bootstrap import example_test, kind_of

Scored = tuple[float, list]  # the score, and the outcome of each example
Change = tuple[str, int | None, ChangeLogGate]  # kind and which, as in Intervention


def without_slots(hidden: Tensor) -> ChangeLogGate:
    """Weight 0 for slots: `hidden` is [layers, P], true for those without weight."""
    return lambda layer, log_gate: log_gate.masked_fill(hidden[layer].to(log_gate.device), -math.inf)


def gates_fixed(gate: Tensor) -> ChangeLogGate:
    """The gates of all positions at the values [layers, heads, P]."""
    return lambda layer, log_gate: gate[layer].log()[None, :, None].to(log_gate).expand_as(log_gate)


def slot_order(insight: Insight) -> Tensor:
    """The slots of each layer, those that get most attention first, [layers, P].

    What a slot gets is slot_share · prefix_mass, summed over heads.
    """
    attention = torch.from_numpy(insight.slot_share.values * insight.prefix_mass.values[..., None]).sum(1)
    return attention.argsort(dim=-1, descending=True, stable=True)


def kept_counts(prefix_length: int) -> list[int]:
    """The numbers of slots to keep: 0, 1, 2, 5, 10, 20, 50, ... and P."""
    steps = [digit * 10**power for power in range(len(str(prefix_length))) for digit in (1, 2, 5)]
    return [0, *(count for count in steps if count < prefix_length), prefix_length]


def changes(insight: Insight) -> Iterator[Change]:
    """All interventions on the inspected adapter."""
    layers, slots = insight.layers, insight.prefix_length
    for slot in range(slots):
        yield "without_slot", slot, without_slots((torch.arange(slots) == slot).expand(layers, -1))
    for layer in range(layers):
        yield "without_layer", layer, without_slots((torch.arange(layers) == layer)[:, None].expand(-1, slots))
    place = slot_order(insight).argsort(dim=-1)
    for count in kept_counts(slots):
        yield "keep", count, without_slots(place >= count)
    if insight.gate_mean is not None:
        yield "gate_off", None, lambda layer, log_gate: torch.zeros_like(log_gate)
        yield "gate_fixed", None, gates_fixed(torch.tensor(insight.gate_mean.values))


def scored_interventions(
    model: TaskModel, metric: str, chosen: list[Change], scored: Callable[[], Scored], done: Callable[[], None]
) -> Interventions:
    """Score the model as it is and with each of the changes.

    Args:
        model: with prefixes.
        metric: the name of the score.
        chosen: the changes.
        scored: evaluates the model.
        done: called after each evaluation.
    """

    def score_with(change: ChangeLogGate | None) -> Scored:
        with inspected_attention(model, change_log_gate=change):
            result = scored()
        done()
        return result

    full, outcomes = score_with(None)
    changes = []
    for kind, which, change in chosen:
        score, changed = score_with(change)
        test = example_test([changed], [outcomes])
        changes.append(
            Intervention(kind=kind, which=which, score=score, difference=test.difference, low=test.low, high=test.high)  # type: ignore[arg-type]
        )
    return Interventions(metric=metric, score=full, compared=kind_of(outcomes), changes=tuple(changes))  # type: ignore[arg-type]
