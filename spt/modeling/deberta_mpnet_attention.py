"""DeBERTa's and MPNet's self-attention with the attention function left to transformers' attention interface.

transformers computes these attentions inside the module, where prefixes cannot act. While prefixes are on, the class of
each module is replaced by a subclass that passes the same queries, keys and values to the interface. DeBERTa's
content-to-position and position-to-content terms and MPNet's relative position bias become an additive mask over the
text. A prefix slot has no position and none of these terms: its score is content-to-content alone, with the model's own
scaling.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.deberta import modeling_deberta
from transformers.models.deberta_v2 import modeling_deberta_v2
from transformers.models.mpnet import modeling_mpnet

from spt.errors import SptError
from spt.modeling.gated_attention import additive_mask

Output = tuple[Tensor, Tensor | None]


class DebertaV2Attention(modeling_deberta_v2.DisentangledSelfAttention):
    """DeBERTa-v2's and v3's attention."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> Output:
        heads = self.num_attention_heads
        query_states = hidden_states if query_states is None else query_states
        query = self.transpose_for_scores(self.query_proj(query_states), heads)
        key = self.transpose_for_scores(self.key_proj(hidden_states), heads)
        value = self.transpose_for_scores(self.value_proj(hidden_states), heads)
        terms = 1 + sum(term in self.pos_att_type for term in ("c2p", "p2c"))
        mask = additive_mask(attention_mask.bool(), query.dtype)
        if self.relative_attention and terms > 1:
            embeddings = self.pos_dropout(rel_embeddings)
            bias = self.disentangled_attention_bias(query, key, relative_pos, embeddings, terms)
            mask = mask + bias.unflatten(0, (-1, heads))
        query, key, value = (states.unflatten(0, (-1, heads)) for states in (query, key, value))
        scaling = (query.shape[-1] * terms) ** -0.5
        return _dispatch(self, query, key, value, mask, scaling=scaling, output_attentions=output_attentions)


class DebertaAttention(modeling_deberta.DisentangledSelfAttention):
    """The first DeBERTa's attention, which scales the queries before anything else."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> Output:
        if query_states is not None:
            raise SptError("prefixes do not support DeBERTa's enhanced mask decoder (query_states)")
        query, key, value = self.transpose_for_scores(self.in_proj(hidden_states)).chunk(3, dim=-1)
        terms = 1 + len(self.pos_att_type)
        query = (query + self.transpose_for_scores(self.q_bias[None, None, :])) * (query.shape[-1] * terms) ** -0.5
        value = value + self.transpose_for_scores(self.v_bias[None, None, :])
        mask = additive_mask(attention_mask.bool(), query.dtype)
        if self.relative_attention and terms > 1:
            embeddings = self.pos_dropout(rel_embeddings)
            bias = self.disentangled_att_bias(query, key, relative_pos, embeddings, terms)  # type: ignore[arg-type]
            mask = mask + bias
        return _dispatch(self, query, key, value, mask, scaling=1.0, output_attentions=output_attentions)


class MPNetAttention(modeling_mpnet.MPNetSelfAttention):
    """MPNet's attention."""

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
            mask = position_bias if mask is None else additive_mask(mask, query.dtype) + position_bias
        scaling = query.shape[-1] ** -0.5
        output, weights = _dispatch(self, query, key, value, mask, scaling=scaling, output_attentions=output_attentions)
        return (self.o(output), weights) if output_attentions else (self.o(output),)


def _dispatch(module: Any, *inputs: Tensor | None, scaling: float, output_attentions: bool) -> Output:
    attention: Callable[..., Output] = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    dropout = module.dropout.p if module.training else 0.0
    output, weights = attention(module, *inputs, scaling=scaling, dropout=dropout, output_attentions=output_attentions)
    return output.flatten(2), weights


REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    replacement.__mro__[1]: replacement for replacement in (DebertaV2Attention, DebertaAttention, MPNetAttention)
}


def replace_attentions(encoder: PreTrainedModel) -> None:
    """Replace the attention classes that transformers does not dispatch, where the encoder has any.

    Raises:
        SptError: if an attention does what the interface cannot express.
    """
    modules = [module for module in encoder.modules() if type(module) in REPLACEMENTS]
    if any(getattr(module, "talking_head", False) for module in modules):
        raise SptError(f"{type(encoder).__name__} mixes its heads (talking_head), which prefixes do not support")
    for module in modules:
        module.__class__ = REPLACEMENTS[type(module)]
        module.config = encoder.config  # type: ignore[assignment]


def restore_attentions(encoder: PreTrainedModel) -> None:
    """Undo `replace_attentions`."""
    for module in encoder.modules():
        if type(module) in REPLACEMENTS.values():
            module.__class__ = type(module).__mro__[1]
            del module.config
