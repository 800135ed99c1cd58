"""An encoder with a task head: the model that every method trains, in whole or in part."""

import copy
from inspect import signature
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import ModuleUtilsMixin

from spt.errors import SptError, check_count, nearest
from spt.modeling.prefix_parameters import encoder_of

TaskType = Literal["sentence", "regression", "choice", "token"]
Pooling = Literal["pooler", "first", "mean", "last"]
MissingPooler = Literal["trained", "frozen"]
IGNORED = -100  # the label of a token that does not count
# The families' names for the dropout before the classifier; the first one that is set is used.
DROPOUT = (
    *("classifier_dropout", "classifier_dropout_prob", "cls_dropout", "seq_classif_dropout", "summary_first_dropout"),
    "hidden_dropout_prob",
)


def is_head(parameter_name: str) -> bool:
    """Whether a parameter of a TaskModel belongs to its head."""
    return parameter_name.startswith("classifier.")


class TaskModel(ModuleUtilsMixin, nn.Module):
    """An encoder with the head of one task type: dropout, then one Linear, `classifier`, initialised from N(0, 0.02).

    The encoder's parameters stay trainable or frozen as they are; `spt.attach` freezes them. `unused_parameters` names
    those that the head does not use (a pooler that it does not read).

    For training loops of others, `config` is a copy of the encoder's with the head's number of labels, and `device`,
    `dtype` and `num_parameters` are those of transformers' models.

    Args:
        encoder: any transformers PreTrainedModel that returns last_hidden_state (AutoModel).
        task_type: "sentence" (pooled text → num_labels), "regression" (pooled text → 1 number), "choice" (pooled text
            of each choice → 1) or "token" (each token → num_labels).
        num_labels: number of classes; 1 for "regression"; for "choice" the number of choices, on which no parameter
            depends.
        pooling: how a text becomes a vector: the encoder's own "pooler", as in the authors' code (for RoBERTa too), the
            "first" or "last" token, or the "mean" over tokens.
        missing_pooler: what methods that freeze the encoder do with a pooler that its checkpoint lacks, which starts at
            random numbers (RoBERTa's): "trained", or "frozen" as in the published runs.

    Raises:
        SptError: if an argument is not one of these, or the encoder has no pooler and pooling is "pooler".
    """

    # transformers' Trainer reads this: its loss is a mean, which a loop divides by its number of accumulated batches.
    accepts_loss_kwargs = False

    def __init__(
        self,
        encoder: PreTrainedModel,
        task_type: TaskType,
        num_labels: int,
        pooling: Pooling = "pooler",
        missing_pooler: MissingPooler = "trained",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("task_type", task_type, TaskType),
            ("pooling", pooling, Pooling),
            ("missing_pooler", missing_pooler, MissingPooler),
        ):
            if value not in get_args(known):
                raise SptError(f"unknown {name} {value!r}: {nearest(value, get_args(known))}")
        check_count("num_labels", num_labels)
        if task_type == "regression" and num_labels != 1:
            raise SptError(f"a regression has one number: num_labels must be 1, not {num_labels}")
        if encoder_of(encoder) is not encoder:
            raise SptError(f"{type(encoder).__name__} has an encoder: a TaskModel takes that encoder, model.encoder")
        pooler = getattr(encoder, "pooler", None)
        reads_pooler = task_type != "token" and pooling == "pooler"
        if reads_pooler and pooler is None:
            raise SptError(f"{type(encoder).__name__} has no pooler: choose pooling first, mean or last")
        pooler_parameters = {name for name, _ in encoder.named_parameters() if name.startswith("pooler.")}
        self.unused_parameters = set() if reads_pooler else pooler_parameters
        hidden_size = getattr(encoder.config, "hidden_size", None)
        if hidden_size is None:
            raise SptError(f"{type(encoder).__name__} has several models in it: a TaskModel takes its text encoder")
        self.encoder = encoder
        self.missing_pooler = missing_pooler
        self.task_type, self.num_labels, self.pooling = task_type, num_labels, pooling
        # A decoder would cache keys and values for tokens that are never generated.
        self._encoder_options = {"use_cache": False} if "use_cache" in signature(encoder.forward).parameters else {}
        rates = (getattr(encoder.config, name, None) for name in DROPOUT)
        self.dropout = nn.Dropout(next((rate for rate in rates if rate is not None), 0.0))
        self.classifier = nn.Linear(hidden_size, 1 if task_type == "choice" else num_labels)
        self.classifier.to(encoder.device, torch.promote_types(encoder.dtype, torch.float32))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.config = copy.deepcopy(encoder.config)
        self.config.num_labels = self.classifier.out_features
        self.config.problem_type = "regression" if task_type == "regression" else None

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput | tuple:
        """Compute logits, and if `labels` are given the mean cross-entropy, or for "regression" the mean squared error.

        Args:
            input_ids, attention_mask, token_type_ids: [batch, length], for "choice" [batch, choices, length]. A None is
                left to the encoder. Padding may be on either side; the encoder gets it on the right.
            labels: class indices, [batch], for "token" [batch, length]; for "regression" numbers, [batch]. Padding and
                labels of -100 do not count.
            num_items_in_batch: the summed loss is divided by this instead of the number of labels of this batch: a loop
                that accumulates gradients gives the number of labels of all accumulated batches.
            return_dict: False: return a tuple of the values that are not None, the loss (if any) first.
            inputs: anything else the encoder's forward takes (position_ids, inputs_embeds, output_attentions, ...).

        Returns:
            An output with `loss` of the task alone (the caller adds `spt.selective_loss`), `logits` [batch, num_labels]
            (for "choice" [batch, choices], for "token" [batch, length, num_labels]), and the encoder's `hidden_states`
            and `attentions` if asked for, of the text padded on the right.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs |= {name: tensor for name, tensor in named.items() if tensor is not None}
        if self.task_type == "choice":
            text = inputs["input_ids" if "input_ids" in inputs else "inputs_embeds"]
            if text.dim() < 3:
                raise SptError(f"a choice task takes input_ids [batch, choices, length], not {list(text.shape)}")
            shape = text.shape[:2]
            inputs = {n: t.flatten(0, 1) if isinstance(t, Tensor) and t.dim() > 2 else t for n, t in inputs.items()}
        inputs, starts = padded_right(inputs)
        encoded = self.encoder(**self._encoder_options | inputs)
        vectors = encoded.last_hidden_state
        if self.task_type != "token":
            vectors = self._pool(encoded, inputs.get("attention_mask"))
        elif starts is not None:
            vectors = _rolled(vectors, -starts)
        weight = self.classifier.weight
        if isinstance(weight, Tensor):  # it is a method of a classifier with dynamic quantization, which takes float32
            vectors = vectors.to(weight.dtype)
        logits = self.classifier(self.dropout(vectors))
        if self.task_type == "choice":
            logits = logits.view(shape)
        output = SequenceClassifierOutput(
            loss=None if labels is None else self.loss(logits, labels, attention_mask, num_items_in_batch),
            logits=logits,
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
        )
        return output.to_tuple() if return_dict is False else output

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None, **options: Any) -> None:
        """Recompute the encoder's layers in the backward pass instead of keeping their activations.

        The arguments are those of transformers' method, whose name was `gradient_checkpointing_enable` until 5.22.

        Raises:
            SptError: if transformers does not support it for this encoder.
        """
        renamed = getattr(self.encoder, "activation_checkpointing_enable", None)
        enable = renamed or self.encoder.gradient_checkpointing_enable
        try:
            enable(gradient_checkpointing_kwargs, **options)
        except ValueError as error:
            name = type(self.encoder).__name__
            raise SptError(f"transformers has no gradient checkpointing for {name}: turn it off") from error

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: dict | None = None, **opts: Any) -> None:
        """`gradient_checkpointing_enable`, by the name that transformers' Trainer calls since 5.23."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **opts)

    def _pool(self, encoded: Any, attention_mask: Tensor | None) -> Tensor:
        hidden = encoded.last_hidden_state
        if self.pooling == "pooler":
            return encoded.pooler_output
        if attention_mask is None:
            attention_mask = hidden.new_ones(hidden.shape[:2])
        if self.pooling == "mean":
            weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
            return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        if self.pooling == "first":
            return hidden[:, 0]
        positions = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        last = (attention_mask.long() * positions).argmax(1)
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The task's mean loss of the logits that `forward` returned; `num_items_in_batch` is as there."""
        if self.task_type == "regression":
            predicted = logits.squeeze(-1).to(torch.promote_types(logits.dtype, torch.float32))
            labels = labels.to(predicted.dtype).view_as(predicted)  # in bfloat16 they would be rounded
            if num_items_in_batch is None:
                return F.mse_loss(predicted, labels)
            return F.mse_loss(predicted, labels, reduction="sum") / num_items_in_batch
        if self.task_type == "token" and attention_mask is not None:
            labels = labels.masked_fill(attention_mask == 0, IGNORED)
        total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total / ((labels != IGNORED).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)


def padded_right(inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """Inputs with each text moved to position 0, as position tables and poolers expect, and where each began."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.dim() != 2:
        return inputs, None
    starts = mask.long().argmax(1)
    return {
        name: _rolled(tensor, starts) if isinstance(tensor, Tensor) and tensor.shape[:2] == mask.shape else tensor
        for name, tensor in inputs.items()
    }, starts


def _rolled(tensor: Tensor, starts: Tensor) -> Tensor:
    """Each row of [batch, length, ...] rolled left by its own number of positions."""
    length = tensor.shape[1]
    positions = torch.arange(length, device=tensor.device) + starts.unsqueeze(1)
    positions = torch.where(positions < length, positions, positions - length)  # those below 0 count from the end
    return tensor[torch.arange(tensor.shape[0], device=tensor.device).unsqueeze(1), positions]
