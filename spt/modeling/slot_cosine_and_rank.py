"""How alike the slots of a prefix are: functions of its key or value prefix, [P, H], or of a stack of them.

Numbers are computed in float64. H is the whole width of a slot's vector, all heads together.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spt.modeling.prefix_parameters import prefixes
from spt.modeling.selective_loss import unit_vectors

Measures = dict[str, dict[str, list[float]]]


def cosine(prefix: Tensor) -> Tensor:
    """cos(p_i, p_j) of all slots, signed, [..., P, P]; vectors are normalised as in `selective_loss`."""
    unit = unit_vectors(prefix.double())
    return unit @ unit.transpose(-2, -1)


def mean_abs_cosine(prefix: Tensor) -> Tensor:
    """The mean |cos(p_i, p_j)| over the pairs i < j, [...]; 0 for a single slot, which has no pairs.

    Averaged over layers, and over keys and values, it is the paper's selective loss.
    """
    slots = prefix.shape[-2]
    return cosine(prefix).abs().triu(diagonal=1).sum((-2, -1)) / max(slots * (slots - 1) / 2, 1)


def effective_rank(prefix: Tensor) -> Tensor:
    """The exponential of the entropy of the singular values over their sum, [...]: from 1 to min(P, H).

    A matrix of zeros has effective rank 1. Source: Roy and Vetterli, "The effective rank: a measure of effective
    dimensionality", EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(prefix.double())
    shares = values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum(-1).exp()


def norm(prefix: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation (of the population) over slots of the L2 norm, each [...]."""
    norms = prefix.double().norm(dim=-1)
    return norms.mean(-1), norms.std(-1, correction=0)


@torch.no_grad()
def by_matrix(model: nn.Module, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of each layer's keys and of its values, [layers, 2, ...]; the model must carry prefixes."""
    layers = [prefix.vectors() for prefix in prefixes(model)]
    return torch.stack([torch.stack([function(vectors.cpu()) for vectors in pair]) for pair in layers])


def slot_similarity(model: nn.Module) -> Measures | None:
    """`mean_abs_cosine`, `effective_rank` and mean `norm` of the keys and of the values, a number for each layer.

    Returns:
        {measure: {"key": [layers], "value": [layers]}}; None if the model carries no prefixes.
    """
    if not prefixes(model):
        return None
    measures = {
        "mean_abs_cosine": mean_abs_cosine,
        "effective_rank": effective_rank,
        "norm": lambda each: norm(each)[0],
    }
    return {
        name: dict(zip(("key", "value"), by_matrix(model, measure).T.tolist(), strict=True))
        for name, measure in measures.items()
    }
