"""What interventions compute: smaller adapters, other gates, and nothing where the gate is closed."""

import math

import pytest
import torch

from spt.insight.inspect_adapter import inspect
from spt.insight.interventions import changes, gates_fixed, kept_counts, scored_interventions, slot_order, without_slots
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import batch
from tests.insight.test_measures import P, batches_of, model_of

FAMILIES = ("BERT", "ALBERT", "Llama", "DeBERTa-v2/v3")


def logits_with(model, change):
    with torch.no_grad(), inspected_attention(model, change_log_gate=change):
        return model(**batch()).logits


def sliced(model, slots):
    """The model with only some slots in each layer, [layers, k]."""
    for prefix, kept in zip(prefixes(model), slots, strict=True):
        for name in ("key_prefix", "value_prefix"):
            setattr(prefix, name, torch.nn.Parameter(getattr(prefix, name).data[kept]))
    return model


def changes_of(model):
    return {(kind, which): change for kind, which, change in changes(inspect(model, batches_of("sentence")))}


@pytest.mark.parametrize("name", FAMILIES)
def test_masked_slots_are_slots_of_a_smaller_adapter(name):
    model = model_of(name)
    found = inspect(model, batches_of("sentence"))
    order, own = slot_order(found), changes_of(model)
    attention = found.slot_share.values * found.prefix_mass.values[..., None]
    for layer, slots in enumerate(order):
        got = attention[layer].sum(0)[slots]
        assert list(got) == sorted(got, reverse=True)
    for count in (1, 2):
        expected = sliced(model_of(name), order[:, :count])(**batch()).logits
        torch.testing.assert_close(logits_with(model, own["keep", count]), expected)
    for slot in range(P):
        kept = torch.tensor([[other for other in range(P) if other != slot]] * found.layers)
        expected = sliced(model_of(name), kept)(**batch()).logits
        torch.testing.assert_close(logits_with(model, own["without_slot", slot]), expected)
    assert torch.equal(logits_with(model, own["keep", P]), logits_with(model, None))


def test_a_layer_without_its_prefix():
    own = changes_of(model_of())
    for layer in range(2):
        other = model_of()
        expected_kept = torch.arange(P)[None].expand(2, -1)
        sliced(other, [expected_kept[0][:0] if index == layer else expected_kept[0] for index in range(2)])
        torch.testing.assert_close(logits_with(model_of(), own["without_layer", layer]), other(**batch()).logits)


def test_gates_off_and_fixed():
    model, plain = model_of(), model_of(alpha=None)
    own = changes_of(model)
    torch.testing.assert_close(logits_with(model, own["gate_off", None]), plain(**batch()).logits)
    ones = torch.ones(2, 4, P, dtype=torch.float64)
    torch.testing.assert_close(logits_with(model, gates_fixed(ones)), plain(**batch()).logits)
    found, seen = inspect(model, batches_of("sentence")), []
    with torch.no_grad(), inspected_attention(model, seen.append, own["gate_fixed", None]):
        model(**batch())
    for layer in seen:
        means = torch.tensor(found.gate_mean.values[layer.layer])
        torch.testing.assert_close(layer.log_gate.exp(), means[None, :, None].expand_as(layer.log_gate))
    assert {kind for kind, _ in changes_of(plain)} == {"without_slot", "without_layer", "keep"}


def test_of_slots_that_are_alike_one_weighs_a_part_of_all():
    """P equal slots add P · exp(s + log g) to the softmax: one of them is the full adapter only with ln P added."""
    model = model_of()
    for prefix in prefixes(model):
        for parameter in (prefix.key_prefix, prefix.value_prefix):
            parameter.data[:] = parameter.data[:1]
    full, hidden = logits_with(model, None), (torch.arange(P) > 0).expand(2, -1)
    assert not torch.allclose(logits_with(model, without_slots(hidden)), full, rtol=1e-3)
    weighted = without_slots(hidden)
    torch.testing.assert_close(logits_with(model, lambda layer, gate: weighted(layer, gate) + math.log(P)), full)


def test_where_the_gate_is_closed_nothing_changes():
    model = model_of()
    for name, parameter in model.encoder.named_parameters():
        if ".query." in name:  # every query is (1, ..., 1)
            parameter.data.fill_(float(name.endswith("bias")))
    for prefix in prefixes(model):
        prefix.key_prefix.data.fill_(-1e4)
    found = inspect(model, batches_of("sentence"))
    assert found.prefix_mass.values.max() == 0 and found.gate_closed.values.min() == 1
    full = logits_with(model, None)
    for kind, which, change in changes(found):
        assert torch.equal(logits_with(model, change), full), (kind, which)


def test_kept_counts():
    assert kept_counts(1) == [0, 1] and kept_counts(3) == [0, 1, 2, 3] and kept_counts(20) == [0, 1, 2, 5, 10, 20]
    assert kept_counts(128) == [0, 1, 2, 5, 10, 20, 50, 100, 128]


def test_scores_are_compared_over_the_same_examples():
    model, calls = model_of(), []
    outcomes = iter([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]])

    def scored():
        own = next(outcomes)
        return sum(own) / 4, own

    chosen = [("keep", 0, None), ("gate_off", None, None)]
    found = scored_interventions(model, "accuracy", chosen, scored, lambda: calls.append(1))
    assert (found.score, found.compared, len(calls)) == (0.5, "accuracy", 3)
    first, second = found.changes
    assert (first.kind, first.which, first.score, first.difference) == ("keep", 0, 0.25, -0.25)
    assert first.low < first.difference <= first.high == 0 and (second.low, second.difference, second.high) == (0, 0, 0)
