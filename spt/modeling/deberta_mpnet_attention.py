"""Self-attentions that transformers does not dispatch, made to: they compute what they did, through its interface.

Each bridge is a subclass that takes the place of a module's class while prefixes are on. DeBERTa's disentangled
attention adds content-to-position and position-to-content terms to its scores, MPNet a bias of relative positions: both
go to the text as an additive mask. A prefix slot stands at no position and has no such term: its score is the
content-to-content one alone, scaled as the model scales it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.deberta import modeling_deberta
from transformers.models.deberta_v2 import modeling_deberta_v2
from transformers.models.mpnet import modeling_mpnet

from spt.errors import SptError

Attended = tuple[Tensor, Tensor | None]


def _dispatch(module: Any, *states: Tensor, mask: Tensor | None, scaling: float, output_attentions: bool) -> Attended:
    attention: Callable[..., Attended] = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    dropout = module.dropout.p if module.training else 0.0
    output, weights = attention(
        module, *states, mask, scaling=scaling, dropout=dropout, output_attentions=output_attentions
    )
    return output.flatten(2), weights


def _biased(mask: Tensor, bias: Tensor | None, like: Tensor) -> Tensor:
    """`mask` (true attends), as an additive one that holds `bias` where text attends to text."""
    bias = like.new_zeros(1) if bias is None else bias
    return torch.where(mask.bool(), bias, torch.finfo(like.dtype).min)


class DebertaV2Bridge(modeling_deberta_v2.DisentangledSelfAttention):
    """DeBERTa-v2's and v3's."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> Attended:
        heads = self.num_attention_heads
        query, key, value = (
            self.transpose_for_scores(project(states), heads)
            for project, states in (
                (self.query_proj, hidden_states if query_states is None else query_states),
                (self.key_proj, hidden_states),
                (self.value_proj, hidden_states),
            )
        )
        terms = 1 + sum(term in self.pos_att_type for term in ("c2p", "p2c"))
        bias = None
        if self.relative_attention:
            embeddings = self.pos_dropout(rel_embeddings)
            bias = self.disentangled_attention_bias(query, key, relative_pos, embeddings, terms)
            bias = bias.unflatten(0, (-1, heads)) if isinstance(bias, Tensor) else None
        query, key, value = (states.unflatten(0, (-1, heads)) for states in (query, key, value))
        return _dispatch(
            *(self, query, key, value),
            mask=_biased(attention_mask, bias, query),
            scaling=(query.shape[-1] * terms) ** -0.5,
            output_attentions=output_attentions,
        )


class DebertaBridge(modeling_deberta.DisentangledSelfAttention):
    """DeBERTa's, the first: its queries are scaled before anything else."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> Attended:
        if query_states is not None:
            raise SptError("prefixes do not go with DeBERTa's enhanced mask decoder (query_states)")
        query, key, value = self.transpose_for_scores(self.in_proj(hidden_states)).chunk(3, dim=-1)
        query, value = (
            states + self.transpose_for_scores(bias[None, None, :])
            for states, bias in ((query, self.q_bias), (value, self.v_bias))
        )
        terms = 1 + len(self.pos_att_type)
        query = query * (query.shape[-1] * terms) ** -0.5
        bias = None
        if self.relative_attention:
            embeddings = self.pos_dropout(rel_embeddings)
            bias = self.disentangled_att_bias(query, key, relative_pos, embeddings, terms)  # type: ignore[arg-type]
            bias = bias if isinstance(bias, Tensor) else None
        mask = _biased(attention_mask, bias, query)
        return _dispatch(self, query, key, value, mask=mask, scaling=1.0, output_attentions=output_attentions)


class MPNetBridge(modeling_mpnet.MPNetSelfAttention):
    """MPNet's."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple:
        query, key, value = (
            project(hidden_states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        mask = attention_mask
        if position_bias is not None:
            if mask is None:
                mask = position_bias
            else:
                mask = _biased(mask, position_bias, query) if mask.dtype == torch.bool else mask + position_bias
        scaling = query.shape[-1] ** -0.5
        context, weights = _dispatch(
            *(self, query, key, value), mask=mask, scaling=scaling, output_attentions=output_attentions
        )
        return (self.o(context), weights) if output_attentions else (self.o(context),)


BRIDGES: dict[type[nn.Module], type[nn.Module]] = {
    bridge.__mro__[1]: bridge for bridge in (DebertaV2Bridge, DebertaBridge, MPNetBridge)
}


def bridge(encoder: PreTrainedModel) -> bool:
    """Have all of the encoder's attentions dispatched. Whether there was one that was not.

    Raises:
        SptError: where an attention is of a kind that the interface cannot express.
    """
    found = [module for module in encoder.modules() if type(module) in BRIDGES]
    if any(getattr(module, "talking_head", False) for module in found):
        raise SptError(f"{type(encoder).__name__} mixes its heads (talking_head), which prefixes do not support")
    for module in found:
        module.__class__ = BRIDGES[type(module)]
        module.config = encoder.config  # type: ignore[assignment]
    return bool(found)


def bridged(encoder: PreTrainedModel) -> Iterator[nn.Module]:
    """The attentions that a bridge stands in for."""
    return (module for module in encoder.modules() if type(module) in BRIDGES.values())


def unbridge(encoder: PreTrainedModel) -> None:
    """Give all attentions their own class back."""
    for module in bridged(encoder):
        module.__class__ = type(module).__mro__[1]
        del module.config
