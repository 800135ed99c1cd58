"""Running sums over query positions of what gates and attention do, for the sample and bootstrap resamples."""

import torch
from torch import Tensor
from torch.special import entr

from spt.insight.text_batches import NO_LABEL, TextBatch
from spt.modeling.attention_probe import LayerAttention

OPEN, CLOSED = 0.9, 0.1  # gates above, and below


class AttentionSums:
    """Sums of the visited positions: call `start` with each batch before the model runs on it.

    No tensor is kept: the statistics of an example are added to the sum of the sample and, as often as it was drawn,
    to those of the samples drawn anew. So memory is [1 + draws, layers, heads, P] numbers a statistic (times the number
    of labels for those with labels), whatever the number of examples. All are float64.

    Args:
        draws: how often each example counts, [1 + draws, examples], in its first row once.
        has_gate: whether there are gates to look at.
        labels: of each labelled unit, and in permutations of the labels, [1 + permutations, units]; None if none.
        label_count: the number of different labels.

    Attributes:
        positions: the number of query positions, [1 + draws].
    """

    def __init__(self, draws: Tensor, has_gate: bool, labels: Tensor | None, label_count: int):
        self.draws, self.has_gate = draws.double(), has_gate
        self.labels, self.label_count = labels, label_count
        self.positions = torch.zeros(len(draws), dtype=torch.float64)
        self._sums: dict[str, dict[int, Tensor]] = {}

    def start(self, batch: TextBatch) -> None:
        """Take the attentions that follow as those of `batch`."""
        self._batch = batch
        self._drawn = self.draws[:, batch.first_example : batch.first_example + batch.examples]
        self._counts = torch.bincount(batch.owners, minlength=batch.examples).double()
        self.positions += self._drawn @ self._counts

    def visit(self, seen: LayerAttention) -> None:
        """Add what one layer does on the batch."""
        log_gate = self._at_positions(seen.log_gate)
        share = torch.softmax(self._at_positions(seen.scores) + log_gate, dim=-1)
        mass = self._at_positions(seen.weights[..., : share.shape[-1]]).sum(-1)
        entropy = entr(share).sum(-1)
        for name, values in (("share", share), ("mass", mass), ("entropy", entropy)):
            self._add(name, seen.layer, self._by_example(values))
        if self.has_gate:
            self._add_gates(seen.layer, log_gate.exp())
        if self.labels is not None:
            self._add_labels(seen.layer, share)

    def total(self, name: str) -> Tensor:
        """The sum of a statistic over positions, [1 + draws, layers, heads, ...].

        They are, with a last axis P: "share" (of the prefix's weight), "gate", "open" and "closed" (1 or 0); without:
        "mass" (weight of the prefix), "entropy" (of the shares), "within" (squared deviations of gates from the
        example's mean, averaged over slots) and "squares" (squares of that mean, averaged over slots). "joint" are the
        slots' shares by label, [1 + draws, layers, labels, heads, P], and "permuted_joint" the same of the sample under
        each permutation, [permutations, layers, labels, heads, P].
        """
        layers = self._sums[name]
        return torch.stack([layers[index] for index in sorted(layers)], dim=1)

    def _at_positions(self, values: Tensor) -> Tensor:
        """[texts, heads, length, P] at the query positions, [positions, heads, P]."""
        return values.transpose(1, 2)[self._batch.mask.to(values.device)].cpu().double()

    def _by_example(self, values: Tensor) -> Tensor:
        """The sums over the positions of each example, [examples, ...]."""
        sums = values.new_zeros(self._batch.examples, *values.shape[1:])
        return sums.index_add_(0, self._batch.owners, values)

    def _add(self, name: str, layer: int, by_example: Tensor) -> None:
        drawn = (self._drawn @ by_example.flatten(1)).unflatten(1, by_example.shape[1:])
        self._add_sum(name, layer, drawn)

    def _add_sum(self, name: str, layer: int, values: Tensor) -> None:
        layers = self._sums.setdefault(name, {})
        layers[layer] = layers[layer] + values if layer in layers else values

    def _add_gates(self, layer: int, gate: Tensor) -> None:
        sums = self._by_example(gate)
        means = sums / self._counts.clamp(min=1)[:, None, None]
        within = (gate - means[self._batch.owners]).square().mean(-1)
        self._add("gate", layer, sums)
        self._add("open", layer, self._by_example((gate > OPEN).double()))
        self._add("closed", layer, self._by_example((gate < CLOSED).double()))
        self._add("within", layer, self._by_example(within))
        self._add("squares", layer, means.square().mean(-1) * self._counts[:, None])

    def _add_labels(self, layer: int, share: Tensor) -> None:
        assert self.labels is not None
        has_label = self._batch.units != NO_LABEL
        share, owners = share[has_label], self._batch.owners[has_label]
        labels = self.labels[:, self._batch.units[has_label]]
        cells = share.new_zeros(self._batch.examples * self.label_count, *share.shape[1:])
        cells.index_add_(0, owners * self.label_count + labels[0], share)
        self._add("joint", layer, cells.unflatten(0, (self._batch.examples, self.label_count)))
        is_label = torch.nn.functional.one_hot(labels[1:], self.label_count).double()
        self._add_sum("permuted_joint", layer, torch.einsum("ntc,thp->nchp", is_label, share))
