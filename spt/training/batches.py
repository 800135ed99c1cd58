"""Which examples are in which batch, of which process: a function of (seed, epoch) and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import get_length_grouped_indices

from spt.training import preemption
from spt.training.trainer_schema import TrainerSettings

EPOCHS_PER_SEED = 1_000_003  # more than any run has, so that no two (seed, epoch) share a generator


def epoch_order(lengths: Sequence[int], strategy: str, batch_size: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch visits the examples.

    Args:
        lengths: tokens of each example.
        strategy: "group_by_length" (batches of similar lengths, the longest first), "random", or "sequential".
        batch_size: of all processes together.
        seed: of the run.
        epoch: from 1.
    """
    if strategy == "sequential":
        return list(range(len(lengths)))
    generator = torch.Generator().manual_seed(seed * EPOCHS_PER_SEED + epoch)
    if strategy == "random":
        return torch.randperm(len(lengths), generator=generator).tolist()
    return get_length_grouped_indices(lengths, batch_size, generator=generator)


def shares(order: Sequence[int], batch_size: int, process: int, processes: int) -> list[list[int]]:
    """The part of each batch that one of several processes computes; it is empty where a batch is too small for all.

    Args:
        order: of the examples.
        batch_size: of all processes together.
        process: the number of this process, from 0.
        processes: how many there are.
    """
    batches = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    return [list(batch[process::processes]) for batch in batches]


def loader(
    dataset: Any, batches: Sequence[list[int]], collate: Callable[[list[dict]], dict], settings: TrainerSettings
) -> DataLoader:
    """A DataLoader of these batches that leaves the global random state alone.

    An empty batch is loaded as the first example of the data set: every process takes part in every step.
    """
    return DataLoader(
        dataset,
        batch_sampler=[batch or [0] for batch in batches],
        collate_fn=collate,
        num_workers=settings.dataloader_num_workers,
        pin_memory=torch.accelerator.is_available() and not settings.use_cpu,
        worker_init_fn=preemption.ignore_signals_in_worker,
        generator=torch.Generator(),
    )
