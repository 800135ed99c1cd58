"""How alike the prefix slots of a layer are: measures of the prefixes' parameters alone, without data.

The vectors of a layer are its P key prefix vectors, or its P value prefix vectors, each of the whole width H.
"""

import torch
from torch import Tensor, nn

from spt.modeling.prefix_parameters import prefixes

Measures = dict[str, dict[str, list[float]]]


def cosines(vectors: Tensor) -> Tensor:
    """cos(p_i, p_j) of all pairs of [..., P, H], as [..., P, P]. Vectors are normalised as in the selective loss."""
    vectors = vectors.double()
    unit = vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-8)
    return torch.matmul(unit, unit.transpose(-1, -2))


def mean_abs_cosine(vectors: Tensor) -> Tensor:
    """The mean of |cos(p_i, p_j)| over i < j of [..., P, H]; 0 where P is 1.

    Its mean over layers and over keys and values is the selective loss.
    """
    slots = vectors.shape[-2]
    return cosines(vectors).abs().triu(diagonal=1).sum((-2, -1)) / max(slots * (slots - 1) / 2, 1)


def effective_rank(vectors: Tensor) -> Tensor:
    """exp of the entropy of σ_i / Σσ, σ the singular values of [..., P, H]: from 1 (parallel) to min(P, H).

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(vectors.double())
    shares = values / values.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum(-1).exp()


def norms(vectors: Tensor) -> Tensor:
    """The L2 norm of each slot, [..., P]."""
    return vectors.double().norm(dim=-1)


@torch.no_grad()
def slot_similarity(model: nn.Module) -> Measures | None:
    """`mean_abs_cosine`, `effective_rank` and mean `norm` of the keys and of the values, a number for each layer.

    Returns:
        {measure: {"key": [layers], "value": [layers]}}; None if the model carries no prefixes.
    """
    layers = [prefix.vectors() for prefix in prefixes(model)]
    if not layers:
        return None
    measures = {"mean_abs_cosine": mean_abs_cosine, "effective_rank": effective_rank, "norm": _mean_norm}
    by_kind = dict(zip(("key", "value"), zip(*layers, strict=True), strict=True))
    return {
        name: {kind: [float(measure(vectors.cpu())) for vectors in matrices] for kind, matrices in by_kind.items()}
        for name, measure in measures.items()
    }


def _mean_norm(vectors: Tensor) -> Tensor:
    return norms(vectors).mean(-1)
