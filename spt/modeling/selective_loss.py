"""The selective loss SL on the prefixes of a model."""

import torch
from torch import Tensor, nn

from spt.errors import SptError
from spt.modeling.prefix import prefixes


def selective_loss(model: nn.Module) -> Tensor:
    """The selective loss SL: the mean |cosine| over all pairs of prefix vectors of one matrix, keys and values alike.

    A scalar with gradient, to be added to the task loss as `sl_weight * selective_loss(model)`. Vectors are normalised
    as p / √(‖p‖² + 1e-8) and pairs taken within each layer's key prefix and value prefix, over the whole width. With
    prefix_length 1 there is no pair: 0.

    Raises:
        SptError: where `model` carries no prefix.
    """
    layers = prefixes(model)
    if not layers:
        raise SptError("selective_loss needs prefixes, and this model carries none: spt.attach(model, ...) first")
    sums = []
    for matrices in zip(*(layer.vectors() for layer in layers), strict=True):
        vectors = torch.stack(matrices)
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # 1e-8 is nothing in float16
        unit = vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-8)
        sums.append(torch.matmul(unit, unit.transpose(1, 2)).abs().triu(diagonal=1).sum())
    prefix_length = vectors.shape[1]
    return torch.stack(sums).sum() / max(len(layers) * prefix_length * (prefix_length - 1), 1)
