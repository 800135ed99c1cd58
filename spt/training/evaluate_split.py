"""Evaluate a model on a split: its loss, its scores, and the outcome of every example."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spt.methods import Penalty
from spt.modeling.task_model import IGNORED, TaskModel
from spt.tasks.metrics import Scores
from spt.tasks.model_inputs import in_order
from spt.tasks.task import Split, Task
from spt.training.batches import loader, shares
from spt.training.settings import precision
from spt.training.trainer_schema import TrainerSettings


@dataclass(frozen=True)
class Evaluation:
    """What a model does on a split.

    Attributes:
        loss: mean task loss over batches, plus the penalty (as in the published runs).
        penalty: what the method adds to the task loss; 0 where it adds nothing.
        scores: all metrics of the task, as fractions.
        outcomes: how each example came out (see `Task.outcomes`).
        only_class: the one class that every example was given; None where there are several.
    """

    loss: float
    penalty: float
    scores: Scores
    outcomes: list
    only_class: str | None


def evaluate_split(
    model: TaskModel,
    task: Task,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainerSettings,
    accelerator: Accelerator,
    penalty: Penalty | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate `model` on a split, in batches of examples of similar lengths, the longest first.

    Several processes share each batch; all of them get the same result. The random state stays as it is.
    """
    size = settings.per_device_eval_batch_size
    order = np.argsort(split.inputs["length"], kind="stable")[::-1].tolist()
    count = accelerator.num_processes
    own = shares(order, size * count, accelerator.process_index, count)
    parts: list[tuple[list[int], np.ndarray, np.ndarray]] = []
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for rows, batch in zip(own, loader(split.inputs, own, task.collator(tokenizer), settings), strict=True):
                if rows:
                    logits = _logits(model, batch, settings, accelerator.device)
                    parts.append((rows, logits, batch["labels"].numpy()))
                after_batch()
    finally:
        model.train(training)
    parts = gather_object(parts)
    logits = in_order([(rows, given) for rows, given, _ in parts], len(order))
    labels = in_order([(rows, gold) for rows, _, gold in parts], len(order), fill=IGNORED)
    predictions = task.predictions(logits, split)
    with torch.no_grad():
        added = 0.0 if penalty is None else float(penalty(model))
    return Evaluation(
        loss=_mean_loss(model, logits, labels, size) + added,
        penalty=added,
        scores=task.score(predictions, split.examples),
        outcomes=task.outcomes(predictions, split.examples),
        only_class=task.only_class(predictions),
    )


def _logits(model: TaskModel, batch: dict[str, Tensor], settings: TrainerSettings, device: torch.device) -> np.ndarray:
    inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
    with precision(settings, device):
        logits = model(**inputs).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu().numpy()


def _mean_loss(model: TaskModel, logits: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """The mean task loss over batches in the order of the split: the same however processes share the split."""
    batches: Any = zip(*(torch.as_tensor(rows).split(batch_size) for rows in (logits, labels)), strict=True)
    return sum(len(gold) * float(model.loss(given, gold)) for given, gold in batches) / len(labels)
