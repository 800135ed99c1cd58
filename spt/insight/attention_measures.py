"""The measures of the gate and of attention, of their sums over query positions (definitions: `Insight`)."""

import numpy as np
import torch
from torch import Tensor
from torch.special import entr

from spt.insight.attention_sums import AttentionSums
from spt.insight.result import LAYER_HEAD, LAYER_HEAD_SLOT, Measure

DRAWS = 100  # samples of examples drawn anew, for standard errors
FEWEST_EXAMPLES = 30  # with which there are standard errors
PERMUTATIONS = 20  # of the labels


def bootstrap_draws(examples: int, seed: int) -> Tensor:
    """How often each example counts, [1 + draws, examples]: once, then drawn with replacement; no draws with few."""
    draws = DRAWS if examples >= FEWEST_EXAMPLES else 0
    counts = np.random.default_rng(seed).multinomial(examples, np.full(examples, 1 / examples), size=draws)
    return torch.from_numpy(np.concatenate([np.ones((1, examples), dtype=counts.dtype), counts]))


def with_permutations(labels: Tensor, seed: int) -> Tensor:
    """The labels of all units, and permutations of them, [1 + permutations, units]."""
    generator = torch.Generator().manual_seed(seed)
    permuted = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(PERMUTATIONS)]
    return torch.stack([labels, *permuted])


def attention_measures(sums: AttentionSums) -> dict[str, Measure]:
    """The measures on data, by their names in `Insight`: those of the gate and of labels only where there are any."""

    def mean(name: str) -> Tensor:
        total = sums.total(name)
        return total / sums.positions.view(-1, *[1] * (total.dim() - 1))

    share, entropy = mean("share"), mean("entropy")
    slot_entropy = entr(share).sum(-1)
    by_head = {
        "prefix_mass": mean("mass"),
        "slot_information": slot_entropy - entropy,
        "slots_used": slot_entropy.exp(),
        "slots_used_at_once": entropy.exp(),
    }
    by_slot = {"slot_share": share}
    if sums.has_gate:
        gate = mean("gate")
        by_slot |= {"gate_mean": gate, "gate_open": mean("open"), "gate_closed": mean("closed")}
        between = (mean("squares") - gate.square().mean(-1)).clamp(min=0)
        by_head |= {"gate_within": mean("within"), "gate_between": between}
    if sums.labels is not None:
        chance = mutual_information(sums.total("permuted_joint")).mean(0)
        by_head["label_information"] = mutual_information(sums.total("joint")) - chance
    measures = {name: Measure.of(values.numpy(), LAYER_HEAD) for name, values in by_head.items()}
    return measures | {name: Measure.of(values.numpy(), LAYER_HEAD_SLOT) for name, values in by_slot.items()}


def mutual_information(joint: Tensor) -> Tensor:
    """The mutual information in nats of label and slot, of their joint weights [n, layers, labels, heads, P].

    Returns:
        [n, layers, heads].
    """
    shares = joint.transpose(2, 3)
    total = shares.sum((-2, -1), keepdim=True)
    shares = shares / torch.where(total > 0, total, 1)  # a sample drawn anew may have no label
    of_label, of_slot = entr(shares.sum(-1)).sum(-1), entr(shares.sum(-2)).sum(-1)
    return of_label + of_slot - entr(shares).sum((-2, -1))
