"""The selective loss SL on the prefixes of a model."""

import torch
from torch import Tensor, nn

from spt.errors import SptError
from spt.modeling.prefix_parameters import prefixes


def selective_loss(model: nn.Module) -> Tensor:
    """The mean absolute cosine over all pairs of prefix vectors of one matrix (one layer's keys, or its values).

    Vectors have the whole width, not one head's, and are normalised as p / √(‖p‖² + 1e-8). With prefix_length 1 there
    are no pairs, and the loss is 0. Source: the paper's selective loss, as the authors compute it.

    Returns:
        A scalar with gradient, to be added to the task loss as `sl_weight * selective_loss(model)`.

    Raises:
        SptError: if `model` carries no prefixes.
    """
    layers = prefixes(model)
    if not layers:
        raise SptError("selective_loss needs prefixes, and this model carries none: spt.attach(model, ...) first")
    sums = []
    for matrices in zip(*(layer.vectors() for layer in layers), strict=True):  # all keys, then all values
        for width in dict.fromkeys(matrix.shape[1] for matrix in matrices):
            vectors = torch.stack([matrix for matrix in matrices if matrix.shape[1] == width])
            vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # 1e-8 underflows in float16
            with torch.autocast(vectors.device.type, enabled=False):
                unit = unit_vectors(vectors)
                sums.append(torch.matmul(unit, unit.transpose(1, 2)).abs().triu(diagonal=1).sum())
    prefix_length = vectors.shape[1]
    return torch.stack(sums).sum() / max(len(layers) * prefix_length * (prefix_length - 1), 1)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors of length 1, [..., d], with 1e-8 under the root, which keeps a vector of zeros finite."""
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-8)
