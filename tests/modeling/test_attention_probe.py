"""Attention that is looked at computes what the model computes, in every family, and what is changed is changed."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import spt
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import prefixes
from spt.modeling.transformers_interface import observed
from tests.conftest import batch
from tests.families import EAGER_ONLY, FAMILIES, family

every_family = pytest.mark.parametrize("name", FAMILIES)


def model_of(name, alpha=8.0, attention="eager"):
    encoder = family(name, "eager" if name in EAGER_ONLY else attention)
    model = spt.TaskModel(encoder, "sentence", num_labels=3, pooling=FAMILIES[name][1])
    return spt.attach(model, spt.PrefixConfig(prefix_length=5, alpha=alpha)).double().eval()


@every_family
@pytest.mark.parametrize("alpha", [None, 8.0])
def test_what_is_seen_is_what_the_model_computes(name, alpha):
    model, seen = model_of(name, alpha), []
    own = model(**batch(), output_attentions=True)
    with inspected_attention(model, seen.append):
        logits = model(**batch()).logits
    torch.testing.assert_close(logits, own.logits)
    assert [layer.layer for layer in seen] == list(range(len(prefixes(model)))) == list(range(len(own.attentions)))
    for layer, weights in zip(seen, own.attentions, strict=True):
        torch.testing.assert_close(layer.weights, weights)
        gate = torch.ones_like(layer.scores) if alpha is None else torch.sigmoid(alpha * layer.scores)
        torch.testing.assert_close(layer.log_gate.exp(), gate)
        share = torch.softmax(layer.scores + layer.log_gate, dim=-1)
        torch.testing.assert_close(share * weights[..., :5].sum(-1, keepdim=True), weights[..., :5])


@every_family
def test_gates_at_minus_infinity_take_the_prefix_off(name):
    model = model_of(name, attention="sdpa")
    own = spt.detach(model_of(name, attention="sdpa")).encoder(**batch()).last_hidden_state
    whole, before = batch()["attention_mask"].bool(), model(**batch()).logits
    with inspected_attention(model, change_log_gate=lambda layer, gate: torch.full_like(gate, -math.inf)):
        found = model.encoder(**batch()).last_hidden_state[whole]
    torch.testing.assert_close(found, own[whole], rtol=1e-5, atol=1e-5)  # some families' own softmax is in float32
    assert torch.equal(model(**batch()).logits, before)


def test_the_attention_is_the_models_own_again_after_an_error():
    model = model_of("BERT", attention="sdpa")
    with pytest.raises(ZeroDivisionError), inspected_attention(model, lambda seen: 1 / 0):
        model(**batch())
    assert model.encoder.config._attn_implementation == "spt_fused" and model(**batch()).logits.isfinite().all()


def test_scores_are_not_rounded_to_half_precision():
    model, seen = model_of("BERT").float(), []
    with torch.autocast("cpu", torch.bfloat16), inspected_attention(model, seen.append):
        assert model(**batch()).logits.isfinite().all()
    assert {tensor.dtype for layer in seen for tensor in layer[1:]} == {torch.float32}
    weights = seen[0].weights
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=1e-6, atol=1e-6)


def test_models_run_compiled_again_once_all_threads_have_looked():
    """Two threads whose looks overlap: the one that began first ends first."""
    inside, ended = threading.Barrier(2), threading.Event()

    def look(is_first: bool) -> None:
        with observed(lambda *arguments, **options: None):
            inside.wait()
            if not is_first:
                ended.wait()
        ended.set()

    with ThreadPoolExecutor(2) as pool:
        for look_of in [pool.submit(look, is_first) for is_first in (True, False)]:
            look_of.result()
    calls = []
    torch.compile(lambda x: x + 1, backend=lambda graph, _: calls.append(graph) or graph)(torch.ones(2))
    assert calls
