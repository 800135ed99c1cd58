"""Smaller adapters: some slots of each layer of a trained one, without any training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from spt.adapters.format import Adapter, write_adapter
from spt.errors import SptError
from spt.modeling.prefix_parameters import Prefix


def save_pruned(
    adapter: Adapter, model: nn.Module, slots: Sequence[Sequence[int]], folder: str | Path, about: dict[str, Any]
) -> Path:
    """Save an adapter that has only some slots of another: it predicts as that one does with the others masked.

    All other weights stay, and so do the positions of the text if they are shifted. The prefixes of a projection are
    plain parameters in every saved adapter, so a pruned one has no projection either.

    Args:
        adapter: the larger adapter.
        model: one with prefixes that it fits.
        slots: which slots each layer keeps, the same number in each, [layers, k].
        folder: created if missing.
        about: stored in adapter.json as it is.

    Returns:
        The folder.

    Raises:
        SptError: if the adapter has no prefixes.
    """
    prefix = adapter.description.prefix
    if prefix is None:
        raise SptError(f"{adapter.folder} has no prefixes to prune")
    (count,) = {len(kept) for kept in slots}
    weights = dict(adapter.weights)
    names = {module.index: name for name, module in model.named_modules() if isinstance(module, Prefix)}
    for index, kept in enumerate(slots):
        for kind in ("key_prefix", "value_prefix"):
            name = f"{names[index]}.{kind}"
            weights[name] = weights[name][list(kept)].contiguous()
    shift = prefix.position_shift if count < prefix.prefix_length else prefix.shifted_by
    config = replace(prefix, prefix_length=count, shifted_by=shift or None)
    description = adapter.description.model_copy(update={"prefix": config, "about": about})
    return write_adapter(folder, weights, description.model_dump())
