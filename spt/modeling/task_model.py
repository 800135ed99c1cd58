"""An encoder and a task head: what every method trains a part of."""

from inspect import signature
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from spt.errors import SptError, is_count, nearest
from spt.modeling import dropout as dropout

TaskType = Literal["sentence", "regression", "choice", "token"]

Pooling = Literal["pooler", "first", "mean", "last"]

IGNORED = -100

# What the families call the dropout before their classifier; the first that is set holds.
DROPOUT = (
    *("classifier_dropout", "classifier_dropout_prob", "cls_dropout", "seq_classif_dropout", "summary_first_dropout"),
    "hidden_dropout_prob",
)


def is_head(parameter_name: str) -> bool:
    """Whether a TaskModel's parameter is its head's."""
    return parameter_name.startswith("classifier.")


class TaskModel(nn.Module):
    """An encoder with the head of one task type: dropout, then one Linear, `classifier`, from N(0, 0.02).

    What trains is left as it is; `spt.attach` freezes the encoder. `unread` names the encoder's parameters that the
    head does not use (a pooler it passes by).

    Args:
        encoder: any transformers PreTrainedModel that returns last_hidden_state (AutoModel).
        task_type: "sentence" (pooled text → num_labels), "regression" (pooled text → 1 number), "choice" (pooled text
            of each choice → 1) or "token" (each token → num_labels).
        num_labels: classes; 1 for "regression"; for "choice" the number of choices, on which no parameter depends.
        pooling: how a text becomes a vector: "pooler" as the authors (the encoder's own, for RoBERTa too), "first" or
            "last" token, or the "mean" over tokens.
    """

    def __init__(
        self, encoder: PreTrainedModel, task_type: TaskType, num_labels: int, pooling: Pooling = "pooler"
    ) -> None:
        super().__init__()
        for name, value, known in (("task_type", task_type, TaskType), ("pooling", pooling, Pooling)):
            if value not in get_args(known):
                raise SptError(f"unknown {name} {value!r}: {nearest(value, get_args(known))}")
        if not is_count(num_labels):
            raise SptError(f"num_labels must be a whole number of at least 1, not {num_labels!r}")
        if task_type == "regression" and num_labels != 1:
            raise SptError(f"a regression has one number: num_labels must be 1, not {num_labels}")
        if encoder.base_model is not encoder:
            raise SptError(f"{type(encoder).__name__} has a head of its own: a TaskModel takes the encoder (AutoModel)")
        pooler = getattr(encoder, "pooler", None)
        reads_pooler = task_type != "token" and pooling == "pooler"
        if reads_pooler and pooler is None:
            raise SptError(f"{type(encoder).__name__} has no pooler: choose pooling first, mean or last")
        self.unread = {
            name for name, _ in encoder.named_parameters() if name.startswith("pooler.") and not reads_pooler
        }
        self.encoder = encoder
        self.task_type, self.num_labels, self.pooling = task_type, num_labels, pooling
        config = encoder.config
        rates = (getattr(config, name, None) for name in DROPOUT)
        dropout.use_in(encoder)
        self.dropout = dropout.Dropout(next((rate for rate in rates if rate is not None), 0.0))
        # A decoder would keep its keys and values for a text that does not go on.
        self.options = {"use_cache": False} if "use_cache" in signature(encoder.forward).parameters else {}
        self.classifier = nn.Linear(config.hidden_size, 1 if task_type == "choice" else num_labels)
        self.classifier.to(encoder.device, torch.promote_types(encoder.dtype, torch.float32))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        """Logits, and where `labels` are given the task's mean cross-entropy, or a regression's mean squared error.

        Args:
            input_ids, attention_mask, token_type_ids: [batch, length], for "choice" [batch, choices, length]. A None is
                left to the encoder. Padding may be on either side: the encoder gets it on the right.
            labels: class indices, [batch], for "token" [batch, length]; for "regression" numbers, [batch]. Padding and
                labels of -100 do not count among classes.
            inputs: anything else the encoder's forward takes (position_ids, inputs_embeds, output_attentions, ...).

        Returns:
            `loss` (the task's alone: `spt.selective_loss` is added by the caller), `logits` [batch, num_labels], for
            "choice" [batch, choices], for "token" [batch, length, num_labels], and what the encoder was asked for of
            `hidden_states` and `attentions`, of right-padded text.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs |= {name: tensor for name, tensor in named.items() if tensor is not None}
        if self.task_type == "choice":
            text = inputs["input_ids" if "input_ids" in inputs else "inputs_embeds"]
            if text.dim() < 3:
                raise SptError(f"a choice task takes input_ids [batch, choices, length], not {list(text.shape)}")
            choices = text.shape[1]
            inputs = {n: t.flatten(0, 1) if isinstance(t, Tensor) and t.dim() > 2 else t for n, t in inputs.items()}
        inputs, starts = _left_aligned(inputs)
        encoded = self.encoder(**self.options | inputs)
        vectors = encoded.last_hidden_state
        if self.task_type != "token":
            vectors = self._pool(encoded, inputs.get("attention_mask"))
        elif starts is not None:
            vectors = _rolled(vectors, -starts)
        logits = self.classifier(self.dropout(vectors).to(self.classifier.weight.dtype))
        if self.task_type == "choice":
            logits = logits.view(-1, choices)
        return SequenceClassifierOutput(
            loss=None if labels is None else self.loss(logits, labels, attention_mask),
            logits=logits,
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
        )

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute the encoder's layers in the backward pass.

        Raises:
            SptError: where transformers does not do it for the encoder.
        """
        if not self.encoder.supports_gradient_checkpointing:
            raise SptError(f"transformers recomputes no layers of {type(self.encoder).__name__}: train it without")
        self.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs)

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
        places = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        last = (attention_mask.long() * places).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]

    def loss(self, logits: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The task's mean loss: of the logits that `forward` returned for these labels."""
        if self.task_type == "regression":
            return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        if self.task_type == "token" and attention_mask is not None:
            labels = labels.masked_fill(attention_mask == 0, IGNORED)
        total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total / (labels != IGNORED).sum().clamp(min=1)


def _left_aligned(inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """Inputs with every text from place 0 on, as position tables and poolers have it, and where each began."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.dim() != 2:
        return inputs, None
    starts = mask.long().argmax(1)
    return {
        name: _rolled(tensor, starts) if isinstance(tensor, Tensor) and tensor.shape[:2] == mask.shape else tensor
        for name, tensor in inputs.items()
    }, starts


def _rolled(tensor: Tensor, starts: Tensor) -> Tensor:
    """Each row of [batch, length, ...] from its own start on, what stood before it put at the end."""
    length = tensor.shape[1]
    places = (torch.arange(length, device=tensor.device) + starts.unsqueeze(1)) % length
    return tensor[torch.arange(len(tensor), device=tensor.device).unsqueeze(1), places]
