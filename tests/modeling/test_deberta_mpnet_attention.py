"""Prefixes on the attentions that transformers does not dispatch, and which are replaced."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import Gemma2Config, Gemma2Model

import spt
from spt.modeling import gated_attention
from spt.modeling.deberta_mpnet_attention import REPLACEMENTS
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import batch
from tests.families import family

NAMES = ["DeBERTa", "DeBERTa-v2/v3", "MPNet"]
QUIET = {"key_dropout": 0.0, "score_dropout": 0.0}


def first_query(encoder, name):
    """The first layer's queries [batch, heads, length, d], by the model's own projection, and its number of terms."""
    module = next(module for module in encoder.modules() if type(module) in REPLACEMENTS.values())
    caught = []
    projection = {"DeBERTa": "in_proj", "DeBERTa-v2/v3": "query_proj", "MPNet": "q"}[name]
    hook = module.get_submodule(projection).register_forward_hook(lambda *call: caught.append(call[2]))
    encoder(**batch())
    hook.remove()
    heads = caught[0].unflatten(-1, (4, -1)).transpose(1, 2)
    query = heads.chunk(3, dim=-1)[0] + module.q_bias.view(1, 4, 1, 8) if name == "DeBERTa" else heads
    return query, 1 if name == "MPNet" else 3  # content, content to position, position to content


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [None, 8.0])
def test_a_prefix_slot_has_the_content_to_content_score_alone(name, alpha):
    encoder = spt.attach(family(name), spt.PrefixConfig(prefix_length=5, alpha=alpha, **QUIET)).eval()
    for prefix in prefixes(encoder):
        prefix.key_prefix.data.normal_()
    weights = encoder(**batch(), output_attentions=True).attentions[0]
    assert weights.shape == (3, 4, 10, 15)
    query, terms = first_query(encoder, name)
    key = prefixes(encoder)[0].key_prefix.view(5, 4, 8).transpose(0, 1)
    scores = torch.einsum("bhld,hpd->bhlp", query, key) / (8 * terms) ** 0.5
    if alpha is not None:
        scores = scores + F.logsigmoid(alpha * scores)
    among_slots = weights[..., :5] / weights[..., :5].sum(-1, keepdim=True)
    torch.testing.assert_close(among_slots, scores.softmax(-1), rtol=1e-4, atol=1e-6)
    text = batch()["attention_mask"].bool()
    assert (weights[..., 5:].masked_select(~text[:, None, None, :]) < 1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_attentions_are_replaced_only_while_prefixes_are_on(name):
    encoder = family(name).eval()
    classes = [type(module) for module in encoder.modules()]
    own = encoder(**batch()).last_hidden_state
    spt.attach(encoder, spt.PrefixConfig(prefix_length=5))
    other = copy.deepcopy(encoder)
    with_prefixes = encoder(**batch()).last_hidden_state
    assert set(map(type, encoder.modules())) & set(REPLACEMENTS.values())
    spt.detach(encoder)
    assert [type(module) for module in encoder.modules()] == classes
    assert torch.equal(encoder(**batch()).last_hidden_state, own)
    assert torch.equal(other(**batch()).last_hidden_state, with_prefixes)


def test_heads_that_are_mixed_are_refused():
    encoder = family("DeBERTa", talking_head=True)
    with pytest.raises(spt.SptError, match="talking_head"):
        spt.attach(encoder, spt.PrefixConfig())
    assert not set(map(type, encoder.modules())) & set(REPLACEMENTS.values())


@pytest.mark.parametrize("terms", [[], ["c2p"], ["p2c"], ["c2p", "p2c"]])
@pytest.mark.parametrize("name", NAMES[:2])
def test_every_kind_of_disentangled_attention_is_reproduced(name, terms, monkeypatch):
    encoder = family(name, pos_att_type=terms, relative_attention=bool(terms)).eval()
    own = encoder(**batch()).last_hidden_state
    spt.attach(encoder, spt.PrefixConfig(prefix_length=5))
    monkeypatch.setattr(gated_attention, "log_gate", lambda scores, *_: torch.full_like(scores, -torch.inf))
    text = batch()["attention_mask"].bool()
    torch.testing.assert_close(encoder(**batch()).last_hidden_state[text], own[text], rtol=1e-5, atol=1e-5)


def test_an_attention_with_soft_capping_is_refused():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = Gemma2Config(**sizes, num_key_value_heads=2, head_dim=8, vocab_size=100, attn_logit_softcapping=0.5)
    with pytest.raises(spt.SptError, match="Gemma2Model adds softcap"):
        spt.attach(Gemma2Model._from_config(config, attn_implementation="eager"), spt.PrefixConfig())
